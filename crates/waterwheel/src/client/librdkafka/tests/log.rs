//! librdkafka's log.

use std::fmt::{Debug, Write as _};
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span;

use super::*;

static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Keeps what librdkafka logs.
struct Keep;

impl tracing::Subscriber for Keep {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "waterwheel::librdkafka"
    }
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }
    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                write!(self.0, "{field}={value:?} ").unwrap();
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        SAID.lock().unwrap().push(text.0);
    }
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[test]
fn with_everything_logged_no_secret_is_told() {
    tracing::subscriber::set_global_default(Keep).unwrap();
    run(async {
        let kafka = Kafka::mock();
        let properties = kafka.properties(&[
            ("debug", "all"),
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "alice"),
            ("sasl.password", "hunter2-is-secret"),
        ]);
        let admin = Librdkafka::new(None, None).admin(&properties).unwrap();
        // The mock cluster knows no SASL, so this fails after a try.
        let ask = admin.create_topic("t".into(), 1, Duration::from_secs(2));
        assert!(ask.await.is_err());
        let wrong = kafka.properties(&[("sasl.password", "hunter2-is-secret"), ("log_level", "hunter2-is-secret")]);
        let refused = Librdkafka::new(None, None).admin(&wrong).map(|_| ()).unwrap_err().to_string();
        assert!(refused.contains("log_level") && !refused.contains("hunter2"), "{refused}");
    });
    let said = SAID.lock().unwrap();
    assert!(said.iter().any(|line| line.contains("facility=\"CONNECT\"")), "{} lines", said.len());
    let told: Vec<_> = said.iter().filter(|line| line.contains("hunter2")).collect();
    assert!(told.is_empty(), "{told:?}");
}
