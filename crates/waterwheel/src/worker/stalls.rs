//! What becomes of records that are stuck.

use waterwheel_core::engine::{Stall, Wish};

use super::WorkerBuilder;
use crate::config::ConfigError;
use crate::settings::{Execution, OnStall};

impl WorkerBuilder {
    /// What happens to an attempt that runs for longer than [`stall_after`](Self::stall_after). Default: [`OnStall::Warn`].
    ///
    /// What cuts an attempt drops its future, as [`handler_timeout`](Self::handler_timeout) does: at a point where it waits.
    /// Refused with [`Execution::Blocking`], whose threads nothing ends, where a `handler_timeout` would always be first, and,
    /// of a batch, whose stuck record is not known, all but `Warn` and `TimeOut`.
    pub fn on_stall(mut self, policy: OnStall) -> Self {
        self.on_stall = policy;
        self
    }

    pub(super) fn check_stalls(&self) -> Result<(), ConfigError> {
        let mistake = |problem: &str, remedy: &str| Err(ConfigError::new("on_stall", problem).remedy(remedy));
        let policy = self.on_stall;
        if policy == OnStall::Warn {
            return Ok(());
        }
        if self.execution == Execution::Blocking {
            return mistake("cannot end a handler that blocks its thread", "use OnStall::Warn");
        }
        if policy == OnStall::DeadLetter && self.dead_letter.is_none() {
            return mistake("says dead_letter, but no dead-letter topic is configured", "add .dead_letter(..)");
        }
        if self.handler_timeout.is_some_and(|timeout| timeout <= self.stall_after) {
            return mistake("has no effect: handler_timeout ends attempts before stall_after", "leave one of them out");
        }
        if self.gather.max > 1 && policy != OnStall::TimeOut {
            return mistake(
                "is of one record, and in a batch it is not known which one is stuck",
                "use OnStall::TimeOut",
            );
        }
        Ok(())
    }

    /// What the engine does about it.
    pub(super) fn stall(&self) -> Option<Stall> {
        let wish = match self.on_stall {
            OnStall::Warn => return None,
            OnStall::TimeOut => Wish::Policy,
            OnStall::DeadLetter => Wish::DeadLetter,
            OnStall::Park => Wish::Park,
            OnStall::Stop => Wish::Stop,
        };
        Some(Stall { after: self.stall_after, wish })
    }
}
