//! A worker's life: drains, deadlines, stops from any state (promises R3 and R8, invariants I9 and I11 from outside).

use std::time::Duration;

use waterwheel::{
    Client, Event, Failure, HealthLevel, HoldReason, Message, OnDrainDeadline, PartitionStatus, Raw, Retry, WorkerState,
};

use crate::support::{
    Diary, Gate, PATIENCE, boxed, committed, event, eventually, fill, gated, member_of, run, spawn, start, topic,
    unique, worker_on,
};

#[test]
fn a_stop_lets_running_handlers_end_and_nothing_comes_again() {
    run(async {
        let topic = topic(1);
        fill(&topic, 100, |i| format!("k{i}")).await;
        let (diary, gate, group) = (Diary::default(), Gate::closed(), unique("group"));
        let worker = member_of(&group, &topic).concurrency(10).handler(boxed(gated(&diary, &gate))).build().unwrap();
        let running = start(worker);
        eventually("ten at once", || diary.running() == 10).await;
        running.handle.close();
        running.handle.wait_for(WorkerState::Closing, PATIENCE).await;
        let is_draining = |p: &PartitionStatus| p.held == Some(HoldReason::Draining);
        while !running.handle.snapshot().await.unwrap().partitions.iter().all(is_draining) {}
        assert!(!running.is_over());
        gate.open();
        let report = running.ended().await.unwrap();
        assert!(report.is_clean());
        assert_eq!((diary.count(), diary.dropped()), (10, 0), "what ran has ended, and nothing else was begun");

        let again = Diary::default();
        let worker = member_of(&group, &topic).handler(boxed(gated(&again, &gate))).build().unwrap();
        let running = start(worker);
        eventually("the rest", || again.count() == 90).await;
        running.stop().await;
        assert_eq!(again.begun().iter().map(|s| s.offset).min(), Some(10));
        assert_eq!(committed(&group, &topic, 0).map(|(offset, _)| offset), Some(100));
    });
}

#[test]
fn the_drain_deadline_drops_what_still_runs_and_reports_it() {
    run(async {
        let topic = topic(1);
        fill(&topic, 5, |i| format!("k{i}")).await;
        let (diary, never, group) = (Diary::default(), Gate::closed(), unique("group"));
        let worker = member_of(&group, &topic).drain_timeout(Duration::from_millis(100));
        let worker = worker.handler(boxed(gated(&diary, &never))).build().unwrap();
        let mut events = worker.handle().events();
        let running = start(worker);
        eventually("five at once", || diary.running() == 5).await;
        let report = running.stop().await;
        assert_eq!(
            report.cut_off.iter().map(|(p, n)| (p.to_string(), *n)).collect::<Vec<_>>(),
            [(format!("{topic}-0"), 5)]
        );
        assert_eq!((report.is_clean(), report.counts.cut_off, report.counts.succeeded), (false, 5, 0));
        event(&mut events, "cut off", |e| matches!(e, Event::CutOff { attempts: 5, .. }).then_some(())).await;
        eventually("the futures to be dropped", || diary.dropped() == 5).await;
        assert!(committed(&group, &topic, 0).is_none_or(|(offset, _)| offset == 0), "nothing of it is committed");

        let again = Diary::default();
        never.open();
        let running = start(member_of(&group, &topic).handler(boxed(gated(&again, &never))).build().unwrap());
        eventually("all come again", || again.count() == 5).await;
        assert!(again.begun().iter().all(|s| s.attempt == 1), "an attempt that was cut off does not count");
        running.stop().await;
    });
}

#[test]
fn abandoned_handlers_go_on_and_what_they_say_is_ignored() {
    run(async {
        let topic = topic(1);
        fill(&topic, 2, |i| format!("k{i}")).await;
        let (diary, gate, group) = (Diary::default(), Gate::closed(), unique("group"));
        let worker = worker_on(&topic).group(&group).drain_timeout(Duration::from_millis(50));
        let worker =
            worker.on_drain_deadline(OnDrainDeadline::Abandon).handler(boxed(gated(&diary, &gate))).build().unwrap();
        let running = start(worker);
        eventually("two at once", || diary.running() == 2).await;
        let report = running.stop().await;
        assert_eq!(report.counts.cut_off, 2);
        assert_eq!((diary.running(), diary.dropped()), (2, 0));
        gate.open();
        eventually("their ends", || diary.count() == 2).await;
        assert!(committed(&group, &topic, 0).is_none_or(|(offset, _)| offset == 0));
    });
}

