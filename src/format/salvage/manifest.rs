//! What can be told of a damaged manifest: every edit that is whole, wherever it stands.
//!
//! The sum of some of the edits is not the state: a segment may be listed that was removed, or not
//! be listed. Whoever uses it looks at the files as well.

use std::collections::BTreeSet;

use super::super::bytes::{array_at, u32_at};
use super::super::checksum;
use super::super::manifest::{
    Edit, MANIFEST_HEADER_LEN, Manifest, ManifestError, PADDING, SegmentState, State, decode,
    edit_at,
};
use super::super::segment::StoreId;

/// Edits are looked for behind damage up to this length, in bytes; see [`decode`].
const SEARCHED_LEN_MAX: usize = 1024;

/// A manifest, whole or not.
#[derive(Debug, Default)]
pub(crate) struct FoundManifest {
    /// Salt of the edits.
    pub salt: u32,
    /// The store's id, if the header is right.
    pub store: Option<StoreId>,
    /// What the edits that are whole add up to.
    pub state: State,
    /// Ids of segments that an edit took out of the store.
    pub removed: BTreeSet<u64>,
    /// What is wrong, and where.
    pub wrong: Vec<(u64, String)>,
    /// One bit was wrong and is put right: the state is the one that was written.
    pub is_mended: bool,
    /// The only thing wrong is that the last edit is not whole, as a power cut leaves it.
    pub is_torn: bool,
}

/// Reads a manifest as far as it can be read.
///
/// # Errors
///
/// The format's version, if this program does not read it.
pub(crate) fn read_manifest(bytes: &[u8]) -> Result<FoundManifest, (u16, u16)> {
    match decode(bytes) {
        Ok(Manifest { store, state, torn: false, padding, .. }) => {
            let store = Some(store);
            let wrong: Vec<_> = padding.map(|at| (at, PADDING.to_owned())).into_iter().collect();
            let is_mended = !wrong.is_empty();
            Ok(FoundManifest { store, state, wrong, is_mended, ..Default::default() })
        }
        Ok(Manifest { store, state, end, salt, .. }) => {
            if let Some(mended) = mended(bytes, salt, end) {
                return Ok(mended);
            }
            let wrong = vec![(end, "the last edit is not whole".to_owned())];
            let store = Some(store);
            Ok(FoundManifest { store, state, wrong, is_torn: true, ..Default::default() })
        }
        Err(ManifestError::Version(major, minor)) => Err((major, minor)),
        Err(ManifestError::Corrupt(..)) => {
            let found = gather(bytes);
            let first = found.wrong.first().map_or(0, |(at, _)| *at);
            Ok(mended(bytes, found.salt, first).unwrap_or(found))
        }
    }
}

/// The manifest with one bit of the edit at `at` put right, if that makes all of it right.
fn mended(bytes: &[u8], salt: u32, at: u64) -> Option<FoundManifest> {
    let start = usize::try_from(at).ok()?;
    let is_header = start < MANIFEST_HEADER_LEN;
    let reach = if is_header { MANIFEST_HEADER_LEN } else { start + SEARCHED_LEN_MAX };
    let end = reach.min(bytes.len());
    let mut bytes = bytes.to_vec();
    let looks_right = |bytes: &[u8]| match is_header {
        true => {
            let signed = bytes.get(..MANIFEST_HEADER_LEN - 4).unwrap_or(&[]);
            checksum::plain(signed) == u32_at(bytes, MANIFEST_HEADER_LEN - 4)
        }
        false => edit_at(bytes.get(..end).unwrap_or(bytes), salt, start).is_some(),
    };
    for place in start..end {
        for bit in 0..8 {
            put_bit(&mut bytes, place, bit);
            let read = if looks_right(&bytes) { decode(&bytes).ok() } else { None };
            if let Some(Manifest { store, state, torn: false, .. }) = read {
                let wrong =
                    vec![(place as u64, "one bit is wrong, it can be put right".to_owned())];
                let store = Some(store);
                let found = FoundManifest { store, state, wrong, ..Default::default() };
                return Some(FoundManifest { is_mended: true, ..found });
            }
            put_bit(&mut bytes, place, bit);
        }
    }
    None
}

