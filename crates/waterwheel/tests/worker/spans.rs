//! OpenTelemetry spans of attempts, dead letters, commits and sends.

use std::time::Duration;

use opentelemetry::trace::{SpanId, SpanKind, Status, TraceContextExt};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use waterwheel::{Batch, DeadLetter, ExactlyOnce, Failure, Message, Outcomes, ProducerRecord, Raw, Retry, Spans};

use crate::support::{
    boxed, client, eventually, read, record, run, send, start, start_batches, start_transform, topic, unique, worker_on,
};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn spans() -> (InMemorySpanExporter, SdkTracerProvider) {
    let exporter = InMemorySpanExporter::default();
    (exporter.clone(), SdkTracerProvider::builder().with_simple_exporter(exporter).build())
}

fn attribute(span: &SpanData, name: &str) -> Option<String> {
    span.attributes.iter().find(|a| a.key.as_str() == name).map(|a| a.value.to_string())
}

fn named<'a>(all: &'a [SpanData], name: &str) -> Vec<&'a SpanData> {
    all.iter().filter(|span| span.name == name).collect()
}

#[test]
fn an_attempt_is_a_span_in_its_records_trace_and_so_is_all_that_comes_of_it() {
    run(async {
        let (topic, out, letters) = (topic(1), topic(1), unique("dlt"));
        let records = [
            record(&topic, 0, "canary-key", "canary-value").header("traceparent", PARENT),
            record(&topic, 0, "canary-bad", "canary-value"),
        ];
        send(records).await;
        let (exporter, provider) = spans();
        let spans = Spans::new(&provider);
        let producer = client().producer_builder().interceptor(spans.clone()).build().unwrap();
        let (sender, to) = (producer.clone(), out.clone());
        let handler = move |m: Message<Raw>| {
            let (producer, to) = (sender.clone(), to.clone());
            // The future is made within the span, too.
            assert!(opentelemetry::Context::current().has_active_span());
            async move {
                if m.key() == Some(b"canary-bad") {
                    return Err(Failure::dead_letter("canary-text"));
                }
                tokio::task::yield_now().await;
                producer.send(ProducerRecord::to(to).value("canary-value")).await.map_err(Failure::retry)?;
                Ok(())
            }
        };
        let worker = worker_on(&topic).dead_letter(DeadLetter::topic(letters.clone())).retry(Retry::none());
        let running = start(worker.spans(spans).handler(boxed(handler)).build().unwrap());
        eventually("both", || running.handle.counts().succeeded + running.handle.counts().dead_lettered == 2).await;
        running.stop().await;
        producer.close(Duration::from_secs(10)).await;
        let all = exporter.get_finished_spans().unwrap();

        let attempts = named(&all, &format!("process {topic}"));
        let [good] = attempts
            .iter()
            .filter(|s| attribute(s, "messaging.kafka.offset").as_deref() == Some("0"))
            .collect::<Vec<_>>()[..]
        else {
            panic!("{attempts:?}")
        };
        assert_eq!((good.span_context.trace_id().to_string().as_str(), &good.span_kind), (TRACE, &SpanKind::Consumer));
        assert_eq!((good.parent_span_id.to_string().as_str(), good.parent_span_is_remote), ("b7ad6b7169203331", true));
        assert_eq!((&good.status, attribute(good, "error.type")), (&Status::Unset, None));
        for (name, value) in [
            ("messaging.system", "kafka"),
            ("messaging.operation.name", "process"),
            ("messaging.destination.name", &topic),
            ("messaging.destination.partition.id", "0"),
        ] {
            assert_eq!(attribute(good, name).as_deref(), Some(value), "{name}");
        }
        let sent = named(&all, &format!("send {out}"));
        assert_eq!(
            (sent.len(), sent[0].parent_span_id),
            (1, good.span_context.span_id()),
            "current while it was polled"
        );

        let bad = attempts.iter().find(|s| attribute(s, "error.type").is_some()).unwrap();
        assert_eq!((attribute(bad, "error.type").as_deref(), bad.parent_span_id), (Some("handler"), SpanId::INVALID));
        let letter = named(&all, &format!("send {letters}"));
        assert_eq!((letter.len(), &letter[0].span_kind), (1, &SpanKind::Producer));
        let commits = all.iter().filter(|span| span.name.starts_with("commit")).collect::<Vec<_>>();
        assert!(!commits.is_empty() && commits.iter().all(|span| span.span_kind == SpanKind::Client));
        assert!(!format!("{all:?}").contains("canary"), "a key, a payload or an error's text: {all:?}");

        // Downstream: the context of the span that sent it.
        for (topic, span) in [(&out, sent[0]), (&letters, letter[0])] {
            let read = read(topic, 1).await;
            let header = String::from_utf8(read[0].header("traceparent").unwrap().to_vec()).unwrap();
            let (trace, span) = (span.span_context.trace_id(), span.span_context.span_id());
            assert_eq!(header, format!("00-{trace}-{span}-01"));
        }
    });
}

