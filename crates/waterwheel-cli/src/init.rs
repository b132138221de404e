//! `init`: writes a worker file to begin with.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use crate::exit::{Exit, Failure, say};

/// A commented worker file; every key with its default.
pub(crate) const TEMPLATE: &str = include_str!("template.toml");

/// Write a commented worker file
#[derive(clap::Args)]
pub(crate) struct Init {
    /// Where to write it; `-` for stdout
    #[arg(default_value = "worker.toml", value_name = "FILE")]
    file: PathBuf,

    /// Write over a file that exists
    #[arg(long)]
    force: bool,
}

impl Init {
    pub(crate) fn run(&self) -> Result<Exit, Failure> {
        if self.file.as_os_str() == "-" {
            std::io::stdout().write_all(TEMPLATE.as_bytes())?;
            return Ok(Exit::Done);
        }
        let mut options = OpenOptions::new();
        if self.force {
            options.create(true).truncate(true);
        } else {
            options.create_new(true);
        }
        let shown = self.file.display();
        let written = options.write(true).open(&self.file).and_then(|mut file| file.write_all(TEMPLATE.as_bytes()));
        match written {
            Ok(()) => {
                say(format_args!("wrote {shown}; edit it, then: waterwheel check {shown} && waterwheel run {shown}"));
                Ok(Exit::Done)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(Failure::new(Exit::Refused, format!("{shown} exists")).hint("--force writes over it"))
            }
            Err(error) => Err(Failure::new(Exit::Failed, format!("{shown}: {error}"))),
        }
    }
}
