//! How a schema registry is reached: `[registry]` of a file, or the environment.

use std::path::PathBuf;
use std::time::Duration;

use waterwheel::config::{ConfigError, Secret};
use waterwheel::registry::Registry;

/// What is said of a registry.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegistrySettings {
    /// Several of one registry are parted by commas.
    pub(crate) url: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) token: Option<Secret>,
    /// Authorities beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) client_cert: Option<PathBuf>,
    pub(crate) client_key: Option<PathBuf>,
    /// Of one request; default 5 s.
    pub(crate) timeout: Option<Duration>,
    pub(crate) plaintext_auth: bool,
}

impl RegistrySettings {
    /// What the variables `WATERWHEEL_REGISTRY…` say.
    pub(crate) fn from_env() -> Result<Self, ConfigError> {
        let text = |name: &str| match std::env::var(name) {
            Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Err(std::env::VarError::NotPresent) => Ok(None),
            Err(std::env::VarError::NotUnicode(_)) => Err(ConfigError::new(name, "is not UTF-8")),
        };
        Ok(Self {
            url: text("WATERWHEEL_REGISTRY")?,
            user: text("WATERWHEEL_REGISTRY_USER")?,
            password: text("WATERWHEEL_REGISTRY_PASSWORD")?.map(Secret::new),
            token: text("WATERWHEEL_REGISTRY_TOKEN")?.map(Secret::new),
            ca_file: text("WATERWHEEL_REGISTRY_CA")?.map(PathBuf::from),
            ..Self::default()
        })
    }

    /// Checks all, reading the PEM files; connects to nothing. Errors have the key `registry.…`.
    pub(crate) fn build(self) -> Result<Registry, ConfigError> {
        let wrong = |key: &str, problem: &str, remedy: &str| Err(ConfigError::new(key, problem).remedy(remedy));
        let Some(url) = &self.url else {
            return wrong("registry.url", "is missing", "write url = \"http://localhost:8081\"");
        };
        let mut builder = Registry::builder(url);
        builder = match (self.user, self.password, self.token) {
            (None, None, None) => builder,
            (Some(user), Some(password), None) => builder.basic_auth(&user, password),
            (None, None, Some(token)) => builder.bearer_auth(token),
            (_, _, Some(_)) => {
                return wrong("registry.token", "does not go with user and password", "give one of them");
            }
            (Some(_), None, None) => return wrong("registry.password", "is missing", "it belongs to user"),
            (None, Some(_), None) => return wrong("registry.user", "is missing", "it belongs to password"),
        };
        if let Some(ca) = self.ca_file {
            builder = builder.ca_file(ca);
        }
        builder = match (self.client_cert, self.client_key) {
            (None, None) => builder,
            (Some(certificate), Some(key)) => builder.client_cert(certificate, key),
            (Some(_), None) => return wrong("registry.client_key", "is missing", "it belongs to client_cert"),
            (None, Some(_)) => return wrong("registry.client_cert", "is missing", "it belongs to client_key"),
        };
        if let Some(timeout) = self.timeout {
            builder = builder.timeout(timeout);
        }
        if self.plaintext_auth {
            builder = builder.dangerously_allow_plaintext_auth();
        }
        builder.build()
    }
}
