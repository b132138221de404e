//! Records for tests, each with its acknowledged place.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer as _, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::cluster::Kafka;
use super::{PATIENCE, wait_until};

/// Records that the brokers acknowledged: partition, offset, key.
#[derive(Default)]
pub(crate) struct Produced(Vec<Acknowledged>);

/// A record byte for byte.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bytes {
    pub(crate) partition: i32,
    /// Of a record that was read.
    pub(crate) offset: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

type Acknowledged = (i32, i64, Option<String>);

/// Records that are sent one by one, while other things happen.
pub(crate) struct Flow {
    producer: BaseProducer<Reports>,
    topic: String,
    sent: usize,
}

impl Flow {
    /// How many were sent.
    pub(crate) fn sent(&self) -> usize {
        self.sent
    }

    /// Sends one; it is acknowledged later.
    pub(crate) fn send(&mut self, key: &str, value: &str) {
        let sent = self.producer.send(BaseRecord::to(&self.topic).key(key).payload(value));
        sent.map_err(|(error, _)| error).expect("room for a hundred thousand records");
        self.sent += 1;
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until every one is acknowledged, or the test fails.
    pub(crate) fn end(self) -> Produced {
        acknowledged(&self.producer, self.sent)
    }
}

impl Produced {
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes those of another list, too.
    pub(crate) fn add(&mut self, other: Produced) {
        self.0.extend(other.0);
    }

    /// Those whose partition and offset `keep` says.
    pub(crate) fn filter(self, keep: impl Fn(i32, i64) -> bool) -> Self {
        Self(self.0.into_iter().filter(|(partition, offset, _)| keep(*partition, *offset)).collect())
    }

    /// Partition, offset and key of each.
    pub(crate) fn keyed(&self) -> impl Iterator<Item = (i32, i64, Option<&str>)> {
        self.0.iter().map(|(partition, offset, key)| (*partition, *offset, key.as_deref()))
    }

    /// Their partitions and offsets.
    pub(crate) fn places(&self) -> impl Iterator<Item = (i32, i64)> {
        self.0.iter().map(|(partition, offset, _)| (*partition, *offset))
    }

    /// Writes the list that `waterwheel audit --produced` reads into `dir`; returns its path.
    pub(crate) fn write(&self, dir: &Path) -> PathBuf {
        let mut text = String::new();
        for (partition, offset, key) in &self.0 {
            // Writing to a string cannot fail.
            let key = key.as_deref().unwrap_or_default().replace('\n', "\\n");
            let _ = writeln!(text, "{partition} {offset} {key}");
        }
        let path = dir.join("produced");
        std::fs::write(&path, text).expect("the test's directory can be written to");
        path
    }
}

struct OpenTransaction(BaseProducer<Reports>);

impl Drop for OpenTransaction {
    fn drop(&mut self) {
        // The broker aborts it by itself where this fails.
        let _ = self.0.abort_transaction(PATIENCE);
    }
}

impl Kafka {
    /// Produces records (key, value) with acks=all; every one is acknowledged, or the test fails.
    pub(crate) fn produce(&self, topic: &str, records: impl IntoIterator<Item = (Option<String>, String)>) -> Produced {
        let producer = self.producer(&[]);
        let mut sent = 0;
        for (key, value) in records {
            let mut record = BaseRecord::<String, String>::to(topic).payload(&value);
            record.key = key.as_ref();
            sent += 1;
            while let Err((error, returned)) = producer.send(record) {
                assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "cannot send to {topic}");
                producer.poll(Duration::from_millis(50));
                record = returned;
            }
            producer.poll(Duration::ZERO);
        }
        acknowledged(&producer, sent)
    }

    /// Produces records byte for byte, each to its partition, in their order.
    pub(crate) fn produce_bytes(&self, topic: &str, records: &[Bytes]) -> Produced {
        self.produce_at(topic, records.iter().map(|bytes| (bytes, None)))
    }

