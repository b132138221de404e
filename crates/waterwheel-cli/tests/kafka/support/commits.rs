//! The second witness of commits: what the brokers wrote into `__consumer_offsets`, held against the journals.
//!
//! The topic holds other groups' commits and their metadata, too: nothing of it is ever printed but partition and offset
//! of the commits of the group in question.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use waterwheel_cli::audit::Line;

use super::{Kafka, PATIENCE, wait_for};

const TOPIC: &str = "__consumer_offsets";
/// A commit as the brokers keep it, in the order of the log. Without an offset: it was forgotten, since it expired or its
/// topic was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) partition: i32,
    pub(crate) offset: Option<i64>,
}

impl Kafka {
    fn reader_of_commits(&self) -> BaseConsumer {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("group.id", "reader").set("enable.auto.commit", "false");
        config.set("enable.partition.eof", "true");
        config.create().expect("a consumer")
    }

    /// Where the log with this group's commits ends by now: partition and offset; none if nothing was ever committed.
    pub(crate) fn end_of_commits(&self, group: &str) -> Option<(i32, i64)> {
        let reader = self.reader_of_commits();
        let partitions = wait_for(PATIENCE, "the partitions of the topic of commits", || {
            let metadata = reader.fetch_metadata(Some(TOPIC), Duration::from_secs(5)).ok()?;
            metadata.topics().first().map(|topic| topic.partitions().len())
        });
        if partitions == 0 {
            return None;
        }
        let partition = java_hash(group).checked_abs().unwrap_or(0) % partitions as i32;
        let end = wait_for(PATIENCE, "the end of the log of commits", || {
            reader.fetch_watermarks(TOPIC, partition, Duration::from_secs(5)).ok()
        });
        Some((partition, end.1))
    }

    /// All commits of this group for this topic that were written since that offset.
    pub(crate) fn written_commits(&self, group: &str, topic: &str, from: i64) -> Vec<Written> {
        let Some((partition, end)) = self.end_of_commits(group) else { return Vec::new() };
        let reader = self.reader_of_commits();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(TOPIC, partition, Offset::Offset(from)).expect("a plain offset");
        reader.assign(&list).expect("partitions by hand");
        let (mut written, mut at) = (Vec::new(), from);
        wait_for(PATIENCE, "the end of the group's commits", || {
            while at < end {
                match reader.poll(Duration::from_millis(100))? {
                    Ok(message) => {
                        at = message.offset() + 1;
                        written.extend(parse(message.key(), message.payload(), group, topic));
                    }
                    // The log may end with what a reader does not see.
                    Err(KafkaError::PartitionEOF(_)) => at = end,
                    // Its leader may be moving.
                    Err(KafkaError::MessageConsumption(_)) => {}
                    Err(error) => panic!("cannot read {TOPIC}: {error}"),
                }
            }
            Some(())
        });
        written
    }
}

/// `String.hashCode` of Java, by which a group finds its coordinator.
pub(crate) fn java_hash(text: &str) -> i32 {
    text.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)))
}

/// A commit, if the record is one of that group and topic. Kafka's `OffsetCommitKey` (versions 0 and 1) and
/// `OffsetCommitValue` (0 to 4); other keys are of the group itself.
fn parse(key: Option<&[u8]>, value: Option<&[u8]>, group: &str, topic: &str) -> Option<Written> {
    let mut key = key?;
    if !matches!(take::<2>(&mut key).map(i16::from_be_bytes), Some(0 | 1)) || text(&mut key)? != group.as_bytes() {
        return None;
    }
    if text(&mut key)? != topic.as_bytes() {
        return None;
    }
    let partition = i32::from_be_bytes(take(&mut key)?);
    let offset = value.map(|mut value| {
        let version = take(&mut value).map(i16::from_be_bytes);
        assert!(matches!(version, Some(0..=4)), "commits of version {version:?} cannot be read");
        i64::from_be_bytes(take(&mut value).expect("a commit has an offset"))
    });
    Some(Written { partition, offset })
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn text<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = i16::from_be_bytes(take(bytes)?);
    let (head, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(head)
}

/// What journals tell of commits and of ends, all members' together.
///
/// Ends have no times of their own; the last line with a time before one in its journal says when it was at the earliest.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// When a commit of that offset was last about to be sent, by partition and offset.
    commits: HashMap<(i32, i64), u64>,
    /// When the record was finished at the earliest.
    finished: BTreeMap<(i32, i64), u64>,
}

