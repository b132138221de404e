//! Futures dropped at every await: nothing is lost, doubled or left hanging.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use waterwheel::{Consumer, Start, TopicPartition};
use waterwheel_test::Cluster;

use crate::support::{fill, run};

/// Polls a future up to so many times, with time passing in between, then drops it. What it gave, if it ended.
async fn dropped_after<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    for _ in 0..polls {
        let polled = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await;
        if let Poll::Ready(value) = polled {
            return Some(value);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}

async fn rest(consumer: &mut Consumer, mut seen: Vec<i64>, count: usize) -> Vec<i64> {
    while seen.len() < count {
        let delivery = consumer.recv().await.expect("the consumer runs");
        seen.push(delivery.offset());
        delivery.finish();
    }
    seen.sort_unstable();
    seen
}

#[test]
fn what_is_received_by_a_dropped_future_comes_to_the_next_one() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        fill(&cluster, 200).await;
        let mut consumer = cluster.client().consumer("g").topic("t").max_unfinished(7).start().unwrap();
        let mut seen = Vec::new();
        for round in 0..400 {
            if let Some(delivery) = dropped_after(round % 4, consumer.recv()).await {
                let delivery = delivery.expect("the consumer runs");
                seen.push(delivery.offset());
                delivery.finish();
            }
        }
        let seen = rest(&mut consumer, seen, 200).await;
        assert_eq!(seen, (0..200).collect::<Vec<_>>());
        consumer.close().await.unwrap();
        cluster.assert_committed("g", "t", 0, 200).await;
    });
}

#[test]
fn questions_and_orders_that_are_dropped_leave_the_consumer_as_it_was_or_carry_them_out() {
    run(async {
        for polls in 0..12 {
            let cluster = Cluster::new().topic("t", 1);
            fill(&cluster, 50).await;
            let mut consumer = cluster.client().consumer("g").topic("t").max_unfinished(10).start().unwrap();
            let first = consumer.recv().await.expect("the consumer runs");
            let place = TopicPartition::new("t", 0);
            dropped_after(polls, consumer.commit()).await;
            dropped_after(polls, consumer.committed(std::slice::from_ref(&place))).await;
            dropped_after(polls, consumer.mark(&place, -1)).await;
            dropped_after(polls, consumer.pause(std::slice::from_ref(&place))).await;
            consumer.resume(std::slice::from_ref(&place)).await.unwrap();
            dropped_after(polls, consumer.lag()).await;
            dropped_after(polls, consumer.watermarks(&place)).await;
            // To where it is: carried out or not, everything from there on comes.
            dropped_after(polls, consumer.seek(&place, Start::Offset(0))).await;
            dropped_after(polls, consumer.worker().snapshot()).await;
            dropped_after(polls, consumer.worker().stop_and_wait(Duration::ZERO)).await;
            consumer.worker().start();
            first.finish();
            // Answers that nobody waits for hold nothing up.
            consumer.reset(&place, Start::Earliest).await.unwrap();
            let seen = rest(&mut consumer, Vec::new(), 50).await;
            assert_eq!(seen, (0..50).collect::<Vec<_>>(), "{polls} polls");
            consumer.close().await.unwrap();
            cluster.assert_committed("g", "t", 0, 50).await;
        }
    });
}

#[test]
fn a_history_whose_waiters_are_dropped_is_caught_up_for_the_others() {
    run(async {
        for polls in 0..6 {
            let cluster = Cluster::new().topic("t", 2);
            fill(&cluster, 20).await;
            let history = cluster.client().history("t");
            let history =
                history.handler(|_: waterwheel::Message<waterwheel::Raw>| async { Ok::<_, waterwheel::Failure>(()) });
            let history = history.build().unwrap();
            let handle = history.handle();
            let others = handle.clone();
            let waits = async {
                dropped_after(polls, others.caught_up()).await;
                assert!(others.caught_up().await);
            };
            assert_eq!(history.run_until(waits).await.unwrap().counts.succeeded, 20);
            assert!(handle.caught_up().await, "after the fact");
        }
    });
}
