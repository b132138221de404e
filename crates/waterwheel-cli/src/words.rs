//! Numbers and times as people read them.

use std::time::Duration;

/// `12345` as `12,345`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1536` as `1.5 KiB`.
pub(crate) fn bytes(number: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    let (mut rest, mut unit) = (number as f64, None);
    for larger in UNITS {
        if rest < 1024.0 {
            break;
        }
        (rest, unit) = (rest / 1024.0, Some(larger));
    }
    unit.map_or_else(|| format!("{number} B"), |unit| format!("{rest:.1} {unit}"))
}

/// As `1:05`.
pub(crate) fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// The two largest units of a time: `850ms`, `12s`, `3m 5s`, `2h 10m`, `4d 3h`.
pub(crate) fn about(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let two = |large: u64, unit: &str, small: u64, next: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{next}"),
    };
    match (days, hours, minutes, seconds % 60) {
        (0, 0, 0, 0) if !time.is_zero() => format!("{}ms", time.as_millis()),
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => two(m, "m", s, "s"),
        (0, h, m, _) => two(h, "h", m, "m"),
        (d, h, _, _) => two(d, "d", h, "h"),
    }
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let table = [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in table {
            assert_eq!(grouped(number), text);
        }
        let table =
            [(0, "0s"), (850, "850ms"), (12_900, "12s"), (185_000, "3m 5s"), (7_800_000, "2h 10m"), (86_400_000, "1d")];
        for (millis, text) in table {
            assert_eq!(about(Duration::from_millis(millis)), text);
        }
        for (number, text) in [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (95_420_416, "91.0 MiB")] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(minutes(Duration::from_millis(65_900)), "1:05");
    }
}
