//! What is not whole is refused and changes nothing; a salvage takes what is.

use siltstone::model::Node;
use siltstone::stores::{AddOptions, DocumentStore};
use siltstone::transfer::{DirTarget, SNAPSHOT_NAME, Target, undo_cut_import};
use siltstone::{OpenError, StorageContext};

use super::dirs::Generated;
use super::*;

fn error(files: &Files) -> String {
    let kv = memory();
    let said = import(files, &kv, ImportOptions::new()).unwrap_err().to_string();
    assert_eq!(everything(&*kv), Everything::new(), "{said}");
    said
}

#[test]
fn errors_name_the_file_and_the_place() {
    let one = |name, text| error(&Files::of(&[("graph_store.json", "{}"), (name, text)]));
    for (name, text, message) in [
        ("docstore.json", "", "docstore.json: Expecting value: line 1 column 1 (byte 0); nothing"),
        ("docstore.json", "{\"c\": {\"a\":\n 1}", "docstore.json: Expecting ',' delimiter: line 2"),
        (
            "docstore.json",
            "{\"c\": {\"a\": \"bc",
            "docstore.json: Unterminated string starting: line",
        ),
        ("docstore.json", "{} {}", "docstore.json: Extra data: line 1 column 4 (byte 3)"),
        ("docstore.json", "[]", "docstore.json: byte 2: the file is no dictionary; nothing was"),
        ("docstore.json", "{\"c\": 1}", "docstore.json: byte 7: collection \"c\" is no dictionary"),
        (
            "docstore.json",
            r#"{"docstore/metadata": {"a": 1}}"#,
            "docstore.json: byte 29: docstore/metadata: \"a\" is no dictionary; nothing was",
        ),
        (
            "docstore.json",
            r#"{"docstore/ref_doc_info": {"a": {"node_ids": 1}}}"#,
            "docstore.json: byte 47: docstore/ref_doc_info: \"a\" is no ref doc record",
        ),
        (
            "docstore.json",
            "{\"\\ud800\": {}}",
            "docstore.json: byte 11: no collection can be named",
        ),
    ] {
        let said = one(name, text);
        assert!(said.starts_with(message), "{said}\n{message}");
        assert!(said.contains("ImportOptions::salvage takes"), "{said}");
    }
    let long = format!("{{\"c\": {{\"{}\": 1}}}}", "k".repeat(70_000));
    assert!(one("docstore.json", &long).contains("a key is 70000 bytes long, more than 65535"));
    let said = error(&Files::of(&[("notes.json", "[1]"), ("x.txt", "")]));
    assert_eq!(said, "there is no file that LlamaIndex writes; nothing was imported");
}

/// Goal: however short a file is cut, an import says so, and leaves the store as it was.
#[test]
fn a_file_cut_anywhere_changes_nothing() {
    let text = std::fs::read(golden("multi_tenant/docstore.json")).unwrap();
    let log_dir = tempfile::tempdir().unwrap();
    let log = LogKv::open(log_dir.path()).unwrap();
    log.put("mine", b"k", &Value::from(1)).unwrap();
    let before = everything(&log);
    for len in (0..text.len()).step_by(97).chain([text.len() - 1]) {
        let mut files = Files::default();
        files.files.insert("docstore.json".into(), text[..len].to_vec());
        let said = import_to_log(&files, &log, ImportOptions::new()).unwrap_err().to_string();
        assert!(said.contains("docstore.json: ") && said.contains("(byte "), "{said}");
        assert_eq!(everything(&log), before);
    }
}

/// Goal: a salvage takes every record that stands whole before the end, and says where that is.
#[test]
fn a_salvage_takes_what_is_whole() {
    let files = Files::read(&golden("truncated"));
    assert!(error(&files).starts_with("docstore.json: "));
    let kv = memory();
    let report = import(&files, &kv, ImportOptions::new().salvage(true)).unwrap();
    assert!(!report.is_whole());
    let [docstore, index] = &report.files[..] else { panic!("{report:?}") };
    assert_eq!(docstore.problems.first[0].byte, 6606);
    assert_eq!(docstore.unread, docstore.len - 6606);
    assert_eq!((index.name.as_str(), index.problems.first[0].byte), ("index_store.json", 0));
    assert!(index.problems.first[0].what.starts_with("Expecting value"));
    // What was taken is what the whole file has, as far as it goes.
    let whole = memory();
    import(&Files::read(&golden("basic")), &whole, ImportOptions::new()).unwrap();
    let taken = DocumentStore::new(kv).docs().unwrap();
    println!("{} nodes, {} records", taken.len(), docstore.records);
    assert!(taken.len() > 3);
}

