//! Process delay and stuck records on a real Kafka.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use waterwheel::{DeadLetter, Failure, Message, OnStall, Raw};

use crate::support::{Kafka, PATIENCE, Trial, is_whole, wait_until};

/// How late records started, by the millisecond, and how many were early.
struct Starts {
    delay: Duration,
    early: AtomicU64,
    late_by_ms: Vec<AtomicU64>,
}

impl Starts {
    fn of(delay: Duration) -> Arc<Self> {
        let late_by_ms = std::iter::repeat_with(AtomicU64::default).take(60_000).collect();
        Arc::new(Self { delay, early: AtomicU64::new(0), late_by_ms })
    }

    #[expect(clippy::disallowed_methods, reason = "records have a wall clock's time")]
    fn note(&self, message: &Message<Raw>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
        let written = message.timestamp_millis().expect("each has a time");
        match usize::try_from(now - written - self.delay.as_millis() as i64) {
            Ok(late) => _ = self.late_by_ms[late.min(self.late_by_ms.len() - 1)].fetch_add(1, Ordering::Relaxed),
            Err(_) => _ = self.early.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn count(&self) -> u64 {
        self.late_by_ms.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>() + self.early.load(Ordering::Relaxed)
    }

    /// Milliseconds that no more than so many of a thousand records were late by.
    fn quantile(&self, of_thousand: u64) -> usize {
        let most = self.count() * of_thousand / 1_000;
        let mut sum = 0;
        let past = self.late_by_ms.iter().position(|n| {
            sum += n.load(Ordering::Relaxed);
            sum >= most
        });
        past.unwrap_or(self.late_by_ms.len())
    }
}

#[test]
fn a_delay_of_twice_the_poll_interval_costs_no_rebalance() {
    if !is_whole() {
        return;
    }
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "delay-poll", 2);
    let delay = Duration::from_secs(14);
    let starts = Starts::of(delay);
    let mine = starts.clone();
    let properties =
        [("max.poll.interval.ms", "7000"), ("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "1000")];
    let handler = move |message: Message<Raw>| {
        mine.note(&message);
        std::future::ready(Ok::<_, Failure>(()))
    };
    let member = trial.inside(&properties, |builder| builder.process_delay(delay), handler);
    wait_until(PATIENCE, "it to have partitions", || member.handle.counts().assignments > 0);
    trial.produce(2_000, 300);
    trial.await_done(PATIENCE);
    let (median, p99) = (starts.quantile(500), starts.quantile(990));
    let counts = member.handle.counts();
    assert_eq!((counts.assignments, counts.revoked, counts.lost), (1, 0, 0), "{counts:?}");
    assert_eq!((starts.count(), starts.early.load(Ordering::Relaxed), counts.clocks_disagreed), (2_000, 0, 0));
    member.stop();
    trial.figure("late_median_ms", median);
    trial.figure("late_p99_ms", p99);
    trial.assert_all_committed();
    trial.judge_undisturbed();
}

#[test]
fn a_key_that_hangs_for_ever_beside_a_thousand_goes_to_the_dead_letter_topic() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut trial = Trial::new(kafka, "stuck-key", 2);
    let letters = format!("{}.dlt", trial.topic);
    kafka.create_topic(&letters, 1, &[]);
    let hung: Arc<Mutex<HashSet<(i32, i64)>>> = Arc::default();
    let mine = hung.clone();
    let handler = move |message: Message<Raw>| {
        let hangs = message.key() == Some(b"k7") && {
            let mut hung = mine.lock().expect("no handler panics");
            hung.is_empty() && hung.insert((message.partition(), message.offset()))
        };
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            Ok::<_, Failure>(())
        }
    };
    let settle = |builder: waterwheel::WorkerBuilder| {
        let builder = builder.stall_after(Duration::from_secs(3)).on_stall(OnStall::DeadLetter);
        builder.dead_letter(DeadLetter::topic(&*letters))
    };
    trial.was_produced(kafka.produce(&trial.topic, (0..1_000).map(|n| (Some(format!("k{}", n % 100)), n.to_string()))));
    let member = trial.inside(&[], settle, handler);
    trial.await_done(PATIENCE);
    let counts = member.handle.counts();
    assert_eq!((counts.succeeded, counts.dead_lettered, counts.timed_out), (999, 1, 1), "{counts:?}");
    member.stop();
    trial.assert_all_committed();
    trial.judge_undisturbed();
}

/// How late a million records start that all wait at once, and what they cost in memory.
#[test]
#[ignore = "a measurement: two minutes, and a machine with nothing else to do"]
fn a_million_records_wait() {
    let Some(kafka) = Kafka::shared() else { return };
    const RECORDS: u64 = 1_000_000;
    let mut trial = Trial::new(kafka, "delay-million", 8);
    // So long that all are written before the first is due: a build for debugging takes its time.
    let delay = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 5 });
    let starts = Starts::of(delay);
    let mine = starts.clone();
    let handler = move |message: Message<Raw>| {
        mine.note(&message);
        std::future::ready(Ok::<_, Failure>(()))
    };
    let keys: Vec<String> = (0..100_000).map(|n| format!("k{n}")).collect();
    let records = (0..RECORDS as usize).map(|n| ((n % 8) as i32, &*keys[n % keys.len()]));
    kafka.produce_many(&trial.topic, records);
    let before = resident_kib();
    let member = trial.inside_unseen(&[], |builder| builder.process_delay(delay), handler);
    wait_until(PATIENCE, "it to have partitions", || member.handle.counts().assignments > 0);
    wait_until(PATIENCE, "all to be done", || starts.count() == RECORDS);
    let (after, early) = (resident_kib(), starts.early.load(Ordering::Relaxed));
    println!(
        "{early} early; late by {}, {}, {} ms (median, 99 %, 99.9 %); {} MiB before, {} MiB after",
        starts.quantile(500),
        starts.quantile(990),
        starts.quantile(999),
        before / 1024,
        after / 1024
    );
    assert_eq!(early, 0);
    member.stop();
}

/// Memory of this process, in KiB.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("it is there on Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is told");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
