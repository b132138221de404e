//! Encryption and authentication as typed settings.
//!
//! TLS always checks the broker's certificate and host name, and a password goes over TLS only, unless a setting whose
//! name begins with `dangerously` says otherwise.

use std::fmt;
use std::path::PathBuf;

use super::error::ConfigError;
use super::properties::ALLOW_PLAINTEXT_SASL;
use super::secret::Secret;

/// How connections to the brokers are protected.
///
/// ```
/// use waterwheel::config::{Secret, Security};
/// # fn main() -> Result<(), waterwheel::config::ConfigError> {
/// # if false {
/// let security = Security::sasl_scram_sha_512("billing", Secret::from_file("/run/secrets/kafka")?)
///     .ca_file("/etc/kafka/ca.pem");
/// # }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Security {
    tls: bool,
    sasl: Option<Sasl>,
    plaintext_sasl: bool,
    no_hostname_check: bool,
    no_verification: bool,
    ca: Option<Material>,
    client_cert: Option<(Material, Material)>,
    key_password: Option<Secret>,
}

#[derive(Clone)]
struct Sasl {
    mechanism: &'static str,
    /// User and password, where the mechanism has them.
    login: Option<(String, Secret)>,
}

#[derive(Clone)]
enum Material {
    File(PathBuf),
    Pem(Secret),
}

impl Security {
    fn new(tls: bool, sasl: Option<Sasl>) -> Self {
        Self {
            tls,
            sasl,
            plaintext_sasl: false,
            no_hostname_check: false,
            no_verification: false,
            ca: None,
            client_cert: None,
            key_password: None,
        }
    }

    /// No encryption and no authentication; what a client has when nothing is said.
    pub fn plaintext() -> Self {
        Self::new(false, None)
    }

    /// TLS; the broker's certificate is checked against the system's authorities (or [`ca_file`](Self::ca_file)), and
    /// its host name too.
    pub fn tls() -> Self {
        Self::new(true, None)
    }

    /// User and password (SASL PLAIN), over TLS.
    pub fn sasl_plain(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::sasl("PLAIN", user.into(), password.into())
    }

    /// User and password, proved without sending it (SASL SCRAM-SHA-256), over TLS.
    pub fn sasl_scram_sha_256(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::sasl("SCRAM-SHA-256", user.into(), password.into())
    }

    /// User and password, proved without sending it (SASL SCRAM-SHA-512), over TLS.
    pub fn sasl_scram_sha_512(user: impl Into<String>, password: impl Into<Secret>) -> Self {
        Self::sasl("SCRAM-SHA-512", user.into(), password.into())
    }

    /// Tokens (SASL OAUTHBEARER), over TLS, which [`ClientBuilder::oauth_token`](crate::ClientBuilder::oauth_token) gives.
    pub fn sasl_oauthbearer() -> Self {
        Self::new(true, Some(Sasl { mechanism: "OAUTHBEARER", login: None }))
    }

    fn sasl(mechanism: &'static str, user: String, password: Secret) -> Self {
        Self::new(true, Some(Sasl { mechanism, login: Some((user, password)) }))
    }

    /// The authorities that may have signed the broker's certificate: a PEM file, or a folder of them. By default the
    /// system's.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(Material::File(path.into()));
        self
    }

    /// The same as PEM text.
    #[must_use]
    pub fn ca_pem(mut self, pem: impl Into<String>) -> Self {
        self.ca = Some(Material::Pem(Secret::new(pem)));
        self
    }

    /// This client's certificate and private key as PEM files (mutual TLS).
    #[must_use]
    pub fn client_cert_file(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.client_cert = Some((Material::File(cert.into()), Material::File(key.into())));
        self
    }

    /// The same as PEM texts.
    #[must_use]
    pub fn client_cert_pem(mut self, cert: impl Into<String>, key: impl Into<Secret>) -> Self {
        self.client_cert = Some((Material::Pem(Secret::new(cert)), Material::Pem(key.into())));
        self
    }

    /// The password of the private key, if it has one.
    #[must_use]
    pub fn key_password(mut self, password: impl Into<Secret>) -> Self {
        self.key_password = Some(password.into());
        self
    }

    /// Authenticates **without** encryption: everyone on the way reads a PLAIN password, and all records.
    #[must_use]
    pub fn dangerously_allow_plaintext_sasl(mut self) -> Self {
        self.plaintext_sasl = true;
        self.tls = false;
        self
    }

    /// Takes a certificate of any host that an authority has signed.
    #[must_use]
    pub fn dangerously_disable_hostname_check(mut self) -> Self {
        self.no_hostname_check = true;
        self
    }

    /// Takes any certificate: whoever is on the way can read and change everything.
    #[must_use]
    pub fn dangerously_disable_verification(mut self) -> Self {
        self.no_verification = true;
        self
    }

    /// The same in librdkafka's names.
    pub(crate) fn properties(&self) -> Result<Vec<(&'static str, String)>, ConfigError> {
        let mut properties = Vec::new();
        let protocol = match (&self.sasl, self.tls) {
            (None, false) => "plaintext",
            (None, true) => "ssl",
            (Some(_), false) => "sasl_plaintext",
            (Some(_), true) => "sasl_ssl",
        };
        properties.push(("security.protocol", protocol.to_owned()));
        if let Some(Sasl { mechanism, login }) = &self.sasl {
            properties.push(("sasl.mechanism", (*mechanism).to_owned()));
            if let Some((user, password)) = login {
                properties.push(("sasl.username", user.clone()));
                properties.push(("sasl.password", password.expose().to_owned()));
            }
        }
        if self.plaintext_sasl {
            if self.sasl.is_none() {
                return Err(ConfigError::new("security", "plaintext SASL is allowed, but there is no SASL")
                    .remedy("begin with Security::sasl_scram_sha_512(user, password)"));
            }
            properties.push((ALLOW_PLAINTEXT_SASL, "true".to_owned()));
        }
        if let Some(ca) = &self.ca {
            ca.push("ssl.ca.location", "ssl.ca.pem", &mut properties)?;
        }
        if let Some((cert, key)) = &self.client_cert {
            cert.push("ssl.certificate.location", "ssl.certificate.pem", &mut properties)?;
            key.push("ssl.key.location", "ssl.key.pem", &mut properties)?;
        }
        if let Some(password) = &self.key_password {
            properties.push(("ssl.key.password", password.expose().to_owned()));
        }
        if self.no_hostname_check {
            properties.push(("ssl.endpoint.identification.algorithm", "none".to_owned()));
        }
        if self.no_verification {
            properties.push(("enable.ssl.certificate.verification", "false".to_owned()));
        }
        Ok(properties)
    }
}

impl Material {
    fn push(
        &self,
        location: &'static str,
        pem: &'static str,
        properties: &mut Vec<(&'static str, String)>,
    ) -> Result<(), ConfigError> {
        properties.push(match self {
            Material::Pem(text) => (pem, text.expose().to_owned()),
            Material::File(path) => match path.to_str() {
                Some(path) => (location, path.to_owned()),
                None => return Err(ConfigError::new(location, "the path is not UTF-8").remedy("rename the file")),
            },
        });
        Ok(())
    }
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security")
            .field("tls", &self.tls)
            .field("sasl", &self.sasl.as_ref().map(|sasl| sasl.mechanism))
            .field("client_cert", &self.client_cert.is_some())
            .field("hostname_check", &!self.no_hostname_check)
            .field("verification", &!self.no_verification)
            .finish_non_exhaustive()
    }
}
