//! Retry tiers: topics in which records wait for another visit, longer in each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use waterwheel_core::retry::Retry;
use waterwheel_core::tiers::Tiers;

use crate::config::{ConfigError, dead_letter_topic, names};
use crate::record::Tier;

/// Most tiers: a topic each, for each topic that is read.
const MOST_TIERS: usize = 32;

const KEY: &str = "retry_tiers";

/// Topics in which records wait that have had their attempts in memory, and from which they come again.
///
/// A record that has had the attempts of its [`Retry`] where it was read goes to the topic of the next tier, is finished
/// where it was, and starts again when the tier's delay is over: with as many attempts again. That is one *visit*. Behind
/// the last tier comes the last one again, until the record has had all its [`attempts`](Self::attempts); then comes
/// [`OnExhausted`](crate::OnExhausted). What waits in a tier holds up neither its key nor its partition's commit.
///
/// **It costs order**: later records of a key overtake one that waits in a tier, and may run at the same time as it does
/// there. So a worker that keeps an order says so ([`allow_overtaking`](Self::allow_overtaking)).
///
/// The topics have to be there: a worker makes none. Each may have any number of partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryTiers {
    delays: Vec<Duration>,
    attempts: Option<u32>,
    template: String,
    overtaking: bool,
}

impl RetryTiers {
    /// Tiers with these delays, of whole milliseconds, at most 32, in the order in which records come to them. They count
    /// from when a record was written to its tier.
    pub fn new(delays: impl IntoIterator<Item = Duration>) -> Self {
        let template = "{topic}.{group}.retry.{delay}".to_owned();
        Self { delays: delays.into_iter().collect(), attempts: None, template, overtaking: false }
    }

    /// The most attempts that a record has in all, in its own topic and in all tiers, the first included. More than one
    /// visit has, or no record would ever come to a tier. Default: as many as one visit to its topic and one to each tier.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts);
        self
    }

    /// What the tiers' topics are called; it has to hold `{topic}`, `{group}` and `{delay}`. The delay is written in the
    /// largest unit that divides it, as `500ms`, `90s`, `1m`, `1h` or `1d`. Default: `{topic}.{group}.retry.{delay}`.
    pub fn topic(mut self, template: impl Into<String>) -> Self {
        self.template = template.into();
        self
    }

    /// Later records of a key may overtake one that waits in a tier, and run beside it. Needed with
    /// [`Order::Key`](crate::Order::Key) and [`Order::Partition`](crate::Order::Partition), whose promise holds within a
    /// visit only.
    pub fn allow_overtaking(mut self) -> Self {
        self.overtaking = true;
        self
    }

    /// Whether later records of a key may overtake one that waits in a tier.
    pub fn allows_overtaking(&self) -> bool {
        self.overtaking
    }

    /// The delays.
    pub fn delays(&self) -> &[Duration] {
        &self.delays
    }

    /// The topics of the tiers of `topic`, in their order.
    pub fn topics(&self, topic: &str, group: &str) -> Result<Vec<String>, ConfigError> {
        self.delays.iter().map(|delay| names::retry_topic(&self.template, topic, group, &written(*delay))).collect()
    }

    /// Checks them for a worker that reads `topics` in `group`, has that dead-letter template and that policy for a visit.
    pub fn check(
        &self,
        topics: &[String],
        group: &str,
        dead_letter: Option<&str>,
        retry: &Retry,
    ) -> Result<(), ConfigError> {
        let mistake = |key: &str, problem: String, remedy: &str| {
            let key = if key.is_empty() { KEY.to_owned() } else { format!("{KEY}.{key}") };
            Err(ConfigError::new(key, problem).remedy(remedy))
        };
        if self.delays.is_empty() || self.delays.len() > MOST_TIERS {
            let problem = format!("there are {}", self.delays.len());
            return mistake("delays", problem, "name from 1 to 32, as 5s, 1m and 10m");
        }
        for (at, delay) in self.delays.iter().enumerate() {
            if delay.is_zero() || !delay.subsec_nanos().is_multiple_of(1_000_000) {
                return mistake("delays", format!("{delay:?} is not a time in whole milliseconds"), "write 5s");
            }
            if self.delays[..at].contains(delay) {
                let problem = format!("{} is there twice", written(*delay));
                return mistake("delays", problem, "name it once: the last tier is used again by itself");
            }
        }
        let Some(visit) = retry.most() else {
            let problem = "no record ever comes to a tier: it is tried in memory without end".to_owned();
            return mistake("", problem, "limit the attempts of a visit, by Retry::attempts");
        };
        if self.attempts.is_some_and(|attempts| attempts <= visit) {
            let problem = format!("no record ever comes to a tier: its first visit has {visit} attempts");
            return mistake("attempts", problem, "allow more in all, or fewer in a visit");
        }
        let mut made: Vec<String> = Vec::new();
        for topic in topics {
            if topic.starts_with('^') {
                let problem = format!("of a pattern (\"{}\") nobody knows the tiers' topics", topic.escape_debug());
                return mistake("", problem, "name the topics that the worker reads");
            }
            let letters = dead_letter.and_then(|template| dead_letter_topic(template, topic, group).ok());
            for name in self.topics(topic, group)? {
                if topics.contains(&name) {
                    let problem = format!("\"{name}\" is among the topics that the worker reads");
                    return mistake("topic", problem, "leave it to the tiers, or name them otherwise");
                }
                if letters.as_ref() == Some(&name) || made.contains(&name) {
                    let problem = format!("\"{name}\" would be the topic of two things");
                    return mistake("topic", problem, "name tiers otherwise, or the dead-letter topic");
                }
                made.push(name);
            }
        }
        Ok(())
    }

    /// What the engine goes by.
    pub(crate) fn of_engine(&self, retry: &Retry) -> Tiers {
        let visits = u32::try_from(self.delays.len()).unwrap_or(u32::MAX).saturating_add(1);
        let attempts = self.attempts.unwrap_or_else(|| visits.saturating_mul(retry.most().unwrap_or(1)));
        Tiers::new(self.delays.clone(), attempts)
    }
}

