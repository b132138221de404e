//! Reading a TOML table field by field: every mistake is noted with its place, and reading goes on.

use std::cell::RefCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use waterwheel::config::{ConfigError, nearest, parse_duration, parse_size};

use super::MAX_ERRORS;

/// A file under reading, and the mistakes found so far.
pub(super) struct Document<'a> {
    file: &'a str,
    text: &'a str,
    errors: RefCell<Vec<(usize, ConfigError)>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(file: &'a str, text: &'a str) -> Self {
        Self { file, text, errors: RefCell::new(Vec::new()) }
    }

    /// Notes a mistake at a byte of the text.
    pub(super) fn fail(&self, at: usize, error: ConfigError) {
        self.errors.borrow_mut().push((at, error));
    }

    /// Whether a mistake was found already.
    pub(super) fn has_errors(&self) -> bool {
        !self.errors.borrow().is_empty()
    }

    /// Whether there are so many mistakes that looking for more is of no use.
    pub(super) fn is_full(&self) -> bool {
        self.errors.borrow().len() >= MAX_ERRORS
    }

    /// The same mistake with its line and column.
    pub(super) fn place(&self, at: usize, error: ConfigError) -> ConfigError {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        error.at(self.file, line, column)
    }

    /// All mistakes in the order of their places, the first 50 of them; or the value when there are none.
    pub(super) fn result<T>(&self, value: T) -> Result<T, Vec<ConfigError>> {
        let mut errors = self.errors.borrow_mut();
        if errors.is_empty() {
            return Ok(value);
        }
        errors.sort_by_key(|(at, _)| *at);
        errors.dedup();
        Err(errors.iter().take(MAX_ERRORS).map(|(at, error)| self.place(*at, error.clone())).collect())
    }
}

