//! `.properties` files, librdkafka's or Java's: Java's names are turned into librdkafka's, or refused with advice.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::ConfigError;
use super::properties::{canonical, check_property};
use super::text_file::read_text_file;

const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// The properties of a UTF-8 `.properties` file of at most 1 MiB, each checked by itself.
///
/// The syntax is Java's (`key=value`, `#` comments, `\` at a line's end continues it, `\\` is a backslash). Java's TLS
/// names for PEM and its `sasl.jaas.config` for PLAIN and SCRAM are understood; key stores of type JKS are refused with
/// advice; what only Java's client knows and does no harm to leave out is left out with a warning.
pub fn properties_from_file(path: impl AsRef<Path>) -> Result<BTreeMap<String, String>, ConfigError> {
    let path = path.as_ref();
    let text = read_text_file(path, MAX_FILE_BYTES)?;
    parse(text.strip_prefix('\u{feff}').unwrap_or(&text), &path.display().to_string())
}

fn parse(text: &str, file: &str) -> Result<BTreeMap<String, String>, ConfigError> {
    let entries = entries(text).map_err(|(line, problem)| ConfigError::new("", problem).at(file, line, 1))?;
    let pem = |name: &str| entries.iter().any(|e| e.name == name && e.value.trim().eq_ignore_ascii_case("PEM"));
    let types = StoreTypes {
        trust_is_pem: pem("ssl.truststore.type"),
        key_is_pem: pem("ssl.keystore.type"),
        key_is_pkcs12: entries
            .iter()
            .any(|e| e.name == "ssl.keystore.type" && e.value.trim().eq_ignore_ascii_case("PKCS12")),
    };
    let mut properties: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for Entry { line, name, value } in &entries {
        let at = |error: ConfigError| error.at(file, *line, 1);
        for (name, value) in translated(name, value, &types).map_err(at)? {
            check_property(&name, &value).map_err(at)?;
            let name = canonical(&name).to_owned();
            if let Some((first, _)) = properties.insert(name.clone(), (*line, value)) {
                let problem = format!("is set twice, first in line {first}");
                return Err(at(ConfigError::new(name, problem).remedy("keep one of the two lines")));
            }
        }
    }
    Ok(properties.into_iter().map(|(name, (_, value))| (name, value)).collect())
}

struct Entry {
    line: usize,
    name: String,
    value: String,
}

struct StoreTypes {
    trust_is_pem: bool,
    key_is_pem: bool,
    key_is_pkcs12: bool,
}

/// Java's `Properties.load`: continuation lines, comments, separators and escapes.
fn entries(text: &str) -> Result<Vec<Entry>, (usize, &'static str)> {
    let mut entries = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((index, first)) = lines.next() {
        let line = index + 1;
        let mut logical = first.trim_start().to_owned();
        if logical.is_empty() || logical.starts_with(['#', '!']) {
            continue;
        }
        while logical.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start()),
                None => break,
            }
        }
        let (name, value) = split_entry(&logical);
        let name = unescaped(name).ok_or((line, "an escape of the key is not valid"))?;
        let value = unescaped(value).ok_or((line, "an escape of the value is not valid"))?;
        entries.push(Entry { line, name, value });
    }
    Ok(entries)
}

fn split_entry(logical: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = logical
        .char_indices()
        .find(|(_, c)| {
            let ends = !escaped && (matches!(c, '=' | ':') || c.is_ascii_whitespace());
            escaped = *c == '\\' && !escaped;
            ends
        })
        .map_or(logical.len(), |(at, _)| at);
    let rest = logical[end..].trim_start();
    (&logical[..end], rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start())
}

fn unescaped(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => plain.push('\n'),
            Some('t') => plain.push('\t'),
            Some('r') => plain.push('\r'),
            Some('f') => plain.push('\u{c}'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = if digits.len() == 4 { u32::from_str_radix(&digits, 16).ok()? } else { return None };
                plain.push(char::from_u32(code)?);
            }
            Some(other) => plain.push(other),
            None => {}
        }
    }
    Some(plain)
}

/// What only Java's client knows; leaving it out changes nothing that is promised here.
const LEFT_OUT: [&str; 10] = [
    "default.api.timeout.ms",
    "key.deserializer",
    "key.serializer",
    "max.poll.records",
    "ssl.enabled.protocols",
    "ssl.keystore.type",
    "ssl.protocol",
    "ssl.truststore.type",
    "value.deserializer",
    "value.serializer",
];

