//! The examples of formats run to their ends, and say what they are to say.

use std::path::PathBuf;
use std::process::Command;

#[test]
fn every_example_runs_and_ends() {
    for (example, line) in [
        (
            "avro",
            "anna pays 120 cents in EUR\nbert pays 80 cents in EUR\nanna pays 60 cents in EUR\n3 orders charged\n",
        ),
        ("encrypted_fields", "anna pays by card 4000 0000 0000 0002\n1 order charged\n"),
    ] {
        let run = Command::new(built(example)).env_remove("SCHEMA_REGISTRY").output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        let (mut said, mut expected): (Vec<_>, Vec<_>) = (out.lines().collect(), line.lines().collect());
        // Customers' orders go side by side.
        said.sort_unstable();
        expected.sort_unstable();
        assert!(run.status.success() && said == expected, "{example}: {}\n{out}{err}", run.status);
    }
}

/// Where Cargo has put an example; it has built it together with this test, unless only this test was asked for.
fn built(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(example);
    if !path.exists() {
        let build = ["build", "--quiet", "--features", "avro,protobuf,schema-registry", "--example", example];
        let built = Command::new(env!("CARGO")).args(build).current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.unwrap().success(), "{example} builds");
    }
    path
}