#[test]
fn a_salvage_passes_over_records_that_are_wrong() {
    let text = r#"{"docstore/metadata": {"a": 1, "b": {"doc_hash": "h"}}, "c": [],
        "docstore/ref_doc_info": {"r": {"node_ids": 1}, "s": {"node_ids": ["b"]}}, "d": {"k": 2}}"#;
    let kv = memory();
    let files = Files::of(&[("docstore.json", text)]);
    let report = import(&files, &kv, ImportOptions::new().salvage(true)).unwrap();
    assert_eq!((report.records(), report.files[0].problems.count), (3, 3));
    assert_eq!(kv.get("d", b"k").unwrap(), Some(Value::Int(2)));
    assert!(DocumentStore::new(kv).ref_doc_exists("s").unwrap());
}

#[test]
fn what_is_there_is_replaced_only_when_asked_for() {
    let kv = memory();
    let files = |hash: &str| {
        let text = format!(r#"{{"docstore/metadata": {{"{hash}": {{"doc_hash": "{hash}"}}}}}}"#);
        Files::of(&[("docstore.json", &text)])
    };
    kv.put("mine", b"k", &Value::from(1)).unwrap();
    import(&files("old"), &kv, ImportOptions::new()).unwrap();
    let before = everything(&*kv);
    let said = import(&files("new"), &kv, ImportOptions::new()).unwrap_err().to_string();
    assert_eq!(
        said,
        "the store holds the document store \"docstore\" already; nothing was imported; an \
         Import with ImportOptions::replace takes its place"
    );
    assert_eq!(everything(&*kv), before);
    import(&files("new"), &kv, ImportOptions::new().replace(true)).unwrap();
    let ids = DocumentStore::new(kv.clone()).get_all_document_ids().unwrap();
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), ["new"]);
    assert!(kv.contains("mine", b"k").unwrap(), "other collections stay");
}

/// 12 MB of records: several batches.
fn failing(fails_on: Option<(u32, usize)>) -> Generated {
    Generated {
        name: "docstore.json",
        head: r#"{"docstore/data": {"#,
        tail: "}}",
        record: |i| {
            format!(
                r#""n{i}": {{"__data__": {{"text": "{}"}}, "__type__": "1"}}"#,
                "x".repeat(1000)
            )
        },
        records: 12_000,
        fails_on,
        opens: <_>::default(),
        bytes_read: <_>::default(),
    }
}

/// Goal: a device that fails while the files are read again leaves the store as it was. Method:
/// the second open fails after 9 MB, when two batches are written.
#[test]
fn a_failure_in_the_middle_is_rolled_back() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogKv::open(dir.path()).unwrap();
    log.put("docstore/data", b"old", &Value::from(1)).unwrap();
    log.put("mine", b"k", &Value::from(1)).unwrap();
    let before = everything(&log);
    let source = failing(Some((2, 9_000_000)));
    let options = ImportOptions::new().replace(true);
    let said = import_to_log(&source, &log, options.clone()).unwrap_err().to_string();
    assert!(
        said.starts_with("the import of docstore.json failed: read error at byte 90"),
        "{said}"
    );
    assert!(said.ends_with("the disk is gone; the store is as it was"), "{said}");
    assert_eq!(everything(&log), before);
    assert!(log.db().snapshots().iter().all(|s| s.name.is_none()), "no snapshot is left");
    drop(log);
    let log = LogKv::open(dir.path()).unwrap();
    assert_eq!(everything(&log), before);
    // Elsewhere a part is left, and the next import makes it whole.
    let kv = memory();
    let said =
        import(&failing(Some((2, 9_000_000))), &kv, options.clone()).unwrap_err().to_string();
    assert!(said.ends_with("a part was imported; import again"), "{said}");
    assert!(kv.len("docstore/data").unwrap() > 1000);
    import(&failing(None), &kv, options).unwrap();
    assert_eq!(kv.len("docstore/data").unwrap(), 12_000);
}

