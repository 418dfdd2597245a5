//! What a power cut leaves: keeps account of durable and pending operations, and builds the image
//! of the disk for a choice of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use super::content::Content;
use super::disk::{FileId, Image, Name, Op, Places};
use super::rng::Rng;

/// A set of free operations, by their place in [`Walk::free`].
#[derive(Clone, Debug)]
pub(super) struct Mask(Vec<u64>);

impl Mask {
    pub(super) fn none(len: usize) -> Self {
        Mask(vec![0; len.div_ceil(64)])
    }

    /// Those whose bits are set, for a `len` of at most 64.
    pub(super) fn from_bits(len: usize, bits: u64) -> Self {
        Mask(vec![bits; len.div_ceil(64)])
    }

    /// The first `count` of `len`.
    pub(super) fn prefix(len: usize, count: usize) -> Self {
        (0..count).fold(Self::none(len), Self::with)
    }

    pub(super) fn with(mut self, slot: usize) -> Self {
        self.0[slot / 64] |= 1 << (slot % 64);
        self
    }

    pub(super) fn without(mut self, slot: usize) -> Self {
        self.0[slot / 64] &= !(1 << (slot % 64));
        self
    }

    pub(super) fn has(&self, slot: usize) -> bool {
        self.0[slot / 64] & 1 << (slot % 64) != 0
    }

    pub(super) fn random(len: usize, rng: &mut Rng) -> Self {
        // Three densities: mostly lost, half and half, mostly kept.
        let percent = [15, 50, 85][rng.below(3)];
        (0..len)
            .fold(Self::none(len), |mask, i| if rng.percent(percent) { mask.with(i) } else { mask })
    }
}

/// Which free operations survive.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) kept: Mask,
    pub(super) tear: Option<Tear>,
}

/// A write of which only a part survives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tear {
    pub(super) slot: usize,
    pub(super) at: usize,
    pub(super) rest: Rest,
}

/// What stands where a torn write is missing.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rest {
    Old,
    Zeros,
    Noise,
    /// The end arrived, and the front is what it was.
    FrontOld,
}

/// What is durable, and what is not yet, after some operations.
#[derive(Debug)]
pub(super) struct Walk {
    tree: Tree,
    files: Vec<WalkFile>,
    /// Operations on names that are not durable yet, oldest first.
    pending: Vec<Pending>,
    /// All operations that a power cut may lose, oldest first.
    free: Vec<usize>,
}

/// Names and what they stand for.
#[derive(Clone, Debug, Default)]
struct Tree {
    names: BTreeMap<Name, FileId>,
    dirs: BTreeSet<Name>,
}

#[derive(Debug, Default)]
struct WalkFile {
    durable: Arc<Content>,
    pending: Vec<Pending>,
}

/// An operation that is not part of the durable state (yet).
#[derive(Debug)]
struct Pending {
    op: usize,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The next good sync makes it durable.
    Open,
    /// A sync failed: may be on the disk or not, for good.
    Doomed,
    /// Durable, but done after a doomed one that lies below it.
    Fixed,
}

impl Walk {
    pub(super) fn new(base: &Image) -> Self {
        let tree = Tree { names: BTreeMap::new(), dirs: base.dirs.clone() };
        let mut walk = Walk { tree, files: Vec::new(), pending: Vec::new(), free: Vec::new() };
        let mut places = Places::default();
        for (name, content) in &base.files {
            let file = places.of(content, walk.files.len());
            walk.tree.names.insert(Arc::clone(name), file);
            if file == walk.files.len() {
                walk.files.push(WalkFile { durable: Arc::clone(content), pending: Vec::new() });
            }
        }
        walk
    }

    /// The operations that may be lost now, by their number, oldest first.
    pub(super) fn free(&self) -> &[usize] {
        &self.free
    }

    /// Does operation `number` of `ops`.
    pub(super) fn step(&mut self, number: usize, ops: &[Op]) {
        let pending = Pending { op: number, fate: Fate::Open };
        match &ops[number] {
            Op::Write { file, .. } | Op::SetLen { file, .. } => {
                self.files[*file].pending.push(pending);
                self.free.push(number);
            }
            op @ (Op::Create { .. }
            | Op::Link { .. }
            | Op::Rename { .. }
            | Op::Remove { .. }
            | Op::MakeDir { .. }) => {
                if let Op::Create { file, .. } = op {
                    self.files.resize_with(self.files.len().max(file + 1), WalkFile::default);
                }
                self.pending.push(pending);
                self.free.push(number);
            }
            Op::SyncFile { file, done } => {
                let WalkFile { durable, pending } = &mut self.files[*file];
                settle(
                    pending,
                    *done,
                    |_| true,
                    |op| {
                        apply(Arc::make_mut(durable), &ops[op], None, Reach::Extends);
                    },
                );
                self.list_free();
            }
            Op::SyncDir { name, done } => {
                let dir = Path::new(name);
                let tree = &mut self.tree;
                let concerned = |op: usize| parent_of(&ops[op]) == Some(dir);
                settle(&mut self.pending, *done, concerned, |op| tree.apply(&ops[op]));
                self.list_free();
            }
            Op::Mark => {}
        }
    }

