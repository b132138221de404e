//! `broker`: the in-process cluster by itself, for trying things out with any client.

use std::io::Write;

use waterwheel::embedded::Cluster;

use crate::exit::{Exit, Failure, say};
use crate::global::{Global, Output};
use crate::runtime;
use crate::stop;

const LIMITS: &str = "it is for trying things out: it keeps 5 MiB and 100,000 batches a partition and drops the oldest beyond \
    that, keeps nothing when it ends, has no transactions, no access control and no administration (topics are made by \
    --topic, or by writing to them), and refuses commits while a classic group rebalances (group.protocol=consumer is better)";

/// Run the in-process cluster on a port of this machine, for trying things out
///
/// Prints its bootstrap servers on stdout and runs until SIGTERM or Ctrl-C. The ports are free ones that the system chooses;
/// they cannot be fixed. `--brokers N` is how many brokers it has, 1 if not said.
#[derive(clap::Args)]
#[command(after_help = LIMITS_HELP)]
pub(crate) struct Broker {
    /// Topic to make, with its partitions (4 if not said); repeatable
    #[arg(short, long = "topic", value_name = "NAME[:PARTITIONS]", value_parser = topic)]
    topics: Vec<(String, usize)>,
}

const LIMITS_HELP: &str = "Limits: 5 MiB and 100,000 batches a partition (the oldest are dropped), nothing kept at the end, \
    no transactions, no access control, no administration";

/// Partitions of a topic where nothing is said; what the cluster gives topics that it makes by itself, too.
const PARTITIONS: usize = 4;

fn topic(text: &str) -> Result<(String, usize), String> {
    let (name, partitions) = match text.rsplit_once(':') {
        None => (text, PARTITIONS),
        Some((name, partitions)) => match partitions.parse() {
            Ok(partitions @ 1..=1000) => (name, partitions),
            _ => return Err(format!("{partitions:?} is not a number of partitions from 1 to 1000")),
        },
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() || name.len() > 249 || matches!(name, "." | "..") || !name.chars().all(fits) {
        return Err("a topic's name has 1 to 249 letters, digits, '.', '_' and '-'".to_owned());
    }
    Ok((name.to_owned(), partitions))
}

/// What other verbs take as the list of brokers is their number here.
fn brokers(text: Option<&str>) -> Result<usize, Failure> {
    match text.map_or(Ok(1), str::parse) {
        Ok(number @ 1..=16) => Ok(number),
        _ => Err(Failure::new(Exit::Usage, "--brokers: here it is how many brokers to start, from 1 to 16")
            .hint("the ports are chosen by the system and printed")),
    }
}

impl Broker {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        let brokers = brokers(global.brokers.as_deref())?;
        runtime::block_on(self.serve(brokers, global))
    }

    async fn serve(self, brokers: usize, global: &Global) -> Result<Exit, Failure> {
        let (_requests, asked) = stop::requests()?;
        let cluster = Cluster::start(brokers)?;
        for (name, partitions) in &self.topics {
            cluster.create_topic(name, *partitions)?;
        }
        let servers = cluster.bootstrap_servers();
        say(format_args!("in-process cluster; {LIMITS}"));
        let mut out = std::io::stdout();
        match global.output() {
            Output::Table => writeln!(out, "{servers}")?,
            Output::Json | Output::Ndjson => writeln!(out, "{}", serde_json::json!({ "bootstrap_servers": servers }))?,
        }
        out.flush()?;
        asked.reach(1).await;
        Ok(Exit::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_a_number_here() {
        assert_eq!([None, Some("3")].map(|text| brokers(text).unwrap()), [1, 3]);
        for wrong in ["0", "17", "localhost:9092"] {
            assert_eq!(brokers(Some(wrong)).unwrap_err().report(), Exit::Usage, "{wrong}");
        }
    }

    #[test]
    fn topics_are_a_name_and_partitions() {
        assert_eq!(topic("orders"), Ok(("orders".to_owned(), 4)));
        assert_eq!(topic("orders.v1:12"), Ok(("orders.v1".to_owned(), 12)));
        for wrong in ["", ":3", "a:", "a:0", "a:x", "a:1001", "a b", "a/b:1", "..:1"] {
            assert!(topic(wrong).is_err(), "{wrong}");
        }
    }
}
