//! `bench consume --forward`: each record to another topic, acknowledged one by one or exactly once.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use waterwheel::{ExactlyOnce, Failure, Message, Order, ProducerRecord, Raw, WorkerHandle};

use super::consume::Task;
use super::run::Run;
use crate::exit::Failure as Ended;

/// How often it is looked at what counts as done: by the worker's own counts, which tell of what is acknowledged or committed.
const LOOK: Duration = Duration::from_millis(5);

/// What is measured of a worker that forwards.
pub(super) struct Forward<'a> {
    pub(super) group: &'a str,
    pub(super) to: &'a str,
    pub(super) concurrency: usize,
    pub(super) order: Order,
    pub(super) exactly_once: bool,
}

impl Forward<'_> {
    /// Whether all was done before it was asked to stop.
    pub(super) async fn run(self, task: &Task) -> Result<bool, Ended> {
        if task.brokers.are_embedded() {
            task.brokers.create_topic(self.to, 1).await?;
        }
        let (client, to): (_, Arc<str>) = (task.brokers.client(), self.to.into());
        let builder = client.worker(self.group).topic(&*task.topic).order(self.order).concurrency(self.concurrency);
        let (run, mut finished) = (task.run.clone(), true);
        let ended = if self.exactly_once {
            let transform = move |message: Message<Raw>| {
                run.begin();
                std::future::ready(Ok::<_, Failure>(ProducerRecord::copy_of(message.record(), to.clone())))
            };
            let worker = builder.exactly_once(ExactlyOnce::new()).transform(transform).build()?;
            let until = until_done(worker.handle(), task, &mut finished);
            worker.run_until(until).await
        } else {
            let producer = client.producer()?;
            let handler = move |message: Message<Raw>| {
                run.begin();
                let (producer, to) = (producer.clone(), to.clone());
                async move {
                    let sent = producer.send(ProducerRecord::copy_of(message.record(), to)).await;
                    sent.map(drop).map_err(Failure::retry)
                }
            };
            let worker = builder.handler(handler).build()?;
            let until = until_done(worker.handle(), task, &mut finished);
            worker.run_until(until).await
        };
        ended.map_err(|e| e.error)?;
        Ok(finished)
    }
}

async fn until_done(handle: WorkerHandle, task: &Task, finished: &mut bool) {
    tokio::select! {
        ended = task.run.wait(&task.asked) => *finished = ended,
        never = count(&handle, &task.run) => match never {},
    }
}

async fn count(handle: &WorkerHandle, run: &Run) -> Infallible {
    let mut before = 0;
    loop {
        let now = handle.counts().succeeded;
        run.add(now - before);
        before = now;
        tokio::time::sleep(LOOK).await;
    }
}
