//! Arms: programs whose members a scenario is tried on.

use crate::support::Protocol;

/// Handlers of a member that may run at once, unless an arm's own arguments say otherwise.
pub(super) const CONCURRENCY: &str = "64";

/// A program that speaks the command line of `bench consume`.
#[derive(Clone, Debug)]
pub(super) struct Arm {
    pub(super) name: String,
    /// Its words before `consume`.
    command: Vec<String>,
    /// Its own words behind all others.
    arguments: Vec<String>,
    /// Whether it is this worker, which is held to the promises.
    pub(super) is_ours: bool,
    /// Whether the client below is known to stall for minutes now and then in this group protocol (`docs/hand-over.md`): its
    /// promises hold, but what a trial waits for may not come in time.
    pub(super) may_stall: bool,
}

impl Arm {
    /// This worker, in key order.
    pub(super) fn ours(protocol: Protocol) -> Self {
        let mut arguments = vec!["--mode".to_owned(), "key".to_owned()];
        for (key, value) in protocol.properties() {
            arguments.extend(["-X".to_owned(), format!("{key}={value}")]);
        }
        if protocol == Protocol::Consumer {
            // The broker alone knows the session time-out, 6 s here; the worker takes Kafka's default for granted.
            arguments.extend(["--lease-ms", "5000"].map(str::to_owned));
        }
        Self {
            name: format!("waterwheel-{protocol:?}").to_lowercase(),
            command: [env!("CARGO_BIN_EXE_waterwheel"), "bench"].map(str::to_owned).to_vec(),
            arguments,
            is_ours: true,
            may_stall: protocol == Protocol::Consumer,
        }
    }

    /// Another program: `NAME=PROGRAM MODE [ARGUMENT ...]`, its words parted by spaces.
    pub(super) fn other(told: &str) -> Self {
        let usage = || -> ! { panic!("{told:?} is not NAME=PROGRAM MODE [ARGUMENT ...]") };
        let Some((name, command)) = told.split_once('=') else { usage() };
        let mut words = command.split_whitespace().map(str::to_owned);
        let (Some(program), Some(mode)) = (words.next(), words.next()) else { usage() };
        let arguments = ["--mode".to_owned(), mode].into_iter().chain(words).collect();
        Self { name: name.to_owned(), command: vec![program], arguments, is_ours: false, may_stall: false }
    }

    /// The words before `consume`, and those behind the ones that every arm gets.
    pub(super) fn words(&self) -> (Vec<&str>, Vec<&str>) {
        (self.command.iter().map(String::as_str).collect(), self.arguments.iter().map(String::as_str).collect())
    }
}

#[test]
fn another_program_is_told_by_name_mode_and_arguments() {
    let arm = Arm::other("franz=bin/franz partition --session-ms 6000");
    assert_eq!(arm.name, "franz");
    assert_eq!(arm.words(), (vec!["bin/franz"], vec!["--mode", "partition", "--session-ms", "6000"]));
}
