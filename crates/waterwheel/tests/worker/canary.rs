//! No secret and no payload in any output (promise R9), with everything logged that can be.

use std::fmt::Debug;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};
use serde::Deserialize;
use tracing_subscriber::fmt::MakeWriter;
use waterwheel::config::{Secret, Security};
use waterwheel::{
    Adaptive, AfterDeadLetter, AttemptEnd, AttemptPlace, Breaker, Client, DeadLetter, Event, Failure, FailureClass,
    FetchedBatch, Finish, Hook, Json, Message, ProducerRecord, RateLimit, Raw, Retry, Spans, Subject, TopicPartition,
    WorkerHandle,
};

use crate::support::{boxed, cluster, event, eventually, run, send, start, topic, unique};

#[derive(Clone, Default)]
struct Buffer(Arc<Mutex<Vec<u8>>>);

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Buffer {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Prints all that a hook is told.
struct Prints(Box<dyn Fn(String) + Send + Sync>);

impl Prints {
    fn say(&self, told: impl Debug) {
        (self.0)(format!("{told:?}"));
    }
}

impl Hook for Prints {
    async fn fetched(&self, _: &WorkerHandle, batch: FetchedBatch) {
        self.say(batch);
    }

    async fn before_attempt(&self, _: &WorkerHandle, attempt: AttemptPlace) {
        self.say(attempt);
    }

    async fn after_attempt(&self, _: &WorkerHandle, end: AttemptEnd) {
        self.say(end);
    }

    async fn finished(&self, _: &WorkerHandle, partition: TopicPartition, offset: i64, how: Finish) {
        self.say((partition, offset, how));
    }

    async fn dead_lettered(&self, _: &WorkerHandle, partition: TopicPartition, offset: i64, class: FailureClass) {
        self.say((partition, offset, class));
    }

    async fn before_commit(&self, _: &WorkerHandle, offsets: Vec<(TopicPartition, i64)>) {
        self.say(offsets);
    }

    async fn event(&self, _: &WorkerHandle, event: Event) {
        self.say(event);
    }
}

#[derive(Deserialize)]
struct Order {
    #[expect(dead_code, reason = "only its type matters")]
    amount: u64,
}

#[test]
fn no_credential_key_value_or_header_appears_in_any_log_error_event_or_debug_print() {
    let log = Buffer::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone());
    subscriber.try_init().unwrap();
    let seen = Arc::new(Mutex::new(String::new()));
    let print = {
        let seen = seen.clone();
        move |text: String| seen.lock().unwrap().push_str(&text)
    };
    run(async {
        let (topic, letters, group) = (topic(1), topic(1), unique("group"));
        let bad = r#"{"amount":"cnry-value-json"}"#;
        let with = |key: &str, value: &str| {
            ProducerRecord::to(&*topic).key(key).value(value).header("cnry-header-name", "cnry-header-value")
        };
        let sound = r#"{"amount":1}"#;
        let follows = with("cnry-key-2", sound);
        send([with("cnry-key-1", bad), with("cnry-key-2", sound), with("cnry-key-3", "cnry-value-text"), follows])
            .await;

        let client = Client::builder().brokers(cluster().bootstrap_servers()).property("debug", "all").build().unwrap();
        let printing = print.clone();
        let handler = move |m: Message<Json<Order>>| {
            printing(format!("{m:?} {:#?} {:?} {:?} {:?}", m, m.record(), m.headers(), m.body));
            let failure = Failure::retry("cnry-error-text");
            printing(format!("{failure:?} {:?}", failure.class()));
            async move { Err::<(), _>(failure) }
        };
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let worker = client.worker(&group).spans(Spans::new(&provider)).hook(Prints(Box::new(print.clone())));
        let worker = worker.topic(&topic).retry(Retry::fixed(Duration::from_millis(1)).attempts(2));
        let worker = worker.process_delay(Duration::from_millis(1)).time_attempts();
        let worker = worker.breaker(Breaker::consecutive(2).open_for(Duration::from_millis(50)));
        let worker = worker.rate_limit(RateLimit::records(1_000).and_bytes(1 << 20).group_wide());
        let worker = worker.adaptive(Adaptive::between(4, 8)).after_dead_letter(AfterDeadLetter::Follow);
        let worker = worker.dead_letter(DeadLetter::topic(&letters)).handler(boxed(handler)).build().unwrap();
        print(format!("{client:?}"));
        let mut events = worker.handle().events();
        let running = start(worker);
        eventually("all dead letters", || running.handle.counts().dead_lettered == 4).await;
        assert_eq!(running.handle.counts().followed, 1);
        let limits = running.handle.limits();
        print(format!("{:?} {:?} {limits:?}", running.handle.snapshot().await, running.handle.health().await));
        let key = Subject::Key { topic: topic.clone(), partition: None, key: b"cnry-key-1".to_vec() };
        let why = running.handle.explain(key.clone()).await.unwrap();
        print(format!("{key:?} {why:?} {why} {}", serde_json::to_string(&why).unwrap()));
        let mut lettered = 0;
        while lettered < 4 {
            event(&mut events, "an event", |e| {
                lettered += i32::from(matches!(e, Event::DeadLettered { .. }));
                print(format!("{e:?}"));
                Some(())
            })
            .await;
        }
        print(format!("{:?}", running.stop().await));
        let spans = exporter.get_finished_spans().unwrap();
        assert!(spans.len() >= 5, "two attempts and the letters: {}", spans.len());
        print(format!("{spans:?}"));

        // A handler that stops the worker: the error that ends it.
        let stops = client.worker(unique("group")).topic(&topic);
        let stops = stops
            .handler(boxed(async |_: Message<Raw>| Err::<(), _>(Failure::stop("cnry-stop-text"))))
            .build()
            .unwrap();
        let error = start(stops).ended().await.unwrap_err();
        print(format!("{error} {error:?}"));

        // Credentials: the embedded cluster knows none, so the connection fails, loudly.
        let security =
            Security::sasl_plain("cnry-user", Secret::new("cnry-password")).dangerously_allow_plaintext_sasl();
        let builder = Client::builder()
            .brokers(cluster().bootstrap_servers())
            .property("debug", "all")
            .security(security.clone());
        print(format!("{builder:?} {security:?}"));
        let client = builder.build().unwrap();
        print(format!("{client:?}"));
        let worker =
            client.worker(unique("group")).topic(&topic).handler(boxed(async |_: Message<Raw>| anyhow::Ok(())));
        let worker = worker.build().unwrap();
        let error = start(worker).ended().await.unwrap_err();
        print(format!("{error} {error:?}"));
    });
    let log = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(
        log.contains("librdkafka") || log.len() > 100_000,
        "librdkafka's own log was captured ({} bytes)",
        log.len()
    );
    for (what, text) in [("log", &log), ("prints", &*seen.lock().unwrap())] {
        if let Some(at) = text.find("cnry-") {
            let start = text.floor_char_boundary(at.saturating_sub(300));
            let end = text.ceil_char_boundary((at + 200).min(text.len()));
            panic!("the {what} shows a secret or a payload: …{}…", &text[start..end]);
        }
    }
}
