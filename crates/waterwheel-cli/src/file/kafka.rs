//! `[kafka]`: client properties, filled in and checked with those of flags and environment above them.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};
use waterwheel::config::{ConfigError, check_properties, check_property, overlay};

use super::fields::Table;
use super::fill::{Environment, filled};

/// The properties of the file alone, and warnings about all together.
pub(super) fn read(
    root: &Table<'_>,
    upper: &BTreeMap<String, String>,
    env: &Environment<'_>,
) -> (BTreeMap<String, String>, Vec<ConfigError>) {
    let mut found = Vec::new();
    let section = root.table("kafka");
    if let Some(section) = &section {
        flatten(section.entries(), "", &mut found);
    }
    let mut properties = BTreeMap::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut sound = true;
    for (name, at, value) in found {
        if root.document().is_full() {
            break;
        }
        let checked = text_of(value)
            .and_then(|text| filled(&text, env))
            .map_err(|(problem, remedy)| ConfigError::new(&name, problem).remedy(remedy))
            .and_then(|value| check_property(&name, &value).map(|()| value));
        match checked {
            Ok(value) => {
                places.insert(name.clone(), at);
                if properties.insert(name.clone(), value).is_some() {
                    sound = false;
                    let error = ConfigError::new(prefixed(&name), "is set twice").remedy("set it once");
                    root.document().fail(at, error);
                }
            }
            Err(error) => {
                sound = false;
                root.document().fail(at, error.with_key(prefixed(&name)));
            }
        }
    }
    if !sound {
        return (properties, Vec::new());
    }
    // Two names for one property inside the file would vanish in the overlay: they are checked before it.
    let mut own = check_properties(&properties);
    own.errors.retain(|error| error.problem().starts_with("is another name"));
    let mut all = check_properties(&overlay(properties.clone(), upper.clone()));
    all.errors.extend(own.errors);
    let placed = |error: ConfigError| match places.get(error.key()) {
        Some(at) => (*at, error.clone().with_key(prefixed(error.key()))),
        None => (section.as_ref().map_or(0, Table::at), error.clone().with_key(prefixed(error.key()))),
    };
    for (at, error) in all.errors.into_iter().map(placed) {
        root.document().fail(at, error);
    }
    let warnings = all.warnings.into_iter().map(placed);
    (properties, warnings.map(|(at, warning)| root.document().place(at, warning)).collect())
}

fn prefixed(name: &str) -> String {
    format!("kafka.{name}")
}

/// `"fetch.wait.max.ms" = 50` and `fetch.wait.max.ms = 50` (which TOML takes for tables) are the same here.
fn flatten<'a>(table: &'a DeTable<'a>, prefix: &str, found: &mut Vec<(String, usize, &'a DeValue<'a>)>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => flatten(inner, &format!("{name}."), found),
            plain => found.push((name, key.span().start, plain)),
        }
    }
}

fn text_of(value: &DeValue<'_>) -> Result<String, (String, String)> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) if number.radix() == 10 => Ok(number.as_str().to_owned()),
        DeValue::Float(number) => Ok(number.as_str().to_owned()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        other => Err((format!("is of type {}", other.type_str()), "write a text, a number, true or false".into())),
    }
}
