//! The producer port.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use tokio::sync::Notify;

use super::*;
use crate::client::memory::murmur2;
use crate::client::{Answers, Position, Pull, Purge, Source, Unsent, Written};
use crate::error::code;

on_every_cluster! {
    every_record_is_answered_once_with_its_place
    a_record_that_is_refused_fails_alone
    a_full_queue_keeps_the_order
    a_queue_full_of_bytes_keeps_the_order
    a_partition_that_does_not_exist_fails_its_records_alone
    records_with_one_key_go_where_kafkas_java_client_puts_them
    many_records_go_by_their_keys_in_their_order
    records_with_and_without_a_key_keep_their_order
    a_receiver_that_has_gone_takes_no_record_back
    each_record_of_a_parcel_is_told_by_its_place
    what_a_source_has_goes_out_in_the_order_in_which_it_is_taken
    what_a_closed_producer_is_given_is_told_as_unsent
    what_is_purged_is_told
}

async fn every_record_is_answered_once_with_its_place(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let producer = kafka.producer(&[]);
    let record = |i| {
        let mut record = outgoing(&topic, i % 2, "k", "v");
        // Both ways in, mixed.
        if i % 7 == 0 {
            record.headers.push((b"h"[..].into(), None));
        }
        record
    };
    let sent = send(&*producer, (0..5_000).map(record).collect()).await;
    assert_eq!(producer.unanswered(), 0);
    for (i, sent) in sent.into_iter().enumerate() {
        assert_eq!(sent.unwrap(), ((i % 2) as i32, i as i64 / 2));
    }
    let SentAll { records, failed } = send_all(&*producer, (0..5_000).map(record).collect()).await.unwrap();
    assert_eq!((records.len(), failed.len(), producer.unanswered()), (5_000, 0, 0));
    assert_eq!(send(&*producer, vec![record(1)]).await[0].clone().unwrap(), (1, 5_000));

    producer.close().await.unwrap();
    let error = send(&*producer, vec![record(1)]).await[0].clone().unwrap_err();
    assert_eq!((error.error.code(), error.possibly_written), (code::LOCAL_DESTROYED, false));
    assert_eq!(send_all(&*producer, vec![record(1), record(2)]).await.unwrap().failed.len(), 2);
}

async fn a_record_that_is_refused_fails_alone(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let producer = kafka.producer(&[("message.max.bytes", "10000")]);
    for with_headers in [false, true] {
        let mut large = outgoing(&topic, 0, "k", &"x".repeat(20_000));
        if with_headers {
            large.headers.push((b"h"[..].into(), None));
        }
        let records = vec![outgoing(&topic, 0, "k", "v"), large, outgoing(&topic, 0, "k", "v")];
        let sent = send(&*producer, records.clone()).await;
        let error = sent[1].clone().unwrap_err();
        assert_eq!((error.error.code(), error.possibly_written), (code::MESSAGE_TOO_LARGE, false));
        let (first, last) = (sent[0].clone().unwrap(), sent[2].clone().unwrap());
        assert_eq!(last.1, first.1 + 1);

        let SentAll { records, failed } = send_all(&*producer, records).await.unwrap();
        let places: Vec<_> = failed.iter().map(|(place, e)| (*place, e.error.code())).collect();
        assert_eq!((records.len(), places), (3, vec![(1, code::MESSAGE_TOO_LARGE)]));
    }
}

async fn a_full_queue_keeps_the_order(kafka: Kafka) {
    keeps_the_order(&kafka, &[("queue.buffering.max.messages", "10")], "v").await;
}

async fn a_queue_full_of_bytes_keeps_the_order(kafka: Kafka) {
    keeps_the_order(&kafka, &[("queue.buffering.max.kbytes", "2")], &"v".repeat(100)).await;
}

/// Sends parcels of all sizes, much more than the queue holds, and reads them back.
async fn keeps_the_order(kafka: &Kafka, properties: &[(&str, &str)], value: &str) {
    let topic = kafka.topic(3).await;
    let producer = kafka.producer(properties);
    let (mut place, mut answers, mut ones) = (0, Vec::new(), Vec::new());
    let mut record = || {
        place += 1;
        // Keys decide for two thirds, a given partition for a third of the records.
        let partition = (place % 3 == 0).then_some(place % 9 / 3);
        Outgoing { partition, ..outgoing(&topic, 0, &format!("k{}", place % 7), &format!("{place} {value}")) }
    };
    for size in [1, 40, 2, 25, 1, 1, 60, 30] {
        let records: Vec<_> = (0..size).map(|_| record()).collect();
        answers.push(send_all(&*producer, records));
        let (to, answer) = oneshot::channel();
        producer.send(Parcel::One(record(), to));
        ones.push(answer);
    }
    assert_eq!(producer.unanswered(), 168);
    for answer in answers {
        assert!(answer.await.unwrap().failed.is_empty());
    }
    for answer in ones {
        assert!(answer.await.unwrap().is_ok());
    }
    producer.answered().await.unwrap();
    assert_eq!(read(kafka, &topic, 3, 168).await.iter().map(Vec::len).sum::<usize>(), 168);
}

