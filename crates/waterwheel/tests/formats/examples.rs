//! The examples of formats run to their ends, and say what they are to say.

#[path = "../built/mod.rs"]
mod built;

#[test]
fn every_example_runs_and_ends() {
    for (example, line) in [
        (
            "avro",
            "anna pays 120 cents in EUR\nbert pays 80 cents in EUR\nanna pays 60 cents in EUR\n3 orders charged\n",
        ),
        ("encrypted_fields", "anna pays by card 4000 0000 0000 0002\n1 order charged\n"),
    ] {
        let run = built::example(example).env_remove("SCHEMA_REGISTRY").output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        let (mut said, mut expected): (Vec<_>, Vec<_>) = (out.lines().collect(), line.lines().collect());
        // Customers' orders go side by side.
        said.sort_unstable();
        expected.sort_unstable();
        assert!(run.status.success() && said == expected, "{example}: {}\n{out}{err}", run.status);
    }
}
