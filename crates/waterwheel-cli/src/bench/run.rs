//! One measured run: times, distinct records, and when it ends.

use std::convert::Infallible;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::sync::Notify;

use super::figures::Figures;
use crate::stop::Asked;

/// No progress for this long: the run is given up as stalled.
const STALLED: Duration = Duration::from_secs(120);
/// How often progress is looked at: the error of `steady_s` where a run ends before its count.
const LOOK: Duration = Duration::from_millis(20);

/// The records handled so far, a bit each.
#[derive(Default)]
pub(super) struct Seen(Vec<Vec<u64>>);

impl Seen {
    /// Whether this record is new.
    pub(super) fn add(&mut self, partition: i32, offset: i64) -> bool {
        let (partition, offset) = (usize::try_from(partition).unwrap_or(0), usize::try_from(offset).unwrap_or(0));
        if self.0.len() <= partition {
            self.0.resize_with(partition + 1, Vec::new);
        }
        let words = &mut self.0[partition];
        if words.len() <= offset / 64 {
            words.resize((offset / 64 + 1).next_power_of_two(), 0);
        }
        let bit = 1 << (offset % 64);
        let new = words[offset / 64] & bit == 0;
        words[offset / 64] |= bit;
        new
    }
}

/// The records of some partitions. On cache lines of its own: neighbours belong to other threads.
#[derive(Default)]
#[repr(align(128))]
struct Slot(Mutex<Part>);

#[derive(Default)]
struct Part {
    seen: Seen,
    /// Distinct records that [`Run::distinct`] does not know of.
    uncounted: u64,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Part> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many records before the end they are counted one by one, so as to stop at the very last: more than come between
/// two looks.
const NEAR: u64 = 200_000;

/// What a run counts; shared with its handlers, which run on several threads: until its end is near none of them writes
/// what another one writes.
pub(super) struct Run {
    start: Instant,
    count: u64,
    first_ns: AtomicU64,
    /// When the last of `count` was handled; 0 before.
    last_ns: AtomicU64,
    /// When more had been handled than at the look before.
    progress_ns: AtomicU64,
    distinct: AtomicU64,
    running: AtomicUsize,
    peak: AtomicUsize,
    waited_ns: AtomicU64,
    waits: AtomicU64,
    slots: Vec<Slot>,
    near: AtomicBool,
    started: AtomicBool,
    done: Notify,
}

#[expect(clippy::disallowed_methods, reason = "a measurement reads the clock")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}

impl Run {
    /// A run of that many records whose clock started then.
    pub(super) fn new(count: u64, start: Instant) -> Self {
        Self {
            start,
            count,
            first_ns: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
            progress_ns: AtomicU64::new(0),
            distinct: AtomicU64::new(0),
            running: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            waited_ns: AtomicU64::new(0),
            waits: AtomicU64::new(0),
            slots: (0..64).map(|_| Slot::default()).collect(),
            near: AtomicBool::new(count <= NEAR),
            started: AtomicBool::new(false),
            done: Notify::new(),
        }
    }

