//! `${NAME}`, `${NAME:-default}` and `${file:/run/secret}` in values of `[kafka]`.
//!
//! What is filled in is not looked at again, so that nothing can call itself and a password may hold `${`.

use std::ffi::OsString;
use std::path::{Component, Path};

use waterwheel::config::Secret;

pub(super) type Environment<'a> = dyn Fn(&str) -> Option<OsString> + 'a;

/// What is wrong, and the remedy.
pub(super) type Fault = (String, String);

/// The value with everything filled in; `$${` stands for `${` itself.
pub(super) fn filled(text: &str, env: &Environment<'_>) -> Result<String, Fault> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let before = &rest[..at];
        let after = &rest[at + 2..];
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = after;
            continue;
        }
        out.push_str(before);
        let Some((inside, after)) = after.split_once('}') else {
            return Err(("a '${' is not closed".into(), "write ${NAME}, or $${ for the text itself".into()));
        };
        if inside.contains("${") {
            return Err(("a '${' is inside another".into(), "one level only".into()));
        }
        out.push_str(&one(inside, env)?);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

fn one(inside: &str, env: &Environment<'_>) -> Result<String, Fault> {
    if let Some(path) = inside.strip_prefix("file:") {
        return from_file(path);
    }
    let inside = inside.strip_prefix("env:").unwrap_or(inside);
    let (name, default) = match inside.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inside, None),
    };
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err((
            "a '${…}' names no environment variable".into(),
            "write ${NAME}, ${NAME:-default} or ${file:/run/secret}".into(),
        ));
    }
    match (env(name), default) {
        (Some(value), _) if !(value.is_empty() && default.is_some()) => value
            .into_string()
            .map_err(|_| (format!("the environment variable {name} is not UTF-8"), "export it as UTF-8".to_owned())),
        (_, Some(default)) => Ok(default.to_owned()),
        _ => Err((
            format!("the environment variable {name} is not set"),
            format!("export it, or write ${{{name}:-default}}"),
        )),
    }
}

fn from_file(path: &str) -> Result<String, Fault> {
    let plain = Path::new(path);
    if !plain.is_absolute() || plain.components().any(|part| part == Component::ParentDir) {
        return Err((
            format!("the secret file \"{}\" is not an absolute path without '..'", path.escape_debug()),
            "write ${file:/run/secrets/name}".into(),
        ));
    }
    match Secret::from_file(plain) {
        Ok(secret) => Ok(secret.expose().to_owned()),
        Err(error) => Err((
            format!("the secret file {}: {}", path.escape_debug(), error.problem()),
            "it is a regular file of UTF-8, at most 64 KiB".into(),
        )),
    }
}
