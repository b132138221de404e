//! The verb `produce`: what it writes is what was given, and what was not written is told.

use std::io::Write as _;

use rustix::process::Signal;
use serde_json::Value;

use crate::reading::{of_every_kind, topic_of_every_kind, written};
use crate::support::{Bytes, Cluster, Kafka, PATIENCE, Process, Size, topic_name, wait_until};

/// Runs it on that input.
fn produce(kafka: &Kafka, arguments: &[&str], input: &[u8]) -> Process {
    let mut process = Process::waterwheel_fed(&[&["-b", kafka.bootstrap(), "produce"], arguments].concat(), input);
    process.wait(PATIENCE);
    process
}

/// The same, which ends with that code; what it said on stderr.
#[track_caller]
fn produced(kafka: &Kafka, arguments: &[&str], input: &[u8], code: i32) -> String {
    let mut process = produce(kafka, arguments, input);
    assert_eq!(process.wait(PATIENCE).code(), Some(code), "{arguments:?}: {}", process.stderr());
    process.stderr()
}

/// Key and value of each record of a topic of one partition; `~` for null.
fn texts(kafka: &Kafka, topic: &str) -> Vec<(String, String)> {
    let text = |bytes: &Option<Vec<u8>>| match bytes {
        None => "~".to_owned(),
        Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
    };
    kafka.read_all(topic, 1).iter().map(|bytes| (text(&bytes.key), text(&bytes.value))).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn what_it_writes_kafkas_console_consumer_reads_byte_for_byte_and_the_reverse() {
    let Some(kafka) = Kafka::shared() else { return };
    if !Kafka::has_tools() {
        return;
    }
    let topic = topic_name("produce-console");
    kafka.create_topic(&topic, 1, &[]);
    let lines = b"a:1\n:no key\nb:\xff\x00\x1b[31m\nno delimiter\n\xc3\xa9:\xc3\xbc\nlast:without an end";
    produced(kafka, &[&topic, "-K:"], lines, 0);
    let theirs = ["--topic", &topic, "--from-beginning", "--max-messages", "6", "--property", "print.key=true"];
    let mut process = kafka.tool_process("consumer", &[&theirs[..], &["--property", "key.separator=:"]].concat());
    assert!(process.wait(PATIENCE).success(), "{}", process.stderr());
    let expected = b"a:1\n:no key\nb:\xff\x00\x1b[31m\nnull:no delimiter\n\xc3\xa9:\xc3\xbc\nlast:without an end\n";
    assert_eq!(process.stdout_since(0).escape_ascii().to_string(), expected.escape_ascii().to_string());

    // What consume writes, produce reads.
    let again = topic_name("produce-again");
    kafka.create_topic(&again, 1, &[]);
    let lines = written(kafka, &["consume", &topic, "-e", "-K:", "-Z=~"]);
    produced(kafka, &[&again, "-K:", "-Z=~"], &lines, 0);
    assert_eq!(texts(kafka, &again), texts(kafka, &topic));
}

#[test]
fn what_consume_wrote_as_json_is_written_back_byte_for_byte() {
    let Some(kafka) = Kafka::shared() else { return };
    let from = topic_of_every_kind(kafka);
    let to = topic_name("produce-copy");
    kafka.create_topic(&to, 1, &[]);
    let lines = written(kafka, &["consume", &from, "-e", "-J"]);
    produced(kafka, &[&to, "--from-ndjson"], &lines, 0);
    let read: Vec<Bytes> = kafka.read_all(&to, 1).into_iter().map(|bytes| Bytes { offset: 0, ..bytes }).collect();
    assert_eq!(read, of_every_kind());
    let copy = String::from_utf8(written(kafka, &["consume", &to, "-e", "-J"])).expect("JSON is text");
    assert_eq!(copy.replace(&to, &from).into_bytes(), lines, "times and places too");

    // The same again by the names that the lines have, and with line ends of Windows, which are blanks in JSON.
    let lines = copy.replace('\n', "\r\n");
    produced(kafka, &["--from-ndjson", "--keep-topics"], lines.as_bytes(), 0);
    assert_eq!(kafka.read_all(&to, 1).len(), 2 * of_every_kind().len());
}

#[test]
fn partitions_and_times_are_those_of_the_lines_unless_told_otherwise() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("produce-places");
    kafka.create_topic(&topic, 3, &[("retention.ms", "-1")]);
    let line = r#"{"partition":1,"timestamp":1000000000000,"key":"last","value":"v"}"#;
    for options in [&[][..], &["-p", "2"], &["--by-key"], &["--now"]] {
        produced(kafka, &[&[&topic, "--from-ndjson"][..], options].concat(), line.as_bytes(), 0);
    }
    let told = written(kafka, &["consume", &topic, "-e", "-f", "%p %T\n"]);
    let mut told: Vec<String> = String::from_utf8_lossy(&told).lines().map(str::to_owned).collect();
    told.sort();
    // "last" goes to partition 0 of 3 by Java's murmur2.
    assert_eq!(told[..2], ["0 1000000000000", "1 1000000000000"]);
    assert_eq!(told[3], "2 1000000000000");
    let now: u64 = told[2].strip_prefix("1 ").expect("its partition").parse().expect("a time");
    assert!(now > 1_700_000_000_000, "{now}");
}

