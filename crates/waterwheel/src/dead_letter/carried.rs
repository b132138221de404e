//! What a record in a retry tier says of where it was before.
//!
//! Whoever may write to the tier's topic may write anything into its headers: what they say is used only where it could be
//! so, and decides nothing but what a later letter says in turn.

use waterwheel_core::tiers::Carried;

use super::header;
use super::origin::Last;
use crate::client::Header;
use crate::record::{Record, TopicPartition};

/// Where a record was before it came to a retry tier; of a record that is in none, where it is.
///
/// As trustworthy as those who may write to the tier's topic, but for the topic, which is the worker's own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OriginalPlace {
    /// The topic that the worker was told to read, and the partition there.
    pub partition: TopicPartition,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp there, in milliseconds since 1970; none if it had none.
    pub timestamp_millis: Option<i64>,
}

impl OriginalPlace {
    /// Of a record in a tier that does not say it in full: its place in the tier.
    pub(crate) fn of(record: &Record) -> Self {
        let here = Self {
            partition: record.topic_partition().clone(),
            offset: record.offset(),
            timestamp_millis: record.timestamp_millis(),
        };
        let Some(tier) = &record.assignment().tier else { return here };
        let said = Last::of(record.headers());
        let place = said.partition().ok().flatten().zip(said.offset().ok().flatten());
        let Some((partition, offset)) = place.filter(|(partition, offset)| *partition >= 0 && *offset >= 0) else {
            return here;
        };
        let timestamp_millis = match said.timestamp() {
            Ok(None) => None,
            // It was there before it was put here.
            Ok(Some(ms)) if ms >= 0 && here.timestamp_millis.is_none_or(|written| ms <= written) => Some(ms),
            _ => here.timestamp_millis,
        };
        Self { partition: TopicPartition::new(tier.source.clone(), partition), offset, timestamp_millis }
    }
}

/// What stands in the headers of a record in a tier about its attempts.
pub(crate) fn carried<'a>(headers: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Carried {
    let said = Last::of(headers);
    Carried { attempts: said.attempts().ok().flatten(), first_failed_ms: said.first_failed_at().ok().flatten() }
}

/// The headers that a letter about that record begins with: its own. Of one in a tier without those that its way there
/// added, which are written anew.
pub(super) fn own_headers(record: &Record) -> Vec<Header> {
    let owned = |(name, value): (&[u8], Option<&[u8]>)| (name.into(), value.map(Into::into));
    let all = || record.headers().enumerate();
    let is_first = |(_, (name, _)): &(usize, (&[u8], _))| *name == header::TOPIC.as_bytes();
    let from = record.assignment().tier.as_ref().and_then(|_| all().filter(is_first).last());
    let from = from.map_or(usize::MAX, |(at, _)| at);
    all().filter(|(at, (name, _))| *at < from || !header::is_ours(name)).map(|(_, header)| owned(header)).collect()
}
