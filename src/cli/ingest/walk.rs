//! Which files are read: walking, kinds of files, ids.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Component, Path, PathBuf};
use std::time::UNIX_EPOCH;

use ignore::WalkBuilder;

use super::super::failure::{Failure, warn};
use super::report::{Counts, Skip};
use crate::kv::Text;

/// Extensions of files that hold text, in lower case.
#[rustfmt::skip]
const TEXT_EXTENSIONS: &[&str] = &[
    "txt", "text", "md", "markdown", "mdx", "rst", "adoc", "asciidoc", "org", "tex", "bib",
    "html", "htm", "xhtml", "xml", "svg", "css", "scss", "less",
    "csv", "tsv", "json", "yaml", "yml", "toml", "ini", "cfg", "conf", "properties", "log",
    "rs", "py", "pyi", "ipynb", "js", "mjs", "cjs", "jsx", "ts", "tsx", "vue", "svelte",
    "go", "java", "kt", "kts", "scala", "groovy", "gradle", "clj", "cljs",
    "c", "h", "cc", "cpp", "cxx", "hh", "hpp", "hxx", "m", "mm", "cs", "fs", "swift", "zig",
    "rb", "php", "pl", "pm", "lua", "r", "jl", "hs", "ml", "mli", "ex", "exs", "erl", "nim",
    "sh", "bash", "zsh", "fish", "ps1", "bat", "sql", "proto", "graphql", "cmake", "mk", "tf",
    "el", "vim", "dart", "sol", "tla", "srt", "vtt", "eml", "patch", "diff",
];

/// Extensions of files that hold one JSON record per line.
const RECORD_EXTENSIONS: &[&str] = &["jsonl", "ndjson"];

/// Names, up to the first `.` or `-`, of text files that have no extension, in lower case.
#[rustfmt::skip]
const TEXT_NAMES: &[&str] = &[
    "readme", "license", "licence", "copying", "notice", "authors", "contributors", "changelog",
    "changes", "news", "todo", "install", "makefile", "dockerfile", "justfile", "rakefile",
    "gemfile", "procfile", "codeowners",
];

/// The help's last paragraph.
pub(super) const KINDS_HELP: &str = "\
In directories these are read: .txt .md .rst .adoc .org .tex .html .xml .css .csv .tsv .json .yaml \
.toml .ini .log .rs .py .js .ts .go .java .kt .c .h .cpp .cs .swift .rb .php .lua .r .hs .ml .sh \
.sql .proto and their like, and README, LICENSE, Makefile and their like. Files named on the \
command line are read whatever they are called. Text must be UTF-8 without NUL bytes. Hidden files \
and what .gitignore or .ignore leaves out are passed over; others are skipped and counted.

.jsonl and .ndjson hold one record per line: {\"id\": \"..\", \"text\": \"..\", \
\"metadata\": {..}, \"embedding\": [..]}. Only text is needed; the id defaults to path:line, other \
fields are ignored. A record with an embedding becomes one chunk.

Exit code: 0 done, 2 wrong use or failure (what was stored before it stays), 130 stopped by Ctrl-C \
(everything reported is on disk). Run the same command again to go on.";

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One text.
    Text,
    /// A JSON record per line.
    Records,
}

/// A file to be read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) id: Text,
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
    /// Size when it was found, for progress and grouping.
    pub(super) bytes: u64,
}

/// Everything that is to be read.
#[derive(Debug, Default)]
pub(super) struct Walked {
    /// By id, without repeats.
    pub(super) files: Vec<Found>,
    /// Standard input is to be read, after the files.
    pub(super) stdin: bool,
    /// What was passed over.
    pub(super) skipped: Counts,
    /// A directory could not be listed: nobody knows what was in it.
    pub(super) incomplete: bool,
}

/// Lists the files below `paths`, but for those of the store.
pub(super) fn walk(paths: &[PathBuf], store: &Path, no_ignore: bool) -> Result<Walked, Failure> {
    let mut walked = Walked::default();
    let mut files = BTreeMap::new();
    let store = store.canonicalize().ok();
    for path in paths {
        if path.as_os_str() == "-" {
            walked.stdin = true;
            continue;
        }
        let metadata = std::fs::metadata(path)
            .map_err(|e| Failure::of(format!("cannot read {}", path.display()), e))?;
        if metadata.is_dir() {
            walk_dir(path, store.as_deref(), no_ignore, &mut files, &mut walked);
        } else {
            let kind = kind_of(path).unwrap_or(Kind::Text);
            add(path, kind, metadata.len(), &mut files, &mut walked.skipped);
        }
    }
    walked.files = files.into_values().collect();
    Ok(walked)
}

fn walk_dir(
    root: &Path,
    store: Option<&Path>,
    no_ignore: bool,
    files: &mut BTreeMap<Text, Found>,
    walked: &mut Walked,
) {
    let store = store.map(Path::to_owned);
    let is_store = move |path: &Path| {
        store.as_ref().is_some_and(|store| path.canonicalize().is_ok_and(|path| path == *store))
    };
    // What a user's own git configuration leaves out must not change what a tree gives.
    let walker = WalkBuilder::new(root)
        .standard_filters(!no_ignore)
        .require_git(false)
        .git_global(false)
        .git_exclude(false)
        .filter_entry(move |entry| {
            let is_dir = entry.file_type().is_some_and(|kind| kind.is_dir());
            !is_dir || !is_store(entry.path())
        })
        .build();
    for entry in walker {
        let entry = match entry {
            Ok(entry) => entry,
            Err(e) => {
                warn(&format!("cannot list {}: {e}", root.display()));
                walked.incomplete = true;
                walked.skipped.skip(Skip::Unreadable);
                continue;
            }
        };
        match entry.file_type() {
            Some(kind) if kind.is_file() => {}
            Some(kind) if kind.is_dir() => continue,
            _ => {
                walked.skipped.skip(Skip::NotAFile);
                continue;
            }
        }
        let Some(kind) = kind_of(entry.path()) else {
            walked.skipped.skip(Skip::OtherExtension);
            continue;
        };
        // A file that went away in between is met again when it is read.
        let bytes = entry.metadata().map_or(0, |metadata| metadata.len());
        add(entry.path(), kind, bytes, files, &mut walked.skipped);
    }
}

