//! What a reader of the source relies on, checked: the direction of dependencies between the
//! layers, where `unsafe` and `std::fs` may stand, that DESIGN.md names only what exists, that no
//! leftovers are committed. Sizes are reported, not judged.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test: panics and reports")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Each module and the modules of the crate that it may use. A layer uses lower ones only;
/// `testing` is used by nobody (its planted bugs are asked for through a macro).
const LAYERS: &[(&str, &[&str])] = &[
    ("limits", &[]),
    ("observed", &[]),
    ("planted", &[]),
    ("vfs", &[]),
    ("format", &["limits"]),
    ("index", &["limits"]),
    ("engine", &["limits", "vfs", "format", "index"]),
    ("sink", &["limits", "vfs", "engine"]),
    ("remote", &["limits", "vfs", "engine"]),
    ("kv", &["limits", "engine"]),
    ("model", &["limits", "kv"]),
    ("stores", &["limits", "engine", "kv", "model"]),
    ("context", &["limits", "engine", "kv", "model", "stores", "transfer"]),
    ("transfer", &["limits", "engine", "kv", "model", "stores"]),
    (
        "cli",
        &[
            "limits", "vfs", "engine", "sink", "remote", "kv", "model", "stores", "context",
            "transfer",
        ],
    ),
    (
        "testing",
        &["limits", "vfs", "format", "engine", "kv", "observed", "planted", "model", "stores"],
    ),
];

/// The only files with `unsafe`.
const UNSAFE_FILES: &[&str] = &["src/stores/vector/simd.rs", "src/vfs/mmap.rs"];

/// The only files that call the operating system's file system: `cli` reads what it ingests, and
/// `transfer/dir.rs` reads and writes directories of LlamaIndex's, which are no part of a store.
const FS_FILES: &[&str] = &["src/vfs/os.rs", "src/vfs/mmap.rs", "src/cli/", "src/transfer/dir.rs"];

