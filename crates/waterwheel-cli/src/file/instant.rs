//! RFC 3339 instants, as `2026-01-01T00:00:00Z` or with `+01:00`.

/// Milliseconds since 1970 (digits below a millisecond are dropped), or what is wrong.
pub(crate) fn parse_instant(text: &str) -> Result<i64, &'static str> {
    const SHAPE: &str = "is not an instant";
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 19 {
        return Err(SHAPE);
    }
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| bytes[*at] != *separator) || !matches!(bytes[10], b'T' | b't' | b' ') {
        return Err(SHAPE);
    }
    let number = |from: usize, to: usize| -> Result<i64, &'static str> {
        let digits = text.get(from..to).ok_or(SHAPE)?;
        if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().map_err(|_| SHAPE) } else { Err(SHAPE) }
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || day < 1 || day > days_of(year, month) {
        return Err("has no such day");
    }
    if second == 60 {
        return Err("is a leap second, which Kafka's clock does not have");
    }
    if hour > 23 || minute > 59 || second > 59 {
        return Err("has no such time of day");
    }
    let mut rest = &text[19..];
    let mut millis = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(SHAPE);
        }
        let three: String = fraction[..digits].chars().chain("00".chars()).take(3).collect();
        millis = three.parse::<i64>().map_err(|_| SHAPE)?;
        rest = &fraction[digits..];
    }
    let offset_minutes = match (rest.as_bytes(), rest.len()) {
        ([b'Z' | b'z'], _) => 0,
        ([], _) => return Err("has no time zone"),
        ([sign @ (b'+' | b'-'), .., _, _], 6) if rest.as_bytes()[3] == b':' => {
            let at = text.len() - 5;
            let (hours, minutes) = (number(at, at + 2)?, number(at + 3, at + 5)?);
            if hours > 23 || minutes > 59 {
                return Err("has no such time zone");
            }
            (hours * 60 + minutes) * if *sign == b'-' { -1 } else { 1 }
        }
        _ => return Err(SHAPE),
    };
    let days = days_before_year(year) - days_before_year(1970)
        + (1..month).map(|month| days_of(year, month)).sum::<i64>()
        + day
        - 1;
    Ok((((days * 24 + hour) * 60 + minute - offset_minutes) * 60 + second) * 1000 + millis)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if is_leap(year) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days of the years before it, from the year 1 on.
fn days_before_year(year: i64) -> i64 {
    let before = year - 1;
    before * 365 + before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400)
}

#[cfg(test)]
mod tests {
    use super::parse_instant;

    #[test]
    fn instants_are_read_or_refused_with_the_reason() {
        let table = [
            ("1970-01-01T00:00:00Z", Ok(0)),
            ("2026-01-01T00:00:00Z", Ok(1_767_225_600_000)),
            ("2026-01-01T01:00:00+01:00", Ok(1_767_225_600_000)),
            ("2025-12-31T18:30:00.25-05:30", Ok(1_767_225_600_250)),
            ("2024-02-29T23:59:59.123456789Z", Ok(1_709_251_199_123)),
            ("1969-12-31T23:59:59Z", Ok(-1_000)),
            ("0000-01-01T00:00:00Z", Ok(-62_167_219_200_000)),
            ("2026-13-40T00:00:00Z", Err("has no such day")),
            ("2026-02-29T00:00:00Z", Err("has no such day")),
            ("2016-12-31T23:59:60Z", Err("is a leap second, which Kafka's clock does not have")),
            ("2026-01-01T24:00:00Z", Err("has no such time of day")),
            ("2026-01-01T00:00:00", Err("has no time zone")),
            ("2026-01-01", Err("is not an instant")),
            ("2026-01-01T00:00:00.Z", Err("is not an instant")),
            ("2026-01-01T00:00:00+1:00", Err("is not an instant")),
            ("2026-01-01T00:00:00+é:0", Err("is not an instant")),
            ("+026-01-01T00:00:00Z", Err("is not an instant")),
        ];
        for (text, expected) in table {
            assert_eq!(parse_instant(text), expected, "{text}");
        }
    }
}