#[test]
fn lines_files_keys_headers_and_nulls_are_kcats() {
    let Some(kafka) = Kafka::shared() else { return };
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = |name: &str, text: &str| {
        std::fs::write(dir.path().join(name), text).expect("the temporary directory can be written to");
        dir.path().join(name).display().to_string()
    };
    let (one, two, empty) = (file("one", "a\nb\n"), file("two", "c\n\nd"), file("empty", ""));
    // Options, input, and what is in the topic then.
    type Case<'a> = (&'a [&'a str], &'a str, &'a [(&'a str, &'a str)]);
    let table: [Case<'_>; 13] = [
        (&[], "", &[]),
        (&[], "a\nb", &[("~", "a"), ("~", "b")]),
        (&[], "a\n\nb\n", &[("~", "a"), ("~", ""), ("~", "b")]),
        (&["-Z"], "a\n\nb\n", &[("~", "a"), ("~", "~"), ("~", "b")]),
        (&["-D", r"\r\n"], "a\r\nb\nc\r\n", &[("~", "a"), ("~", "b\nc")]),
        (&["-K", "::", "-Z"], "k::v::w\n::v\nk::\nv\n", &[("k", "v::w"), ("~", "v"), ("k", "~"), ("~", "v")]),
        (&["-K:", "-k", "fixed", "-Z=null"], "k:null\nnull:v\nv\n", &[("k", "~"), ("~", "v"), ("fixed", "v")]),
        (&["-k", "k", "-c", "2"], "a\nb\nc\n", &[("k", "a"), ("k", "b")]),
        (&[&one, &two, &empty], "not read", &[("~", "a\nb\n"), ("~", "c\n\nd"), ("~", "")]),
        (&["-l", &one, &two, &empty], "not read", &[("~", "a"), ("~", "b"), ("~", "c"), ("~", ""), ("~", "d")]),
        (&["-l", &one, "-"], "x\n", &[("~", "a"), ("~", "b"), ("~", "x")]),
        (&["--value-size", "3", "--count", "3", "--keys", "2"], "not read", &[("0", "0"), ("1", "1"), ("0", "2")]),
        (&["-p", "0", "-z", "lz4", "--acks", "1"], "a\n", &[("~", "a")]),
    ];
    for (options, input, expected) in table {
        let topic = topic_name("produce-kcat");
        kafka.create_topic(&topic, 1, &[]);
        produced(kafka, &[&["-t", &topic][..], options].concat(), input.as_bytes(), 0);
        let mut read = texts(kafka, &topic);
        if options.contains(&"--value-size") {
            assert!(read.iter().all(|(_, value)| value.len() == 3), "{read:?}");
            read.iter_mut().for_each(|(_, value)| value.truncate(1));
        }
        assert_eq!(read, pairs(expected), "{options:?}");
    }
    let topic = topic_name("produce-headers");
    kafka.create_topic(&topic, 1, &[]);
    produced(kafka, &[&topic, "-H", "n=1", "-H", "n=a=b", "-H", "n", "-H", "m="], b"v", 0);
    let line = r#"{"value":"w","headers":[["own","1"]]}"#;
    produced(kafka, &[&topic, "--from-ndjson", "-H", "more=2"], line.as_bytes(), 0);
    let header = |name: &str, value: Option<&str>| (name.to_owned(), value.map(|v| v.as_bytes().to_vec()));
    let read = kafka.read_all(&topic, 1);
    let expected = [header("n", Some("1")), header("n", Some("a=b")), header("n", None), header("m", Some(""))];
    assert_eq!(read[0].headers, expected);
    assert_eq!(read[1].headers, [header("more", Some("2")), header("own", Some("1"))]);
}

#[test]
fn what_is_sent_goes_to_stdout_if_told_or_what_became_of_it() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("produce-tee");
    kafka.create_topic(&topic, 2, &[]);
    let mut tee = produce(kafka, &[&topic, "-T", "-K:"], b"a:1\nb");
    assert_eq!((tee.wait(PATIENCE).code(), &*tee.stdout()), (Some(0), "a:1\nb\n"));
    let answers = produce(kafka, &[&topic, "-p1", "-o", "ndjson"], b"x\ny\n").stdout();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ends = kafka.ends(&topic, 2);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!((&answer["line"], &answer["partition"]), (&(n + 1).into(), &1.into()));
        assert_eq!(answer["offset"].as_i64(), Some(ends[1] - 2 + n as i64), "{answer}");
    }
    let sum = produce(kafka, &[&topic, "-o", "json"], b"x\ny\n").stdout();
    let sum: Value = serde_json::from_str(&sum).expect("JSON");
    assert_eq!((&sum["records"], &sum["bytes"], &sum["failed"]), (&2.into(), &2.into(), &0.into()));
    let stderr = produced(kafka, &[&topic, "-X", "acks=0", "-q"], b"x\n", 0);
    assert_eq!(stderr, "");
    let stderr = produced(kafka, &[&topic, "-X", "acks=0"], b"x\n", 0);
    assert!(stderr.contains("1 record (1 B) sent without acknowledgement"), "{stderr}");
}

