//! Backups in object stores (feature `object-store`): directories (`file://`), memory
//! (`memory://`), and every store that the crate `object_store` reaches: a program that turns on
//! its features `aws`, `gcp` or `azure` has `s3://`, `gs://` and `az://` by the same calls.
//!
//! # What is in the store
//!
//! Under the prefix of the backup:
//!
//! | object | holds |
//! |---|---|
//! | `segments/<number>-<checksum>` | the bytes of one segment; never written again |
//! | `BACKUP` | which segments the backup has, their lengths and checksums, and its manifest |
//!
//! `BACKUP` is written last, and stores replace an object as a whole: whoever looks finds the
//! earlier backup or the new one. Segments are named by what is in them, so the objects of the two
//! do not meet; those that `BACKUP` does not name are removed after it was written. An upload that
//! was interrupted leaves such objects, and the next one finds them and goes on behind them.
//!
//! A sealed segment that the earlier backup names is not even read: its header, its end and its
//! length tell that it is the same. Everything that is brought back is verified against its
//! length and checksum before it gets its name, and a restored store can be verified with
//! [`Db::check`].
//!
//! Two backups must not be written to one prefix at the same time: nothing keeps them apart.
//!
//! # Runtime
//!
//! Calls block, and can be made from anywhere, also within an asynchronous program: each runs its
//! requests on a thread of its own, with a small runtime that ends with it.

mod catalog;
mod download;
mod error;
mod upload;
mod verify;

use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreScheme};
use url::Url;

pub use error::RemoteError;

use crate::engine::{BackupOptions, BackupReport, Db};

/// Bytes that are moved in one request. Stores take no smaller parts than 5 MiB.
const PART_LEN: u64 = 8 << 20;

/// A place in an object store that holds a backup, or will.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let temp = tempfile::tempdir()?;
/// use siltstone::remote::Remote;
/// use siltstone::{BackupOptions, Db};
///
/// let db = Db::open(temp.path().join("store"))?;
/// db.put("nodes", b"n1", b"some text")?;
/// # let url = format!("file://{}/backups", temp.path().display());
/// let remote = Remote::open(&url)?; // or "s3://bucket/prefix"
/// remote.backup(&db, BackupOptions::new())?;
///
/// let restored = temp.path().join("restored");
/// remote.restore(&restored, BackupOptions::new())?;
/// assert_eq!(&*Db::open(&restored)?.get("nodes", b"n1")?.unwrap(), b"some text");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The directory that it is, if it is one.
    dir: Option<PathBuf>,
}

/// How to build a program that speaks to this cloud.
fn cloud_hint<T, E>(scheme: &Result<(ObjectStoreScheme, T), E>) -> &'static str {
    use ObjectStoreScheme::{AmazonS3, GoogleCloudStorage, MicrosoftAzure};
    match scheme {
        Ok((AmazonS3, _)) => "; S3 needs a build with --features object-store,object_store/aws",
        Ok((GoogleCloudStorage, _)) => {
            "; Google Cloud needs a build with --features object-store,object_store/gcp"
        }
        Ok((MicrosoftAzure, _)) => {
            "; Azure needs a build with --features object-store,object_store/azure"
        }
        _ => "",
    }
}

