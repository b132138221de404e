//! What can go wrong, and what a caller can do about it.

use std::fmt;

use crate::config::ConfigError;

/// An error of Kafka or of the client under this library.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaError {
    code: i32,
    name: String,
    context: String,
}

impl KafkaError {
    pub(crate) fn new(code: i32, name: impl Into<String>, context: impl Into<String>) -> Self {
        Self { code, name: name.into(), context: context.into() }
    }

    /// Kafka's error code; negative for the client's own errors (librdkafka's numbering).
    pub fn code(&self) -> i32 {
        self.code
    }

    /// The error's short description, as the client words it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the same call may succeed later without a change of configuration or rights.
    pub fn is_retriable(&self) -> bool {
        code::RETRIABLE.contains(&self.code)
    }

    /// Whether it may be over in a moment by itself.
    pub(crate) fn may_pass(&self) -> bool {
        self.is_retriable() || self.is_unreachable()
    }

    /// Whether the cluster refused for lack of rights or of valid credentials.
    pub fn is_unauthorised(&self) -> bool {
        code::UNAUTHORISED.contains(&self.code)
    }

    /// Whether another member has this one's place: both were given the same `group.instance.id`.
    pub fn is_fenced(&self) -> bool {
        matches!(self.code, code::FENCED_INSTANCE_ID | code::UNRELEASED_INSTANCE_ID)
    }

    /// Whether it is about a record that is larger than its topic takes.
    pub(crate) fn is_too_large(&self) -> bool {
        matches!(self.code, code::MESSAGE_TOO_LARGE | code::RECORD_LIST_TOO_LARGE)
    }

    /// Whether it is about a record that its topic takes in no form: a name or a partition that there is not, or one that the
    /// broker's checks refuse.
    pub(crate) fn is_invalid_record(&self) -> bool {
        matches!(self.code, code::INVALID_TOPIC | code::INVALID_RECORD | code::LOCAL_UNKNOWN_PARTITION)
    }

    /// Whether the cluster has no such topic.
    pub fn is_unknown_topic(&self) -> bool {
        matches!(self.code, code::UNKNOWN_TOPIC_OR_PARTITION | code::LOCAL_UNKNOWN_TOPIC)
    }

    /// Whether the topic that was to be made is there already.
    pub fn is_existing_topic(&self) -> bool {
        self.code == code::TOPIC_ALREADY_EXISTS
    }

    /// Whether the cluster has no such group.
    pub fn is_unknown_group(&self) -> bool {
        self.code == code::GROUP_ID_NOT_FOUND
    }

    /// Whether the cluster refused because the group has members.
    pub fn is_active_group(&self) -> bool {
        matches!(self.code, code::UNKNOWN_MEMBER_ID | code::NON_EMPTY_GROUP)
    }

    /// Whether no broker could be reached or none answered in time.
    pub fn is_unreachable(&self) -> bool {
        code::UNREACHABLE.contains(&self.code)
    }
}

impl fmt::Display for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.context.is_empty() {
            write!(f, "{} (code {})", self.name, self.code)
        } else {
            write!(f, "{}: {} (code {})", self.context, self.name, self.code)
        }
    }
}

impl fmt::Debug for KafkaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for KafkaError {}

/// The error codes that this library decides by: Kafka's own (positive) and librdkafka's (negative).
pub(crate) mod code {
    pub(crate) const UNKNOWN: i32 = -1;
    pub(crate) const OFFSET_OUT_OF_RANGE: i32 = 1;
    pub(crate) const UNKNOWN_TOPIC_OR_PARTITION: i32 = 3;
    pub(crate) const MESSAGE_TOO_LARGE: i32 = 10;
    pub(crate) const OFFSET_METADATA_TOO_LARGE: i32 = 12;
    pub(crate) const COORDINATOR_LOAD_IN_PROGRESS: i32 = 14;
    pub(crate) const COORDINATOR_NOT_AVAILABLE: i32 = 15;
    pub(crate) const NOT_COORDINATOR: i32 = 16;
    pub(crate) const INVALID_TOPIC: i32 = 17;
    pub(crate) const RECORD_LIST_TOO_LARGE: i32 = 18;
    pub(crate) const TOPIC_AUTHORIZATION_FAILED: i32 = 29;
    pub(crate) const ILLEGAL_GENERATION: i32 = 22;
    pub(crate) const UNKNOWN_MEMBER_ID: i32 = 25;
    pub(crate) const REBALANCE_IN_PROGRESS: i32 = 27;
    pub(crate) const INVALID_COMMIT_OFFSET_SIZE: i32 = 28;
    pub(crate) const TOPIC_ALREADY_EXISTS: i32 = 36;
    pub(crate) const NON_EMPTY_GROUP: i32 = 68;
    pub(crate) const GROUP_ID_NOT_FOUND: i32 = 69;
    pub(crate) const OFFSET_NOT_AVAILABLE: i32 = 78;
    pub(crate) const FENCED_INSTANCE_ID: i32 = 82;
    pub(crate) const INVALID_RECORD: i32 = 87;
    pub(crate) const FENCED_MEMBER_EPOCH: i32 = 110;
    pub(crate) const UNRELEASED_INSTANCE_ID: i32 = 111;
    pub(crate) const STALE_MEMBER_EPOCH: i32 = 113;

