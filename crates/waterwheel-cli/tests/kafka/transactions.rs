//! Transactions on a real Kafka: fencing, time-outs, coordinators that die, and copies that are made once whatever ends them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use waterwheel::{Client, Consumer, ProducerRecord, Remedy, TransactionalProducer};

use crate::support::{Bytes, Cluster, Kafka, PATIENCE, aside, run, topic_name};

fn client(kafka: &Kafka) -> Client {
    Client::new(kafka.bootstrap()).expect("the address is right")
}

async fn producer(kafka: &Kafka, id: &str) -> TransactionalProducer {
    client(kafka).transactional_producer(id).connect(PATIENCE).await.expect("the id is free to take")
}

/// The values that a reader of what is committed sees, and how often.
fn values(kafka: &Kafka, topic: &str, partitions: i32) -> BTreeMap<String, usize> {
    let mut values = BTreeMap::new();
    for Bytes { value, .. } in aside(|| kafka.read_all(topic, partitions)) {
        *values.entry(String::from_utf8_lossy(&value.unwrap_or_default()).into_owned()).or_default() += 1;
    }
    values
}

/// The same as Kafka's own consumer prints it.
fn console(kafka: &Kafka, topic: &str, count: usize) -> Vec<String> {
    let count = count.to_string();
    let arguments =
        ["--topic", topic, "--from-beginning", "--isolation-level", "read_committed", "--max-messages", &count];
    let mut lines: Vec<String> = aside(|| kafka.tool("consumer", &arguments)).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

fn to(topic: &str, value: impl AsRef<[u8]>) -> ProducerRecord {
    ProducerRecord::to(topic).value(value)
}

#[test]
fn what_is_aborted_or_dropped_or_fenced_is_seen_by_nobody() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, id) = (topic_name("txn-ends"), topic_name("txn-ends-id"));
    kafka.create_topic(&topic, 1, &[]);
    run(async {
        let mut first = producer(kafka, &id).await;
        for (value, end) in [("a", 0), ("b", 1), ("c", 2), ("d", 0)] {
            let mut transaction = first.begin(PATIENCE).await.expect("a transaction");
            transaction.send_all(vec![to(&topic, value), to(&topic, value)]).await.expect("records are taken");
            match end {
                0 => transaction.commit(PATIENCE).await.expect("a commit"),
                1 => transaction.abort(PATIENCE).await.expect("an abort"),
                _ => drop(transaction),
            }
        }
        let mut transaction = first.begin(PATIENCE).await.expect("a transaction");
        transaction.send(to(&topic, "fenced")).await.expect("a record is taken");
        let mut second = producer(kafka, &id).await;
        let failure = transaction.commit(PATIENCE).await.expect_err("the id is another's");
        assert!(failure.remedy() == Remedy::Fenced && !failure.took_too_long(), "{failure}");
        assert!(transaction.send(to(&topic, "fenced")).await.is_err());
        drop(transaction);
        let failure = first.begin(PATIENCE).await.map(drop).expect_err("it is over");
        assert_eq!(failure.remedy(), Remedy::Fenced, "{failure}");
        let mut transaction = second.begin(PATIENCE).await.expect("a transaction");
        transaction.send(to(&topic, "e")).await.expect("a record is taken");
        transaction.commit(PATIENCE).await.expect("a commit");
        drop(transaction);
        let expected = [("a", 2), ("d", 2), ("e", 1)].map(|(value, times)| (value.to_owned(), times));
        assert_eq!(values(kafka, &topic, 1), expected.into());
        if Kafka::has_tools() {
            assert_eq!(console(kafka, &topic, 5), ["a", "a", "d", "d", "e"]);
            let told = aside(|| kafka.tool("transactions", &["describe", "--transactional-id", &id]));
            assert!(told.contains("CompleteCommit"), "{told}");
        }
        second.close(PATIENCE).await.expect("it ends in order");
    });
}

#[test]
fn a_transaction_open_for_too_long_is_told_apart_from_a_fenced_one() {
    let Some(kafka) = Kafka::shared() else { return };
    let (topic, id) = (topic_name("txn-late"), topic_name("txn-late-id"));
    kafka.create_topic(&topic, 1, &[]);
    run(async {
        let builder = || client(kafka).transactional_producer(&*id).transaction_timeout(Duration::from_secs(1));
        let mut slow = builder().connect(PATIENCE).await.expect("the id is free to take");
        let mut transaction = slow.begin(PATIENCE).await.expect("a transaction");
        transaction.send(to(&topic, "late")).await.expect("a record is taken");
        // Until its first record is no limit to readers any more.
        let partition = waterwheel::TopicPartition::new(&*topic, 0);
        let admin = client(kafka).admin().expect("an admin");
        loop {
            let stable = admin.offsets(vec![(partition.clone(), waterwheel::admin::OffsetSpec::Latest)]).await;
            if stable.expect("an answer").iter().any(|offset| offset.as_ref().is_ok_and(|at| *at > 0)) {
                break;
            }
        }
        let failure = transaction.commit(PATIENCE).await.expect_err("it took too long");
        assert!(failure.remedy() == Remedy::Fenced && failure.took_too_long(), "{failure}");
        drop(transaction);
        assert!(values(kafka, &topic, 1).is_empty());
        let mut next = builder().connect(PATIENCE).await.expect("the id is free to take");
        let mut transaction = next.begin(PATIENCE).await.expect("a transaction");
        transaction.send(to(&topic, "in time")).await.expect("a record is taken");
        transaction.commit(PATIENCE).await.expect("a commit");
        drop(transaction);
        assert_eq!(values(kafka, &topic, 1).len(), 1);
    });
}

