//! The way of a transaction, turn by turn.

use std::task::{Context, Poll};

use futures_util::FutureExt;
use waterwheel_core::Now;

use super::spans::kind_of;
use super::{Doing, Hold, Stage, Transactor};
use crate::client::TransactionErrorKind;
use crate::driver::shard::{FromShard, Shard, Work};
use crate::driver::transaction::Broken;
use crate::error::Error;

impl<W: Work> Shard<W> {
    /// Goes on with the transaction; whether that changed anything.
    pub(in super::super) fn serve_transactor(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(mut transactor) = self.transactor.take() else { return false };
        let moved = self.serve(&mut transactor, cx);
        self.transactor = Some(transactor);
        moved
    }

    fn serve(&mut self, t: &mut Transactor, cx: &mut Context<'_>) -> bool {
        let mut moved = false;
        loop {
            self.tell_drained(t);
            let now = self.now();
            match &mut t.stage {
                Stage::Working(_, work) => {
                    let Poll::Ready(result) = work.poll_unpin(cx) else {
                        if !t.waiting.is_empty() {
                            t.since.get_or_insert(now);
                        }
                        return moved;
                    };
                    if let Stage::Working(doing, _) = std::mem::replace(&mut t.stage, Stage::Ready) {
                        self.worked(t, doing, result, now);
                    }
                }
                Stage::Resting(until) if now < *until => return moved,
                Stage::Resting(_) => t.stage = Stage::Ready,
                Stage::Over => return moved,
                Stage::Ready | Stage::Open => {
                    t.read_answers(cx);
                    let handed_over = if t.torn.is_none() { t.hand_over() } else { Ok(()) };
                    if let Err(error) = handed_over {
                        self.fail(t, error.into(), now);
                    } else if let Some(torn) = t.torn.take() {
                        self.fail(t, torn, now);
                    } else {
                        // What was just sent wakes nobody before it is looked at.
                        t.read_answers(cx);
                        self.ask_when_due(t, now);
                        return moved || t.torn.is_some();
                    }
                }
            }
            moved = true;
        }
    }

    /// Asks who the member is once the transaction is to be cut: the answer comes behind all that the coordinator had to
    /// tell before, and is what the offsets are committed by.
    fn ask_when_due(&mut self, t: &mut Transactor, now: Now) {
        let is_open = matches!(t.stage, Stage::Open);
        if t.asked || !t.drains && !t.is_full() && t.since.is_some_and(|since| now < since + t.terms.every) {
            return;
        }
        let mut drains = false;
        let mut has_work = is_open;
        for (id, part) in t.parts().filter(|(_, part)| part.hold == Hold::Held) {
            let of_part = part.is_touched || part.is_unclaimed || self.engine.is_dirty(id);
            has_work |= of_part || part.is_new;
            drains |= of_part && part.drained.is_some();
        }
        if !has_work {
            t.since = None;
            return;
        }
        let since = *t.since.get_or_insert(now);
        let is_due = now >= since + t.terms.every || drains || is_open && t.is_full();
        if is_due {
            t.asked = true;
            self.coordinator.post(FromShard::Asks { shard: self.number });
        }
    }

    /// A call ended.
    fn worked(&mut self, t: &mut Transactor, doing: Doing, result: Result<(), Broken>, now: Now) {
        match (doing, result) {
            (Doing::Committing { since, cuts, span }, result) => {
                if let Some(span) = span {
                    let error = result.as_ref().err().map(|broken| kind_of(&broken.error.error));
                    span.end(error.as_deref());
                }
                match result {
                    Ok(()) => self.committed(t, since, cuts),
                    Err(broken) => self.not_committed(t, cuts, broken, now),
                }
            }
            (Doing::Aborting | Doing::TakingId, Ok(())) => {
                self.reopen_void(t);
                t.rest(now);
            }
            (Doing::Aborting, Err(broken)) => self.take_id_anew(t, broken.error, now),
            (Doing::TakingId, Err(Broken { error, .. })) => {
                let is_final = error.kind == TransactionErrorKind::Fatal && !error.error.may_pass();
                if is_final || error.error.is_unauthorised() {
                    self.give_up(t, Error::Kafka(error.error));
                } else {
                    self.take_id_anew(t, error, now);
                }
            }
        }
    }
}
