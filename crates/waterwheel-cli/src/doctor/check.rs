//! The checks, each with what it found and what to do about it.

use futures_util::future::join_all;
use waterwheel::admin::{Admin, Operation, TopicDescription};
use waterwheel::{Error, KafkaError};

use super::delays;
use super::subjects::{Subjects, Use};
use crate::exit::{Exit, Failure};
use crate::group::{Standing, standings};
use crate::words::{about, grouped};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok,
    /// It works, but is likely not meant so, or will not for long.
    Warning,
    /// Work stands still.
    Critical,
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What a check found.
pub(super) struct Finding {
    pub(super) check: String,
    pub(super) level: Level,
    pub(super) said: String,
    /// Empty where there is nothing to do.
    pub(super) remedy: String,
}

/// All that was found, in the order of the checks.
#[derive(Default)]
pub(super) struct Findings {
    all: Vec<Finding>,
    /// That of the first critical one.
    exit: Option<Exit>,
}

impl Findings {
    pub(super) fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.all.iter()
    }

    pub(super) fn exit(&self) -> Exit {
        self.exit.unwrap_or(Exit::Done)
    }

    pub(super) fn add(&mut self, check: impl ToString, level: Level, said: impl ToString, remedy: impl ToString) {
        let (check, said, remedy) = (check.to_string(), said.to_string(), remedy.to_string());
        self.all.push(Finding { check, level, said, remedy });
    }

    fn ok(&mut self, check: impl ToString, said: impl ToString) {
        self.add(check, Level::Ok, said, "");
    }

    fn critical(&mut self, exit: Exit, check: impl ToString, said: impl ToString, remedy: impl ToString) {
        self.add(check, Level::Critical, said, remedy);
        self.exit.get_or_insert(exit);
    }

    fn error(&mut self, check: impl ToString, error: &KafkaError, remedy: impl ToString) {
        self.critical(Failure::from(error.clone()).exit(), check, error, remedy);
    }
}

