//! The transactions of a shard whose worker works exactly once: what its attempts produce, the letters about those that
//! failed, and the offsets of what is finished take effect together, or not at all.
//!
//! ```text
//!           ┌──────────────── commit ok: counts, events ◀───────────────┐
//! take id ─▶ ready ─first output─▶ open ─due: who is this member?─▶ cut: points ─▶ offsets, commit
//!           ▲                       │ torn                               │ failed
//!           └── rest ◀─ reopened ◀──┴────────────── abort ◀──────────────┘  fenced, fatal: take id anew
//! ```
//!
//! A record whose attempt ends well is finished for its key at once: outputs wait here while a transaction is being
//! committed, and go out in the next one. For the group it is finished when the transaction that has its outputs is
//! committed. After an abort each partition that had outputs in it begins anew where the group's commit says, in another
//! epoch, so that what its attempts say later changes nothing.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU128;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use waterwheel_core::engine::{CommitPoint, Outcome, SlotId, Verdict};
use waterwheel_core::group::CommitTrouble;
use waterwheel_core::{Epoch, Now, PartitionId};

use super::starts::Concluded;
use super::{FromShard, Shard, Work};
use crate::client::{GroupMetadata, Outgoing, Parcel, TransactionError, TransactionErrorKind};
use crate::config::names;
use crate::driver::claims;
use crate::driver::transaction::{self, Answers, Broken, Origin, Seat};
use crate::error::{Error, KafkaError};
use crate::events::Event;
use crate::failure::{Failure, FailureClass};
use crate::producer::ProducerRecord;
use crate::record::{Record, TopicPartition};
use crate::settings::OnMapFull;
use crate::transform::Outputs;
use crate::witness::Settled;

/// The longest rest after transactions that were aborted one after another.
const LONGEST_REST: Duration = Duration::from_secs(10);

/// Characters that the maps of one commit may have together: half a megabyte of text that takes three bytes each. (With
/// more a broker refused the whole commit.)
const ROOM: usize = (512 << 10) / 3;

/// How long outputs that were refused count as a failure of their record without being sent again.
const REFUSED_FOR: Duration = Duration::from_secs(300);

/// Who is fenced so often, each time so soon after the time before, shares its transactional id with another that lives. (A
/// transaction that took too long is told as fenced, too, but not as often.)
const FENCED_OFTEN: (u32, Duration) = (4, Duration::from_secs(5));

/// When a transaction is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// After its first record.
    pub(crate) every: Duration,
    /// Most outputs.
    pub(crate) records: usize,
    /// Most bytes of outputs.
    pub(crate) bytes: usize,
    pub(crate) on_map_full: OnMapFull,
}

/// What was finished in a partition since its last cut.
#[derive(Default)]
pub(super) struct DoneSince {
    succeeded: u64,
    concluded: Vec<Concluded>,
}

/// Where a partition stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    Held,
    /// What was done of it since its last commit is void.
    Void,
    /// The same, and the coordinator has been told.
    Told,
}

/// A partition of the shard.
struct Part {
    epoch: Epoch,
    topic_id: Option<NonZeroU128>,
    /// Characters that its map may have.
    map_limit: usize,
    /// What its last commit said.
    committed: i64,
    hold: Hold,
    /// It has outputs in the open transaction.
    is_touched: bool,
    /// Its commit point was taken, and is not committed.
    is_unclaimed: bool,
    /// Where it begins was not committed yet: done with the next commit, because it may be where a seek went.
    is_new: bool,
    done: DoneSince,
    is_draining: bool,
    /// Nothing of it runs any more; how many attempts were cut off.
    drained: Option<usize>,
}

/// A partition in a commit that is under way.
pub(super) struct Cut {
    id: PartitionId,
    epoch: Epoch,
    name: TopicPartition,
    offset: i64,
    done: DoneSince,
}

