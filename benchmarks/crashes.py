"""The workloads with a crash: W7 (the worker of W2 is killed in the middle) and the herd of long executions."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowExecutionDescription, WorkflowHandle
from temporalio.common import SearchAttributeKey

from benchmarks.model import SLOW
from benchmarks.stand import Model, Side, Stand, running_stand
from benchmarks.steady import Sample, Size, all_at_once
from benchmarks.tasks import herd, pair
from engine.core.contracts.execution import ATTRIBUTE_STATUS
from engine.core.kinds import ExecutionStatus

LIMIT_S = 300.0
"""An execution that has not finished by then counts as lost."""
WATCH_S = 0.02

_STATUS = SearchAttributeKey.for_keyword(ATTRIBUTE_STATUS)


async def calls_reach(model: Model, wanted: int) -> None:
    """Wait until the model has been called so often.

    Raises:
        TimeoutError: It was not.
    """
    async with asyncio.timeout(LIMIT_S):
        while (await model.count())[0] < wanted:  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(WATCH_S)


async def finished_of(handles: list[WorkflowHandle[Any, Any]]) -> int:
    """Wait for the results of executions and return how many came in time."""

    async def one(handle: WorkflowHandle[Any, Any]) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LIMIT_S):
                await handle.result()
                return True
        return False

    return sum(await asyncio.gather(*(one(handle) for handle in handles)))


async def w7(stand: Stand, side: Side, size: Size) -> Sample:
    """Seconds that a kill -9 in the middle of W2 (LLM 50 ms) costs.

    The worker is killed when the model has had half of the calls, and started again at once. Recovery = duration with
    the kill (first start to last end) minus that of an undisturbed run just before.
    """
    job, calls = pair(SLOW), 2 * size.executions
    undisturbed, _ = await all_at_once(stand, side, job, size.executions)
    await stand.model.forget()
    process = stand.workers[side]
    began = time.perf_counter()
    starting = asyncio.gather(*(stand.start(side, job) for _ in range(size.executions)))
    await calls_reach(stand.model, calls // 2)
    process.kill()
    killed = time.perf_counter()
    process.start()
    ready = asyncio.create_task(process.ready_line())
    finished = await finished_of(list(await starting))
    ended = time.perf_counter()
    await ready
    made, distinct = await stand.model.count()
    facts = {
        "finished": finished,
        "executions": size.executions,
        "calls_repeated": made - distinct,
        "kill_to_last_end_s": ended - killed,
        "undisturbed_s": undisturbed,
    }
    return Sample(ended - began - undisturbed, facts=facts)


def _at_gate(side: Side, told: WorkflowExecutionDescription, size: Size) -> bool:
    if side is Side.OURS:
        return told.typed_search_attributes.get(_STATUS) == ExecutionStatus.AWAITING_INPUT.value
    return told.history_length >= 3 + 6 * size.rounds


class Herds:
    """Herds of long executions, made once for each side and copied for every measurement.

    Args:
        folder: Where they are kept.
        model: The fake model.
        project: The everstep.toml.
        size: How large.
    """

    def __init__(self, folder: Path, model: Model, project: Path, size: Size) -> None:
        self._folder = folder
        self._model = model
        self._project = project
        self._size = size
        self._ids: dict[Side, list[str]] = {}
        self._events: dict[Side, int] = {}

    async def _prepare(self, side: Side) -> None:
        """Run a herd up to its first gate and stop the server, so that its folder can be copied."""
        size = self._size
        job = herd(size.rounds, size.calls)
        async with running_stand(self._folder / side, self._model, self._project, side) as stand:
            handles = await asyncio.gather(*(stand.start(side, job) for _ in range(size.herd)))
            await stand.quiet(side)
            while True:
                told = [await handle.describe() for handle in handles]
                if all(_at_gate(side, one, size) for one in told):
                    break
                await asyncio.sleep(2)
            await stand.quiet(side)
            self._ids[side] = [handle.id for handle in handles]
            self._events[side] = round(sum(one.history_length for one in told) / len(told))

    async def measure(self, side: Side) -> Sample:
        """Seconds from the kill of the worker until all executions of the herd have finished."""
        if side not in self._ids:
            await self._prepare(side)
        size, model = self._size, self._model
        with tempfile.TemporaryDirectory(prefix="herd-", dir=self._folder) as name:
            copy = Path(name) / "copy"
            shutil.copytree(self._folder / side, copy)
            async with running_stand(copy, model, self._project, side) as stand:
                handles = [stand.client.get_workflow_handle(key) for key in self._ids[side]]
                await model.forget()
                await asyncio.gather(*(stand.open_gate(side, handle, 1) for handle in handles))
                await calls_reach(model, size.herd)
                await stand.quiet(side)
                await model.forget()
                await asyncio.gather(*(stand.open_gate(side, handle, 2) for handle in handles))
                await calls_reach(model, size.herd * size.calls // 2)
                process = stand.workers[side]
                process.kill()
                killed = time.perf_counter()
                process.start()
                ready = asyncio.create_task(process.ready_line())
                finished = await finished_of(handles)
                took = time.perf_counter() - killed
                await ready
                made, distinct = await model.count()
        facts: dict[str, float] = {
            "finished": finished,
            "executions": size.herd,
            "calls_repeated": made - distinct,
            "history_events": self._events[side],
        }
        return Sample(took, facts=facts)
