//! The clocks of workers, none of which goes like another.

use std::time::Duration;

use waterwheel_core::Now;

use crate::rng::Rng;

/// A worker's clock: it began at a reading of its own and goes up to a sixteenth too fast or too slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    start: u64,
    /// Sixteenths of a nanosecond for each that passes.
    pace: u64,
    /// Its wall clock at reading zero, in milliseconds since the Unix epoch; up to an hour off.
    pub(crate) wall_start_ms: i64,
}

/// Wall time at the beginning of the world, in milliseconds since the Unix epoch.
pub(crate) const WALL: i64 = 10_000_000;
const HOUR_MS: u64 = 3_600_000;

impl Clock {
    pub(crate) fn of(rng: &mut Rng) -> Self {
        let start = rng.range(0..=5_000) * 1_000_000;
        let wall_start_ms = WALL + rng.range(0..=2 * HOUR_MS) as i64 - HOUR_MS as i64;
        Self { start, pace: rng.range(15..=17), wall_start_ms }
    }

    /// The reading at a time of the world.
    pub(crate) fn reading(&self, now: Now) -> Now {
        let since = now.since_start().as_nanos() as u64;
        Now::at(Duration::from_nanos(self.start + since * self.pace / 16))
    }

    /// What a wall clock by it shows at a reading, in milliseconds since the Unix epoch.
    pub(crate) fn wall_ms(&self, reading: Now) -> i64 {
        self.wall_start_ms + reading.since_start().as_millis() as i64
    }

    /// The first time of the world at which the clock shows that reading.
    pub(crate) fn world_time(&self, reading: Now) -> Now {
        let since = (reading.since_start().as_nanos() as u64).saturating_sub(self.start);
        Now::at(Duration::from_nanos((since * 16).div_ceil(self.pace)))
    }
}
