//! Bytes as text, and back: 15 bits a character where the broker counts UTF-16 units, 6 where it counts bytes.

use super::MapRefusal;

/// What every map begins with; its version and its form follow.
const MAGIC: &str = "ww";
/// Characters before the payload.
const PREFIX: usize = 4;

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// U+3400 to U+9FFF, then U+AC00 to U+BFFF: 32,768 letters (and 64 hexagrams), one UTF-16 unit each.
const FIRST: u32 = 0x3400;
const FIRST_LEN: u32 = 0x6C00;
const SECOND: u32 = 0xAC00;
const SECOND_LEN: u32 = 0x1400;

/// How the payload is spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// 15 bits a character.
    Wide,
    /// base64url without padding.
    Ascii,
}

impl Form {
    fn tag(self) -> char {
        match self {
            Form::Wide => '~',
            Form::Ascii => '-',
        }
    }

    fn bits(self) -> usize {
        match self {
            Form::Wide => 15,
            Form::Ascii => 6,
        }
    }

    /// The most bytes that fit `units` characters.
    pub(super) fn capacity(self, units: usize) -> usize {
        (units.saturating_sub(PREFIX).saturating_mul(self.bits()) / 8).min(u32::MAX as usize)
    }

    /// The characters of a text that holds `bytes`.
    pub(super) fn units(self, bytes: usize) -> usize {
        PREFIX + (bytes * 8).div_ceil(self.bits())
    }

    fn spell(self, symbol: u32) -> char {
        match self {
            Form::Wide if symbol < FIRST_LEN => char::from_u32(FIRST + symbol),
            Form::Wide => char::from_u32(SECOND + symbol - FIRST_LEN),
            Form::Ascii => BASE64.get(symbol as usize).map(|&byte| char::from(byte)),
        }
        .unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    fn symbol(self, c: char) -> Option<u32> {
        let code = u32::from(c);
        match self {
            Form::Wide if (FIRST..FIRST + FIRST_LEN).contains(&code) => Some(code - FIRST),
            Form::Wide if (SECOND..SECOND + SECOND_LEN).contains(&code) => Some(code - SECOND + FIRST_LEN),
            Form::Wide => None,
            Form::Ascii => match c {
                'A'..='Z' => Some(code - 'A' as u32),
                'a'..='z' => Some(code - 'a' as u32 + 26),
                '0'..='9' => Some(code - '0' as u32 + 52),
                '-' => Some(62),
                '_' => Some(63),
                _ => None,
            },
        }
    }
}

/// The payload as text: the bits of its bytes, lowest first, cut into symbols, the last one filled up with zeros.
pub(super) fn write(form: Form, version: char, payload: &[u8]) -> String {
    let bits = form.bits();
    let mut text = String::with_capacity(form.units(payload.len()) * if form == Form::Wide { 3 } else { 1 });
    text.push_str(MAGIC);
    text.push(version);
    text.push(form.tag());
    let (mut held, mut count) = (0u32, 0);
    for &byte in payload {
        held |= u32::from(byte) << count;
        count += 8;
        while count >= bits {
            text.push(form.spell(held & ((1 << bits) - 1)));
            held >>= bits;
            count -= bits;
        }
    }
    if count > 0 {
        text.push(form.spell(held));
    }
    text
}

/// The version and the payload of a text that is as long as the payload says, to the bit.
pub(super) fn read(text: &str) -> Result<(char, Vec<u8>), MapRefusal> {
    if text.is_empty() {
        return Err(MapRefusal::Empty);
    }
    let mut chars = text.strip_prefix(MAGIC).ok_or(MapRefusal::Foreign)?.chars();
    let version = match chars.next() {
        Some(known @ ('1' | '2')) => known,
        Some(digit) if digit.is_ascii_digit() => return Err(MapRefusal::Version(digit)),
        _ => return Err(MapRefusal::Foreign),
    };
    let form = match chars.next() {
        Some('~') => Form::Wide,
        Some('-') => Form::Ascii,
        _ => return Err(MapRefusal::Foreign),
    };

    let bits = form.bits();
    let mut payload = Vec::with_capacity(chars.as_str().len());
    let (mut held, mut count, mut symbols) = (0u32, 0, 0);
    for c in chars {
        held |= form.symbol(c).ok_or(MapRefusal::Alphabet)? << count;
        count += bits;
        symbols += 1;
        while count >= 8 {
            payload.push(held as u8);
            held >>= 8;
            count -= 8;
        }
    }
    // A symbol may end up to 14 bits past the payload: a whole byte and some.
    let &[a, b, c, d, ..] = payload.as_slice() else { return Err(MapRefusal::Length) };
    let len = u32::from_le_bytes([a, b, c, d]) as usize;
    let beyond = payload.get(len..).ok_or(MapRefusal::Length)?;
    if form.units(len) != PREFIX + symbols || held != 0 || beyond.iter().any(|&byte| byte != 0) {
        return Err(MapRefusal::Length);
    }
    payload.truncate(len);
    Ok((version, payload))
}
