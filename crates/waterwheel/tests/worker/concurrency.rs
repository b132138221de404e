//! How much runs at once, and where (promise R7, invariant I6 seen from outside).

use std::time::Duration;

use waterwheel::{Event, Execution, Message, ProducerRecord, Raw};

use crate::support::{
    Diary, Gate, boxed, event, eventually, fill, gated, record, run, run_on, send, start, topic, worker_on,
};

#[test]
fn no_more_handlers_run_at_once_than_the_concurrency_allows() {
    run(async {
        for concurrency in [1, 3, 7] {
            let topic = topic(8);
            send((0..200).map(|i| record(&topic, i % 8, format!("k{i}"), ""))).await;
            let diary = Diary::default();
            let mine = diary.clone();
            let handler = move |m: Message<Raw>| {
                let attempt = mine.begin(&m);
                async move {
                    for _ in 0..3 {
                        tokio::task::yield_now().await;
                    }
                    attempt.done();
                    anyhow::Ok(())
                }
            };
            let running = start(worker_on(&topic).concurrency(concurrency).handler(boxed(handler)).build().unwrap());
            eventually("all", || diary.count() == 200).await;
            running.stop().await;
            assert!(diary.peak() <= concurrency, "{} at once, {concurrency} allowed", diary.peak());
        }
    });
}

#[test]
fn the_whole_concurrency_is_used() {
    run(async {
        let topic = topic(4);
        send((0..80).map(|i| record(&topic, i % 4, format!("k{i}"), ""))).await;
        let (diary, gate) = (Diary::default(), Gate::closed());
        let running = start(worker_on(&topic).concurrency(20).handler(boxed(gated(&diary, &gate))).build().unwrap());
        eventually("twenty at once", || diary.running() == 20).await;
        gate.open();
        eventually("all", || diary.count() == 80).await;
        assert_eq!(diary.peak(), 20);
        running.stop().await;
    });
}

/// Two shards, and one of them always has more to do than there are credits.
#[test]
fn a_partition_with_endless_work_does_not_keep_the_concurrency_from_another_shard() {
    run(async {
        let topic = topic(2);
        send((0..20_000).map(|i| record(&topic, 0, format!("k{i}"), ""))).await;
        let (diary, gate) = (Diary::default(), Gate::closed());
        let (mine, late) = (diary.clone(), gate.clone());
        let handler = move |m: Message<Raw>| {
            let attempt = mine.begin(&m);
            if m.partition() == 1 {
                late.open();
            }
            async move {
                tokio::time::sleep(Duration::from_millis(1)).await;
                attempt.done();
                anyhow::Ok(())
            }
        };
        let worker = worker_on(&topic).concurrency(2).shards(2);
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        eventually("the first partition to be busy", || diary.count() > 20).await;
        send([record(&topic, 1, "late", "")]).await;
        gate.pass().await;
        assert!(diary.count() < 20_000, "the busy partition was not busy any more: this shows nothing");
        running.stop().await;
    });
}

#[test]
fn handlers_that_work_on_the_processor_use_all_cores_although_there_is_one_partition() {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        return;
    }
    run(async {
        let topic = topic(1);
        fill(&topic, 40, |i| format!("k{i}")).await;
        let diary = Diary::default();
        let mine = diary.clone();
        let handler = move |m: Message<Raw>| {
            let mine = mine.clone();
            async move {
                let attempt = mine.begin(&m);
                spin(Duration::from_millis(50));
                attempt.done();
                anyhow::Ok(())
            }
        };
        let worker = worker_on(&topic).handler(boxed(handler)).build().unwrap();
        let mut events = worker.handle().events();
        let running = start(worker);
        event(&mut events, "spawning", |e| matches!(e, Event::Spawning).then_some(())).await;
        eventually("two at once", || diary.peak() >= 2).await;
        running.handle.close_now();
        let _ = running.ended().await.unwrap();
    });
}

