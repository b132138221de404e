//! When the group's coordinator last answered, from librdkafka's statistics.
//!
//! librdkafka counts from a clock that stands still while the machine is suspended; a member that wakes up after its
//! session ended must not think itself young. So the answer's time is kept on the clock that counts suspension, and
//! where the machine may have slept between the answer and the statistics, the earlier time is taken.

use std::collections::HashMap;
use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};
use serde::Deserialize;

/// When the coordinator last answered, on the clock that counts suspension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    at: Duration,
}

impl Answered {
    /// It answered just now.
    pub(super) fn now() -> Self {
        Self { at: counting_suspension() }
    }

    pub(super) fn ago(self) -> Duration {
        counting_suspension().saturating_sub(self.at)
    }
}

/// Turns statistics into [`Answered`].
#[derive(Debug, Default)]
pub(super) struct CoordinatorClock {
    /// The last reading of librdkafka's clock, and how far the other one was ahead of it.
    last: Option<(Duration, Duration)>,
    /// How far it was ahead at the latest reading before the last answer.
    base: Option<Duration>,
}

#[derive(Deserialize)]
struct Statistics {
    /// librdkafka's clock when it wrote this, in microseconds.
    ts: i64,
    brokers: HashMap<String, Broker>,
}

#[derive(Deserialize)]
struct Broker {
    /// Microseconds since something was received; -1 for never, or not connected.
    rxidle: i64,
}

impl CoordinatorClock {
    /// `None` while the coordinator is not connected.
    pub(super) fn read(&mut self, json: &str) -> Option<Answered> {
        let statistics: Statistics = serde_json::from_str(json).ok()?;
        let idle = u64::try_from(statistics.brokers.get("GroupCoordinator")?.rxidle).ok()?;
        let written = Duration::from_micros(u64::try_from(statistics.ts).ok()?);
        let answered = written.saturating_sub(Duration::from_micros(idle));
        Some(self.at(answered, librdkafkas(), counting_suspension()))
    }

    /// `answered` and `now` on librdkafka's clock, `now_suspended` on the one that counts suspension.
    fn at(&mut self, answered: Duration, now: Duration, now_suspended: Duration) -> Answered {
        let ahead = now_suspended.saturating_sub(now);
        if self.last.is_none_or(|(at, _)| at <= answered) {
            // At the latest reading before the answer the other clock was no further ahead than at the answer.
            self.base = self.last.map(|(_, ahead)| ahead);
        }
        let base = self.base.unwrap_or(ahead);
        self.last = Some((now, ahead));
        Answered { at: answered + base.min(ahead) }
    }
}

pub(super) fn duration(t: Timespec) -> Duration {
    Duration::new(u64::try_from(t.tv_sec).unwrap_or(0), u32::try_from(t.tv_nsec).unwrap_or(0))
}

/// librdkafka's clock.
fn librdkafkas() -> Duration {
    duration(clock_gettime(if cfg!(target_vendor = "apple") { ClockId::Realtime } else { ClockId::Monotonic }))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn counting_suspension() -> Duration {
    duration(clock_gettime(ClockId::Boottime))
}

/// Elsewhere librdkafka's own clock has to do; on Apple's systems it is the wall clock, which counts suspension.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn counting_suspension() -> Duration {
    librdkafkas()
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn the_coordinators_last_answer_is_found() {
        let json = |idle: i64| {
            let ts = librdkafkas().as_micros();
            format!(
                r#"{{"name":"n","ts":{ts},"brokers":{{"b:9092/1":{{"rxidle":5,"x":1}},"GroupCoordinator":{{"state":"UP","rxidle":{idle}}}}}}}"#
            )
        };
        let mut clock = CoordinatorClock::default();
        let ago = clock.read(&json(2_000_000)).map(Answered::ago).unwrap_or_default();
        assert!(ago >= S(2) && ago < S(30), "{ago:?}");
        assert_eq!(clock.read(&json(-1)), None);
        assert_eq!(clock.read(r#"{"ts":1,"brokers":{}}"#), None);
        assert_eq!(clock.read("not json"), None);
    }

    #[test]
    fn a_sleep_of_the_machine_between_answer_and_statistics_counts() {
        let mut clock = CoordinatorClock::default();
        assert_eq!(clock.at(S(10), S(10), S(110)), Answered { at: S(110) });
        // Awake for one second, asleep for 1,000, and nothing heard since second 10.5: that was before the sleep.
        let heard = Duration::from_millis(10_500);
        assert_eq!(clock.at(heard, S(11), S(1_111)), Answered { at: heard + S(100) });
        // The same answer is told again, then a new one comes.
        assert_eq!(clock.at(heard, S(12), S(1_112)), Answered { at: heard + S(100) });
        assert_eq!(clock.at(S(13), S(13), S(1_113)), Answered { at: S(1_113) });
    }
}
