//! A shard whose starts are held back: it asks the worker's [`Gate`] before it starts records, and tells it how attempts
//! end. Successes and times are gathered and told once a turn, failures at once.

use std::sync::Arc;
use std::task::Context;

use waterwheel_core::Now;
use waterwheel_core::adaptive::Sample;
use waterwheel_core::breaker::{Trial, Verdict};
use waterwheel_core::engine::{HoldReason, SlotId, Start};
use waterwheel_core::gate::{Answer, Leave};

use super::{Shard, TURN, Work};
use crate::driver::gate::{Gate, end_of};
use crate::failure::Failure;

/// What a shard knows of the gate, and has not told it yet.
pub(super) struct Gated {
    gate: Arc<Gate>,
    shard: usize,
    /// It stands in the gate's queue, and asks again then.
    waits: Option<Option<Now>>,
    /// It does so only until it has looked for credits.
    lacks_credits: bool,
    /// While a record is being started: whether nobody said yet what became of the attempt, and whose probe it is.
    starting: Option<Option<Trial>>,
    /// Probes that run.
    probes: Vec<(SlotId, Trial)>,
    succeeded: u32,
    sample: Sample,
    /// When the sample's epoch began.
    from: Now,
    /// The adaptive limit that the engine goes by.
    limit: Option<usize>,
}

/// An attempt in a slot, as it was before its end was told to the engine.
#[derive(Clone, Copy)]
pub(super) struct GatedAttempt {
    /// `None`: it does not count any more.
    begun: Option<Now>,
    trial: Option<Trial>,
}

impl Gated {
    pub(super) fn new(gate: Arc<Gate>, shard: usize) -> Self {
        Self {
            limit: gate.limit(),
            gate,
            shard,
            waits: None,
            lacks_credits: false,
            starting: None,
            probes: Vec::new(),
            succeeded: 0,
            sample: Sample::default(),
            from: Now::default(),
        }
    }

    /// When the gate is to be asked again.
    pub(super) fn wakes_at(&self) -> Option<Now> {
        self.waits.flatten()
    }

    /// A timer was due.
    pub(super) fn woken(&mut self, at: Now) {
        if let Some(wakes_at) = &mut self.waits {
            wakes_at.take_if(|wakes_at| *wakes_at <= at);
        }
    }

    /// Why nothing starts at the moment.
    pub(super) fn holds(&self) -> Option<HoldReason> {
        match self.waits {
            _ if self.gate.is_shut() => Some(HoldReason::Breaker),
            Some(_) => Some(HoldReason::RateLimit),
            None => None,
        }
    }

    fn leave_queue(&mut self) {
        if self.waits.take().is_some() {
            self.gate.leave_queue(self.shard);
        }
    }

    /// An attempt that is no probe ended.
    fn count(&mut self, begun: Now, how: Verdict, now: Now) {
        match how {
            Verdict::Succeeded => self.succeeded += 1,
            Verdict::Failed => self.gate.failed(std::mem::take(&mut self.succeeded), begun, now),
            Verdict::Nothing => {}
        }
    }
}

impl<W: Work> Shard<W> {
    /// Starts as many records as the gate lets through; whether there may be more. Not `open`: none.
    pub(super) fn start_gated(&mut self, open: bool, cx: &Context<'_>) -> bool {
        let mut now = self.now();
        self.follow_limit();
        self.forget_lost_probes(now);
        let Some(gated) = &mut self.gated else { return false };
        gated.lacks_credits = false;
        if !open || !self.engine.has_turns(now) {
            gated.leave_queue();
            return false;
        }
        let leave = match gated.gate.ask(gated.shard, TURN as u32, now, cx.waker()) {
            Answer::Go(leave) => leave,
            Answer::Until(at) => {
                gated.waits = Some(Some(at));
                return false;
            }
            Answer::Wait => {
                gated.waits = Some(None);
                return false;
            }
        };
        gated.waits = None;
        let (mut started, mut bytes, mut more) = (0, 0, true);
        self.work.begin(now);
        while started < leave.starts && bytes < leave.bytes && self.goes_on(&leave) {
            let Some(Start { records, index, attempt, first_failed_ms }) = self.engine.next_start(now) else {
                more = false;
                break;
            };
            let record = records.record(index);
            started += 1;
            bytes += record.bytes() as u64;
            if let Some(gated) = &mut self.gated {
                gated.starting = Some(leave.trial);
            }
            W::start(self, record, attempt, first_failed_ms, now);
            // It ended well where it began.
            self.opened_with(Verdict::Succeeded, now);
            if let Some(at) = W::started(self) {
                now = at;
            }
        }
        self.work.rest();
        let lacks_credits = !more && self.engine.wanted_credits() > 0;
        if let Some(gated) = &mut self.gated {
            gated.lacks_credits = lacks_credits;
            gated.waits = lacks_credits.then_some(None);
            gated.gate.settle(leave, started, bytes, lacks_credits.then_some(gated.shard), now);
        }
        self.tell_gate(now);
        more
    }

