"""What operators do to workflows with Temporal's own tools is seen: terminate, reset, delete, pause."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowHandle
from temporalio.common import RawValue, SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError

from engine.control import scan as scan_module
from engine.control.connect import ensure_search_attributes
from engine.control.describing import list_executions
from engine.control.repair import Repair
from engine.control.replaying import rebuild_execution, repair_execution
from engine.control.settling import settle_from_temporal
from engine.control.stories import StoryService
from engine.core.contracts.execution import ATTRIBUTE_TENANT, ExecutionParams
from engine.core.errors import NotFound
from engine.core.kinds import ExecutionStatus
from engine.core.plan.codec import plan_to_json
from engine.core.run.projection import ExecutionFacts
from engine.core.run.story_parts import StepState
from engine.store.definitions import Definitions
from engine.store.projection import ProjectionStore
from engine.store.pulses import PulseStore
from engine.store.rows import Named
from engine.store.upkeep import Upkeep
from tests.support.lab import TENANT, Lab, open_lab, plan_of
from tests.support.patience import PATIENCE_S
from tests.support.rows import assert_rows_are_those_of_the_histories, dump, empty
from tests.support.servers import TemporalProcess, temporal_process
from tests.support.temporal_cli import QUICK_DELETES, temporal_cli
from tests.workflow.test_reindex import delete_workflow, start_as_api
from worker import replay_run

WAITING = "name: waiting\nmain: [{evaluate: $ 1}, {wait_for_input: {info: go}}, {evaluate: '$ [_, 2]'}]"
OTHER = "name: other\nmain: [{sleep: 1.2}, {sleep: 0.2}, {evaluate: $ _}, {sleep: 1.5}]"
PLAIN = "name: plain\nmain: [{evaluate: $ 1}, {sleep: 0.1}, {evaluate: $ _ + 1}]"


@dataclass(slots=True)
class Scene:
    """A laboratory with a repair that is told when to look."""

    lab: Lab
    repair: Repair

    async def facts(self, handle: WorkflowHandle[Any, Any]) -> ExecutionFacts:
        """Return what the store says."""
        return await self.lab.store.get_execution(handle.id, tenant=TENANT)

    async def status(self, handle: WorkflowHandle[Any, Any]) -> ExecutionStatus | None:
        """Return its status; None = the store does not know it."""
        known = await self.lab.store.tenant_of(handle.id)
        return None if known is None else (await self.facts(handle)).status

    async def scan_until(
        self, handle: WorkflowHandle[Any, Any], right: Callable[[ExecutionFacts], bool], timeout_s: float = 30
    ) -> ExecutionFacts:
        """Let the repair look again and again until the row is as it should be."""
        deadline = time.monotonic() + timeout_s
        while True:
            await self.repair.settle_ended()
            await self.repair.scan()
            facts = await self.facts(handle)
            if right(facts):
                return facts
            assert time.monotonic() < deadline, facts
            await asyncio.sleep(0.1)

    async def ended(self, handle: WorkflowHandle[Any, Any]) -> ExecutionFacts:
        """Wait until an execution is settled and verified."""
        return await self.scan_until(handle, lambda facts: facts.settled and facts.verified is True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalProcess]:
    """A server for these tests alone: scans find all that runs on theirs."""
    with temporal_process(tmp_path_factory.mktemp("foreign"), QUICK_DELETES) as running:
        yield running


@pytest.fixture
async def scene(server: TemporalProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Scene]:
    """Open a laboratory; nothing of it runs on when the test is over, since the next one's scans would adopt it."""
    monkeypatch.setattr(scan_module, "QUIET_US", 300_000)
    async with open_lab(server.address, tmp_path) as lab:
        await ensure_search_attributes(lab.client)
        yield Scene(lab, Repair(lab.client, lab.store, replay_run))
        for execution_id in await Upkeep(lab.store.database).ids():
            with contextlib.suppress(RPCError):  # it has ended, or was deleted
                await lab.client.get_workflow_handle(execution_id).terminate()


async def waiting(scene: Scene) -> WorkflowHandle[Any, Any]:
    """Start an execution and let it come to its wait."""
    handle = await start_as_api(scene.lab, WAITING)
    await scene.lab.until(handle, "wait")
    return handle


