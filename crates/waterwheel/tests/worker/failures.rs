//! Failures: tried again, given up, timed out, panicked (invariant I3 seen from outside).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use waterwheel::{Error, Event, Execution, Failure, FailureClass, HealthLevel, Message, OnExhausted, Raw, Retry};

use crate::support::{Diary, Gate, boxed, committed, event, eventually, fill, run, start, topic, unique, worker_on};

fn soon() -> Retry {
    Retry::fixed(Duration::from_millis(2))
}

#[test]
fn attempts_are_numbered_and_the_first_failure_is_remembered() {
    run(async {
        let topic = topic(1);
        fill(&topic, 1, |_| "k".to_owned()).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mine = seen.clone();
        let handler = move |m: Message<Raw>| {
            mine.lock().unwrap().push((m.attempt(), m.first_failed_ms()));
            let last = m.attempt() == 4;
            async move { if last { Ok(()) } else { Err(Failure::retry("no")) } }
        };
        let worker = worker_on(&topic).retry(soon()).handler(boxed(handler)).build().unwrap();
        let mut events = worker.handle().events();
        let running = start(worker);
        let retrying = |e| match e {
            Event::Retrying { attempts, class: FailureClass::Handler, offset: 0, .. } => Some(attempts),
            _ => None,
        };
        for n in 1..4 {
            assert_eq!(event(&mut events, "retrying", retrying).await, n);
        }
        eventually("success", || running.handle.counts().succeeded == 1).await;
        let report = running.stop().await;
        assert_eq!((report.counts.attempts, report.counts.retried), (4, 3));
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.iter().map(|(n, _)| *n).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert!(seen[0].1.is_none() && seen[1].1.is_some());
        assert!(seen[1..].iter().all(|(_, first)| *first == seen[1].1));
    });
}

#[test]
fn a_wished_wait_replaces_the_back_off() {
    run(async {
        let topic = topic(1);
        fill(&topic, 1, |_| "k".to_owned()).await;
        let handler = async |m: Message<Raw>| match m.attempt() {
            1 => Err(Failure::retry_after(Duration::from_millis(7), "busy")),
            _ => Ok(()),
        };
        // The policy would wait for an hour.
        let worker =
            worker_on(&topic).retry(Retry::fixed(Duration::from_secs(3600))).handler(boxed(handler)).build().unwrap();
        let mut events = worker.handle().events();
        let running = start(worker);
        let after = |e| if let Event::Retrying { after, .. } = e { Some(after) } else { None };
        assert_eq!(event(&mut events, "retrying", after).await, Duration::from_millis(7));
        eventually("success", || running.handle.counts().succeeded == 1).await;
        running.stop().await;
    });
}

#[test]
fn an_attempt_that_is_not_the_records_fault_is_not_counted() {
    run(async {
        let topic = topic(1);
        fill(&topic, 1, |_| "k".to_owned()).await;
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mine = seen.clone();
        let handler = move |m: Message<Raw>| {
            let mut seen = mine.lock().unwrap();
            seen.push(m.attempt());
            let fails = seen.len() < 10;
            async move { if fails { Err(Failure::uncounted(Duration::from_millis(1), "no process")) } else { Ok(()) } }
        };
        let running = start(worker_on(&topic).retry(Retry::none()).handler(boxed(handler)).build().unwrap());
        eventually("success", || running.handle.counts().succeeded == 1).await;
        running.stop().await;
        assert_eq!(*seen.lock().unwrap(), [1; 10]);
    });
}

#[test]
fn skipped_records_are_finished_and_reported() {
    run(async {
        let topic = topic(1);
        fill(&topic, 3, |i| format!("k{i}")).await;
        let group = unique("group");
        let handler = async |m: Message<Raw>| match m.offset() {
            1 => Err(Failure::skip("known to be bad")),
            2 => Err(Failure::retry("skipped by policy")),
            _ => Ok(()),
        };
        let worker = worker_on(&topic).group(&group).retry(Retry::none()).on_exhausted(OnExhausted::Skip);
        let worker = worker.handler(boxed(handler)).build().unwrap();
        let mut events = worker.handle().events();
        let running = start(worker);
        let skipped = |e| if let Event::Skipped { offset, .. } = e { Some(offset) } else { None };
        let both = [event(&mut events, "skipped", skipped).await, event(&mut events, "skipped", skipped).await];
        assert_eq!(both, [1, 2]);
        running.stop().await;
        assert_eq!(committed(&group, &topic, 0).map(|(offset, _)| offset), Some(3));
    });
}

