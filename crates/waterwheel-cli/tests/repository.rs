//! Rules of the repository that no compiler holds: which file may name what (`ARCHITECTURE.md`, "Code map").
//!
//! They are held against the code as text, without comments, string literals and unit tests.

#![expect(clippy::unwrap_used, reason = "a repository that cannot be read fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One source file: its path from the repository's root, its code, and every path that its `use` lines import.
struct Source {
    path: String,
    code: String,
    imports: Vec<String>,
}

impl Source {
    fn parse(path: String, text: &str) -> Self {
        let code = strip(text);
        let imports = imports(&code);
        Self { path, code, imports }
    }

    /// Whether the code has this path or name, not as a part of a longer word.
    fn names(&self, name: &str) -> bool {
        let word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let in_code = self.code.match_indices(name).any(|(at, _)| {
            !word(self.code[..at].chars().next_back()) && !word(self.code[at + name.len()..].chars().next())
        });
        in_code || self.imports.iter().any(|import| begins(import, name))
    }
}

/// Whether the path `import` is `path` or lies below it.
fn begins(import: &str, path: &str) -> bool {
    import.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The sources of `crates/NAME/src`, files that hold only unit tests left out.
fn sources(name: &str) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root().join("crates").join(name).join("src"), &mut found);
    let sources: Vec<_> = found
        .iter()
        .map(|path| {
            let shown = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
            Source::parse(shown, &fs::read_to_string(path).unwrap())
        })
        .collect();
    assert!(!sources.is_empty(), "crates/{name}/src has no sources");
    sources
}

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            found.push(path);
        }
    }
}

/// The code alone: no comments, no contents of string literals, nothing from an inline `mod tests` on.
fn strip(text: &str) -> String {
    let text = match text.find("#[cfg(test)]\nmod tests {") {
        Some(at) => &text[..at],
        None => text,
    };
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with("r#\"") {
            rest.find("\"#").map_or(rest.len(), |at| at + 2)
        } else if rest.starts_with("'\"'") {
            3
        } else if next == '"' {
            string_length(rest)
        } else {
            code.push(next);
            next.len_utf8()
        };
        rest = &rest[skipped..];
    }
    code
}

fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Every path that a `use` imports, its braces taken apart. `use` is a keyword: as a word, it is nothing else.
fn imports(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, keyword) in code.match_indices("use ") {
        let inside_a_word = code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
        if let (false, Some((tree, _))) = (inside_a_word, code[at + keyword.len()..].split_once(';')) {
            let tree: String = tree.split_whitespace().collect::<Vec<_>>().join(" ");
            take_apart("", &tree, &mut found);
        }
    }
    found
}

fn take_apart(prefix: &str, tree: &str, found: &mut Vec<String>) {
    let Some((head, group)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        let path = path.strip_suffix("self").unwrap_or(path).trim_end_matches("::");
        found.push(format!("{prefix}{path}").trim_end_matches("::").to_owned());
        return;
    };
    let prefix = format!("{prefix}{}", head.trim());
    let group = group.trim().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut from) = (0_u32, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                take_apart(&prefix, group[from..at].trim(), found);
                from = at + 1;
            }
            _ => {}
        }
    }
    if !group[from..].trim().is_empty() {
        take_apart(&prefix, group[from..].trim(), found);
    }
}

/// Fails with every file of `sources` that names one of `forbidden`.
fn forbid<'a>(sources: impl IntoIterator<Item = &'a Source>, forbidden: &[&str], why: &str) {
    let mut offences = Vec::new();
    for source in sources {
        let named = forbidden.iter().filter(|name| source.names(name));
        offences.extend(named.map(|name| format!("{} names {name}", source.path)));
    }
    assert!(offences.is_empty(), "{why}:\n  {}", offences.join("\n  "));
}

const BACKEND: &str = "crates/waterwheel/src/client/librdkafka";
const MEMORY: &str = "crates/waterwheel/src/client/memory";
/// All crates but the core's.
const CRATES: [&str; 3] = ["waterwheel", "waterwheel-test", "waterwheel-cli"];

#[test]
fn the_core_knows_no_runtime_clock_randomness_or_system() {
    let outside = [
        "tokio",
        "futures_util",
        "rdkafka",
        "rand",
        "fastrand",
        "getrandom",
        "libc",
        "rustix",
        "tracing",
        "std::env",
        "std::fs",
        "std::io",
        "std::net",
        "std::process",
        "std::thread",
        "std::sync",
        "std::time::Instant",
        "std::time::SystemTime",
        "Instant::now",
        "SystemTime::now",
        "RandomState",
    ];
    forbid(&sources("waterwheel-core"), &outside, "the core decides and does nothing else");
}

#[test]
fn only_the_backends_folder_knows_rdkafka() {
    for name in CRATES.into_iter().chain(["waterwheel-core"]) {
        let sources = sources(name);
        let others = sources.iter().filter(|source| !source.path.starts_with(BACKEND));
        // The demo's in-process cluster is rdkafka's; it too is built in the backend's folder.
        forbid(others, &["rdkafka", "rdkafka_sys"], "no type of a backend leaves its folder");
    }
}