    /// Produces very many records, of a partition and a key each and without a value. Their places are not told.
    pub(crate) fn produce_many<'r>(&self, topic: &str, records: impl Iterator<Item = (i32, &'r str)>) {
        let producer: BaseProducer = self.configured(&[("compression.type", "lz4")]).create().expect("a producer");
        for (partition, key) in records {
            let mut record = BaseRecord::<str, [u8]>::to(topic).partition(partition).key(key);
            while let Err((error, returned)) = producer.send(record) {
                assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "cannot send to {topic}");
                producer.poll(Duration::from_millis(20));
                record = returned;
            }
        }
        producer.flush(PATIENCE).expect("all records are acknowledged in time");
        assert_eq!(producer.in_flight_count(), 0);
    }

    /// The same, each with the time that it is said to have been created at, in milliseconds.
    pub(crate) fn produce_at<'r>(
        &self,
        topic: &str,
        records: impl ExactSizeIterator<Item = (&'r Bytes, Option<i64>)>,
    ) -> Produced {
        let producer = self.producer(&[]);
        let sent = records.len();
        for (bytes, created) in records {
            let mut headers = OwnedHeaders::new();
            for (key, value) in &bytes.headers {
                headers = headers.insert(Header { key, value: value.as_ref() });
            }
            let mut record = BaseRecord::<[u8], [u8]>::to(topic).partition(bytes.partition).headers(headers);
            record.key = bytes.key.as_deref();
            record.payload = bytes.value.as_deref();
            record.timestamp = created;
            producer.send(record).map_err(|(error, _)| error).expect("room for a hundred thousand records");
        }
        acknowledged(&producer, sent)
    }

    /// Produces records in transactions, one for each batch, which is committed or aborted. Tells the committed ones.
    pub(crate) fn produce_transactions(&self, topic: &str, batches: &[(bool, Vec<(String, String)>)]) -> Produced {
        let producer = self.producer(&[("transactional.id", topic)]);
        producer.init_transactions(PATIENCE).expect("transactions");
        let mut committed = Produced::default();
        for (commit, records) in batches {
            producer.begin_transaction().expect("a transaction begins");
            for (key, value) in records {
                let sent = producer.send(BaseRecord::to(topic).key(key).payload(value));
                sent.map_err(|(error, _)| error).expect("room for a transaction");
            }
            let written = acknowledged(&producer, records.len());
            if *commit {
                producer.commit_transaction(PATIENCE).expect("a transaction commits");
                committed.add(written);
            } else {
                producer.abort_transaction(PATIENCE).expect("a transaction aborts");
            }
        }
        committed
    }

    /// Begins a transaction, writes records in it, and leaves it open until the producer is dropped; then it is aborted.
    pub(crate) fn open_transaction(&self, topic: &str, records: usize) -> impl Drop + use<> {
        let producer = self.producer(&[("transactional.id", &format!("{topic}-open"))]);
        producer.init_transactions(PATIENCE).expect("transactions");
        producer.begin_transaction().expect("a transaction begins");
        for n in 0..records {
            let (key, value) = (format!("k{n}"), "open".to_owned());
            let sent = producer.send(BaseRecord::to(topic).key(&key).payload(&value));
            sent.map_err(|(error, _)| error).expect("room for a transaction");
        }
        acknowledged(&producer, records);
        OpenTransaction(producer)
    }

    /// A producer that sends record by record.
    pub(crate) fn flow(&self, topic: &str) -> Flow {
        Flow { producer: self.producer(&[]), topic: topic.to_owned(), sent: 0 }
    }

    fn producer(&self, properties: &[(&str, &str)]) -> BaseProducer<Reports> {
        self.configured(properties).create_with_context(Reports::default()).expect("a producer")
    }

    fn configured(&self, properties: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("enable.idempotence", "true").set("linger.ms", "5");
        config.set("message.max.bytes", "20000000").set("queue.buffering.max.kbytes", "1048576");
        for (key, value) in properties {
            config.set(*key, *value);
        }
        config
    }

    /// Everything that a reader of the topic sees now, by partition and offset; aborted records are not seen.
    pub(crate) fn read_all(&self, topic: &str, partitions: i32) -> Vec<Bytes> {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap()).set("group.id", "reader").set("enable.auto.commit", "false");
        config.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition, Offset::Beginning).expect("a plain offset");
        }
        consumer.assign(&list).expect("partitions by hand");
        let (mut read, mut at_end) = (Vec::new(), BTreeSet::new());
        wait_until(PATIENCE, "a reader to see the end of the topic", || {
            while let Some(message) = consumer.poll(Duration::from_millis(50)) {
                match message {
                    Ok(message) => read.push(bytes_of(&message)),
                    Err(KafkaError::PartitionEOF(partition)) => drop(at_end.insert(partition)),
                    Err(error) => panic!("cannot read {topic}: {error}"),
                }
            }
            at_end.len() == partitions.unsigned_abs() as usize
        });
        read.sort_by_key(|bytes| (bytes.partition, bytes.offset));
        read
    }
}

impl From<&[Bytes]> for Produced {
    fn from(records: &[Bytes]) -> Self {
        let key = |bytes: &Bytes| bytes.key.as_ref().map(|key| String::from_utf8_lossy(key).into_owned());
        Self(records.iter().map(|bytes| (bytes.partition, bytes.offset, key(bytes))).collect())
    }
}

fn bytes_of(message: &BorrowedMessage<'_>) -> Bytes {
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Bytes {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

/// What was acknowledged of the records sent: all of them, or the test fails.
fn acknowledged(producer: &BaseProducer<Reports>, sent: usize) -> Produced {
    producer.flush(PATIENCE).expect("all records are acknowledged in time");
    let reports = std::mem::take(&mut *producer.context().0.lock().expect("no report panicked"));
    assert_eq!(reports.len(), sent, "every record has its report");
    Produced(reports.into_iter().map(|report| report.expect("every record is acknowledged")).collect())
}

#[derive(Default)]
struct Reports(Mutex<Vec<Result<Acknowledged, KafkaError>>>);

impl ClientContext for Reports {}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let report = match result {
            Ok(message) => {
                let key = message.key().map(|key| String::from_utf8_lossy(key).into_owned());
                Ok((message.partition(), message.offset(), key))
            }
            Err((error, _)) => Err(error.clone()),
        };
        self.0.lock().expect("no report panicked").push(report);
    }
}
