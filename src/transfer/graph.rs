//! The file of `SimpleGraphStore`: `{"graph_dict": {subject: [[relation, object], ..]}}`.
//!
//! A relation or object that is no text becomes what Python's `str` makes of it, `30` or `None`, as
//! it does when LlamaIndex loads the file; LlamaIndex's next `persist` writes it so, too.

use super::error::Stop;
use super::export::{Caught, Failed, Out};
use super::load::{Json, Load, shown};
use super::space::Space;
use crate::kv::json::Next;
use crate::kv::{Text, Value};
use crate::model::to_str;
use crate::stores::{GraphStore, TextTriplet};

/// Triplets that are given to the store at a time.
const TRIPLETS_LEN: usize = 256;

/// Walks through the file.
pub(super) fn walk(json: &mut Json<'_>, load: &mut Load<'_>) -> Result<(), Stop> {
    load.claim(json, Space::Graph)?;
    if !load.is_first() {
        return Ok(json.pass()?);
    }
    if !load.enter(json, "the graph store")? {
        return Ok(());
    }
    let store = load.kv().map(GraphStore::new);
    while let Some(key) = json.key()? {
        if key != "graph_dict" {
            load.leave_out(json, || format!("graph store: {}", shown(&key)));
            continue;
        }
        if !load.is_last(json, &key) || !load.enter(json, "graph_dict")? {
            continue;
        }
        while let Some(subject) = json.key()? {
            if !load.fits_as_owner(json, &subject)? {
                continue;
            }
            if json.peek()? != Next::List {
                json.skip()?;
                load.bad(json, || format!("graph_dict: {} is no list", shown(&subject)))?;
                continue;
            }
            edges(json, load, store.as_ref(), &subject)?;
        }
    }
    Ok(())
}

fn edges(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    store: Option<&GraphStore>,
    subject: &Text,
) -> Result<(), Stop> {
    if let Some(store) = store {
        // A subject that comes twice is what it was last.
        for (relation, object) in store.get(subject)? {
            store.delete(subject, relation, object)?;
        }
        store.add_subject(subject)?;
    }
    let mut triplets: Vec<TextTriplet> = Vec::new();
    let walked = edges_of(json, load, store, subject, &mut triplets);
    // Those before the end of a file that is not whole are whole.
    give(store, &mut triplets)?;
    walked
}

fn edges_of(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    store: Option<&GraphStore>,
    subject: &Text,
    triplets: &mut Vec<TextTriplet>,
) -> Result<(), Stop> {
    json.enter()?;
    while json.item()? {
        let edge = json.value()?;
        let Some([relation, object]) = edge.as_list() else {
            load.bad(json, || format!("graph_dict: {}: no pair", shown(subject)))?;
            continue;
        };
        triplets.push((subject.clone(), to_str(relation), to_str(object)));
        if triplets.len() >= TRIPLETS_LEN {
            give(store, triplets)?;
        }
        load.taken(json)?;
    }
    Ok(())
}

fn give(store: Option<&GraphStore>, triplets: &mut Vec<TextTriplet>) -> Result<(), Stop> {
    if let Some(store) = store {
        store.upsert_triplets(triplets)?;
    }
    triplets.clear();
    Ok(())
}

/// Writes the graph.
pub(super) fn write(out: &mut Out<'_>, store: &GraphStore) -> Result<(), Failed> {
    out.json.open_map()?;
    out.json.key(&Text::from_static("graph_dict"))?;
    out.json.open_map()?;
    let mut caught = Caught::default();
    let given = store.for_each_subject(&mut |subject| {
        let written = write_subject(out, store, &subject);
        caught.pass(written)
    });
    caught.settle(given)?;
    out.json.close()?;
    Ok(out.json.close()?)
}

fn write_subject(out: &mut Out<'_>, store: &GraphStore, subject: &Text) -> Result<(), Failed> {
    out.json.key(subject)?;
    out.json.open_list()?;
    let mut caught = Caught::default();
    let given = store.for_each_edge(subject, &mut |relation, object| {
        caught.pass(out.item(&Value::List(vec![relation.into(), object.into()])))
    });
    caught.settle(given)?;
    Ok(out.json.close()?)
}
