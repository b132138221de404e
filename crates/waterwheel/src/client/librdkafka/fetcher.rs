//! Partitions read by hand, each through a queue of its own.
//!
//! The instance knows no group (librdkafka's "legacy" calls, which need none): no coordinator is looked for, nothing can
//! be committed. A partition that is held is not served; librdkafka then stops at `queued.max.messages.kbytes`, and the
//! others go on. A partition that is removed and added again reads through another queue, so nothing old comes out of it.
//!
//! Single records are read again through a second instance, made when it is first needed, because an instance has one
//! position a partition.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use rdkafka::bindings as sys;
use waterwheel_core::{PartitionId, Records as _};

use super::errors;
use super::handle::{Handle, Queue, Topic, lock};
use super::properties::Role;
use super::reader::{Piece, Reader, Room};
use super::ready::{Ready, Signal, Token};
use super::siblings::Setup;
use crate::client::{FetchFailure, FetchQueue, Fetched, Fetcher, PortFuture, Position};
use crate::error::{KafkaError, code};
use crate::record::Assignment;

/// A reader of partitions.
pub(super) struct FetchClient {
    /// `None` once closed.
    core: Mutex<Option<Arc<Core>>>,
}

impl FetchClient {
    pub(super) fn new(properties: &Setup) -> Result<Self, KafkaError> {
        let core = Core::new(properties)?;
        Ok(Self { core: Mutex::new(Some(Arc::new(core))) })
    }
}

impl Fetcher for FetchClient {
    fn warm(&self, topics: &[String]) {
        let Some(core) = lock(&self.core).clone() else { return };
        for topic in topics.iter().filter(|t| !t.starts_with('^')) {
            if let Err(error) = core.instance.topic(topic) {
                tracing::debug!(%error, "a topic cannot be warmed");
            }
        }
    }

    fn queue(&self) -> Result<Box<dyn FetchQueue>, KafkaError> {
        let core = lock(&self.core).clone().ok_or_else(errors::ended)?;
        Ok(Box::new(Shard::new(core)))
    }

    fn close(&self) -> PortFuture<()> {
        let Some(core) = lock(&self.core).take() else { return Box::pin(async { Ok(()) }) };
        let mut ends = vec![core.instance.handle.on_end()];
        ends.extend(lock(&core.rereading).as_ref().map(|again| again.handle.on_end()));
        drop(core);
        Box::pin(async move {
            for end in ends {
                end.await?;
            }
            Ok(())
        })
    }
}

/// What the shards share.
struct Core {
    properties: Setup,
    instance: Instance,
    /// Errors of the whole instance.
    main: Queue,
    trouble: Arc<Trouble>,
    /// The instance for reading again.
    rereading: Mutex<Option<Arc<Instance>>>,
    next_token: AtomicU64,
}

/// An instance and the topics it knows.
struct Instance {
    handle: Arc<Handle>,
    topics: Mutex<HashMap<Arc<str>, Arc<Topic>>>,
}

impl Instance {
    fn topic(&self, name: &str) -> Result<Arc<Topic>, KafkaError> {
        let mut topics = lock(&self.topics);
        if let Some(topic) = topics.get(name) {
            return Ok(topic.clone());
        }
        let topic = Arc::new(Topic::new(&self.handle, name)?);
        topics.insert(name.into(), topic.clone());
        Ok(topic)
    }
}

/// Tells the shards of errors in the main queue.
#[derive(Default)]
struct Trouble {
    raised: AtomicBool,
    shards: Mutex<Vec<Arc<Ready>>>,
}

/// Called under the lock of the main queue; see `ready::on_first`.
unsafe extern "C" fn on_trouble(_: *mut sys::rd_kafka_t, trouble: *mut c_void) {
    // SAFETY: `Core` gave a pointer into an `Arc` that it holds until it has ended the calls.
    let trouble = unsafe { &*trouble.cast::<Trouble>() };
    trouble.raised.store(true, Ordering::Release);
    for shard in &*lock(&trouble.shards) {
        shard.waker.wake();
    }
}

