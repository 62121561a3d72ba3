"""Recorded histories replay with today's interpreter and give the events that stand beside them.

A change of the interpreter that does not replay breaks running executions: it needs a patch (docs/upgrades.md).
Histories of interpreters that were released stay for good. `EVERSTEP_RECORD=1` records those of the present one anew,
`EVERSTEP_RECORD=race,loops` only these; do that only while it is not released. A change that only tells more, or tells
it in other words, leaves the histories as they are: `EVERSTEP_RETELL=1` writes the events of today beside them, and
the diff must be what was meant.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from engine.control.payloads import data_converter
from engine.core.contracts.patches import INTERPRETER
from engine.core.errors import EngineError
from engine.core.run.effects import Call
from engine.core.run.events import EventRecord, roll_digest
from engine.core.run.walker import Walker
from tests.replay.examples import PREFIX, names_of_examples, record_examples
from tests.replay.recording import CORPUS, FOLDER, HISTORIES, MORE, TOOLS, record, scrub
from tests.support.lab import open_lab
from workflows.driver import TemporalEffects
from workflows.execution import ExecutionWorkflow
from workflows.interceptor import SinkInterceptor

RECORD = os.environ.get("EVERSTEP_RECORD", "")
"""`1` = all, else the names of those that are recorded anew.

Read when the module is imported: a fixture takes our variables out of the environment."""

RETELL = bool(os.environ.get("EVERSTEP_RETELL"))

NAMES = [item.name for item in (*CORPUS, *MORE)]

KEPT = sorted(str(path.relative_to(FOLDER).with_suffix("")) for path in FOLDER.glob("*/*.json"))
"""All recordings: `INTERPRETER/NAME`."""
if RECORD:
    KEPT = [name for name in KEPT if not name.startswith(f"{INTERPRETER}/")]
    KEPT += [f"{INTERPRETER}/{name}" for name in NAMES if RECORD == "1" or name in RECORD.split(",")]


@pytest.fixture(scope="session")
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the histories; those of the present interpreter are recorded anew first if that is asked for."""
    if RECORD:
        address = request.getfixturevalue("temporal_address")
        HISTORIES.mkdir(exist_ok=True)
        wanted = NAMES if RECORD == "1" else RECORD.split(",")
        assert set(wanted) <= set(NAMES)
        asyncio.run(_record(wanted, address, tmp_path_factory.mktemp("recording")))
        if RECORD != "1":
            return FOLDER
        for old in HISTORIES.glob(f"{PREFIX}*.json"):
            old.unlink()
        blobs = tmp_path_factory.mktemp("blobs")
        record_examples(tmp_path_factory.mktemp("examples"), lambda body: _write(asyncio.run(_told(body, blobs))))
    return FOLDER


async def _record(wanted: Sequence[str], address: str, folder: Path) -> None:
    async with open_lab(address, folder, tools=TOOLS) as lab:
        for item in (item for item in (*CORPUS, *MORE) if item.name in wanted):
            async with lab.worker():
                body = await record(lab, item)
            _write(body)


