//! Runs the program in a directory, and reads what it prints.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

/// Runs the program in `dir`.
pub(crate) fn siltstone(dir: &Path, args: &[&str]) -> Output {
    siltstone_with_input(dir, args, b"")
}

pub(crate) fn siltstone_with_input(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = command(dir, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not want the input may end before it is written.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

pub(crate) fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_siltstone"));
    command.current_dir(dir).args(args);
    command
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs the program: its exit code, standard output and standard error.
pub(crate) fn run(dir: &Path, args: &[&str], input: &str) -> (i32, String, String) {
    let output = siltstone_with_input(dir, args, input.as_bytes());
    (output.status.code().unwrap(), stdout(&output), stderr(&output))
}

/// Runs the program, which must end well; its output.
pub(crate) fn ok(dir: &Path, args: &[&str]) -> String {
    ok_with_input(dir, args, "")
}

pub(crate) fn ok_with_input(dir: &Path, args: &[&str], input: &str) -> String {
    let (code, out, err) = run(dir, args, input);
    assert_eq!((code, err.as_str()), (0, ""), "{args:?}");
    out
}

/// As [`ok`], of a run that prints one JSON value.
pub(crate) fn ok_json(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&ok(dir, args)).unwrap()
}

/// Runs the program, which must end with `code`, say so in one line and print nothing else; that
/// line.
pub(crate) fn complains(dir: &Path, args: &[&str], code: i32) -> String {
    complains_with_input(dir, args, "", code)
}

pub(crate) fn complains_with_input(dir: &Path, args: &[&str], input: &str, code: i32) -> String {
    let (ended, out, line) = run(dir, args, input);
    assert_eq!((ended, out.as_str()), (code, ""), "{args:?}: {line}");
    assert!(line.starts_with("siltstone: ") && line.ends_with('\n'), "{args:?}: {line:?}");
    assert_eq!(line.lines().count(), 1, "{args:?}: {line:?}");
    line
}

/// Ingests into `store` and returns the report.
pub(crate) fn ingest(dir: &Path, args: &[&str]) -> Value {
    let mut all = vec!["ingest", "--store", "store", "--json"];
    all.extend(args);
    let report = ok_json(dir, &all);
    assert_eq!(report["complete"], true);
    report
}

/// New, changed, unchanged, deleted.
pub(crate) fn counts(report: &Value) -> [u64; 4] {
    ["new", "changed", "unchanged", "deleted"].map(|k| report["documents"][k].as_u64().unwrap())
}

pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The value of a key, as the store holds it.
pub(crate) fn value(dir: &Path, collection: &str, key: &str) -> Value {
    ok_json(dir, &["get", "store", collection, key])
}

pub(crate) fn keys(dir: &Path, collection: &str) -> Vec<String> {
    let mut keys: Vec<String> =
        ok(dir, &["list", "store", collection]).lines().map(str::to_owned).collect();
    keys.sort();
    keys
}

/// A tree of a few files; one is long, some are no text.
pub(crate) fn tree() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join("tree").join(name);
    fs::create_dir_all(at("sub/deep")).unwrap();
    fs::write(at("a.txt"), "First.\n\nSecond paragraph, caf\u{e9}.").unwrap();
    let lines = (0..200).map(|n| format!("Line {n} says na\u{ef}ve things.\n"));
    fs::write(at("sub/long.md"), lines.collect::<String>()).unwrap();
    fs::write(at("sub/deep/code.rs"), "fn main() {}\n").unwrap();
    fs::write(at("empty.txt"), "").unwrap();
    fs::write(at("latin1.txt"), b"caf\xe9").unwrap();
    fs::write(at("nul.txt"), b"a\0b").unwrap();
    fs::write(at("picture.png"), b"\x89PNG").unwrap();
    fs::write(at("a.txt#0000.txt"), "fine: it does not end in digits").unwrap();
    fs::write(at(".hidden.txt"), "not read").unwrap();
    fs::write(at("ignored.txt"), "not read").unwrap();
    fs::write(at(".gitignore"), "ignored.txt\n").unwrap();
    dir
}
