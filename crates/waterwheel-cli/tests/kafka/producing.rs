//! What the producer says against what the brokers have: under faults, refusals, every setting, and other clients.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use waterwheel::{
    Acks, Client, Compression, DeliveryFuture, Partitioner, Producer, ProducerBuilder, ProducerRecord, SendFailure,
};

use crate::support::{Bytes, Cluster, Kafka, PATIENCE, Process, Way, is_whole, topic_name, wait_until};

const PARTITIONS: i32 = 6;
const KEYS: usize = 1_000;

/// Of topics whose records bear times long past: the brokers would delete them within a second.
const AGELESS: &[(&str, &str)] = &[("retention.ms", "-1")];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

fn client(bootstrap: &str) -> Client {
    Client::new(bootstrap).expect("a checked configuration")
}

/// Numbered records and where they were said to be written.
struct Numbered {
    topic: String,
    producer: Producer,
    next: usize,
    /// By number: partition and offset.
    places: Vec<(i32, Option<i64>)>,
    done: AtomicUsize,
}

impl Numbered {
    fn new(producer: Producer, topic: &str) -> Self {
        Self { topic: topic.to_owned(), producer, next: 0, places: Vec::new(), done: AtomicUsize::new(0) }
    }

    async fn enqueue(&mut self) -> DeliveryFuture {
        let record =
            ProducerRecord::to(&*self.topic).key(format!("k{}", self.next % KEYS)).value(self.next.to_string());
        self.next += 1;
        self.producer.enqueue_within(record, PATIENCE).await.expect("room comes")
    }

    /// Sends that many more, and waits until every one is acknowledged. A thousand at a time, half of them under way
    /// before the others are waited for, so that faults meet records at each of their stages.
    async fn send(&mut self, count: usize) {
        let mut waiting: Vec<DeliveryFuture> = Vec::new();
        for _ in 0..count.div_ceil(1_000) {
            let mut more = Vec::with_capacity(1_000);
            for _ in 0..1_000 {
                more.push(self.enqueue().await);
            }
            self.note(std::mem::replace(&mut waiting, more)).await;
        }
        self.note(waiting).await;
    }

    async fn note(&mut self, answers: Vec<DeliveryFuture>) {
        for answer in answers {
            let at = answer.await.unwrap_or_else(|failure| panic!("record {}: {failure:?}", self.places.len()));
            self.places.push((at.partition, at.offset));
            self.done.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Every record is in the topic once, where it was said to be, and those of a key in their order.
    fn judge(self, kafka: &Kafka) {
        assert_eq!(self.places.len(), self.next);
        let read = kafka.read_all(&self.topic, PARTITIONS);
        let number = |bytes: &Bytes| -> usize {
            let value = bytes.value.as_deref().expect("each has a value");
            std::str::from_utf8(value).expect("a number").parse().expect("a number")
        };
        let mut times = vec![0_u8; self.next];
        let (mut misplaced, mut last) = (0, HashMap::new());
        for bytes in &read {
            let n = number(bytes);
            times[n] += 1;
            let (partition, offset) = self.places[n];
            // A repeated batch that the broker had already is acknowledged without its offsets.
            misplaced += usize::from(partition != bytes.partition || offset.is_some_and(|at| at != bytes.offset));
            let before = last.insert(n % KEYS, n);
            assert!(before.is_none_or(|before| before < n), "record {n} stands behind {before:?}");
        }
        let lost = times.iter().filter(|&&times| times == 0).count();
        let doubled = times.iter().filter(|&&times| times > 1).count();
        println!("{} acknowledged, {lost} lost, {doubled} doubled, {misplaced} misplaced", self.next);
        assert_eq!((lost, doubled, misplaced), (0, 0, 0));
    }
}

/// Brokers are killed and started again, five times, while `count` records are written.
fn acknowledged_is_written_while_brokers_die(count: usize) {
    let Some(kafka) = Cluster::of(3).start() else { return };
    let topic = topic_name("producing-bounce");
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let runtime = runtime();
    let producer = runtime.block_on(async { client(kafka.bootstrap()).producer() }).expect("a producer");
    let mut sent = Numbered::new(producer, &topic);
    runtime.block_on(sent.send(1_000));
    for broker in [1, 2, 3, 1, 2] {
        let begun = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                wait_until(PATIENCE, "records to be under way", || begun.load(Ordering::SeqCst) > 0);
                kafka.kill(broker);
                begun.store(2, Ordering::SeqCst);
            });
            runtime.block_on(async {
                let end = sent.next + count / 5;
                // As long as it takes for the broker to be dead, and all that are asked for.
                while sent.next < end || begun.load(Ordering::SeqCst) < 2 {
                    sent.send(2_000).await;
                    let _ = begun.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);
                }
                sent.send(2_000).await;
            });
        });
        kafka.boot(broker);
        kafka.await_brokers(3);
    }
    assert_eq!(runtime.block_on(sent.producer.close(PATIENCE)), 0);
    sent.judge(&kafka);
}

