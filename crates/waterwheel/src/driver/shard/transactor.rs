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

mod abort;
mod commit;
mod outputs;
mod spans;
mod turns;

use std::collections::HashMap;
use std::num::NonZeroU128;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt};
use waterwheel_core::{Epoch, Now, PartitionId};

use self::spans::Sends;
use super::starts::Concluded;
use crate::client::{Outgoing, Parcel, TransactionError, TransactionErrorKind};
use crate::config::names;
use crate::driver::transaction::{self, Answers, Broken, Origin, Seat};
use crate::error::KafkaError;
use crate::failure::Failure;
use crate::record::{Record, TopicPartition};
use crate::settings::OnMapFull;
use crate::spans::Span;
use crate::transform::Outputs;

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
    Committing { since: Now, cuts: Vec<Cut>, span: Option<Span> },
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
    spans: Sends,
    sent: Answers,
    sent_records: usize,
    sent_bytes: usize,
    parts: Vec<Option<Part>>,
    /// Some partition is drained, and that has not been told yet.
    drains: bool,
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
            spans: Sends::default(),
            sent: Answers::new(),
            sent_records: 0,
            sent_bytes: 0,
            parts: Vec::new(),
            drains: false,
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
        self.spans.forget(id);
        self.waiting_bytes = self.waiting.iter().map(|(_, record)| size_of_outgoing(record)).sum();
    }

    /// Whether the letter about that record was too large for its topic.
    pub(super) fn was_too_large(&self, record: &Record) -> bool {
        self.refused.get(&(record.assignment().id, record.offset())).is_some_and(|(error, _)| error.is_too_large())
    }

    /// Whether a record's outputs can be sent at all. Those that the cluster refused are not sent again at once: each time
    /// would cost a transaction.
    fn check(&self, record: &Record, outputs: &Outputs, now: Now) -> Result<(), Failure> {
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
    fn take(&mut self, origin: Origin, mut outputs: Outputs) {
        self.spans.take(origin.id, outputs.take_spans());
        outputs.for_each(|output| self.push(origin, output));
    }

    fn push(&mut self, origin: Origin, output: Outgoing) {
        self.waiting_bytes += size_of_outgoing(&output);
        self.waiting.push((origin, output));
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
        self.spans.hand_over();
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
