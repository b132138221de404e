//! Field rules: what is done to named fields of a body before it is written and after it was read, such as encryption.
//!
//! A rule works on JSON, between the type and the format: an encoder turns the value into JSON, the rule changes the fields
//! that are named, and the format encodes the result; a decoder does the same backwards. So it fits every format that takes
//! JSON (`registry::Registry::any`, or [`PlainJson`]), and the schema describes what is written: an encrypted field is text.
//!
//! This is no management of keys: which key a rule uses, where it comes from and how it is changed is the rule's own affair.
//! The example `encrypted_fields` has one with AES-GCM.

use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value as Json;

use super::codec::{Decoder, Decoding, Encoded, Encoder, Encoding};
use super::json::not_json;
use super::{DecodeError, EncodeError};
use crate::failure::Failure;
use crate::record::Record;

/// What is done to a field. `field` is its place, as [`FieldRules::on`] was told: a cipher should authenticate it, so that a
/// field's text cannot be moved to another one.
pub trait FieldRule: Send + Sync + 'static {
    /// Before it is written. The error must not quote the value.
    fn outgoing(&self, field: &str, value: Json) -> Result<Json, EncodeError>;

    /// After it was read; the reverse.
    fn incoming(&self, field: &str, value: Json) -> Result<Json, DecodeError>;
}

/// Rules by field, before a format of JSON: a [`Decoder`] and an [`Encoder`] of `T`.
pub struct FieldRules<T, C> {
    codec: C,
    rules: Vec<(String, Arc<dyn FieldRule>)>,
    body: PhantomData<fn() -> T>,
}

impl<T, C> FieldRules<T, C> {
    /// No rules yet. `codec` decodes and encodes JSON.
    pub fn new(codec: C) -> Self {
        Self { codec, rules: Vec::new(), body: PhantomData }
    }

    /// Applies a rule to a field: names parted by dots, `*` for every item of an array and every value of an object, as
    /// `customer.card` or `cards.*.number`. A record without the field passes as it is; so does a null. Rules apply in the
    /// order they were added when writing, and backwards when reading.
    pub fn on(mut self, field: impl Into<String>, rule: impl FieldRule) -> Self {
        self.rules.push((field.into(), Arc::new(rule)));
        self
    }
}

impl<T: DeserializeOwned, C> FieldRules<T, C> {
    fn read_body(&self, mut json: Json) -> Result<T, DecodeError> {
        for (field, rule) in self.rules.iter().rev() {
            change(&mut json, field, &mut |value| rule.incoming(field, value))?;
        }
        serde_json::from_value(json).map_err(|_| DecodeError::new("JSON of another shape"))
    }
}

/// Changes what stands at a place, wherever there is something.
fn change<E>(json: &mut Json, place: &str, rule: &mut impl FnMut(Json) -> Result<Json, E>) -> Result<(), E> {
    let (name, inner) = match place.split_once('.') {
        Some((name, inner)) => (name, Some(inner)),
        None => (place, None),
    };
    let found: Vec<&mut Json> = match (json, name) {
        (Json::Array(items), "*") => items.iter_mut().collect(),
        (Json::Object(fields), "*") => fields.values_mut().collect(),
        (Json::Object(fields), name) => fields.get_mut(name).into_iter().collect(),
        _ => Vec::new(),
    };
    for value in found.into_iter().filter(|value| !value.is_null()) {
        match inner {
            Some(inner) => change(value, inner, rule)?,
            None => *value = rule(value.take())?,
        }
    }
    Ok(())
}

impl<T: DeserializeOwned + 'static, C: Decoder<Json>> Decoder<T> for FieldRules<T, C> {
    fn decode(&self, record: &Record) -> Result<Decoding<T>, Failure> {
        match self.codec.decode(record)? {
            Decoding::Done(json) => self.read_body(json).map(Decoding::Done).map_err(Failure::undecodable),
            Decoding::Wait(wait) => Ok(Decoding::Wait(wait)),
        }
    }
}