#[test]
fn what_a_transform_makes_carries_the_trace_on_and_its_spans_end_when_it_is_committed() {
    const OWN: &str = "00-11111111111111111111111111111111-2222222222222222-01";
    run(async {
        let (topic, out, letters) = (topic(1), topic(1), unique("dlt"));
        let keys = ["canary-plain", "canary-own", "canary-bad"];
        send(keys.map(|key| record(&topic, 0, key, "canary-value").header("traceparent", PARENT))).await;
        let (exporter, provider) = spans();
        let to = out.clone();
        let transform = move |m: Message<Raw>| {
            let output = ProducerRecord::to(to.as_str()).key(m.key().unwrap_or_default()).value("canary-output");
            std::future::ready(match m.key() {
                Some(b"canary-bad") => Err(Failure::dead_letter("canary-text")),
                Some(b"canary-own") => Ok(output.header("traceparent", OWN)),
                _ => Ok(output),
            })
        };
        let worker = client().worker(unique("group")).topic(&topic).dead_letter(DeadLetter::topic(letters.clone()));
        let worker = worker.exactly_once(ExactlyOnce::new()).spans(Spans::new(&provider));
        let running = start_transform(worker.transform(transform).build().unwrap());
        eventually("all", || running.handle.counts().succeeded + running.handle.counts().dead_lettered == 3).await;
        running.stop().await;
        let all = exporter.get_finished_spans().unwrap();
        assert!(all.iter().all(|span| span.instrumentation_scope.name() == "waterwheel"));
        assert!(!format!("{all:?}").contains("canary"), "a key, a payload or an error's text: {all:?}");

        let attempts = named(&all, &format!("process {topic}"));
        let attempt_at = |offset: &str| {
            let found = attempts.iter().find(|s| attribute(s, "messaging.kafka.offset").as_deref() == Some(offset));
            found.unwrap().span_context.clone()
        };
        let sends = named(&all, &format!("send {out}"));
        assert_eq!(sends.len(), 2);
        assert!(sends.iter().all(|s| s.span_kind == SpanKind::Producer && s.status == Status::Unset), "{sends:?}");
        let sent_of = |offset| sends.iter().find(|s| s.parent_span_id == attempt_at(offset).span_id()).unwrap();
        let letter = named(&all, &format!("send {letters}"));
        assert_eq!((letter.len(), &letter[0].status), (1, &Status::Unset));
        assert_eq!(letter[0].parent_span_id.to_string(), "b7ad6b7169203331");
        let commits = named(&all, &format!("commit {topic}"));
        assert!(!commits.is_empty() && commits.iter().all(|s| s.status == Status::Unset), "{commits:?}");
        assert!(commits.iter().all(|s| s.span_kind == SpanKind::Client));
        for span in sends.iter().chain(&letter) {
            assert_eq!(span.span_context.trace_id().to_string(), TRACE);
            assert!(commits.iter().any(|commit| commit.end_time <= span.end_time), "ended before its transaction did");
        }

        let read = read(&out, 2).await;
        let parents = read.iter().map(|r| String::from_utf8(r.header("traceparent").unwrap().to_vec()).unwrap());
        let span = sent_of("0").span_context.span_id();
        assert_eq!(parents.collect::<Vec<_>>(), [format!("00-{TRACE}-{span}-01"), OWN.to_owned()]);
        assert_eq!(sent_of("1").span_context.trace_id().to_string(), TRACE, "that of its attempt, all the same");
    });
}

#[test]
fn a_batch_is_a_span_with_a_link_to_each_records_trace() {
    run(async {
        let topic = topic(1);
        send((0..3).map(|i| {
            let plain = record(&topic, 0, format!("k{i}"), "");
            if i == 1 { plain } else { plain.header("traceparent", PARENT) }
        }))
        .await;
        let (exporter, provider) = spans();
        let worker = worker_on(&topic).spans(Spans::new(&provider));
        let handler = |_: Batch<Raw>| std::future::ready(Outcomes::ok());
        let running = start_batches(worker.batch_handler(handler, 3, Duration::from_secs(20)).build().unwrap());
        eventually("all", || running.handle.counts().succeeded == 3).await;
        running.stop().await;
        let all = exporter.get_finished_spans().unwrap();
        let batches = named(&all, &format!("process {topic}"));
        assert_eq!(batches.len(), 1, "{batches:?}");
        assert_eq!(attribute(batches[0], "messaging.batch.message_count").as_deref(), Some("3"));
        let links: Vec<_> = batches[0].links.iter().map(|link| link.span_context.trace_id().to_string()).collect();
        assert_eq!(links, [TRACE, TRACE]);
        assert_eq!(batches[0].parent_span_id, SpanId::INVALID);
    });
}
