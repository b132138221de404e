//! Partitions read by hand: from where to where, pauses, moves, and that giving up a wait loses nothing. What needs
//! transactions, compaction or deleted records stands in `crates/waterwheel-cli/tests/kafka/assigned.rs`.

use futures_util::{FutureExt, StreamExt};
use waterwheel::{AssignedBuilder, AssignedConsumer, Error, ReadEvent, Start, TopicPartition, Until};

use crate::support::{client, fill, record, run, send, topic};

/// Partition and offset of each record until nothing is left.
async fn all(consumer: &mut AssignedConsumer) -> Vec<(i32, i64)> {
    let mut seen = Vec::new();
    while let Some(record) = consumer.recv().await.unwrap() {
        seen.push((record.partition(), record.offset()));
    }
    seen
}

/// It can be read from a task that moves between threads.
fn movable<T: Send>(consumer: T) -> T {
    consumer
}

async fn read(reader: AssignedBuilder) -> Vec<(i32, i64)> {
    let mut consumer = movable(reader.until(Until::End).open().await.unwrap());
    let mut seen = all(&mut consumer).await;
    assert!(consumer.is_at_end());
    consumer.close().await.unwrap();
    seen.sort();
    seen
}

fn offsets(partition: i32, range: std::ops::Range<i64>) -> Vec<(i32, i64)> {
    range.map(|offset| (partition, offset)).collect()
}

#[test]
fn each_partition_is_read_from_where_it_is_told_to_the_end() {
    run(async {
        let topic = topic(3);
        send((0..300).map(|i| record(&topic, i % 3, "k", format!("v{i}")))).await;
        let reader = || client().assigned();
        let whole = read(reader().topic(&*topic, Start::Earliest)).await;
        assert_eq!(whole, (0..3).flat_map(|p| offsets(p, 0..100)).collect::<Vec<_>>());
        let mixed = reader().topic(&*topic, Start::Latest).partition(&*topic, 1, Start::Offset(97)).partition(
            &*topic,
            2,
            Start::BeforeEnd(2),
        );
        assert_eq!(read(mixed).await, [offsets(1, 97..100), offsets(2, 98..100)].concat());
        let more_than_there_is = reader().partition(&*topic, 0, Start::BeforeEnd(1_000));
        assert_eq!(read(more_than_there_is).await, offsets(0, 0..100));
        let mut range = reader().topic(&*topic, Start::Offset(10)).until(Until::Offset(12)).open().await.unwrap();
        let mut seen = all(&mut range).await;
        seen.sort();
        assert_eq!(seen, (0..3).flat_map(|p| offsets(p, 10..12)).collect::<Vec<_>>());
    });
}

#[test]
fn an_empty_partition_is_at_its_end_at_once() {
    run(async {
        let topic = topic(2);
        assert_eq!(read(client().assigned().topic(&*topic, Start::Earliest)).await, []);
        let mut going_on = client().assigned().topic(&*topic, Start::Earliest).open().await.unwrap();
        for _ in 0..2 {
            assert!(matches!(going_on.next_event().await, Some(ReadEvent::AtEnd(_))));
        }
        fill(&topic, 1, |_| "k".to_owned()).await;
        assert!(matches!(going_on.next_event().await, Some(ReadEvent::Batch(batch)) if batch.len() == 1));
        assert!(going_on.next_event().now_or_never().is_none(), "its end is told once");
    });
}

#[test]
fn a_paused_partition_gives_nothing_and_loses_nothing() {
    run(async {
        let topic = topic(2);
        send((0..2_000).map(|i| record(&topic, i % 2, "k", format!("v{i}")))).await;
        let mut consumer = client().assigned().topic(&*topic, Start::Earliest).until(Until::End).open().await.unwrap();
        let first = consumer.recv().await.unwrap().unwrap();
        let paused = first.topic_partition().clone();
        // The rest of its batch is fetched already.
        consumer.pause(&paused);
        assert!(consumer.position(&paused).unwrap().paused);
        let other = 1 - first.partition();
        for offset in 0..1_000 {
            let record = consumer.recv().await.unwrap().unwrap();
            assert_eq!((record.partition(), record.offset()), (other, offset));
        }
        assert!(consumer.recv().now_or_never().is_none(), "nothing comes of it, and it is not over");
        consumer.resume(&paused);
        assert_eq!(all(&mut consumer).await, offsets(paused.partition, 1..1_000));
    });
}

#[test]
fn partitions_come_go_and_are_moved_while_reading() {
    run(async {
        let topic = topic(3);
        send((0..30).map(|i| record(&topic, i % 3, "k", format!("v{i}")))).await;
        let at = |partition| TopicPartition::new(&*topic, partition);
        let reader = client().assigned().partition(&*topic, 0, Start::Earliest).until(Until::End);
        let mut consumer = reader.open().await.unwrap();
        consumer.recv().await.unwrap().unwrap();
        consumer.add(at(1), Start::Earliest).await.unwrap();
        consumer.remove(&at(0));
        assert_eq!(all(&mut consumer).await, offsets(1, 0..10), "nothing comes of what was removed");
        assert!(consumer.position(&at(0)).is_none());
        consumer.seek(&at(1), Start::Offset(7)).await.unwrap();
        assert_eq!(consumer.position(&at(1)).unwrap().position, 7);
        assert_eq!(all(&mut consumer).await, offsets(1, 7..10), "also after its end");
        consumer.add(at(2), Start::BeforeEnd(1)).await.unwrap();
        assert_eq!(all(&mut consumer).await, offsets(2, 9..10));
        assert!(consumer.seek(&at(0), Start::Earliest).await.is_err(), "it is not read");
        let marks = consumer.watermarks(&at(0)).await.unwrap();
        assert_eq!((marks.low, marks.high), (0, 10));
    });
}

#[test]
fn a_wait_that_is_given_up_loses_no_record() {
    run(async {
        let topic = topic(2);
        send((0..3_000).map(|i| record(&topic, i % 2, "k", format!("v{i}")))).await;
        let mut consumer = client().assigned().topic(&*topic, Start::Earliest).until(Until::End).open().await.unwrap();
        let mut seen = Vec::new();
        for turn in 0_u64.. {
            let given_up = if turn % 2 == 0 { consumer.next().now_or_never() } else { None };
            let next = match given_up {
                Some(next) => next,
                None if turn % 3 == 0 => match consumer.next_batch().await.unwrap() {
                    Some(batch) => {
                        seen.extend(batch.iter().map(|r| (r.partition(), r.offset())));
                        continue;
                    }
                    None => break,
                },
                None => consumer.recv().await.transpose(),
            };
            let Some(next) = next else { break };
            let record = next.unwrap();
            seen.push((record.partition(), record.offset()));
        }
        for partition in 0..2 {
            let of_it: Vec<_> = seen.iter().filter(|(p, _)| *p == partition).copied().collect();
            assert_eq!(of_it, offsets(partition, 0..1_500), "each once, in order");
        }
    });
}

#[test]
fn what_cannot_be_read_is_refused_when_it_is_opened() {
    run(async {
        let topic = topic(1);
        let refused = [
            client().assigned(),
            client().assigned().topic(&*topic, Start::Nowhere),
            client().assigned().topic("no topic has such a name", Start::Earliest),
        ];
        for reader in refused {
            assert!(matches!(reader.open().await.err(), Some(Error::Config(_))));
        }
        let beyond = client().assigned().partition(&*topic, 7, Start::Earliest).open().await;
        assert!(matches!(beyond.err(), Some(Error::Kafka(e)) if e.is_unknown_topic()), "there is no such partition");
    });
}