/// Runs all checks. Without a connection the others are left out.
pub(super) async fn all(
    admin: &Admin,
    subjects: &Subjects,
    security: &str,
    findings: &mut Findings,
) -> Result<(), Failure> {
    let cluster = match admin.cluster().await {
        Ok(cluster) => cluster,
        Err(Error::Kafka(error)) => {
            let remedy = if error.is_unauthorised() {
                "correct the certificate, the user or the password"
            } else {
                "correct bootstrap.servers, or what is between here and there"
            };
            findings.error("connection", &error, remedy);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let id = cluster.id.as_deref().unwrap_or("without an id");
    findings.ok("connection", format!("{security}; cluster {id}, brokers: {}", cluster.brokers.len()));

    let answers = join_all(cluster.brokers.iter().map(|broker| admin.ask_broker(broker.id))).await;
    for (broker, answer) in cluster.brokers.iter().zip(answers) {
        let check = format!("broker {}", broker.id);
        match answer {
            Ok(()) => findings.ok(check, format!("{}:{} answers", broker.host, broker.port)),
            Err(error) => {
                let said = format!("{}:{}: {error}", broker.host, broker.port);
                let remedy = "start it, or correct its advertised.listeners, which clients connect to";
                findings.critical(Failure::from(error).exit(), check, said, remedy);
            }
        }
    }
    topics(admin, subjects, findings).await?;
    delays::look(admin, subjects, findings).await?;
    groups(admin, subjects, findings).await
}

async fn topics(admin: &Admin, subjects: &Subjects, findings: &mut Findings) -> Result<(), Failure> {
    for pattern in &subjects.patterns {
        findings.ok(format!("topics {pattern}"), "a pattern: its topics are not looked at");
    }
    let names: Vec<String> = subjects.topics.keys().cloned().collect();
    let described = admin.describe_topics(names.clone()).await?;
    let there = described.iter().flatten().map(|topic| topic.name.clone()).collect();
    let mut allowed = admin.allowed_on_topics(there).await?.into_iter();
    for ((name, uses), described) in subjects.topics.iter().zip(described) {
        let check = format!("topic {name}");
        match described {
            Ok(topic) => {
                let allowed = allowed.next().and_then(Result::ok).flatten();
                one_topic(&check, &topic, uses.iter().copied(), allowed.as_deref(), findings);
            }
            Err(error) if error.is_unknown_topic() => {
                if uses.contains(&Use::Reads) {
                    findings.critical(
                        Exit::NotFound,
                        check,
                        "there is no such topic, or no right to see it",
                        "make it",
                    );
                } else {
                    let remedy = match uses.contains(&Use::Tiers) {
                        true => format!("waterwheel topic create {name} --execute"),
                        false => "make it, unless the brokers make topics by themselves".to_owned(),
                    };
                    findings.add(check, Level::Warning, "there is no such topic, and records go there", remedy);
                }
            }
            Err(error) => findings.error(check, &error, "give the right to describe it"),
        }
    }
    Ok(())
}

fn one_topic(
    check: &str,
    topic: &TopicDescription,
    uses: impl Iterator<Item = Use>,
    allowed: Option<&[Operation]>,
    findings: &mut Findings,
) {
    let count = topic.partitions.len();
    let leaderless = topic.partitions.iter().filter(|partition| partition.leader.is_none()).count();
    let behind = topic.partitions.iter().filter(|partition| partition.in_sync.len() < partition.replicas.len()).count();
    if leaderless > 0 {
        let said = format!("{leaderless} of {count} partitions have no leader");
        findings.critical(Exit::Failed, check, said, "start the brokers that have them");
    } else if behind > 0 {
        let said = format!("{behind} of {count} partitions are not on all their brokers");
        findings.add(check, Level::Warning, said, "look at the brokers' logs");
    }
    for operation in uses.map(Use::operation) {
        let verb = if operation == Operation::Read { "read" } else { "write" };
        match allowed {
            Some(allowed) if !allowed.contains(&operation) => {
                let remedy = format!("give the right to {verb}");
                findings.critical(Exit::NotAuthorised, check, format!("may not {verb}"), remedy);
            }
            Some(_) if leaderless + behind == 0 => findings.ok(check, format!("{count} partitions; may {verb}")),
            Some(_) => {}
            None => findings.ok(check, format!("{count} partitions; the cluster tells no rights to {verb}")),
        }
    }
}

async fn groups(admin: &Admin, subjects: &Subjects, findings: &mut Findings) -> Result<(), Failure> {
    for (name, standing) in standings(admin, subjects.groups.iter().cloned().collect()).await? {
        let check = format!("group {name}");
        match standing {
            Ok(standing) => one_group(&check, &standing, findings),
            Err(error) if error.is_unknown_group() => {
                findings.ok(check, "does not exist yet: its first member makes it");
            }
            Err(error) => findings.error(check, &error, "give the right to describe it"),
        }
    }
    Ok(())
}

fn one_group(check: &str, standing: &Standing, findings: &mut Findings) {
    let group = &standing.group;
    if group.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&Operation::Read)) {
        let remedy = "give the right to read, which joining and committing need";
        findings.critical(Exit::NotAuthorised, check, "may not join", remedy);
    }
    for place in &standing.places {
        if let Some(reason) = &place.reason {
            let remedy = "waterwheel group describe tells more";
            findings.add(check, Level::Warning, format!("{}: {reason}", place.partition), remedy);
        }
    }
    let known = (standing.unfinished(), standing.time_lag());
    let lag = match known {
        (Some(records), Some(time)) => format!(", {} records ({}) behind", grouped(records), about(time)),
        _ => ", has committed nothing".to_owned(),
    };
    findings.ok(check, format!("{}, members: {}{lag}", group.state, group.members.len()));
}
