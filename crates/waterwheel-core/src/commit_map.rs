//! The commit map: what a commit says besides its offset, as the text that Kafka keeps with it.
//!
//! Which offsets *above* the committed one are already finished, so that nobody runs them again after a restart or a
//! hand-over, where up to 64 failing records stand, so that poison does not outlive its attempts by rebalances, and which
//! keys follow a dead letter.
//! `docs/commit-map.md` has the format byte by byte.
//!
//! Owner of **I13**: the decoded map marks a subset of what finished, never more, for all bytes that were not written for
//! this topic id and base. So [`decode`] refuses whatever it does not wholly understand, and a refusal means "nothing
//! finished above"; [`encode`] leaves out from the top what does not fit. The check sum guards against accidents, not
//! against forgery: who may commit for a group can move its offsets as well.

mod bits;
mod codings;
mod followed;
mod head;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::num::NonZeroU128;
use std::ops::Range;

use codings::{Coding, Spans};
pub use followed::{Followed, FollowedKey};
use text::Form;

/// The most failing records that a map carries.
pub const MAX_FAILING: usize = 64;

/// What a map is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapHead {
    /// The topic's id, if known: a topic made anew under the same name has another.
    pub topic_id: Option<NonZeroU128>,
    /// The committed offset. The record there is not finished.
    pub base: i64,
    /// The leader epoch of the highest offset that is finished or failing, if known. If that epoch's log ended below, the
    /// map is void; the reader has to ask the broker. It holds for a cut map too: that epoch's log held the lower offsets
    /// as well.
    pub leader_epoch: Option<i32>,
}

/// Where a record that failed, and is to be tried again, stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failing {
    /// The record.
    pub offset: i64,
    /// Attempts made so far.
    pub attempts: u32,
    /// When the first of them failed: wall time in milliseconds since 1970.
    pub first_failed_ms: i64,
    /// When the next one is due: wall time in milliseconds since 1970.
    pub next_try_ms: i64,
}

/// How much a broker accepts (`offset.metadata.max.bytes`), and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// UTF-16 units, as Apache Kafka counts; written at 15 bits a character.
    Utf16(usize),
    /// Bytes of UTF-8; written as ASCII at 6 bits a character.
    Bytes(usize),
}

impl Limit {
    /// What Apache Kafka accepts unless told otherwise.
    pub const KAFKA: Limit = Limit::Utf16(4096);

    /// Half of it, for a commit that was refused as too large.
    pub fn halved(self) -> Self {
        match self {
            Limit::Utf16(units) => Limit::Utf16(units / 2),
            Limit::Bytes(bytes) => Limit::Bytes(bytes / 2),
        }
    }

    fn units(self) -> usize {
        match self {
            Limit::Utf16(units) | Limit::Bytes(units) => units,
        }
    }

    fn form(self) -> Form {
        match self {
            Limit::Utf16(_) => Form::Wide,
            Limit::Bytes(_) => Form::Ascii,
        }
    }
}

/// A written map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The metadata to commit; empty when there is nothing to say or no room to say it.
    pub text: String,
    /// Its size as the limit counts.
    pub units: usize,
    /// Finished offsets at or above this one were left out; `i64::MAX` if none.
    pub reach: i64,
    /// How many failing records it carries, the lowest offsets first.
    pub failing: usize,
    /// How many keys it carries that follow a dead letter, the oldest letters first.
    pub followed: usize,
    /// Whether finished offsets or failing records were left out.
    pub cut: bool,
}

/// A map that was read back and found sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitMap {
    leader_epoch: Option<i32>,
    base: i64,
    failing: Vec<Failing>,
    followed: Vec<Followed>,
    coding: Option<Coding>,
    /// The payload, of which `marks` are the coded finished offsets: a list of ranges could be 40 times the text.
    payload: Vec<u8>,
    marks: Range<usize>,
}

impl CommitMap {
    /// The leader epoch of the highest offset that it names when the map was written; see [`MapHead::leader_epoch`].
    pub fn leader_epoch(&self) -> Option<i32> {
        self.leader_epoch
    }

    /// The failing records, ascending by offset.
    pub fn failing(&self) -> &[Failing] {
        &self.failing
    }

    /// The keys whose later records follow a dead letter, ascending by the letters' offsets.
    pub fn followed(&self) -> &[Followed] {
        &self.followed
    }

    /// The finished offsets: ascending ranges above the base that neither overlap nor touch.
    pub fn finished(&self) -> impl Iterator<Item = Range<i64>> + Clone {
        let spans = self.coding.map(|coding| Spans::new(coding, &self.payload[self.marks.clone()], self.base));
        spans.into_iter().flatten().map_while(Result::ok)
    }
}

