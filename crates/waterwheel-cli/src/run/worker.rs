//! From what the file says to a worker.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use waterwheel::registry::{Part, Registry};
use waterwheel::{
    Client, DeadLetter, Decoded, Decoder, Error, ExactlyOnce, Failure, Handler, Message, ProducerRecord, Raw, Retry,
    Start, Transform, TransformWorker, Worker, WorkerBuilder, decoded,
};

use super::exec::Pool;
use super::forward::Forwarder;
use super::print::Printer;
use crate::body::{BodyCodec, Shown};
use crate::file::{
    AfterDeadLetter, By, DeadLetterSpec, ExactlyOnceSpec, HandlerSpec, OnDrainDeadline, OnExhausted, OnStall,
    OrderSpec, RetrySpec, StartSpec, TooLarge, WorkerSpec,
};
use crate::journal::{Journal, Journaled};

/// What works on the records.
#[derive(Clone)]
pub(super) enum Work {
    Exec(Pool),
    Print(Printer),
    Forward(Forwarder),
}

impl Work {
    pub(super) fn new(spec: &WorkerSpec, client: &Client, printer: Option<&Printer>) -> Result<Option<Self>, Error> {
        Ok(match &spec.handler {
            HandlerSpec::Exec { command, processes, timeout } => {
                let patterns = spec.topics.iter().any(|topic| topic.starts_with('^'));
                let several = spec.topics.len() > 1 || patterns || spec.retry_tiers.is_some();
                let (name, command) = (spec.name.clone(), command.clone());
                Some(Work::Exec(Pool::new(name, command, *processes, *timeout, several)))
            }
            HandlerSpec::Print => printer.cloned().map(Work::Print),
            HandlerSpec::Forward { topic } => Some(Work::Forward(Forwarder::new(client, topic)?)),
        })
    }
}

/// A worker of a file.
pub(super) type FileWorker = Worker<Raw, Journaled<Decoded<Shown, BodyCodec, Declared>>>;

/// What is done with a value that is what the file says it is.
pub(super) struct Declared(Work);

impl Handler<Shown> for Declared {
    type Future = BoxFuture<'static, Result<(), Failure>>;

    fn handle(&self, message: Message<Shown>) -> Self::Future {
        match self.0.clone() {
            Work::Exec(pool) => pool.handle(message).boxed(),
            Work::Print(printer) => printer.handle(message).boxed(),
            Work::Forward(forwarder) => forwarder.handle(message).boxed(),
        }
    }
}

/// The worker, ready to run.
pub(super) fn build(
    spec: &WorkerSpec,
    client: &Client,
    work: Work,
    registry: Option<&Registry>,
    journal: Option<Arc<Journal>>,
) -> Result<FileWorker, Error> {
    let mut builder = builder(spec, client).commit_every(spec.commit_every);
    if let Some(journal) = &journal {
        builder = builder.witness(journal.clone());
    }
    let values = BodyCodec::new(spec.value, Part::Value, registry)?;
    let handler = Journaled::new(decoded(values, Declared(work)), journal);
    builder.handler(handler).build()
}

/// The worker that copies to a topic, exactly once.
pub(super) fn build_exact(
    spec: &WorkerSpec,
    how: &ExactlyOnceSpec,
    client: &Client,
    registry: Option<&Registry>,
    topic: &str,
) -> Result<TransformWorker<Raw, impl Transform<Raw> + use<>>, Error> {
    let mut exactly_once = ExactlyOnce::new()
        .every(how.every)
        .records(usize::try_from(how.records).unwrap_or(usize::MAX))
        .bytes(usize::try_from(how.bytes).unwrap_or(usize::MAX));
    if let Some(id) = &how.transactional_id {
        exactly_once = exactly_once.transactional_id(&**id);
    }
    let topic: Arc<str> = topic.into();
    let values = Arc::new(BodyCodec::new(spec.value, Part::Value, registry)?);
    let copy = move |message: Message<Raw>| {
        let (topic, values) = (topic.clone(), values.clone());
        async move {
            let _: Shown = values.read(message.record()).await?;
            Ok::<_, Failure>(ProducerRecord::copy_of(message.record(), topic))
        }
    };
    builder(spec, client).exactly_once(exactly_once).transform(copy).build()
}

