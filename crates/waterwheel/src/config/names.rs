//! Names of topics and groups, and where dead letters go: never back to where they came from.

use super::error::ConfigError;
use super::pattern::{check_pattern, is_open_ended};

/// The longest topic name that Kafka takes, in bytes.
pub const MAX_TOPIC_BYTES: usize = 249;
const MAX_GROUP_BYTES: usize = 32_767;

/// Checks a topic's name by Kafka's rules. The error's key is `topic`.
pub fn check_topic(name: &str) -> Result<(), ConfigError> {
    let refuse = |problem: String, remedy: &str| Err(ConfigError::new("topic", problem).remedy(remedy));
    if name.is_empty() {
        return refuse("the name is empty".into(), "name a topic");
    }
    if name.len() > MAX_TOPIC_BYTES {
        return refuse(format!("the name has {} bytes", name.len()), "at most 249");
    }
    if name == "." || name == ".." {
        return refuse(format!("\"{name}\" is not a topic's name"), "Kafka does not allow it");
    }
    match name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
        Some(bad) => refuse(
            format!("\"{}\" holds {bad:?}", name.escape_debug()),
            "a topic's name has letters, digits, '.', '_' and '-'",
        ),
        None => Ok(()),
    }
}

/// Checks what a worker may read: a topic's name, or a pattern that begins with `^`. The error's key is `topic`.
pub fn check_topic_or_pattern(topic: &str) -> Result<(), ConfigError> {
    if topic.starts_with('^') { check_pattern(topic) } else { check_topic(topic) }
}

/// Checks a group's name. The error's key is `group`.
pub fn check_group(name: &str) -> Result<(), ConfigError> {
    let refuse = |problem: &str, remedy: &str| Err(ConfigError::new("group", problem).remedy(remedy));
    if name.trim().is_empty() {
        return refuse("the name is empty", "name the group whose members share the work");
    }
    if name.chars().any(char::is_control) {
        return refuse("the name holds a control character", "take it out");
    }
    if name.len() > MAX_GROUP_BYTES {
        return refuse("the name is too long", "at most 32767 bytes");
    }
    Ok(())
}

/// The dead-letter topic for records of `topic`: `{topic}` and `{group}` in the template are filled in.
///
/// Refused: an unknown placeholder, a name that Kafka would not take, the topic itself. The error's key is
/// `dead_letter.topic`.
pub fn dead_letter_topic(template: &str, topic: &str, group: &str) -> Result<String, ConfigError> {
    const KEY: &str = "dead_letter.topic";
    let name = fill(KEY, template, "{topic}.{group}.dlt", &[("topic", topic), ("group", group)])?;
    if name == topic {
        let problem = format!("dead letters of \"{name}\" would go to \"{name}\" itself");
        return Err(ConfigError::new(KEY, problem).remedy("name another topic, as \"{topic}.{group}.dlt\""));
    }
    Ok(name)
}

/// The topic of the retry tier of that delay, for records of `topic`. All three placeholders have to be in the template, so
/// that no two tiers share a topic, nor two groups. The error's key is `retry_tiers.topic`.
pub(crate) fn retry_topic(template: &str, topic: &str, group: &str, delay: &str) -> Result<String, ConfigError> {
    const KEY: &str = "retry_tiers.topic";
    let values = [("topic", topic), ("group", group), ("delay", delay)];
    if let Some((missing, _)) = values.iter().find(|(name, _)| !template.contains(&format!("{{{name}}}"))) {
        let problem = format!("\"{{{missing}}}\" is missing: tiers need names of their own");
        return Err(ConfigError::new(KEY, problem).remedy("write \"{topic}.{group}.retry.{delay}\""));
    }
    fill(KEY, template, "{topic}.{group}.retry.{delay}", &values)
}

/// The topic's name that a template makes with these placeholders filled in.
fn fill(key: &str, template: &str, example: &str, values: &[(&str, &str)]) -> Result<String, ConfigError> {
    let refuse = |problem: String, remedy: String| Err(ConfigError::new(key, problem).remedy(remedy));
    let mut name = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        name.push_str(before);
        let Some((placeholder, after)) = after.split_once('}') else {
            return refuse("a brace is not closed".into(), format!("write \"{example}\""));
        };
        let Some((_, value)) = values.iter().find(|(known, _)| *known == placeholder) else {
            let problem = format!("unknown placeholder \"{{{}}}\"", placeholder.escape_debug());
            let known: Vec<String> = values.iter().map(|(known, _)| format!("{{{known}}}")).collect();
            return refuse(problem, format!("there are {}", known.join(" and ")));
        };
        name.push_str(value);
        rest = after;
    }
    name.push_str(rest);
    check_topic(&name).map_err(|error| error.with_key(key))?;
    Ok(name)
}