/// An import into the store in `dir` that is killed in the middle: the writing is stopped by a
/// panic of the source, which is what a kill leaves in the log: whole batches, the snapshot from
/// before, and the record that names it.
fn killed_import(dir: &std::path::Path) {
    killed_import_with(dir, ImportOptions::new());
}

fn killed_import_with(dir: &std::path::Path, options: ImportOptions) {
    struct Killed(Generated);
    impl Source for Killed {
        fn files(&self) -> std::io::Result<Vec<siltstone::transfer::FileEntry>> {
            self.0.files()
        }
        fn open(&self, name: &str) -> std::io::Result<Box<dyn std::io::Read + '_>> {
            struct Panics<'a>(Box<dyn std::io::Read + 'a>);
            impl std::io::Read for Panics<'_> {
                fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                    self.0.read(buf).map_err(|_| panic!("killed"))
                }
            }
            Ok(Box::new(Panics(self.0.open(name)?)))
        }
    }
    let source = Killed(failing(Some((2, 9_000_000))));
    let killed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let log = LogKv::open(dir).unwrap();
        import_to_log(&source, &log, options)
    }));
    assert!(killed.is_err());
}

fn names(log: &LogKv) -> Vec<String> {
    log.db().snapshots().into_iter().filter_map(|snapshot| snapshot.name).collect()
}

/// An import without leave to replace what is there is refused, and leaves the log as it was
/// `before`.
fn refused_and_unchanged(log: &LogKv, before: &Everything) {
    let said = import_to_log(&failing(None), log, ImportOptions::new()).unwrap_err().to_string();
    assert!(said.starts_with("the store holds the document store \"docstore\" already"), "{said}");
    assert_eq!(everything(log), *before);
}

/// Goal: who is killed in the middle imports again, and has what a single import gives, however
/// often that happens.
#[test]
fn an_import_that_was_killed_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 1..=2 {
        killed_import(dir.path());
        let log = LogKv::open(dir.path()).unwrap();
        let part = log.len("docstore/data").unwrap();
        assert!(0 < part && part < 12_000, "{part}");
        assert_eq!(names(&log).last().map(String::as_str), Some(SNAPSHOT_NAME));
        let last = log.db().snapshots().into_iter().rfind(|s| s.name.is_some()).unwrap();
        assert!(log.db().open_snapshot(last.id).unwrap().is_empty("docstore/data"));
    }
    let log = LogKv::open(dir.path()).unwrap();
    import_to_log(&failing(None), &log, ImportOptions::new()).unwrap();
    // What the killed imports had written is in the snapshots of their undoing.
    assert_eq!(names(&log).len(), 2);
    assert!(names(&log).iter().all(|name| name.starts_with("before rollback")));
    let once = memory();
    import(&failing(None), &once, ImportOptions::new()).unwrap();
    assert_eq!(everything(&log), everything(&*once));
    // That allowed one import, and no other.
    assert!(import_to_log(&failing(None), &log, ImportOptions::new()).is_err());
}

/// Goal: after a killed import the store is as it was, with nothing of it, for whoever opens a
/// context; who opens it for reading only, who may not change that, is refused.
#[test]
fn a_killed_import_is_undone_by_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogKv::open(dir.path()).unwrap();
    log.put("docstore/data", b"old", &Value::from(1)).unwrap();
    log.put("mine", b"k", &Value::from(1)).unwrap();
    let before = everything(&log);
    drop(log);
    killed_import_with(dir.path(), ImportOptions::new().replace(true));
    let log = LogKv::open(dir.path()).unwrap();
    let part = everything(&log);
    assert!(part.len() > 1000 && !log.contains("docstore/data", b"old").unwrap());
    drop(log);

    let read_only = || siltstone::Options::new().read_only(true).create(false);
    let said = StorageContext::open_with(dir.path(), read_only()).unwrap_err();
    assert!(matches!(said, OpenError::HalfImported { failure: None, .. }), "{said}");
    assert!(said.to_string().contains("import again"), "{said}");

    let context = StorageContext::open(dir.path()).unwrap();
    assert_eq!(everything(&**context.kv()), before);
    drop(context);
    StorageContext::open_with(dir.path(), read_only()).unwrap();
    let log = LogKv::open(dir.path()).unwrap();
    assert_eq!(undo_cut_import(&log).unwrap(), None, "it is done");
    // The part is not lost.
    let [kept] =
        &log.db().snapshots().into_iter().filter(|s| s.name.is_some()).collect::<Vec<_>>()[..]
    else {
        panic!("{:?}", names(&log))
    };
    log.db().rollback_to(kept.id).unwrap();
    assert_eq!(everything(&log), part);
}

