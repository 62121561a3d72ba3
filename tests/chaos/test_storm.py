"""Worker, API, repair and Temporal die at any moment, and connections to the store are cut: nothing is lost or doubled.

The short form hits each of them once, the worker twice, under 20 executions, on PostgreSQL; the long form many times
under 200, on both stores.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.client.aio import AsyncClient
from engine.edge.mockllm.app import create_app
from tests.chaos.tables import Table, counted
from tests.chaos.voyages import Voyages, look_over
from tests.support.postgres import PostgresServer, on_postgres, store_url
from tests.support.receiver import Receiver
from tests.support.servers import TemporalProcess, serve_app, temporal_process
from tests.support.stage import Stage, stage_on, write_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEED = 5
CUT = "cut"


@dataclass(frozen=True, slots=True)
class Storm:
    """How hard it blows.

    Attributes:
        executions: How many.
        within_s: Over how many seconds they are started.
        workers: How many workers.
        pause_s: Shortest and longest pause between two blows.
        blows: How often each is hit: worker, api, repair, temporal, connections to the store.
    """

    executions: int
    within_s: float
    workers: int
    pause_s: tuple[float, float]
    blows: dict[str, int]

    def order(self, seed: int) -> list[str]:
        """Return what is hit, in order."""
        names = [name for name, times in sorted(self.blows.items()) for _ in range(times)]
        random.Random(seed).shuffle(names)
        return names


SHORT = Storm(20, 4.0, 1, (0.5, 1.5), {"worker": 2, "api": 1, "repair": 1, "temporal": 1, CUT: 1})
FULL = Storm(200, 40.0, 2, (0.5, 2.5), {"worker": 12, "api": 8, "repair": 6, "temporal": 6, CUT: 10})


async def blow(stage: Stage, storm: Storm, cut: Callable[[], None] | None, seed: int) -> None:
    """Hit one after another, in an order and after pauses that the seed gives."""
    chance = random.Random(seed)
    for name in storm.order(seed):
        await asyncio.sleep(chance.uniform(*storm.pause_s))
        if name == CUT:
            if cut is not None:
                await asyncio.to_thread(cut)
                stage.kills[CUT] += 1
            continue
        what = f"worker-{chance.randint(1, storm.workers)}" if name == "worker" else name
        await stage.kill(what, again_s=chance.uniform(0, 0.5))


@contextlib.asynccontextmanager
async def scene(
    folder: Path, temporal: TemporalProcess, workers: int
) -> AsyncIterator[tuple[Stage, Voyages, Receiver]]:
    """Open an installation with a model, a receiver and clients."""
    receiver = Receiver()
    async with contextlib.AsyncExitStack() as opened:
        llm = await opened.enter_async_context(serve_app(create_app()))
        url = await opened.enter_async_context(serve_app(receiver))
        write_project(folder, llm_url=f"{llm}/v1")
        stage = await opened.enter_async_context(stage_on(folder, temporal, workers=workers))
        client = await opened.enter_async_context(AsyncClient(stage.api.url))
        yield stage, Voyages(client, url), receiver


@pytest.mark.parametrize("store", ["postgresql", "sqlite"])
async def test_whatever_dies_nothing_is_lost_and_nothing_is_done_twice(
    store: str, full: bool, tmp_path: Path, request: pytest.FixtureRequest, record_property: Any
):
    if store == "sqlite" and not full:
        pytest.skip("only in the long form: nothing of it can be cut, and PostgreSQL is hit by all the rest too")
    storm, began = (FULL if full else SHORT), time.monotonic()
    with contextlib.ExitStack() as opened:
        cut = None
        if store == "postgresql":
            server: PostgresServer = request.getfixturevalue("postgres")
            opened.enter_context(on_postgres(server, tmp_path))
            database = store_url(tmp_path / "lab.db").rpartition("/")[2]
            cut = lambda: server.cut(database)  # noqa: E731 two words of the server's
        # of the test's own: one that other tests use may not be killed
        temporal = opened.enter_context(temporal_process(tmp_path))
        async with scene(tmp_path, temporal, storm.workers) as (stage, voyages, receiver):
            await voyages.prepare()
            blowing = asyncio.create_task(blow(stage, storm, cut, SEED))
            await voyages.run(storm.executions, seed=SEED, within_s=storm.within_s)
            ran_s = time.monotonic() - began
            await blowing
            await asyncio.gather(*(helper.ready() for helper in stage.helpers))
            found = await look_over(stage, voyages, receiver)
    expected = {name: times for name, times in storm.blows.items() if cut is not None or name != CUT}
    assert stage.kills == expected
    Table(
        f"kill -9 and cuts, {store}",
        {
            "executions": f"{len(voyages.all)} ({counted(found.ends)}), {found.executions} with children",
            "killed": counted(stage.kills),
            "seconds away": counted({name: round(away_s) for name, away_s in stage.away_s.items()}),
            "ended by themselves": counted(stage.ended_alone) or "none",
            "answers": f"{voyages.sent} sent, {found.answers} taken, {found.answers_again} came again",
            "requests made again": f"{voyages.asked_again} ({counted(voyages.refusals)})",
            "effects at the receiver": found.effects,
            "calls repeated under one key": found.repeated,
            "outcome unknown": found.unknown,
            "repaired from histories": stage.repair.log.count("events restored from the history"),
            "worker memory": f"{stage.worker_mb:.0f} MB",
            "seconds": f"{ran_s:.0f} to the last end, {time.monotonic() - began:.0f} in all",
        },
    ).record(record_property)
