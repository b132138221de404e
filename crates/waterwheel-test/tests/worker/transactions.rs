//! Transactions that take a consumer's offsets along: what was read is written once, whatever happens in between.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;
use waterwheel::{Client, Consumer, ProducerRecord, Remedy, Start, TopicPartition, TransactionalProducer, WorkerState};
use waterwheel_test::{Cluster, Lasts, Request};

use crate::support::{Dice, eventually, fill, run};

const PATIENCE: Duration = Duration::from_secs(30);

fn consumer(client: &Client) -> Consumer {
    client.consumer("g").topic("t").commit_in_transactions().start().unwrap()
}

async fn producer(client: &Client, id: &str) -> TransactionalProducer {
    client.transactional_producer(id).connect(PATIENCE).await.unwrap()
}

/// What the output says of each record of the input: `partition/offset`, and how often.
fn written(cluster: &Cluster) -> BTreeMap<String, usize> {
    let mut written = BTreeMap::new();
    for record in cluster.records("out") {
        *written.entry(String::from_utf8(record.value().unwrap().to_vec()).unwrap()).or_default() += 1;
    }
    written
}

/// How a transaction of [`turn`] is to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Commit,
    Abort,
    Drop,
    /// Nobody waits for the commit.
    Forget,
    /// Nobody waits for the first commit for longer than that, then it is called again.
    Again(Duration),
}

/// One transaction: copies up to five records. How many, or what is to be done about a failure.
async fn turn(producer: &mut TransactionalProducer, consumer: &mut Consumer, end: End) -> Result<usize, Remedy> {
    let handle = (**consumer).clone();
    let mut transaction = producer.begin_with(&handle, PATIENCE).await.map_err(|e| e.remedy())?;
    let mut copied = 0;
    while copied < 5
        && let Ok(Some(delivery)) = timeout(Duration::from_millis(500), consumer.recv()).await
    {
        let place = format!("{}/{}", delivery.partition(), delivery.offset());
        if transaction.send(ProducerRecord::to("out").value(place)).await.is_err() {
            break;
        }
        delivery.finish();
        copied += 1;
    }
    if let End::Again(after) = end {
        let _ = timeout(after, transaction.commit(PATIENCE)).await;
    }
    match end {
        End::Commit | End::Again(_) => match transaction.commit(PATIENCE).await {
            Ok(()) => Ok(copied),
            Err(failure) => {
                println!("{failure}");
                Err(failure.remedy())
            }
        },
        End::Abort => transaction.abort(PATIENCE).await.map(|()| 0).map_err(|e| e.remedy()),
        End::Drop => Ok(0),
        End::Forget => {
            let _ = timeout(Duration::from_micros(1), transaction.commit(PATIENCE)).await;
            Ok(0)
        }
    }
}

#[test]
fn what_was_not_committed_comes_again_and_what_was_does_not() {
    run(async {
        let cluster = Cluster::new().topic("t", 3).topic("out", 1);
        cluster.slow(Request::EndTransaction, Duration::from_millis(3));
        fill(&cluster, 300).await;
        let client = cluster.host().client();
        let (mut consumer, mut producer) = (consumer(&client), producer(&client, "one").await);
        cluster.slow(Request::AddOffsets, Duration::from_millis(3));
        let mut ends = [End::Drop, End::Commit, End::Abort, End::Commit, End::Forget].to_vec();
        // Each of its awaits is met.
        ends.extend((0..10).map(|ms| End::Again(Duration::from_millis(ms))));
        let mut ends = ends.into_iter().cycle();
        let mut copied = 0;
        while written(&cluster).len() < 300 {
            match turn(&mut producer, &mut consumer, ends.next().unwrap()).await {
                Ok(more) => copied += more,
                Err(remedy) => assert_eq!(remedy, Remedy::Abort),
            }
        }
        assert!(copied > 0, "none was committed in order");
        assert!(written(&cluster).values().all(|times| *times == 1), "{:?}", written(&cluster));
        assert_eq!(turn(&mut producer, &mut consumer, End::Commit).await, Ok(0));
        cluster.assert_finished("g", "t").await;
        let report = consumer.close().await.unwrap();
        assert!(report.is_clean(), "{report:?}");
    });
}

#[test]
fn a_partition_lost_in_mid_transaction_makes_it_one_that_can_only_be_aborted() {
    run(async {
        let cluster = Cluster::new().topic("t", 2).topic("out", 1);
        fill(&cluster, 10).await;
        let host = cluster.host();
        let client = host.client();
        let (mut consumer, mut producer) = (consumer(&client), producer(&client, "one").await);
        let handle = (*consumer).clone();
        {
            let mut transaction = producer.begin_with(&handle, PATIENCE).await.unwrap();
            let delivery = consumer.recv().await.unwrap();
            transaction.send(ProducerRecord::to("out").value("lost")).await.unwrap();
            delivery.finish();
            let before = cluster.generation("g");
            cluster.throw_out("g", &host);
            eventually("it to be back", || {
                cluster.generation("g") > before && !cluster.assigned("g", &host).is_empty()
            })
            .await;
            let failure = transaction.commit(PATIENCE).await.unwrap_err();
            assert_eq!(failure.remedy(), Remedy::Abort);
            assert!(failure.to_string().contains("left while the transaction had work of it"), "{failure}");
        }
        while written(&cluster).len() < 10 {
            turn(&mut producer, &mut consumer, End::Commit).await.unwrap();
        }
        assert!(written(&cluster).iter().all(|(place, times)| *times == 1 && place != "lost"));
    });
}

