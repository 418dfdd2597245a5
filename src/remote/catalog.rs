//! The object `BACKUP`: what a backup consists of, as lines of text.
//!
//! ```text
//! siltstone backup 1
//! store 73696c7473746f6e652d746573747321
//! seqno 4711
//! manifest 53494c544d414e31...                the manifest file of the store, in hex
//! segment 1 67108864 <marks> <checksum>       number, length, checksums; one line each
//! checksum <of all lines before>
//! ```
//!
//! Checksums are xxh3 of 128 bits, 32 digits. *Marks* is the checksum of the few bytes that tell a
//! sealed segment from every other one, or `-` for the end of the log.

use xxhash_rust::xxh3::xxh3_128;

const TITLE: &str = "siltstone backup 1";

/// What a backup consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Catalog {
    pub(super) store: [u8; 16],
    pub(super) seqno: u64,
    pub(super) manifest: Vec<u8>,
    /// By number, growing.
    pub(super) segments: Vec<Entry>,
}

/// One segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) len: u64,
    /// `None` if the segment was not sealed.
    pub(super) marks: Option<u128>,
    pub(super) checksum: u128,
}

impl Entry {
    /// The name of the object with its bytes.
    pub(super) fn object_name(&self) -> String {
        format!("{:016}-{:032x}", self.id, self.checksum)
    }
}

/// True for what [`Entry::object_name`] makes.
pub(super) fn is_object_name(name: &str) -> bool {
    name.split_once('-').is_some_and(|(id, checksum)| {
        let is_id = id.len() == 16 && id.bytes().all(|c| c.is_ascii_digit());
        is_id && parse_sum(checksum).is_some()
    })
}

impl Catalog {
    pub(super) fn find(&self, id: u64) -> Option<&Entry> {
        let place = self.segments.binary_search_by_key(&id, |entry| entry.id).ok()?;
        self.segments.get(place)
    }

    pub(super) fn encode(&self) -> String {
        let mut text = format!("{TITLE}\nstore {}\nseqno {}\n", hex(&self.store), self.seqno);
        text += &format!("manifest {}\n", hex(&self.manifest));
        for Entry { id, len, marks, checksum } in &self.segments {
            let marks = marks.map_or_else(|| "-".to_owned(), |marks| format!("{marks:032x}"));
            text += &format!("segment {id} {len} {marks} {checksum:032x}\n");
        }
        let sum = xxh3_128(text.as_bytes());
        text + &format!("checksum {sum:032x}\n")
    }

    /// Reads what [`Catalog::encode`] wrote; else what is wrong with it.
    pub(super) fn decode(bytes: &[u8]) -> Result<Catalog, String> {
        let text = std::str::from_utf8(bytes).map_err(|_| "it is no text")?;
        let (body, last) = text
            .strip_suffix('\n')
            .and_then(|text| text.rfind('\n'))
            .and_then(|end| Some((text.get(..=end)?, text.get(end + 1..)?.trim_end())))
            .ok_or("it is cut off")?;
        if !body.starts_with(TITLE) {
            return Err("it is none of this version".to_owned());
        }
        let sum = last.strip_prefix("checksum ").and_then(parse_sum).ok_or("it is cut off")?;
        if xxh3_128(body.as_bytes()) != sum {
            return Err("its checksum does not match".to_owned());
        }
        let mut lines = body.lines().skip(1);
        let mut field = |name: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.ok_or_else(|| format!("it has no {name}"))
        };
        let store = unhex(field("store")?).and_then(|bytes| bytes.try_into().ok());
        let seqno = field("seqno")?.parse().map_err(|e| format!("seqno: {e}"))?;
        let manifest = unhex(field("manifest")?).ok_or("its manifest is no hex")?;
        let entries: Option<Vec<Entry>> = lines.map(parse_entry).collect();
        let segments = entries.ok_or("a line of a segment is wrong")?;
        if !segments.is_sorted_by(|a, b| a.id < b.id) {
            return Err("its segments are out of order".to_owned());
        }
        Ok(Catalog { store: store.ok_or("its store is no id")?, seqno, manifest, segments })
    }
}

fn parse_entry(line: &str) -> Option<Entry> {
    let mut words = line.strip_prefix("segment ")?.split(' ');
    let mut next = || words.next();
    let (id, len) = (next()?.parse().ok()?, next()?.parse().ok()?);
    let marks = match next()? {
        "-" => None,
        marks => Some(parse_sum(marks)?),
    };
    let checksum = parse_sum(next()?)?;
    next().is_none().then_some(Entry { id, len, marks, checksum })
}

fn parse_sum(text: &str) -> Option<u128> {
    // As it was written: no sign, no capitals.
    let is_plain = text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
    (text.len() == 32 && is_plain).then(|| u128::from_str_radix(text, 16).ok()).flatten()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog() -> Catalog {
        let entry =
            |id, marks| Entry { id, len: 1 << (id % 40), marks, checksum: u128::from(id) << 90 };
        Catalog {
            store: *b"siltstone-tests!",
            seqno: 4711,
            manifest: (0..=255).collect(),
            segments: vec![entry(1, Some(7)), entry(9, Some(u128::MAX)), entry(1 << 33 | 10, None)]
                .into_iter()
                .map(|e| Entry { len: e.len.max(3), ..e })
                .collect(),
        }
    }

    #[test]
    fn what_was_written_is_read_back() {
        let mut catalog = catalog();
        assert_eq!(Catalog::decode(catalog.encode().as_bytes()), Ok(catalog.clone()));
        catalog.segments.clear();
        catalog.manifest.clear();
        assert_eq!(Catalog::decode(catalog.encode().as_bytes()), Ok(catalog));
    }

    /// Goal: no damage goes unnoticed, and none panics.
    #[test]
    fn every_damage_is_noticed() {
        let bytes = catalog().encode().into_bytes();
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(Catalog::decode(&damaged).is_err(), "byte {at}, bit {bit}");
            }
            assert!(Catalog::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