async def test_a_native_terminate_says_who_did_it_and_why(scene: Scene):
    async with scene.lab.worker():
        handle = await waiting(scene)
    temporal_cli(scene.lab, "workflow", "terminate", "--workflow-id", handle.id, "--reason", "too old")
    facts = await scene.ended(handle)
    assert facts.status is ExecutionStatus.FAILED
    assert facts.error is not None
    assert (facts.error["code"], facts.error["message"]) == ("execution.terminated", "too old")
    assert "temporal-cli" in facts.error["details"]["actor"]
    assert (await scene.lab.store.open_waits([handle.id], tenant=TENANT)) == {}
    await assert_rows_are_those_of_the_histories(scene.lab, [handle.id], scene.lab.folder)
    database = scene.lab.store.database
    folded = await StoryService(scene.lab.store, Definitions(database)).fold(facts)
    story, step = folded.story, folded.story.steps["main.1"]
    assert (story.state, story.error) == (StepState.FAILED, facts.error)
    assert (step.state, step.ended_us, step.waits[0].outcome) == (StepState.CANCELLED, facts.closed_us, "stopped")


async def last_result(scene: Scene, handle: WorkflowHandle[Any, Any]) -> None:
    """Wait for the end of the latest run; the handle stands for the first one, which a reset has ended."""
    await scene.lab.client.get_workflow_handle(handle.id).result()


async def reset_to_first(scene: Scene, handle: WorkflowHandle[Any, Any]) -> None:
    """Reset a workflow to its first workflow task."""
    words = ("--type", "FirstWorkflowTask", "--reason", "once more", "--reapply-exclude", "All")
    temporal_cli(scene.lab, "workflow", "reset", "--workflow-id", handle.id, *words)


async def test_a_native_reset_of_an_open_execution_throws_its_events_away(scene: Scene):
    async with scene.lab.worker():
        handle = await waiting(scene)
        await scene.lab.answer(handle, "first")
        await scene.lab.end_of(handle)
        open_one = await waiting(scene)
    await scene.scan_until(open_one, lambda facts: facts.status is ExecutionStatus.AWAITING_INPUT)
    old = {event.run_id for event in await scene.lab.events(open_one)}
    await reset_to_first(scene, open_one)
    # no worker is there: what was thrown away must go nevertheless
    facts = await scene.scan_until(open_one, lambda facts: facts.last_seq == 0)
    assert facts.status is ExecutionStatus.QUEUED
    assert await scene.lab.store.open_waits([open_one.id], tenant=TENANT) == {}
    async with scene.lab.worker():
        await scene.lab.until(open_one, "wait")
        await scene.lab.answer(open_one, "second")
        await last_result(scene, open_one)
    facts = await scene.ended(open_one)
    assert (facts.status, facts.output) == (ExecutionStatus.SUCCEEDED, ["second", 2])
    assert old.isdisjoint(event.run_id for event in await scene.lab.events(open_one))
    await assert_rows_are_those_of_the_histories(scene.lab, [open_one.id], scene.lab.folder)


async def test_a_native_reset_of_an_ended_execution_makes_it_run_again(scene: Scene):
    async with scene.lab.worker():
        handle = await waiting(scene)
        await scene.lab.answer(handle, "first")
        await scene.lab.end_of(handle)
    first = await scene.ended(handle)
    assert first.output == ["first", 2]
    await reset_to_first(scene, handle)
    again = await scene.scan_until(handle, lambda facts: not facts.settled)
    assert (again.output, again.closed_us, again.verified) == (None, None, None)
    assert not again.status.is_terminal
    async with scene.lab.worker():
        await scene.lab.until(handle, "wait")
        await scene.scan_until(handle, lambda facts: facts.status is ExecutionStatus.AWAITING_INPUT)
        await scene.lab.answer(handle, "second")
        await last_result(scene, handle)
    second = await scene.ended(handle)
    assert second.output == ["second", 2]
    assert second.closed_us is not None
    assert first.closed_us is not None
    assert second.closed_us > first.closed_us
    await assert_rows_are_those_of_the_histories(scene.lab, [handle.id], scene.lab.folder)


