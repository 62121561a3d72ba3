"""Running executions survive an upgrade: old plans, patches, work for a newer worker, and versioned workers."""

from __future__ import annotations

import contextlib
import json
import subprocess
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle, WorkflowHistory
from temporalio.common import VersioningBehavior
from temporalio.worker import WorkerDeploymentConfig
from temporalio.workflow import NondeterminismError

import workflows.patches
from engine.control.deployment import deployment_of
from engine.control.replaying import repair_execution
from engine.core.contracts.execution import ExecutionParams
from engine.core.contracts.patches import INTERPRETER, Patch
from engine.core.errors import InvalidInput
from engine.core.plan.codec import plan_to_json
from engine.core.plan.ir import PLAN_FORMAT, STDLIB_VERSION
from engine.core.run.effects import Call
from engine.edge.supervisor.temporal import find_temporal
from engine.settings import Settings
from engine.store.upkeep import Upkeep
from tests.replay.recording import FOLDER, double
from tests.replay.test_histories import digest_of, load, replay
from tests.support.lab import TENANT, Lab, plan_of
from tests.support.postgres import store_url
from tests.support.processes import worker_process
from tests.support.upgrades import failed_task_of, recorded_input
from worker import replay_run
from workflows.driver import TemporalEffects

TOY = Patch("toy-timer", INTERPRETER, "a timer stands before each call")


async def start_recorded(lab: Lab, name: str, task: str) -> WorkflowHandle[Any, Any]:
    """Start an execution with the very input that an engine of plan format 1 wrote."""
    given = recorded_input(name)
    assert (given["plan"]["format"], given.get("interpreter")) == (1, None)
    execution_id = str(uuid.uuid4())
    return await lab.client.start_workflow(
        task, {**given, "execution_id": execution_id}, id=execution_id, task_queue=lab.queue
    )


# --- plans of an older format --------------------------------------------------------------------------------------


async def test_an_execution_that_waits_with_a_plan_of_format_1_is_answered_and_finished_by_this_code(lab: Lab):
    lab.tools = (double,)
    async with lab.worker():
        handle = await start_recorded(lab, "parallel_wait_answer", "parallel_wait_answer")
        await lab.until(handle, "wait")
    # another worker, which has nothing but the history
    async with lab.worker(cached_workflows=0):
        await lab.answer(handle, {"go": True})
        ended = await lab.end_of(handle)
        await lab.until(handle, "finish")
    assert ended.error is None
    assert ended.output[:2] == [{"go": True}, 8]
    assert await lab.store.digest(handle.id) == (ended.events, ended.digest, ended.times)
    assert await repair_execution(lab.client, lab.store, handle.id, replay_run) is False, "the replay tells the same"
    (row,) = (await Upkeep(lab.store.database).rows_of(handle.id))["executions"]
    assert row["interpreter"] == INTERPRETER


async def test_a_plan_of_format_1_is_carried_over_continue_as_new(lab: Lab):
    lab.tools = (double,)
    async with lab.worker():
        handle = await start_recorded(lab, "continue_as_new", "continue_as_new")
        ended = await lab.end_of(handle)
    assert ended.output == [number * 2 for number in range(14)]
    described = await handle.describe()
    assert described.run_id != handle.first_execution_run_id
    last = await lab.client.get_workflow_handle(handle.id, run_id=described.run_id).fetch_history()
    started = json.loads(last.to_json())["events"][0]["workflowExecutionStartedEventAttributes"]
    assert started["continuedExecutionRunId"]


