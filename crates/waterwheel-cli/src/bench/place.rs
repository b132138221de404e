//! Where a bench works: on the brokers that were named, or on a cluster in this process where none were.

use std::collections::BTreeMap;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use waterwheel::config::check_topic;
use waterwheel::embedded::Cluster;
use waterwheel::{Client, Error};

use super::data::Data;
use super::produce::send;
use crate::exit::{Exit, Failure, say};
use crate::global::Global;

const SERVERS: &str = "bootstrap.servers";
/// What brokers may take to make a topic.
const MAKING: Duration = Duration::from_secs(30);
/// How long a topic may be unknown that has just been made: not all brokers hear of it at once.
const NEWS: Duration = Duration::from_secs(2);

/// Brokers, and how to reach them.
pub(super) struct Brokers {
    properties: BTreeMap<String, String>,
    client: Client,
    cluster: Option<Cluster>,
}

impl Brokers {
    /// Those that the options, the environment or a file name; else a cluster in this process, which is said.
    pub(super) fn find(global: &Global, bootstrap: Option<&str>) -> Result<Self, Failure> {
        let mut properties = global.properties()?;
        if let Some(brokers) = bootstrap {
            properties.insert(SERVERS.to_owned(), brokers.to_owned());
        }
        let mut cluster = None;
        if properties.get(SERVERS).is_none_or(|servers| servers == "embedded") {
            let started = Cluster::start(1)?;
            properties.insert(SERVERS.to_owned(), started.bootstrap_servers());
            if !global.is_quiet() {
                say(
                    "mock cluster in this process, without disk and replication: figures of it mean little; --brokers names a Kafka",
                );
            }
            cluster = Some(started);
        }
        let client = Client::builder().properties(properties.clone()).build()?;
        Ok(Self { properties, client, cluster })
    }

    pub(super) fn are_embedded(&self) -> bool {
        self.cluster.is_some()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// A client that sends every record at once, unless the properties say how long it is to linger.
    pub(super) fn client_without_linger(&self) -> Result<Client, Failure> {
        let mut properties = self.properties.clone();
        properties.entry("linger.ms".to_owned()).or_insert_with(|| "0".to_owned());
        Ok(Client::builder().properties(properties).build()?)
    }

    /// The list of brokers to begin with.
    pub(super) fn servers(&self) -> &str {
        self.properties.get(SERVERS).map_or("", String::as_str)
    }

    /// How many partitions a topic has; an error where there is no such topic.
    pub(super) async fn partitions_of(&self, topic: &str) -> Result<usize, Failure> {
        let end = tokio::time::Instant::now() + NEWS;
        loop {
            match self.client.partitions_of(topic).await {
                Ok(partitions) => return Ok(partitions),
                Err(Error::Kafka(e)) if e.is_unknown_topic() && tokio::time::Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(Error::Kafka(e)) if e.is_unknown_topic() => {
                    return Err(Failure::new(Exit::NotFound, format!("the brokers have no topic {topic}"))
                        .hint("make it first; bench latency and bench worker make their own"));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes a topic.
    pub(super) async fn create_topic(&self, name: &str, partitions: usize) -> Result<(), Failure> {
        check_topic(name)?;
        match &self.cluster {
            Some(cluster) => Ok(cluster.create_topic(name, partitions)?),
            None => Ok(self.client.create_topic(name, partitions, MAKING).await?),
        }
    }

    /// Sends all records to their topic, which is new.
    pub(super) async fn fill(&self, topic: &str, data: &Data) -> Result<(), Failure> {
        let producer = self.client.producer()?;
        let sent = send(&producer, data.outgoing(topic), |_| {}).await;
        producer.close(Duration::from_secs(5)).await;
        sent
    }
}

/// The topics that one run makes, which all begin with its name.
pub(super) struct Topics<'a> {
    brokers: &'a Brokers,
    /// Also that of its groups.
    pub(super) name: String,
    made: Vec<String>,
}

impl<'a> Topics<'a> {
    pub(super) fn new(brokers: &'a Brokers) -> Self {
        let time = clock_gettime(ClockId::Realtime);
        let ms = i128::from(time.tv_sec) * 1000 + i128::from(time.tv_nsec) / 1_000_000;
        Self { brokers, name: format!("waterwheel-bench-{}-{ms}", std::process::id()), made: Vec::new() }
    }

    /// Makes a topic called after the run and that.
    pub(super) async fn make(&mut self, suffix: &str, partitions: usize) -> Result<String, Failure> {
        let topic = format!("{}{suffix}", self.name);
        // Before it is there: it may be made although this is given up.
        self.made.push(topic.clone());
        let made = self.brokers.create_topic(&topic, partitions).await;
        if made.is_err() {
            self.made.pop();
        }
        made.map(|()| topic)
    }

    /// Says which are left; those of a cluster in this process end with it.
    pub(super) fn leave(self) {
        if self.brokers.are_embedded() {
            return;
        }
        if !self.made.is_empty() {
            say(format_args!("topics stay on the brokers: waterwheel topic delete {} --execute", self.made.join(" ")));
        }
    }
}
