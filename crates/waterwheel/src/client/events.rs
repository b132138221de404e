//! What the clients under a [`Client`](crate::Client) have to say: errors, throttling, statistics, tokens.

use std::sync::Arc;
use std::time::Duration;

use super::statistics::ClientStatistics;
use crate::error::KafkaError;

/// Which of the clients under a [`Client`](crate::Client) something is about. Each has connections of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ClientRole {
    /// A group's member: heartbeats, commits.
    Membership,
    /// Reads partitions.
    Fetch,
    /// Reads single records again.
    Reread,
    /// Writes records.
    Produce,
    /// Asks and changes.
    Admin,
}

impl ClientRole {
    /// `membership`, `fetch`, `reread`, `produce`, or `admin`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Membership => "membership",
            Self::Fetch => "fetch",
            Self::Reread => "reread",
            Self::Produce => "produce",
            Self::Admin => "admin",
        }
    }
}

impl std::fmt::Display for ClientRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// What one of the clients under a [`Client`](crate::Client) has to say ([`Client::events`](crate::Client::events)).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ClientEvent {
    /// Something failed that no call asked for: a connection, a login, a broker's name. The client goes on trying, unless
    /// the error is fatal. The error's text names the broker, where it is about one.
    Error {
        /// Whose.
        role: ClientRole,
        /// What.
        error: KafkaError,
        /// Whether that client cannot go on; what uses it is told as well.
        is_fatal: bool,
    },
    /// A broker made a client wait, because it is over its quota.
    Throttled {
        /// Whose.
        role: ClientRole,
        /// The broker's number.
        broker: i32,
        /// How long.
        time: Duration,
    },
    /// Figures, every `statistics.interval.ms`, where that property is set.
    Statistics(Arc<ClientStatistics>),
    /// A client got a token to log in with (OAUTHBEARER).
    TokenRenewed {
        /// Which client.
        role: ClientRole,
        /// How long the token holds. A new one is asked for after four fifths of it.
        lifetime: Duration,
    },
    /// There was no token. It is asked for again after ten seconds; connections that there are stay.
    TokenFailed {
        /// Which client asked.
        role: ClientRole,
        /// Why, in words of this library: the callback's own error is not told.
        reason: String,
    },
    /// Events were dropped because they were read too slowly.
    Missed {
        /// How many.
        events: u64,
    },
}
