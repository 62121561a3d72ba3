"""Plans of older formats are read as what they meant; those of newer ones are refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Iterator
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pytest
from sqlalchemy import update

from engine.control.compiling import compile_text
from engine.control.definitions import DefinitionService
from engine.core.contracts.patches import INTERPRETER, PATCHES
from engine.core.errors import BackendError, BugError
from engine.core.plan import upgrade
from engine.core.plan.codec import hash_of_json, plan_from_json, plan_hash, plan_to_json
from engine.core.plan.ir import PLAN_FORMAT, Plan
from engine.core.plan.policies import Defaults, RetryPolicy
from engine.core.plan.upgrade import STEPS, format_of, upgrade_plan
from engine.core.run.effects import Call, Failed
from engine.core.run.events import EventRecord
from engine.dryrun.effects import Answered
from engine.dryrun.running import run_in_memory
from engine.store.database import Database, open_database
from engine.store.definitions import Definitions
from engine.store.projection import ProjectionStore
from engine.store.schema import executions, tasks
from engine.store.upkeep import Upkeep
from tests.golden.cases import AGENT, CONTRACTS
from tests.golden.test_golden import UPDATE
from tests.support.upgrades import FORMATS, old_plans, recorded_input

OLD = old_plans(1)
SHAPE = FORMATS / f"{PLAN_FORMAT}.txt"


# --- the steps -----------------------------------------------------------------------------------------------------


def test_there_is_one_step_from_each_older_format_to_the_next():
    assert sorted(STEPS) == list(range(1, PLAN_FORMAT))


@pytest.mark.parametrize("name", OLD)
def test_a_plan_of_format_1_becomes_what_its_task_is_compiled_to_now(name: str):
    source, body = OLD[name]
    assert body["format"] == 1
    now = compile_text(source, contracts=CONTRACTS, agent=AGENT).plan
    assert plan_from_json(body) == now
    assert plan_to_json(plan_from_json(body)) == upgrade_plan(body) == plan_to_json(now)
    assert hash_of_json(upgrade_plan(body)) == plan_hash(now)


@pytest.mark.parametrize("name", OLD)
def test_an_upgrade_leaves_what_it_is_given_and_moves_no_step(name: str):
    _, body = OLD[name]
    before = json.dumps(body, sort_keys=True)
    again = [upgrade_plan(body), upgrade_plan(body)]
    assert json.dumps(body, sort_keys=True) == before
    assert again[0] == again[1]
    places = [[[op["op"] for op in block["ops"]] for block in plan["blocks"]] for plan in (body, again[0])]
    assert places[0] == places[1]


def test_a_plan_of_the_present_format_is_left_alone():
    body = plan_to_json(compile_text("name: t\nmain: [{evaluate: 1}]", contracts={}).plan)
    assert upgrade_plan(body) is body


def test_steps_are_taken_one_after_another(monkeypatch: pytest.MonkeyPatch):
    def third(plan: dict[str, Any]) -> dict[str, Any]:
        assert plan["format"] == 2
        return {**plan, "third": plan["defaults"]["chat_timeout_s"]}

    monkeypatch.setattr(upgrade, "PLAN_FORMAT", 3)
    monkeypatch.setattr(upgrade, "STEPS", {**STEPS, 2: third})
    _, body = OLD["plan_flow"]
    upgraded = upgrade_plan(body)
    assert (upgraded["format"], upgraded["third"]) == (3, 600.0)


@pytest.mark.parametrize(("found", "code"), [(PLAN_FORMAT + 1, "plan.format"), (99, "plan.format")])
def test_a_plan_of_a_newer_engine_is_refused_by_name(found: int, code: str):
    with pytest.raises(BugError, match=f"format {found}") as caught:
        plan_from_json({**OLD["plan_flow"][1], "format": found})
    assert caught.value.code == code
    assert caught.value.hint


@pytest.mark.parametrize("found", [None, "2", True, 0, -1])
def test_what_names_no_format_is_no_plan(found: Any):
    with pytest.raises(BugError) as caught:
        plan_from_json({**OLD["plan_flow"][1], "format": found})
    assert caught.value.code == "plan.unreadable"


def test_format_2_says_in_the_plan_what_the_interpreter_of_format_1_did_unasked():
    said = upgrade_plan(OLD["plan_flow"][1])["defaults"]
    # every member is written out, so that other defaults of a later engine do not reach plans that were made before
    assert set(said) == {item.name for item in dataclasses.fields(Defaults)}
    assert set(said["retry"]) == {item.name for item in dataclasses.fields(RetryPolicy)}
    assert plan_from_json(OLD["plan_flow"][1]).defaults == Defaults(RetryPolicy(4, 1.0, 2.0, 30.0), 600.0, 600.0)


def test_the_defaults_of_a_plan_hold_for_what_its_author_left_open():
    plan = compile_text("name: t\nmain: [{prompt: hi}]\nfinally: [{sleep: 60}]", contracts={}).plan
    other = dataclasses.replace(plan, defaults=Defaults(RetryPolicy(2, 5.0, 2.0, 30.0), 7.0, clean_up_s=30.0))
    down = Failed(BackendError("down", code="backend.unavailable", retryable=True))
    asked: list[Call] = []

    def handler(call: Call) -> Answered:
        asked.append(call)
        return Answered(down)

    done = run_in_memory(plan_from_json(plan_to_json(other)), None, handler)
    assert [call.timeout_s for call in asked] == [7.0, 7.0]
    assert [event.body["retry_in_s"] for event in done.events if event.type == "attempt.failed"] == [5.0, None]
    assert "finally steps took longer than 30 s" in json.dumps([event.body for event in done.events])


# --- the shape of a format -----------------------------------------------------------------------------------------


def _parts(hint: Any) -> Iterator[type]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for inner in get_args(hint):
        yield from _parts(inner)


def shape_of(root: type) -> str:
    """Return all members of all classes that a plan is made of, with their types and defaults, one a line."""
    waiting, lines = [root], dict[str, list[str]]()
    while waiting:
        found = waiting.pop()
        if found.__name__ in lines:
            continue
        hints = get_type_hints(found)
        lines[found.__name__] = []
        for item in dataclasses.fields(found):
            factory = item.default_factory
            made = factory() if factory is not dataclasses.MISSING else item.default
            default = "" if made is dataclasses.MISSING else f" = {str(made) if isinstance(made, Enum) else repr(made)}"
            lines[found.__name__].append(f"{found.__name__}.{item.name}: {_say(hints[item.name])}{default}")
            waiting += _parts(hints[item.name])
    return "\n".join(line for name in sorted(lines) for line in lines[name]) + "\n"


def _say(hint: Any) -> str:
    parts = get_args(hint)
    if not parts:
        return hint.__name__ if isinstance(hint, type) else str(hint)
    inner = [_say(each) if isinstance(each, type) or get_args(each) else str(each) for each in parts]
    if isinstance(hint, UnionType) or get_origin(hint) is Union:
        return " | ".join(sorted(inner))
    origin = get_origin(hint)
    return f"{getattr(origin, '__name__', None) or str(origin).removeprefix('typing.')}[{', '.join(inner)}]"


def test_a_change_of_what_plans_are_made_of_is_seen():
    """Members and defaults are the format: who changes one for plans that were released needs a new number and a step.

    Until the format is released its file follows the code: `EVERSTEP_UPDATE_GOLDEN=1 pytest` writes it.
    """
    made = shape_of(Plan)
    if UPDATE:
        SHAPE.write_text(made, encoding="utf-8")
    assert made.splitlines() == SHAPE.read_text(encoding="utf-8").splitlines()


# --- in the store --------------------------------------------------------------------------------------------------


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}")
    yield opened
    await opened.close()


async def test_a_stored_task_of_an_older_format_is_read_started_and_applied_as_if_made_now(database: Database):
    service = DefinitionService(Definitions(database), CONTRACTS)
    source, body = OLD["plan_modifiers"]
    made = await service.create_task(source, tenant="default")
    old = {key: value for key, value in body.items() if key != "agent"}
    async with database.write() as connection:
        await connection.execute(update(tasks).values(plan=json.dumps(old), plan_hash="of format 1"))
    read = await service.definitions.get_task(made.task.id, tenant="default")
    assert format_of(read.plan) == PLAN_FORMAT
    assert read.plan_hash == hash_of_json(read.plan) == made.task.plan_hash
    assert plan_from_json(await service.plan_for_start(read)) == plan_from_json(made.task.plan)
    again = await service.create_task(source, tenant="default", by_name=True)
    assert (again.changed, again.task.version) == (False, 1)
    assert [item.plan_hash for item in await service.definitions.list_versions(read.id, tenant="default")] == [
        made.task.plan_hash
    ]


async def test_a_stored_task_of_a_newer_format_is_listed_and_refused_when_it_is_started(database: Database):
    service = DefinitionService(Definitions(database), CONTRACTS)
    made = await service.create_task("name: t\nmain: [{evaluate: 1}]", tenant="default")
    newer = {**made.task.plan, "format": PLAN_FORMAT + 1}
    async with database.write() as connection:
        await connection.execute(update(tasks).values(plan=json.dumps(newer)))
    (listed,) = await service.definitions.list_tasks(tenant="default")
    assert listed.plan == newer
    with pytest.raises(BugError) as caught:
        await service.plan_for_start(listed)
    assert caught.value.code == "plan.format"


# --- the interpreter's version -------------------------------------------------------------------------------------


def test_patches_have_names_of_their_own_and_came_with_a_version_that_there_was():
    assert len({patch.name for patch in PATCHES}) == len(PATCHES)
    assert all(1 < patch.since <= INTERPRETER and patch.what for patch in PATCHES)
    assert [patch.since for patch in PATCHES] == sorted(patch.since for patch in PATCHES)


def _event(seq: int, kind: str, **body: Any) -> EventRecord:
    return EventRecord("e1", "run", seq, 1_800_000_000_000_000 + seq, kind, json.dumps(body), "default")


async def _interpreter(database: Database, value: int | None = None) -> int:
    async with database.write() as connection:
        if value is not None:
            await connection.execute(update(executions).values(interpreter=value))
        return int((await connection.execute(executions.select())).one().interpreter)


async def test_a_row_names_the_interpreter_that_last_told_its_events(database: Database):
    store = ProjectionStore(database)
    await store.ensure_execution("e1", tenant="default", task_id="t", task_name="t", created_us=1)
    assert await _interpreter(database) == INTERPRETER
    told = [_event(1, "init", task="t", tenant="default"), _event(2, "step", path="main.0")]
    assert await _interpreter(database, INTERPRETER - 1) == INTERPRETER - 1
    await store.append_events(told)
    assert await _interpreter(database) == INTERPRETER, "the live path"
    await _interpreter(database, INTERPRETER - 1)
    await store.replace_runs("e1", {"run": told}, tenant="default")
    assert await _interpreter(database) == INTERPRETER, "the repair"
    await _interpreter(database, INTERPRETER - 1)
    changed = await Upkeep(database).rebuild("e1", {"run": told}, tenant="default", until_us={}, end=None, drop=False)
    assert (await _interpreter(database), changed) == (INTERPRETER, True), "the reindex"


def test_the_input_of_a_recorded_execution_says_which_engine_wrote_it():
    recorded = recorded_input("parallel_wait_answer")
    assert recorded["plan"]["format"] == 1
    assert "interpreter" not in recorded