impl Core {
    fn new(properties: &Setup) -> Result<Self, KafkaError> {
        let handle = Handle::new(Role::Fetch, properties, sys::RD_KAFKA_EVENT_ERROR)?;
        let main = Queue::main(&handle)?;
        let trouble = Arc::<Trouble>::default();
        // SAFETY: `trouble` is kept until the calls are ended by `drop`.
        unsafe { main.on_first(Some(on_trouble), Arc::as_ptr(&trouble).cast_mut().cast()) };
        // What came before did not call, and what comes after it would not.
        trouble.raised.store(true, Ordering::Release);
        Ok(Self {
            properties: properties.clone(),
            instance: Instance { handle, topics: Mutex::default() },
            main,
            trouble,
            rereading: Mutex::new(None),
            next_token: AtomicU64::new(0),
        })
    }

    fn rereading(&self) -> Result<Arc<Instance>, KafkaError> {
        let mut rereading = lock(&self.rereading);
        if let Some(instance) = &*rereading {
            return Ok(instance.clone());
        }
        let handle = Handle::new(Role::Reread, &self.properties, 0)?;
        let instance = Arc::new(Instance { handle, topics: Mutex::default() });
        Ok(rereading.insert(instance).clone())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // SAFETY: ends the calls.
        unsafe { self.main.on_first(None, std::ptr::null_mut()) }
    }
}

/// The partitions of one shard.
struct Shard {
    slots: HashMap<PartitionId, Slot>,
    readers: HashMap<Token, (PartitionId, Purpose)>,
    ready: Arc<Ready>,
    /// Goes out before anything else.
    waiting: VecDeque<Fetched>,
    room: Room,
    core: Arc<Core>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Read,
    Reread,
}

/// A partition of a shard.
struct Slot {
    assignment: Arc<Assignment>,
    reader: Reader,
    token: Token,
    held: bool,
    stopped: bool,
    /// One past the last record that was yielded, where that is known.
    next: Option<i64>,
    /// Cut from what was taken at once; never more than one turn's.
    waiting: VecDeque<Fetched>,
    reread: Option<Reread>,
}

/// Single records being read again.
struct Reread {
    reader: Reader,
    token: Token,
    /// What comes next.
    position: i64,
    /// Never empty.
    wanted: BTreeSet<i64>,
}

/// Further than this it is cheaper to fetch anew than to read on.
const REREAD_LEAP: i64 = 5_000;
/// librdkafka's code for the end of a partition.
const PARTITION_EOF: i32 = -191;

impl Shard {
    fn new(core: Arc<Core>) -> Self {
        let ready = Arc::<Ready>::default();
        lock(&core.trouble.shards).push(ready.clone());
        Self {
            slots: HashMap::new(),
            readers: HashMap::new(),
            ready,
            waiting: VecDeque::new(),
            room: Room::default(),
            core,
        }
    }

    fn start(
        &mut self,
        instance: &Instance,
        assignment: &Assignment,
        purpose: Purpose,
        offset: i64,
    ) -> Result<(Reader, Token), KafkaError> {
        let topic = instance.topic(&assignment.partition.topic)?;
        let token = Token(self.core.next_token.fetch_add(1, Ordering::Relaxed));
        let signal = Signal::new(self.ready.clone(), token);
        let reader = Reader::start(&instance.handle, topic, assignment.partition.partition, offset, signal)?;
        self.readers.insert(token, (assignment.id, purpose));
        // What came before the call-back was enabled did not call.
        reader.signal().raise();
        Ok((reader, token))
    }

