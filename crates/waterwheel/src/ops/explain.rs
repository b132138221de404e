//! `/explain`: the question in the query, and the workers' answers.

use futures_util::future::join_all;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::{Probes, TEXT, response};
use crate::explain::Subject;
use crate::record::TopicPartition;

/// How the answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
}

impl Probes {
    /// What that query asks of all workers.
    pub(super) async fn explain(&self, query: &str) -> Response<Full<Bytes>> {
        let (subject, form) = match parse(query) {
            Ok(asked) => asked,
            Err(problem) => return response(StatusCode::BAD_REQUEST, TEXT, format!("{problem}\n")),
        };
        let answers = join_all(self.workers.iter().map(|worker| worker.handle.explain(subject.clone()))).await;
        let answers: Vec<_> = answers.into_iter().flatten().collect();
        let status = match answers.iter().any(|answer| !answer.partitions.is_empty()) {
            true => StatusCode::OK,
            false => StatusCode::NOT_FOUND,
        };
        match form {
            Form::Json => response(status, "application/json", format!("{}\n", json!({ "workers": answers }))),
            Form::Text if answers.is_empty() => response(status, TEXT, "no worker runs here\n".to_owned()),
            Form::Text => {
                let mut text: String = answers.iter().map(|answer| format!("{answer}\n")).collect();
                let mut partitions = answers.iter().flat_map(|answer| &answer.partitions);
                // Else nothing would be said of what was asked about.
                if matches!(subject, Subject::Key { .. }) && partitions.all(|partition| partition.key.is_none()) {
                    text.push_str("the key: nothing of it is in work here, or keys have no order\n");
                }
                response(status, TEXT, text)
            }
        }
    }
}

fn parse(query: &str) -> Result<(Subject, Form), String> {
    let (mut topic, mut partition, mut offset, mut key, mut form) = (None, None, None, None, Form::Text);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value).ok_or_else(|| format!("{name}: a % is followed by two hexadecimal digits"))?;
        let text = || String::from_utf8(value.clone()).map_err(|_| format!("{name}: is not UTF-8"));
        let number = || text()?.parse::<i64>().map_err(|_| format!("{name}: is not a number"));
        match name {
            "topic" => topic = Some(text()?),
            "partition" => {
                partition = Some(i32::try_from(number()?).map_err(|_| format!("{name}: is too large"))?);
            }
            "offset" => offset = Some(number()?),
            "key" => key = Some(value),
            "format" => {
                form = match value.as_slice() {
                    b"json" => Form::Json,
                    b"text" => Form::Text,
                    _ => return Err("format: is text or json".to_owned()),
                }
            }
            _ => return Err(format!("there is no {name}: topic, partition, offset, key, format")),
        }
    }
    let topic = topic.ok_or("topic: is missing; ask for /explain?topic=orders&partition=3")?;
    let at = |partition| TopicPartition::new(topic.as_str(), partition);
    let subject = match (partition, offset, key) {
        (_, Some(_), Some(_)) => return Err("offset and key: ask for one of them".to_owned()),
        (None, Some(_), None) => return Err("offset: needs its partition".to_owned()),
        (Some(partition), Some(offset), None) => Subject::Offset(at(partition), offset),
        (partition, None, Some(key)) => Subject::Key { topic, partition, key },
        (Some(partition), None, None) => Subject::Partition(at(partition)),
        (None, None, None) => Subject::Topic(topic),
    };
    Ok((subject, form))
}

/// What `%41` and `+` stand for.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            other => other,
        });
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_a_subject_and_a_form() {
        let p3 = || TopicPartition::new("orders", 3);
        let key = |partition, key: &[u8]| Subject::Key { topic: "orders".to_owned(), partition, key: key.to_vec() };
        for (query, subject, form) in [
            ("topic=orders", Subject::Topic("orders".to_owned()), Form::Text),
            ("topic=orders&partition=3&format=json", Subject::Partition(p3()), Form::Json),
            ("topic=orders&offset=7&partition=3", Subject::Offset(p3(), 7), Form::Text),
            ("key=a%20b%ff+c&topic=orders", key(None, b"a b\xff c"), Form::Text),
            ("topic=orders&partition=3&key=", key(Some(3), b""), Form::Text),
        ] {
            assert_eq!(parse(query), Ok((subject, form)), "{query}");
        }
        for (query, problem) in [
            ("", "topic: is missing; ask for /explain?topic=orders&partition=3"),
            ("topic=orders&offset=1", "offset: needs its partition"),
            ("topic=orders&partition=x", "partition: is not a number"),
            ("topic=orders&key=%4", "key: a % is followed by two hexadecimal digits"),
            ("topic=orders&keys=1", "there is no keys: topic, partition, offset, key, format"),
            ("topic=orders&partition=1&offset=1&key=a", "offset and key: ask for one of them"),
        ] {
            assert_eq!(parse(query), Err(problem.to_owned()), "{query}");
        }
    }
}