/// A delay as it stands in a topic's name.
fn written(delay: Duration) -> String {
    let ms = delay.as_millis();
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let (of, unit) = units.into_iter().find(|(of, _)| ms.is_multiple_of(*of)).unwrap_or((1, "ms"));
    format!("{}{unit}", ms / of)
}

/// The topics of a worker's tiers.
#[derive(Debug, Default)]
pub(crate) struct TierTopics {
    tiers: HashMap<Arc<str>, Tier>,
    /// By the topic that is read: the topic of each tier, and its delay as it is written.
    names: HashMap<Arc<str>, Vec<(Arc<str>, String)>>,
}

impl TierTopics {
    /// Of settings that were checked.
    pub(crate) fn new(tiers: &RetryTiers, topics: &[String], group: &str) -> Result<Self, ConfigError> {
        let mut all = Self::default();
        for source in topics {
            let source: Arc<str> = source.as_str().into();
            let mut of_source = Vec::new();
            for (number, name) in tiers.topics(&source, group)?.into_iter().enumerate() {
                let name: Arc<str> = name.into();
                all.tiers.insert(name.clone(), Tier { number, source: source.clone() });
                of_source.push((name, written(tiers.delays[number])));
            }
            all.names.insert(source, of_source);
        }
        Ok(all)
    }

    /// The tier that a topic is; `None`: it is none.
    pub(crate) fn of(&self, topic: &str) -> Option<&Tier> {
        self.tiers.get(topic)
    }