#[test]
fn transactions_go_on_when_their_coordinator_dies() {
    let Some(kafka) = Cluster::of(3).start() else { return };
    let (topic, id) = (topic_name("txn-coordinator"), topic_name("txn-coordinator-id"));
    kafka.create_topic(&topic, 1, &[]);
    run(async {
        let mut producer = producer(&kafka, &id).await;
        let coordinator = aside(|| kafka.transaction_coordinator(&id));
        let mut transaction = producer.begin(PATIENCE).await.expect("a transaction");
        transaction.send(to(&topic, "before")).await.expect("a record is taken");
        aside(|| kafka.kill(coordinator));
        loop {
            match transaction.commit(PATIENCE).await {
                Ok(()) => break,
                Err(failure) => {
                    println!("{failure}");
                    assert_eq!(failure.remedy(), Remedy::Retry, "{failure}");
                }
            }
        }
        drop(transaction);
        aside(|| kafka.boot(coordinator));
        // Once more, and the transaction is aborted.
        let coordinator = aside(|| kafka.transaction_coordinator(&id));
        let transaction = producer.begin(PATIENCE).await.expect("a transaction");
        transaction.send(to(&topic, "aborted")).await.expect("a record is taken");
        aside(|| kafka.kill(coordinator));
        drop(transaction);
        let mut transaction = producer.begin(PATIENCE * 2).await.expect("the one before is aborted");
        transaction.send(to(&topic, "after")).await.expect("a record is taken");
        transaction.commit(PATIENCE * 2).await.expect("a commit");
        drop(transaction);
        aside(|| kafka.boot(coordinator));
        let expected = ["before", "after"].map(|value| (value.to_owned(), 1));
        assert_eq!(values(&kafka, &topic, 1), expected.into());
    });
}

/// Copies records from the one place to the other in so many transactions of up to 50, then ends as it is: dropped with what
/// is under way.
async fn copy(kafka: &Kafka, group: &str, id: &str, protocol: &str, places: (&str, &str), turns: usize) {
    let (from, into) = places;
    let with = |worker: waterwheel::WorkerBuilder| match protocol {
        "consumer" => worker.property("group.protocol", "consumer"),
        assignor => worker.property("partition.assignment.strategy", assignor).property("session.timeout.ms", "6000"),
    };
    let consumer = client(kafka).consumer(group).topic(from).commit_in_transactions().with(with);
    let mut consumer: Consumer = consumer.start().expect("a consumer");
    let Ok(mut producer) = client(kafka).transactional_producer(id).connect(PATIENCE).await else { return };
    for turn in 0..turns {
        let handle = (*consumer).clone();
        let Ok(mut transaction) = producer.begin_with(&handle, PATIENCE).await else { return };
        let mut deliveries = Vec::new();
        while deliveries.len() < 50
            && let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_millis(200), consumer.recv()).await
        {
            deliveries.push(delivery);
        }
        let place = |d: &waterwheel::Delivery| to(into, format!("{}/{}", d.partition(), d.offset()));
        if transaction.send_all(deliveries.iter().map(place).collect()).await.is_err() {
            continue;
        }
        deliveries.into_iter().for_each(waterwheel::Delivery::finish);
        // Some are left as they are.
        if turn % 4 == 3 {
            continue;
        }
        if let Err(failure) = transaction.commit(PATIENCE).await {
            println!("{id}: {failure}");
        }
    }
}

#[test]
fn each_record_is_copied_once_though_members_die_and_are_replaced() {
    let Some(kafka) = Kafka::shared() else { return };
    for protocol in ["range", "cooperative-sticky", "consumer"] {
        let (from, into) = (topic_name(&format!("txn-from-{protocol}")), topic_name(&format!("txn-into-{protocol}")));
        kafka.create_topic(&from, 4, &[]);
        kafka.create_topic(&into, 2, &[]);
        let record = |n: i32| Bytes { partition: n % 4, value: Some(b"v".to_vec()), ..Bytes::default() };
        kafka.produce_bytes(&from, &(0..4_000).map(record).collect::<Vec<_>>());
        let group = topic_name("txn-copy");
        let lives = AtomicUsize::new(0);
        run(async {
            let members = (0..2).map(|number| {
                let (group, from, into, lives) = (&group, &from, &into, &lives);
                async move {
                    let id = format!("{group}-{number}");
                    // Each life is longer than the one before, and ends without a word.
                    loop {
                        let life = lives.fetch_add(1, Ordering::Relaxed);
                        copy(kafka, group, &id, protocol, (from, into), 8 + 4 * life).await;
                    }
                }
            });
            let watch = async {
                while aside(|| kafka.read_all(&into, 2)).len() < 4_000 {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                () = watch => {}
                _ = futures_util::future::join_all(members) => {}
            }
        });
        let lives = lives.into_inner();
        println!("{protocol}: {lives} lives");
        assert!(lives > 2, "void: nobody died");
        let copies = kafka.read_all(&into, 2);
        let mut values: Vec<_> = copies.into_iter().filter_map(|bytes| bytes.value).collect();
        assert_eq!(values.len(), 4_000, "{protocol}: copies");
        values.sort();
        values.dedup();
        assert_eq!(values.len(), 4_000, "{protocol}: different ones");
    }
}
