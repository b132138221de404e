//! The driver's clock: the only place that reads one.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use waterwheel_core::Now;

use crate::client::WorldTime;

/// Time since a start, counted also while the machine is suspended, so that a lease runs out in its sleep. Where the
/// client's cluster has a time of its own, it goes by that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: Duration,
    wall_start_ms: i64,
    world: Option<WorldTime>,
}

fn boottime() -> Duration {
    let t = clock_gettime(ClockId::Boottime);
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

impl Clock {
    /// `world`: the time of the client's cluster, where that is not the machine's.
    pub(crate) fn start(world: Option<WorldTime>) -> Self {
        let start = read(world);
        let wall_start_ms = match world {
            None => wall_ms(),
            Some(world) => world.wall_start_ms + i64::try_from(start.as_millis()).unwrap_or(i64::MAX),
        };
        Self { start, wall_start_ms, world }
    }

    /// Wall time at `Now` zero, in milliseconds since the Unix epoch.
    pub(crate) fn wall_start_ms(&self) -> i64 {
        self.wall_start_ms
    }

    /// Wall time now, in milliseconds since the Unix epoch.
    pub(crate) fn wall_now_ms(&self) -> i64 {
        let since = i64::try_from(self.now().since_start().as_millis()).unwrap_or(i64::MAX);
        self.wall_start_ms.saturating_add(since)
    }

    pub(crate) fn now(&self) -> Now {
        Now::at(read(self.world).saturating_sub(self.start))
    }

    /// How long from now until `at`; zero where it has passed.
    pub(crate) fn until(&self, at: Now) -> Duration {
        at.since(self.now())
    }

    /// The same moment on the clock that timers and users go by.
    pub(crate) fn instant(&self, at: Now) -> Instant {
        // The runtime's, which a test may have paused.
        tokio::time::Instant::now().into_std() + self.until(at)
    }
}

/// Time since a start that never changes.
fn read(world: Option<WorldTime>) -> Duration {
    world.map_or_else(boottime, |world| tokio::time::Instant::now() - world.start)
}

/// Wall time in milliseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the clock")]
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}
