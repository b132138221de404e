//! `check`: says what is wrong with worker files, connecting to nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;
use waterwheel::config::ConfigError;

use crate::exit::{Exit, Failure, say};
use crate::file::WorkerFile;
use crate::global::{Global, Output};

/// Check worker files without connecting
#[derive(clap::Args)]
pub(crate) struct Check {
    /// Worker files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

impl Check {
    /// `ok` lines and JSON go to stdout, mistakes as `file:line:column: key: message` to stderr.
    pub(crate) fn run(&self, global: &Global) -> Result<Exit, Failure> {
        let upper = global.properties()?;
        let mut all_sound = true;
        let mut reports = Vec::new();
        for path in &self.files {
            let (errors, warnings, workers) = look_at(path, &upper);
            all_sound &= errors.is_empty();
            match global.output() {
                Output::Table => {
                    for warning in &warnings {
                        say(format_args!("warning: {warning}"));
                    }
                    for error in &errors {
                        say(error);
                    }
                    if errors.is_empty() {
                        let plural = if workers == 1 { "" } else { "s" };
                        writeln!(std::io::stdout(), "{}: ok, {workers} worker{plural}", path.display())?;
                    }
                }
                Output::Json | Output::Ndjson => reports.push(json!({
                    "file": path.display().to_string(),
                    "ok": errors.is_empty(),
                    "workers": workers,
                    "errors": errors.iter().map(as_json).collect::<Vec<_>>(),
                    "warnings": warnings.iter().map(as_json).collect::<Vec<_>>(),
                })),
            }
        }
        let mut stdout = std::io::stdout();
        match global.output() {
            Output::Table => {}
            Output::Json => writeln!(stdout, "{}", serde_json::Value::from(reports))?,
            Output::Ndjson => {
                for report in reports {
                    writeln!(stdout, "{report}")?;
                }
            }
        }
        Ok(if all_sound { Exit::Done } else { Exit::Usage })
    }
}

fn look_at(path: &Path, upper: &BTreeMap<String, String>) -> (Vec<ConfigError>, Vec<ConfigError>, usize) {
    match WorkerFile::load(path, upper) {
        Ok(file) => (Vec::new(), file.warnings, file.workers.len()),
        Err(errors) => (errors, Vec::new(), 0),
    }
}

fn as_json(error: &ConfigError) -> serde_json::Value {
    let (line, column) = error.line_column().unzip();
    json!({
        "line": line,
        "column": column,
        "key": error.key(),
        "message": error.problem(),
        "hint": error.hint(),
    })
}
