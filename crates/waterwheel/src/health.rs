//! Health: whether a worker does its work, and if not, why.

use std::sync::{Mutex, PoisonError};

use waterwheel_core::Now;

use crate::error::{KafkaError, code};

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

/// A worker's health and what it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// The worst of all causes.
    pub level: HealthLevel,
    /// Each thing that is not as it should be, worst first.
    pub causes: Vec<(HealthLevel, String)>,
}

impl Health {
    pub(crate) fn of(mut causes: Vec<(HealthLevel, String)>) -> Self {
        causes.sort_by(|a, b| b.cmp(a));
        Self { level: causes.first().map_or(HealthLevel::Ok, |(level, _)| *level), causes }
    }
}

#[derive(Debug, Default)]
struct State {
    joined: bool,
    client: Option<(Now, String)>,
    commit: Option<String>,
}

/// What is wrong on the group's side at the moment; written by the coordinator.
#[derive(Debug, Default)]
pub(crate) struct Trouble(Mutex<State>);

impl Trouble {
    fn with(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The group has given the worker its partitions: the cluster can be reached.
    pub(crate) fn joined(&self) {
        self.with(|s| (s.joined, s.client) = (true, None));
    }

    pub(crate) fn has_joined(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).joined
    }

    pub(crate) fn client(&self, error: &KafkaError, now: Now) {
        self.with(|s| match &mut s.client {
            // That all connections are down says less than what was told before it.
            Some((since, _)) if error.code() == code::LOCAL_ALL_BROKERS_DOWN => *since = now,
            client => *client = Some((now, error.to_string())),
        });
    }

    /// The coordinator answered: trouble from before then is over, also for a worker that has nothing to commit.
    pub(crate) fn answered(&self, at: Now) {
        self.with(|s| s.client.take_if(|(since, _)| *since < at).map_or((), drop));
    }

    pub(crate) fn committed(&self) {
        self.with(|s| (s.commit, s.client) = (None, None));
    }

    pub(crate) fn commit_failed(&self, error: &KafkaError) {
        self.with(|s| s.commit = Some(error.to_string()));
    }

    pub(crate) fn causes(&self) -> Vec<(HealthLevel, String)> {
        let mut causes = Vec::new();
        self.with(|s| {
            let level = if s.joined { HealthLevel::Warning } else { HealthLevel::Critical };
            match &s.client {
                Some((_, text)) => causes.push((level, text.clone())),
                None if !s.joined => causes.push((level, "has not joined its group yet".to_owned())),
                None => {}
            }
            if let Some(text) = &s.commit {
                causes.push((HealthLevel::Warning, format!("commits fail: {text}")));
            }
        });
        causes
    }
}
