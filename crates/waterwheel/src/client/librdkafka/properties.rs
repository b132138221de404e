//! Which properties each of the four clients gets, and which of them are secrets.
//!
//! The caller gives one set for all. librdkafka takes a property of another kind of client with a warning; we leave it
//! out instead. A default of ours comes before the caller's properties, so that theirs wins under any of its names
//! (`linger.ms` is also `queue.buffering.max.ms`); what the seam depends on comes after them.

use crate::client::{ClientRole, Properties};
use crate::config::{self, Side};

/// The kinds of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Membership,
    Fetch,
    /// Reads single records once more, beside a fetch client.
    Reread,
    Produce,
    Admin,
}

/// A client's properties, in the order in which they are set.
pub(super) fn of(role: Role, properties: &Properties) -> Vec<(String, String)> {
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let mut all: Vec<(String, String)> = pairs(role.defaults());
    if role == Role::Membership && properties.get("group.protocol").is_none_or(|p| p != "consumer") {
        // A rebalance then revokes only what moves. (With the consumer protocol the broker decides, and the property is
        // refused.)
        all.push(("partition.assignment.strategy".to_owned(), "cooperative-sticky".to_owned()));
    }
    // Telemetry pushed to the brokers is none of a worker's business, and its code has had faults before authentication
    // (librdkafka issue 5577).
    all.push(("enable.metrics.push".to_owned(), "false".to_owned()));
    // librdkafka waits for half of this between the connections that a fresh client makes, to the broker it was told and
    // then to one of those it learned of: with its own 100 ms a worker began 35 ms later. Doubled after each failure.
    all.push(("reconnect.backoff.ms".to_owned(), "20".to_owned()));
    all.extend(properties.iter().filter(|(k, _)| role.takes(k)).map(|(k, v)| (k.clone(), v.clone())));
    all.extend(pairs(role.forced()));
    if role == Role::Membership {
        // The coordinator's last answer is known by the statistics; who wants them more rarely is told more rarely.
        let wanted = properties.get(STATISTICS).and_then(|millis| millis.trim().parse().ok());
        let often = wanted.filter(|millis| (1..COORDINATOR_MS).contains(millis)).unwrap_or(COORDINATOR_MS);
        all.push((STATISTICS.to_owned(), often.to_string()));
    }
    all
}

/// How often a membership hears of its coordinator, at least, in milliseconds.
const COORDINATOR_MS: u64 = 1_000;

impl Role {
    /// As users know it.
    pub(super) fn public(self) -> ClientRole {
        match self {
            Role::Membership => ClientRole::Membership,
            Role::Fetch => ClientRole::Fetch,
            Role::Reread => ClientRole::Reread,
            Role::Produce => ClientRole::Produce,
            Role::Admin => ClientRole::Admin,
        }
    }

    /// Whether somebody looks at what it has to say for as long as it lives.
    pub(super) fn is_heard(self) -> bool {
        matches!(self, Role::Membership | Role::Fetch | Role::Produce)
    }

    fn takes(self, property: &str) -> bool {
        match self {
            Role::Membership => !is_of_producers(property) && !is(FETCH, property) || property == "isolation.level",
            Role::Fetch => !is_of_producers(property) && !is(GROUP, property),
            Role::Reread => !is_of_producers(property) && !is(GROUP, property) && property != STATISTICS,
            Role::Produce => !is(FETCH, property) && !is(GROUP, property),
            Role::Admin => {
                !is_of_producers(property) && !is(FETCH, property) && !is(GROUP, property) && property != STATISTICS
            }
        }
    }

    /// Ours unless the caller says otherwise.
    fn defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Role::Membership => &[],
            // Back-off 1 s (the default) gives 1,950 records/s a partition with a small queue, 10 ms gives 22,500; with
            // a wait of 500 ms a partition added to an idle client starts only after as long. What a partition reads ahead
            // costs some 450 bytes a message beside its payload: with librdkafka's own 100,000 messages a worker held twice
            // the memory and was no faster; with 7,000 it was half as fast (`docs/performance.md`).
            Role::Fetch => &[
                ("check.crcs", "true"),
                ("fetch.queue.backoff.ms", "10"),
                ("fetch.wait.max.ms", "100"),
                ("queued.max.messages.kbytes", "2048"),
                ("queued.min.messages", "10000"),
                RETRY,
            ],
            Role::Reread => &[("check.crcs", "true"), RETRY],
            Role::Produce => &[
                ("enable.idempotence", "true"),
                ("acks", "all"),
                ("partitioner", "murmur2_random"),
                ("linger.ms", "5"),
            ],
            Role::Admin => &[],
        }
    }

    /// What the code depends on.
    fn forced(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Role::Membership => &[("enable.auto.commit", "false"), ("enable.auto.offset.store", "false")],
            Role::Fetch => &[
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "error"),
                // Shows how far a log goes on behind its last record. (The event loses a record after pause and resume,
                // librdkafka issue 4844; nothing pauses.)
                ("enable.partition.eof", "true"),
            ],
            // Here too, else an offset that is gone and has none after it would be waited for for ever.
            Role::Reread => &[
                ("enable.auto.commit", "false"),
                ("enable.auto.offset.store", "false"),
                ("auto.offset.reset", "earliest"),
                ("enable.partition.eof", "true"),
                ("fetch.wait.max.ms", "10"),
                ("fetch.queue.backoff.ms", "10"),
                ("queued.max.messages.kbytes", "1024"),
            ],
            // Who sends waits for every report.
            Role::Produce => &[("delivery.report.only.error", "false")],
            Role::Admin => &[],
        }
    }
}

