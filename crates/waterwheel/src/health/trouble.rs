//! What is wrong at the moment, as those who meet it write it down: the coordinator for the group's side, the monitor for
//! what it asked the cluster.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use waterwheel_core::Now;

use super::{Cause, CheckKind, Health, HealthLevel, Surveyed};
use crate::error::{KafkaError, code};
use crate::record::TopicPartition;

#[derive(Debug, Default)]
struct State {
    joined: bool,
    client: Option<(Now, String)>,
    commit: Option<String>,
    /// What ended the worker, if nobody asked for it.
    failed: Option<String>,
    surveyed: Option<Surveyed>,
    lag: Vec<Cause>,
    ends: Ends,
}

/// The logs' ends, as last told.
pub(crate) type Ends = HashMap<TopicPartition, i64>;

/// What is wrong with a worker at the moment.
#[derive(Debug)]
pub(crate) struct Trouble {
    /// How long an attempt may run, or a partition with records stand still, before that is critical.
    pub(crate) stall_after: Duration,
    state: Mutex<State>,
}

impl Trouble {
    pub(crate) fn new(stall_after: Duration) -> Self {
        Self { stall_after, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The group has given the worker its partitions: the cluster can be reached.
    pub(crate) fn joined(&self) {
        let mut state = self.state();
        (state.joined, state.client) = (true, None);
    }

    pub(crate) fn has_joined(&self) -> bool {
        self.state().joined
    }

    pub(crate) fn client(&self, error: &KafkaError, now: Now) {
        match &mut self.state().client {
            // That all connections are down says less than what was told before it.
            Some((since, _)) if error.code() == code::LOCAL_ALL_BROKERS_DOWN => *since = now,
            client => *client = Some((now, error.to_string())),
        }
    }

    /// The coordinator answered: trouble from before then is over, also for a worker that has nothing to commit.
    pub(crate) fn answered(&self, at: Now) {
        self.state().client.take_if(|(since, _)| *since < at);
    }

    pub(crate) fn committed(&self) {
        let mut state = self.state();
        (state.commit, state.client) = (None, None);
    }

    pub(crate) fn commit_failed(&self, error: &KafkaError) {
        self.state().commit = Some(error.to_string());
    }

    /// The worker ended by itself.
    pub(crate) fn failed(&self, why: String) {
        self.state().failed = Some(why);
    }

    /// What ended the worker, if nobody asked for it.
    pub(crate) fn failure(&self) -> Option<String> {
        self.state().failed.clone()
    }

    /// The cluster was asked.
    pub(crate) fn surveyed(&self, found: Surveyed) {
        self.state().surveyed = Some(found);
    }

    /// The cluster told the logs' ends.
    pub(crate) fn told_ends(&self, ends: Ends) {
        self.state().ends = ends;
    }

    /// The logs' ends, as last told.
    pub(crate) fn ends(&self) -> Ends {
        self.state().ends.clone()
    }

    /// The worker's partitions were looked at.
    pub(crate) fn lags(&self, causes: Vec<Cause>) {
        self.state().lag = causes;
    }

    /// A session ended in order: what the group's client met is over with it.
    pub(crate) fn left(&self) {
        let mut state = self.state();
        (state.joined, state.client, state.commit) = (false, None, None);
        state.lag.clear();
    }

    /// What is wrong with the cluster and the topics.
    pub(crate) fn around(&self) -> Vec<Cause> {
        self.state().surveyed.as_ref().map(Surveyed::causes).unwrap_or_default()
    }

    /// What is wrong with the group's side and with the worker's way forward, for a worker that is to consume.
    pub(crate) fn within(&self) -> Vec<Cause> {
        let state = self.state();
        let level = if state.joined { HealthLevel::Warning } else { HealthLevel::Critical };
        let group = match &state.client {
            Some((_, text)) => Some(text.clone()),
            None => (!state.joined).then(|| "has not joined its group yet".to_owned()),
        };
        let group = group.map(|text| Cause { check: CheckKind::Group, level, text });
        let commits = state.commit.as_ref();
        let commits = commits.map(|text| Cause::warning(CheckKind::Commits, format!("commits fail: {text}")));
        group.into_iter().chain(commits).chain(state.lag.iter().cloned()).collect()
    }

    /// The health of a worker that has ended.
    pub(crate) fn at_the_end(&self) -> Health {
        let why = self.state().failed.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        Health::of(vec![Cause::critical(CheckKind::Worker, format!("the worker has ended{why}"))])
    }
}