/// What all workers have.
fn builder(spec: &WorkerSpec, client: &Client) -> WorkerBuilder {
    let mut builder = client
        .worker(&*spec.name)
        .group(&*spec.group)
        .topics(&spec.topics)
        .start(start(spec.start))
        .order(match spec.order {
            OrderSpec::Key => waterwheel::Order::Key,
            OrderSpec::Partition => waterwheel::Order::Partition,
            OrderSpec::None => waterwheel::Order::None,
        })
        .concurrency(spec.concurrency as usize)
        .in_work_records(usize::try_from(spec.in_work).unwrap_or(usize::MAX))
        .in_work_bytes(usize::try_from(spec.in_work_bytes).unwrap_or(usize::MAX))
        .drain_timeout(spec.drain_timeout)
        .stall_after(spec.stall_after)
        .after_dead_letter(match spec.after_dead_letter {
            AfterDeadLetter::Continue => waterwheel::AfterDeadLetter::Continue,
            AfterDeadLetter::Follow => waterwheel::AfterDeadLetter::Follow,
        })
        .on_stall(match spec.on_stall {
            OnStall::Warn => waterwheel::OnStall::Warn,
            OnStall::TimeOut => waterwheel::OnStall::TimeOut,
            OnStall::DeadLetter => waterwheel::OnStall::DeadLetter,
            OnStall::Park => waterwheel::OnStall::Park,
            OnStall::Stop => waterwheel::OnStall::Stop,
        })
        .process_delay(spec.process_delay)
        .on_drain_deadline(match spec.on_drain_deadline {
            OnDrainDeadline::Cancel => waterwheel::OnDrainDeadline::Cancel,
            OnDrainDeadline::Abandon => waterwheel::OnDrainDeadline::Abandon,
        })
        .retry(retry(&spec.retry))
        .on_exhausted(match spec.on_exhausted {
            OnExhausted::DeadLetter => waterwheel::OnExhausted::DeadLetter,
            OnExhausted::Park => waterwheel::OnExhausted::Park,
            OnExhausted::Skip => waterwheel::OnExhausted::Skip,
            OnExhausted::Stop => waterwheel::OnExhausted::Stop,
        });
    if spec.time_attempts {
        builder = builder.time_attempts();
    }
    if spec.start_when_healthy {
        builder = builder.start_when_healthy();
    }
    if let Some(letters) = &spec.dead_letter {
        builder = builder.dead_letter(dead_letter(letters));
    }
    if let Some(tiers) = &spec.retry_tiers {
        builder = builder.retry_tiers(tiers.clone());
    }
    if let Some(breaker) = &spec.limits.breaker {
        let breaker = breaker.clone();
        builder = match spec.limits.breaker_by.clone() {
            None => builder.breaker(breaker),
            Some(By::Topic) => builder.breaker_by(breaker, |record| Some(record.topic().into())),
            Some(By::Header(name)) => {
                builder.breaker_by(breaker, move |record| record.header(&name).map(String::from_utf8_lossy))
            }
        };
    }
    if let Some(rate) = &spec.limits.rate {
        builder = builder.rate_limit(rate.clone());
    }
    if let Some(adaptive) = &spec.limits.adaptive {
        builder = builder.adaptive(adaptive.clone());
    }
    builder
}

fn start(spec: StartSpec) -> Start {
    match spec {
        StartSpec::Earliest => Start::Earliest,
        StartSpec::Latest => Start::Latest,
        StartSpec::Timestamp(millis) => {
            let since_1970 = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
            UNIX_EPOCH.checked_add(since_1970).map_or(Start::Latest, Start::Timestamp)
        }
        StartSpec::Ago(age) => Start::Ago(age),
    }
}

fn retry(spec: &RetrySpec) -> Retry {
    let back_off = spec.backoff;
    Retry::exponential(back_off.initial, back_off.max)
        .factor(back_off.factor)
        .jitter(back_off.jitter)
        .attempts(spec.attempts)
}

fn dead_letter(spec: &DeadLetterSpec) -> DeadLetter {
    DeadLetter::topic(&*spec.topic).too_large(match spec.too_large {
        TooLarge::Hold => waterwheel::TooLarge::Hold,
        TooLarge::Pointer => waterwheel::TooLarge::Pointer,
    })
}