# --- what needs a newer worker -------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["interpreter", "format", "library"])
async def test_an_execution_of_a_newer_engine_waits_for_a_newer_worker(
    lab: Lab, what: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workflows.patches, "INTERPRETER", INTERPRETER - (what == "interpreter"))
    monkeypatch.setattr(workflows.patches, "PLAN_FORMAT", PLAN_FORMAT - (what == "format"))
    monkeypatch.setattr(workflows.patches, "STDLIB_VERSION", STDLIB_VERSION - (what == "library"))
    async with lab.worker():
        plan, execution_id = plan_of("name: newer\nmain: [{evaluate: $ _ + 1}]"), str(uuid.uuid4())
        params = ExecutionParams(execution_id=execution_id, tenant=TENANT, plan=plan_to_json(plan), input=1)
        # a task that fails again is only repeated after its time limit
        second = timedelta(seconds=1)
        handle = await lab.client.start_workflow(
            plan.task, params, id=execution_id, task_queue=lab.queue, task_timeout=second
        )
        said = await failed_task_of(handle)
        assert "upgrade the workers" in said
        assert (await handle.describe()).status is WorkflowExecutionStatus.RUNNING
        assert await lab.events(handle) == [], "nothing was told of it"
        monkeypatch.undo()
        assert (await lab.end_of(handle)).output == 2


# --- patches -------------------------------------------------------------------------------------------------------


def with_toy(monkeypatch: pytest.MonkeyPatch, *, guarded: bool = True) -> None:
    """Change what the interpreter asks of Temporal: behind the patch, or as if nobody had thought of one."""
    original = TemporalEffects.start_call
    monkeypatch.setattr(workflows.patches, "PATCHES", (TOY,))

    def start_call(effects: TemporalEffects, call: Call) -> None:
        if not guarded or effects.patched(TOY):
            effects.start_timer(f"toy:{call.id}", effects.now_us() + 60_000_000, "")
        original(effects, call)

    monkeypatch.setattr(TemporalEffects, "start_call", start_call)


def marks(history: WorkflowHistory) -> list[str]:
    """Return the names of the patches that a run has left marks of."""
    events = json.loads(history.to_json())["events"]
    found = [event["markerRecordedEventAttributes"] for event in events if "markerRecordedEventAttributes" in event]
    return [mark["markerName"] for mark in found]


