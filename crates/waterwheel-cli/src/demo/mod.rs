//! `demo`: Waterwheel at work, on a cluster inside the process, with an audit at the end.
//!
//! A seeded producer writes orders of customers, some of whom order much more than others; a member works on them, a second
//! one joins after a third of the time and leaves after two thirds. One in a hundred orders fails once or twice, one in a
//! thousand for ever. What was done is judged by the journals of the members, not by their counters.

mod draw;
mod journals;
mod lines;
mod plan;
mod produce;
mod report;
mod screen;
mod show;
mod watch;
mod work;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use self::journals::Journals;
use self::lines::Lines;
use self::plan::{Limit, Plan};
use self::screen::Screen;
use self::show::{End, Show, Stage};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};
use crate::runtime;
use crate::stop;

/// Watch it at work: in-process cluster, hot keys, failures, a second member, and an audit at the end
///
/// Needs no Kafka: a small cluster runs inside this process, on a port of this machine that it tells, so that other tools can
/// look at it meanwhile. q or Ctrl-C ends the demo early, in order and with its audit; once more, and it stops at once.
///
/// That cluster keeps 5 MiB a partition and drops the oldest records beyond it, so a rate that would reach this within the
/// time is lowered, and so is one that the work on the hottest key cannot keep up with; which is said.
#[derive(clap::Args)]
pub(crate) struct Demo {
    /// Lines instead of the screen, also on a terminal
    #[arg(long)]
    headless: bool,

    /// How long orders are written
    #[arg(long = "for", value_name = "TIME", default_value = "30s", value_parser = length)]
    length: Duration,

    /// What the orders and their troubles are made from
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// Orders a second
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,

    /// Pretend work on an order in milliseconds; some take up to twice as long
    #[arg(long, value_name = "MS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    handler_ms: u64,

    /// Keep the list of orders and the journals in this folder
    #[arg(long, value_name = "DIR")]
    keep_journals: Option<PathBuf>,
}

/// From a second to a day.
fn length(text: &str) -> Result<Duration, String> {
    let length = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match length.as_secs_f64() {
        1.0..=86_400.0 => Ok(length),
        _ => Err("must be from 1s to 1d".to_owned()),
    }
}

impl Demo {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        if global.brokers.is_some() {
            return Err(Failure::new(Exit::Usage, "demo runs on a cluster of its own, not on --brokers")
                .hint("waterwheel run FILE --brokers LIST works on a Kafka of yours"));
        }
        runtime::block_on(self.play(global))
    }

    async fn play(self, global: &Global) -> Result<Exit, Failure> {
        let (stop, asked) = stop::requests()?;
        let work = Duration::from_millis(self.handler_ms);
        let plan = Plan::new(self.seed, self.length, f64::from(self.rate), work);
        let mut journals = Journals::new(self.keep_journals.as_deref())?;
        let mut show = Show::open(plan.clone(), &mut journals)?;
        let mut stage = self.stage(global, &show, &plan, stop)?;
        let end = show.run(&mut stage, &asked).await;
        // The screen is left before anything is said.
        drop(stage);
        match end {
            Ok(End::InOrder) => {}
            Ok(End::AtOnce) => {
                say("stopped at once: no audit");
                return Ok(Exit::DrainedLate);
            }
            Err(failure) => return Err(failure),
        }
        let summary = show.summary()?;
        let mut out = std::io::stdout().lock();
        match global.output() {
            Output::Table => out.write_all(summary.text().as_bytes())?,
            Output::Json | Output::Ndjson => {
                writeln!(out, "{}", serde_json::to_string(&summary).map_err(std::io::Error::from)?)?;
            }
        }
        drop(show);
        if let Some(folder) = journals.kept() {
            say(format_args!("journals in {}", folder.display()));
        }
        Ok(summary.exit())
    }

    fn stage(&self, global: &Global, show: &Show<'_>, plan: &Plan, stop: stop::Requests) -> Result<Stage, Failure> {
        let place = show.bootstrap_servers();
        if let Some((asked, limit)) = plan.lowered {
            let why = match limit {
                Limit::Cluster => "the in-process cluster drops the oldest beyond 5 MiB a partition",
                Limit::HottestKey => "a customer's orders are worked on one at a time",
            };
            say(format_args!(
                "{:.1} orders a second instead of {asked:.0} for {}: {why}",
                plan.rate,
                humantime::format_duration(plan.length),
            ));
        }
        if !self.headless && global.output() == Output::Table && std::io::stdout().is_terminal() {
            return Ok(Stage::Screen(Screen::open(plan, place, global.colored(&std::io::stdout()), stop)?));
        }
        say(format_args!("in-process cluster at {place}; look at it: kcat -b {place} -t {} -C", plan::TOPIC));
        Ok(Stage::Lines(Lines::default()))
    }
}
