//! How a registry is reached: checked before the first connection.

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use waterwheel_core::retry::Retry;

use super::Registry;
use super::http::Http;
use crate::config::{ConfigError, Secret};

/// Settings of a [`Registry`], with their defaults.
#[derive(Clone)]
#[must_use]
pub struct RegistryBuilder {
    urls: Vec<String>,
    authorization: Option<Secret>,
    plaintext_auth: bool,
    ca: Option<PathBuf>,
    client_cert: Option<(PathBuf, PathBuf)>,
    timeout: Duration,
    retry: Retry,
    pub(super) keep_latest: Duration,
    pub(super) keep_refused: Duration,
}

impl RegistryBuilder {
    pub(super) fn new(urls: &str) -> Self {
        Self {
            urls: urls.split(',').map(|url| url.trim().trim_end_matches('/').to_owned()).collect(),
            authorization: None,
            plaintext_auth: false,
            ca: None,
            client_cert: None,
            timeout: Duration::from_secs(5),
            retry: Retry::exponential(Duration::from_millis(100), Duration::from_secs(2)).attempts(3).jitter(0.2),
            keep_latest: Duration::from_secs(60),
            keep_refused: Duration::from_secs(30),
        }
    }

    /// User and password (an API key and its secret), over TLS.
    pub fn basic_auth(mut self, user: &str, password: impl Into<Secret>) -> Self {
        let pair = format!("{user}:{}", password.into().expose());
        let pair = base64::engine::general_purpose::STANDARD.encode(pair);
        self.authorization = Some(Secret::new(format!("Basic {pair}")));
        self
    }

    /// A token (`Authorization: Bearer`), over TLS.
    pub fn bearer_auth(mut self, token: impl Into<Secret>) -> Self {
        self.authorization = Some(Secret::new(format!("Bearer {}", token.into().expose())));
        self
    }

    /// Sends credentials **without** encryption: everyone on the way reads them.
    pub fn dangerously_allow_plaintext_auth(mut self) -> Self {
        self.plaintext_auth = true;
        self
    }

    /// A PEM file of authorities that are trusted beside the system's.
    pub fn ca_file(mut self, path: impl AsRef<Path>) -> Self {
        self.ca = Some(path.as_ref().to_owned());
        self
    }

    /// A client's certificate (with its chain) and its key, as PEM files.
    pub fn client_cert(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.client_cert = Some((certificate.as_ref().to_owned(), key.as_ref().to_owned()));
        self
    }

    /// How long one request may take, its connection included. Default: 5 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What follows when the registry cannot be reached, does not answer in time, or answers 429 or 5xx. Default: three
    /// attempts, after 100 ms and 200 ms with 20 % jitter, or when the registry says so (`Retry-After`, at most 10 s). With
    /// several addresses each attempt goes to the next one.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How long the latest version of a subject counts as the latest, when records are written by it. Default: 60 s. Schemas
    /// by their ids never change and are kept for good.
    pub fn keep_latest(mut self, time: Duration) -> Self {
        self.keep_latest = time;
        self
    }

    /// How long it is believed that a schema or subject does not exist, before it is asked for again. Default: 30 s.
    pub fn keep_not_found(mut self, time: Duration) -> Self {
        self.keep_refused = time;
        self
    }

    /// Checks the settings. Connects to nothing.
    pub fn build(self) -> Result<Registry, ConfigError> {
        let key = "registry.url";
        for url in &self.urls {
            let parsed: Option<hyper::Uri> = url.parse().ok();
            let parsed = parsed.filter(|url| matches!(url.scheme_str(), Some("http" | "https")));
            let Some(host) = parsed.as_ref().and_then(hyper::Uri::authority) else {
                return Err(ConfigError::new(key, "not an address of http or https").remedy("as http://localhost:8081"));
            };
            if host.as_str().contains('@') {
                return Err(
                    ConfigError::new(key, "credentials in the address").remedy("give user and password apart from it")
                );
            }
            if parsed.as_ref().is_some_and(|url| url.query().is_some()) {
                return Err(ConfigError::new(key, "a query in the address").remedy("leave it out"));
            }
            if self.authorization.is_some() && !self.plaintext_auth && url.starts_with("http:") {
                return Err(ConfigError::new(key, "credentials would go over an unencrypted connection")
                    .remedy("use https, or dangerously_allow_plaintext_auth"));
            }
        }
        for (setting, time) in
            [("timeout", self.timeout), ("keep_latest", self.keep_latest), ("keep_not_found", self.keep_refused)]
        {
            if time.is_zero() {
                return Err(ConfigError::new(format!("registry.{setting}"), "must be more than nothing"));
            }
        }
        let mut tls = SslConnector::builder(SslMethod::tls_client()).map_err(|e| refused("registry.tls", &e))?;
        if let Some(ca) = &self.ca {
            tls.set_ca_file(ca).map_err(|e| refused("registry.ca_file", &e))?;
        }
        if let Some((certificate, private)) = &self.client_cert {
            tls.set_certificate_chain_file(certificate).map_err(|e| refused("registry.client_cert", &e))?;
            tls.set_private_key_file(private, SslFiletype::PEM).map_err(|e| refused("registry.client_key", &e))?;
            tls.check_private_key().map_err(|e| refused("registry.client_key", &e))?;
        }
        let http = Http::new(self.urls.clone(), self.authorization.as_ref(), tls, self.timeout, self.retry.clone())?;
        Ok(Registry::over(http, &self))
    }
}

fn refused(key: &str, error: &ErrorStack) -> ConfigError {
    let reason = error.errors().iter().rev().find_map(|error| error.reason()).unwrap_or("OpenSSL refuses it");
    ConfigError::new(key, reason).remedy("name a PEM file")
}
