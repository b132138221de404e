//! `[registry]`: where the schemas of keys and values are.

use std::path::PathBuf;

use waterwheel::config::{ConfigError, Secret};
use waterwheel::registry::Registry;

use super::fields::Table;
use super::fill::{Environment, filled};
use crate::body::RegistrySettings;

const KEYS: [&str; 9] = [
    "url",
    "user",
    "password",
    "token",
    "ca_file",
    "client_cert",
    "client_key",
    "timeout",
    "dangerously_allow_plaintext_auth",
];

/// The settings, filled in; `None` where the table is not there. Every mistake of a key is noted.
pub(super) fn settings(root: &Table<'_>, env: &Environment<'_>) -> Option<RegistrySettings> {
    let table = root.table("registry")?;
    table.known(&KEYS);
    let text = |name: &str| {
        let filled = filled(&table.string(name)?, env);
        filled.map_err(|(problem, remedy)| table.fail(name, problem, remedy)).ok()
    };
    Some(RegistrySettings {
        url: text("url"),
        user: text("user"),
        password: text("password").map(Secret::new),
        token: text("token").map(Secret::new),
        ca_file: text("ca_file").map(PathBuf::from),
        client_cert: text("client_cert").map(PathBuf::from),
        client_key: text("client_key").map(PathBuf::from),
        timeout: table.duration("timeout"),
        plaintext_auth: table.truth("dangerously_allow_plaintext_auth").unwrap_or(false),
    })
}

/// The registry, checked; `None` where the table is not there, or wrong.
pub(super) fn read(root: &Table<'_>, env: &Environment<'_>) -> Option<Registry> {
    let settings = settings(root, env)?;
    if root.document().has_errors() {
        return None;
    }
    let note = |error: ConfigError| {
        let table = root.table("registry")?;
        let name = error.key().strip_prefix("registry.").unwrap_or_default().to_owned();
        table.fail_with(&name, error);
        None::<Registry>
    };
    settings.build().map_or_else(note, Some)
}
