//! `group reset`: sets what a group has committed. Its next members begin there.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};
use waterwheel::admin::{Admin, Commit, Committed, GroupState};
use waterwheel::config::check_group;
use waterwheel::{KafkaError, TopicPartition};

use super::target::{Target, Topic, aims};
use super::undo;
use crate::asking::{Asking, or_dash, print_json, print_table, table};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};

/// Set what a group has committed: its next members begin there
///
/// Prints a plan and changes nothing without --execute. A group with members is refused. Commit maps are dropped: what was
/// finished above the old offset is run again.
#[derive(clap::Args)]
pub(crate) struct Reset {
    /// The group; made where there is none
    #[arg(value_name = "GROUP")]
    group: String,

    /// earliest, latest, @TIME (RFC 3339 or milliseconds), -1h, OFFSET, shift:N, group:OTHER, or an undo file
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true, value_parser = Target::parse)]
    to: Target,

    /// Topic, or topic and partitions as orders:0,2-5; repeatable [default: all that the group has committed]
    #[arg(long = "topic", value_name = "TOPIC[:P,..]", value_parser = Topic::parse)]
    topics: Vec<Topic>,

    /// Make the change
    #[arg(long)]
    execute: bool,

    /// Where to write what was committed before [default: waterwheel-undo-GROUP-MILLIS.json]
    #[arg(long, value_name = "FILE", requires = "execute")]
    undo: Option<PathBuf>,

    #[command(flatten)]
    asking: Asking,
}

/// What the brokers said to each partition.
type Results = BTreeMap<TopicPartition, Result<(), KafkaError>>;

/// What becomes of one partition.
struct Step {
    before: Committed,
    /// `None`: what is committed is taken back.
    after: Option<Commit>,
    note: String,
}

impl Step {
    fn partition(&self) -> &TopicPartition {
        &self.before.partition
    }

    fn offset(&self) -> Option<i64> {
        self.after.as_ref().map(|commit| commit.offset)
    }

    /// How many records come again (less than zero) or are passed over.
    fn change(&self) -> Option<i64> {
        Some(self.offset()? - self.before.offset?)
    }

    fn as_json(&self, result: Option<&Result<(), KafkaError>>) -> Value {
        let partition = self.partition();
        json!({
            "topic": &*partition.topic,
            "partition": partition.partition,
            "from": self.before.offset,
            "to": self.offset(),
            "note": Some(&self.note).filter(|note| !note.is_empty()),
            "done": result.is_some_and(Result::is_ok),
            "error": result.and_then(|result| result.as_ref().err()).map(ToString::to_string),
        })
    }
}