enum Stage {
    /// No transaction is open.
    Ready,
    Open,
    Working(Doing, BoxFuture<'static, Result<(), Broken>>),
    Resting(Now),
    /// The worker was asked to stop, for good reason: nothing is committed any more.
    Over,
}

enum Doing {
    TakingId,
    Committing { since: Now, cuts: Vec<Cut> },
    Aborting,
}

/// The transactions of one shard. See the module's documentation.
pub(crate) struct Transactor {
    seat: Arc<Seat>,
    terms: Terms,
    stage: Stage,
    /// Outputs that are in no transaction yet.
    waiting: Vec<(Origin, Outgoing)>,
    waiting_bytes: usize,
    sent: Answers,
    sent_records: usize,
    sent_bytes: usize,
    parts: Vec<Option<Part>>,
    /// Why the open transaction must not be committed.
    torn: Option<Broken>,
    /// Records whose outputs the cluster refused: why, and when.
    refused: HashMap<(PartitionId, i64), (KafkaError, Now)>,
    /// Since when there is something to commit.
    since: Option<Now>,
    /// The coordinator was asked who the member is.
    asked: bool,
    /// Transactions that were aborted since one was committed.
    aborts: u32,
    /// How often it was fenced in a row, and when last.
    fenced: (u32, Now),
}

impl Transactor {
    pub(crate) fn new(seat: Arc<Seat>, terms: Terms) -> Self {
        let stage = Stage::Working(Doing::TakingId, seat.clone().take(None).boxed());
        Self {
            seat,
            terms,
            stage,
            waiting: Vec::new(),
            waiting_bytes: 0,
            sent: Answers::new(),
            sent_records: 0,
            sent_bytes: 0,
            parts: Vec::new(),
            torn: None,
            refused: HashMap::new(),
            since: None,
            asked: false,
            aborts: 0,
            fenced: (0, Now::default()),
        }
    }

    fn part(&mut self, id: PartitionId) -> Option<&mut Part> {
        self.parts.get_mut(id.index())?.as_mut()
    }

    fn held(&mut self, id: PartitionId, epoch: Epoch) -> Option<&mut Part> {
        self.part(id).filter(|part| part.epoch == epoch && part.hold == Hold::Held)
    }

    fn parts(&mut self) -> impl Iterator<Item = (PartitionId, &mut Part)> {
        let numbered = self.parts.iter_mut().enumerate();
        numbered.filter_map(|(at, part)| Some((PartitionId(at as u32), part.as_mut()?)))
    }

    /// Whether no more is to be started before a transaction is committed.
    pub(super) fn is_full(&self) -> bool {
        let (records, bytes) = match self.stage {
            Stage::Over => return true,
            Stage::Open => (self.sent_records, self.sent_bytes),
            _ => (self.waiting.len(), self.waiting_bytes),
        };
        records >= self.terms.records || bytes >= self.terms.bytes
    }

    /// When [`Shard::serve_transactor`] is due next, whatever else happens.
    pub(super) fn next_timer(&self) -> Option<Now> {
        match self.stage {
            Stage::Resting(until) => Some(until),
            Stage::Ready | Stage::Open if !self.asked => self.since.map(|since| since + self.terms.every),
            _ => None,
        }
    }

    pub(super) fn assigned(&mut self, id: PartitionId, epoch: Epoch, topic_id: Option<NonZeroU128>, offset: i64) {
        if self.parts.len() <= id.index() {
            self.parts.resize_with(id.index() + 1, || None);
        }
        self.parts[id.index()] = Some(Part {
            epoch,
            topic_id,
            map_limit: 4096,
            committed: offset,
            hold: Hold::Held,
            is_touched: false,
            is_unclaimed: false,
            is_new: true,
            done: DoneSince::default(),
            is_draining: false,
            drained: None,
        });
    }

    /// A partition left. What it has in the open transaction must not be committed: it may be another's already.
    pub(super) fn left(&mut self, id: PartitionId) {
        let Some(part) = self.parts.get_mut(id.index()).and_then(Option::take) else { return };
        self.forget(id);
        if part.hold == Hold::Held {
            self.refused.retain(|(of, _), _| *of != id);
        }
        if part.is_touched && matches!(self.stage, Stage::Open) {
            let error = KafkaError::new(0, "a partition left in the middle of it", "");
            let kind = TransactionErrorKind::Abortable;
            self.torn.get_or_insert_with(|| TransactionError { error, kind }.into());
        }
    }