impl Said {
    /// Takes the whole lines of a member's journal.
    pub(crate) fn read(&mut self, journal: &Path) {
        let mut input = BufReader::new(File::open(journal).expect("the journal was made at the start"));
        let (mut line, mut now, mut failed) = (Vec::new(), 0, Vec::new());
        while input.read_until(b'\n', &mut line).expect("a journal can be read") > 0 {
            if line.pop() != Some(b'\n') {
                return;
            }
            match Line::parse(&line).unwrap_or_else(|fault| panic!("{}: {fault}", journal.display())) {
                Line::Failed { partition, offset } => failed.push((partition, offset)),
                Line::End { partition, offset, .. } => {
                    match failed.iter().position(|place| *place == (partition, offset)) {
                        Some(at) => drop(failed.swap_remove(at)),
                        None => self.finished((partition, offset), now),
                    }
                }
                Line::Finished { partition, offset, .. } => self.finished((partition, offset), now),
                Line::Commit { partition, offset, ns } => {
                    now = ns;
                    self.committing((partition, offset), ns);
                }
                Line::Assigned { ns, .. } | Line::Revoked { ns, .. } | Line::Lost { ns, .. } => now = ns,
                Line::Start { .. } | Line::Cut { .. } | Line::Remark => {}
            }
            line.clear();
        }
    }

    pub(crate) fn finished(&mut self, place: (i32, i64), not_before: u64) {
        let earliest = self.finished.entry(place).or_insert(not_before);
        *earliest = not_before.min(*earliest);
    }

    pub(crate) fn committing(&mut self, place: (i32, i64), ns: u64) {
        let last = self.commits.entry(place).or_insert(ns);
        *last = ns.max(*last);
    }
}

/// What is wrong with a group's commits, `partition@offset` each.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// Below the one before it.
    pub(crate) back: Vec<String>,
    /// In no journal.
    pub(crate) unsaid: Vec<String>,
    /// Above a record that was finished by nobody, or only later.
    pub(crate) early: Vec<String>,
}

impl Faults {
    pub(crate) fn none(&self) -> bool {
        *self == Self::default()
    }
}

/// Judges the commits that the brokers wrote, in their order. `by_hand` are those that the test itself made, which may
/// say anything; those of `cut_off` partitions may go back once; `produced` are the records that had to be finished, in
/// order.
pub(crate) fn judge(
    written: &[Written],
    said: &Said,
    by_hand: &[(i32, i64)],
    cut_off: &[i32],
    produced: &[(i32, i64)],
) -> Faults {
    let mut faults = Faults::default();
    let (mut by_hand, mut cut_off) = (by_hand.to_vec(), cut_off.to_vec());
    // By partition, the last commit and the index in `produced` below which all was judged.
    let mut last: HashMap<i32, (i64, usize)> = HashMap::new();
    for Written { partition, offset } in written {
        let first = produced.partition_point(|place| *place < (*partition, 0));
        let Some(offset) = *offset else {
            last.remove(partition);
            continue;
        };
        let place = (*partition, offset);
        if let Some(at) = by_hand.iter().position(|own| *own == place) {
            by_hand.remove(at);
            // What lies below is nobody's.
            last.insert(*partition, (offset, produced.partition_point(|record| *record < place).max(first)));
            continue;
        }
        let (before, judged) = last.get(partition).copied().unwrap_or((0, first));
        let told = format!("{partition}@{offset}");
        let cut = cut_off.iter().position(|cut| offset < before && cut == partition);
        if let Some(at) = cut {
            cut_off.remove(at);
        } else if offset < before {
            faults.back.push(format!("{told} after {before}"));
        }
        let to = produced.partition_point(|record| *record < place).max(judged);
        match said.commits.get(&place) {
            None => faults.unsaid.push(told),
            Some(sent) => {
                let unfinished = produced[judged..to].iter().find(|place| {
                    let finished = said.finished.get(*place);
                    finished.is_none_or(|not_before| not_before > sent)
                });
                faults.early.extend(unfinished.map(|(_, unfinished)| format!("{told} above {unfinished}")));
            }
        }
        last.insert(*partition, (offset, to));
    }
    faults
}
