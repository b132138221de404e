//! Transactions: the calls of a producer with a transactional id, and the coordinator that hears them.
//!
//! A call that has to wait (for the producer's records, or after a failure that may pass) is made again until its patience
//! ends; those behind it wait for it. The coordinator knows of a transaction from its first record or offsets on, and
//! aborts it when its time is up, or when another producer takes its id.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::faults::Request;
use super::group::METADATA;
use super::producer::Sender;
use super::world::{State, World};
use super::{ended, error};
use crate::client::{
    Commit, GroupMetadata, Producer, Properties, TransactionError, TransactionErrorKind, TransactionFuture,
    Transactions,
};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// A producer with a transactional id.
pub(super) struct Transactor {
    world: Arc<World>,
    sender: Arc<Sender>,
}

/// What its client knows. By the number of its outbox.
pub(super) struct Client {
    id: String,
    host: u32,
    timeout: Duration,
    phase: Phase,
    /// What first failed in the open transaction: a record, or offsets.
    failure: Option<KafkaError>,
    calls: VecDeque<Called>,
}

#[derive(Clone)]
enum Phase {
    /// No id yet.
    Fresh,
    Idle,
    Open,
    Committing,
    Committed,
    /// Fenced, or fatal.
    Over(TransactionError),
}

/// What the coordinator knows of an id.
#[derive(Default)]
pub(super) struct Coordinated {
    /// The producer that has it; `None` after a transaction took too long.
    owner: Option<u64>,
    open: Option<Open>,
}

/// A transaction that wrote something.
struct Open {
    number: u64,
    /// Offsets that count once it is committed, by their groups.
    pending: Vec<(String, Commit)>,
}

enum Call {
    Init,
    SendOffsets(Vec<Commit>, GroupMetadata),
    Commit,
    Abort,
}

struct Called {
    call: Call,
    end: Instant,
    tell: oneshot::Sender<Result<(), TransactionError>>,
}

/// What became of a call.
enum Made {
    Ended(Result<(), TransactionError>),
    /// To be made again, after so long or when its producer's records are answered.
    Waits(Option<Duration>),
}

/// How long after a failure that may pass a call is made again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);

impl Transactor {
    pub(super) fn new(world: Arc<World>, host: u32, properties: &Properties) -> Self {
        let timeout = properties.get("transaction.timeout.ms").and_then(|v| v.parse().ok()).unwrap_or(60_000);
        let sender = Arc::new(Sender::new(world.clone(), host, properties));
        let client = Client {
            id: properties.get("transactional.id").cloned().unwrap_or_default(),
            host,
            timeout: Duration::from_millis(timeout),
            phase: Phase::Fresh,
            failure: None,
            calls: VecDeque::new(),
        };
        world.look(|state| state.transactors.insert(sender.number(), client));
        Self { world, sender }
    }

    fn call(&self, call: Call, patience: Duration) -> TransactionFuture<()> {
        let number = self.sender.number();
        let (tell, told) = oneshot::channel();
        self.world.change(|state| {
            let end = state.now + patience;
            let request = call.request();
            let Some(client) = state.transactors.get_mut(&number) else { return };
            client.calls.push_back(Called { call, end, tell });
            let latency = state.faults.latency(client.host, request);
            match latency.is_zero() {
                true => state.make_calls(number),
                false => state.later(latency, move |state| state.make_calls(number)),
            }
            state.later(patience, move |state| state.make_calls(number));
        });
        Box::pin(async move { told.await.unwrap_or_else(|_| Err(fatal(ended()))) })
    }
}

impl Transactions for Transactor {
    fn producer(&self) -> Arc<dyn Producer> {
        self.sender.clone()
    }

    fn init(&self, patience: Duration) -> TransactionFuture<()> {
        self.call(Call::Init, patience)
    }

