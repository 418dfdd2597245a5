"""Siltstone beside LlamaIndex's own simple stores: one table of both.

    pip install llama-index-core
    python3 benches/compare_llamaindex/compare.py [--nodes 100000] [--vectors 20000]

Adds nodes of 1 KB, a hundred to a ref doc, the first of them with embeddings of 384 numbers and
listed in an index struct; persists; adds one more and persists; loads in a new process; queries
the best ten. Each step of each side is a process of its own, which measures itself. Both sides get
the same texts and numbers, and must find the same ids.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

# These are the same in main.rs.
DIM = 384
TEXT_LEN = 1024
BATCH = 1_000
NODES_PER_REF_DOC = 100
TOP_K = 10
CHANGES = 5

QUERIES = 5
REPO = pathlib.Path(__file__).resolve().parents[2]


def memory(name):
    """A line of what Linux tells of this process, in bytes."""
    for line in open("/proc/self/status"):
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} in /proc/self/status")


class Python:
    """LlamaIndex's column."""

    def __init__(self, directory, nodes, vectors):
        import numpy
        from llama_index.core.schema import NodeRelationship, RelatedNodeInfo, TextNode

        self.store = str(directory / "llamaindex")
        self.nodes = nodes
        self.vectors = vectors
        self.floats = numpy.memmap(directory / "floats", dtype="<f4").reshape(-1, DIM)

        def node(i):
            text = f"{i} " + "Siltstone is what settles. " * (TEXT_LEN // 20)
            source = RelatedNodeInfo(node_id=f"doc-{i // NODES_PER_REF_DOC}")
            return TextNode(
                id_=f"node-{i}",
                text=text[:TEXT_LEN],
                metadata={"page": i % NODES_PER_REF_DOC},
                relationships={NodeRelationship.SOURCE: source},
            )

        self.node = node

    def add(self, context, index, nodes, embedded):
        context.docstore.add_documents(nodes)
        context.vector_store.add(embedded)
        for node in embedded:
            index.add_node(node)
        context.index_store.add_index_struct(index)

    def embed(self, node, row):
        node = node.model_copy()
        node.embedding = self.floats[row].tolist()
        return node

    def write(self):
        from llama_index.core import StorageContext
        from llama_index.core.data_structs.data_structs import IndexDict

        context = StorageContext.from_defaults()
        index = IndexDict(index_id="index")
        took = 0.0
        for start in range(0, self.nodes, BATCH):
            numbers = range(start, min(self.nodes, start + BATCH))
            nodes = [self.node(i) for i in numbers]
            embedded = [self.embed(n, i) for n, i in zip(nodes, numbers) if i < self.vectors]
            began = time.perf_counter()
            self.add(context, index, nodes, embedded)
            took += time.perf_counter() - began
        figure("add", took)
        began = time.perf_counter()
        context.persist(self.store)
        figure("persist", time.perf_counter() - began)
        times = []
        for i in range(CHANGES):
            node = self.node(self.nodes + i)
            embedded = self.embed(node, self.vectors + i)
            began = time.perf_counter()
            self.add(context, index, [node], [embedded])
            context.persist(self.store)
            times.append(time.perf_counter() - began)
        figure("change", statistics.median(times))

    def read(self):
        from llama_index.core import StorageContext
        from llama_index.core.vector_stores.types import VectorStoreQuery

        first = self.vectors + CHANGES
        rows = range(first, first + QUERIES)
        queries = [
            VectorStoreQuery(query_embedding=self.floats[row].tolist(), similarity_top_k=TOP_K)
            for row in rows
        ]
        began = time.perf_counter()
        context = StorageContext.from_defaults(persist_dir=self.store)
        figure("load", time.perf_counter() - began)
        began = time.perf_counter()
        context.vector_store.query(queries[0])
        figure("first_query", time.perf_counter() - began)
        times = []
        for query in queries:
            began = time.perf_counter()
            found = context.vector_store.query(query)
            times.append(time.perf_counter() - began)
            print("ids", ",".join(found.ids))
        figure("query", statistics.median(times))


def figure(name, value):
    print(name, value)


def run_python_step(step, directory, nodes, vectors):
    import llama_index.core  # noqa: F401  (what it takes by itself is no part of the figures)

    python = Python(directory, nodes, vectors)
    figure("memory_before", memory("VmHWM"))
    {"write": python.write, "read": python.read}[step]()
    figure("memory_peak", memory("VmHWM"))


def measure(command):
    """Runs a step; its figures by name, and the ids that its queries found."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=REPO)
    figures, ids = {}, []
    for line in done.stdout.splitlines():
        name, _, value = line.partition(" ")
        if name == "ids":
            ids.append(value.split(","))
        elif name in FIGURES:
            figures[name] = float(value)
    return figures, ids


FIGURES = {
    "add", "persist", "change", "load", "first_query", "query", "memory_before", "memory_peak",
}  # fmt: skip


def build():
    """The path of the program of Siltstone's column."""
    command = ["cargo", "bench", "--bench", "compare_llamaindex", "--no-run"]
    command.append("--message-format=json")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=REPO)
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "compare_llamaindex":
            return message["executable"]
    raise RuntimeError("cargo names no program")


