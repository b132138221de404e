//! The worker files in README.md and docs/ pass `waterwheel check`, the tests that are named are there, and the table of metrics is
//! the code's.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "the helpers of a test fail it")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// The pages that may hold worker files.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut pages = vec![root.join("README.md")];
    for entry in root.join("docs").read_dir().expect("the folder docs") {
        let path = entry.expect("an entry of docs").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    pages
}

/// The `toml` blocks of a page that hold a `[[worker]]`.
fn worker_files(page: &str) -> Vec<String> {
    let mut files = Vec::new();
    let mut rest = page;
    while let Some((_, after)) = rest.split_once("\n```toml\n") {
        let (block, after) = after.split_once("\n```").expect("a block that ends");
        if block.contains("[[worker]]") {
            files.push(format!("{block}\n"));
        }
        rest = after;
    }
    files
}

#[test]
fn every_worker_file_in_the_documentation_is_sound() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("worker.toml");
    let mut checked = 0;
    for page in pages() {
        let text = std::fs::read_to_string(&page).expect("a page of text");
        for block in worker_files(&text) {
            std::fs::write(&file, block).expect("a worker file");
            let mut command = Command::new(env!("CARGO_BIN_EXE_waterwheel"));
            let output = command.arg("check").arg(&file).env_clear().output().expect("the command runs");
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && told.is_empty(), "{}: {told}", page.display());
            checked += 1;
        }
    }
    assert!(checked >= 2, "README.md and docs/worker-file.md have one each, found {checked}");
}

#[test]
fn every_test_that_a_page_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut code = String::new();
    let mut folders = vec![root.join("crates")];
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().expect("a folder of sources") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                code.push_str(&std::fs::read_to_string(path).expect("a source"));
            }
        }
    }
    let page = std::fs::read_to_string(root.join("docs/reliability.md")).expect("a page of text");
    let (_, table) = page.split_once("## What must not happen here").expect("its section");
    let (table, _) = table.split_once("\n## ").expect("another one behind it");
    let named: Vec<&str> = table.split('`').skip(1).step_by(2).collect();
    let missing: Vec<_> = named.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(named.len() > 20 && missing.is_empty(), "{missing:?}");
}

#[test]
fn the_tables_of_metrics_are_the_codes() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/metrics.md");
    let text = std::fs::read_to_string(page).expect("a page of text");
    let written: Vec<&str> = text.lines().filter(|line| line.starts_with("| `")).collect();
    let all = waterwheel::metrics::METRICS.iter().chain(waterwheel::metrics::CLIENT_METRICS);
    let expected = all.map(|metric| {
        let kind = format!("{:?}", metric.kind).to_lowercase();
        let labels = if metric.labels.is_empty() { String::new() } else { format!("`{}`", metric.labels) };
        format!("| `{}` | {kind} | {labels} | {} |", metric.name, metric.help)
    });
    assert_eq!(written, expected.collect::<Vec<_>>());
}
