//! Properties from the environment: `WATERWHEEL_BROKERS`, and `WATERWHEEL_X_SASL_USERNAME` for `sasl.username`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use super::error::ConfigError;
use super::properties::{canonical, check_property};

const BROKERS: &str = "WATERWHEEL_BROKERS";
const PREFIX: &str = "WATERWHEEL_X_";

/// The properties that the environment sets, each checked by itself; empty when it sets none.
pub fn properties_from_env() -> Result<BTreeMap<String, String>, ConfigError> {
    from_variables(std::env::vars_os())
}

fn from_variables(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut properties = BTreeMap::new();
    for (variable, value) in variables {
        let Some(variable) = variable.to_str().filter(|name| *name == BROKERS || name.starts_with(PREFIX)) else {
            continue;
        };
        let name = match variable.strip_prefix(PREFIX) {
            Some(rest) => rest.to_ascii_lowercase().replace('_', "."),
            None => "bootstrap.servers".to_owned(),
        };
        let Ok(value) = value.into_string() else {
            return Err(ConfigError::new(variable, "the environment variable is not UTF-8"));
        };
        check_property(&name, &value).map_err(|error| error.in_file(format!("${variable}")))?;
        if properties.insert(canonical(&name).to_owned(), value).is_some() {
            return Err(
                ConfigError::new(&name, "the environment sets it by two variables").remedy(format!("unset {variable}"))
            );
        }
    }
    Ok(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<BTreeMap<String, String>, ConfigError> {
        from_variables(pairs.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))))
    }

    #[test]
    fn the_environment_sets_properties() {
        let read_ok = read(&[("HOME", "/"), ("WATERWHEEL_BROKERS", "h:1"), ("WATERWHEEL_X_SASL_USERNAME", "me")]);
        let expected = [("bootstrap.servers", "h:1"), ("sasl.username", "me")];
        assert_eq!(read_ok.unwrap(), expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let error = read(&[("WATERWHEEL_X_SASL_USERNAM", "canary")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "$WATERWHEEL_X_SASL_USERNAM: sasl.usernam: unknown property; did you mean \"sasl.username\"?"
        );
        let twice = [("WATERWHEEL_BROKERS", "h:1"), ("WATERWHEEL_X_BOOTSTRAP_SERVERS", "h:2")];
        assert_eq!(
            read(&twice).unwrap_err().to_string(),
            "bootstrap.servers: the environment sets it by two variables; unset WATERWHEEL_X_BOOTSTRAP_SERVERS"
        );
    }
}