#[test]
fn acknowledged_records_are_neither_lost_nor_doubled_when_brokers_die() {
    acknowledged_is_written_while_brokers_die(200_000);
}

#[test]
fn a_million_records_are_neither_lost_nor_doubled_when_brokers_die() {
    if is_whole() {
        acknowledged_is_written_while_brokers_die(1_000_000);
    }
}

/// Every connection is cut within some hundred milliseconds, half of them by a reset, 30 times at least.
fn acknowledged_is_written_while_connections_break(count: usize) {
    let Some(kafka) = Cluster::of(1).proxied(7).start() else { return };
    let topic = topic_name("producing-cut");
    kafka.create_topic(&topic, PARTITIONS, &[]);
    let proxy = &kafka.proxies()[0];
    let client = Client::builder().brokers(kafka.bootstrap_proxied()).property("reconnect.backoff.max.ms", "100");
    let client = client.build().expect("a checked configuration");
    let runtime = runtime();
    let producer = runtime.block_on(async { client.producer() }).expect("a producer");
    let mut sent = Numbered::new(producer, &topic);
    let life = Duration::from_millis(100)..Duration::from_millis(400);
    proxy.set(Way { life: Some(life), ..Way::default() });
    while sent.next < count || proxy.counts().cut < 30 {
        runtime.block_on(sent.send(2_000));
    }
    println!("{:?}", proxy.counts());
    assert_eq!(runtime.block_on(sent.producer.close(PATIENCE)), 0);
    sent.judge(&kafka);
}

#[test]
fn acknowledged_records_are_neither_lost_nor_doubled_when_connections_break() {
    acknowledged_is_written_while_connections_break(200_000);
}

#[test]
fn a_million_records_are_neither_lost_nor_doubled_when_connections_break() {
    if is_whole() {
        acknowledged_is_written_while_connections_break(1_000_000);
    }
}

/// No record, no topic, no right, no network: each is told as what it is, and what can be mended is.
#[test]
fn what_a_cluster_refuses_is_told_and_given_back() {
    let cluster = Cluster::of(1).secure().proxied(9).property("auto.create.topics.enable=false");
    let cluster = cluster.property("authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer");
    let Some(kafka) = cluster.property("super.users=User:ANONYMOUS").start() else { return };
    let topic = topic_name("producing-refused");
    kafka.create_topic(&topic, 1, &[("max.message.bytes", "2000")]);
    let to = |value: &[u8]| ProducerRecord::to(&*topic).value(value);
    // Over TLS with a password, as the proxy's listener wants it too.
    let alice = |bootstrap: &str| {
        let alice = Client::builder().brokers(bootstrap).property("security.protocol", "sasl_ssl");
        let alice = alice.property("ssl.ca.location", kafka.tls_file("ca.pem").to_string_lossy());
        let alice = alice.property("sasl.mechanism", "SCRAM-SHA-512").property("sasl.username", "alice");
        alice.property("sasl.password", "alice-secret").build().expect("a checked configuration")
    };
    let value_of = |failure: SendFailure| failure.into_record().value_bytes().map(<[u8]>::to_vec);
    let runtime = runtime();
    runtime.block_on(async {
        // By what the broker takes, and by what the client takes.
        let producer = client(kafka.bootstrap()).producer().expect("a producer");
        for size in [5_000, 2_000_000] {
            let failure = producer.send(to(&vec![1; size])).await.expect_err("it is too large");
            assert_eq!(failure.error().code(), 10, "{failure:?}");
            assert!(!failure.is_retriable() && !failure.possibly_written() && !failure.is_fatal(), "{failure:?}");
            assert_eq!(value_of(failure).map(|value| value.len()), Some(size));
        }
        producer.send(to(b"small")).await.expect("others go on");
        producer.close(PATIENCE).await;

        let missing = client(kafka.bootstrap()).producer_builder().with("topic.metadata.propagation.max.ms", "500");
        let missing = missing.build().expect("a producer");
        let failure = missing.send(ProducerRecord::to(topic_name("missing")).value("v")).await.expect_err("no topic");
        assert!(failure.error().is_unknown_topic() && !failure.possibly_written(), "{failure:?}");
        assert_eq!(value_of(failure).as_deref(), Some(&b"v"[..]));
        let failure = missing.send(to(b"v").partition(7)).await.expect_err("no partition");
        assert!(!failure.possibly_written(), "{failure:?}");

        let producer = alice(&kafka.bootstrap_sasl()).producer().expect("a producer");
        let failure = producer.send(to(b"v")).await.expect_err("alice has no right");
        assert!(failure.error().is_unauthorised() && !failure.is_retriable(), "{failure:?}");
        assert!(!failure.possibly_written() && !format!("{failure:?}").contains("alice-secret"), "{failure:?}");
    });
    let rights = ["--operation", "write", "--operation", "describe", "--topic", &topic];
    kafka.tool("acls", &[&["--add", "--allow-principal", "User:alice", "--force"][..], &rights].concat());

    // Before anything can be reached, a send waits.
    let proxy = &kafka.proxies()[0];
    let alice = alice(&kafka.bootstrap_proxied());
    proxy.black_hole(true);
    let producer = runtime.block_on(async { alice.producer() }).expect("a producer");
    let early = producer.enqueue(to(b"early")).expect("there is room");
    wait_until(PATIENCE, "a connection that leads nowhere", || proxy.counts().swallowed > 0);
    assert_eq!(producer.queue_len(), 1);
    proxy.black_hole(false);
    runtime.block_on(early).expect("it is written once the network is there");
    // And what nobody answers in time fails, possibly written or not.
    proxy.black_hole(true);
    let short = async { alice.producer_builder().delivery_timeout(Duration::from_secs(2)).build() };
    let short = runtime.block_on(short).expect("a producer");
    let failure = runtime.block_on(short.send(to(b"late"))).expect_err("nobody answers");
    assert!(failure.error().is_unreachable() && failure.is_retriable(), "{failure:?}");
    let values: Vec<_> = kafka.read_all(&topic, 1).into_iter().filter_map(|bytes| bytes.value).collect();
    assert_eq!(values, [&b"small"[..], b"early"]);
}