/// Goal: a killed import allows nobody to replace what was written since. Method: a document is
/// added after it, and another import without leave to replace comes.
#[test]
fn what_is_written_after_a_killed_import_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    killed_import(dir.path());
    let context = StorageContext::open(dir.path()).unwrap();
    let node = Node::text("mine", "my words");
    context.docstore().add_documents(&[node], &AddOptions::default()).unwrap();
    context.persist().unwrap();
    let before = everything(&**context.kv());
    drop(context);
    let log = LogKv::open(dir.path()).unwrap();
    refused_and_unchanged(&log, &before);
}

/// Goal: an import that is refused changes nothing, also if it had one to undo.
#[test]
fn what_a_killed_import_did_not_fill_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogKv::open(dir.path()).unwrap();
    log.put("mine", b"k", &Value::from(1)).unwrap();
    let before = everything(&log);
    drop(log);
    killed_import(dir.path());
    let log = LogKv::open(dir.path()).unwrap();
    let mine = Files::of(&[("docstore.json", r#"{"docstore/data": {}, "mine": {"l": 2}}"#)]);
    let said = import_to_log(&mine, &log, ImportOptions::new()).unwrap_err().to_string();
    assert!(said.starts_with("the store holds the collection \"mine\" already;"), "{said}");
    assert_eq!(everything(&log), before);
    let text = r#"{"docstore/metadata": {"a": {"doc_hash": "h"}}}"#;
    let files = Files::of(&[("docstore.json", text)]);
    import_to_log(&files, &log, ImportOptions::new()).unwrap();
    assert!(import_to_log(&files, &log, ImportOptions::new()).is_err());
}

/// The file that fails, with the other file that a context needs.
struct WithStructs(Generated);

impl Source for WithStructs {
    fn files(&self) -> std::io::Result<Vec<siltstone::transfer::FileEntry>> {
        let mut files = self.0.files()?;
        let name = "index_store.json".to_owned();
        files.push(siltstone::transfer::FileEntry { name, len: 2 });
        Ok(files)
    }

    fn open(&self, name: &str) -> std::io::Result<Box<dyn std::io::Read + '_>> {
        match name {
            "index_store.json" => Ok(Box::new(&b"{}"[..])),
            _ => self.0.open(name),
        }
    }
}

/// Goal: a context that is imported into a log is there whole, or the log is as it was.
#[test]
fn a_context_is_imported_into_a_log_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let log = Arc::new(LogKv::open(dir.path()).unwrap());
    log.put("mine", b"k", &Value::from(1)).unwrap();
    let before = everything(&*log);
    let source = WithStructs(failing(Some((2, 9_000_000))));
    let said = StorageContext::import(&source, log.clone()).unwrap_err().to_string();
    assert!(said.ends_with("the disk is gone; the store is as it was"), "{said}");
    assert_eq!(everything(&*log), before);
    let source = WithStructs(failing(None));
    let context = StorageContext::import(&source, log.clone()).unwrap();
    assert_eq!(context.vector_namespaces().unwrap(), Vec::<String>::new());
    assert_eq!(log.len("docstore/data").unwrap(), 12_000);
    assert!(names(&log).is_empty(), "no snapshot is left");
    let said = StorageContext::import(&source, log.clone()).unwrap_err().to_string();
    assert!(said.contains("already; nothing was imported") && !said.contains("--"), "{said}");
}

