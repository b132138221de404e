//! `verifiable-producer` and `verifiable-consumer`, alone and with Kafka's own programs of these names as the other half:
//! the assertions of Kafka's `produce_consume_validate`, and here and in the modules below those of its `consumer_test.py`
//! (`OffsetValidationTest`, `AssignmentValidationTest`), `consumer_rolling_upgrade_test.py` and
//! `consumer_protocol_migration_test.py`. Each test names those that it makes.

mod bounced_brokers;
mod members;
mod same_as_java;
mod static_members;
mod upgrades;

use crate::support::{Consumers, Half, Kafka, PATIENCE, Process, Protocol, Source, topic_name};

const PARTITIONS: usize = 4;

/// A topic of its own, unless the half that is needed is not there.
fn topic(purpose: &str, partitions: usize, java: bool) -> Option<(&'static Kafka, String)> {
    let kafka = Kafka::shared()?;
    if java && !Kafka::has_tools() {
        return None;
    }
    let topic = topic_name(purpose);
    kafka.create_topic(&topic, partitions as i32, &[]);
    Some((kafka, topic))
}

/// Whatever was acknowledged is consumed.
fn produce_consume_validate(purpose: &str, producer: Half, consumer: Half, protocol: Protocol) {
    let is_java = [producer, consumer].contains(&Half::Java);
    let Some((kafka, topic)) = topic(purpose, PARTITIONS, is_java) else { return };
    let mut source = Source::start(kafka, producer, &topic, &["--throughput", "2000", "--value-prefix", "7"]);
    source.await_acked(1);
    let mut consumers = Consumers::new(kafka, &topic, protocol, &["--verbose"]);
    consumers.start(consumer);
    consumers.await_consumed(1);
    source.await_acked(5_000);
    source.stop();
    assert!(source.acked.iter().all(|value| value.starts_with("7.")), "values have their prefix");
    consumers.await_values(&source.acked);
    consumers.stop_all();
    assert_eq!((consumers.duplicates, consumers.total), (0, source.acked.len() as i64));
    assert_eq!(consumers.positions(), consumers.total);
    consumers.assert_all_committed();
}

#[test]
fn what_our_producer_wrote_our_consumer_reads_in_a_classic_group() {
    produce_consume_validate("verifiable-ours", Half::Ours, Half::Ours, Protocol::Eager);
}

#[test]
fn what_our_producer_wrote_our_consumer_reads_in_the_consumer_protocol() {
    produce_consume_validate("verifiable-ours-848", Half::Ours, Half::Ours, Protocol::Consumer);
}

#[test]
fn what_javas_producer_wrote_our_consumer_reads_in_a_classic_group() {
    produce_consume_validate("verifiable-java-ours", Half::Java, Half::Ours, Protocol::Cooperative);
}

#[test]
fn what_javas_producer_wrote_our_consumer_reads_in_the_consumer_protocol() {
    produce_consume_validate("verifiable-java-ours-848", Half::Java, Half::Ours, Protocol::Consumer);
}

#[test]
fn what_our_producer_wrote_javas_consumer_reads() {
    produce_consume_validate("verifiable-ours-java", Half::Ours, Half::Java, Protocol::Eager);
}

/// `test_consumer_bounce`, rolling: three consumers of one partition are stopped and started again, one after the other.
fn clean_bounce(purpose: &str, producer: Half, protocol: Protocol) {
    let Some((kafka, topic)) = topic(purpose, 1, producer == Half::Java) else { return };
    let mut source = Source::start(kafka, producer, &topic, &["--throughput", "1000"]);
    source.await_acked(1);
    let mut consumers = Consumers::new(kafka, &topic, protocol, &[]);
    let mut members: Vec<usize> = (0..3).map(|_| consumers.start(Half::Ours)).collect();
    consumers.await_all_joined(3, 1);
    for _ in 0..2 {
        for member in &mut members {
            consumers.stop(*member);
            *member = consumers.start(Half::Ours);
            consumers.await_all_joined(3, 1);
            consumers.await_consumed(200);
        }
    }
    consumers.stop_all();
    source.stop();
    assert_eq!(consumers.positions(), consumers.total, "no record was consumed twice, none passed over");
    consumers.assert_all_committed();
}

