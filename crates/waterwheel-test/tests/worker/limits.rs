//! Breaker, rate limits and adaptive concurrency of workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;
use waterwheel::{
    Adaptive, Batch, Breaker, BreakerState, Event, Failure, Handler, HealthLevel, HoldReason, LimitReason, Message,
    Outcomes, ProducerRecord, RateLimit, Raw, Retry, Subscription, WorkerHandle,
};
use waterwheel_test::{Cluster, Host};

use crate::support::{Entry, Journal, Running, eventually, fill, member, run, start};

/// What handlers need, and whether it is there.
#[derive(Clone)]
struct Service(Arc<AtomicBool>);

impl Service {
    fn is(there: bool) -> Self {
        Self(Arc::new(AtomicBool::new(there)))
    }

    fn set(&self, there: bool) {
        self.0.store(there, Ordering::SeqCst);
    }
}

/// A handler that needs the service, and takes that long.
fn needing(service: &Service, journal: &Journal, takes: Duration) -> impl Handler<Raw> + use<> {
    let (service, journal) = (service.clone(), journal.clone());
    move |message: Message<Raw>| {
        let (attempt, service) = (journal.begin(0, &message), service.clone());
        async move {
            if !takes.is_zero() {
                tokio::time::sleep(takes).await;
            }
            if service.0.load(Ordering::SeqCst) { attempt.done() } else { attempt.failed() }
        }
    }
}

fn state(handle: &WorkerHandle) -> BreakerState {
    handle.limits().breaker.unwrap().state
}

/// The next change of a breaker.
async fn change(events: &mut Subscription<Event>) -> BreakerState {
    loop {
        if let Event::BreakerChanged { class: None, state } = events.next().await.unwrap() {
            return state;
        }
    }
}

/// Writes so many records to `t`, each with a key of its own.
async fn load(cluster: &Cluster, count: usize) {
    let records = (0..count).map(|i| ProducerRecord::to("t").key(format!("k{i}")).value("v"));
    cluster.client().producer().unwrap().send_all(records.collect()).await.unwrap();
}

