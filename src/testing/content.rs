//! The bytes of a simulated file: pages that are shared between copies until one is changed, so
//! that a million images of a disk cost little more than their differences.

use std::sync::Arc;

use xxhash_rust::xxh3::Xxh3Default;

/// Bytes of a page.
const PAGE_LEN: usize = 4096;

/// A file's bytes. Cloning copies references to pages. A page that is `None` is all zeros; bytes
/// of the last page beyond the length are zero.
#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: usize,
    pages: Vec<Option<Arc<[u8; PAGE_LEN]>>>,
}

impl Content {
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut content = Content::default();
        content.set_len(bytes.len());
        content.write(0, bytes);
        content
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Cuts the file, or extends it with zeros.
    pub(super) fn set_len(&mut self, len: usize) {
        if len < self.len {
            self.pages.truncate(len.div_ceil(PAGE_LEN));
            let used = len % PAGE_LEN;
            if used > 0
                && let Some(Some(last)) = self.pages.last_mut()
            {
                Arc::make_mut(last).iter_mut().skip(used).for_each(|byte| *byte = 0);
            }
        } else {
            self.pages.resize(len.div_ceil(PAGE_LEN), None);
        }
        self.len = len;
    }

    /// Overwrites bytes at `offset`; what lies beyond the length is dropped.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.update(offset, bytes.len(), |to, at| {
            to.copy_from_slice(bytes.get(at..at + to.len()).unwrap_or(&[]));
        });
    }

    /// Gives `change` each piece of `len` bytes at `offset`, with its place in those bytes.
    pub(super) fn update(
        &mut self,
        offset: usize,
        len: usize,
        mut change: impl FnMut(&mut [u8], usize),
    ) {
        let end = offset.saturating_add(len).min(self.len);
        let mut at = offset;
        while at < end {
            let (index, start) = (at / PAGE_LEN, at % PAGE_LEN);
            let stop = PAGE_LEN.min(start + end - at);
            let page = self.pages[index].get_or_insert_with(|| Arc::new([0; PAGE_LEN]));
            change(&mut Arc::make_mut(page)[start..stop], at - offset);
            at += stop - start;
        }
    }

    /// Copies bytes from `offset` into `buf`; returns how many there were.
    pub(super) fn read(&self, offset: usize, buf: &mut [u8]) -> usize {
        let end = offset.saturating_add(buf.len()).min(self.len);
        let mut at = offset;
        while at < end {
            let (index, start) = (at / PAGE_LEN, at % PAGE_LEN);
            let stop = PAGE_LEN.min(start + end - at);
            let to = &mut buf[at - offset..at - offset + stop - start];
            match &self.pages[index] {
                Some(page) => to.copy_from_slice(&page[start..stop]),
                None => to.fill(0),
            }
            at += stop - start;
        }
        end.saturating_sub(offset)
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        let mut bytes = vec![0; self.len];
        self.read(0, &mut bytes);
        bytes
    }

    /// Feeds the length and every page that is not all zeros to `hasher`.
    pub(super) fn hash_into(&self, hasher: &mut Xxh3Default) {
        hasher.update(&(self.len as u64).to_le_bytes());
        for (index, page) in self.pages.iter().enumerate() {
            let Some(page) = page else { continue };
            let used = &page[..PAGE_LEN.min(self.len - index * PAGE_LEN)];
            if used.iter().any(|byte| *byte != 0) {
                hasher.update(&(index as u64).to_le_bytes());
                hasher.update(used);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_behaves_like_a_vector() {
        let mut rng = super::super::rng::Rng::new(7);
        let (mut content, mut model) = (Content::default(), Vec::new());
        for _ in 0..2000 {
            if rng.percent(30) {
                let len = rng.below(3 * PAGE_LEN);
                content.set_len(len);
                model.resize(len, 0);
            } else {
                let offset = rng.below(3 * PAGE_LEN);
                let mut bytes = vec![0; rng.below(PAGE_LEN + 50)];
                rng.fill(&mut bytes);
                content.write(offset, &bytes);
                for (to, from) in model.iter_mut().skip(offset).zip(bytes) {
                    *to = from;
                }
            }
            assert_eq!(content.to_vec(), model);
        }
    }

    #[test]
    fn hash_does_not_see_how_zeros_are_kept() {
        let hash = |content: &Content| {
            let mut hasher = Xxh3Default::new();
            content.hash_into(&mut hasher);
            hasher.digest()
        };
        let mut sparse = Content::default();
        sparse.set_len(5000);
        let written = Content::from_bytes(&vec![0; 5000]);
        assert_eq!(hash(&sparse), hash(&written));
        sparse.write(4999, &[1]);
        assert_ne!(hash(&sparse), hash(&written));
    }
}
