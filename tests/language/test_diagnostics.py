"""DESIGN §3, "Diagnostics": how mistakes are told; what is fixed when an execution starts."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from engine.control.agents import AgentService
from engine.control.definitions import DefinitionService
from engine.core.errors import CompileError
from engine.core.plan.codec import plan_from_json
from engine.core.plan.ir import ToolContract
from engine.core.spec.vocabulary import MARKERS, MODIFIERS
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from engine.source.editor_schema import task_schema
from engine.store.database import open_database
from engine.store.definitions import Definitions
from tests.language.words import CONTRACTS, compile_in

WRONG = """\
name: t
main:
  - evaluat: 1
  - evaluate: $ _.a +
  - tool: bok
    retyr: {attempts: 3}
  - evaluate: $ steps.nowhere.output
"""


def told(text: str = WRONG) -> CompileError:
    with pytest.raises(CompileError) as caught:
        compile_in(text)
    return caught.value


def test_all_mistakes_are_told_at_once():
    """Diagnostics come all at once."""
    found = [(item.code, item.position.line) for item in told().diagnostics]
    assert found == [("E206", 3), ("E301", 4), ("E402", 5), ("E201", 6), ("E405", 7)]


def test_a_diagnostic_begins_with_its_place_and_its_code():
    """A diagnostic reads `file:line:col: error[E104]: …`."""
    heads = [line for line in told().render().splitlines() if line.startswith("task:")]
    assert heads[0] == "task:3:5: error[E206]: 'evaluat' is not a kind of step"
    assert heads[3].startswith("task:6:5: error[E201]: ")


def test_a_diagnostic_shows_the_line_and_points_into_it():
    """A diagnostic has the source line with a caret."""
    lines = told().render().splitlines()
    assert lines[1] == "    3 |   - evaluat: 1"
    assert lines[2] == "      |     ^"
    assert lines[1].index("evaluat") == lines[2].index("^")


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("main: [{evaluat: 1}]", "evaluate"),
        ("main: [{tool: bok}]", "book"),
        ("main: [{evaluate: 1, retyr: {attempts: 2}}]", "retry"),
        ("main: [{evaluate: 1, label: first}, {evaluate: $ steps.frist}]", "first"),
        ("main: [{evaluate: $ summ(_)}]", "sum"),
        ("main: [{workflow: ohter}]\nother: [{evaluate: 1}]", "other"),
        ("mian: [{evaluate: 1}]", "main"),
    ],
)
def test_a_misspelt_word_is_told_with_the_one_that_was_meant(wrong: str, right: str):
    """Diagnostics say did-you-mean."""
    assert any(f"did you mean '{right}'?" in item.hint for item in told(wrong).diagnostics)


@pytest.mark.parametrize("steps", ["{tool: book}", "[{tool: book}]"])
def test_a_misspelt_finally_is_told_although_it_is_a_list_of_steps(steps: str):
    """A list of steps that nothing runs is told, with the key that was meant."""
    (found,) = compile_in(f"main: [{{evaluate: 1}}]\nfinaly: {steps}").warnings
    assert (found.code, found.hint) == ("W605", "did you mean 'finally'?")


def test_a_diagnostic_says_what_to_do():
    """Diagnostics have a hint."""
    (found,) = told("main: [{if: _}]").diagnostics
    assert found.hint == "give it one step or a list of steps"
    assert "      = hint: give it one step or a list of steps" in told("main: [{if: _}]").render()


def test_diagnostics_are_told_as_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same diagnostics come as JSON."""
    file = tmp_path / "wrong.yaml"
    file.write_text(WRONG.replace("tool: bok", "get: b"))
    assert run_command(["validate", str(file), "-o", "json"]) == Exit.USAGE
    found = json.loads(capsys.readouterr().out)
    listed = found if isinstance(found, list) else found["diagnostics"]
    assert [(item["code"], item["line"], item["column"]) for item in listed][:2] == [("E206", 3, 5), ("E301", 4, 22)]
    assert set(listed[0]) >= {"code", "severity", "message", "hint", "file", "line", "column"}


def test_the_json_schema_of_task_files_is_generated_from_the_language():
    """The JSON Schema of task files is generated."""
    schema = task_schema()
    Draft202012Validator.check_schema(schema)
    assert {f"step_{kind.value}" for kind in MARKERS.values()} <= set(schema["$defs"])
    for kind in MARKERS.values():
        assert set(MODIFIERS) <= set(schema["$defs"][f"step_{kind.value}"]["properties"])
    assert Draft202012Validator(schema).is_valid({"main": [{"evaluate": 1, "label": "a"}]})
    assert not Draft202012Validator(schema).is_valid({"main": [{"evaluate": 1, "labl": "a"}]})


def test_the_json_schema_of_task_files_is_shipped_for_editors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The JSON Schema of task files is shipped for editors."""
    assert run_command(["schema"]) == Exit.OK
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(task_schema()))
    monkeypatch.chdir(tmp_path)
    assert run_command(["init"]) == Exit.OK
    (task,) = [path for path in tmp_path.rglob("*.yaml") if "$schema=" in path.read_text().splitlines()[0]]
    named = task.read_text().splitlines()[0].partition("$schema=")[2]
    assert (task.parent / named).is_file()


# --- what a plan holds ---------------------------------------------------------------------------------------------

TASK = "name: t\nmain: [{prompt: hi}, {tool: book}]"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[DefinitionService]:
    """Agents and tasks in a store of the test's own."""
    database = await open_database(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}")
    yield DefinitionService(Definitions(database), CONTRACTS)
    await database.close()


async def test_agent_and_tools_are_taken_into_the_plan_at_the_start(service: DefinitionService) -> None:
    """Agent settings and tool definitions are snapshotted into the plan at start."""
    agent = await AgentService(service.definitions.agents).create(
        {"name": "Ada", "model": "m1", "instructions": "be brief"}, tenant="default"
    )
    made = await service.create_task(TASK, tenant="default", agent_id=agent.id)
    before = plan_from_json(await service.plan_for_start(made.task))
    service.contracts = {**CONTRACTS, "book": ToolContract("book", "python", timeout_s=7.0)}
    after = plan_from_json(await service.plan_for_start(made.task))
    assert (before.agent.model, before.agent.instructions) == ("m1", "be brief")
    assert [plan.tools["book"].timeout_s for plan in (before, after)] == [60.0, 7.0]


async def test_a_plan_names_python_tools_and_models_and_holds_neither(service: DefinitionService) -> None:
    """Python code and backends are looked up at call time."""
    made = await service.create_task(TASK, tenant="default")
    body = await service.plan_for_start(made.task)
    assert body["tools"]["book"] == {**body["tools"]["book"], "name": "book", "type": "python"}
    assert "spec" not in body["tools"]["book"]
    assert plan_from_json(body).tools["book"].spec == {}