    fn begin(&self) -> Result<(), TransactionError> {
        self.world.change(|state| {
            let client = state.transactors.get_mut(&self.sender.number()).ok_or_else(|| fatal(ended()))?;
            if !client.calls.is_empty() {
                return Err(retriable(error(code::LOCAL_STATE, "an earlier call is under way")));
            }
            match &client.phase {
                Phase::Over(over) => Err(over.clone()),
                Phase::Idle | Phase::Committed => {
                    (client.phase, client.failure) = (Phase::Open, None);
                    Ok(())
                }
                Phase::Fresh | Phase::Open | Phase::Committing => Err(abortable(not_now("beginning a transaction"))),
            }
        })
    }

    fn send_offsets(&self, commits: Vec<Commit>, of: GroupMetadata, patience: Duration) -> TransactionFuture<()> {
        self.call(Call::SendOffsets(commits, of), patience)
    }

    fn commit(&self, patience: Duration) -> TransactionFuture<()> {
        self.call(Call::Commit, patience)
    }

    fn abort(&self, patience: Duration) -> TransactionFuture<()> {
        self.call(Call::Abort, patience)
    }
}

impl Call {
    fn request(&self) -> Request {
        match self {
            Call::Init => Request::InitProducer,
            Call::SendOffsets(..) => Request::AddOffsets,
            Call::Commit | Call::Abort => Request::EndTransaction,
        }
    }
}

fn retriable(error: KafkaError) -> TransactionError {
    TransactionError { error, kind: TransactionErrorKind::Retriable }
}

fn abortable(error: KafkaError) -> TransactionError {
    TransactionError { error, kind: TransactionErrorKind::Abortable }
}

fn fatal(error: KafkaError) -> TransactionError {
    TransactionError { error, kind: TransactionErrorKind::Fatal }
}

/// The error of a call that does not fit the state of its transaction.
fn not_now(what: &str) -> KafkaError {
    error(code::LOCAL_STATE, what)
}

impl State {
    /// Makes the calls of a producer as far as it goes for now.
    pub(super) fn make_calls(&mut self, number: u64) {
        loop {
            let Some(client) = self.transactors.get_mut(&number) else { return };
            let Some(called) = client.calls.pop_front() else { return };
            let answer = match self.make_call(number, &called.call) {
                Made::Ended(answer) => answer,
                Made::Waits(_) if self.now >= called.end => {
                    Err(retriable(error(code::LOCAL_TIMED_OUT, "a call of a transaction")))
                }
                Made::Waits(after) => {
                    if let Some(client) = self.transactors.get_mut(&number) {
                        client.calls.push_front(called);
                    }
                    if let Some(after) = after {
                        self.later(after, move |state| state.make_calls(number));
                    }
                    return;
                }
            };
            // The caller may have given up.
            _ = called.tell.send(answer);
        }
    }

    fn make_call(&mut self, number: u64, call: &Call) -> Made {
        let Some(client) = self.transactors.get(&number) else { return Made::Ended(Err(fatal(ended()))) };
        let phase = client.phase.clone();
        match (call, &phase) {
            (_, Phase::Over(over)) => return Made::Ended(Err(over.clone())),
            (Call::Commit, Phase::Committed) | (Call::Abort, Phase::Fresh | Phase::Idle | Phase::Committed) => {
                return Made::Ended(Ok(()));
            }
            (Call::Init, Phase::Fresh) | (Call::Commit | Call::Abort | Call::SendOffsets(..), Phase::Open) => {}
            (Call::Commit, Phase::Committing) => {}
            (Call::Abort, Phase::Committing) => {
                return Made::Ended(Err(retriable(not_now("a commit is under way: call it again"))));
            }
            (Call::Init, _) => return Made::Ended(Err(abortable(not_now("taking the id")))),
            (Call::SendOffsets(..) | Call::Commit, _) => {
                return Made::Ended(Err(abortable(not_now("no transaction is open"))));
            }
        }
        if let (Call::Commit | Call::SendOffsets(..), Some(why)) = (call, &client.failure) {
            let context = format!("what failed in the transaction: {why}");
            return Made::Ended(Err(abortable(KafkaError::new(why.code(), "abort it", context))));
        }
        let host = client.host;
        match call {
            Call::Commit => {
                self.enter(number, Phase::Committing);
                if self.outboxes.get(&number).is_some_and(|outbox| outbox.unanswered() > 0) {
                    return Made::Waits(None);
                }
            }
            Call::Abort => self.purge(number),
            _ => {}
        }
        if !self.faults.reaches_group(host) {
            return Made::Waits(Some(AGAIN_AFTER));
        }
        if let Some(code) = self.faults.meet(host, call.request(), self.now) {
            let error = error(code, format!("{:?}", call.request()));
            return match call {
                _ if code::FENCED_PRODUCER.contains(&code) => Made::Ended(Err(self.over(number, error))),
                _ if error.may_pass() && !matches!(call, Call::SendOffsets(..) if is_of_group(code)) => {
                    Made::Waits(Some(AGAIN_AFTER))
                }
                Call::SendOffsets(..) => {
                    self.fails(number, &error);
                    Made::Ended(Err(abortable(error)))
                }
                Call::Commit => {
                    self.enter(number, Phase::Open);
                    Made::Ended(Err(abortable(error)))
                }
                Call::Init | Call::Abort => Made::Ended(Err(fatal(error))),
            };
        }
        Made::Ended(self.heard(number, call))
    }