#[test]
fn consumers_that_bounce_read_nothing_twice_when_all_is_revoked() {
    clean_bounce("verifiable-bounce-eager", Half::Java, Protocol::Eager);
}

#[test]
fn consumers_that_bounce_read_nothing_twice_when_partitions_move_by_and_by() {
    clean_bounce("verifiable-bounce-cooperative", Half::Ours, Protocol::Cooperative);
}

#[test]
fn consumers_that_bounce_read_nothing_twice_in_the_consumer_protocol() {
    clean_bounce("verifiable-bounce-848", Half::Java, Protocol::Consumer);
}

/// `test_consumer_failure`, but with SIGKILL: the owner of the partition is killed; the others go on.
fn hard_failure(purpose: &str, producer: Half, protocol: Protocol) {
    let Some((kafka, topic)) = topic(purpose, 1, producer == Half::Java) else { return };
    let mut consumers = Consumers::new(kafka, &topic, protocol, &["--verbose"]);
    for _ in 0..3 {
        consumers.start(Half::Ours);
    }
    consumers.await_all_joined(3, 1);
    let mut source = Source::start(kafka, producer, &topic, &["--throughput", "1000"]);
    consumers.await_consumed(1_000);
    consumers.kill(consumers.owner(0));
    consumers.await_all_joined(2, 1);
    consumers.await_consumed(1_000);
    source.stop();
    consumers.await_values(&source.acked);
    consumers.stop_all();
    let (position, total) = (consumers.positions(), consumers.total);
    assert!(position <= total, "{position} is the position, and {total} were consumed");
    assert_eq!(consumers.values.len() as i64, position, "each record was consumed");
    consumers.assert_all_committed();
}

#[test]
fn a_killed_consumer_loses_nothing_when_all_is_revoked() {
    hard_failure("verifiable-killed-eager", Half::Java, Protocol::Eager);
}

#[test]
fn a_killed_consumer_loses_nothing_when_partitions_move_by_and_by() {
    hard_failure("verifiable-killed-cooperative", Half::Ours, Protocol::Cooperative);
}

#[test]
fn a_killed_consumer_loses_nothing_in_the_consumer_protocol() {
    hard_failure("verifiable-killed-848", Half::Java, Protocol::Consumer);
}

/// One member is ours and one Java's, and each is stopped and started again.
fn mixed_group(purpose: &str, protocol: Protocol) {
    let Some((kafka, topic)) = topic(purpose, PARTITIONS, true) else { return };
    let mut source = Source::start(kafka, Half::Ours, &topic, &["--throughput", "1000"]);
    source.await_acked(1);
    let mut consumers = Consumers::new(kafka, &topic, protocol, &["--verbose"]);
    let mut members = [Half::Ours, Half::Java].map(|half| (half, consumers.start(half)));
    consumers.await_all_joined(2, PARTITIONS);
    for (half, member) in &mut members {
        consumers.await_consumed(200);
        consumers.stop(*member);
        consumers.await_all_joined(1, PARTITIONS);
        consumers.await_consumed(200);
        *member = consumers.start(*half);
        consumers.await_all_joined(2, PARTITIONS);
    }
    source.stop();
    consumers.await_values(&source.acked);
    consumers.stop_all();
    assert_eq!(consumers.positions(), source.acked.len() as i64);
    let once = consumers.total - consumers.javas_duplicates;
    assert_eq!((consumers.duplicates, once), (0, consumers.positions()));
    consumers.assert_all_committed();
}

#[test]
fn our_consumer_and_javas_share_a_group_when_all_is_revoked() {
    mixed_group("verifiable-mixed-eager", Protocol::Eager);
}

#[test]
fn our_consumer_and_javas_share_a_group_when_partitions_move_by_and_by() {
    mixed_group("verifiable-mixed-cooperative", Protocol::Cooperative);
}

