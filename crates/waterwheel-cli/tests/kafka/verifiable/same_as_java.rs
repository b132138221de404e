//! Flags, compared with those of Kafka's own programs.

use std::collections::BTreeSet;

use crate::support::{Kafka, PATIENCE, Process};

fn flags(help: &str) -> BTreeSet<String> {
    let words = help.split(|c: char| !(c.is_alphanumeric() || "-.".contains(c)));
    let flags = words.map(|word| word.trim_end_matches('.')).filter(|word| word.starts_with("--") && word.len() > 2);
    flags.map(str::to_owned).collect()
}

#[test]
fn every_flag_of_javas_programs_is_ours() {
    if !Kafka::has_tools() {
        return;
    }
    let Some(kafka) = Kafka::shared() else { return };
    for name in ["verifiable-producer", "verifiable-consumer"] {
        let mut java = kafka.tool_process(name, &["--help"]);
        java.wait(PATIENCE);
        let mut ours = Process::waterwheel(&[name, "--help"]);
        assert_eq!(ours.wait(PATIENCE).code(), Some(0), "{}", ours.stderr());
        let (java, ours) = (flags(&java.stdout()), flags(&ours.stdout()));
        assert!(java.len() >= 9, "void: its help was not read: {java:?}");
        let missing: Vec<&String> = java.difference(&ours).collect();
        assert!(missing.is_empty(), "{name} lacks {missing:?}");
    }
}