    /// Drops the outputs of a partition that are in no transaction yet.
    fn forget(&mut self, id: PartitionId) {
        self.waiting.retain(|(origin, _)| origin.id != id);
        self.waiting_bytes = self.waiting.iter().map(|(_, record)| size_of_outgoing(record)).sum();
    }

    /// Whether the letter about that record was too large for its topic.
    pub(super) fn was_too_large(&self, record: &Record) -> bool {
        self.refused.get(&(record.assignment().id, record.offset())).is_some_and(|(error, _)| error.is_too_large())
    }

    /// Whether a record's outputs can be sent at all. Those that the cluster refused are not sent again at once: each time
    /// would cost a transaction.
    fn check(&mut self, record: &Record, outputs: &Outputs, now: Now) -> Result<(), Failure> {
        if !self.refused.is_empty()
            && let Some((error, at)) = self.refused.get(&(record.assignment().id, record.offset()))
            && now < *at + REFUSED_FOR
        {
            let error = error.clone();
            return Err(if error.is_unauthorised() { Failure::stop(error) } else { Failure::retry(error) });
        }
        for output in outputs.as_slice() {
            names::check_topic(&output.topic).map_err(Failure::retry)?;
        }
        Ok(())
    }

    /// Takes in the outputs of a record that is finished otherwise.
    fn take(&mut self, origin: Origin, outputs: Outputs) {
        outputs.for_each(|output| {
            self.waiting_bytes += size_of_outgoing(&output);
            self.waiting.push((origin, output));
        });
    }

    pub(super) fn concluded(&mut self, id: PartitionId, concluded: Concluded) {
        if let Some(part) = self.part(id) {
            part.done.concluded.push(concluded);
        }
    }

    /// Gives what waits to the client, in a transaction.
    fn hand_over(&mut self) -> Result<(), TransactionError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let client = self.seat.current();
        if matches!(self.stage, Stage::Ready) {
            client.begin()?;
            self.stage = Stage::Open;
        }
        (self.sent_records, self.sent_bytes) =
            (self.sent_records + self.waiting.len(), self.sent_bytes + std::mem::take(&mut self.waiting_bytes));
        let (origins, records): (Vec<Origin>, Vec<Outgoing>) = self.waiting.drain(..).unzip();
        for run in origins.chunk_by(|a, b| a.id == b.id) {
            if let Some(part) = self.part(run[0].id) {
                part.is_touched = true;
            }
        }
        let (to, answer) = tokio::sync::oneshot::channel();
        client.producer().send(Parcel::Many(records, to));
        self.sent.push(Box::pin(async move {
            match answer.await {
                Ok(sent) => (origins, sent),
                // Not reached: the port answers every parcel.
                Err(_) => std::future::pending().await,
            }
        }));
        Ok(())
    }

    fn read_answers(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(answer)) = self.sent.poll_next_unpin(cx) {
            if let Some(broken) = transaction::broken_by(answer) {
                match &mut self.torn {
                    Some(torn) => torn.unwritten.extend(broken.unwritten),
                    None => self.torn = Some(broken),
                }
            }
        }
    }

    /// Notes what the cluster will refuse again, so that it counts as a failure of its record.
    fn note_refused(&mut self, unwritten: Vec<(Origin, KafkaError)>, now: Now) {
        for (origin, error) in unwritten {
            if is_refusal(&error) && self.part(origin.id).is_some_and(|part| part.epoch == origin.epoch) {
                self.refused.insert((origin.id, origin.offset), (error, now));
            }
        }
    }

    fn rest(&mut self, now: Now) {
        let rest = match self.aborts {
            0 | 1 => Duration::ZERO,
            n => LONGEST_REST.min(Duration::from_millis(100) * 2_u32.saturating_pow(n - 2)),
        };
        self.stage = Stage::Resting(now + rest);
    }
}

/// Whether the same record would be refused again.
fn is_refusal(error: &KafkaError) -> bool {
    error.is_too_large() || error.is_unauthorised() || error.is_unknown_topic() || error.is_invalid_record()
}

