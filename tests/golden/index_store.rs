//! Traces of `SimpleIndexStore` and of the index structs' own methods.

use siltstone::kv::{Text, Value, json};
use siltstone::stores::{IndexStore, IndexStruct, StoreError, StructKind, StructMethods};

use crate::kvstore::block_on;
use crate::reload::reload;
use crate::{Backend, Op, Outcome, Raised, Runner};

pub(crate) struct IndexRunner<'a> {
    backend: &'a mut dyn Backend,
    /// Absent only while the store is closed.
    store: Option<IndexStore>,
}

impl<'a> IndexRunner<'a> {
    pub(crate) fn new(backend: &'a mut dyn Backend, init: &Value) -> Result<Self, String> {
        let store = IndexStore::new(backend.open());
        if let Some(data) = init.get("data") {
            store.load_dict(data).map_err(|e| e.to_string())?;
        }
        Ok(IndexRunner { backend, store: Some(store) })
    }
}

impl Runner for IndexRunner<'_> {
    fn run(&mut self, op: &Op<'_>) -> Result<Outcome, String> {
        if op.name == "persist_reload" {
            return reload(self.backend, &mut self.store).map(|()| Ok(Value::Null));
        }
        let store = self.store.as_ref().ok_or("the store is closed")?;
        Ok(run(store, op)?.map_err(|e| raised(op, e)))
    }
}

fn raised(op: &Op<'_>, e: StoreError) -> Raised {
    let quoted = |text: &Text| format!("'{text}'");
    let (class, message) = match e {
        StoreError::UnknownType { name, .. } => ("KeyError", quoted(&name)),
        StoreError::NotFound { id, .. } => ("KeyError", quoted(&id)),
        // A bare assertion has no message.
        StoreError::InvalidArgument(_) if op.name.ends_with("get_index_struct") => {
            ("AssertionError", String::new())
        }
        // What Python says of the union of no sets.
        StoreError::InvalidArgument(what) if what.starts_with("the table has no keywords") => {
            ("TypeError", "unbound method set.union() needs an argument".to_owned())
        }
        StoreError::InvalidArgument(what) => ("ValueError", what),
        other => ("OSError", other.to_string()),
    };
    Raised { class, message }
}

type Ran = Result<Value, StoreError>;

fn run(store: &IndexStore, op: &Op<'_>) -> Result<Ran, String> {
    let text = |name: &str| op.args.get(name).and_then(Value::as_text).cloned();
    let key = || text("key").ok_or("no key");
    let nothing = |done: Result<(), StoreError>| done.map(|()| Value::Null);
    let found = |found: Result<Option<IndexStruct>, StoreError>| {
        found.map(|index| index.as_ref().map(shown).into())
    };
    let single = |found: Result<IndexStruct, StoreError>| found.map(|index| shown(&index));
    let all = |found: Result<Vec<IndexStruct>, StoreError>| {
        found.map(|all| all.iter().map(shown).collect::<Vec<_>>().into())
    };
    Ok(match op.name {
        "add_index_struct" => nothing(store.add_index_struct(&given(op)?)),
        "async_add_index_struct" => nothing(block_on(store.async_add_index_struct(&given(op)?))),
        "delete_index_struct" => nothing(store.delete_index_struct(key()?).map(drop)),
        "adelete_index_struct" => nothing(block_on(store.adelete_index_struct(key()?)).map(drop)),
        "get_index_struct" => match text("struct_id") {
            Some(id) => found(store.get_index_struct(id)),
            None => single(store.single_index_struct()),
        },
        "aget_index_struct" => match text("struct_id") {
            Some(id) => found(block_on(store.aget_index_struct(id))),
            None => single(block_on(store.asingle_index_struct())),
        },
        "index_structs" => all(store.index_structs()),
        "async_index_structs" => all(block_on(store.async_index_structs())),
        "raw_json" => store.get_record(text("struct_id").ok_or("no id")?).map(Value::from),
        "struct_method" => method_both_ways(store, op)?,
        other => return Err(format!("unknown operation {other}")),
    })
}

/// The struct in a trace: its type, and its fields as a dictionary.
pub(crate) fn given(op: &Op<'_>) -> Result<IndexStruct, String> {
    let given = op.args.get("struct").ok_or("no struct")?;
    let kind = given.get("type").and_then(Value::as_text).and_then(|name| name.as_str());
    let kind = kind.and_then(StructKind::from_name).ok_or("no known type")?;
    let data = given.get("data").ok_or("no data")?;
    IndexStruct::from_data(kind, &Text::from("no id"), data).map_err(|e| e.to_string())
}

pub(crate) fn shown(index: &IndexStruct) -> Value {
    [("type", index.kind().name().into()), ("data", index.to_data())]
        .into_iter()
        .collect::<siltstone::kv::Map>()
        .into()
}

