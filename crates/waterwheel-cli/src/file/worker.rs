//! `[[worker]]`: one worker's settings.

use std::time::Duration;

use waterwheel::config::{check_dead_letter, check_group, check_topic, check_topic_or_pattern, parse_duration};

use super::fields::Table;
use super::instant::parse_instant;
use super::limits;
use super::spec::{
    Backoff, DeadLetterSpec, ExactlyOnceSpec, HandlerSpec, OnDrainDeadline, OnExhausted, OrderSpec, RetrySpec,
    StartSpec, TooLarge, WorkerSpec,
};
use super::stuck::{after_dead_letter, on_stall};
use super::tiers;
use crate::body::BodyFormat;

const KEYS: [&str; 27] = [
    "name",
    "topics",
    "group",
    "start",
    "value",
    "order",
    "concurrency",
    "in_work",
    "in_work_bytes",
    "process_delay",
    "commit_every",
    "drain_timeout",
    "stall_after",
    "on_stall",
    "start_when_healthy",
    "time_attempts",
    "on_drain_deadline",
    "on_exhausted",
    "after_dead_letter",
    "retry",
    "retry_tiers",
    "dead_letter",
    "handler",
    "exactly_once",
    "breaker",
    "rate_limit",
    "adaptive",
];
pub(super) const MAX_CONCURRENCY: u64 = 1_000_000;
const MAX_IN_WORK: u64 = 100_000_000;

/// The worker, or `None` when what it cannot do without is missing or wrong. Every mistake is noted either way.
pub(super) fn read(table: &Table<'_>, has_registry: bool) -> Option<WorkerSpec> {
    table.known(&KEYS);
    let topics = topics(table);
    let group = group(table);
    let name = table.string("name");
    if name.as_ref().is_some_and(|name| name.trim().is_empty() || name.chars().any(char::is_control)) {
        table.fail("name", "is empty or holds a control character", "write a short name, or leave it out");
    }
    let start = start(table).unwrap_or(StartSpec::Earliest);
    let orders = [("key", OrderSpec::Key), ("partition", OrderSpec::Partition), ("none", OrderSpec::None)];
    let order = table.word("order", &orders, &[]).unwrap_or(OrderSpec::Key);
    let concurrency = table.integer("concurrency", 1..=MAX_CONCURRENCY).unwrap_or(256) as u32;
    let in_work = table.integer("in_work", 1..=MAX_IN_WORK).unwrap_or(20_000);
    let in_work_bytes = at_least_one_byte(table, "in_work_bytes", "64MiB").unwrap_or(64 << 20);
    let process_delay = table.duration("process_delay").unwrap_or_default();
    let commit_every = positive(table, "commit_every").unwrap_or(Duration::from_secs(1));
    let drain_timeout = table.duration("drain_timeout").unwrap_or(Duration::from_secs(25));
    let stall_after = positive(table, "stall_after").unwrap_or(Duration::from_secs(300));
    let on_stall = on_stall(table);
    let start_when_healthy = table.truth("start_when_healthy").unwrap_or(false);
    let time_attempts = table.truth("time_attempts").unwrap_or(false);
    let deadlines = [("cancel", OnDrainDeadline::Cancel), ("abandon", OnDrainDeadline::Abandon)];
    let on_drain_deadline = table.word("on_drain_deadline", &deadlines, &[]).unwrap_or(OnDrainDeadline::Cancel);
    let retry = retry(table);
    let dead_letter = dead_letter(table, topics.as_deref(), group.as_deref());
    let on_exhausted = on_exhausted(table);
    let after_dead_letter = after_dead_letter(table, order);
    let handler = handler(table);
    let value = value(table, handler.as_ref(), has_registry);
    let beside = tiers::Beside {
        topics: topics.as_deref(),
        group: group.as_deref(),
        order,
        attempts: retry.attempts,
        dead_letter: dead_letter.as_ref(),
        after_dead_letter,
        handler: handler.as_ref(),
    };
    let retry_tiers = tiers::read(table, &beside);
    let exactly_once = exactly_once(table, handler.as_ref());
    let limits = limits::read(table, topics.as_deref());
    let group = group?;
    Some(WorkerSpec {
        name: name.unwrap_or_else(|| group.clone()),
        topics: topics?,
        group,
        start,
        value,
        order,
        concurrency,
        in_work,
        in_work_bytes,
        process_delay,
        commit_every,
        drain_timeout,
        stall_after,
        on_stall,
        start_when_healthy,
        time_attempts,
        on_drain_deadline,
        retry,
        dead_letter,
        on_exhausted,
        after_dead_letter,
        retry_tiers,
        handler: handler?,
        exactly_once,
        limits,
    })
}