/// Bytes that a topic's only partition takes on disk.
fn sizes(kafka: &Kafka, topics: &[String]) -> Vec<u64> {
    let told = kafka.tool("log-dirs", &["--describe", "--topic-list", &topics.join(",")]);
    let line = told.lines().find(|line| line.starts_with('{')).unwrap_or_else(|| panic!("no JSON in {told}"));
    let all: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let partitions = &all["brokers"][0]["logDirs"][0]["partitions"];
    let size = |topic: &String| {
        let of = |partition: &&serde_json::Value| partition["partition"] == format!("{topic}-0");
        let partition = partitions.as_array().and_then(|all| all.iter().find(of));
        partition.and_then(|partition| partition["size"].as_u64()).unwrap_or_else(|| panic!("no {topic} in {told}"))
    };
    topics.iter().map(size).collect()
}

#[test]
fn compression_its_level_and_the_size_of_batches_are_seen_in_the_log() {
    let Some(kafka) = Kafka::shared() else { return };
    if !Kafka::has_tools() {
        return;
    }
    type Set = fn(ProducerBuilder) -> ProducerBuilder;
    let settings: [Set; 8] = [
        |builder| builder,
        |builder| builder.batch_bytes(1_000),
        |builder| builder.compression(Compression::Gzip).compression_level(1),
        |builder| builder.compression(Compression::Gzip).compression_level(9),
        |builder| builder.compression(Compression::Snappy),
        |builder| builder.compression(Compression::Lz4),
        |builder| builder.compression(Compression::Zstd),
        |builder| builder.without_idempotence().acks(Acks::None),
    ];
    // Text with some order in it: levels make a difference.
    let value = |n: usize| (0..80).map(|i| format!("{} ", (n * 7 + i * i) % 61)).collect::<String>();
    let topics: Vec<String> = settings.iter().map(|_| topic_name("producing-log")).collect();
    let runtime = runtime();
    for (topic, set) in topics.iter().zip(settings) {
        kafka.create_topic(topic, 1, &[]);
        let producer = runtime.block_on(async { set(client(kafka.bootstrap()).producer_builder()).build() });
        let producer = producer.expect("a producer");
        // All there before the topic is known, so that batches fill.
        let enqueue = |n| producer.enqueue(ProducerRecord::to(&**topic).value(value(n))).expect("there is room");
        let answers: Vec<_> = (0..500).map(enqueue).collect();
        runtime.block_on(async {
            for answer in answers {
                let at = answer.await.expect("it is acknowledged");
                assert_eq!(at.offset.is_none(), topic == &topics[7], "acks=0 tells no offset, the others do: {at:?}");
            }
        });
        assert_eq!(runtime.block_on(producer.close(PATIENCE)), 0);
    }
    wait_until(PATIENCE, "what nobody acknowledged to be written", || kafka.ends(&topics[7], 1) == [500]);
    let sizes = sizes(kafka, &topics);
    let [plain, small, gzip_1, gzip_9, snappy, lz4, zstd, no_acks] = sizes[..] else { panic!("{sizes:?}") };
    println!("{sizes:?}");
    // A batch's header is 61 bytes.
    assert!(small >= plain + 80 * 61, "{sizes:?}");
    for compressed in [gzip_1, gzip_9, snappy, lz4, zstd] {
        assert!(compressed * 2 < plain, "{sizes:?}");
    }
    assert!(gzip_9 < gzip_1 && no_acks.abs_diff(plain) < plain / 2, "{sizes:?}");
    let mut codecs = [gzip_1, snappy, lz4, zstd];
    codecs.sort_unstable();
    assert!(codecs.windows(2).all(|pair| pair[0] != pair[1]), "{sizes:?}");
}