/// Calls a method on a struct in memory and on a stored one, which must do the same.
fn method_both_ways(store: &IndexStore, op: &Op<'_>) -> Result<Ran, String> {
    let mut index = given(op)?;
    let before = index.clone();
    store.add_index_struct(&before).map_err(|e| e.to_string())?;
    let id = before.index_id().clone();
    let stored = store.edit(&id, |index| {
        let result = method(index, op).map_err(StoreError::InvalidArgument)?;
        Ok(result.map_err(|e| raised(op, e).message))
    });
    let stored = stored.map_err(|e| e.to_string())?;
    let after = store.get_index_struct(&id).map_err(|e| e.to_string())?.ok_or("it went")?;
    let result = method(&mut index, op)?;
    match (&result, &stored) {
        (Ok(one), Ok(other)) if one == other && index == after => {}
        (Err(_), Err(_)) => {}
        _ => return Err(format!("in memory {result:?} {index:?}, stored {stored:?} {after:?}")),
    }
    store.delete_index_struct(&id).map_err(|e| e.to_string())?;
    Ok(result.map(|result| {
        let pairs = [("result", result), ("struct", shown(&index))];
        pairs.into_iter().collect::<siltstone::kv::Map>().into()
    }))
}

fn method(index: &mut impl StructMethods, op: &Op<'_>) -> Result<Ran, String> {
    let name = op.args.get("method").and_then(Value::as_text).ok_or("no method")?.to_string();
    let args = op.args.get("args").and_then(Value::as_list).unwrap_or_default();
    let id = |place: usize| {
        let id = args.get(place).and_then(node_id);
        id.ok_or_else(|| format!("argument {place} of {name} is no node or id"))
    };
    let optional = |place: usize| args.get(place).and_then(node_id);
    let ids = |place: usize| -> Vec<Text> {
        args.get(place).and_then(Value::as_list).into_iter().flatten().filter_map(node_id).collect()
    };
    let number = |place: usize| args.get(place).and_then(Value::as_int);
    let nothing = |done: Result<(), StoreError>| done.map(|()| Value::Null);
    let list = |texts: Vec<Text>| -> Value {
        texts.into_iter().map(Value::from).collect::<Vec<_>>().into()
    };
    let table = matches!(args.first(), Some(Value::List(_)));
    Ok(match name.as_str() {
        "insert" => nothing(index.insert(id(0)?, number(1), &ids(2))),
        "insert_under_parent" => {
            nothing(index.insert_under_parent(id(0)?, optional(1).as_ref(), number(2)))
        }
        "get_children" => index.get_children(optional(0).as_ref()).map(Value::from),
        "get_index" => index.get_index(id(0)?).map(Value::from),
        "get_summary" => index.get_summary().map(Value::from),
        "size" => index.size().map(Value::from),
        "add_node" if table => nothing(index.add_keywords(&ids(0), id(1)?)),
        "add_node" => match (index.struct_kind(), optional(1)) {
            (StructKind::List, _) => nothing(index.add_node(id(0)?)),
            (_, Some(vector)) => index.add_vector(&vector, id(0)?).map(|()| vector.into()),
            _ => index.add_node(id(0)?).map(|()| id(0).unwrap_or_default().into()),
        },
        "node_ids" => index.node_ids().map(list).map(as_set),
        "keywords" => index.keywords().map(|keywords| as_set(list(keywords.into_iter().collect()))),
        "delete" => nothing(index.delete(id(0)?)),
        "delete_nodes" => {
            nothing(ids(0).into_iter().try_for_each(|id| index.delete_node(id).map(drop)))
        }
        "summary_ids" => index.summary_ids().map(list),
        "add_summary_and_nodes" => {
            let source = args.first().and_then(|node| {
                node.get("__data__")?.get("relationships")?.get("1")?.get("node_id")?.as_text()
            });
            let id = id(0)?;
            index.add_summary_and_nodes(&id, source, &ids(1)).map(|()| id.into())
        }
        "search_node_by_keyword" => index.search_node_by_keyword(id(0)?).map(list),
        other => return Err(format!("unknown method {other}")),
    })
}

/// A set as the traces have it: a list sorted by the JSON text of its members.
fn as_set(set: Value) -> Value {
    let mut list = set.as_list().map(<[Value]>::to_vec).unwrap_or_default();
    list.sort_by_cached_key(|item| json::to_string(item, json::Style::Python));
    list.into()
}

/// The id of a node, or a text.
fn node_id(value: &Value) -> Option<Text> {
    match value {
        Value::Text(text) => Some(text.clone()),
        node => node.get("__data__")?.get("id_")?.as_text().cloned(),
    }
}
