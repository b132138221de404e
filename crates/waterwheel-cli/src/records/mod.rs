//! Records as bytes on stdout: which ones, in which form, and how they get there; and back from JSON.
//!
//! | file | job |
//! |---|---|
//! | `view` | a record, or an entry of a table |
//! | `form` | the options, and what is written of one record |
//! | `format` | kcat's format string |
//! | `envelope` | one JSON object a line: ours, and kcat's |
//! | `read` | records from the JSON that is ours |
//! | `terminal` | control bytes for a terminal |
//! | `filter` | which records |
//! | `range` | from where to where |
//! | `out` | a thread that writes |

mod envelope;
mod filter;
mod form;
mod format;
mod out;
mod range;
mod read;
mod terminal;
mod view;

pub(crate) use self::envelope::{JsonAs, push_record, push_text};
pub(crate) use self::filter::Filter;
pub(crate) use self::form::{Form, FormArgs};
pub(crate) use self::format::unescape;
pub(crate) use self::out::Out;
pub(crate) use self::range::Range;
pub(crate) use self::read::{Parsed, parse_record};
pub(crate) use self::view::View;