    /// The topic of a tier of that topic's records, and the tier's delay as it is written.
    pub(crate) fn name(&self, source: &str, tier: usize) -> Option<(&Arc<str>, &str)> {
        self.names.get(source)?.get(tier).map(|(name, delay)| (name, delay.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn check(tiers: &RetryTiers, topics: &[&str], retry: &Retry) -> String {
        let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
        let checked = tiers.check(&topics, "billing", Some("{topic}.{group}.dlt"), retry);
        checked.err().map_or_else(|| "ok".to_owned(), |error| error.to_string())
    }

    #[test]
    fn topics_are_named_by_their_delays() {
        let tiers = RetryTiers::new([S / 2, S, 90 * S, 60 * S, 3_600 * S, 86_400 * S]);
        let names = tiers.topics("orders", "billing").unwrap();
        let delays: Vec<_> = names.iter().map(|name| name.strip_prefix("orders.billing.retry.").unwrap()).collect();
        assert_eq!(delays, ["500ms", "1s", "90s", "1m", "1h", "1d"]);
        let tiers = TierTopics::new(&tiers, &["orders".to_owned()], "billing").unwrap();
        let tier = tiers.of("orders.billing.retry.90s").unwrap();
        assert_eq!((tier.number, &*tier.source), (2, "orders"));
        assert_eq!(
            tiers.name("orders", 3).map(|(name, delay)| (&**name, delay)),
            Some(("orders.billing.retry.1m", "1m"))
        );
        assert_eq!((tiers.of("orders"), tiers.name("orders", 6)), (None, None));
    }

    #[test]
    fn tiers_that_cannot_be_are_refused_with_advice() {
        let of = |delays: &[Duration]| RetryTiers::new(delays.iter().copied());
        let five = Retry::default();
        let table = [
            (of(&[]), &["a"][..], "retry_tiers.delays: there are 0; name from 1 to 32, as 5s, 1m and 10m"),
            (
                of(&[Duration::from_micros(5)]),
                &["a"],
                "retry_tiers.delays: 5µs is not a time in whole milliseconds; write 5s",
            ),
            (
                of(&[S, S]),
                &["a"],
                "retry_tiers.delays: 1s is there twice; name it once: the last tier is used again by itself",
            ),
            (
                of(&[S]).attempts(5),
                &["a"],
                "retry_tiers.attempts: no record ever comes to a tier: its first visit has 5 attempts; allow more in all, or \
                 fewer in a visit",
            ),
            (
                of(&[S]),
                &["^a"],
                "retry_tiers: of a pattern (\"^a\") nobody knows the tiers' topics; name the topics that the worker reads",
            ),
            (
                of(&[S]),
                &["a", "a.billing.retry.1s"],
                "retry_tiers.topic: \"a.billing.retry.1s\" is among the topics that the worker reads; leave it to the tiers, or \
                 name them otherwise",
            ),
            (
                of(&[S]).topic("{topic}.{group}.{delay}"),
                &["a", "a.billing.1s"],
                "retry_tiers.topic: \"a.billing.1s\" is among the topics that the worker reads; leave it to the tiers, or name \
                 them otherwise",
            ),
            (
                of(&[S]).topic("{topic}.retry.{delay}"),
                &["a"],
                "retry_tiers.topic: \"{group}\" is missing: tiers need names of their own; write \
                 \"{topic}.{group}.retry.{delay}\"",
            ),
            (of(&[S, 5 * S]).attempts(6), &["a", "b"], "ok"),
        ];
        for (tiers, topics, wanted) in table {
            assert_eq!(check(&tiers, topics, &five), wanted);
        }
        assert!(check(&of(&[S]), &["a"], &five.clone().forever()).contains("without end"));
        assert!(check(&of(&[S]), &[&"x".repeat(240)], &five).contains("at most 249"));
        let letters = RetryTiers::new([S]).check(&["a".to_owned()], "g", Some("{topic}.{group}.retry.1s"), &five);
        assert!(letters.unwrap_err().to_string().contains("two things"));
    }

    #[test]
    fn by_default_each_tier_is_visited_once() {
        let tiers = RetryTiers::new([S, 5 * S]);
        let two = Retry::fixed(S).attempts(2);
        assert_eq!(tiers.of_engine(&two), Tiers::new(vec![S, 5 * S], 6));
        assert_eq!(tiers.attempts(9).of_engine(&two), Tiers::new(vec![S, 5 * S], 9));
    }
}
