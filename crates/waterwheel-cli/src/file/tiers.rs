//! `[worker.retry_tiers]`: topics in which records wait for another visit.

use waterwheel::config::parse_duration;
use waterwheel::{Retry, RetryTiers};

use super::fields::Table;
use super::spec::{AfterDeadLetter, DeadLetterSpec, HandlerSpec, OrderSpec};

/// What the tiers have to agree with.
pub(super) struct Beside<'a> {
    pub(super) topics: Option<&'a [String]>,
    pub(super) group: Option<&'a str>,
    pub(super) order: OrderSpec,
    pub(super) attempts: u32,
    pub(super) dead_letter: Option<&'a DeadLetterSpec>,
    pub(super) after_dead_letter: AfterDeadLetter,
    pub(super) handler: Option<&'a HandlerSpec>,
}

pub(super) fn read(table: &Table<'_>, beside: &Beside<'_>) -> Option<RetryTiers> {
    let section = table.table("retry_tiers")?;
    section.known(&["delays", "attempts", "topic", "allow_overtaking"]);
    if !section.has("delays") {
        section.missing("delays", "write delays = [\"5s\", \"1m\", \"10m\"]");
    }
    let mut delays = Vec::new();
    for delay in section.strings("delays")? {
        delays.push(parse_duration(&delay).map_err(|error| section.fail_with("delays", error)).ok()?);
    }
    let mut tiers = RetryTiers::new(delays);
    if let Some(attempts) = section.integer("attempts", 1..=1_000_000) {
        tiers = tiers.attempts(attempts as u32);
    }
    if let Some(topic) = section.string("topic") {
        tiers = tiers.topic(topic);
    }
    if section.truth("allow_overtaking").unwrap_or(false) {
        tiers = tiers.allow_overtaking();
    }
    agree(table, &section, &tiers, beside);
    Some(tiers)
}

fn agree(table: &Table<'_>, section: &Table<'_>, tiers: &RetryTiers, beside: &Beside<'_>) {
    if beside.order != OrderSpec::None && !tiers.allows_overtaking() {
        let problem = "is not set: later records of a key overtake one that waits in a tier, and order is kept";
        section.fail("allow_overtaking", problem, "write allow_overtaking = true, or order = \"none\"");
    }
    if beside.after_dead_letter == AfterDeadLetter::Follow {
        let problem = "says follow, which keeps an order that retry_tiers give up";
        table.fail("after_dead_letter", problem, "leave one of them out");
    }
    if matches!(beside.handler, Some(HandlerSpec::Print | HandlerSpec::Forward { .. })) {
        let problem = "is only for kind = \"exec\": what the other kinds cannot do is no failure of a record";
        table.fail("retry_tiers", problem, "leave it out");
    }
    let (Some(topics), Some(group)) = (beside.topics, beside.group) else { return };
    let letters = beside.dead_letter.map(|letters| letters.topic.as_str());
    // Of the policy for a visit only its attempts matter.
    let visit = Retry::default().attempts(beside.attempts);
    if let Err(error) = tiers.check(topics, group, letters, &visit) {
        let key = error.key().split_once('.').map_or("delays", |(_, key)| key).to_owned();
        section.fail_with(&key, error);
    }
}
