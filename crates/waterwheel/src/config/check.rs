//! Checks properties together: what each may be, and what goes with what.

use std::collections::BTreeMap;

use super::bootstrap::check_brokers;
use super::error::ConfigError;
use super::pem::{Holds, check_pem, check_pem_file, key_file_warning};
use super::properties::{ALLOW_PLAINTEXT_SASL, canonical, check_property};

/// librdkafka's defaults, in milliseconds.
const DEFAULT_SESSION_MS: i64 = 45_000;
const DEFAULT_HEARTBEAT_MS: i64 = 3_000;
const DEFAULT_MAX_POLL_MS: i64 = 300_000;

/// What a check found: errors forbid to connect, warnings do not.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Mistakes, in the order of the keys.
    pub errors: Vec<ConfigError>,
    /// What works but is likely not meant.
    pub warnings: Vec<ConfigError>,
}

/// Checks client properties, each by itself and all together; reads the PEM files that they name, connects to nothing.
///
/// No broker named is an error too.
pub fn check_properties(properties: &BTreeMap<String, String>) -> Findings {
    check_with_tokens(properties, TokenSupply::None)
}

/// Where tokens to log in with come from, beside the properties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TokenSupply {
    None,
    Callback,
}

/// The same for a client that may have a source of tokens.
pub(crate) fn check_with_tokens(properties: &BTreeMap<String, String>, tokens: TokenSupply) -> Findings {
    let mut found = Findings::default();
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (name, value) in properties {
        found.errors.extend(check_property(name, value).err());
        if let Some(other) = seen.insert(canonical(name), name) {
            let problem = format!("is another name for {other}, which is set too");
            found.errors.push(ConfigError::new(name, problem).remedy("set one of them"));
        }
    }
    let set = Set(properties);
    if set.text("bootstrap.servers").is_none() {
        found.errors.extend(check_brokers("").err());
    }
    if !found.errors.is_empty() {
        return found;
    }
    check_protocol(&set, &mut found);
    check_sasl(&set, tokens, &mut found);
    check_tls(&set, &mut found);
    check_group_times(&set, &mut found);
    found
}

struct Set<'a>(&'a BTreeMap<String, String>);

impl<'a> Set<'a> {
    fn text(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(other, _)| canonical(other) == name).map(|(_, value)| value.as_str())
    }

    fn word(&self, name: &str) -> Option<String> {
        self.text(name).map(|value| value.trim().to_ascii_lowercase())
    }

    fn millis(&self, name: &str, default: i64) -> i64 {
        self.text(name).and_then(|value| value.trim().parse().ok()).unwrap_or(default)
    }

    fn first_with(&self, prefix: &str) -> Option<&'a str> {
        self.0.keys().map(String::as_str).find(|name| name.starts_with(prefix))
    }

    fn protocol(&self) -> String {
        self.word("security.protocol").unwrap_or_else(|| "plaintext".to_owned())
    }
}

fn check_protocol(set: &Set<'_>, found: &mut Findings) {
    let protocol = set.protocol();
    let mut refuse = |problem: String, remedy: &str| {
        found.errors.push(ConfigError::new("security.protocol", problem).remedy(remedy));
    };
    let has_sasl = set.first_with("sasl.");
    let has_tls = set.first_with("ssl.");
    if let (Some(name), "plaintext" | "ssl") = (has_sasl, protocol.as_str()) {
        refuse(format!("is {protocol}, but {name} is set: nothing would authenticate"), "use sasl_ssl");
    } else if let (Some(name), "plaintext" | "sasl_plaintext") = (has_tls, protocol.as_str()) {
        let remedy = if protocol == "plaintext" { "use ssl" } else { "use sasl_ssl" };
        refuse(format!("is {protocol}, but {name} is set: nothing would be encrypted"), remedy);
    } else if protocol == "sasl_plaintext" {
        if set.word(ALLOW_PLAINTEXT_SASL).as_deref() == Some("true") {
            let problem = "is sasl_plaintext: password and records go over the network unencrypted";
            found.warnings.push(ConfigError::new("security.protocol", problem).remedy("use sasl_ssl"));
        } else {
            refuse(
                "is sasl_plaintext: the password would go over the network unencrypted".into(),
                "use sasl_ssl (or, at your risk, set waterwheel.dangerously.allow.plaintext.sasl=true)",
            );
        }
    }
}

