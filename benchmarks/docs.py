"""`python -m benchmarks docs`: searches of one owner's 10,000 documents by words, by meaning and by both, on SQLite."""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import json
import os
import platform
import random
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from activities.backends.minilm import MODEL_NAME, MiniLM
from benchmarks.processes import ROOT, Process, clean_environment, free_port
from engine.control.agents import AgentService
from engine.control.documents import DocumentService
from engine.core.contracts.lookups import Owner
from engine.store.agents import AgentStore
from engine.store.database import open_database
from engine.store.docs import DocStore
from engine.store.docsearch import DocQuery, DocSearch
from engine.store.vectors import to_bytes

RESULTS = Path(__file__).parent / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
MARK = re.compile(r"(<!-- docs:begin -->\n).*?(<!-- docs:end -->)", re.DOTALL)
TENANT = "default"
LIMIT_MS = 100
BATCH = 64
QUERIES = 25

WORDS = (
    "gardener teacher pilot baker nurse sailor lawyer farmer painter engineer judge singer miner tailor doctor",
    "repairs sells forgets describes borrows hides studies cleans photographs measures orders returns weighs",
    "old red broken heavy silent expensive tiny wooden foreign frozen secret yellow borrowed empty famous",
    "bicycle contract telescope piano engine recipe passport violin ladder map kettle sweater boat clock tent",
    "harbour library mountain kitchen station desert market hospital island garage theatre forest office",
)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of search.

    Attributes:
        title: For the table.
        text: Whether it has words.
        vector: Whether it has a vector.
        more: Its other options, as the API reads them.
    """

    title: str
    text: bool
    vector: bool
    more: dict[str, Any]


PLAIN: dict[str, Any] = {"mmr_strength": 0.0, "confidence": -1.0}
KINDS = (
    Kind("by words", text=True, vector=False, more=PLAIN),
    Kind("by meaning", text=False, vector=True, more=PLAIN),
    Kind("hybrid", text=True, vector=True, more=PLAIN),
    Kind("hybrid, with variety", text=True, vector=True, more={**PLAIN, "mmr_strength": 0.5}),
    Kind("hybrid, a tenth by metadata", text=True, vector=True, more={**PLAIN, "metadata_filter": {"shelf": 3}}),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds of one kind of search, each sorted."""

    title: str
    at_store: tuple[float, ...]
    over_http: tuple[float, ...]


def say(text: str) -> None:
    """Tell how far it is, on standard error."""
    print(text, file=sys.stderr, flush=True)


def sentences(count: int, seed: int) -> list[str]:
    """Return different sentences of everyday words."""
    chance, found = random.Random(seed), dict[str, None]()
    while len(found) < count:
        who, does, how, what, where = (chance.choice(words.split()) for words in WORDS)
        found[f"The {who} {does} the {how} {what} near the {where}, number {chance.randrange(10_000)}."] = None
    return list(found)


async def embedded(model: MiniLM, texts: Sequence[str]) -> list[list[float]]:
    """Return the vectors of texts."""
    vectors: list[list[float]] = []
    for first in range(0, len(texts), BATCH):
        vectors += (await model.embed(texts[first : first + BATCH])).vectors
    return vectors