/// Reads partitions back, as key and number of each record, and checks that the numbers ascend.
async fn read(kafka: &Kafka, topic: &str, partitions: i32, count: usize) -> Vec<Vec<(Option<String>, u64)>> {
    let fetcher = kafka.fetcher(&[]);
    let mut queue = fetcher.queue().unwrap();
    for partition in 0..partitions {
        queue.add(assignment(partition as u32, 1, topic, partition), Position::Beginning).unwrap();
    }
    let mut read = vec![Vec::new(); partitions as usize];
    for record in records(&mut *queue, count).await {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let number = text(record.value().unwrap()).split(' ').next().unwrap().parse().unwrap();
        read[record.partition() as usize].push((record.key().map(text), number));
    }
    for partition in &read {
        assert!(partition.is_sorted_by_key(|(_, number)| *number), "{partition:?}");
    }
    read
}

async fn a_partition_that_does_not_exist_fails_its_records_alone(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let producer = kafka.producer(&[]);
    // Before the topic is known, and after.
    for round in 0..2 {
        let sent = send_all(&*producer, (0..30).map(|i| outgoing(&topic, i % 3, "k", "v")).collect()).await.unwrap();
        let failed: Vec<_> = sent.failed.iter().map(|(place, e)| (*place % 3, e.error.code())).collect();
        assert_eq!(failed, [(2, code::LOCAL_UNKNOWN_PARTITION); 10], "round {round}");
    }
    // A message lost in librdkafka would make this wait for ever.
    tokio::time::timeout(Duration::from_secs(10), producer.close()).await.unwrap().unwrap();
}

async fn records_with_one_key_go_where_kafkas_java_client_puts_them(kafka: Kafka) {
    let topic = kafka.topic(32).await;
    let producer = kafka.producer(&[]);
    // Partitions that Java's `toPositive(murmur2(key)) % 32` gives.
    let keys = ["", "a", "key", "waterwheel"];
    let record = |key: &str| Outgoing { partition: None, ..outgoing(&topic, 0, key, "v") };
    let sent = send(&*producer, keys.iter().map(|key| record(key)).collect()).await;
    let partitions: Vec<i32> = sent.into_iter().map(|sent| sent.unwrap().0).collect();
    assert_eq!(partitions, keys.map(|key| by_java(key, 32)));
}

async fn many_records_go_by_their_keys_in_their_order(kafka: Kafka) {
    let topic = kafka.topic(8).await;
    let producer = kafka.producer(&[]);
    let record = |i: u64| Outgoing { partition: None, ..outgoing(&topic, 0, &format!("k{}", i % 97), &i.to_string()) };
    // The first ones before the topic is known, so that librdkafka places them.
    let first = send_all(&*producer, (0..1_000).map(record).collect());
    assert!(first.await.unwrap().failed.is_empty());
    let more: Vec<_> =
        (1..=4).map(|n| send_all(&*producer, (n * 1_000..n * 1_000 + 1_000).map(record).collect())).collect();
    for answer in more {
        assert!(answer.await.unwrap().failed.is_empty());
    }
    let read = read(&kafka, &topic, 8, 5_000).await;
    for (partition, records) in read.iter().enumerate() {
        for (key, _) in records {
            assert_eq!(by_java(key.as_deref().unwrap(), 8), partition as i32);
        }
    }
    assert!(read.iter().filter(|records| !records.is_empty()).count() > 1);
}

async fn records_with_and_without_a_key_keep_their_order(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let producer = kafka.producer(&[]);
    let record = |i: u64| Outgoing {
        partition: (i % 50 < 10).then_some(0),
        key: (!i.is_multiple_of(3)).then(|| i.to_string().as_bytes().into()),
        timestamp: i.is_multiple_of(41).then_some(1_700_000_000_000),
        ..outgoing(&topic, 0, "", &i.to_string())
    };
    for from in [0, 500] {
        assert!(send_all(&*producer, (from..from + 500).map(record).collect()).await.unwrap().failed.is_empty());
    }
    read(&kafka, &topic, 1, 1_000).await;
}

async fn a_receiver_that_has_gone_takes_no_record_back(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let producer = kafka.producer(&[]);
    drop(send_all(&*producer, (0..100).map(|_| outgoing(&topic, 0, "k", "v")).collect()));
    assert_eq!(send(&*producer, vec![outgoing(&topic, 0, "k", "v")]).await[0].clone().unwrap(), (0, 100));
    producer.answered().await.unwrap();
    assert_eq!(producer.unanswered(), 0);
}

