//! A transactional producer's settings.

use std::fmt;
use std::time::Duration;

use super::{Left, TransactionFailure, TransactionalProducer};
use crate::client::Properties;
use crate::config::{ConfigError, add_property, overlay};
use crate::connection::Client;
use crate::error::Error;
use crate::producer::{OnFull, Producer};

/// Gathers the settings of a [`TransactionalProducer`]; [`connect`](Self::connect) checks them all.
#[derive(Clone)]
#[must_use = "connect() makes the producer"]
pub struct TransactionalProducerBuilder {
    client: Client,
    id: String,
    timeout: Duration,
    set: Properties,
    mistake: Option<ConfigError>,
}

/// Kafka's default of `transaction.timeout.ms`, which librdkafka shares.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What librdkafka takes.
const SHORTEST: Duration = Duration::from_secs(1);

impl Client {
    /// A producer of transactions under that id: of producers with the same id the one that connected last is the only one
    /// that can commit. Give each instance of a program its own, and the same one after a restart.
    pub fn transactional_producer(&self, id: impl Into<String>) -> TransactionalProducerBuilder {
        let set = Properties::new();
        TransactionalProducerBuilder { client: self.clone(), id: id.into(), timeout: TIMEOUT, set, mistake: None }
    }
}

impl TransactionalProducerBuilder {
    /// How long a transaction may be open; then the cluster aborts it, and its producer is over. From 1 s up to the cluster's
    /// `transaction.max.timeout.ms` (15 minutes by default). It looks for such transactions every 10 s. While one is open,
    /// readers of what is committed wait at its first record. Default: the client's `transaction.timeout.ms`, or 60 s.
    pub fn transaction_timeout(self, timeout: Duration) -> Self {
        self.with("transaction.timeout.ms", timeout.as_millis().to_string())
    }

    /// Any property by librdkafka's name, as `compression.type`. What Waterwheel sets itself is refused.
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        let added = add_property(&mut self.set, &name.into(), &value.into());
        self.mistake = self.mistake.or(added.err());
        self
    }

    /// Checks the settings and takes the id: other producers that have it are fenced from now on, and what they left open is
    /// aborted. Ready when the cluster has answered, which may take as long as an older transaction takes to be aborted;
    /// gives up after `deadline`. Must be called in a Tokio runtime.
    ///
    /// Dropping the future may have taken the id or not.
    pub async fn connect(self, deadline: Duration) -> Result<TransactionalProducer, TransactionFailure> {
        let properties = self.properties().map_err(TransactionFailure::of_configuration)?;
        let timeout = properties.get("transaction.timeout.ms").and_then(|ms| ms.parse().ok());
        let timeout = timeout.map_or(self.timeout, Duration::from_millis);
        let port = self
            .client
            .backend()
            .transactions(&properties)
            .map_err(|e| TransactionFailure::of_configuration(Error::Kafka(e)))?;
        port.init(deadline).await?;
        let records = Producer::over(port.producer(), &properties, self.client.elsewhere(), Vec::new(), OnFull::Wait);
        Ok(TransactionalProducer { port, records, id: self.id, timeout, left: Left::Nothing })
    }

    fn properties(&self) -> Result<Properties, Error> {
        if let Some(mistake) = &self.mistake {
            return Err(mistake.clone().into());
        }
        let problem = match &*self.id {
            "" => Some("is empty"),
            id if id.contains('\0') => Some("holds a NUL byte"),
            // The broker's key for it, of which Kafka writes the length in two bytes.
            id if id.len() > i16::MAX as usize => Some("is longer than 32,767 bytes"),
            _ => None,
        };
        if let Some(problem) = problem {
            return Err(ConfigError::new("transactional.id", problem)
                .remedy("give this instance a name of its own")
                .into());
        }
        let mut properties = overlay(self.client.properties().clone(), self.set.clone());
        if properties.get("enable.idempotence").is_some_and(|on| on == "false") {
            let problem = "is false, but a producer of transactions is idempotent";
            return Err(ConfigError::new("enable.idempotence", problem).remedy("leave it out").into());
        }
        if let Some(timeout) = properties.get("transaction.timeout.ms").and_then(|ms| ms.parse::<u64>().ok())
            && timeout < SHORTEST.as_millis() as u64
        {
            let problem = format!("is {timeout}, less than a second");
            return Err(ConfigError::new("transaction.timeout.ms", problem).remedy("make it longer").into());
        }
        properties.insert("transactional.id".to_owned(), self.id.clone());
        Ok(properties)
    }
}

impl fmt::Debug for TransactionalProducerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionalProducerBuilder")
            .field("id", &self.id)
            .field("set", &crate::config::Shown(&self.set))
            .field("mistake", &self.mistake)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(builder: TransactionalProducerBuilder) -> String {
        builder.properties().unwrap_err().to_string()
    }

    #[test]
    fn settings_are_checked_before_the_first_connection() {
        let client = || Client::new("h:9092").unwrap();
        let builder = |id: &str| client().transactional_producer(id);
        assert_eq!(problem(builder("")), "transactional.id: is empty; give this instance a name of its own");
        assert_eq!(
            problem(builder("a\0b")),
            "transactional.id: holds a NUL byte; give this instance a name of its own"
        );
        assert!(problem(builder(&"x".repeat(32_768))).contains("longer than 32,767 bytes"));
        assert_eq!(
            problem(builder("one").with("enable.idempotence", "false")),
            "enable.idempotence: is false, but a producer of transactions is idempotent; leave it out"
        );
        assert!(problem(builder("one").with("transactional.id", "two")).contains("Client::transactional_producer"));
        assert!(
            problem(builder("one").transaction_timeout(Duration::from_millis(999))).contains("transaction.timeout.ms")
        );
        let twice = builder("one").with("linger.ms", "1").with("queue.buffering.max.ms", "2");
        assert!(problem(twice).contains("is set twice"));
        let properties = builder("one").transaction_timeout(Duration::from_secs(7)).properties().unwrap();
        let set = |name: &str| properties[name].clone();
        assert_eq!((set("transactional.id"), set("transaction.timeout.ms")), ("one".to_owned(), "7000".to_owned()));
    }
}