async def fill(store: DocStore, owner: Owner, texts: Sequence[str], vectors: Sequence[Sequence[float]]) -> None:
    """Add documents with their vectors, as the API and a worker do."""
    documents = DocumentService(store)
    for number, (text, vector) in enumerate(zip(texts, vectors, strict=True)):
        made = await documents.add(text, tenant=TENANT, owner=owner, metadata={"shelf": number % 10})
        assert await store.keep_vectors(made, MODEL_NAME, [to_bytes(vector)], now_us=time.time_ns() // 1_000)


async def timed(work: Callable[[int], Awaitable[Any]], repeats: int) -> tuple[float, ...]:
    """Return the milliseconds of each repetition, sorted, after one that does not count."""
    await work(0)
    times = []
    for number in range(repeats):
        began = time.perf_counter()
        await work(number % QUERIES)
        times.append((time.perf_counter() - began) * 1_000)
    return tuple(sorted(times))


def query_for(kind: Kind, owner: Owner, text: str, vector: Sequence[float]) -> DocQuery:
    """Return a search as the store knows it."""
    more = {"metadata" if name == "metadata_filter" else name: value for name, value in kind.more.items()}
    vectors = {MODEL_NAME: vector} if kind.vector else {}
    return DocQuery(tenant=TENANT, owners=[owner], text=text if kind.text else "", vectors=vectors, **more)


def body_for(kind: Kind, text: str, vector: Sequence[float]) -> dict[str, Any]:
    """Return a search as the API reads it."""
    words = {"text": text} if kind.text else {}
    meaning = {"vector": list(vector)} if kind.vector else {}
    return {**words, **meaning, **kind.more, "include_embeddings": False}


async def measure(folder: Path, count: int, repeats: int) -> list[Measured]:
    """Fill a store and search it.

    Args:
        folder: A temporary folder.
        count: How many documents.
        repeats: How many searches of each kind.
    """
    url = f"sqlite+aiosqlite:///{folder / 'bench.db'}"
    model = MiniLM()
    try:
        texts, asked = sentences(count, 1), sentences(QUERIES, 2)
        say(f"embedding {count:,} sentences")
        vectors, wanted = await embedded(model, texts), await embedded(model, asked)
    finally:
        model.close()
    database = await open_database(url)
    try:
        agent = await AgentService(AgentStore(database)).create({"name": "librarian"}, tenant=TENANT)
        owner = Owner(kind="agent", id=agent.id)
        say("filling the store")
        await fill(DocStore(database), owner, texts, vectors)
        search = DocSearch(database)

        async def at_store(kind: Kind, number: int) -> None:
            assert await search.search(query_for(kind, owner, asked[number], wanted[number]))

        of_store = [await timed(partial(at_store, kind), repeats) for kind in KINDS]
    finally:
        await database.close()
    port = free_port()
    more = {
        "EVERSTEP_DATABASE_URL": url,
        "EVERSTEP_DATA_DIR": str(folder / "data"),
        # nobody listens there: whoever brings the vector needs no worker
        "TEMPORAL_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    command = (sys.executable, "-m", "engine.edge.cli", "serve", "--port", str(port))
    api = Process("api", command, clean_environment(more), folder)
    api.start()
    try:
        await api.accepting(port)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api", timeout=60, trust_env=False) as http:

            async def over_http(kind: Kind, number: int) -> None:
                body = body_for(kind, asked[number], wanted[number])
                answer = await http.post(f"/agents/{owner.id}/search", json=body)
                assert answer.json()["docs"], answer.text

            of_api = [await timed(partial(over_http, kind), repeats) for kind in KINDS]
    finally:
        await api.stop()
    return [Measured(kind.title, *both) for kind, *both in zip(KINDS, of_store, of_api, strict=True)]


# --- what is told ----------------------------------------------------------------------------------------------------


def spread(times: Sequence[float]) -> str:
    """Return median, 95th percentile and maximum."""
    return " / ".join(f"{value:.3g}" for value in (times[len(times) // 2], times[int(len(times) * 0.95)], times[-1]))


def rows(found: Sequence[Measured]) -> list[tuple[str, str, str, str]]:
    """Return the lines of the table."""
    return [
        (
            one.title,
            spread(one.at_store),
            spread(one.over_http),
            "yes" if one.over_http[int(len(one.over_http) * 0.95)] < LIMIT_MS else "no",
        )
        for one in found
    ]


HEAD = ("search", "store, ms", "HTTP, ms", f"p95 below {LIMIT_MS} ms")


def markdown(found: Sequence[Measured], around: Mapping[str, Any]) -> str:
    """Return the circumstances and the table as Markdown."""
    lines = [
        f"Measured on {around['date']}: {around['cpus']} CPUs ({around['system']}), Python {around['python']}, SQLite "
        f"{around['sqlite']}. {around['docs']:,} documents of one agent, {around['repeats']} searches for each cell, "
        f"one after another; p50 / p95 / max. Load average before {around['load_before']}.",
        "",
        f"| {' | '.join(HEAD)} |",
        "| --- | --- | --- | --- |",
        *(f"| {' | '.join(row)} |" for row in rows(found)),
    ]
    return "\n".join(lines) + "\n"


def show(found: Sequence[Measured], around: Mapping[str, Any]) -> None:
    """Print the table."""
    console = Console(width=None if os.isatty(1) else 120)
    table = Table(*HEAD, title=f"[bold]searches of {around['docs']:,} documents, p50 / p95 / max")
    for row in rows(found):
        table.add_row(*row)
    console.print(table)
    console.print(f"Load average before {around['load_before']}, after {around['load_after']}.", markup=False)


def save(folder: Path, found: Sequence[Measured], around: Mapping[str, Any]) -> None:
    """Write docs.json and docs.md."""
    folder.mkdir(parents=True, exist_ok=True)
    body = json.dumps({**around, "measured": [asdict(one) for one in found]}, indent=1)
    (folder / "docs.json").write_text(f"{body}\n", encoding="utf-8")
    (folder / "docs.md").write_text(markdown(found, around), encoding="utf-8")


def main(arguments: Sequence[str]) -> int:
    """Run the bench of searches.

    Args:
        arguments: Of the command line, behind `docs`.

    Returns:
        Exit code: 130 if it was interrupted.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks docs", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few documents and searches: checks the bench itself")
    parser.add_argument("--page", action="store_true", help="put the table into docs/benchmarks.md")
    given = parser.parse_args(arguments)
    count, repeats = (300, 5) if given.quick else (10_000, 200)
    before = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="everstep-docs-") as name:
        try:
            found = asyncio.run(measure(Path(name), count, repeats))
        except KeyboardInterrupt:
            return 130
    around = {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "docs": count,
        "repeats": repeats,
        "load_before": round(before[0], 2),
        "load_after": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{platform.system()} {platform.machine()}",
    }
    show(found, around)
    if not given.quick:
        save(RESULTS, found, around)
    if given.page:
        text = PAGE.read_text(encoding="utf-8")
        part = markdown(found, around)
        PAGE.write_text(MARK.sub(lambda match: f"{match[1]}{part}{match[2]}", text), encoding="utf-8")
    return 0