async def test_histories_from_before_a_patch_and_with_it_both_replay(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    old = load(FOLDER, "1/map_with_retry")
    lab.tools = (double,)
    with monkeypatch.context() as patched:
        with_toy(patched)
        assert digest_of(await replay(old, tmp_path)) == old["digest"], "the old way"
        async with lab.worker():
            handle = await lab.start("name: new\nmain: [{tool: double, arguments: {n: 2}}]")
            ended = await lab.end_of(handle)
        history = await handle.fetch_history()
        assert marks(history) == ["core_patch"]
        new = {"execution": handle.id, "runs": [json.loads(history.to_json())]}
        assert digest_of(await replay(new, lab.folder / "blobs")) == ended.digest, "the new way"
    with pytest.raises(NondeterminismError):
        await replay(new, lab.folder / "blobs")
    with_toy(monkeypatch, guarded=False)
    with pytest.raises(NondeterminismError):
        await replay(old, tmp_path)


async def test_an_execution_that_began_before_a_patch_goes_the_old_way_to_its_end(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
):
    lab.tools = (double,)
    call = "{tool: double, arguments: {n: 3}}"
    text = f"name: both\nmain: [{call}, {{wait_for_input: {{info: go}}}}, {call}]"
    async with lab.worker():
        handle = await lab.start(text)
        await lab.until(handle, "wait")
    with_toy(monkeypatch)
    async with lab.worker(cached_workflows=0):
        await lab.answer(handle, 1)
        assert (await lab.end_of(handle)).output == 6
    history = await handle.fetch_history()
    assert marks(history) == []
    assert not [event for event in history.events if event.HasField("timer_started_event_attributes")]


async def test_a_patch_that_is_not_in_the_table_is_a_mistake_of_ours(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    lab.tools = (double,)
    with_toy(monkeypatch)
    monkeypatch.setattr(workflows.patches, "PATCHES", ())
    async with lab.worker():
        ended = await lab.run("name: none\nmain: [{tool: double, arguments: {n: 2}}]")
    assert ended.error is not None
    assert ended.error["code"] == "bug.patch"


# --- workers with versions -----------------------------------------------------------------------------------------


def test_a_worker_without_a_deployment_has_no_version():
    assert deployment_of(Settings()) == {}


@pytest.mark.parametrize("stray", [{"build_id": "b1"}, {"versioning": "pinned"}])
def test_a_version_without_a_deployment_is_refused(stray: dict[str, Any]):
    with pytest.raises(InvalidInput) as caught:
        deployment_of(Settings(**stray))
    assert caught.value.code == "config.deployment"
    assert "EVERSTEP_DEPLOYMENT" in caught.value.hint


@pytest.mark.parametrize(
    ("mode", "behaviour"), [("auto_upgrade", VersioningBehavior.AUTO_UPGRADE), ("pinned", VersioningBehavior.PINNED)]
)
def test_a_deployment_gives_a_worker_its_version(mode: Any, behaviour: VersioningBehavior):
    config = deployment_of(Settings(deployment="steps", build_id="b7", versioning=mode))["deployment_config"]
    assert isinstance(config, WorkerDeploymentConfig)
    assert config.use_worker_versioning
    assert (config.version.deployment_name, config.version.build_id) == ("steps", "b7")
    assert config.default_versioning_behavior is behaviour


def make_current(lab: Lab, deployment: str, build: str) -> None:
    """Make a build current, as an operator does."""
    address = lab.client.service_client.config.target_host
    command = [find_temporal(), "worker", "deployment", "set-current-version", "--address", address, "--yes"]
    command += ["--deployment-name", deployment, "--build-id", build]
    said = ""
    # Temporal knows the build once it has asked for work
    for _ in range(100):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        if done.returncode == 0:
            return
        said = done.stderr
    raise AssertionError(said)


@contextlib.asynccontextmanager
async def build(lab: Lab, deployment: str, name: str, mode: str) -> AsyncIterator[None]:
    """Run a worker of a build, as a process, for the length of the block."""
    folder = lab.folder / name
    folder.mkdir()
    shared = {"EVERSTEP_DATA_DIR": str(lab.folder), "EVERSTEP_DATABASE_URL": store_url(lab.folder / "lab.db")}
    versions = {"EVERSTEP_DEPLOYMENT": deployment, "EVERSTEP_BUILD_ID": name, "EVERSTEP_VERSIONING": mode}
    async with worker_process(replace(lab, folder=folder), environment=shared | versions):
        yield


async def ran_on(handle: WorkflowHandle[Any, Any]) -> list[str]:
    """Return the builds that completed workflow tasks of an execution, each once, in order."""
    found: dict[str, None] = {}
    async for event in handle.fetch_history_events():
        if event.HasField("workflow_task_completed_event_attributes"):
            found[event.workflow_task_completed_event_attributes.deployment_version.build_id] = None
    return list(found)


@pytest.mark.parametrize(("mode", "ends_on"), [("pinned", ["b1"]), ("auto_upgrade", ["b1", "b2"])])
async def test_a_new_build_takes_new_executions_and_those_that_are_not_pinned(lab: Lab, mode: str, ends_on: list[str]):
    deployment = f"steps-{uuid.uuid4().hex[:6]}"
    waiting = "name: waits\nmain: [{wait_for_input: {info: go}}]"
    async with build(lab, deployment, "b1", mode), build(lab, deployment, "b2", mode):
        make_current(lab, deployment, "b1")
        old = await lab.start(waiting)
        await lab.until(old, "wait")
        make_current(lab, deployment, "b2")
        new = await lab.start(waiting)
        await lab.until(new, "wait")
        for handle in (old, new):
            await lab.answer(handle, "done")
            assert (await lab.end_of(handle)).output == "done"
    assert await ran_on(old) == ends_on
    assert await ran_on(new) == ["b2"]