fn size_of_outgoing(record: &Outgoing) -> usize {
    let part = |part: &Option<Arc<[u8]>>| part.as_ref().map_or(0, |bytes| bytes.len());
    let headers: usize = record.headers.iter().map(|(name, value)| name.len() + part(value)).sum();
    size_of::<Outgoing>() + part(&record.key) + part(&record.value) + headers
}

impl<W: Work> Shard<W> {
    // ---- what attempts give -------------------------------------------------------------------------------------

    /// The open record ended well where it began.
    pub(super) fn finish_open_with(&mut self, outputs: Outputs, attempt: u32, now: Now) {
        let Some(record) = self.engine.open_record().map(|(batch, index)| batch.record(index)) else { return };
        match self.transactor.as_mut().map_or(Ok(()), |t| t.check(&record, &outputs, now)) {
            Ok(()) => {
                self.engine.finish_open(Outcome::Ok, now);
                self.take_outputs(&record, outputs);
            }
            Err(failure) => self.fail_open(failure, attempt, now),
        }
    }

    /// An attempt in a slot ended well; or, by what it gave, not.
    pub(super) fn finish_with(&mut self, slot: SlotId, outputs: Outputs, now: Now) -> Result<(), Failure> {
        let record = self.engine.record(slot).map(|(batch, index)| batch.record(index));
        let Some(record) = record else {
            self.engine.ended(slot, Outcome::Ok, now);
            return Ok(());
        };
        let id = record.assignment().id;
        let is_current = self.assignments.get(&id).is_some_and(|a| a.epoch == record.assignment().epoch);
        if let Some(transactor) = self.transactor.as_mut().filter(|_| is_current) {
            transactor.check(&record, &outputs, now)?;
        }
        if self.engine.ended(slot, Outcome::Ok, now) == Verdict::Finished {
            self.take_outputs(&record, outputs);
        }
        Ok(())
    }

    fn take_outputs(&mut self, record: &Record, outputs: Outputs) {
        let Some(transactor) = &mut self.transactor else { return };
        let origin = origin_of(record);
        transactor.take(origin, outputs);
        if let Some(part) = transactor.part(origin.id) {
            part.done.succeeded += 1;
        }
    }

    /// The letter about a record that failed: it is finished with the transaction that has the letter.
    pub(super) fn letter_in_transaction(
        &mut self,
        slot: SlotId,
        record: &Record,
        letter: Outgoing,
        class: FailureClass,
    ) {
        let now = self.now();
        self.engine.settled(slot, true, now);
        if let Some(transactor) = &mut self.transactor {
            transactor.take(origin_of(record), ProducerRecord::of(letter).into());
        }
        self.concluded(record, Settled::DeadLettered, class);
    }

    // ---- partitions that leave ----------------------------------------------------------------------------------

    /// Partitions left, or begin anew.
    pub(super) fn transactor_loses(&mut self, partitions: &[PartitionId]) {
        if let Some(transactor) = &mut self.transactor {
            partitions.iter().for_each(|id| transactor.left(*id));
        }
    }

    /// A partition is to be drained.
    pub(super) fn transactor_drains(&mut self, id: PartitionId) {
        let Some(part) = self.transactor.as_mut().and_then(|t| t.part(id)) else { return };
        part.is_draining = true;
        if part.hold == Hold::Told {
            let point = CommitPoint::bare(part.epoch, part.committed);
            self.coordinator.post(FromShard::Drained { partition: id, point, cut_off: 0 });
        }
    }

    /// Nothing of a partition runs any more: told when that is committed. Whether there is anything to wait for.
    pub(super) fn transactor_drained(&mut self, id: PartitionId, cut_off: usize) -> bool {
        let part = self.transactor.as_mut().and_then(|t| t.part(id));
        part.map(|part| part.drained = Some(cut_off)).is_some()
    }

