#!/usr/bin/env python3
"""Loads what Siltstone exports with the real LlamaIndex, and compares every object.

    compare_export.py SILTSTONE [LLAMA_DIR_OR_DUMP ...]

SILTSTONE is the program; what it imports are, by default, all directories and dumps of
tests/golden/persist. For each directory:

1. `siltstone import` and `export` make a second directory of it.
2. LlamaIndex loads both, and every node, hash, ref doc, index struct, vector, triplet, message and
   cache entry of the one is compared with that of the other.
3. The nodes that LlamaIndex has loaded are compared with what `siltstone dump` prints.
4. LlamaIndex persists what it has loaded from the second directory once more, and those files are
   compared with the exported ones.

A dump is the file of `StorageContext.to_dict`: the context that LlamaIndex makes of it is compared
with the one that it loads from the export. A directory with truncated files must be refused; what
`--salvage` takes of it is compared with the directory `basic`, of which it is a half. One directory
more is made here: one with a vector store in half precision.

Exit code 0: all are equal. 1: something differs, printed. 77: llama-index-core cannot be imported.
"""

import json
import os
import subprocess
import sys
import tempfile

try:
    from llama_index.core import StorageContext
    from llama_index.core.graph_stores import SimplePropertyGraphStore
    from llama_index.core.ingestion import IngestionCache
    from llama_index.core.storage.chat_store import SimpleChatStore
    from llama_index.core.storage.docstore import SimpleDocumentStore
    from llama_index.core.storage.index_store import SimpleIndexStore
    from llama_index.core.storage.kvstore import SimpleKVStore
    from llama_index.core.graph_stores import SimpleGraphStore
    from llama_index.core.vector_stores.simple import SimpleVectorStore
except ImportError as error:
    print(f"skipped: {error}")
    sys.exit(77)

DIFFERENCES = []
COMPARED = 0