    /// Another producer has the transactional id: librdkafka's word for it, INVALID_PRODUCER_EPOCH, PRODUCER_FENCED.
    pub(crate) const FENCED_PRODUCER: [i32; 3] = [LOCAL_FENCED, 47, 90];

    pub(crate) const LOCAL_BAD_MSG: i32 = -199;
    pub(crate) const LOCAL_FAIL: i32 = -196;
    pub(crate) const LOCAL_DESTROYED: i32 = -197;
    pub(crate) const LOCAL_TRANSPORT: i32 = -195;
    pub(crate) const LOCAL_MSG_TIMED_OUT: i32 = -192;
    pub(crate) const LOCAL_UNKNOWN_PARTITION: i32 = -190;
    pub(crate) const LOCAL_UNKNOWN_TOPIC: i32 = -188;
    pub(crate) const LOCAL_ALL_BROKERS_DOWN: i32 = -187;
    pub(crate) const LOCAL_TIMED_OUT: i32 = -185;
    pub(crate) const LOCAL_QUEUE_FULL: i32 = -184;
    pub(crate) const LOCAL_RESOLVE: i32 = -193;
    pub(crate) const LOCAL_SSL: i32 = -181;
    pub(crate) const LOCAL_WAIT_COORD: i32 = -180;
    pub(crate) const LOCAL_AUTHENTICATION: i32 = -169;
    pub(crate) const LOCAL_NOT_IMPLEMENTED: i32 = -170;
    pub(crate) const LOCAL_STATE: i32 = -172;
    pub(crate) const LOCAL_TIMED_OUT_QUEUE: i32 = -166;
    pub(crate) const LOCAL_WAIT_CACHE: i32 = -164;
    pub(crate) const LOCAL_PURGE_QUEUE: i32 = -152;
    pub(crate) const LOCAL_FENCED: i32 = -144;
    pub(crate) const LOCAL_AUTO_OFFSET_RESET: i32 = -140;

    pub(super) const UNREACHABLE: [i32; 6] = [
        LOCAL_TRANSPORT,
        LOCAL_ALL_BROKERS_DOWN,
        LOCAL_TIMED_OUT,
        LOCAL_RESOLVE,
        LOCAL_TIMED_OUT_QUEUE,
        LOCAL_MSG_TIMED_OUT,
    ];
    /// Authorisation (29, 30, 31, 53, 65), authentication (58, -169) and TLS.
    pub(super) const UNAUTHORISED: [i32; 8] = [29, 30, 31, 53, 58, 65, LOCAL_AUTHENTICATION, LOCAL_SSL];
    /// Kafka's retriable codes (its protocol guide) that a worker can meet, and the client's transient ones.
    pub(super) const RETRIABLE: [i32; 31] = [
        2,
        3,
        5,
        6,
        7,
        8,
        9,
        13,
        COORDINATOR_LOAD_IN_PROGRESS,
        COORDINATOR_NOT_AVAILABLE,
        NOT_COORDINATOR,
        19,
        20,
        ILLEGAL_GENERATION,
        REBALANCE_IN_PROGRESS,
        56,
        72,
        74,
        OFFSET_NOT_AVAILABLE,
        84,
        100,
        106,
        STALE_MEMBER_EPOCH,
        LOCAL_BAD_MSG,
        LOCAL_TRANSPORT,
        LOCAL_ALL_BROKERS_DOWN,
        LOCAL_TIMED_OUT,
        LOCAL_WAIT_COORD,
        LOCAL_TIMED_OUT_QUEUE,
        LOCAL_WAIT_CACHE,
        LOCAL_MSG_TIMED_OUT,
    ];
}

/// Why a worker could not start, or ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The configuration is wrong; nothing was connected.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Kafka refused for good: fenced, not authorised, or a client that cannot be made.
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    /// A handler asked to stop, or a policy did.
    #[error("stopped at {place}: {reason}")]
    Stopped {
        /// Topic, partition and offset of the record, as `orders-3@17`.
        place: String,
        /// What asked for it.
        reason: String,
    },
    /// A task of the worker panicked, and not in a handler (that would be a failure of its record): nothing was committed
    /// any more, what was in work comes again.
    #[error("a task of the worker panicked: a defect in waterwheel, or in the drop of one of the program's own types")]
    Broken,
    /// What was asked is of a consumer that has ended.
    #[error("the consumer has ended")]
    Ended,
}

impl Error {
    /// Whether the same call may succeed later without a change of configuration, rights or code.
    pub fn is_retriable(&self) -> bool {
        matches!(self, Error::Kafka(e) if e.is_retriable())
    }
}