#[test]
fn only_what_builds_clients_or_a_cluster_names_a_backend() {
    let sources = sources("waterwheel");
    let naming = |backend: &str, folder: &str, declared: &str| -> BTreeSet<String> {
        let others = sources.iter().filter(|source| !source.path.starts_with(folder));
        let naming = others.filter(|source| {
            let code = source.code.replace(declared, "");
            Source { path: String::new(), code, imports: Vec::new() }.names(backend)
                || source.imports.iter().any(|import| import.split("::").any(|part| part == backend))
        });
        naming.map(|source| source.path.rsplit('/').next().unwrap().to_owned()).collect()
    };
    let files = |files: &[&str]| files.iter().map(|file| (*file).to_owned()).collect::<BTreeSet<_>>();
    // A client, and the cluster in this process.
    let librdkafka = naming("librdkafka", BACKEND, "mod librdkafka;");
    assert_eq!(librdkafka, files(&["connection.rs", "embedded.rs"]), "a backend is named only where one is built");
    // A client, and the way in for the crate of tests.
    let memory = naming("memory", MEMORY, "mod memory;");
    assert_eq!(memory, files(&["connection.rs", "lib.rs"]), "a backend is named only where one is built");
}

#[test]
fn unsafe_code_is_in_the_backends_folder_only() {
    for name in CRATES.into_iter().chain(["waterwheel-core"]) {
        let sources = sources(name);
        let others = sources.iter().filter(|source| !source.path.starts_with(BACKEND));
        forbid(others, &["unsafe"], "unsafe code is for the backend's folder");
    }
    for file in [
        "waterwheel-core/src/lib.rs",
        "waterwheel-test/src/lib.rs",
        "waterwheel-cli/src/lib.rs",
        "waterwheel-cli/src/main.rs",
    ] {
        let text = fs::read_to_string(root().join("crates").join(file)).unwrap();
        assert!(text.contains("#![forbid(unsafe_code)]"), "{file} forbids unsafe code");
    }
    let text = fs::read_to_string(root().join("crates/waterwheel/src/lib.rs")).unwrap();
    assert!(text.contains("#![deny(unsafe_code)]"), "waterwheel denies unsafe code, but for the backend's folder");
}

#[test]
fn only_the_driver_spawns() {
    let tasks = ["tokio::spawn", "task::spawn", "spawn_blocking", "spawn_local", "JoinSet"];
    let threads =
        ["thread::spawn", "thread::Builder", "std::thread::spawn", "std::thread::Builder", "std::thread::scope"];
    let sources = sources("waterwheel");
    let driver = "crates/waterwheel/src/driver";
    // The cluster in memory works whatever its clients do, as a real one does.
    let world = "crates/waterwheel/src/client/memory/world.rs";
    let others = sources.iter().filter(|source| !source.path.starts_with(driver) && source.path != world);
    forbid(others, &tasks, "tasks are the driver's");
    // A client's own threads poll it whatever the runtime does (I8).
    let others = sources.iter().filter(|source| !source.path.starts_with(driver) && !source.path.starts_with(BACKEND));
    forbid(others, &threads, "threads are the driver's and the backend's");
}

#[test]
fn imports_point_one_way() {
    let sources = sources("waterwheel");
    let under = |part: &str| {
        let (file, folder) = (format!("crates/waterwheel/src/{part}.rs"), format!("crates/waterwheel/src/{part}/"));
        sources.iter().filter(move |source| source.path == file || source.path.starts_with(&folder))
    };
    let users = ["crate::worker", "crate::consumer", "crate::history", "crate::partitions"];
    let and_driver = [&users[..], &["crate::driver"]].concat();
    let and_client = [&and_driver[..], &["crate::client"]].concat();
    forbid(under("driver"), &users, "the driver serves workers and consumers, and does not know them");
    forbid(under("client"), &and_driver, "the client's ports know records and errors only");
    forbid(under("record"), &and_client, "records are below everything");
    forbid(under("error"), &and_client, "errors are below everything");
}

#[test]
fn no_file_imports_the_crate_roots_reexports() {
    let mut offences = Vec::new();
    for name in CRATES.into_iter().chain(["waterwheel-core"]) {
        for source in sources(name) {
            // What the root re-exports is types; modules are lower case.
            let of_root = source.imports.iter().filter(|import| {
                let first = import.strip_prefix("crate::").and_then(|rest| rest.chars().next());
                import.as_str() == "crate::*" || first.is_some_and(char::is_uppercase)
            });
            offences.extend(of_root.map(|import| format!("{} imports {import}", source.path)));
        }
    }
    assert!(offences.is_empty(), "import from the module that owns the name:\n  {}", offences.join("\n  "));
}

#[test]
fn these_rules_see_what_they_look_for() {
    let text = r##"
//! tokio::spawn in a comment
use std::{fmt, time::{Duration, Instant as Clock}};
#[cfg(unix)]
pub(crate) use crate::{
    error::{self, Error},
    Record,
};
fn f() { let s = "unsafe \" tokio"; let q = '"'; thread::spawn(g) } // unsafe
mod inner { use crate::driver::*; }
#[cfg(test)]
mod tests { use tokio::spawn; }
"##
    .replace("mod tests { use", "mod tests {\n use");
    let source = Source::parse("a.rs".to_owned(), &text);
    let expected = [
        "std::fmt",
        "std::time::Duration",
        "std::time::Instant",
        "crate::error",
        "crate::error::Error",
        "crate::Record",
        "crate::driver::*",
    ];
    assert_eq!(source.imports, expected);
    for named in ["thread::spawn", "std::time::Instant", "crate::driver"] {
        assert!(source.names(named), "{named}");
    }
    for absent in ["unsafe", "tokio", "spaw", "hread::spawn", "crate::err"] {
        assert!(!source.names(absent), "{absent}");
    }
}