#[test]
fn our_consumer_and_javas_share_a_group_in_the_consumer_protocol() {
    mixed_group("verifiable-mixed-848", Protocol::Consumer);
}

#[test]
fn both_end_by_themselves_after_as_many_messages_as_they_are_told() {
    let Some((kafka, topic)) = topic("verifiable-most", 2, false) else { return };
    let all = ["--max-messages", "1000", "--repeating-keys", "3", "--acks", "1"];
    let mut source = Source::start(kafka, Half::Ours, &topic, &all);
    source.await_end();
    assert_eq!(source.acked.len(), 1_000);
    let mut consumers = Consumers::new(kafka, &topic, Protocol::Eager, &["--max-messages", "600"]);
    let first = consumers.start(Half::Ours);
    consumers.await_end(first);
    assert_eq!(consumers.total, 600);
    consumers.assert_all_committed();
    // Another one goes on where that ended.
    let rest = consumers.start(Half::Ours);
    consumers.await_consumed(400);
    consumers.stop(rest);
    assert_eq!((consumers.total, consumers.positions()), (1_000, 1_000));
}

#[test]
fn a_consumer_without_a_place_to_begin_ends() {
    let Some((kafka, topic)) = topic("verifiable-none", 1, false) else { return };
    Source::start(kafka, Half::Ours, &topic, &["--max-messages", "10"]).await_end();
    let group = format!("group-{topic}");
    let none = ["--reset-policy", "none", "--max-messages", "6"];
    let all = ["verifiable-consumer", "--bootstrap-server", kafka.bootstrap(), "--topic", &topic, "--group-id", &group];
    let mut process = Process::waterwheel(&[&all[..], &none].concat());
    let (code, told) = (process.wait(PATIENCE).code(), process.stderr());
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains(&format!("error: {topic}-0: the group has committed nothing")), "{told}");
    assert!(process.stdout().ends_with("\"name\":\"shutdown_complete\"}\n"), "{}", process.stdout());
    kafka.commit(&group, &topic, &[(0, 4, "")]);
    let mut consumers = Consumers::new(kafka, &topic, Protocol::Eager, &none);
    let member = consumers.start(Half::Ours);
    consumers.await_end(member);
    assert_eq!((consumers.total, consumers.positions()), (6, 10));
}

#[test]
fn a_wrong_flag_is_said_and_ends_with_2() {
    let producer = ["verifiable-producer", "--bootstrap-server", "127.0.0.1:1", "--topic", "t"];
    let consumer = ["verifiable-consumer", "--bootstrap-server", "127.0.0.1:1", "--topic", "t", "--group-id", "g"];
    for (verb, flags, said) in [
        (&producer[..], &["--acks", "2"][..], "--acks"),
        (&producer, &["--max-messages", "many"], "--max-messages"),
        (&producer, &["--repeating-keys", "0"], "--repeating-keys"),
        (&producer, &["--producer.config", "/no/such.properties"], "/no/such.properties"),
        (&producer[..3], &[], "--topic"),
        (&producer[..1], &["--topic", "t"], "--bootstrap-server"),
        (&consumer, &["--group-protocol", "newest"], "--group-protocol"),
        (&consumer, &["--reset-policy", "middle"], "--reset-policy"),
        (&consumer, &["--assignment-strategy", "org.example.Mine"], "org.example.Mine"),
        (&consumer, &["--session-timeout", "0"], "session.timeout.ms"),
        (&consumer[..5], &[], "--group-id"),
        (&consumer, &["--consumer.config", "a", "--command-config", "b"], "--command-config"),
    ] {
        let mut process = Process::waterwheel(&[verb, flags].concat());
        let code = process.wait(PATIENCE).code();
        let (stdout, stderr) = (process.stdout(), process.stderr());
        assert_eq!((code, stdout.as_str()), (Some(2), ""), "{flags:?}: {stderr}");
        assert!(stderr.contains(said), "{flags:?}: {stderr}");
    }
}
