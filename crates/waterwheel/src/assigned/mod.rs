//! Reading partitions by hand, without a group: straight from the fetch port, and nothing is committed.
//!
//! Where reading has come is a position, not a record: transaction markers, aborted records and what was compacted away
//! count, so that a reader knows that it has come to the end also where no record stands there.

mod batch;
mod builder;
mod mending;
mod part;

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::{Stream, StreamExt};
use waterwheel_core::{Epoch, PartitionId};

pub use self::batch::RecordBatch;
pub use self::builder::{AssignedBuilder, Until};
use self::builder::{Located, Locator};
use self::mending::{Found, Mending, gone, unread};
use self::part::Part;
pub use self::part::PartitionPosition;
use crate::client::{FetchFailure, FetchQueue, Fetched, Fetcher, OffsetSpec};
use crate::driver::places::{Watermarks, no_answer};
use crate::error::{Error, KafkaError};
use crate::record::{Record, TopicPartition};
use crate::settings::{OnGap, Start};

/// Reads partitions from where it is told to, without a group and without commits. Made by
/// [`Client::assigned`](crate::Client::assigned).
///
/// Records come in offset order within a partition; partitions take turns. What is read ahead stays bounded (10,000
/// records or 2 MiB a partition: `queued.min.messages`, `queued.max.messages.kbytes`). Nothing is fetched anew while
/// nobody asks for records, beyond that.
///
/// As a [`Stream`] it yields what [`recv`](Self::recv) does.
pub struct AssignedConsumer {
    queue: Box<dyn FetchQueue>,
    fetcher: Arc<dyn Fetcher>,
    locator: Locator,
    on_gap: OnGap,
    /// By the number in their ids, which is used again.
    parts: Vec<Option<Part>>,
    ids: BTreeMap<TopicPartition, usize>,
    last_epoch: u64,
    /// Partitions that may yield more.
    open: usize,
    /// Fetched and not given yet; goes out before anything else is fetched.
    backlog: VecDeque<RecordBatch>,
    told: VecDeque<ReadEvent>,
    mending: Mending,
}

/// What a reader is told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ReadEvent {
    /// Records.
    Batch(RecordBatch),
    /// All below the end of the partition, as it was when reading it began, has been given: told once, and again after a
    /// seek to before it. With [`Until::End`] nothing more of it comes; else its later records follow.
    AtEnd(TopicPartition),
    /// The records to be read are gone; reading goes on at `to`. Below `from` where the log was cut off or the topic was
    /// made again.
    Gap {
        /// Its partition.
        partition: TopicPartition,
        /// What was to be read next.
        from: i64,
        /// Where reading goes on.
        to: i64,
    },
    /// Something went wrong that is repeated by itself: a broker that is away, a batch that is damaged.
    Trouble {
        /// `None`: with the client as a whole.
        partition: Option<TopicPartition>,
        /// What.
        error: KafkaError,
    },
    /// The partition yields no more, until it is read from another place ([`AssignedConsumer::seek`]); the others go on.
    Failed {
        /// Which.
        partition: TopicPartition,
        /// Why.
        error: KafkaError,
    },
}

impl AssignedConsumer {
    /// What comes next, records in batches; `None` when nothing is left to read: every partition has come to where
    /// [`Until`] ends it, has failed, or was removed. Dropping the future loses nothing.
    pub async fn next_event(&mut self) -> Option<ReadEvent> {
        poll_fn(|cx| {
            Poll::Ready(match std::task::ready!(self.poll_more(cx)) {
                Some(More::Told(event)) => Some(event),
                Some(More::Batch(batch)) => {
                    self.given(&batch);
                    Some(ReadEvent::Batch(batch))
                }
                None => None,
            })
        })
        .await
    }