    /// Begins to read `wanted` again, or goes on at another place. Drops the reader that there was.
    fn start_reread(&mut self, id: PartitionId, wanted: BTreeSet<i64>) -> Result<(), KafkaError> {
        let Some(slot) = self.slots.get_mut(&id) else { return Ok(()) };
        if let Some(old) = slot.reread.take() {
            self.readers.remove(&old.token);
        }
        let (Some(&position), assignment) = (wanted.first(), slot.assignment.clone()) else { return Ok(()) };
        let instance = self.core.rereading()?;
        let (reader, token) = self.start(&instance, &assignment, Purpose::Reread, position)?;
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.reread = Some(Reread { reader, token, position, wanted });
        }
        Ok(())
    }

    /// What the assignment asked to be read again and has not been told: answers that wait, and what has none.
    fn take_unanswered(&mut self, of: &Assignment) -> (VecDeque<Fetched>, BTreeSet<i64>) {
        let Some(slot) = self.slots.get_mut(&of.id).filter(|slot| slot.assignment.epoch == of.epoch) else {
            return Default::default();
        };
        let wanted = slot.reread.take().map_or_else(BTreeSet::new, |reread| {
            self.readers.remove(&reread.token);
            reread.wanted
        });
        let is_answer = |item: &Fetched| matches!(item, Fetched::Reread { id, .. } if *id == of.id);
        let (answers, rest) = std::mem::take(&mut self.waiting).into_iter().partition(is_answer);
        self.waiting = rest;
        (answers, wanted)
    }

    /// The next item of a partition whose reader was listed.
    fn serve(&mut self, token: Token) -> Option<Fetched> {
        let &(id, purpose) = self.readers.get(&token)?;
        match purpose {
            Purpose::Read => self.slots.get_mut(&id)?.serve(&mut self.room),
            Purpose::Reread => {
                self.serve_reread(id);
                self.waiting.pop_front()
            }
        }
    }

    fn serve_reread(&mut self, id: PartitionId) {
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| !slot.stopped) else { return };
        let Some(reread) = slot.reread.as_mut() else { return };
        let epoch = slot.assignment.epoch;
        reread.reader.signal().taken();
        let mut taken = reread.reader.take(&mut self.room);
        if taken.len() == 0 {
            return;
        }
        let (wanted, position, mut missing) = (&mut reread.wanted, &mut reread.position, Vec::new());
        taken.retain(|offset| {
            *position = offset + 1;
            while wanted.first().is_some_and(|&w| w < offset) {
                missing.extend(wanted.pop_first());
            }
            wanted.remove(&offset)
        });
        let (mut from, mut failed) = (0, None);
        while from < taken.len() {
            let (piece, after) = taken.piece(from, &slot.assignment);
            from = after;
            match piece {
                Piece::Batch(batch) => {
                    self.waiting.push_back(Fetched::Reread { id, epoch, batch: Some(batch), missing: Vec::new() });
                }
                // Nothing more is there.
                Piece::Error(e, _) if e.code() == PARTITION_EOF => missing.extend(std::mem::take(wanted)),
                Piece::Error(error, offset) => match failure(error, offset, None) {
                    Ok(failure) => failed = Some(failure),
                    Err(error) => self.waiting.push_back(Fetched::Trouble { id: Some(id), error }),
                },
            }
        }
        drop(taken);
        if let Some(failure) = failed {
            // What seemed to be missing may lie behind the failure; `add` asks for it again.
            wanted.extend(missing);
            slot.stopped = true;
            slot.waiting.clear();
            self.waiting.push_back(Fetched::Stopped { id, epoch, failure });
            return;
        }
        if !missing.is_empty() {
            self.waiting.push_back(Fetched::Reread { id, epoch, batch: None, missing });
        }
        match reread.wanted.first() {
            Some(&next) if next <= reread.position + REREAD_LEAP => reread.reader.signal().raise(),
            _ => {
                let wanted = std::mem::take(&mut reread.wanted);
                if let Err(error) = self.start_reread(id, wanted) {
                    let failure = FetchFailure::Failed(error);
                    self.waiting.push_back(Fetched::Stopped { id, epoch, failure });
                }
            }
        }
    }

    /// Errors of the whole instance.
    fn take_trouble(&mut self) {
        if !self.core.trouble.raised.swap(false, Ordering::AcqRel) {
            return;
        }
        while let Some(event) = self.core.main.poll(0) {
            if event.kind() == sys::RD_KAFKA_EVENT_ERROR {
                let error = event.error(&self.core.instance.handle);
                self.waiting.push_back(Fetched::Trouble { id: None, error });
            }
        }
    }
}

