//! Control bytes of records, which would steer a terminal: written so that they are seen instead.

/// Appends bytes for a terminal: of control characters (C1 ones too) and of what is not UTF-8 each byte as `\x1b`. Line ends
/// and tabs stay.
pub(super) fn push_plain(out: &mut Vec<u8>, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() && c != '\n' && c != '\t' {
                c.encode_utf8(&mut [0; 4]).bytes().for_each(|byte| push_hex(out, byte));
            } else {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
        chunk.invalid().iter().for_each(|byte| push_hex(out, *byte));
    }
}

fn push_hex(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(format!("\\x{byte:02x}").as_bytes());
}

/// Escapes what JSON leaves as it is and a terminal obeys: DEL and the C1 control characters, from `from` on.
pub(super) fn escape_json(out: &mut Vec<u8>, from: usize) {
    let is_obeyed = |c: char| ('\u{7f}'..='\u{9f}').contains(&c);
    let Ok(json) = std::str::from_utf8(&out[from..]) else { return };
    if !json.contains(is_obeyed) {
        return;
    }
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_obeyed(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    out.truncate(from);
    out.extend_from_slice(escaped.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered_by_records() {
        let mut out = Vec::new();
        push_plain(&mut out, b"a\x1b[2J\x07\n\tb\x7f\xc2\x9b\xff\xc3\xa9");
        assert_eq!(String::from_utf8(out).unwrap(), "a\\x1b[2J\\x07\n\tb\\x7f\\xc2\\x9b\\xff\u{e9}");
        let mut out = "{\"\u{9b}".as_bytes().to_vec();
        escape_json(&mut out, 0);
        assert_eq!(out, b"{\"\\u009b");
        let mut out = "é\u{7f}é".as_bytes().to_vec();
        escape_json(&mut out, 2);
        assert_eq!(String::from_utf8(out).unwrap(), "é\\u007fé");
    }
}