fn topics(table: &Table<'_>) -> Option<Vec<String>> {
    if !table.has("topics") {
        table.missing("topics", "name what to read, as topics = [\"orders\"]");
    }
    let topics = table.strings("topics")?;
    if topics.is_empty() {
        table.fail("topics", "is empty", "name at least one topic");
        return None;
    }
    let mut sound = true;
    for (at, topic) in topics.iter().enumerate() {
        if let Err(error) = check_topic_or_pattern(topic) {
            table.fail_with("topics", error);
            sound = false;
        }
        if topics[..at].contains(topic) {
            table.fail("topics", format!("\"{}\" is there twice", topic.escape_debug()), "name it once");
            sound = false;
        }
    }
    sound.then_some(topics)
}

fn group(table: &Table<'_>) -> Option<String> {
    if !table.has("group") {
        table.missing("group", "name the group whose members share the work");
    }
    let group = table.string("group")?;
    check_group(&group).map_err(|error| table.fail_with("group", error)).ok()?;
    Some(group)
}

fn start(table: &Table<'_>) -> Option<StartSpec> {
    let text = table.string("start")?;
    if let Some(instant) = text.strip_prefix('@') {
        return match parse_instant(instant) {
            Ok(millis) => Some(StartSpec::Timestamp(millis)),
            Err(problem) => {
                let shown: String = instant.chars().take(40).flat_map(char::escape_debug).collect();
                table.fail("start", format!("\"{shown}\" {problem}"), "write it as \"@2026-01-01T00:00:00Z\"");
                None
            }
        };
    }
    if let Some(ago) = text.strip_prefix('-') {
        return parse_duration(ago).map(StartSpec::Ago).map_err(|error| table.fail_with("start", error)).ok();
    }
    match text.as_str() {
        "earliest" => Some(StartSpec::Earliest),
        "latest" => Some(StartSpec::Latest),
        _ => {
            table.fail("start", "is not known", "one of earliest, latest, \"@2026-01-01T00:00:00Z\", \"-1h\"");
            None
        }
    }
}

fn value(table: &Table<'_>, handler: Option<&HandlerSpec>, has_registry: bool) -> BodyFormat {
    let formats = [
        ("bytes", BodyFormat::Bytes),
        ("utf8", BodyFormat::Utf8),
        ("json", BodyFormat::Json),
        ("avro", BodyFormat::Avro),
        ("protobuf", BodyFormat::Protobuf),
    ];
    let value = table.word("value", &formats, &[]).unwrap_or_default();
    if !value.needs_registry() {
        return value;
    }
    if matches!(handler, Some(HandlerSpec::Forward { .. })) {
        let problem = "does not go with kind = \"forward\", which copies values as they are";
        table.fail("value", problem, "leave it out");
    } else if !has_registry {
        let remedy = "add [registry] with url = \"http://localhost:8081\"";
        table.fail("value", "needs a schema registry, and there is none", remedy);
    }
    value
}

fn at_least_one_byte(table: &Table<'_>, name: &str, default: &str) -> Option<u64> {
    let bytes = table.size(name)?;
    if bytes == 0 {
        table.fail(name, "is zero", format!("at least \"1B\"; the default is \"{default}\""));
    }
    Some(bytes)
}

pub(super) fn positive(table: &Table<'_>, name: &str) -> Option<Duration> {
    let duration = table.duration(name)?;
    if duration.is_zero() {
        table.fail(name, "is zero", "write a duration above zero, as \"1s\"");
    }
    Some(duration)
}

fn retry(table: &Table<'_>) -> RetrySpec {
    let mut spec = RetrySpec {
        attempts: 5,
        backoff: Backoff {
            initial: Duration::from_millis(200),
            factor: 2.0,
            max: Duration::from_secs(30),
            jitter: 0.2,
        },
    };
    let Some(retry) = table.table("retry") else { return spec };
    retry.known(&["attempts", "backoff"]);
    if let Some(attempts) = retry.integer("attempts", 1..=1_000_000) {
        spec.attempts = attempts as u32;
    }
    let Some(backoff) = retry.table("backoff") else { return spec };
    backoff.known(&["initial", "factor", "max", "jitter"]);
    let default = spec.backoff;
    let initial = positive(&backoff, "initial").unwrap_or(default.initial);
    let max = positive(&backoff, "max").unwrap_or(default.max.max(initial));
    if max < initial {
        backoff.fail("max", "is less than initial", "make it at least as long");
    }
    let factor = backoff.float("factor", 1.0..=100.0).unwrap_or(default.factor);
    let jitter = backoff.float("jitter", 0.0..=1.0).unwrap_or(default.jitter);
    spec.backoff = Backoff { initial, factor, max, jitter };
    spec
}

