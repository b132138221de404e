//! Retry tiers of a worker.

use std::sync::Arc;

use waterwheel_core::lanes::Order;

use super::WorkerBuilder;
use crate::config::ConfigError;
use crate::retry_tiers::{RetryTiers, TierTopics};

impl WorkerBuilder {
    /// Topics in which records wait for another visit behind their attempts in memory. Default: none.
    ///
    /// The worker reads them beside its own, which have to be named (no patterns): their partitions have a share of
    /// its budgets as all have. They begin at their first record, whatever [`start`](Self::start) says. With a
    /// [`process_delay`](Self::process_delay) records of a tier wait for the tier's delay alone.
    pub fn retry_tiers(mut self, tiers: RetryTiers) -> Self {
        self.retry_tiers = Some(tiers);
        self
    }

    pub(super) fn check_tiers(&self) -> Result<(), ConfigError> {
        let Some(tiers) = &self.retry_tiers else { return Ok(()) };
        let dead_letter = self.dead_letter.as_ref().map(|letters| letters.template.as_str());
        tiers.check(&self.topics, self.group_name(), dead_letter, &self.retry)?;
        if self.order != Order::None && !tiers.allows_overtaking() {
            let problem = "later records of a key overtake one that waits in a tier, and the worker keeps an order";
            return Err(ConfigError::new("retry_tiers", problem).remedy("allow overtaking, or use Order::None"));
        }
        if self.follows() {
            let problem = "keeps an order behind dead letters, which retry tiers give up";
            return Err(ConfigError::new("after_dead_letter", problem).remedy("leave one of them out"));
        }
        Ok(())
    }

    /// The topics of its tiers. Settings that were not checked, and cannot be, have none.
    pub(super) fn tier_topics(&self) -> Option<Arc<TierTopics>> {
        let tiers = self.retry_tiers.as_ref()?;
        TierTopics::new(tiers, &self.exact_topics(), self.group_name()).ok().map(Arc::new)
    }

    /// Their names.
    pub(super) fn tier_names(&self) -> Vec<String> {
        let Some(tiers) = &self.retry_tiers else { return Vec::new() };
        let names = self.exact_topics().into_iter();
        names.flat_map(|topic| tiers.topics(&topic, self.group_name()).unwrap_or_default()).collect()
    }
}