#[test]
fn a_handler_that_asks_to_stop_ends_the_worker_with_its_record_unfinished() {
    run(async {
        let topic = topic(1);
        fill(&topic, 3, |i| format!("k{i}")).await;
        let group = unique("group");
        let handler = async |m: Message<Raw>| if m.offset() == 1 { Err(Failure::stop("canary")) } else { Ok(()) };
        let running = start(worker_on(&topic).group(&group).handler(boxed(handler)).build().unwrap());
        let error = running.ended().await.unwrap_err();
        assert!(matches!(&error.error, Error::Stopped { place, .. } if *place == format!("{topic}-0@1")), "{error}");
        assert!(!error.to_string().contains("canary") && !format!("{error:?}").contains("canary"));
        assert_eq!(committed(&group, &topic, 0).map(|(offset, _)| offset), Some(1));
    });
}

#[test]
fn a_worker_may_stop_when_attempts_are_used_up() {
    run(async {
        let topic = topic(1);
        fill(&topic, 1, |_| "k".to_owned()).await;
        let worker = worker_on(&topic).retry(soon().attempts(3)).on_exhausted(OnExhausted::Stop);
        let running = start(
            worker
                .handler(boxed(async |_: Message<Raw>| anyhow::Result::<()>::Err(anyhow::anyhow!("no"))))
                .build()
                .unwrap(),
        );
        let error = running.ended().await.unwrap_err();
        assert_eq!((error.report.counts.attempts, error.report.counts.succeeded), (3, 0));
    });
}

#[test]
fn a_parked_record_makes_health_critical_until_it_is_done_and_its_key_waits() {
    run(async {
        let topic = topic(1);
        fill(&topic, 4, |i| format!("k{}", i % 2)).await;
        let (diary, mended) = (Diary::default(), Arc::new(AtomicBool::new(false)));
        let (mine, is_mended) = (diary.clone(), mended.clone());
        let handler = move |m: Message<Raw>| {
            let attempt = mine.begin(&m);
            let fails = m.offset() == 0 && !is_mended.load(Ordering::SeqCst);
            async move {
                if fails {
                    attempt.failed();
                    anyhow::bail!("no");
                }
                attempt.done();
                Ok(())
            }
        };
        let worker = worker_on(&topic).retry(soon().attempts(2)).handler(boxed(handler)).build().unwrap();
        let mut events = worker.handle().events();
        let running = start(worker);
        event(&mut events, "parked", |e| matches!(e, Event::Parked { offset: 0, .. }).then_some(())).await;
        eventually("the other key", || diary.offsets() == [1, 3]).await;
        let health = running.handle.health().await;
        assert_eq!(health.level, HealthLevel::Critical, "{health:?}");
        assert!(health.causes[0].text.contains("parked"), "{health:?}");
        assert_eq!(running.handle.snapshot().await.unwrap().parked, 1);
        mended.store(true, Ordering::SeqCst);
        eventually("the parked key", || diary.offsets() == [1, 3, 0, 2]).await;
        let health = running.handle.health().await;
        assert_eq!((health.level, running.handle.snapshot().await.unwrap().parked), (HealthLevel::Ok, 0), "{health:?}");
        running.stop().await;
    });
}

#[test]
fn panics_are_failures_wherever_they_happen() {
    run(async {
        for execution in [Execution::Inline, Execution::Spawn, Execution::Blocking] {
            let topic = topic(1);
            fill(&topic, 6, |i| format!("k{i}")).await;
            struct PanicsWhenDropped;
            impl Drop for PanicsWhenDropped {
                fn drop(&mut self) {
                    assert!(std::thread::panicking(), "a drop that panics");
                }
            }
            let handler = |m: Message<Raw>| {
                assert!(m.offset() != 0 || m.attempt() > 1, "in the call");
                async move {
                    assert!(m.offset() != 1 || m.attempt() > 1, "in the first poll");
                    tokio::task::yield_now().await;
                    assert!(m.offset() != 2 || m.attempt() > 1, "in the second poll");
                    let _guard = (m.offset() == 3 && m.attempt() == 1).then(|| PanicsWhenDropped);
                    anyhow::Ok(())
                }
            };
            let worker = worker_on(&topic).execution(execution).retry(soon()).handler(boxed(handler)).build().unwrap();
            let running = start(worker);
            eventually("all", || running.handle.counts().succeeded == 6).await;
            let counts = running.stop().await.counts;
            assert_eq!((counts.panicked, counts.retried), (4, 4), "{execution:?}");
        }
    });
}

