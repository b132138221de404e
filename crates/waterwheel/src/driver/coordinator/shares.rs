//! A group-wide limit: what of it is this member's, by the partitions that it works on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{Coordinator, REFETCH_AFTER};
use crate::driver::gate::Gate;
use crate::error::KafkaError;

/// What is known for the share.
pub(super) struct Shares {
    gate: Arc<Gate>,
    topics: Vec<String>,
    /// All partitions of its topics, once they were told.
    total: Option<usize>,
    asked: Option<BoxFuture<'static, Result<usize, KafkaError>>>,
    /// Partitions worked on and all of them, as told to the gate.
    shared: (usize, usize),
}

impl Shares {
    pub(super) fn new(gate: Arc<Gate>, topics: Vec<String>) -> Self {
        Self { gate, topics, total: None, asked: None, shared: (0, 0) }
    }
}

/// The number of partitions, when it is told.
pub(super) async fn told(shares: &mut Option<Shares>) -> Result<usize, KafkaError> {
    let Some(asked) = shares.as_mut().and_then(|shares| shares.asked.as_mut()) else { std::future::pending().await };
    asked.await
}

impl Coordinator<'_> {
    /// Asks how many partitions the topics have, after a wait.
    pub(super) fn ask_for_total(&mut self, after: Duration) {
        let Some(shares) = &mut self.shares else { return };
        let (admin, topics) = (self.opener.admin.clone(), shares.topics.clone());
        shares.asked = Some(Box::pin(async move {
            if !after.is_zero() {
                tokio::time::sleep(after).await;
            }
            let mut total = 0;
            for topic in admin.describe_topics(topics).await? {
                match topic {
                    Ok(topic) => total += topic.partitions.len(),
                    // One that is not there has none; whoever makes it begins a rebalance.
                    Err(error) if error.is_unknown_topic() => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(total)
        }));
    }

    /// The number of partitions was told, or could not be.
    pub(super) fn share_told(&mut self, total: Result<usize, KafkaError>) {
        let Some(shares) = &mut self.shares else { return };
        shares.asked = None;
        match total {
            Ok(total) => shares.total = Some(total),
            Err(error) => {
                tracing::warn!(%error, "the topics' partitions are not known: the share of the group's rate stays as it was");
                self.ask_for_total(REFETCH_AFTER);
            }
        }
    }

    /// Tells the gate the share, if it changed.
    pub(super) fn share(&mut self) {
        let (working, now) = (self.group.working(), self.now());
        let Some(shares) = &mut self.shares else { return };
        // Without an answer nothing starts, rather than too much.
        let share = (working, shares.total.unwrap_or(0).max(working));
        if shares.total.is_some() && share != shares.shared {
            shares.shared = share;
            shares.gate.set_share(fraction(share), now);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "numbers of partitions are small")]
fn fraction((part, whole): (usize, usize)) -> f64 {
    part as f64 / whole.max(1) as f64
}
