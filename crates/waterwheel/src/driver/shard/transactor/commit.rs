//! The cut of a transaction, and its commit.

use futures_util::FutureExt;
use waterwheel_core::group::CommitTrouble;
use waterwheel_core::{Now, PartitionId};

use super::{Cut, Doing, Hold, Part, ROOM, Stage, Transactor};
use crate::client::{GroupMetadata, TransactionError};
use crate::driver::claims::{self, Mapped};
use crate::driver::shard::{FromShard, Shard, Work};
use crate::driver::transaction::{self, Broken};
use crate::settings::OnMapFull;

impl<W: Work> Shard<W> {
    /// The coordinator says who the member is: the transaction is cut here.
    pub(in super::super) fn cut(&mut self, of: Option<GroupMetadata>) {
        let Some(mut transactor) = self.transactor.take() else { return };
        let (t, now) = (&mut *transactor, self.now());
        t.asked = false;
        if of.is_none() {
            t.since = Some(now);
        }
        if let Some(of) = of
            && t.torn.is_none()
            && matches!(t.stage, Stage::Ready | Stage::Open)
            && let Err(error) = self.cut_by(t, of, now)
        {
            self.fail(t, error.into(), now);
        }
        self.transactor = Some(transactor);
    }

    fn cut_by(&mut self, t: &mut Transactor, of: GroupMetadata, now: Now) -> Result<(), TransactionError> {
        t.hand_over()?;
        let engine = &self.engine;
        let claims = |(id, part): &(PartitionId, &mut Part)| {
            part.hold == Hold::Held && (part.is_new || part.is_unclaimed || engine.is_dirty(*id))
        };
        let ids: Vec<PartitionId> = t.parts().filter(claims).map(|(id, _)| id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        if matches!(t.stage, Stage::Ready) {
            t.seat.current().begin()?;
            t.stage = Stage::Open;
        }
        let (mut commits, mut cuts) = (Vec::with_capacity(ids.len()), Vec::with_capacity(ids.len()));
        let room = ROOM / ids.len();
        for id in ids {
            let (Some(point), Some(assignment)) = (self.engine.commit_point(id), self.assignments.get(&id)) else {
                continue;
            };
            let name = assignment.partition.clone();
            let Some(part) = t.part(id) else { continue };
            let (epoch, offset) = (point.epoch, point.offset);
            let Mapped { commit, cut, is_full } =
                claims::with_map(name.clone(), point, part.topic_id, part.map_limit.min(room));
            if let Some(cut) = cut {
                self.counts.maps_cut += 1;
                self.tell(cut);
            }
            if let Some(witness) = &self.common.witness {
                witness.committing(&name, offset);
            }
            part.is_unclaimed = true;
            cuts.push(Cut { id, epoch, name, offset, done: std::mem::take(&mut part.done) });
            commits.push(commit);
            if t.terms.on_map_full == OnMapFull::Hold {
                self.engine.set_map_full(id, epoch, is_full);
            }
        }
        let spans = self.common.spans.as_ref();
        let span = spans.map(|(spans, group)| spans.commit(group, cuts.iter().map(|cut| &cut.name)));
        let work = transaction::commit(t.seat.current(), std::mem::take(&mut t.sent), commits, of);
        t.stage = Stage::Working(Doing::Committing { since: now, cuts, span }, work.boxed());
        (t.since, t.sent_records, t.sent_bytes) = (None, 0, 0);
        Ok(())
    }

    pub(super) fn committed(&mut self, t: &mut Transactor, since: Now, cuts: Vec<Cut>) {
        t.aborts = 0;
        t.spans.end(None);
        t.parts().for_each(|(_, part)| part.is_touched = false);
        for Cut { id, epoch, name, offset, done } in cuts {
            self.counts.succeeded += done.succeeded;
            done.concluded.into_iter().for_each(|concluded| self.announce(concluded));
            if let Some(witness) = &self.common.witness {
                witness.committed(&name, offset, Ok(()));
            }
            if let Some(part) = t.held(id, epoch) {
                (part.committed, part.is_unclaimed, part.is_new) = (offset, false, false);
                t.refused.retain(|(of, at), _| *of != id || *at >= offset);
            }
        }
        self.counts.commits += 1;
        self.coordinator.post(FromShard::Committed { since });
    }

    pub(super) fn not_committed(&mut self, t: &mut Transactor, cuts: Vec<Cut>, broken: Broken, now: Now) {
        let error = &broken.error.error;
        self.counts.commit_failures += 1;
        self.coordinator.post(FromShard::CommitFailed(error.clone()));
        let trouble = claims::trouble_of(error);
        if trouble == CommitTrouble::Fenced {
            let of = cuts.iter().map(|cut| (cut.id, cut.epoch)).collect();
            self.coordinator.post(FromShard::Fenced(of));
        }
        for Cut { id, epoch, name, offset, mut done } in cuts {
            if let Some(witness) = &self.common.witness {
                witness.committed(&name, offset, Err(error));
            }
            if let Some(part) = t.held(id, epoch) {
                if trouble == CommitTrouble::TooLarge {
                    // Half as large, until at last the frontier goes alone.
                    part.map_limit = if part.map_limit < 64 { 0 } else { part.map_limit / 2 };
                }
                done.succeeded += part.done.succeeded;
                done.concluded.append(&mut part.done.concluded);
                part.done = done;
            }
        }
        self.fail(t, broken, now);
    }
}
