//! `topic config`: what topics are configured to, and changes to it.

use std::io::Write;

use serde_json::{Value, json};
use waterwheel::KafkaError;
use waterwheel::admin::{Admin, ConfigChanges, ConfigEntry, ConfigResource, ConfigSource, Mode};

use super::create::wrong;
use super::{Pair, report};
use crate::asking::{Asking, or_dash, print_json, print_table, table};
use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};

/// Show or change what topics are configured to
///
/// A change is judged by the brokers and printed, and is made only with --execute. What is not named stays. If one topic's is
/// refused, none is made.
#[derive(clap::Args)]
pub(crate) struct Config {
    /// Topics
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Also what follows the brokers
    #[arg(long, conflicts_with_all = ["set", "unset", "append", "subtract", "execute"])]
    all: bool,
    /// Give a configuration a value; repeatable
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<Pair>,
    /// Let a configuration follow the brokers again; repeatable
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// Add words to one that is a list, as cleanup.policy=compact; repeatable
    #[arg(long, value_name = "NAME=WORDS")]
    append: Vec<Pair>,
    /// Take words out of one that is a list; repeatable
    #[arg(long, value_name = "NAME=WORDS")]
    subtract: Vec<Pair>,
    /// Make the change
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    asking: Asking,
}

/// A topic, and what it is configured to.
type Configured = (String, Result<Vec<ConfigEntry>, KafkaError>);

impl Config {
    pub(super) async fn run(mut self, global: &Global) -> Result<Exit, Failure> {
        self.topics.sort_unstable();
        self.topics.dedup();
        let admin = self.asking.admin(global)?;
        let changes = self.changes();
        if changes.is_empty() && self.execute {
            return Err(
                Failure::new(Exit::Usage, "--execute, and no change is named").hint("--set NAME=VALUE names one")
            );
        }
        let resources = self.topics.iter().map(|name| ConfigResource::Topic(name.clone())).collect();
        let configs = admin.configs(resources).await?;
        let found: Vec<Configured> = self.topics.iter().cloned().zip(configs).collect();
        if changes.is_empty() {
            self.show(global, &found)?;
            return Ok(report(found.iter().filter_map(|(name, found)| wrong((name, found)))));
        }
        let missing = report(found.iter().filter_map(|(name, found)| wrong((name, found))));
        if missing != Exit::Done {
            say("nothing was changed");
            return Ok(missing);
        }
        let judged = self.alter(&admin, &changes, Mode::DryRun).await?;
        if !self.execute || judged.iter().any(Result::is_err) {
            plan(global, &found, &changes, &judged, false)?;
            let refused = report(self.topics.iter().zip(&judged).filter_map(wrong));
            say(if refused == Exit::Done { "nothing was changed: --execute does it" } else { "nothing was changed" });
            return Ok(refused);
        }
        let made = self.alter(&admin, &changes, Mode::Execute).await?;
        plan(global, &found, &changes, &made, true)?;
        Ok(report(self.topics.iter().zip(&made).filter_map(wrong)))
    }

    fn changes(&self) -> Vec<Change> {
        let pairs = |pairs: &[Pair], kind: Kind| -> Vec<Change> {
            pairs.iter().map(|pair| Change { name: pair.name.clone(), kind, value: pair.value.clone() }).collect()
        };
        let unset = |name: &String| Change { name: name.clone(), kind: Kind::Unset, value: String::new() };
        let mut changes = pairs(&self.set, Kind::Set);
        changes.extend(self.unset.iter().map(unset));
        changes.extend(pairs(&self.append, Kind::Append));
        changes.extend(pairs(&self.subtract, Kind::Subtract));
        changes
    }

    async fn alter(
        &self,
        admin: &Admin,
        changes: &[Change],
        mode: Mode,
    ) -> Result<Vec<Result<(), KafkaError>>, Failure> {
        let of = |name: &String| {
            let none = ConfigChanges::of(ConfigResource::Topic(name.clone()));
            changes.iter().fold(none, |so_far, change| change.add_to(so_far))
        };
        Ok(admin.alter_configs(self.topics.iter().map(of).collect(), mode).await?)
    }

