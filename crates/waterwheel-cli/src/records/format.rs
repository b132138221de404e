//! kcat's format string: `%t %p %o %T %k %K %s %S %R %h %%`, and `\n \r \t \xHH` and the like between them.

use super::terminal::push_plain;
use super::view::View;

/// A format string, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Format(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Topic,
    Partition,
    Offset,
    Timestamp,
    Key,
    KeyLength,
    Value,
    ValueLength,
    /// Four bytes, the highest first; all bits set for null.
    ValueLengthBinary,
    Headers,
}

impl Format {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut pieces, mut rest) = (Vec::new(), text);
        while let Some((before, after)) = rest.split_once('%') {
            if !before.is_empty() {
                pieces.push(Piece::Text(unescape(before)));
            }
            let mut chars = after.chars();
            pieces.push(match chars.next() {
                Some('t') => Piece::Topic,
                Some('p') => Piece::Partition,
                Some('o') => Piece::Offset,
                Some('T') => Piece::Timestamp,
                Some('k') => Piece::Key,
                Some('K') => Piece::KeyLength,
                Some('s') => Piece::Value,
                Some('S') => Piece::ValueLength,
                Some('R') => Piece::ValueLengthBinary,
                Some('h') => Piece::Headers,
                Some('%') => Piece::Text(b"%".to_vec()),
                Some(other) => return Err(format!("%{other} is none of %t %p %o %T %k %K %s %S %R %h %%")),
                None => return Err("ends with a lone %; write %% for one".to_owned()),
            });
            rest = chars.as_str();
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(unescape(rest)));
        }
        Ok(Self(pieces))
    }

    /// What kcat writes without a format: the key and its delimiter, if that is asked for; value; delimiter.
    pub(super) fn plain(delimiter: &str, key_delimiter: Option<&str>) -> Self {
        let key = key_delimiter.map(|delimiter| [Piece::Key, Piece::Text(unescape(delimiter))]);
        let value = [Piece::Value, Piece::Text(unescape(delimiter))];
        Self(key.into_iter().flatten().chain(value).collect())
    }

    /// Appends the record. `null` stands for a null key, value or header value. What comes from the record is made harmless
    /// for a terminal where it goes to one.
    pub(super) fn push(&self, out: &mut Vec<u8>, record: &View<'_>, null: &[u8], to_terminal: bool) {
        let push = |out: &mut Vec<u8>, bytes: Option<&[u8]>| match bytes {
            None => out.extend_from_slice(null),
            Some(bytes) if to_terminal => push_plain(out, bytes),
            Some(bytes) => out.extend_from_slice(bytes),
        };
        let length = |bytes: Option<&[u8]>| bytes.map_or(-1, |b| b.len() as i64);
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Topic => out.extend_from_slice(record.topic.as_bytes()),
                Piece::Partition => push_number(out, record.partition.into()),
                Piece::Offset => push_number(out, record.offset),
                Piece::Timestamp => push_number(out, record.timestamp.unwrap_or(-1)),
                Piece::Key => push(out, record.key),
                Piece::KeyLength => push_number(out, length(record.key)),
                Piece::Value => push(out, record.value),
                Piece::ValueLength => push_number(out, length(record.value)),
                Piece::ValueLengthBinary => out.extend_from_slice(&(length(record.value) as i32).to_be_bytes()),
                Piece::Headers => {
                    for (n, (name, value)) in record.headers().enumerate() {
                        if n > 0 {
                            out.push(b',');
                        }
                        push(out, Some(name));
                        out.push(b'=');
                        push(out, value);
                    }
                }
            }
        }
    }
}

fn push_number(out: &mut Vec<u8>, number: i64) {
    out.extend_from_slice(number.to_string().as_bytes());
}

/// `\n`, `\r`, `\t`, a byte as `\xHH`, in octal as `\033` or in decimal as `\27`; before anything else the backslash goes.
pub(crate) fn unescape(text: &str) -> Vec<u8> {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let mut chars = after.chars();
        let (digits, radix) = match chars.next() {
            Some('x') => (&after[1..], 16),
            Some('0') => (after, 8),
            Some('1'..='9') => (after, 10),
            other => {
                match other {
                    Some('n') => bytes.push(b'\n'),
                    Some('r') => bytes.push(b'\r'),
                    Some('t') => bytes.push(b'\t'),
                    Some(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                    None => bytes.push(b'\\'),
                }
                rest = chars.as_str();
                continue;
            }
        };
        let most = if radix == 16 { 2 } else { 3 };
        let count = digits.chars().take(most).take_while(|c| c.is_digit(radix)).count();
        match u32::from_str_radix(&digits[..count], radix) {
            Ok(number) => bytes.push(number as u8),
            // No digit behind `\x`.
            Err(_) => bytes.push(b'x'),
        }
        rest = &digits[count..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_kcats() {
        let table: [(&str, &[u8]); 8] = [
            (r"a\tb\n", b"a\tb\n"),
            (r"\x1b[\xff", b"\x1b[\xff"),
            (r"\033\0", b"\x1b\0"),
            (r"\27", b"\x1b"),
            (r"\\\%", b"\\%"),
            (r"\xg", b"xg"),
            ("\\", b"\\"),
            (r"\é", "é".as_bytes()),
        ];
        for (text, bytes) in table {
            assert_eq!(unescape(text), bytes, "{text}");
        }
    }

    #[test]
    fn a_format_is_taken_apart_or_refused() {
        let text = |t: &str| Piece::Text(t.as_bytes().to_vec());
        let parsed = Format::parse(r"%t[%p]@%o\t%%%s").unwrap();
        let expected =
            [Piece::Topic, text("["), Piece::Partition, text("]@"), Piece::Offset, text("\t"), text("%"), Piece::Value];
        assert_eq!(parsed.0, expected);
        assert!(Format::parse("%q").is_err_and(|e| e.starts_with("%q is none of")));
        assert!(Format::parse("50%").is_err());
        assert_eq!(Format::plain(r"\n", Some(":")).0, [Piece::Key, text(":"), Piece::Value, text("\n")]);
    }
}