async def test_a_reset_that_ends_before_anybody_looks_is_seen_too(scene: Scene):
    async with scene.lab.worker():
        handle = await start_as_api(scene.lab, PLAIN)
        await scene.lab.end_of(handle)
        first = await scene.ended(handle)
        await reset_to_first(scene, handle)
        await last_result(scene, handle)
    closed = first.closed_us or 0
    second = await scene.scan_until(handle, lambda facts: facts.settled and (facts.closed_us or 0) > closed)
    assert second.status is ExecutionStatus.SUCCEEDED
    await scene.ended(handle)
    await assert_rows_are_those_of_the_histories(scene.lab, [handle.id], scene.lab.folder)


async def test_an_open_execution_that_is_deleted_has_failed(scene: Scene):
    async with scene.lab.worker():
        handle = await waiting(scene)
    await delete_workflow(scene.lab, handle.id)
    facts = await scene.scan_until(handle, lambda facts: facts.settled)
    assert facts.status is ExecutionStatus.FAILED
    assert facts.error is not None
    assert facts.error["code"] == "execution.gone"
    assert facts.error["hint"]
    assert facts.gone_us is not None
    assert await scene.lab.store.open_waits([handle.id], tenant=TENANT) == {}
    unsure = {item.id for item in await scene.lab.store.unverified()}
    assert handle.id not in unsure, "nobody tries to compare it any more"


async def test_an_ended_execution_that_is_deleted_keeps_its_result(scene: Scene):
    async with scene.lab.worker():
        handle = await start_as_api(scene.lab, PLAIN)
        await scene.lab.end_of(handle)
    before = await scene.ended(handle)
    events = await scene.lab.events(handle)
    await delete_workflow(scene.lab, handle.id)
    facts = await scene.scan_until(handle, lambda facts: facts.gone_us is not None)
    assert (facts.status, facts.output, facts.closed_us) == (ExecutionStatus.SUCCEEDED, 2, before.closed_us)
    assert await scene.lab.events(handle) == events


