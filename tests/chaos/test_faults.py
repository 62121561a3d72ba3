"""Networks that fail between worker and model, worker and Temporal, API and store: executions end as if they had not.

Connections are cut, delayed, silent or spoiled, in an order and at moments that a seed gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from engine.client.aio import AsyncClient
from engine.edge.mockllm.app import create_app
from tests.chaos.tables import Table, counted
from tests.chaos.voyages import Voyages, look_over
from tests.support.faults import Fault, FaultLine, fault_line
from tests.support.postgres import PostgresServer, on_postgres, store_url
from tests.support.receiver import Receiver
from tests.support.servers import TemporalProcess, serve_app, temporal_process
from tests.support.stage import Stage, Wires, stage_on, write_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEED = 11
LONGEST_S = {Fault.CUT: 1.0, Fault.DELAY: 2.0, Fault.HALF_OPEN: 1.5, Fault.GARBAGE: 1.0}


async def trouble(line: FaultLine, rounds: int, seed: int) -> None:
    """Let a line have every fault so many times, each until a connection has met it."""
    chance = random.Random(seed)
    plan = [*Fault] * rounds
    chance.shuffle(plan)
    for fault in plan:
        await asyncio.sleep(chance.uniform(0.1, 0.6))
        met = line.counts[fault]
        line.begin(fault)
        await asyncio.sleep(chance.uniform(0.3, LONGEST_S[fault]))
        while line.counts[fault] == met:  # noqa: ASYNC110 a counter sets no event
            await asyncio.sleep(0.02)
        line.end()


@contextlib.asynccontextmanager
async def scene(
    folder: Path, temporal: TemporalProcess, server: PostgresServer
) -> AsyncIterator[tuple[Stage, Voyages, Receiver, dict[str, FaultLine]]]:
    """Open an installation whose worker and API reach the others over lines that fail."""
    receiver = Receiver()
    async with contextlib.AsyncExitStack() as opened:
        llm = await opened.enter_async_context(serve_app(create_app()))
        url = await opened.enter_async_context(serve_app(receiver))
        ports = {"model": int(llm.rpartition(":")[2]), "Temporal": temporal.port, "store": server.port}
        lines = {
            name: await opened.enter_async_context(fault_line(port, seed=SEED + number))
            for number, (name, port) in enumerate(ports.items())
        }
        write_project(folder, llm_url=f"http://127.0.0.1:{lines['model'].port}/v1")
        straight = store_url(folder / "lab.db")
        wires = Wires(
            worker_temporal=f"127.0.0.1:{lines['Temporal'].port}",
            # a silent store is given up sooner than by default, so that the test need not take minutes
            api_database=straight.replace(f":{server.port}/", f":{lines['store'].port}/") + "?command_timeout=2",
        )
        stage = await opened.enter_async_context(stage_on(folder, temporal, wires=wires))
        client = await opened.enter_async_context(AsyncClient(stage.api.url))
        yield stage, Voyages(client, url), receiver, lines


async def test_networks_that_fail_change_nothing(
    full: bool, tmp_path: Path, postgres: PostgresServer, record_property: Any
):
    size, within_s, rounds = (100, 40.0, 6) if full else (12, 3.0, 1)
    began = time.monotonic()
    with on_postgres(postgres, tmp_path), temporal_process(tmp_path) as temporal:
        async with scene(tmp_path, temporal, postgres) as (stage, voyages, receiver, lines):
            await voyages.prepare()
            failing = [asyncio.create_task(trouble(line, rounds, line.seed)) for line in lines.values()]
            await voyages.run(size, seed=SEED, within_s=within_s)
            ran_s = time.monotonic() - began
            # the last ones may wait for a connection that nobody needs any more
            for task in failing:
                task.cancel()
            for line in lines.values():
                line.end()
            await asyncio.gather(*(helper.ready() for helper in stage.helpers))
            found = await look_over(stage, voyages, receiver)
    for line in lines.values():
        assert line.counts.keys() == set(Fault), "each fault met a connection"
    met = {f"connections to {name} that met": counted(line.counts) for name, line in lines.items()}
    rows = {
        "executions": f"{len(voyages.all)} ({counted(found.ends)}), {found.executions} with children",
        **met,
        "ended by themselves": counted(stage.ended_alone) or "none",
        "answers": f"{voyages.sent} sent, {found.answers} taken, {found.answers_again} came again",
        "requests made again": f"{voyages.asked_again} ({counted(voyages.refusals)})",
        "effects at the receiver": found.effects,
        "calls repeated under one key": found.repeated,
        "outcome unknown": found.unknown,
        "repaired from histories": stage.repair.log.count("events restored from the history"),
        "seconds": f"{ran_s:.0f} to the last end, {time.monotonic() - began:.0f} in all",
    }
    Table("faults on the wires", rows).record(record_property)
