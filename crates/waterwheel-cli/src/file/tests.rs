//! One table: what a file says, and every error that comes of it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use proptest::prelude::*;
use waterwheel::{Adaptive, Breaker, RateLimit, RetryTiers};

use super::limits::{By, LimitsSpec};
use super::spec::Backoff;
use super::*;

const HEAD: &str = "[kafka]\n\"bootstrap.servers\" = \"h:9092\"\n";
/// A worker from line 3 on; what is appended follows its table.
const WORKER: &str = "[[worker]]\nname = \"w\"\ntopics = [\"orders\"]\ngroup = \"g\"\nhandler = { kind = \"print\" }\n";

fn parse(text: &str) -> Result<WorkerFile, Vec<String>> {
    let env = |name: &str| (name == "SET").then(|| OsString::from("canary-${SET}"));
    WorkerFile::parse(text, "w.toml", &BTreeMap::new(), &env)
        .map_err(|errors| errors.iter().map(ToString::to_string).collect())
}

fn errors(text: &str) -> Vec<String> {
    parse(text).err().unwrap_or_default()
}

/// Errors of a worker with that line added (line 8).
fn worker_errors(line: &str) -> Vec<String> {
    errors(&format!("{HEAD}{WORKER}{line}\n"))
}

/// Errors of `[kafka]` with that line added (line 3).
fn kafka_errors(line: &str) -> Vec<String> {
    errors(&format!("{HEAD}{line}\n{WORKER}"))
}

#[test]
fn the_example_of_the_design_is_read() {
    let text = r#"
[kafka]
"bootstrap.servers" = "${KAFKA:-localhost:9092}"
fetch.wait.max.ms = 50

[[worker]]
name = "orders"
topics = ["orders", "^eu-[a-z]+$"]
group = "billing"
start = "@2026-01-01T00:00:00Z"
value = "json"
order = "key"
concurrency = 128
in_work = 5_000
in_work_bytes = "32MiB"
process_delay = "5s"
commit_every = "2s"
drain_timeout = "20s"
stall_after = "1m"
on_stall = "park"
after_dead_letter = "follow"
start_when_healthy = true
time_attempts = true
on_drain_deadline = "abandon"
[worker.retry]
attempts = 7
backoff = { initial = "100ms", factor = 3, max = "10s", jitter = 0.5 }
[worker.dead_letter]
topic = "{topic}.{group}.dlt"
too_large = "pointer"
[worker.handler]
kind = "exec"
command = ["python3", "charge.py"]
processes = 4
timeout = "10s"
"#;
    let file = parse(text).unwrap();
    assert_eq!(file.kafka["bootstrap.servers"], "localhost:9092");
    assert_eq!(file.kafka["fetch.wait.max.ms"], "50");
    let expected = WorkerSpec {
        name: "orders".into(),
        topics: vec!["orders".into(), "^eu-[a-z]+$".into()],
        group: "billing".into(),
        start: StartSpec::Timestamp(1_767_225_600_000),
        value: crate::body::BodyFormat::Json,
        order: OrderSpec::Key,
        concurrency: 128,
        in_work: 5_000,
        in_work_bytes: 32 << 20,
        process_delay: Duration::from_secs(5),
        commit_every: Duration::from_secs(2),
        drain_timeout: Duration::from_secs(20),
        stall_after: Duration::from_secs(60),
        start_when_healthy: true,
        time_attempts: true,
        on_drain_deadline: OnDrainDeadline::Abandon,
        retry: RetrySpec {
            attempts: 7,
            backoff: Backoff {
                initial: Duration::from_millis(100),
                factor: 3.0,
                max: Duration::from_secs(10),
                jitter: 0.5,
            },
        },
        dead_letter: Some(DeadLetterSpec { topic: "{topic}.{group}.dlt".into(), too_large: TooLarge::Pointer }),
        on_stall: OnStall::Park,
        on_exhausted: OnExhausted::DeadLetter,
        after_dead_letter: AfterDeadLetter::Follow,
        retry_tiers: None,
        handler: HandlerSpec::Exec {
            command: vec!["python3".into(), "charge.py".into()],
            processes: 4,
            timeout: Duration::from_secs(10),
        },
        exactly_once: None,
        limits: LimitsSpec::default(),
    };
    assert_eq!(file.workers, [expected]);
}

