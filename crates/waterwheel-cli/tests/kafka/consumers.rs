//! Consumers that pull: groups that change, topics that come and go, places that are sought while records flow.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use waterwheel::{Client, Consumer, ConsumerBuilder, Delivery, Notification, Start, TopicPartition};

use crate::support::{Bytes, Kafka, aside, run, topic_name};

fn member(kafka: &Kafka, group: &str, topic: &str) -> ConsumerBuilder {
    let client = Client::new(kafka.bootstrap()).expect("the address is right");
    client.consumer(group).topic(topic).with(|w| w.commit_every(Duration::from_millis(200)))
}

/// How often each place was finished, by topic and offset; shared by all members.
#[derive(Clone, Default)]
struct Finished(Arc<Mutex<BTreeMap<(TopicPartition, i64), u32>>>);

impl Finished {
    fn finish(&self, delivery: Delivery) {
        let place = (delivery.topic_partition().clone(), delivery.offset());
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(place).or_default() += 1;
        delivery.finish();
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    #[track_caller]
    fn assert_once_each(&self, count: usize) {
        let finished = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!(finished.len(), count, "every record");
        let twice: Vec<_> = finished.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "finished more than once: {twice:?}");
    }

    /// Pulls until there are so many places.
    async fn pull(&self, consumer: &mut Consumer, until: usize) {
        while self.count() < until {
            tokio::select! {
                delivery = consumer.recv() => self.finish(delivery.expect("the consumer runs")),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    }
}

fn records(from: usize, count: usize, partitions: i32) -> Vec<Bytes> {
    let record = |n: usize| Bytes {
        partition: n as i32 % partitions,
        key: Some(format!("k{}", n % 40).into_bytes()),
        value: Some(format!("v{n}").into_bytes()),
        ..Bytes::default()
    };
    (from..from + count).map(record).collect()
}

#[test]
fn nothing_is_delivered_twice_when_members_that_pull_come_and_go() {
    let Some(kafka) = Kafka::shared() else { return };
    for protocol in ["range", "cooperative-sticky", "consumer"] {
        let topic = topic_name(&format!("pull-members-{protocol}"));
        kafka.create_topic(&topic, 6, &[]);
        kafka.produce_bytes(&topic, &records(0, 3_000, 6));
        let finished = Finished::default();
        let of_group = || {
            let property = match protocol {
                "consumer" => ("group.protocol", "consumer"),
                assignor => ("partition.assignment.strategy", assignor),
            };
            member(kafka, &topic, &topic).with(|w| w.property(property.0, property.1)).max_unfinished(100)
        };
        run(async {
            let mut first = of_group().start().expect("a consumer");
            finished.pull(&mut first, 500).await;
            let second = of_group().start_partitions().expect("a consumer");
            let theirs = finished.clone();
            // By partition, all side by side, each until it leaves.
            let (handle, mut partitions) = (second.worker().clone(), second);
            let reading = async {
                let mut streams = tokio::task::JoinSet::new();
                while let Some(mut partition) = partitions.next().await {
                    let theirs = theirs.clone();
                    streams.spawn(async move {
                        while let Some(delivery) = partition.recv().await {
                            theirs.finish(delivery);
                        }
                    });
                }
                while streams.join_next().await.is_some() {}
                partitions.close().await.map(drop).map_err(|e| e.error)
            };
            let working = async {
                finished.pull(&mut first, 3_000).await;
                aside(|| kafka.produce_bytes(&topic, &records(3_000, 3_000, 6)));
                finished.pull(&mut first, 4_500).await;
                handle.close();
                finished.pull(&mut first, 6_000).await;
            };
            let (read, ()) = tokio::join!(reading, working);
            read.expect("it ends in order");
            first.close().await.map_err(|e| e.error).expect("it ends in order");
        });
        finished.assert_once_each(6_000);
        let committed: i64 = kafka.committed(&topic, &topic, 6).iter().filter_map(|c| c.offset).sum();
        assert_eq!(committed, 6_000, "{protocol}");
    }
}

#[test]
fn partitions_added_under_load_are_found_and_lose_nothing() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("pull-partitions");
    kafka.create_topic(&topic, 4, &[]);
    kafka.produce_bytes(&topic, &records(0, 2_000, 4));
    let finished = Finished::default();
    run(async {
        let refresh = |w: waterwheel::WorkerBuilder| w.property("topic.metadata.refresh.interval.ms", "1000");
        let mut consumer = member(kafka, &topic, &topic).with(refresh).start().expect("a consumer");
        finished.pull(&mut consumer, 1_000).await;
        aside(|| kafka.add_partitions(&topic, 12));
        aside(|| kafka.produce_bytes(&topic, &records(0, 2_400, 12)));
        finished.pull(&mut consumer, 4_400).await;
        assert_eq!(consumer.assigned().await.len(), 12);
        consumer.close().await.map_err(|e| e.error).expect("it ends in order");
    });
    finished.assert_once_each(4_400);
}

#[test]
fn a_pattern_follows_topics_that_appear_and_vanish_and_leaves_out_what_is_excluded() {
    let Some(kafka) = Kafka::shared() else { return };
    let stem = topic_name("pull-pattern");
    let name = |of: &str| format!("{stem}.{of}");
    for of in ["a", "b", "private"] {
        kafka.create_topic(&name(of), 1, &[]);
        kafka.produce_bytes(&name(of), &records(0, 10, 1));
    }
    let finished = Finished::default();
    run(async {
        let pattern = format!("^{}[.].*", stem.replace('.', "[.]"));
        let refresh = |w: waterwheel::WorkerBuilder| w.property("topic.metadata.refresh.interval.ms", "1000");
        let consumer = member(kafka, &stem, &pattern).exclude("[.]private$").with(refresh);
        let mut consumer = consumer.start().expect("a consumer");
        let mut told = consumer.notifications();
        finished.pull(&mut consumer, 20).await;
        aside(|| kafka.create_topic(&name("c"), 2, &[]));
        aside(|| kafka.produce_bytes(&name("c"), &records(0, 10, 2)));
        finished.pull(&mut consumer, 30).await;
        aside(|| kafka.delete_topic(&name("a")));
        // What is left is told, and the rest goes on.
        loop {
            match told.next().await.expect("it runs") {
                Notification::Revoked { current, .. }
                | Notification::Lost { current, .. }
                | Notification::Assigned { current, .. }
                    if !current.is_empty() && current.iter().all(|p| *p.topic != *name("a")) =>
                {
                    break;
                }
                _ => {}
            }
        }
        aside(|| kafka.produce_bytes(&name("b"), &records(0, 10, 1)));
        finished.pull(&mut consumer, 40).await;
        consumer.close().await.map_err(|e| e.error).expect("it ends in order");
    });
    let seen = finished.0.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(seen.keys().all(|(partition, _)| *partition.topic != *name("private")), "what is excluded is not read");
}

#[test]
fn places_sought_again_and_again_leave_no_record_behind() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("pull-seeks");
    kafka.create_topic(&topic, 3, &[]);
    kafka.produce_bytes(&topic, &records(0, 3_000, 3));
    run(async {
        let mut consumer = member(kafka, &topic, &topic).max_unfinished(500).start().expect("a consumer");
        let mut held = Vec::new();
        let mut random = 17_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % below
        };
        for round in 0..150 {
            let partition = TopicPartition::new(&*topic, next(3) as i32);
            let to = next(1_000) as i64;
            // Some wait unfinished over a seek, and say so only after it.
            while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_millis(5), consumer.recv()).await {
                held.push(delivery);
                if held.len() > 200 {
                    break;
                }
            }
            consumer.seek(&partition, Start::Offset(to)).await.expect("the partition is there");
            held.drain(..held.len() / 2).for_each(Delivery::finish);
            if round % 10 == 0 {
                consumer.commit().await.expect("a commit");
            }
        }
        held.clear();
        for partition in 0..3 {
            consumer.reset(&TopicPartition::new(&*topic, partition), Start::Earliest).await.expect("it is there");
        }
        let committed = aside(|| kafka.committed(&topic, &topic, 3));
        let committed: Vec<_> = committed.iter().map(|c| c.offset).collect();
        assert!(committed.iter().all(|offset| offset.is_some()), "{committed:?}");
        let finished = Finished::default();
        finished.pull(&mut consumer, 3_000).await;
        consumer.close().await.map_err(|e| e.error).expect("it ends in order");
        finished.assert_once_each(3_000);
    });
    let committed: Vec<_> = kafka.committed(&topic, &topic, 3).iter().map(|c| c.offset).collect();
    assert_eq!(committed, [Some(1_000); 3]);
}

