//! From where to where: kcat's and rpk's words for `-o`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use waterwheel::config::parse_duration;
use waterwheel::{Start, Until};

use crate::file::parse_instant;

/// Where reading begins, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Range {
    pub(crate) start: Start,
    pub(crate) until: Until,
}

impl Range {
    /// All that is given with `-o`; kcat gives the two ends of a time one by one.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, String> {
        let mut range = Self::default();
        for text in texts {
            range.add(text).map_err(|problem| format!("{text}: {problem}"))?;
        }
        Ok(range)
    }

    fn add(&mut self, text: &str) -> Result<(), &'static str> {
        if let Some(time) = text.strip_prefix("s@") {
            self.start = begins(moment(time)?);
        } else if let Some(time) = text.strip_prefix("e@") {
            self.until = Until::Timestamp(instant(moment(time)?));
        } else if let Some(times) = text.strip_prefix('@') {
            let (from, to) = cut(times, |part| part == "end" || moment(part).is_ok());
            self.start = if from.is_empty() { Start::Earliest } else { begins(moment(from)?) };
            match to {
                None => {}
                Some("end") => self.until = Until::End,
                Some(to) => self.until = Until::Timestamp(instant(moment(to)?)),
            }
        } else {
            let (from, to) = match text.split_once(':') {
                Some((from, to)) => (from, Some(to)),
                None => (text, None),
            };
            self.start = if from.is_empty() { Start::Earliest } else { offset(from)? };
            match to {
                None | Some("") => {}
                Some("end") => self.until = Until::End,
                Some(to) => self.until = Until::Offset(number(to).ok_or(WORDS)?),
            }
        }
        Ok(())
    }
}

const WORDS: &str = "is none of beginning, end, N, -N (before the end), A:B, s@TIME, e@TIME, @TIME:TIME; \
    a time is milliseconds since 1970, as 2026-01-01T00:00:00Z, or -1h for as long ago";

fn offset(text: &str) -> Result<Start, &'static str> {
    match text {
        "beginning" | "start" | "earliest" => Ok(Start::Earliest),
        "end" | "latest" => Ok(Start::Latest),
        "stored" => Err("needs a group, and this reads without one"),
        _ => match text.strip_prefix('-') {
            Some(back) => number(back).map(|n| Start::BeforeEnd(n.unsigned_abs())).ok_or(WORDS),
            None => number(text).map(Start::Offset).ok_or(WORDS),
        },
    }
}

/// Digits and nothing else.
fn number(text: &str) -> Option<i64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// A moment, or how long ago it was.
enum Moment {
    At(SystemTime),
    Ago(Duration),
}

fn moment(text: &str) -> Result<Moment, &'static str> {
    let at = |millis: i64| {
        let since = Duration::from_millis(u64::try_from(millis).map_err(|_| WORDS)?);
        UNIX_EPOCH.checked_add(since).map(Moment::At).ok_or(WORDS)
    };
    if let Some(age) = text.strip_prefix('-') {
        return parse_duration(age).map(Moment::Ago).map_err(|_| WORDS);
    }
    match number(text) {
        // Seconds since 1970 would be read as a moment of its first weeks.
        Some(number) if text.len() == 10 => at(number * 1000),
        Some(number) => at(number),
        None => at(parse_instant(text).map_err(|_| WORDS)?),
    }
}

fn begins(moment: Moment) -> Start {
    match moment {
        Moment::At(at) => Start::Timestamp(at),
        Moment::Ago(age) => Start::Ago(age),
    }
}

#[expect(clippy::disallowed_methods, reason = "so long ago, as the user's clock goes")]
fn instant(moment: Moment) -> SystemTime {
    match moment {
        Moment::At(at) => at,
        Moment::Ago(age) => SystemTime::now().checked_sub(age).unwrap_or(UNIX_EPOCH),
    }
}

/// Cuts at the one colon that leaves a moment on both sides: instants have colons of their own.
fn cut(text: &str, is_one: impl Fn(&str) -> bool) -> (&str, Option<&str>) {
    let fits = |part: &str| part.is_empty() || is_one(part);
    let at = text.match_indices(':').map(|(at, _)| at).find(|at| fits(&text[..*at]) && fits(&text[at + 1..]));
    match at {
        Some(at) => (&text[..at], Some(&text[at + 1..]).filter(|to| !to.is_empty())),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(texts: &[&str]) -> Result<(Start, Until), String> {
        let texts: Vec<String> = texts.iter().map(|t| (*t).to_owned()).collect();
        Range::parse(&texts).map(|range| (range.start, range.until))
    }

    #[test]
    fn ranges_are_kcats_and_rpks() {
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        let hour = Duration::from_secs(3_600);
        let new_year = at(1_767_225_600_000);
        let table: [(&[&str], Start, Until); 15] = [
            (&[], Start::Earliest, Until::Stopped),
            (&["beginning"], Start::Earliest, Until::Stopped),
            (&["end"], Start::Latest, Until::Stopped),
            (&["17"], Start::Offset(17), Until::Stopped),
            (&["-5"], Start::BeforeEnd(5), Until::Stopped),
            (&["5:10"], Start::Offset(5), Until::Offset(10)),
            (&[":10"], Start::Earliest, Until::Offset(10)),
            (&["5:end"], Start::Offset(5), Until::End),
            (&["-5:end"], Start::BeforeEnd(5), Until::End),
            (&["s@1000", "e@2000"], Start::Timestamp(at(1_000)), Until::Timestamp(at(2_000))),
            (&["@1767225600000:end"], Start::Timestamp(new_year), Until::End),
            (&["@1767225600"], Start::Timestamp(new_year), Until::Stopped),
            (&["@-1h"], Start::Ago(hour), Until::Stopped),
            (
                &["@2026-01-01T00:00:00Z:2026-01-01T01:00:00Z"],
                Start::Timestamp(new_year),
                Until::Timestamp(new_year + hour),
            ),
            (&["@:2026-01-01T00:00:00+00:00"], Start::Earliest, Until::Timestamp(new_year)),
        ];
        for (texts, start, until) in table {
            assert_eq!(parse(texts), Ok((start, until)), "{texts:?}");
        }
        for wrong in ["x", "1.5", "5:x", "@x", "s@", "+3", "-x", "stored", "99999999999999999999"] {
            assert!(parse(&[wrong]).is_err_and(|e| e.starts_with(wrong)), "{wrong}");
        }
    }
}
