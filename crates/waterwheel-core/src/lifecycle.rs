//! The life of a worker.
//!
//! ```text
//! Initialising ─run─▶ Starting ─first assignment─▶ Consuming ─stop─▶ Stopping ─end─▶ Closed
//!                        └──────────────stop──────────────────────────▲
//! ```
//!
//! Owns **I11**: the state moves only along these lines, and never back; whatever else is asked for changes nothing. The
//! end can come from any state, where a worker fails.

/// The states of a worker, in the order it passes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkerState {
    /// Built, not running.
    Initialising,
    /// Running, without partitions so far.
    Starting,
    /// Has joined its group.
    Consuming,
    /// Drains, commits and leaves.
    Stopping,
    /// Over. A worker does not come back.
    Closed,
}

/// What moves a worker on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It was told to run.
    Run,
    /// The group gave it partitions, or said that there are none for it.
    Assigned,
    /// It was told to stop, or has to.
    Stop,
    /// It has left its group, or failed.
    End,
}

impl WorkerState {
    /// The state after `what`: the next one, or the same where `what` does not apply.
    #[must_use]
    pub fn after(self, what: Move) -> Self {
        match (self, what) {
            (Self::Initialising, Move::Run) => Self::Starting,
            (Self::Starting, Move::Assigned) => Self::Consuming,
            (Self::Starting | Self::Consuming, Move::Stop) => Self::Stopping,
            (_, Move::End) => Self::Closed,
            (state, _) => state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Move::{Assigned, End, Run, Stop};
    use super::WorkerState::{Closed, Consuming, Initialising, Starting, Stopping};

    #[test]
    fn the_life_of_a_worker_moves_only_along_its_diagram() {
        let table = [
            (Initialising, [Starting, Initialising, Initialising, Closed]),
            (Starting, [Starting, Consuming, Stopping, Closed]),
            (Consuming, [Consuming, Consuming, Stopping, Closed]),
            (Stopping, [Stopping, Stopping, Stopping, Closed]),
            (Closed, [Closed, Closed, Closed, Closed]),
        ];
        for (state, after) in table {
            for (what, next) in [Run, Assigned, Stop, End].into_iter().zip(after) {
                assert_eq!(state.after(what), next, "{state:?} after {what:?}");
                assert!(next >= state, "never back");
            }
        }
    }
}
