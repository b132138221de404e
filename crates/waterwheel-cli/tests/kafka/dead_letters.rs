//! Dead letters while their topic is missing.

use std::collections::BTreeMap;
use std::time::Duration;

use waterwheel::{DeadLetter, Failure, Message, Raw, TooLarge};

use crate::support::{Bytes, Cluster, Kafka, PATIENCE, Protocol, Trial, topic_name, wait_until};

/// Fails for ever where the value begins with `poison`.
async fn refuse_poison(message: Message<Raw>) -> Result<(), Failure> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    if message.value().is_some_and(|value| value.starts_with(b"poison")) {
        return Err(Failure::dead_letter("poison"));
    }
    Ok(())
}

/// librdkafka gives a topic that is missing 30 s to appear before it says so.
const SOON: (&str, &str) = ("topic.metadata.propagation.max.ms", "1000");

fn poison() -> Vec<Bytes> {
    let some = |bytes: &[u8]| Some(bytes.to_vec());
    let plain = |partition, key, value| Bytes { partition, key, value, ..Bytes::default() };
    let headers = vec![
        ("h".to_owned(), some(b"1")),
        ("h".to_owned(), some(b"\xff\x00")),
        ("empty".to_owned(), some(b"")),
        ("null".to_owned(), None),
    ];
    vec![
        Bytes { headers, ..plain(0, some(b"key \xfe\n"), some(b"poison \x00\xff\xfe")) },
        plain(1, None, some(b"poison without a key")),
        plain(1, some(b""), some(b"poison with an empty key")),
        plain(2, some(b"k"), some(&[b"poison".to_vec(), vec![7; 100_000]].concat())),
    ]
}

#[test]
fn a_dead_letter_topic_that_is_missing_holds_its_partitions_until_it_is_made() {
    let Some(kafka) = Kafka::particular() else { return };
    let mut trial = Trial::new(kafka, "dlt-missing", 4);
    trial.produce(2_000, 200);
    let poison = poison();
    let written = kafka.produce_bytes(&trial.topic, &poison);
    // As the poison: by partition. Within one, offsets go up.
    let mut places: Vec<(i32, i64)> = written.places().collect();
    places.sort_unstable();
    trial.was_produced(written);
    trial.produce(2_000, 200);
    let dead = topic_name("dlt-missing-dead");

    let worker = trial.inside(
        &[&Protocol::Cooperative.properties()[..], &[SOON]].concat(),
        |builder| builder.dead_letter(DeadLetter::topic(&dead)).commit_every(Duration::from_millis(200)),
        refuse_poison,
    );
    // Everything below the poison and everything of the partition without any is finished and committed.
    let first_of: BTreeMap<i32, i64> = places.iter().rev().copied().collect();
    let ends = kafka.ends(&trial.topic, 4);
    let reachable: Vec<i64> = (0..4).map(|p| first_of.get(&p).copied().unwrap_or(ends[p as usize])).collect();
    let committed = || -> Vec<i64> {
        kafka.committed(&trial.group, &trial.topic, 4).iter().map(|c| c.offset.unwrap_or(0)).collect()
    };
    wait_until(PATIENCE, "everything below the poison to be committed", || committed() == reachable);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    wait_until(PATIENCE, "health to tell why partitions are held", || {
        let health = runtime.block_on(worker.handle.health());
        format!("{health:?}").contains("3 partitions are held because their dead letters cannot be written")
    });
    assert_eq!(committed(), reachable, "nothing is committed past a dead letter that is not written");
    trial.injected(1);

    kafka.create_topic(&dead, 3, &[]);
    trial.await_done(PATIENCE);
    let report = worker.stop();
    assert_eq!(report.counts.dead_lettered, poison.len() as u64);
    trial.assert_all_committed();

    let mut letters = kafka.read_all(&dead, 3);
    assert_eq!(letters.len(), poison.len(), "each once: {letters:?}");
    for (record, (partition, offset)) in poison.iter().zip(&places) {
        let place = |letter: &Bytes| {
            let header = |name: &str| {
                let of_name = letter.headers.iter().find(|(key, _)| key == name);
                of_name.and_then(|(_, value)| String::from_utf8(value.clone()?).ok())
            };
            header("waterwheel-original-partition") == Some(partition.to_string())
                && header("waterwheel-original-offset") == Some(offset.to_string())
                && header("waterwheel-original-topic").as_ref() == Some(&trial.topic)
        };
        let at = letters.iter().position(place).expect("the letter tells its record's place");
        let letter = letters.swap_remove(at);
        assert_eq!((&letter.key, &letter.value), (&record.key, &record.value), "byte for byte");
        assert_eq!(letter.headers[..record.headers.len()], record.headers, "the headers, in order");
    }
    trial.judge(0);
}

