//! The kit itself: what it promises to those who test with it.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt;
use waterwheel::{Failure, Message, Order, ProducerRecord, Raw, Start};
use waterwheel_test::Cluster;

use crate::support::{Gate, Journal, eventually, fill, gated, member, run, start};

async fn panic_of(assertion: impl Future) -> String {
    let caught = AssertUnwindSafe(assertion).catch_unwind().await;
    *caught.err().expect("a panic").downcast::<String>().expect("a text")
}

#[test]
fn an_assertion_that_does_not_come_true_says_what_is_there() {
    run(async {
        let cluster = Cluster::new().topic("t", 2).topic("failed", 1).patience(Duration::from_secs(5));
        cluster.produce_record(ProducerRecord::to("t").partition(1).key("k").value("secret")).await;
        cluster.commit("g", "t", 0, 0, "");
        let finished = panic_of(cluster.assert_finished("g", "t")).await;
        assert!(finished.contains("t-1: nothing committed of 1 (no member has it)"), "{finished}");
        assert!(finished.contains("kit.rs"), "{finished}");
        let committed = panic_of(cluster.assert_committed("g", "t", 0, 1)).await;
        assert!(committed.contains("committed: Some(0)"), "{committed}");
        let letters = panic_of(cluster.assert_dead_lettered("t", 2)).await;
        assert!(letters.contains("1 are there") && !letters.contains("secret"), "{letters}");
    });
}

#[test]
fn partitions_move_on_command_and_nothing_is_done_twice() {
    run(async {
        let cluster = Cluster::new().topic("t", 4);
        let (journal, gate) = (Journal::default(), Gate::closed());
        let (one, two) = (cluster.host(), cluster.host());
        let workers: Vec<_> = [&one, &two]
            .map(|host| start(member(&host.client()).handler(gated(&journal, &gate, &[])).build().unwrap()))
            .into();
        eventually("two each", || [&one, &two].iter().all(|host| cluster.assigned("g", host).len() == 2)).await;
        for round in 0..10 {
            fill(&cluster, 50).await;
            let before = cluster.assigned("g", &one);
            if round % 2 == 0 {
                cluster.rebalance("g");
                eventually("others", || {
                    let now = cluster.assigned("g", &one);
                    now.len() == 2 && now != before
                })
                .await;
            } else {
                cluster.move_to("g", "t", 0, &two);
                eventually("it to move", || cluster.assigned("g", &two).iter().any(|p| p.partition == 0)).await;
            }
        }
        cluster.assert_finished("g", "t").await;
        for worker in workers {
            assert!(worker.stop().await.is_clean());
        }
        assert_eq!((journal.done().len(), journal.entries().len()), (500, 500));
    });
}

#[test]
fn histories_producers_and_patterns_work_as_on_a_real_cluster() {
    run(async {
        let cluster = Cluster::new().topic("prices", 3);
        let transaction = cluster.begin();
        for i in 0..100 {
            cluster.produce("prices", format!("k{i}"), "1").await;
        }
        transaction.write("prices", 0, "k", "never seen");
        transaction.abort();
        let client = cluster.client();
        let history =
            client.history("prices").handler(|_: Message<Raw>| async { Ok::<_, Failure>(()) }).build().unwrap();
        let handle = history.handle();
        #[expect(clippy::disallowed_methods, reason = "a history that runs")]
        let running = tokio::spawn(history.run());
        handle.caught_up().await;
        handle.worker().close();
        assert_eq!(running.await.unwrap().unwrap().counts.succeeded, 100);

        let (journal, gate) = (Journal::default(), Gate::closed());
        let worker =
            client.worker("g").topic("^t.*").order(Order::Partition).start(Start::Ago(Duration::from_secs(60)));
        let worker = start(worker.handler(gated(&journal, &gate, &[])).build().unwrap());
        cluster.add_topic("t", 1);
        fill(&cluster, 3).await;
        cluster.assert_finished("g", "t").await;
        assert_eq!(journal.done(), [0, 1, 2]);
        worker.stop().await;
    });
}

/// The same seedless test, twice, comes to the same in the same order.
#[test]
fn a_test_runs_the_same_way_each_time() {
    let told = || {
        let journal = Journal::default();
        let writer = journal.clone();
        run(async move {
            let cluster = Cluster::new().topic("t", 3);
            fill(&cluster, 200).await;
            let handler = move |message: Message<Raw>| {
                let attempt = writer.begin(0, &message);
                async move {
                    tokio::time::sleep(Duration::from_millis(message.offset() as u64 % 7)).await;
                    attempt.done()
                }
            };
            let worker = start(member(&cluster.client()).concurrency(16).handler(handler).build().unwrap());
            cluster.assert_finished("g", "t").await;
            worker.stop().await;
        });
        journal.entries().iter().map(|e| (e.partition, e.offset)).collect::<Vec<_>>()
    };
    assert_eq!(told(), told());
}