#[test]
fn limits_are_read_and_their_conflicts_explained() {
    let file = |lines: &str| format!("{HEAD}{WORKER}{lines}\n");
    let spec = |lines: &str| parse(&file(lines)).unwrap().workers.remove(0).limits;
    let secs = Duration::from_secs;
    let breaker = Breaker::consecutive(5).open_for(secs(20)).at_most(secs(60)).probes(3);
    let text = "breaker = { failures = 5, open_for = \"20s\", at_most = \"1m\", probes = 3 }";
    assert_eq!(spec(text), LimitsSpec { breaker: Some(breaker), ..LimitsSpec::default() });
    for (text, by) in [("topic", By::Topic), ("header:tenant", By::Header("tenant".to_owned()))] {
        let told = spec(&format!("breaker = {{ failures = 5, by = \"{text}\" }}"));
        assert_eq!((told.breaker, told.breaker_by), (Some(Breaker::consecutive(5)), Some(by)));
    }
    let breaker = Breaker::failure_rate(0.5, secs(30)).least(20);
    let text = "breaker = { failure_rate = 0.5, window = \"30s\", least = 20 }";
    assert_eq!(spec(text), LimitsSpec { breaker: Some(breaker), ..LimitsSpec::default() });
    let rate = RateLimit::records(1_000).and_bytes(10 << 20).burst(50).burst_bytes(1 << 20).group_wide();
    let text =
        "rate_limit = { records = 1000, bytes = \"10MiB\", burst = 50, burst_bytes = \"1MiB\", group_wide = true }";
    assert_eq!(spec(text), LimitsSpec { rate: Some(rate), ..LimitsSpec::default() });
    let text = "adaptive = { floor = 4, ceiling = 64, tolerate_failures = 0.3 }";
    let adaptive = Adaptive::between(4, 64).tolerate_failures(0.3);
    assert_eq!(spec(text), LimitsSpec { adaptive: Some(adaptive), ..LimitsSpec::default() });

    for (lines, expected) in [
        ("breaker = {}", "breaker.failures: is missing"),
        ("breaker = { failures = 5, by = \"key\" }", "breaker.by: is \"key\""),
        ("breaker = { failures = 5, by = \"header:\" }", "breaker.by: is \"header:\""),
        ("breaker = { failures = 0 }", "breaker.failures: is 0, out of range"),
        ("breaker = { failures = 5, probes = 0 }", "breaker.probes: is 0, out of range"),
        ("breaker = { failures = 5, open_for = \"0s\" }", "breaker.open_for: is zero"),
        ("breaker = { failure_rate = 1.5 }", "breaker.failure_rate: is 1.5, out of range"),
        ("breaker = { failures = 5, failure_rate = 0.5 }", "breaker.failure_rate: does not go with failures"),
        ("breaker = { failures = 5, window = \"1s\" }", "breaker.window: has no effect with failures"),
        ("breaker = { failures = 5, open_for = \"9s\", at_most = \"8s\" }", "breaker.at_most: is less than open_for"),
        ("rate_limit = { burst = 5 }", "rate_limit.records: is missing"),
        ("rate_limit = { records = 5, burst_bytes = \"1B\" }", "rate_limit.burst_bytes: has no effect without bytes"),
        ("rate_limit = { bytes = \"0B\" }", "rate_limit.bytes: is zero"),
        ("rate_limit = { records = 0 }", "rate_limit.records: is 0, out of range"),
        ("rate_limit = { records = 5, burst = 0 }", "rate_limit.burst: is 0, out of range"),
        ("rate_limit = { bytes = \"5B\", burst_bytes = \"0B\" }", "rate_limit.burst_bytes: is zero"),
        ("rate_limit = { bytes = \"5B\", burst = 5 }", "rate_limit.burst: has no effect without records"),
        ("on_stall = \"dead_letter\"", "on_stall: is dead_letter, but there is none; add [worker.dead_letter]"),
        ("after_dead_letter = \"follow\"", "after_dead_letter: says follow, and there is no dead letter"),
        (
            "after_dead_letter = \"follow\"\norder = \"none\"\ndead_letter = {}",
            "after_dead_letter: says follow, and order is none; leave one of them out",
        ),
        ("stall_after = \"0s\"", "stall_after: is zero"),
        ("adaptive = { floor = 0 }", "adaptive.floor: is 0, out of range"),
        ("adaptive = { tolerate_failures = 1.1 }", "adaptive.tolerate_failures: is 1.1, out of range"),
        ("concurrency = 9\nadaptive = {}", "concurrency: has no effect with adaptive"),
        ("adaptive = { floor = 9, ceiling = 8 }", "adaptive.ceiling: is below the floor, 9"),
    ] {
        let told = errors(&file(lines));
        assert!(told.len() == 1 && told[0].contains(expected), "{lines}: {told:?}");
    }
    let pattern = file("rate_limit = { records = 5, group_wide = true }").replace("\"orders\"", "\"^orders-\"");
    let expected = "rate_limit.group_wide: needs topics by their names";
    let told = errors(&pattern);
    assert!(told.len() == 1 && told[0].contains(expected) && told[0].ends_with("; name the topics"), "{told:?}");
}

