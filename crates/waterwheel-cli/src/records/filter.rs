//! Which records are written.

use clap::Args;

use super::view::View;

/// All that are given have to hold.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Filters")]
pub(crate) struct Filter {
    /// Only records with this key
    #[arg(long, value_name = "TEXT")]
    key: Option<String>,
    /// Only records whose value contains this text
    #[arg(long, value_name = "TEXT")]
    grep: Option<String>,
    /// Only records with this header, or with one of this name; repeatable
    #[arg(long, value_name = "NAME[=VALUE]")]
    header: Vec<String>,
}

impl Filter {
    pub(crate) fn lets_pass(&self, record: &View<'_>) -> bool {
        self.key.as_ref().is_none_or(|key| record.key == Some(key.as_bytes()))
            && self.grep.as_ref().is_none_or(|text| record.value.is_some_and(|value| contains(value, text.as_bytes())))
            && self.header.iter().all(|wanted| has_header(record, wanted))
    }
}

fn has_header(record: &View<'_>, wanted: &str) -> bool {
    let (name, value) = match wanted.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (wanted, None),
    };
    let mut headers = record.headers();
    headers.any(|(n, v)| n == name.as_bytes() && value.is_none_or(|value| v == Some(value.as_bytes())))
}

fn contains(bytes: &[u8], text: &[u8]) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|part| part == text)
}
