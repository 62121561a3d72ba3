"""A herd of long executions whose worker is killed: the next worker has to replay all of them, and must not choke."""

from __future__ import annotations

import asyncio

import pytest

from tests.chaos.examples import tools
from tests.support.lab import Lab
from tests.support.processes import WorkerProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TASK = """
name: herd
main:
  - foreach: {in: $ list(range(_)), do: {tool: double, arguments: {n: $ _}}}
  - evaluate: $ sum(_)
    label: sum
  - wait_for_input: {info: go}
  - tool: double
    arguments: {n: "$ steps['sum'].output"}
"""


async def test_a_herd_goes_on_after_its_worker_was_killed(lab: Lab, full: bool):
    size, rounds = (60, 200) if full else (8, 25)
    lab.tools = (tools.double,)
    worker = WorkerProcess(lab, [tools.__name__])
    worker.start()
    try:
        await worker.ready()
        handles = [await lab.start(TASK, rounds) for _ in range(size)]
        ids = [handle.id for handle in handles]
        async with asyncio.timeout(600):
            while len(await lab.store.open_waits(ids, tenant="default")) < size:  # noqa: ASYNC110 a store sets no event
                await asyncio.sleep(0.2)
        worker.kill()
        await asyncio.gather(*(lab.answer(handle, None) for handle in handles))
        worker.start()
        # with a hundred workflow tasks at once, hardly any of them had gone on after 150 s
        ends = await asyncio.wait_for(asyncio.gather(*(lab.end_of(handle) for handle in handles)), 120)
    finally:
        await worker.stop()
    assert [end.output for end in ends] == [4 * sum(range(rounds))] * size
