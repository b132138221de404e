//! Subscriptions: a topic's name, or a pattern that begins with `^`.
//!
//! Of POSIX expressions it knows characters, `.`, `\` before a character, `*` and `+` behind one of them, and `$` at the
//! end; others are refused.

use crate::error::{KafkaError, code};

/// A character of a pattern, and how often it may come.
struct Piece {
    /// `None`: any.
    is: Option<char>,
    at_least: usize,
    repeats: bool,
}

/// Whether a subscription takes a topic.
pub(super) fn matches(subscription: &str, topic: &str) -> bool {
    match subscription.strip_prefix('^').and_then(parse) {
        None => subscription == topic,
        Some((pieces, ends)) => fits(&pieces, &topic.chars().collect::<Vec<_>>(), ends),
    }
}

/// Refuses a pattern with parts that this cluster does not know.
pub(super) fn check(subscription: &str) -> Result<(), KafkaError> {
    match subscription.strip_prefix('^') {
        Some(pattern) if parse(pattern).is_none() => {
            let name = "the memory cluster knows only characters, '.', '*', '+', '\\' and '$' in patterns";
            Err(KafkaError::new(code::INVALID_TOPIC, name, subscription))
        }
        _ => Ok(()),
    }
}

/// The pieces, and whether the topic has to end with the last.
fn parse(pattern: &str) -> Option<(Vec<Piece>, bool)> {
    let (body, ends) = match pattern.strip_suffix('$') {
        Some(body) if !body.ends_with('\\') => (body, true),
        _ => (pattern, false),
    };
    let mut pieces: Vec<Piece> = Vec::new();
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        let is = match c {
            '*' | '+' => {
                let last = pieces.last_mut().filter(|piece| !piece.repeats)?;
                (last.repeats, last.at_least) = (true, usize::from(c == '+'));
                continue;
            }
            '\\' => Some(chars.next()?),
            '.' => None,
            c if "()[]{}|?^$".contains(c) => return None,
            c => Some(c),
        };
        pieces.push(Piece { is, at_least: 1, repeats: false });
    }
    Some((pieces, ends))
}

fn fits(pieces: &[Piece], text: &[char], ends: bool) -> bool {
    let Some((piece, rest)) = pieces.split_first() else { return !ends || text.is_empty() };
    let run = text.iter().take_while(|c| piece.is.is_none_or(|is| is == **c)).count();
    let most = if piece.repeats { run } else { run.min(1) };
    (piece.at_least..=most).any(|taken| fits(rest, &text[taken..], ends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_what_it_says() {
        for (pattern, takes, leaves) in [
            ("orders", &["orders"][..], &["orders-eu"][..]),
            ("^orders", &["orders", "orders-eu"], &["my-orders"]),
            ("^orders$", &["orders"], &["orders-eu"]),
            (r"^o.*\.eu$", &["orders.eu", "o.eu"], &["orders-eu", "orders.eu.x"]),
            ("^a+b*$", &["a", "aab"], &["b"]),
        ] {
            assert!(
                takes.iter().all(|t| matches(pattern, t)) && !leaves.iter().any(|t| matches(pattern, t)),
                "{pattern}"
            );
            assert!(check(pattern).is_ok());
        }
        assert!(check("^a|b").is_err() && check("^*").is_err());
    }
}
