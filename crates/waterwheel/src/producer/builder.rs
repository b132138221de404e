//! A producer's settings, and what goes with what.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::room::Room;
use super::trace::{TraceContext, TraceParent};
use super::watch::{Interceptor, Watch};
use super::{OnFull, Producer};
use crate::client::{self, Properties};
use crate::config::{ConfigError, add_property, overlay};
use crate::connection::Client;
use crate::error::Error;

/// What the broker has to have done before it acknowledges a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Acks {
    /// All in-sync replicas have it.
    #[default]
    All,
    /// The partition's leader has it: it is lost if the leader dies before another has copied it. Goes only without
    /// idempotence.
    Leader,
    /// Nothing: there is no acknowledgement. A record counts as delivered when it was sent, and its offset is not known.
    /// Goes only without idempotence.
    None,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip; levels 0 to 9.
    Gzip,
    /// snappy; without levels.
    Snappy,
    /// lz4; levels 0 to 12.
    Lz4,
    /// zstd; levels 0 to 12. Needs the feature `zstd`.
    Zstd,
}

/// Who chooses the partition of a record that names none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Partitioner {
    /// The key's murmur2 hash, as Kafka's Java client does: the same key goes where Java puts it. Without a key, any.
    #[default]
    Java,
    /// The same, and a null key is hashed as an empty one: records without a key all go to one partition.
    Murmur2,
    /// The key's CRC32, librdkafka's own default elsewhere. Without a key, any.
    Crc32,
    /// The key's FNV-1a hash, as Sarama does. Without a key, any.
    Fnv1a,
    /// Any, whatever the key: records of a key keep no order.
    Random,
}

/// Gathers the settings of a [`Producer`]; [`build`](Self::build) checks them. A setting not made here is the
/// [`Client`]'s, and where that has none, the default.
#[must_use = "build() makes the producer"]
pub struct ProducerBuilder {
    client: Client,
    set: Properties,
    mistake: Option<ConfigError>,
    on_full: OnFull,
    interceptors: Vec<Arc<dyn Interceptor>>,
}

impl Client {
    /// A producer with the default settings: idempotent, acknowledged by all in-sync replicas. It connects by itself, when
    /// its first record comes; must be called in a Tokio runtime.
    pub fn producer(&self) -> Result<Producer, Error> {
        self.producer_builder().build()
    }

    /// A producer with settings of your own.
    pub fn producer_builder(&self) -> ProducerBuilder {
        ProducerBuilder {
            client: self.clone(),
            set: Properties::new(),
            mistake: None,
            on_full: OnFull::default(),
            interceptors: Vec::new(),
        }
    }
}

impl ProducerBuilder {
    /// What is waited for. Default: [`Acks::All`].
    pub fn acks(self, acks: Acks) -> Self {
        let value = match acks {
            Acks::All => "all",
            Acks::Leader => "1",
            Acks::None => "0",
        };
        self.with("acks", value)
    }

    /// Does without idempotence: a repeated request may write its records twice, or in another order. By default each is
    /// written once, in order, however often it has to be sent.
    pub fn without_idempotence(self) -> Self {
        self.with("enable.idempotence", "false")
    }

    /// How batches are compressed. Default: not.
    pub fn compression(self, compression: Compression) -> Self {
        let name = match compression {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        };
        self.with("compression.type", name)
    }

    /// The compression's level: higher is smaller and slower. Default: the codec's own.
    pub fn compression_level(self, level: u8) -> Self {
        self.with("compression.level", level.to_string())
    }

    /// How long a record waits for others, so that they go out as one batch, up to 15 minutes. Default: 5 ms. A flush does
    /// not wait.
    pub fn linger(self, linger: Duration) -> Self {
        self.with("linger.ms", (linger.as_secs_f64() * 1_000.0).to_string())
    }

    /// At how many bytes a batch is full. Default: 1,000,000.
    pub fn batch_bytes(self, bytes: usize) -> Self {
        self.with("batch.size", bytes.to_string())
    }

