//! The members: a worker each, with a client of its own, as if they were two processes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use waterwheel::{Client, DeadLetter, Error, Failure, Json, Message, Report, Retry, RunError, WorkerHandle};

use super::plan::{DEAD_LETTERS, GROUP, MARK, Order, Plan, TOPIC};
use crate::journal::{Journal, Journaled};

/// Handlers that a member runs at once.
const CONCURRENCY: usize = 64;

/// Records that somebody else wrote to the demo's topic, by partition and offset: anyone may, while it runs. They are worked
/// on and audited like the others.
#[derive(Default)]
pub(super) struct Strangers(Mutex<Vec<(i32, i64)>>);

impl Strangers {
    fn add(&self, partition: i32, offset: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((partition, offset));
    }

    pub(super) fn all(&self) -> Vec<(i32, i64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A member that runs.
pub(super) struct Member {
    pub(super) name: char,
    pub(super) handle: WorkerHandle,
    run: JoinSet<Result<Report, RunError>>,
}

impl Member {
    /// Joins the group.
    pub(super) fn join(
        name: char,
        brokers: &str,
        plan: &Plan,
        journal: Arc<Journal>,
        strangers: Arc<Strangers>,
    ) -> Result<Self, Error> {
        let client = Client::builder()
            .brokers(brokers)
            .client_id(format!("waterwheel-demo-{name}"))
            // The classic protocols would do for a real Kafka; the in-process cluster refuses their commits in a
            // rebalance, so that hand-over would run records twice.
            .property("group.protocol", "consumer")
            .build()?;
        let work = Arc::new(Work { plan: plan.clone(), strangers });
        let worker = client
            .worker(GROUP)
            .topic(TOPIC)
            .concurrency(CONCURRENCY)
            .retry(Retry::exponential(Duration::from_millis(100), Duration::from_secs(1)).attempts(4))
            .dead_letter(DeadLetter::topic(DEAD_LETTERS))
            .drain_timeout(Duration::from_secs(5))
            .witness(journal.clone())
            .handler(Journaled::new(
                move |order: Message<Json<Order>>| {
                    let work = work.clone();
                    async move { work.charge(&order).await }
                },
                Some(journal.clone()),
            ))
            .build()?;
        let handle = worker.handle();
        let mut run = JoinSet::new();
        run.spawn(worker.run());
        Ok(Self { name, handle, run })
    }

    /// How the member ended; `None` while it goes on.
    pub(super) fn ended(&mut self) -> Option<Result<Report, Error>> {
        Some(match self.run.try_join_next()? {
            Ok(Ok(report)) => Ok(report),
            Ok(Err(RunError { error, .. })) => Err(error),
            Err(panic) => Err(Error::Stopped { place: format!("member {}", self.name), reason: panic.to_string() }),
        })
    }
}

/// What a member does with an order: it charges the customer, or pretends to.
struct Work {
    plan: Plan,
    strangers: Arc<Strangers>,
}

impl Work {
    async fn charge(&self, order: &Message<Json<Order>>) -> Result<(), Failure> {
        if order.header(MARK).is_none() {
            self.strangers.add(order.partition(), order.offset());
            return Ok(());
        }
        let id = order.body.0.id;
        tokio::time::sleep(self.plan.work_on(id)).await;
        if self.plan.trouble(id).fails(order.attempt()) {
            return Err(Failure::retry("the card was declined"));
        }
        Ok(())
    }
}
