//! No key, value or header in anything that a run tells of itself, with all logged that can be.

use crate::support::{Bytes, Kafka, OPS, PATIENCE, Probed, Process, topic_name, wait_until};

/// A handler that does with each record what its key ends with, and quotes its value for a reason.
const HANDLER: &str = r#"
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if "hello" in m:
        print(json.dumps({"ready": 1, "concurrency": 8}), flush=True)
    elif "id" in m:
        what = m["key"].rsplit("-", 1)[1]
        if what == "junk":
            print(line[:60], flush=True)
        elif what != "hangs":
            print(json.dumps({"id": m["id"], "status": what, "after": "20ms", "reason": line}), flush=True)
"#;

/// Every policy that goes with all others, so that each has something to tell.
const POLICIES: &str = r#"
value = "json"
process_delay = "50ms"
commit_every = "100ms"
stall_after = "1s"
on_stall = "dead_letter"
time_attempts = true
retry = { attempts = 2, backoff = { initial = "20ms" } }
breaker = { failures = 1000 }
rate_limit = { records = 1000, bytes = "1MiB", group_wide = true }
adaptive = { floor = 4, ceiling = 64 }
"#;

#[test]
fn no_key_value_or_header_is_in_the_logs_probes_metrics_and_explanations_of_a_run() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("canary");
    kafka.create_topic(&topic, 1, &[]);
    // Two workers: keys follow their dead letters, or records go through a tier.
    let policies =
        ["after_dead_letter = \"follow\"", "retry_tiers = { delays = [\"100ms\"], allow_overtaking = true }"];
    let groups = ["follow", "tiers"].map(|name| format!("{name}-{topic}"));
    let letters = groups.each_ref().map(|group| format!("{group}.dlt"));
    for made in [&letters[0], &letters[1], &format!("{topic}.{}.retry.100ms", groups[1])] {
        kafka.create_topic(made, 1, &[]);
    }
    let record = |key: &str, value: &str| Bytes {
        key: Some(format!("cnry-{key}").into_bytes()),
        value: Some(value.as_bytes().to_vec()),
        headers: vec![("cnry-header".to_owned(), Some(b"cnry-header-value".to_vec()))],
        ..Bytes::default()
    };
    let sound = "{\"cnry-value\":\"cnry\"}";
    let keys = ["a-ok", "b-ok", "c-retry", "d-dead_letter", "e-skip", "f-junk", "g-hangs", "c-retry"];
    let mut records = keys.map(|key| record(key, sound)).to_vec();
    records.push(record("h-ok", "cnry-value that is no JSON"));
    kafka.produce_bytes(&topic, &records);
    // What failed until the end, and again or what follows it; what was given up, crashed its process, was stuck, could not be
    // decoded.
    let lettered = 6;

    let mut file = format!("[kafka]\n\"bootstrap.servers\" = {:?}\nstatistics.interval.ms = 200\n", kafka.bootstrap());
    for ((policy, group), letters) in policies.iter().zip(&groups).zip(&letters) {
        file.push_str(&format!(
            "[[worker]]\ntopics = [{topic:?}]\ngroup = {group:?}\n{policy}\n{POLICIES}dead_letter = {{ topic = {letters:?} }}\n\
             [worker.handler]\nkind = \"exec\"\nprocesses = 1\ncommand = [\"python3\", \"-c\", {HANDLER:?}]\n"
        ));
    }
    let mut run = Probed::run(&file, &[&OPS[..], &["-vvv", "-X", "debug=all"]].concat());
    let mut told = String::new();
    let mut look = || {
        for path in ["/metrics", "/healthz", "/livez", "/readyz"] {
            told.push_str(&run.get(path).1);
        }
        for more in [&[][..], &["--key", "cnry-g-hangs"], &["--key", "cnry-g-hangs", "--json"]] {
            let url = ["explain", &topic, "--url", &run.address];
            let mut asked = Process::waterwheel(&[&url[..], more].concat());
            asked.wait(PATIENCE);
            told.push_str(&asked.stdout());
            told.push_str(&asked.stderr());
        }
    };
    wait_until(PATIENCE, "the dead letters", || {
        look();
        letters.iter().all(|letters| kafka.ends(letters, 1) == [lettered])
    });
    wait_until(PATIENCE, "the last commits", || {
        look();
        groups.iter().all(|group| kafka.committed(group, &topic, 1)[0].offset == Some(records.len() as i64))
    });
    wait_until(PATIENCE, "the metrics", || {
        look();
        run.metric("waterwheel_rate_limit").is_some()
    });
    run.process.signal(rustix::process::Signal::TERM);
    run.process.wait(PATIENCE);
    let log = run.process.stderr();
    assert!(log.contains("TRACE") && log.contains("waterwheel") && log.len() > 100_000, "void: {} bytes", log.len());
    assert!(told.contains("the commit is held") && told.contains("the key: 1 in work"), "void: {told}");
    for (what, text) in [("log", &log), ("stdout", &run.process.stdout()), ("answers", &told)] {
        if let Some(line) = text.lines().find(|line| line.contains("cnry")) {
            panic!("the {what} shows a key, a value or a header: {line}");
        }
    }
}