/// Why a commit's metadata says nothing about what is finished above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MapRefusal {
    /// There is none.
    Empty,
    /// Someone else wrote it.
    Foreign,
    /// A version of the format that is not known here.
    Version(char),
    /// A character that the text code does not have.
    Alphabet,
    /// Cut off, or longer than it says.
    Length,
    /// The check sum does not fit.
    Checksum,
    /// Written for another topic.
    OtherTopic,
    /// Written for another committed offset.
    OtherBase {
        /// The offset it was written for.
        written: i64,
    },
    /// The check sum fits, the content makes no sense.
    Malformed,
}

impl fmt::Display for MapRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no commit map"),
            Self::Foreign => f.write_str("metadata of another program, not a commit map"),
            Self::Version(version) => write!(f, "commit map of unknown version {version:?}; a newer release wrote it"),
            Self::Alphabet => f.write_str("commit map with a character outside its text code"),
            Self::Length => f.write_str("commit map cut off or with something appended"),
            Self::Checksum => f.write_str("commit map with a wrong check sum"),
            Self::OtherTopic => f.write_str("commit map of another topic id; the topic was made anew"),
            Self::OtherBase { written } => write!(f, "commit map for offset {written}, not for the committed one"),
            Self::Malformed => f.write_str("commit map that makes no sense"),
        }
    }
}

impl std::error::Error for MapRefusal {}

/// Writes the map for `head`: the smallest of several codings of `finished`, cut from the top if it exceeds `limit`.
///
/// `finished` should ascend; what does not lie above the base and the range before it is left out. `failing` and `followed`
/// should ascend too; failing records below the base, and what is out of order, are left out. Followed keys go first, since
/// nothing else tells of them, then failing records, then as much of the finished offsets as fits.
pub fn encode(
    head: &MapHead,
    finished: impl IntoIterator<Item = Range<i64>>,
    failing: &[Failing],
    followed: &[Followed],
    limit: Limit,
) -> Encoded {
    let capacity = limit.form().capacity(limit.units());

    let mut payload = head::write(head);
    let room = capacity.saturating_sub(payload.len() + head::COUNT + head::CHECKSUM);
    let (keys, followed_bytes) = followed::write(head.base, followed, room);
    let room = room - followed_bytes.len();
    let (written, failing_bytes) = head::write_failing(head.base, failing, room);
    let budget = room - failing_bytes.len();
    let runs = codings::runs(finished.into_iter(), head.base, budget);
    let plan = codings::plan(&runs, budget);

    let cut = !plan.whole || written < failing.len();
    let reach = if plan.whole { i64::MAX } else { plan.reach };
    if written == 0 && keys == 0 && plan.coding.is_none() {
        return Encoded { text: String::new(), units: 0, reach, failing: 0, followed: 0, cut };
    }
    payload.push(written as u8);
    payload.extend(failing_bytes);
    payload.extend(followed_bytes);
    codings::write(plan, &runs, &mut payload);
    head::seal(&mut payload, plan.coding, keys > 0);

    let text = text::write(limit.form(), head::version(payload[head::LENGTH]), &payload);
    let units = limit.form().units(payload.len());
    Encoded { text, units, reach, failing: written, followed: keys, cut }
}

/// The text of a map whose length and check sum fit, around a content of any bytes: what a reader has to withstand from a
/// writer that means harm. For tests and fuzzing.
#[doc(hidden)]
pub fn sealed(limit: Limit, content: &[u8]) -> String {
    let mut payload = ((content.len() + head::LENGTH + head::CHECKSUM) as u32).to_le_bytes().to_vec();
    payload.extend(content);
    payload.extend(head::crc64(&payload).to_le_bytes());
    text::write(limit.form(), head::version(payload[head::LENGTH]), &payload)
}

/// Reads the metadata of a commit at `base` of the topic with id `topic_id`.
///
/// Needs no more memory than the text has bytes, 2 KiB for failing records, and 16 bytes for each followed key.
pub fn decode(text: &str, topic_id: Option<NonZeroU128>, base: i64) -> Result<CommitMap, MapRefusal> {
    let (version, payload) = text::read(text)?;
    let mut body = head::open(&payload)?;
    let head::Opening { head, coding, has_followed } = head::read(&mut body, version)?;
    if head.topic_id.is_some() && topic_id.is_some() && head.topic_id != topic_id {
        return Err(MapRefusal::OtherTopic);
    }
    if head.base != base {
        return Err(MapRefusal::OtherBase { written: head.base });
    }
    let failing = head::read_failing(&mut body, base)?;
    let followed = if has_followed { followed::read(&mut body, base)? } else { Vec::new() };

    let end = payload.len() - head::CHECKSUM;
    let marks = end - body.rest().len()..end;
    match coding {
        Some(coding) => Spans::new(coding, body.rest(), base).check()?,
        None if body.rest().is_empty() => {}
        None => return Err(MapRefusal::Malformed),
    }
    Ok(CommitMap { leader_epoch: head.leader_epoch, base, failing, followed, coding, payload, marks })
}