    fn list_free(&mut self) {
        let of_files = self.files.iter().flat_map(|file| &file.pending);
        let free = of_files.chain(&self.pending).filter(|p| p.fate != Fate::Fixed).map(|p| p.op);
        self.free = free.collect();
        self.free.sort_unstable();
    }

    /// The disk after a power cut now, of which `choice` survives.
    pub(super) fn image(&self, ops: &[Op], choice: &Choice) -> Image {
        let survives = |pending: &Pending| match self.free.binary_search(&pending.op) {
            Ok(slot) => choice.kept.has(slot),
            Err(_) => true,
        };
        let mut tree = self.tree.clone();
        for pending in self.pending.iter().filter(|p| survives(p)) {
            tree.apply(&ops[pending.op]);
        }
        if self.pending.iter().any(|p| matches!(ops[p.op], Op::MakeDir { .. })) {
            tree.drop_unreachable();
        }
        let torn = choice.tear.and_then(|tear| Some((*self.free.get(tear.slot)?, tear)));
        let mut image = Image { files: BTreeMap::new(), dirs: tree.dirs };
        let mut built: BTreeMap<FileId, Arc<Content>> = BTreeMap::new();
        for (name, file) in tree.names {
            if let Some(content) = built.get(&file) {
                image.files.insert(name, Arc::clone(content));
                continue;
            }
            let WalkFile { durable, pending } = &self.files[file];
            let mut content = Arc::clone(durable);
            for pending in pending.iter().filter(|p| survives(p)) {
                let tear = torn.and_then(|(op, tear)| (op == pending.op).then_some(tear));
                let reach =
                    if pending.fate == Fate::Fixed { Reach::Extends } else { Reach::Clipped };
                apply(Arc::make_mut(&mut content), &ops[pending.op], tear, reach);
            }
            built.insert(file, Arc::clone(&content));
            image.files.insert(name, content);
        }
        image
    }
}

impl Tree {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Create { name, file } | Op::Link { name, file } => {
                self.names.insert(Arc::clone(name), *file);
            }
            Op::Rename { from, to, file } => {
                if self.names.get(from) == Some(file) {
                    self.names.remove(from);
                }
                self.names.insert(Arc::clone(to), *file);
            }
            Op::Remove { name } => {
                self.names.remove(name);
            }
            Op::MakeDir { name } => {
                self.dirs.insert(Arc::clone(name));
            }
            _ => {}
        }
    }

    /// Drops what stands in a directory that is not there.
    fn drop_unreachable(&mut self) {
        let dirs = self.dirs.clone();
        let reachable = |name: &Name| {
            let above = Path::new(name).ancestors().skip(1);
            above.take_while(|dir| dir.parent().is_some()).all(|dir| dirs.contains(dir.as_os_str()))
        };
        self.dirs.retain(reachable);
        self.names.retain(|name, _| reachable(name));
    }
}

/// The directory whose sync makes an operation on names durable.
fn parent_of(op: &Op) -> Option<&Path> {
    match op {
        Op::Create { name, .. }
        | Op::Link { name, .. }
        | Op::Remove { name }
        | Op::MakeDir { name } => Path::new(name).parent(),
        Op::Rename { to, .. } => Path::new(to).parent(),
        _ => None,
    }
}

/// A sync: good, it makes the pending operations that it concerns durable; failed, it settles
/// that they never will be for sure.
fn settle(
    pending: &mut Vec<Pending>,
    done: bool,
    concerned: impl Fn(usize) -> bool,
    mut make_durable: impl FnMut(usize),
) {
    if !done {
        for p in pending.iter_mut().filter(|p| p.fate == Fate::Open && concerned(p.op)) {
            p.fate = Fate::Doomed;
        }
        return;
    }
    let doomed = pending.iter().any(|p| p.fate == Fate::Doomed);
    pending.retain_mut(|p| {
        if p.fate != Fate::Open || !concerned(p.op) {
            return true;
        }
        if doomed {
            p.fate = Fate::Fixed;
        } else {
            make_durable(p.op);
        }
        doomed
    });
}

/// Whether a write past the end of the file makes it longer. The bytes of a write whose new length
/// was lost cannot be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Extends,
    Clipped,
}

/// Does an operation on a file's bytes, as far as it survived.
fn apply(content: &mut Content, op: &Op, tear: Option<Tear>, reach: Reach) {
    let (offset, bytes) = match op {
        Op::SetLen { len, .. } => return content.set_len(*len),
        Op::Write { offset, bytes, .. } => (*offset, bytes),
        _ => return,
    };
    let end = offset + bytes.len();
    if reach == Reach::Extends && end > content.len() {
        content.set_len(end);
    }
    let Some(Tear { at, rest, .. }) = tear else {
        return content.write(offset, bytes);
    };
    let (front, back) = bytes.split_at(at.min(bytes.len()));
    if let Rest::FrontOld = rest {
        return content.write(offset + front.len(), back);
    }
    content.write(offset, front);
    content.update(offset + front.len(), back.len(), |to, _| match rest {
        Rest::Zeros => to.fill(0),
        Rest::Noise => Rng::new((offset + at) as u64).fill(to),
        Rest::Old | Rest::FrontOld => {}
    });
}
