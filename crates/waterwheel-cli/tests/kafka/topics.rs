//! Topics with gaps, and topics that are made again.

use std::collections::HashMap;
use std::future::{Ready, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waterwheel::{Failure, Message, Raw};

use crate::support::{Bytes, Kafka, PATIENCE, Produced, Protocol, Trial, wait_for, wait_until};

/// A client asks for metadata every five minutes by itself, and learns of new partitions then.
const SOON: (&str, &str) = ("topic.metadata.refresh.interval.ms", "1000");

/// Runs everything that a reader sees through a member; returns with everything judged and the commits checked.
fn every_visible_record_is_handled_once(kafka: &Kafka, mut trial: Trial<'_>, visible: &[Bytes]) {
    trial.was_produced(Produced::from(visible));
    let member = trial.member(&Protocol::Consumer.properties(), &["--concurrency", "64", "--work-us", "1000"]);
    trial.await_done(PATIENCE);
    // Also behind the last record that anybody sees.
    let ends = kafka.ends(&trial.topic, trial.partitions);
    wait_until(PATIENCE, "the commits to reach the ends of the log", || {
        kafka.has_committed(&trial.group, &trial.topic, &ends)
    });
    trial.end(member);
    trial.figure("visible", visible.len());
    trial.judge(0);
}

#[test]
fn a_compacted_topic_is_handled_whole() {
    let Some(kafka) = Kafka::particular() else { return };
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "200"),
        ("delete.retention.ms", "100"),
    ];
    let mut trial = Trial::with(kafka, "compacted", 2, &configs);
    let mut all = 0;
    let mut earlier = Vec::new();
    // Each wave begins a new segment, which lets the one before be compacted.
    let visible = wait_for(PATIENCE, "records to be compacted away, and no more of them", || {
        if all < 12_000 {
            let records = trial.records(3_000, 500);
            kafka.produce(&trial.topic, records);
            all += 3_000;
        }
        let now = kafka.read_all(&trial.topic, 2);
        let settled = all >= 12_000 && now.len() < all / 2 && now == earlier;
        earlier = now;
        settled.then(|| earlier.clone())
    });
    trial.figure("written", all);
    trial.injected(all - visible.len());
    every_visible_record_is_handled_once(kafka, trial, &visible);
}

#[test]
fn a_transactional_topic_is_handled_without_what_was_aborted() {
    let Some(kafka) = Kafka::particular() else { return };
    let mut trial = Trial::new(kafka, "transactional", 2);
    let mut batches = Vec::new();
    for n in 0..40 {
        let records = (0..50).map(|m| (format!("k{}", trial.random(40)), format!("v{n}-{m}"))).collect();
        batches.push((trial.random(3) > 0, records));
    }
    // The topic ends with what nobody sees.
    batches.push((false, (0..50).map(|m| (format!("k{m}"), "aborted".to_owned())).collect()));
    let committed = kafka.produce_transactions(&trial.topic, &batches);
    let visible = kafka.read_all(&trial.topic, 2);
    assert_eq!(visible.len(), committed.len(), "a reader sees what was committed");
    assert!(visible.len() < batches.len() * 50, "void: nothing was aborted");
    trial.injected(batches.iter().filter(|(commit, _)| !commit).count());
    every_visible_record_is_handled_once(kafka, trial, &visible);
}

/// Never ends for the key `stuck`.
async fn stick(message: Message<Raw>) -> Result<(), Failure> {
    if message.key() == Some(b"stuck") {
        std::future::pending::<()>().await;
    }
    Ok(())
}

#[test]
fn a_topic_made_again_under_a_committed_map_is_handled_whole() {
    let Some(kafka) = Kafka::particular() else { return };
    let properties = Protocol::Consumer.properties();
    let mut old = Trial::new(kafka, "recreated", 1);
    let mut records = old.records(3_000, 100);
    records[1_000].0 = Some("stuck".to_owned());
    let produced = kafka.produce(&old.topic, records);
    old.was_produced(produced);
    let worker = old.inside(&properties, |builder| builder.drain_timeout(Duration::from_millis(100)), stick);
    wait_until(PATIENCE, "all but one record to be finished", || old.finished() == 2_999);
    worker.stop();
    let committed = kafka.committed(&old.group, &old.topic, 1).remove(0);
    assert_eq!(committed.offset, Some(1_000));
    assert!(!committed.metadata.is_empty(), "void: there is no map");

    kafka.delete_topic(&old.topic);
    let mut new = old.anew();
    // The broker forgets what was committed for a deleted topic, but maybe late, or another tool brings it back.
    new.commit(&[(0, 1_000, &committed.metadata)]);
    let kept = kafka.committed(&new.group, &new.topic, 1).remove(0);
    assert_eq!(kept, committed, "void: the old map is not there");
    new.injected(1);
    new.produce(2_000, 100);
    let worker = new.inside(&properties, |builder| builder, |_: Message<Raw>| async { Ok::<(), Failure>(()) });
    new.await_done(PATIENCE);
    worker.stop();
    new.assert_all_committed();
    new.judge(0);
}

