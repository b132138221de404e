//! The examples run to their ends, each on a cluster of its own, and say what they are to say.

#[path = "../built/mod.rs"]
mod built;

#[test]
fn every_example_runs_and_ends() {
    let expected = [
        ("worker", "3 orders charged, 3 attempts"),
        ("retries", "3 shipped, 1 skipped, 2 retries"),
        ("dead_letters", "1 charged, 2 dead letters"),
        ("consumer", "2 partitions went back"),
        ("history", "2 prices, apple at 5"),
        ("table", "2 prices, apple at 5"),
        ("producer", "5000 acknowledged one by one, 0 left"),
        ("steering", "clean: true, cut off: []"),
        ("exactly_once", "4 orders, 0 transactions aborted"),
    ];
    for (example, line) in expected {
        let run = built::example(example).env_remove("WATERWHEEL_BROKERS").output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success() && out.contains(line), "{example}: {}\n{out}{err}", run.status);
    }
}

#[test]
fn no_example_is_longer_than_a_page() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|e| e.path().is_file()) {
        let lines = std::fs::read_to_string(entry.path()).unwrap().lines().count();
        assert!(lines <= 90, "{:?} has {lines} lines", entry.path());
    }
}