fn check_sasl(set: &Set<'_>, tokens: TokenSupply, found: &mut Findings) {
    let mut refuse =
        |key: &str, problem: &str, remedy: &str| found.errors.push(ConfigError::new(key, problem).remedy(remedy));
    if tokens == TokenSupply::Callback && set.text("sasl.mechanism") != Some("OAUTHBEARER") {
        let problem = "is not OAUTHBEARER, but there is a source of tokens";
        refuse("sasl.mechanism", problem, "begin with Security::sasl_oauthbearer()");
    }
    if !set.protocol().starts_with("sasl_") {
        return;
    }
    match set.text("sasl.mechanism") {
        Some("PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512") => {
            for name in ["sasl.username", "sasl.password"] {
                if set.text(name).is_none_or(str::is_empty) {
                    refuse(name, "is not set, but the mechanism needs it", "set it");
                }
            }
        }
        // The bundled librdkafka has no HTTP client to ask for tokens with.
        Some("OAUTHBEARER") if set.word("sasl.oauthbearer.method").as_deref() == Some("oidc") => refuse(
            "sasl.oauthbearer.method",
            "is oidc, which this build cannot do: it asks no token endpoint by itself",
            "leave it out, and give tokens by ClientBuilder::oauth_token",
        ),
        Some("OAUTHBEARER") if tokens == TokenSupply::None => refuse(
            "sasl.mechanism",
            "is OAUTHBEARER, which needs tokens, and only a program can give them",
            "give them by ClientBuilder::oauth_token, or use SCRAM-SHA-512",
        ),
        Some("GSSAPI") if cfg!(not(any(feature = "gssapi", feature = "system-librdkafka"))) => refuse(
            "sasl.mechanism",
            "is GSSAPI, which this build has not",
            "build with the feature gssapi, or use SCRAM-SHA-512",
        ),
        Some("GSSAPI" | "OAUTHBEARER") => {}
        Some(_) => refuse(
            "sasl.mechanism",
            "not a value it can have",
            "one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, OAUTHBEARER, GSSAPI",
        ),
        None => refuse(
            "sasl.mechanism",
            "is not set, but security.protocol asks for SASL",
            "set PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
        ),
    }
    // An address of another scheme would let whoever writes the configuration read local files (CVE-2025-27817).
    if set.text("sasl.oauthbearer.token.endpoint.url").is_some_and(|url| !url.starts_with("https://")) {
        refuse("sasl.oauthbearer.token.endpoint.url", "is not an https address", "begin it with https://");
    }
}

