//! Records that are unlike others: their times, their size.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use waterwheel::{Failure, Message, Raw};

use crate::support::{Bytes, Kafka, PATIENCE, Protocol, Trial, wait_until};

/// Milliseconds since the Unix epoch at the end of the year 9999.
const YEAR_9999: i64 = 253_402_300_799_000;

/// What producers say of the time of creation decides nothing: neither the order nor what is committed.
#[test]
fn records_of_any_time_are_handled_in_order() {
    let Some(kafka) = Kafka::shared() else { return };
    let configs = [
        ("message.timestamp.after.max.ms", "9223372036854775807"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
        ("retention.ms", "-1"),
    ];
    let mut trial = Trial::with(kafka, "times", 2, &configs);
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as i64);
    // librdkafka takes 0 for "now": a millisecond after the epoch stands for it.
    let times = [now + 3_600_000, -1, 1, YEAR_9999, now, now - 3_600_000];
    let records: Vec<(Bytes, i64)> = (0..3_000)
        .map(|n| {
            let key = Some(format!("k{}", trial.random(40)).into_bytes());
            let bytes = Bytes { partition: n % 2, key, value: Some(b"v".to_vec()), ..Bytes::default() };
            (bytes, times[trial.random(times.len() as u64) as usize])
        })
        .collect();
    let produced = kafka.produce_at(&trial.topic, records.iter().map(|(bytes, created)| (bytes, Some(*created))));
    trial.was_produced(produced);
    let seen: Arc<Mutex<BTreeMap<Option<i64>, usize>>> = Arc::default();
    let handler = {
        let seen = seen.clone();
        move |message: Message<Raw>| {
            *seen.lock().expect("nobody panicked").entry(message.record().timestamp_millis()).or_default() += 1;
            async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok::<(), Failure>(())
            }
        }
    };
    let worker = trial.inside(&Protocol::Consumer.properties(), |builder| builder, handler);
    trial.await_done(PATIENCE);
    worker.stop();
    let seen = seen.lock().expect("nobody panicked").clone();
    let odd: BTreeSet<i64> = seen.keys().flatten().copied().filter(|time| (time - now).abs() > 60_000).collect();
    assert!(odd.is_superset(&BTreeSet::from([now + 3_600_000, 1, YEAR_9999])), "void: {seen:?}");
    trial.injected(seen.iter().filter(|(time, _)| **time != Some(now)).map(|(_, count)| count).sum());
    trial.figure("times", seen.len());
    trial.assert_all_committed();
    trial.judge(0);
}

/// Ten megabytes each, more of them than the worker may hold.
#[test]
fn huge_records_are_handled_within_bounded_memory() {
    const SIZE: usize = 10_000_000;
    const COUNT: usize = 40;
    /// What the worker may hold in work, what the client reads ahead (a fetch of every partition), and the program itself.
    const MOST_MIB: u64 = 300;
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::with(kafka, "huge", 2, &[("max.message.bytes", "12000000")]);
    let mut value = vec![0; SIZE];
    for byte in value.chunks_mut(8) {
        let random = trial.random(u64::MAX).to_le_bytes();
        byte.copy_from_slice(&random[..byte.len()]);
    }
    let record = |n: usize| Bytes {
        partition: n as i32 % 2,
        key: Some(format!("k{}", n % 7).into_bytes()),
        value: Some(value.clone()),
        ..Bytes::default()
    };
    for wave in 0..COUNT / 8 {
        let records: Vec<Bytes> = (0..8).map(|n| record(8 * wave + n)).collect();
        let produced = kafka.produce_bytes(&trial.topic, &records);
        trial.was_produced(produced);
    }
    let load = ["--concurrency", "4", "--work-us", "200000"];
    let member = trial.member(&Protocol::Cooperative.properties(), &load);
    trial.await_done(PATIENCE);
    let size = member.process.size().expect("the member lives");
    trial.end(member);
    trial.injected(COUNT);
    trial.figure("most_rss_mib", size.most_rss / 1024);
    trial.figure("mib", SIZE * COUNT / (1 << 20));
    trial.assert_all_committed();
    trial.judge(0);
    assert!(size.most_rss / 1024 <= MOST_MIB, "{} MiB", size.most_rss / 1024);
}

/// A worker that is well does not end for it; what else it says is in its counts.
#[test]
fn a_record_of_ten_megabytes_without_room_for_it_holds_up_only_its_turn() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::with(kafka, "no-room", 2, &[("max.message.bytes", "12000000")]);
    let huge = Bytes { key: Some(b"huge".to_vec()), value: Some(vec![7; 10_000_000]), ..Bytes::default() };
    let produced = kafka.produce_bytes(&trial.topic, &[huge.clone(), huge.clone()]);
    trial.was_produced(produced);
    trial.produce(2_000, 100);
    let produced = kafka.produce_bytes(&trial.topic, &[huge]);
    trial.was_produced(produced);
    let worker = trial.inside(
        &Protocol::Cooperative.properties(),
        |builder| builder.in_work_bytes(1 << 20),
        |_: Message<Raw>| std::future::ready(Ok::<(), Failure>(())),
    );
    wait_until(PATIENCE, "all records to be handled", || trial.is_done());
    worker.stop();
    trial.injected(3);
    trial.assert_all_committed();
    trial.judge(0);
}
