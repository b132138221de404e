//! What follows when a partition read by hand stops: it is looked up, waited for, or given up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;

use super::ReadEvent;
use crate::client::{Admin, OffsetSpec};
use crate::driver::places::no_answer;
use crate::error::{Error, KafkaError, code};
use crate::record::{Assignment, TopicPartition};

/// How long until a partition that stopped is read on.
const PAUSE: Duration = Duration::from_millis(500);

/// What is under way for partitions that stopped.
pub(super) type Mending = FuturesUnordered<BoxFuture<'static, Found>>;

/// How a partition that stopped is to be read on.
pub(super) struct Found {
    pub(super) of: Arc<Assignment>,
    /// Its first offset and its end; `None`: from where it is.
    pub(super) range: Result<Option<(i64, i64)>, KafkaError>,
}

/// Asks what there is of it.
pub(super) fn look(admin: Arc<dyn Admin>, of: Arc<Assignment>) -> BoxFuture<'static, Found> {
    async move {
        let asked = [OffsetSpec::Earliest, OffsetSpec::Latest].map(|spec| (of.partition.clone(), spec));
        let range = async {
            let mut told = admin.list_offsets(asked.into()).await?.into_iter();
            let mut next = || told.next().unwrap_or_else(|| Err(no_answer()));
            Ok(Some((next()?, next()?)))
        };
        Found { range: range.await, of }
    }
    .boxed()
}

/// The same, after a pause.
pub(super) fn look_later(admin: Arc<dyn Admin>, of: Arc<Assignment>) -> BoxFuture<'static, Found> {
    async move {
        tokio::time::sleep(PAUSE).await;
        look(admin, of).await
    }
    .boxed()
}

/// Lets some time pass.
pub(super) fn wait(of: Arc<Assignment>) -> BoxFuture<'static, Found> {
    async move {
        tokio::time::sleep(PAUSE).await;
        Found { of, range: Ok(None) }
    }
    .boxed()
}

/// What a policy says that stops at gaps.
pub(super) fn gone(partition: &TopicPartition, offset: i64) -> KafkaError {
    let name = "the records to be read are gone; seek to others, or read over gaps";
    KafkaError::new(code::OFFSET_OUT_OF_RANGE, name, format!("{partition}@{offset}"))
}

pub(super) fn not_read(partition: &TopicPartition) -> KafkaError {
    KafkaError::new(code::LOCAL_UNKNOWN_PARTITION, "is not read; add it first", partition.to_string())
}

/// What those get of an event who ask for records only.
pub(super) fn unread(event: ReadEvent) -> Result<(), Error> {
    match event {
        ReadEvent::Failed { error, .. } => return Err(error.into()),
        ReadEvent::Gap { partition, from, to } => {
            tracing::warn!(%partition, from, to, "the records to be read are gone: reading on");
        }
        ReadEvent::Trouble { partition: Some(partition), error } => {
            tracing::warn!(%partition, %error, "trouble while fetching");
        }
        ReadEvent::Trouble { partition: None, error } => tracing::warn!(%error, "trouble while fetching"),
        ReadEvent::Batch(_) | ReadEvent::AtEnd(_) => {}
    }
    Ok(())
}
