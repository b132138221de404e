//! Which records wait for each other (promise R2, invariant I2 seen from outside).

use std::collections::HashMap;
use std::time::Duration;

use waterwheel::{Failure, Message, Order, Raw, Retry};

use crate::support::{Diary, Gate, Seen, boxed, eventually, fill, record, run, send, start, topic, worker_on};

/// First attempts, and every record's last end, in offset order for each key.
fn keys_are_in_order(diary: &Diary) {
    let mut ends: HashMap<(i32, Option<String>), i64> = HashMap::new();
    for Seen { partition, offset, key, .. } in diary.done() {
        let before = ends.insert((partition, key.clone()), offset);
        assert!(before.is_none_or(|before| before < offset), "{key:?}: {offset} after {before:?}");
    }
}

#[test]
fn a_key_that_fails_waits_in_order_while_the_others_go_on() {
    run(async {
        let topic = topic(2);
        // Keys 0 to 9, twelve records each; key 0 fails at every record until the gate opens.
        send((0..120).map(|i| record(&topic, i % 2, format!("k{}", (i / 2) % 10), ""))).await;
        let (diary, gate) = (Diary::default(), Gate::closed());
        let (mine, fails) = (diary.clone(), gate.clone());
        let handler = move |m: Message<Raw>| {
            let (attempt, fails) = (mine.begin(&m), fails.clone());
            async move {
                tokio::task::yield_now().await;
                let is_open = tokio::time::timeout(Duration::ZERO, fails.pass()).await.is_ok();
                if m.key() == Some(b"k0") && !is_open {
                    attempt.failed();
                    return Err(Failure::retry("not yet"));
                }
                attempt.done();
                Ok(())
            }
        };
        let retry = Retry::fixed(Duration::from_millis(5)).forever();
        let running = start(worker_on(&topic).retry(retry).handler(boxed(handler)).build().unwrap());
        eventually("all other keys", || diary.count() == 108).await;
        assert!(diary.done().iter().all(|s| s.key.as_deref() != Some("k0")));
        eventually("some retries", || diary.begun().iter().filter(|s| s.attempt > 2).count() > 2).await;
        // Only the head of the key is tried, in each partition.
        let heads: Vec<_> = diary.begun().into_iter().filter(|s| s.key.as_deref() == Some("k0")).collect();
        assert!(heads.iter().all(|s| s.offset == 0), "{heads:?}");
        gate.open();
        eventually("all", || diary.count() == 120).await;
        keys_are_in_order(&diary);
        let report = running.stop().await;
        assert_eq!(report.counts.succeeded, 120);
        assert_eq!(report.counts.attempts, report.counts.succeeded + report.counts.retried);
    });
}

#[test]
fn attempts_of_a_key_never_overlap() {
    run(async {
        let topic = topic(1);
        fill(&topic, 200, |i| format!("k{}", i % 4)).await;
        let diary = Diary::default();
        let mine = diary.clone();
        let handler = move |m: Message<Raw>| {
            let attempt = mine.begin(&m);
            async move {
                for _ in 0..m.offset() % 5 {
                    tokio::task::yield_now().await;
                }
                if m.offset() % 7 == 0 && m.attempt() < 3 {
                    attempt.failed();
                    anyhow::bail!("for now");
                }
                attempt.done();
                Ok(())
            }
        };
        let retry = Retry::fixed(Duration::from_millis(1));
        let running = start(worker_on(&topic).retry(retry).handler(boxed(handler)).build().unwrap());
        eventually("all", || diary.count() == 200).await;
        running.stop().await;
        keys_are_in_order(&diary);
        assert!(diary.peak() <= 4, "{} attempts at once, with four keys", diary.peak());
    });
}

