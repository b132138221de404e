//! Codecs before a worker's handler: bodies, tombstones, keys, and what becomes of a record when the registry fails.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::Either;
use waterwheel::{
    DeadLetter, Decoder, Event, Failure, Keyed, Message, PlainKey, ProducerRecord, Raw, Retry, Utf8, decoded, keyed,
};

use crate::cluster::{client, read, run_until, send, topic};
use crate::types::{Order, ProtoOrder, avro, order, proto_order, registry};

type Diary<T> = Arc<Mutex<Vec<T>>>;
type Noted = std::future::Ready<anyhow::Result<()>>;

/// What handlers saw, and a handler that writes it down.
fn diary<T: Clone + Send + Sync + 'static>() -> (Diary<T>, impl Fn(Message<T>) -> Noted) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let diary = seen.clone();
    let handler = move |m: Message<T>| {
        diary.lock().unwrap().push(m.body.clone());
        std::future::ready(Ok(()))
    };
    (seen, handler)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_typed_orders_and_tombstones() {
    let (server, registry) = registry().await;
    topic("typed");
    let codec = registry.avro().schema(avro()).auto_register();
    let record = |key: &str| ProducerRecord::to("typed").key(key);
    send([
        record("ann").value_by(&codec, &order("ann", 5)).await.unwrap(),
        record("bob").value_by(&codec, &order("bob", 6)).await.unwrap(),
        record("ann").value_by(&codec, &None::<Order>).await.unwrap(),
    ])
    .await;
    let (seen, handler) = diary::<Keyed<Option<Utf8>, Option<Order>>>();
    let before = server.requests().len();
    let other = crate::types::registry_at(&server).await;
    let decoder = keyed(PlainKey::new(), other.avro::<Order>());
    let worker = client().worker("typed").topic("typed").handler(decoded(decoder, handler)).build().unwrap();
    run_until(worker, || seen.lock().unwrap().len() == 3).await;
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_by_key(|m| m.value.as_ref().map_or(i64::MAX, |order| order.cents));
    let (ann, bob) = (Some(Utf8("ann".to_owned())), Some(Utf8("bob".to_owned())));
    assert_eq!(seen[0], Keyed { key: ann.clone(), value: Some(order("ann", 5)) });
    assert_eq!(seen[1], Keyed { key: bob, value: Some(order("bob", 6)) });
    assert_eq!(seen[2], Keyed { key: ann, value: None });
    assert_eq!(server.requests()[before..], ["GET /schemas/ids/1"], "one request for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_down_must_not_dead_letter_a_record() {
    let (server, registry) = registry().await;
    topic("patient");
    topic("patient-dlt");
    let codec = registry.avro().schema(avro()).auto_register();
    send([ProducerRecord::to("patient").value_by(&codec, &order("ann", 5)).await.unwrap()]).await;
    // Longer than the worker's attempts at a record, and each of those is several requests.
    server.refuse(12, 503);
    let (seen, handler) = diary::<Order>();
    let other = crate::types::registry_at(&server).await;
    let worker = client()
        .worker("patient")
        .topic("patient")
        .retry(Retry::fixed(Duration::from_millis(1)).attempts(2))
        .dead_letter(DeadLetter::topic("patient-dlt"))
        .handler(decoded(other.avro(), handler))
        .build()
        .unwrap();
    let report = run_until(worker, || !seen.lock().unwrap().is_empty()).await;
    assert_eq!((report.counts.succeeded, report.counts.dead_lettered, report.counts.undecodable), (1, 0, 0));
    assert!(server.requests().len() > 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_decoded_is_a_dead_letter_with_its_own_bytes() {
    let (_, registry) = registry().await;
    topic("garbage");
    topic("garbage-dlt");
    let codec = Arc::new(registry.avro().schema(avro()).auto_register());
    let good = codec_bytes(&codec).await;
    let mut truncated = good.clone();
    truncated.truncate(good.len() - 3);
    let bad = [
        b"canary".to_vec(),
        // An id that nobody has registered.
        b"\0\0\0\x30\x39canary".to_vec(),
        truncated,
        [good.as_slice(), b"canary"].concat(),
    ];
    send(bad.iter().map(|value| ProducerRecord::to("garbage").value(value))).await;
    send([ProducerRecord::to("garbage").key("tombstone"), ProducerRecord::to("garbage").value(&good)]).await;
    let (seen, handler) = diary::<Order>();
    let worker = client()
        .worker("garbage")
        .topic("garbage")
        .dead_letter(DeadLetter::topic("garbage-dlt").with_error_message())
        .handler(decoded(codec, handler))
        .build()
        .unwrap();
    let (mut events, handle) = (worker.handle().events(), worker.handle());
    let report = run_until(worker, || {
        let counts = handle.counts();
        counts.succeeded + counts.dead_lettered == 6
    })
    .await;
    assert_eq!((report.counts.undecodable, report.counts.attempts), (5, 6));
    assert_eq!(*seen.lock().unwrap(), [order("ann", 5)]);
    let letters = read("garbage-dlt", 5).await;
    for letter in &letters {
        assert_eq!(letter.header("waterwheel-error-class"), Some(&b"decode"[..]));
        let message = String::from_utf8_lossy(letter.header("waterwheel-error-message").unwrap()).into_owned();
        assert!(!message.contains("canary"), "{message}");
    }
    assert!(bad.iter().all(|bad| letters.iter().any(|letter| letter.value() == Some(bad))));
    while let Either::Left((Some(event), _)) =
        futures_util::future::select(std::pin::pin!(events.next()), std::future::ready(())).await
    {
        assert!(!format!("{event:?}").contains("canary"));
        if let Event::DeadLettered { class, .. } = event {
            assert_eq!(class.as_str(), "decode");
        }
    }
}

async fn codec_bytes(codec: &impl waterwheel::Encoder<Order>) -> Vec<u8> {
    codec.write("garbage", &order("ann", 5)).await.unwrap().bytes.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_messages_are_read_without_a_request_and_checked_by_name_with_one() {
    let (server, registry) = registry().await;
    topic("proto");
    topic("proto-dlt");
    let text = waterwheel::registry::SchemaText::protobuf(crate::types::PROTO);
    let orders = registry.protobuf().schema(text.clone()).message("shop.Order").auto_register();
    let prices = registry.any().schema(text).message("shop.Item.Price");
    send([
        ProducerRecord::to("proto").value_by(&orders, &proto_order("ann", 5)).await.unwrap(),
        ProducerRecord::to("proto").value_by(&prices, &serde_json::json!({"cents": 7})).await.unwrap(),
    ])
    .await;
    let before = server.requests().len();
    let records = read("proto", 2).await;
    let codec = registry.protobuf::<ProtoOrder>();
    assert_eq!(Decoder::<ProtoOrder>::read(&codec, &records[0]).await.unwrap(), proto_order("ann", 5));
    assert_eq!(server.requests().len(), before);

    let (seen, handler) = diary::<ProtoOrder>();
    let other = crate::types::registry_at(&server).await;
    let worker = client().worker("proto").topic("proto").dead_letter(DeadLetter::topic("proto-dlt"));
    let worker = worker.handler(decoded(other.protobuf().message("shop.Order"), handler)).build().unwrap();
    let handle = worker.handle();
    run_until(worker, || handle.counts().succeeded + handle.counts().dead_lettered == 2).await;
    assert_eq!(*seen.lock().unwrap(), [proto_order("ann", 5)]);
    assert_eq!(server.requests()[before..], ["GET /schemas/ids/1"]);
}

/// A decoder that does not expect what it gets.
struct Fragile;

impl Decoder<Raw> for Fragile {
    fn decode(&self, _: &waterwheel::Record) -> Result<waterwheel::Decoding<Raw>, Failure> {
        panic!("canary")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decoder_that_panics_is_an_undecodable_record() {
    topic("fragile");
    topic("fragile-dlt");
    send([ProducerRecord::to("fragile").value("v")]).await;
    let worker = client().worker("fragile").topic("fragile").dead_letter(DeadLetter::topic("fragile-dlt"));
    let worker = worker.handler(decoded(Fragile, diary::<Raw>().1)).build().unwrap();
    let handle = worker.handle();
    let report = run_until(worker, || handle.counts().dead_lettered == 1).await;
    assert_eq!((report.counts.undecodable, report.counts.panicked), (1, 0));
}