#[test]
fn a_line_that_cannot_be_sent_is_told_by_its_number_and_stops_it_or_is_left_out() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("produce-wrong");
    kafka.create_topic(&topic, 1, &[("max.message.bytes", "5000")]);
    let huge = "x".repeat(1_500_000);
    let large = "x".repeat(6_000);
    // Too large; not JSON; no such partition.
    let table = [
        (vec![], format!("a\n{huge}\nb\n"), ":2: 1500000 bytes are too many"),
        (vec!["--from-ndjson"], "{\"value\":\"a\"}\ncanary\n{\"value\":\"b\"}".to_owned(), ":2: is no JSON"),
        (
            vec!["--from-ndjson"],
            "{\"value\":\"a\"}\n{\"value\":\"c\",\"partition\":9}\n{\"value\":\"b\"}".to_owned(),
            ":2: there is no partition",
        ),
    ];
    for (n, (options, input, told)) in table.iter().enumerate() {
        let before = texts(kafka, &topic).len();
        let arguments = [&[&*topic][..], options].concat();
        let stderr = produced(kafka, &arguments, input.as_bytes(), if n == 2 { 5 } else { 1 });
        assert!(stderr.contains(&format!("error: stdin{told}")), "{stderr}");
        assert!(!stderr.contains("canary"), "{stderr}");
        let stopped = texts(kafka, &topic);
        assert_eq!(stopped[before], ("~".to_owned(), "a".to_owned()), "{stderr}");
        let arguments = [&arguments[..], &["--on-error", "skip"]].concat();
        let stderr = produced(kafka, &arguments, input.as_bytes(), if n == 2 { 5 } else { 1 });
        assert!(stderr.contains(&format!("error: stdin{told}")), "{stderr}");
        let all = texts(kafka, &topic);
        assert_eq!(all[stopped.len()..], pairs(&[("~", "a"), ("~", "b")]), "{stderr}");
        assert_eq!(stopped.len(), before + 1, "{stderr}");
    }
    let stderr = produced(kafka, &[&topic], large.as_bytes(), 1);
    assert!(
        stderr.contains("error: stdin:1: ") && stderr.contains("1 not acknowledged"),
        "what the broker refuses: {stderr}"
    );
    let sum = produce(kafka, &[&topic, "--from-ndjson", "-o", "json"], b"{\"value\":\"a\"}\n7\n").stdout();
    let sum: Value = serde_json::from_str(&sum).expect("JSON");
    assert_eq!((&sum["left_out"], &sum["next"]["line"], &sum["records"]), (&1.into(), &2.into(), &1.into()));
    let stderr = produced(kafka, &[&topic], b"a\r\nb\r\n", 0);
    assert!(stderr.contains("warning: stdin: lines end with \\r\\n"), "{stderr}");
}

