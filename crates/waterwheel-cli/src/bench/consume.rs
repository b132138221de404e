//! `bench consume`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use waterwheel::{Client, Failure, Message, Order, Raw, Retry};
use waterwheel_cli::journal::{Journal, Journaled};

use super::run::{Run, Seen, instant};
use super::{Consume, Mode};
use crate::exit::{Exit, Failure as Ended};

impl Consume {
    pub(super) async fn run(self, client: Client) -> Result<Exit, Ended> {
        let run = Arc::new(Run::new(self.count));
        let mode = self.mode;
        let finished = match mode {
            Mode::Raw => self.raw(client, &run).await?,
            _ => self.worker(client, &run).await?,
        };
        let mut extra: Vec<(&'static str, serde_json::Value)> = Vec::new();
        if mode == Mode::Raw {
            extra.push(("unsafe", "no group and no commits: partitions read by hand".into()));
        }
        if !finished {
            extra.push(("stalled", true.into()));
        }
        println!("{}", run.line(mode.name(), extra));
        Ok(if finished { Exit::Done } else { Exit::ConditionNotMet })
    }

    /// Batches straight from the fetch port.
    async fn raw(self, client: Client, run: &Run) -> Result<bool, Ended> {
        let mut consumer = client.read_topic(&*self.topic).await?;
        let read = async {
            let (mut seen, mut bytes) = (Seen::default(), 0usize);
            while !run.is_done() {
                let batch = consumer.next_batch().await?;
                run.begin();
                let partition = batch.topic_partition().partition;
                let mut new = 0;
                batch.for_each(|offset, key, value| {
                    bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
                    new += u64::from(seen.add(partition, offset));
                });
                run.add(new);
            }
            std::hint::black_box(bytes);
            Ok::<_, Ended>(true)
        };
        let finished = tokio::select! {
            read = read => read?,
            finished = run.wait() => finished,
        };
        consumer.close().await?;
        Ok(finished)
    }

    /// A worker with its defaults.
    async fn worker(self, client: Client, run: &Arc<Run>) -> Result<bool, Ended> {
        let order = match self.mode {
            Mode::Partition => Order::Partition,
            Mode::Unordered => Order::None,
            Mode::Raw | Mode::Key => Order::Key,
        };
        let work = Work {
            run: run.clone(),
            work: Duration::from_micros(self.work_us),
            tail: Duration::from_micros(self.tail_us),
            tail_pct: self.tail_pct,
            fail_pct: self.fail_pct,
            failed: Mutex::default(),
        };
        // For the rest of the process: no count is shared by the threads that run handlers.
        let work: &'static Work = Box::leak(Box::new(work));
        let journal = match &self.journal {
            Some(path) => {
                let told = |error| Ended::new(Exit::Usage, format!("--journal {}: {error}", path.display()));
                Some(Arc::new(Journal::open(path).map_err(told)?))
            }
            None => None,
        };
        let mut builder = client
            .worker(&*self.group)
            .topic(&*self.topic)
            .order(order)
            .concurrency(self.concurrency)
            .retry(Retry::fixed(Duration::from_secs(1)).forever());
        if let Some(journal) = &journal {
            builder = builder.witness(journal.clone());
        }
        if let Some(lease) = self.lease_ms {
            builder = builder.lease(Duration::from_millis(lease));
        }
        let handler = move |message: Message<Raw>| work.handle(message);
        let worker = builder.handler(Journaled::new(handler, journal.clone())).build()?;
        let mut finished = true;
        let ended = worker
            .run_until(async {
                finished = run.wait().await;
            })
            .await;
        ended.map_err(|e| e.error)?;
        if let Some(error) = journal.as_deref().and_then(Journal::broken) {
            return Err(Ended::new(Exit::Failed, format!("the journal is not whole: {error}")));
        }
        Ok(finished)
    }
}

/// What the handlers do.
struct Work {
    run: Arc<Run>,
    work: Duration,
    tail: Duration,
    tail_pct: u64,
    fail_pct: u64,
    failed: Mutex<HashSet<(i32, i64)>>,
}

impl Work {
    async fn handle(&self, message: Message<Raw>) -> Result<(), Failure> {
        let (partition, offset) = (message.partition(), message.offset());
        self.run.begin();
        let place = |factor: i64| (i64::from(partition) * factor + offset) as u64 % 100;
        let wait = if self.tail_pct > 0 && place(1_000_003) < self.tail_pct { self.tail } else { self.work };
        if !wait.is_zero() {
            self.run.enter();
            let began = instant();
            tokio::time::sleep(wait).await;
            self.run.leave(began.elapsed());
        }
        if self.fail_pct > 0 && place(7919) < self.fail_pct {
            let first = self.failed.lock().unwrap_or_else(PoisonError::into_inner).insert((partition, offset));
            if first {
                return Err(Failure::retry("chosen to fail once"));
            }
        }
        self.run.handled(partition, offset);
        Ok(())
    }
}
