//! The file of `SimplePropertyGraphStore`: `{"nodes": {id: node}, "relations": {key: relation},
//! "triplets": [[source, label, target], ..]}`.

use super::error::Stop;
use super::export::{Caught, Failed, Out};
use super::load::{Json, Load, lost_field, of, shown};
use super::space::Space;
use crate::kv::json::Next;
use crate::kv::{Text, Value};
use crate::model::{LabelledNode, Relation};
use crate::stores::{PropertyGraphImport, PropertyGraphStore};

/// Walks through the file. Relations name nodes: they wait if they come before them.
pub(super) fn walk(json: &mut Json<'_>, load: &mut Load<'_>) -> Result<(), Stop> {
    load.claim(json, Space::PropertyGraph)?;
    if !load.enter(json, "the property graph store")? {
        return Ok(());
    }
    let mut import = load.kv().map(|kv| PropertyGraphStore::new(kv).import());
    let mut others_seen = false;
    while let Some(key) = json.key()? {
        let part = key.as_str().unwrap_or_default();
        if !load.is_last(json, &key) {
            continue;
        }
        match part {
            "nodes" => {
                load.learned.needs_second |= others_seen;
                nodes(json, load, import.as_mut())?;
            }
            "relations" => {
                others_seen = true;
                relations(json, load, import.as_mut())?;
            }
            "triplets" => {
                others_seen = true;
                triplets(json, load, import.as_mut())?;
            }
            _ => load.leave_out(json, || format!("property graph store: {}", shown(&key))),
        }
    }
    Ok(())
}

fn nodes(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    mut import: Option<&mut PropertyGraphImport>,
) -> Result<(), Stop> {
    if !load.enter(json, "nodes")? {
        return Ok(());
    }
    while let Some(key) = json.key()? {
        let value = json.value()?;
        match LabelledNode::from_value(&value, Some(&key)) {
            Err(e) => {
                load.bad(json, || of("nodes", &key, &e.to_string()))?;
                continue;
            }
            Ok(node) if !load.fits(json, &node.id)? => continue,
            Ok(node) => {
                if let Some(field) = lost_field(&value, &node.to_value(), "") {
                    load.leave_out(json, || of("nodes", &key, &field));
                }
            }
        }
        if let Some(import) = &mut import {
            // In the second walk again: it has to learn which ids LlamaIndex has changed.
            import.node(&key, &value)?;
        }
        load.taken(json)?;
    }
    Ok(())
}

fn relations(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    mut import: Option<&mut PropertyGraphImport>,
) -> Result<(), Stop> {
    if !load.enter(json, "relations")? {
        return Ok(());
    }
    while let Some(key) = json.key()? {
        let value = json.value()?;
        match Relation::from_value(&value) {
            Err(e) => {
                load.bad(json, || of("relations", &key, &e.to_string()))?;
                continue;
            }
            Ok(relation)
                if !load.fits(json, &relation.source_id)?
                    || !load.fits(json, &relation.target_id)? =>
            {
                continue;
            }
            Ok(relation) => {
                if let Some(field) = lost_field(&value, &relation.to_value(), "") {
                    load.leave_out(json, || of("relations", &key, &field));
                }
            }
        }
        match &mut import {
            Some(import) if load.is_for_waiting() => import.relation(&key, &value)?,
            _ => {}
        }
        load.taken(json)?;
    }
    Ok(())
}

fn triplets(
    json: &mut Json<'_>,
    load: &mut Load<'_>,
    mut import: Option<&mut PropertyGraphImport>,
) -> Result<(), Stop> {
    if json.peek()? != Next::List {
        json.skip()?;
        return load.bad(json, || "triplets is no list".to_owned());
    }
    json.enter()?;
    while json.item()? {
        let value = json.value()?;
        let Some([Value::Text(source), Value::Text(_), Value::Text(target)]) = value.as_list()
        else {
            load.bad(json, || "triplets: no list of three texts".to_owned())?;
            continue;
        };
        if !load.fits(json, source)? || !load.fits(json, target)? {
            continue;
        }
        match &mut import {
            Some(import) if load.is_for_waiting() => import.triplet(&value)?,
            _ => {}
        }
        load.taken(json)?;
    }
    Ok(())
}

/// Writes the graph.
pub(super) fn write(out: &mut Out<'_>, store: &PropertyGraphStore) -> Result<(), Failed> {
    out.open_map()?;
    out.records("nodes", |visit| store.for_each_node(visit))?;
    out.records("relations", |visit| {
        store.for_each_relation(&mut |key, relation| visit(key, relation.to_value()))
    })?;
    out.json.key(&Text::from_static("triplets"))?;
    out.json.open_list()?;
    let mut caught = Caught::default();
    let given = store.for_each_relation(&mut |_, relation| {
        let Relation { label, source_id, target_id, .. } = relation;
        caught.pass(out.item(&Value::List(vec![source_id.into(), label.into(), target_id.into()])))
    });
    caught.settle(given)?;
    out.close()?;
    out.close()
}
