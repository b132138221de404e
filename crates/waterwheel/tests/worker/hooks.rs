//! Hooks: what they are told, what they may do, and that none of it holds the worker up.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use waterwheel::{
    AfterDeadLetter, AttemptEnd, AttemptPlace, Breaker, BreakerState, DeadLetter, Event, Failure, FailureClass,
    FetchedBatch, Finish, Hook, HookFailure, Message, Raw, Retry, Subject, TopicPartition, WorkerHandle, WorkerState,
};

use crate::support::{boxed, event, eventually, fill, run, start, topic, unique, worker_on};

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>);

impl Diary {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Records that it was told to be finished.
    fn finished(&self) -> usize {
        self.0.lock().unwrap().iter().filter(|line| line.starts_with("finished")).count()
    }
}

impl Hook for Diary {
    async fn fetched(&self, _: &WorkerHandle, batch: FetchedBatch) {
        self.note(format!("fetched {} at {:?}", batch.records, batch.offsets));
    }

    async fn before_attempt(&self, _: &WorkerHandle, at: AttemptPlace) {
        self.note(format!("before {}.{}", at.offset, at.attempt));
    }

    async fn after_attempt(&self, _: &WorkerHandle, end: AttemptEnd) {
        self.note(format!("after {}.{} {:?}", end.place.offset, end.place.attempt, end.outcome));
    }

    async fn finished(&self, _: &WorkerHandle, _: TopicPartition, offset: i64, how: Finish) {
        self.note(format!("finished {offset} {how:?}"));
    }

    async fn dead_lettered(&self, _: &WorkerHandle, _: TopicPartition, offset: i64, class: FailureClass) {
        self.note(format!("dead letter {offset} {class}"));
    }

    async fn before_commit(&self, _: &WorkerHandle, offsets: Vec<(TopicPartition, i64)>) {
        self.note(format!("commit {}", offsets[0].1));
    }

    async fn assigned(&self, _: &WorkerHandle, partitions: Vec<TopicPartition>) {
        self.note(format!("assigned {}", partitions.len()));
    }

    async fn drained(&self, _: &WorkerHandle, _: TopicPartition, cut_off: usize) {
        self.note(format!("drained, {cut_off} cut off"));
    }

    async fn revoked(&self, _: &WorkerHandle, partitions: Vec<TopicPartition>) {
        self.note(format!("revoked {}", partitions.len()));
    }

    async fn event(&self, _: &WorkerHandle, event: Event) {
        if let Event::Retrying { offset, .. } = event {
            self.note(format!("retrying {offset}"));
        }
    }
}

#[test]
fn a_hook_is_told_the_life_of_each_record_in_its_order() {
    run(async {
        let topic = topic(1);
        fill(&topic, 4, |i| format!("k{i}")).await;
        let handler = |m: Message<Raw>| async move {
            match (m.offset(), m.attempt()) {
                (1, 1) => Err(Failure::retry("payload")),
                (2, _) => panic!("payload"),
                (3, _) => Err(Failure::skip("payload")),
                _ => {
                    tokio::task::yield_now().await;
                    Ok(())
                }
            }
        };
        let diary = Diary::default();
        let worker = worker_on(&topic).retry(Retry::fixed(Duration::from_millis(1)).attempts(2));
        let worker = worker.dead_letter(DeadLetter::topic(unique("dlt"))).hook(diary.clone());
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        eventually("all", || diary.finished() == 4).await;
        running.stop().await;
        let all = diary.all();
        let of = |offset: usize| {
            let one = |line: &&String| line.contains(&format!(" {offset}.")) || line.contains(&format!(" {offset} "));
            let of_records = ["before", "after", "finished", "dead letter"];
            let lines = all.iter().filter(|line| of_records.iter().any(|word| line.starts_with(word))).filter(one);
            lines.map(String::as_str).collect::<Vec<_>>()
        };
        assert_eq!(of(0), ["before 0.1", "after 0.1 Ok", "finished 0 Ok"]);
        let retried = ["before 1.1", "after 1.1 Failed(Handler)", "before 1.2", "after 1.2 Ok", "finished 1 Ok"];
        assert_eq!(of(1), retried);
        assert_eq!(of(2)[..2], ["before 2.1", "after 2.1 Failed(Panic)"]);
        assert_eq!(of(2)[of(2).len() - 2..], ["finished 2 DeadLettered", "dead letter 2 panic"]);
        assert_eq!(of(3), ["before 3.1", "after 3.1 Failed(Handler)", "finished 3 Skipped"]);
        for line in ["assigned 1", "retrying 1", "commit 4", "drained, 0 cut off", "revoked 1"] {
            assert!(all.iter().any(|other| other == line), "{line}: {all:?}");
        }
        assert!(all.iter().any(|line| line.starts_with("fetched ")) && !format!("{all:?}").contains("payload"));
    });
}

