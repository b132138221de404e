//! Asking the cluster whether it is there and has the topics. Topics are described, which makes none.

use std::sync::Arc;
use std::time::Duration;

use super::{Cause, CheckKind, some};
use crate::client::Admin;
use crate::error::{KafkaError, code};

/// How long the cluster may take for an answer. It is a question that any broker answers from memory.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a worker needs of the cluster.
#[derive(Clone)]
pub(crate) struct Survey {
    pub(crate) admin: Arc<dyn Admin>,
    /// Topics by name; patterns cannot be looked for.
    pub(crate) topics: Vec<String>,
    /// The dead-letter topics of those.
    pub(crate) dead_letters: Vec<String>,
    /// The topics of their retry tiers.
    pub(crate) tiers: Vec<String>,
}

/// What the cluster answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surveyed {
    /// Why there is no answer.
    pub(crate) unanswered: Option<KafkaError>,
    missing: Vec<String>,
    refused: Vec<KafkaError>,
    missing_dead_letters: Vec<String>,
    missing_tiers: Vec<String>,
    /// Of those, and of tiers.
    refused_dead_letters: Vec<KafkaError>,
}

impl Survey {
    /// Asks once; answers within [`PATIENCE`].
    pub(crate) async fn look(&self) -> Surveyed {
        let names: Vec<String> = self.topics.iter().chain(&self.dead_letters).chain(&self.tiers).cloned().collect();
        let ask = async {
            // With patterns alone there is nothing to describe.
            if names.is_empty() {
                return self.admin.describe_cluster().await.map(|_| Vec::new());
            }
            self.admin.describe_topics(names.clone()).await
        };
        let silence = || KafkaError::new(code::LOCAL_TIMED_OUT, "no answer within 10 s", "describing topics");
        let answer = tokio::time::timeout(PATIENCE, ask).await.unwrap_or_else(|_| Err(silence()));
        let mut found = Surveyed::default();
        let described = match answer {
            Ok(described) => described,
            // What the client met says more than that it took too long.
            Err(error) => return Surveyed { unanswered: Some(self.admin.trouble().unwrap_or(error)), ..found },
        };
        for (at, (name, answer)) in names.into_iter().zip(described).enumerate() {
            let (missing, refused) = if at < self.topics.len() {
                (&mut found.missing, &mut found.refused)
            } else if at < self.topics.len() + self.dead_letters.len() {
                (&mut found.missing_dead_letters, &mut found.refused_dead_letters)
            } else {
                (&mut found.missing_tiers, &mut found.refused_dead_letters)
            };
            match answer {
                Ok(_) => {}
                Err(error) if error.is_unknown_topic() => missing.push(name),
                Err(error) => refused.push(error),
            }
        }
        found
    }
}

impl Surveyed {
    /// Whether there is something to work on: the brokers answer, and the topics are there.
    pub(crate) fn is_ready(&self) -> bool {
        self.unanswered.is_none() && self.missing.is_empty() && self.refused.is_empty()
    }

    /// Whether asking again could not help.
    pub(crate) fn refusal(&self) -> Option<&KafkaError> {
        self.unanswered.iter().chain(&self.refused).find(|error| error.is_unauthorised())
    }

    pub(crate) fn causes(&self) -> Vec<Cause> {
        use CheckKind::{Brokers, DeadLetters, Topics};
        let mut causes = Vec::new();
        if let Some(error) = &self.unanswered {
            causes.push(Cause::critical(Brokers, format!("the cluster does not answer: {error}")));
        }
        let missing = |check, what, names: &[String]| {
            (!names.is_empty()).then(|| Cause::critical(check, format!("{what} missing: {}", some(names))))
        };
        let refused = |check, errors: &[KafkaError]| (!errors.is_empty()).then(|| Cause::critical(check, some(errors)));
        causes.extend(missing(Topics, "topics", &self.missing));
        causes.extend(refused(Topics, &self.refused));
        // Nothing stands still for it yet.
        let later = |cause: Option<Cause>| cause.map(|cause| Cause::warning(DeadLetters, cause.text));
        causes.extend(later(missing(DeadLetters, "dead-letter topics", &self.missing_dead_letters)));
        causes.extend(later(missing(DeadLetters, "topics of retry tiers", &self.missing_tiers)));
        causes.extend(later(refused(DeadLetters, &self.refused_dead_letters)));
        causes
    }
}
