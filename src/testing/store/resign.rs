//! Makes the checksums of a changed store right, so that tests reach what lies behind them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::format::bytes::{align8, put_at, u16_at, u32_at, u64_at};
use crate::format::checksum;
use crate::format::manifest::{FILE_NAME, MANIFEST_HEADER_LEN, edit_checksum};
use crate::format::record::{FRAME_HEADER_LEN, RECORD_HEADER_LEN, RecordsChecksum, body_checksum};
use crate::format::segment::{SEGMENT_FOOTER_LEN, SEGMENT_HEADER_LEN};

/// Signs every header, edit, frame, record, hint and footer of a store anew, as far as lengths and
/// kinds lead from one to the next.
pub fn resign(files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for (path, bytes) in files {
        if path.extension().is_some_and(|e| e == "seg") {
            resign_segment(bytes);
        } else if path.ends_with(FILE_NAME) {
            resign_manifest(bytes);
        }
    }
}

fn resign_manifest(bytes: &mut [u8]) {
    let Some(signed) = bytes.get(..MANIFEST_HEADER_LEN - 4) else { return };
    let salt = checksum::plain(signed);
    put_at(bytes, MANIFEST_HEADER_LEN - 4, &salt.to_le_bytes());
    let mut offset = MANIFEST_HEADER_LEN;
    while let Some(rest) = bytes.get_mut(offset..) {
        let len = u32_at(rest, 0);
        let end = 8 + len as usize;
        let Some(payload) = rest.get(8..end).filter(|_| len > 0) else { return };
        let sum = edit_checksum(salt, offset as u64, len, payload);
        put_at(rest, 4, &sum.to_le_bytes());
        offset += align8(end);
    }
}

fn resign_segment(bytes: &mut [u8]) {
    let header_len = SEGMENT_HEADER_LEN as usize;
    let Some(signed) = bytes.get(..header_len - 4) else { return };
    let salt = checksum::plain(signed);
    put_at(bytes, header_len - 4, &salt.to_le_bytes());
    let mut offset = header_len;
    while let Some(len) = bytes.get_mut(offset..).and_then(|rest| resign_frame(rest, salt, offset))
    {
        offset += len;
    }
    resign_footer(bytes, salt);
}

/// Signs the frame at the start of `bytes`; returns its length, if there is one.
fn resign_frame(bytes: &mut [u8], salt: u32, offset: usize) -> Option<usize> {
    let kind = *bytes.get(4)?;
    if bytes.len() < FRAME_HEADER_LEN || !matches!(kind, 0xF5 | 0xE5) {
        return None;
    }
    let len = u32_at(bytes, 8) as usize * 8;
    let count = u32_at(bytes, 12);
    let mut sum = RecordsChecksum::new(salt);
    let mut at = FRAME_HEADER_LEN;
    let end = (FRAME_HEADER_LEN + len).min(bytes.len());
    for _ in 0..count {
        let Some(record) = bytes.get_mut(at..end).filter(|r| r.len() >= RECORD_HEADER_LEN) else {
            break;
        };
        let body =
            RECORD_HEADER_LEN + usize::from(u16_at(record, 10)) + u32_at(record, 12) as usize;
        let Some(body_bytes) = record.get(RECORD_HEADER_LEN..body) else { break };
        let body_sum = body_checksum(body_bytes);
        put_at(record, 4, &body_sum.to_le_bytes());
        let header_sum = checksum::salted(salt, &record[4..RECORD_HEADER_LEN]);
        put_at(record, 0, &header_sum.to_le_bytes());
        sum.add(record);
        at += align8(body);
    }
    if kind == 0xF5 {
        put_at(bytes, 16, &sum.finish().to_le_bytes());
    }
    let header_sum = checksum::at(salt, offset as u64, &bytes[4..FRAME_HEADER_LEN]);
    put_at(bytes, 0, &header_sum.to_le_bytes());
    (kind == 0xF5).then_some(FRAME_HEADER_LEN + len)
}

fn resign_footer(bytes: &mut [u8], salt: u32) {
    let Some(start) = bytes.len().checked_sub(SEGMENT_FOOTER_LEN as usize) else { return };
    if !bytes[start..].starts_with(b"SILTFTR1") {
        return;
    }
    let data_end = usize::try_from(u64_at(bytes, start + 16)).unwrap_or(usize::MAX);
    if let Some(hints) = bytes.get(data_end..start) {
        let sum = checksum::salted(salt, hints);
        put_at(bytes, start + 56, &sum.to_le_bytes());
    }
    let sum = checksum::salted(salt, &bytes[start..start + 60]);
    put_at(bytes, start + 60, &sum.to_le_bytes());
}
