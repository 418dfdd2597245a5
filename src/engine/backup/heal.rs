//! What became of a backup since its files were brought.

use std::path::Path;

use super::bring::copy;
use super::frozen::{Frozen, FrozenSegment};
use super::target::Target;
use super::{BackupError, BackupOptions, BackupReport};
use crate::engine::core::Core;
use crate::engine::manifest;
use crate::format::segment::file_name;
use crate::vfs::IoError;

impl Core {
    /// Verifies the finished backup in `dir`. What it holds of what was `frozen`, and what is
    /// damaged there and whole here, is copied again.
    ///
    /// A power cut leaves each file as it was, or as it is here: the manifest stays the same.
    pub(super) fn verify_and_heal(
        &self,
        dir: &Path,
        frozen: &Frozen,
        options: &BackupOptions,
        report: &mut BackupReport,
    ) -> Result<(), BackupError> {
        let found = match self.verify_backup(dir, options) {
            Err(e @ (BackupError::Damaged(_) | BackupError::Target(_))) => e,
            verified => return verified,
        };
        let target = Target::lock(&*self.options.vfs, dir, &self.store_id)?;
        let is_healed = target.heal(frozen, report)?;
        drop(target);
        if is_healed { self.verify_backup(dir, options) } else { Err(found) }
    }
}

impl Target<'_> {
    /// Copies again what is not the same there; false if there is nothing.
    fn heal(&self, frozen: &Frozen, report: &mut BackupReport) -> Result<bool, BackupError> {
        let Some(there) = manifest::read(self.vfs, self.dir)? else { return Ok(false) };
        let mut is_healed = false;
        for segment in &frozen.segments {
            // The end of a snapshot's backup is its own.
            let is_listed = there.state.segments.iter().any(|listed| {
                let is_as_long = listed.seal.is_some() || listed.len == segment.len;
                listed.id == segment.id() && listed.seal == segment.seal && is_as_long
            });
            if !is_listed || self.holds(segment)? {
                continue;
            }
            match segment.verify() {
                Ok(()) => {}
                // What is there may be the better one.
                Err(BackupError::Damaged(_)) => continue,
                Err(e) => return Err(e),
            }
            copy(self.vfs, segment, &self.dir.join(file_name(segment.id())), &mut |_| {})?;
            is_healed = true;
            report.heal(segment.len);
        }
        self.vfs.sync_dir(self.dir).map_err(|e| IoError::new("sync directory", self.dir, e))?;
        Ok(is_healed)
    }

    /// True if the file in the target has the same bytes as the segment.
    fn holds(&self, segment: &FrozenSegment) -> Result<bool, BackupError> {
        let id = segment.id();
        let Some(found) = self.open(&self.dir.join(file_name(id)))? else { return Ok(false) };
        Ok(self.len_of(&*found, id)? == segment.len
            && self.starts_alike(&*found, &segment.segment, segment.len)?)
    }
}
