//! `topic describe`.

use std::io::Write;

use serde_json::{Value, json};
use waterwheel::TopicPartition;
use waterwheel::admin::{Admin, ConfigEntry, ConfigResource, ConfigSource, Isolation, OffsetSpec, TopicDescription};

use super::{found, replication, report, trouble};
use crate::asking::{Asking, or_dash, print_json, print_table, table};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};
use crate::words::grouped;

/// Show topics: partitions, where they are, how much is in them, and what is configured for them
#[derive(clap::Args)]
pub(crate) struct Describe {
    /// Topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    #[command(flatten)]
    asking: Asking,
}

/// A topic, and what was asked besides.
struct Described {
    topic: TopicDescription,
    /// First offset and the one behind the last record of each partition, as far as they are known.
    ends: Vec<(Option<i64>, Option<i64>)>,
    /// What is set for the topic; `None` where the cluster does not tell this client.
    set: Option<Vec<ConfigEntry>>,
}

impl Describe {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let admin = self.asking.admin(global)?;
        let found = found(&admin, self.topics).await?;
        let topics = found.iter().filter_map(|(_, found)| found.as_ref().ok().cloned()).collect();
        let described = look(&admin, topics).await?;
        let mut out = std::io::stdout().lock();
        if global.output() == Output::Table {
            for (n, one) in described.iter().enumerate() {
                if n > 0 {
                    writeln!(out)?;
                }
                print(&mut out, one)?;
            }
        } else {
            print_json(&mut out, global.output(), described.iter().map(as_json).collect())?;
        }
        out.flush()?;
        Ok(report(found.iter().filter_map(|(name, found)| Some((name, found.as_ref().err()?)))))
    }
}

async fn look(admin: &Admin, topics: Vec<TopicDescription>) -> Result<Vec<Described>, Failure> {
    let ends = ends(admin, &topics).await?;
    let resources = topics.iter().map(|topic| ConfigResource::Topic(topic.name.clone())).collect();
    let configs = admin.configs(resources).await?;
    let mut ends = ends.into_iter();
    let describe = |(topic, configs): (TopicDescription, Result<Vec<ConfigEntry>, _>)| {
        let set = configs.map(|all| all.into_iter().filter(|entry| entry.source == ConfigSource::Topic).collect());
        let set = set.inspect_err(|error| say(format_args!("warning: configuration of {}: {error}", topic.name))).ok();
        let ends = ends.by_ref().take(topic.partitions.len()).collect();
        Described { topic, ends, set }
    };
    Ok(topics.into_iter().zip(configs).map(describe).collect())
}

/// First offset and end of each partition of each topic.
pub(super) async fn ends(
    admin: &Admin,
    topics: &[TopicDescription],
) -> Result<Vec<(Option<i64>, Option<i64>)>, Failure> {
    let partitions = || {
        topics.iter().flat_map(|topic| {
            (0..topic.partitions.len()).map(|number| TopicPartition::new(topic.name.as_str(), number as i32))
        })
    };
    let of = |spec: OffsetSpec| partitions().map(move |partition| (partition, spec)).collect();
    let begins = admin.find_offsets(of(OffsetSpec::Earliest), Isolation::ReadUncommitted).await?;
    let ends = admin.find_offsets(of(OffsetSpec::Latest), Isolation::ReadUncommitted).await?;
    let offset = |answer: Result<waterwheel::admin::ListedOffset, _>| answer.ok().and_then(|listed| listed.offset);
    Ok(begins.into_iter().zip(ends).map(|(begin, end)| (offset(begin), offset(end))).collect())
}

/// Offsets between the ends; those of compaction and transaction markers count.
pub(super) fn offsets(ends: (Option<i64>, Option<i64>)) -> Option<u64> {
    Some(ends.1?.saturating_sub(ends.0?).max(0).unsigned_abs())
}

fn print(out: &mut impl Write, one: &Described) -> std::io::Result<()> {
    let Described { topic, ends, set } = one;
    let details = [
        Some(counted(topic.partitions.len(), "partition")),
        replication(topic).map(|count| counted(count, "replica")),
        topic.id.map(|id| format!("id {id:032x}")),
        trouble(topic),
    ];
    let details: Vec<String> = details.into_iter().flatten().collect();
    writeln!(out, "{}  ({})\n", topic.name, details.join(", "))?;
    let mut rows = table(&[">PARTITION", ">LEADER", "REPLICAS", "IN SYNC", ">BEGIN", ">END", ">OFFSETS"]);
    for (number, (partition, ends)) in topic.partitions.iter().zip(ends).enumerate() {
        rows.add_row(vec![
            number.to_string(),
            or_dash(partition.leader),
            list(&partition.replicas),
            list(&partition.in_sync),
            or_dash(ends.0),
            or_dash(ends.1),
            or_dash(offsets(*ends).map(grouped)),
        ]);
    }
    print_table(out, &rows)?;
    if let Some(set) = set.as_ref().filter(|set| !set.is_empty()) {
        let mut rows = table(&["SET", "VALUE"]);
        for entry in set {
            rows.add_row(vec![entry.name.clone(), or_dash(entry.value.as_deref())]);
        }
        writeln!(out)?;
        print_table(out, &rows)?;
    }
    Ok(())
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

fn list(brokers: &[i32]) -> String {
    brokers.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

fn as_json(one: &Described) -> Value {
    let Described { topic, ends, set } = one;
    let numbered = topic.partitions.iter().zip(ends).enumerate();
    let partitions: Vec<Value> = numbered
        .map(|(number, (partition, ends))| {
            json!({
                "partition": number,
                "leader": partition.leader,
                "replicas": partition.replicas,
                "in_sync": partition.in_sync,
                "begin": ends.0,
                "end": ends.1,
            })
        })
        .collect();
    let set = set.as_ref().map(|set| {
        set.iter().map(|entry| (entry.name.clone(), entry.value.clone().into())).collect::<serde_json::Map<_, _>>()
    });
    json!({
        "topic": topic.name,
        "id": topic.id.map(|id| format!("{id:032x}")),
        "note": trouble(topic),
        "partitions": partitions,
        "set": set,
    })
}