#[test]
fn a_bad_listener_says_where_and_what() {
    let table = [
        ("", "w.toml:1:2: ops.listen: is missing; write listen = \"127.0.0.1:9464\""),
        (
            "listen = \"9464\"",
            "w.toml:2:1: ops.listen: is not an address and a port; write \"127.0.0.1:9464\", or \"0.0.0.0:9464\" for all",
        ),
        ("listen = 9464", "w.toml:2:1: ops.listen: is of type integer; write a text in quotes"),
    ];
    for (line, expected) in table {
        let told = errors(&format!("[ops]\n{line}\n{HEAD}{WORKER}"));
        assert_eq!(told, [expected], "{line}");
    }
    let file = parse(&format!("[ops]\nlisten = \"[::1]:0\"\n{HEAD}{WORKER}")).unwrap();
    assert_eq!(file.ops.map(|address| address.to_string()).as_deref(), Some("[::1]:0"));
}

#[test]
fn the_template_is_sound_and_its_comments_name_the_defaults() {
    let plain = parse(crate::init::TEMPLATE).unwrap();
    assert_eq!(plain.workers.len(), 1);
    // With every default written out the worker is the same. The lines of [kafka] and of other handlers stay comments.
    let (head, rest) = crate::init::TEMPLATE.split_once("[[worker]]").unwrap();
    let (settings, handler) = rest.split_once("[worker.handler]").unwrap();
    let settings: String =
        settings.lines().map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line))).collect();
    let written = parse(&format!("{head}[[worker]]{settings}[worker.handler]{handler}")).unwrap();
    assert_eq!(written.workers, plain.workers);
    for kind in ["exec", "forward"] {
        let (_, of_kind) = handler.split_once(&format!("# kind = \"{kind}\"\n")).unwrap();
        let keys: String =
            of_kind.lines().take_while(|line| !line.contains("kind")).map(|line| format!("{}\n", &line[2..])).collect();
        parse(&format!("{HEAD}[[worker]]\ntopics=[\"a\"]\ngroup=\"g\"\n[worker.handler]\nkind=\"{kind}\"\n{keys}"))
            .unwrap();
    }
}

#[test]
fn a_bad_worker_says_where_and_what() {
    let table = [
        (
            "atempts = 3",
            "w.toml:8:1: worker.atempts: unknown key; known here: name, topics, group, start, value, order, concurrency, in_work, in_work_bytes, process_delay, commit_every, drain_timeout, stall_after, on_stall, start_when_healthy, time_attempts, on_drain_deadline, on_exhausted, after_dead_letter, retry, retry_tiers, dead_letter, handler, exactly_once, breaker, rate_limit, adaptive",
        ),
        ("[worker.retry]\natempts = 3", "w.toml:9:1: worker.retry.atempts: unknown key; did you mean \"attempts\"?"),
        ("retry = { attempts = 0 }", "w.toml:8:11: worker.retry.attempts: is 0, out of range; from 1 to 1000000"),
        ("concurrency = 0", "w.toml:8:1: worker.concurrency: is 0, out of range; from 1 to 1000000"),
        ("concurrency = 4294967296", "w.toml:8:1: worker.concurrency: is 4294967296, out of range; from 1 to 1000000"),
        ("concurrency = -1", "w.toml:8:1: worker.concurrency: is -1, out of range; from 1 to 1000000"),
        (
            "concurrency = \"9\"",
            "w.toml:8:1: worker.concurrency: is of type string; write a whole number from 1 to 1000000",
        ),
        (
            "commit_every = \"-5ms\"",
            "w.toml:8:1: worker.commit_every: duration \"-5ms\" is negative; durations are zero or more",
        ),
        (
            "commit_every = \"1e400s\"",
            "w.toml:8:1: worker.commit_every: duration \"1e400s\" has an exponent; write it out with a larger unit, at most \"3650d\"",
        ),
        (
            "commit_every = \"10\"",
            "w.toml:8:1: worker.commit_every: duration \"10\" has no unit; write \"10s\" or \"10ms\"",
        ),
        ("commit_every = 10", "w.toml:8:1: worker.commit_every: duration 10 has no unit; write \"10s\" or \"10ms\""),
        ("commit_every = \"0s\"", "w.toml:8:1: worker.commit_every: is zero; write a duration above zero, as \"1s\""),
        ("in_work_bytes = 64", "w.toml:8:1: worker.in_work_bytes: size 64 has no unit; write \"64B\" or \"64MiB\""),
        ("process_delay = 5", "w.toml:8:1: worker.process_delay: duration 5 has no unit; write \"5s\" or \"5ms\""),
        (
            "value = \"avro\"",
            "w.toml:8:1: worker.value: needs a schema registry, and there is none; add [registry] with url = \"http://localhost:8081\"",
        ),
        ("value = \"jsn\"", "w.toml:8:1: worker.value: \"jsn\" is not known; did you mean \"json\"?"),
        ("order = \"fifo\"", "w.toml:8:1: worker.order: \"fifo\" is not known; one of key, partition, none"),
        (
            "start = \"@2026-13-40T00:00:00Z\"",
            "w.toml:8:1: worker.start: \"2026-13-40T00:00:00Z\" has no such day; write it as \"@2026-01-01T00:00:00Z\"",
        ),
        ("start = \"-1\"", "w.toml:8:1: worker.start: duration \"1\" has no unit; write \"1s\" or \"1ms\""),
        ("start = \"-2\\n\"", "w.toml:8:1: worker.start: duration \"2\\n\" has no unit; write \"2s\" or \"2ms\""),
        (
            "start = \"end\"",
            "w.toml:8:1: worker.start: is not known; one of earliest, latest, \"@2026-01-01T00:00:00Z\", \"-1h\"",
        ),
        (
            "after_dead_letter = \"follow\"",
            "w.toml:8:1: worker.after_dead_letter: says follow, and there is no dead letter; add [worker.dead_letter]",
        ),
        (
            "order = \"none\"\nretry_tiers = { delays = [\"5s\"] }",
            "w.toml:9:1: worker.retry_tiers: is only for kind = \"exec\": what the other kinds cannot do is no failure of a record; leave it out",
        ),
        (
            "on_stall = \"dead_letter\"",
            "w.toml:8:1: worker.on_stall: is dead_letter, but there is none; add [worker.dead_letter]",
        ),
        (
            "on_exhausted = \"dead_letter\"",
            "w.toml:8:1: worker.on_exhausted: is dead_letter, but there is none; add [worker.dead_letter]",
        ),
        (
            "[worker.dead_letter]\ntopic = \"orders\"",
            "w.toml:9:1: worker.dead_letter.topic: dead letters of \"orders\" would go to \"orders\" itself; name another topic, as \"{topic}.{group}.dlt\"",
        ),
        (
            "retry = { backoff = { initial = \"1m\", max = \"1s\" } }",
            "w.toml:8:39: worker.retry.backoff.max: is less than initial; make it at least as long",
        ),
        (
            "retry = { backoff = { jitter = nan } }",
            "w.toml:8:23: worker.retry.backoff.jitter: is nan, out of range; from 0 to 1",
        ),
        ("retry = 5", "w.toml:8:1: worker.retry: is of type integer; write a table, [worker.retry]"),
    ];
    for (line, expected) in table {
        assert_eq!(worker_errors(line), [expected], "{line}");
    }
}

