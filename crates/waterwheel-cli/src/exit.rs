//! How the command ends: exit codes that scripts rely on, and errors as `error: …` and `hint: …`.

use std::fmt::Display;
use std::io::Write;
use std::process::ExitCode;

use waterwheel::config::ConfigError;
use waterwheel::{Error, KafkaError};

/// What the exit code says. Kept once released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    Done = 0,
    Failed = 1,
    /// Usage or configuration.
    Usage = 2,
    ConditionNotMet = 3,
    /// Drained late or partly.
    DrainedLate = 4,
    NotFound = 5,
    NotAuthorised = 6,
    /// Unreachable or timed out.
    Unreachable = 7,
    Refused = 8,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// A line on stderr. Nobody listening is no reason to fail (`eprintln!` would panic).
pub(crate) fn say(line: impl Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// An error that ends a verb.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    hint: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Display) -> Self {
        Self { exit, message: message.to_string(), hint: String::new() }
    }

    pub(crate) fn hint(mut self, hint: impl Display) -> Self {
        self.hint = hint.to_string();
        self
    }

    /// Says what it is about.
    pub(crate) fn about(mut self, what: impl Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// An end without a word: it was said already, or nobody listens.
    pub(crate) fn silent(exit: Exit) -> Self {
        Self::new(exit, "")
    }

    /// What a cluster said of a group.
    pub(crate) fn of_group(name: &str, error: &KafkaError) -> Self {
        if error.is_unknown_group() {
            Self::new(Exit::NotFound, format!("there is no group {name}"))
                .hint("waterwheel group ls tells which there are")
        } else if error.is_active_group() {
            Self::new(Exit::Refused, format!("group {name} has members")).hint("stop them first")
        } else {
            Self::from(error.clone()).about(format!("group {name}"))
        }
    }

    /// What a cluster said of a topic.
    pub(crate) fn of_topic(name: impl Display, error: &KafkaError) -> Self {
        /// Numbers of partitions and replicas, brokers, configurations and policies that are not allowed.
        const NOT_ALLOWED: [i32; 6] = [37, 38, 39, 40, 42, 44];
        if error.is_unknown_topic() {
            Self::new(Exit::NotFound, format!("there is no topic {name}"))
                .hint("waterwheel topic ls tells which there are")
        } else if error.is_existing_topic() {
            Self::new(Exit::Refused, format!("topic {name} is there already"))
        } else if NOT_ALLOWED.contains(&error.code()) {
            // It names the topic.
            Self::new(Exit::Refused, error)
        } else {
            Self::from(error.clone()).about(format!("topic {name}"))
        }
    }

    /// The code that it ends with.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// Says it on stderr and gives the code.
    pub(crate) fn report(&self) -> Exit {
        if !self.message.is_empty() {
            say(format_args!("error: {}", self.message));
        }
        if !self.hint.is_empty() {
            say(format_args!("hint: {}", self.hint));
        }
        self.exit
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(Exit::Usage, error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Config(_) => Exit::Usage,
            Error::Kafka(kafka) if kafka.is_unauthorised() => Exit::NotAuthorised,
            Error::Kafka(kafka) if kafka.is_unreachable() => Exit::Unreachable,
            Error::Kafka(kafka) if kafka.is_fenced() => Exit::Refused,
            Error::Kafka(kafka) if kafka.is_unknown_topic() => Exit::NotFound,
            _ => Exit::Failed,
        };
        Failure::new(exit, error)
    }
}

impl From<KafkaError> for Failure {
    fn from(error: KafkaError) -> Self {
        Error::from(error).into()
    }
}

impl From<std::io::Error> for Failure {
    /// A reader that has gone away (`waterwheel … | head`) is no failure of ours.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::BrokenPipe => Failure::silent(Exit::Done),
            _ => Failure::new(Exit::Failed, error),
        }
    }
}
