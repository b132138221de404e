//! The examples as Cargo has built them.

use std::process::Command;

/// An example. Cargo has built it together with the tests; where only one test was asked for it is built here, if it is not
/// there from before: with the whole workspace's features, so that the library is not built once more.
pub(crate) fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    if !path.exists() {
        let build = ["build", "--quiet", "--workspace", "--example", name];
        let built = Command::new(env!("CARGO")).args(build).current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.unwrap().success(), "{name} builds");
    }
    Command::new(path)
}
