//! `siltstone inspect DIR [SEGMENT[:OFFSET]]`.

use super::failure::{Failure, warn};
use super::output::{Output, bytes, count, key_field, object, plural, value_field};
use super::{Outcome, StoreArg};
use crate::engine::{
    InspectedRecord, InspectedSegment, Inspection, Item, RecordKind, inspect, inspect_segment,
};
use crate::kv::{Map, Value, codec, json};
use crate::vfs::os::OsVfs;

/// Characters of a value that are shown.
const VALUE_SHOWN: usize = 80;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Show the frames and records of this segment, from this byte on
    #[arg(value_name = "SEGMENT[:OFFSET]", value_parser = parse_place)]
    place: Option<(u64, u64)>,
    /// Show at most so many frames and records
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

fn parse_place(text: &str) -> Result<(u64, u64), String> {
    let (segment, offset) = text.split_once(':').unwrap_or((text, "0"));
    let number = |what: &str, text: &str| text.parse().map_err(|e| format!("{what} {text:?}: {e}"));
    Ok((number("SEGMENT", segment)?, number("OFFSET", offset)?))
}

pub(super) fn run(args: &Args, out: &mut Output) -> Result<Outcome, Failure> {
    let dir = &args.store.dir;
    let Some((id, from)) = args.place else {
        let seen = inspect(&OsVfs, dir)?;
        if out.is_json() {
            out.value(&store_to_json(&seen).into())?;
        } else {
            print_store(&seen, out)?;
        }
        return Ok(Outcome::Yes);
    };
    let Some(items) = inspect_segment(&OsVfs, dir, id)? else {
        warn(&format!("there is no segment {id} in {}", dir.display()));
        return Ok(Outcome::No);
    };
    let is_wanted = |item: &&Item| end_of(item).is_none_or(|end| end > from);
    if !items.iter().any(|item| is_wanted(&item)) {
        let end = items.iter().filter_map(end_of).max().unwrap_or(0);
        warn(&format!("segment {id} holds nothing at byte {from} or behind it; it ends at {end}"));
        return Ok(Outcome::No);
    }
    for item in items.iter().filter(is_wanted).take(args.limit.unwrap_or(usize::MAX)) {
        match out.is_json() {
            true => out.value(&item_to_json(item).into())?,
            false => out.line(&item_line(item))?,
        }
    }
    Ok(Outcome::Yes)
}

/// The byte behind a thing; `None` where it has no place.
fn end_of(item: &Item) -> Option<u64> {
    match item {
        Item::Frame { offset, .. } => Some(offset + 40),
        Item::Record(record) | Item::Damaged(record) => Some(record.offset + record.len),
        Item::Rubble { end, .. } => Some(*end),
        Item::Lost { .. } => None,
    }
}

fn print_store(seen: &Inspection, out: &mut Output) -> Result<(), Failure> {
    let state = if seen.is_closed { "closed in order" } else { "in use, or not closed" };
    out.line(&format!("store       {}, {state}", hex(&seen.store)))?;
    out.line(&format!(
        "manifest    epoch {}, watermark {}, next segment {}",
        seen.epoch,
        count(seen.watermark),
        seen.next_segment
    ))?;
    for (id, name) in &seen.collections {
        out.line(&format!("collection  {id} \"{}\"", name.escape_debug()))?;
    }
    for segment in &seen.segments {
        out.line(&segment_line(segment))?;
    }
    let defects = seen.segments.iter().flat_map(|segment| &segment.defects);
    for defect in seen.manifest_defects.iter().chain(defects) {
        out.line(&format!("damage      {defect}"))?;
    }
    Ok(())
}

fn segment_line(segment: &InspectedSegment) -> String {
    let kind = match segment.is_compacted {
        true => format!("compacted, generation {}", segment.generation),
        false => "log".to_owned(),
    };
    let state = match segment.seal {
        Some((end, first, next)) => format!(
            "sealed, records end at {end}, sequence numbers {first} to {}",
            next.saturating_sub(1)
        ),
        None => "open".to_owned(),
    };
    let (id, size, epoch) = (segment.id, bytes(segment.file_len), segment.epoch);
    let mut line = format!("segment     {id:>4} {kind}, {state}, epoch {epoch}, {size}");
    if !segment.defects.is_empty() {
        line += &format!(", {} damaged or torn", plural(segment.defects.len() as u64, "place"));
    }
    line
}

fn item_line(item: &Item) -> String {
    match item {
        Item::Frame { offset, is_end, base, count, first_last, epoch, watermark, is_whole } => {
            let part = match (is_end, first_last) {
                (true, _) => "end of the segment".to_owned(),
                (_, (true, true)) => format!("batch of {}", plural(u64::from(*count), "record")),
                (_, (first, _)) => {
                    let part = if *first { "first" } else { "later" };
                    format!("{part} part of a batch, {}", plural(u64::from(*count), "record"))
                }
            };
            let whole = if *is_whole { "" } else { ", DAMAGED" };
            format!(
                "{offset:>10}  frame  {base:>8}  {part}, epoch {epoch}, \
                 watermark {watermark}{whole}"
            )
        }
        Item::Record(record) => record_line(record, ""),
        Item::Damaged(record) => record_line(record, "DAMAGED "),
        Item::Rubble { offset, end, what } => {
            format!("{offset:>10}  DAMAGE           up to {end}: {what}")
        }
        Item::Lost { first, next } => {
            format!(
                "            LOST             sequence numbers {first} to {}",
                next.saturating_sub(1)
            )
        }
    }
}