#[test]
fn a_message_tells_that_its_partition_drains_and_until_when() {
    run(async {
        let topic = topic(1);
        fill(&topic, 1, |_| "k".to_owned()).await;
        let diary = Diary::default();
        let mine = diary.clone();
        let handler = move |m: Message<Raw>| {
            let attempt = mine.begin(&m);
            async move {
                assert!(m.deadline().is_none());
                m.cancelled().await;
                let left = m.deadline().expect("it drains").saturating_duration_since(now());
                assert!(left > Duration::from_secs(20) && left <= Duration::from_secs(30), "{left:?}");
                attempt.done();
                anyhow::Ok(())
            }
        };
        let running =
            start(worker_on(&topic).drain_timeout(Duration::from_secs(30)).handler(boxed(handler)).build().unwrap());
        eventually("it runs", || diary.running() == 1).await;
        let report = running.stop().await;
        assert_eq!((report.counts.succeeded, report.is_clean()), (1, true));
    });
}

#[expect(clippy::disallowed_methods, reason = "as a handler would")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[test]
fn a_second_close_neither_puts_the_deadline_off_nor_is_it_needed() {
    run(async {
        let topic = topic(1);
        fill(&topic, 1, |_| "k".to_owned()).await;
        let diary = Diary::default();
        let (mine, moved) = (diary.clone(), std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false)));
        let has_moved = moved.clone();
        let handler = move |m: Message<Raw>| {
            let (attempt, moved) = (mine.begin(&m), moved.clone());
            async move {
                m.cancelled().await;
                let first = m.deadline();
                tokio::time::sleep(Duration::from_millis(50)).await;
                moved.store(m.deadline() != first, std::sync::atomic::Ordering::SeqCst);
                attempt.done();
                anyhow::Ok(())
            }
        };
        let running = start(worker_on(&topic).handler(boxed(handler)).build().unwrap());
        eventually("it runs", || diary.running() == 1).await;
        running.handle.close();
        running.handle.wait_for(WorkerState::Closing, PATIENCE).await;
        (0..100).for_each(|_| running.handle.close());
        assert!(running.ended().await.unwrap().is_clean());
        assert!(!has_moved.load(std::sync::atomic::Ordering::SeqCst));
    });
}

#[test]
fn close_now_cuts_a_drain_short() {
    run(async {
        let topic = topic(1);
        fill(&topic, 3, |i| format!("k{i}")).await;
        let (diary, never) = (Diary::default(), Gate::closed());
        let worker = worker_on(&topic).drain_timeout(Duration::from_secs(3600));
        let running = start(worker.handler(boxed(gated(&diary, &never))).build().unwrap());
        eventually("three at once", || diary.running() == 3).await;
        running.handle.close();
        running.handle.wait_for(WorkerState::Closing, PATIENCE).await;
        running.handle.close_now();
        let report = running.ended().await.unwrap();
        assert_eq!(report.counts.cut_off, 3);
        eventually("the futures to be dropped", || diary.running() == 0).await;
    });
}

#[test]
fn a_waiting_retry_does_not_delay_a_stop_and_keeps_its_attempts() {
    run(async {
        let topic = topic(1);
        fill(&topic, 2, |i| format!("k{i}")).await;
        let group = unique("group");
        let handler = async |m: Message<Raw>| if m.offset() == 0 { Err(Failure::retry("no")) } else { Ok(()) };
        let worker = member_of(&group, &topic).retry(Retry::fixed(Duration::from_millis(300)).attempts(9));
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        eventually("a retry that waits", || running.handle.counts().retried == 2).await;
        assert!(running.stop().await.is_clean());

        let diary = Diary::default();
        let open = Gate::closed();
        open.open();
        let running = start(member_of(&group, &topic).handler(boxed(gated(&diary, &open))).build().unwrap());
        eventually("the failed one", || diary.count() == 1).await;
        running.stop().await;
        assert_eq!(diary.begun().iter().map(|s| (s.offset, s.attempt)).collect::<Vec<_>>(), [(0, 3)]);
    });
}