fn translated(name: &str, value: &str, types: &StoreTypes) -> Result<Vec<(String, String)>, ConfigError> {
    let refuse = |problem: &str, remedy: &str| Err(ConfigError::new(name, problem).remedy(remedy));
    let one = |name: &str| Ok(vec![(name.to_owned(), value.to_owned())]);
    match name {
        "ssl.truststore.location" if types.trust_is_pem => one("ssl.ca.location"),
        "ssl.truststore.location" | "ssl.truststore.password" => refuse(
            "Java trust stores are not read",
            "export the certificates as PEM (keytool -exportcert -rfc) and name them with ssl.ca.location",
        ),
        "ssl.truststore.certificates" => one("ssl.ca.pem"),
        "ssl.keystore.certificate.chain" => one("ssl.certificate.pem"),
        "ssl.keystore.key" => one("ssl.key.pem"),
        "ssl.keystore.location" if types.key_is_pem => Ok(vec![
            ("ssl.certificate.location".to_owned(), value.to_owned()),
            ("ssl.key.location".to_owned(), value.to_owned()),
        ]),
        "ssl.keystore.location" if !types.key_is_pkcs12 && value.to_ascii_lowercase().ends_with(".jks") => {
            refuse("Java key stores are not read", "turn it into PKCS#12 (keytool -importkeystore) or PEM")
        }
        "ssl.endpoint.identification.algorithm" if value.trim().is_empty() => {
            Ok(vec![(name.to_owned(), "none".to_owned())])
        }
        "sasl.jaas.config" => jaas(value),
        "sasl.login.callback.handler.class" | "sasl.client.callback.handler.class" => {
            refuse("a Java class cannot be used", "set the sasl.oauthbearer.* properties instead")
        }
        name if LEFT_OUT.contains(&name) => {
            tracing::warn!(property = name, "only Java's client knows this property: left out");
            Ok(Vec::new())
        }
        name => one(name),
    }
}

/// `…PlainLoginModule required username="u" password="p";`, or the same of SCRAM.
fn jaas(line: &str) -> Result<Vec<(String, String)>, ConfigError> {
    let refuse = |problem: &str| {
        ConfigError::new("sasl.jaas.config", problem)
            .remedy("set sasl.mechanism, sasl.username and sasl.password instead")
    };
    let words = jaas_words(line).ok_or_else(|| refuse("a quote is not closed"))?;
    let module = words.first().map_or("", |word| word.rsplit('.').next().unwrap_or_default());
    if !matches!(module, "PlainLoginModule" | "ScramLoginModule") {
        return Err(refuse("only PlainLoginModule and ScramLoginModule are understood"));
    }
    let option =
        |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')).map(ToOwned::to_owned);
    let (Some(user), Some(password)) = (option("username"), option("password")) else {
        return Err(refuse("username or password is missing"));
    };
    Ok(vec![("sasl.username".to_owned(), user), ("sasl.password".to_owned(), password)])
}

/// Words separated by blanks up to the `;`, quotes taken off; `None` when a quote stays open.
fn jaas_words(line: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(_), '\\') => word.extend(chars.next()),
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.push(c),
            (None, '"' | '\'') => quote = Some(c),
            (None, ';') => break,
            (None, c) if c.is_whitespace() => words.push(std::mem::take(&mut word)),
            (None, c) => word.push(c),
        }
    }
    words.push(word);
    words.retain(|word| !word.is_empty());
    quote.is_none().then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<(String, String)>, String> {
        parse(text, "c.properties").map(|map| map.into_iter().collect()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_java_file_becomes_librdkafka_properties() {
        let text = "# comment\r\n! too\r\n\r\nbootstrap.servers = a:1,\\\r\n   b:2\r\nsecurity.protocol: SASL_SSL\r\n\
            sasl.mechanism SCRAM-SHA-512\r\nvalue.deserializer=x.Y\r\nssl.truststore.type=PEM\r\n\
            ssl.truststore.location=/ca.pem\r\nclient.id=caf\\u00e9\r\n\
            sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username=\"me\" password=\"p\\\\\"; x\";";
        let expected = [
            ("bootstrap.servers", "a:1,b:2"),
            ("client.id", "café"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.password", "p\"; x"),
            ("sasl.username", "me"),
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", "/ca.pem"),
        ];
        assert_eq!(read(text).unwrap(), expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_line_and_advice() {
        let table = [
            (
                "\nbootstrap.server=h",
                "c.properties:2:1: bootstrap.server: unknown property; did you mean \"bootstrap.servers\"?",
            ),
            (
                "acks=1\nrequest.required.acks=1",
                "c.properties:2:1: acks: is set twice, first in line 1; keep one of the two lines",
            ),
            ("group.id=g", "c.properties:1:1: group.id: cannot be set by hand; name the group of each worker instead"),
            (
                "ssl.truststore.location=/t.jks",
                "c.properties:1:1: ssl.truststore.location: Java trust stores are not read; export the certificates as PEM (keytool -exportcert -rfc) and name them with ssl.ca.location",
            ),
            (
                "sasl.jaas.config=com.sun.security.auth.module.JndiLoginModule required password=\"canary\";",
                "c.properties:1:1: sasl.jaas.config: only PlainLoginModule and ScramLoginModule are understood; set sasl.mechanism, sasl.username and sasl.password instead",
            ),
            (
                "sasl.jaas.config=a.PlainLoginModule required password=\"canary",
                "c.properties:1:1: sasl.jaas.config: a quote is not closed; set sasl.mechanism, sasl.username and sasl.password instead",
            ),
            ("client.id=\\u12", "c.properties:1:1: an escape of the value is not valid"),
            ("sasl.password", "no error"),
        ];
        for (text, expected) in table {
            assert_eq!(read(text).err().unwrap_or("no error".into()), expected);
        }
    }
}