    /// Whether leave that was given is good yet: a breaker may have opened meanwhile.
    fn goes_on(&self, leave: &Leave) -> bool {
        self.gated.as_ref().is_some_and(|gated| gated.gate.is_good(leave))
    }

    /// There are no credits for what the gate would let through: others may have their turn.
    pub(super) fn make_way(&mut self) {
        if let Some(gated) = &mut self.gated
            && std::mem::take(&mut gated.lacks_credits)
        {
            gated.leave_queue();
        }
    }

    /// Another limit is in force.
    fn follow_limit(&mut self) {
        let Some(gated) = &mut self.gated else { return };
        let limit = gated.gate.limit();
        if let Some(credits) = limit.filter(|_| limit != gated.limit) {
            gated.limit = limit;
            self.engine.set_concurrency(credits);
        }
    }

    /// Probes that were gathered, and whose partition left before they ran, will never end.
    fn forget_lost_probes(&mut self, now: Now) {
        let Some(gated) = &mut self.gated else { return };
        if gated.probes.is_empty() {
            return;
        }
        let (engine, gate) = (&self.engine, &gated.gate);
        gated.probes.retain(|(slot, trial)| {
            let is_under_way = engine.is_under_way(*slot);
            if !is_under_way {
                gate.probed(*trial, Verdict::Nothing, now);
            }
            is_under_way
        });
    }

    /// The open record's attempt goes on in a slot.
    pub(super) fn park_open(&mut self, now: Now) -> Option<SlotId> {
        let slot = self.engine.park_open(now)?;
        self.goes_on_in(slot);
        Some(slot)
    }

    pub(super) fn goes_on_in(&mut self, slot: SlotId) {
        if let Some(gated) = &mut self.gated
            && let Some(Some(trial)) = gated.starting.take()
        {
            gated.probes.push((slot, trial));
        }
    }

    /// The open record failed where it began.
    pub(super) fn opened_as(&mut self, failure: &Failure, now: Now) {
        if self.gated.is_some() {
            self.opened_with(end_of(failure), now);
        }
    }

    /// The open record ended where it began, unless that was told.
    fn opened_with(&mut self, how: Verdict, now: Now) {
        let Some(gated) = &mut self.gated else { return };
        match gated.starting.take() {
            Some(Some(trial)) => gated.gate.probed(trial, how, now),
            Some(None) => gated.count(now, how, now),
            None => {}
        }
    }

    /// The attempt in a slot, before its end is told to the engine.
    pub(super) fn gated_attempt(&mut self, slot: SlotId) -> Option<GatedAttempt> {
        let gated = self.gated.as_mut()?;
        let probe = gated.probes.iter().position(|(of, _)| *of == slot);
        let trial = probe.map(|at| gated.probes.swap_remove(at).1);
        Some(GatedAttempt { begun: self.engine.running_since(slot), trial })
    }

    /// An attempt ended like that.
    pub(super) fn ended_as(&mut self, attempt: Option<GatedAttempt>, how: Verdict, now: Now) {
        if let Some(attempt) = attempt {
            self.ended_together(&[attempt], how, now);
        }
    }

    /// The attempts of a batch ended: to a breaker they are one.
    pub(super) fn ended_together(&mut self, attempts: &[GatedAttempt], how: Verdict, now: Now) {
        let Some(gated) = &mut self.gated else { return };
        let mut is_counted = false;
        for &GatedAttempt { begun, trial } in attempts {
            let how = if begun.is_some() { how } else { Verdict::Nothing };
            match (trial, begun) {
                (Some(trial), _) => gated.gate.probed(trial, how, now),
                (None, Some(begun)) if !std::mem::replace(&mut is_counted, true) => gated.count(begun, how, now),
                _ => {}
            }
            if let Some(begun) = begun.filter(|_| gated.limit.is_some() && how != Verdict::Nothing) {
                gated.sample.add(begun, now, gated.from, how == Verdict::Succeeded);
            }
        }
    }

    /// Tells the gate what ended well, and how long that took.
    pub(super) fn tell_gate(&mut self, now: Now) {
        let Some(gated) = &mut self.gated else { return };
        if gated.succeeded > 0 || gated.sample.ended > 0 {
            let (succeeded, sample) = (std::mem::take(&mut gated.succeeded), std::mem::take(&mut gated.sample));
            let (epoch, from) = gated.gate.ended(succeeded, &sample, &self.common.pool, now);
            (gated.sample.epoch, gated.from) = (epoch, from);
        }
    }
}

/// Of two ends in a batch, the one that counts: what the handler needs was there if anything succeeded.
pub(super) fn better(one: Verdict, other: Verdict) -> Verdict {
    match (one, other) {
        (Verdict::Succeeded, _) | (_, Verdict::Succeeded) => Verdict::Succeeded,
        (Verdict::Failed, _) | (_, Verdict::Failed) => Verdict::Failed,
        _ => Verdict::Nothing,
    }
}