#[test]
fn a_handler_that_takes_too_long_is_dropped_and_has_failed() {
    run(async {
        for execution in [Execution::Inline, Execution::Spawn] {
            let topic = topic(1);
            fill(&topic, 2, |_| "k".to_owned()).await;
            let diary = Diary::default();
            let mine = diary.clone();
            let handler = move |m: Message<Raw>| {
                let attempt = mine.begin(&m);
                async move {
                    if m.offset() == 0 && m.attempt() < 3 {
                        std::future::pending::<()>().await;
                    }
                    attempt.done();
                    anyhow::Ok(())
                }
            };
            let worker = worker_on(&topic).execution(execution).retry(soon());
            let worker = worker.handler_timeout(Duration::from_millis(50)).handler(boxed(handler)).build().unwrap();
            let mut events = worker.handle().events();
            let running = start(worker);
            let class = |e| if let Event::Retrying { class, .. } = e { Some(class) } else { None };
            assert_eq!(event(&mut events, "retrying", class).await, FailureClass::Timeout);
            eventually("both", || diary.offsets() == [0, 1]).await;
            assert_eq!(diary.dropped(), 2);
            let counts = running.stop().await.counts;
            assert_eq!((counts.timed_out, counts.retried, counts.cut_off), (2, 2, 0));
        }
    });
}

/// Blocks its thread until it is opened.
#[derive(Clone, Default)]
struct Wall(Arc<(Mutex<bool>, Condvar)>);

impl Wall {
    fn block(&self) {
        drop(self.0.1.wait_while(self.0.0.lock().unwrap(), |open| !*open).unwrap());
    }

    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

#[test]
fn a_blocking_handler_that_takes_too_long_fences_its_key_until_it_ends() {
    run(async {
        let topic = topic(1);
        fill(&topic, 3, |i| format!("k{}", i % 2)).await;
        let (diary, wall) = (Diary::default(), Wall::default());
        let (mine, blocks) = (diary.clone(), wall.clone());
        let handler = move |m: Message<Raw>| {
            let attempt = mine.begin(&m);
            if m.offset() == 0 && m.attempt() == 1 {
                blocks.block();
            }
            attempt.done();
            std::future::ready(anyhow::Ok(()))
        };
        let worker = worker_on(&topic).execution(Execution::Blocking).retry(soon());
        let worker = worker.handler_timeout(Duration::from_millis(30)).handler(boxed(handler)).build().unwrap();
        let running = start(worker);
        eventually("the other key", || diary.offsets() == [1]).await;
        // Long past its timeout; its key's next record and its own second attempt wait.
        tokio::time::timeout(Duration::from_millis(200), std::future::pending::<()>()).await.unwrap_err();
        assert_eq!((diary.begun().len(), running.handle.counts().succeeded), (2, 1));
        wall.open();
        // What the first attempt said at last does not count: it had taken too long.
        eventually("the second attempt", || running.handle.counts().succeeded == 3).await;
        assert_eq!(diary.offsets(), [1, 0, 0, 2]);
        let counts = running.stop().await.counts;
        assert_eq!((counts.timed_out, counts.attempts), (1, 4));
    });
}

/// One thread for blocking: what is cut before it has one must never run.
#[test]
fn a_blocking_handler_that_waits_for_its_thread_at_the_drain_deadline_never_runs() {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    crate::support::run_on(runtime.worker_threads(2).max_blocking_threads(1), async {
        let topic = topic(1);
        fill(&topic, 3, |i| format!("k{i}")).await;
        let (diary, wall) = (Diary::default(), Wall::default());
        let (mine, blocks) = (diary.clone(), wall.clone());
        let handler = move |m: Message<Raw>| {
            let attempt = mine.begin(&m);
            blocks.block();
            attempt.done();
            std::future::ready(anyhow::Ok(()))
        };
        let worker = worker_on(&topic).execution(Execution::Blocking).drain_timeout(Duration::from_millis(50));
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        eventually("one to block, two to wait", || running.handle.counts().attempts == 3 && diary.running() == 1).await;
        let report = running.stop().await;
        assert_eq!(report.counts.cut_off, 3);
        wall.open();
        eventually("the thread to be free", || diary.running() == 0).await;
        // Another task for the one thread comes after whatever is queued there.
        #[expect(clippy::disallowed_methods, reason = "queues up behind what is there")]
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        assert_eq!(diary.begun().len(), 1, "only the one that had the thread has run");
    });
}

#[test]
fn a_panic_that_no_failure_can_stand_for_ends_the_worker_instead_of_hanging_it() {
    run(async {
        #[derive(Debug, thiserror::Error)]
        #[error("an error")]
        struct Mine;
        impl Drop for Mine {
            fn drop(&mut self) {
                panic!("an error that panics when it is dropped");
            }
        }
        let topic = topic(1);
        fill(&topic, 1, |_| "k".to_owned()).await;
        let never = Gate::closed();
        let running =
            start(worker_on(&topic).handler(boxed(async |_: Message<Raw>| Err::<(), _>(Mine))).build().unwrap());
        let error = running.ended().await.unwrap_err();
        assert!(matches!(error.error, Error::Broken), "{error}");
        drop(never);
    });
}