    /// Who chooses the partition of a record that names none. Default: [`Partitioner::Java`].
    pub fn partitioner(self, partitioner: Partitioner) -> Self {
        let name = match partitioner {
            Partitioner::Java => "murmur2_random",
            Partitioner::Murmur2 => "murmur2",
            Partitioner::Crc32 => "consistent_random",
            Partitioner::Fnv1a => "fnv1a_random",
            Partitioner::Random => "random",
        };
        self.with("partitioner", name)
    }

    /// How long a record may take from its sending to its acknowledgement, repetitions included; then it fails. Also how
    /// long a send waits for room in the queue. At least 1 ms. Default: 5 minutes.
    pub fn delivery_timeout(self, timeout: Duration) -> Self {
        self.with("delivery.timeout.ms", timeout.as_millis().to_string())
    }

    /// How many records may be unanswered, at least 1. Default: 100,000.
    pub fn queue_records(self, records: usize) -> Self {
        self.with_limit("queue.buffering.max.messages", records)
    }

    /// How many bytes of keys, values and headers may be unanswered, in whole KiB (rounded up), at least 1. A record larger
    /// than that goes when the queue is empty. Default: 1 GiB.
    pub fn queue_bytes(self, bytes: usize) -> Self {
        self.with_limit("queue.buffering.max.kbytes", bytes.div_ceil(1_024))
    }

    /// What [`Producer::send`] does when the queue is full. Default: [`OnFull::Wait`].
    pub fn on_full(mut self, on_full: OnFull) -> Self {
        self.on_full = on_full;
        self
    }

    /// Shows every record to an interceptor, after those given before. Default: none.
    pub fn interceptor(mut self, interceptor: impl Interceptor) -> Self {
        self.interceptors.push(Arc::new(interceptor));
        self
    }

    /// Puts the current place in a trace in every record's headers `traceparent` and `tracestate`, where `current` has one;
    /// what a record has of these names is replaced. `current` is called on the task that sends, and knows it by what the
    /// program's tracing library keeps there.
    pub fn trace_context(self, current: impl Fn() -> Option<TraceParent> + Send + Sync + 'static) -> Self {
        self.interceptor(TraceContext(current))
    }

    /// Any property by librdkafka's name, as `message.max.bytes`. What Waterwheel sets itself is refused.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let added = add_property(&mut self.set, &name.into(), &value.into());
        self.mistake = self.mistake.or(added.err());
        self
    }

    fn with_limit(mut self, name: &str, limit: usize) -> Self {
        if limit == 0 {
            let error = ConfigError::new(name, "is 0: no record would ever be sent").remedy("make it at least 1");
            self.mistake.get_or_insert(error);
        }
        self.with(name, limit.to_string())
    }

    /// Checks the settings, and makes the producer; connects to nothing. Must be called in a Tokio runtime.
    pub fn build(self) -> Result<Producer, Error> {
        if let Some(mistake) = self.mistake {
            return Err(mistake.into());
        }
        let properties = overlay(self.client.properties().clone(), self.set);
        check(&properties)?;
        let port = self.client.backend().producer(&properties)?;
        Ok(Producer::over(port, &properties, self.client.elsewhere(), self.interceptors, self.on_full))
    }
}

impl Producer {
    /// On a port that was made of these properties; `elsewhere`: topics that it does not reach.
    pub(crate) fn over(
        port: Arc<dyn client::Producer>,
        properties: &Properties,
        elsewhere: HashSet<String>,
        interceptors: Vec<Arc<dyn Interceptor>>,
        on_full: OnFull,
    ) -> Self {
        let number = |name: &str, default: usize| match properties.get(name).and_then(|value| value.parse().ok()) {
            // librdkafka's word for "any".
            Some(0) => usize::MAX,
            set => set.unwrap_or(default),
        };
        let records = number("queue.buffering.max.messages", 100_000);
        let bytes = number("queue.buffering.max.kbytes", 1_048_576).saturating_mul(1_024);
        let patience = Duration::from_millis(number("delivery.timeout.ms", 300_000) as u64);
        Self::new(port, Room::new(records, bytes), Watch::new(interceptors), elsewhere, on_full, patience)
    }
}