impl Remote {
    /// The place that `url` names. Nothing is asked of the store yet.
    ///
    /// The credentials and settings of clouds come from the environment, under the names that
    /// `object_store` documents: `AWS_ACCESS_KEY_ID`, `AWS_REGION`, `AWS_ENDPOINT`,
    /// `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME` and so on.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Url`], also for a scheme that this build does not speak.
    pub fn open(url: &str) -> Result<Remote, RemoteError> {
        let refused = |what: String| RemoteError::Url { url: url.to_owned(), what };
        let parsed = Url::parse(url).map_err(|e| refused(e.to_string()))?;
        let scheme = ObjectStoreScheme::parse(&parsed);
        if let Ok((ObjectStoreScheme::Local, path)) = scheme {
            // What was acknowledged is to survive a power cut here as it does elsewhere.
            let store = LocalFileSystem::new().with_fsync(true);
            let dir = parsed.to_file_path().ok();
            return Ok(Remote { store: Arc::new(store), prefix: path, dir });
        }
        let settings = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?.to_ascii_lowercase();
            let is_ours = ["aws_", "google_", "azure_"].iter().any(|p| name.starts_with(p));
            Some((name, value.into_string().ok()?)).filter(|_| is_ours)
        });
        let opened = object_store::parse_url_opts(&parsed, settings);
        let (store, prefix) = opened.map_err(|e| {
            let what = e.to_string();
            let is_built = !what.contains("not enabled");
            refused(what + if is_built { "" } else { cloud_hint(&scheme) })
        })?;
        Ok(Remote { store: Arc::from(store), prefix, dir: None })
    }

    /// A place in a store that was set up by other means.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Url`] if `prefix` is no path of an object store.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<Remote, RemoteError> {
        let prefix = Path::parse(prefix)
            .map_err(|e| RemoteError::Url { url: prefix.to_owned(), what: e.to_string() })?;
        Ok(Remote { store, prefix, dir: None })
    }

    /// Backs up the store as of now, while it is used. Moves what the earlier backup here does not
    /// have. In the report, segments that were uploaded count as copied. An upload that was
    /// interrupted goes on where it stopped when it is made again.
    ///
    /// # Errors
    ///
    /// See [`RemoteError`]: until the call has returned `Ok`, the earlier backup stands, or this
    /// one is there whole, if it is not found damaged when it is verified. A place that holds no
    /// backup must be empty.
    pub fn backup(&self, db: &Db, options: BackupOptions) -> Result<BackupReport, RemoteError> {
        if let Some(dir) = &self.dir {
            db.refuse_within(dir)?;
        }
        let frozen = db.freeze()?;
        self.run(|| upload::upload(self, &frozen, &options))
    }

    /// As [`Remote::backup`], of the durable snapshot `id`: what is restored from it opens with the
    /// state of that snapshot. The sequence number in the report is the snapshot's. Needs memory
    /// for the end of the log and for what was changed since the snapshot.
    ///
    /// The place must be new: each snapshot's backup has one of its own, and what this leaves there
    /// goes its own way, and is no place for another backup of the store.
    ///
    /// # Errors
    ///
    /// As [`Remote::backup`], and [`BackupError::Snapshot`](crate::BackupError::Snapshot).
    pub fn backup_snapshot(
        &self,
        db: &Db,
        id: u64,
        options: BackupOptions,
    ) -> Result<BackupReport, RemoteError> {
        if let Some(dir) = &self.dir {
            db.refuse_within(dir)?;
        }
        let staged = db.stage_snapshot(id)?;
        let mut report = self.run(|| upload::upload_first(self, &staged.frozen, &options))?;
        report.seqno = staged.seqno;
        Ok(report)
    }

    /// Makes a store in `dir` out of the backup; each segment is verified as it comes. There may be
    /// none yet; what an interrupted call has left there is used. In the report, segments that were
    /// downloaded count as copied.
    ///
    /// # Errors
    ///
    /// See [`RemoteError`]. There is no store in `dir` then.
    pub fn restore(
        &self,
        dir: impl AsRef<FilePath>,
        options: BackupOptions,
    ) -> Result<BackupReport, RemoteError> {
        let dir = dir.as_ref();
        self.run(|| download::download(self, dir, &options))
    }

    /// Runs what `make` makes, and names what is in a directory by its whole path.
    fn run<T: Send, F: Future<Output = Result<T, RemoteError>>>(
        &self,
        make: impl FnOnce() -> F + Send,
    ) -> Result<T, RemoteError> {
        run(make).map_err(|e| if self.dir.is_some() { e.with_root() } else { e })
    }

    fn catalog_path(&self) -> Path {
        self.prefix.clone().join("BACKUP")
    }

    fn segments_path(&self) -> Path {
        self.prefix.clone().join("segments")
    }
}

/// Runs what `make` makes on a thread of its own, where no other runtime can be in the way.
fn run<T: Send, F: Future<Output = Result<T, RemoteError>>>(
    make: impl FnOnce() -> F + Send,
) -> Result<T, RemoteError> {
    let failed = |source| RemoteError::Runtime { source: Arc::new(source) };
    std::thread::scope(|scope| {
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(failed)?.block_on(make())
        };
        let thread = std::thread::Builder::new().name("siltstone-remote".to_owned());
        let thread = thread.spawn_scoped(scope, work).map_err(failed)?;
        thread.join().unwrap_or_else(|e| std::panic::resume_unwind(e))
    })
}
