//! What holds starts back, in groups whose members come and go.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use waterwheel::{
    Breaker, BreakerState, Client, Failure, Message, RateLimit, Raw, Report, Retry, WorkerBuilder, WorkerHandle,
};

use crate::support::{Bytes, Kafka, PATIENCE, is_whole, topic_name, wait_until};

/// An attempt: when it began, at which member, how large its record is, and whether it failed.
#[derive(Clone, Copy)]
struct Attempt {
    at: Instant,
    member: usize,
    bytes: usize,
    fails: bool,
}

/// All attempts, in the order of their beginnings.
#[derive(Clone, Default)]
struct Begun(Arc<Mutex<Vec<Attempt>>>);

impl Begun {
    fn note(&self, member: usize, bytes: usize, fails: bool) {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        begun.push(Attempt { at: Instant::now(), member, bytes, fails });
    }

    fn all(&self) -> Vec<Attempt> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those of a time.
    fn within(&self, from: Instant, until: Instant) -> Vec<Attempt> {
        self.all().into_iter().filter(|begun| begun.at >= from && begun.at < until).collect()
    }

    fn of(&self, member: usize) -> usize {
        self.all().iter().filter(|begun| begun.member == member).count()
    }

    fn done(&self) -> usize {
        self.all().iter().filter(|begun| !begun.fails).count()
    }
}

/// By how many the attempts of any time are more than the rate allows for it: the largest, over all times.
fn most_over(rate: f64, begun: &[Attempt]) -> f64 {
    let Some(first) = begun.first() else { return 0.0 };
    let (mut least, mut most) = (f64::MAX, 0.0_f64);
    for (n, attempt) in begun.iter().enumerate() {
        let over = n as f64 - rate * attempt.at.duration_since(first.at).as_secs_f64();
        least = least.min(over);
        most = most.max(over - least + 1.0);
    }
    most
}

#[test]
fn a_rate_is_judged_by_the_worst_of_all_times() {
    let start = Instant::now();
    let at = |ms| Attempt { at: start + Duration::from_millis(ms), member: 1, bytes: 1, fails: false };
    // One each 100 ms; then so, but for three at once; a quiet time before that makes no difference.
    let over = |times: &[u64]| most_over(10.0, &times.iter().copied().map(at).collect::<Vec<_>>());
    assert!((over(&[0, 100, 200, 300, 400]) - 1.0).abs() < 1e-9);
    assert!((over(&[0, 100, 200, 200, 200, 300]) - 3.0).abs() < 1e-9);
    assert!((over(&[0, 5_000, 5_000, 5_000, 5_000]) - 4.0).abs() < 1e-9);
}

/// For how long a steady rate is measured, and by how much it may be off: a minute in the long form.
fn measured() -> (Duration, f64) {
    if is_whole() { (Duration::from_secs(60), 0.02) } else { (Duration::from_secs(10), 0.05) }
}

struct Member {
    handle: WorkerHandle,
    thread: std::thread::JoinHandle<Option<Report>>,
}