fn check_tls(set: &Set<'_>, found: &mut Findings) {
    let either = [
        ("ssl.ca.location", "ssl.ca.pem", Holds::Certificate),
        ("ssl.certificate.location", "ssl.certificate.pem", Holds::Certificate),
        ("ssl.key.location", "ssl.key.pem", Holds::PrivateKey),
    ];
    for (location, pem, holds) in either {
        let (file, text) = (set.text(location), set.text(pem));
        if file.is_some() && text.is_some() {
            let problem = format!("is set, and {location} too");
            found.errors.push(ConfigError::new(pem, problem).remedy("set one of them"));
        }
        if let Some(path) = file
            && path != "probe"
        {
            let directories = location == "ssl.ca.location";
            found.errors.extend(check_pem_file(location, path, holds, directories).err());
            if holds == Holds::PrivateKey {
                found.warnings.extend(key_file_warning(location, path));
            }
        }
        if let Some(text) = text {
            found.errors.extend(check_pem(pem, text, holds).err());
        }
    }
    let cert = set.first_with("ssl.certificate.");
    let key = set.text("ssl.key.location").or(set.text("ssl.key.pem"));
    if cert.is_some() != key.is_some() {
        let (lacks, has) =
            if cert.is_some() { ("ssl.key.location", "certificate") } else { ("ssl.certificate.location", "key") };
        found.errors.push(ConfigError::new(lacks, format!("is not set, but the client's {has} is")).remedy("set both"));
    }
    if set.word("enable.ssl.certificate.verification").as_deref() == Some("false") {
        found.warnings.push(
            ConfigError::new("enable.ssl.certificate.verification", "is off: any certificate is taken")
                .remedy("name the authority with ssl.ca.location instead"),
        );
    }
    if set.word("ssl.endpoint.identification.algorithm").as_deref() == Some("none") {
        found.warnings.push(
            ConfigError::new("ssl.endpoint.identification.algorithm", "is none: a certificate of any host is taken")
                .remedy("use https"),
        );
    }
}