def plain(value):
    """JSON's types, sets sorted."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(plain(list(value)), key=json.dumps)
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    # JSON's mode makes null of NaN: only for what has no dictionary of its own.
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if hasattr(value, "model_dump"):
        return plain(value.model_dump(mode="json"))
    return value


def compare(what, left, right):
    global COMPARED
    COMPARED += 1
    # As text: NaN is equal to itself, and 1 is not 1.0.
    left, right = (json.dumps(plain(side), sort_keys=True) for side in (left, right))
    if left != right:
        DIFFERENCES.append(f"{what}:\n  {left[:2000]}\n  {right[:2000]}")


def compare_all(what, left, right):
    """Two dictionaries, entry by entry."""
    compare(f"{what}: keys", sorted(left, key=str), sorted(right, key=str))
    for key in left:
        if key in right:
            compare(f"{what}: {key!r}", left[key], right[key])


def namespaces(path):
    with open(path) as file:
        collections = json.load(file)
    return sorted({name.rsplit("/", 1)[0] for name in collections if "/" in name})


def struct(record):
    """Index structs hold JSON in a string; sets in it have no order."""
    data = json.loads(record["__data__"])
    for word, ids in (data.get("table") or {}).items():
        data["table"][word] = sorted(ids)
    return {"type": record["__type__"], "data": data}


def without_random(node):
    """IndexNode.obj that was plain JSON becomes a node with a random id at each load."""
    node = json.loads(json.dumps(plain(node)))
    obj = node.get("obj")
    if isinstance(obj, dict):
        for data in (obj, obj.get("__data__") or {}):
            data.pop("id_", None)
    return node


def load(path, name):
    """Everything in a file, as dictionaries of objects that LlamaIndex has made of it."""
    if name == "docstore.json":
        found = {}
        for namespace in namespaces(path):
            store = SimpleDocumentStore.from_persist_path(path, namespace=namespace)
            nodes = {id_: without_random(node) for id_, node in store.docs.items()}
            ids = store._kvstore.get_all(store._metadata_collection)
            found[f"{namespace} nodes"] = nodes
            found[f"{namespace} hashes"] = {id_: store.get_document_hash(id_) for id_ in ids}
            found[f"{namespace} ref docs"] = store.get_all_ref_doc_info() or {}
            found[f"{namespace} by hash"] = store.get_all_document_hashes()
        return found
    if name == "index_store.json":
        store = SimpleIndexStore.from_persist_path(path)
        records = store._kvstore.get_all(store._collection)
        structs = {found.index_id: type(found).__name__ for found in store.index_structs()}
        return {"structs": {key: struct(value) for key, value in records.items()}, "types": structs}
    if name.endswith("vector_store.json"):
        data = SimpleVectorStore.from_persist_path(path).data
        return {
            "embeddings": data.embedding_dict,
            "ref docs": data.text_id_to_ref_doc_id,
            "metadata": data.metadata_dict,
        }
    if name == "graph_store.json":
        return {"triplets": SimpleGraphStore.from_persist_path(path)._data.graph_dict}
    if name == "property_graph_store.json":
        graph = SimplePropertyGraphStore.from_persist_path(path).graph
        return {
            "nodes": graph.nodes,
            "relations": graph.relations,
            "triplets": {"all": set(graph.triplets)},
        }
    if name == "chat_store.json":
        return {"conversations": SimpleChatStore.from_persist_path(path).store}
    if name == "llama_cache":
        cache = IngestionCache.from_persist_path(path)
        keys = cache.cache.get_all(cache.collection)
        return {"entries": {key: cache.get(key) for key in keys}}
    return None


def repersist(path, name, target):
    """What LlamaIndex writes of what it has read; None for what it cannot write alone."""
    loaders = {
        "docstore.json": SimpleKVStore,
        "index_store.json": SimpleIndexStore,
        "graph_store.json": SimpleGraphStore,
        "property_graph_store.json": SimplePropertyGraphStore,
        "chat_store.json": SimpleChatStore,
        "llama_cache": SimpleKVStore,
    }
    loader = SimpleVectorStore if name.endswith("vector_store.json") else loaders.get(name)
    loader.from_persist_path(path).persist(target)
    with open(target) as file:
        return json.load(file)


def run(program, *args):
    done = subprocess.run([program, *args], capture_output=True, text=True)
    if done.returncode != 0:
        DIFFERENCES.append(f"{' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


def compare_dump(program, store, nodes):
    """The nodes that LlamaIndex has loaded, and those that `siltstone dump` prints."""
    dumped = {}
    for line in run(program, "dump", store).splitlines():
        entry = json.loads(line)
        if entry["collection"].endswith("/data") and "__data__" in (entry.get("value") or {}):
            record = entry["value"]
            if isinstance(record["__data__"], dict) and record["__type__"] in "12345":
                dumped[entry["key"]] = record["__data__"]
    compare("dump: keys", sorted(nodes), sorted(dumped))
    for id_, node in nodes.items():
        stored = dumped.get(id_, {})
        for field in ("id_", "metadata", "embedding", "class_name"):
            if field in stored and field in node:
                compare(f"dump: {id_!r}.{field}", node[field], stored[field])


def check(program, original, work):
    store, out = os.path.join(work, "store"), os.path.join(work, "out")
    said = json.loads(run(program, "import", original, "--store", store, "--json") or "{}")
    run(program, "export", store, out)
    if DIFFERENCES:
        return
    files = [file["name"] for file in said["files"]]
    all_nodes = {}
    for name in files:
        before, after = (load(os.path.join(side, name), name) for side in (original, out))
        parts = [sorted(part for part in side if side[part]) for side in (before, after)]
        compare(f"{name}: what it has", *parts)
        for part in before:
            compare_all(f"{name}: {part}", before[part], after.get(part, {}))
            if part.endswith(" nodes"):
                all_nodes.update(after[part])
    compare_dump(program, store, all_nodes)
    for name in sorted(os.listdir(out)):
        with open(os.path.join(out, name)) as file:
            exported = json.load(file)
        again = repersist(os.path.join(out, name), name, os.path.join(work, name))
        if name == "property_graph_store.json":
            for side in (exported, again):
                side["triplets"] = sorted(side["triplets"])
        compare(f"{name} persisted again", exported, again)
    # An export is what a whole context is loaded from.
    context = StorageContext.from_defaults(persist_dir=out)
    wanted = {name.split("__")[0] for name in os.listdir(out) if "__vector_store" in name}
    compare("namespaces of vectors", wanted, set(context.vector_stores))


def whole(context):
    """Everything in a context, with the sets of index structs and of triplets sorted."""
    stores = plain(context.to_dict())
    stores["index_store"] = {
        name: {key: struct(record) for key, record in records.items()}
        for name, records in stores["index_store"].items()
    }
    if stores.get("property_graph_store"):
        triplets = stores["property_graph_store"]["triplets"]
        stores["property_graph_store"]["triplets"] = sorted(triplets)
    # A context that was loaded has an empty property graph, where one that was made has none.
    if not (stores.get("property_graph_store") or {}).get("nodes"):
        stores["property_graph_store"] = None
    return stores


def check_dump(program, original, work):
    store, out = os.path.join(work, "store"), os.path.join(work, "out")
    run(program, "import", original, "--store", store)
    run(program, "export", store, out)
    with open(original) as file:
        stores = json.load(file)
    before = whole(StorageContext.from_dict(stores))
    after = whole(StorageContext.from_defaults(persist_dir=out))
    compare("stores", *(sorted(key for key in side if side[key]) for side in (before, after)))
    for store in before:
        for part, records in (before[store] or {}).items():
            found = after[store].get(part, {})
            if isinstance(records, dict):
                compare_all(f"{store}: {part}", records, found)
            else:
                compare(f"{store}: {part}", records, found)


def check_truncated(program, original, work):
    store, out = os.path.join(work, "store"), os.path.join(work, "out")
    refused = subprocess.run([program, "import", original, "--store", store], capture_output=True)
    compare("refused", 2, refused.returncode)
    compare("nothing was made", False, os.path.exists(store))
    args = [program, "import", original, "--store", store, "--salvage", "--json"]
    said = subprocess.run(args, capture_output=True, text=True)
    compare("salvaged", 1, said.returncode)
    run(program, "export", store, out)
    basic = os.path.join(os.path.dirname(os.path.normpath(original)), "basic")
    before, after = (load(os.path.join(side, "docstore.json"), "docstore.json")
                     for side in (basic, out))
    compare("nodes were taken", True, len(after["docstore nodes"]) > 0)
    for part in after:
        for key in after[part]:
            compare(f"{part}: {key!r}", before[part].get(key), after[part][key])


def check_half(program, work):
    """A vector store in half precision: LlamaIndex passes over what says so."""
    mark = {"siltstone": {"precision": "half"}}
    rows = {
        "embedding_dict": {"a": [0.5, 0.1], "b": [1.0, -2.0]},
        "text_id_to_ref_doc_id": {"a": "d", "b": "None"},
        "metadata_dict": {"a": {"k": 1}},
    }
    before, store, out = (os.path.join(work, name) for name in ("before", "store", "out"))
    os.mkdir(before)
    file_name = "default__vector_store.json"
    files = {"docstore.json": {}, "index_store.json": {}, file_name: rows | mark}
    for name, content in files.items():
        with open(os.path.join(before, name), "w") as file:
            json.dump(content, file)
    run(program, "import", before, "--store", store)
    run(program, "export", store, out)
    with open(os.path.join(out, file_name)) as file:
        compare("the mark", mark["siltstone"], json.load(file).get("siltstone"))
    rounded = {"a": [0.5, 0.0999755859375], "b": [1.0, -2.0]}
    loaded = StorageContext.from_defaults(persist_dir=out).vector_store.to_dict()
    for part, wanted in (rows | {"embedding_dict": rounded}).items():
        compare_all(part, wanted, loaded[part])
    compare("parts", set(rows), set(loaded))


def main():
    if len(sys.argv) < 2:
        print(__doc__)
        return 2
    program, originals = os.path.abspath(sys.argv[1]), sys.argv[2:]
    here = os.path.dirname(os.path.abspath(__file__))
    if not originals:
        folder = os.path.join(here, "..", "golden", "persist")
        originals = [os.path.join(folder, name) for name in sorted(os.listdir(folder))]
        originals.append("half")
    failed = False
    for original in originals:
        before = COMPARED
        DIFFERENCES.clear()
        with tempfile.TemporaryDirectory() as work:
            if original == "half":
                check_half(program, work)
            elif os.path.isfile(original):
                check_dump(program, original, work)
            elif os.path.basename(os.path.normpath(original)) == "truncated":
                check_truncated(program, original, work)
            else:
                check(program, original, work)
        name = os.path.basename(os.path.normpath(original))
        if DIFFERENCES:
            failed = True
            print(f"{name}: {len(DIFFERENCES)} of {COMPARED - before} comparisons differ")
            for difference in DIFFERENCES[:20]:
                print(difference)
        else:
            print(f"{name}: {COMPARED - before} objects are equal")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
