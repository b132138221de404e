//! Rate limits: token buckets that fill with time.

use std::time::Duration;

use crate::types::Now;

/// What a bucket holds unless told otherwise: what comes in a tenth of a second.
const BURST: f64 = 0.1;

/// What a bucket gathers before it wakes who waits for it: what comes in 2 ms, so that a high rate costs no more than 500
/// wake-ups a second.
const GATHERED: f64 = 0.002;

/// How many records and bytes may be started a second. Retries count like first attempts.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct RateLimit {
    records: Option<Flow>,
    bytes: Option<Flow>,
    group_wide: bool,
}

/// Units a second, and how many at once.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Flow {
    rate: u64,
    burst: Option<u64>,
}

impl Flow {
    fn of(rate: u64) -> Self {
        Self { rate, burst: None }
    }
}

impl RateLimit {
    /// So many records a second; at least 1.
    pub fn records(a_second: u64) -> Self {
        Self { records: Some(Flow::of(a_second)), ..Self::default() }
    }

    /// So many bytes a second; at least 1. A record's are those of its key, value and headers.
    ///
    /// A record may begin while there are any bytes left, so one that is larger than the burst is not held for ever: what it
    /// takes too much is waited for afterwards.
    pub fn bytes(a_second: u64) -> Self {
        Self { bytes: Some(Flow::of(a_second)), ..Self::default() }
    }

    /// And so many bytes a second.
    pub fn and_bytes(mut self, a_second: u64) -> Self {
        self.bytes = Some(Flow::of(a_second));
        self
    }

    /// Records that may begin at once after a quiet time; at least 1. Default: what comes in a tenth of a second. No effect
    /// without a rate of records.
    pub fn burst(mut self, records: u64) -> Self {
        if let Some(flow) = &mut self.records {
            flow.burst = Some(records);
        }
        self
    }

    /// Bytes that may begin at once after a quiet time; at least 1. Default: what comes in a tenth of a second. No effect
    /// without a rate of bytes.
    pub fn burst_bytes(mut self, bytes: u64) -> Self {
        if let Some(flow) = &mut self.bytes {
            flow.burst = Some(bytes);
        }
        self
    }

    /// The rates are those of the whole group: each member has the share of the partitions that it works on, of all that
    /// their topics have. Default: of this worker.
    pub fn group_wide(mut self) -> Self {
        self.group_wide = true;
        self
    }

    /// Whether the rates are those of the whole group.
    pub fn is_group_wide(&self) -> bool {
        self.group_wide
    }

    /// What is wrong with the settings: the key, and the problem.
    pub fn mistake(&self) -> Option<(&'static str, &'static str)> {
        let zero = |flow: Option<Flow>| flow.is_some_and(|flow| flow.rate == 0);
        let no_burst = |flow: Option<Flow>| flow.is_some_and(|flow| flow.burst == Some(0));
        let keys = [
            ("rate_limit.records", zero(self.records)),
            ("rate_limit.bytes", zero(self.bytes)),
            ("rate_limit.burst", no_burst(self.records)),
            ("rate_limit.burst_bytes", no_burst(self.bytes)),
        ];
        keys.into_iter().find(|(_, wrong)| *wrong).map(|(key, _)| (key, "must be at least 1"))
    }

    /// The buckets of records and of bytes, empty; of a group-wide limit without a share yet.
    pub fn buckets(&self, now: Now) -> (Option<Bucket>, Option<Bucket>) {
        let share = if self.group_wide { 0.0 } else { 1.0 };
        let bucket = |flow: Option<Flow>| flow.map(|flow| Bucket::new(flow, share, now));
        (bucket(self.records), bucket(self.bytes))
    }
}

/// A bucket of tokens. It may go into debt.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Tokens a second of the whole.
    rate: f64,
    burst: f64,
    /// What of it is this bucket's.
    share: f64,
    tokens: f64,
    /// When they were counted last.
    at: Now,
}

impl Bucket {
    #[expect(clippy::cast_precision_loss, reason = "rates beyond 2^53 a second do not occur")]
    fn new(flow: Flow, share: f64, now: Now) -> Self {
        let rate = flow.rate as f64;
        let burst = flow.burst.map_or((rate * BURST).max(1.0), |burst| burst as f64);
        Self { rate, burst, share, tokens: 0.0, at: now }
    }

    /// Tokens a second that are this bucket's.
    pub fn rate(&self) -> f64 {
        self.rate * self.share
    }

    /// The most that it holds: its share of the burst, but one record in any case.
    fn room(&self) -> f64 {
        (self.burst * self.share).max(1.0)
    }

    /// Another share is this bucket's. What it has stays, as far as there is room; more comes with time only.
    pub fn set_share(&mut self, share: f64, now: Now) {
        self.fill(now);
        self.share = share;
        self.tokens = self.tokens.min(self.room());
    }

    fn fill(&mut self, now: Now) {
        let filled = self.tokens + now.since(self.at).as_secs_f64() * self.rate();
        // Debts are not forgiven, and what a smaller share left is no more than there is room for.
        self.tokens = filled.min(self.room());
        self.at = self.at.max(now);
    }

    /// Whole tokens that there are.
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "not negative, and rounded down")]
    pub fn available(&mut self, now: Now) -> u64 {
        self.fill(now);
        self.tokens.max(0.0) as u64
    }

    /// Takes tokens, there or not.
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    pub fn take(&mut self, tokens: u64) {
        self.tokens -= tokens as f64;
    }

    /// Gives tokens back that were not used.
    #[expect(clippy::cast_precision_loss, reason = "as above")]
    pub fn give_back(&mut self, tokens: u64) {
        self.tokens = (self.tokens + tokens as f64).min(self.room());
    }

    /// When it is worth asking again; never, without a share.
    pub fn ready_at(&self) -> Option<Now> {
        let rate = self.rate();
        if rate <= 0.0 {
            return None;
        }
        let wanted = (rate * GATHERED).clamp(1.0, self.room());
        // A microsecond more, or rounding would have it asked for a token that is not whole yet.
        let wait = Duration::try_from_secs_f64((wanted - self.tokens).max(0.0) / rate).unwrap_or(Duration::MAX);
        Some(self.at + wait.saturating_add(Duration::from_micros(1)))
    }
}

#[cfg(test)]
mod tests;
