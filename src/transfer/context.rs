//! The file of `json.dumps(StorageContext.to_dict())`: every store of a context under its name.

use super::error::Stop;
use super::keyvalue::Holds;
use super::load::{Json, Load, shown};
use super::{graph, keyvalue, property_graph, vectors};
use crate::kv::Value;
use crate::kv::json::Next;

/// Walks through the file.
pub(super) fn walk(json: &mut Json<'_>, load: &mut Load<'_>) -> Result<(), Stop> {
    if !load.enter(json, "the file")? {
        return Ok(());
    }
    while let Some(name) = json.key()? {
        if json.peek()? != Next::Map {
            let store = json.value()?;
            // A store that the context did not have is null.
            if store != Value::Null {
                load.bad(json, || format!("{} is no dictionary", shown(&name)))?;
            }
            continue;
        }
        match name.as_str().unwrap_or_default() {
            "doc_store" => keyvalue::walk(json, load, Holds::Anything)?,
            "index_store" => keyvalue::walk(json, load, Holds::Structs)?,
            "graph_store" => graph::walk(json, load)?,
            "property_graph_store" => property_graph::walk(json, load)?,
            "vector_store" => {
                json.enter()?;
                while let Some(namespace) = json.key()? {
                    match namespace.as_str() {
                        Some(plain) => vectors::walk(json, load, plain, &["vector_store", plain])?,
                        None => {
                            let shown = shown(&namespace);
                            load.bad(json, || format!("no namespace can be named {shown}"))?;
                        }
                    }
                }
            }
            _ => load.leave_out(json, || format!("storage context: {}", shown(&name))),
        }
    }
    Ok(())
}