/// How often a handler was given each value.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<HashMap<Vec<u8>, usize>>>);

impl Seen {
    fn counts(&self) -> MutexGuard<'_, HashMap<Vec<u8>, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, value: &str) -> usize {
        self.counts().get(value.as_bytes()).copied().unwrap_or(0)
    }

    fn handler(&self) -> impl Fn(Message<Raw>) -> Ready<Result<(), Failure>> + Send + Sync + 'static {
        let seen = self.clone();
        move |message: Message<Raw>| {
            *seen.counts().entry(message.value().unwrap_or_default().to_vec()).or_default() += 1;
            ready(Ok(()))
        }
    }
}

#[test]
fn a_topic_made_again_under_a_running_worker_is_handled_whole_and_once() {
    let Some(kafka) = Kafka::particular() else { return };
    for protocol in [Protocol::Cooperative, Protocol::Consumer] {
        let mut trial = Trial::new(kafka, "made-again", 2);
        trial.produce(4_000, 100);
        let seen = Seen::default();
        let properties = [&protocol.properties()[..], &[SOON]].concat();
        let worker = trial.inside(&properties, |builder| builder, seen.handler());
        trial.await_done(PATIENCE);

        kafka.delete_topic(&trial.topic);
        kafka.create_topic(&trial.topic, 2, &[]);
        let write = |name: &str, count: usize| {
            let values: Vec<String> = (0..count).map(|n| format!("{name} {n}")).collect();
            let records = values.iter().enumerate().map(|(n, value)| (Some(format!("k{}", n % 40)), value.clone()));
            kafka.produce(&trial.topic, records);
            values
        };
        let mut values = write("new", 1_000);
        wait_until(PATIENCE, "the new topic's records to be handled", || values.iter().all(|value| seen.of(value) > 0));
        let ends = kafka.ends(&trial.topic, 2);
        wait_until(PATIENCE, "the commits to reach the new topic's ends", || {
            kafka.has_committed(&trial.group, &trial.topic, &ends)
        });
        worker.stop();

        // Whoever has the partitions next goes on where that one ended.
        values.extend(write("last", 50));
        let worker = trial.inside(&properties, |builder| builder, seen.handler());
        wait_until(PATIENCE, "the last records to be handled", || values.iter().all(|value| seen.of(value) > 0));
        worker.stop();
        let again: Vec<_> = values.iter().filter(|value| seen.of(value) > 1).collect();
        assert!(again.is_empty(), "{protocol:?}: handled again: {again:?}");
    }
}

#[test]
fn partitions_added_under_load_are_worked_on_from_their_start() {
    let Some(kafka) = Kafka::particular() else { return };
    for (name, protocol) in [("more-cooperative", Protocol::Cooperative), ("more-consumer", Protocol::Consumer)] {
        let mut trial = Trial::new(kafka, name, 4);
        trial.produce(3_000, 400);
        let properties = [&protocol.properties()[..], &[SOON]].concat();
        let member = trial.member(&properties, &["--concurrency", "64", "--work-us", "1000"]);
        trial.await_starts(member.number, 100);
        kafka.tool("topics", &["--alter", "--topic", &trial.topic, "--partitions", "12"]);
        trial.partitions = 12;
        trial.injected(1);
        // What is written before a member knows of the new partitions is theirs, too.
        trial.produce(6_000, 400);
        trial.await_done(PATIENCE);
        let held = trial.journal(member.number).held.len();
        trial.figure("held", held);
        assert_eq!(held, 12);
        trial.end(member);
        trial.assert_all_committed();
        trial.judge(0);
    }
}
