//! Records from JSON, one object a line: what `envelope` writes, read back byte for byte.
//!
//! Errors tell what is wrong and in which column, and quote nothing of the line: it may hold a payload.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;
use waterwheel::Keyed;

/// What a line says of a record. Where it was read is not used.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed<'a> {
    pub(crate) topic: Option<Cow<'a, str>>,
    pub(crate) partition: Option<i32>,
    /// Milliseconds since the Unix epoch.
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Part<'a>,
    pub(crate) headers: Vec<(Cow<'a, [u8]>, Part<'a>)>,
    pub(crate) value: Part<'a>,
    /// Which of them stand as JSON that a format says how to write.
    pub(crate) is_json: Keyed<bool, bool>,
}

/// Bytes, or null.
pub(crate) type Part<'a> = Option<Cow<'a, [u8]>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'a> {
    #[serde(borrow)]
    topic: Option<Cow<'a, str>>,
    partition: Option<i32>,
    #[serde(rename = "offset")]
    _offset: Option<i64>,
    timestamp: Option<i64>,
    #[serde(borrow, default, deserialize_with = "given")]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    key_b64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    headers: Vec<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    value: Option<&'a RawValue>,
    #[serde(borrow)]
    value_b64: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "given")]
    key_json: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    value_json: Option<&'a RawValue>,
}

/// As it stands, null too: a field that is missing is not one that is null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Reads a line.
pub(crate) fn parse_record(line: &[u8]) -> Result<Parsed<'_>, String> {
    let line: Line<'_> = serde_json::from_slice(line).map_err(|error| problem(&error))?;
    if line.value.is_none() && line.value_b64.is_none() && line.value_json.is_none() {
        return Err("has neither \"value\" nor \"value_b64\"; null is a value, and deletes the key".to_owned());
    }
    if line.partition.is_some_and(|partition| partition < 0) {
        return Err("\"partition\" is below 0".to_owned());
    }
    if line.timestamp.is_some_and(|millis| millis < 0) {
        return Err("\"timestamp\" is below 0".to_owned());
    }
    Ok(Parsed {
        topic: line.topic,
        partition: line.partition,
        timestamp: line.timestamp,
        key: part("key", line.key, line.key_b64, line.key_json)?,
        headers: line.headers.into_iter().map(header).collect::<Result<_, _>>()?,
        value: part("value", line.value, line.value_b64, line.value_json)?,
        is_json: Keyed { key: line.key_json.is_some(), value: line.value_json.is_some() },
    })
}

fn problem(error: &serde_json::Error) -> String {
    const FIELDS: &str =
        "topic, partition, offset, timestamp, key, key_b64, headers, value, value_b64, key_json, value_json";
    let said = error.to_string();
    let what = match error.classify() {
        Category::Data if said.starts_with("unknown field") => format!("has a field that is none of {FIELDS}"),
        // It names a field of ours.
        Category::Data if said.starts_with("duplicate field") => "has a field twice".to_owned(),
        Category::Data => "is JSON, but no record as consume -J writes it".to_owned(),
        _ => "is no JSON object".to_owned(),
    };
    format!("{what} (column {})", error.column())
}

/// A text's bytes; what is JSON otherwise as it stands; base64; what a format showed.
fn part<'a>(
    name: &str,
    json: Option<&'a RawValue>,
    base64: Option<Cow<'a, str>>,
    decoded: Option<&'a RawValue>,
) -> Result<Part<'a>, String> {
    match (json, base64, decoded) {
        (Some(_), Some(_), _) => Err(format!("has both \"{name}\" and \"{name}_b64\"")),
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => Err(format!("has \"{name}_json\" and the same otherwise")),
        (None, None, None) => Ok(None),
        (None, None, Some(json)) => Ok(Some(Cow::Borrowed(json.get().as_bytes()))),
        (None, Some(base64), None) => Ok(Some(Cow::Owned(decode(&base64, &format!("{name}_b64"))?))),
        (Some(json), None, None) => match json.get() {
            "null" => Ok(None),
            text if text.starts_with('"') => text_of(text).map(Some),
            json => Ok(Some(Cow::Borrowed(json.as_bytes()))),
        },
    }
}