/// Attempts that began within a time after that.
fn begun(entries: &[Entry], from: Instant, within: Duration) -> usize {
    entries.iter().filter(|e| e.begun >= from && e.begun < from + within).count()
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

async fn opens_holds_probes_and_closes(takes: Duration) {
    let cluster = Cluster::new().topic("t", 4);
    load(&cluster, 400).await;
    let (service, journal) = (Service::is(false), Journal::default());
    let worker = member(&cluster.client())
        .concurrency(8)
        .retry(Retry::fixed(Duration::from_millis(50)).forever())
        .breaker(Breaker::consecutive(5).open_for(secs(600)))
        .handler(needing(&service, &journal, takes))
        .build()
        .unwrap();
    let mut events = worker.handle().events();
    let worker = start(worker);
    assert_eq!(change(&mut events).await, BreakerState::Open);
    // Those that ran when it opened end.
    eventually("what runs to end", || journal.running() == 0).await;
    let begun = journal.entries().len();
    assert!((5..=5 + 8 + 2 * 64).contains(&begun), "{begun}");
    cluster.advance(secs(500)).await;
    assert_eq!(journal.entries().len(), begun, "nothing starts");
    let snapshot = worker.handle.snapshot().await.unwrap();
    assert!(snapshot.partitions.iter().all(|p| p.held == Some(HoldReason::Breaker)), "{snapshot:?}");
    let health = worker.handle.health().await;
    assert_eq!(health.level, HealthLevel::Warning, "{health:?}");
    assert!(worker.handle.is_live().await);

    // One probe, which fails.
    assert_eq!(change(&mut events).await, BreakerState::HalfOpen);
    assert_eq!(change(&mut events).await, BreakerState::Open);
    assert_eq!(journal.entries().len(), begun + 1);
    service.set(true);
    assert_eq!(change(&mut events).await, BreakerState::HalfOpen);
    assert_eq!(change(&mut events).await, BreakerState::Closed);
    cluster.assert_finished("g", "t").await;
    let report = worker.stop().await;
    assert_eq!((report.counts.succeeded, report.counts.breaker_opened), (400, 2));
    // Each of the others was tried once: what the breaker held back is no attempt.
    assert_eq!(journal.entries().len(), 400 + begun + 1);
}

#[test]
fn a_breaker_opens_holds_probes_and_closes() {
    run(opens_holds_probes_and_closes(Duration::from_millis(20)));
}

#[test]
fn so_does_one_of_handlers_that_never_wait() {
    run(opens_holds_probes_and_closes(Duration::ZERO));
}

#[test]
fn a_stop_ends_at_once_while_the_breaker_is_open() {
    run(async {
        let cluster = Cluster::new().topic("t", 4);
        load(&cluster, 100).await;
        let (service, journal) = (Service::is(false), Journal::default());
        let worker = member(&cluster.client())
            .breaker(Breaker::consecutive(1).open_for(secs(3_600)))
            .drain_timeout(secs(900))
            .handler(needing(&service, &journal, Duration::ZERO))
            .build()
            .unwrap();
        let worker = start(worker);
        eventually("the breaker to open", || state(&worker.handle) == BreakerState::Open).await;
        let since = Instant::now();
        let report = worker.stop().await;
        assert!(report.is_clean() && since.elapsed() < secs(1), "{:?}", since.elapsed());
    });
}

/// The breaker is open when a second member comes, and when the first one goes.
#[test]
fn partitions_go_to_another_member_while_the_breaker_is_open() {
    run(async {
        let cluster = Cluster::new().topic("t", 4);
        load(&cluster, 100).await;
        let (service, journal, others) = (Service::is(false), Journal::default(), Journal::default());
        let build = |host: &Host, journal: &Journal| {
            let worker = member(&host.client()).retry(Retry::fixed(Duration::from_millis(10)).forever());
            let worker = worker.breaker(Breaker::consecutive(3).open_for(secs(3_000)));
            worker.handler(needing(&service, journal, Duration::ZERO)).build().unwrap()
        };
        let (one, two) = (cluster.host(), cluster.host());
        let first = start(build(&one, &journal));
        eventually("the breaker to open", || state(&first.handle) == BreakerState::Open).await;
        let begun = journal.entries().len();
        service.set(true);
        let second = start(build(&two, &others));
        eventually("half of the partitions to go over", || cluster.assigned("g", &two).len() == 2).await;
        eventually("the second one's to be done", || others.done().len() >= 50 - begun).await;
        assert_eq!((journal.entries().len(), state(&first.handle)), (begun, BreakerState::Open));
        first.stop().await;
        cluster.assert_finished("g", "t").await;
        second.stop().await;
        assert_eq!(others.done().len() + journal.done().len(), 100);
    });
}

/// What says nothing of the service does not open it: bad records, and attempts that are not counted.
#[test]
fn records_at_fault_do_not_open_a_breaker() {
    run(async {
        let cluster = Cluster::new().topic("t", 2).topic("dead", 1);
        fill(&cluster, 90).await;
        let handler = |message: Message<Raw>| async move {
            match (message.offset() % 3, message.attempt()) {
                (0, _) => Err(Failure::skip("of no use")),
                (1, _) => Err(Failure::undecodable("no such form")),
                (_, 1) if message.header("again").is_none() => Err(Failure::dead_letter("refused")),
                _ => Ok(()),
            }
        };
        let worker = member(&cluster.client());
        let worker = worker.dead_letter(waterwheel::DeadLetter::topic("dead")).breaker(Breaker::consecutive(1));
        let worker = start(worker.handler(handler).build().unwrap());
        cluster.assert_finished("g", "t").await;
        assert_eq!(state(&worker.handle), BreakerState::Closed);
        worker.stop().await;
    });
}

#[test]
fn a_batch_is_one_attempt_to_a_breaker() {
    run(async {
        let cluster = Cluster::new().topic("t", 1);
        load(&cluster, 200).await;
        let (service, seen) = (Service::is(false), Arc::new(std::sync::Mutex::new(Vec::new())));
        let (needs, sizes) = (service.clone(), seen.clone());
        let handler = move |batch: Batch<Raw>| {
            sizes.lock().unwrap().push(batch.len());
            let there = needs.0.load(Ordering::SeqCst);
            async move { if there { Outcomes::ok() } else { Outcomes::failed(Failure::retry("no service")) } }
        };
        let worker = member(&cluster.client())
            .shards(1)
            .retry(Retry::fixed(Duration::from_millis(10)).forever())
            .breaker(Breaker::consecutive(2).open_for(secs(100)))
            .concurrency(20)
            .batch_handler(handler, 20, Duration::from_millis(5))
            .build()
            .unwrap();
        let handle = worker.handle();
        #[expect(clippy::disallowed_methods, reason = "a batch worker is not one that the support starts")]
        let task = tokio::spawn(worker.run());
        eventually("the breaker to open", || state(&handle) == BreakerState::Open).await;
        // What was gathered by then runs.
        cluster.advance(secs(50)).await;
        let before = seen.lock().unwrap().clone();
        assert!(before.len() >= 2, "not by one batch of 20 alone: {before:?}");
        service.set(true);
        cluster.assert_finished("g", "t").await;
        assert_eq!(state(&handle), BreakerState::Closed);
        assert_eq!(seen.lock().unwrap()[before.len()], 1, "the probe is alone");
        handle.close();
        task.await.unwrap().unwrap();
    });
}

#[test]
fn a_rate_is_kept_over_a_minute() {
    run(async {
        let cluster = Cluster::new().topic("t", 4);
        load(&cluster, 20_000).await;
        let (service, journal) = (Service::is(true), Journal::default());
        let worker = member(&cluster.client()).rate_limit(RateLimit::records(250).burst(25));
        let worker = start(worker.handler(needing(&service, &journal, Duration::ZERO)).build().unwrap());
        eventually("the first record", || !journal.entries().is_empty()).await;
        cluster.advance(secs(61)).await;
        let entries = journal.entries();
        let begin = entries[0].begun;
        for seconds in [1, 10, 60] {
            let (n, wanted) = (begun(&entries, begin, secs(seconds)), 250 * seconds as usize);
            assert!(n <= wanted + 25 && n + wanted / 50 + 1 >= wanted, "{n} in {seconds} s");
        }
        // All partitions have their turns.
        for partition in 0..4 {
            let n = entries.iter().filter(|e| e.partition == partition).count();
            assert!((2_500..5_500).contains(&n), "{n} of partition {partition}");
        }
        let snapshot = worker.handle.snapshot().await.unwrap();
        assert!(snapshot.partitions.iter().any(|p| p.held == Some(HoldReason::RateLimit)), "{snapshot:?}");
        worker.stop().await;
    });
}

/// Half of all attempts fail, and come again: the others have to wait for them.
#[test]
fn retries_count_in_a_rate() {
    run(async {
        let cluster = Cluster::new().topic("t", 2);
        load(&cluster, 5_000).await;
        let journal = Journal::default();
        let writer = journal.clone();
        let handler = move |message: Message<Raw>| {
            let attempt = writer.begin(0, &message);
            async move { if message.attempt() == 1 { attempt.failed() } else { attempt.done() } }
        };
        let worker = member(&cluster.client()).retry(Retry::fixed(Duration::from_millis(100)));
        let worker = start(worker.rate_limit(RateLimit::records(100)).handler(handler).build().unwrap());
        eventually("the first record", || !journal.entries().is_empty()).await;
        cluster.advance(secs(31)).await;
        let entries = journal.entries();
        let n = begun(&entries, entries[0].begun, secs(30));
        assert!((2_930..=3_010).contains(&n), "{n}");
        worker.stop().await;
    });
}

#[test]
fn bytes_are_limited_also_those_of_records_larger_than_the_burst() {
    run(async {
        let cluster = Cluster::new().topic("t", 2);
        for i in 0..200 {
            cluster.produce("t", format!("{i:04}"), "x".repeat(if i % 10 == 0 { 9_996 } else { 996 })).await;
        }
        let (service, journal) = (Service::is(true), Journal::default());
        // 380,000 bytes in all.
        let worker = member(&cluster.client()).rate_limit(RateLimit::bytes(10_000).burst_bytes(2_000));
        let worker = start(worker.handler(needing(&service, &journal, Duration::ZERO)).build().unwrap());
        eventually("the first record", || !journal.entries().is_empty()).await;
        let since = Instant::now();
        cluster.assert_finished("g", "t").await;
        let took = since.elapsed().as_secs_f64();
        assert!((36.5..39.5).contains(&took), "{took} s");
        worker.stop().await;
    });
}

/// Three members share 240 records a second; the third one comes late and leaves again.
#[test]
fn a_group_keeps_its_rate_while_a_member_comes_and_goes() {
    run(async {
        let cluster = Cluster::new().topic("t", 12);
        load(&cluster, 40_000).await;
        let (service, journal) = (Service::is(true), Journal::default());
        let limit = RateLimit::records(240).burst(24).group_wide();
        let join = || -> Running {
            let worker = member(&cluster.host().client()).rate_limit(limit.clone());
            start(worker.handler(needing(&service, &journal, Duration::ZERO)).build().unwrap())
        };
        let share = |worker: &Running| worker.handle.limits().rate.unwrap().share.unwrap_or_default();
        let (one, two) = (join(), join());
        eventually("both to work", || share(&one) == 0.5 && share(&two) == 0.5).await;
        cluster.advance(secs(60)).await;
        let begin = Instant::now();
        cluster.advance(secs(60)).await;
        let steady = begun(&journal.entries(), begin, secs(60));
        assert!((14_112..=14_688).contains(&steady), "{steady} where 14,400 are right");

        let begin = Instant::now();
        let three = join();
        eventually("all three to work", || [&one, &two, &three].iter().all(|w| (share(w) - 1.0 / 3.0).abs() < 1e-9))
            .await;
        cluster.advance(secs(20)).await;
        three.stop().await;
        eventually("the other two to work", || share(&one) + share(&two) == 1.0).await;
        cluster.advance(secs(20)).await;
        let entries = journal.entries();
        let took = begin.elapsed();
        let (n, wanted) = (begun(&entries, begin, took) as f64, 240.0 * took.as_secs_f64());
        assert!(n <= wanted + 24.0 + 2.0 && n >= wanted * 0.9, "{n} where {wanted} are right");
        one.stop().await;
        two.stop().await;
    });
}

/// A service that works on so many requests at once; each takes 50 ms.
#[test]
fn adaptive_concurrency_finds_the_knee_of_a_service_and_follows_it() {
    run(async {
        let cluster = Cluster::new().topic("t", 8);
        load(&cluster, 300_000).await;
        let service = Arc::new(Semaphore::new(40));
        let needs = service.clone();
        let handler = move |_: Message<Raw>| {
            let service = needs.clone();
            async move {
                let _permit = service.acquire().await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, Failure>(())
            }
        };
        let worker = member(&cluster.client()).adaptive(Adaptive::between(4, 1_000)).handler(handler).build().unwrap();
        let worker = start(worker);
        eventually("records to be worked on", || worker.handle.counts().succeeded > 0).await;
        let status = || worker.handle.limits().concurrency.unwrap();
        let mut knee_before = 40_usize;
        for knee in [40_usize, 12, 80] {
            service.add_permits(knee.saturating_sub(knee_before));
            let fewer = knee_before.saturating_sub(knee);
            service.acquire_many(fewer as u32).await.unwrap().forget();
            knee_before = knee;
            cluster.advance(secs(40)).await;
            let (mut sum, looks) = (0, 200);
            for _ in 0..looks {
                cluster.advance(Duration::from_millis(50)).await;
                sum += status().limit;
            }
            let mean = sum as f64 / f64::from(looks);
            assert!((0.9 * knee as f64..=1.1 * knee as f64).contains(&mean), "{mean} for {knee}: {:?}", status());
        }
        let base = status().base_latency.unwrap();
        assert!((50..=56).contains(&base.as_millis()), "{base:?}");
        assert!(status().reason.is_some_and(|reason| reason != LimitReason::Failures));
        worker.handle.close_now();
        worker.ended().await.unwrap();
    });
}
