//! The nearest known name to one that is not known.

/// The longest name that is compared; a longer one is no slip of the pen.
const MAX_LEN: usize = 80;

/// The candidate nearest to `name`, if it is near enough to be what was meant: about one slip in five letters.
///
/// Capital letters, `_` and `-` for `.` count as no slip.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = folded(name);
    if name.is_empty() || name.len() > MAX_LEN {
        return None;
    }
    let limit = 1 + name.len() / 6;
    candidates
        .into_iter()
        .map(|candidate| (distance(&name, &folded(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

fn folded(name: &str) -> Vec<char> {
    name.chars().map(|c| if matches!(c, '_' | '-') { '.' } else { c.to_ascii_lowercase() }).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours between the two.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut cost = (last[j] + usize::from(x != y)).min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_found_and_another_word_is_not() {
        let known = ["attempts", "backoff", "bootstrap.servers", "sasl.username"];
        let table = [
            ("atempts", Some("attempts")),
            ("attemtps", Some("attempts")),
            ("bootstrap.server", Some("bootstrap.servers")),
            ("BOOTSTRAP_SERVERS", Some("bootstrap.servers")),
            ("sasl.user.name", Some("sasl.username")),
            ("colour", None),
            ("", None),
        ];
        for (name, expected) in table {
            assert_eq!(nearest(name, known), expected, "{name}");
        }
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
    }
}