#[expect(clippy::disallowed_methods, reason = "burns processor time")]
fn spin(time: Duration) {
    let began = std::time::Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

#[test]
fn handlers_that_end_at_once_are_not_spawned() {
    run_on(&mut tokio::runtime::Builder::new_current_thread(), async {
        let topic = topic(1);
        fill(&topic, 500, |i| format!("k{i}")).await;
        let diary = Diary::default();
        let (mine, tasks) = (diary.clone(), || tokio::runtime::Handle::current().metrics().num_alive_tasks());
        let most = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counted = most.clone();
        let handler = move |m: Message<Raw>| {
            counted.fetch_max(tasks(), std::sync::atomic::Ordering::Relaxed);
            mine.begin(&m).done();
            std::future::ready(anyhow::Ok(()))
        };
        let running = start(worker_on(&topic).handler(boxed(handler)).build().unwrap());
        eventually("all", || diary.count() == 500).await;
        running.stop().await;
        let most = most.load(std::sync::atomic::Ordering::Relaxed);
        assert!(most < 20, "{most} tasks: the worker's own and no handler's");
    });
}

#[test]
fn a_current_thread_runtime_will_do() {
    run_on(&mut tokio::runtime::Builder::new_current_thread(), async {
        for execution in [Execution::Inline, Execution::Spawn, Execution::Blocking] {
            let topic = topic(2);
            send((0..20).map(|i| record(&topic, i % 2, format!("k{i}"), ""))).await;
            let diary = Diary::default();
            let mine = diary.clone();
            let handler = move |m: Message<Raw>| {
                let attempt = mine.begin(&m);
                async move {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    attempt.done();
                    anyhow::Ok(())
                }
            };
            let running = start(worker_on(&topic).execution(execution).handler(boxed(handler)).build().unwrap());
            eventually("all", || diary.count() == 20).await;
            assert!(running.stop().await.is_clean());
        }
    });
}

#[test]
fn two_hundred_hung_handlers_hold_no_more_than_the_budget_and_do_not_hold_up_a_stop() {
    run(async {
        let topic = topic(4);
        // 4 MiB a partition, of which the worker may hold 2 MiB in all (and one batch a partition).
        let value = vec![7_u8; 10_000];
        send((0..1_600).map(|i| record(&topic, i % 4, format!("k{i}"), &value))).await;
        let (diary, never) = (Diary::default(), Gate::closed());
        let budget = 2 << 20;
        let worker = worker_on(&topic).concurrency(200).in_work_bytes(budget).drain_timeout(Duration::from_millis(300));
        let running = start(worker.handler(boxed(gated(&diary, &never))).build().unwrap());
        // As many as there is memory for, or two hundred.
        eventually("handlers to hang", || diary.running() >= 100).await;
        let snapshot = running.handle.snapshot().await.unwrap();
        let held: usize = snapshot.partitions.iter().map(|p| p.bytes).sum();
        assert!(held <= budget + 4 * (300 << 10), "{held} bytes held");
        let hung = diary.running();
        let report = running.stop().await;
        assert_eq!(report.cut_off.iter().map(|(_, n)| n).sum::<usize>() as u64, report.counts.cut_off);
        assert!(report.counts.cut_off >= hung as u64);
        eventually("their futures to be dropped", || diary.running() == 0).await;
        assert_eq!((diary.count(), diary.dropped() as u64), (0, report.counts.cut_off));
    });
}

#[test]
fn a_record_larger_than_the_whole_budget_is_worked_on() {
    run(async {
        let topic = topic(1);
        send((0..3).map(|i| ProducerRecord::to(&*topic).key(format!("k{i}")).value(vec![1; 600_000]))).await;
        let diary = Diary::default();
        let open = Gate::closed();
        open.open();
        let running =
            start(worker_on(&topic).in_work_bytes(1_000).handler(boxed(gated(&diary, &open))).build().unwrap());
        eventually("all", || diary.count() == 3).await;
        running.stop().await;
    });
}