    /// What the coordinators do and say.
    fn heard(&mut self, number: u64, call: &Call) -> Result<(), TransactionError> {
        if let Call::Init = call {
            self.take_id(number);
            return Ok(());
        }
        self.check_owner(number)?;
        match call {
            Call::SendOffsets(commits, of) => self.add_offsets(number, commits, of).map_err(|error| {
                self.fails(number, &error);
                abortable(error)
            }),
            Call::Commit | Call::Abort => {
                let commits = matches!(call, Call::Commit);
                let open = self.coordinated(number).and_then(|coordinated| coordinated.open.take());
                if let Some(open) = open {
                    self.end_open(open, commits);
                }
                self.enter(number, if commits { Phase::Committed } else { Phase::Idle });
                Ok(())
            }
            Call::Init => Ok(()),
        }
    }

    fn take_id(&mut self, number: u64) {
        let Some(coordinated) = self.coordinated(number) else { return };
        coordinated.owner = Some(number);
        if let Some(open) = coordinated.open.take() {
            self.end_open(open, false);
        }
        self.enter(number, Phase::Idle);
    }

    fn coordinated(&mut self, number: u64) -> Option<&mut Coordinated> {
        let client = self.transactors.get(&number)?;
        Some(self.coordinated.entry(client.id.clone()).or_default())
    }

    fn check_owner(&mut self, number: u64) -> Result<(), TransactionError> {
        match self.coordinated(number) {
            Some(coordinated) if coordinated.owner == Some(number) => Ok(()),
            _ => Err(self.over(number, error(code::LOCAL_FENCED, "another producer has this transactional id"))),
        }
    }

    fn enter(&mut self, number: u64, phase: Phase) {
        if let Some(client) = self.transactors.get_mut(&number) {
            client.phase = phase;
        }
    }

    fn over(&mut self, number: u64, error: KafkaError) -> TransactionError {
        let over = TransactionError { error, kind: TransactionErrorKind::Fenced };
        self.enter(number, Phase::Over(over.clone()));
        over
    }

    /// The number of the open transaction, which a producer's first record or offsets make known to the coordinator.
    fn open_transaction(&mut self, number: u64) -> Option<u64> {
        let fresh = self.number();
        let (id, timeout) = self.transactors.get(&number).map(|client| (client.id.clone(), client.timeout))?;
        let coordinated = self.coordinated.entry(id.clone()).or_default();
        if let Some(open) = &coordinated.open {
            return Some(open.number);
        }
        coordinated.open = Some(Open { number: fresh, pending: Vec::new() });
        self.later(timeout, move |state| state.expire_transaction(&id, fresh));
        Some(fresh)
    }

