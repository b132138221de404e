//! Partitions read by hand, on logs that an embedded cluster does not have.

use waterwheel::{AssignedBuilder, AssignedConsumer, Client, Error, OnGap, ReadEvent, Start, TopicPartition, Until};

use crate::support::{Kafka, PATIENCE, topic_name};

fn reader(kafka: &Kafka, topic: &str) -> AssignedBuilder {
    Client::new(kafka.bootstrap()).expect("the address is right").assigned().topic(topic, Start::Earliest)
}

/// Runs it, for as long as a test may take.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = runtime.expect("a runtime").block_on(async { tokio::time::timeout(PATIENCE, test).await });
    ended.expect("the test should have ended by now")
}

/// Partition, offset and value of each record, until nothing is left.
async fn all(consumer: &mut AssignedConsumer) -> Vec<(i32, i64, Vec<u8>)> {
    let mut seen = Vec::new();
    while let Some(record) = consumer.recv().await.expect("it can be read") {
        seen.push((record.partition(), record.offset(), record.value().unwrap_or_default().to_vec()));
    }
    seen
}

fn records(count: usize) -> Vec<(Option<String>, String)> {
    (0..count).map(|n| (Some(format!("k{}", n % 50)), format!("v{n}"))).collect()
}

/// Reads to the end, which is reached by position, and sees what any reader sees.
#[track_caller]
fn comes_to_the_end_with_what_is_visible(kafka: &Kafka, topic: &str, partitions: i32) {
    let visible: Vec<_> = kafka.read_all(topic, partitions).into_iter().map(|r| (r.partition, r.offset)).collect();
    let ends = kafka.ends(topic, partitions);
    let (mut seen, positions) = run(async {
        let mut consumer = reader(kafka, topic).until(Until::End).open().await.expect("it can be read");
        let seen = all(&mut consumer).await;
        (seen, consumer.positions().map(|p| p.position).collect::<Vec<_>>())
    });
    seen.sort();
    assert_eq!(seen.into_iter().map(|(p, o, _)| (p, o)).collect::<Vec<_>>(), visible);
    assert_eq!(positions, ends, "the end is a position, whatever stands there");
}

#[test]
fn a_reader_does_not_wait_at_markers_or_aborted_records_for_ever() {
    let Some(kafka) = Kafka::shared() else { return };
    for (name, last_commits) in [("assigned-committed", true), ("assigned-aborted", false)] {
        let topic = topic_name(name);
        kafka.create_topic(&topic, 2, &[]);
        let batch = |n: usize| (0..50).map(|m| (format!("k{m}"), format!("v{n}-{m}"))).collect();
        kafka.produce_transactions(&topic, &[(true, batch(0)), (false, batch(1)), (last_commits, batch(2))]);
        comes_to_the_end_with_what_is_visible(kafka, &topic, 2);
    }
}

#[test]
fn a_reader_does_not_wait_for_an_open_transaction() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("assigned-open");
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, records(100));
    let _open = kafka.open_transaction(&topic, 30);
    let seen = run(async {
        let mut consumer = reader(kafka, &topic).until(Until::End).open().await.expect("it can be read");
        all(&mut consumer).await
    });
    assert_eq!(seen.len(), 100);
}

#[test]
fn no_gap_is_passed_over_without_a_word() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("assigned-gap");
    kafka.create_topic(&topic, 1, &[]);
    kafka.produce(&topic, records(100));
    kafka.delete_records(&topic, &[(0, 60)]);
    let place = TopicPartition::new(&*topic, 0);
    run(async {
        let from = |start| reader(kafka, &topic).partition(&*topic, 0, start).until(Until::End);
        let mut consumer = from(Start::Offset(10)).open().await.expect("it can be read");
        let told = consumer.next_event().await;
        assert!(matches!(told, Some(ReadEvent::Gap { from: 10, to: 60, .. })), "{told:?}");
        assert_eq!(all(&mut consumer).await.len(), 40);

        // Whoever asks for no particular record misses none.
        let mut consumer = from(Start::Earliest).open().await.expect("it can be read");
        assert!(matches!(consumer.next_event().await, Some(ReadEvent::Batch(_))));

        let mut consumer = from(Start::Offset(10)).on_gap(OnGap::Stop).open().await.expect("it is there");
        let refused = consumer.recv().await.expect_err("the records are gone");
        assert!(matches!(&refused, Error::Kafka(e) if e.to_string().contains(&format!("{place}@10"))), "{refused}");
        assert!(consumer.recv().await.expect("nothing more to say").is_none());
        consumer.seek(&place, Start::Offset(60)).await.expect("it is there");
        assert_eq!(all(&mut consumer).await.len(), 40, "it can be read from another place");

        let beyond = from(Start::Offset(5_000)).until(Until::Stopped);
        let mut consumer = beyond.open().await.expect("it can be read");
        assert!(matches!(consumer.next_event().await, Some(ReadEvent::AtEnd(_))), "all that there was has been passed");
        let told = consumer.next_event().await;
        assert!(matches!(told, Some(ReadEvent::Gap { from: 5_000, to: 100, .. })), "{told:?}");
    });
}

#[test]
fn a_time_says_where_reading_begins_and_ends() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("assigned-times");
    kafka.create_topic(&topic, 1, &[]);
    let now = std::time::UNIX_EPOCH.elapsed().expect("now is later").as_millis() as i64;
    let record = |n: usize| crate::support::Bytes { value: Some(n.to_string().into_bytes()), ..Default::default() };
    let written: Vec<_> = (0..10).map(|n| (record(n), now - 10_000 + 1_000 * n as i64)).collect();
    kafka.produce_at(&topic, written.iter().map(|(bytes, created)| (bytes, Some(*created))));
    let at = |ms: i64| std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms as u64);
    let offsets = run(async {
        let client = Client::new(kafka.bootstrap()).expect("the address is right");
        let reader = client.assigned().topic(&*topic, Start::Timestamp(at(now - 7_500)));
        let mut consumer = reader.until(Until::Timestamp(at(now - 3_000))).open().await.expect("it can be read");
        all(&mut consumer).await.into_iter().map(|(_, offset, _)| offset).collect::<Vec<_>>()
    });
    assert_eq!(offsets, [3, 4, 5, 6]);
}
