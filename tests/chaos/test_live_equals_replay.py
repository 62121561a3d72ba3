"""The events that workers wrote while they lived and those that a replay of the history gives are the same."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from sqlalchemy import Connection, delete, select
from temporalio.client import WorkflowHandle
from temporalio.service import RPCError

from engine.control.replaying import repair_execution
from engine.core.contracts.execution import SIGNAL_MESSAGE, MessageSignal
from engine.store.schema import events
from tests.chaos.conftest import OpenLab
from tests.support.lab import TENANT, Ended, Lab, plan_of
from tests.support.processes import worker_process
from tests.support.program_leaves import KEY, PING
from tests.support.programs import ANSWER, MODULE, TOOLS, Program, make_program
from tests.support.rows import assert_rows_are_those_of_the_histories, settle_all
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
        running: Executions that have not ended, by id.
    """

    lab: Lab
    ended: list[tuple[WorkflowHandle[Any, Any], Ended]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    running: dict[str, WorkflowHandle[Any, Any]] = field(default_factory=dict)

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
            self.running[handle.id] = handle
            disturbing = asyncio.create_task(disturb(self.lab, handle, program, chance))
            try:
                ended = await self.lab.end_of(handle)
            finally:
                del self.running[handle.id]
                disturbing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await disturbing
        self.kinds.update(program.kinds)
        self.ended.append((handle, ended))


async def disturb(lab: Lab, handle: WorkflowHandle[Any, Any], program: Program, chance: random.Random) -> None:
    """Answer waits, send events and messages blindly until the end, some too early or too late; cancel a few."""
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
            if "event" in program.kinds:
                await lab.send(handle, PING, ANSWER, key=chance.choice([None, KEY]))
            for inbox in program.inboxes:
                value = ANSWER | {"hold": chance.random() < 0.5}
                await handle.signal(SIGNAL_MESSAGE, MessageSignal(id=uuid.uuid4().hex, name=inbox, value=value))


async def next_workflow_task(handle: WorkflowHandle[Any, Any]) -> None:
    """Return when an execution completes its next workflow task, or ends, or does nothing for a second."""
    seen = (await handle.describe()).history_length
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1):
            async for event in handle.fetch_history_events(wait_new_event=True):
                if event.event_id > seen and event.HasField("workflow_task_completed_event_attributes"):
                    return


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
    seeds = range(350 if full else 24) if cached_workflows > AT_ONCE else range(1_000, 1_300 if full else 1_016)
    async with lab.worker(cached_workflows=cached_workflows):
        await group.run(seeds)
    carried = 0
    for handle, ended in group.ended:
        before = await lab.events(handle)
        replaced = await repair(lab, handle)
        assert await lab.events(handle) == before
        assert not replaced, handle.id
        if not ended.cancelled:
            assert await lab.store.digest(handle.id) == (ended.events, ended.digest, ended.times)
        carried += await runs_of(lab, handle) > 1
    await settle_all(lab)
    compared = await assert_rows_are_those_of_the_histories(lab, [handle.id for handle, _ in group.ended], lab.folder)
    print(f"all rows of {compared.executions} executions are those of a rebuild ({compared.took_s:.1f} s)")  # noqa: T201
    assert len(group.ended) == len(seeds)
    assert carried >= len(seeds) // 10
    assert {"parallel", "retry", "sleep", "wait", "listen"} <= group.kinds.keys()


async def lose_events(lab: Lab, ids: list[str], chance: random.Random) -> set[str]:
    """Delete events as a killed worker does that had not written them: some in a row; of a third of all executions.

    Kills alone lose events only now and then, by luck.
    """
    thinned = set(chance.sample(ids, len(ids) // 3))

    def lose(connection: Connection) -> None:
        for execution_id in thinned:
            mine = events.c.execution_id == execution_id
            rows = connection.execute(select(events.c.run_id, events.c.seq).where(mine).order_by(*events.primary_key))
            if stored := rows.all():  # a kill may have taken all of it
                run_id, first = chance.choice(stored)
                gone = events.c.seq.between(first, first + chance.randrange(4))
                connection.execute(delete(events).where(mine, events.c.run_id == run_id, gone))

    await lab.store.database.run(lose, write=True)
    return thinned


@pytest.mark.slow
@pytest.mark.timeout(3600)
async def test_after_kills_a_replay_of_the_history_restores_every_event(
    new_lab: OpenLab, full: bool, record_property: Any
):
    lab = await new_lab("killed")
    group = Group(lab)
    seeds = range(2_000, 2_350 if full else 2_020)
    kills = 0
    async with worker_process(lab, MODULE) as worker:
        running = asyncio.create_task(group.run(seeds))
        chance = random.Random(len(seeds))
        while not running.done() and kills < (12 if full else 3):
            await asyncio.wait([running], timeout=chance.uniform(0.8, 2.0))
            if group.running:
                # just after a workflow task, when its events are still on their way to the store
                await next_workflow_task(chance.choice(list(group.running.values())))
                worker.kill()
                kills += 1
                worker.start()
                await worker.ready()
        await running
    lost = await lose_events(lab, [handle.id for handle, _ in group.ended], random.Random(7))
    differed = 0
    for handle, ended in group.ended:
        before = await lab.events(handle) if await lab.store.tenant_of(handle.id) else []
        whole = not ended.cancelled and await lab.store.digest(handle.id) == (ended.events, ended.digest, ended.times)
        replaced = await repair(lab, handle)
        # where count and hash say that nothing was lost, the replay finds nothing to mend, down to the last byte
        assert not (whole and replaced), (handle.id, before, await lab.events(handle))
        if not ended.cancelled:
            assert await lab.store.digest(handle.id) == (ended.events, ended.digest, ended.times)
        assert not await repair(lab, handle), "a second repair finds nothing more"
        differed += replaced
    await settle_all(lab)
    compared = await assert_rows_are_those_of_the_histories(lab, [handle.id for handle, _ in group.ended], lab.folder)
    print(f"all rows of {compared.executions} executions are those of a rebuild ({compared.took_s:.1f} s)")  # noqa: T201
    told = {"executions": len(group.ended), "kills": kills, "differed_before_repair": differed, "thinned": len(lost)}
    for name, value in told.items():
        record_property(name, value)
    print(f"{len(group.ended)} executions, {kills} kills: {differed} differed before the repair")  # noqa: T201 for `-s`
    assert len(group.ended) == len(seeds)
    assert kills >= 2
    assert len(lost) <= differed < len(seeds)


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
