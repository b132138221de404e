//! Typed keys and values of records to be sent.

use super::codec::Encoder;
use super::{Encode, EncodeError};
use crate::producer::ProducerRecord;

impl ProducerRecord {
    /// The key, encoded; see [`key`](Self::key). What encodes to a null leaves the key null.
    pub fn encoded_key(self, key: &impl Encode) -> Result<Self, EncodeError> {
        Ok(match key.encode()? {
            Some(bytes) => self.key(bytes),
            None => self,
        })
    }

    /// The value, encoded; see [`value`](Self::value). What encodes to a null leaves the value null: a tombstone.
    pub fn encoded_value(self, value: &impl Encode) -> Result<Self, EncodeError> {
        Ok(match value.encode()? {
            Some(bytes) => self.value(bytes),
            None => self,
        })
    }

    /// The key by an encoder, which may have to ask for its schema first. Dropping the future drops the record.
    pub async fn key_by<T: Sync>(self, encoder: &impl Encoder<T>, key: &T) -> Result<Self, EncodeError> {
        let encoded = encoder.write(self.topic(), key).await?;
        let record = encoded.header.into_iter().fold(self, |record, (name, value)| record.header(name, value));
        Ok(match encoded.bytes {
            Some(bytes) => record.key(bytes),
            None => record,
        })
    }

    /// The value by an encoder, which may have to ask for its schema first. Dropping the future drops the record.
    pub async fn value_by<T: Sync>(self, encoder: &impl Encoder<T>, value: &T) -> Result<Self, EncodeError> {
        let encoded = encoder.write(self.topic(), value).await?;
        let record = encoded.header.into_iter().fold(self, |record, (name, value)| record.header(name, value));
        Ok(match encoded.bytes {
            Some(bytes) => record.value(bytes),
            None => record,
        })
    }
}
