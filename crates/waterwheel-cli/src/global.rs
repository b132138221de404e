//! Options that every verb has, and the connection settings that they and the environment make.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, ValueEnum};
use tracing_subscriber::EnvFilter;
use waterwheel::config::{check_property, overlay, properties_from_env, properties_from_file};

use crate::exit::{Exit, Failure};
use crate::log;

#[derive(Args, Debug)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Brokers to begin with, as host:port, separated by commas [env: WATERWHEEL_BROKERS]
    #[arg(short, long, global = true, value_name = "LIST")]
    pub(crate) brokers: Option<String>,

    /// Client property by librdkafka's name; repeatable. Passwords are refused here [env: WATERWHEEL_X_NAME]
    #[arg(short = 'X', global = true, value_name = "KEY=VALUE")]
    pub(crate) property: Vec<String>,

    /// File of client properties, librdkafka's or Java's
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) command_config: Option<PathBuf>,

    /// Form of what is printed on stdout [default: table; of `bench consume` and `bench produce`: json]
    // A text, so that `consume` may have its own `-o` in its place, which is kcat's.
    #[arg(short, long, global = true, value_parser = ["table", "text", "json", "ndjson"], value_name = "FORM")]
    output: Option<String>,

    /// Log errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,

    /// Log more: -v information, -vv debugging, -vvv everything
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    /// Colours
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
}

/// Form of the data on stdout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[value(alias = "text")]
    Table,
    Json,
    Ndjson,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    Auto,
    Always,
    Never,
}

/// Properties whose value is a secret: on a command line every user of the machine could read it.
const SECRETS: [&str; 9] = [
    "sasl.oauthbearer.assertion.private.key.passphrase",
    "sasl.oauthbearer.assertion.private.key.pem",
    "sasl.oauthbearer.client.credentials.client.secret",
    "sasl.oauthbearer.client.secret",
    "sasl.oauthbearer.config",
    "sasl.password",
    "ssl.key.password",
    "ssl.key.pem",
    "ssl.keystore.password",
];

impl Global {
    /// What flags, `--command-config` and the environment say, in this order of precedence. A worker file's `[kafka]`
    /// goes below it (`config::overlay(file.kafka, global.properties()?)`).
    pub(crate) fn properties(&self) -> Result<BTreeMap<String, String>, Failure> {
        self.gather(None, &[])
    }

    /// The same; a verb's own option names the file where `--command-config` does not.
    pub(crate) fn properties_with(&self, file: Option<&Path>) -> Result<BTreeMap<String, String>, Failure> {
        self.gather(file, &[])
    }

    /// The same, with what options of a verb say, which -X may not say again.
    pub(crate) fn properties_and(&self, options: &[(&str, &str)]) -> Result<BTreeMap<String, String>, Failure> {
        self.gather(None, options)
    }

    fn gather(&self, file: Option<&Path>, options: &[(&str, &str)]) -> Result<BTreeMap<String, String>, Failure> {
        let mut properties = properties_from_env()?;
        if let Some(path) = self.command_config.as_deref().or(file) {
            properties = overlay(properties, properties_from_file(path)?);
        }
        Ok(overlay(properties, self.flags(options)?))
    }

    fn flags(&self, options: &[(&str, &str)]) -> Result<BTreeMap<String, String>, Failure> {
        let mut flags = BTreeMap::new();
        let brokers = self.brokers.iter().map(|list| ("bootstrap.servers", list.as_str()));
        let mut pairs: Vec<(&str, &str)> = brokers.chain(options.iter().copied()).collect();
        for (index, text) in self.property.iter().enumerate() {
            // Without '=' the text is not repeated: it may be the password itself.
            let Some((name, value)) = text.split_once('=') else {
                return Err(Failure::new(Exit::Usage, format!("-X number {} has no '='", index + 1))
                    .hint("write it as -X fetch.wait.max.ms=50"));
            };
            pairs.push((name.trim(), value));
        }
        for (name, value) in pairs {
            if SECRETS.contains(&name) {
                return Err(Failure::new(
                    Exit::Usage,
                    format!("{name}: refused on the command line, where every user of the machine can read it"),
                )
                .hint(format!(
                    "put it in a file (--command-config FILE, or ${{file:/run/secret}} in the worker file), or in the \
                     environment (WATERWHEEL_X_{})",
                    name.to_uppercase().replace('.', "_")
                )));
            }
            check_property(name, value)?;
            let one = BTreeMap::from([(name.to_owned(), value.to_owned())]);
            let before = flags.len();
            flags = overlay(flags, one);
            if flags.len() == before {
                return Err(Failure::new(Exit::Usage, format!("{name}: is given twice on the command line"))
                    .hint("give it once"));
            }
        }
        Ok(flags)
    }

    /// The form of what is printed on stdout, for verbs that print for people.
    pub(crate) fn output(&self) -> Output {
        self.output_or(Output::Table)
    }

    /// The form asked for, or the verb's own where none was.
    pub(crate) fn output_or(&self, otherwise: Output) -> Output {
        self.output.as_deref().and_then(|form| Output::from_str(form, false).ok()).unwrap_or(otherwise)
    }

    /// The options by which another process of this command gets the same connection settings, but for the brokers.
    pub(crate) fn connection_options(&self) -> Vec<OsString> {
        let file = self.command_config.iter().flat_map(|path| ["--command-config".into(), path.into()]);
        file.chain(self.property.iter().flat_map(|text| ["-X".into(), text.into()])).collect()
    }

    /// Whether more is to be told than by default.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose > 0
    }

    /// Whether only errors are to be said.
    pub(crate) fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Whether that stream, stdout or stderr, gets colours.
    pub(crate) fn colored(&self, stream: &impl IsTerminal) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        }
    }

    /// Begins to log to stderr; `WATERWHEEL_LOG` (as `waterwheel=debug`) goes before -q and -v.
    pub(crate) fn start_log(&self) {
        let level = match (self.quiet, self.verbose) {
            (true, _) => "error",
            (_, 0) => "warn",
            (_, 1) => "info",
            (_, 2) => "debug",
            _ => "trace",
        };
        let filter = EnvFilter::try_from_env("WATERWHEEL_LOG").unwrap_or_else(|_| EnvFilter::new(level));
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(self.colored(&std::io::stderr()));
        // A log that is there already stays.
        let _ = subscriber.with_writer(log::writer).try_init();
    }
}
