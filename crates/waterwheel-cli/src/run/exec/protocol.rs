//! The exec protocol: one JSON object a line, records to the handler's process and answers back.
//!
//! To the process: `{"hello":1,"worker":"orders"}`, then records, at last `{"shutdown":1}`. A record is
//! `{"id":"7-42","attempt":1,"topic":…,"partition":7,"offset":42,"timestamp":…,"key":…,"headers":[…],"value":…}`:
//!
//! - a key, value or header value that is not UTF-8 stands in base64, as `key_b64`, `value_b64`, or as the third element of
//!   its header (`["n", null, "/w=="]`); a header's name that is not UTF-8 as the fourth (`[null, "v", null, "/w=="]`);
//! - with `value = "json"` the value is JSON itself, not a text.
//!
//! Back: `{"ready":1}` or `{"ready":1,"concurrency":8}` (how many records it takes at once; 1 if it does not say), then
//! for each record, in any order, `{"id":"7-42","status":"ok"}`, `"retry"` (with `after`, as `"10s"`, and `reason` if it
//! likes), `"dead_letter"` or `"skip"`.

use std::time::Duration;

use serde::Deserialize;
use waterwheel::config::parse_duration;

use crate::records::push_text;

/// The longest line that a process may write.
pub(super) const MAX_LINE: usize = 1 << 20;

/// The most records that a process may ask for at once.
const MAX_CONCURRENCY: u32 = 10_000;

pub(super) const SHUTDOWN: &[u8] = b"{\"shutdown\":1}\n";

pub(super) fn hello(worker: &str) -> Vec<u8> {
    let mut line = b"{\"hello\":1,\"worker\":".to_vec();
    push_text(&mut line, worker);
    line.extend_from_slice(b"}\n");
    line
}

/// What a process said in one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Ready { concurrency: u32 },
    Answer { id: String, answer: Answer },
}

/// What became of a record.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Ok,
    Retry { after: Option<Duration>, reason: String },
    DeadLetter { reason: String },
    Skip { reason: String },
}

#[derive(Deserialize)]
struct Line {
    ready: Option<u32>,
    concurrency: Option<u32>,
    id: Option<String>,
    status: Option<String>,
    after: Option<String>,
    reason: Option<String>,
}

/// Reads a line, or tells what is wrong with it, quoting none of it: it may hold a payload.
pub(crate) fn parse(line: &[u8]) -> Result<Said, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| {
        let what = match error.classify() {
            serde_json::error::Category::Data => "is JSON of another shape",
            _ => "is not a JSON object",
        };
        format!("a line of its stdout {what} (column {}); what it logs belongs on stderr", error.column())
    })?;
    match (line.ready, line.id) {
        (Some(1), None) => {
            let concurrency = line.concurrency.unwrap_or(1);
            if (1..=MAX_CONCURRENCY).contains(&concurrency) {
                Ok(Said::Ready { concurrency })
            } else {
                Err(format!("it says concurrency {concurrency}; 1 to {MAX_CONCURRENCY} is allowed"))
            }
        }
        (Some(version), None) => Err(format!("it says ready for protocol {version}; this is 1")),
        (None, Some(id)) => {
            let reason = line.reason.unwrap_or_else(|| "the handler gave no reason".to_owned());
            let answer = match line.status.as_deref() {
                Some("ok") => Answer::Ok,
                Some("retry") => Answer::Retry { after: after(line.after.as_deref())?, reason },
                Some("dead_letter") => Answer::DeadLetter { reason },
                Some("skip") => Answer::Skip { reason },
                Some(_) => return Err("a status is ok, retry, dead_letter or skip, not what it says".to_owned()),
                None => return Err("an answer has no \"status\"".to_owned()),
            };
            Ok(Said::Answer { id, answer })
        }
        (Some(_), Some(_)) => Err("a line has both \"ready\" and \"id\"".to_owned()),
        (None, None) => Err("a line has neither \"ready\" nor \"id\"".to_owned()),
    }
}

