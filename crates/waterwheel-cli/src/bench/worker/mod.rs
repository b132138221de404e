//! `bench worker`: a set of workloads one after the other, each in a process of its own, and a table of what they gave.

mod bound;
mod table;
mod workloads;

use std::io::Write;

use serde_json::json;

use self::table::Row;
use self::workloads::Workload;
use super::child::{Arm, ending};
use super::data::Data;
use super::figures::Told;
use super::place::{Brokers, Topics};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};
use crate::stop::{self, Asked};
use crate::words::grouped;

/// Measure a set of workloads, and print a table
///
/// Each runs as a process of its own on a topic that is made and filled for it. `bound` is the part that was reached of what
/// no engine can pass: the work shared out over the handlers that may run at once, or the longest chain of records that wait
/// for each other, at the wait that the handlers really had. `cost` is CPU a record, with the first of its series as 1.
/// Ends with 1 if a workload failed, and with 4 if it was interrupted.
#[derive(clap::Args)]
#[command(after_help = workloads::names())]
pub(crate) struct Worker {
    /// Names of workloads, parted by commas; all: all but the series of growth; growth: these
    #[arg(long, value_name = "LIST", default_value = "all", value_parser = List::parse)]
    workloads: List,
    /// How often each is run; what is printed are medians
    #[arg(long, value_name = "N", default_value = "1", value_parser = |text: &str| super::within::<u32>(text, 1, 100))]
    rounds: u32,
    /// Times the records of each workload
    #[arg(long, value_name = "X", default_value = "1", value_parser = scale, allow_negative_numbers = true)]
    scale: f64,
}

/// The workloads of one run.
#[derive(Clone)]
struct List(Vec<Workload>);

impl List {
    fn parse(text: &str) -> Result<Self, String> {
        workloads::chosen(text).map(Self)
    }
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if (0.001..=100.0).contains(&scale) => Ok(scale),
        _ => Err("must be a number from 0.001 to 100".to_owned()),
    }
}

impl Worker {
    pub(super) async fn run(self, global: &Global) -> Result<Exit, Failure> {
        let (_requests, asked) = stop::requests()?;
        let brokers = Brokers::find(global, None)?;
        let mut workloads = self.workloads.0;
        for workload in &mut workloads {
            workload.data.records = ((workload.data.records as f64 * self.scale) as u64).max(1);
            if brokers.are_embedded() {
                workload.data = workload.data.fitting_embedded();
            }
        }
        let mut bench = Bench {
            arm: Arm::own(global.connection_options())?,
            topics: Topics::new(&brokers),
            brokers: &brokers,
            is_quiet: global.is_quiet(),
            filled: None,
        };
        let (mut rows, mut failure, mut is_interrupted) = (Vec::new(), None, false);
        for workload in &workloads {
            match bench.rounds(workload, self.rounds, &asked).await {
                Ok(row) => rows.push(row),
                Err(Stop::Interrupted) => is_interrupted = true,
                Err(Stop::Failed(f)) => failure = Some(f),
            }
            if is_interrupted || failure.is_some() {
                break;
            }
        }
        bench.topics.leave();
        table::compare(&mut rows);
        if !rows.is_empty() {
            print(&rows, global.output(), brokers.are_embedded())?;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        if is_interrupted {
            say(format_args!("interrupted: {} of {} workloads were run", rows.len(), workloads.len()));
            return Ok(Exit::DrainedLate);
        }
        Ok(if rows.iter().any(|row| row.error.is_some()) { Exit::Failed } else { Exit::Done })
    }
}

fn print(rows: &[Row], output: Output, embedded: bool) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match output {
        Output::Table => stdout.write_all(table::table(rows).as_bytes())?,
        Output::Json => writeln!(stdout, "{}", json!({ "embedded": embedded, "workloads": rows }))?,
        Output::Ndjson => {
            for row in rows {
                writeln!(stdout, "{}", json!(row))?;
            }
        }
    }
    Ok(())
}

/// Why no more workloads are run.
enum Stop {
    Interrupted,
    Failed(Failure),
}

/// What all workloads need.
struct Bench<'a> {
    brokers: &'a Brokers,
    topics: Topics<'a>,
    arm: Arm,
    is_quiet: bool,
    /// The topic filled last: some workloads share their records.
    filled: Option<(Data, String)>,
}

impl Bench<'_> {
    async fn rounds(&mut self, workload: &Workload, rounds: u32, asked: &Asked) -> Result<Row, Stop> {
        let topic = tokio::select! {
            topic = self.fill(workload) => topic.map_err(Stop::Failed)?,
            () = asked.reach(1) => return Err(Stop::Interrupted),
        };
        let mut told = Vec::new();
        for round in 1..=rounds {
            self.tell(format_args!("{}, round {round} of {rounds}", workload.name));
            match self.round(workload, &topic, round, asked).await? {
                Ok(figures) => told.push(figures),
                Err(error) => return Ok(Row::new(workload, &told, Some(error))),
            }
        }
        Ok(Row::new(workload, &told, None))
    }

    /// The workload's topic, with its records.
    async fn fill(&mut self, workload: &Workload) -> Result<String, Failure> {
        if let Some((data, topic)) = &self.filled
            && *data == workload.data
        {
            return Ok(topic.clone());
        }
        let data = workload.data;
        let topic = self.topics.make(&format!("-{}", workload.name), data.partitions).await?;
        self.tell(format_args!("{}: writing {} records", workload.name, grouped(data.records)));
        self.brokers.fill(&topic, &data).await?;
        self.filled = Some((data, topic.clone()));
        Ok(topic)
    }

    /// Runs it once, in a group of its own; the inner error is the workload's.
    async fn round(
        &self,
        workload: &Workload,
        topic: &str,
        round: u32,
        asked: &Asked,
    ) -> Result<Result<Told, String>, Stop> {
        let options = [
            ("--bootstrap", self.brokers.servers().to_owned()),
            ("--topic", topic.to_owned()),
            ("--group", format!("{}-{}-{round}", self.topics.name, workload.name)),
            ("--mode", workload.mode.name().to_owned()),
            ("--concurrency", workload.concurrency.to_string()),
            ("--count", workload.data.records.to_string()),
            ("--work-us", workload.work.as_micros().to_string()),
            ("--fail-pct", workload.fail_pct.to_string()),
        ];
        let flags: &[_] = if workload.idle_policies { &["--idle-policies"] } else { &[] };
        let mut child = self.arm.consume(&options, flags).map_err(Stop::Failed)?;
        let ended = tokio::select! {
            ended = child.ended() => Some(ended),
            () = asked.reach(1) => None,
        };
        let Some(status) = ended else {
            tokio::select! {
                _ = child.end() => {}
                // Dropping it kills it.
                () = asked.reach(2) => {}
            }
            return Err(Stop::Interrupted);
        };
        let is_sound = status.as_ref().is_ok_and(std::process::ExitStatus::success);
        Ok(match child.told().await {
            Some(told) if is_sound && told.records >= workload.data.records => Ok(told),
            _ => Err(format!("its consumer ended with {}", ending(status))),
        })
    }

    fn tell(&self, line: impl std::fmt::Display) {
        if !self.is_quiet {
            say(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_have_their_range() {
        assert_eq!((scale("0.01"), scale("100")), (Ok(0.01), Ok(100.0)));
        for wrong in ["0", "-1", "nan", "x", "101"] {
            assert_eq!(scale(wrong).unwrap_err(), "must be a number from 0.001 to 100", "{wrong}");
        }
    }
}
