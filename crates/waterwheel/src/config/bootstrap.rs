//! The list of brokers to begin with: `host:port`, separated by commas.

use std::net::Ipv6Addr;

use super::error::ConfigError;

const KEY: &str = "bootstrap.servers";
const EXAMPLE: &str = "write host:port, as \"localhost:9092\"";

/// Checks a list of brokers without resolving a name.
pub fn check_brokers(list: &str) -> Result<(), ConfigError> {
    if list.contains('\0') {
        return Err(ConfigError::new(KEY, "the value holds a NUL byte").remedy("take it out"));
    }
    if list.trim().is_empty() {
        return Err(ConfigError::new(KEY, "no broker is named").remedy(EXAMPLE));
    }
    list.split(',').map(str::trim).try_for_each(check_broker)
}

fn check_broker(broker: &str) -> Result<(), ConfigError> {
    // A user and password before an @ are not to be repeated.
    let shown = broker.rsplit('@').next().unwrap_or_default().escape_debug().to_string();
    let refuse = |problem: &str, remedy: String| {
        Err(ConfigError::new(KEY, format!("broker \"{shown}\" {problem}")).remedy(remedy))
    };
    if broker.is_empty() {
        return Err(ConfigError::new(KEY, "a broker of the list is empty").remedy("take the extra comma out"));
    }
    if let Some((_, rest)) = broker.split_once("://") {
        let rest = rest.rsplit('@').next().unwrap_or_default().trim_end_matches('/');
        return refuse("is a URL", format!("write \"{}\"; TLS is chosen by security", rest.escape_debug()));
    }
    if broker.contains('@') {
        return refuse("has a user before its '@'", "user and password go into security".into());
    }
    let (host, port) = if let Some(rest) = broker.strip_prefix('[') {
        let Some((host, after)) = rest.split_once(']') else {
            return refuse("has no closing bracket", "write \"[::1]:9092\"".into());
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return refuse("has no IPv6 address in its brackets", "write \"[::1]:9092\"".into());
        }
        match after.strip_prefix(':') {
            Some(port) => ("v6", Some(port)),
            None if after.is_empty() => ("v6", None),
            None => return refuse("has something between bracket and port", "write \"[::1]:9092\"".into()),
        }
    } else {
        match broker.rsplit_once(':') {
            Some((head, _)) if head.contains(':') => {
                return refuse("is an IPv6 address without brackets", format!("write \"{}\"", bracketed(broker)));
            }
            Some((host, port)) => (host, Some(port)),
            None => (broker, None),
        }
    };
    if host.is_empty() || !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
        return refuse("has no valid host name", EXAMPLE.into());
    }
    match port {
        Some(port) if !port.bytes().all(|b| b.is_ascii_digit()) || !port.parse::<u16>().is_ok_and(|p| p > 0) => {
            refuse("has no valid port", "a port is a number from 1 to 65535".into())
        }
        _ => Ok(()),
    }
}

fn bracketed(broker: &str) -> String {
    match broker.rsplit_once(':') {
        Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() && port.len() >= 4 => format!("[{host}]:{port}"),
        _ => format!("[{}]:9092", broker.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_accepted_or_refused_with_advice() {
        for list in ["localhost", "a:1,b:65535", "[::1]:9092", "kafka_1.example-x.org:9092 , 10.0.0.1:9"] {
            assert_eq!(check_brokers(list), Ok(()), "{list}");
        }
        let table = [
            ("", "no broker is named; write host:port, as \"localhost:9092\""),
            (" ", "no broker is named; write host:port, as \"localhost:9092\""),
            ("host:99999", "broker \"host:99999\" has no valid port; a port is a number from 1 to 65535"),
            ("host:-1", "broker \"host:-1\" has no valid port; a port is a number from 1 to 65535"),
            ("host:0", "broker \"host:0\" has no valid port; a port is a number from 1 to 65535"),
            ("host:", "broker \"host:\" has no valid port; a port is a number from 1 to 65535"),
            (":9092", "broker \":9092\" has no valid host name; write host:port, as \"localhost:9092\""),
            ("a b:9092", "broker \"a b:9092\" has no valid host name; write host:port, as \"localhost:9092\""),
            ("::1:9092", "broker \"::1:9092\" is an IPv6 address without brackets; write \"[::1]:9092\""),
            ("fe80::1", "broker \"fe80::1\" is an IPv6 address without brackets; write \"[fe80::1]:9092\""),
            ("http://h:9092", "broker \"http://h:9092\" is a URL; write \"h:9092\"; TLS is chosen by security"),
            ("sasl://u:canary@h:9092/", "broker \"h:9092/\" is a URL; write \"h:9092\"; TLS is chosen by security"),
            ("u:canary@h:9092", "broker \"h:9092\" has a user before its '@'; user and password go into security"),
            ("a:1,,b:2", "a broker of the list is empty; take the extra comma out"),
            ("[::1:9092", "broker \"[::1:9092\" has no closing bracket; write \"[::1]:9092\""),
            ("h\0:1", "the value holds a NUL byte; take it out"),
        ];
        for (list, expected) in table {
            assert_eq!(check_brokers(list).unwrap_err().to_string(), format!("bootstrap.servers: {expected}"));
        }
    }
}
