//! The driver's clock: the only place that reads one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use waterwheel_core::Now;

/// Time since a start, counted also while the machine is suspended, so that a lease runs out in its sleep.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Duration,
    wall_start_ms: i64,
}

fn boottime() -> Duration {
    let t = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { start: boottime(), wall_start_ms: wall_ms() }
    }

    /// Wall time at `Now` zero, in milliseconds since the Unix epoch.
    pub(crate) fn wall_start_ms(&self) -> i64 {
        self.wall_start_ms
    }

    pub(crate) fn now(&self) -> Now {
        Now::at(boottime().saturating_sub(self.start))
    }

    /// How long from now until `at`; zero where it has passed.
    pub(crate) fn until(&self, at: Now) -> Duration {
        at.since(self.now())
    }

    /// The same moment on the clock that timers and users go by.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub(crate) fn instant(&self, at: Now) -> Instant {
        Instant::now() + self.until(at)
    }
}

/// Wall time in milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