#[test]
fn times_have_offsets() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("pull-times");
    // The times are long ago.
    kafka.create_topic(&topic, 1, &[("retention.ms", "-1")]);
    let at = |ms: i64| SystemTime::UNIX_EPOCH + Duration::from_millis(ms.unsigned_abs());
    let base = 1_760_000_000_000_i64;
    let all = records(0, 100, 1);
    kafka.produce_at(&topic, all.iter().enumerate().map(|(n, bytes)| (bytes, Some(base + n as i64 * 1_000))));
    run(async {
        let mut consumer = member(kafka, &topic, &topic).start().expect("a consumer");
        let place = TopicPartition::new(&*topic, 0);
        let asked = [(place.clone(), at(base + 41_500)), (place.clone(), at(base + 1_000_000))];
        let told = consumer.offsets_for_times(asked).await.expect("an answer");
        assert_eq!(told, [(place.clone(), 42), (place.clone(), 100)]);
        consumer.seek(&place, Start::Timestamp(at(base + 90_000))).await.expect("the partition is there");
        let first = consumer.recv().await.expect("the consumer runs");
        assert_eq!(first.offset(), 90);
        first.finish();
        let watermarks = consumer.watermarks(&place).await.expect("an answer");
        assert_eq!((watermarks.low, watermarks.high), (0, 100));
        consumer.close().await.map_err(|e| e.error).expect("it ends in order");
    });
}