/// Calls everything that the handle has, from each of its methods.
#[derive(Clone, Default)]
struct Caller {
    called: Arc<Mutex<BTreeSet<&'static str>>>,
    topic: String,
}

impl Caller {
    async fn call(&self, from: &'static str, handle: &WorkerHandle) {
        if !self.called.lock().unwrap().insert(from) {
            return;
        }
        let within = Duration::from_secs(10);
        let (_, _, _, _) = (handle.name(), handle.group(), handle.state(), handle.is_ready());
        let (_, _, _) = (handle.counts(), handle.events(), handle.limits());
        handle.pause();
        handle.resume();
        let _ = (handle.snapshot().await, handle.explain(Subject::Topic(self.topic.clone())).await);
        let _ = (handle.health().await, handle.is_live().await);
        handle.release_key(&TopicPartition::new(&*self.topic, 0), Some(b"k1")).await;
        if handle.state() == WorkerState::Consuming {
            handle.stop();
            assert!(handle.stop_and_wait(within).await, "a stop that is waited for in a hook ends");
            handle.start();
            assert!(handle.wait_for(WorkerState::Consuming, within).await);
        }
        let all = 11;
        if self.called.lock().unwrap().len() == all {
            handle.close();
            handle.close_now();
        }
    }
}

impl Hook for Caller {
    async fn fetched(&self, handle: &WorkerHandle, _: FetchedBatch) {
        self.call("fetched", handle).await;
    }

    async fn before_attempt(&self, handle: &WorkerHandle, _: AttemptPlace) {
        self.call("before_attempt", handle).await;
    }

    async fn after_attempt(&self, handle: &WorkerHandle, _: AttemptEnd) {
        self.call("after_attempt", handle).await;
    }

    async fn finished(&self, handle: &WorkerHandle, _: TopicPartition, _: i64, _: Finish) {
        self.call("finished", handle).await;
    }

    async fn dead_lettered(&self, handle: &WorkerHandle, _: TopicPartition, _: i64, _: FailureClass) {
        self.call("dead_lettered", handle).await;
    }

    async fn before_commit(&self, handle: &WorkerHandle, _: Vec<(TopicPartition, i64)>) {
        self.call("before_commit", handle).await;
    }

    async fn assigned(&self, handle: &WorkerHandle, _: Vec<TopicPartition>) {
        self.call("assigned", handle).await;
    }

    async fn drained(&self, handle: &WorkerHandle, _: TopicPartition, _: usize) {
        self.call("drained", handle).await;
    }

    async fn revoked(&self, handle: &WorkerHandle, _: Vec<TopicPartition>) {
        self.call("revoked", handle).await;
    }

    async fn breaker_changed(&self, handle: &WorkerHandle, _: Option<Arc<str>>, _: BreakerState) {
        self.call("breaker_changed", handle).await;
    }

    async fn event(&self, handle: &WorkerHandle, _: Event) {
        self.call("event", handle).await;
    }
}