/// Words that do not belong into a commit. Split, so that this file does not find itself.
const LEFTOVERS: &[&str] = &[
    concat!("todo", "!("),
    concat!("unimplemented", "!("),
    concat!("dbg", "!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("#[ig", "nore"),
    concat!("<<<<", "<<<"),
    concat!(">>>>", ">>>"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files with one of the endings below `dirs`, by path from the root.
fn files(dirs: &[&str], endings: &[&str]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut pending: Vec<PathBuf> = dirs.iter().map(|dir| root().join(dir)).collect();
    while let Some(path) = pending.pop() {
        if path.is_dir() {
            pending.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let name = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
        if endings.iter().any(|ending| name.ends_with(ending)) && !name.contains("/target/") {
            found.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
    found
}

fn sources() -> BTreeMap<String, String> {
    files(&["src"], &[".rs"])
}

/// The lines of a source without comments, with their numbers, up to its unit tests.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(i, line)| (i + 1, line.split("//").next().unwrap_or("")))
        .take_while(|(_, line)| !line.contains("#[cfg(test)]"))
}

/// Fails with all complaints at once.
fn report(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

#[test]
fn layers_use_lower_layers_only() {
    let mut complaints = Vec::new();
    for (file, text) in sources() {
        let module = file.trim_start_matches("src/").split(['/', '.']).next().unwrap().to_owned();
        if ["lib", "main"].contains(&module.as_str()) || file.ends_with("tests.rs") {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else {
            complaints.push(format!("{file}: module {module} is in no layer of tests/tidy.rs"));
            continue;
        };
        for (line, text) in code(&text) {
            for used in text.split("crate::").skip(1) {
                let used: String =
                    used.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                let is_module = LAYERS.iter().any(|(name, _)| *name == used);
                let is_fine = used == module || allowed.contains(&used.as_str());
                if is_module && !is_fine {
                    complaints.push(format!("{file}:{line}: {module} uses {used}"));
                }
            }
        }
    }
    report(&complaints);
}

#[test]
fn unsafe_stands_in_its_place_with_its_reason() {
    let mut complaints = Vec::new();
    for (file, text) in sources() {
        let lines: Vec<&str> = text.lines().collect();
        for (line, text) in code(&text) {
            let has = text.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe");
            if !has {
                continue;
            }
            if !UNSAFE_FILES.contains(&file.as_str()) {
                complaints.push(format!("{file}:{line}: unsafe outside of its files"));
            }
            let before = &lines[line.saturating_sub(6)..line - 1];
            if !before.iter().any(|l| l.contains("// SAFETY:")) {
                complaints.push(format!("{file}:{line}: unsafe without a SAFETY reason"));
            }
        }
    }
    report(&complaints);
}

#[test]
fn the_file_system_is_reached_through_the_seam() {
    let mut complaints = Vec::new();
    for (file, text) in sources() {
        if FS_FILES.iter().any(|allowed| file.starts_with(allowed)) {
            continue;
        }
        for (line, text) in code(&text) {
            if text.contains("std::fs") || text.contains("fs::File") {
                complaints.push(format!("{file}:{line}: std::fs outside of the seam"));
            }
        }
    }
    report(&complaints);
}

#[test]
fn nothing_is_left_over() {
    let mut complaints = Vec::new();
    let dirs = ["src", "tests", "benches", "examples", "fuzz/fuzz_targets"];
    let dirs: Vec<&str> = dirs.into_iter().filter(|dir| root().join(dir).exists()).collect();
    for (file, text) in files(&dirs, &[".rs"]) {
        for (i, line) in text.lines().enumerate() {
            let at = format!("{file}:{}", i + 1);
            for word in LEFTOVERS.iter().filter(|word| line.contains(**word)) {
                complaints.push(format!("{at}: {word}"));
            }
            if !line.is_ascii() {
                complaints.push(format!("{at}: not ASCII"));
            }
            if line.len() > 100 {
                complaints.push(format!("{at}: {} columns", line.len()));
            }
        }
    }
    report(&complaints);
}

/// The lines of fenced blocks that list a symbol and its file, as DESIGN.md's paths through the
/// code do.
fn listed(text: &str) -> Vec<(usize, String, String)> {
    let mut listed = Vec::new();
    let mut is_fenced = false;
    for (i, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
        }
        let mut words = line.split_whitespace();
        if let (true, Some(symbol), Some(file)) = (is_fenced, words.next(), words.next())
            && file.ends_with(".rs")
        {
            listed.push((i + 1, symbol.to_owned(), file.to_owned()));
        }
    }
    listed
}

#[test]
fn the_paths_through_the_code_are_right() {
    let sources = sources();
    let design = fs::read_to_string(root().join("DESIGN.md")).unwrap();
    let listed = listed(&design);
    assert!(listed.len() > 12, "found {} lines only", listed.len());
    let mut complaints = Vec::new();
    for (line, symbol, file) in listed {
        let item = symbol.rsplit("::").next().unwrap();
        match sources.get(&format!("src/{file}")) {
            None => complaints.push(format!("DESIGN.md:{line}: there is no file {file}")),
            Some(text) if !declares(text, item) => {
                complaints.push(format!("DESIGN.md:{line}: {file} declares no {symbol}"));
            }
            Some(_) => {}
        }
    }
    report(&complaints);
}

/// Code spans of a document, without fenced blocks.
fn spans(text: &str) -> Vec<(usize, String)> {
    let mut spans = Vec::new();
    let mut is_fenced = false;
    for (i, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            is_fenced = !is_fenced;
        } else if !is_fenced {
            let inside = line.split('`').skip(1).step_by(2);
            spans.extend(inside.map(|span| (i + 1, span.to_owned())));
        }
    }
    spans
}

/// A path in DESIGN.md is a code span that ends in `.rs`: from the root, or from `src`. A symbol
/// is a code span `Type::item`, or `module::item` with a lower-case module: the item must be
/// declared somewhere in `src`, for a module in the file of that name.
#[test]
fn design_names_only_what_exists() {
    let sources = sources();
    let design = fs::read_to_string(root().join("DESIGN.md")).unwrap();
    let mut complaints = Vec::new();
    let (mut paths, mut symbols) = (0, 0);
    for (line, span) in spans(&design) {
        if span.ends_with(".rs") && !span.contains(' ') {
            paths += 1;
            let candidates = [root().join(&span), root().join("src").join(&span)];
            if !candidates.iter().any(|path| path.exists()) {
                complaints.push(format!("DESIGN.md:{line}: there is no file {span}"));
            }
            continue;
        }
        let Some((holder, item)) = span.rsplit_once("::") else { continue };
        let item = item.trim_end_matches("()");
        let holder = holder.rsplit("::").next().unwrap();
        let is_name = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_alphanumeric() || c == '_');
        if !is_name(holder) || !is_name(item) {
            continue;
        }
        symbols += 1;
        let is_type = holder.starts_with(char::is_uppercase);
        let file_names = [format!("/{holder}.rs"), format!("/{holder}/mod.rs")];
        let declared = sources.iter().any(|(file, text)| {
            let is_home = if is_type {
                declares(text, holder) || text.contains(&format!("impl {holder}"))
            } else {
                file_names.iter().any(|name| file.ends_with(name.as_str()))
            };
            is_home && declares(text, item)
        });
        if !declared {
            complaints.push(format!("DESIGN.md:{line}: {span} is not declared"));
        }
    }
    assert!(paths > 10 && symbols > 10, "found {paths} paths and {symbols} symbols only");
    report(&complaints);
}

/// True if `text` declares a function, type, constant, variant, module or field of that name.
fn declares(text: &str, name: &str) -> bool {
    let keywords = ["fn", "struct", "enum", "trait", "const", "type", "static", "mod"];
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    let declared = keywords.iter().any(|keyword| {
        let needle = format!("{keyword} {name}");
        text.match_indices(&needle).any(|(at, _)| is_end(&text[at + needle.len()..]))
    });
    declared
        || text.lines().map(str::trim_start).any(|line| {
            line.strip_prefix("pub ")
                .unwrap_or(line)
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with([',', ' ', '(', ':']) || rest.is_empty())
        })
}

#[test]
fn links_of_the_documents_lead_somewhere() {
    let mut complaints = Vec::new();
    for file in ["README.md", "DESIGN.md", "CHANGELOG.md"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap();
            if !link.starts_with("http") && !path.is_empty() && !root().join(path).exists() {
                complaints.push(format!("{file}: {link} leads nowhere"));
            }
        }
    }
    report(&complaints);
}

/// Not a judgement: prints the largest files, so that a reviewer sees which one grows.
#[test]
fn sizes_are_reported() {
    let mut sizes: Vec<(usize, String)> = sources()
        .into_iter()
        .map(|(file, text)| (code(&text).filter(|(_, l)| !l.trim().is_empty()).count(), file))
        .collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    let total: usize = sizes.iter().map(|(lines, _)| lines).sum();
    println!("{} files, {total} lines of code without comments and tests; largest:", sizes.len());
    for (lines, file) in sizes.iter().take(8) {
        println!("{lines:6} {file}");
    }
    assert!(total > 0);
}