    fn show(&self, global: &Global, found: &[Configured]) -> Result<(), Failure> {
        let wanted = |entry: &&ConfigEntry| self.all || entry.source == ConfigSource::Topic;
        let entries = found.iter().filter_map(|(name, found)| Some((name, found.as_ref().ok()?)));
        let entries = entries.flat_map(|(name, all)| all.iter().filter(wanted).map(move |entry| (name, entry)));
        let mut out = std::io::stdout().lock();
        if global.output() == Output::Table {
            let mut rows = table(&["TOPIC", "NAME", "VALUE", "SET BY"]);
            for (topic, entry) in entries {
                let value = or_dash(entry.value.as_deref());
                rows.add_row(vec![topic.clone(), entry.name.clone(), value, entry.source.to_string()]);
            }
            print_table(&mut out, &rows)?;
        } else {
            let item = |(topic, entry): (&String, &ConfigEntry)| {
                json!({
                    "topic": topic,
                    "name": entry.name,
                    "value": entry.value,
                    "set_by": entry.source.as_str(),
                    "read_only": entry.is_read_only,
                    "sensitive": entry.is_sensitive,
                })
            };
            print_json(&mut out, global.output(), entries.map(item).collect())?;
        }
        Ok(out.flush()?)
    }
}

/// A change to one configuration.
struct Change {
    name: String,
    kind: Kind,
    value: String,
}

#[derive(Clone, Copy)]
enum Kind {
    Set,
    Unset,
    Append,
    Subtract,
}

impl Change {
    fn add_to(&self, changes: ConfigChanges) -> ConfigChanges {
        match self.kind {
            Kind::Set => changes.set(&self.name, &self.value),
            Kind::Unset => changes.unset(&self.name),
            Kind::Append => changes.append(&self.name, &self.value),
            Kind::Subtract => changes.subtract(&self.name, &self.value),
        }
    }

    fn text(&self) -> String {
        match self.kind {
            Kind::Set => self.value.clone(),
            Kind::Unset => "as the brokers".to_owned(),
            Kind::Append => format!("and {}", self.value),
            Kind::Subtract => format!("without {}", self.value),
        }
    }

    fn word(&self) -> &'static str {
        match self.kind {
            Kind::Set => "set",
            Kind::Unset => "unset",
            Kind::Append => "append",
            Kind::Subtract => "subtract",
        }
    }
}

fn plan(
    global: &Global,
    found: &[Configured],
    changes: &[Change],
    results: &[Result<(), KafkaError>],
    done: bool,
) -> Result<(), Failure> {
    let now = |found: &Configured, name: &str| -> Option<String> {
        found.1.as_ref().ok()?.iter().find(|entry| entry.name == name)?.value.clone()
    };
    let steps =
        found.iter().zip(results).flat_map(|(found, result)| changes.iter().map(move |change| (found, change, result)));
    let mut out = std::io::stdout().lock();
    if global.output() == Output::Table {
        let mut rows = table(&["TOPIC", "NAME", "NOW", "THEN", "NOTE"]);
        for (found, change, result) in steps {
            let note = match result {
                Err(error) => error.name().to_owned(),
                Ok(()) if done => "changed".to_owned(),
                Ok(()) => String::new(),
            };
            let now = or_dash(now(found, &change.name));
            rows.add_row(vec![found.0.clone(), change.name.clone(), now, change.text(), note]);
        }
        print_table(&mut out, &rows)?;
    } else {
        let item = |(found, change, result): (&Configured, &Change, &Result<(), KafkaError>)| -> Value {
            json!({
                "topic": found.0,
                "name": change.name,
                "from": now(found, &change.name),
                "change": change.word(),
                "value": Some(&change.value).filter(|_| !matches!(change.kind, Kind::Unset)),
                "done": done && result.is_ok(),
                "error": result.as_ref().err().map(ToString::to_string),
            })
        };
        print_json(&mut out, global.output(), steps.map(item).collect())?;
    }
    Ok(out.flush()?)
}