fn check_group_times(set: &Set<'_>, found: &mut Findings) {
    if set.word("group.protocol").as_deref() == Some("consumer") {
        for name in ["session.timeout.ms", "heartbeat.interval.ms", "partition.assignment.strategy"] {
            if set.text(name).is_some() {
                let problem = "is the broker's to say under group.protocol=consumer";
                found.errors.push(ConfigError::new(name, problem).remedy("leave it out"));
            }
        }
        return;
    }
    let session = set.millis("session.timeout.ms", DEFAULT_SESSION_MS);
    let heartbeat = set.millis("heartbeat.interval.ms", DEFAULT_HEARTBEAT_MS);
    let max_poll = set.millis("max.poll.interval.ms", DEFAULT_MAX_POLL_MS);
    if max_poll < session {
        found.errors.push(
            ConfigError::new(
                "max.poll.interval.ms",
                format!("is {max_poll}, less than session.timeout.ms ({session})"),
            )
            .remedy("make it at least as long"),
        );
    }
    if heartbeat >= session {
        let problem = format!("is {heartbeat}, not less than session.timeout.ms ({session})");
        found.errors.push(ConfigError::new("heartbeat.interval.ms", problem).remedy("use a third of it or less"));
    } else if heartbeat.saturating_mul(3) >= session {
        let problem = format!("is {heartbeat}, a third of session.timeout.ms ({session}) or more");
        found.warnings.push(
            ConfigError::new("heartbeat.interval.ms", problem)
                .remedy("two lost heartbeats would end the membership; use less"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(pairs: &[(&str, &str)]) -> Vec<String> {
        check(pairs).errors.iter().map(ToString::to_string).collect()
    }

    fn check(pairs: &[(&str, &str)]) -> Findings {
        let mut all = vec![("bootstrap.servers", "h:9092")];
        all.extend(pairs);
        check_properties(&all.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect())
    }

    #[test]
    fn properties_that_do_not_go_together_are_refused() {
        let table: [(&[(&str, &str)], &str); 13] = [
            (
                &[("security.protocol", "ssl"), ("sasl.username", "canary-u"), ("sasl.password", "canary-p")],
                "security.protocol: is ssl, but sasl.password is set: nothing would authenticate; use sasl_ssl",
            ),
            (
                &[("sasl.password", "canary-p")],
                "security.protocol: is plaintext, but sasl.password is set: nothing would authenticate; use sasl_ssl",
            ),
            (
                &[
                    ("security.protocol", "SASL_PLAINTEXT"),
                    ("sasl.mechanism", "PLAIN"),
                    ("sasl.username", "canary-u"),
                    ("sasl.password", "canary-p"),
                ],
                "security.protocol: is sasl_plaintext: the password would go over the network unencrypted; use sasl_ssl \
                 (or, at your risk, set waterwheel.dangerously.allow.plaintext.sasl=true)",
            ),
            (
                &[("ssl.ca.pem", "-----BEGIN CERTIFICATE-----")],
                "security.protocol: is plaintext, but ssl.ca.pem is set: nothing would be encrypted; use ssl",
            ),
            (
                &[("security.protocol", "sasl_ssl")],
                "sasl.mechanism: is not set, but security.protocol asks for SASL; set PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
            ),
            (
                &[("security.protocol", "sasl_ssl"), ("sasl.mechanism", "PLAIN"), ("sasl.username", "canary-u")],
                "sasl.password: is not set, but the mechanism needs it; set it",
            ),
            (
                &[("security.protocol", "ssl"), ("ssl.ca.pem", "canary")],
                "ssl.ca.pem: the PEM holds no certificate; it begins with -----BEGIN CERTIFICATE-----",
            ),
            (
                &[("security.protocol", "ssl"), ("ssl.ca.location", "/no/ca.pem")],
                "ssl.ca.location: /no/ca.pem: no such file; name a PEM file (from PKCS#12: openssl pkcs12 -nodes)",
            ),
            (
                &[("security.protocol", "ssl"), ("ssl.certificate.pem", "-----BEGIN CERTIFICATE-----")],
                "ssl.key.location: is not set, but the client's certificate is; set both",
            ),
            (
                &[("max.poll.interval.ms", "10000")],
                "max.poll.interval.ms: is 10000, less than session.timeout.ms (45000); make it at least as long",
            ),
            (
                &[("heartbeat.interval.ms", "45000")],
                "heartbeat.interval.ms: is 45000, not less than session.timeout.ms (45000); use a third of it or less",
            ),
            (
                &[("group.protocol", "consumer"), ("session.timeout.ms", "10000")],
                "session.timeout.ms: is the broker's to say under group.protocol=consumer; leave it out",
            ),
            (
                &[("metadata.broker.list", "x:1")],
                "metadata.broker.list: is another name for bootstrap.servers, which is set too; set one of them",
            ),
        ];
        for (pairs, expected) in table {
            assert_eq!(errors(pairs), [expected]);
        }
    }

    #[test]
    fn what_is_allowed_but_risky_warns() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("key.pem");
        std::fs::write(&key, "-----BEGIN PRIVATE KEY-----").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o666)).unwrap();
        }
        let key = key.to_str().unwrap();
        let table: [(&[(&str, &str)], String); 3] = [
            (
                &[("heartbeat.interval.ms", "15000")],
                "heartbeat.interval.ms: is 15000, a third of session.timeout.ms (45000) or more; two lost heartbeats \
                 would end the membership; use less"
                    .into(),
            ),
            (
                &[
                    ("security.protocol", "ssl"),
                    ("ssl.key.location", key),
                    ("ssl.certificate.pem", "-----BEGIN CERTIFICATE-----"),
                ],
                format!("ssl.key.location: {key} has mode 0666: everyone can use the key; chmod 600 the file"),
            ),
            (
                &[("security.protocol", "ssl"), ("enable.ssl.certificate.verification", "False")],
                "enable.ssl.certificate.verification: is off: any certificate is taken; name the authority with \
                 ssl.ca.location instead"
                    .into(),
            ),
        ];
        for (pairs, expected) in table {
            let found = check(pairs);
            assert_eq!(found.errors, []);
            assert_eq!(found.warnings.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
        }
    }

    #[test]
    fn no_value_gets_into_an_error() {
        for known in super::super::properties::KNOWN {
            for value in ["canary-5ecret", "user:canary-5ecret@h:1"] {
                let found = check(&[(known.name, value)]);
                assert!(!format!("{found:?}").contains("canary-5ecret") || is_a_path(known.name), "{}", known.name);
            }
        }
    }

    /// A path is named in the error: which file is missing is what the reader needs.
    fn is_a_path(name: &str) -> bool {
        matches!(name, "ssl.ca.location" | "ssl.certificate.location" | "ssl.key.location")
    }
}
