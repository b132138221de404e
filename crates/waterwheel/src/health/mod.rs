//! Health: whether a worker does its work, and if not, why.
//!
//! A worker that reaches its brokers is not healthy for that: its handlers, its dead letters, its commits and the way its
//! partitions go forward are looked at, too. Nothing here changes the cluster; no topic is made by asking for it.

mod progress;
mod survey;
mod trouble;

use std::fmt;

pub(crate) use progress::{Place, Progress};
pub(crate) use survey::{PATIENCE as SURVEY_PATIENCE, Survey, Surveyed};
pub(crate) use trouble::{Ends, Trouble};

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HealthLevel {
    /// It works.
    Ok,
    /// It works, but something needs a look.
    Warning,
    /// Some or all of its work stands still.
    Critical,
}

impl fmt::Display for HealthLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
        })
    }
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CheckKind {
    /// Whether it runs: critical once it has ended, or where its tasks do not answer within five seconds.
    Worker,
    /// Whether the cluster answers questions.
    Brokers,
    /// Whether the topics that are named are there, and may be seen.
    Topics,
    /// Whether it is a member of its group, and what the group's client meets.
    Group,
    /// Whether commits are taken.
    Commits,
    /// Whether dead letters can be written and their topics are there.
    DeadLetters,
    /// Whether handlers end, and records do not fail for ever.
    Handlers,
    /// Whether partitions that have records go forward, and lag does not grow on and on.
    Lag,
}

impl CheckKind {
    /// All of them, in the order in which [`Health::checks`] has them.
    pub const ALL: [Self; 8] = [
        Self::Worker,
        Self::Brokers,
        Self::Topics,
        Self::Group,
        Self::Commits,
        Self::DeadLetters,
        Self::Handlers,
        Self::Lag,
    ];
}

impl fmt::Display for CheckKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Worker => "worker",
            Self::Brokers => "brokers",
            Self::Topics => "topics",
            Self::Group => "group",
            Self::Commits => "commits",
            Self::DeadLetters => "dead_letters",
            Self::Handlers => "handlers",
            Self::Lag => "lag",
        })
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Which check found it.
    pub check: CheckKind,
    /// How bad it is.
    pub level: HealthLevel,
    /// What it is. Names topics and partitions, never a record's content.
    pub text: String,
}

impl Cause {
    pub(crate) fn warning(check: CheckKind, text: impl Into<String>) -> Self {
        Self { check, level: HealthLevel::Warning, text: text.into() }
    }

    pub(crate) fn critical(check: CheckKind, text: impl Into<String>) -> Self {
        Self { check, level: HealthLevel::Critical, text: text.into() }
    }
}

/// A worker's health and what it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The worst of all causes.
    pub level: HealthLevel,
    /// Each thing that is not as it should be, worst first.
    pub causes: Vec<Cause>,
}

impl Health {
    pub(crate) fn of(mut causes: Vec<Cause>) -> Self {
        causes.sort_by(|a, b| b.level.cmp(&a.level).then(a.check.cmp(&b.check)));
        Self { level: causes.first().map_or(HealthLevel::Ok, |cause| cause.level), causes }
    }

    /// Every check and the worst that it found.
    pub fn checks(&self) -> impl Iterator<Item = (CheckKind, HealthLevel)> {
        CheckKind::ALL.into_iter().map(|check| {
            let found = self.causes.iter().filter(|cause| cause.check == check).map(|cause| cause.level);
            (check, found.max().unwrap_or(HealthLevel::Ok))
        })
    }
}

/// The first few names of many.
fn some<T: fmt::Display>(names: &[T]) -> String {
    const SHOWN: usize = 5;
    let mut text = names.iter().take(SHOWN).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_is_as_bad_as_its_worst_cause_and_tells_of_every_check() {
        let health = Health::of(vec![
            Cause::warning(CheckKind::Lag, "grows"),
            Cause::critical(CheckKind::Handlers, "stuck"),
            Cause::warning(CheckKind::Commits, "fail"),
        ]);
        assert_eq!(health.level, HealthLevel::Critical);
        assert_eq!(health.causes.iter().map(|c| &*c.text).collect::<Vec<_>>(), ["stuck", "fail", "grows"]);
        let checks: Vec<_> = health.checks().collect();
        assert_eq!(checks.len(), CheckKind::ALL.len());
        assert!(checks.contains(&(CheckKind::Brokers, HealthLevel::Ok)));
        assert!(checks.contains(&(CheckKind::Lag, HealthLevel::Warning)));
        assert_eq!(Health::of(Vec::new()).level, HealthLevel::Ok);
    }

    #[test]
    fn many_names_are_told_by_the_first_few() {
        assert_eq!(some(&[1, 2]), "1, 2");
        assert_eq!(some(&[1, 2, 3, 4, 5, 6, 7]), "1, 2, 3, 4, 5 and 2 more");
    }
}