/// Where a record was written; or the error's code, and whether it may have been written.
type Fate = Result<(i32, i64), (i32, bool)>;

/// Notes what is told, by place.
#[derive(Default)]
struct Notes {
    told: Mutex<BTreeMap<u32, Fate>>,
    more: Notify,
}

impl Answers for Notes {
    fn told(&self, written: &[(u32, Written)], failed: Vec<(u32, Unsent)>) {
        let written = written.iter().map(|(place, at)| {
            assert!(at.timestamp.is_some());
            (*place, Ok((at.partition, at.offset.unwrap())))
        });
        let failed = failed
            .into_iter()
            .map(|(place, unsent)| (place, Err((unsent.why.error.code(), unsent.why.possibly_written))));
        let mut told = self.told.lock().unwrap();
        for (place, fate) in written.chain(failed) {
            assert!(told.insert(place, fate).is_none(), "{place} was told twice");
        }
        self.more.notify_one();
    }
}

impl Notes {
    async fn all(&self, count: usize) -> Vec<Fate> {
        loop {
            {
                let told = self.told.lock().unwrap();
                if told.len() == count {
                    return told.values().copied().collect();
                }
            }
            self.more.notified().await;
        }
    }
}

async fn each_record_of_a_parcel_is_told_by_its_place(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    let producer = kafka.producer(&[("queue.buffering.max.messages", "100")]);
    let notes = Arc::new(Notes::default());
    // The third partition there is not.
    let records = (0..900).map(|i| outgoing(&topic, i % 3, "k", "v")).collect();
    producer.send(Parcel::Each(records, notes.clone()));
    for (i, told) in notes.all(900).await.into_iter().enumerate() {
        let expected =
            if i % 3 == 2 { Err((code::LOCAL_UNKNOWN_PARTITION, false)) } else { Ok((i as i32 % 3, i as i64 / 3)) };
        assert_eq!(told, expected, "{i}");
    }
    producer.answered().await.unwrap();
    assert_eq!(producer.unanswered(), 0);
}

/// Parcels of one record, with the notes for all of them.
struct Queued(Mutex<VecDeque<Parcel>>);

impl Source for Queued {
    fn take(&self) -> Option<Parcel> {
        self.0.lock().unwrap().pop_front()
    }
}

async fn what_a_source_has_goes_out_in_the_order_in_which_it_is_taken(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let producer = kafka.producer(&[]);
    let notes: Vec<_> = (0..200).map(|_| Arc::new(Notes::default())).collect();
    let parcel = |notes: &Arc<Notes>| Parcel::Each(vec![outgoing(&topic, 0, "k", "v")], notes.clone());
    let source: Arc<dyn Source> = Arc::new(Queued(Mutex::new(notes.iter().map(parcel).collect())));
    for i in 0..200 {
        producer.pull(&source, if i % 3 == 0 { Pull::Now } else { Pull::Soon });
    }
    for (offset, notes) in notes.iter().enumerate() {
        assert_eq!(notes.all(1).await, [Ok((0, offset as i64))]);
    }
    producer.pull(&source, Pull::Now);
    producer.answered().await.unwrap();
}

async fn what_a_closed_producer_is_given_is_told_as_unsent(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let producer = kafka.producer(&[]);
    send(&*producer, vec![outgoing(&topic, 0, "k", "v")]).await[0].clone().unwrap();
    producer.close().await.unwrap();
    for when in [Pull::Now, Pull::Soon] {
        let notes = Arc::new(Notes::default());
        let records = vec![outgoing(&topic, 0, "k", "v"); 3];
        let source: Arc<dyn Source> = Arc::new(Queued(Mutex::new([Parcel::Each(records, notes.clone())].into())));
        producer.pull(&source, when);
        assert_eq!(notes.all(3).await, [Err((code::LOCAL_DESTROYED, false)); 3]);
    }
}

async fn what_is_purged_is_told(kafka: Kafka) {
    // A topic that there is not keeps them waiting.
    let producer = kafka.producer(&[("queue.buffering.max.messages", "10"), ("allow.auto.create.topics", "false")]);
    let (topic, notes) = (unique("missing"), Arc::new(Notes::default()));
    let records = (0..30).map(|_| outgoing(&topic, 0, "k", "v")).collect();
    producer.send(Parcel::Each(records, notes.clone()));
    assert_eq!(producer.unanswered(), 30);
    producer.purge(Purge::Unsent);
    let told = notes.all(30).await;
    assert!(told.iter().all(|told| matches!(told, Err((code::LOCAL_PURGE_QUEUE, false)))), "{told:?}");
    producer.answered().await.unwrap();
}

/// The partition that Kafka's Java client gives a key.
fn by_java(key: &str, partitions: i32) -> i32 {
    (murmur2(key.as_bytes()) & 0x7fff_ffff) as i32 % partitions
}