/// Who drops the snapshot of a killed import keeps the part as it is.
#[test]
fn a_part_that_was_taken_for_good_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    killed_import(dir.path());
    let log = LogKv::open(dir.path()).unwrap();
    let id = log.db().snapshots().into_iter().find(|s| s.name.is_some()).unwrap().id;
    log.db().drop_snapshot(id).unwrap();
    let before = everything(&log);
    refused_and_unchanged(&log, &before);
}

/// Goal: a snapshot that the user called as an import calls its own allows nothing, and stays.
#[test]
fn a_snapshot_of_the_same_name_is_the_users() {
    let dir = tempfile::tempdir().unwrap();
    let log = LogKv::open(dir.path()).unwrap();
    log.put("docstore/data", b"old", &Value::from(1)).unwrap();
    log.db().persist_with(siltstone::PersistOptions::named(SNAPSHOT_NAME)).unwrap();
    let before = everything(&log);
    refused_and_unchanged(&log, &before);
    assert_eq!(names(&log).len(), 1);
    import_to_log(&failing(None), &log, ImportOptions::new().replace(true)).unwrap();
    assert_eq!(names(&log), [SNAPSHOT_NAME]);
    let kept = log.db().snapshots().into_iter().find(|s| s.name.is_some()).unwrap();
    assert_eq!(log.db().open_snapshot(kept.id).unwrap().len("docstore/data"), 1);
}

#[test]
fn a_failed_export_shows_no_file() {
    let kv = memory();
    import(&Files::read(&golden("multi_tenant")), &kv, ImportOptions::new()).unwrap();
    let whole: usize = exported(&kv).files.values().map(Vec::len).sum();
    for room in [0, 1, 100, whole - 1] {
        let mut files = Files { room: Some(room), ..Files::default() };
        let failed = export(&kv, &mut files, &FileNames::default(), &mut |_, _| {});
        let said = failed.unwrap_err().to_string();
        assert!(said.ends_with(".json cannot be written: no space is left"), "{said}");
        assert!(files.files.is_empty());
    }
    let mut files = Files { room: Some(whole), ..Files::default() };
    export(&kv, &mut files, &FileNames::default(), &mut |_, _| {}).unwrap();
}

/// Goal: of two kinds of files with one name none takes the place of the other. Method: pairs of
/// names, given both, or one of them LlamaIndex's own; export and import write nothing.
#[test]
fn no_two_kinds_of_files_have_one_name() {
    let both = |docstore: &str, index_store: &str, vector_store: &str| {
        let mut names = FileNames::default();
        names.docstore = docstore.into();
        names.index_store = index_store.into();
        names.vector_store = vector_store.into();
        names
    };
    let documents = "the document store";
    for (names, name, one, other) in [
        (both("same", "same", "v"), "same", documents, "the index store"),
        (both("chat_store.json", "i", "v"), "chat_store.json", documents, "the chat store"),
        (both("d", "llama_cache", "v"), "llama_cache", "the index store", "the ingestion cache"),
        (both("default__v", "i", "v"), "default__v", documents, "the vector store \"default\""),
        (both("v", "i", "v"), "v", documents, "the vector stores"),
    ] {
        let (kv, dir) = (memory(), tempfile::tempdir().unwrap());
        kv.put("docstore/metadata", b"a", &Value::from(1)).unwrap();
        let mut target = DirTarget::new(dir.path()).unwrap();
        let said = export(&kv, &mut target, &names, &mut |_, _| {}).unwrap_err().to_string();
        let wanted = format!("{name} is the name of both {one} and {other}; nothing was written");
        assert_eq!(said, wanted);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let files = Files::of(&[(name, r#"{"c": {"k": 1}}"#)]);
        let into = memory();
        let said = import(&files, &into, ImportOptions::new().names(names)).unwrap_err();
        assert_eq!(said.to_string(), wanted);
        assert_eq!(everything(&*into), Everything::new());
    }
    // Other names that look alike.
    both("a_v", "default__", "v").check().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut target = DirTarget::new(dir.path()).unwrap();
    drop(target.create("a").unwrap());
    assert!(target.create("a").is_err());
}
