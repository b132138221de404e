//! `topic ls`.

use std::io::Write;

use serde_json::{Value, json};
use waterwheel::admin::TopicDescription;

use super::{found, is_internal, replication, report, trouble};
use crate::asking::{Asking, or_dash, print_json, print_table, table};
use crate::exit::{Exit, Failure};
use crate::global::{Global, Output};

/// List the topics
#[derive(clap::Args)]
pub(crate) struct Ls {
    /// Kafka's own too, whose names begin with __
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Ls {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let admin = self.asking.admin(global)?;
        let names = admin.topics().await?.into_iter().filter(|name| self.internal || !is_internal(name)).collect();
        // One that was deleted meanwhile is none.
        let found: Vec<_> = found(&admin, names).await?.into_iter().filter(|(_, found)| !is_gone(found)).collect();
        let topics = || found.iter().filter_map(|(_, found)| found.as_ref().ok());
        let mut out = std::io::stdout().lock();
        if global.output() == Output::Table {
            let mut rows = table(&["TOPIC", ">PARTITIONS", ">REPLICAS", "NOTE"]);
            for topic in topics() {
                let note = trouble(topic).unwrap_or_default();
                let partitions = topic.partitions.len().to_string();
                rows.add_row(vec![topic.name.clone(), partitions, or_dash(replication(topic)), note]);
            }
            print_table(&mut out, &rows)?;
        } else {
            print_json(&mut out, global.output(), topics().map(as_json).collect())?;
        }
        out.flush()?;
        Ok(report(found.iter().filter_map(|(name, found)| Some((name, found.as_ref().err()?)))))
    }
}

fn is_gone(found: &Result<TopicDescription, waterwheel::KafkaError>) -> bool {
    found.as_ref().is_err_and(waterwheel::KafkaError::is_unknown_topic)
}

fn as_json(topic: &TopicDescription) -> Value {
    json!({
        "topic": topic.name,
        "partitions": topic.partitions.len(),
        "replicas": replication(topic),
        "internal": is_internal(&topic.name),
        "note": trouble(topic),
    })
}