#[test]
fn a_bad_topic_group_or_handler_says_where_and_what() {
    let long = "x".repeat(250);
    let worker = |topics: &str, group: &str, handler: &str| {
        errors(&format!("{HEAD}[[worker]]\ntopics = {topics}\ngroup = {group}\nhandler = {handler}\n"))
    };
    let print = "{ kind = \"print\" }";
    let table = [
        (worker("[\"a/b\"]", "\"g\"", print), "w.toml:4:1: worker.topics: \"a/b\" holds '/'; a topic's name has letters, digits, '.', '_' and '-'".to_owned()),
        (worker("[\"..\"]", "\"g\"", print), "w.toml:4:1: worker.topics: \"..\" is not a topic's name; Kafka does not allow it".into()),
        (worker(&format!("[\"{long}\"]"), "\"g\"", print), "w.toml:4:1: worker.topics: the name has 250 bytes; at most 249".into()),
        (worker("['^(a+)+$']", "\"g\"", print), "w.toml:4:1: worker.topics: the pattern \"^(a+)+$\" is not valid: a repetition repeats a repetition, which can take for ever; write 'a+' for '(a+)+'".into()),
        (worker("['^[']", "\"g\"", print), "w.toml:4:1: worker.topics: the pattern \"^[\" is not valid: a '[' is not closed; write '\\[' for a bracket".into()),
        (worker("[]", "\"g\"", print), "w.toml:4:1: worker.topics: is empty; name at least one topic".into()),
        (worker("\"a\"", "\"g\"", print), "w.toml:4:1: worker.topics: is of type string; write a list, as [\"a\", \"b\"]".into()),
        (worker("[\"a\"]", "\"\"", print), "w.toml:5:1: worker.group: the name is empty; name the group whose members share the work".into()),
        (worker("[\"a\"]", "\"g\"", "{ kind = \"http\" }"), "w.toml:6:13: worker.handler.kind: \"http\" is not in this version; one of exec, print, forward".into()),
        (worker("[\"a\"]", "\"g\"", "{ kind = \"exec\" }"), "w.toml:6:1: worker.handler.command: is missing; write it as command = [\"python3\", \"charge.py\"]".into()),
        (worker("[\"a\"]", "\"g\"", "{ kind = \"exec\", command = [] }"), "w.toml:6:28: worker.handler.command: names no program; write it as command = [\"python3\", \"charge.py\"]".into()),
        (worker("[\"a\"]", "\"g\"", "{ kind = \"print\", comand = 1 }"), "w.toml:6:29: worker.handler.comand: unknown key; known here: kind".into()),
        (worker("[\"a\"]", "\"g\"\nvalue = \"avro\"", "{ kind = \"forward\", topic = \"b\" }"), "w.toml:6:1: worker.value: does not go with kind = \"forward\", which copies values as they are; leave it out".into()),
        (worker("[\"a\"]", "\"g\"", "{ kind = \"forward\", topic = \"a\" }"), "w.toml:4:1: worker.topics: records would go round: a -> a; send dead letters or copies to a topic that is not read on the way".into()),
    ];
    for (errors, expected) in table {
        assert_eq!(errors, [expected]);
    }
}

