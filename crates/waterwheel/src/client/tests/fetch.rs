//! The fetch port.

use std::task::Poll;

use super::*;
use crate::client::{FetchFailure, Position};

on_every_cluster! {
    records_come_as_they_were_written
    a_held_partition_is_not_served_and_loses_nothing
    nothing_of_a_removed_partition_comes
    single_records_are_read_again_beside_the_progress
    what_is_to_be_read_again_survives_a_move
    out_of_range_stops_one_partition_only
    batches_are_of_bounded_size_and_a_large_record_is_alone
    partitions_that_come_later_are_read
}

type Bytes<'a> = Option<&'a [u8]>;

async fn records_come_as_they_were_written(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let producer = kafka.producer(&[]);
    let bytes = |s: &str| -> Arc<[u8]> { s.as_bytes().into() };
    let written = vec![
        outgoing(&topic, 0, "k", "v"),
        Outgoing { key: None, value: None, ..outgoing(&topic, 0, "", "") },
        outgoing(&topic, 0, "", ""),
        Outgoing {
            headers: vec![
                (bytes("a"), Some(bytes("1"))),
                (bytes("a"), None),
                (bytes("b"), Some(bytes(""))),
                (vec![0xff, 0xfe].into(), Some(vec![0, 1, 2].into())),
            ],
            timestamp: Some(1_234_567_890_123),
            ..outgoing(&topic, 0, "k", "with headers")
        },
        outgoing(&topic, 0, "k", "last"),
    ];
    let sent: Vec<_> = send(&*producer, written).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(sent, [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4)]);

    let fetcher = kafka.fetcher(&[]);
    fetcher.warm(&[topic.clone(), "^regex".into()]);
    let mut queue = fetcher.queue().unwrap();
    queue.add(assignment(7, 3, &topic, 0), Position::Beginning).unwrap();
    let records = records(&mut *queue, 5).await;
    let seen: Vec<_> = records.iter().map(|r| (r.offset(), r.key(), r.value())).collect();
    let expected: [(i64, Bytes<'_>, Bytes<'_>); 5] = [
        (0, Some(b"k"), Some(b"v")),
        (1, None, None),
        (2, Some(b""), Some(b"")),
        (3, Some(b"k"), Some(b"with headers")),
        (4, Some(b"k"), Some(b"last")),
    ];
    assert_eq!(seen, expected);
    assert_eq!(records[3].timestamp_millis(), Some(1_234_567_890_123));
    assert!(records[0].timestamp_millis().is_some());
    let headers: Vec<_> = records[3].headers().collect();
    let expected: [(&[u8], Bytes<'_>); 4] =
        [(b"a", Some(b"1")), (b"a", None), (b"b", Some(b"")), (&[0xff, 0xfe], Some(&[0, 1, 2]))];
    assert_eq!(headers, expected);
    assert_eq!(records[4].headers().count(), 0);
    assert_eq!((records[0].assignment().id, records[0].assignment().epoch), (PartitionId(7), Epoch(3)));

    drop(queue);
    fetcher.close().await.unwrap();
    assert!(fetcher.queue().is_err());
    // Nothing borrows the client.
    assert_eq!(records[4].value(), Some(&b"last"[..]));
}

async fn a_held_partition_is_not_served_and_loses_nothing(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    for partition in 0..2 {
        kafka.fill(&topic, partition, 3_000).await;
    }
    let fetcher = kafka.fetcher(&[]);
    let mut queue = fetcher.queue().unwrap();
    queue.add(assignment(0, 1, &topic, 0), Position::Beginning).unwrap();
    let first = records(&mut *queue, 1).await;
    queue.hold(PartitionId(0));
    queue.add(assignment(1, 1, &topic, 1), Position::Beginning).unwrap();
    let other = records(&mut *queue, 3_000).await;
    assert!(other.iter().all(|r| r.partition() == 1));
    assert!(poll_fn(|cx| Poll::Ready(queue.poll_fetch(cx).is_pending())).await);
    queue.release(PartitionId(0));
    let rest = records(&mut *queue, 3_000 - first.len()).await;
    let offsets: Vec<i64> = first.iter().chain(&rest).map(Record::offset).collect();
    assert_eq!(offsets, (0..3_000).collect::<Vec<_>>());
}

async fn nothing_of_a_removed_partition_comes(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    for partition in 0..2 {
        kafka.fill(&topic, partition, 2_000).await;
    }
    let fetcher = kafka.fetcher(&[]);
    let mut queue = fetcher.queue().unwrap();
    for round in 0..20 {
        queue.add(assignment(0, 2 * round, &topic, 0), Position::Beginning).unwrap();
        records(&mut *queue, 1).await;
        // Moved while more of it waits: what comes next is from the new place and of the new epoch.
        queue.add(assignment(0, 2 * round + 1, &topic, 0), Position::Offset(1_990)).unwrap();
        let moved = records(&mut *queue, 10).await;
        assert_eq!(moved.iter().map(Record::offset).collect::<Vec<_>>(), (1_990..2_000).collect::<Vec<_>>());
        assert!(moved.iter().all(|r| r.assignment().epoch == Epoch(2 * round + 1)));
        queue.remove(PartitionId(0));
    }
    queue.add(assignment(1, 1, &topic, 1), Position::Beginning).unwrap();
    assert!(records(&mut *queue, 2_000).await.iter().all(|r| r.partition() == 1));
    assert!(poll_fn(|cx| Poll::Ready(queue.poll_fetch(cx).is_pending())).await);
}

async fn single_records_are_read_again_beside_the_progress(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    kafka.fill(&topic, 0, 20_000).await;
    let fetcher = kafka.fetcher(&[]);
    let mut queue = fetcher.queue().unwrap();
    queue.add(assignment(0, 1, &topic, 0), Position::Beginning).unwrap();
    assert!(queue.reread(PartitionId(9), &[1]).is_err());
    let (mut read, mut again, mut gone, mut asked) = (0, Vec::new(), Vec::new(), 0);
    while read < 20_000 || again.len() + gone.len() < asked {
        match next(&mut *queue).await {
            Fetched::Batch(batch) => {
                assert_eq!(batch.record(0).offset(), read);
                read += batch.len() as i64;
                // Three times, the first before the answer of the one before can have come: near, far, and no more.
                let offsets: &[i64] = match asked {
                    0 => &[5, 7, 19_990],
                    3 => &[3, 6, 12_000],
                    6 => &[19_999, 20_000, 1_000_000],
                    _ => continue,
                };
                queue.reread(PartitionId(0), offsets).unwrap();
                asked += offsets.len();
                queue.hold(PartitionId(0));
                queue.release(PartitionId(0));
            }
            Fetched::Reread { id, epoch, batch, missing } => {
                assert_eq!((id, epoch), (PartitionId(0), Epoch(1)));
                gone.extend(missing);
                for i in 0..batch.as_ref().map_or(0, |b| b.len() as u32) {
                    let record = batch.as_ref().unwrap().record(i);
                    assert_eq!(record.value(), Some(format!("v{}", record.offset()).as_bytes()));
                    again.push(record.offset());
                }
            }
            other => panic!("{other:?}"),
        }
    }
    again.sort_unstable();
    gone.sort_unstable();
    assert_eq!((again, gone), (vec![3, 5, 6, 7, 12_000, 19_990, 19_999], vec![20_000, 1_000_000]));
}

async fn what_is_to_be_read_again_survives_a_move(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    kafka.fill(&topic, 0, 1_000).await;
    let mut queue = kafka.fetcher(&[]).queue().unwrap();
    queue.add(assignment(0, 1, &topic, 0), Position::Offset(0)).unwrap();
    records(&mut *queue, 1_000).await;
    let asked: Vec<i64> = (0..1_000).step_by(3).chain([2_000]).collect();
    queue.reread(PartitionId(0), &asked).unwrap();
    let mut answered = Vec::new();
    while answered.len() < asked.len() {
        // As after a failure that passes; at first before any answer, then between two.
        queue.add(assignment(0, 1, &topic, 0), Position::Offset(1_000)).unwrap();
        let Fetched::Reread { batch, missing, .. } = next(&mut *queue).await else { panic!("not an answer") };
        answered.extend(missing);
        answered.extend(batch.iter().flat_map(|b| (0..b.len() as u32).map(|i| b.record(i).offset())));
    }
    answered.sort_unstable();
    assert_eq!(answered, asked);
    // Another assignment has asked for nothing.
    queue.reread(PartitionId(0), &[1]).unwrap();
    queue.add(assignment(0, 2, &topic, 0), Position::Offset(999)).unwrap();
    assert_eq!(records(&mut *queue, 1).await[0].offset(), 999);
}

async fn out_of_range_stops_one_partition_only(kafka: Kafka) {
    let topic = kafka.topic(2).await;
    for partition in 0..2 {
        kafka.fill(&topic, partition, 10).await;
    }
    let fetcher = kafka.fetcher(&[]);
    let mut queue = fetcher.queue().unwrap();
    queue.add(assignment(0, 1, &topic, 0), Position::Offset(1_000)).unwrap();
    match next(&mut *queue).await {
        Fetched::Stopped { id: PartitionId(0), epoch: Epoch(1), failure: FetchFailure::OutOfRange { position } } => {
            assert_eq!(position, Some(1_000));
        }
        other => panic!("{other:?}"),
    }
    queue.add(assignment(1, 1, &topic, 1), Position::Beginning).unwrap();
    assert!(records(&mut *queue, 10).await.iter().all(|r| r.partition() == 1));
    queue.add(assignment(0, 2, &topic, 0), Position::Offset(9)).unwrap();
    assert_eq!(records(&mut *queue, 1).await[0].offset(), 9);
    kafka.fill(&topic, 1, 1).await;
    assert_eq!(records(&mut *queue, 1).await[0].partition(), 1);
}

async fn batches_are_of_bounded_size_and_a_large_record_is_alone(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let producer = kafka.producer(&[]);
    let large = "x".repeat(600_000);
    let mut sent: Vec<_> = (0..2_000).map(|_| outgoing(&topic, 0, "k", &"y".repeat(500))).collect();
    sent.insert(1_000, outgoing(&topic, 0, "k", &large));
    send(&*producer, sent).await;
    let fetcher = kafka.fetcher(&[]);
    let mut queue = fetcher.queue().unwrap();
    queue.add(assignment(0, 1, &topic, 0), Position::Beginning).unwrap();
    let mut read = 0;
    while read < 2_001 {
        let Fetched::Batch(batch) = next(&mut *queue).await else { panic!("not a batch") };
        let payload: usize =
            (0..batch.len() as u32).map(|i| batch.record(i)).map(|r| 1 + r.value().map_or(0, <[u8]>::len)).sum();
        assert!(payload <= 256 * 1024 || batch.len() == 1, "{payload} bytes in {} records", batch.len());
        // One allocation, no larger than need be.
        assert!(batch.pinned_bytes() <= payload + batch.len() * 64, "{} for {payload}", batch.pinned_bytes());
        read += batch.len();
    }
}

async fn partitions_that_come_later_are_read(kafka: Kafka) {
    let topic = kafka.topic(1).await;
    let fetcher = kafka.fetcher(&[]);
    let mut queue = fetcher.queue().unwrap();
    queue.add(assignment(0, 1, &topic, 0), Position::Beginning).unwrap();
    // An empty partition yields nothing, and wakes its reader when something comes.
    let ((), got) = futures_util::future::join(kafka.fill(&topic, 0, 3), records(&mut *queue, 3)).await;
    assert_eq!(got.iter().map(Record::offset).collect::<Vec<_>>(), [0, 1, 2]);
}
