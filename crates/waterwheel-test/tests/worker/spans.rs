//! Spans of workers that work exactly once, whatever becomes of their transactions.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use waterwheel::{Client, ExactlyOnce, Failure, Message, Raw, Spans, Transform, WorkerBuilder};
use waterwheel_test::{Cluster, Lasts, Request};

use crate::support::{assert_exactly_once, eventually, fill, output, run, start_transform};

/// Spans that have ended, as long as their provider is there.
struct Seen {
    exporter: InMemorySpanExporter,
    _provider: SdkTracerProvider,
}

impl Seen {
    fn new() -> (Self, Spans) {
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        let spans = Spans::new(&provider);
        (Self { exporter, _provider: provider }, spans)
    }

    fn named(&self, name: &str) -> Vec<SpanData> {
        let all = self.exporter.get_finished_spans().unwrap();
        all.into_iter().filter(|span| span.name == name).collect()
    }

    /// How many of that name ended with each kind of error; well with none.
    fn ends(&self, name: &str) -> BTreeMap<String, usize> {
        let mut ends = BTreeMap::new();
        for span in self.named(name) {
            let error = span.attributes.iter().find(|a| a.key.as_str() == "error.type");
            *ends.entry(error.map_or("ok".to_owned(), |error| error.value.to_string())).or_default() += 1;
        }
        ends
    }
}

fn ends<const N: usize>(of: [(&str, usize); N]) -> BTreeMap<String, usize> {
    of.into_iter().map(|(error, times)| (error.to_owned(), times)).collect()
}

fn exact(client: &Client, spans: Spans, every: Duration) -> WorkerBuilder {
    client.worker("g").topic("t").shards(1).exactly_once(ExactlyOnce::new().every(every)).spans(spans)
}

fn at_once() -> impl Transform<Raw> {
    |message: Message<Raw>| std::future::ready(Ok::<_, Failure>(output(&message)))
}

const SOON: Duration = Duration::from_millis(100);

/// Nothing is committed before the worker is stopped.
const NEVER: Duration = Duration::from_secs(86_400);

#[test]
fn spans_of_a_transaction_that_fails_end_with_kafkas_code_and_those_of_the_next_one_well() {
    run(async {
        // By a record that was refused, by offsets that were, by an end that was not known.
        let steps = [(Request::Produce, 47, 0), (Request::AddOffsets, 22, 1), (Request::EndTransaction, 48, 1)];
        for (request, code, commits) in steps {
            let cluster = Cluster::new().topic("t", 1).topic("out", 1);
            fill(&cluster, 10).await;
            cluster.fail(request, code, Lasts::Times(1));
            let (seen, spans) = Seen::new();
            let worker = exact(&cluster.client(), spans, SOON).transform(at_once());
            let worker = start_transform(worker.build().unwrap());
            cluster.assert_finished("g", "t").await;
            assert_eq!(worker.stop().await.counts.transactions_aborted, 1, "{request:?}");
            assert_exactly_once(&cluster, &[], "");
            let (outputs, committed) = (seen.ends("send out"), seen.ends("commit t"));
            assert_eq!(outputs.get("ok"), Some(&10), "{request:?}: {outputs:?}");
            assert!(outputs.get(&code.to_string()).is_some_and(|n| *n >= 1), "{request:?}: {outputs:?}");
            assert_eq!(committed.get(&code.to_string()).copied().unwrap_or(0), commits, "{request:?}: {committed:?}");
            assert!(committed.get("ok").is_some_and(|n| *n >= 1), "{request:?}: {committed:?}");
        }
    });
}

#[test]
fn a_hand_over_cuts_off_the_spans_of_what_its_transaction_holds() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("out", 1);
        fill(&cluster, 10).await;
        let host = cluster.host();
        let (seen, spans) = Seen::new();
        let worker = start_transform(exact(&host.client(), spans, NEVER).transform(at_once()).build().unwrap());
        eventually("all to be tried", || worker.handle.counts().attempts == 10).await;
        assert!(seen.ends("send out").is_empty(), "their transaction is open");
        cluster.throw_out("g", &host);
        eventually("all to be tried again", || worker.handle.counts().attempts == 20).await;
        assert_eq!(seen.ends("send out"), ends([("cut_off", 10)]));
        worker.stop().await;
        assert_exactly_once(&cluster, &[], "");
        assert_eq!(seen.ends("send out"), ends([("cut_off", 10), ("ok", 10)]));
        assert_eq!(seen.ends("commit t"), ends([("ok", 1)]));
    });
}

#[test]
fn a_commit_under_way_when_its_worker_dies_is_cut_off() {
    run(async {
        let cluster = Cluster::new().topic("t", 1).topic("out", 1);
        fill(&cluster, 10).await;
        cluster.slow(Request::EndTransaction, Duration::from_secs(1));
        let host = cluster.host();
        let (seen, spans) = Seen::new();
        let worker = start_transform(exact(&host.client(), spans, SOON).transform(at_once()).build().unwrap());
        eventually("all to be tried", || worker.handle.counts().attempts == 10).await;
        cluster.advance(Duration::from_millis(500)).await;
        assert!(seen.ends("commit t").is_empty(), "under way");
        worker.kill(host).await;
        eventually("its end", || seen.ends("commit t") == ends([("cut_off", 1)])).await;
        assert_eq!(seen.ends("send out"), ends([("cut_off", 10)]));
    });
}