#[test]
fn every_hook_may_call_every_method_of_the_handle() {
    run(async {
        let topic = topic(1);
        fill(&topic, 20, |i| format!("k{i}")).await;
        let handler = |m: Message<Raw>| async move {
            match m.offset() % 4 {
                0 if m.attempt() == 1 => Err(Failure::retry("once more")),
                1 => Err(Failure::dead_letter("no")),
                _ => Ok(()),
            }
        };
        let caller = Caller { called: Arc::default(), topic: topic.clone() };
        let worker = worker_on(&topic).property("group.protocol", "consumer").retry(Retry::fixed(Duration::ZERO));
        let worker = worker.dead_letter(DeadLetter::topic(unique("dlt"))).after_dead_letter(AfterDeadLetter::Follow);
        let worker = worker.breaker(Breaker::consecutive(1).open_for(Duration::from_millis(10))).hook(caller.clone());
        let running = start(worker.handler(boxed(handler)).build().unwrap());
        running.ended().await.unwrap();
        assert_eq!(caller.called.lock().unwrap().len(), 11, "{:?}", caller.called);
    });
}

/// The hook above calls every method that there is.
#[test]
fn no_method_of_the_handle_is_left_out() {
    let (sources, tests) = (concat!(env!("CARGO_MANIFEST_DIR"), "/src/worker"), include_str!("hooks.rs"));
    let mut methods = BTreeSet::new();
    for file in std::fs::read_dir(sources).unwrap().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap_or_default();
        for block in text.split("\nimpl WorkerHandle {").skip(1) {
            let block = block.split("\n}").next().unwrap();
            let public = block.lines().filter_map(|line| line.trim().strip_prefix("pub "));
            let named = public.filter_map(|line| line.trim_start_matches("async ").strip_prefix("fn "));
            methods.extend(named.map(|line| line.split(['(', '<']).next().unwrap().to_owned()));
        }
    }
    assert!(methods.len() >= 20 && methods.contains("release_key") && methods.contains("limits"), "{methods:?}");
    let missing: Vec<_> = methods.iter().filter(|name| !tests.contains(&format!("handle.{name}("))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Panics when records are fetched, and never comes back from the first record that is finished.
struct Bad;

impl Hook for Bad {
    async fn fetched(&self, _: &WorkerHandle, _: FetchedBatch) {
        panic!("in a hook");
    }

    async fn finished(&self, _: &WorkerHandle, _: TopicPartition, _: i64, _: Finish) {
        std::future::pending::<()>().await;
    }
}

#[test]
fn a_hook_that_panics_or_hangs_is_told_and_stalls_nothing() {
    run(async {
        let topic = topic(1);
        let (bad, good) = (Bad, Diary::default());
        let worker = worker_on(&topic).stall_after(Duration::from_millis(100)).check_every(Duration::from_millis(20));
        let handler = |_: Message<Raw>| std::future::ready(Ok::<_, Failure>(()));
        let running = start(worker.hook(bad).hook(good.clone()).handler(boxed(handler)).build().unwrap());
        let mut events = running.handle.events();
        // Three moments a record: one round is less than a queue holds, both are more.
        for round in 1..=2 {
            fill(&topic, 2_000, |i| format!("k{i}")).await;
            eventually("the other hook", || good.finished() == round * 2_000).await;
        }
        let mut failure = async |of: &'static str| {
            event(&mut events, of, |event| match event {
                Event::HookFailed { hook, how } if hook == of => Some(how),
                _ => None,
            })
            .await
        };
        assert_eq!(failure("fetched").await, HookFailure::Panicked);
        assert!(matches!(failure("finished").await, HookFailure::Hangs(time) if time >= Duration::from_millis(100)));
        eventually("all", || running.handle.counts().succeeded == 4_000).await;
        assert!(running.handle.counts().hook_moments_dropped > 0);
        let report = running.stop().await;
        assert!(report.is_clean() && report.counts.hook_failures >= 2, "{report:?}");
    });
}
