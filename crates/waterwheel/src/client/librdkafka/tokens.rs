//! Tokens to log in with: librdkafka asks for one on a thread of its own, four fifths into the life of the last, and again ten
//! seconds after a failure.
//!
//! The caller's source runs on a short-lived thread with a runtime of its own, because the thread that asks must not wait,
//! and there may be no other runtime. All instances of a client share a token while more than half of its life is left.

use std::any::Any;
use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::bindings as sys;
use rustix::time::{ClockId, clock_gettime};

use super::errors;
use super::handle::{Handle, Log, Said, lock};
use super::list::c_string;
use crate::client::{ClientEvent, OAuthToken, TokenSource};
use crate::error::KafkaError;

/// A source is given up after as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the tokens of one client come from, and the last one.
pub(super) struct Tokens {
    source: TokenSource,
    /// With the time at which it was got. Locked while one is got, so that instances that ask together share it.
    last: Mutex<Option<(OAuthToken, Duration)>>,
}

impl Tokens {
    pub(super) fn new(source: TokenSource) -> Self {
        Self { source, last: Mutex::default() }
    }

    /// A token with more than half of its life before it.
    fn token(&self) -> Result<OAuthToken, String> {
        let mut last = lock(&self.last);
        let now = since_epoch();
        if let Some((token, got)) = &*last
            && let Some(expires) = expiry(token)
            && expires.saturating_sub(now) > expires.saturating_sub(*got) / 2
        {
            return Ok(token.clone());
        }
        let token = self.ask()?;
        *last = Some((token.clone(), now));
        Ok(token)
    }

    fn ask(&self) -> Result<OAuthToken, String> {
        let ask = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| format!("no runtime for the callback: {error}"))?;
            match runtime.block_on(async { tokio::time::timeout(PATIENCE, (self.source)()).await }) {
                Ok(Ok(token)) => Ok(token),
                // The error's text is the caller's own, and may hold what must not be told.
                Ok(Err(_)) => Err("the callback failed".to_owned()),
                Err(_) => Err(format!("the callback took longer than {PATIENCE:?}")),
            }
        };
        let panicked = |_: Box<dyn Any + Send>| Err("the callback panicked".to_owned());
        catch_unwind(AssertUnwindSafe(ask)).unwrap_or_else(panicked)
    }
}

/// Called on a thread of librdkafka's when an instance needs a token.
pub(super) unsafe extern "C" fn on_refresh(rk: *mut sys::rd_kafka_t, _config: *const c_char, log: *mut c_void) {
    // SAFETY: the opaque is the instance's `Log`, which outlives it.
    let log = unsafe { &*log.cast::<Log>() };
    let siblings = log.siblings.clone();
    // An instance that is ending needs none.
    let Some(handle) = siblings.find(rk) else { return };
    let renew = move || {
        let Some(tokens) = siblings.tokens() else { return };
        let role = handle.role();
        let renewed = tokens.token().and_then(|token| {
            siblings.add_secret(token.value.expose());
            handle.set_token(&token).map_err(|error| error.to_string())?;
            Ok(expiry(&token).unwrap_or_default().saturating_sub(since_epoch()))
        });
        siblings.say(match renewed {
            Ok(lifetime) => ClientEvent::TokenRenewed { role, lifetime },
            Err(reason) => {
                handle.set_token_failure(&reason);
                ClientEvent::TokenFailed { role, reason }
            }
        });
    };
    if let Err(error) = std::thread::Builder::new().name("waterwheel-token".into()).spawn(renew) {
        let reason = errors::no_thread(&error).to_string();
        if let Some(handle) = log.siblings.find(rk) {
            handle.set_token_failure(&reason);
        }
        log.siblings.say(ClientEvent::TokenFailed { role: log.role.public(), reason });
    }
}

impl Handle {
    fn set_token(self: &Arc<Self>, token: &OAuthToken) -> Result<(), KafkaError> {
        let (value, principal) = (c_string(token.value.expose())?, c_string(&token.principal)?);
        let texts = token.extensions.iter().flat_map(|(name, value)| [name.as_str(), value.expose()]);
        let texts: Vec<CString> = texts.map(c_string).collect::<Result<_, _>>()?;
        let mut pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let expires = expiry(token).unwrap_or_default();
        let mut said = Said::default();
        // SAFETY: the instance is live, all texts end in NUL and are copied, the buffer is as long as said.
        let code = unsafe {
            sys::rd_kafka_oauthbearer_set_token(
                self.as_ptr(),
                value.as_ptr(),
                i64::try_from(expires.as_millis()).unwrap_or(i64::MAX),
                principal.as_ptr(),
                pointers.as_mut_ptr(),
                pointers.len(),
                said.as_mut_ptr(),
                said.len(),
            ) as i32
        };
        match code {
            0 => Ok(()),
            _ => Err(KafkaError::new(code, "the token is refused", self.redact(&said.text()))),
        }
    }

    fn set_token_failure(self: &Arc<Self>, reason: &str) {
        // A reason of ours holds no NUL.
        let reason = CString::new(reason.replace('\0', " ")).unwrap_or_default();
        // SAFETY: the instance is live, the text ends in NUL and is copied.
        let code = unsafe { sys::rd_kafka_oauthbearer_set_token_failure(self.as_ptr(), reason.as_ptr()) as i32 };
        debug_assert_eq!(code, 0);
    }
}

fn expiry(token: &OAuthToken) -> Option<Duration> {
    token.expires_at.duration_since(std::time::UNIX_EPOCH).ok()
}

/// The wall clock, by which tokens expire.
fn since_epoch() -> Duration {
    super::statistics::duration(clock_gettime(ClockId::Realtime))
}