#[test]
fn keys_go_where_the_partitioner_says_and_by_default_where_javas_producer_puts_them() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("producing-keys");
    kafka.create_topic(&topic, 32, &[]);
    let runtime = runtime();
    // murmur2 and FNV-1a by their definitions, CRC32 as zlib has it, each modulo 32.
    let keys = ["a", "key", "waterwheel", "kafka"];
    for (partitioner, expected) in [
        (Partitioner::Java, [28, 9, 15, 4]),
        (Partitioner::Murmur2, [28, 9, 15, 4]),
        (Partitioner::Crc32, [3, 9, 27, 23]),
        (Partitioner::Fnv1a, [20, 12, 31, 1]),
    ] {
        runtime.block_on(async {
            let producer = client(kafka.bootstrap()).producer_builder().partitioner(partitioner).build();
            let producer = producer.expect("a producer");
            for (key, expected) in keys.into_iter().zip(expected) {
                let at = producer.send(ProducerRecord::to(&*topic).key(key)).await.expect("it is acknowledged");
                assert_eq!(at.partition, expected, "{partitioner:?} of {key}");
            }
            if partitioner == Partitioner::Murmur2 {
                let null = producer.send(ProducerRecord::to(&*topic).value("v")).await.expect("it is acknowledged");
                assert_eq!(null.partition, 25, "murmur2 of nothing");
            }
        });
    }
    if !Kafka::has_tools() {
        return;
    }
    // Java's own word.
    let theirs = topic_name("producing-keys-java");
    kafka.create_topic(&theirs, 32, &[]);
    let keys: Vec<String> = (0..300).map(|n| format!("key-{}", n * n)).collect();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let input = dir.path().join("input");
    let lines: String = keys.iter().map(|key| format!("{key}\t{key}\n")).collect();
    std::fs::write(&input, lines).expect("the temporary directory can be written to");
    let from_file = r#"exec "$0" tool producer --bootstrap-server "$1" --topic "$2" --property parse.key=true < "$3""#;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/kafka");
    finished(Process::start("sh", &["-c", from_file, script, kafka.bootstrap(), &theirs, &input.to_string_lossy()]));
    let java: HashMap<Vec<u8>, i32> =
        kafka.read_all(&theirs, 32).into_iter().filter_map(|bytes| Some((bytes.key?, bytes.partition))).collect();
    assert_eq!(java.len(), keys.len(), "void: Java wrote something else");
    runtime.block_on(async {
        let producer = client(kafka.bootstrap()).producer().expect("a producer");
        for key in &keys {
            let at = producer.send(ProducerRecord::to(&*topic).key(key)).await.expect("it is acknowledged");
            assert_eq!(java[key.as_bytes()], at.partition, "{key}");
        }
    });
}

fn finished(mut process: Process) -> String {
    assert!(process.wait(PATIENCE).success(), "{}\n{}", process.stdout(), process.stderr());
    process.stdout()
}

/// Records with all that may be lost on the way.
fn of_every_kind(topic: &str) -> Vec<ProducerRecord> {
    let to = || ProducerRecord::to(topic).partition(0).timestamp_millis(1_700_000_000_123);
    vec![
        to(),
        to().key("").value(""),
        to().key("k"),
        to().value("v"),
        to().key([0, 255]).value([254, 0]).header("a", "1").null_header("n").header("a", "2").header("", ""),
    ]
}

