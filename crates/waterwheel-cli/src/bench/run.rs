//! One measured run: times, distinct records, and the line at its end.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};
use tokio::sync::Notify;

/// No progress for this long: the run is given up as stalled.
const STALLED: Duration = Duration::from_secs(120);

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

/// So many records before the end they are counted one by one, so as to stop at the very last.
const NEAR: u64 = 200_000;

/// How often a run looks whether its end is near.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What a run counts; shared with its handlers, which run on several threads: until its end is near nothing is written
/// that another thread writes.
pub(super) struct Run {
    start: Instant,
    count: u64,
    first_ns: AtomicU64,
    last_ns: AtomicU64,
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
pub(super) fn instant() -> Instant {
    Instant::now()
}

impl Run {
    pub(super) fn new(count: u64) -> Self {
        Self {
            start: instant(),
            count,
            first_ns: AtomicU64::new(0),
            last_ns: AtomicU64::new(0),
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

    /// A handler that waits begins; the guard ends it.
    pub(super) fn enter(&self) {
        let now = self.running.fetch_add(1, Relaxed) + 1;
        self.peak.fetch_max(now, Relaxed);
    }

    pub(super) fn leave(&self, waited: Duration) {
        self.running.fetch_sub(1, Relaxed);
        self.waited_ns.fetch_add(waited.as_nanos() as u64, Relaxed);
        self.waits.fetch_add(1, Relaxed);
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

    /// Looks whether the end is near.
    fn look(&self) {
        if self.near.load(Relaxed) {
            return;
        }
        let uncounted: u64 = self.slots.iter().map(|slot| slot.lock().uncounted).sum();
        if self.distinct.load(Relaxed) + uncounted + NEAR >= self.count {
            self.near.store(true, Release);
            // Whoever comes after this finds its slot empty, or counts what it holds.
            for slot in &self.slots {
                self.add(std::mem::take(&mut slot.lock().uncounted));
            }
        }
    }

    /// How many distinct records there were.
    fn distinct(&self) -> u64 {
        self.distinct.load(Relaxed) + self.slots.iter().map(|slot| slot.lock().uncounted).sum::<u64>()
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

    /// Ends when all records are handled, at a signal, or (with `false`) when nothing has happened for two minutes.
    pub(super) async fn wait(&self) -> bool {
        let stall = async {
            let mut before = u64::MAX;
            loop {
                let now = self.distinct();
                if now == before {
                    return;
                }
                before = now;
                tokio::time::sleep(STALLED).await;
            }
        };
        let look = async {
            let mut ticks = tokio::time::interval(LOOK_EVERY);
            while !self.near.load(Relaxed) {
                ticks.tick().await;
                self.look();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = self.done.notified() => true,
            () = look => false,
            () = waterwheel::signal::shutdown() => true,
            () = stall => false,
        }
    }

    /// The line at the end.
    pub(super) fn line(&self, mode: &str, extra: impl IntoIterator<Item = (&'static str, Value)>) -> String {
        let first = self.first_ns.load(Relaxed) as f64 / 1e9;
        let last = match self.last_ns.load(Relaxed) {
            0 => self.ns() as f64 / 1e9,
            ns => ns as f64 / 1e9,
        };
        let records = self.distinct();
        let steady = (last - first).max(1e-9);
        let mut line = Map::new();
        let mut put = |name: &str, value: Value| line.insert(name.to_owned(), value);
        put("arm", format!("waterwheel-{}", env!("CARGO_PKG_VERSION")).into());
        put("mode", mode.into());
        put("records", records.into());
        put("join_s", rounded(first));
        put("steady_s", rounded(steady));
        put("rate", rounded(records as f64 / steady));
        put("cpu_s", rounded(cpu_seconds()));
        put("rss_mib", rounded(peak_rss_mib()));
        put("peak_in_flight", self.peak.load(Relaxed).into());
        if let Some(mean_ns) = self.waited_ns.load(Relaxed).checked_div(self.waits.load(Relaxed)) {
            put("wait_us", (mean_ns / 1000).into());
        }
        for (name, value) in extra {
            put(name, value);
        }
        Value::Object(line).to_string()
    }
}

fn rounded(x: f64) -> Value {
    ((x * 1000.0).round() / 1000.0).into()
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    // Fields 14 and 15, in ticks of 10 ms (`proc(5)`); those before them are skipped with the command's name, which may
    // hold spaces.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).filter_map(|t| t.parse::<u64>().ok()).sum();
    ticks as f64 / 100.0
}

/// The peak resident set.
fn peak_rss_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    line.split_whitespace().next().and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
