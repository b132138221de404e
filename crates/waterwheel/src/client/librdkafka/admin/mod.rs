//! Questions and changes that concern topics and groups.
//!
//! Each call runs on a short-lived thread: they are rare, and some of librdkafka's calls block.

mod access;
mod brokers;
mod changes;
mod commits;
mod configs;
mod groups;
mod offsets;
mod topics;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::bindings as sys;
use tokio::sync::oneshot;

use super::errors;
use super::handle::{Event, Handle, Queue, Said, Topic, lock};
use super::properties::Role;
use super::siblings::Setup;
use crate::client::{
    Acl, AclFilter, Admin, ClusterDescription, Commit, CommitOutcome, Committed, ConfigChanges, ConfigEntry,
    ConfigResource, Deletion, GroupDescription, GroupList, Isolation, ListedOffset, Mode, NewPartitions, NewTopic,
    OffsetSpec, Operation, PortFuture, ScramChange, ScramUser, TopicDescription,
};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

/// Asks and changes.
pub(super) struct AdminClient {
    asker: Arc<Asker>,
}

impl AdminClient {
    pub(super) fn new(properties: &Setup) -> Result<Self, KafkaError> {
        let handle = Handle::new(Role::Admin, properties, sys::RD_KAFKA_EVENT_ERROR)?;
        // librdkafka's default, too.
        let isolation = match properties.get("isolation.level").is_none_or(|level| level != "read_uncommitted") {
            true => Isolation::ReadCommitted,
            false => Isolation::ReadUncommitted,
        };
        let asker = Asker { told: Queue::main(&handle)?, handle, isolation, trouble: Mutex::default() };
        Ok(Self { asker: Arc::new(asker) })
    }

    fn ask<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Asker) -> Result<T, KafkaError> + Send + 'static,
    ) -> PortFuture<T> {
        let (asker, (tell, told)) = (self.asker.clone(), oneshot::channel());
        let run = move || {
            // The caller may have given up.
            _ = tell.send(ask(&asker));
        };
        let thread = std::thread::Builder::new().name("waterwheel-admin".into()).spawn(run);
        Box::pin(async move {
            thread.map_err(|e| errors::no_thread(&e))?;
            told.await.unwrap_or_else(|_| Err(errors::ended()))
        })
    }
}

impl Admin for AdminClient {
    fn trouble(&self) -> Option<KafkaError> {
        lock(&self.asker.trouble).clone()
    }

    fn describe_cluster(&self) -> PortFuture<ClusterDescription> {
        self.ask(Asker::describe_cluster)
    }

    fn ask_broker(&self, id: i32) -> PortFuture<()> {
        self.ask(move |asker| asker.ask_broker(id))
    }

    fn list_topics(&self) -> PortFuture<Vec<String>> {
        self.ask(Asker::list_topics)
    }

    fn describe_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<TopicDescription, KafkaError>>> {
        self.ask(move |asker| asker.describe_topics(&topics))
    }

    fn allowed_on_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<Option<Vec<Operation>>, KafkaError>>> {
        self.ask(move |asker| asker.allowed_on_topics(&topics))
    }

    fn list_offsets(&self, of: Vec<(TopicPartition, OffsetSpec)>) -> PortFuture<Vec<Result<i64, KafkaError>>> {
        self.ask(move |asker| asker.list_offsets(&of))
    }

    fn find_offsets(
        &self,
        of: Vec<(TopicPartition, OffsetSpec)>,
        isolation: Option<Isolation>,
    ) -> PortFuture<Vec<Result<ListedOffset, KafkaError>>> {
        self.ask(move |asker| asker.find_offsets(&of, isolation.unwrap_or(asker.isolation)))
    }

