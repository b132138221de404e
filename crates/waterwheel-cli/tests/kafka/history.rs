//! Histories: caught up once, by position, whatever stands at the end of a log.

use std::sync::{Arc, Mutex, PoisonError};

use waterwheel::{Client, Error, Failure, HistoryBuilder, HistoryHandle, Message, Raw, Report, RunError};

use crate::support::{Kafka, PATIENCE, topic_name, wait_until};

/// A history on a thread and runtime of its own, and what it was given.
struct Reading {
    handle: HistoryHandle,
    seen: Seen,
    thread: std::thread::JoinHandle<Result<Report, Box<RunError>>>,
}

/// Partition, offset and value of every record handled.
type Seen = Arc<Mutex<Vec<(i32, i64, Vec<u8>)>>>;

fn builder(kafka: &Kafka, topic: &str) -> HistoryBuilder {
    Client::new(kafka.bootstrap()).expect("the address is right").history(topic)
}

fn read(history: HistoryBuilder) -> Reading {
    let seen = Seen::default();
    let given = seen.clone();
    let handler = move |message: Message<Raw>| {
        let value = message.value().unwrap_or_default().to_vec();
        let mut all = given.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((message.partition(), message.offset(), value));
        std::future::ready(Ok::<_, Failure>(()))
    };
    let history = history.handler(handler).build().expect("a history");
    let handle = history.handle();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let thread = std::thread::spawn(move || runtime().expect("a runtime").block_on(history.run()).map_err(Box::new));
    Reading { handle, seen, thread }
}

impl Reading {
    fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    #[track_caller]
    fn await_caught_up(&self) {
        wait_until(PATIENCE, "the history to be caught up", || self.handle.is_caught_up());
    }

    /// Ends it; what it was given, by partition and offset.
    #[track_caller]
    fn end(self) -> Vec<(i32, i64, Vec<u8>)> {
        self.handle.worker().close();
        self.thread.join().expect("it does not panic").unwrap_or_else(|ended| panic!("it failed: {}", ended.error));
        let mut seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        seen.sort();
        seen
    }
}

/// Reads the topic until it is caught up, and sees what any reader sees.
#[track_caller]
fn is_caught_up_with_what_is_visible(kafka: &Kafka, topic: &str, partitions: i32) -> usize {
    let visible = kafka.read_all(topic, partitions);
    let reading = read(builder(kafka, topic));
    reading.await_caught_up();
    assert_eq!(reading.count(), visible.len(), "when it was caught up");
    reading.end().len()
}

fn records(count: usize) -> Vec<(Option<String>, String)> {
    (0..count).map(|n| (Some(format!("k{}", n % 50)), format!("v{n}"))).collect()
}

#[test]
fn markers_and_aborted_records_at_the_end_do_not_hold_up_a_history() {
    let Some(kafka) = Kafka::particular() else { return };
    for (name, last_commits) in [("ends-committed", true), ("ends-aborted", false)] {
        let topic = topic_name(name);
        kafka.create_topic(&topic, 2, &[]);
        let batch = |n: usize| (0..50).map(|m| (format!("k{m}"), format!("v{n}-{m}"))).collect();
        kafka.produce_transactions(&topic, &[(true, batch(0)), (false, batch(1)), (last_commits, batch(2))]);
        let seen = is_caught_up_with_what_is_visible(kafka, &topic, 2);
        assert_eq!(seen, if last_commits { 100 } else { 50 });
    }
}

/// Its targets are the log's and its positions its own: neither what a group has committed nor who else reads counts.
#[test]
fn a_history_neither_resumes_nor_waits_where_a_group_has_committed_or_another_one_reads() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("foreign-targets");
    kafka.create_topic(&topic, 4, &[]);
    kafka.produce(&topic, records(400));
    // The group that a worker of the history's name would have, at the end of everything.
    let to_the_end = ["--reset-offsets", "--to-latest", "--group", &topic, "--topic", &topic, "--execute"];
    kafka.tool("groups", &to_the_end);
    for _ in 0..2 {
        let both = [read(builder(kafka, &topic)), read(builder(kafka, &topic))];
        for reading in both {
            reading.await_caught_up();
            assert_eq!(reading.count(), 400, "all of it, each, every time");
            reading.end();
        }
    }
}

