//! [`ImportReport`]: what an import took, and what it did not.

/// Problems of a file that a report lists; others are counted.
const LISTED_MAX: usize = 100;

/// What an import took, and what it did not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportReport {
    /// The files, by name.
    pub files: Vec<FileReport>,
    /// Files that were not read: those that LlamaIndex does not write, as far as can be told.
    pub ignored: Vec<Ignored>,
}

impl ImportReport {
    /// How many records were taken.
    pub fn records(&self) -> u64 {
        self.files.iter().map(|file| file.records).sum()
    }

    /// True if there was no problem: always, unless it was a salvage.
    pub fn is_whole(&self) -> bool {
        self.files.iter().all(|file| file.problems.count == 0)
    }
}

/// A file that was not read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ignored {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What was taken of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileReport {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: &'static str,
    /// Its length in bytes.
    pub len: u64,
    /// How many records were taken.
    pub records: u64,
    /// What is wrong with the file and was not taken: a salvage has these, and nothing else.
    pub problems: Listed,
    /// How many bytes at the end could not be read.
    pub unread: u64,
    /// What was not taken since no store has a place for it: LlamaIndex does not read it either.
    pub left_out: Listed,
}

impl FileReport {
    pub(super) fn new(name: String, kind: &'static str, len: u64) -> Self {
        FileReport {
            name,
            kind,
            len,
            records: 0,
            problems: Listed::default(),
            unread: 0,
            left_out: Listed::default(),
        }
    }
}

/// Places of a file: the first hundred, and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Listed {
    /// The first hundred.
    pub first: Vec<Problem>,
    /// How many there are.
    pub count: u64,
}

impl Listed {
    pub(super) fn add(&mut self, byte: u64, what: String) {
        self.count += 1;
        if self.first.len() < LISTED_MAX {
            self.first.push(Problem { byte, what });
        }
    }

    /// How many are not listed.
    pub fn others(&self) -> u64 {
        self.count - self.first.len() as u64
    }
}

/// Something that was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, in bytes.
    pub byte: u64,
    /// What it is, or what is wrong with it.
    pub what: String,
}