#[test]
fn a_registry_is_filled_in_and_checked_before_anything_is_connected() {
    let file = |registry: &str| format!("{HEAD}[registry]\n{registry}\n{WORKER}value = \"avro\"\n");
    let read = parse(&file("url = \"https://r:8081\"\nuser = \"u\"\npassword = \"${SET}\"\ntimeout = \"2s\"")).unwrap();
    assert_eq!(read.workers[0].value, crate::body::BodyFormat::Avro);
    let shown = format!("{read:?}");
    assert!(read.registry.is_some() && !shown.contains("canary"), "{shown}");
    let table = [
        ("", "w.toml:3:2: registry.url: is missing; write url = \"http://localhost:8081\""),
        ("urls = []", "w.toml:4:1: registry.urls: unknown key; did you mean \"url\"?"),
        ("url = \"https://r\"\nuser = \"u\"", "w.toml:3:2: registry.password: is missing; it belongs to user"),
        (
            "url = \"https://r\"\ntoken = \"${UNSET}\"",
            "w.toml:5:1: registry.token: the environment variable UNSET is not set; export it, or write ${UNSET:-default}",
        ),
        (
            "url = \"http://r\"\ntoken = \"canary\"",
            "w.toml:4:1: registry.url: credentials would go over an unencrypted connection; use https, or dangerously_allow_plaintext_auth",
        ),
        (
            "url = \"https://u:canary@r\"",
            "w.toml:4:1: registry.url: credentials in the address; give user and password apart from it",
        ),
    ];
    for (registry, expected) in table {
        assert_eq!(errors(&file(registry)), [expected], "{registry}");
    }
}

#[test]
fn a_cycle_through_two_workers_is_refused() {
    let worker = |topic: &str, dead: &str| {
        format!(
            "[[worker]]\nname = \"{topic}\"\ntopics = [\"{topic}\"]\ngroup = \"g\"\nhandler = {{ kind = \"print\" }}\n\
             dead_letter = {{ topic = \"{dead}\" }}\n"
        )
    };
    assert_eq!(
        errors(&format!("{HEAD}{}{}", worker("a", "b"), worker("b", "a"))),
        [
            "w.toml:11:1: worker.topics: records would go round: a -> b -> a; send dead letters or copies to a topic that is \
          not read on the way"
        ]
    );
    assert_eq!(errors(&format!("{HEAD}{}{}", worker("a", "b"), worker("b", "c"))), [""; 0]);
    assert_eq!(
        errors(&format!("{HEAD}{WORKER}{WORKER}")),
        ["w.toml:9:1: worker.name: another worker is called \"w\"; give each its own name"]
    );
}

