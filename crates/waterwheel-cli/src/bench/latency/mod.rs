//! `bench latency`: how long records take from when they were due to be sent to the end of their handler.
//!
//! Open loop: this process sends at a steady rate, whatever becomes of earlier records, and latencies count from the
//! intended time. The consumer is a program of its own, this one's `bench consume` or any other that speaks its command
//! line; its journal goes through a pipe to this process, whose clock alone is read. So the path is the same for all.

mod lines;
mod measure;
mod pairs;
mod pipe;
mod report;
mod schedule;
mod sender;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use self::measure::Measurement;
use self::pairs::Pairs;
use self::report::Report;
use self::schedule::Schedule;
use super::child::Arm;
use super::place::{Brokers, Topics};
use super::{Mode, instant, within};
use crate::exit::{Exit, Failure};
use crate::global::Global;
use crate::stop;

/// What the sender, the reader and the main task share.
type Shared = Arc<Mutex<Pairs>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Pairs> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Times since one moment.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(instant())
    }

    fn now(self) -> Duration {
        self.0.elapsed()
    }
}

/// Measure latency: from when each record is due to be sent to the end of its handler
///
/// Sends records at a steady rate, never waiting for earlier ones; one that is sent late still counts from the time at which
/// it was due. A consumer in a process of its own works on them. Ends with 3 if records were not handled in time, and with 4
/// if it was interrupted.
#[derive(clap::Args)]
pub(crate) struct Latency {
    /// Records a second
    #[arg(long, value_name = "N", default_value = "1000", value_parser = rate, allow_negative_numbers = true)]
    rate: u32,
    /// How long records are sent that count
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration, allow_hyphen_values = true)]
    duration: Duration,
    /// How long records are sent before that do not count
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = warm_up, allow_hyphen_values = true)]
    warm_up: Duration,
    /// Microseconds that each handler waits; 0: it returns at once
    #[arg(long, value_name = "US", default_value_t = 100)]
    work_us: u64,
    /// Which records are worked on one at a time: those of a key, those of a partition, or (unordered) none
    #[arg(long, default_value = "key", value_parser = mode)]
    mode: Mode,
    /// Handlers that run at once
    #[arg(long, value_name = "N", default_value = "256", value_parser = |text: &str| within::<u32>(text, 1, 1_000_000))]
    concurrency: u32,
    /// Distinct keys, which come in turn
    #[arg(long, value_name = "N", default_value = "1000", value_parser = |text: &str| within::<u64>(text, 1, 10_000_000))]
    keys: u64,
    /// Partitions of the topic that is made [default: 8]
    #[arg(long, value_name = "N", value_parser = super::partitions, conflicts_with = "topic")]
    partitions: Option<usize>,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value = "100", value_parser = |text: &str| within::<usize>(text, 0, 1_000_000))]
    size: usize,
    /// Topic that there is; default: one that is made for it
    #[arg(long)]
    topic: Option<String>,
    /// Program that consumes: words parted by spaces, to which `consume` and its options are added; default: this one
    #[arg(long, value_name = "COMMAND", value_parser = Arm::parse)]
    arm: Option<Arm>,
    /// How long the consumer may take to read the first records, and to end the last ones
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = patience, allow_hyphen_values = true)]
    timeout: Duration,
}

fn rate(text: &str) -> Result<u32, String> {
    within(text, 1, 1_000_000)
}

fn mode(text: &str) -> Result<Mode, String> {
    match <Mode as clap::ValueEnum>::from_str(text, false) {
        Ok(mode) if mode != Mode::Raw => Ok(mode),
        _ => Err("is one of key, partition, unordered".to_owned()),
    }
}

fn time(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    humantime::parse_duration(text).ok().filter(|time| (least..=most).contains(time)).ok_or_else(|| {
        let [least, most] = [least, most].map(humantime::format_duration);
        format!("must be a time from {least} to {most}, as 30s")
    })
}

const SECOND: Duration = Duration::from_secs(1);

fn duration(text: &str) -> Result<Duration, String> {
    time(text, SECOND, 3600 * SECOND)
}

fn warm_up(text: &str) -> Result<Duration, String> {
    time(text, Duration::ZERO, 600 * SECOND)
}

fn patience(text: &str) -> Result<Duration, String> {
    time(text, SECOND / 10, 3600 * SECOND)
}

