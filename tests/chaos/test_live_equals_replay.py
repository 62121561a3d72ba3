"""The events that workers wrote while they lived and those that a replay of the history gives are the same."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from engine.control.repair import repair_execution
from engine.core.run.events import roll_digest
from tests.chaos.conftest import OpenLab
from tests.support.lab import TENANT, Ended, Lab, plan_of
from tests.support.processes import worker_process
from tests.support.programs import ANSWER, MODULE, TOOLS, Program, make_program
from worker import replay_run

AT_ONCE = 24
CANCELLED_OF_100 = 4


@dataclass(slots=True)
class Group:
    """Executions that ran under the same conditions.

    Attributes:
        lab: Where they ran.
        ended: Handle and end of each.
        kinds: How many programs had which kind of step.
    """

    lab: Lab
    ended: list[tuple[WorkflowHandle[Any, Any], Ended]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    async def run(self, seeds: range) -> None:
        """Run one random execution for each seed."""
        gate = asyncio.Semaphore(AT_ONCE)
        async with asyncio.TaskGroup() as group:
            for seed in seeds:
                group.create_task(self._run_one(seed, gate))

    async def _run_one(self, seed: int, gate: asyncio.Semaphore) -> None:
        chance = random.Random(seed)
        carried = chance.random() < 0.4
        program = make_program(seed, most_effects=10, at_least_s=1.1 if carried else 0.0)
        async with gate:
            handle = await self.lab.start(
                plan_of(program.text, TOOLS),
                program.given,
                continue_after_events=chance.choice([8, 20, 40]) if carried else None,
            )
            disturbing = asyncio.create_task(disturb(self.lab, handle, program, chance))
            try:
                ended = await self.lab.end_of(handle)
            finally:
                disturbing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await disturbing
        self.kinds.update(program.kinds)
        self.ended.append((handle, ended))


async def disturb(lab: Lab, handle: WorkflowHandle[Any, Any], program: Program, chance: random.Random) -> None:
    """Answer waits blindly until the end, so that some answers come too early or too late; cancel a few executions."""
    cancel = chance.randrange(100) < CANCELLED_OF_100
    for number in itertools.count():
        await asyncio.sleep(chance.uniform(0.02, 0.3))
        with contextlib.suppress(RPCError):  # it has ended in between
            if cancel and chance.random() < 0.3:
                await lab.cancel(handle, "enough")
                return
            if program.waits:
                # now and then a key comes twice, and gets the outcome of the first time
                await lab.answer(handle, ANSWER, key=f"k{number - (chance.random() < 0.2)}")


async def count_and_digest(lab: Lab, handle: WorkflowHandle[Any, Any]) -> tuple[int, str]:
    """Return number and rolling hash of the stored events."""
    digest, events = "", await lab.events(handle)
    for event in events:
        digest = roll_digest(digest, event.seq, event.type, event.body)
    return len(events), digest


async def repair(lab: Lab, handle: WorkflowHandle[Any, Any]) -> bool:
    """Replay the history and replace the rows if they differ; returns whether they did."""
    return await repair_execution(lab.client, lab.store, handle.id, replay_run)


async def runs_of(lab: Lab, handle: WorkflowHandle[Any, Any]) -> int:
    """Return the number of runs whose events are stored."""
    return len({event.run_id for event in await lab.events(handle)})


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cached_workflows", [1_000, 4], ids=["all-cached", "mostly-evicted"])
async def test_without_a_crash_the_live_events_are_those_of_the_history(
    new_lab: OpenLab, full: bool, cached_workflows: int
):
    lab = await new_lab("calm")
    lab.tools = TOOLS
    group = Group(lab)
    seeds = range(350 if full else 75) if cached_workflows > AT_ONCE else range(1_000, 1_300 if full else 1_060)
    async with lab.worker(cached_workflows=cached_workflows):
        await group.run(seeds)
    carried = 0
    for handle, ended in group.ended:
        before = await lab.events(handle)
        replaced = await repair(lab, handle)
        assert await lab.events(handle) == before
        assert not replaced, handle.id
        if not ended.cancelled:
            assert await count_and_digest(lab, handle) == (ended.events, ended.digest)
        carried += await runs_of(lab, handle) > 1
    assert len(group.ended) == len(seeds)
    assert carried >= len(seeds) // 10
    assert {"parallel", "retry", "sleep", "wait"} <= group.kinds.keys()


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_after_kills_a_replay_of_the_history_restores_every_event(
    new_lab: OpenLab, full: bool, record_property: Any
):
    lab = await new_lab("killed")
    group = Group(lab)
    seeds = range(2_000, 2_350 if full else 2_065)
    kills = 0
    async with worker_process(lab, MODULE) as worker:
        running = asyncio.create_task(group.run(seeds))
        chance = random.Random(len(seeds))
        while not running.done() and kills < (12 if full else 3):
            await asyncio.wait([running], timeout=chance.uniform(1.5, 3.0))
            if not running.done():
                worker.kill()
                kills += 1
                worker.start()
                await worker.ready()
        await running
    differed = 0
    for handle, ended in group.ended:
        before = await lab.store.tenant_of(handle.id) and await lab.events(handle)
        whole = not ended.cancelled and before and await count_and_digest(lab, handle) == (ended.events, ended.digest)
        replaced = await repair(lab, handle)
        # where count and hash say that nothing was lost, the replay must find nothing to mend, down to the last byte
        assert not (whole and replaced), handle.id
        if whole:
            assert await lab.events(handle) == before
        if not ended.cancelled:
            assert await count_and_digest(lab, handle) == (ended.events, ended.digest)
        assert not await repair(lab, handle), "a second repair finds nothing more"
        differed += replaced
    record_property("executions", len(group.ended))
    record_property("kills", kills)
    record_property("differed_before_repair", differed)
    assert len(group.ended) == len(seeds)
    assert kills >= 2
    assert differed < len(seeds)


async def test_the_repair_sees_a_lost_an_altered_and_an_invented_event(new_lab: OpenLab):
    lab = await new_lab("mutated")
    lab.tools = TOOLS
    async with lab.worker():
        handle = await lab.start(plan_of(make_program(1).text, TOOLS), 1)
        disturbing = asyncio.create_task(disturb(lab, handle, make_program(1), random.Random(1)))
        await lab.end_of(handle)
        disturbing.cancel()
    right = await lab.events(handle)
    assert not await repair(lab, handle)
    run_id = right[0].run_id
    lost, altered = right[:3] + right[4:], [right[0], right[1]._replace(body="{}"), *right[2:]]
    invented = [*right, right[-1]._replace(seq=right[-1].seq + 1)]
    for wrong in (lost, altered, invented):
        await lab.store.replace_runs(handle.id, {run_id: wrong}, tenant=TENANT)
        assert await lab.events(handle) != right
        assert await repair(lab, handle)
        assert await lab.events(handle) == right
