//! `waterwheel history`: a topic from its beginning until it has been read, or what its keys are by then.

use std::future::ready;

use futures_util::future::Either;
use waterwheel::{Client, Error, Failure as Failed, HistoryHandle, Message, Order, Raw, RunError, Table};

use crate::exit::{Exit, Failure, say};
use crate::global::Global;
use crate::progress::{Look, Progress};
use crate::records::{Filter, Form, FormArgs, Out, View};
use crate::runtime;
use crate::stop::{self, Asked};
use crate::words::{grouped, minutes};

/// Read a topic from its beginning until it is caught up
///
/// Writes the records to stdout, and ends with 0 when everything that was there when it began has been read: by position, so
/// that compaction and transactions do not matter.
#[derive(clap::Args)]
pub(crate) struct History {
    topic: String,
    /// Go on when it is caught up, until a signal
    #[arg(long)]
    follow: bool,
    /// Write no records, but what the keys are when it is caught up, in no order; with --follow, then every change
    #[arg(long)]
    latest_per_key: bool,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    filter: Filter,
}

impl History {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        runtime::block_on(async {
            let (_requests, asked) = stop::requests()?;
            let printer = Printer { form: self.form.form()?, filter: self.filter.clone(), out: Out::stdout()? };
            let client = Client::builder().properties(global.properties()?).build()?;
            // A history waits for brokers; a command says that there are none, and which topic is missing.
            tokio::select! {
                found = client.partitions_of(&*self.topic) => found?,
                () = asked.reach(1) => return Ok(Exit::ConditionNotMet),
            };
            let run = Run { printer: printer.clone(), asked, follow: self.follow };
            let progress = Progress::new(global, !self.latest_per_key);
            let caught_up = if self.latest_per_key {
                run.table(&client, self.topic, progress).await?
            } else {
                run.records(&client, &self.topic, progress).await?
            };
            tokio::select! {
                written = printer.out.flush() => written?,
                () = run.asked.reach(2) => {}
            }
            Ok(if caught_up { Exit::Done } else { Exit::ConditionNotMet })
        })
    }
}

struct Run {
    printer: Printer,
    asked: Asked,
    follow: bool,
}

impl Run {
    /// Writes every record; whether it was caught up, or nobody read any more.
    async fn records(&self, client: &Client, topic: &str, progress: Progress) -> Result<bool, Failure> {
        let printer = self.printer.clone();
        let write = move |message: Message<Raw>| {
            printer.push(&View::of(message.record()));
            if printer.out.has_room() {
                return Either::Left(ready(Ok::<_, Failed>(())));
            }
            let out = printer.out.clone();
            Either::Right(async move {
                out.room().await;
                Ok(())
            })
        };
        let in_order = client.history(topic).with(|worker| worker.order(Order::Partition));
        let history = in_order.handler(write).build()?;
        let handle = history.handle();
        let over = async {
            self.caught_up(&handle, progress).await;
            if self.follow && handle.is_caught_up() {
                self.stopped().await;
            }
        };
        ended(history.run_until(over).await.err())?;
        Ok(handle.is_caught_up() || self.printer.out.is_gone())
    }

    /// Writes what the keys are once it is caught up.
    async fn table(&self, client: &Client, topic: String, progress: Progress) -> Result<bool, Failure> {
        let (table, history) = client.history(&*topic).latest_per_key()?;
        let handle = history.handle();
        let over = async {
            self.caught_up(&handle, progress).await;
            if handle.is_caught_up() {
                tokio::select! {
                    () = self.write(&table, &topic) => {}
                    () = self.stopped() => {}
                }
            }
        };
        ended(history.run_until(over).await.err())?;
        Ok(handle.is_caught_up() || self.printer.out.is_gone())
    }

    async fn write(&self, table: &Table, topic: &str) {
        let mut changes = table.changes();
        for entry in table.iter() {
            self.printer.push(&View::of_entry(topic, &entry));
            self.printer.out.room().await;
        }
        if table.keyless() > 0 {
            say(format_args!("{} records without a key are left out", table.keyless()));
        }
        while self.follow
            && let Some(change) = changes.next().await
        {
            match change {
                Ok(change) => self.printer.push(&View::of(change.record())),
                Err(missed) => say(format_args!("warning: {} changes came too fast and are left out", missed.0)),
            }
            self.printer.out.room().await;
        }
    }

    /// Waits until it is caught up, or is to stop.
    async fn caught_up(&self, handle: &HistoryHandle, progress: Progress) {
        tokio::select! {
            told = handle.caught_up() => if told {
                let now = handle.progress();
                progress.done(format_args!(
                    "caught up: {} offsets of {} partitions", grouped(now.total()), now.partitions.len()
                ));
            },
            never = progress.show(|| look(handle)) => match never {},
            () = self.stopped() => {}
        }
    }

    async fn stopped(&self) {
        tokio::select! {
            () = self.asked.reach(1) => {}
            () = self.printer.out.gone() => {}
        }
    }
}

/// How far it has come, with rate and time left as far as they are known.
fn look(handle: &HistoryHandle) -> Look {
    let now = handle.progress();
    let (total, done) = (now.total(), now.total() - now.remaining().min(now.total()));
    let rate = now.rate.map(|rate| format!(", {}/s", grouped(rate as u64)));
    let left = now.eta().map(|left| format!(", {} left", minutes(left)));
    let pace: String = rate.into_iter().chain(left).collect();
    let beside = format!("of {} offsets{pace}", grouped(total));
    Look { done, total: Some(total), line: format!("{} {beside}", grouped(done)), beside }
}

fn ended(error: Option<RunError>) -> Result<(), Error> {
    error.map_or(Ok(()), |ended| Err(ended.error))
}

/// Writes the records that are wanted.
#[derive(Clone)]
struct Printer {
    form: Form,
    filter: Filter,
    out: Out,
}

impl Printer {
    fn push(&self, record: &View<'_>) {
        if self.filter.lets_pass(record) {
            self.out.push(|bytes| self.form.push(bytes, record));
        }
    }
}