#[test]
fn order_by_partition_runs_one_record_at_a_time_and_waits_for_its_retries() {
    run(async {
        let topic = topic(1);
        fill(&topic, 50, |i| format!("k{i}")).await;
        let diary = Diary::default();
        let mine = diary.clone();
        let handler = move |m: Message<Raw>| {
            let attempt = mine.begin(&m);
            async move {
                tokio::task::yield_now().await;
                if m.offset() == 10 && m.attempt() < 3 {
                    attempt.failed();
                    anyhow::bail!("for now");
                }
                attempt.done();
                Ok(())
            }
        };
        let worker = worker_on(&topic).order(Order::Partition).retry(Retry::fixed(Duration::from_millis(1)));
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        eventually("all", || diary.count() == 50).await;
        running.stop().await;
        assert_eq!(diary.offsets(), (0..50).collect::<Vec<_>>());
        assert_eq!(diary.peak(), 1);
    });
}

#[test]
fn without_order_records_of_one_key_run_side_by_side() {
    run(async {
        let topic = topic(1);
        fill(&topic, 8, |_| "same".to_owned()).await;
        let (diary, gate) = (Diary::default(), Gate::closed());
        let (mine, pass) = (diary.clone(), gate.clone());
        let handler = move |m: Message<Raw>| {
            let (attempt, pass) = (mine.begin(&m), pass.clone());
            async move {
                pass.pass().await;
                attempt.done();
                anyhow::Ok(())
            }
        };
        let running = start(worker_on(&topic).order(Order::None).handler(boxed(handler)).build().unwrap());
        eventually("all at once", || diary.running() == 8).await;
        gate.open();
        eventually("all", || diary.count() == 8).await;
        running.stop().await;
    });
}

#[test]
fn records_without_a_key_run_side_by_side_and_those_with_an_empty_key_do_not() {
    run(async {
        let topic = topic(1);
        let null = || waterwheel::ProducerRecord::to(&*topic).partition(0).value("");
        send((0..4).flat_map(|_| [null(), null().key("")])).await;
        let (diary, gate) = (Diary::default(), Gate::closed());
        let (mine, pass) = (diary.clone(), gate.clone());
        let handler = move |m: Message<Raw>| {
            let (attempt, pass) = (mine.begin(&m), pass.clone());
            async move {
                pass.pass().await;
                attempt.done();
                anyhow::Ok(())
            }
        };
        let running = start(worker_on(&topic).handler(boxed(handler)).build().unwrap());
        eventually("four without a key and one with the empty one", || diary.running() == 5).await;
        gate.open();
        eventually("all", || diary.count() == 8).await;
        keys_are_in_order_of(&diary, "");
        running.stop().await;
    });
}

fn keys_are_in_order_of(diary: &Diary, key: &str) {
    let offsets: Vec<i64> = diary.done().iter().filter(|s| s.key.as_deref() == Some(key)).map(|s| s.offset).collect();
    assert!(offsets.is_sorted(), "{offsets:?}");
}

#[test]
fn cold_keys_all_finish_while_nine_tenths_of_the_records_fail_on_one_key() {
    run(async {
        let topic = topic(1);
        fill(&topic, 5_000, |i| if i % 10 == 0 { format!("cold{i}") } else { "hot".to_owned() }).await;
        let (diary, gate) = (Diary::default(), Gate::closed());
        let (mine, mends) = (diary.clone(), gate.clone());
        let handler = move |m: Message<Raw>| {
            let (attempt, mends) = (mine.begin(&m), mends.clone());
            async move {
                let is_open = tokio::time::timeout(Duration::ZERO, mends.pass()).await.is_ok();
                if m.key() == Some(b"hot") && !is_open {
                    attempt.failed();
                    anyhow::bail!("as ever");
                }
                attempt.done();
                Ok(())
            }
        };
        // Less room than the hot key has records: most of them are kept as offsets and read again.
        let worker = worker_on(&topic).in_work_records(400).retry(Retry::fixed(Duration::from_millis(20)).forever());
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        eventually("all cold keys", || diary.count() == 500).await;
        assert!(diary.begun().iter().filter(|s| s.key.as_deref() == Some("hot")).all(|s| s.offset == 1));
        gate.open();
        eventually("the hot key too", || diary.count() == 5_000).await;
        keys_are_in_order(&diary);
        assert_eq!(running.stop().await.counts.succeeded, 5_000);
    });
}