#[test]
fn a_consumer_stopped_in_mid_transaction_makes_it_one_that_can_only_be_aborted() {
    run(async {
        let cluster = Cluster::new().topic("t", 2).topic("out", 1);
        fill(&cluster, 10).await;
        let client = cluster.host().client();
        let (mut consumer, mut producer) = (consumer(&client), producer(&client, "one").await);
        let handle = (*consumer).clone();
        {
            let mut transaction = producer.begin_with(&handle, PATIENCE).await.unwrap();
            let delivery = consumer.recv().await.unwrap();
            transaction.send(ProducerRecord::to("out").value("of before the stop")).await.unwrap();
            delivery.finish();
            assert!(consumer.worker().stop_and_wait(PATIENCE).await);
            consumer.worker().start();
            assert!(consumer.worker().wait_for(WorkerState::Consuming, PATIENCE).await);
            let failure = transaction.commit(PATIENCE).await.unwrap_err();
            assert_eq!(failure.remedy(), Remedy::Abort);
            assert!(failure.to_string().contains("stopped since the transaction began"), "{failure}");
        }
        while written(&cluster).len() < 10 {
            turn(&mut producer, &mut consumer, End::Commit).await.unwrap();
        }
        assert!(written(&cluster).iter().all(|(place, times)| *times == 1 && !place.contains("stop")));
    });
}

#[test]
fn partitions_that_leave_in_order_leave_with_the_transaction_that_has_their_work() {
    run(async {
        let cluster = Cluster::new().topic("t", 2).topic("out", 1);
        fill(&cluster, 20).await;
        let (one, two) = (cluster.host(), cluster.host());
        let client = one.client();
        let (mut consumer, mut producer) = (consumer(&client), producer(&client, "one").await);
        let handle = (*consumer).clone();
        let mut transaction = producer.begin_with(&handle, PATIENCE).await.unwrap();
        for _ in 0..20 {
            let delivery = consumer.recv().await.unwrap();
            let place = format!("{}/{}", delivery.partition(), delivery.offset());
            transaction.send(ProducerRecord::to("out").value(place)).await.unwrap();
            delivery.finish();
        }
        let other = two.client().consumer("g").topic("t").commit_in_transactions().start().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(cluster.assigned("g", &two).is_empty(), "they wait for the transaction");
        transaction.commit(PATIENCE).await.unwrap();
        drop(transaction);
        eventually("the other's share", || cluster.assigned("g", &two).len() == 1).await;
        cluster.assert_finished("g", "t").await;
        assert_eq!(written(&cluster).values().sum::<usize>(), 20);
        assert!(other.close().await.unwrap().is_clean());
    });
}

#[test]
fn a_consumer_that_commits_by_itself_is_refused_and_one_that_does_not_says_so() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("out", 1);
        let client = cluster.host().client();
        let mut producer = producer(&client, "one").await;
        let by_itself = client.consumer("other").topic("t").start().unwrap();
        let failure = producer.begin_with(&by_itself, PATIENCE).await.map(|_| ()).unwrap_err();
        assert_eq!(
            failure.error().to_string(),
            "consumer: commits by itself, not in transactions; build it with commit_in_transactions()"
        );
        let consumer = consumer(&client);
        for refused in [consumer.commit().await, consumer.reset(&TopicPartition::new("t", 0), Start::Latest).await] {
            let error = refused.unwrap_err();
            assert!(error.to_string().contains("has its offsets committed by transactions"), "{error}");
        }
        let uncommitted = Client::builder().property("isolation.level", "read_uncommitted");
        let client = cluster.host().client_with(uncommitted);
        let refused = client.consumer("g").topic("t").commit_in_transactions().start().unwrap_err();
        assert!(refused.to_string().starts_with("isolation.level: is read_uncommitted"), "{refused}");
        // As the first call of all, a transaction that is part of nothing. Nobody waits for what is enqueued but its commit.
        let mut transaction = producer.begin(PATIENCE).await.unwrap();
        (0..100).for_each(|n| drop(transaction.enqueue(ProducerRecord::to("out").value(n.to_string())).unwrap()));
        transaction.commit(PATIENCE).await.unwrap();
        drop(transaction);
        assert_eq!(written(&cluster).len(), 100);
        let transaction = producer.begin(PATIENCE).await.unwrap();
        drop(transaction.enqueue(ProducerRecord::to("out").value("aborted")).unwrap());
        drop(transaction);
        producer.begin(PATIENCE).await.unwrap().commit(PATIENCE).await.unwrap();
        assert_eq!(written(&cluster).len(), 100);
    });
}

