//! Configuration: everything is checked before the first connection (I12).
//!
//! Properties have librdkafka's names. An unknown one is an error with the nearest known name; one that Waterwheel sets
//! itself is refused with what to do instead. An error names the key and the likely remedy, never a value that could be
//! a secret.

mod bootstrap;
mod check;
mod env;
mod error;
mod java;
pub(crate) mod names;
mod near_miss;
mod pattern;
mod pem;
mod properties;
mod quantity;
mod secret;
mod security;
mod text_file;

pub use bootstrap::check_brokers;
pub use check::{Findings, check_properties};
pub(crate) use check::{TokenSupply, check_with_tokens};
pub use env::properties_from_env;
pub use error::ConfigError;
pub use java::properties_from_file;
pub use names::{
    MAX_TOPIC_BYTES, check_dead_letter, check_group, check_topic, check_topic_or_pattern, dead_letter_topic, find_cycle,
};
pub use near_miss::nearest;
pub use properties::check_property;
pub use quantity::{parse_duration, parse_size};
pub use secret::Secret;
pub use security::Security;
pub use text_file::read_text_file;

pub(crate) use properties::{ALLOW_PLAINTEXT_SASL, Side, canonical, find, is_printable, normal_value};

use std::collections::BTreeMap;
use std::fmt;

/// Puts `upper` over `lower`: where both set a property, also by two names for one, `upper`'s value is kept.
pub fn overlay(lower: BTreeMap<String, String>, upper: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut merged: BTreeMap<String, String> =
        lower.into_iter().map(|(name, value)| (canonical(&name).to_owned(), value)).collect();
    merged.extend(upper.into_iter().map(|(name, value)| (canonical(&name).to_owned(), value)));
    merged
}

/// Checks a property and adds it, under librdkafka's name and in its spelling; one that is there already is a mistake.
pub(crate) fn add_property(to: &mut BTreeMap<String, String>, name: &str, value: &str) -> Result<(), ConfigError> {
    check_property(name, value)?;
    match to.insert(canonical(name).to_owned(), normal_value(name, value)) {
        None => Ok(()),
        Some(_) => Err(ConfigError::new(name, "is set twice").remedy("set it once")),
    }
}

/// Prints properties with every value redacted that is not known to be harmless.
pub struct Shown<'a>(pub &'a BTreeMap<String, String>);

impl fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |name: &str, value: &str| -> String {
            // An address may carry a user and password before an @.
            if is_printable(name) && !value.contains('@') { value.to_owned() } else { "[redacted]".to_owned() }
        };
        f.debug_map().entries(self.0.iter().map(|(name, value)| (name, shown(name, value)))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn layers_are_put_over_each_other_whatever_a_property_is_called() {
        let file = map(&[("metadata.broker.list", "file:1"), ("acks", "1")]);
        let flags = map(&[("bootstrap.servers", "flag:1")]);
        assert_eq!(overlay(file, flags), map(&[("acks", "1"), ("bootstrap.servers", "flag:1")]));
    }
}