fn record_line(record: &InspectedRecord, how: &str) -> String {
    let what = match &record.system {
        Some(system) => format!("{} {system}", record.collection.1),
        None => format!("\"{}\" {}", record.collection.1.escape_debug(), shown(&record.key)),
    };
    let unsure = if record.is_sure || !how.is_empty() { "" } else { " (number unsure)" };
    let kind = record.kind;
    let mut line =
        format!("{:>10}  {kind:<9}{:>6}{unsure}  {how}{what}", record.offset, record.seqno);
    if let Some(time) = record.expires_at {
        line += &format!(", expires at {time}");
    }
    if let (Some(from), Some(how)) = (record.compressed_from, &record.compression) {
        line += &format!(", {} from {} by {how}", bytes(record.stored_len), bytes(from));
    }
    match (record.kind, &record.undecodable) {
        (_, Some(why)) => line += &format!(", not decompressed: {why}"),
        (RecordKind::Put, None) if record.system.is_some() => {
            line += &format!(", {}", bytes(record.value.len() as u64));
        }
        (RecordKind::Put, None) => line += &format!(" = {}", preview(&record.value)),
        (RecordKind::CreateCollection, None) => line += &format!(" id {}", record.collection.0),
        _ => {}
    }
    line
}

/// A key between quotes, escaped where it is no text.
fn shown(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) => format!("\"{}\"", text.escape_debug()),
        Err(_) => format!("b\"{}\"", key.escape_ascii()),
    }
}

/// The start of a value: as JSON if a store has written it, else as text or escaped.
fn preview(value: &[u8]) -> String {
    let whole = match codec::decode(value) {
        Ok(decoded) => json::to_string(&decoded, json::Style::Python),
        Err(_) => shown(value),
    };
    let mut start: String = whole.chars().take(VALUE_SHOWN).collect();
    if start.len() < whole.len() {
        start += &format!("... ({})", bytes(value.len() as u64));
    }
    start
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn store_to_json(seen: &Inspection) -> Map {
    let segment = |segment: &InspectedSegment| {
        let mut shown = object([
            ("id", segment.id.into()),
            ("file", segment.file.display().to_string().into()),
            ("file_len", segment.file_len.into()),
            ("compacted", segment.is_compacted.into()),
            ("generation", u64::from(segment.generation).into()),
            ("epoch", u64::from(segment.epoch).into()),
            ("defects", (segment.defects.len() as u64).into()),
        ]);
        if let Some((end, first, next)) = segment.seal {
            shown.set("data_end", end);
            shown.set("first", first);
            shown.set("next", next);
        }
        Value::from(shown)
    };
    let collection = |(id, name): &(u32, String)| {
        Value::from(object([("id", u64::from(*id).into()), ("name", name.as_str().into())]))
    };
    let defects = seen.segments.iter().flat_map(|segment| &segment.defects);
    let defects = seen.manifest_defects.iter().chain(defects).map(super::check::defect_to_json);
    object([
        ("store", hex(&seen.store).into()),
        ("epoch", u64::from(seen.epoch).into()),
        ("watermark", seen.watermark.into()),
        ("next_segment", seen.next_segment.into()),
        ("closed", seen.is_closed.into()),
        ("collections", seen.collections.iter().map(collection).collect::<Vec<_>>().into()),
        ("segments", seen.segments.iter().map(segment).collect::<Vec<_>>().into()),
        ("defects", defects.collect::<Vec<_>>().into()),
    ])
}

fn item_to_json(item: &Item) -> Map {
    match item {
        Item::Frame { offset, is_end, base, count, first_last, epoch, watermark, is_whole } => {
            object([
                ("what", if *is_end { "end" } else { "frame" }.into()),
                ("offset", (*offset).into()),
                ("base", (*base).into()),
                ("count", u64::from(*count).into()),
                ("first", first_last.0.into()),
                ("last", first_last.1.into()),
                ("epoch", u64::from(*epoch).into()),
                ("watermark", (*watermark).into()),
                ("whole", (*is_whole).into()),
            ])
        }
        Item::Record(record) => record_to_json(record, "record"),
        Item::Damaged(record) => record_to_json(record, "damaged record"),
        Item::Rubble { offset, end, what } => object([
            ("what", "damage".into()),
            ("offset", (*offset).into()),
            ("end", (*end).into()),
            ("why", what.as_str().into()),
        ]),
        Item::Lost { first, next } => {
            object([("what", "lost".into()), ("first", (*first).into()), ("next", (*next).into())])
        }
    }
}

fn record_to_json(record: &InspectedRecord, what: &'static str) -> Map {
    let mut shown = object([
        ("what", what.into()),
        ("offset", record.offset.into()),
        ("len", record.len.into()),
        ("seqno", record.seqno.into()),
        ("kind", record.kind.to_string().into()),
        ("collection", record.collection.1.as_str().into()),
    ]);
    let (name, key) = key_field("key", &record.key);
    shown.insert(name, key);
    if let Some(system) = &record.system {
        shown.set("system", system.as_str());
    }
    if let (Some(from), Some(how)) = (record.compressed_from, &record.compression) {
        shown.set("compressed_from", from);
        shown.set("compression", how.as_str());
        shown.set("stored_len", record.stored_len);
    }
    match &record.undecodable {
        Some(why) => drop(shown.set("undecodable", why.as_str())),
        None if record.kind == RecordKind::Put => {
            let (name, value) = value_field(&record.value);
            shown.set(name, value);
        }
        None => {}
    }
    if let Some(time) = record.expires_at {
        shown.set("expires_at", time);
    }
    shown
}