impl Member {
    /// A member whose attempts fail while the service is away.
    fn start(
        kafka: &Kafka,
        topic: &str,
        group: &str,
        number: usize,
        begun: &Begun,
        service: &Arc<AtomicBool>,
        with: impl FnOnce(WorkerBuilder) -> WorkerBuilder,
    ) -> Self {
        let client = Client::new(kafka.bootstrap()).expect("the address is right");
        let (begun, service) = (begun.clone(), service.clone());
        let handler = move |message: Message<Raw>| {
            let there = service.load(Ordering::SeqCst);
            let bytes = [message.key(), message.value()].into_iter().flatten().map(<[u8]>::len).sum();
            begun.note(number, bytes, !there);
            async move { if there { Ok(()) } else { Err(Failure::retry("no service")) } }
        };
        let worker = client.worker(group).topic(topic).commit_every(Duration::from_millis(200));
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

/// Writes so many records, each with a key of its own, and values of up to so many bytes.
fn fill(kafka: &Kafka, topic: &str, partitions: i32, count: usize, largest: usize) {
    kafka.create_topic(topic, partitions, &[]);
    let record = |n: usize| Bytes {
        partition: n as i32 % partitions,
        key: Some(format!("k{n}").into_bytes()),
        value: Some(vec![b'v'; 1 + n * 37 % largest]),
        ..Bytes::default()
    };
    kafka.produce_bytes(topic, &(0..count).map(record).collect::<Vec<_>>());
}

fn pass(from: Instant, time: Duration) {
    wait_until(PATIENCE + time, "time to pass", || from.elapsed() >= time);
}

/// Two workers side by side, each by itself: one has a rate of records, the other one of bytes.
#[test]
fn a_rate_of_records_and_one_of_bytes_are_kept() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("gates-steady");
    let (time, off) = measured();
    let (records, bytes) = (1_000, 200 << 10);
    // Of 400 bytes on the average; more than either rate lets through.
    fill(kafka, &topic, 8, (time.as_secs() as usize + 10) * records as usize, 800);
    let service = Arc::new(AtomicBool::new(true));
    let (by_records, by_bytes) = (Begun::default(), Begun::default());
    let join = |group: &str, begun: &Begun, limit: RateLimit| {
        Member::start(kafka, &topic, &format!("{group}-{topic}"), 1, begun, &service, |worker| worker.rate_limit(limit))
    };
    let one = join("records", &by_records, RateLimit::records(records));
    let two = join("bytes", &by_bytes, RateLimit::bytes(bytes));
    wait_until(PATIENCE, "both to work", || by_records.done().min(by_bytes.done()) >= 500);
    let from = Instant::now();
    pass(from, time);
    let begun = by_records.within(from, from + time).len() as f64 / time.as_secs_f64();
    let begun_bytes = by_bytes.within(from, from + time).iter().map(|begun| begun.bytes).sum::<usize>();
    let begun_bytes = begun_bytes as f64 / time.as_secs_f64();
    let over = most_over(records as f64, &by_records.all());
    println!("in {time:?}: {begun} records a second of {records}, {begun_bytes} bytes of {bytes}; {over:.1} over");
    for (is, wanted) in [(begun, records as f64), (begun_bytes, bytes as f64)] {
        assert!((is / wanted - 1.0).abs() <= off, "{is} a second where {wanted} are right");
    }
    // A burst is a tenth of a second's by default. A quarter more: an attempt is noted when its thread comes to it.
    assert!(over <= records as f64 / 10.0 * 1.25, "{over} more at some time than the rate allows");
    one.end();
    two.end();
}

/// Two members, then a third one that comes and goes.
#[test]
fn a_group_is_not_faster_than_its_rate_while_members_come_and_go() {
    const RATE: u64 = 400;
    const BURST: u64 = 40;
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("gates-rate");
    let (time, off) = measured();
    fill(kafka, &topic, 12, (time.as_secs() as usize + 60) * RATE as usize, 10);
    let (begun, service) = (Begun::default(), Arc::new(AtomicBool::new(true)));
    let limit = || RateLimit::records(RATE).burst(BURST).group_wide();
    let join =
        |number| Member::start(kafka, &topic, &topic, number, &begun, &service, |worker| worker.rate_limit(limit()));
    let is = |members: &[&Member], share: f64| members.iter().all(|member| (member.share() - share).abs() < 1e-9);
    let (one, two) = (join(1), join(2));
    wait_until(PATIENCE, "both to work", || is(&[&one, &two], 0.5));
    let from = Instant::now();
    pass(from, time);
    let steady = begun.within(from, from + time);
    let wanted = RATE as f64 * time.as_secs_f64();
    let of_one = steady.iter().filter(|begun| begun.member == 1).count() as f64;

    let since = Instant::now();
    let three = join(3);
    wait_until(PATIENCE, "all three to work", || is(&[&one, &two, &three], 1.0 / 3.0));
    pass(Instant::now(), Duration::from_secs(3));
    assert!(begun.of(3) > 0);
    three.end();
    wait_until(PATIENCE, "two to work again", || is(&[&one, &two], 0.5));
    pass(Instant::now(), Duration::from_secs(3));
    let took = since.elapsed();
    let moving = begun.within(since, since + took);
    let over = most_over(RATE as f64, &begun.all());
    println!(
        "in {time:?}: {} of {wanted}, {of_one} at one member of two; with one that comes and goes: {} of {:.0} in {took:?}; \
         {over:.1} over at most",
        steady.len(),
        moving.len(),
        RATE as f64 * took.as_secs_f64()
    );
    assert!((steady.len() as f64 / wanted - 1.0).abs() <= off, "{} where {wanted} are right", steady.len());
    assert!((of_one / wanted - 0.5).abs() <= off, "{of_one} at the first member, whose share is half of {wanted}");
    assert!(over <= BURST as f64 * 1.25, "{over} more at some time than the rate allows, where a burst is {BURST}");
    one.end();
    two.end();
}

/// A second member comes, and the first one goes, while the first one's breaker is open.
#[test]
fn a_rebalance_goes_on_while_a_breaker_is_open_and_starts_nothing() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("gates-breaker");
    fill(kafka, &topic, 4, 2_000, 10);
    let (begun, service) = (Begun::default(), Arc::new(AtomicBool::new(false)));
    let join = |number| {
        Member::start(kafka, &topic, &topic, number, &begun, &service, |worker| {
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
