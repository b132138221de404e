//! Patterns of topic names: POSIX extended regular expressions, as the Kafka client takes them.
//!
//! The client compiles and runs them on its own thread, against every topic of the cluster; so what cannot be compiled,
//! or could take exponential time or memory, is refused here.

use super::error::ConfigError;

const MAX_PATTERN_BYTES: usize = 1_000;
const MAX_REPEATS: u32 = 255;

/// Checks a pattern that begins with `^`. The error's key is `topic`.
pub(crate) fn check_pattern(pattern: &str) -> Result<(), ConfigError> {
    let shown: String = pattern.chars().take(80).flat_map(char::escape_debug).collect();
    scan(pattern).map_err(|(problem, remedy)| {
        ConfigError::new("topic", format!("the pattern \"{shown}\" is not valid: {problem}")).remedy(remedy)
    })
}

/// Whether every name that begins with a match matches too: no `$` at the end, or `.*$`.
pub(crate) fn is_open_ended(pattern: &str) -> bool {
    match pattern.strip_suffix('$') {
        None => true,
        Some(head) => head.ends_with('\\') || head.ends_with(".*") || head.ends_with(".+"),
    }
}

type Fault = (&'static str, &'static str);

/// What a group (or the whole pattern) holds so far.
#[derive(Default)]
struct Group {
    /// Something that repeats without a bound is in it.
    repeats: bool,
    /// The last item; `None` when there is none to repeat.
    last: Option<Item>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Plain,
    /// A group in which something repeats without a bound.
    RepeatsInside,
    /// A repetition itself; one that follows at once (`a**`, `a+?`) would repeat it.
    Repetition,
}

fn scan(pattern: &str) -> Result<(), Fault> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(("it is longer than 1000 bytes", "name fewer topics"));
    }
    if pattern.chars().any(char::is_control) {
        return Err(("it holds a control character", "take it out"));
    }
    let mut groups = vec![Group::default()];
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '(' if rest.starts_with('?') => {
                return Err(("'(?' is not POSIX syntax", "write a plain group '(…)'"));
            }
            '(' => groups.push(Group::default()),
            ')' => {
                let ended = groups.pop().unwrap_or_default();
                let Some(outer) = groups.last_mut() else {
                    return Err(("a ')' has no '('", "write '\\)' for a bracket"));
                };
                outer.repeats |= ended.repeats;
                outer.last = Some(if ended.repeats { Item::RepeatsInside } else { Item::Plain });
                continue;
            }
            '[' => {
                rest = after_bracket(rest).ok_or(("a '[' is not closed", "write '\\[' for a bracket"))?;
                item(&mut groups);
            }
            '*' | '+' | '?' => repeat(&mut groups, c != '?')?,
            '{' => {
                let (unbounded, after) = bounds(rest)?;
                rest = after;
                repeat(&mut groups, unbounded)?;
            }
            '|' | '^' => set_last(&mut groups, None),
            '\\' => {
                rest = after_escape(rest)?;
                item(&mut groups);
            }
            _ => item(&mut groups),
        }
    }
    if groups.len() > 1 {
        return Err(("a '(' is not closed", "write '\\(' for a bracket"));
    }
    Ok(())
}

fn item(groups: &mut [Group]) {
    set_last(groups, Some(Item::Plain));
}

fn set_last(groups: &mut [Group], last: Option<Item>) {
    if let Some(group) = groups.last_mut() {
        group.last = last;
    }
}

fn repeat(groups: &mut [Group], unbounded: bool) -> Result<(), Fault> {
    let Some(group) = groups.last_mut() else { return Ok(()) };
    match group.last {
        None => Err(("a repetition has nothing to repeat", "write '.*' for anything")),
        Some(last) if last == Item::Repetition || (last == Item::RepeatsInside && unbounded) => {
            Err(("a repetition repeats a repetition, which can take for ever", "write 'a+' for '(a+)+'"))
        }
        Some(_) => {
            group.repeats |= unbounded;
            group.last = Some(Item::Repetition);
            Ok(())
        }
    }
}

