//! The life of a worker.
//!
//! ```text
//!   Initialising ─────────── run, if it is to begin stopped ───────────┐
//!        │ run                                                         ▼
//!        ├───────▶ Starting ── assigned ──▶ Consuming               Stopped
//!        │           ▲ │                        │                    ▲ │
//!        │           │ └────────── stop ────────┴─▶ Stopping ─rested─┘ │
//!        │           └─────────────────────── start ───────────────────┘
//!        │
//!        └─ close, from every state but Closed ─▶ Closing ─ end ─▶ Closed
//! ```
//!
//! Owns **I11**: the state moves only along these lines; whatever else is asked for changes nothing. The end can come from
//! any state, where a worker fails or is dropped, and is for good.

/// The states of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkerState {
    /// Built, not running.
    Initialising,
    /// Running, without clients: it is in no group and does nothing until it is started or closed.
    Stopped,
    /// Has clients, or is making them; it was given no partitions so far.
    Starting,
    /// Has joined its group.
    Consuming,
    /// Drains, commits and leaves the group; then it is stopped.
    Stopping,
    /// Drains, commits and leaves the group; then it is over.
    Closing,
    /// Over. A worker does not come back.
    Closed,
}

/// What moves a worker on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    /// It was told to run, and to start with it.
    Run,
    /// It was told to run, and to wait for its start.
    RunStopped,
    /// It was told to start.
    Start,
    /// The group gave it partitions, or said that there are none for it.
    Assigned,
    /// It was told to stop.
    Stop,
    /// Its session is over: nothing runs, and the group is left.
    Rested,
    /// It was told to close, or has to.
    Close,
    /// Its run has ended.
    End,
}

impl WorkerState {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Initialising,
        Self::Stopped,
        Self::Starting,
        Self::Consuming,
        Self::Stopping,
        Self::Closing,
        Self::Closed,
    ];

    /// The state's name, in small letters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initialising => "initialising",
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Consuming => "consuming",
            Self::Stopping => "stopping",
            Self::Closing => "closing",
            Self::Closed => "closed",
        }
    }

    /// The state after `what`: the next one, or the same where `what` does not apply.
    #[must_use]
    pub fn after(self, what: Move) -> Self {
        match (self, what) {
            (Self::Closed, _) | (_, Move::End) => Self::Closed,
            (_, Move::Close) => Self::Closing,
            (Self::Initialising, Move::Run) | (Self::Stopped, Move::Start) => Self::Starting,
            (Self::Initialising, Move::RunStopped) | (Self::Stopping, Move::Rested) => Self::Stopped,
            (Self::Starting, Move::Assigned) => Self::Consuming,
            (Self::Starting | Self::Consuming, Move::Stop) => Self::Stopping,
            (state, _) => state,
        }
    }

    /// Whether whoever waits for `wanted` need not wait on: it is in that state, or in the one that follows it by itself.
    pub fn has_reached(self, wanted: Self) -> bool {
        self == wanted
            || matches!(
                (wanted, self),
                (Self::Starting, Self::Consuming) | (Self::Stopping, Self::Stopped) | (Self::Closing, Self::Closed)
            )
    }

    /// Whether it has a session: clients, and perhaps work.
    pub fn has_session(self) -> bool {
        matches!(self, Self::Starting | Self::Consuming | Self::Stopping)
    }
}

#[cfg(test)]
mod tests {
    use super::Move::{Assigned, Close, End, Rested, Run, RunStopped, Start, Stop};
    use super::WorkerState::{Closed, Closing, Consuming, Initialising, Starting, Stopped, Stopping};
    use super::*;

    const MOVES: [Move; 8] = [Run, RunStopped, Start, Assigned, Stop, Rested, Close, End];

    #[test]
    fn the_life_of_a_worker_moves_only_along_its_diagram() {
        #[rustfmt::skip]
        let table = [
            //                Run           RunStopped    Start         Assigned      Stop          Rested        Close    End
            (Initialising, [Starting,     Stopped,      Initialising, Initialising, Initialising, Initialising, Closing, Closed]),
            (Stopped,      [Stopped,      Stopped,      Starting,     Stopped,      Stopped,      Stopped,      Closing, Closed]),
            (Starting,     [Starting,     Starting,     Starting,     Consuming,    Stopping,     Starting,     Closing, Closed]),
            (Consuming,    [Consuming,    Consuming,    Consuming,    Consuming,    Stopping,     Consuming,    Closing, Closed]),
            (Stopping,     [Stopping,     Stopping,     Stopping,     Stopping,     Stopping,     Stopped,      Closing, Closed]),
            (Closing,      [Closing,      Closing,      Closing,      Closing,      Closing,      Closing,      Closing, Closed]),
            (Closed,       [Closed,       Closed,       Closed,       Closed,       Closed,       Closed,       Closed,  Closed]),
        ];
        assert_eq!(table.map(|(state, _)| state), WorkerState::ALL);
        for (state, after) in table {
            for (what, next) in MOVES.into_iter().zip(after) {
                assert_eq!(state.after(what), next, "{state:?} after {what:?}");
            }
        }
    }

    #[test]
    fn who_waits_for_a_state_does_not_wait_for_one_that_is_past() {
        for wanted in WorkerState::ALL {
            for state in WorkerState::ALL {
                let by_itself = [Rested, End].map(|what| wanted.after(what));
                let expected = state == wanted
                    || (wanted, state) == (Starting, Consuming)
                    || (wanted == Stopping && state == by_itself[0])
                    || (wanted == Closing && state == by_itself[1]);
                assert_eq!(state.has_reached(wanted), expected, "{state:?} for {wanted:?}");
            }
        }
    }

    #[test]
    fn a_worker_can_be_closed_from_every_state_and_nothing_opens_it_again() {
        for state in WorkerState::ALL {
            let closing = state.after(Close);
            assert!(matches!(closing, Closing | Closed));
            for what in MOVES {
                assert!(matches!(closing.after(what), Closing | Closed), "{what:?}");
            }
        }
    }
}