#[test]
fn an_open_transaction_does_not_hold_up_a_history_which_is_caught_up_at_the_last_stable_offset() {
    let Some(kafka) = Kafka::particular() else { return };
    let topic = topic_name("open-transaction");
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, records(100));
    let open = kafka.open_transaction(&topic, 30);
    let reading = read(builder(kafka, &topic));
    reading.await_caught_up();
    let progress = reading.handle.progress();
    assert_eq!((reading.count(), progress.partitions[0].target), (100, 100));
    // What is written behind it is not visible while it is open, and is when it has been aborted.
    kafka.produce(&topic, records(5));
    drop(open);
    wait_until(PATIENCE, "what was written behind it", || reading.count() == 105);
    reading.end();

    let everything = builder(kafka, &topic).with(|worker| worker.property("isolation.level", "read_uncommitted"));
    let reading = read(everything);
    reading.await_caught_up();
    assert_eq!(reading.end().len(), 135, "whoever wants to see it does");
}

#[test]
fn what_was_deleted_or_compacted_up_to_the_target_does_not_hold_up_a_history() {
    let Some(kafka) = Kafka::particular() else { return };
    let topic = topic_name("deleted");
    kafka.create_topic(&topic, 3, &[]);
    kafka.produce(&topic, records(300));
    let ends = kafka.ends(&topic, 3);
    kafka.delete_records(&topic, &[(0, ends[0]), (1, ends[1] / 2)]);
    let seen = is_caught_up_with_what_is_visible(kafka, &topic, 3);
    assert_eq!(seen as i64, ends[1] - ends[1] / 2 + ends[2], "one partition is empty, and ends behind its start");

    let compacted = topic_name("compacted-history");
    let configs = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.001"),
        ("max.compaction.lag.ms", "200"),
        ("delete.retention.ms", "100"),
    ];
    kafka.create_topic(&compacted, 1, &configs);
    let mut written = 0;
    wait_until(PATIENCE, "records to be compacted away", || {
        if written < 6_000 {
            kafka.produce(&compacted, records(1_000));
            written += 1_000;
        }
        kafka.read_all(&compacted, 1).len() < written / 2
    });
    let reading = read(builder(kafka, &compacted));
    reading.await_caught_up();
    let last_values = reading.end().into_iter().filter(|(_, _, value)| value.starts_with(b"v9")).count();
    assert!(last_values > 0, "the newest values are there");
}

#[test]
fn partitions_added_while_a_history_reads_are_read_from_their_start() {
    let Some(kafka) = Kafka::particular() else { return };
    let topic = topic_name("history-more");
    kafka.create_topic(&topic, 2, &[]);
    kafka.produce(&topic, records(200));
    let reading = read(builder(kafka, &topic));
    reading.await_caught_up();
    kafka.add_partitions(&topic, 6);
    kafka.produce(&topic, records(600));
    wait_until(PATIENCE, "the records of the new partitions", || reading.count() == 800);
    assert_eq!(reading.handle.progress().partitions.len(), 6);
    let seen = reading.end();
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "none of them twice");
}

#[test]
fn a_history_of_a_topic_that_is_not_there_ends_and_says_so() {
    let Some(kafka) = Kafka::particular() else { return };
    let topic = topic_name("nowhere");
    let reading = read(builder(kafka, &topic));
    let ended = reading.thread.join().expect("it does not panic").expect_err("there is nothing to read");
    assert!(matches!(&ended.error, Error::Kafka(error) if error.is_unknown_topic()), "{}", ended.error);
    assert!(!reading.handle.is_caught_up());
    let topics = kafka.tool("topics", &["--list"]);
    assert!(!topics.contains(&topic), "asking does not make it");
}

#[test]
fn a_history_outlives_a_leader_that_dies() {
    let Some(kafka) = crate::support::Cluster::of(3).start() else { return };
    let topic = topic_name("history-leader");
    kafka.create_topic(&topic, 6, &[]);
    kafka.produce(&topic, records(30_000));
    let slowly = builder(&kafka, &topic).with(|worker| worker.concurrency(8));
    let reading = read(slowly);
    wait_until(PATIENCE, "the first records", || reading.count() > 0);
    kafka.kill(2);
    reading.await_caught_up();
    assert_eq!(reading.count(), 30_000);
    kafka.boot(2);
    let seen = reading.end();
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]), "none of them twice");
}