impl Reset {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        check_group(&self.group)?;
        let admin = self.asking.admin(global)?;
        let restored = match &self.to {
            Target::File(path) => Some(undo::read(path, &self.group)?),
            _ => None,
        };
        refuse_if_active(&admin, &self.group).await?;
        let committed = admin.committed(self.group.as_str(), None).await?;
        let committed = committed.into_iter().collect::<Result<Vec<_>, _>>()?;
        let steps = match restored {
            Some(restored) => self.restore(restored, &committed),
            None => self.plan(&admin, &committed).await?,
        };
        if steps.is_empty() {
            return Err(Failure::new(Exit::NotFound, format!("group {}: nothing to set", self.group))
                .hint("it has committed nothing there; name topics by --topic"));
        }
        if !self.execute {
            print(global, &steps, None)?;
            say("nothing was changed: --execute does it");
            return Ok(Exit::Done);
        }
        let undo = self.undo.clone().unwrap_or_else(|| undo::default_path(&self.group));
        undo::write(&undo, &self.group, &steps.iter().map(|step| step.before.clone()).collect::<Vec<_>>())?;
        let results = self.execute(&admin, &steps).await;
        say(format_args!("undo: waterwheel group reset {} --to {} --execute", self.group, undo.display()));
        let results = results?;
        print(global, &steps, Some(&results))?;
        // The others are in what was printed.
        match results.values().find_map(|result| result.as_ref().err()) {
            Some(error) => Err(Failure::of_group(&self.group, error)),
            None => Ok(Exit::Done),
        }
    }

    /// What a target means for this group.
    async fn plan(&self, admin: &Admin, committed: &[Committed]) -> Result<Vec<Step>, Failure> {
        let partitions = self.partitions(admin, committed).await?;
        let aims = aims(admin, &self.to, &partitions, committed).await??;
        let step = |(partition, (aim, log)): (TopicPartition, (i64, super::target::Log))| {
            let offset = aim.clamp(log.begin, log.end);
            let note = match aim - offset {
                0 => String::new(),
                1.. => format!("{aim} is beyond the end"),
                _ => format!("{aim} is before the beginning"),
            };
            let after = Commit { partition: partition.clone(), offset, leader_epoch: None, metadata: String::new() };
            Step { before: before(committed, partition), after: Some(after), note }
        };
        Ok(aims.into_iter().map(step).collect())
    }

    /// What an undo file says, commit maps included: what they say is finished is finished still.
    fn restore(&self, restored: Vec<Committed>, committed: &[Committed]) -> Vec<Step> {
        let wanted = |one: &Committed| self.topics.is_empty() || self.topics.iter().any(|t| t.holds(&one.partition));
        let step = |one: Committed| {
            let after = one.offset.map(|offset| Commit {
                partition: one.partition.clone(),
                offset,
                leader_epoch: one.leader_epoch,
                metadata: one.metadata,
            });
            let note = if after.is_none() { "had committed nothing" } else { "" };
            Step { before: before(committed, one.partition), after, note: note.to_owned() }
        };
        restored.into_iter().filter(wanted).map(step).collect()
    }

    async fn partitions(&self, admin: &Admin, committed: &[Committed]) -> Result<Vec<TopicPartition>, Failure> {
        if self.topics.is_empty() {
            return Ok(committed.iter().map(|one| one.partition.clone()).collect());
        }
        let names = self.topics.iter().map(|topic| topic.name.clone()).collect();
        let described = admin.describe_topics(names).await?;
        let mut partitions = Vec::new();
        for (topic, described) in self.topics.iter().zip(described) {
            let count = match described {
                Ok(description) => description.partitions.len() as i32,
                Err(error) if error.is_unknown_topic() => {
                    return Err(Failure::new(Exit::NotFound, format!("there is no topic {}", topic.name)));
                }
                Err(error) => return Err(error.into()),
            };
            let numbers = topic.partitions.clone().unwrap_or_else(|| (0..count).collect());
            if let Some(beyond) = numbers.iter().find(|number| **number >= count) {
                let message = format!("there is no partition {}-{beyond}, only 0 to {}", topic.name, count - 1);
                return Err(Failure::new(Exit::NotFound, message));
            }
            partitions.extend(numbers.into_iter().map(|number| TopicPartition::new(topic.name.as_str(), number)));
        }
        partitions.sort_unstable();
        partitions.dedup();
        Ok(partitions)
    }

    async fn execute(&self, admin: &Admin, steps: &[Step]) -> Result<Results, Failure> {
        let commits: Vec<Commit> = steps.iter().filter_map(|step| step.after.clone()).collect();
        let without = steps.iter().filter(|step| step.after.is_none() && step.before.offset.is_some());
        let without: Vec<TopicPartition> = without.map(|step| step.partition().clone()).collect();
        let mut results = Results::new();
        for outcome in admin.commit(self.group.as_str(), commits).await? {
            results.insert(outcome.partition, outcome.result);
        }
        for outcome in admin.delete_offsets(self.group.as_str(), without).await? {
            results.insert(outcome.partition, outcome.result);
        }
        Ok(results)
    }
}

/// A member would go on from where it is, and commit over what was set.
pub(super) async fn refuse_if_active(admin: &Admin, group: &str) -> Result<(), Failure> {
    let described = admin.describe_groups(vec![group.to_owned()]).await?;
    match described.into_iter().next() {
        Some(Ok(described)) if described.state != GroupState::Empty => {
            let members = described.members.len();
            Err(Failure::new(Exit::Refused, format!("group {group} is {}, members: {members}", described.state))
                .hint("stop them first"))
        }
        Some(Err(error)) if !error.is_unknown_group() => Err(Failure::of_group(group, &error)),
        _ => Ok(()),
    }
}

fn before(committed: &[Committed], partition: TopicPartition) -> Committed {
    let none = || Committed { partition: partition.clone(), offset: None, leader_epoch: None, metadata: String::new() };
    committed.iter().find(|one| one.partition == partition).cloned().unwrap_or_else(none)
}

fn print(global: &Global, steps: &[Step], results: Option<&Results>) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    // What had nothing to take back is done.
    let nothing = Ok(());
    let result = |step: &Step| results.map(|results| results.get(step.partition()).unwrap_or(&nothing));
    if global.output() == Output::Table {
        let mut rows = table(&["PARTITION", ">FROM", ">TO", ">CHANGE", "NOTE"]);
        for step in steps {
            let error = result(step).and_then(|result| result.as_ref().err());
            rows.add_row(vec![
                step.partition().to_string(),
                or_dash(step.before.offset),
                or_dash(step.offset()),
                or_dash(step.change().map(|change| if change == 0 { "0".to_owned() } else { format!("{change:+}") })),
                error.map_or_else(|| step.note.clone(), ToString::to_string),
            ]);
        }
        print_table(&mut out, &rows)?;
    } else {
        print_json(&mut out, global.output(), steps.iter().map(|step| step.as_json(result(step))).collect())?;
    }
    Ok(out.flush()?)
}
