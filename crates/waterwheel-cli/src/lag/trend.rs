//! Whether a lag grows or shrinks, from one look at it to the next.

use std::collections::VecDeque;
use std::time::Duration;

/// Looks that are compared: at 2 s from one to the next, those of the last 16 s.
const LOOKS: usize = 8;
/// Lags that differ by less than this part of the larger one are the same.
const SAME: f64 = 0.05;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Growing,
    Shrinking,
    Steady,
}

impl Direction {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Growing => "growing",
            Self::Shrinking => "shrinking",
            Self::Steady => "steady",
        }
    }
}

/// The last looks at one group's lag: when, and how many records.
#[derive(Debug, Default)]
pub(super) struct Trend(VecDeque<(Duration, u64)>);

impl Trend {
    /// Adds a look, at a time since some start.
    pub(super) fn look(&mut self, at: Duration, lag: u64) {
        if self.0.len() == LOOKS {
            self.0.pop_front();
        }
        self.0.push_back((at, lag));
    }

    /// By the mean of the newer half of the looks against that of the older half, since what is committed comes in steps.
    pub(super) fn direction(&self) -> Option<Direction> {
        let (older, newer, _) = self.halves()?;
        Some(if (newer - older).abs() <= SAME * newer.max(older) {
            Direction::Steady
        } else if newer > older {
            Direction::Growing
        } else {
            Direction::Shrinking
        })
    }

    /// When nothing will be left if it goes on like this; `None` where it does not shrink.
    pub(super) fn left(&self) -> Option<Duration> {
        let (older, newer, apart) = self.halves()?;
        let lag = self.0.back()?.1;
        if lag == 0 {
            return Some(Duration::ZERO);
        }
        let per_second = (older - newer) / apart;
        (self.direction() == Some(Direction::Shrinking))
            .then(|| Duration::try_from_secs_f64(lag as f64 / per_second).ok())
            .flatten()
    }

    /// The means of both halves, and the seconds from the middle of one to that of the other.
    fn halves(&self) -> Option<(f64, f64, f64)> {
        let half = self.0.len() / 2;
        if half == 0 {
            return None;
        }
        let mean = |looks: &[(Duration, u64)]| {
            let (at, lag) =
                looks.iter().fold((0.0, 0.0), |(at, lag), look| (at + look.0.as_secs_f64(), lag + look.1 as f64));
            (at / looks.len() as f64, lag / looks.len() as f64)
        };
        let looks: Vec<_> = self.0.iter().copied().collect();
        let ((from, older), (to, newer)) = (mean(&looks[..half]), mean(&looks[looks.len() - half..]));
        (to > from).then_some((older, newer, to - from))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trend(lags: &[u64]) -> Trend {
        let mut trend = Trend::default();
        for (second, lag) in lags.iter().enumerate() {
            trend.look(Duration::from_secs(second as u64), *lag);
        }
        trend
    }

    #[test]
    fn a_lag_grows_shrinks_or_stands() {
        let table: [(&[u64], Option<Direction>); 7] = [
            (&[], None),
            (&[5], None),
            (&[0, 0], Some(Direction::Steady)),
            (&[10, 20], Some(Direction::Growing)),
            (&[20, 10, 0], Some(Direction::Shrinking)),
            // Steps of what is committed once a second.
            (&[100, 0, 100, 0, 100, 0, 100, 0], Some(Direction::Steady)),
            // The oldest look is gone.
            (&[9_000_000, 100, 101, 100, 101, 100, 101, 100, 101], Some(Direction::Steady)),
        ];
        for (lags, direction) in table {
            assert_eq!(trend(lags).direction(), direction, "{lags:?}");
        }
    }

    #[test]
    fn what_is_left_is_told_only_of_a_lag_that_shrinks() {
        assert_eq!(trend(&[400, 300, 200, 100]).left(), Some(Duration::from_secs(1)));
        assert_eq!(trend(&[300, 0]).left(), Some(Duration::ZERO));
        assert_eq!(trend(&[100, 200]).left(), None);
        assert_eq!(trend(&[100, 100]).left(), None);
        assert_eq!(trend(&[100]).left(), None);
    }
}