const OF_EVERY_KIND: &str = r#"[null, null, 1700000000123, []]
["", "", 1700000000123, []]
["6b", null, 1700000000123, []]
[null, "76", 1700000000123, []]
["00ff", "fe00", 1700000000123, [["a", "31"], ["n", null], ["a", "32"], ["", ""]]]
"#;

/// Reads a topic's first records, as hexadecimal digits, and writes them to another topic as they are.
const PYTHON: &str = r#"
import json, sys
from confluent_kafka import Consumer, Producer, TopicPartition
bootstrap, source, target, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "python", "enable.auto.commit": False})
consumer.assign([TopicPartition(source, 0, 0)])
producer = Producer({"bootstrap.servers": bootstrap})
text = lambda b: None if b is None else b.hex()
for _ in range(count):
    m = consumer.poll(30)
    assert m is not None and not m.error(), m and m.error()
    headers = m.headers() or []
    print(json.dumps([text(m.key()), text(m.value()), m.timestamp()[1], [[k, text(v)] for k, v in headers]]))
    producer.produce(target, key=m.key(), value=m.value(), partition=0, timestamp=m.timestamp()[1], headers=headers)
assert producer.flush(30) == 0
consumer.close()
"#;

#[test]
fn a_python_client_reads_what_we_write_and_we_read_what_it_writes() {
    let Some(kafka) = Kafka::shared() else { return };
    let mut has_client = Process::start("python3", &["-c", "import confluent_kafka"]);
    if !has_client.wait(PATIENCE).success() {
        eprintln!("SKIPPED: python3 has no confluent_kafka");
        return;
    }
    let (ours, theirs) = (topic_name("producing-python"), topic_name("producing-python-back"));
    for topic in [&ours, &theirs] {
        kafka.create_topic(topic, 1, AGELESS);
    }
    runtime().block_on(async {
        let producer = client(kafka.bootstrap()).producer().expect("a producer");
        producer.send_all(of_every_kind(&ours)).await.expect("all are acknowledged");
        // And one by one, by the other way in.
        for record in of_every_kind(&ours) {
            let at = producer.send(record).await.expect("it is acknowledged");
            assert_eq!(at.timestamp_millis, Some(1_700_000_000_123));
        }
    });
    let arguments = ["-c", PYTHON, kafka.bootstrap(), &ours, &theirs, "10"];
    assert_eq!(finished(Process::start("python3", &arguments)), OF_EVERY_KIND.repeat(2));
    runtime().block_on(async {
        let reader = client(kafka.bootstrap()).assigned().topic(&theirs, waterwheel::Start::Earliest);
        let mut reader = reader.until(waterwheel::Until::End).open().await.expect("a reader");
        for expected in of_every_kind(&theirs).into_iter().chain(of_every_kind(&theirs)) {
            let record = reader.recv().await.expect("it is read").expect("there are ten");
            let read = ProducerRecord::copy_of(&record, &*theirs);
            assert_eq!((read.key_bytes(), read.value_bytes()), (expected.key_bytes(), expected.value_bytes()));
            assert!(read.headers().eq(expected.headers()), "{:?}", record.offset());
            assert_eq!(record.timestamp_millis(), Some(1_700_000_000_123));
        }
    });
}

#[test]
fn kafkas_console_consumer_reads_what_we_write() {
    let Some(kafka) = Kafka::shared() else { return };
    if !Kafka::has_tools() {
        return;
    }
    let topic = topic_name("producing-console");
    kafka.create_topic(&topic, 1, AGELESS);
    runtime().block_on(async {
        let producer = client(kafka.bootstrap()).producer().expect("a producer");
        let to = || ProducerRecord::to(&*topic).timestamp_millis(1_700_000_000_123);
        for record in [to(), to().key("k").value("v").header("a", "1").null_header("n").header("a", "2")] {
            producer.send(record).await.expect("it is acknowledged");
        }
    });
    let mut words = vec!["--topic", &topic, "--from-beginning", "--max-messages", "2"];
    for property in ["print.timestamp=true", "print.key=true", "print.headers=true"] {
        words.extend(["--property", property]);
    }
    let read = finished(kafka.tool_process("consumer", &words));
    let time = "CreateTime:1700000000123";
    assert_eq!(read, format!("{time}\tNO_HEADERS\tnull\tnull\n{time}\ta:1,n:null,a:2\tk\tv\n"));
}
