//! `explain`, of a `run` on a real Kafka.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use serde_json::Value;

use crate::support::{Bytes, Kafka, OPS, PATIENCE, Probed, Process, topic_name, wait_for};

/// A handler that wants the records of the key `canary` again in ten minutes; all others are fine.
const HANDLER: &str = r#"
import json, sys
for line in sys.stdin:
    m = json.loads(line)
    if "hello" in m:
        print(json.dumps({"ready": 1, "concurrency": 8}), flush=True)
    elif "id" in m:
        answer = {"status": "retry", "after": "10m", "reason": "canary"} if m["key"] == "canary" else {"status": "ok"}
        print(json.dumps({"id": m["id"], **answer}), flush=True)
"#;

/// Code, stdout and stderr of one question.
#[track_caller]
fn explain(arguments: &[&str]) -> (i32, String, String) {
    let mut process = Process::waterwheel(&[&["explain"], arguments].concat());
    let code = process.wait(PATIENCE).code().expect("it ends by itself");
    let (out, err) = (process.stdout(), process.stderr());
    assert!(!out.contains("canary") && !err.contains("canary"), "a key is told: {out}{err}");
    (code, out, err)
}

#[test]
fn explain_tells_what_holds_the_commit_of_a_worker_that_runs_and_what_waits_behind_it() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("explain");
    kafka.create_topic(&topic, 2, &[]);
    let keys = ["a", "canary", "b", "canary", "c", "canary"];
    let record = |(partition, key): (i32, &str)| Bytes {
        partition,
        key: Some(key.as_bytes().to_vec()),
        value: Some(b"{\"canary\":1}".to_vec()),
        ..Bytes::default()
    };
    kafka.produce_bytes(&topic, &keys.map(|key| record((0, key))));
    kafka.produce_bytes(&topic, &[record((1, "a"))]);
    let file = format!(
        "[kafka]\n\"bootstrap.servers\" = {:?}\n[[worker]]\nname = \"billing\"\ntopics = [{topic:?}]\ngroup = \"g-{topic}\"\n\
         commit_every = \"100ms\"\n[worker.handler]\nkind = \"exec\"\nprocesses = 1\ncommand = [\"python3\", \"-c\", {HANDLER:?}]\n",
        kafka.bootstrap()
    );
    let run = Probed::run(&file, &OPS);
    let url = format!("http://{}", run.address);
    let ask = |about: &str, more: &[&str]| explain(&[&[&format!("{topic}{about}"), "--url", &url], more].concat());
    let json = |about: &str, more: &[&str]| {
        let (code, out, err) = ask(about, &[more, &["--json"]].concat());
        let told: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{code}: {out}{err}"));
        told["workers"][0].clone()
    };

    // Which record holds the commit, since when, and what became of those behind it.
    let told = wait_for(PATIENCE, "the last commit and the others to be finished", || {
        if run.status(&format!("/explain?topic={topic}&partition=0")) != 200 {
            return None;
        }
        let told = json(":0", &[]);
        let partition = &told["partitions"][0];
        (partition["finished_above"] == 2 && partition["committed"]["metadata"].as_u64() > Some(0)).then_some(told)
    });
    assert_eq!((&told["worker"], &told["state"]), (&"billing".into(), &"consuming".into()));
    let partition = &told["partitions"][0];
    assert_eq!((&partition["frontier"], &partition["committed"]["offset"]), (&1.into(), &1.into()), "{partition:#}");
    let head = &partition["head"];
    assert_eq!((&head["offset"], &head["stage"], &head["attempts"]), (&1.into(), &"backoff".into(), &1.into()));
    assert_eq!((&head["last_failure"], &head["is_parked"]), (&"handler".into(), &false.into()));
    let left = head["retry_in_seconds"].as_f64().expect("a number");
    assert!((400.0..=600.0).contains(&left), "{left}");
    assert_eq!((&partition["waiting"], &partition["set_aside"], &partition["next"]), (&2.into(), &1.into(), &6.into()));

    // The key's queue.
    let key = &json(":0", &["--key", "canary"])["partitions"][0]["key"];
    assert_eq!((&key["in_work"][0]["offset"], &key["queued"]), (&1.into(), &2.into()), "{key:#}");
    assert_eq!(key["first"], serde_json::json!([3, 5]));
    // As text, of the whole topic.
    let (code, out, _) = ask("", &["--key", "canary"]);
    assert_eq!(code, 0, "{out}");
    for line in [
        &*format!("billing of group g-{topic}: consuming"),
        &*format!("{topic}-0: the commit is held at 1 for "),
        "  by 1: next attempt in ",
        ", 1 attempt, failed last by handler",
        " of 4096; 2 finished above 1",
        "0 running, 2 waiting for their key, 1 set aside, ",
        "  the key: 1 in work, 2 queued, 0 to be read again",
        "    then 3, 5",
        &*format!("{topic}-1: nothing holds the commit at 1"),
    ] {
        assert!(out.contains(line), "{line:?} is not in {out}");
    }

    let (code, out, _) = ask(":1", &["--key", "canary"]);
    assert!(code == 0 && out.ends_with("\nthe key: nothing of it is in work here, or keys have no order\n"), "{out}");

    // Single records.
    for (offset, said) in [
        (0, "asked about: 0: finished"),
        (2, "asked about: 2: finished"),
        (1, "asked about: 1: next attempt in "),
        (3, "asked about: 3: waits behind 1 record of its key, first 1"),
        (5, "asked about: 5: waits behind 2 records of its key, first 1"),
        (6, "asked about: 6: not fetched yet"),
    ] {
        let (code, out, _) = ask(&format!(":0:{offset}"), &[]);
        assert!(code == 0 && out.contains(said), "{offset}: {out}");
    }

    // What nobody has there, and questions that are none.
    for (about, more, code, said) in [
        (":9", &[][..], 5, format!("no worker there has {topic}-9")),
        (":9:0", &[], 5, format!("no worker there has {topic}-9")),
        ("-elsewhere", &[], 5, format!("no worker there has {topic}-elsewhere")),
        (":-1", &[], 2, "\"-1\" is not a partition".to_owned()),
        (":0:-7", &[], 2, "\"-7\" is not an offset".to_owned()),
        (":0:1", &["--key", "canary"], 2, "--key and an offset: ask for one of them".to_owned()),
    ] {
        let (ended, out, err) = ask(about, more);
        assert!((ended, out.as_str()) == (code, "") && err.contains(&said), "{about}: {ended} {out}{err}");
    }
    drop(run);
    let (code, _, err) = explain(&[&topic, "--url", &url]);
    assert!(code == 7 && err.contains("is a worker running there with --ops or [ops]?"), "{code}: {err}");
}

/// Something else listens there.
#[test]
fn explain_tells_that_nobody_there_speaks_its_language() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("it has one").to_string();
    let strangers = std::thread::spawn(move || {
        for answer in ["+PONG\r\n", "HTTP/1.1 404 Not Found\r\nContent-Length: 10\r\n\r\nnot found\n"] {
            let (mut stream, _) = listener.accept().expect("a connection");
            let _ = stream.read(&mut [0; 1_024]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    for (code, said) in [(1, "does not speak HTTP"), (5, "answers no questions")] {
        let (ended, _, err) = explain(&["orders", "--url", &address]);
        assert!(ended == code && err.contains(said), "{ended}: {err}");
    }
    strangers.join().expect("it does not panic");
    let (code, _, err) = explain(&["orders", "--url", "http://127.0.0.1"]);
    assert!(code == 2 && err.contains("write it as http://127.0.0.1:9464"), "{code}: {err}");
}
