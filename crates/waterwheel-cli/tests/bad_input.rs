//! Bad input to the command: a clear error, the right exit code, no secret, never a panic.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn waterwheel(dir: &Path, args: &[&OsStr]) -> Ended {
    let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("the command runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn run(dir: &Path, args: &[&str]) -> Ended {
    waterwheel(dir, &args.iter().map(OsStr::new).collect::<Vec<_>>())
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[test]
fn usage_errors_end_with_2_and_say_what_is_wrong() {
    let dir = folder();
    let table: [(&[&str], &str); 23] = [
        (&["--no-such-flag"], "unexpected argument '--no-such-flag'"),
        (&["chekc"], "'check'"),
        (&["check"], "<FILE>"),
        (&["check", "-o", "yaml", "x"], "invalid value 'yaml'"),
        (&["check", "missing.toml"], "missing.toml: no such file\n"),
        (&["check", "."], ".: is a directory\n"),
        (&["check", "x", "-X", "bootstrap.server=h"], "error: unknown property \"bootstrap.server\": did you mean"),
        (&["check", "x", "--command-config", "."], "error: .: is a directory\n"),
        (&["check", "x", "-X", "acks=1", "-X", "acks=all"], "error: acks: is given twice on the command line\nhint: "),
        (&["-b", "h", "produce"], "error: to which topic?\nhint: "),
        (&["-b", "h", "produce", "a b"], "holds ' '"),
        (&["-b", "h", "produce", "t", "missing"], "error: missing: No such file"),
        (&["-b", "h", "produce", "t", "."], "error: .: is a directory\n"),
        (&["-b", "h", "produce", "t", "-H", "=v"], "error: -H has no name\nhint: "),
        (&["-b", "h", "produce", "t", "-D", ""], "-D and -K take a text of at least one byte"),
        (&["-b", "h", "produce", "t", "--rate", "0"], "is not a number from 0.001 to 10000000"),
        (&["-b", "h", "produce", "t", "--timeout", "1d"], "is not from 100ms to 1h"),
        (&["-b", "h", "produce", "t", "-K:", "--from-ndjson"], "cannot be used with"),
        (&["-b", "h", "produce", "t", "--keep-topics"], "--from-ndjson"),
        (&["-b", "h", "produce", "t", "-T", "-o", "json"], "error: -T writes to stdout what is sent"),
        (
            &["-b", "h", "produce", "t", "--acks", "1", "-X", "acks=all"],
            "error: acks: is given twice on the command line",
        ),
        (&["-b", "h", "topic", "delete", "orders*", "--execute"], "hint: it takes exact names"),
        (&["-b", "h", "topic", "config", "t", "--set", "retention.ms"], "is not NAME=VALUE"),
    ];
    for (args, expected) in table {
        let ended = run(dir.path(), args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(expected), "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}");
    }
}

#[test]
fn an_argument_that_is_not_utf_8_is_refused_or_taken_as_a_path() {
    let dir = folder();
    let bad = OsString::from(OsStr::from_bytes(b"\xff\xfe"));
    for args in [
        [OsStr::new("-b"), &bad, OsStr::new("check"), OsStr::new("x")],
        [OsStr::new("check"), OsStr::new("x"), OsStr::new("-X"), &bad],
    ] {
        let ended = waterwheel(dir.path(), &args);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("UTF-8"), "{}", ended.stderr);
    }
    let ended = waterwheel(dir.path(), &[OsStr::new("check"), &bad]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("no such file"), "{}", ended.stderr);
}

#[test]
fn a_fifo_is_refused_and_not_waited_for() {
    let dir = folder();
    let made = Command::new("mkfifo").arg(dir.path().join("pipe")).status().expect("mkfifo runs");
    assert!(made.success());
    for args in [&["check", "pipe"][..], &["check", "x", "--command-config", "pipe"]] {
        let ended = run(dir.path(), args);
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains("pipe: is not a regular file"), "{}", ended.stderr);
    }
}