fn after(text: Option<&str>) -> Result<Option<Duration>, String> {
    let parsed = text.map(parse_duration).transpose();
    parsed.map_err(|_| "\"after\" is not a duration, as \"10s\" or \"500ms\"".to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// JSON objects that have the protocol's names, mostly.
    fn object() -> impl Strategy<Value = String> {
        let name = prop_oneof!["ready|concurrency|id|status|after|reason", "[a-z]{0,4}"];
        let value = prop_oneof![
            "-?[0-9]{1,20}",
            Just("1".to_owned()),
            Just("null".to_owned()),
            "\"(ok|retry|dead_letter|skip|7-42|10s|1e9s|)\"",
            "\"[ -!#-\\[\\]-~]{0,20}\"",
            "\\[{1,50}",
        ];
        let pairs = prop::collection::vec((name, value), 0..6);
        pairs.prop_map(|pairs| {
            let pairs: Vec<_> = pairs.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", pairs.join(","))
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&bytes).is_err(), "nearly nothing is a line of the protocol");
        }

        /// What is understood is within its bounds; what is not is told without quoting it.
        #[test]
        fn nearly_right_lines_are_understood_or_told_apart(line in object(), canary in "canary[0-9]{8}") {
            let line = line.replace("7-42", &canary);
            match parse(line.as_bytes()) {
                Ok(Said::Ready { concurrency }) => prop_assert!((1..=MAX_CONCURRENCY).contains(&concurrency)),
                Ok(Said::Answer { id, .. }) => prop_assert!(line.contains(&id)),
                Err(why) => prop_assert!(!why.contains("canary"), "{why}"),
            }
        }
    }

    #[test]
    fn good_lines_are_understood() {
        let answer = |answer| Said::Answer { id: "7-42".to_owned(), answer };
        let none = || "the handler gave no reason".to_owned();
        let table = [
            (r#"{"ready":1}"#, Said::Ready { concurrency: 1 }),
            (r#"{"ready":1,"concurrency":8,"more":[]}"#, Said::Ready { concurrency: 8 }),
            (r#"{"id":"7-42","status":"ok"}"#, answer(Answer::Ok)),
            (r#" {"status":"skip","id":"7-42"} "#, answer(Answer::Skip { reason: none() })),
            (r#"{"id":"7-42","status":"dead_letter","reason":"r"}"#, answer(Answer::DeadLetter { reason: "r".into() })),
            (r#"{"id":"7-42","status":"retry"}"#, answer(Answer::Retry { after: None, reason: none() })),
            (
                r#"{"id":"7-42","status":"retry","after":"1m","reason":"busy"}"#,
                answer(Answer::Retry { after: Some(Duration::from_secs(60)), reason: "busy".into() }),
            ),
        ];
        for (line, expected) in table {
            assert_eq!(parse(line.as_bytes()), Ok(expected), "{line}");
        }
    }

    #[test]
    fn bad_lines_are_told_without_quoting_them() {
        let table: [(&[u8], &str); 15] = [
            (b"", "is not a JSON object (column 0)"),
            (b"canary", "is not a JSON object (column 1)"),
            (b"{\"id\":\"canary", "is not a JSON object"),
            (b"\xff\xfe", "is not a JSON object"),
            (b"[]", "of another shape"),
            (b"7", "of another shape"),
            (b"{\"id\":7,\"status\":\"ok\"}", "of another shape"),
            (b"{}", "neither \"ready\" nor \"id\""),
            (b"{\"ready\":2}", "protocol 2; this is 1"),
            (b"{\"ready\":1,\"concurrency\":0}", "concurrency 0; 1 to 10000"),
            (b"{\"ready\":1,\"id\":\"1-1\"}", "both"),
            (b"{\"id\":\"1-1\"}", "no \"status\""),
            (b"{\"id\":\"1-1\",\"status\":\"canary\"}", "ok, retry, dead_letter or skip"),
            (b"{\"id\":\"1-1\",\"status\":\"retry\",\"after\":\"canary\"}", "not a duration"),
            (b"{\"id\":\"1-1\",\"status\":\"retry\",\"after\":10}", "of another shape"),
        ];
        for (line, expected) in table {
            let fault = parse(line).expect_err("a bad line");
            assert!(fault.contains(expected), "{}: {fault}", String::from_utf8_lossy(line));
            assert!(!fault.contains("canary"), "{fault}");
        }
    }

    #[test]
    fn the_greeting_names_the_worker() {
        assert_eq!(hello("a \"b\""), b"{\"hello\":1,\"worker\":\"a \\\"b\\\"\"}\n");
    }
}