impl<T: DeserializeOwned + 'static, C: Decoder<Option<Json>>> Decoder<Option<T>> for FieldRules<T, C> {
    fn decode(&self, record: &Record) -> Result<Decoding<Option<T>>, Failure> {
        match self.codec.decode(record)? {
            Decoding::Done(json) => {
                let body = json.map(|json| self.read_body(json)).transpose();
                body.map(Decoding::Done).map_err(Failure::undecodable)
            }
            Decoding::Wait(wait) => Ok(Decoding::Wait(wait)),
        }
    }
}

impl<T: Serialize + 'static, C: Encoder<Json>> Encoder<T> for FieldRules<T, C> {
    fn encode(&self, topic: &str, value: &T) -> Result<Encoding, EncodeError> {
        let json = serde_json::to_value(value);
        let mut json = json.map_err(|_| EncodeError::new("a value that JSON cannot hold"))?;
        for (field, rule) in &self.rules {
            change(&mut json, field, &mut |value| rule.outgoing(field, value))?;
        }
        self.codec.encode(topic, &json)
    }
}

/// Values that are plain JSON, for [`FieldRules`] without a registry.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainJson;

impl Decoder<Json> for PlainJson {
    fn decode(&self, record: &Record) -> Result<Decoding<Json>, Failure> {
        let value = record.value().ok_or_else(|| Failure::undecodable(DecodeError::null("JSON")))?;
        serde_json::from_slice(value).map(Decoding::Done).map_err(|e| Failure::undecodable(not_json(&e)))
    }
}

impl Decoder<Option<Json>> for PlainJson {
    fn decode(&self, record: &Record) -> Result<Decoding<Option<Json>>, Failure> {
        let json = record.value().map(serde_json::from_slice).transpose();
        json.map(Decoding::Done).map_err(|e| Failure::undecodable(not_json(&e)))
    }
}

impl Encoder<Json> for PlainJson {
    fn encode(&self, _: &str, json: &Json) -> Result<Encoding, EncodeError> {
        Ok(Encoding::Done(Encoded { bytes: Some(json.to_string().into_bytes()), header: None }))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Turns text around, and refuses anything else.
    struct Around;

    impl FieldRule for Around {
        fn outgoing(&self, field: &str, value: Json) -> Result<Json, EncodeError> {
            match value {
                Json::String(text) => Ok(format!("{field}:{}", text.chars().rev().collect::<String>()).into()),
                _ => Err(EncodeError::new(format!("{field} is no text"))),
            }
        }

        fn incoming(&self, field: &str, value: Json) -> Result<Json, DecodeError> {
            let text = value.as_str().and_then(|text| text.strip_prefix(&format!("{field}:")));
            let text = text.ok_or_else(|| DecodeError::new(format!("{field} was not turned around")))?;
            Ok(text.chars().rev().collect::<String>().into())
        }
    }

    fn rules() -> FieldRules<Json, PlainJson> {
        FieldRules::new(PlainJson).on("card", Around).on("items.*.name", Around).on("card", Around)
    }

    fn written(value: &Json) -> Result<Json, EncodeError> {
        match rules().encode("t", value)? {
            Encoding::Done(encoded) => Ok(serde_json::from_slice(&encoded.bytes.unwrap()).unwrap()),
            Encoding::Wait(_) => unreachable!("plain JSON waits for nothing"),
        }
    }

    #[test]
    fn named_fields_are_changed_and_changed_back_and_no_others() {
        let value = json!({"card": "123", "name": "ann", "items": [{"name": "tea"}, {"name": null}, {}]});
        let changed = written(&value).unwrap();
        let expected = json!({"card": "card:123:drac", "name": "ann",
            "items": [{"name": "items.*.name:aet"}, {"name": null}, {}]});
        assert_eq!(changed, expected);
        assert_eq!(rules().read_body(changed).unwrap(), value);
        let without = json!({"name": "ann"});
        assert_eq!(written(&without).unwrap(), without);
    }

    #[test]
    fn what_a_rule_refuses_is_not_written_and_not_read() {
        assert_eq!(written(&json!({"card": 5})).unwrap_err().to_string(), "card is no text");
        let error = rules().read_body(json!({"card": "card:moved"})).unwrap_err();
        assert_eq!(error.to_string(), "card was not turned around");
    }
}