#[test]
fn a_missing_topic_is_code_5_and_is_not_made() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("produce-missing");
    let stderr = produced(kafka, &[&topic], b"a\n", 5);
    assert!(stderr.contains(&format!("there is no topic {topic}")), "{stderr}");
    let line = format!(r#"{{"topic":"{topic}","value":"v"}}"#);
    produced(kafka, &["--from-ndjson", "--keep-topics"], line.as_bytes(), 5);
    assert!(!kafka.tool("topics", &["--list"]).contains(&topic), "asking does not make it");
}

#[test]
fn the_rate_is_the_one_that_is_asked_for_by_the_times_of_the_records() {
    let Some(kafka) = Kafka::shared() else { return };
    for (rate, count) in [("50", 100), ("1000", 3_000), ("20000", 40_000)] {
        let topic = topic_name("produce-rate");
        kafka.create_topic(&topic, 1, &[]);
        let options = [&topic, "--rate", rate, "--count", &count.to_string(), "--value-size", "10"];
        produced(kafka, &options, b"", 0);
        let times = written(kafka, &["consume", &topic, "-e", "-f", "%T\n"]);
        let times: Vec<f64> = String::from_utf8_lossy(&times).lines().map(|t| t.parse().expect("a time")).collect();
        assert_eq!(times.len(), count);
        let seconds = (times[count - 1] - times[0]) / 1000.0;
        let measured = (count - 1) as f64 / seconds;
        let asked: f64 = rate.parse().expect("a number");
        // Behind, the machine may be at any time, by as much as is caught up with; ahead it never is.
        assert!(measured < asked * 1.03, "{measured} for {asked}");
        assert!(measured > asked * 0.8, "{measured} for {asked}");
    }
}

#[test]
fn interrupted_it_waits_for_its_answers_and_tells_where_to_go_on() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("produce-interrupted");
    kafka.create_topic(&topic, 1, &[]);
    let lines: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    let arguments = ["-b", kafka.bootstrap(), "produce", &topic, "--rate", "500"];
    let mut process = Process::waterwheel_fed(&arguments, lines.as_bytes());
    wait_until(PATIENCE, "some of it to be written", || kafka.ends(&topic, 1)[0] > 20);
    process.signal(Signal::INT);
    assert_eq!(process.wait(PATIENCE).code(), Some(4), "{}", process.stderr());
    let read = texts(kafka, &topic);
    let expected: Vec<_> = (1..=read.len()).map(|n| ("~".to_owned(), n.to_string())).collect();
    assert_eq!(read, expected, "the first lines, each once, in their order");
    let stderr = process.stderr();
    assert!(stderr.contains(&format!("nothing sent from stdin:{} on", read.len() + 1)), "{stderr}");

    // A pipe that says nothing is not waited for.
    let (mut process, mut pipe) = Process::waterwheel_piped(&["-b", kafka.bootstrap(), "produce", &topic]);
    pipe.write_all(b"piped\nhalf").expect("it reads");
    wait_until(PATIENCE, "the line to be written", || kafka.ends(&topic, 1)[0] as usize > read.len());
    process.signal(Signal::TERM);
    assert_eq!(process.wait(PATIENCE).code(), Some(4), "{}", process.stderr());
    assert_eq!(texts(kafka, &topic).len(), read.len() + 1, "half a line is none");
}

#[test]
fn memory_is_bounded_whatever_the_inputs_size() {
    let Some(kafka) = Kafka::shared() else { return };
    let topic = topic_name("produce-memory");
    kafka.create_topic(&topic, 4, &[]);
    let line = format!("{}\n", "x".repeat(199));
    let mut process =
        Process::waterwheel_fed(&["-b", kafka.bootstrap(), "produce", &topic], line.repeat(1_000_000).as_bytes());
    let mut most = 0;
    wait_until(PATIENCE, "it to end", || {
        most = process.size().map_or(0, |size: Size| size.most_rss).max(most);
        process.has_ended()
    });
    assert!(process.wait(PATIENCE).success(), "{}", process.stderr());
    assert_eq!(kafka.ends(&topic, 4).iter().sum::<i64>(), 1_000_000);
    kafka.delete_topic(&topic);
    // 55 to 65 MiB were measured for inputs of 100 to 600 MB; this one has 200 MB.
    assert!(most > 0 && most < 130 * 1024, "{most} KiB");
}

