//! `verifiable-consumer`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use waterwheel::config::{check_property, overlay};
use waterwheel::{Client, Failure as Failed, Message, OnGap, Order, Raw, Start};

use super::reporter::{Reporter, Wanted};
use crate::exit::{Exit, Failure};
use crate::global::Global;
use crate::runtime;
use crate::stop;

/// How long what was read may wait to be told.
const TELL_EVERY: Duration = Duration::from_millis(20);

/// Java's program commits after each poll.
const COMMIT_EVERY: Duration = Duration::from_millis(100);

/// Read a topic and tell all that happens in its group, as Kafka's program of this name
///
/// One JSON object a line on stdout: startup_complete, partitions_assigned, records_consumed, with --verbose record_data,
/// offsets_committed, partitions_revoked, shutdown_complete. Ends after --max-messages, or in order at SIGTERM or SIGINT.
#[derive(clap::Args)]
pub(crate) struct Consumer {
    /// Same as --brokers
    #[arg(long, alias = "broker-list", value_name = "HOST:PORT,..")]
    bootstrap_server: Option<String>,
    /// Topic to read
    #[arg(long)]
    topic: String,
    /// The consumer group
    #[arg(long)]
    group_id: String,
    /// Name of a static member
    #[arg(long, value_name = "NAME")]
    group_instance_id: Option<String>,
    /// classic, or consumer (KIP-848)
    #[arg(long, value_enum, ignore_case = true, default_value = "classic")]
    group_protocol: Protocol,
    /// The broker's assignor; with the consumer protocol only
    #[arg(long, value_name = "NAME")]
    group_remote_assignor: Option<String>,
    /// How many records; -1: until it is ended
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    max_messages: i64,
    /// Session time-out in milliseconds; with the classic protocol only, and without it the client's own
    #[arg(long, value_name = "MS")]
    session_timeout: Option<u32>,
    /// Tell no commits, which are made all the same
    #[arg(long)]
    enable_autocommit: bool,
    /// Where a group begins that has committed nothing; none: it ends
    #[arg(long, value_enum, default_value = "earliest")]
    reset_policy: Reset,
    /// Java's assignors, separated by commas; with the classic protocol only
    #[arg(long, value_name = "CLASS", default_value = "org.apache.kafka.clients.consumer.RangeAssignor")]
    assignment_strategy: String,
    /// Same as --command-config
    #[arg(long = "consumer.config", value_name = "FILE")]
    consumer_config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Protocol {
    Classic,
    Consumer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Reset {
    Earliest,
    Latest,
    None,
}

impl Consumer {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        runtime::block_on(self.consume(global))
    }

    async fn consume(self, global: &Global) -> Result<Exit, Failure> {
        let (_requests, asked) = stop::requests()?;
        let start = match self.reset_policy {
            Reset::Earliest => Start::Earliest,
            Reset::Latest => Start::Latest,
            Reset::None => Start::Nowhere,
        };
        let on_gap = if start == Start::Nowhere { OnGap::Stop } else { OnGap::Continue };
        let client = Client::builder().properties(self.properties(global)?).build()?;
        let reporter = Arc::new(Reporter::new(Wanted {
            records: global.is_verbose(),
            commits: !self.enable_autocommit,
            revocations: self.is_eager()?,
            most: u64::try_from(self.max_messages).ok(),
        }));
        let told = reporter.clone();
        let handler = move |message: Message<Raw>| {
            let told = told.clone();
            async move {
                if !told.take(message.record()) {
                    // Cut off when its partition goes, or at the end.
                    std::future::pending::<()>().await;
                }
                Ok::<(), Failed>(())
            }
        };
        let worker = client
            .worker(&*self.group_id)
            .topic(&*self.topic)
            .order(Order::Partition)
            .start(start)
            .on_gap(on_gap)
            .commit_every(COMMIT_EVERY)
            .witness(reporter.clone())
            .handler(handler)
            .build()?;
        reporter.begin();

        let handle = worker.handle();
        let run = worker.run();
        tokio::pin!(run);
        let mut tell = tokio::time::interval(TELL_EVERY);
        if self.max_messages == 0 {
            handle.close_now();
        }
        let ended = loop {
            let times = asked.times();
            match times {
                0 => {}
                1 => handle.close(),
                _ => handle.close_now(),
            }
            tokio::select! {
                ended = &mut run => break ended,
                () = reporter.done.notified() => handle.close_now(),
                () = asked.reach(times + 1) => {}
                _ = tell.tick() => reporter.flush(),
            }
        };
        reporter.end()?;
        ended.map_err(|failed| failed.error)?;
        Ok(Exit::Done)
    }

    /// As with Java's program, options go before the file.
    fn properties(&self, global: &Global) -> Result<BTreeMap<String, String>, Failure> {
        let bootstrap = self.bootstrap_server.as_deref();
        let mut properties =
            super::properties(global, bootstrap, "--consumer.config", self.consumer_config.as_deref())?;
        let mut own: Vec<(&str, String)> = Vec::new();
        match self.group_protocol {
            Protocol::Classic => {
                own.push(("group.protocol", "classic".to_owned()));
                own.push(("partition.assignment.strategy", self.assignors()?));
                if let Some(session) = self.session_timeout {
                    own.push(("session.timeout.ms", session.to_string()));
                    if !properties.contains_key("heartbeat.interval.ms") {
                        own.push(("heartbeat.interval.ms", (session / 4).clamp(1, 3000).to_string()));
                    }
                }
            }
            Protocol::Consumer => {
                own.push(("group.protocol", "consumer".to_owned()));
                own.extend(self.group_remote_assignor.iter().map(|name| ("group.remote.assignor", name.clone())));
                // The broker's to say.
                for name in ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"] {
                    properties.remove(name);
                }
            }
        }
        own.extend(self.group_instance_id.iter().map(|name| ("group.instance.id", name.clone())));
        for (name, value) in &own {
            check_property(name, value)?;
        }
        Ok(overlay(properties, own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()))
    }

    /// Whether every rebalance revokes all that members have.
    fn is_eager(&self) -> Result<bool, Failure> {
        Ok(self.group_protocol == Protocol::Classic && self.assignors()? != "cooperative-sticky")
    }

    /// librdkafka's names of the assignors.
    fn assignors(&self) -> Result<String, Failure> {
        let name = |class: &str| match class.trim().rsplit('.').next().unwrap_or_default() {
            "RangeAssignor" | "range" => Ok("range"),
            "RoundRobinAssignor" | "roundrobin" => Ok("roundrobin"),
            "CooperativeStickyAssignor" | "cooperative-sticky" => Ok("cooperative-sticky"),
            _ => {
                Err(Failure::new(Exit::Usage, format!("--assignment-strategy {class}: not an assignor of this client"))
                    .hint("it has RangeAssignor, RoundRobinAssignor and CooperativeStickyAssignor"))
            }
        };
        let names: Vec<&str> = self.assignment_strategy.split(',').map(name).collect::<Result<_, _>>()?;
        Ok(names.join(","))
    }
}
