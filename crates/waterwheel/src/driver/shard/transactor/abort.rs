//! Transactions that cannot be committed: abort, or another client, and the partitions begin anew.

use std::time::Duration;

use futures_util::FutureExt;
use waterwheel_core::engine::CommitPoint;
use waterwheel_core::{Now, PartitionId};

use super::{Doing, DoneSince, FENCED_OFTEN, Hold, LONGEST_REST, Stage, Transactor};
use crate::client::{TransactionError, TransactionErrorKind};
use crate::driver::shard::{FromShard, Shard, Work};
use crate::driver::transaction::{self, Answers, Broken};
use crate::error::Error;
use crate::events::Event;

impl<W: Work> Shard<W> {
    /// The transaction cannot be committed.
    pub(super) fn fail(&mut self, t: &mut Transactor, broken: Broken, now: Now) {
        let Broken { error, unwritten } = broken;
        if let Some((_, error)) = unwritten.iter().find(|(_, error)| error.is_unauthorised()) {
            self.coordinator.post(FromShard::StopAsked(Error::Kafka(error.clone())));
        }
        t.note_refused(unwritten, now);
        self.make_void(t, &error, now);
        match error.kind {
            TransactionErrorKind::Fenced | TransactionErrorKind::Fatal => self.take_id_anew(t, error, now),
            TransactionErrorKind::Retriable | TransactionErrorKind::Abortable => {
                t.stage = Stage::Working(Doing::Aborting, transaction::abort(t.seat.current()).boxed());
            }
        }
    }

    /// The client is of no use any more: another one takes the id, which ends what the old one had open.
    pub(super) fn take_id_anew(&mut self, t: &mut Transactor, error: TransactionError, now: Now) {
        if error.kind == TransactionErrorKind::Fenced {
            let (times, before) = t.fenced;
            t.fenced = (if now.since(before) < FENCED_OFTEN.1 { times + 1 } else { 1 }, now);
            if t.fenced.0 >= FENCED_OFTEN.0 {
                let reason = "another producer takes this transactional id again and again: two workers must not \
                              share one; give each its own with ExactlyOnce::transactional_id";
                let (place, reason) = (format!("transactional id {}", t.seat.id()), reason.to_owned());
                self.give_up(t, Error::Stopped { place, reason });
                return;
            }
        }
        t.aborts += 1;
        let after = LONGEST_REST.min(Duration::from_millis(50) * 2_u32.saturating_pow(t.aborts - 1));
        t.stage = Stage::Working(Doing::TakingId, t.seat.clone().take(Some(after)).boxed());
    }

    /// Nothing can be committed any more: the worker is to stop. To take the id again would only fence who has it now.
    pub(super) fn give_up(&mut self, t: &mut Transactor, error: Error) {
        t.stage = Stage::Over;
        self.reopen_void(t);
        self.coordinator.post(FromShard::StopAsked(error));
    }

    /// Ends the epochs of the partitions that have outputs in the transaction: what was done of them does not count.
    fn make_void(&mut self, t: &mut Transactor, error: &TransactionError, now: Now) {
        (t.sent, t.torn) = (Answers::new(), None);
        t.spans.end(Some(&error.error));
        (t.sent_records, t.sent_bytes) = (0, 0);
        t.aborts += 1;
        let touched: Vec<PartitionId> = t.parts().filter(|(_, part)| part.is_touched).map(|(id, _)| id).collect();
        let names = touched.iter().filter_map(|id| Some(self.assignments.get(id)?.partition.clone())).collect();
        tracing::warn!(%error, id = t.seat.id(), "a transaction is aborted; its records come again");
        self.counts.transactions_aborted += 1;
        self.tell(Event::TransactionAborted { partitions: names, error: error.error.clone() });
        self.lose(&touched, now);
        for id in touched {
            t.forget(id);
            if let Some(part) = t.part(id) {
                (part.hold, part.is_touched, part.done) = (Hold::Void, false, DoneSince::default());
            }
        }
    }

    /// What was void is so for the cluster, too: the coordinator begins those partitions anew, or gives them back.
    pub(super) fn reopen_void(&mut self, t: &mut Transactor) {
        let mut again = Vec::new();
        for (id, part) in t.parts().filter(|(_, part)| part.hold == Hold::Void) {
            part.hold = Hold::Told;
            if part.is_draining {
                let point = CommitPoint::bare(part.epoch, part.committed);
                let cut_off = part.drained.take().unwrap_or(0);
                self.coordinator.post(FromShard::Drained { partition: id, point, cut_off });
            } else {
                again.push((id, part.epoch));
            }
        }
        if !again.is_empty() {
            self.coordinator.post(FromShard::RolledBack(again));
        }
    }
}