#[test]
fn a_password_on_the_command_line_is_refused_and_never_repeated() {
    let dir = folder();
    let table: [&[&str]; 7] = [
        &["check", "x", "-X", "sasl.password=canary-5ecret"],
        &["check", "x", "-X", " sasl.password =canary-5ecret"],
        &["check", "x", "-X", "ssl.key.password=canary-5ecret"],
        &["check", "x", "-X", "ssl.key.pem=canary-5ecret"],
        &["check", "x", "-X", "canary-5ecret"],
        &["check", "x", "-X", "sasl.pasword=canary-5ecret"],
        &["check", "x", "-b", "user:canary-5ecret@h:9092"],
    ];
    for args in table {
        let ended = run(dir.path(), args);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(!ended.stderr.contains("5ecret") && !ended.stdout.contains("5ecret"), "{args:?}: {}", ended.stderr);
    }
    let ended = run(dir.path(), table[0]);
    assert_eq!(
        ended.stderr,
        "error: sasl.password: refused on the command line, where every user of the machine can read it\n\
         hint: put it in a file (--command-config FILE, or ${file:/run/secret} in the worker file), or in the \
         environment (WATERWHEEL_X_SASL_PASSWORD)\n"
    );
}

#[test]
fn a_secret_of_the_environment_is_used_and_never_repeated() {
    let dir = folder();
    run(dir.path(), &["init", "w.toml"]);
    let check = |mechanism: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_waterwheel"))
            .args(["check", "-vvv", "-X", "security.protocol=SASL_SSL", "-X", mechanism, "w.toml"])
            .current_dir(dir.path())
            .env_clear()
            .env("WATERWHEEL_X_SASL_USERNAME", "canary-5ecret")
            .env("WATERWHEEL_X_SASL_PASSWORD", "canary-5ecret")
            .output()
            .expect("the command runs");
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!printed.contains("5ecret"), "{printed}");
        (output.status.code(), printed)
    };
    assert_eq!(check("sasl.mechanism=PLAIN"), (Some(0), "w.toml: ok, 1 worker\n".to_owned()));
    let (code, printed) = check("sasl.mechanism=plain");
    assert_eq!(code, Some(2));
    assert_eq!(
        printed,
        "w.toml:5:2: kafka.sasl.mechanism: not a value it can have; one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512, \
         OAUTHBEARER, GSSAPI\n"
    );
}

#[test]
fn a_reader_that_has_gone_away_is_no_failure() {
    let dir = folder();
    run(dir.path(), &["init", "w.toml"]);
    for command in ["init - | true", "check w.toml | true", "check zzz 2>&1 | true", "-X canary check x 2>&1 | true"] {
        let line = format!("'{}' {command}; echo ${{PIPESTATUS[0]}}", env!("CARGO_BIN_EXE_waterwheel"));
        let output = Command::new("bash").args(["-c", &line]).current_dir(dir.path()).output().expect("bash runs");
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(matches!(printed.trim(), "0" | "2"), "{command}: {printed}");
        assert!(output.stderr.is_empty(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn init_writes_a_file_that_check_finds_sound() {
    let dir = folder();
    let ended = run(dir.path(), &["init", "w.toml"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    let ended = run(dir.path(), &["check", "w.toml"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "w.toml: ok, 1 worker\n"), "{}", ended.stderr);
    let ended = run(dir.path(), &["init", "w.toml"]);
    assert_eq!(ended.code, Some(8));
    assert_eq!(ended.stderr, "error: w.toml exists\nhint: --force writes over it\n");
    assert_eq!(run(dir.path(), &["init", "w.toml", "--force"]).code, Some(0));
    let printed = run(dir.path(), &["init", "-"]);
    assert_eq!(printed.stdout, std::fs::read_to_string(dir.path().join("w.toml")).expect("the file was written"));
}

#[test]
fn check_prints_every_mistake_and_json_on_request() {
    let dir = folder();
    std::fs::write(dir.path().join("w.toml"), "[kafka]\nbootstrap.servers = \"h:99999\"\nzzz = 1\n").expect("written");
    let ended = run(dir.path(), &["check", "w.toml"]);
    assert_eq!(ended.code, Some(2));
    assert_eq!(
        ended.stderr,
        "w.toml:1:1: worker: there is no worker; add a [[worker]] table\n\
         w.toml:2:11: kafka.bootstrap.servers: broker \"h:99999\" has no valid port; a port is a number from 1 to 65535\n\
         w.toml:3:1: kafka.zzz: unknown property; properties have librdkafka's names, see its CONFIGURATION.md\n"
    );
    let ended = run(dir.path(), &["-o", "json", "check", "w.toml"]);
    assert_eq!(ended.code, Some(2));
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(json[0]["ok"], false);
    assert_eq!(json[0]["errors"][2]["key"], "kafka.zzz");
    assert_eq!(json[0]["errors"][2]["line"], 3);
}
