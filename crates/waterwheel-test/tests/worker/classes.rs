//! Breakers for classes of records.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use waterwheel::{
    Batch, Breaker, BreakerState, Event, Handler, HealthLevel, Message, Outcomes, ProducerRecord, Raw, Record, Retry,
    Subscription,
};
use waterwheel_test::Cluster;

use crate::support::{Journal, eventually, member, run, start};

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Writes that many records of each tenant to `t`, in turns, each tenant's over ten keys.
async fn load(cluster: &Cluster, tenants: &[&str], each: usize) {
    let of = |n: usize, tenant: &str| {
        ProducerRecord::to("t").key(format!("{tenant}{}", n % 10)).header("tenant", tenant).value("v")
    };
    let records = (0..each).flat_map(|n| tenants.iter().map(move |tenant| of(n, tenant)));
    cluster.client().producer().unwrap().send_all(records.collect()).await.unwrap();
}

fn tenant(record: &Record) -> Option<Cow<'_, str>> {
    record.header("tenant").map(String::from_utf8_lossy)
}

/// Fails for the tenant `down` as long as its service is missing.
fn needing(is_there: &Arc<AtomicBool>, journal: &Journal) -> impl Handler<Raw> + use<> {
    let (is_there, journal) = (is_there.clone(), journal.clone());
    move |message: Message<Raw>| {
        let attempt = journal.begin(0, &message);
        let is_ok = message.header("tenant") != Some(b"down") || is_there.load(Ordering::SeqCst);
        async move { if is_ok { attempt.done() } else { attempt.failed() } }
    }
}

/// Attempts at records of that tenant.
fn attempts(journal: &Journal, tenant: &str) -> usize {
    journal.entries().iter().filter(|entry| entry.key.starts_with(tenant.as_bytes())).count()
}

async fn change(events: &mut Subscription<Event>) -> (String, BreakerState) {
    loop {
        if let Event::BreakerChanged { class, state } = events.next().await.unwrap() {
            return (class.unwrap().to_string(), state);
        }
    }
}

#[test]
fn a_class_whose_breaker_is_open_holds_up_its_own_keys_alone() {
    run(async {
        let cluster = Cluster::new().topic("t", 2);
        load(&cluster, &["down", "up", "fine"], 100).await;
        let (is_there, journal) = (Arc::new(AtomicBool::new(false)), Journal::default());
        let worker = member(&cluster.client())
            .shards(1)
            .retry(Retry::fixed(Duration::from_millis(50)).forever())
            .breaker_by(Breaker::consecutive(5).open_for(secs(600)), tenant)
            .handler(needing(&is_there, &journal))
            .build()
            .unwrap();
        let mut events = worker.handle().events();
        let worker = start(worker);
        let down = |state| ("down".to_owned(), state);
        assert_eq!(change(&mut events).await, down(BreakerState::Open));
        eventually("the others to be done", || journal.done().len() == 200).await;
        assert_eq!(attempts(&journal, "down"), 5);
        cluster.advance(secs(500)).await;
        assert_eq!(attempts(&journal, "down"), 5, "nothing of it is tried");
        let limits = worker.handle.limits();
        let states: Vec<_> = limits.classes.iter().map(|(class, breaker)| (&**class, breaker.state)).collect();
        let closed = BreakerState::Closed;
        assert_eq!(states, [("down", BreakerState::Open), ("fine", closed), ("up", closed)]);
        let snapshot = worker.handle.snapshot().await.unwrap();
        assert!(snapshot.partitions.iter().all(|p| p.held.is_none()), "{snapshot:?}");
        assert_eq!(worker.handle.health().await.level, HealthLevel::Warning);

        // One probe, which fails.
        assert_eq!(change(&mut events).await, down(BreakerState::HalfOpen));
        assert_eq!(change(&mut events).await, down(BreakerState::Open));
        assert_eq!(attempts(&journal, "down"), 6);
        is_there.store(true, Ordering::SeqCst);
        assert_eq!(change(&mut events).await, down(BreakerState::HalfOpen));
        assert_eq!(change(&mut events).await, down(BreakerState::Closed));
        cluster.assert_finished("g", "t").await;
        let report = worker.stop().await;
        assert_eq!((report.counts.succeeded, report.counts.breaker_opened, report.counts.retried), (300, 2, 6));
        assert_eq!((attempts(&journal, "down"), report.counts.attempts), (100 + 6, 300 + 6));
        // Each key in its order, however often it was set aside.
        let mut last = BTreeMap::new();
        for entry in journal.entries() {
            let before = last.insert(entry.key.clone(), entry.offset);
            assert!(before.is_none_or(|before| before <= entry.offset), "{entry:?}");
        }
    });
}

