//! `tower` layers around handlers, batch handlers and transforms.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::{Layer, Service};
use waterwheel::{
    Batch, DeadLetter, Event, ExactlyOnce, Failure, FailureClass, HandlerError, Message, ProducerRecord, Raw, Retry,
    WorkerBuilder, layered,
};

use crate::support::{
    Diary, Gate, Running, boxed, client, event, eventually, fill, gated, read, record, run, send, start, start_batches,
    start_transform, topic, unique,
};

/// What a layer is asked for: a message, or a batch, by its first one.
trait Asked {
    fn key(&self) -> Option<&[u8]>;
}

impl Asked for Message<Raw> {
    fn key(&self) -> Option<&[u8]> {
        self.record().key()
    }
}

impl Asked for Batch<Raw> {
    fn key(&self) -> Option<&[u8]> {
        self.first()?.record().key()
    }
}

/// Never ready for the first attempt of all, panics at the key `panic`, refuses the key `refuse`, makes another failure of
/// that of the key `change`; lets all else through.
#[derive(Clone)]
struct Picky<S> {
    inner: S,
    polled: Arc<AtomicUsize>,
    /// Whether this clone is one that is never ready.
    hangs: bool,
}

struct PickyLayer(Arc<AtomicUsize>);

impl<S> Layer<S> for PickyLayer {
    type Service = Picky<S>;

    fn layer(&self, inner: S) -> Picky<S> {
        Picky { inner, polled: self.0.clone(), hangs: false }
    }
}

impl<S, R> Service<R> for Picky<S>
where
    S: Service<R, Error = HandlerError, Response: Send + 'static, Future: Send + 'static>,
    R: Asked,
{
    type Response = S::Response;
    type Error = HandlerError;
    type Future = BoxFuture<'static, Result<S::Response, HandlerError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        self.hangs |= self.polled.fetch_add(1, Ordering::SeqCst) == 0;
        if self.hangs { Poll::Pending } else { self.inner.poll_ready(cx) }
    }

    fn call(&mut self, asked: R) -> Self::Future {
        match asked.key() {
            Some(b"panic") => panic!("in a layer"),
            Some(b"refuse") => {
                let refused = Failure::dead_letter("refused by a layer");
                ready(Err(refused.into())).boxed()
            }
            Some(b"change") => {
                let called = self.inner.call(asked);
                async move { called.await.map_err(|_| Failure::dead_letter("changed by a layer").into()) }.boxed()
            }
            _ => self.inner.call(asked).boxed(),
        }
    }
}

/// What all handlers do below a [`Picky`] layer.
fn work(diary: &Diary, message: &Message<Raw>) -> Result<(), Failure> {
    match message.key() {
        Some(b"change") => Err(Failure::retry("to be changed")),
        Some(b"skip") => Err(Failure::skip("as it is")),
        _ => {
            diary.begin(message).done();
            Ok(())
        }
    }
}

/// A layer that is not ready holds its attempt only, and what it fails with is the attempt's failure.
fn picky(begin: impl AsyncFnOnce(WorkerBuilder, Diary, PickyLayer) -> Running) {
    run(async {
        let topic = topic(1);
        send([record(&topic, 0, "a", "")]).await;
        let (diary, polled) = (Diary::default(), Arc::<AtomicUsize>::default());
        let worker = client().worker(unique("group")).topic(&topic).drain_timeout(Duration::from_millis(50));
        let worker = worker.dead_letter(DeadLetter::topic(unique("dlt")));
        let worker = worker.retry(Retry::fixed(Duration::from_millis(1)).attempts(2));
        let running = begin(worker, diary.clone(), PickyLayer(polled.clone())).await;
        let mut events = running.handle.events();
        eventually("the first attempt", || polled.load(Ordering::SeqCst) > 0).await;
        let keys = ["b", "refuse", "change", "skip", "panic", "c", "d"];
        send(keys.iter().map(|key| record(&topic, 0, *key, ""))).await;
        let mut letters = Vec::new();
        while letters.len() < 3 {
            let class = event(&mut events, "a dead letter", |event| match event {
                Event::DeadLettered { class, .. } => Some(class),
                _ => None,
            });
            letters.push(class.await);
        }
        letters.sort_by_key(|class| class.as_str());
        assert_eq!(letters, [FailureClass::Handler, FailureClass::Handler, FailureClass::Panic]);
        eventually("the others", || running.handle.counts().succeeded == 3).await;
        let mut done: Vec<_> = diary.done().into_iter().filter_map(|seen| seen.key).collect();
        done.sort_unstable();
        assert_eq!(done, ["b", "c", "d"]);
        let report = running.stop().await;
        let counts = report.counts;
        assert_eq!((counts.skipped, counts.panicked, counts.dead_lettered), (1, 2, 3));
        assert_eq!(counts.retried, 1, "the panic alone: a changed failure is that of the layer");
        assert_eq!(report.cut_off.len(), 1, "the one that hangs: {report:?}");
    });
}

