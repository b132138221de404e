//! Batch handlers in a group whose members come and go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use waterwheel::{Batch, Client, Failure, Outcomes, Raw, Report, WorkerHandle};

use crate::support::{Bytes, Kafka, PATIENCE, topic_name, wait_until};

/// Offsets in the order of their ends, by partition and key.
type Done = Arc<Mutex<BTreeMap<(i32, Vec<u8>), Vec<i64>>>>;

struct Member {
    handle: WorkerHandle,
    thread: std::thread::JoinHandle<Option<Report>>,
}

/// A member that works on up to 50 records at once, and fails each seventh record the first time.
fn member(kafka: &Kafka, group: &str, done: &Done) -> Member {
    let client = Client::new(kafka.bootstrap()).expect("the address is right");
    let failed = Mutex::new(BTreeSet::new());
    let done = done.clone();
    let work = move |batch: Batch<Raw>| {
        let (mut outcomes, mut ran, mut behind) = (Outcomes::ok(), Vec::new(), BTreeSet::new());
        for (at, message) in batch.iter().enumerate() {
            let of = (message.partition(), message.key().unwrap_or_default().to_vec());
            let place = (message.partition(), message.offset());
            if place.1 % 7 == 3 && failed.lock().unwrap_or_else(PoisonError::into_inner).insert(place) {
                outcomes.fail(at, Failure::retry("each seventh"));
                behind.insert(of);
            } else if !behind.contains(&of) {
                // What is behind a failure of its key counts as not run, though nothing is said against it.
                ran.push((of, message.offset()));
            }
        }
        let done = done.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            for (of, offset) in ran {
                done.entry(of).or_default().push(offset);
            }
            outcomes
        }
    };
    let worker = client.worker(group).topic(group).batch_handler(work, 50, Duration::from_millis(20));
    let worker = worker.build().expect("a worker");
    let handle = worker.handle();
    let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let thread = std::thread::spawn(move || runtime().expect("a runtime").block_on(worker.run()).ok());
    Member { handle, thread }
}

#[test]
fn no_record_of_a_batch_is_done_twice_or_before_one_that_failed_while_members_come_and_go() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("batches");
    kafka.create_topic(&topic, 4, &[]);
    let produce = |count: usize| {
        let record = |n: usize| Bytes {
            partition: n as i32 % 4,
            key: Some(format!("k{}", n / 4 % 25).into_bytes()),
            value: Some(b"v".to_vec()),
            ..Bytes::default()
        };
        kafka.produce_bytes(&topic, &(0..count).map(record).collect::<Vec<_>>());
    };
    let done = Done::default();
    let count = || done.lock().unwrap_or_else(PoisonError::into_inner).values().map(Vec::len).sum::<usize>();
    produce(2_000);
    let first = member(kafka, &topic, &done);
    wait_until(PATIENCE, "the first records", || count() >= 500);
    let second = member(kafka, &topic, &done);
    produce(2_000);
    wait_until(PATIENCE, "all of these", || count() >= 4_000);
    first.handle.close();
    produce(2_000);
    wait_until(PATIENCE, "the rest", || count() >= 6_000);
    second.handle.close();
    let mut counts = (0, 0);
    for member in [first, second] {
        let report = member.thread.join().expect("it does not panic").expect("it ends in order");
        assert!(report.is_clean(), "{report:?}");
        counts = (counts.0 + report.counts.succeeded, counts.1 + report.counts.retried);
    }
    for (of, offsets) in done.lock().unwrap_or_else(PoisonError::into_inner).iter() {
        assert!(offsets.is_sorted_by(|a, b| a < b), "{of:?}: {offsets:?}");
    }
    assert_eq!((count(), counts.0), (6_000, 6_000));
    // Those behind another failure of their key in the same batch did not run, so they did not fail.
    assert!(counts.1 >= 400, "each seventh failed once: {counts:?}");
    let committed: Vec<_> = kafka.committed(&topic, &topic, 4).iter().map(|c| c.offset).collect();
    assert_eq!(committed, [Some(1_500); 4]);
}
