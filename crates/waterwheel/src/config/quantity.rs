//! Durations and sizes as people write them: `"200ms"`, `"1h30m"`, `"64MiB"`.

use std::time::Duration;

use super::error::ConfigError;

/// In nanoseconds.
const SECOND: u64 = 1_000_000_000;
/// Longer than this no setting makes sense, and arithmetic with instants stays far from overflow.
const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A duration such as `"200ms"`, `"25s"`, `"1.5h"` or `"1h30m"`; units `us`, `ms`, `s`, `m`, `h`, `d`; at most 10 years.
///
/// The error has no key: see [`ConfigError::with_key`].
pub fn parse_duration(text: &str) -> Result<Duration, ConfigError> {
    let shown: String = text.chars().take(40).collect();
    let refuse =
        |problem: &str, remedy: &str| Err(ConfigError::new("", format!("duration {shown:?} {problem}")).remedy(remedy));
    const EXAMPLE: &str = "write a number and a unit (us, ms, s, m, h, d), as \"200ms\"";
    let mut rest = text.trim();
    if rest.is_empty() {
        return refuse("is empty", EXAMPLE);
    }
    if rest.starts_with('-') {
        return refuse("is negative", "durations are zero or more");
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = split_where(rest, |c| !(c.is_ascii_digit() || c == '.'));
        let (unit, after) = split_where(after, |c| !c.is_alphabetic());
        if number.is_empty() {
            return refuse("is not a duration", EXAMPLE);
        }
        if unit.is_empty() {
            if after.is_empty() && rest.len() == text.trim().len() {
                let number = shown.trim();
                return refuse("has no unit", &format!("write \"{number}s\" or \"{number}ms\""));
            }
            return refuse("is not a duration", EXAMPLE);
        }
        let nanos = match unit {
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => SECOND,
            "m" | "min" => 60 * SECOND,
            "h" => 3_600 * SECOND,
            "d" => 86_400 * SECOND,
            "e" | "E" => return refuse("has an exponent", "write it out with a larger unit, at most \"3650d\""),
            _ => return refuse("has an unknown unit", "the units are us, ms, s, m, h and d"),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || (whole.is_empty() && fraction.is_empty()) {
            return refuse("is not a duration", EXAMPLE);
        }
        let part = decimal(whole, fraction, nanos).map(Duration::from_nanos);
        let Some(sum) = part.and_then(|part| total.checked_add(part)) else {
            return refuse("is too long", "at most \"3650d\"");
        };
        total = sum;
        rest = after.trim_start();
    }
    if total > MAX_DURATION {
        return refuse("is too long", "at most \"3650d\"");
    }
    Ok(total)
}

/// A decimal number of units, rounded down; none if that is beyond what the type holds. Exact, where a float is not.
fn decimal(whole: &str, fraction: &str, unit: u64) -> Option<u64> {
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Later digits are below a nanosecond of the largest unit.
    let digits = &fraction[..fraction.len().min(17)];
    let parts: u64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    let parts = u128::from(parts) * u128::from(unit) / 10u128.pow(digits.len() as u32);
    whole.checked_mul(unit)?.checked_add(u64::try_from(parts).ok()?)
}

/// A size in bytes such as `"64MiB"`, `"1MB"` or `"512B"`; units `B`, `kB`, `KiB`, `MB`, `MiB`, `GB`, `GiB`.
///
/// The error has no key: see [`ConfigError::with_key`].
pub fn parse_size(text: &str) -> Result<u64, ConfigError> {
    let shown: String = text.chars().take(40).collect();
    let refuse =
        |problem: &str, remedy: &str| Err(ConfigError::new("", format!("size {shown:?} {problem}")).remedy(remedy));
    const EXAMPLE: &str = "write a number and a unit, as \"64MiB\"";
    let trimmed = text.trim();
    if trimmed.starts_with('-') {
        return refuse("is negative", EXAMPLE);
    }
    let (number, unit) = split_where(trimmed, |c| !c.is_ascii_digit());
    if number.is_empty() {
        return refuse("is not a size", EXAMPLE);
    }
    let factor: u64 = match unit.trim_start() {
        "" => {
            let number = shown.trim();
            return refuse("has no unit", &format!("write \"{number}B\" or \"{number}MiB\""));
        }
        "B" => 1,
        "kB" | "KB" => 1_000,
        "KiB" => 1 << 10,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "GB" => 1_000_000_000,
        "GiB" => 1 << 30,
        _ => return refuse("has an unknown unit", "the units are B, kB, KiB, MB, MiB, GB and GiB"),
    };
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)) {
        Some(bytes) => Ok(bytes),
        None => refuse("is too large", "it must fit in 64 bits"),
    }
}