/// Flips a bit.
fn put_bit(bytes: &mut [u8], place: usize, bit: u32) {
    if let Some(byte) = bytes.get_mut(place) {
        *byte ^= 1 << bit;
    }
}

/// Adds up the edits that are whole.
fn gather(bytes: &[u8]) -> FoundManifest {
    let signed = bytes.get(..MANIFEST_HEADER_LEN - 4).unwrap_or(bytes);
    let (computed, stored) = (checksum::plain(signed), u32_at(bytes, MANIFEST_HEADER_LEN - 4));
    let is_right = computed == stored && bytes.len() >= MANIFEST_HEADER_LEN;
    let salts = [Some(computed), Some(stored), first_salt(bytes)];
    let count = |salt: &u32| edits(bytes, *salt).filter(|(.., edit)| edit.is_ok()).count();
    let salt = salts.into_iter().flatten().max_by_key(count).unwrap_or(stored);
    let mut found = FoundManifest { salt, state: State::new(), ..Default::default() };
    if is_right {
        found.store = array_at(bytes, 16);
    } else {
        found.wrong.push((0, "manifest header is damaged".to_owned()));
    }
    let mut end = MANIFEST_HEADER_LEN.min(bytes.len());
    for (at, len, edit) in edits(bytes, salt) {
        if at > end {
            found.wrong.push((end as u64, "damaged edit".to_owned()));
        }
        end = at + len;
        match edit {
            Ok(edit) => found.apply(at as u64, &edit),
            Err(what) => found.wrong.push((at as u64, what)),
        }
    }
    if end == MANIFEST_HEADER_LEN || bytes.get(end..).is_some_and(|b| b.iter().any(|b| *b != 0)) {
        found.wrong.push((end as u64, "damaged edit".to_owned()));
    }
    found
}

/// The salt under which the first edit is right, whatever the header says.
fn first_salt(bytes: &[u8]) -> Option<u32> {
    let rest = bytes.get(MANIFEST_HEADER_LEN..)?;
    let len = u32_at(rest, 0);
    let payload = rest.get(8..)?.get(..usize::try_from(len).ok()?)?;
    let at = MANIFEST_HEADER_LEN as u64;
    Some(checksum::salt_of(u32_at(rest, 4), at, payload).wrapping_sub(len))
}

/// The edits that are whole: offset, length in the file, edit.
fn edits(
    bytes: &[u8],
    salt: u32,
) -> impl Iterator<Item = (usize, usize, Result<Edit, String>)> + '_ {
    let mut at = MANIFEST_HEADER_LEN;
    let mut is_searching = false;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let reach = if is_searching { at + SEARCHED_LEN_MAX } else { bytes.len() };
            let found = edit_at(bytes.get(..reach.min(bytes.len()))?, salt, at);
            if let Some((edit, len)) = found {
                is_searching = false;
                let here = at;
                at += len;
                return Some((here, len, edit));
            }
            is_searching = true;
            at += 8;
        }
        None
    })
}

impl FoundManifest {
    fn apply(&mut self, at: u64, edit: &Edit) {
        let named = match edit {
            Edit::Remove { ids } | Edit::Compact { removed: ids, .. } => {
                self.removed.extend(ids);
                None
            }
            Edit::Resize { id, .. } | Edit::Seal { id, .. } => Some(*id),
            Edit::Close { active, .. } => active.map(|(id, _)| id),
            _ => None,
        };
        // The edit that added it may be one of those that are lost.
        if let Some(id) = named
            && let Err(place) = self.state.segments.binary_search_by_key(&id, |s| s.id)
        {
            self.state.segments.insert(place, SegmentState { id, len: 0, seal: None });
            self.state.next_segment = self.state.next_segment.max(id.saturating_add(1));
        }
        if let Edit::Compact { added, removed, watermark } = edit {
            // Its inputs may look as if they were not sealed.
            self.state.segments.retain(|s| !removed.contains(&s.id));
            let edit =
                Edit::Compact { added: added.clone(), removed: Vec::new(), watermark: *watermark };
            if let Err(what) = self.state.apply(&edit) {
                self.wrong.push((at, what));
            }
        } else if let Err(what) = self.state.apply(edit) {
            self.wrong.push((at, what));
        }
    }
}
