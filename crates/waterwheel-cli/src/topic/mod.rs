//! `topic`: which topics there are and what they are; makes, deletes and configures them.
//!
//! Changes print a plan and are made only with `--execute`. Where Kafka can judge a change without making it, the plan is what
//! it judged.

mod config;
mod create;
mod delete;
mod describe;
mod ls;

use std::fmt::Display;
use std::str::FromStr;

use clap::Subcommand;
use waterwheel::KafkaError;
use waterwheel::admin::{Admin, TopicDescription};

use crate::exit::{Exit, Failure};
use crate::global::Global;
use crate::runtime;

/// Show topics, make, delete and configure them
#[derive(clap::Args)]
pub(crate) struct Topic {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Ls(ls::Ls),
    Describe(describe::Describe),
    Create(create::Create),
    Delete(delete::Delete),
    Config(config::Config),
}

impl Topic {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        runtime::block_on(async {
            match self.verb {
                Verb::Ls(ls) => ls.run(global).await,
                Verb::Describe(describe) => describe.run(global).await,
                Verb::Create(create) => create.run(global).await,
                Verb::Delete(delete) => delete.run(global).await,
                Verb::Config(config) => config.run(global).await,
            }
        })
    }
}

/// What was found of each, by the names in their order, each once.
async fn found(
    admin: &Admin,
    mut names: Vec<String>,
) -> Result<Vec<(String, Result<TopicDescription, KafkaError>)>, Failure> {
    names.sort_unstable();
    names.dedup();
    let described = admin.describe_topics(names.clone()).await?;
    Ok(names.into_iter().zip(described).collect())
}

/// Kafka's own, by its name.
fn is_internal(topic: &str) -> bool {
    topic.starts_with("__")
}

/// On how many brokers its partitions are to be; `None` for one without partitions.
fn replication(topic: &TopicDescription) -> Option<usize> {
    topic.partitions.first().map(|partition| partition.replicas.len())
}

/// What is not as it should be with a topic's partitions.
fn trouble(topic: &TopicDescription) -> Option<String> {
    let count = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}"));
    let leaderless = topic.partitions.iter().filter(|partition| partition.leader.is_none()).count();
    let behind = topic.partitions.iter().filter(|partition| partition.in_sync.len() < partition.replicas.len()).count();
    let said: Vec<_> = [count(leaderless, "without a leader"), count(behind, "not on all their brokers")]
        .into_iter()
        .flatten()
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}

/// `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    name: String,
    value: String,
}

impl FromStr for Pair {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok(Self { name: name.to_owned(), value: value.to_owned() }),
            _ => Err("is not NAME=VALUE"),
        }
    }
}

/// Reports what went wrong with topics; the code of the first.
fn report<'a>(wrong: impl IntoIterator<Item = (impl Display, &'a KafkaError)>) -> Exit {
    let codes: Vec<Exit> = wrong.into_iter().map(|(name, error)| Failure::of_topic(&name, error).report()).collect();
    codes.first().copied().unwrap_or(Exit::Done)
}