/// A question for a partition's leader may die with the first connection, which librdkafka ends when it has learned the
/// broker's number; it is asked again after this, by librdkafka's own default after 100 ms, doubled each time up to 1 s.
const RETRY: (&str, &str) = ("retry.backoff.ms", "20");

pub(super) const STATISTICS: &str = "statistics.interval.ms";

/// Properties of group membership only.
const GROUP: &[&str] = &[
    "auto.commit.enable",
    "auto.commit.interval.ms",
    "coordinator.query.interval.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "group.protocol.type",
    "group.remote.assignor",
    "heartbeat.interval.ms",
    "max.poll.interval.ms",
    "partition.assignment.strategy",
    "session.timeout.ms",
];

/// Properties of fetching only.
const FETCH: &[&str] = &[
    "auto.offset.reset",
    "check.crcs",
    "consume.callback.max.messages",
    "enable.partition.eof",
    "fetch.error.backoff.ms",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "fetch.min.bytes",
    "fetch.queue.backoff.ms",
    "fetch.wait.max.ms",
    "isolation.level",
    "max.partition.fetch.bytes",
    "offset.store.method",
    "offset.store.path",
    "offset.store.sync.interval.ms",
    "queued.max.messages.kbytes",
    "queued.min.messages",
];

/// Whether it is a property of producing only.
fn is_of_producers(property: &str) -> bool {
    config::find(property).is_some_and(|known| known.side == Side::Producer)
}

fn is(names: &[&str], property: &str) -> bool {
    names.binary_search(&property).is_ok()
}

/// Replaces secrets in what librdkafka says.
#[derive(Default)]
pub(super) struct Redaction {
    /// The longest first, so that a secret which contains another one disappears whole.
    secrets: Vec<String>,
}

impl Redaction {
    /// One more; the oldest of many goes, because tokens come for ever.
    pub(super) fn add(&mut self, secret: &str) {
        const KEPT: usize = 16;
        if secret.trim().is_empty() || self.secrets.iter().any(|known| known == secret) {
            return;
        }
        if self.secrets.len() == KEPT {
            self.secrets.remove(0);
        }
        self.secrets.push(secret.to_owned());
    }

    pub(super) fn of(properties: &Properties) -> Self {
        let mut secrets = Vec::new();
        for (property, value) in properties {
            if !is_secret(property) {
                continue;
            }
            secrets.push(value.clone());
            // `sasl.oauthbearer.config` is a list of `name=value`; a PEM key may be printed line by line.
            if property.ends_with("oauthbearer.config") {
                secrets.extend(value.split_whitespace().filter_map(|p| Some(p.split_once('=')?.1.to_owned())));
            } else if property.ends_with(".pem") {
                secrets.extend(value.lines().filter(|l| !l.starts_with("-----")).map(|l| l.trim().to_owned()));
            }
        }
        secrets.retain(|s| !s.trim().is_empty());
        secrets.sort_by_key(|s| std::cmp::Reverse(s.len()));
        secrets.dedup();
        Self { secrets }
    }

    pub(super) fn apply(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), "[redacted]") } else { text }
        })
    }
}

fn is_secret(property: &str) -> bool {
    const PARTS: [&str; 6] = ["password", "secret", "passphrase", "private.key", "ssl.key.pem", "oauthbearer.config"];
    PARTS.iter().any(|part| property.contains(part)) && !property.ends_with(".location") && !property.ends_with(".file")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn properties(pairs: &[(&str, &str)]) -> Properties {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn last<'a>(all: &'a [(String, String)], name: &str) -> Option<&'a str> {
        all.iter().rev().find(|(k, _)| k == name).map(|(_, v)| v.as_str())
    }

    #[test]
    fn the_lists_are_in_order_because_they_are_searched_by_halves() {
        for list in [GROUP, FETCH] {
            assert!(list.is_sorted());
        }
    }

    #[test]
    fn each_client_gets_its_own_kind_of_properties() {
        let all = properties(&[
            ("bootstrap.servers", "b"),
            ("group.id", "g"),
            ("isolation.level", "read_committed"),
            ("linger.ms", "1"),
            ("auto.offset.reset", "latest"),
            ("fetch.wait.max.ms", "7"),
        ]);
        for role in [Role::Membership, Role::Fetch, Role::Reread, Role::Produce, Role::Admin] {
            let of = of(role, &all);
            assert_eq!(last(&of, "bootstrap.servers"), Some("b"));
            assert_eq!(last(&of, "group.id").is_some(), role == Role::Membership);
            assert_eq!(last(&of, "linger.ms"), (role == Role::Produce).then_some("1"));
        }
        assert_eq!(last(&of(Role::Fetch, &all), "auto.offset.reset"), Some("error"));
        assert_eq!(last(&of(Role::Fetch, &all), "fetch.wait.max.ms"), Some("7"));
        assert_eq!(last(&of(Role::Membership, &all), "isolation.level"), Some("read_committed"));
    }

    #[test]
    fn secrets_disappear_and_other_values_stay() {
        let redaction = Redaction::of(&properties(&[
            ("sasl.password", "hunter2"),
            ("ssl.key.pem", "-----BEGIN KEY-----\nMIIabc\nMIIdef\n-----END KEY-----"),
            ("sasl.oauthbearer.config", "principal=me scope=deep"),
            ("sasl.oauthbearer.client.secret", "hunter2-and-more"),
            ("ssl.key.password", ""),
            ("client.id", "visible"),
        ]));
        let said = redaction.apply("a hunter2, hunter2-and-more, MIIdef, principal=me scope=deep visible");
        assert_eq!(said, "a [redacted], [redacted], [redacted], [redacted] visible");
    }
}