def write_floats(path, vectors):
    import numpy

    rng = numpy.random.default_rng(20_000)
    rng.standard_normal((vectors + CHANGES + QUERIES, DIM), dtype="float32").astype("<f4").tofile(path)


def seconds(value):
    for unit, factor in [("s", 1), ("ms", 1e3), ("us", 1e6)]:
        if value * factor >= 1 or unit == "us":
            return f"{value * factor:.3g} {unit}"


def mib(value):
    return f"{value / 2**20:,.0f} MiB"


def size(directory):
    # Blocks, not lengths: a log's last segment is longer than what is in it.
    return sum(p.stat().st_blocks * 512 for p in directory.rglob("*") if p.is_file())


def table(ours, theirs):
    print("| step | llama-index-core | siltstone | ratio | expected |")
    print("|---|---|---|---|---|")
    rows = [
        ("add", "add", seconds, ""),
        ("persist, the first time", "persist", seconds, ""),
        ("add one and persist", "change", seconds, ">= 1,000 x"),
        ("load", "load", seconds, ">= 20 x"),
        ("load and first query", "load_and_query", seconds, ""),
        ("query, top 10", "query", seconds, ">= 50 x"),
        ("peak memory, add and persist", "write_memory", mib, ">= 4 x"),
        ("peak memory, load and query", "read_memory", mib, ">= 4 x"),
        ("on disk", "disk", mib, ""),
    ]
    for title, name, show, expected in rows:
        their, our = theirs[name], ours[name]
        print(f"| {title} | {show(their)} | {show(our)} | {their / our:,.1f} x | {expected} |")


def column(write_step, read_step, directory):
    write, _ = measure(write_step)
    read, ids = measure(read_step)
    figures = {**write, **read}
    figures["load_and_query"] = read["load"] + read["first_query"]
    figures["write_memory"] = write["memory_peak"]
    figures["read_memory"] = read["memory_peak"]
    figures["disk"] = size(directory)
    return figures, ids


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nodes", type=int, default=100_000)
    parser.add_argument("--vectors", type=int, default=20_000)
    parser.add_argument("--step", choices=["write", "read"], help=argparse.SUPPRESS)
    parser.add_argument("--dir", type=pathlib.Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        return run_python_step(args.step, args.dir, args.nodes, args.vectors)

    from importlib.metadata import version

    program = build()
    with tempfile.TemporaryDirectory(dir=REPO / "target") as directory:
        directory = pathlib.Path(directory)
        write_floats(directory / "floats", args.vectors)
        counts = [str(args.nodes), str(args.vectors), str(QUERIES)]
        rust = lambda step: [program, step, str(directory), *counts]
        python = lambda step: [
            sys.executable, __file__, "--step", step, "--dir", str(directory),
            "--nodes", counts[0], "--vectors", counts[1],
        ]  # fmt: skip
        ours, our_ids = column(rust("write"), rust("read"), directory / "siltstone")
        theirs, their_ids = column(python("write"), python("read"), directory / "llamaindex")
    if our_ids != their_ids or len(our_ids) != QUERIES:
        sys.exit(f"the two sides found different ids:\n{our_ids}\n{their_ids}")
    print(
        f"{args.nodes:,} nodes of {TEXT_LEN} bytes, {args.vectors:,} embeddings of {DIM}; "
        f"llama-index-core {version('llama-index-core')} on Python "
        f"{sys.version.split()[0]}, {os.cpu_count()} cores.\n"
    )
    table(ours, theirs)
    before = theirs["memory_before"]
    print(f"\nOf its memory Python and the library take {mib(before)} before anything is added.")
    print(f"The ids found are the same for all {QUERIES} queries.")


if __name__ == "__main__":
    main()