#[test]
fn a_broker_that_is_away_is_code_7_and_what_it_did_not_acknowledge_is_told() {
    let Some(kafka) = Cluster::of(1).start() else { return };
    let topic = topic_name("produce-away");
    kafka.create_topic(&topic, 1, &[]);
    let lines: String = (1..=100_000).map(|n| format!("{n}\n")).collect();
    let arguments = ["-b", kafka.bootstrap(), "produce", &topic, "--rate", "1000", "--timeout", "3s", "-o", "json"];
    let mut process = Process::waterwheel_fed(&arguments, lines.as_bytes());
    wait_until(PATIENCE, "some of it to be written", || kafka.ends(&topic, 1)[0] > 100);
    kafka.kill(1);
    assert_eq!(process.wait(PATIENCE).code(), Some(7), "{}", process.stderr());
    let stderr = process.stderr();
    assert!(stderr.contains("not acknowledged") && stderr.contains("error: stdin:"), "{stderr}");
    let sum: Value = serde_json::from_str(&process.stdout()).expect("JSON");
    let (acknowledged, failed) = (sum["records"].as_i64().expect("a count"), sum["failed"].as_i64().expect("a count"));
    assert!(failed > 0 && sum["next"]["line"].as_i64() == Some(acknowledged + failed + 1), "{sum}");
    assert_eq!(sum["unanswered"], 0);

    // Nobody there at all.
    let mut nobody = Process::waterwheel_fed(&["-b", kafka.bootstrap(), "produce", &topic, "--timeout", "1s"], b"a\n");
    assert_eq!(nobody.wait(PATIENCE).code(), Some(7), "{}", nobody.stderr());

    // Asked twice, it does not wait for a broker that does not answer.
    kafka.boot(1);
    kafka.await_brokers(1);
    let written = kafka.read_all(&topic, 1);
    assert!(written.len() as i64 >= acknowledged, "{} written, {acknowledged} acknowledged", written.len());
    let mut process =
        Process::waterwheel_fed(&["-b", kafka.bootstrap(), "produce", &topic, "--rate", "1000"], lines.as_bytes());
    wait_until(PATIENCE, "more of it to be written", || kafka.ends(&topic, 1)[0] as usize > written.len() + 100);
    kafka.pause(1);
    process.signal(Signal::INT);
    wait_until(PATIENCE, "it to be heard", || process.stderr().contains("once more ends at once"));
    process.signal(Signal::INT);
    assert_eq!(process.wait(PATIENCE).code(), Some(4), "{}", process.stderr());
    assert!(process.stderr().contains("without an answer, which may be written or not"), "{}", process.stderr());
    kafka.resume(1);
}

#[test]
fn wrong_credentials_are_code_6() {
    let Some(kafka) = Cluster::of(1).secure().start() else { return };
    let topic = topic_name("produce-secure");
    kafka.create_topic(&topic, 1, &[]);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("client.properties");
    for (password, code) in [("alice-secret", 0), ("canary", 6)] {
        let ca = kafka.tls_file("ca.pem").display().to_string();
        let text = format!(
            "security.protocol=SASL_SSL\nsasl.mechanism=PLAIN\nsasl.username=alice\nsasl.password={password}\n\
             ssl.ca.location={ca}\n"
        );
        std::fs::write(&file, text).expect("the temporary directory can be written to");
        let config = file.display().to_string();
        let arguments = ["-b", &kafka.bootstrap_sasl(), "--command-config", &config, "produce", &topic];
        let mut process = Process::waterwheel_fed(&arguments, b"a\n");
        assert_eq!(process.wait(PATIENCE).code(), Some(code), "{}", process.stderr());
        assert!(!process.stderr().contains("canary"), "{}", process.stderr());
    }
    assert_eq!(texts(&kafka, &topic), pairs(&[("~", "a")]));
}
