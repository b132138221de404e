//! What is asked about: the topics, groups, dead-letter topics and retry tiers of workers.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use waterwheel::admin::Operation;
use waterwheel::config::{ConfigError, check_group, check_topic, check_topic_or_pattern, dead_letter_topic};

use crate::file::{HandlerSpec, WorkerSpec};

/// What workers read, write and belong to.
#[derive(Debug, Default)]
pub(super) struct Subjects {
    /// What is done with each topic.
    pub(super) topics: BTreeMap<String, BTreeSet<Use>>,
    /// Patterns, which name no topic.
    pub(super) patterns: BTreeSet<String>,
    pub(super) groups: BTreeSet<String>,
    /// The longest delay before the records of a topic are started.
    pub(super) delays: BTreeMap<String, Duration>,
}

/// What a worker does with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Use {
    Reads,
    Writes,
    DeadLetters,
    /// Reads what it writes there itself.
    Tiers,
}

impl Use {
    /// What it has to be allowed.
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Reads | Self::Tiers => Operation::Read,
            Self::Writes | Self::DeadLetters => Operation::Write,
        }
    }
}

impl Subjects {
    /// What the options name.
    pub(super) fn named(
        topics: &[String],
        group: Option<&str>,
        dead_letter: Option<&str>,
    ) -> Result<Self, ConfigError> {
        let mut subjects = Self::default();
        for topic in topics {
            check_topic_or_pattern(topic)?;
            subjects.reads(topic, group.zip(dead_letter))?;
        }
        if let Some(group) = group {
            check_group(group)?;
            subjects.groups.insert(group.to_owned());
        }
        Ok(subjects)
    }

    /// What a worker of a file needs. The file was checked.
    pub(super) fn add(&mut self, worker: &WorkerSpec) {
        let dead_letter = worker.dead_letter.as_ref().map(|dead_letter| dead_letter.topic.as_str());
        for topic in &worker.topics {
            // Checked with the file.
            let _ = self.reads(topic, dead_letter.map(|template| (worker.group.as_str(), template)));
            let delays = worker.retry_tiers.iter().flat_map(|tiers| tiers.delays());
            for (tier, delay) in worker.tiers_of(topic).into_iter().zip(delays) {
                self.uses(&tier, Use::Tiers);
                self.uses(&tier, Use::Writes);
                self.delays.insert(tier, *delay);
            }
        }
        if !worker.process_delay.is_zero() {
            for topic in worker.topics.iter().filter(|topic| !topic.starts_with('^')) {
                let longest = self.delays.entry(topic.clone()).or_default();
                *longest = (*longest).max(worker.process_delay);
            }
        }
        if let HandlerSpec::Forward { topic } = &worker.handler {
            self.uses(topic, Use::Writes);
        }
        self.groups.insert(worker.group.clone());
    }

    fn reads(&mut self, topic: &str, dead_letters: Option<(&str, &str)>) -> Result<(), ConfigError> {
        if topic.starts_with('^') {
            self.patterns.insert(topic.to_owned());
            return Ok(());
        }
        self.uses(topic, Use::Reads);
        if let Some((group, template)) = dead_letters {
            let name = dead_letter_topic(template, topic, group)?;
            check_topic(&name)?;
            self.uses(&name, Use::DeadLetters);
        }
        Ok(())
    }

    fn uses(&mut self, topic: &str, what: Use) {
        self.topics.entry(topic.to_owned()).or_default().insert(what);
    }
}
