//! Typed bodies, and what becomes of those that cannot be decoded.

use std::sync::{Arc, Mutex};

use serde::Deserialize;
use waterwheel::{
    Client, DeadLetter, Decode, DecodeError, Event, Failure, FailureClass, Json, Message, ProducerRecord, Raw, Record,
    Utf8,
};

use crate::support::{self, Diary, boxed, event, eventually, read, run, send, start, topic, unique, worker_on};

#[derive(Debug, Deserialize)]
struct Order {
    customer: String,
    amount: u64,
}

/// The twenty lines of `interfaces.md`.
#[test]
fn the_worker_of_the_readme_handles_typed_orders() {
    async fn charge(order: Message<Json<Order>>) -> Result<(), Failure> {
        if order.body.amount == 0 {
            return Err(Failure::skip("nothing to charge"));
        }
        assert_eq!(order.body.customer, "ann");
        Ok(())
    }
    run(async {
        let orders = topic(1);
        let json = |amount: u64| format!(r#"{{"customer":"ann","amount":{amount}}}"#);
        send((0..3).map(|n| ProducerRecord::to(&*orders).value(json(n)))).await;

        let client = Client::new(support::cluster().bootstrap_servers()).unwrap();
        let worker = client.worker(unique("billing")).topic(&orders).handler(charge).build().unwrap();
        let handle = worker.handle();
        let done =
            async move { eventually("three ends", || handle.counts().succeeded + handle.counts().skipped == 3).await };
        let report = worker.run_until(done).await.unwrap();

        assert_eq!((report.counts.succeeded, report.counts.skipped, report.is_clean()), (2, 1, true));
    });
}

#[test]
fn raw_and_utf8_bodies_are_what_was_sent() {
    run(async {
        let topic = topic(1);
        send([ProducerRecord::to(&*topic).key("k").value("grüß"), ProducerRecord::to(&*topic)]).await;
        let texts = Arc::new(Mutex::new(Vec::new()));
        let seen = texts.clone();
        let raw = start(
            worker_on(&topic)
                .handler(boxed(move |m: Message<Raw>| {
                    seen.lock().unwrap().push((m.key().map(<[u8]>::to_vec), m.value().map(<[u8]>::to_vec)));
                    async { anyhow::Ok(()) }
                }))
                .build()
                .unwrap(),
        );
        eventually("both", || texts.lock().unwrap().len() == 2).await;
        raw.stop().await;
        assert_eq!(*texts.lock().unwrap(), [(Some(b"k".to_vec()), Some("grüß".as_bytes().to_vec())), (None, None)]);

        let diary = Diary::default();
        let mine = diary.clone();
        let utf8 = start(
            worker_on(&topic)
                .handler(boxed(move |m: Message<Utf8>| {
                    let attempt = mine.begin(&m);
                    async move {
                        assert_eq!(&*m.body, "grüß");
                        attempt.done();
                        anyhow::Ok(())
                    }
                }))
                .build()
                .unwrap(),
        );
        eventually("one undecodable", || utf8.handle.counts().undecodable > 0 && diary.count() == 1).await;
        utf8.stop().await;
    });
}

#[test]
fn an_undecodable_body_is_a_dead_letter_of_class_decode_that_quotes_nothing() {
    run(async {
        let (topic, letters) = (topic(1), topic(1));
        let bad = br#"{"customer":"canary-bad","amount":"canary-amount"}"#;
        send([ProducerRecord::to(&*topic).key("k").value(bad)]).await;
        let worker = worker_on(&topic)
            .dead_letter(DeadLetter::topic(&letters).with_error_message())
            .handler(boxed(async |_: Message<Json<Order>>| -> anyhow::Result<()> {
                unreachable!("it cannot be decoded")
            }))
            .build()
            .unwrap();
        let mut events = worker.handle().events();
        let running = start(worker);
        let class = event(&mut events, "dead letter", |e| match e {
            Event::DeadLettered { class, offset: 0, .. } => Some(class),
            _ => None,
        });
        assert_eq!(class.await, FailureClass::Decode);
        let report = running.stop().await;
        assert_eq!((report.counts.undecodable, report.counts.dead_lettered, report.counts.attempts), (1, 1, 1));

        let letter = &read(&letters, 1).await[0];
        assert_eq!((letter.key(), letter.value()), (Some(&b"k"[..]), Some(&bad[..])));
        assert_eq!(letter.header("waterwheel-error-class"), Some(&b"decode"[..]));
        let text = String::from_utf8_lossy(letter.header("waterwheel-error-message").unwrap()).into_owned();
        assert_eq!(text, "JSON of another shape at line 1 column 49");
    });
}

/// Reads nothing but `good`, and panics at `panic`.
struct Fragile;

impl Decode for Fragile {
    fn decode(record: &Record) -> Result<Self, DecodeError> {
        match record.value() {
            Some(b"good") => Ok(Fragile),
            Some(b"panic") => panic!("a decoder that does not expect this"),
            _ => Err(DecodeError::new("not good")),
        }
    }
}

#[test]
fn a_decoder_that_panics_is_an_undecodable_record_and_the_worker_goes_on() {
    run(async {
        let (topic, letters) = (topic(1), topic(1));
        send(["good", "panic", "bad", "good"].map(|v| ProducerRecord::to(&*topic).value(v))).await;
        let worker = worker_on(&topic).dead_letter(DeadLetter::topic(&letters));
        let running = start(worker.handler(boxed(async |_: Message<Fragile>| anyhow::Ok(()))).build().unwrap());
        eventually("all four", || running.handle.counts().succeeded + running.handle.counts().dead_lettered == 4).await;
        let report = running.stop().await;
        assert_eq!((report.counts.succeeded, report.counts.undecodable, report.counts.panicked), (2, 2, 0));
        for letter in read(&letters, 2).await {
            assert_eq!(letter.header("waterwheel-error-class"), Some(&b"decode"[..]));
        }
    });
}

#[test]
fn json_takes_a_null_value_where_its_type_takes_null() {
    run(async {
        let topic = topic(1);
        send([ProducerRecord::to(&*topic).key("gone")]).await;
        let handler = async |m: Message<Json<Option<Order>>>| {
            assert!(m.body.is_none());
            anyhow::Ok(())
        };
        let running = start(worker_on(&topic).handler(boxed(handler)).build().unwrap());
        eventually("the tombstone", || running.handle.counts().succeeded == 1).await;
        running.stop().await;
    });
}
