//! librdkafka behind the ports.
//!
//! All `unsafe` of the crate is in this folder, on the raw bindings: the wrapper's consumers and producers cost 2 to 6
//! times as much, stall, and cannot wait for a drain. Two rules keep it small. Whatever points into
//! an instance holds its [`handle::Handle`], so nothing outlives it; and a broker's error code is never read as the
//! bindings' enum (see [`errors`]).
//!
//! | file | job |
//! |---|---|
//! | `handle` | instances, queues, topics, events: making and ending them; the log |
//! | `properties` | who gets which property; secrets |
//! | `list`, `errors` | partition lists and errors, theirs and ours |
//! | `membership`, `statistics` | the group: events, commits; when the coordinator last answered |
//! | `message` | the layout of a message, with the error as a number |
//! | `fetcher`, `reader`, `ready` | reading: a shard's partitions; messages to batches; whose turn it is |
//! | `producer`, `parcels`, `enqueue` | writing: reports and answers; records under way; the calls |
//! | `transactions` | a producer's blocking calls for transactions |
//! | `admin/` | questions about brokers, topics, groups, rules and users; changes of them |
//! | `siblings`, `figures`, `tokens` | what the instances of one client share; statistics decoded; OAUTHBEARER |
//! | `mock` | librdkafka's cluster in this process |
#![expect(unsafe_code, reason = "librdkafka is a C library; this folder is where its calls are")]

mod admin;
mod enqueue;
mod errors;
mod fetcher;
mod figures;
mod handle;
mod list;
mod membership;
mod message;
pub(crate) mod mock;
mod parcels;
mod producer;
mod properties;
mod reader;
mod ready;
mod siblings;
mod statistics;
#[cfg(test)]
mod tests;
mod tokens;
mod transactions;

use std::sync::{Arc, Once};

use tokio::sync::broadcast;

use self::siblings::{Setup, Siblings};
use super::{
    Admin, Backend, ClientEvent, Fetcher, Membership, Producer, Properties, StatisticsListener, TokenSource,
    Transactions,
};
use crate::config::Secret;
use crate::error::KafkaError;

/// Clients of librdkafka.
pub(crate) struct Librdkafka {
    siblings: Arc<Siblings>,
}

impl Librdkafka {
    /// With who publishes statistics, and where tokens come from.
    pub(crate) fn new(listener: Option<Arc<dyn StatisticsListener>>, tokens: Option<TokenSource>) -> Self {
        Self { siblings: Siblings::new(listener, tokens) }
    }

    fn setup(&self, properties: &Properties) -> Setup {
        Setup::new(properties, &self.siblings)
    }
}

/// The first version without known stalls in the consumer protocol (its release notes, librdkafka issue 5541).
const STEADY_CONSUMER_PROTOCOL: i32 = 0x020f_0000;

/// Says once that this librdkafka is known to stall with KIP-848 groups.
fn warn_of_old_library() {
    static SAID: Once = Once::new();
    // SAFETY: takes nothing and touches nothing.
    let version = unsafe { rdkafka::bindings::rd_kafka_version() };
    if version < STEADY_CONSUMER_PROTOCOL {
        SAID.call_once(|| {
            tracing::warn!(
                "librdkafka {}.{}.{} is known to stall for minutes now and then with group.protocol=consumer; 2.15 or newer \
                 is not: link one with the feature system-librdkafka, or use the classic protocol",
                version >> 24,
                version >> 16 & 0xff,
                version >> 8 & 0xff
            );
        });
    }
}

impl Backend for Librdkafka {
    fn membership(&self, properties: &Properties, topics: &[String]) -> Result<Arc<dyn Membership>, KafkaError> {
        if properties.get("group.protocol").is_some_and(|p| p == "consumer") {
            warn_of_old_library();
        }
        Ok(Arc::new(membership::Member::join(&self.setup(properties), topics)?))
    }

    fn fetcher(&self, properties: &Properties) -> Result<Arc<dyn Fetcher>, KafkaError> {
        Ok(Arc::new(fetcher::FetchClient::new(&self.setup(properties))?))
    }

    fn producer(&self, properties: &Properties) -> Result<Arc<dyn Producer>, KafkaError> {
        Ok(Arc::new(producer::Sender::new(&self.setup(properties))?))
    }

    fn transactions(&self, properties: &Properties) -> Result<Arc<dyn Transactions>, KafkaError> {
        Ok(Arc::new(transactions::Transactor::new(&self.setup(properties))?))
    }

    fn admin(&self, properties: &Properties) -> Result<Arc<dyn Admin>, KafkaError> {
        Ok(Arc::new(admin::AdminClient::new(&self.setup(properties))?))
    }

    fn events(&self) -> broadcast::Receiver<ClientEvent> {
        self.siblings.listen()
    }

    fn set_credentials(&self, user: &str, password: &Secret) -> Result<(), KafkaError> {
        self.siblings.set_credentials(user, password)
    }
}