impl Slot {
    fn serve(&mut self, room: &mut Room) -> Option<Fetched> {
        self.reader.signal().taken();
        if self.held {
            // `release` lists it again.
            return None;
        }
        // What comes of a turn may be nothing that has to be told.
        while self.waiting.is_empty() && !self.stopped && self.fill(room) {}
        let item = self.waiting.pop_front()?;
        // There may be more: its turn comes again after the others'.
        self.reader.signal().raise();
        Some(item)
    }

    /// Takes in what has come; whether there was something.
    fn fill(&mut self, room: &mut Room) -> bool {
        let (id, epoch) = (self.assignment.id, self.assignment.epoch);
        let mut taken = self.reader.take(room);
        let mut from = 0;
        while from < taken.len() {
            let (piece, after) = taken.piece(from, &self.assignment);
            from = after;
            match piece {
                Piece::Batch(batch) => {
                    self.next = Some(batch.offset(batch.len() - 1) + 1);
                    self.waiting.push_back(Fetched::Batch(batch));
                }
                // Comes in its turn behind the records below it (it goes through the same queue), once for each end.
                Piece::Error(error, offset) if error.code() == PARTITION_EOF => {
                    if self.next.is_none_or(|next| next < offset) {
                        self.next = Some(offset);
                        self.waiting.push_back(Fetched::SkippedTo { id, epoch, next: offset });
                    }
                }
                Piece::Error(error, offset) => match failure(error, offset, self.next) {
                    Ok(failure) => {
                        self.stopped = true;
                        self.waiting.push_back(Fetched::Stopped { id, epoch, failure });
                        return true;
                    }
                    Err(error) => self.waiting.push_back(Fetched::Trouble { id: Some(id), error }),
                },
            }
        }
        from > 0
    }
}

/// librdkafka's word for an offset that it does not tell.
const NO_OFFSET: i64 = sys::RD_KAFKA_OFFSET_INVALID as i64;

/// `Ok` where the partition yields no more, `Err` where the client repeats by itself. `next`: where it was being read.
fn failure(error: KafkaError, offset: i64, next: Option<i64>) -> Result<FetchFailure, KafkaError> {
    match error.code() {
        code::LOCAL_AUTO_OFFSET_RESET if offset >= 0 => Ok(FetchFailure::OutOfRange { position: Some(offset) }),
        // A new leader's log ends below the position in the position's epoch.
        code::LOCAL_AUTO_OFFSET_RESET if offset == NO_OFFSET => Ok(FetchFailure::OutOfRange { position: next }),
        code::OFFSET_OUT_OF_RANGE => Ok(FetchFailure::OutOfRange { position: (offset >= 0).then_some(offset) }),
        // With a logical offset, librdkafka's words for a question about it that was refused for good.
        code::LOCAL_AUTO_OFFSET_RESET
        | code::UNKNOWN_TOPIC_OR_PARTITION
        | code::LOCAL_UNKNOWN_TOPIC
        | code::LOCAL_UNKNOWN_PARTITION
        | code::TOPIC_AUTHORIZATION_FAILED
        // A damaged batch, and one of a format not known. librdkafka reads on, behind the damaged one from a wrong place,
        // behind the other one as if it had been read: what comes then is not to be trusted.
        | code::LOCAL_BAD_MSG
        | code::LOCAL_NOT_IMPLEMENTED => Ok(FetchFailure::Failed(error)),
        _ => Err(error),
    }
}

