//! What the verbs share that ask a cluster: how long they wait, and how they print.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use serde_json::Value;
use waterwheel::Client;
use waterwheel::admin::Admin;
use waterwheel::config::parse_duration;

use crate::exit::Failure;
use crate::global::{Global, Output};

/// Options of every verb that asks a cluster.
#[derive(clap::Args)]
pub(crate) struct Asking {
    /// Give a question up after as long without an answer, 100ms to 30s
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = timeout)]
    timeout: Duration,
}

fn timeout(text: &str) -> Result<Duration, String> {
    let within = Duration::from_millis(100)..=Duration::from_secs(30);
    match duration(text)? {
        time if within.contains(&time) => Ok(time),
        _ => Err("is not from 100ms to 30s".to_owned()),
    }
}

/// A duration as the worker file takes them.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).map_err(|error| format!("{error}"))
}

impl Asking {
    /// Connects at the first question.
    pub(crate) fn admin(&self, global: &Global) -> Result<Admin, Failure> {
        self.admin_of(&Client::builder().properties(global.properties()?).build()?)
    }

    /// The same of a client that is there.
    pub(crate) fn admin_of(&self, client: &Client) -> Result<Admin, Failure> {
        Ok(client.admin()?.deadline(self.timeout))
    }
}

/// A table without lines, as wide as the terminal, or as its longest rows where there is none. Columns whose heading begins
/// with `>` have their text on the right.
pub(crate) fn table(headings: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    match crossterm::terminal::size() {
        Ok((columns, _)) if std::io::stdout().is_terminal() => {
            table.set_content_arrangement(ContentArrangement::Dynamic).set_width(columns);
        }
        _ => {
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
    }
    table.set_header(headings.iter().map(|heading| Cell::new(heading.trim_start_matches('>'))));
    for (at, heading) in headings.iter().enumerate() {
        if let Some(column) = table.column_mut(at) {
            column.set_padding((0, 2));
            if heading.starts_with('>') {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
    }
    table
}

/// Prints a table without the blanks at the ends of its lines.
pub(crate) fn print_table(out: &mut impl Write, table: &Table) -> std::io::Result<()> {
    writeln!(out, "{}", table.trim_fmt())
}

/// Prints items as JSON: one list, or a line each.
pub(crate) fn print_json(out: &mut impl Write, form: Output, items: Vec<Value>) -> std::io::Result<()> {
    match form {
        Output::Ndjson => items.iter().try_for_each(|item| writeln!(out, "{item}")),
        _ => writeln!(out, "{}", Value::from(items)),
    }
}

/// A cell for what may be unknown.
pub(crate) fn or_dash<T: ToString>(known: Option<T>) -> String {
    known.map_or_else(|| "-".to_owned(), |known| known.to_string())
}