/// Checks a dead-letter template against everything that a worker reads: names and patterns.
///
/// A pattern without `$` matches whatever begins with a match, so `{topic}.dlt` would be read as a source: refused.
/// A cycle through several workers is found by [`find_cycle`].
pub fn check_dead_letter(template: &str, topics: &[String], group: &str) -> Result<(), ConfigError> {
    for topic in topics {
        if !topic.starts_with('^') {
            let name = dead_letter_topic(template, topic, group)?;
            if topics.contains(&name) {
                let problem = format!("\"{name}\" is among the topics that the worker reads");
                return Err(ConfigError::new("dead_letter.topic", problem).remedy("name a topic of its own"));
            }
            continue;
        }
        // A stand-in shows whether the template itself is sound.
        dead_letter_topic(template, "x", group)?;
        if template.starts_with("{topic}") && is_open_ended(topic) {
            let problem = format!("the pattern \"{}\" matches its own dead-letter topics", topic.escape_debug());
            return Err(ConfigError::new("dead_letter.topic", problem)
                .remedy("end the pattern with a fixed text and '$', or begin the template with another prefix"));
        }
    }
    Ok(())
}

/// A way of records from topic to topic that comes back to its start, as `["a", "b", "a"]`.
///
/// `routes` are pairs of source and destination: dead letters, and topics forwarded to.
pub fn find_cycle(routes: &[(String, String)]) -> Option<Vec<String>> {
    let mut done: Vec<&str> = Vec::new();
    for (start, _) in routes {
        if done.contains(&start.as_str()) {
            continue;
        }
        // Depth first without recursion: the path so far, and for each step which route to try next.
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((topic, next)) = path.last_mut() {
            let topic = *topic;
            let found = routes.iter().enumerate().skip(*next).find(|(_, (from, _))| from == topic);
            let Some((index, (_, to))) = found else {
                done.push(topic);
                path.pop();
                continue;
            };
            *next = index + 1;
            if let Some(at) = path.iter().position(|(on_path, _)| on_path == to) {
                let mut cycle: Vec<String> = path[at..].iter().map(|(topic, _)| (*topic).to_owned()).collect();
                cycle.push(to.clone());
                return Some(cycle);
            }
            if !done.contains(&to.as_str()) {
                path.push((to, 0));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn topics_and_groups_are_accepted_or_refused_with_advice() {
        for topic in ["orders", "a.b_c-D9", "...", "^orders-.*$", &"x".repeat(249)] {
            assert_eq!(check_topic_or_pattern(topic), Ok(()), "{topic}");
        }
        let long = "x".repeat(250);
        let table = [
            ("", "topic: the name is empty; name a topic"),
            ("a/b", "topic: \"a/b\" holds '/'; a topic's name has letters, digits, '.', '_' and '-'"),
            ("..", "topic: \"..\" is not a topic's name; Kafka does not allow it"),
            (&long, "topic: the name has 250 bytes; at most 249"),
            ("a\0", "topic: \"a\\0\" holds '\\0'; a topic's name has letters, digits, '.', '_' and '-'"),
            ("^[", "topic: the pattern \"^[\" is not valid: a '[' is not closed; write '\\[' for a bracket"),
        ];
        for (topic, expected) in table {
            assert_eq!(check_topic_or_pattern(topic).unwrap_err().to_string(), expected);
        }
        assert_eq!(
            check_group("").unwrap_err().to_string(),
            "group: the name is empty; name the group whose members share the work"
        );
        assert!(check_group("a\0b").is_err());
        assert_eq!(check_group("Zahlungen – EU"), Ok(()));
    }

    #[test]
    fn dead_letters_never_go_back_to_where_they_came_from() {
        assert_eq!(dead_letter_topic("{topic}.{group}.dlt", "orders", "billing").unwrap(), "orders.billing.dlt");
        let table = [
            (
                "{topic}",
                "dead letters of \"orders\" would go to \"orders\" itself; name another topic, as \"{topic}.{group}.dlt\"",
            ),
            (
                "orders",
                "dead letters of \"orders\" would go to \"orders\" itself; name another topic, as \"{topic}.{group}.dlt\"",
            ),
            ("{topik}.dlt", "unknown placeholder \"{topik}\"; there are {topic} and {group}"),
            ("{topic", "a brace is not closed; write \"{topic}.{group}.dlt\""),
            ("a/b", "\"a/b\" holds '/'; a topic's name has letters, digits, '.', '_' and '-'"),
        ];
        for (template, expected) in table {
            let error = dead_letter_topic(template, "orders", "billing").unwrap_err();
            assert_eq!(error.to_string(), format!("dead_letter.topic: {expected}"));
        }
        let check = |template, topics: &[&str]| check_dead_letter(template, &strings(topics), "g");
        assert!(check("b", &["a", "b"]).is_err());
        assert!(check("{topic}.dlt", &["^orders"]).is_err());
        assert!(check("{topic}.dlt", &["^orders-.*$"]).is_err());
        assert_eq!(check("{topic}.dlt", &["^orders-(eu|us)$"]), Ok(()));
        assert_eq!(check("dlt.{topic}", &["^orders"]), Ok(()));
    }

    #[test]
    fn a_cycle_of_routes_is_found() {
        let routes = |pairs: &[(&str, &str)]| {
            find_cycle(&pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>())
        };
        assert_eq!(routes(&[("a", "b"), ("b", "a")]), Some(strings(&["a", "b", "a"])));
        assert_eq!(routes(&[("x", "a"), ("a", "b"), ("b", "c"), ("c", "a")]), Some(strings(&["a", "b", "c", "a"])));
        assert_eq!(routes(&[("a", "a")]), Some(strings(&["a", "a"])));
        assert_eq!(routes(&[("a", "b"), ("a", "c"), ("b", "c"), ("d", "c")]), None);
        assert_eq!(routes(&[]), None);
    }
}