fn text_of(json: &str) -> Result<Cow<'_, [u8]>, String> {
    /// Borrows where there is nothing to unescape.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    match serde_json::from_str(json).map_err(|error| problem(&error))? {
        Text(Cow::Borrowed(text)) => Ok(Cow::Borrowed(text.as_bytes())),
        Text(Cow::Owned(text)) => Ok(Cow::Owned(text.into_bytes())),
    }
}

/// `[name, value]`, with base64 as third (the value's) and fourth (the name's).
#[derive(Deserialize)]
struct Header(Option<String>, Option<String>, #[serde(default)] Option<String>, #[serde(default)] Option<String>);

fn header(json: &RawValue) -> Result<(Cow<'_, [u8]>, Part<'_>), String> {
    const SHAPE: &str =
        "a header is [\"name\", \"value\"] or [\"name\", null], with base64 as third (value) or fourth (name)";
    let Header(name, value, value_b64, name_b64) = serde_json::from_str(json.get()).map_err(|_| SHAPE)?;
    let of = |text: Option<String>, base64: Option<String>| match (text, base64) {
        (Some(_), Some(_)) => Err(SHAPE.to_owned()),
        (Some(text), None) => Ok(Some(Cow::Owned(text.into_bytes()))),
        (None, Some(base64)) => decode(&base64, "a header").map(|bytes| Some(Cow::Owned(bytes))),
        (None, None) => Ok(None),
    };
    Ok((of(name, name_b64)?.ok_or(SHAPE)?, of(value, value_b64)?))
}

fn decode(base64: &str, what: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(base64).map_err(|_| format!("{what}: is no base64"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(line: &str) -> Result<Option<Vec<u8>>, String> {
        parse_record(line.as_bytes()).map(|parsed| parsed.value.map(Cow::into_owned))
    }

    #[test]
    fn a_value_is_a_text_or_null_or_base64_or_json_as_it_stands() {
        let table = [
            (r#"{"value":"a\nb"}"#, Some(&b"a\nb"[..])),
            (r#"{"value":""}"#, Some(b"")),
            (r#"{"value":null}"#, None),
            (r#"{"value_b64":"/w=="}"#, Some(b"\xff")),
            (r#"{"value": {"b":1.0, "a":[]} }"#, Some(br#"{"b":1.0, "a":[]}"#)),
            (r#"{"value":7}"#, Some(b"7")),
            (r#"{"value_json":"a"}"#, Some(br#""a""#)),
        ];
        for (line, bytes) in table {
            assert_eq!(value(line), Ok(bytes.map(<[u8]>::to_vec)), "{line}");
        }
    }

    #[test]
    fn what_is_wrong_is_told_and_nothing_of_the_line_is_quoted() {
        let table = [
            ("", "is no JSON object (column 0)"),
            ("canary", "is no JSON object (column 1)"),
            ("[1]", "is JSON, but no record"),
            (r#"{"key":"canary"}"#, "has neither \"value\" nor"),
            (r#"{"canary":1,"value":null}"#, "has a field that is none of topic, partition"),
            (r#"{"value":null,"value":"canary"}"#, "has a field twice (column"),
            (r#"{"value":"canary","value_b64":""}"#, "has both \"value\" and \"value_b64\""),
            (r#"{"value":null,"key":"canary","key_b64":""}"#, "has both \"key\" and \"key_b64\""),
            (r#"{"value":"canary","value_json":1}"#, "has \"value_json\" and the same otherwise"),
            (r#"{"value_b64":"canary!"}"#, "value_b64: is no base64"),
            (r#"{"value":null,"topic":"canary","partition":"canary"}"#, "is JSON, but no record"),
            (r#"{"value":null,"partition":-1}"#, "\"partition\" is below 0"),
            (r#"{"value":null,"timestamp":-1}"#, "\"timestamp\" is below 0"),
            (r#"{"value":null,"headers":[["canary"]]}"#, "a header is"),
            (r#"{"value":null,"headers":[[null,"canary"]]}"#, "a header is"),
            (r#"{"value":null,"headers":[["n","canary","/w=="]]}"#, "a header is"),
            (r#"{"value":null,"headers":[["n",null,"canary!"]]}"#, "a header: is no base64"),
            (r#"{"value":null} canary"#, "is no JSON object"),
        ];
        for (line, expected) in table {
            let told = parse_record(line.as_bytes()).expect_err(line);
            assert!(told.starts_with(expected) && !told.contains("canary"), "{line}: {told}");
        }
    }
}
