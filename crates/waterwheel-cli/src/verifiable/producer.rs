//! `verifiable-producer`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use serde::Serialize;
use tokio::time::Instant;
use waterwheel::config::overlay;
use waterwheel::{Client, Delivered, ProducerRecord, SendFailure};

use super::lines::{Lines, Nothing};
use crate::exit::{Exit, Failure};
use crate::global::Global;
use crate::runtime;
use crate::stop;
use crate::words::now_ms;

/// Records without an answer at a time.
const UNDER_WAY: usize = 10_000;

/// Lines that are written at once.
const AT_ONCE: usize = 1_000;

/// Write numbers and tell each one's acknowledgement, as Kafka's program of this name
///
/// One JSON object a line on stdout: startup_complete, producer_send_success, producer_send_error, shutdown_complete,
/// tool_data. Ends after --max-messages, or in order at SIGTERM or SIGINT.
#[derive(clap::Args)]
pub(crate) struct Producer {
    /// Same as --brokers
    #[arg(long, alias = "broker-list", value_name = "HOST:PORT,..")]
    bootstrap_server: Option<String>,
    /// Topic to write to
    #[arg(long)]
    topic: String,
    /// How many records; -1: until it is ended
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    max_messages: i64,
    /// Records a second at most; -1: as fast as they go
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    throughput: i64,
    /// Copies that have to be written before a record is acknowledged; -1: those of all replicas in sync
    #[arg(long, default_value = "-1", allow_negative_numbers = true, value_parser = ["0", "1", "-1"])]
    acks: String,
    /// The records' time, in milliseconds since 1970; it grows by the time since the start at each one. -1: now
    #[arg(long, value_name = "MS", default_value_t = -1, allow_negative_numbers = true)]
    message_create_time: i64,
    /// Values are N.0, N.1, ... instead of 0, 1, ...
    #[arg(long, value_name = "N")]
    value_prefix: Option<u32>,
    /// Keys are 0 to N-1, over and over; without it there are none
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeating_keys: Option<u32>,
    /// Same as --command-config
    #[arg(long = "producer.config", value_name = "FILE")]
    producer_config: Option<PathBuf>,
}

#[derive(Serialize)]
struct Success<'a> {
    key: Option<String>,
    value: String,
    topic: &'a str,
    partition: i32,
    offset: i64,
}

#[derive(Serialize)]
struct Error<'a> {
    key: Option<String>,
    value: String,
    topic: &'a str,
    exception: &'a str,
    message: String,
}

#[derive(Serialize)]
struct ToolData {
    sent: u64,
    acked: u64,
    target_throughput: i64,
    avg_throughput: f64,
}

impl Producer {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        runtime::block_on(self.produce(global))
    }

    async fn produce(self, global: &Global) -> Result<Exit, Failure> {
        let (_requests, asked) = stop::requests()?;
        let producer = Client::builder().properties(self.properties(global)?).build()?.producer()?;
        let mut run = Run { topic: &self.topic, lines: Lines::default(), sent: 0, acked: 0 };
        run.lines.add("startup_complete", Nothing {});
        run.lines.write();

        let (began, began_ms) = (Instant::now(), now_ms());
        let mut create_time = self.message_create_time;
        let mut sends = FuturesUnordered::new();
        let mut unbroken = true;
        loop {
            let times = asked.times();
            let is_last = !unbroken || times > 0 || u64::try_from(self.max_messages) == Ok(run.sent);
            let due = if is_last { None } else { self.due(began, run.sent) };
            if due.is_some_and(|due| due <= Instant::now()) && sends.len() < UNDER_WAY {
                let (key, value) = (self.key(run.sent), self.value(run.sent));
                let mut record = ProducerRecord::to(&*self.topic).value(&value);
                if let Some(key) = &key {
                    record = record.key(key);
                }
                if self.message_create_time != -1 {
                    record = record.timestamp_millis(create_time);
                    create_time += i64::try_from(now_ms().saturating_sub(began_ms)).unwrap_or(0);
                }
                run.sent += 1;
                sends.push(producer.send(record).map(|answer| (key, value, answer)));
                if !run.sent.is_multiple_of(AT_ONCE as u64) {
                    continue;
                }
            }
            if is_last && sends.is_empty() {
                break;
            }
            let has_room = sends.len() < UNDER_WAY;
            let wait = async {
                match due {
                    Some(due) if has_room => tokio::time::sleep_until(due).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((key, value, answer)) = sends.next(), if !sends.is_empty() => {
                    run.answered(key, value, answer);
                    for _ in 0..AT_ONCE {
                        let Some(Some((key, value, answer))) = sends.next().now_or_never() else { break };
                        run.answered(key, value, answer);
                    }
                    unbroken &= run.lines.write();
                }
                () = wait => {}
                // The second time, what is unanswered stays so.
                () = asked.reach(times + 1) => if times > 0 { break },
            }
        }
        drop(sends);
        let patience = if asked.times() > 1 { Duration::ZERO } else { Duration::from_secs(5) };
        producer.close(patience).await;
        run.lines.add("shutdown_complete", Nothing {});
        let seconds = began.elapsed().as_secs_f64().max(0.001);
        let (sent, acked) = (run.sent, run.acked);
        let avg_throughput = acked as f64 / seconds;
        run.lines.add("tool_data", ToolData { sent, acked, target_throughput: self.throughput, avg_throughput });
        run.lines.write();
        match run.lines.broken() {
            Some(error) => Err(error.into()),
            None => Ok(Exit::Done),
        }
    }

    /// As Java's program, no record is sent twice by the client itself unless the file of properties says so, and that file
    /// goes before `--acks`.
    fn properties(&self, global: &Global) -> Result<BTreeMap<String, String>, Failure> {
        let bootstrap = self.bootstrap_server.as_deref();
        let given = super::properties(global, bootstrap, "--producer.config", self.producer_config.as_deref())?;
        if given.get("enable.idempotence").is_some_and(|value| value == "true") {
            return Ok(given);
        }
        let own = [("acks", self.acks.as_str()), ("enable.idempotence", "false"), ("retries", "0")];
        Ok(overlay(own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(), given))
    }

    /// When a record is due; `None`: never.
    fn due(&self, began: Instant, number: u64) -> Option<Instant> {
        match u32::try_from(self.throughput) {
            // Below zero, or more than can be told from no limit.
            Err(_) => Some(began),
            Ok(0) => (number == 0).then_some(began),
            Ok(rate) => Some(began + Duration::from_secs_f64(number as f64 / f64::from(rate))),
        }
    }

    fn key(&self, number: u64) -> Option<String> {
        self.repeating_keys.map(|keys| (number % u64::from(keys)).to_string())
    }

    fn value(&self, number: u64) -> String {
        match self.value_prefix {
            Some(prefix) => format!("{prefix}.{number}"),
            None => number.to_string(),
        }
    }
}

struct Run<'a> {
    topic: &'a str,
    lines: Lines,
    sent: u64,
    acked: u64,
}

impl Run<'_> {
    fn answered(&mut self, key: Option<String>, value: String, answer: Result<Delivered, SendFailure>) {
        let topic = self.topic;
        match answer {
            Ok(Delivered { partition, offset, .. }) => {
                self.acked += 1;
                // What Kafka's own program prints of an offset that the broker did not tell.
                let offset = offset.unwrap_or(-1);
                self.lines.add("producer_send_success", Success { key, value, topic, partition, offset });
            }
            Err(failure) => {
                let (exception, message) = (failure.error().name(), failure.to_string());
                self.lines.add("producer_send_error", Error { key, value, topic, exception, message });
            }
        }
    }
}