impl FetchQueue for Shard {
    fn add(&mut self, assignment: Arc<Assignment>, from: Position) -> Result<(), KafkaError> {
        let (answers, wanted) = self.take_unanswered(&assignment);
        self.remove(assignment.id);
        let offset = match from {
            Position::Beginning => i64::from(sys::RD_KAFKA_OFFSET_BEGINNING),
            Position::Offset(offset) => offset,
        };
        let core = self.core.clone();
        let (reader, token) = self.start(&core.instance, &assignment, Purpose::Read, offset)?;
        let slot = Slot {
            reader,
            token,
            held: false,
            stopped: false,
            next: (offset >= 0).then_some(offset),
            waiting: VecDeque::new(),
            reread: None,
            assignment: assignment.clone(),
        };
        self.slots.insert(assignment.id, slot);
        self.waiting.extend(answers);
        self.start_reread(assignment.id, wanted)
    }

    fn remove(&mut self, id: PartitionId) {
        let Some(slot) = self.slots.remove(&id) else { return };
        self.readers.remove(&slot.token);
        if let Some(reread) = &slot.reread {
            self.readers.remove(&reread.token);
        }
        self.waiting.retain(|item| match item {
            Fetched::Batch(batch) => batch.assignment().id != id,
            Fetched::SkippedTo { id: of, .. } | Fetched::Reread { id: of, .. } | Fetched::Stopped { id: of, .. } => {
                *of != id
            }
            Fetched::Trouble { id: of, .. } => *of != Some(id),
        });
    }

    fn hold(&mut self, id: PartitionId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.held = true;
        }
    }

    fn release(&mut self, id: PartitionId) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.held = false;
            slot.reader.signal().raise();
        }
    }

    fn reread(&mut self, id: PartitionId, offsets: &[i64]) -> Result<(), KafkaError> {
        let Some(slot) = self.slots.get_mut(&id) else {
            return Err(errors::error(code::LOCAL_UNKNOWN_PARTITION, "reading again what is not read"));
        };
        match &mut slot.reread {
            Some(reread) => {
                reread.wanted.extend(offsets);
                if reread.wanted.first().is_some_and(|&first| first < reread.position) {
                    let wanted = std::mem::take(&mut reread.wanted);
                    return self.start_reread(id, wanted);
                }
                Ok(())
            }
            None => self.start_reread(id, offsets.iter().copied().collect()),
        }
    }

    fn poll_fetch(&mut self, cx: &mut Context<'_>) -> Poll<Fetched> {
        loop {
            self.take_trouble();
            if let Some(item) = self.waiting.pop_front() {
                return Poll::Ready(item);
            }
            let token = self.ready.pop().or_else(|| {
                self.ready.waker.register(cx.waker());
                self.ready.pop()
            });
            match token {
                Some(token) => {
                    if let Some(item) = self.serve(token) {
                        return Poll::Ready(item);
                    }
                }
                None if self.core.trouble.raised.load(Ordering::Acquire) => {}
                None => return Poll::Pending,
            }
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        lock(&self.core.trouble.shards).retain(|ready| !Arc::ptr_eq(ready, &self.ready));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_cut_off_below_the_position_is_out_of_range_there() {
        // librdkafka's words when a new leader's log ends below the position: without an offset.
        let cut_off = || errors::error(code::LOCAL_AUTO_OFFSET_RESET, "Partition log truncation detected");
        match failure(cut_off(), NO_OFFSET, Some(200)) {
            Ok(FetchFailure::OutOfRange { position: Some(200) }) => {}
            other => panic!("{other:?}"),
        }
        // Where the beginning was asked for and refused.
        let beginning = i64::from(sys::RD_KAFKA_OFFSET_BEGINNING);
        assert!(matches!(failure(cut_off(), beginning, None), Ok(FetchFailure::Failed(_))));
    }
}
