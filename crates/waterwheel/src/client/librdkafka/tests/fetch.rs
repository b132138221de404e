//! The fetch client's own.

use super::*;
use crate::client::{FetchFailure, Position};

/// Where a reader is told that the log has gone on without a record, which has to be the next item.
async fn skipped_to(queue: &mut dyn FetchQueue) -> i64 {
    loop {
        match poll_fn(|cx| queue.poll_fetch(cx)).await {
            Fetched::SkippedTo { id: PartitionId(0), epoch: Epoch(1), next } => return next,
            Fetched::Trouble { error, .. } => println!("trouble: {error}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_log_that_goes_on_without_records_is_told() {
    run(async {
        let kafka = Kafka::mock();
        let topic = kafka.topic(1).await;
        let queue = kafka.fetcher(&[]).queue();
        let mut queue = queue.unwrap();
        let marker: [(&[u8], &[u8]); 1] = [(&[0, 0, 0, 1], &[0; 6])];
        wire::append(&kafka, &topic, &wire::batch(0, wire::PLAIN, &[(b"k", b"0"), (b"k", b"1")]));
        wire::append(&kafka, &topic, &wire::batch(2, wire::CONTROL, &marker));
        queue.add(assignment(0, 1, &topic, 0), Position::Offset(0)).unwrap();
        assert_eq!(records(&mut *queue, 2).await[1].offset(), 1);
        assert_eq!(skipped_to(&mut *queue).await, 3);
        // A record tells by itself.
        wire::append(&kafka, &topic, &wire::batch(3, wire::PLAIN, &[(b"k", b"3")]));
        assert_eq!(records(&mut *queue, 1).await[0].offset(), 3);
        // Markers only, one after the other.
        for end in 5..8 {
            wire::append(&kafka, &topic, &wire::batch(end - 1, wire::CONTROL, &marker));
            assert_eq!(skipped_to(&mut *queue).await, end);
        }
        // From a place between records, and again where there is nothing but markers.
        for from in [2, 4] {
            queue.add(assignment(0, 1, &topic, 0), Position::Offset(from)).unwrap();
            if from == 2 {
                assert_eq!(records(&mut *queue, 1).await[0].offset(), 3);
            }
            assert_eq!(skipped_to(&mut *queue).await, 7);
        }
    });
}

#[test]
fn a_damaged_batch_stops_its_partition() {
    run(async {
        let kafka = Kafka::mock();
        let topic = kafka.topic(1).await;
        wire::append(&kafka, &topic, &wire::batch(0, wire::PLAIN, &[(b"k", b"0")]));
        // A bit of these is wrong.
        let mut damaged = wire::batch(1, wire::PLAIN, &[(b"k", b"1"), (b"k", b"2")]);
        *damaged.last_mut().unwrap() ^= 1;
        wire::append(&kafka, &topic, &damaged);
        wire::append(&kafka, &topic, &wire::batch(3, wire::PLAIN, &[(b"k", b"3")]));
        let mut queue = kafka.fetcher(&[]).queue().unwrap();
        queue.add(assignment(0, 1, &topic, 0), Position::Offset(0)).unwrap();
        assert_eq!(records(&mut *queue, 1).await[0].offset(), 0);
        // It may come whole the next time; here it never does.
        for _ in 0..2 {
            match next(&mut *queue).await {
                Fetched::Stopped { failure: FetchFailure::Failed(error), .. } => {
                    assert!(error.is_retriable(), "{error}");
                    assert!(error.to_string().contains("offset 1"), "{error}");
                }
                other => panic!("{other:?}"),
            }
            queue.add(assignment(0, 1, &topic, 0), Position::Offset(1)).unwrap();
        }
    });
}

#[test]
fn what_transactions_leave_at_a_logs_end_is_told() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
    run(async {
        let Some(kafka) = Kafka::real() else { return println!("no WATERWHEEL_BOOTSTRAP: not run") };
        let topic = kafka.topic(1).await;
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", &kafka.bootstrap).set("transactional.id", &topic);
        let producer: BaseProducer = config.create().unwrap();
        producer.init_transactions(Duration::from_secs(60)).unwrap();
        let transaction = |commits: bool| {
            producer.begin_transaction().unwrap();
            for _ in 0..10 {
                producer.send(BaseRecord::to(&topic).partition(0).key("k").payload("v")).unwrap();
            }
            producer.flush(Duration::from_secs(60)).unwrap();
            let patience = Duration::from_secs(60);
            if commits { producer.commit_transaction(patience) } else { producer.abort_transaction(patience) }.unwrap();
        };
        let mut queue = kafka.fetcher(&[]).queue().unwrap();
        queue.add(assignment(0, 1, &topic, 0), Position::Offset(0)).unwrap();
        // Ten records and a marker each: seen only if it commits.
        for (n, commits) in [true, false, false, true].into_iter().enumerate() {
            transaction(commits);
            let first = 11 * n as i64;
            if commits {
                let offsets: Vec<i64> = records(&mut *queue, 10).await.iter().map(Record::offset).collect();
                assert_eq!(offsets, (first..first + 10).collect::<Vec<_>>());
            }
            while skipped_to(&mut *queue).await != first + 11 {}
        }
    });
}

#[test]
fn a_cluster_that_cannot_be_reached_is_told_to_one_queue() {
    run(async {
        let properties = [("bootstrap.servers".to_owned(), "127.0.0.1:1".to_owned())].into();
        let fetcher = Librdkafka::new(None, None).fetcher(&properties).unwrap();
        let mut queue = fetcher.queue().unwrap();
        queue.add(assignment(0, 1, "t", 0), Position::Beginning).unwrap();
        match poll_fn(|cx| queue.poll_fetch(cx)).await {
            Fetched::Trouble { id: None, error } => assert!(error.is_unreachable(), "{error}"),
            other => panic!("{other:?}"),
        }
        drop(queue);
        fetcher.close().await.unwrap();
    });
}

#[test]
fn oauthbearer_needs_no_polling() {
    let properties = [
        ("bootstrap.servers", "127.0.0.1:1"),
        ("security.protocol", "sasl_plaintext"),
        ("sasl.mechanism", "OAUTHBEARER"),
        ("enable.sasl.oauthbearer.unsecure.jwt", "true"),
        ("sasl.oauthbearer.config", "principal=me"),
    ]
    .map(|(k, v)| (k.to_owned(), v.to_owned()))
    .into();
    run(async move { Librdkafka::new(None, None).fetcher(&properties).unwrap().close().await.unwrap() });
}