#[test]
fn a_stop_before_the_start_ends_the_worker_as_soon_as_it_runs() {
    run(async {
        let topic = topic(1);
        let worker = worker_on(&topic).handler(boxed(async |_: Message<Raw>| anyhow::Ok(()))).build().unwrap();
        let handle = worker.handle();
        assert_eq!(handle.state(), WorkerState::Initialising);
        // None of these reaches anyone yet, and none may push the stop out.
        for _ in 0..40 {
            handle.pause();
            assert!(handle.snapshot().await.is_none());
        }
        handle.close();
        assert_eq!(worker.run().await.unwrap().counts.attempts, 0);
        assert_eq!(handle.state(), WorkerState::Closed);
    });
}

#[test]
fn a_stop_while_no_broker_can_be_reached_ends_in_time_and_health_says_why() {
    run(async {
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let client = Client::new(format!("127.0.0.1:{port}")).unwrap();
        let worker = client.worker("lonely").topic("t").drain_timeout(Duration::from_secs(1));
        let worker = worker.handler(boxed(async |_: Message<Raw>| anyhow::Ok(()))).build().unwrap();
        let mut events = worker.handle().events();
        let running = start(worker);
        event(&mut events, "trouble", |e| matches!(e, Event::Trouble { .. }).then_some(())).await;
        running.handle.wait_for(WorkerState::Starting, PATIENCE).await;
        assert_eq!(running.handle.state(), WorkerState::Starting);
        let health = running.handle.health().await;
        assert_eq!(health.level, HealthLevel::Critical, "{health:?}");
        let report = tokio::time::timeout(Duration::from_secs(15), running.stop()).await.expect("within its deadline");
        assert!(report.is_clean());
    });
}

#[test]
fn dropping_the_run_future_drops_the_handlers_and_commits_nothing_more() {
    run(async {
        let topic = topic(1);
        fill(&topic, 3, |i| format!("k{i}")).await;
        let (diary, never, group) = (Diary::default(), Gate::closed(), unique("group"));
        let worker = worker_on(&topic).group(&group).property("session.timeout.ms", "6000");
        let worker = worker.handler(boxed(gated(&diary, &never))).build().unwrap();
        let handle = worker.handle();
        let running = start(worker);
        eventually("three at once", || diary.running() == 3).await;
        running.kill().await;
        eventually("their futures to be dropped", || diary.dropped() == 3).await;
        assert_eq!(handle.state(), WorkerState::Closed);
        assert_eq!(handle.health().await.level, HealthLevel::Critical);
        assert!(handle.snapshot().await.is_none());
        handle.wait_for(WorkerState::Closed, PATIENCE).await;
        assert!(committed(&group, &topic, 0).is_none());
    });
}

#[test]
fn a_worker_that_is_never_run_is_closed_when_it_is_dropped() {
    run(async {
        let worker = worker_on("never").handler(boxed(async |_: Message<Raw>| anyhow::Ok(()))).build().unwrap();
        let handle = worker.handle();
        let waiting = handle.clone();
        let waits = spawn(async move { waiting.wait_for(WorkerState::Closed, PATIENCE).await });
        drop(worker);
        tokio::time::timeout(PATIENCE, waits).await.unwrap().unwrap();
        assert_eq!(handle.state(), WorkerState::Closed);
    });
}

#[test]
fn the_states_follow_each_other() {
    run(async {
        let topic = topic(1);
        let worker = worker_on(&topic).handler(boxed(async |_: Message<Raw>| anyhow::Ok(()))).build().unwrap();
        let running = start(worker);
        running.handle.wait_for(WorkerState::Starting, PATIENCE).await;
        running.handle.wait_for(WorkerState::Consuming, PATIENCE).await;
        assert_eq!(running.handle.state(), WorkerState::Consuming);
        let health = running.handle.health().await;
        assert_eq!(health.level, HealthLevel::Ok, "{health:?}");
        let handle = running.handle.clone();
        running.stop().await;
        // Past every state; and a stop of what is over is no mistake.
        handle.wait_for(WorkerState::Starting, PATIENCE).await;
        handle.close();
        handle.close_now();
        assert_eq!(handle.health().await.level, HealthLevel::Critical);
    });
}
