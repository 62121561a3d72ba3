"""Very many executions that wait at one time, answered in a burst with the worker killed in the middle of it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine.client.aio import AsyncClient
from engine.client.views import Execution
from engine.core.errors import Unavailable
from engine.core.run.events import body_of
from tests.chaos.tables import Table
from tests.chaos.voyages import repaired_all
from tests.support.lab import TENANT, open_lab
from tests.support.rows import assert_rows_are_those_of_the_histories
from tests.support.servers import temporal_process
from tests.support.stage import Stage, stage_on, write_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

CLIENTS = 4
AT_ONCE = 8
"""Requests of one client at one time."""
MOST_MB = 400
TASK = """
name: ask
main:
  - wait_for_input: {info: {n: $ _.n}, schema: {type: integer}}
  - evaluate: "$ [steps[0].input.n, _]"
"""


def answer_to(n: int) -> int:
    """Return what an execution is answered: its own number for each."""
    return 3 * n + 1


class Crowd:
    """Executions and the clients that start and answer them.

    Args:
        clients: The clients.
        size: How many executions.
    """

    def __init__(self, clients: list[AsyncClient], size: int) -> None:
        self.clients = clients
        self.ids: list[str] = [""] * size
        self.answered = 0
        self.starts = 0
        self.sent = 0
        self.half = asyncio.Event()

    async def start(self) -> None:
        """Start all executions."""

        async def start(client: AsyncClient, n: int) -> None:
            while not self.ids[n]:
                self.starts += 1
                with contextlib.suppress(Unavailable):
                    self.ids[n] = (await client.start("ask", {"n": n}, key=f"ask {n}")).id

        await self._each(start)

    async def answer(self) -> None:
        """Answer all of them, each until its answer is taken."""
        await self._each(self._answer)

    async def _answer(self, client: AsyncClient, n: int) -> None:
        while True:
            self.sent += 1
            try:
                await client.answer(self.ids[n], answer_to(n), key=f"answer {n}")
            except Unavailable:
                await asyncio.sleep(0.2)
                continue
            self.answered += 1
            if self.answered >= len(self.ids) // 2:
                self.half.set()
            return

    async def _each(self, do: Any) -> None:
        async def work(client: AsyncClient, numbers: Any) -> None:
            for n in numbers:
                await do(client, n)

        # one line for all workers of all clients: whoever is free takes the next
        line = iter(range(len(self.ids)))
        async with asyncio.TaskGroup() as group:
            for client in self.clients:
                for _ in range(AT_ONCE):
                    group.create_task(work(client, line))

    async def until(self, status: str) -> None:
        """Return when all of them have a status."""
        async with asyncio.timeout(600):
            while True:
                counts = await self.clients[0].counts(task_name="ask")
                if counts["by_status"].get(status, 0) == len(self.ids):
                    return
                await asyncio.sleep(0.1)

    async def ends(self) -> dict[str, Execution]:
        """Return all of them as the API tells them now."""
        return {found.id: found async for found in self.clients[0].executions(task_name="ask")}


@contextlib.asynccontextmanager
async def crowd(stage: Stage, size: int) -> AsyncIterator[Crowd]:
    """Open several clients of the API."""
    async with contextlib.AsyncExitStack() as opened:
        clients = [await opened.enter_async_context(AsyncClient(stage.api.url)) for _ in range(CLIENTS)]
        yield Crowd(clients, size)


async def test_a_crowd_that_waits_is_answered_in_a_burst_and_no_answer_is_lost_or_taken_twice(
    full: bool, tmp_path: Path, record_property: Any
):
    size = 2_000 if full else 60
    write_project(tmp_path, llm_url="http://127.0.0.1:1/v1")
    file = tmp_path / "ask.yaml"
    file.write_text(TASK, encoding="utf-8")
    marks = [time.monotonic()]
    with temporal_process(tmp_path) as temporal:
        async with stage_on(tmp_path, temporal) as stage, crowd(stage, size) as all_of:
            await all_of.clients[0].apply(file)
            marks.append(time.monotonic())
            await all_of.start()
            marks.append(time.monotonic())
            await all_of.until("awaiting_input")
            marks.append(time.monotonic())
            answering = asyncio.create_task(all_of.answer())
            await all_of.half.wait()
            await stage.kill("worker-1")
            await answering
            marks.append(time.monotonic())
            await all_of.until("succeeded")
            marks.append(time.monotonic())
            ends = await all_of.ends()
            assert len(ends) == size
            outputs = [ends[one].output for one in all_of.ids]
            assert outputs == [[n, answer_to(n)] for n in range(size)]
            async with open_lab(temporal.address, tmp_path) as lab:
                await repaired_all(stage, lab, all_of.ids, patience_s=300)
                for n, one in enumerate(all_of.ids):
                    bodies = [body_of(event) for event in await lab.store.answer_events(one, tenant=TENANT)]
                    taken = [body["key"] for body in bodies if "value" in body]
                    assert taken == [f"answer {n}"]
                    assert {body["key"] for body in bodies} == {f"answer {n}"}
                await stage.stop()
                summary = await assert_rows_are_those_of_the_histories(lab, all_of.ids, tmp_path)
            assert stage.left() == []
    assert stage.kills == {"worker": 1}
    assert stage.worker_mb < MOST_MB
    taken_s = [f"{later - one:.1f}" for one, later in pairwise(marks)]
    rows = {
        "executions": f"{size}, all waiting at one time; {summary.executions} compared with their histories",
        "starts": f"{all_of.starts} sent, {len(set(all_of.ids))} made",
        "answers": f"{all_of.sent} sent, {all_of.answered} taken",
        "worker killed": f"{stage.kills['worker']} time, after half of the answers",
        "worker memory, most": f"{stage.worker_mb:.0f} MB",
        "seconds to start": taken_s[1],
        "then until all wait": taken_s[2],
        "to answer all": taken_s[3],
        "then until all ended": taken_s[4],
    }
    Table("a crowd that waits", rows).record(record_property)
