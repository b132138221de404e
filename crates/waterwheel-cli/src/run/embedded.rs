//! `--brokers embedded`: workers against a cluster in this process.

use std::collections::{BTreeMap, BTreeSet};

use waterwheel::config::dead_letter_topic;
use waterwheel::embedded::Cluster;

use crate::exit::{Failure, say};
use crate::file::{HandlerSpec, WorkerSpec};

const PARTITIONS: usize = 4;
const SERVERS: &str = "bootstrap.servers";

/// The cluster, once it is asked for.
#[derive(Default)]
pub(super) struct Embedded(Option<Cluster>);

impl Embedded {
    /// Where the brokers are `embedded`, starts the cluster if it does not run yet, makes the workers' topics, and puts
    /// its address in.
    pub(super) fn fill_in(
        &mut self,
        properties: &mut BTreeMap<String, String>,
        workers: &[WorkerSpec],
    ) -> Result<(), Failure> {
        if properties.get(SERVERS).is_none_or(|servers| servers != "embedded") {
            return Ok(());
        }
        let is_new = self.0.is_none();
        let cluster = match self.0.take() {
            Some(cluster) => cluster,
            None => Cluster::start(1).map_err(waterwheel::Error::from)?,
        };
        let cluster = self.0.insert(cluster);
        let topics = topics(workers);
        for topic in &topics {
            cluster.create_topic(topic, PARTITIONS).map_err(waterwheel::Error::from)?;
        }
        let address = cluster.bootstrap_servers();
        if is_new {
            say(format_args!(
                "embedded cluster at {address}; it keeps at most 5 MiB a partition, and nothing at the end"
            ));
        }
        say(format_args!("topics of {PARTITIONS} partitions each: {}", Vec::from_iter(topics).join(", ")));
        properties.insert(SERVERS.to_owned(), address);
        Ok(())
    }
}

/// Every topic that the workers name, read or written.
fn topics(workers: &[WorkerSpec]) -> BTreeSet<String> {
    let mut topics = BTreeSet::new();
    for worker in workers {
        for topic in worker.topics.iter().filter(|topic| !topic.starts_with('^')) {
            topics.insert(topic.clone());
            topics.extend(worker.tiers_of(topic));
            if let Some(letters) = &worker.dead_letter {
                topics.extend(dead_letter_topic(&letters.topic, topic, &worker.group));
            }
        }
        if let HandlerSpec::Forward { topic } = &worker.handler {
            topics.insert(topic.clone());
        }
    }
    topics
}
