//! Whether a program can be started, asked before anything is done for it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Looked for in `PATH` unless it holds a `/`.
pub(crate) fn is_program(program: &str) -> bool {
    let is_executable =
        |path: &Path| path.metadata().is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0);
    if program.contains('/') {
        return is_executable(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    std::env::split_paths(&path).any(|folder| is_executable(&folder.join(program)))
}