#[test]
fn a_bad_property_says_where_and_what() {
    let table = [
        (
            "\"bootstrap.server\" = \"h\"",
            "w.toml:3:1: kafka.bootstrap.server: unknown property; did you mean \"bootstrap.servers\"?",
        ),
        (
            "\"enable.auto.commit\" = true",
            "w.toml:3:1: kafka.enable.auto.commit: cannot be set by hand; it would commit records that are not finished; see commit_every",
        ),
        (
            "\"group.id\" = \"g\"",
            "w.toml:3:1: kafka.group.id: cannot be set by hand; name the group of each worker instead",
        ),
        ("\"client.id\" = \"a\\u0000\"", "w.toml:3:1: kafka.client.id: the value holds a NUL byte; take it out"),
        ("\"client.id\" = []", "w.toml:3:1: kafka.client.id: is of type array; write a text, a number, true or false"),
        (
            "\"metadata.broker.list\" = \"i:1\"",
            "w.toml:3:1: kafka.metadata.broker.list: is another name for bootstrap.servers, which is set too; set one of them",
        ),
        (
            "\"sasl.password\" = \"${UNSET}\"",
            "w.toml:3:1: kafka.sasl.password: the environment variable UNSET is not set; export it, or write ${UNSET:-default}",
        ),
        (
            "\"sasl.password\" = \"${env:UNSET}\"",
            "w.toml:3:1: kafka.sasl.password: the environment variable UNSET is not set; export it, or write ${UNSET:-default}",
        ),
        (
            "\"sasl.password\" = \"${file:../../etc/shadow}\"",
            "w.toml:3:1: kafka.sasl.password: the secret file \"../../etc/shadow\" is not an absolute path without '..'; write ${file:/run/secrets/name}",
        ),
        (
            "\"sasl.password\" = \"${file:/run/../etc/shadow}\"",
            "w.toml:3:1: kafka.sasl.password: the secret file \"/run/../etc/shadow\" is not an absolute path without '..'; write ${file:/run/secrets/name}",
        ),
        (
            "\"sasl.password\" = \"${file:/no/secret}\"",
            "w.toml:3:1: kafka.sasl.password: the secret file /no/secret: no such file; it is a regular file of UTF-8, at most 64 KiB",
        ),
        (
            "\"sasl.password\" = \"${A:-${B}}\"",
            "w.toml:3:1: kafka.sasl.password: a '${' is inside another; one level only",
        ),
        (
            "\"sasl.password\" = \"${A\"",
            "w.toml:3:1: kafka.sasl.password: a '${' is not closed; write ${NAME}, or $${ for the text itself",
        ),
        (
            "\"sasl.password\" = \"${SET}\"",
            "w.toml:1:2: kafka.security.protocol: is plaintext, but sasl.password is set: nothing would authenticate; use sasl_ssl",
        ),
        (
            "\"max.poll.interval.ms\" = 10_000",
            "w.toml:3:1: kafka.max.poll.interval.ms: is 10000, less than session.timeout.ms (45000); make it at least as long",
        ),
    ];
    for (line, expected) in table {
        assert_eq!(kafka_errors(line), [expected], "{line}");
    }
    let brokers = |list: &str| errors(&format!("[kafka]\nbootstrap.servers = \"{list}\"\n{WORKER}"));
    for (list, expected) in [
        ("", "no broker is named; write host:port, as \"localhost:9092\""),
        ("host:99999", "broker \"host:99999\" has no valid port; a port is a number from 1 to 65535"),
        ("host:-1", "broker \"host:-1\" has no valid port; a port is a number from 1 to 65535"),
        ("::1:9092", "broker \"::1:9092\" is an IPv6 address without brackets; write \"[::1]:9092\""),
        ("http://h:9092", "broker \"http://h:9092\" is a URL; write \"h:9092\"; TLS is chosen by security"),
    ] {
        assert_eq!(brokers(list), [format!("w.toml:2:11: kafka.bootstrap.servers: {expected}")]);
    }
    assert_eq!(
        errors(WORKER),
        ["w.toml:1:1: kafka.bootstrap.servers: no broker is named; write host:port, as \"localhost:9092\""]
    );
}

#[test]
fn what_is_filled_in_is_not_filled_in_again() {
    let text = format!("{HEAD}\"client.id\" = \"$${{x}}-${{SET}}\"\n{WORKER}");
    assert_eq!(parse(&text).unwrap().kafka["client.id"], "${x}-canary-${SET}");
}

#[test]
fn all_mistakes_come_at_once_in_the_order_of_the_lines() {
    let text =
        "[[worker]]\ntopics = [\"a\"]\ngrup = \"g\"\nconcurrency = 0\nhandler = { kind = \"x\" }\n[kafka]\nzzz = 1\n";
    let lines: Vec<String> = errors(text).iter().map(|e| e.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "w.toml:1:1: worker.group:",
            "w.toml:3:1: worker.grup:",
            "w.toml:4:1: worker.concurrency:",
            "w.toml:5:13: worker.handler.kind:",
            "w.toml:7:1: kafka.zzz:"
        ]
    );
}

#[test]
fn syntax_that_is_no_toml_is_refused_without_quoting_it() {
    let table = [
        ("\"sasl.password\" = \"canary-5ecret\n", 3),
        ("\"sasl.password\" = canary-5ecret\n", 3),
        ("\"client.id\" = \"a\"\n\"client.id\" = \"canary-5ecret\"\n", 4),
        ("[canary\n", 3),
        ("\"sasl.password\" = \"\"\"canary-5ecret", 3),
    ];
    for (lines, line) in table {
        let errors = errors(&format!("{HEAD}{lines}"));
        assert!(!errors.is_empty() && errors[0].starts_with(&format!("w.toml:{line}:")), "{errors:?}");
        assert!(!errors.concat().contains("5ecret"), "{errors:?}");
    }
    assert_eq!(errors(&format!("{HEAD}\"client.id\" = 'a'\n\"client.id\" = 'b'\n")), ["w.toml:4:1: duplicate key"]);
}