#[test]
fn a_dead_letter_topic_that_is_missing_delays_no_hand_over() {
    let Some(kafka) = Kafka::particular() else { return };
    for (name, protocol) in [
        ("dlt-move-eager", Protocol::Eager),
        ("dlt-move-cooperative", Protocol::Cooperative),
        ("dlt-move-consumer", Protocol::Consumer),
    ] {
        let mut trial = Trial::new(kafka, name, 4);
        trial.produce(1_000, 200);
        let records: Vec<Bytes> =
            (0..4).map(|partition| Bytes { partition, value: Some(b"poison".to_vec()), ..Bytes::default() }).collect();
        let written = kafka.produce_bytes(&trial.topic, &records);
        trial.was_produced(written);
        trial.produce(1_000, 200);
        let dead = topic_name("dlt-move-dead");
        let properties = [&protocol.properties()[..], &[SOON]].concat();
        // A hand-over that waited for the dead letters would last longer than anything here may.
        let drain = PATIENCE + Duration::from_secs(60);
        let start = |trial: &mut Trial<'_>| {
            let configure =
                |builder: waterwheel::WorkerBuilder| builder.dead_letter(DeadLetter::topic(&dead)).drain_timeout(drain);
            trial.inside(&properties, configure, refuse_poison)
        };
        let first = start(&mut trial);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        wait_until(PATIENCE, "all partitions to be held by their dead letters", || {
            let health = runtime.block_on(first.handle.health());
            format!("{health:?}").contains("4 partitions are held because their dead letters cannot be written")
        });
        let second = start(&mut trial);
        wait_until(PATIENCE, "the second member to get its share", || trial.journal(second.number).held.len() == 2);
        // And a stop waits for them as little.
        let report = second.stop();
        assert!(report.is_clean(), "{report:?}");
        let second = start(&mut trial);
        wait_until(PATIENCE, "the next member to get its share", || trial.journal(second.number).held.len() == 2);
        // The topic that is missing, two members that join meanwhile, and one that leaves.
        trial.injected(4);
        kafka.create_topic(&dead, 1, &[]);
        trial.await_done(PATIENCE);
        first.stop();
        second.stop();
        trial.assert_all_committed();
        trial.judge(0);
    }
}

/// The leader's epoch of a topic made again begins at 0, and librdkafka believes no leader of an epoch below one it knows: a
/// client that did not see the topic missing sends to the old leader for ever. The letter is written all the same.
#[test]
fn a_dead_letter_topic_made_again_with_another_leader_is_found() {
    let Some(kafka) = Cluster::of(3).property("auto.create.topics.enable=false").start() else { return };
    let mut trial = Trial::new(&kafka, "dlt-again", 1);
    let dead = topic_name("dlt-again-dead");
    kafka.create_topic_on(&dead, &[&[1]], &[]);
    // Its only leader goes and comes back: two epochs later.
    kafka.kill(1);
    wait_until(PATIENCE, "the topic to be without a leader", || kafka.leaders(&dead) == [0]);
    kafka.boot(1);
    kafka.await_brokers(3);
    wait_until(PATIENCE, "the topic to have its leader again", || kafka.leaders(&dead) == [1]);

    let worker = trial.inside(
        &[&Protocol::Cooperative.properties()[..], &[("message.timeout.ms", "3000")]].concat(),
        |builder| builder.dead_letter(DeadLetter::topic(&dead)).commit_every(Duration::from_millis(200)),
        refuse_poison,
    );
    let poison = |trial: &mut Trial<'_>| {
        let poison = Bytes { key: Some(b"k".to_vec()), value: Some(b"poison".to_vec()), ..Bytes::default() };
        let written = kafka.produce_bytes(&trial.topic, std::slice::from_ref(&poison));
        trial.was_produced(written);
    };
    poison(&mut trial);
    trial.await_done(PATIENCE);
    kafka.delete_topic(&dead);
    kafka.create_topic_on(&dead, &[&[3]], &[]);
    trial.injected(1);
    poison(&mut trial);
    trial.await_done(PATIENCE);
    let report = worker.stop();
    trial.figure("dead_letter_failures", report.counts.dead_letter_failures);
    assert_eq!(report.counts.dead_lettered, 2);
    assert_eq!(kafka.read_all(&dead, 1).len(), 1, "the second one is in the topic made again, once");
    trial.assert_all_committed();
    trial.judge(0);
}

