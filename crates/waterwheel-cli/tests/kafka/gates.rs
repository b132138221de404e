//! What holds starts back, in groups whose members come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use waterwheel::{
    Breaker, BreakerState, Client, Failure, Message, RateLimit, Raw, Report, Retry, WorkerBuilder, WorkerHandle,
};

use crate::support::{Bytes, Kafka, PATIENCE, topic_name, wait_until};

/// When attempts began, at which member, and whether they failed.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<Vec<(Instant, usize, bool)>>>);

impl Begun {
    fn note(&self, member: usize, fails: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((Instant::now(), member, fails));
    }

    fn within(&self, from: Instant, until: Instant) -> usize {
        let begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.iter().filter(|(at, ..)| *at >= from && *at < until).count()
    }

    fn of(&self, member: usize) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|(_, of, _)| *of == member).count()
    }

    fn done(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|(.., fails)| !fails).count()
    }
}

struct Member {
    handle: WorkerHandle,
    thread: std::thread::JoinHandle<Option<Report>>,
}

impl Member {
    /// A member whose attempts fail while the service is away.
    fn start(
        kafka: &Kafka,
        group: &str,
        number: usize,
        begun: &Begun,
        service: &Arc<AtomicBool>,
        with: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
    ) -> Self {
        let client = Client::new(kafka.bootstrap()).expect("the address is right");
        let (begun, service) = (begun.clone(), service.clone());
        let handler = move |_: Message<Raw>| {
            let there = service.load(Ordering::SeqCst);
            begun.note(number, !there);
            async move { if there { Ok(()) } else { Err(Failure::retry("no service")) } }
        };
        let worker = client.worker(group).topic(group).commit_every(Duration::from_millis(200));
        let worker = with(worker).handler(handler).build().expect("a worker");
        let handle = worker.handle();
        let runtime = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let thread = std::thread::spawn(move || runtime().expect("a runtime").block_on(worker.run()).ok());
        Self { handle, thread }
    }

    fn end(self) -> Report {
        self.handle.close();
        self.thread.join().expect("it does not panic").expect("it ends in order")
    }

    fn share(&self) -> f64 {
        self.handle.limits().rate.and_then(|rate| rate.share).unwrap_or_default()
    }

    fn state(&self) -> Option<BreakerState> {
        self.handle.limits().breaker.map(|breaker| breaker.state)
    }
}

fn fill(kafka: &Kafka, topic: &str, partitions: i32, count: usize) {
    kafka.create_topic(topic, partitions, &[]);
    let record = |n: usize| Bytes {
        partition: n as i32 % partitions,
        key: Some(format!("k{n}").into_bytes()),
        value: Some(b"v".to_vec()),
        ..Bytes::default()
    };
    kafka.produce_bytes(topic, &(0..count).map(record).collect::<Vec<_>>());
}

/// Two members for a minute, then a third one that comes and goes.
#[test]
fn a_group_is_not_faster_than_its_rate_while_members_come_and_go() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("gates-rate");
    fill(kafka, &topic, 12, 60_000);
    let (begun, service) = (Begun::default(), Arc::new(AtomicBool::new(true)));
    let limit = || RateLimit::records(400).burst(40).group_wide();
    let join = |number| Member::start(kafka, &topic, number, &begun, &service, |worker| worker.rate_limit(limit()));
    let is = |members: &[&Member], share: f64| members.iter().all(|member| (member.share() - share).abs() < 1e-9);
    let (one, two) = (join(1), join(2));
    wait_until(PATIENCE, "both to work", || is(&[&one, &two], 0.5));
    let passed = |from: Instant, time: Duration| {
        wait_until(PATIENCE + time, "time to pass", || from.elapsed() >= time);
    };
    let from = Instant::now();
    passed(from, Duration::from_secs(60));
    let steady = begun.within(from, from + Duration::from_secs(60));

    let since = Instant::now();
    let three = join(3);
    wait_until(PATIENCE, "all three to work", || is(&[&one, &two, &three], 1.0 / 3.0));
    passed(Instant::now(), Duration::from_secs(5));
    assert!(begun.of(3) > 0);
    three.end();
    wait_until(PATIENCE, "two to work again", || is(&[&one, &two], 0.5));
    passed(Instant::now(), Duration::from_secs(5));
    let took = since.elapsed();
    let moving = begun.within(since, since + took);
    let wanted = 400.0 * took.as_secs_f64();
    println!(
        "steady: {steady} of 24000 in 60 s; with a member that comes and goes: {moving} of {wanted:.0} in {took:?}"
    );
    assert!((23_520..=24_480).contains(&steady), "{steady} where 24,000 are right");
    assert!(moving as f64 <= wanted * 1.02 + 40.0, "{moving} where {wanted} are right");
    one.end();
    two.end();
}

/// A second member comes, and the first one goes, while the first one's breaker is open.
#[test]
fn a_rebalance_goes_on_while_a_breaker_is_open_and_starts_nothing() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("gates-breaker");
    fill(kafka, &topic, 4, 2_000);
    let (begun, service) = (Begun::default(), Arc::new(AtomicBool::new(false)));
    let join = |number| {
        Member::start(kafka, &topic, number, &begun, &service, |worker| {
            let worker = worker.retry(Retry::fixed(Duration::from_millis(100)).forever());
            worker.breaker(Breaker::consecutive(5).open_for(Duration::from_secs(600)))
        })
    };
    let one = join(1);
    wait_until(PATIENCE, "the breaker to open", || one.state() == Some(BreakerState::Open));
    service.store(true, Ordering::SeqCst);
    let before = begun.of(1);
    let two = join(2);
    wait_until(PATIENCE, "the second one to do its half", || begun.done() >= 900);
    assert_eq!((begun.of(1), one.state()), (before, Some(BreakerState::Open)), "nothing starts at the first one");
    let since = Instant::now();
    let report = one.end();
    assert!(report.is_clean() && since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    wait_until(PATIENCE, "the second one to do the rest", || begun.done() >= 2_000);
    two.end();
    assert_eq!(begun.done(), 2_000, "each once");
    let committed: Vec<_> = kafka.committed(&topic, &topic, 4).iter().map(|c| c.offset).collect();
    assert_eq!(committed, [Some(500); 4]);
}