#[test]
fn a_layer_that_is_not_ready_holds_its_attempt_only_and_what_it_fails_with_is_the_attempts_failure() {
    picky(async |worker, diary, layer| {
        let handler = move |message: Message<Raw>| ready(work(&diary, &message));
        start(worker.handler(boxed(handler)).layer(layer).build().unwrap())
    });
}

#[test]
fn a_layer_around_a_batch_handler_is_asked_for_each_batch() {
    picky(async |worker, diary, layer| {
        let handler = move |batch: Batch<Raw>| ready(work(&diary, &batch[0]));
        start_batches(worker.batch_handler(handler, 1, Duration::from_secs(1)).layer(layer).build().unwrap())
    });
}

#[test]
fn a_layer_around_a_transform_passes_on_what_it_makes() {
    let out = topic(1);
    let made = out.clone();
    picky(async |worker, diary, layer| {
        let transform = move |message: Message<Raw>| {
            let output = || ProducerRecord::to(made.as_str()).key(message.key().unwrap_or_default());
            ready(work(&diary, &message).map(|()| output()))
        };
        let worker = worker.exactly_once(ExactlyOnce::new());
        start_transform(worker.transform(transform).layer(layer).build().unwrap())
    });
    run(async {
        let mut keys: Vec<_> = read(&out, 3).await.iter().filter_map(|record| Some(record.key()?.to_vec())).collect();
        keys.sort_unstable();
        assert_eq!(keys, [b"b", b"c", b"d"]);
    });
}

/// Layers of tower itself limit and time out.
fn towers(records: u64, begin: impl AsyncFnOnce(WorkerBuilder, Diary, Gate) -> Running) {
    run(async {
        let topic = topic(4);
        fill(&topic, records as usize, |i| format!("k{i}")).await;
        let (diary, gate) = (Diary::default(), Gate::closed());
        let worker = client().worker(unique("group")).topic(&topic).concurrency(20);
        let worker = worker.retry(Retry::fixed(Duration::from_millis(1)).forever());
        let running = begin(worker, diary.clone(), gate.clone()).await;
        // Behind the closed gate each attempt times out, and its place goes to another.
        eventually("time-outs", || running.handle.counts().retried >= 6).await;
        gate.open();
        eventually("all", || running.handle.counts().succeeded == records).await;
        assert!((1..=3).contains(&diary.peak()), "{} at once", diary.peak());
        running.stop().await;
    });
}

fn limit() -> ConcurrencyLimitLayer {
    ConcurrencyLimitLayer::new(3)
}

fn timeout() -> TimeoutLayer {
    TimeoutLayer::new(Duration::from_millis(100))
}

#[test]
fn layers_of_tower_itself_limit_and_time_out_handlers() {
    towers(40, async |worker, diary, gate| {
        let handler = layered(boxed(gated(&diary, &gate)), timeout());
        start(worker.handler(handler).layer(limit()).build().unwrap())
    });
}

#[test]
fn layers_of_tower_itself_limit_and_time_out_batches() {
    towers(40, async |worker, diary, gate| {
        let handler = move |batch: Batch<Raw>| {
            // As many at once as there are batches.
            let (attempt, gate) = (diary.begin(&batch[0]), gate.clone());
            async move {
                gate.pass().await;
                attempt.done();
                anyhow::Ok(())
            }
        };
        let worker = worker.batch_handler(layered(handler, timeout()), 4, Duration::from_millis(5));
        start_batches(worker.layer(limit()).build().unwrap())
    });
}

#[test]
fn layers_of_tower_itself_limit_and_time_out_transforms() {
    towers(40, async |worker, diary, gate| {
        let transform = move |message: Message<Raw>| {
            let (attempt, gate) = (diary.begin(&message), gate.clone());
            async move {
                gate.pass().await;
                attempt.done();
                anyhow::Ok(())
            }
        };
        let worker = worker.exactly_once(ExactlyOnce::new()).transform(transform);
        start_transform(worker.layer(timeout()).layer(limit()).build().unwrap())
    });
}
