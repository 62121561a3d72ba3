"""The plan as a whole: blocks and their names, determinism, and the use case that makes it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from engine.control.compiling import compile_text
from engine.core.diagnostics import Position
from engine.core.errors import CompileError, SourceError
from engine.core.plan.codec import plan_from_json, plan_hash, plan_to_json
from engine.core.plan.ir import AgentSnapshot, Limits
from engine.core.plan.lists import inner_blocks
from engine.core.plan.ops import ParallelOp
from engine.core.plan.policies import Modifiers, RetryPolicy
from engine.core.plan.render import plan_outline
from tests.golden.cases import CONTRACTS, FOLDER

ROOT = FOLDER.parents[1]
NESTED = """
name: nested
main:
  - if: _
    then: {evaluate: 1, label: in then}
    else: [{evaluate: 2}, {foreach: {in: _, do: {evaluate: 3}}, on_error: {evaluate: 4}}]
  - parallel: [{over: _, map: {evaluate: 5}}, {workflow: sub}]
sub:
  - prompt: "What do you think about {{ _ }}, given all that was said before in this conversation?"
"""


def test_blocks_carry_the_names_that_step_paths_are_made_of() -> None:
    plan = compile_text(NESTED, contracts={}).plan
    assert [block.name for block in plan.blocks] == ["main", "then", "else", "do", "on_error", "0", "map", "1", "sub"]
    assert plan.workflows == {"main": 0, "sub": 8}


def test_every_block_but_the_named_lists_belongs_to_exactly_one_step() -> None:
    plan = compile_text(NESTED, contracts={}).plan
    owned = [number for block in plan.blocks for op in block.ops for number in inner_blocks(op)]
    assert sorted([*owned, *plan.workflows.values()]) == list(range(len(plan.blocks)))


def test_modifiers_and_limits_arrive_in_the_plan() -> None:
    plan = compile_text(
        "limits: {steps: 5, time: 1h, tokens: 10}\n"
        "main: {evaluate: 1, retry: {attempts: 4, initial: 0, factor: 1, max: 10s, on: [a, b.c]}, timeout: 2}",
        contracts={},
    ).plan
    assert plan.limits == Limits(steps=5, seconds=3600.0, tokens=10)
    assert plan.blocks[0].ops[0].mods == Modifiers(retry=RetryPolicy(4, 0.0, 1.0, 10.0, ("a", "b.c")), timeout_s=2.0)


def test_parallel_arrives_in_the_plan() -> None:
    op = (
        compile_text("main: {parallel: [{evaluate: 1}], parallelism: 2, on_item_error: collect}", contracts={})
        .plan.blocks[0]
        .ops[0]
    )
    assert isinstance(op, ParallelOp)
    assert (op.branches, op.parallelism, op.on_item_error) == ((1,), 2, "collect")


@pytest.mark.parametrize("name", sorted(path.parent.name for path in FOLDER.glob("plan_*/task.yaml")))
def test_a_plan_survives_being_stored(name: str) -> None:
    plan = compile_text((FOLDER / name / "task.yaml").read_text(encoding="utf-8"), contracts=CONTRACTS).plan
    again = plan_from_json(plan_to_json(plan))
    assert again == plan
    assert plan_hash(again) == plan_hash(plan)


def test_the_hash_of_a_plan_is_the_same_whatever_the_hash_seed() -> None:
    script = (
        "from pathlib import Path\n"
        "from engine.control.compiling import compile_text\n"
        "from engine.core.errors import DefinitionError\n"
        "from engine.core.plan.codec import plan_hash\n"
        "from tests.golden.cases import CONTRACTS\n"
        "for path in sorted(Path('tests/golden').glob('*/task.*')):\n"
        "    try:\n"
        "        made = compile_text(path.read_text(encoding='utf-8'), contracts=CONTRACTS)\n"
        "        print(path, plan_hash(made.plan), made.warnings)\n"
        "    except DefinitionError as error:\n"
        "        print(path, error.render())\n"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert outputs[0].count("task.yaml") > 30


def test_order_and_spelling_of_the_source_do_not_matter_to_the_hash() -> None:
    one = compile_text("name: a\nmain:\n- evaluate: {x: 1, y: 0x10}\n  label: l", contracts={})
    two = compile_text('{"main": [{"label": "l", "evaluate": {"y": 16, "x": 1}}], "name": "a"}', contracts={})
    assert plan_hash(one.plan) == plan_hash(two.plan)


def test_what_the_author_wrote_is_kept_as_json() -> None:
    text = "name: n\nmain: &m\n- evaluate: yes\nmetadata: {a: 0o10}"
    assert compile_text(text, contracts={}).spec == {
        "name": "n",
        "main": [{"evaluate": "yes"}],
        "metadata": {"a": 8},
    }


def test_a_task_without_a_name_is_called_after_its_file() -> None:
    assert compile_text("main: {evaluate: 1}", file="tasks/report.yaml", contracts={}).plan.task == "report"
    assert compile_text("main: {evaluate: 1}", contracts={}).plan.task == "task"


def test_the_agent_is_snapshotted_into_the_plan() -> None:
    agent = AgentSnapshot("id", "Ada", "m", "Be brief.", {"temperature": 0})
    assert compile_text("main: {evaluate: 1}", contracts={}, agent=agent).plan.agent == agent


def test_a_text_that_is_no_yaml_is_a_source_error_with_file_and_place() -> None:
    with pytest.raises(SourceError) as caught:
        compile_text("main: [", file="x.yaml", contracts={})
    assert caught.value.file == "x.yaml"
    assert caught.value.render().startswith("x.yaml:2:1: error[E102]")


def test_a_wrong_task_is_a_compile_error_that_says_how_much_is_wrong() -> None:
    with pytest.raises(CompileError) as caught:
        compile_text("main: [{evaluat: 1}]", file="x.yaml", contracts={})
    error = caught.value
    assert error.message == "x.yaml: 1 error; first: 'evaluat' is not a kind of step"
    assert (error.hint, error.file, error.source) == ("did you mean 'evaluate'?", "x.yaml", "main: [{evaluat: 1}]")
    assert [(found.position, found.path) for found in error.diagnostics] == [(Position(1, 9), "main[0]")]


def test_the_outline_shows_each_step_with_its_path_and_what_a_person_would_call_it() -> None:
    rows = plan_outline(compile_text(NESTED, contracts={}).plan)
    assert [(row.depth, row.path, row.title) for row in rows] == [
        (0, "main.0", "if _"),
        (1, "main.0.then.0", "in then"),
        (1, "main.0.else.0", "evaluate 2"),
        (1, "main.0.else.1", "foreach in _"),
        (2, "main.0.else.1.do.0", "evaluate 3"),
        (2, "main.0.else.1.on_error.0", "evaluate 4"),
        (0, "main.1", "parallel 2 branches"),
        (1, "main.1.0.0", "map over _"),
        (2, "main.1.0.0.map.0", "evaluate 5"),
        (1, "main.1.1.0", "workflow sub"),
        (0, "sub.0", "prompt “What do you think about {{ _ }}, given …”"),
    ]
    assert rows[1].to_json() == {
        "path": "main.0.then.0",
        "kind": "evaluate",
        "label": "in then",
        "title": "in then",
        "depth": 1,
    }


@pytest.mark.parametrize(
    ("step", "title"),
    [
        ("prompt: [{role: system, content: s}, {role: user, content: u}]", "prompt “u”"),
        ("prompt: $ _.messages", "prompt “_.messages”"),
        ("prompt: [{role: user, content: [{type: text, text: $ _}]}]", "prompt “1 items”"),
        ("sleep: 90s", "sleep 90 s"),
        ("wait_for_input: ", "wait for input"),
        ("wait_for_input: {info: Really?}", "wait for input Really?"),
        ("return: {a: 1, b: $ _}", "return a, b"),
        ("return: [1, 2]", "return 2 items"),
        ("return: null", "return null"),
        ("evaluate: true", "evaluate true"),
        ("set: {count: 1}", "set count"),
        ("get: count", "get count"),
        ("error: 'no\n\n  way'", "error no way"),
        ("evaluate: " + "long " * 30, "evaluate long long long long long long long long…"),
    ],
)
def test_a_step_without_a_label_is_called_by_its_kind_and_a_few_words(step: str, title: str) -> None:
    (row,) = plan_outline(compile_text(f"main:\n- {step}", contracts={}).plan)
    assert row.title == title


def test_duplicate_keys_and_everything_after_them_are_told_at_once() -> None:
    text = (
        "main:\n  - evaluate: 1\n    evaluate: 2\n  - promt: x\n  - evaluate: $ nope\n    label: a\n    label: b\n"
        "tools: [{name: f, type: function}]\ntools: [{name: g, type: function}]\n"
        "main:\n  - {prompt: hi, tools: [g, missing]}\n"
    )
    with pytest.raises(CompileError) as caught:
        compile_text(text, contracts={})
    assert [(item.code, item.position.line) for item in caught.value.diagnostics] == [
        ("E103", 3),
        ("E206", 4),
        ("E401", 5),
        ("E103", 7),
        ("E103", 9),
        ("E103", 10),
        ("E402", 11),
    ]