    fn create_topics(
        &self,
        topics: Vec<NewTopic>,
        mode: Mode,
        timeout: Duration,
    ) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.ask(move |asker| asker.create_topics(&topics, mode, timeout))
    }

    fn delete_topics(&self, topics: Vec<String>) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.ask(move |asker| asker.delete_topics(&topics))
    }

    fn create_partitions(&self, of: Vec<NewPartitions>, mode: Mode) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.ask(move |asker| asker.create_partitions(&of, mode))
    }

    fn delete_records(&self, of: Vec<Deletion>) -> PortFuture<Vec<Result<i64, KafkaError>>> {
        self.ask(move |asker| asker.delete_records(&of))
    }

    fn configs(&self, of: Vec<ConfigResource>) -> PortFuture<Vec<Result<Vec<ConfigEntry>, KafkaError>>> {
        self.ask(move |asker| asker.configs(&of))
    }

    fn alter_configs(&self, changes: Vec<ConfigChanges>, mode: Mode) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.ask(move |asker| asker.alter_configs(&changes, mode))
    }

    fn acls(&self, filter: AclFilter) -> PortFuture<Vec<Acl>> {
        self.ask(move |asker| asker.acls(&filter))
    }

    fn create_acls(&self, acls: Vec<Acl>) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.ask(move |asker| asker.create_acls(&acls))
    }

    fn delete_acls(&self, filters: Vec<AclFilter>) -> PortFuture<Vec<Result<Vec<Acl>, KafkaError>>> {
        self.ask(move |asker| asker.delete_acls(&filters))
    }

    fn scram_users(&self, users: Option<Vec<String>>) -> PortFuture<Vec<Result<ScramUser, KafkaError>>> {
        self.ask(move |asker| asker.scram_users(users.as_deref()))
    }

    fn alter_scram_users(&self, changes: Vec<ScramChange>) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.ask(move |asker| asker.alter_scram_users(&changes))
    }

    fn list_groups(&self) -> PortFuture<GroupList> {
        self.ask(Asker::list_groups)
    }

    fn describe_groups(&self, groups: Vec<String>) -> PortFuture<Vec<Result<GroupDescription, KafkaError>>> {
        self.ask(move |asker| asker.describe_groups(&groups))
    }

    fn committed(
        &self,
        group: String,
        partitions: Option<Vec<TopicPartition>>,
    ) -> PortFuture<Vec<Result<Committed, KafkaError>>> {
        self.ask(move |asker| asker.committed(&group, partitions.as_deref()))
    }

    fn commit(&self, group: String, commits: Vec<Commit>) -> PortFuture<Vec<CommitOutcome>> {
        self.ask(move |asker| asker.commit(&group, &commits))
    }

    fn delete_offsets(&self, group: String, partitions: Vec<TopicPartition>) -> PortFuture<Vec<CommitOutcome>> {
        self.ask(move |asker| asker.delete_offsets(&group, &partitions))
    }

    fn delete_groups(&self, groups: Vec<String>) -> PortFuture<Vec<Result<(), KafkaError>>> {
        self.ask(move |asker| asker.delete_groups(&groups))
    }
}

struct Asker {
    handle: Arc<Handle>,
    /// The instance's errors.
    told: Queue,
    /// Unless a question says otherwise.
    isolation: Isolation,
    /// The last of them, until something is answered.
    trouble: Mutex<Option<KafkaError>>,
}

/// A question is given up after as long.
const WAIT: Duration = Duration::from_secs(30);
/// How often a wait looks for what the instance has to say, in milliseconds.
const SLICE: i32 = 100;
/// The first wait for metadata, in milliseconds; each further one is twice as long.
const METADATA_SLICE: i32 = 1_000;
/// A question is given up after so many milliseconds in which a broker refused the client's credentials or certificate: it
/// will do so again, while another broker, if there is one, has had the time to answer.
const PATIENCE: i32 = 2_000;

/// What to ask metadata of.
enum Wanted<'a> {
    Brokers,
    Topics,
    Topic(&'a Topic),
}