/// A record that its dead-letter topic does not take: by policy its partition is held until the topic takes it, or the
/// letter is written without the value, and points to it.
fn too_large(name: &'static str, policy: TooLarge) {
    let Some(kafka) = Kafka::particular() else { return };
    let mut trial = Trial::with(kafka, name, 2, &[("max.message.bytes", "12000000")]);
    let value = [b"poison".to_vec(), vec![7; 10_000_000]].concat();
    let headers = vec![("h".to_owned(), Some(b"1".to_vec()))];
    let poison = Bytes { partition: 1, key: Some(b"k".to_vec()), value: Some(value), headers, ..Bytes::default() };
    let written = kafka.produce_bytes(&trial.topic, std::slice::from_ref(&poison));
    trial.was_produced(written);
    trial.produce(1_000, 100);
    let dead = topic_name("too-large-dead");
    kafka.create_topic(&dead, 1, &[("compression.type", "uncompressed")]);
    let worker = trial.inside(
        // What a topic takes is for the broker to say.
        &[&Protocol::Cooperative.properties()[..], &[("message.max.bytes", "20000000")]].concat(),
        |builder| {
            let letters = DeadLetter::topic(&dead).too_large(policy);
            builder.dead_letter(letters).commit_every(Duration::from_millis(200))
        },
        refuse_poison,
    );
    if policy == TooLarge::Hold {
        let ends = kafka.ends(&trial.topic, 2);
        let (group, topic) = (trial.group.clone(), trial.topic.clone());
        let committed =
            || -> Vec<i64> { kafka.committed(&group, &topic, 2).iter().map(|c| c.offset.unwrap_or(0)).collect() };
        wait_until(PATIENCE, "the other partition to be committed", || committed() == [ends[0], 0]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        wait_until(PATIENCE, "health to tell why the partition is held", || {
            let health = format!("{:?}", runtime.block_on(worker.handle.health()));
            health.contains("held because") && health.contains("dead letters cannot be written")
        });
        assert_eq!(committed(), [ends[0], 0], "nothing is committed past a dead letter that is not written");
        kafka.set_topic(&dead, "max.message.bytes=12000000");
    }
    trial.await_done(PATIENCE);
    let report = worker.stop();
    assert!(report.counts.dead_letter_failures > 0, "void: the topic took it at once: {report:?}");
    trial.injected(1);
    trial.assert_all_committed();
    let mut letters = kafka.read_all(&dead, 1);
    assert_eq!(letters.len(), 1, "once");
    let letter = letters.remove(0);
    assert_eq!((&letter.key, &letter.headers[..1]), (&poison.key, &poison.headers[..]));
    let omitted = letter.headers.iter().find(|(name, _)| name == "waterwheel-value-omitted");
    match policy {
        TooLarge::Hold => assert!(letter.value == poison.value && omitted.is_none(), "byte for byte"),
        TooLarge::Pointer => {
            assert_eq!((letter.value, omitted.and_then(|(_, size)| size.as_deref())), (None, Some(&b"10000006"[..])));
        }
    }
    trial.judge(0);
}

#[test]
fn a_dead_letter_too_large_for_its_topic_holds_its_partition_until_the_topic_takes_it() {
    too_large("dlt-too-large-hold", TooLarge::Hold);
}

#[test]
fn a_dead_letter_too_large_for_its_topic_points_to_its_value() {
    too_large("dlt-too-large-pointer", TooLarge::Pointer);
}
