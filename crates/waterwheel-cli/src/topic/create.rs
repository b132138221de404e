//! `topic create`.

use std::io::Write;

use serde_json::{Value, json};
use waterwheel::KafkaError;
use waterwheel::admin::{Mode, NewTopic};

use super::{Pair, report};
use crate::asking::{Asking, or_dash, print_json, print_table, table};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};

/// Make topics
///
/// Has the brokers judge it, rights and limits included, prints that, and makes nothing without --execute. If one topic is
/// refused, none is made.
#[derive(clap::Args)]
pub(crate) struct Create {
    /// Topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Partitions of each [default: the brokers' num.partitions]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    partitions: Option<u32>,
    /// On how many brokers each partition is [default: the brokers' default.replication.factor]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    replication: Option<u32>,
    /// A configuration of each, as cleanup.policy=compact; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    config: Vec<Pair>,
    /// Leave out topics that are there
    #[arg(long)]
    if_missing: bool,
    /// Make the change
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    asking: Asking,
}

impl Create {
    pub(super) async fn run(mut self, global: &Global) -> Result<Exit, Failure> {
        self.topics.sort_unstable();
        self.topics.dedup();
        let admin = self.asking.admin(global)?;
        let mut judged = admin.create_topics(self.new_topics(), Mode::DryRun).await?;
        if self.if_missing {
            let is_there = |result: &Result<(), KafkaError>| result.as_ref().is_err_and(KafkaError::is_existing_topic);
            let there: Vec<bool> = judged.iter().map(is_there).collect();
            let mut keep = there.iter().map(|there| !there);
            self.topics.retain(|_| keep.next().unwrap_or(true));
            judged.retain(|result| !is_there(result));
            let left_out = there.iter().filter(|there| **there).count();
            if left_out > 0 && !global.is_quiet() {
                say(format_args!("left out, since they are there: {left_out}"));
            }
        }
        if !self.execute || judged.iter().any(Result::is_err) {
            self.print(global, &judged, false)?;
            let refused = report(self.topics.iter().zip(judged.iter()).filter_map(wrong));
            say(if refused == Exit::Done { "nothing was changed: --execute does it" } else { "nothing was changed" });
            return Ok(refused);
        }
        if self.topics.is_empty() {
            return Ok(Exit::Done);
        }
        let made = admin.create_topics(self.new_topics(), Mode::Execute).await?;
        self.print(global, &made, true)?;
        Ok(report(self.topics.iter().zip(made.iter()).filter_map(wrong)))
    }

    fn new_topics(&self) -> Vec<NewTopic> {
        let topic = |name: &String| {
            let mut topic = NewTopic::new(name);
            if let Some(partitions) = self.partitions {
                topic = topic.partitions(partitions as usize);
            }
            if let Some(replication) = self.replication {
                topic = topic.replication(replication as usize);
            }
            self.config.iter().fold(topic, |topic, pair| topic.config(&pair.name, &pair.value))
        };
        self.topics.iter().map(topic).collect()
    }

    fn print(&self, global: &Global, results: &[Result<(), KafkaError>], done: bool) -> Result<(), Failure> {
        let mut out = std::io::stdout().lock();
        if global.output() == Output::Table {
            let mut rows = table(&["TOPIC", ">PARTITIONS", ">REPLICAS", "SET", "NOTE"]);
            let set: Vec<String> = self.config.iter().map(|pair| format!("{}={}", pair.name, pair.value)).collect();
            for (name, result) in self.topics.iter().zip(results) {
                let note = match result {
                    Err(error) => error.name().to_owned(),
                    Ok(()) if done => "made".to_owned(),
                    Ok(()) => String::new(),
                };
                let numbers = [or_dash(self.partitions), or_dash(self.replication)];
                let [partitions, replication] = numbers;
                rows.add_row(vec![name.clone(), partitions, replication, set.join(" "), note]);
            }
            print_table(&mut out, &rows)?;
        } else {
            let set: serde_json::Map<_, _> =
                self.config.iter().map(|pair| (pair.name.clone(), Value::from(pair.value.as_str()))).collect();
            let item = |(name, result): (&String, &Result<(), KafkaError>)| {
                json!({
                    "topic": name,
                    "partitions": self.partitions,
                    "replicas": self.replication,
                    "set": set,
                    "done": done && result.is_ok(),
                    "error": result.as_ref().err().map(ToString::to_string),
                })
            };
            print_json(&mut out, global.output(), self.topics.iter().zip(results).map(item).collect())?;
        }
        Ok(out.flush()?)
    }
}

/// What is wrong with a topic, if something is.
pub(super) fn wrong<'a, T>(
    (name, result): (&'a String, &'a Result<T, KafkaError>),
) -> Option<(&'a String, &'a KafkaError)> {
    Some((name, result.as_ref().err()?))
}