impl Latency {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let (_requests, asked) = stop::requests()?;
        let brokers = Brokers::find(global, None)?;
        let mut topics = Topics::new(&brokers);
        let measured = self.measure(global, &brokers, &mut topics, &asked).await;
        topics.leave();
        let report = measured?;
        if report.is_empty() {
            return Err(interrupted());
        }
        report.print(global.output())?;
        report.verdict()
    }

    async fn measure(
        &self,
        global: &Global,
        brokers: &Brokers,
        topics: &mut Topics<'_>,
        asked: &stop::Asked,
    ) -> Result<Report, Failure> {
        let arm = match &self.arm {
            Some(arm) => arm.clone(),
            None => Arm::own(global.connection_options())?,
        };
        let measurement = Measurement {
            schedule: Schedule::new(self.rate, self.warm_up, self.duration),
            patience: self.timeout,
            is_quiet: global.is_quiet(),
        };
        let group = topics.name.clone();
        let prepared = async {
            let (topic, partitions) = match &self.topic {
                Some(topic) => (topic.clone(), brokers.partitions_of(topic).await?),
                None => {
                    let partitions = self.partitions.unwrap_or(8);
                    (topics.make("", partitions).await?, partitions)
                }
            };
            let probes = measurement.probe(brokers, &topic, partitions).await?;
            Ok::<_, Failure>((topic, probes))
        };
        let (topic, (producer, probes)) = tokio::select! {
            prepared = prepared => prepared?,
            () = asked.reach(1) => return Err(interrupted()),
        };
        let clock = Clock::start();
        let pairs = Pairs::new(measurement.schedule, &probes)
            .map_err(|error| Failure::new(Exit::Failed, format!("the histogram: {error}")))?;
        let shared = Shared::new(Mutex::new(pairs));
        let pipe = pipe::Pipe::open(shared.clone(), clock)
            .map_err(|error| Failure::new(Exit::Failed, format!("the pipe for the journal: {error}")))?;
        let options = [
            ("--bootstrap", brokers.servers().to_owned()),
            ("--topic", topic.clone()),
            ("--group", group),
            ("--mode", self.mode.name().to_owned()),
            ("--concurrency", self.concurrency.to_string()),
            // It ends when it is told to.
            ("--count", "1000000000000".to_owned()),
            ("--work-us", self.work_us.to_string()),
            ("--journal", pipe.path().display().to_string()),
        ];
        let mut child = arm.consume(&options, &[])?;
        let plain = waterwheel::ProducerRecord::to(&*topic).value(vec![b'x'; self.size]);
        let records = (0..self.keys).map(|key| plain.clone().key(format!("k{key}"))).collect();
        let ended = measurement.run(&mut child, &producer, records, &shared, clock, asked).await;
        // In order, whatever became of it; a second request to stop does not wait.
        let status = tokio::select! {
            status = child.end() => Some(status),
            () = asked.reach(2) => None,
        };
        let told = if status.is_some() { child.told().await.unwrap_or_default() } else { Default::default() };
        drop(child);
        let read = pipe.end().await;
        producer.close(SECOND).await;
        if let Some(why) = told.unsupported {
            return Err(Failure::new(Exit::Usage, format!("{} cannot do that: {why}", arm.name())));
        }
        let ended = ended?;
        if let Some(error) = read.broken {
            return Err(Failure::new(Exit::Failed, format!("the pipe for the journal: {error}")));
        }
        Ok(Report::new(self, brokers, told.arm.unwrap_or_else(|| arm.name()), ended, &lock(&shared), read.garbage))
    }
}

fn interrupted() -> Failure {
    Failure::new(Exit::DrainedLate, "interrupted before anything was measured")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_their_ranges() {
        for wrong in ["0", "0s", "2h", "-1s", "", "10"] {
            assert_eq!(duration(wrong).unwrap_err(), "must be a time from 1s to 1h, as 30s", "{wrong}");
        }
        assert_eq!(warm_up("0s"), Ok(Duration::ZERO));
        assert_eq!(patience("0s").unwrap_err(), "must be a time from 100ms to 1h, as 30s");
        assert_eq!(rate("0").unwrap_err(), "must be a whole number from 1 to 1000000");
        assert_eq!(rate("-5").unwrap_err(), rate("0").unwrap_err());
        assert!(mode("raw").is_err() && mode("key").is_ok());
    }
}
