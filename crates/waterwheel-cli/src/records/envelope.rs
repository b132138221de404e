//! Records as JSON, one object a line.
//!
//! Ours loses nothing: `{"topic":…,"partition":7,"offset":42,"timestamp":…,"key":…,"headers":[…],"value":…}`, headers in
//! their order with duplicates, null apart from empty, and what is not UTF-8 in base64: as `key_b64`, `value_b64`, or as the
//! third element of its header (`["n", null, "/w=="]`; a name as the fourth: `[null, "v", null, "/w=="]`). It is also what
//! the processes of `kind = "exec"` read.
//!
//! kcat's has its keys, so that scripts made for it go on working: it cannot tell what is not UTF-8, which is replaced.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::view::View;
use crate::body::one_line;

/// Where a key or value stands that is JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JsonAs {
    /// As `key`, `value`: for whoever knows what they are.
    InPlace,
    /// As `key_json`, `value_json`: apart from a text that only looks like it.
    FieldOfItsOwn,
}

/// Appends the record as one JSON object without a line feed. With an id, it begins with the id and the attempt.
pub(crate) fn push_record(out: &mut Vec<u8>, record: &View<'_>, json: JsonAs, run: Option<(&str, u32)>) {
    out.push(b'{');
    if let Some((id, attempt)) = run {
        out.extend_from_slice(b"\"id\":");
        push_text(out, id);
        out.extend_from_slice(format!(",\"attempt\":{attempt},").as_bytes());
    }
    out.extend_from_slice(b"\"topic\":");
    push_text(out, record.topic);
    let place = format!(",\"partition\":{},\"offset\":{},\"timestamp\":", record.partition, record.offset);
    out.extend_from_slice(place.as_bytes());
    match record.timestamp {
        Some(millis) => out.extend_from_slice(millis.to_string().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
    push_body(out, "key", record.key, record.key_is_json, json);
    out.extend_from_slice(b",\"headers\":[");
    for (n, (name, value)) in record.headers().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        push_header(out, name, value);
    }
    out.push(b']');
    push_body(out, "value", record.value, record.value_is_json, json);
    out.push(b'}');
}

fn push_body(out: &mut Vec<u8>, name: &str, body: Option<&[u8]>, is_json: bool, json: JsonAs) {
    let Some(body) = body.filter(|_| is_json) else { return push_field(out, name, body) };
    let own = match json {
        JsonAs::InPlace => "",
        JsonAs::FieldOfItsOwn => "_json",
    };
    out.extend_from_slice(format!(",\"{name}{own}\":").as_bytes());
    out.extend(one_line(body));
}

fn push_field(out: &mut Vec<u8>, name: &str, bytes: Option<&[u8]>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    match bytes.map(std::str::from_utf8) {
        None => out.extend_from_slice(b"\":null"),
        Some(Ok(text)) => {
            out.extend_from_slice(b"\":");
            push_text(out, text);
        }
        Some(Err(_)) => {
            out.extend_from_slice(b"_b64\":");
            push_base64(out, bytes.unwrap_or_default());
        }
    }
}

fn push_header(out: &mut Vec<u8>, name: &[u8], value: Option<&[u8]>) {
    let (name_text, value_text) = (std::str::from_utf8(name).ok(), value.map(std::str::from_utf8));
    out.push(b'[');
    push_text_or_null(out, name_text);
    out.push(b',');
    push_text_or_null(out, value_text.and_then(Result::ok));
    if matches!(value_text, Some(Err(_))) {
        out.push(b',');
        push_base64(out, value.unwrap_or_default());
    } else if name_text.is_none() {
        out.extend_from_slice(b",null");
    }
    if name_text.is_none() {
        out.push(b',');
        push_base64(out, name);
    }
    out.push(b']');
}

fn push_text_or_null(out: &mut Vec<u8>, text: Option<&str>) {
    match text {
        Some(text) => push_text(out, text),
        None => out.extend_from_slice(b"null"),
    }
}

pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    // Writing a text to a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
    out.push(b'"');
}