/// What goes with what, of a producer's own properties.
fn check(properties: &Properties) -> Result<(), ConfigError> {
    let text = |name: &str| properties.get(name).map(String::as_str);
    let number = |name: &str| text(name).and_then(|value| value.parse::<f64>().ok());
    if text("enable.idempotence") != Some("false") {
        let refuse = |name: &str, problem: &str, remedy: &str| {
            let problem = format!("{problem}, but the producer is idempotent");
            Err(ConfigError::new(name, problem).remedy(format!("{remedy}, or call without_idempotence()")))
        };
        if text("acks").is_some_and(|acks| !["all", "-1"].contains(&acks)) {
            return refuse("acks", "does not wait for all replicas", "leave it at all");
        }
        if number("max.in.flight.requests.per.connection").is_some_and(|most| most > 5.0) {
            return refuse("max.in.flight.requests.per.connection", "is more than 5", "make it 5 or less");
        }
        if number("retries") == Some(0.0) {
            return refuse("retries", "is 0: nothing would be repeated", "leave it out");
        }
        if text("queuing.strategy") == Some("lifo") {
            return refuse("queuing.strategy", "is lifo: nothing would keep its order", "leave it out");
        }
    }
    if let Some(level) = number("compression.level") {
        let codec = text("compression.type").unwrap_or("none");
        let most = match codec {
            "gzip" => 9.0,
            "lz4" | "zstd" => 12.0,
            _ => -1.0,
        };
        if level > most {
            let problem = match codec {
                "none" | "snappy" => format!("is set, but compression.type is {codec}, which has no levels"),
                _ => format!("is more than {most}, the highest of {codec}"),
            };
            return Err(ConfigError::new("compression.level", problem).remedy("leave it out, or choose another codec"));
        }
    }
    let linger = number("linger.ms").unwrap_or(0.0);
    if let Some(timeout) = number("delivery.timeout.ms").filter(|&timeout| timeout > 0.0 && timeout <= linger) {
        let problem = format!("is {timeout}, not more than linger.ms ({linger}): no record would arrive in time");
        return Err(ConfigError::new("delivery.timeout.ms", problem).remedy("make it longer"));
    }
    Ok(())
}

impl fmt::Debug for ProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProducerBuilder")
            .field("set", &crate::config::Shown(&self.set))
            .field("mistake", &self.mistake)
            .field("on_full", &self.on_full)
            .field("interceptors", &self.interceptors.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_do_not_go_together_are_refused() {
        let builder = || Client::new("h:9092").unwrap().producer_builder();
        let secs = Duration::from_secs;
        let table = [
            (
                builder().acks(Acks::Leader),
                "acks: does not wait for all replicas, but the producer is idempotent; leave it at all, or call \
                 without_idempotence()",
            ),
            (
                builder().acks(Acks::All).with("request.required.acks", "all"),
                "request.required.acks: is set twice; set it once",
            ),
            (
                builder().with("max.in.flight", "6"),
                "max.in.flight.requests.per.connection: is more than 5, but the producer is idempotent; make it 5 or less, \
                 or call without_idempotence()",
            ),
            (
                builder().compression_level(3),
                "compression.level: is set, but compression.type is none, which has no levels; leave it out, or choose \
                 another codec",
            ),
            (
                builder().compression(Compression::Gzip).compression_level(10),
                "compression.level: is more than 9, the highest of gzip; leave it out, or choose another codec",
            ),
            (
                builder().linger(secs(2)).delivery_timeout(secs(1)),
                "delivery.timeout.ms: is 1000, not more than linger.ms (2000): no record would arrive in time; make it longer",
            ),
            (
                builder().queue_records(0),
                "queue.buffering.max.messages: is 0: no record would ever be sent; make it at least 1",
            ),
            (builder().with("linger.m", "5"), "unknown property \"linger.m\": did you mean \"linger.ms\"?"),
        ];
        for (builder, expected) in table {
            assert_eq!(builder.build().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn what_the_producer_is_told_goes_before_what_the_client_is_told() {
        let client = Client::builder().brokers("h").property("acks", "1").build().unwrap();
        assert!(client.producer_builder().build().is_err());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _entered = runtime.enter();
        client.producer_builder().acks(Acks::All).build().unwrap();
        client.producer_builder().without_idempotence().build().unwrap();
    }
}
