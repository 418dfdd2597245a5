//! A directory that LlamaIndex persisted, where a store was expected.

use std::path::Path;

use super::files::FileNames;
use super::kinds::FileKind;
use crate::engine::{OpenError, Options, is_store_file};

/// Refuses `dir` if it holds files that LlamaIndex persisted and no store. A store opened there
/// would be a new one, empty, among the files that were meant.
///
/// # Errors
///
/// [`OpenError::NoStore`], which says how the files become a store. What keeps the directory from
/// being listed is left for the open to tell.
pub(crate) fn refuse_persisted(dir: &Path, options: &Options) -> Result<(), OpenError> {
    let Ok(mut names) = options.file_system().list(dir) else { return Ok(()) };
    if names.iter().any(|name| is_store_file(name)) {
        return Ok(());
    }
    names.sort();
    let known = FileNames::default();
    let found = names.iter().find(|name| FileKind::of_name(name, &known).is_some());
    let Some(file) = found else { return Ok(()) };
    let what = format!(
        "{} is there, as LlamaIndex persists it; to make a store of these files run `siltstone \
         import {} --store NEW`, or call StorageContext::import, with another directory for the \
         store",
        file.escape_debug(),
        dir.display()
    );
    Err(OpenError::NoStore { dir: dir.to_owned(), what })
}
