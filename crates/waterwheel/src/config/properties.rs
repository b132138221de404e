//! The properties that the Kafka client knows, by librdkafka's names, and which of them are not to be set by hand.
//!
//! The table is made from `CONFIGURATION.md` of librdkafka 2.12.1: names, who uses a property, and what it may be.

use super::bootstrap::check_brokers;
use super::error::ConfigError;
use super::near_miss::nearest;
use Kind::{Bool, Callback, Integer, Number, OneOf, Text};
use Side::{Both, Consumer, Producer};

/// Lets SASL go over a connection without TLS. Ours, not librdkafka's: it is taken out before the client sees it.
pub(crate) const ALLOW_PLAINTEXT_SASL: &str = "waterwheel.dangerously.allow.plaintext.sasl";

/// Which client a property is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Both,
    Consumer,
    Producer,
}

/// What a property's value may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Integer {
        min: i64,
        max: i64,
    },
    Number,
    Bool,
    OneOf(&'static [&'static str]),
    Text,
    /// Only by a function call in C.
    Callback,
}

/// A property of the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Known {
    pub(crate) name: &'static str,
    pub(crate) side: Side,
    pub(crate) kind: Kind,
}

const fn known(name: &'static str, side: Side, kind: Kind) -> Known {
    Known { name, side, kind }
}

/// The property of that name, aliases included.
pub(crate) fn find(name: &str) -> Option<&'static Known> {
    KNOWN.binary_search_by(|known| known.name.cmp(name)).ok().map(|at| &KNOWN[at])
}

/// Of two names for one property, the one that is kept (Java's where it has one).
pub(crate) fn canonical(name: &str) -> &str {
    ALIASES.iter().find(|(other, _)| *other == name).map_or(name, |(_, kept)| kept)
}

/// Checks one property by itself: known, not Waterwheel's own, no NUL, a value of its kind.
pub fn check_property(name: &str, value: &str) -> Result<(), ConfigError> {
    if name == ALLOW_PLAINTEXT_SASL {
        return check_value(name, value, Bool);
    }
    if name.contains('\0') {
        return Err(ConfigError::new(name, "the property's name holds a NUL byte"));
    }
    let Some(known) = find(name) else {
        let names = KNOWN.iter().filter(|known| refusal(known).is_none()).map(|known| known.name);
        return Err(ConfigError::unknown_property(name, nearest(name, names)));
    };
    if let Some(remedy) = refusal(known) {
        let problem = match known.kind {
            Callback => "is a call in C, not a property",
            _ => "cannot be set by hand",
        };
        return Err(ConfigError::new(name, problem).remedy(remedy));
    }
    check_value(name, value, known.kind)?;
    if canonical(name) == "bootstrap.servers" {
        return check_brokers(value).map_err(|error| error.with_key(name));
    }
    if name == "partition.assignment.strategy" {
        return check_assignors(name, value);
    }
    Ok(())
}

/// librdkafka finds an assignor that it lacks, or two that do not go together, only when a consumer is made.
fn check_assignors(name: &str, value: &str) -> Result<(), ConfigError> {
    let assignors: Vec<&str> = value.split(',').map(str::trim).filter(|assignor| !assignor.is_empty()).collect();
    let is_known = |assignor: &&str| ["range", "roundrobin", "cooperative-sticky"].contains(assignor);
    if assignors.is_empty() || !assignors.iter().all(is_known) {
        let remedy = "write range, roundrobin or cooperative-sticky";
        return Err(ConfigError::new(name, "names an assignor that this client has not").remedy(remedy));
    }
    let cooperative = assignors.iter().filter(|assignor| **assignor == "cooperative-sticky").count();
    if cooperative > 0 && cooperative < assignors.len() {
        let remedy = "a group goes from one kind to the other when all its members have stopped";
        return Err(ConfigError::new(name, "cooperative-sticky goes with no other assignor").remedy(remedy));
    }
    Ok(())
}

/// Why a known property may not be set by hand, as advice.
fn refusal(known: &Known) -> Option<&'static str> {
    if matches!(known.kind, Callback) {
        return Some("leave it out");
    }
    REFUSED.iter().find(|(name, _)| *name == known.name).map(|(_, remedy)| *remedy)
}

