//! `waterwheel bench` on a real Kafka: that everything is seen and added up, not how fast.

use serde_json::Value;

use crate::support::{Kafka, PATIENCE, Process, topic_name};

/// Its exit code and the JSON on its stdout.
fn bench(kafka: &Kafka, arguments: &[&str]) -> (Option<i32>, Value, String) {
    let all = [&["-b", kafka.bootstrap(), "-o", "json", "bench"][..], arguments].concat();
    let mut process = Process::waterwheel(&all);
    let code = process.wait(PATIENCE).code();
    let json = serde_json::from_str(&process.stdout()).unwrap_or_default();
    (code, json, process.stderr())
}

#[test]
fn every_record_of_a_latency_measurement_is_seen_and_counted_once() {
    let Some(kafka) = Kafka::shared() else { return };
    let arguments = ["--rate", "300", "--duration", "2s", "--warm-up", "1s", "--partitions", "3", "--keys", "7"];
    let (code, told, stderr) = bench(kafka, &[&["latency"][..], &arguments].concat());
    assert_eq!(code, Some(0), "{told} {stderr}");
    assert_eq!((&told["records"], &told["unseen"], &told["mode"]), (&600.into(), &0.into(), &"key".into()), "{told}");
    let figures = ["p50_ms", "p90_ms", "p99_ms", "p99_9_ms", "max_ms"].map(|name| told[name].as_f64().expect(name));
    assert!(figures.is_sorted() && figures[0] > 0.0, "{told}");
    assert!(stderr.contains("the consumer reads; sending for 3 s, the first 1 s of them to warm up\n"), "{stderr}");
}

#[test]
fn records_that_were_there_before_are_not_measured() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("latency");
    kafka.create_topic(&topic, 2, &[]);
    kafka.produce(&topic, (0..500).map(|n| (Some(format!("k{n}")), "old".to_owned())));
    let arguments = ["--topic", &topic, "--rate", "100", "--duration", "1s", "--warm-up", "0s", "--mode", "partition"];
    let (code, told, stderr) = bench(kafka, &[&["latency"][..], &arguments].concat());
    assert_eq!((code, &told["records"], &told["unseen"]), (Some(0), &100.into(), &0.into()), "{told} {stderr}");
    assert!(!stderr.contains(&topic) && !stderr.contains("warning"), "{stderr}");
}

#[test]
fn workloads_run_one_after_the_other() {
    let Some(kafka) = Kafka::shared() else { return };
    let arguments = ["--workloads", "key0,part20ms", "--scale", "0.01", "--rounds", "2"];
    let (code, told, stderr) = bench(kafka, &[&["worker"][..], &arguments].concat());
    assert_eq!(code, Some(0), "{told} {stderr}");
    let rows = told["workloads"].as_array().expect("a list");
    let names: Vec<_> = rows.iter().map(|row| (&row["workload"], &row["records"])).collect();
    assert_eq!(names, [(&"key0".into(), &30_000.into()), (&"part20ms".into(), &100.into())], "{told}");
    assert!(rows.iter().all(|row| row["rate"].as_f64() > Some(0.0)), "{told}");
    assert!(rows[1]["wait_us"].as_f64() >= Some(20_000.0) && rows[1]["of_bound_pct"].as_f64() > Some(0.0), "{told}");
    assert_eq!((&rows[0]["bound"], &told["embedded"]), (&Value::Null, &false.into()));
}

#[test]
fn a_topic_that_is_not_there_is_said_and_not_waited_for() {
    let Some(kafka) = Kafka::shared() else { return };
    let missing = topic_name("missing");
    for arguments in [
        &["consume", "--count", "1"][..],
        &["consume", "--count", "1", "--mode", "raw"],
        &["produce", "--count", "1"],
        &["latency"],
    ] {
        let (code, told, stderr) = bench(kafka, &[arguments, &["--topic", &missing]].concat());
        assert_eq!((code, &told), (Some(5), &Value::Null), "{arguments:?} {stderr}");
        let expected = format!("error: the brokers have no topic {missing}\nhint: make it first; bench latency and ");
        assert!(stderr.contains(&expected), "{arguments:?} {stderr}");
    }
}