#[test]
fn hostile_or_foreign_files_are_refused() {
    for open in ["[", "{ a = "] {
        let errors = errors(&format!("a = {}", open.repeat(10_000)));
        assert!(!errors.is_empty() && errors.len() <= MAX_ERRORS, "{}", errors.len());
    }
    let dots = format!("{} = 1\n", vec!["a"; 10_000].join("."));
    assert!(!errors(&dots).is_empty());
    assert!(!errors(&format!("[kafka]\n{dots}")).is_empty());
    assert!(parse(&format!("\u{feff}{HEAD}{WORKER}").replace('\n', "\r\n")).is_ok());
    let dir = tempfile::tempdir().unwrap();
    let load = |content: &[u8]| {
        let path = dir.path().join("w.toml");
        std::fs::write(&path, content).unwrap();
        let errors = WorkerFile::load(&path, &BTreeMap::new()).unwrap_err();
        errors[0].to_string().replace(&dir.path().display().to_string(), "")
    };
    assert_eq!(load(&vec![b'#'; 256 * 1024 + 1]), "/w.toml: is larger than 256 KiB");
    assert_eq!(
        load(b"# ok\nname = \"caf\xe9\""),
        "/w.toml:2:12: the file is not UTF-8; save it as UTF-8 (from latin-1: iconv -f latin1 -t utf8)"
    );
}

#[test]
fn exactly_once_is_for_copies_and_commits_by_itself() {
    let of = |keys: &str, handler: &str, section: &str| {
        let text = format!(
            "{HEAD}[[worker]]\ntopics = [\"a\"]\ngroup = \"g\"\n{keys}[worker.exactly_once]\n{section}\n[worker.handler]\n{handler}"
        );
        parse(&text).map(|file| file.workers[0].exactly_once.clone())
    };
    let forward = "kind = \"forward\"\ntopic = \"b\"";
    let (every, bytes) = (Duration::from_millis(100), 32 << 20);
    let plain = ExactlyOnceSpec { transactional_id: None, every, records: 50_000, bytes };
    assert_eq!(of("", forward, ""), Ok(Some(plain.clone())));
    let section = "transactional_id = \"mine\"\nevery = \"1s\"\nrecords = 10\nbytes = \"1KiB\"";
    let every = Duration::from_secs(1);
    let full = ExactlyOnceSpec { transactional_id: Some("mine".into()), every, records: 10, bytes: 1024 };
    assert_eq!(of("", forward, section), Ok(Some(full)));
    let mistakes = [
        (of("", "kind = \"print\"", ""), "worker.exactly_once: is only for kind = \"forward\""),
        (of("commit_every = \"1s\"\n", forward, ""), "worker.commit_every: has no effect with exactly_once"),
        (of("", forward, "every = \"0s\""), "worker.exactly_once.every: is zero"),
        (of("", forward, "transactional_id = \"\""), "worker.exactly_once.transactional_id: is empty"),
        (of("", forward, "recods = 1"), "did you mean \"records\"?"),
    ];
    for (found, expected) in mistakes {
        let errors = found.unwrap_err();
        assert!(errors.len() == 1 && errors[0].contains(expected), "{errors:?}");
    }
}

#[test]
fn no_secret_is_printed() {
    let text = format!(
        "{HEAD}security.protocol = \"sasl_ssl\"\nsasl.mechanism = \"PLAIN\"\nsasl.username = \"canary\"\n\
         sasl.password = \"${{SET}}\"\n{WORKER}"
    );
    let file = parse(&text).unwrap();
    assert_eq!(file.kafka["sasl.password"], "canary-${SET}");
    let printed = format!("{file:?} {file:#?}");
    assert!(!printed.contains("canary") && printed.contains("h:9092"), "{printed}");
}

#[test]
fn no_damage_to_a_file_makes_the_reader_panic() {
    let template = crate::init::TEMPLATE.replace("\n# ", "\n");
    for at in (0..template.len()).filter(|at| template.is_char_boundary(*at)) {
        let _ = parse(&template[..at]);
        for damage in ["[", "\"", "=", "{", "é", "\0", ".", "-", "\r", "${", "]]\n"] {
            let (before, after) = template.split_at(at);
            let _ = parse(&format!("{before}{damage}{}", after.get(1..).unwrap_or_default()));
        }
    }
}

