//! Process delay: records that are not due yet are set aside in slots, and so hold up nobody but their own lane.
//!
//! They wait as those in back-off do, within the same limit of records set aside, and hold no credit. Beyond the limit the
//! backlog waits. They are not copied out of their batches, whose records are due about the same time.

use std::time::Duration;

use super::batches::Batches;
use super::slots::{Slot, Stage};
use super::{Engine, Open, Settings, Timer, wall_ms};
use crate::delay::{Wait, wait};
use crate::lanes::Waiting;
use crate::types::{Now, Records};

/// How long the record at that place has to wait; `None` where there is no delay.
#[inline]
pub(super) fn wait_of<R: Records>(
    batches: &Batches<R>,
    settings: &Settings,
    delay: Option<Duration>,
    at: Waiting,
    now: Now,
) -> Option<Wait> {
    let delay = delay?;
    let (written_ms, arrived) = batches.times(at)?;
    let wall = |at| wall_ms(settings.wall_start_ms, at);
    Some(wait(delay, written_ms, wall(arrived), wall(now)))
}

impl<R: Records> Engine<R> {
    /// A record that was taken up and is not due yet waits in a slot.
    pub(super) fn set_aside(&mut self, open: Open, wait: Wait, now: Now) {
        self.disagreed += u64::from(wait.clocks_disagree);
        let until = now + wait.rest;
        let Open { partition: id, batch, index, offset, lane, occupied, .. } = open;
        let lane = lane.or_else(|| self.lane(batch, index));
        let Some(p) = self.partition_mut(id) else { return };
        p.slotted += 1;
        p.delayed += 1;
        if let Some(key) = lane.filter(|_| !occupied) {
            p.lanes.occupy(key);
        }
        let slot = self.slots.insert(Slot::new(id, batch, index, offset, lane, Stage::Delayed { until }));
        self.set_timer(until, Timer::Retry(slot));
    }

    /// How many records had no time, or one ahead of the clock, since this was asked last.
    pub fn take_disagreements(&mut self) -> u64 {
        std::mem::take(&mut self.disagreed)
    }
}
