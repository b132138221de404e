//! What goes wrong with workers and with the group: deaths, freezes, cuts, sessions that end.

use std::time::Duration;

use super::World;
use crate::counters::Seen;
use crate::properties::{Checked, WorkerId};

impl World {
    /// A worker dies; the broker finds out later.
    pub(crate) fn crash(&mut self, id: WorkerId) -> Checked {
        self.saw(Seen::Crash);
        self.resolve_commits(id)?;
        self.forget(id);
        self.workers.remove(&id);
        Ok(())
    }

    /// A worker stands still, as a stopped process does, or goes on.
    pub(crate) fn freeze_or_thaw(&mut self, id: WorkerId, now: waterwheel_core::Now) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.frozen = !worker.frozen;
        let member = worker.member;
        if worker.frozen {
            self.saw(Seen::Frozen);
        } else {
            worker.next_beat = now;
            // A stop that was to end meanwhile still has its commit.
            if let Some(by) = worker.stop_by {
                worker.stop_by = Some(by.max(worker.clock.reading(now) + 2 * self.setup.group.commit_timeout));
                self.saw(Seen::StopOfFrozen);
            }
            if member.is_some_and(|m| !self.coordinator.is_member(m)) {
                self.saw(Seen::FrozenPastSession);
            }
        }
    }

    /// A worker loses the coordinator while it goes on reading, or finds it again.
    pub(crate) fn cut_off_or_back(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        worker.cut_off = !worker.cut_off;
        if worker.cut_off {
            self.saw(Seen::CutOff);
        } else {
            // Before anything else is asked of the coordinator.
            self.heartbeat(id);
        }
    }

    /// Somebody removes a member by hand.
    pub(crate) fn kick(&mut self, id: WorkerId) {
        let Some(worker) = self.workers.get_mut(&id) else { return };
        let Some(member) = worker.member.filter(|m| self.coordinator.is_member(*m)) else { return };
        worker.kicked = true;
        self.coordinator.remove(member, &mut self.rng, self.now);
        self.saw(Seen::Kicked);
    }

    pub(crate) fn move_coordinator(&mut self) {
        let away = Duration::from_millis(self.rng.range(0..=100));
        self.coordinator.move_away(self.now + away);
        self.saw(Seen::CoordinatorMoved);
    }

    /// Members that are not heard, or that do not give back in time, are removed.
    pub(crate) fn expire(&mut self) {
        if self.coordinator.is_away(self.now) {
            return;
        }
        while let Some((member, silent)) = self.coordinator.overdue(self.now) {
            if !silent {
                let of = |w: &&mut super::worker::Worker| w.member == Some(member);
                self.workers.values_mut().filter(of).for_each(|w| w.kicked = true);
            }
            self.coordinator.remove(member, &mut self.rng, self.now);
            self.saw(if silent { Seen::SessionExpired } else { Seen::RevocationTooLong });
            self.note(format_args!("member {member} is removed, silent: {silent}"));
        }
    }

    pub(crate) fn rebalance(&mut self) {
        if self.coordinator.is_revoking() {
            self.saw(Seen::RevokedUnderRevocation);
        }
        self.coordinator.rebalance(&mut self.rng, self.now);
    }

    pub(crate) fn letters_down_or_up(&mut self) {
        self.letters_down = !self.letters_down;
        if self.letters_down {
            self.saw(Seen::LetterDown);
        }
    }
}