    /// The next batch of any partition; `None` when nothing is left to read. An error means that its partition yields no
    /// more; the others go on with the next call. Gaps and what is repeated by itself are logged as warnings. Dropping the
    /// future loses nothing.
    pub async fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        loop {
            match self.next_event().await {
                None => return Ok(None),
                Some(ReadEvent::Batch(batch)) => return Ok(Some(batch)),
                Some(event) => unread(event)?,
            }
        }
    }

    /// The next record of any partition; otherwise like [`next_batch`](Self::next_batch). Dropping the future loses
    /// nothing.
    pub async fn recv(&mut self) -> Result<Option<Record>, Error> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Record>, Error>> {
        loop {
            match std::task::ready!(self.poll_more(cx)) {
                None => return Poll::Ready(Ok(None)),
                Some(More::Told(event)) => {
                    if let Err(error) = unread(event) {
                        return Poll::Ready(Err(error));
                    }
                }
                Some(More::Batch(mut batch)) => {
                    let id = batch.batch().assignment().id;
                    let taken = batch.take_first();
                    if !batch.is_empty() {
                        self.backlog.push_front(batch);
                    }
                    if let Some((record, next)) = taken {
                        self.advance(id, next);
                        return Poll::Ready(Ok(Some(record)));
                    }
                }
            }
        }
    }

    /// Reads another partition, too; one that is read already is moved ([`seek`](Self::seek)). Asks the cluster where it
    /// begins and ends; dropping the future before that changes nothing.
    pub async fn add(&mut self, partition: TopicPartition, start: Start) -> Result<(), Error> {
        crate::config::check_topic(&partition.topic)?;
        let counts = self.locator.count_partitions(vec![partition.topic.to_string()]).await?;
        let located = self.locator.locate(vec![(partition, start)], &counts).await?;
        located.into_iter().try_for_each(|located| self.place(located))
    }

    /// Ends the reading of a partition: nothing of it comes after this. No effect if it is not read.
    pub fn remove(&mut self, partition: &TopicPartition) {
        let Some(at) = self.ids.remove(partition) else { return };
        if let Some(part) = self.parts[at].take() {
            self.open -= usize::from(part.is_open());
            self.forget(part.id());
        }
    }

    /// Reads a partition on from another place, or again one that has failed or come to its end; whether it is paused
    /// stays as it is. An error if it is not read ([`add`](Self::add)). Asks the cluster for the place; dropping the future
    /// before that changes nothing.
    pub async fn seek(&mut self, partition: &TopicPartition, start: Start) -> Result<(), Error> {
        if !self.ids.contains_key(partition) {
            return Err(mending::not_read(partition).into());
        }
        self.add(partition.clone(), start).await
    }

    /// Gives nothing of a partition until [`resume`](Self::resume). What is fetched of it is kept, and no more than that
    /// bounded part is fetched. No effect if it is not read.
    pub fn pause(&mut self, partition: &TopicPartition) {
        let Some(part) = self.ids.get(partition).and_then(|at| self.parts[*at].as_mut()) else { return };
        part.paused = true;
        self.queue.hold(part.id());
        let of_it = |batch: &RecordBatch| batch.batch().assignment().id == part.assignment.id;
        let (kept, rest) = std::mem::take(&mut self.backlog).into_iter().partition(of_it);
        self.backlog = rest;
        part.kept.extend::<VecDeque<_>>(kept);
    }

    /// Gives a paused partition's records again, those first that were kept. No effect if it is not paused.
    pub fn resume(&mut self, partition: &TopicPartition) {
        let Some(part) = self.ids.get(partition).and_then(|at| self.parts[*at].as_mut()) else { return };
        part.paused = false;
        self.backlog.extend(part.kept.drain(..));
        self.queue.release(part.id());
    }

    /// How far a partition has come; `None` if it is not read.
    pub fn position(&self, partition: &TopicPartition) -> Option<PartitionPosition> {
        self.ids.get(partition).and_then(|at| self.parts[*at].as_ref()).map(Part::position)
    }

    /// How far each partition has come, in the order of their names and numbers.
    pub fn positions(&self) -> impl Iterator<Item = PartitionPosition> {
        self.ids.values().filter_map(|at| self.parts[*at].as_ref()).map(Part::position)
    }

    /// Whether all that there was when reading began has been given, of every partition.
    pub fn is_at_end(&self) -> bool {
        self.positions().all(|partition| partition.at_end)
    }

    /// Asks the cluster for the first offset that a partition has, and for where it ends now: with
    /// `isolation.level=read_committed`, the default, its last stable offset. Dropping the future leaves the question under
    /// way.
    pub async fn watermarks(&self, partition: &TopicPartition) -> Result<Watermarks, Error> {
        let asked = [OffsetSpec::Earliest, OffsetSpec::Latest].map(|spec| (partition.clone(), spec));
        let mut told = self.locator.admin.list_offsets(asked.into()).await?.into_iter();
        let mut next = || told.next().unwrap_or_else(|| Err(no_answer()));
        Ok(Watermarks { low: next()?, high: next()? })
    }

    /// Ends the consumer. Dropping the future leaves the rest to a thread of its own.
    pub async fn close(self) -> Result<(), Error> {
        drop(self.queue);
        Ok(self.fetcher.close().await?)
    }

    /// Begins, or begins again, to read a partition.
    fn place(&mut self, located: Located) -> Result<(), Error> {
        let at = self.ids.get(&located.partition).copied().unwrap_or_else(|| {
            let free = self.parts.iter().position(Option::is_none);
            free.unwrap_or_else(|| {
                self.parts.push(None);
                self.parts.len() - 1
            })
        });
        self.last_epoch += 1;
        let (id, epoch) = (PartitionId(at as u32), Epoch(self.last_epoch));
        let paused = self.parts[at].as_ref().is_some_and(|part| part.paused);
        self.remove(&located.partition);
        let part = Part::new(id, epoch, located, paused);
        self.queue.add(part.assignment.clone(), part.from())?;
        if paused {
            self.queue.hold(id);
        }
        self.ids.insert(part.assignment.partition.clone(), at);
        let position = part.position;
        self.parts[at] = Some(part);
        self.open += 1;
        // It may be at its end already.
        self.advance(id, position);
        Ok(())
    }

    /// Fetches no more of it, and drops what was fetched.
    fn forget(&mut self, id: PartitionId) {
        self.queue.remove(id);
        self.backlog.retain(|batch| batch.batch().assignment().id != id);
    }

    fn part(&mut self, id: PartitionId, epoch: Epoch) -> Option<&mut Part> {
        self.parts.get_mut(id.0 as usize)?.as_mut().filter(|part| part.assignment.epoch == epoch)
    }

    fn given(&mut self, batch: &RecordBatch) {
        self.advance(batch.batch().assignment().id, batch.next());
    }

    /// All below `to` has been given, or will never come.
    fn advance(&mut self, id: PartitionId, to: i64) {
        let Some(part) = self.parts.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        if part.advance(to) {
            self.told.push_back(ReadEvent::AtEnd(part.assignment.partition.clone()));
        }
        if part.is_over() && part.is_open() {
            part.close();
            self.open -= 1;
            self.queue.remove(id);
        }
    }

    /// Waits for what is to be given next; `None` where nothing will come.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Option<More>> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Poll::Ready(Some(More::Told(event)));
            }
            if let Some(batch) = self.backlog.pop_front() {
                return Poll::Ready(Some(More::Batch(batch)));
            }
            if self.open == 0 {
                return Poll::Ready(None);
            }
            if let Poll::Ready(Some(found)) = self.mending.poll_next_unpin(cx) {
                self.mended(found);
                continue;
            }
            match self.queue.poll_fetch(cx) {
                Poll::Ready(fetched) => self.take(fetched),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn take(&mut self, fetched: Fetched) {
        match fetched {
            Fetched::Batch(batch) => {
                let (id, epoch) = (batch.assignment().id, batch.assignment().epoch);
                let Some(part) = self.part(id, epoch) else { return };
                part.failures = 0;
                let mut batch = RecordBatch::new(batch);
                part.stop.inspect(|stop| batch.cut_at(*stop));
                if batch.is_empty() {
                    self.given(&batch);
                } else {
                    self.backlog.push_back(batch);
                }
            }
            Fetched::SkippedTo { id, epoch, next } => {
                if self.part(id, epoch).is_some() {
                    self.advance(id, next);
                }
            }
            Fetched::Stopped { id, epoch, failure } => self.stopped(id, epoch, failure),
            Fetched::Trouble { id, error } => {
                let part = id.and_then(|id| self.parts.get(id.0 as usize)?.as_ref());
                let partition = part.map(|part| part.assignment.partition.clone());
                self.told.push_back(ReadEvent::Trouble { partition, error });
            }
            // Nothing was asked to be read again.
            Fetched::Reread { .. } => {}
        }
    }

    fn stopped(&mut self, id: PartitionId, epoch: Epoch, failure: FetchFailure) {
        let (admin, on_gap) = (self.locator.admin.clone(), self.on_gap);
        let Some(part) = self.part(id, epoch) else { return };
        let assignment = part.assignment.clone();
        let partition = assignment.partition.clone();
        match failure {
            FetchFailure::OutOfRange { .. } if on_gap == OnGap::Stop => {
                let error = gone(&partition, part.position);
                self.fail(id, error);
            }
            FetchFailure::OutOfRange { .. } => self.mending.push(mending::look(admin, assignment)),
            FetchFailure::Failed(error) => {
                part.failures += 1;
                if part.may_mend(&error) {
                    self.told.push_back(ReadEvent::Trouble { partition: Some(partition), error });
                    self.mending.push(mending::wait(assignment));
                } else {
                    self.fail(id, error);
                }
            }
        }
    }

    fn fail(&mut self, id: PartitionId, error: KafkaError) {
        let Some(part) = self.parts.get_mut(id.0 as usize).and_then(Option::as_mut) else { return };
        part.close();
        self.open -= 1;
        self.queue.remove(id);
        self.told.push_back(ReadEvent::Failed { partition: part.assignment.partition.clone(), error });
    }

    /// Reads on a partition that had stopped, where it is known now how.
    fn mended(&mut self, found: Found) {
        let admin = self.locator.admin.clone();
        let Some(part) = self.part(found.of.id, found.of.epoch) else { return };
        let partition = part.assignment.partition.clone();
        let mut told = None;
        match found.range {
            Ok(Some((low, end))) => {
                let (from, to) = (part.position, part.position.clamp(low, end.max(low)));
                part.moved(to, end);
                told = (from != to).then_some(ReadEvent::Gap { partition, from, to });
            }
            Ok(None) => {}
            Err(error) if part.may_mend(&error) => {
                self.told.push_back(ReadEvent::Trouble { partition: Some(partition), error });
                self.mending.push(mending::look_later(admin, found.of));
                return;
            }
            Err(error) => return self.fail(found.of.id, error),
        }
        let (assignment, from, position, paused) = (part.assignment.clone(), part.from(), part.position, part.paused);
        self.told.extend(told);
        let id = assignment.id;
        if let Err(error) = self.queue.add(assignment, from) {
            return self.fail(id, error);
        }
        if paused {
            self.queue.hold(id);
        }
        self.advance(id, position);
    }
}

/// What is to be given next.
enum More {
    Told(ReadEvent),
    Batch(RecordBatch),
}

impl Stream for AssignedConsumer {
    type Item = Result<Record, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_recv(cx).map(Result::transpose)
    }
}
