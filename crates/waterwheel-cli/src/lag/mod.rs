//! `lag`: how far groups are behind, in records and in time.

mod trend;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde_json::{Value, json};
use waterwheel::admin::Admin;

use self::trend::Trend;
use crate::asking::{self, Asking, or_dash, print_json, print_table, table};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};
use crate::group::{Found, Place, Standing, standings};
use crate::runtime;
use crate::stop;
use crate::words::{about, grouped, now_ms};

/// Show how far groups are behind, in records and in time
///
/// LAG is the records from what is committed to the end of the log. UNFINISHED is the same without those that a worker has
/// finished above what it committed. TIME is the age of the oldest record that is not finished.
#[derive(clap::Args)]
pub(crate) struct Lag {
    /// Groups; all that there are if none is named
    #[arg(value_name = "GROUP")]
    groups: Vec<String>,

    /// A line for each partition
    #[arg(short, long)]
    partitions: bool,

    /// Look again and again, with as long in between, 100ms to 1h, until interrupted
    #[arg(long, value_name = "TIME", value_parser = watch)]
    watch: Option<Duration>,

    /// Exit with 3 if a group has more unfinished records
    #[arg(long, value_name = "RECORDS")]
    max: Option<u64>,

    /// Exit with 3 if a group is further behind in time
    #[arg(long, value_name = "TIME", value_parser = asking::duration)]
    max_time: Option<Duration>,

    #[command(flatten)]
    asking: Asking,
}

fn watch(text: &str) -> Result<Duration, String> {
    let within = Duration::from_millis(100)..=Duration::from_secs(3600);
    match asking::duration(text)? {
        time if within.contains(&time) => Ok(time),
        _ => Err("is not from 100ms to 1h".to_owned()),
    }
}

impl Lag {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        let admin = self.asking.admin(global)?;
        runtime::block_on(async {
            match self.watch {
                None => self.look(&admin, global, &mut BTreeMap::new()).await,
                Some(pause) => {
                    let (_requests, asked) = stop::requests()?;
                    tokio::select! {
                        ended = self.watch(&admin, global, pause) => ended,
                        () = asked.reach(1) => Ok(Exit::Done),
                    }
                }
            }
        })
    }

    /// Looks until a limit is exceeded. What cannot be asked for a while is told and asked again.
    async fn watch(&self, admin: &Admin, global: &Global, pause: Duration) -> Result<Exit, Failure> {
        let mut trends = BTreeMap::new();
        let mut ticks = tokio::time::interval(pause);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.look(admin, global, &mut trends).await {
                Ok(Exit::Done) => {}
                Err(failure) if failure.exit() == Exit::Unreachable => {
                    failure.report();
                }
                ended => return ended,
            }
        }
    }

    async fn look(
        &self,
        admin: &Admin,
        global: &Global,
        trends: &mut BTreeMap<String, Trend>,
    ) -> Result<Exit, Failure> {
        let mut exit = Exit::Done;
        let groups = if self.groups.is_empty() {
            let list = admin.groups().await?;
            for failure in &list.failures {
                say(format_args!("error: {failure}; this broker's groups are not shown"));
                exit = Exit::Unreachable;
            }
            list.groups.into_iter().map(|group| group.name).collect()
        } else {
            self.groups.clone()
        };
        let found = standings(admin, groups).await?;
        for (name, standing) in &found {
            if let Ok(standing) = standing
                && let Some(lag) = standing.unfinished()
            {
                trends.entry(name.clone()).or_default().look(Duration::from_millis(now_ms()), lag);
            }
        }
        self.print(global, &found, trends)?;
        for (name, standing) in &found {
            match standing {
                Err(error) => {
                    let failure = Failure::of_group(name, error);
                    // A group that has gone since it was listed is no failure.
                    if !self.groups.is_empty() || !error.is_unknown_group() {
                        failure.report();
                        exit = failure.exit();
                    }
                }
                Ok(standing) => {
                    for problem in self.exceeded(standing) {
                        say(format_args!("{name}: {problem}"));
                        exit = Exit::ConditionNotMet;
                    }
                }
            }
        }
        Ok(exit)
    }

    /// What is beyond the limits; a group of which nothing is known is.
    fn exceeded(&self, standing: &Standing) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(max) = self.max {
            match standing.unfinished() {
                Some(lag) if lag <= max => {}
                Some(lag) => problems.push(format!("{} unfinished records, more than {}", grouped(lag), grouped(max))),
                None => problems.push("nothing is known of its lag: it has committed nothing".to_owned()),
            }
        }
        if let Some(max) = self.max_time {
            match standing.time_lag() {
                Some(lag) if lag <= max => {}
                Some(lag) => problems.push(format!("{} behind, more than {}", about(lag), about(max))),
                None => problems.push("nothing is known of its lag in time".to_owned()),
            }
        }
        problems
    }

    fn print(
        &self,
        global: &Global,
        found: &[Found<Standing>],
        trends: &BTreeMap<String, Trend>,
    ) -> Result<(), Failure> {
        let known = || found.iter().filter_map(|(name, standing)| Some((name, standing.as_ref().ok()?)));
        let mut out = std::io::stdout().lock();
        if global.output() != Output::Table {
            let items = known().map(|(name, standing)| as_json(name, standing, trends.get(name))).collect();
            print_json(&mut out, global.output(), items)?;
        } else {
            if self.watch.is_some() && out.is_terminal() {
                // To the upper left, and clear what is there.
                write!(out, "\x1b[H\x1b[2J\x1b[3J")?;
            }
            if self.partitions {
                print_table(&mut out, &partitions(known()))?;
            } else {
                let mut rows = table(&["GROUP", "STATE", ">MEMBERS", ">LAG", ">UNFINISHED", ">TIME", "TREND"]);
                for (name, standing) in known() {
                    let trend = trends.get(name);
                    rows.add_row(vec![
                        name.clone(),
                        standing.group.state.to_string(),
                        standing.group.members.len().to_string(),
                        or_dash(standing.lag().map(grouped)),
                        or_dash(standing.unfinished().map(grouped)),
                        or_dash(standing.time_lag().map(about)),
                        trend_words(trend),
                    ]);
                }
                print_table(&mut out, &rows)?;
            }
        }
        Ok(out.flush()?)
    }
}

fn trend_words(trend: Option<&Trend>) -> String {
    let direction = trend.and_then(Trend::direction);
    let left = trend.and_then(Trend::left).filter(|left| !left.is_zero());
    match (direction, left) {
        (Some(direction), Some(left)) => format!("{}, {} left", direction.as_str(), about(left)),
        (direction, _) => or_dash(direction.map(trend::Direction::as_str)),
    }
}

fn partitions<'a>(standings: impl Iterator<Item = (&'a String, &'a Standing)>) -> comfy_table::Table {
    let mut rows = table(&[&["GROUP"][..], &Place::HEADINGS].concat());
    for (name, standing) in standings {
        for place in &standing.places {
            rows.add_row([vec![name.clone()], place.cells()].concat());
        }
    }
    rows
}

fn as_json(name: &str, standing: &Standing, trend: Option<&Trend>) -> Value {
    json!({
        "group": name,
        "state": standing.group.state.as_str(),
        "members": standing.group.members.len(),
        "lag": standing.lag(),
        "unfinished": standing.unfinished(),
        "time_lag_s": standing.time_lag().map(|lag| lag.as_secs_f64()),
        "trend": trend.and_then(Trend::direction).map(trend::Direction::as_str),
        "eta_s": trend.and_then(Trend::left).map(|left| left.as_secs_f64()),
        "partitions": standing.partitions_as_json(),
    })
}