#[test]
fn a_seek_is_committed_with_the_next_transaction() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("out", 1);
        fill(&cluster, 20).await;
        let client = cluster.host().client();
        let (mut consumer, mut producer) = (consumer(&client), producer(&client, "one").await);
        assert_eq!(turn(&mut producer, &mut consumer, End::Commit).await, Ok(5));
        let partition = TopicPartition::new("t", 0);
        consumer.seek(&partition, Start::Offset(18)).await.unwrap();
        assert_eq!(cluster.committed("g", "t", 0).unwrap().offset, 5);
        assert_eq!(turn(&mut producer, &mut consumer, End::Commit).await, Ok(2));
        assert_eq!(cluster.committed("g", "t", 0).unwrap().offset, 20);
        assert_eq!(written(&cluster).len(), 7);
    });
}

#[test]
fn a_failed_send_makes_the_transaction_one_that_can_only_be_aborted() {
    run(async {
        let cluster = Cluster::new().topic("out", 1);
        let client = cluster.host().client();
        let mut producer = client.transactional_producer("one").with("message.max.bytes", "1000");
        producer = producer.transaction_timeout(Duration::from_secs(5));
        let mut producer = producer.connect(PATIENCE).await.unwrap();
        for refused in [ProducerRecord::to("out").value([0; 2_000]), ProducerRecord::to("no topic's name")] {
            let mut transaction = producer.begin(PATIENCE).await.unwrap();
            transaction.send(ProducerRecord::to("out").value("v")).await.unwrap();
            transaction.send(refused).await.unwrap_err();
            assert_eq!(transaction.commit(PATIENCE).await.unwrap_err().remedy(), Remedy::Abort);
        }
        assert!(written(&cluster).is_empty());
        // Open for too long: the cluster aborts it, and its producer is over.
        let mut transaction = producer.begin(PATIENCE).await.unwrap();
        transaction.send(ProducerRecord::to("out").value("v")).await.unwrap();
        tokio::time::sleep(Duration::from_secs(6)).await;
        let failure = transaction.commit(PATIENCE).await.unwrap_err();
        assert!(failure.remedy() == Remedy::Fenced && failure.took_too_long(), "{failure}");
        drop(transaction);
        assert_eq!(producer.begin(PATIENCE).await.map(|_| ()).unwrap_err().remedy(), Remedy::Fenced);
        assert!(written(&cluster).is_empty());
    });
}

/// Members come and go, are thrown out, cut off and fenced; requests fail; each record is written once.
#[test]
fn no_storm_makes_a_record_written_twice_or_not_at_all() {
    let seeds = std::env::var("STORM_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = seeds.map_or(0..12, |seed| seed..seed + 1);
    for seed in seeds {
        println!("STORM_SEED={seed}");
        run(storm(seed));
    }
}

async fn storm(seed: u64) {
    let mut dice = Dice(seed);
    let cluster = Cluster::new().topic("t", 4).topic("out", 2);
    cluster.slow(Request::EndTransaction, Duration::from_millis(2));
    cluster.slow(Request::AddOffsets, Duration::from_millis(2));
    fill(&cluster, 300).await;
    let hosts: Vec<_> = (0..3).map(|_| cluster.host()).collect();
    let members: Vec<_> = hosts
        .iter()
        .enumerate()
        .map(|(number, host)| {
            let (client, mut dice) = (host.client(), Dice(seed * 31 + number as u64));
            async move {
                let id = format!("member-{number}");
                loop {
                    let mut consumer = consumer(&client);
                    let mut producer = match client.transactional_producer(&id).connect(PATIENCE).await {
                        Ok(producer) => producer,
                        Err(_) => continue,
                    };
                    // A while, then both die as they are.
                    for _ in 0..3 + dice.below(20) {
                        let end = match dice.below(10) {
                            0 => End::Abort,
                            1 => End::Drop,
                            2 => End::Forget,
                            3 => End::Again(Duration::from_millis(dice.below(8))),
                            _ => End::Commit,
                        };
                        match turn(&mut producer, &mut consumer, end).await {
                            Ok(_) | Err(Remedy::Abort | Remedy::Retry) => {}
                            Err(_) => break,
                        }
                    }
                }
            }
        })
        .collect();
    let weather = async {
        for _ in 0..40 {
            tokio::time::sleep(Duration::from_millis(dice.below(3_000))).await;
            let host = &hosts[dice.below(3) as usize];
            match dice.below(6) {
                0 => cluster.rebalance("g"),
                1 => cluster.throw_out("g", host),
                2 => cluster.fail(Request::EndTransaction, 16, Lasts::Times(3)),
                3 => cluster.fail(Request::AddOffsets, 22, Lasts::Times(1)),
                4 => {
                    host.cut_off_from_groups();
                    tokio::time::sleep(Duration::from_secs(dice.below(60))).await;
                    host.heal();
                }
                _ => {}
            }
        }
        eventually("all to be written", || written(&cluster).len() == 300).await;
    };
    tokio::select! {
        () = weather => {}
        _ = futures_util::future::join_all(members) => {}
    }
    let twice: Vec<_> = written(&cluster).into_iter().filter(|(_, times)| *times != 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