async def test_one_that_is_there_again_is_taken_up_again(scene: Scene):
    async with scene.lab.worker():
        open_one, ended = await waiting(scene), await start_as_api(scene.lab, PLAIN)
        await scene.lab.end_of(ended)
        await scene.ended(ended)
        upkeep = Upkeep(scene.lab.store.database)
        for handle in (open_one, ended):
            await upkeep.mark_gone(handle.id, at_us=time.time_ns() // 1_000)
        assert (await scene.facts(open_one)).status is ExecutionStatus.FAILED
        facts = await scene.scan_until(open_one, lambda facts: not facts.settled)
        assert (facts.status, facts.gone_us, facts.error) == (ExecutionStatus.AWAITING_INPUT, None, None)
        facts = await scene.scan_until(ended, lambda facts: facts.gone_us is None)
        assert facts.output == 2
        await scene.lab.answer(open_one, "go on")
        await scene.lab.end_of(open_one)
    assert (await scene.ended(open_one)).output == ["go on", 2]


async def test_many_that_vanish_at_once_are_not_believed_to_be_gone(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.control.foreign.MANY", 2)
    async with scene.lab.worker():
        handles = [await waiting(scene) for _ in range(4)]
    await scene.repair.scan()
    assert "warning" not in scene.repair.pulse()
    for handle in handles[:3]:
        await delete_workflow(scene.lab, handle.id)
    await asyncio.sleep(0.5)  # until they are quiet
    await scene.repair.scan()
    assert "no longer knows 3 of 4" in scene.repair.pulse()["warning"]
    assert {(await scene.facts(handle)).status for handle in handles} == {ExecutionStatus.AWAITING_INPUT}
    from engine.control.reindex import Reindex, Wanted

    ids = tuple(handle.id for handle in handles)
    summary = await Reindex(scene.lab.client, scene.lab.store, replay_run).run(Wanted(ids=ids, accept_gone=True))
    assert (summary.gone, summary.given_up) == (3, 3)
    assert [(await scene.facts(handle)).settled for handle in handles] == [True, True, True, False]
    await scene.repair.scan()
    assert "warning" not in scene.repair.pulse()


async def test_another_server_makes_nothing_fail(scene: Scene, tmp_path: Path):
    lab = scene.lab
    async with lab.worker():
        handle = await waiting(scene)
    await scene.repair.scan()
    first = await PulseStore(lab.store.database).read_temporal()
    (tmp_path / "other").mkdir()
    with temporal_process(tmp_path / "other") as other:
        await _on_other_server(lab, other, handle)
    assert await PulseStore(lab.store.database).read_temporal() == first
    # the old one is asked again
    await asyncio.sleep(0.5)
    await scene.repair.scan()
    assert (await scene.facts(handle)).status is ExecutionStatus.AWAITING_INPUT
    assert "warning" not in scene.repair.pulse()


async def _on_other_server(lab: Lab, other: TemporalProcess, handle: WorkflowHandle[Any, Any]) -> None:
    from temporalio.client import Client

    client = await Client.connect(other.address, data_converter=lab.client.data_converter)
    repair = Repair(client, lab.store, replay_run)
    await asyncio.sleep(0.5)
    for _ in range(3):
        await repair.scan()
        facts = await lab.store.get_execution(handle.id, tenant=TENANT)
        assert (facts.status, facts.gone_us) == (ExecutionStatus.AWAITING_INPUT, None)
    assert "another server" in repair.pulse()["warning"]


async def test_strangers_are_adopted_whether_they_run_or_have_ended(scene: Scene):
    async with scene.lab.worker():
        running, ended = await waiting(scene), await start_as_api(scene.lab, PLAIN)
        await scene.lab.end_of(ended)
    await empty(scene.lab.store.database)
    assert await dump(scene.lab.store.database) == {}
    await _until_known(scene, [running.id, ended.id])
    assert (await scene.ended(ended)).output == 2
    await scene.scan_until(running, lambda facts: facts.status is ExecutionStatus.AWAITING_INPUT)
    await assert_rows_are_those_of_the_histories(scene.lab, [running.id, ended.id], scene.lab.folder)


async def test_a_store_that_was_lost_takes_up_some_at_a_time(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scan_module, "MOST_ADOPTED", 3)
    async with scene.lab.worker():
        handles = [await start_as_api(scene.lab, WAITING) for _ in range(8)]
        for handle in handles:
            await scene.lab.until(handle, "wait")
    ids = [handle.id for handle in handles]
    await empty(scene.lab.store.database)
    writes: list[int] = []
    store = scene.lab.store

    async def ensure(named: Sequence[Any]) -> None:
        writes.append(len(named))
        await ProjectionStore.ensure_executions(store, named)

    monkeypatch.setattr(store, "ensure_executions", ensure)
    await _until_all_are_listed(scene, set(ids))
    report = await scene.repair.scan()
    assert writes == [3], "those of one turn are stored in one transaction"
    assert report.waiting >= 5
    stopping = asyncio.Event()
    monkeypatch.setattr("engine.control.repair.SCAN_S", 0.5)
    running = asyncio.create_task(scene.repair.run(stopping))
    for handle in handles:
        async with asyncio.timeout(PATIENCE_S):
            while await scene.status(handle) is not ExecutionStatus.AWAITING_INPUT:  # noqa: ASYNC110 a store sets no event
                await asyncio.sleep(0.1)
    stopping.set()
    await running
    assert max(writes) == 3
    await assert_rows_are_those_of_the_histories(scene.lab, ids, scene.lab.folder)


async def _until_all_are_listed(scene: Scene, ids: set[str]) -> None:
    query = f"{ATTRIBUTE_TENANT} IS NOT NULL AND ExecutionStatus = 'Running'"
    async with asyncio.timeout(PATIENCE_S):
        while not ids <= {info.execution.workflow_id async for info in list_executions(scene.lab.client, query)}:  # noqa: ASYNC110 a server sets no event
            await asyncio.sleep(0.1)


async def _until_known(scene: Scene, ids: list[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while len(await Upkeep(scene.lab.store.database).known(ids)) < len(ids):
        assert time.monotonic() < deadline
        await scene.repair.scan()
        await asyncio.sleep(0.1)


async def start_as_other_tenant(scene: Scene, execution_id: str, task: str, given: Any) -> WorkflowHandle[Any, Any]:
    """Start an execution of another tenant under an id, which continues as new after a few events."""
    plan = plan_of(task)
    params = ExecutionParams(
        execution_id=execution_id, tenant="zeta", plan=plan_to_json(plan), input=given, continue_after_events=3
    )
    tenant = SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_TENANT), "zeta")
    attributes = TypedSearchAttributes([tenant])
    queue = scene.lab.queue
    client = scene.lab.client
    return await client.start_workflow(
        plan.task, params, id=execution_id, task_queue=queue, search_attributes=attributes
    )


@pytest.mark.parametrize("seen", [True, False], ids=["scanned", "unnoticed"])
async def test_an_execution_with_the_id_of_one_that_was_deleted_tells_the_other_tenant_nothing(
    scene: Scene, seen: bool
):
    async with scene.lab.worker():
        handle = await waiting(scene)
    before = await scene.lab.events(handle)
    await delete_workflow(scene.lab, handle.id)
    if seen:
        await scene.scan_until(handle, lambda facts: facts.settled)
    async with scene.lab.worker() as live:
        other = await start_as_other_tenant(scene, handle.id, OTHER, "zeta-secret")
        latest = scene.lab.client.get_workflow_handle(handle.id)
        async with asyncio.timeout(PATIENCE_S):
            while (await latest.describe()).run_id == other.first_execution_run_id:  # noqa: ASYNC110 a server sets no event
                await asyncio.sleep(0.05)
        await live.flush()
        await scene.repair.settle_ended()
        await scene.repair.scan()
        assert (await latest.result())["output"] == "zeta-secret"
        await live.flush()
    await settle_from_temporal(scene.lab.client, scene.lab.store, handle.id)
    facts = await scene.scan_until(handle, lambda facts: facts.gone_us is not None)
    await scene.scan_until(handle, lambda facts: facts.gone_us is not None)
    with pytest.raises(NotFound):
        await rebuild_execution(scene.lab.client, scene.lab.store, handle.id, replay_run)
    with pytest.raises(NotFound):
        await repair_execution(scene.lab.client, scene.lab.store, handle.id, replay_run)
    assert facts.status is ExecutionStatus.FAILED
    assert facts.error is not None
    assert (facts.error["code"], facts.output, facts.input) == ("execution.gone", None, None)
    assert await scene.lab.events(handle) == before
    assert "zeta" not in json.dumps(await dump(scene.lab.store.database, [handle.id]), default=str)


async def test_one_that_cannot_be_adopted_is_left_alone_and_holds_up_no_other(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
):
    tried: list[str] = []
    ensure = scene.lab.store.ensure_executions

    async def counting(named: Sequence[tuple[str, str, Named]]) -> None:
        tried.extend(execution_id for execution_id, _, _ in named)
        await ensure(named)

    monkeypatch.setattr(scene.lab.store, "ensure_executions", counting)
    good = [await start_as_api(scene.lab, WAITING), await start_as_api(scene.lab, WAITING)]
    # a number that JSON knows and no float holds
    params = ExecutionParams(
        execution_id=str(uuid.uuid4()), tenant=TENANT, plan={}, input=None, metadata={"size": "SIZE"}
    )
    data = json.dumps(asdict(params)).replace('"SIZE"', "1e400").encode()
    tenant = SearchAttributePair(SearchAttributeKey.for_keyword(ATTRIBUTE_TENANT), TENANT)
    bad = await scene.lab.client.start_workflow(
        "waiting",
        RawValue(Payload(metadata={"encoding": b"json/plain"}, data=data)),
        id=params.execution_id,
        task_queue=scene.lab.queue,
        search_attributes=TypedSearchAttributes([tenant]),
    )
    try:
        await _until_all_are_listed(scene, {*(handle.id for handle in good), bad.id})
        for _ in range(3):
            await scene.repair.scan()
        assert [await scene.status(handle) for handle in good] == [ExecutionStatus.QUEUED] * 2
        assert await scene.status(bad) is None
        assert tried.count(bad.id) == 2, "with the others, then alone, and not again at the next scans"
        report = scene.repair.report
        assert report is not None
        assert (report.adopted, report.waiting) == (0, 0)
    finally:
        await bad.terminate()
