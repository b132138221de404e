//! A first look at PEM: whether it holds what it should. Whether a key matches its certificate is left to OpenSSL.

use std::path::Path;

use super::error::ConfigError;
use super::text_file::read_text_file;

const MAX_PEM_BYTES: u64 = 4 * 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Certificate,
    PrivateKey,
}

/// Refuses a text without a block of that kind.
pub(super) fn check_pem(key: &str, pem: &str, holds: Holds) -> Result<(), ConfigError> {
    let labels = pem.lines().filter_map(|line| line.trim().strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
    // Librdkafka also takes the PEM in one line, as Java's files have it.
    let has = |word: &str| labels.clone().any(|label| label.contains(word)) || pem.contains(&format!("{word}-----"));
    let (found, problem, remedy) = match holds {
        Holds::Certificate => (has("CERTIFICATE"), "the PEM holds no certificate", "-----BEGIN CERTIFICATE-----"),
        Holds::PrivateKey => (has("PRIVATE KEY"), "the PEM holds no private key", "-----BEGIN PRIVATE KEY-----"),
    };
    if found {
        return Ok(());
    }
    Err(ConfigError::new(key, problem).remedy(format!("it begins with {remedy}")))
}

/// The same for a file. A directory is let through where `directories` are (a folder of certificates).
pub(super) fn check_pem_file(key: &str, path: &str, holds: Holds, directories: bool) -> Result<(), ConfigError> {
    // The text in the place of the path is a slip that must not be repeated aloud: it may be the key.
    if path.contains("-----") || path.contains('\n') {
        let other = key.replace(".location", ".pem");
        return Err(ConfigError::new(key, "holds a PEM, not a path").remedy(format!("set {other} to it")));
    }
    let path = Path::new(path);
    if directories && path.is_dir() {
        return Ok(());
    }
    let shown = path.display().to_string();
    match read_text_file(path, MAX_PEM_BYTES) {
        Ok(pem) => check_pem(key, &pem, holds)
            .map_err(|error| ConfigError::new(key, format!("{}: {}", shown, error.problem())).remedy(error.hint())),
        Err(error) => Err(ConfigError::new(key, format!("{}: {}", shown, error.problem()))
            .remedy("name a PEM file (from PKCS#12: openssl pkcs12 -nodes)")),
    }
}

/// A warning if others than owner and group may read or write the file.
#[cfg(unix)]
pub(super) fn key_file_warning(key: &str, path: &str) -> Option<ConfigError> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & 0o006 != 0).then(|| {
        ConfigError::new(key, format!("{path} has mode {mode:04o}: everyone can use the key"))
            .remedy("chmod 600 the file")
    })
}

#[cfg(not(unix))]
pub(super) fn key_file_warning(_key: &str, _path: &str) -> Option<ConfigError> {
    None
}
