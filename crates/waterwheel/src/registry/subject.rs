//! Under which subject the schemas of a topic stand.

use std::borrow::Cow;

/// Whether a codec is of keys or of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The key.
    Key,
    /// The value.
    Value,
}

impl Part {
    /// The header that names the schema, where that is not done before the payload.
    pub fn schema_header(self) -> &'static str {
        match self {
            Part::Key => "__key_schema_id",
            Part::Value => "__value_schema_id",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Part::Key => "key",
            Part::Value => "value",
        }
    }
}

/// How a subject's name is made.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SubjectStrategy {
    /// `<topic>-value` or `<topic>-key`: one kind of record a topic.
    #[default]
    Topic,
    /// The record's full name: the same schema in every topic.
    Record,
    /// `<topic>-<the record's full name>`: several kinds of records in one topic.
    TopicRecord,
    /// That name, whatever the topic.
    Named(String),
}

impl SubjectStrategy {
    /// `None`: the record's name is needed and not known.
    pub(super) fn subject<'a>(&'a self, topic: &str, part: Part, record: Option<&'a str>) -> Option<Cow<'a, str>> {
        Some(match self {
            SubjectStrategy::Topic => Cow::Owned(format!("{topic}-{}", part.suffix())),
            SubjectStrategy::Record => Cow::Borrowed(record?),
            SubjectStrategy::TopicRecord => Cow::Owned(format!("{topic}-{}", record?)),
            SubjectStrategy::Named(subject) => Cow::Borrowed(subject),
        })
    }
}

/// A subject as a part of a path.
pub(super) fn escaped(subject: &str) -> String {
    let mut path = String::with_capacity(subject.len());
    for byte in subject.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_as_confluents_clients_name_them() {
        let subject = |strategy: SubjectStrategy, part| {
            strategy.subject("orders", part, Some("shop.Order")).unwrap().into_owned()
        };
        assert_eq!(subject(SubjectStrategy::Topic, Part::Value), "orders-value");
        assert_eq!(subject(SubjectStrategy::Topic, Part::Key), "orders-key");
        assert_eq!(subject(SubjectStrategy::Record, Part::Value), "shop.Order");
        assert_eq!(subject(SubjectStrategy::TopicRecord, Part::Value), "orders-shop.Order");
        assert_eq!(subject(SubjectStrategy::Named("s".to_owned()), Part::Key), "s");
        assert_eq!(SubjectStrategy::Record.subject("orders", Part::Value, None), None);
    }

    #[test]
    fn a_subject_cannot_leave_its_place_in_a_path() {
        assert_eq!(escaped("a/../b?c#d e\u{e9}"), "a%2F..%2Fb%3Fc%23d%20e%C3%A9");
    }
}