fn dead_letter(table: &Table<'_>, topics: Option<&[String]>, group: Option<&str>) -> Option<DeadLetterSpec> {
    let section = table.table("dead_letter")?;
    section.known(&["topic", "too_large"]);
    let topic = section.string("topic").unwrap_or_else(|| "{topic}.{group}.dlt".to_owned());
    if let (Some(topics), Some(group)) = (topics, group)
        && let Err(error) = check_dead_letter(&topic, topics, group)
    {
        section.fail_with("topic", error);
        return None;
    }
    let policies = [("hold", TooLarge::Hold), ("pointer", TooLarge::Pointer)];
    let too_large = section.word("too_large", &policies, &[]).unwrap_or(TooLarge::Hold);
    Some(DeadLetterSpec { topic, too_large })
}

fn exactly_once(table: &Table<'_>, handler: Option<&HandlerSpec>) -> Option<ExactlyOnceSpec> {
    let section = table.table("exactly_once")?;
    section.known(&["transactional_id", "every", "records", "bytes"]);
    if handler.is_some_and(|handler| !matches!(handler, HandlerSpec::Forward { .. })) {
        let problem = "is only for kind = \"forward\": what other handlers do is not part of a transaction";
        table.fail("exactly_once", problem, "leave it out");
    }
    if table.has("commit_every") {
        table.fail("commit_every", "has no effect with exactly_once", "write every in [worker.exactly_once]");
    }
    let transactional_id = section.string("transactional_id");
    if transactional_id.as_deref() == Some("") {
        section.fail("transactional_id", "is empty", "name one, or leave it out");
    }
    let every = positive(&section, "every").unwrap_or(Duration::from_millis(100));
    let records = section.integer("records", 1..=MAX_IN_WORK).unwrap_or(50_000);
    let bytes = at_least_one_byte(&section, "bytes", "32MiB").unwrap_or(32 << 20);
    Some(ExactlyOnceSpec { transactional_id, every, records, bytes })
}

fn on_exhausted(table: &Table<'_>) -> OnExhausted {
    let policies = [
        ("dead_letter", OnExhausted::DeadLetter),
        ("park", OnExhausted::Park),
        ("skip", OnExhausted::Skip),
        ("stop", OnExhausted::Stop),
    ];
    let has_dead_letter = table.has("dead_letter");
    match table.word("on_exhausted", &policies, &[]) {
        Some(OnExhausted::DeadLetter) if !has_dead_letter => {
            table.fail("on_exhausted", "is dead_letter, but there is none", "add [worker.dead_letter]");
            OnExhausted::Park
        }
        Some(policy) => policy,
        None if has_dead_letter => OnExhausted::DeadLetter,
        None => OnExhausted::Park,
    }
}

fn handler(table: &Table<'_>) -> Option<HandlerSpec> {
    #[derive(Clone, Copy)]
    enum Kind {
        Exec,
        Print,
        Forward,
    }
    if !table.has("handler") {
        table.missing("handler", "add [worker.handler] with kind = \"exec\", \"print\" or \"forward\"");
    }
    let handler = table.table("handler")?;
    if !handler.has("kind") {
        handler.missing("kind", "one of exec, print, forward");
    }
    let kinds = [("exec", Kind::Exec), ("print", Kind::Print), ("forward", Kind::Forward)];
    match handler.word("kind", &kinds, &["http"])? {
        Kind::Print => {
            handler.known(&["kind"]);
            Some(HandlerSpec::Print)
        }
        Kind::Forward => {
            handler.known(&["kind", "topic"]);
            if !handler.has("topic") {
                handler.missing("topic", "name the topic to copy to");
            }
            let topic = handler.string("topic")?;
            check_topic(&topic).map_err(|error| handler.fail_with("topic", error)).ok()?;
            Some(HandlerSpec::Forward { topic })
        }
        Kind::Exec => exec(&handler),
    }
}

fn exec(handler: &Table<'_>) -> Option<HandlerSpec> {
    handler.known(&["kind", "command", "processes", "timeout"]);
    let processes = handler.integer("processes", 1..=1_000).unwrap_or(1) as u32;
    let timeout = positive(handler, "timeout").unwrap_or(Duration::from_secs(30));
    if !handler.has("command") {
        handler.missing("command", "write it as command = [\"python3\", \"charge.py\"]");
    }
    let command = handler.strings("command")?;
    if command.first().is_none_or(String::is_empty) {
        handler.fail("command", "names no program", "write it as command = [\"python3\", \"charge.py\"]");
        return None;
    }
    if command.iter().any(|word| word.contains('\0')) {
        handler.fail("command", "holds a NUL byte", "take it out");
        return None;
    }
    Some(HandlerSpec::Exec { command, processes, timeout })
}