/// What a worker file may say, in pieces.
fn pieces() -> impl Strategy<Value = String> {
    let key = "(name|topics|group|handler|order|concurrency|retry|dead_letter|start|value|[a-z_.]{1,8})";
    let value = prop_oneof![
        "\"[ -!#-~]{0,12}\"",
        "\"\\$\\{[A-Z:-]{0,9}\\}?\"",
        "-?[0-9_]{1,22}",
        "[0-9]{4}-[0-9]{2}-[0-9]{2}",
        "\\[{0,30}\\]{0,30}",
        "\\{ (kind|topic|max) = \"[a-z]{0,9}\" \\}",
    ];
    let line = prop_oneof![
        3 => (key, value).prop_map(|(key, value)| format!("{key} = {value}")),
        1 => "\\[{1,2}(kafka|worker|worker\\.retry|[a-z]{0,4})\\]{0,2}",
        1 => any::<String>(),
    ];
    prop::collection::vec(line, 0..12).prop_map(|lines| lines.join("\n"))
}

proptest! {
    /// Each text is a worker file or has errors, each with its place; at most as many as are told.
    #[test]
    fn no_text_makes_the_reader_panic(text in pieces(), after_a_head in any::<bool>()) {
        let text = if after_a_head { format!("{HEAD}{WORKER}{text}") } else { text };
        if let Err(errors) = parse(&text) {
            prop_assert!((1..=MAX_ERRORS + 1).contains(&errors.len()));
            for error in errors {
                prop_assert!(error.starts_with("w.toml"), "{error}");
            }
        }
    }
}

/// Errors of a worker with programs and these retry tiers (line 8).
fn tier_errors(tiers: &str) -> Vec<String> {
    let exec = WORKER.replace("{ kind = \"print\" }", "{ kind = \"exec\", command = [\"true\"] }");
    errors(&format!("{HEAD}{exec}retry_tiers = {{ {tiers} }}\n"))
}

#[test]
fn retry_tiers_are_read_and_what_does_not_go_with_them_is_told() {
    let sound = "delays = [\"5s\", \"1m\"], attempts = 20, allow_overtaking = true";
    assert_eq!(tier_errors(sound), [""; 0]);
    let exec = WORKER.replace("{ kind = \"print\" }", "{ kind = \"exec\", command = [\"true\"] }");
    let worker = &parse(&format!("{HEAD}{exec}retry_tiers = {{ {sound} }}\n")).unwrap().workers[0];
    let delays = [Duration::from_secs(5), Duration::from_secs(60)];
    assert_eq!(worker.retry_tiers, Some(RetryTiers::new(delays).attempts(20).allow_overtaking()));
    assert_eq!(worker.tiers_of("orders"), ["orders.g.retry.5s", "orders.g.retry.1m"]);
    let table = [
        (
            "allow_overtaking = true",
            "w.toml:8:1: worker.retry_tiers.delays: is missing; write delays = [\"5s\", \"1m\", \"10m\"]",
        ),
        (
            "delays = [\"5s\"]",
            "w.toml:8:1: worker.retry_tiers.allow_overtaking: is not set: later records of a key overtake one that waits in a tier, and order is kept; write allow_overtaking = true, or order = \"none\"",
        ),
        (
            "delays = [\"5\"], allow_overtaking = true",
            "w.toml:8:17: worker.retry_tiers.delays: duration \"5\" has no unit; write \"5s\" or \"5ms\"",
        ),
        (
            "delays = [\"5s\", \"5000ms\"], allow_overtaking = true",
            "w.toml:8:17: worker.retry_tiers.delays: 5s is there twice; name it once: the last tier is used again by itself",
        ),
        (
            "delays = [\"5s\"], attempts = 5, allow_overtaking = true",
            "w.toml:8:34: worker.retry_tiers.attempts: no record ever comes to a tier: its first visit has 5 attempts; allow more in all, or fewer in a visit",
        ),
        (
            "delays = [\"5s\"], topic = \"{topic}.{delay}\", allow_overtaking = true",
            "w.toml:8:34: worker.retry_tiers.topic: \"{group}\" is missing: tiers need names of their own; write \"{topic}.{group}.retry.{delay}\"",
        ),
    ];
    for (tiers, wanted) in table {
        assert_eq!(tier_errors(tiers), [wanted], "{tiers}");
    }
}

#[test]
fn a_tier_that_another_worker_copies_back_is_a_circle() {
    let exec = WORKER.replace("{ kind = \"print\" }", "{ kind = \"exec\", command = [\"true\"] }");
    let tiers = "retry_tiers = { delays = [\"5s\"], allow_overtaking = true }";
    let back = "[[worker]]\nname = \"back\"\ntopics = [\"orders.g.retry.5s\"]\ngroup = \"h\"\nhandler = { kind = \"forward\", topic = \"orders\" }";
    let found = errors(&format!("{HEAD}{exec}{tiers}\n{back}\n"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("orders -> orders.g.retry.5s -> orders"), "{found:?}");
}