/// What follows a bracket expression; a `]` first, and classes such as `[:alpha:]`, do not close it.
fn after_bracket(rest: &str) -> Option<&str> {
    let mut body = rest.strip_prefix('^').unwrap_or(rest);
    body = body.strip_prefix(']').unwrap_or(body);
    loop {
        let at = body.find([']', '['])?;
        let tail = &body[at..];
        let class = ["[:", "[.", "[="].iter().find(|open| tail.starts_with(**open));
        body = match class {
            Some(open) => {
                let close = format!("{}]", &open[1..]);
                let inner = &tail[2..];
                &inner[inner.find(&close)? + 2..]
            }
            None if tail.starts_with(']') => return Some(&tail[1..]),
            None => &tail[1..],
        };
    }
}

/// `2}`, `2,}` or `2,5}`: whether without an upper bound, and what follows.
fn bounds(rest: &str) -> Result<(bool, &str), Fault> {
    const FAULT: Fault = ("'{' begins no repetition", "write '\\{' for a brace, or '{1,5}'");
    let (inside, after) = rest.split_once('}').ok_or(FAULT)?;
    let (low, high) = inside.split_once(',').unwrap_or((inside, inside));
    let low: u32 = low.parse().map_err(|_| FAULT)?;
    let high = if high.is_empty() { None } else { Some(high.parse::<u32>().map_err(|_| FAULT)?) };
    if low.max(high.unwrap_or(0)) > MAX_REPEATS {
        return Err(("a repetition counts above 255", "write '*' or '+'"));
    }
    if high.is_some_and(|high| high < low) {
        return Err(FAULT);
    }
    Ok((high.is_none(), after))
}

fn after_escape(rest: &str) -> Result<&str, Fault> {
    match rest.chars().next() {
        None => Err(("it ends with a '\\'", "write '\\\\' for a backslash")),
        Some('d') => Err(("'\\d' is not POSIX syntax", "write '[0-9]'")),
        Some(c) if c.is_ascii_digit() => Err(("back references are not allowed", "write the text again")),
        Some(c) => Ok(&rest[c.len_utf8()..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_accepted_or_refused_with_advice() {
        let sound = [
            "^orders",
            "^orders-.*$",
            "^(a|b)+$",
            "^[a-z0-9._-]+\\.dlt$",
            "^[]a]+$",
            "^[[:alpha:]]+$",
            "^a{1,3}$",
            "^(a+b)?$",
            "^(a*)(b*)$",
        ];
        for pattern in sound {
            assert_eq!(check_pattern(pattern), Ok(()), "{pattern}");
        }
        let table = [
            ("^(a+)+$", "a repetition repeats a repetition, which can take for ever; write 'a+' for '(a+)+'"),
            ("^((a*)b?)*$", "a repetition repeats a repetition, which can take for ever; write 'a+' for '(a+)+'"),
            ("^(a{2,})*$", "a repetition repeats a repetition, which can take for ever; write 'a+' for '(a+)+'"),
            ("^a**", "a repetition repeats a repetition, which can take for ever; write 'a+' for '(a+)+'"),
            ("^[", "a '[' is not closed; write '\\[' for a bracket"),
            ("^[[:alpha:]", "a '[' is not closed; write '\\[' for a bracket"),
            ("^(a", "a '(' is not closed; write '\\(' for a bracket"),
            ("^a)", "a ')' has no '('; write '\\)' for a bracket"),
            ("^*", "a repetition has nothing to repeat; write '.*' for anything"),
            ("^(|*)", "a repetition has nothing to repeat; write '.*' for anything"),
            ("^a{x}", "'{' begins no repetition; write '\\{' for a brace, or '{1,5}'"),
            ("^a{3,1}", "'{' begins no repetition; write '\\{' for a brace, or '{1,5}'"),
            ("^a{1,32767}", "a repetition counts above 255; write '*' or '+'"),
            ("^\\d+", "'\\d' is not POSIX syntax; write '[0-9]'"),
            ("^(a)\\1", "back references are not allowed; write the text again"),
            ("^(?:a)", "'(?' is not POSIX syntax; write a plain group '(…)'"),
            ("^a\\", "it ends with a '\\'; write '\\\\' for a backslash"),
            ("^a\0", "it holds a control character; take it out"),
        ];
        for (pattern, expected) in table {
            let expected = format!("topic: the pattern \"{}\" is not valid: {expected}", pattern.escape_debug());
            // escape_debug doubles the backslash of the pattern, as the error does.
            assert_eq!(check_pattern(pattern).unwrap_err().to_string(), expected);
        }
        assert!(check_pattern(&format!("^{}", "(".repeat(900))).is_err());
        assert!(check_pattern(&format!("^{}", "x".repeat(2_000))).is_err());
    }
}