    /// Tells of the partitions that are drained and of which nothing is left to commit.
    fn tell_drained(&mut self, t: &mut Transactor) {
        if t.parts().all(|(_, part)| part.drained.is_none()) {
            return;
        }
        let waiting: HashSet<PartitionId> = t.waiting.iter().map(|(origin, _)| origin.id).collect();
        let engine = &mut self.engine;
        let is_over = matches!(t.stage, Stage::Over);
        let is_clean = |id: PartitionId, part: &Part| !part.is_touched && !part.is_unclaimed && !waiting.contains(&id);
        for (id, part) in t.parts().filter(|(_, part)| part.hold == Hold::Held && part.drained.is_some()) {
            if (is_over || is_clean(id, part) && !engine.is_dirty(id))
                && let (Some(point), Some(cut_off)) = (engine.commit_point(id), part.drained.take())
            {
                self.coordinator.post(FromShard::Drained { partition: id, point, cut_off });
            }
        }
    }

    // ---- turns --------------------------------------------------------------------------------------------------

    /// Goes on with the transaction; whether that changed anything.
    pub(super) fn serve_transactor(&mut self, cx: &mut Context<'_>) -> bool {
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
        let (is_open, mut drains) = (matches!(t.stage, Stage::Open), false);
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
        if is_due && !t.asked {
            t.asked = true;
            self.coordinator.post(FromShard::Asks { shard: self.number });
        }
    }

    /// A call ended.
    fn worked(&mut self, t: &mut Transactor, doing: Doing, result: Result<(), Broken>, now: Now) {
        match (doing, result) {
            (Doing::Committing { since, cuts }, Ok(())) => self.committed(t, since, cuts),
            (Doing::Committing { cuts, .. }, Err(broken)) => self.not_committed(t, cuts, broken, now),
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

    // ---- commit -------------------------------------------------------------------------------------------------

    /// The coordinator says who the member is: the transaction is cut here.
    pub(super) fn cut(&mut self, of: Option<GroupMetadata>) {
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
            let (commit, cut) = claims::with_map(name.clone(), point, part.topic_id, part.map_limit.min(room));
            if let Some(reach) = cut {
                self.counts.maps_cut += 1;
                self.tell(Event::MapCut { partition: name.clone(), reach });
            }
            if let Some(witness) = &self.common.witness {
                witness.committing(&name, offset);
            }
            part.is_unclaimed = true;
            cuts.push(Cut { id, epoch, name, offset, done: std::mem::take(&mut part.done) });
            commits.push(commit);
            if t.terms.on_map_full == OnMapFull::Hold {
                self.engine.set_map_full(id, epoch, cut.is_some());
            }
        }
        let work = transaction::commit(t.seat.current(), std::mem::take(&mut t.sent), commits, of);
        t.stage = Stage::Working(Doing::Committing { since: now, cuts }, work.boxed());
        (t.since, t.sent_records, t.sent_bytes) = (None, 0, 0);
        Ok(())
    }

    fn committed(&mut self, t: &mut Transactor, since: Now, cuts: Vec<Cut>) {
        t.aborts = 0;
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

    fn not_committed(&mut self, t: &mut Transactor, cuts: Vec<Cut>, broken: Broken, now: Now) {
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

    // ---- abort --------------------------------------------------------------------------------------------------

    /// The transaction cannot be committed.
    fn fail(&mut self, t: &mut Transactor, broken: Broken, now: Now) {
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
    fn take_id_anew(&mut self, t: &mut Transactor, error: TransactionError, now: Now) {
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
    fn give_up(&mut self, t: &mut Transactor, error: Error) {
        t.stage = Stage::Over;
        self.reopen_void(t);
        self.coordinator.post(FromShard::StopAsked(error));
    }

    /// Ends the epochs of the partitions that have outputs in the transaction: what was done of them does not count.
    fn make_void(&mut self, t: &mut Transactor, error: &TransactionError, now: Now) {
        (t.sent, t.torn) = (Answers::new(), None);
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
    fn reopen_void(&mut self, t: &mut Transactor) {
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

fn origin_of(record: &Record) -> Origin {
    let assignment = record.assignment();
    Origin { id: assignment.id, epoch: assignment.epoch, offset: record.offset() }
}