fn check_value(name: &str, value: &str, kind: Kind) -> Result<(), ConfigError> {
    let refuse = |problem: &str, remedy: String| Err(ConfigError::new(name, problem).remedy(remedy));
    if value.contains('\0') {
        return refuse("the value holds a NUL byte", "take it out".into());
    }
    let value = value.trim();
    // librdkafka's one integer that has a word too.
    let all_acks = matches!(name, "acks" | "request.required.acks") && value == "all";
    match kind {
        Integer { min, max } if !all_acks => match value.parse::<i64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(()),
            Ok(_) => refuse("out of range", format!("from {min} to {max}")),
            Err(_) => refuse("not a whole number", format!("from {min} to {max}")),
        },
        Number if !value.parse::<f64>().is_ok_and(|number| (0.0..=900_000.0).contains(&number)) => {
            refuse("not a number in range", "from 0 to 900000".into())
        }
        Bool if !is_bool(value) => refuse("neither true nor false", "write true or false".into()),
        OneOf(words) if !words.iter().any(|word| word.eq_ignore_ascii_case(value)) => {
            refuse("not a value it can have", format!("one of {}", words.join(", ")))
        }
        _ => Ok(()),
    }
}

fn is_bool(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}

/// A checked value as librdkafka spells it: Java writes `SASL_SSL`, librdkafka `sasl_ssl`.
pub(crate) fn normal_value(name: &str, value: &str) -> String {
    match find(name).map(|known| known.kind) {
        Some(OneOf(words)) => match words.iter().find(|word| word.eq_ignore_ascii_case(value.trim())) {
            Some(word) => (*word).to_owned(),
            None => value.to_owned(),
        },
        Some(Bool) => value.trim().to_ascii_lowercase(),
        Some(Integer { .. } | Number) => value.trim().to_owned(),
        _ => value.to_owned(),
    }
}

/// Whether a property's value may be shown. All others are printed as `[redacted]`: what is not known to be harmless
/// is taken for a secret.
pub(crate) fn is_printable(name: &str) -> bool {
    const HARMLESS_TEXT: [&str; 5] =
        ["bootstrap.servers", "metadata.broker.list", "client.id", "client.rack", "partition.assignment.strategy"];
    match find(name) {
        Some(known) => !matches!(known.kind, Text | Callback) || HARMLESS_TEXT.contains(&known.name),
        None => name == ALLOW_PLAINTEXT_SASL,
    }
}

/// Properties that Waterwheel sets itself or that are not safe to take from a file, with what to do instead.
const REFUSED: [(&str, &str); 26] = [
    ("auto.commit.enable", "Waterwheel commits what is finished: see commit_every"),
    ("auto.commit.interval.ms", "Waterwheel commits what is finished: see commit_every"),
    ("auto.offset.reset", "say where to begin with `start`"),
    ("builtin.features", "leave it out"),
    ("consume.callback.max.messages", "leave it out"),
    ("delivery.report.only.error", "a send is finished only when the broker has acknowledged it: leave it out"),
    ("enable.auto.commit", "it would commit records that are not finished; see commit_every"),
    ("enable.auto.offset.store", "it would commit records that are not finished: leave it out"),
    ("enable.partition.eof", "leave it out; a history tells when it has caught up"),
    ("enabled_events", "leave it out"),
    ("enable.random.seed", "leave it out"),
    ("enable.sasl.oauthbearer.unsecure.jwt", "unsigned tokens prove nothing: use sasl.oauthbearer.method=oidc"),
    ("group.id", "name the group of each worker instead"),
    ("group.protocol.type", "leave it out"),
    ("internal.termination.signal", "leave it out"),
    ("log.queue", "leave it out; the client's log goes to `tracing`"),
    ("offset.store.method", "offsets are kept by the broker: leave it out"),
    ("offset.store.path", "offsets are kept by the broker: leave it out"),
    ("offset.store.sync.interval.ms", "offsets are kept by the broker: leave it out"),
    ("plugin.library.paths", "it would load code into this process: link it in instead"),
    ("produce.offset.report", "leave it out"),
    ("sasl.kerberos.kinit.cmd", "it would run a shell command: keep the ticket fresh outside"),
    ("ssl.engine.id", "it would load code into this process: use PEM files"),
    ("ssl.engine.location", "it would load code into this process: use PEM files"),
    ("ssl.providers", "it would load code into this process: configure OpenSSL itself"),
    ("transactional.id", "a producer of transactions is given its own: Client::transactional_producer(id)"),
];