/// One table of the file.
pub(super) struct Table<'a> {
    document: &'a Document<'a>,
    path: String,
    at: usize,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    pub(super) fn root(document: &'a Document<'a>, entries: &'a DeTable<'a>) -> Self {
        Self { document, path: String::new(), at: 0, entries }
    }

    pub(super) fn document(&self) -> &'a Document<'a> {
        self.document
    }

    pub(super) fn entries(&self) -> &'a DeTable<'a> {
        self.entries
    }

    /// The byte at which it begins.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Notes every key that is not among `names`.
    pub(super) fn known(&self, names: &[&str]) {
        for key in self.entries.keys() {
            let name = key.get_ref().as_ref();
            if !names.contains(&name) && !self.document.is_full() {
                let remedy = match nearest(name, names.iter().copied()) {
                    Some(meant) => format!("did you mean \"{meant}\"?"),
                    None => format!("known here: {}", names.join(", ")),
                };
                let error = ConfigError::new(self.key(name), "unknown key").remedy(remedy);
                self.document.fail(key.span().start, error);
            }
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.entry(name).is_some()
    }

    /// Notes a mistake at that key, or where the table begins when the key is not there.
    pub(super) fn fail(&self, name: &str, problem: impl Into<String>, remedy: impl Into<String>) {
        self.fail_with(name, ConfigError::new("", problem).remedy(remedy));
    }

    pub(super) fn fail_with(&self, name: &str, error: ConfigError) {
        let at = self.entry(name).map_or(self.at, |(at, _)| at);
        self.document.fail(at, error.with_key(self.key(name)));
    }

    pub(super) fn missing(&self, name: &str, remedy: &str) {
        self.fail(name, "is missing", remedy);
    }

    pub(super) fn string(&self, name: &str) -> Option<String> {
        match self.value(name)? {
            DeValue::String(text) => Some(text.to_string()),
            other => self.wrong_type(name, other, "a text in quotes"),
        }
    }

    pub(super) fn strings(&self, name: &str) -> Option<Vec<String>> {
        let DeValue::Array(items) = self.value(name)? else {
            return self.wrong_type(name, self.value(name)?, "a list, as [\"a\", \"b\"]");
        };
        let mut texts = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::String(text) => texts.push(text.to_string()),
                other => return self.wrong_type(name, other, "a list of texts, as [\"a\", \"b\"]"),
            }
        }
        Some(texts)
    }

    pub(super) fn truth(&self, name: &str) -> Option<bool> {
        match self.value(name)? {
            DeValue::Boolean(truth) => Some(*truth),
            other => self.wrong_type(name, other, "true or false"),
        }
    }

    pub(super) fn integer(&self, name: &str, range: RangeInclusive<u64>) -> Option<u64> {
        let (low, high) = (range.start(), range.end());
        let remedy = format!("from {low} to {high}");
        let DeValue::Integer(number) = self.value(name)? else {
            return self.wrong_type(name, self.value(name)?, &format!("a whole number {remedy}"));
        };
        match i128::from_str_radix(number.as_str(), number.radix()).map(u64::try_from) {
            Ok(Ok(number)) if range.contains(&number) => Some(number),
            _ => {
                self.fail(name, format!("is {}, out of range", shortened(number.as_str())), remedy);
                None
            }
        }
    }

    pub(super) fn float(&self, name: &str, range: RangeInclusive<f64>) -> Option<f64> {
        let text = match self.value(name)? {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            other => return self.wrong_type(name, other, "a number"),
        };
        match text.parse::<f64>() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => {
                let remedy = format!("from {} to {}", range.start(), range.end());
                self.fail(name, format!("is {}, out of range", shortened(text)), remedy);
                None
            }
        }
    }

    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        if let Some(DeValue::Integer(number)) = self.value(name) {
            let number = shortened(number.as_str());
            self.fail(name, format!("duration {number} has no unit"), format!("write \"{number}s\" or \"{number}ms\""));
            return None;
        }
        parse_duration(&self.string(name)?).map_err(|error| self.fail_with(name, error)).ok()
    }

    pub(super) fn size(&self, name: &str) -> Option<u64> {
        if let Some(DeValue::Integer(number)) = self.value(name) {
            let number = shortened(number.as_str());
            self.fail(name, format!("size {number} has no unit"), format!("write \"{number}B\" or \"{number}MiB\""));
            return None;
        }
        parse_size(&self.string(name)?).map_err(|error| self.fail_with(name, error)).ok()
    }

    /// One of some words; `later` are those that another version will know.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)], later: &[&str]) -> Option<T> {
        let text = self.string(name)?;
        if let Some((_, meaning)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*meaning);
        }
        let names = || words.iter().map(|(word, _)| *word);
        let shown = shortened(&text);
        let known = names().collect::<Vec<_>>().join(", ");
        if later.contains(&text.as_str()) {
            self.fail(name, format!("\"{shown}\" is not in this version"), format!("one of {known}"));
        } else if let Some(meant) = nearest(&text, names()) {
            self.fail(name, format!("\"{shown}\" is not known"), format!("did you mean \"{meant}\"?"));
        } else {
            self.fail(name, format!("\"{shown}\" is not known"), format!("one of {known}"));
        }
        None
    }

    pub(super) fn table(&self, name: &str) -> Option<Table<'a>> {
        let (at, value) = self.entry(name)?;
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table { document: self.document, path: self.key(name), at, entries }),
            other => self.wrong_type(name, other, &format!("a table, [{}]", self.key(name))),
        }
    }

    /// The tables of `[[name]]`.
    pub(super) fn tables(&self, name: &str) -> Vec<Table<'a>> {
        let Some((_, value)) = self.entry(name) else { return Vec::new() };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type::<()>(name, value.get_ref(), &format!("tables, [[{}]]", self.key(name)));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for item in items {
            match item.get_ref() {
                DeValue::Table(entries) => {
                    tables.push(Table { document: self.document, path: self.key(name), at: item.span().start, entries })
                }
                other => {
                    self.wrong_type::<()>(name, other, &format!("tables, [[{}]]", self.key(name)));
                }
            }
        }
        tables
    }

    fn key(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    fn entry(&self, name: &str) -> Option<(usize, &'a Spanned<DeValue<'a>>)> {
        self.entries.iter().find(|(key, _)| key.get_ref() == name).map(|(key, value)| (key.span().start, value))
    }

    fn value(&self, name: &str) -> Option<&'a DeValue<'a>> {
        self.entry(name).map(|(_, value)| value.get_ref())
    }

    fn wrong_type<T>(&self, name: &str, found: &DeValue<'_>, wanted: &str) -> Option<T> {
        self.fail(name, format!("is of type {}", found.type_str()), format!("write {wanted}"));
        None
    }
}

/// A value of the file as it may stand in a message: at most 60 characters, no control characters.
fn shortened(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}
