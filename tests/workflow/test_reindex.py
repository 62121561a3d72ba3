"""A reindex makes the rows from the histories that the workers wrote while they lived, for every sort of execution."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes

from engine.control.connect import ensure_search_attributes
from engine.control.reindex import Reindex, Summary, Wanted
from engine.core.contracts.execution import (
    ATTRIBUTE_TENANT,
    SIGNAL_CONTROL,
    ControlSignal,
    ExecutionParams,
    Fork,
    Recorded,
)
from engine.core.plan.codec import plan_to_json
from engine.tooling import tool
from tests.support.dev_process import everstep
from tests.support.lab import TENANT, Lab, open_lab, plan_of
from tests.support.patience import PATIENCE_S
from tests.support.postgres import store_url
from tests.support.rows import Rows, differences, dump, empty, settle_all
from tests.support.servers import TemporalProcess, clean_environment, free_port, temporal_process
from tests.support.temporal_cli import QUICK_DELETES, temporal_cli
from worker import replay_run

_CALLS: dict[str, int] = {}


@tool(effect="read")
async def twice(key: str) -> str:
    """Fail the first time."""
    _CALLS[key] = _CALLS.get(key, 0) + 1
    if _CALLS[key] < 2:
        raise RuntimeError("not yet")
    return key


CHILD = "name: kid\nmain: [{evaluate: $ _ + 1}]"
TASKS: dict[str, tuple[str, Any]] = {
    "plain": ("name: plain\nmain: [{evaluate: '$ _ + 1'}, {prompt: 'say it', unwrap: true}]", 1),
    "children": (
        'name: parent\nmain: [{over: "$ range(3)", map: {task: kid, arguments: $ _}}, {task: kid, arguments: $ 4}]',
        None,
    ),
    "retries": (
        "name: retries\nmain: [{tool: twice, arguments: {key: $ _}, retry: {attempts: 3, initial: 0.05}}]",
        "a",
    ),
    "answered": ("name: answered\nmain: [{wait_for_input: {info: go}}, {evaluate: $ _}]", None),
    "renewed": (
        'name: renewed\nmain: [{foreach: {in: "$ list(range(40))", do: {sleep: 0.06}}}, {evaluate: $ 1}]',
        None,
    ),
    "cancelled": ("name: cancelled\nmain: [{wait_for_input: {info: never}}]\nfinally: [{evaluate: $ 1}]", None),
    "failed": ("name: failed\nmain: [{error: it went wrong}]", None),
    "terminated": ("name: terminated\nmain: [{evaluate: $ 1}, {wait_for_input: {info: never}}]", None),
    "paused": ("name: paused\nmain: [{wait_for_input: {info: still, deadline: 1h}}]", None),
    "forked": ("name: forked\nmain: [{evaluate: $ 1}, {evaluate: $ _ + 1}, {evaluate: $ _ + 1}]", None),
    "waiting": ("name: waiting\nmain: [{evaluate: $ 1}, {wait_for_input: {info: still}}]", None),
    "sleeping": ("name: sleeping\nmain: [{evaluate: $ 1}, {sleep: 3600}]", None),
}
OPEN = ("waiting", "sleeping", "paused")
FORK = Fork(
    kind="fork",
    execution_id="00000000-0000-4000-8000-00000000000f",
    path="main.2",
    seed="00000000-0000-4000-8000-00000000000f",
    recorded={"main.0": Recorded(output=5, at_us=1), "main.1": Recorded(output=6, at_us=1)},
)


async def start(lab: Lab, name: str) -> WorkflowHandle[Any, Any]:
    """Start one as the API does: with what makes lists find it."""
    text, given = TASKS[name]
    given = uuid.uuid4().hex if name == "retries" else given
    more: dict[str, Any] = {"continue_after_events": 40} if name == "renewed" else {}
    more |= {"fork": FORK} if name == "forked" else {}
    return await start_as_api(lab, text, given, **more)


async def start_as_api(lab: Lab, text: str, given: Any = None, **more: Any) -> WorkflowHandle[Any, Any]:
    """Start an execution with labels, metadata, an actor and the search attribute that scans find it by."""
    plan = plan_of(text, lab.tools)
    execution_id = str(uuid.uuid4())
    params = ExecutionParams(
        execution_id=execution_id,
        tenant=TENANT,
        plan=plan_to_json(plan),
        input=given,
        metadata={"customer": {"id": 7}},
        labels=["red", "large"],
        actor="ann",
        **more,
    )
    tenant = SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_TENANT), TENANT)
    return await lab.client.start_workflow(
        plan.task, params, id=execution_id, task_queue=lab.queue, search_attributes=TypedSearchAttributes([tenant])
    )


async def run_all(lab: Lab) -> dict[str, WorkflowHandle[Any, Any]]:
    """Run one execution of every sort as far as it goes, and settle those that ended."""
    await ensure_search_attributes(lab.client)
    await lab.definitions.create_task(CHILD, tenant=TENANT)
    handles = {name: await start(lab, name) for name in TASKS}
    for name in ("answered", "cancelled", "terminated", "waiting", "paused"):
        await lab.until(handles[name], "wait")
    await lab.until(handles["sleeping"], "step")
    for kind, members in (("pause", {}), ("deadline", {"wait_id": "main.0", "deadline_us": None})):
        signal = ControlSignal(kind=kind, key=kind, actor="ann", **members)  # type: ignore[arg-type]
        await handles["paused"].signal(SIGNAL_CONTROL, signal)
    await lab.until(handles["paused"], "deadline.changed")
    await lab.answer(handles["answered"], {"ok": True})
    await lab.cancel(handles["cancelled"], "enough")
    await handles["terminated"].terminate(reason="by hand")
    for name in TASKS.keys() - {*OPEN, "terminated"}:
        await lab.end_of(handles[name])
    return handles


async def reindex(lab: Lab, **wanted: Any) -> Summary:
    """Rebuild in this process."""
    return await Reindex(lab.client, lab.store, replay_run).run(Wanted(**wanted))


async def everything(lab: Lab) -> dict[str, WorkflowHandle[Any, Any]]:
    """Run all sorts with a worker that has written all its events when it is gone."""
    lab.tools = (twice,)
    async with lab.worker():
        handles = await run_all(lab)
    await settle_all(lab)
    return handles


async def test_a_reindex_gives_the_same_rows_whatever_is_left_of_them(lab: Lab, temporal_address: str):
    handles = await everything(lab)
    before = await dump(lab.store.database)
    check_sorts(before, handles)
    await unchanged_rows_stay(lab, before)
    await rows_come_from_nothing(lab, before)
    await damaged_rows_are_mended(lab, before)
    await the_command_does_the_same(lab, before, temporal_address)
    found = [item async for item in _listed(lab)]
    assert {handle.id for handle in handles.values()} <= set(found), "without ids, lists find them"


def check_sorts(before: Rows, handles: dict[str, WorkflowHandle[Any, Any]]) -> None:
    """All sorts of executions are there, with rows in every table."""
    assert len(before) == len(TASKS) + 4, "children count too"
    runs = {row["run_id"] for row in before[handles["renewed"].id]["events"]}
    assert len(runs) > 1, "one has continued as new"
    assert len(before[handles["retries"].id]["attempts"]) == 2
    assert [row["actor"] for row in before[handles["answered"].id]["waits"]] == ["test"]
    assert [row["deadline_us"] for row in before[handles["paused"].id]["waits"]] == [None]
    [forked] = before[handles["forked"].id]["executions"]
    assert (forked["forked_from"], forked["fork_kind"], forked["fork_path"]) == (FORK.execution_id, "fork", "main.2")
    assert forked["output"] == "7"
    kinds = {row["kind"] for row in before[handles["plain"].id]["execution_tags"]}
    assert kinds == {"label", "meta", "model", "backend"}
    statuses = {name: before[handle.id]["executions"][0]["status"] for name, handle in handles.items()}
    assert statuses == dict.fromkeys(TASKS, "succeeded") | {
        "cancelled": "cancelled",
        "failed": "failed",
        "terminated": "failed",
        "paused": "paused",
        "waiting": "awaiting_input",
        "sleeping": "running",
    }


async def unchanged_rows_stay(lab: Lab, before: Rows) -> None:
    """What is right is not written anew, with and without dropping it first."""
    for drop in (False, True):
        summary = await reindex(lab, ids=tuple(before), drop=drop)
        assert (summary.unchanged, summary.rebuilt) == (len(before), 0), drop
        assert differences(before, await dump(lab.store.database)) == []


async def rows_come_from_nothing(lab: Lab, before: Rows) -> None:
    """An empty projection is filled with the same rows."""
    await empty(lab.store.database)
    assert await dump(lab.store.database) == {}
    summary = await reindex(lab, ids=tuple(before))
    assert (summary.executions, summary.rebuilt, summary.failed) == (len(before), len(before), [])
    assert differences(before, await dump(lab.store.database)) == []


async def damaged_rows_are_mended(lab: Lab, before: Rows) -> None:
    """Rows of every table come back, and those that were altered."""

    def damage(connection: Any) -> None:
        from sqlalchemy import delete, update

        from engine.store.schema import attempts, events, execution_tags, executions, waits

        connection.execute(update(executions).values(task_name="other", status="running", output='"x"', llm_calls=99))
        connection.execute(delete(events).where(events.c.seq == 2))
        for table in (attempts, execution_tags, waits):
            connection.execute(delete(table))

    await lab.store.database.run(damage, write=True)
    assert len(differences(before, await dump(lab.store.database))) > len(before)
    summary = await reindex(lab, ids=tuple(before))
    assert summary.rebuilt == len(before)
    assert differences(before, await dump(lab.store.database)) == []


async def the_command_does_the_same(lab: Lab, before: Rows, temporal_address: str) -> None:
    """`everstep reindex` fills an empty projection too, and tells what it did."""
    await empty(lab.store.database)
    environment = clean_environment() | {"EVERSTEP_DATABASE_URL": store_url(lab.folder / "lab.db")}
    command = [sys.executable, "-P", "-m", "engine.edge.cli", "reindex", *before, "-o", "json"]
    command += ["--data-dir", str(lab.folder), "--temporal-address", temporal_address]
    ran = await asyncio.to_thread(
        subprocess.run, command, env=environment, cwd=Path(lab.folder), capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    told = json.loads(ran.stdout)
    assert (told["executions"], told["rebuilt"], told["failed"], told["gone"]) == (len(before), len(before), 0, 0)
    assert differences(before, await dump(lab.store.database)) == []


async def test_a_reindex_may_run_beside_a_worker(lab: Lab):
    lab.tools = (twice,)
    async with lab.worker():
        handles = [await start_as_api(lab, TASKS["renewed"][0], continue_after_events=40) for _ in range(6)]
        ends = asyncio.gather(*(lab.end_of(handle) for handle in handles))
        while not ends.done():
            for drop in (False, True):
                summary = await reindex(lab, ids=tuple(handle.id for handle in handles), drop=drop)
                assert summary.failed == []
            await asyncio.sleep(0.05)
        await ends
    await settle_all(lab)
    after = await dump(lab.store.database)
    await empty(lab.store.database)
    await reindex(lab, ids=tuple(handle.id for handle in handles))
    assert differences(after, await dump(lab.store.database)) == []
    for handle, end in zip(handles, await ends, strict=True):
        assert await lab.store.digest(handle.id) == (end.events, end.digest, end.times)


@pytest.fixture(scope="module")
def quick_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalProcess]:
    """A server that deletes at once and knows nothing but what these tests start."""
    with temporal_process(tmp_path_factory.mktemp("quick"), QUICK_DELETES) as running:
        yield running


@pytest.fixture
async def alone(quick_server: TemporalProcess, tmp_path: Path) -> AsyncIterator[Lab]:
    """A laboratory at that server."""
    async with open_lab(quick_server.address, tmp_path) as opened:
        await ensure_search_attributes(opened.client)
        yield opened


async def test_what_temporal_no_longer_has_keeps_its_rows_and_is_counted(alone: Lab):
    lab = alone
    async with lab.worker():
        handle = await start(lab, "plain")
        await lab.end_of(handle)
    await settle_all(lab)
    before = await dump(lab.store.database)
    await delete_workflow(lab, handle.id)
    for drop in (False, True):
        summary = await reindex(lab, ids=(handle.id,), drop=drop)
        assert (summary.gone, summary.rebuilt, summary.unchanged, summary.failed) == (1, 0, 0, [])
        assert differences(before, await dump(lab.store.database)) == []
    assert (await lab.store.get_execution(handle.id, tenant=TENANT)).gone_us is not None


async def delete_workflow(lab: Lab, execution_id: str) -> None:
    """Delete a workflow as an operator does, and wait until it is no longer there."""
    from engine.control.describing import describe
    from engine.core.errors import NotFound

    temporal_cli(lab, "workflow", "delete", "--workflow-id", execution_id, "--yes")
    # the server takes its time with one that has just ended
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await describe(lab.client, execution_id)
            except NotFound:
                return
            await asyncio.sleep(0.05)


async def test_one_that_does_not_replay_keeps_its_rows_and_is_marked(lab: Lab):
    async with lab.worker():
        handle = await start_as_api(lab, "name: a\nmain: [{evaluate: $ 1}]")
        await lab.end_of(handle)
    await settle_all(lab)
    before = await dump(lab.store.database)

    async def broken(*arguments: Any) -> list[Any]:
        from engine.control.replaying import ReplayFailed

        raise ReplayFailed("another interpreter wrote it")

    summary = await Reindex(lab.client, lab.store, broken).run(Wanted(ids=(handle.id,)))
    assert [(item["id"], item["code"]) for item in summary.failed] == [(handle.id, "replay.failed")]
    found = differences(before, await dump(lab.store.database))
    assert found == [f"{handle.id} executions[0].verified: True before, False after"]


async def _listed(lab: Lab) -> Any:
    from engine.control.describing import list_executions

    async for info in list_executions(lab.client, f"{ATTRIBUTE_TENANT} IS NOT NULL"):
        yield info.execution.workflow_id


async def test_without_ids_it_finds_all_that_temporal_or_the_store_knows(alone: Lab):
    lab = alone
    async with lab.worker():
        text = "name: a\nmain: [{evaluate: $ 1}]"
        lost, old = await start_as_api(lab, text), await start_as_api(lab, text)
        since_us = time.time_ns() // 1_000
        new = await start_as_api(lab, text)
        for handle in (lost, old, new):
            await lab.end_of(handle)
    await settle_all(lab)
    before = await dump(lab.store.database)
    await delete_workflow(lab, lost.id)
    await _until_listed(lab, {old.id, new.id})
    summary = await reindex(lab)
    assert (summary.executions, summary.unchanged, summary.gone, summary.failed) == (3, 2, 1, [])
    assert differences(before, await dump(lab.store.database)) == []
    await empty(lab.store.database)
    assert (await reindex(lab, since_us=since_us)).rebuilt == 1
    assert differences({new.id: before[new.id]}, await dump(lab.store.database)) == []
    assert (await reindex(lab)).rebuilt == 1
    assert differences({name: before[name] for name in (old.id, new.id)}, await dump(lab.store.database)) == []


async def _until_listed(lab: Lab, ids: set[str]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while {item async for item in _listed(lab)} != ids:  # noqa: ASYNC110 a server sets no event
            await asyncio.sleep(0.05)


async def test_the_command_says_what_is_missing(tmp_path: Path):
    nothing = await asyncio.to_thread(everstep, "reindex", cwd=tmp_path)
    assert nothing.code == 2
    assert "--all" in nothing.err
    dead = await asyncio.to_thread(
        everstep, "reindex", "--all", "--data-dir", str(tmp_path), "--temporal-address", f"127.0.0.1:{free_port()}"
    )
    assert dead.code == 5, dead.err
    assert "error[unreachable]" in dead.err