/// librdkafka's two names for one property: the other one, and the one that is kept.
const ALIASES: [(&str, &str); 11] = [
    ("compression.codec", "compression.type"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("message.send.max.retries", "retries"),
    ("message.timeout.ms", "delivery.timeout.ms"),
    ("metadata.broker.list", "bootstrap.servers"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("request.required.acks", "acks"),
    ("sasl.mechanisms", "sasl.mechanism"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
];

/// Every property of librdkafka 2.12.1, sorted by name.
#[rustfmt::skip]
pub(crate) const KNOWN: &[Known] = &[
    known("acks", Producer, Integer { min: -1, max: 1000 }),
    known("allow.auto.create.topics", Both, Bool),
    known("api.version.fallback.ms", Both, Integer { min: 0, max: 604_800_000 }),
    known("api.version.request", Both, Bool),
    known("api.version.request.timeout.ms", Both, Integer { min: 1, max: 300_000 }),
    known("auto.commit.enable", Consumer, Bool),
    known("auto.commit.interval.ms", Consumer, Integer { min: 0, max: 86_400_000 }),
    known("auto.offset.reset", Consumer, OneOf(&["smallest", "earliest", "beginning", "largest", "latest", "end", "error"])),
    known("background_event_cb", Both, Callback),
    known("batch.num.messages", Producer, Integer { min: 1, max: 1_000_000 }),
    known("batch.size", Producer, Integer { min: 1, max: 2_147_483_647 }),
    known("bootstrap.servers", Both, Text),
    known("broker.address.family", Both, OneOf(&["any", "v4", "v6"])),
    known("broker.address.ttl", Both, Integer { min: 0, max: 86_400_000 }),
    known("broker.version.fallback", Both, Text),
    known("builtin.features", Both, Text),
    known("check.crcs", Consumer, Bool),
    known("client.dns.lookup", Both, OneOf(&["use_all_dns_ips", "resolve_canonical_bootstrap_servers_only"])),
    known("client.id", Both, Text),
    known("client.rack", Both, Text),
    known("closesocket_cb", Both, Callback),
    known("compression.codec", Producer, OneOf(&["none", "gzip", "snappy", "lz4", "zstd"])),
    known("compression.level", Producer, Integer { min: -1, max: 12 }),
    known("compression.type", Producer, OneOf(&["none", "gzip", "snappy", "lz4", "zstd"])),
    known("connect_cb", Both, Callback),
    known("connections.max.idle.ms", Both, Integer { min: 0, max: 2_147_483_647 }),
    known("consume.callback.max.messages", Consumer, Integer { min: 0, max: 1_000_000 }),
    known("consume_cb", Consumer, Callback),
    known("coordinator.query.interval.ms", Consumer, Integer { min: 1, max: 3_600_000 }),
    known("debug", Both, Text),
    known("default_topic_conf", Both, Callback),
    known("delivery.report.only.error", Producer, Bool),
    known("delivery.timeout.ms", Producer, Integer { min: 0, max: 2_147_483_647 }),
    known("dr_cb", Producer, Callback),
    known("dr_msg_cb", Producer, Callback),
    known("enable.auto.commit", Consumer, Bool),
    known("enable.auto.offset.store", Consumer, Bool),
    known("enable.gapless.guarantee", Producer, Bool),
    known("enable.idempotence", Producer, Bool),
    known("enable.metrics.push", Both, Bool),
    known("enable.partition.eof", Consumer, Bool),
    known("enable.random.seed", Both, Bool),
    known("enable.sasl.oauthbearer.unsecure.jwt", Both, Bool),
    known("enable.ssl.certificate.verification", Both, Bool),
    known("enabled_events", Both, Integer { min: 0, max: 2_147_483_647 }),
    known("error_cb", Both, Callback),
    known("fetch.error.backoff.ms", Consumer, Integer { min: 0, max: 300_000 }),
    known("fetch.max.bytes", Consumer, Integer { min: 0, max: 2_147_483_135 }),
    known("fetch.message.max.bytes", Consumer, Integer { min: 1, max: 1_000_000_000 }),
    known("fetch.min.bytes", Consumer, Integer { min: 1, max: 100_000_000 }),
    known("fetch.queue.backoff.ms", Consumer, Integer { min: 0, max: 300_000 }),
    known("fetch.wait.max.ms", Consumer, Integer { min: 0, max: 300_000 }),
    known("group.id", Consumer, Text),
    known("group.instance.id", Consumer, Text),
    known("group.protocol", Consumer, OneOf(&["classic", "consumer"])),
    known("group.protocol.type", Consumer, Text),
    known("group.remote.assignor", Consumer, Text),
    known("heartbeat.interval.ms", Consumer, Integer { min: 1, max: 3_600_000 }),
    known("https.ca.location", Both, Text),
    known("https.ca.pem", Both, Text),
    known("interceptors", Both, Callback),
    known("internal.termination.signal", Both, Integer { min: 0, max: 128 }),
    known("isolation.level", Consumer, OneOf(&["read_uncommitted", "read_committed"])),
    known("linger.ms", Producer, Number),
    known("log.connection.close", Both, Bool),
    known("log.queue", Both, Bool),
    known("log.thread.name", Both, Bool),
    known("log_cb", Both, Callback),
    known("log_level", Both, Integer { min: 0, max: 7 }),
    known("max.in.flight", Both, Integer { min: 1, max: 1_000_000 }),
    known("max.in.flight.requests.per.connection", Both, Integer { min: 1, max: 1_000_000 }),
    known("max.partition.fetch.bytes", Consumer, Integer { min: 1, max: 1_000_000_000 }),
    known("max.poll.interval.ms", Consumer, Integer { min: 1, max: 86_400_000 }),
    known("message.copy.max.bytes", Both, Integer { min: 0, max: 1_000_000_000 }),
    known("message.max.bytes", Both, Integer { min: 1000, max: 1_000_000_000 }),
    known("message.send.max.retries", Producer, Integer { min: 0, max: 2_147_483_647 }),
    known("message.timeout.ms", Producer, Integer { min: 0, max: 2_147_483_647 }),
    known("metadata.broker.list", Both, Text),
    known("metadata.max.age.ms", Both, Integer { min: 1, max: 86_400_000 }),
    known("metadata.recovery.rebootstrap.trigger.ms", Both, Integer { min: 0, max: 2_147_483_647 }),
    known("metadata.recovery.strategy", Both, OneOf(&["none", "rebootstrap"])),
    known("msg_order_cmp", Producer, Callback),
    known("oauthbearer_token_refresh_cb", Both, Callback),
    known("offset.store.method", Consumer, OneOf(&["none", "file", "broker"])),
    known("offset.store.path", Consumer, Text),
    known("offset.store.sync.interval.ms", Consumer, Integer { min: -1, max: 86_400_000 }),
    known("offset_commit_cb", Consumer, Callback),
    known("opaque", Both, Callback),
    known("open_cb", Both, Callback),
    known("partition.assignment.strategy", Consumer, Text),
    known("partitioner", Producer, Text),
    known("partitioner_cb", Producer, Callback),
    known("plugin.library.paths", Both, Text),
    known("produce.offset.report", Producer, Bool),
    known("queue.buffering.backpressure.threshold", Producer, Integer { min: 1, max: 1_000_000 }),
    known("queue.buffering.max.kbytes", Producer, Integer { min: 1, max: 2_147_483_647 }),
    known("queue.buffering.max.messages", Producer, Integer { min: 0, max: 2_147_483_647 }),
    known("queue.buffering.max.ms", Producer, Number),
    known("queued.max.messages.kbytes", Consumer, Integer { min: 1, max: 2_097_151 }),
    known("queued.min.messages", Consumer, Integer { min: 1, max: 10_000_000 }),
    known("queuing.strategy", Producer, OneOf(&["fifo", "lifo"])),
    known("rebalance_cb", Consumer, Callback),
    known("receive.message.max.bytes", Both, Integer { min: 1000, max: 2_147_483_647 }),
    known("reconnect.backoff.jitter.ms", Both, Integer { min: 0, max: 3_600_000 }),
    known("reconnect.backoff.max.ms", Both, Integer { min: 0, max: 3_600_000 }),
    known("reconnect.backoff.ms", Both, Integer { min: 0, max: 3_600_000 }),
    known("request.required.acks", Producer, Integer { min: -1, max: 1000 }),
    known("request.timeout.ms", Producer, Integer { min: 1, max: 900_000 }),
    known("resolve_cb", Both, Callback),
    known("retries", Producer, Integer { min: 0, max: 2_147_483_647 }),
    known("retry.backoff.max.ms", Both, Integer { min: 1, max: 300_000 }),
    known("retry.backoff.ms", Both, Integer { min: 1, max: 300_000 }),
    known("sasl.kerberos.keytab", Both, Text),
    known("sasl.kerberos.kinit.cmd", Both, Text),
    known("sasl.kerberos.min.time.before.relogin", Both, Integer { min: 0, max: 86_400_000 }),
    known("sasl.kerberos.principal", Both, Text),
    known("sasl.kerberos.service.name", Both, Text),
    known("sasl.mechanism", Both, Text),
    known("sasl.mechanisms", Both, Text),
    known("sasl.oauthbearer.assertion.algorithm", Both, OneOf(&["RS256", "ES256"])),
    known("sasl.oauthbearer.assertion.claim.aud", Both, Text),
    known("sasl.oauthbearer.assertion.claim.exp.seconds", Both, Integer { min: 1, max: 2_147_483_647 }),
    known("sasl.oauthbearer.assertion.claim.iss", Both, Text),
    known("sasl.oauthbearer.assertion.claim.jti.include", Both, Bool),
    known("sasl.oauthbearer.assertion.claim.nbf.seconds", Both, Integer { min: 0, max: 2_147_483_647 }),
    known("sasl.oauthbearer.assertion.claim.sub", Both, Text),
    known("sasl.oauthbearer.assertion.file", Both, Text),
    known("sasl.oauthbearer.assertion.jwt.template.file", Both, Text),
    known("sasl.oauthbearer.assertion.private.key.file", Both, Text),
    known("sasl.oauthbearer.assertion.private.key.passphrase", Both, Text),
    known("sasl.oauthbearer.assertion.private.key.pem", Both, Text),
    known("sasl.oauthbearer.client.credentials.client.id", Both, Text),
    known("sasl.oauthbearer.client.credentials.client.secret", Both, Text),
    known("sasl.oauthbearer.client.id", Both, Text),
    known("sasl.oauthbearer.client.secret", Both, Text),
    known("sasl.oauthbearer.config", Both, Text),
    known("sasl.oauthbearer.extensions", Both, Text),
    known("sasl.oauthbearer.grant.type", Both, OneOf(&["client_credentials", "urn:ietf:params:oauth:grant-type:jwt-bearer"])),
    known("sasl.oauthbearer.metadata.authentication.type", Both, OneOf(&["none", "azure_imds"])),
    known("sasl.oauthbearer.method", Both, OneOf(&["default", "oidc"])),
    known("sasl.oauthbearer.scope", Both, Text),
    known("sasl.oauthbearer.token.endpoint.url", Both, Text),
    known("sasl.password", Both, Text),
    known("sasl.username", Both, Text),
    known("security.protocol", Both, OneOf(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"])),
    known("session.timeout.ms", Consumer, Integer { min: 1, max: 3_600_000 }),
    known("socket.blocking.max.ms", Both, Integer { min: 1, max: 60_000 }),
    known("socket.connection.setup.timeout.ms", Both, Integer { min: 1000, max: 2_147_483_647 }),
    known("socket.keepalive.enable", Both, Bool),
    known("socket.max.fails", Both, Integer { min: 0, max: 1_000_000 }),
    known("socket.nagle.disable", Both, Bool),
    known("socket.receive.buffer.bytes", Both, Integer { min: 0, max: 100_000_000 }),
    known("socket.send.buffer.bytes", Both, Integer { min: 0, max: 100_000_000 }),
    known("socket.timeout.ms", Both, Integer { min: 10, max: 300_000 }),
    known("socket_cb", Both, Callback),
    known("ssl.ca.certificate.stores", Both, Text),
    known("ssl.ca.location", Both, Text),
    known("ssl.ca.pem", Both, Text),
    known("ssl.certificate.location", Both, Text),
    known("ssl.certificate.pem", Both, Text),
    known("ssl.certificate.verify_cb", Both, Callback),
    known("ssl.cipher.suites", Both, Text),
    known("ssl.crl.location", Both, Text),
    known("ssl.curves.list", Both, Text),
    known("ssl.endpoint.identification.algorithm", Both, OneOf(&["none", "https"])),
    known("ssl.engine.id", Both, Text),
    known("ssl.engine.location", Both, Text),
    known("ssl.key.location", Both, Text),
    known("ssl.key.password", Both, Text),
    known("ssl.key.pem", Both, Text),
    known("ssl.keystore.location", Both, Text),
    known("ssl.keystore.password", Both, Text),
    known("ssl.providers", Both, Text),
    known("ssl.sigalgs.list", Both, Text),
    known("ssl_ca", Both, Callback),
    known("ssl_certificate", Both, Callback),
    known("ssl_engine_callback_data", Both, Callback),
    known("ssl_key", Both, Callback),
    known("statistics.interval.ms", Both, Integer { min: 0, max: 86_400_000 }),
    known("stats_cb", Both, Callback),
    known("sticky.partitioning.linger.ms", Producer, Integer { min: 0, max: 900_000 }),
    known("throttle_cb", Both, Callback),
    known("topic.blacklist", Both, Text),
    known("topic.metadata.propagation.max.ms", Both, Integer { min: 0, max: 3_600_000 }),
    known("topic.metadata.refresh.fast.cnt", Both, Integer { min: 0, max: 1000 }),
    known("topic.metadata.refresh.fast.interval.ms", Both, Integer { min: 1, max: 60_000 }),
    known("topic.metadata.refresh.interval.ms", Both, Integer { min: -1, max: 3_600_000 }),
    known("topic.metadata.refresh.sparse", Both, Bool),
    known("transaction.timeout.ms", Producer, Integer { min: 1000, max: 2_147_483_647 }),
    known("transactional.id", Producer, Text),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_sorted_and_the_other_lists_name_only_what_is_in_it() {
        assert!(KNOWN.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert_eq!(KNOWN.len(), 190);
        for (name, _) in REFUSED {
            assert!(find(name).is_some(), "{name}");
        }
        for (other, kept) in ALIASES {
            assert!(find(other).is_some() && find(kept).is_some(), "{other}");
            assert_eq!(find(other).map(|known| known.side), find(kept).map(|known| known.side), "{other}");
        }
    }

    #[test]
    fn a_property_is_checked_by_itself() {
        let table = [
            ("bootstrap.server", "x", r#"unknown property "bootstrap.server": did you mean "bootstrap.servers"?"#),
            ("zzz", "x", r#"unknown property "zzz": properties have librdkafka's names, see its CONFIGURATION.md"#),
            (
                "enable.auto.commit",
                "true",
                "enable.auto.commit: cannot be set by hand; it would commit records that are not finished; see commit_every",
            ),
            ("group.id", "g", "group.id: cannot be set by hand; name the group of each worker instead"),
            ("rebalance_cb", "1", "rebalance_cb: is a call in C, not a property; leave it out"),
            (
                "plugin.library.paths",
                "x.so",
                "plugin.library.paths: cannot be set by hand; it would load code into this process: link it in instead",
            ),
            ("client.id", "a\0b", "client.id: the value holds a NUL byte; take it out"),
            ("fetch.wait.max.ms", "soon", "fetch.wait.max.ms: not a whole number; from 0 to 300000"),
            ("fetch.wait.max.ms", "-1", "fetch.wait.max.ms: out of range; from 0 to 300000"),
            ("check.crcs", "yes", "check.crcs: neither true nor false; write true or false"),
            ("linger.ms", "NaN", "linger.ms: not a number in range; from 0 to 900000"),
            (
                "security.protocol",
                "tls",
                "security.protocol: not a value it can have; one of plaintext, ssl, sasl_plaintext, sasl_ssl",
            ),
            (
                "partition.assignment.strategy",
                "range,sticky",
                "partition.assignment.strategy: names an assignor that this client has not; write range, roundrobin or cooperative-sticky",
            ),
            (
                "partition.assignment.strategy",
                "cooperative-sticky,range",
                "partition.assignment.strategy: cooperative-sticky goes with no other assignor; a group goes from one kind to the other when all its members have stopped",
            ),
        ];
        for (name, value, expected) in table {
            assert_eq!(check_property(name, value).unwrap_err().to_string(), expected);
        }
        for (name, value) in [
            ("acks", "all"),
            ("acks", "-1"),
            ("linger.ms", "0.5"),
            ("security.protocol", "SASL_SSL"),
            ("partition.assignment.strategy", "roundrobin, range"),
        ] {
            assert_eq!(check_property(name, value), Ok(()), "{name}");
        }
    }
}
