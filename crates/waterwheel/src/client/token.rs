//! Tokens to log in with (SASL OAUTHBEARER).

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::Secret;

/// A token to log in with, as a [`ClientBuilder::oauth_token`](crate::ClientBuilder::oauth_token) gives it.
#[derive(Clone)]
pub struct OAuthToken {
    pub(crate) value: Secret,
    pub(crate) principal: String,
    pub(crate) expires_at: SystemTime,
    pub(crate) extensions: Vec<(String, Secret)>,
}

impl OAuthToken {
    /// A token (RFC 6750), whom it names, and until when it holds. A new one is asked for after four fifths of what is left.
    pub fn new(value: impl Into<Secret>, principal: impl Into<String>, expires_at: SystemTime) -> Self {
        Self { value: value.into(), principal: principal.into(), expires_at, extensions: Vec::new() }
    }

    /// A SASL extension (RFC 7628) that goes with it, as `logicalCluster`.
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<Secret>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }
}

/// Without the token.
impl fmt::Debug for OAuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, expires_at, .. } = self;
        f.debug_struct("OAuthToken")
            .field("principal", principal)
            .field("expires_at", expires_at)
            .finish_non_exhaustive()
    }
}

/// What a token's source ends with.
pub(crate) type TokenResult = Result<OAuthToken, Box<dyn std::error::Error + Send + Sync>>;

/// Where tokens come from.
pub(crate) type TokenSource = Arc<dyn Fn() -> Pin<Box<dyn Future<Output = TokenResult> + Send>> + Send + Sync>;
