//! `doctor`: asks a cluster whether workers could do their work on it, and says what to do where not. Changes nothing.

mod check;
mod delays;
mod subjects;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use serde_json::{Value, json};
use waterwheel::Client;
use waterwheel::config::{check_properties, overlay};

use self::check::{Findings, Level};
use self::subjects::Subjects;
use crate::asking::{Asking, print_json, print_table, table};
use crate::exit::{Exit, Failure, say};
use crate::file::WorkerFile;
use crate::global::{Global, Output};
use crate::runtime;

/// Find out what keeps workers from their work: brokers, rights, topics, groups
///
/// Changes nothing and writes no record, so it says nothing of clocks. Exits with the code of the first critical finding: 5
/// not found, 6 not authorised, 7 unreachable, else 1; with 0 where there is none.
#[derive(clap::Args)]
pub(crate) struct Doctor {
    /// Worker file: its connection, topics, groups and dead-letter topics
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,

    /// Topic that is to be read; repeatable
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,

    /// Group that is to read
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,

    /// Dead-letter topic, as {topic}.{group}.dlt
    #[arg(long, value_name = "TOPIC", requires = "group", requires = "topics")]
    dead_letter: Option<String>,

    #[command(flatten)]
    asking: Asking,
}

impl Doctor {
    pub(crate) fn run(self, global: &Global) -> Result<Exit, Failure> {
        let mut properties = global.properties()?;
        let mut subjects = Subjects::named(&self.topics, self.group.as_deref(), self.dead_letter.as_deref())?;
        if let Some(path) = &self.file {
            let file = WorkerFile::load(path, &properties).map_err(|errors| {
                errors.iter().for_each(say);
                Failure::silent(Exit::Usage)
            })?;
            properties = overlay(file.kafka, properties);
            file.workers.iter().for_each(|worker| subjects.add(worker));
        }
        let mut findings = Findings::default();
        for warning in check_properties(&properties).warnings {
            findings.add("configuration", Level::Warning, warning.problem(), warning.hint());
        }
        let security = security(&properties);
        let admin = self.asking.admin_of(&Client::builder().properties(properties).build()?)?;
        runtime::block_on(check::all(&admin, &subjects, &security, &mut findings))?;
        print(global, &findings)?;
        Ok(findings.exit())
    }
}

/// How the client shows itself, as `SASL SCRAM-SHA-512 over TLS`.
fn security(properties: &BTreeMap<String, String>) -> String {
    let protocol = properties.get("security.protocol").map_or("plaintext", String::as_str).to_lowercase();
    let mechanism = properties.get("sasl.mechanism").map_or("GSSAPI", String::as_str);
    match protocol.as_str() {
        "ssl" => "TLS".to_owned(),
        "sasl_ssl" => format!("SASL {mechanism} over TLS"),
        "sasl_plaintext" => format!("SASL {mechanism} in plain text"),
        _ => "plain text".to_owned(),
    }
}

fn print(global: &Global, findings: &Findings) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if global.output() != Output::Table {
        let items = findings.iter().map(|finding| -> Value {
            json!({
                "check": finding.check,
                "level": finding.level.as_str(),
                "said": finding.said,
                "remedy": Some(&finding.remedy).filter(|remedy| !remedy.is_empty()),
            })
        });
        print_json(&mut out, global.output(), items.collect())?;
        return Ok(out.flush()?);
    }
    let mut rows = table(&["LEVEL", "CHECK", "FOUND"]);
    for finding in findings.iter() {
        let separator = if finding.remedy.is_empty() { "" } else { ": " };
        rows.add_row(vec![
            finding.level.as_str().to_owned(),
            finding.check.clone(),
            format!("{}{separator}{}", finding.said, finding.remedy),
        ]);
    }
    print_table(&mut out, &rows)?;
    Ok(out.flush()?)
}