    fn ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// The first record is about to be handled.
    pub(super) fn begin(&self) {
        if !self.started.load(Relaxed) && !self.started.swap(true, Relaxed) {
            self.first_ns.store(self.ns(), Relaxed);
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.started.load(Relaxed)
    }

    /// A handler that waits begins; [`leave`](Self::leave) ends it.
    pub(super) fn enter(&self) {
        let now = self.running.fetch_add(1, Relaxed) + 1;
        self.peak.fetch_max(now, Relaxed);
    }

    /// `waited`: how long, where it is to count for the mean.
    pub(super) fn leave(&self, waited: Option<Duration>) {
        self.running.fetch_sub(1, Relaxed);
        if let Some(waited) = waited {
            self.waited_ns.fetch_add(waited.as_nanos() as u64, Relaxed);
            self.waits.fetch_add(1, Relaxed);
        }
    }

    /// A record was handled.
    pub(super) fn handled(&self, partition: i32, offset: i64) {
        let slot = &self.slots[usize::try_from(partition).unwrap_or(0) % self.slots.len()];
        let mut part = slot.lock();
        if part.seen.add(partition, offset) {
            part.uncounted += 1;
            if self.near.load(Acquire) {
                self.add(std::mem::take(&mut part.uncounted));
            }
        }
    }

    /// How many distinct records there were; begins to count them one by one where the end is near.
    fn look(&self) -> u64 {
        let mut distinct = self.distinct.load(Relaxed);
        if self.near.load(Relaxed) {
            return distinct;
        }
        distinct += self.slots.iter().map(|slot| slot.lock().uncounted).sum::<u64>();
        if distinct + NEAR >= self.count {
            self.near.store(true, Release);
            // Whoever takes a slot after this counts what it finds there.
            for slot in &self.slots {
                self.add(std::mem::take(&mut slot.lock().uncounted));
            }
        }
        distinct
    }

    /// That many distinct records more.
    pub(super) fn add(&self, distinct: u64) {
        let all = self.distinct.fetch_add(distinct, Relaxed) + distinct;
        if all >= self.count && all - distinct < self.count {
            self.last_ns.store(self.ns(), Relaxed);
            self.done.notify_one();
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.distinct.load(Relaxed) >= self.count
    }

    /// Notes when something was handled last, for as long as it is polled: reading the clock for every record would slow
    /// those down that take less than a microsecond.
    pub(super) async fn watch(&self) -> Infallible {
        let mut before = 0;
        loop {
            let now = self.look();
            if now != before {
                before = now;
                self.progress_ns.store(self.ns(), Relaxed);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends when all records are handled, when someone asks to stop, or (with `false`) when nothing has happened for two minutes, which
    /// [`watch`](Self::watch) must be polled for.
    pub(super) async fn wait(&self, asked: &Asked) -> bool {
        let stall = async {
            let began = self.ns();
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let idle = self.ns().saturating_sub(self.progress_ns.load(Relaxed).max(began));
                if u128::from(idle) >= STALLED.as_nanos() {
                    return;
                }
            }
        };
        tokio::select! {
            () = self.done.notified() => true,
            () = asked.reach(1) => true,
            () = stall => false,
        }
    }

    /// What there is to tell at the end.
    pub(super) fn figures(&self, mode: &'static str) -> Figures {
        let seconds = |ns: u64| ns as f64 / 1e9;
        let first = self.first_ns.load(Relaxed);
        let last = match self.last_ns.load(Relaxed) {
            // Ended before its count.
            0 => self.progress_ns.load(Relaxed),
            ns => ns,
        };
        let records = self.look();
        let steady = seconds(last.saturating_sub(first));
        Figures {
            arm: format!("waterwheel-{}", env!("CARGO_PKG_VERSION")),
            mode,
            records,
            join_s: rounded(seconds(first)),
            steady_s: rounded(steady),
            rate: if records == 0 { 0.0 } else { rounded(records as f64 / steady.max(1e-9)) },
            cpu_s: rounded(cpu_seconds()),
            rss_mib: rounded(peak_rss_mib()),
            peak_in_flight: self.peak.load(Relaxed),
            wait_us: self.waited_ns.load(Relaxed).checked_div(self.waits.load(Relaxed)).map(|ns| ns / 1000),
            p50_us: None,
            p99_us: None,
            is_unsafe: None,
            stalled: false,
            embedded: false,
        }
    }
}

/// To thousandths.
pub(super) fn rounded(x: f64) -> f64 {
    (x * 1000.0).round() / 1000.0
}

/// User and system time of this process, all its threads.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// The peak resident set; 0 where there is no `/proc`.
fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_once() {
        let run = Run::new(3, instant());
        for (partition, offset) in [(0, 0), (0, 0), (7, 64), (7, 64)] {
            run.handled(partition, offset);
        }
        assert!(!run.is_done());
        run.handled(0, 1);
        assert!(run.is_done());
        assert_eq!(run.figures("key").records, 3);
    }

    #[test]
    fn the_mean_is_of_the_waits_that_count() {
        let run = Run::new(3, instant());
        assert_eq!(run.figures("key").wait_us, None);
        for waited in [Some(1_000), Some(3_000), None] {
            run.enter();
            run.leave(waited.map(Duration::from_micros));
        }
        assert_eq!((run.figures("key").wait_us, run.figures("key").peak_in_flight), (Some(2_000), 1));
    }

    #[tokio::test]
    async fn a_run_that_ends_early_ends_with_its_last_record() {
        let run = Run::new(10, instant());
        assert_eq!((run.figures("key").rate, run.figures("key").steady_s), (0.0, 0.0));
        run.begin();
        run.handled(0, 0);
        // One look.
        let looked = tokio::time::timeout(Duration::ZERO, run.watch()).await;
        assert!(looked.is_err() && run.last_ns.load(Relaxed) == 0);
        let progress = run.progress_ns.load(Relaxed);
        assert!(progress > 0 && progress <= run.ns());
        assert_eq!(run.figures("key").records, 1);
    }
}
