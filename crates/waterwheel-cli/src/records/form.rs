//! How a record is written.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};

use super::envelope::{JsonAs, push_kcat, push_record};
use super::format::{Format, unescape};
use super::terminal::escape_json;
use super::view::View;
use crate::exit::{Exit, Failure};

#[derive(Args, Clone)]
pub(crate) struct FormArgs {
    /// Write each record by this format: %t topic, %p partition, %o offset, %T time in ms, %k key, %K its length (-1 for
    /// null), %s value, %S its length, %R the same as 4 bytes, %h headers; \n, \t, \xHH
    #[arg(short, long, value_name = "FORMAT", conflicts_with_all = ["json", "delimiter", "key_delimiter"])]
    format: Option<String>,
    /// Write each record as one line of JSON
    #[arg(short = 'J', long)]
    json: bool,
    /// The JSON's keys: ours lose nothing, kcat's are for scripts made for it
    #[arg(long, value_enum, default_value_t = Envelope::Waterwheel, requires = "json", value_name = "WHOSE")]
    envelope: Envelope,
    /// What follows each record
    #[arg(short = 'D', long, default_value = "\\n", value_name = "TEXT")]
    delimiter: String,
    /// Write the key before the value, and this between them
    #[arg(short = 'K', long, value_name = "TEXT")]
    key_delimiter: Option<String>,
    /// Write this for a null key, value or header value [default: nothing]
    #[arg(short = 'Z', long, value_name = "TEXT", num_args = 0..=1, default_missing_value = "NULL", require_equals = true)]
    null: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Envelope {
    Waterwheel,
    Kcat,
}

/// A form, made out.
#[derive(Clone)]
pub(crate) struct Form {
    shape: Shape,
    null: Vec<u8>,
    to_terminal: bool,
}

#[derive(Clone)]
enum Shape {
    Text(Format),
    Json(Envelope),
}

impl FormArgs {
    /// The form, as stdout needs it.
    pub(crate) fn form(&self) -> Result<Form, Failure> {
        let shape = match &self.format {
            _ if self.json => Shape::Json(self.envelope),
            None => Shape::Text(Format::plain(&self.delimiter, self.key_delimiter.as_deref())),
            Some(format) => {
                let wrong = |problem| Failure::new(Exit::Usage, format!("--format: {problem}"));
                Shape::Text(Format::parse(format).map_err(wrong)?)
            }
        };
        let null = self.null.as_deref().map(unescape).unwrap_or_default();
        Ok(Form { shape, null, to_terminal: std::io::stdout().is_terminal() })
    }
}

impl Form {
    /// Appends one record.
    pub(crate) fn push(&self, out: &mut Vec<u8>, record: &View<'_>) {
        let from = out.len();
        match &self.shape {
            Shape::Text(format) => return format.push(out, record, &self.null, self.to_terminal),
            Shape::Json(Envelope::Waterwheel) => push_record(out, record, JsonAs::FieldOfItsOwn, None),
            Shape::Json(Envelope::Kcat) => push_kcat(out, record),
        }
        if self.to_terminal {
            escape_json(out, from);
        }
        out.push(b'\n');
    }
}
