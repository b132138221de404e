//! `topic delete`: deletes topics with all their records. There is no way back.

use std::io::Write;

use serde_json::json;
use waterwheel::KafkaError;
use waterwheel::admin::TopicDescription;
use waterwheel::config::check_topic;

use super::create::wrong;
use super::describe::{ends, offsets};
use super::{found, is_internal, report};
use crate::asking::{Asking, or_dash, print_json, print_table, table};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};
use crate::words::grouped;

/// Delete topics with all their records
///
/// Takes exact names. Prints a plan and changes nothing without --execute. If one topic is not there, none is deleted. There
/// is no way back.
#[derive(clap::Args)]
pub(crate) struct Delete {
    /// Topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Also those of Kafka's own, whose names begin with __
    #[arg(long)]
    internal: bool,
    /// Make the change
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    asking: Asking,
}

/// A topic that is to go.
struct Goner {
    topic: TopicDescription,
    /// Offsets in it, where they are known of every partition.
    offsets: Option<u64>,
}

impl Delete {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        for topic in &self.topics {
            check_topic(topic)
                .map_err(|error| Failure::from(error).hint("it takes exact names; waterwheel topic ls tells them"))?;
            if is_internal(topic) && !self.internal {
                return Err(Failure::new(Exit::Refused, format!("topic {topic} is Kafka's own"))
                    .hint("--internal deletes it all the same"));
            }
        }
        let admin = self.asking.admin(global)?;
        let found = found(&admin, self.topics).await?;
        let missing = report(found.iter().filter_map(|(name, found)| wrong((name, found))));
        if missing != Exit::Done {
            say("nothing was changed");
            return Ok(missing);
        }
        let topics: Vec<TopicDescription> = found.into_iter().filter_map(|(_, found)| found.ok()).collect();
        let mut known = ends(&admin, &topics).await?.into_iter().map(offsets);
        let goners: Vec<Goner> = topics
            .into_iter()
            .map(|topic| {
                let offsets: Vec<Option<u64>> = known.by_ref().take(topic.partitions.len()).collect();
                Goner { topic, offsets: offsets.into_iter().sum() }
            })
            .collect();
        if !self.execute {
            print(global, &goners, None)?;
            say("nothing was changed: --execute does it, and there is no way back");
            return Ok(Exit::Done);
        }
        let names: Vec<String> = goners.iter().map(|goner| goner.topic.name.clone()).collect();
        let results = admin.delete_topics(names.clone()).await?;
        print(global, &goners, Some(&results))?;
        Ok(report(names.iter().zip(&results).filter_map(wrong)))
    }
}

fn print(global: &Global, goners: &[Goner], results: Option<&[Result<(), KafkaError>]>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if global.output() == Output::Table {
        let mut rows = table(&["TOPIC", ">PARTITIONS", ">OFFSETS", "NOTE"]);
        for (at, Goner { topic, offsets }) in goners.iter().enumerate() {
            let note = match results.map(|results| &results[at]) {
                None => String::new(),
                Some(Ok(())) => "deleted".to_owned(),
                Some(Err(error)) => error.name().to_owned(),
            };
            let partitions = topic.partitions.len().to_string();
            rows.add_row(vec![topic.name.clone(), partitions, or_dash(offsets.map(grouped)), note]);
        }
        print_table(&mut out, &rows)?;
    } else {
        let item = |(at, Goner { topic, offsets }): (usize, &Goner)| {
            let result = results.map(|results| &results[at]);
            json!({
                "topic": topic.name,
                "partitions": topic.partitions.len(),
                "offsets": offsets,
                "done": result.is_some_and(Result::is_ok),
                "error": result.and_then(|result| result.as_ref().err()).map(ToString::to_string),
            })
        };
        print_json(&mut out, global.output(), goners.iter().enumerate().map(item).collect())?;
    }
    Ok(out.flush()?)
}
