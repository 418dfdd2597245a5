//! The files beside the segments: the manifest and the checkpoint.

use std::io::ErrorKind;

use super::{Checker, Stop};
use crate::engine::core::Core;
use crate::engine::error::{Corruption, OpenError, ReadError};
use crate::engine::manifest;
use crate::engine::recovery::{RecoveryReport, judge_unlisted};
use crate::format::{checkpoint, manifest as layout};

impl Checker<'_> {
    /// Verifies the manifest and the checkpoint.
    pub(super) fn check_files(&mut self) -> Result<(), Stop> {
        if let Some(damage) = self.core.check_manifest()? {
            self.report.defect(damage.into());
        }
        if let Some(damage) = self.core.check_unlisted()? {
            self.report.defect(damage.into());
        }
        let core = self.core;
        if let Some((offset, what)) = core.verify_checkpoint(|len| self.advance(len))? {
            let what = format!(
                "{what}; no record is lost by it: the next open builds the index from the log"
            );
            let file = core.dir.join(checkpoint::FILE_NAME);
            self.report.defect(Corruption { file, offset, what }.into());
        }
        Ok(())
    }
}

impl Core {
    /// What is wrong with the manifest's file. Whoever writes the store also knows what must stand
    /// in it; beside another writer its last edit may be one that is just being written.
    fn check_manifest(&self) -> Result<Option<Corruption>, ReadError> {
        let found = self.read_manifest()?;
        if found.is_none() || !self.options.read_only {
            return Ok(found);
        }
        // A writer may have been at work while it was read: damage is there the second time too.
        self.read_manifest()
    }

    /// What is wrong with a segment file that the manifest does not list: the next writer would be
    /// refused.
    fn check_unlisted(&self) -> Result<Option<Corruption>, ReadError> {
        let Some(found) = self.judge_unlisted()? else { return Ok(None) };
        // A writer may just have made it: by now it is listed.
        let again = self.judge_unlisted()?;
        Ok(again.filter(|again| again.file == found.file))
    }

    fn judge_unlisted(&self) -> Result<Option<Corruption>, ReadError> {
        let vfs = &*self.options.vfs;
        // What is wrong with the manifest itself was said above.
        let Ok(Some(read)) = manifest::read(vfs, &self.dir) else { return Ok(None) };
        let mut report = RecoveryReport::default();
        match judge_unlisted(vfs, &self.dir, &read.store, &read.state, &mut report) {
            Ok(_) => Ok(None),
            Err(OpenError::Corrupt(place)) => Ok(Some(place)),
            // Removed meanwhile.
            Err(OpenError::Io(e)) if e.source.kind() == ErrorKind::NotFound => Ok(None),
            Err(OpenError::Io(e)) => Err(e.into()),
            Err(_) => Ok(None),
        }
    }

    fn read_manifest(&self) -> Result<Option<Corruption>, ReadError> {
        // Edits are appended with this lock held.
        let known = self.manifest.lock();
        let damage = |offset, what: &str| {
            let file = self.dir.join(layout::FILE_NAME);
            Ok(Some(Corruption { file, offset, what: what.to_owned() }))
        };
        let found = match manifest::read(&*self.options.vfs, &self.dir) {
            Ok(Some(found)) => found,
            Ok(None) => return damage(0, "the manifest is not there"),
            Err(OpenError::Corrupt(place)) => return Ok(Some(place)),
            Err(OpenError::Io(e)) => return Err(e.into()),
            Err(e) => return damage(0, &e.to_string()),
        };
        let is_as_written = !found.torn && found.state == known.state;
        drop(known);
        if let Some(at) = found.padding {
            return damage(at, layout::PADDING);
        }
        // After a failed sync nobody can say what is there, and after the close anybody may write.
        let is_known = self.check_writable().is_ok() && !self.log.lock().is_closed;
        if is_as_written || !is_known {
            return Ok(None);
        }
        let what = "the manifest's last edits are damaged: what is open is whole, and the next \
                    open may find it as it was before them";
        damage(found.end, what)
    }
}