async def _told(body: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Complete a recording of an example by what its replay tells, which must be as much as was told live."""
    told = body.pop("told")
    records = await replay(body, folder)
    assert [event.type for event in records] == told, body["name"]
    return {**body, "spans": spans_of(records), "digest": digest_of(records)}


def _write(body: dict[str, Any], path: Path | None = None) -> None:
    # one line an event, so that a new recording gives a readable diff
    text = json.dumps(body, separators=(",", ":"), ensure_ascii=False).replace('{"eventId"', '\n{"eventId"')
    file = (path or HISTORIES / body["name"]).with_suffix(".json")
    file.write_text(text + "\n", encoding="utf-8")


def load(folder: Path, name: str) -> dict[str, Any]:
    """Read a recording."""
    body: dict[str, Any] = json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
    return body


async def replay(body: dict[str, Any], folder: Path) -> list[EventRecord]:
    """Replay all runs of a recording and return the events; nondeterminism raises."""
    records: list[EventRecord] = []

    def keep(event: tuple[Any, ...], replaying: bool) -> None:
        del replaying
        records.append(EventRecord(*event))

    replayer = Replayer(
        workflows=[ExecutionWorkflow],
        interceptors=[SinkInterceptor(keep)],
        workflow_runner=UnsandboxedWorkflowRunner(),
        workflow_failure_exception_types=[EngineError],
        data_converter=data_converter(folder),
    )
    for run in body["runs"]:
        await replayer.replay_workflow(WorkflowHistory.from_json(body["execution"], run))
    return records


def digest_of(records: list[EventRecord]) -> str:
    """Return the rolling hash."""
    digest = ""
    for event in records:
        digest = roll_digest(digest, event.seq, event.type, event.body)
    return digest


def spans_of(records: list[EventRecord]) -> list[list[int]]:
    """Return the numbers of the first and the last event of each run."""
    runs: dict[str, list[int]] = {}
    for event in records:
        runs.setdefault(event.run_id, []).append(event.seq)
    return [[numbers[0], numbers[-1]] for numbers in runs.values()]


@pytest.mark.parametrize("name", KEPT)
async def test_a_recorded_history_replays_to_the_events_it_was_recorded_with(name: str, recorded: Path, tmp_path: Path):
    body = load(recorded, name)
    records = await replay(body, tmp_path)
    if RETELL:
        body = {**body, "spans": spans_of(records), "digest": digest_of(records)}
        _write(body, recorded / name)
    numbers = [number for first, last in body["spans"] for number in range(first, last + 1)]
    assert [event.seq for event in records] == numbers
    assert spans_of(records) == body["spans"]
    assert digest_of(records) == body["digest"]
    last = {"cancelled"} if body["cancelled"] else {"error"} if body["error"] else {"finish"}
    assert records[-1].type in last


@pytest.mark.parametrize("version", range(1, INTERPRETER + 1))
def test_the_corpus_holds_the_outcomes_it_is_meant_to_hold(version: int, recorded: Path):
    bodies = {item.name: load(recorded, f"{version}/{item.name}") for item in CORPUS}
    assert bodies["cancel"]["cancelled"]
    assert bodies["error_with_on_error"]["error"] == "task.error"
    assert bodies["map_with_retry"]["output"] == 10
    assert bodies["foreach"]["output"] == [3, 5, 7]
    assert bodies["child_and_none"]["output"] == 10
    assert bodies["of_a_child"]["output"] == 9
    assert len(bodies["continue_as_new"]["runs"]) >= 2
    assert all(len(body["runs"]) == 1 for name, body in bodies.items() if name != "continue_as_new")


def test_the_corpus_of_the_present_interpreter_has_races_undoing_events_pauses_and_waits_over_runs(recorded: Path):
    bodies = {item.name: load(recorded, f"{INTERPRETER}/{item.name}") for item in MORE}
    assert bodies["race"]["output"] == "step.timeout"
    assert bodies["undo_and_finally"]["error"] == "task.error"
    assert bodies["cancel_with_undo"]["cancelled"]
    assert bodies["loops"]["error"] is None
    assert bodies["events_and_deadlines"]["output"] == [7, 2, {"approved": False}]
    assert bodies["waits_over_runs"]["output"][3] == [3, 6]
    assert len(bodies["waits_over_runs"]["runs"]) >= 2
    assert bodies["paused_and_steered"]["output"] == 10
    assert bodies["listening"]["output"] == 6
    assert (bodies["paused"]["output"], len(bodies["paused"]["runs"])) == (8, 2)
    assert bodies["forked"]["output"] == 57
    assert {path.stem for path in (recorded / str(INTERPRETER)).glob("*.json") if PREFIX not in path.stem} == set(NAMES)


def test_the_corpus_has_a_history_of_every_example(recorded: Path):
    kept = [path.stem for path in (recorded / str(INTERPRETER)).glob(f"{PREFIX}*.json")]
    without = {name for name in names_of_examples() if not any(stem.startswith(name) for stem in kept)}
    assert without == set()
    named = {name for name in names_of_examples() if any(stem.startswith(name) for stem in kept)}
    assert all(any(stem.startswith(name) for name in named) for stem in kept), "and of none that is gone"


def test_older_histories_stay_as_they_were_recorded(recorded: Path):
    """The plans and inputs in them are those of their time."""
    plans = [_input_of(recorded, name)["plan"] for name in KEPT if name.startswith("1/")]
    assert len(plans) == len(CORPUS)
    # that of a child is empty: it asks for its plan
    assert {plan["format"] for plan in plans if plan} == {1}


def _input_of(folder: Path, name: str) -> dict[str, Any]:
    started = load(folder, name)["runs"][0]["events"][0]["workflowExecutionStartedEventAttributes"]
    found: dict[str, Any] = json.loads(base64.b64decode(started["input"]["payloads"][0]["data"]))
    return found


async def test_an_interpreter_that_swaps_two_effects_does_not_replay(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original, held = TemporalEffects.start_call, list[Call]()

    def start_second_first(effects: TemporalEffects, call: Call) -> None:
        if not held:
            held.append(call)
            return
        original(effects, call)
        original(effects, held.pop())

    body = load(recorded, f"{INTERPRETER}/map_with_retry")
    await replay(body, tmp_path)
    monkeypatch.setattr(TemporalEffects, "start_call", start_second_first)
    with pytest.raises(workflow.NondeterminismError, match="TMPRL1100"):
        await replay(body, tmp_path)


@pytest.mark.parametrize(
    "name", ["1/map_with_retry", "1/continue_as_new", f"{INTERPRETER}/race", f"{INTERPRETER}/undo_and_finally"]
)
async def test_an_interpreter_that_starts_a_timer_too_many_does_not_replay(
    name: str, recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = TemporalEffects.start_call

    def start_with_timer(effects: TemporalEffects, call: Call) -> None:
        effects.start_timer(f"extra:{call.id}", effects.now_us() + 60_000_000, "")
        original(effects, call)

    monkeypatch.setattr(TemporalEffects, "start_call", start_with_timer)
    with pytest.raises(workflow.NondeterminismError, match="TMPRL1100"):
        await replay(load(recorded, name), tmp_path)


async def test_a_change_without_a_patch_is_caught_in_every_history_that_makes_a_call(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = TemporalEffects.start_call

    def start_with_timer(effects: TemporalEffects, call: Call) -> None:
        effects.start_timer(f"extra:{call.id}", effects.now_us() + 60_000_000, "")
        original(effects, call)

    monkeypatch.setattr(TemporalEffects, "start_call", start_with_timer)
    caught = 0
    for name in KEPT:
        body = load(recorded, name)
        if not re.search(r'"name":"(llm.chat|tool.call|task.resolve)"', json.dumps(body, separators=(",", ":"))):
            continue
        # some of them do not even get to the comparison
        with pytest.raises((workflow.NondeterminismError, RuntimeError), match=r"TMPRL1100|workflow machines"):
            await replay(body, tmp_path)
        caught += 1
    assert caught > len(KEPT) / 2


async def test_an_interpreter_that_tells_another_story_gives_another_hash(
    recorded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    body = load(recorded, f"{INTERPRETER}/foreach")
    original = Walker.emit

    def emit(walker: Walker, event_type: Any, told: dict[str, Any]) -> None:
        original(walker, event_type, {**told, "construct": "other"} if "construct" in told else told)

    monkeypatch.setattr(Walker, "emit", emit)
    assert digest_of(await replay(body, tmp_path)) != body["digest"]


def test_recordings_name_no_process_host_or_folder(recorded: Path):
    for path in recorded.glob("*/*.json"):
        text = path.read_text(encoding="utf-8")
        payloads = [base64.b64decode(data).decode() for data in re.findall(r'"data":"([^"]*)"', text)]
        assert payloads
        for part in (text, *payloads):
            assert not re.search(r'"identity"|127\.0\.0\.1|localhost|/home/|/tmp/|/root/', part), path.name
            assert os.uname().nodename not in part, path.name
        assert len(text) < 150_000


def test_scrubbing_takes_out_identities_and_queues_at_any_depth():
    event = {"a": [{"identity": "7@host", "taskQueue": {"name": "7@host:abc", "kind": "X"}, "kept": 1}]}
    assert scrub(event) == {"a": [{"taskQueue": {"name": "recorded", "kind": "TASK_QUEUE_KIND_NORMAL"}, "kept": 1}]}