#[test]
fn attempts_that_take_too_long_open_their_class_and_those_cut_off_by_a_stop_do_not() {
    run(async {
        let cluster = Cluster::new().topic("t", 2);
        load(&cluster, &["down", "up"], 20).await;
        let hangs = |message: Message<Raw>| async move {
            if message.header("tenant") == Some(b"down") {
                std::future::pending::<()>().await;
            }
            Ok::<_, waterwheel::Failure>(())
        };
        let build = |timeout: Option<Duration>| {
            let worker = member(&cluster.client()).drain_timeout(secs(1));
            let worker = worker.breaker_by(Breaker::consecutive(3).open_for(secs(600)), tenant);
            let worker = if let Some(timeout) = timeout { worker.handler_timeout(timeout) } else { worker };
            worker.handler(hangs).build().unwrap()
        };
        let first = start(build(None));
        eventually("the others to be done", || first.handle.counts().succeeded == 20).await;
        assert_eq!(first.stop().await.counts.breaker_opened, 0);
        let worker = build(Some(secs(30)));
        let mut events = worker.handle().events();
        let second = start(worker);
        assert_eq!(change(&mut events).await, ("down".to_owned(), BreakerState::Open));
        let since = Instant::now();
        let report = second.stop().await;
        assert!(since.elapsed() <= secs(1), "no stop waits for a breaker: {:?}", since.elapsed());
        assert_eq!(report.counts.breaker_opened, 1);
        assert!(report.counts.timed_out >= 3, "{:?}", report.counts);
    });
}

#[test]
fn classes_beyond_the_most_share_a_breaker() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        let names: Vec<String> = (0..300).map(|n| format!("tenant-{n}")).collect();
        load(&cluster, &names.iter().map(String::as_str).collect::<Vec<_>>(), 1).await;
        let (is_there, journal) = (Arc::new(AtomicBool::new(true)), Journal::default());
        let worker = member(&cluster.client()).breaker_by(Breaker::consecutive(1), tenant);
        let worker = start(worker.handler(needing(&is_there, &journal)).build().unwrap());
        cluster.assert_finished("g", "t").await;
        let classes = worker.handle.limits().classes;
        assert_eq!(classes.len(), 256 + 1);
        assert!(classes.iter().any(|(class, _)| &**class == "others"));
        worker.stop().await;
    });
}

#[test]
fn a_panic_in_telling_the_class_is_one_of_the_handler() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("dead", 1);
        load(&cluster, &["up", "down"], 10).await;
        fn panics(record: &Record) -> Option<Cow<'_, str>> {
            assert_ne!(record.header("tenant"), Some(&b"down"[..]), "no such class");
            tenant(record)
        }
        let journal = Journal::default();
        let worker = member(&cluster.client())
            .retry(Retry::none())
            .dead_letter(waterwheel::DeadLetter::topic("dead"))
            .breaker_by(Breaker::consecutive(1), panics)
            .handler(needing(&Arc::default(), &journal))
            .build()
            .unwrap();
        let worker = start(worker);
        cluster.assert_finished("g", "t").await;
        let counts = worker.stop().await.counts;
        assert_eq!((counts.succeeded, counts.panicked, counts.dead_lettered, counts.breaker_opened), (10, 10, 10, 0));
        assert_eq!(counts.attempts, 20);
    });
}

#[test]
fn batches_have_no_classes() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        let worker = member(&cluster.client()).breaker_by(Breaker::consecutive(1), tenant);
        let batches = worker.batch_handler(|_: Batch<Raw>| async { Outcomes::ok() }, 10, secs(1));
        let error = batches.build().err().unwrap().to_string();
        assert!(error.contains("breaker_by") && error.contains("many classes"), "{error}");
    });
}