impl Asker {
    /// Sends a request and waits for its answer.
    fn request(
        &self,
        kind: sys::rd_kafka_admin_op_t,
        timeout: Duration,
        send: impl FnOnce(*mut sys::rd_kafka_t, *mut sys::rd_kafka_AdminOptions_t, *mut sys::rd_kafka_queue_t),
    ) -> Result<Event, KafkaError> {
        let queue = Queue::new(&self.handle)?;
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX).clamp(1, 3_600_000);
        let mut said = Said::default();
        // SAFETY: the instance is live; the options are ours to free; the buffer is as long as said.
        let options = unsafe {
            let options = sys::rd_kafka_AdminOptions_new(self.handle.as_ptr(), kind);
            sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, said.as_mut_ptr(), said.len());
            options
        };
        send(self.handle.as_ptr(), options, queue.as_ptr());
        // SAFETY: made above, copied by the request, freed once.
        unsafe { sys::rd_kafka_AdminOptions_destroy(options) };
        // The request has a time-out of its own; a little more for its answer to come.
        let (mut waited, mut refused) = (0, 0);
        let event = loop {
            if let Some(event) = queue.poll(SLICE) {
                break event;
            }
            waited += SLICE;
            self.listen(SLICE, &mut refused)?;
            if waited > millis.saturating_add(5_000) {
                return Err(errors::error(code::LOCAL_TIMED_OUT, ""));
            }
        };
        *lock(&self.trouble) = None;
        if event.code() != 0 { Err(event.error(&self.handle)) } else { Ok(event) }
    }

    /// The brokers, and the topics that are asked for; `read` is called with the answer.
    fn metadata<T>(
        &self,
        of: Wanted<'_>,
        read: impl FnOnce(&sys::rd_kafka_metadata) -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let (all, topic) = match of {
            Wanted::Brokers => (0, std::ptr::null_mut()),
            Wanted::Topics => (1, std::ptr::null_mut()),
            Wanted::Topic(topic) => (0, topic.as_ptr()),
        };
        let mut metadata = std::ptr::null();
        let (mut slice, mut waited, mut refused) = (METADATA_SLICE, 0, 0);
        loop {
            // SAFETY: instance and topic are live; the answer is ours to free where there is one.
            let code =
                unsafe { errors::raw::rd_kafka_metadata(self.handle.as_ptr(), all, topic, &raw mut metadata, slice) };
            if code == 0 {
                break;
            }
            waited += slice;
            self.listen(slice, &mut refused)?;
            if waited >= WAIT.as_millis() as i32 || ![code::LOCAL_TRANSPORT, code::LOCAL_TIMED_OUT].contains(&code) {
                return Err(errors::error(code, "asking for the brokers"));
            }
            slice *= 2;
        }
        *lock(&self.trouble) = None;
        // SAFETY: the answer is live until it is freed here, once.
        unsafe {
            let answer = read(&*metadata);
            sys::rd_kafka_metadata_destroy(metadata);
            answer
        }
    }

    /// Keeps what the instance tells of trouble; an error where the client has been refused for too long, `slice` milliseconds
    /// after the last call.
    fn listen(&self, slice: i32, refused: &mut i32) -> Result<(), KafkaError> {
        while let Some(event) = self.told.poll(0) {
            let mut trouble = lock(&self.trouble);
            // That no broker is left says less than why the last one is gone.
            if event.code() != code::LOCAL_ALL_BROKERS_DOWN || trouble.is_none() {
                *trouble = Some(event.error(&self.handle));
            }
        }
        let trouble = lock(&self.trouble).clone();
        match trouble.filter(KafkaError::is_unauthorised) {
            Some(error) if *refused + slice >= PATIENCE => Err(error),
            Some(_) => {
                *refused += slice;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Objects of one question: made one by one, freed together.
struct Objects<T> {
    all: Vec<*mut T>,
    free: unsafe extern "C" fn(*mut T),
}

impl<T> Objects<T> {
    /// `free` is librdkafka's call that frees one.
    fn freed_by(free: unsafe extern "C" fn(*mut T)) -> Self {
        Self { all: Vec::new(), free }
    }

    /// Takes over one that is not null.
    fn add(&mut self, object: *mut T) {
        self.all.push(object);
    }

    fn array(&mut self) -> (*mut *mut T, usize) {
        (self.all.as_mut_ptr(), self.all.len())
    }
}

impl<T> Drop for Objects<T> {
    fn drop(&mut self) {
        for object in self.all.drain(..) {
            // SAFETY: live, ours, freed once, by the call for its kind.
            unsafe { (self.free)(object) }
        }
    }
}

/// Has a question only judged, if so asked.
///
/// # Safety
/// The options are live, and of a question that can be judged only.
unsafe fn dry_run(options: *mut sys::rd_kafka_AdminOptions_t, mode: Mode) {
    if mode == Mode::DryRun {
        let mut said = Said::default();
        // SAFETY: as the caller says; the buffer is as long as said.
        let code =
            unsafe { sys::rd_kafka_AdminOptions_set_validate_only(options, 1, said.as_mut_ptr(), said.len()) as i32 };
        debug_assert!(code == 0, "{}", said.text());
    }
}

/// What one may do, as librdkafka lists it; null where the cluster does not tell.
///
/// # Safety
/// `of` is null or points to `count` operations.
unsafe fn operations(of: *const sys::rd_kafka_AclOperation_t, count: usize) -> Option<Vec<Operation>> {
    // SAFETY: as the caller says. Numbers, because a newer broker may know more.
    (!of.is_null()).then(|| (0..count).map(|i| operation(unsafe { *of.cast::<i32>().add(i) })).collect())
}

/// Kafka's numbers.
fn operation(of: i32) -> Operation {
    match of {
        2 => Operation::All,
        3 => Operation::Read,
        4 => Operation::Write,
        5 => Operation::Create,
        6 => Operation::Delete,
        7 => Operation::Alter,
        8 => Operation::Describe,
        9 => Operation::ClusterAction,
        10 => Operation::DescribeConfigs,
        11 => Operation::AlterConfigs,
        12 => Operation::IdempotentWrite,
        _ => Operation::Other,
    }
}