fn split_where(text: &str, stop: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(stop).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Nothing makes the readers panic, and an error quotes no more than the beginning.
        #[test]
        fn no_text_makes_the_readers_panic(
            text in prop_oneof![
                any::<String>(),
                "[0-9.eE+-]{0,40}(us|µs|ms|s|m|h|d|B|KiB|GiB)?",
                "([0-9]{1,25}\\.?[0-9]{0,25}(ms|s|h|d) ?){0,4}",
            ],
        ) {
            if let Ok(duration) = parse_duration(&text) {
                prop_assert!(duration <= MAX_DURATION);
            }
            for error in [parse_duration(&text).err(), parse_size(&text).err()].into_iter().flatten() {
                prop_assert!(error.to_string().chars().count() < 700, "{error}");
            }
        }

        #[test]
        fn what_is_written_out_is_read(
            days in 0u64..3_649, seconds in 0u64..86_400, nanos in 0u32..1_000_000_000, kib in 0u64..1 << 40,
        ) {
            let written = Duration::new(days * 86_400 + seconds, nanos);
            prop_assert_eq!(parse_duration(&format!("{days}d{seconds}.{nanos:09}s")).unwrap(), written);
            let micros = Duration::from_micros(written.as_micros() as u64);
            prop_assert_eq!(parse_duration(&format!("{}us", micros.as_micros())).unwrap(), micros);
            prop_assert_eq!(parse_size(&format!("{kib}KiB")).unwrap(), kib << 10);
        }
    }

    #[test]
    fn durations_and_sizes_are_read_as_written() {
        for (text, millis) in
            [("200ms", 200), ("25s", 25_000), ("1h30m", 5_400_000), ("1.5s", 1_500), ("0s", 0), (" 1m 5s ", 65_000)]
        {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis), "{text}");
        }
        for (text, bytes) in [("64MiB", 64 << 20), ("1kB", 1_000), ("512B", 512), ("2 GiB", 2 << 30)] {
            assert_eq!(parse_size(text).unwrap(), bytes, "{text}");
        }
    }

    #[test]
    fn a_bad_duration_says_what_is_wrong() {
        let table = [
            ("-5ms", r#"duration "-5ms" is negative; durations are zero or more"#),
            ("1e400s", r#"duration "1e400s" has an exponent; write it out with a larger unit, at most "3650d""#),
            ("10", r#"duration "10" has no unit; write "10s" or "10ms""#),
            ("", r#"duration "" is empty; write a number and a unit (us, ms, s, m, h, d), as "200ms""#),
            (
                "fast",
                r#"duration "fast" is not a duration; write a number and a unit (us, ms, s, m, h, d), as "200ms""#,
            ),
            (
                "1.2.3s",
                r#"duration "1.2.3s" is not a duration; write a number and a unit (us, ms, s, m, h, d), as "200ms""#,
            ),
            (
                "5 parsecs",
                r#"duration "5 parsecs" is not a duration; write a number and a unit (us, ms, s, m, h, d), as "200ms""#,
            ),
            ("5y", r#"duration "5y" has an unknown unit; the units are us, ms, s, m, h and d"#),
            ("9999999d", r#"duration "9999999d" is too long; at most "3650d""#),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), expected, "{text}");
        }
        assert!(parse_duration(&"9".repeat(5_000)).is_err());
        assert!(parse_duration(&format!("{}s", "9".repeat(5_000))).is_err());
    }

    #[test]
    fn a_bad_size_says_what_is_wrong() {
        let table = [
            ("-1MiB", r#"size "-1MiB" is negative; write a number and a unit, as "64MiB""#),
            ("64", r#"size "64" has no unit; write "64B" or "64MiB""#),
            ("64mb", r#"size "64mb" has an unknown unit; the units are B, kB, KiB, MB, MiB, GB and GiB"#),
            ("99999999999GiB", r#"size "99999999999GiB" is too large; it must fit in 64 bits"#),
        ];
        for (text, expected) in table {
            assert_eq!(parse_size(text).unwrap_err().to_string(), expected, "{text}");
        }
    }
}
