//! Directories of the file system, read and written by the library.

use siltstone::transfer::{DirSource, DirTarget, ExportReport, Target};

use super::*;

fn vectors(kv: &Arc<dyn KvStore>, namespace: &str) {
    let text = r#"{"embedding_dict": {"a": [1]}}"#;
    let other = memory();
    let files = Files::of(&[("default__vector_store.json", text)]);
    import(&files, &other, ImportOptions::new()).unwrap();
    for (collection, _) in other.collections().unwrap() {
        let Some(rest) = collection.strip_prefix("vector_store/default") else { continue };
        for (key, value) in other.get_all(&collection).unwrap() {
            kv.put(&format!("vector_store/{namespace}{rest}"), &key, &value).unwrap();
        }
    }
}

fn export_to(kv: &Arc<dyn KvStore>, dir: &Path) -> ExportReport {
    let mut target = DirTarget::new(dir).unwrap();
    export(kv, &mut target, &FileNames::default(), &mut |_, _| {}).unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Goal: every golden directory is the same read from the file system and from memory, and an
/// export to a directory is the one to memory.
#[test]
fn a_directory_is_what_its_files_are() {
    for input in inputs() {
        let (one, other) = (memory(), memory());
        let told = import(&Files::read(&input), &one, ImportOptions::new());
        let found = import(&DirSource::new(&input), &other, ImportOptions::new());
        match (told, found) {
            (Ok(told), Ok(found)) => assert_eq!(told, found),
            (Err(told), Err(found)) => {
                assert_eq!(told.to_string(), found.to_string());
                continue;
            }
            differ => panic!("{}: {differ:?}", input.display()),
        }
        assert_eq!(everything(&*one), everything(&*other));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new");
        export_to(&one, &path);
        assert_eq!(Files::read(&path), exported(&one));
    }
}

#[test]
fn what_is_no_file_is_listed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("docstore.json"), r#"{"c": {"k": 1}}"#).unwrap();
    std::fs::create_dir(dir.path().join("below")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
    let report = import(&DirSource::new(dir.path()), &memory(), ImportOptions::new()).unwrap();
    let said: Vec<String> =
        report.ignored.iter().map(|other| format!("{}: {}", other.name, other.why)).collect();
    let links: &[&str] = if cfg!(unix) { &["link: it is a link to nothing"] } else { &[] };
    assert_eq!(said, [&["below: it is no file"], links].concat());
}

/// Goal: a vector store whose namespace makes no name of a file is left out, and everything else
/// is there; one that LlamaIndex takes for another is written, with a warning.
#[test]
fn namespaces_that_make_no_file_name_are_left_out() {
    let kv = memory();
    let long = "n".repeat(225);
    for namespace in ["a/b", "../up", &long, "a__b", "a", "c__d"] {
        vectors(&kv, namespace);
    }
    kv.put("c", b"k", &Value::from(1)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out");
    let report = export_to(&kv, &path);
    let left: Vec<&str> = report.left_out.iter().map(|left| left.name.as_str()).collect();
    let vector_store = |namespace: &str| format!("the vector store \"{namespace}\"");
    assert_eq!(left, [vector_store("../up"), vector_store("a/b"), vector_store(&long)]);
    assert_eq!((report.vector_stores_left_out, report.is_whole()), (3, false));
    assert!(report.left_out[0].why.ends_with("that is no name of a file"), "{report:?}");
    assert!(report.left_out[2].why.ends_with("that is too long for the name of a file"));
    assert_eq!(
        report.warnings,
        [
            "LlamaIndex takes a__b__vector_store.json for the vector store \"a\", of which it \
             reads one only",
            "LlamaIndex takes c__d__vector_store.json for the vector store \"c\"",
        ]
    );
    assert_eq!(names(dir.path()), ["out"]);
    let written = names(&path);
    assert!(written.contains(&"a__b__vector_store.json".to_owned()), "{written:?}");
    assert!(written.iter().all(|name| !name.starts_with('.')), "{written:?}");
    // In memory there is no such limit.
    assert!(exported(&kv).files.contains_key("a/b__vector_store.json"));
}

/// Goal: an export into an earlier one leaves nothing of it that LlamaIndex would load, and
/// nothing else is touched; one that fails removes nothing.
#[test]
fn an_export_replaces_an_earlier_one() {
    let dir = tempfile::tempdir().unwrap();
    let stale = ["a__vector_store.json", "property_graph_store.json", "vector_store.json"];
    for name in stale.iter().chain(&["notes.txt", "docstore.json", "mine.json"]) {
        std::fs::write(dir.path().join(name), "old").unwrap();
    }
    std::fs::create_dir(dir.path().join("chat_store.json")).unwrap();
    let before = names(dir.path());
    let mut target = DirTarget::new(dir.path()).unwrap();
    drop(target.create("docstore.json").unwrap());
    assert_eq!(target.replace(&|name| name.contains("vector")).unwrap().len(), 2);
    drop(target);
    assert_eq!(names(dir.path()), before);
    let report = export_to(&memory(), dir.path());
    assert_eq!(report.removed, stale);
    let mut expected: Vec<String> = report.files.iter().map(|file| file.name.clone()).collect();
    expected.extend(["chat_store.json", "mine.json", "notes.txt"].map(str::to_owned));
    expected.sort();
    assert_eq!(names(dir.path()), expected);
    assert_ne!(std::fs::read(dir.path().join("docstore.json")).unwrap(), b"old");
    assert_eq!(export_to(&memory(), dir.path()).removed, [""; 0]);
}

#[test]
fn a_store_is_no_target() {
    let dir = tempfile::tempdir().unwrap();
    drop(LogKv::open(dir.path()).unwrap());
    for target in [dir.path().to_owned(), dir.path().join("below")] {
        let refused = DirTarget::new(&target).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput, "{refused}");
        assert!(refused.to_string().starts_with("there is a store or a backup in "), "{refused}");
    }
    assert!(!dir.path().join("below").exists());
}