fn add(
    path: &Path,
    kind: Kind,
    bytes: u64,
    files: &mut BTreeMap<Text, Found>,
    skipped: &mut Counts,
) {
    let id = id_of(path);
    if looks_like_chunk(&id) {
        skipped.skip(Skip::ChunkLikeName);
        return;
    }
    files.insert(id.clone(), Found { id, path: path.to_owned(), kind, bytes });
}

/// What a file holds by its name; `None` if that is not known to be text.
fn kind_of(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    if let Some((stem, extension)) = name.rsplit_once('.')
        && !stem.is_empty()
    {
        if RECORD_EXTENSIONS.contains(&extension) {
            return Some(Kind::Records);
        }
        if TEXT_EXTENSIONS.contains(&extension) {
            return Some(Kind::Text);
        }
    }
    let stem = name.split(['.', '-']).next()?;
    TEXT_NAMES.contains(&stem).then_some(Kind::Text)
}

/// The path with `/` between its parts, without `.` and empty ones. Bytes that are not UTF-8
/// become lone surrogates, as in Python's `os.fsdecode`.
fn id_of(path: &Path) -> Text {
    let mut points: Vec<u32> = Vec::new();
    let mut push = |part: &[u8]| {
        for chunk in part.utf8_chunks() {
            points.extend(chunk.valid().chars().map(u32::from));
            points.extend(chunk.invalid().iter().map(|byte| 0xdc00 + u32::from(*byte)));
        }
    };
    let mut needs_slash = false;
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::RootDir => {
                push(b"/");
                needs_slash = false;
            }
            Component::Prefix(_) | Component::ParentDir | Component::Normal(_) => {
                if needs_slash {
                    push(b"/");
                }
                push(component.as_os_str().as_encoded_bytes());
                needs_slash = true;
            }
        }
    }
    Text::from_code_points(points)
}

/// True for `name#0003`: what chunks are called, so a document of that name could be taken for
/// one.
pub(super) fn looks_like_chunk(id: &Text) -> bool {
    let digits = id.as_bytes().iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    digits >= 4 && id.as_bytes().iter().rev().nth(digits) == Some(&b'#')
}

/// When the file was changed, in UTC: `2026-11-21T03:38:07Z`.
pub(super) fn modified(metadata: &Metadata) -> Option<String> {
    let time = metadata.modified().ok()?;
    let seconds = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).ok()?,
        // Rounded down, as after.
        Err(e) => -i64::try_from(e.duration().as_nanos().div_ceil(1_000_000_000)).ok()?,
    };
    Some(rfc3339(seconds))
}

/// Seconds since 1970 as a date and a time of the Gregorian calendar.
pub(in crate::cli) fn rfc3339(seconds: i64) -> String {
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years that begin in March end with the leap day; 146,097 days are 400 of them.
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * day + 2) / 153;
    let day = day - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}Z", second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_go_by_name() {
        for (name, kind) in [
            ("a.txt", Some(Kind::Text)),
            ("a.b.PY", Some(Kind::Text)),
            ("a.jsonl", Some(Kind::Records)),
            ("LICENSE-MIT", Some(Kind::Text)),
            ("Makefile.am", Some(Kind::Text)),
            ("a.png", None),
            ("txt", None),
            (".txt", None),
            ("a", None),
        ] {
            assert_eq!(kind_of(Path::new(name)), kind, "{name}");
        }
        // The help names kinds that are read.
        for word in KINDS_HELP.split_whitespace().filter(|word| word.starts_with('.')) {
            let name = format!("x{}", word.trim_end_matches('.'));
            let ignored = ["x.gitignore", "x.ignore"].contains(&name.as_str());
            assert!(kind_of(Path::new(&name)).is_some() || ignored, "{word}");
        }
    }

    #[test]
    fn ids_are_paths_as_given() {
        for (path, id) in [
            ("./a/b.txt", "a/b.txt"),
            ("a//b/./c.txt", "a/b/c.txt"),
            ("../a.txt", "../a.txt"),
            ("/a/b.txt", "/a/b.txt"),
            ("a.txt", "a.txt"),
        ] {
            assert_eq!(id_of(Path::new(path)), id);
        }
    }

    #[cfg(unix)]
    #[test]
    fn ids_keep_names_that_are_no_text() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"a/\xff.txt"));
        let expected = [0x61, 0x2f, 0xdcff, 0x2e, 0x74, 0x78, 0x74];
        assert_eq!(id_of(path), Text::from_code_points(expected));
    }

    #[test]
    fn chunk_names_are_known() {
        for (id, yes) in [
            ("a#0000", true),
            ("a#12345", true),
            ("a#000", false),
            ("#0001", true),
            ("0001", false),
        ] {
            assert_eq!(looks_like_chunk(&id.into()), yes, "{id}");
        }
    }

    #[test]
    fn times_are_dates_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_000_000_000, "2001-09-09T01:46:40Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (-62_167_219_200, "0000-01-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
