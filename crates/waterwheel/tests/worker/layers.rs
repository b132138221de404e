//! `tower` layers around handlers.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tower::limit::ConcurrencyLimitLayer;
use tower::timeout::TimeoutLayer;
use tower::{Layer, Service};
use waterwheel::{DeadLetter, Failure, FailureClass, HandlerError, Message, Raw, Retry, layered};

use crate::support::{
    Diary, Gate, boxed, event, eventually, fill, gated, record, run, send, start, topic, unique, worker_on,
};

/// Never ready for the key `never`, panics at the key `panic`, refuses the key `refuse`; lets all others through.
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

impl<S> Service<Message<Raw>> for Picky<S>
where
    S: Service<Message<Raw>, Response = (), Error = HandlerError>,
{
    type Response = ();
    type Error = HandlerError;
    type Future = futures_util::future::Either<S::Future, Ready<Result<(), HandlerError>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), HandlerError>> {
        // The first attempt of all is the one that is never ready.
        self.hangs |= self.polled.fetch_add(1, Ordering::SeqCst) == 0;
        if self.hangs { Poll::Pending } else { self.inner.poll_ready(cx) }
    }

    fn call(&mut self, message: Message<Raw>) -> Self::Future {
        match message.key() {
            Some(b"panic") => panic!("in a layer"),
            Some(b"refuse") => {
                let refused = Failure::dead_letter("refused by a layer");
                futures_util::future::Either::Right(ready(Err(refused.into())))
            }
            _ => futures_util::future::Either::Left(self.inner.call(message)),
        }
    }
}

#[test]
fn a_layer_that_is_not_ready_holds_its_attempt_only_and_what_it_fails_with_is_the_attempts_failure() {
    run(async {
        let topic = topic(1);
        let keys = ["a", "b", "refuse", "panic", "c", "d"];
        send(keys.iter().map(|key| record(&topic, 0, *key, ""))).await;
        let diary = Diary::default();
        let gate = Gate::closed();
        gate.open();
        let worker = worker_on(&topic).dead_letter(DeadLetter::topic(unique("dlt"))).retry(Retry::none());
        let worker = worker.drain_timeout(Duration::from_millis(50));
        let worker = worker.handler(boxed(gated(&diary, &gate))).layer(PickyLayer(Arc::default()));
        let running = start(worker.build().unwrap());
        let mut events = running.handle.events();
        // In either order.
        let mut missing = vec![FailureClass::Handler, FailureClass::Panic];
        while !missing.is_empty() {
            let class = event(&mut events, "a dead letter", |event| match event {
                waterwheel::Event::DeadLettered { class, .. } => Some(class),
                _ => None,
            });
            let class = class.await;
            missing.retain(|of| *of != class);
        }
        eventually("the others", || diary.count() == 3).await;
        assert!(diary.done().iter().all(|seen| seen.key.as_deref() != Some("a")), "it is not ready");
        let report = running.stop().await;
        assert_eq!((report.counts.panicked, report.counts.dead_lettered, report.counts.succeeded), (1, 2, 3));
        assert_eq!(report.cut_off.len(), 1, "the one that hangs: {report:?}");
    });
}

#[test]
fn layers_of_tower_itself_limit_and_time_out() {
    run(async {
        let topic = topic(4);
        fill(&topic, 40, |i| format!("k{i}")).await;
        let (diary, gate) = (Diary::default(), Gate::closed());
        let worker = worker_on(&topic).concurrency(20).retry(Retry::fixed(Duration::from_millis(1)).forever());
        let handler = layered(boxed(gated(&diary, &gate)), TimeoutLayer::new(Duration::from_millis(100)));
        let running = start(worker.handler(handler).layer(ConcurrencyLimitLayer::new(3)).build().unwrap());
        // Behind the closed gate each attempt times out, and its place goes to another.
        eventually("time-outs", || running.handle.counts().retried >= 6).await;
        gate.open();
        eventually("all", || running.handle.counts().succeeded == 40).await;
        assert!((1..=3).contains(&diary.peak()), "{} at once", diary.peak());
        running.stop().await;
    });
}