    fn expire_transaction(&mut self, id: &str, transaction: u64) {
        let Some(coordinated) = self.coordinated.get_mut(id) else { return };
        if let Some(open) = coordinated.open.take_if(|open| open.number == transaction) {
            coordinated.owner = None;
            self.end_open(open, false);
        }
    }

    fn end_open(&mut self, open: Open, commits: bool) {
        self.end_transaction(open.number, commits);
        if commits {
            for (group, commit) in open.pending {
                self.groups.entry(group).or_default().keep(commit);
            }
        }
    }

    /// Ends a transaction, with a marker in each partition that it wrote to.
    pub(super) fn end_transaction(&mut self, transaction: u64, commits: bool) {
        let logs = self.topics.values_mut().flat_map(|topic| &mut topic.logs);
        logs.for_each(|log| log.end_transaction(transaction, commits));
    }

    fn add_offsets(&mut self, number: u64, commits: &[Commit], of: &GroupMetadata) -> Result<(), KafkaError> {
        let standing = &*of.0;
        let fail = |code| Err(error(code, format!("offsets of the group {}", standing.group)));
        let members = self.groups.get(&standing.group).into_iter().flat_map(|group| group.members.values());
        let Some(member) = members.into_iter().find(|member| member.identity.to_string() == standing.member) else {
            return fail(code::UNKNOWN_MEMBER_ID);
        };
        if member.epoch() != standing.generation {
            return fail(code::ILLEGAL_GENERATION);
        }
        for commit in commits {
            if self.log(&commit.partition).is_none() {
                return fail(code::UNKNOWN_TOPIC_OR_PARTITION);
            }
            if commit.metadata.encode_utf16().count() > METADATA {
                return fail(code::OFFSET_METADATA_TOO_LARGE);
            }
        }
        self.open_transaction(number);
        if let Some(open) = self.coordinated(number).and_then(|coordinated| coordinated.open.as_mut()) {
            open.pending.extend(commits.iter().map(|commit| (standing.group.clone(), commit.clone())));
        }
        Ok(())
    }

    /// Whether an open transaction has offsets of these partitions, so that what is committed is about to change.
    pub(super) fn is_unstable(&self, group: &str, partitions: &[TopicPartition]) -> bool {
        let open = self.coordinated.values().filter_map(|coordinated| coordinated.open.as_ref());
        let pending: BTreeSet<_> = open
            .flat_map(|open| &open.pending)
            .filter(|(of, _)| of == group)
            .map(|(_, commit)| &commit.partition)
            .collect();
        partitions.iter().any(|partition| pending.contains(partition))
    }

    /// In which transaction a producer's record is written; `None` for a producer without transactions.
    pub(super) fn transaction_of(&mut self, number: u64) -> Result<Option<u64>, i32> {
        let Some(client) = self.transactors.get(&number) else { return Ok(None) };
        match &client.phase {
            Phase::Over(over) => return Err(over.error.code()),
            Phase::Open | Phase::Committing => {}
            Phase::Fresh | Phase::Idle | Phase::Committed => return Err(code::LOCAL_STATE),
        }
        self.check_owner(number).map_err(|over| over.error.code())?;
        Ok(self.open_transaction(number))
    }

    /// Notes that something failed in a producer's transaction: it can only be aborted.
    pub(super) fn fails(&mut self, number: u64, why: &KafkaError) {
        if let Some(client) = self.transactors.get_mut(&number) {
            client.failure.get_or_insert_with(|| why.clone());
        }
    }

    /// A producer ended: its calls are answered, its transaction is left to the coordinator.
    pub(super) fn end_transactor(&mut self, number: u64) {
        if let Some(client) = self.transactors.remove(&number) {
            // Who has gone is told nothing.
            client.calls.into_iter().for_each(|called| _ = called.tell.send(Err(fatal(ended()))));
        }
    }
}

/// Codes by which a group refuses offsets: they are told as they are, and not met again.
fn is_of_group(code: i32) -> bool {
    [code::ILLEGAL_GENERATION, code::UNKNOWN_MEMBER_ID, code::REBALANCE_IN_PROGRESS].contains(&code)
}