/// Appends the record with the keys of kcat's `-J`. `tstype` and `broker` are not known here and left out, as kcat does.
pub(super) fn push_kcat(out: &mut Vec<u8>, record: &View<'_>) {
    out.extend_from_slice(b"{\"topic\":");
    push_text(out, record.topic);
    out.extend_from_slice(format!(",\"partition\":{},\"offset\":{}", record.partition, record.offset).as_bytes());
    if let Some(millis) = record.timestamp {
        out.extend_from_slice(format!(",\"ts\":{millis}").as_bytes());
    }
    for (n, (name, value)) in record.headers().enumerate() {
        out.extend_from_slice(if n == 0 { b",\"headers\":[" } else { b"," });
        push_lossy(out, Some(name));
        out.push(b',');
        push_lossy(out, value);
    }
    if record.headers().next().is_some() {
        out.push(b']');
    }
    for (name, body, is_json) in
        [("key", record.key, record.key_is_json), ("payload", record.value, record.value_is_json)]
    {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        match body.filter(|_| is_json) {
            Some(json) => out.extend(one_line(json)),
            None => push_lossy(out, body),
        }
    }
    out.push(b'}');
}

fn push_lossy(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    push_text_or_null(out, bytes.map(String::from_utf8_lossy).as_deref());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::read::parse_record;
    use super::*;

    proptest! {
        /// A record is one line of JSON whatever bytes it is made of, and is read back as it was.
        #[test]
        fn any_bytes_make_one_line_of_json_that_is_read_back(
            key in prop::option::of(prop::collection::vec(any::<u8>(), 0..50)),
            name in prop::collection::vec(any::<u8>(), 0..20),
            value in prop::option::of(prop::collection::vec(any::<u8>(), 0..50)),
        ) {
            let mut out = b"{\"partition\":1".to_vec();
            push_field(&mut out, "key", key.as_deref());
            push_field(&mut out, "value", value.as_deref());
            out.extend_from_slice(b",\"headers\":[");
            push_header(&mut out, &name, value.as_deref());
            out.extend_from_slice(b"]}");
            prop_assert!(!out.contains(&b'\n'));
            let read = parse_record(&out).unwrap();
            prop_assert_eq!(read.key.as_deref(), key.as_deref());
            prop_assert_eq!(read.value.as_deref(), value.as_deref());
            prop_assert_eq!(&*read.headers[0].0, &name);
            prop_assert_eq!(read.headers[0].1.as_deref(), value.as_deref());
        }
    }

    #[test]
    fn parts_that_are_no_text_stand_in_base64() {
        let field = |bytes: Option<&[u8]>| {
            let mut out = Vec::new();
            push_field(&mut out, "key", bytes);
            String::from_utf8(out).expect("JSON is text")
        };
        assert_eq!(field(None), r#","key":null"#);
        assert_eq!(field(Some(b"")), r#","key":"""#);
        assert_eq!(field(Some(b"a\"\n")), r#","key":"a\"\n""#);
        assert_eq!(field(Some(b"\xff")), r#","key_b64":"/w==""#);
        let header = |name: &[u8], value: Option<&[u8]>| {
            let mut out = Vec::new();
            push_header(&mut out, name, value);
            String::from_utf8(out).expect("JSON is text")
        };
        assert_eq!(header(b"n", Some(b"v")), r#"["n","v"]"#);
        assert_eq!(header(b"n", None), r#"["n",null]"#);
        assert_eq!(header(b"n", Some(b"\xff")), r#"["n",null,"/w=="]"#);
        assert_eq!(header(b"\xff", Some(b"v")), r#"[null,"v",null,"/w=="]"#);
        assert_eq!(header(b"\xff", Some(b"\xff")), r#"[null,null,"/w==","/w=="]"#);
    }
}
