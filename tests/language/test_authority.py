"""DESIGN §3, "Authority": what a task can reach, and what bounds it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.core.contracts.children import ChildParams, ResolveParams
from engine.core.plan.difference import plan_difference
from engine.core.plan.grant import Grant, narrow
from engine.core.plan.reach import reach_of
from engine.core.run.effects import Call, Ok
from engine.dryrun.effects import Answered
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from tests.language.words import Noting, codes, compile_in, findings
from tests.support.memory import error_of, output_of

EVERYTHING = """
name: t
tools: [{name: page, api_call: {url: "https://api.example.com/x"}}]
main:
  - tool: book
  - {tool: page, arguments: {}}
  - {prompt: hi, model: large}
  - if: _
    then: [{task: other}, {prompt: hi}]
"""


def test_the_reach_of_a_task_is_read_off_its_plan():
    """The compiler computes a task's static reach: tools, models, egress hosts, secrets, child tasks."""
    reach = reach_of(compile_in(EVERYTHING).plan)
    assert reach.to_json() == {
        "tools": ["book", "page"],
        "models": ["(default)", "large"],
        "hosts": ["api.example.com"],
        "secrets": [],
        "tasks": ["other"],
    }


BEYOND = {
    "tools": "{tool: book}",
    "models": "{prompt: hi, model: large}",
    "hosts": "{tool: page, arguments: {}}",
    "tasks": "{task: other}",
}
NAMES = {"tools": "book", "models": "large", "hosts": "api.example.com", "tasks": "other"}
TOOLS = 'tools: [{name: page, api_call: {url: "https://api.example.com/x"}}]\n'


@pytest.mark.parametrize("kind", BEYOND)
def test_allow_bounds_what_a_task_reaches(kind: str):
    """`allow:` bounds the reach."""
    task = f"{TOOLS}main: [{BEYOND[kind]}]\nallow: {{{kind}: [NAME]}}"
    assert codes(task.replace("NAME", NAMES[kind])) == []
    (found,) = findings(task.replace("NAME", "another"))
    assert (found.code, found.severity.value) == ("E411", "error")
    assert NAMES[kind] in found.message


@pytest.mark.parametrize("kind", BEYOND)
def test_without_allow_all_is_open(kind: str):
    """An absent `allow` is open within the tenant."""
    assert codes(f"{TOOLS}main: [{BEYOND[kind]}]") == []
    others = next(other for other in BEYOND if other != kind)
    assert "E411" not in codes(f"{TOOLS}main: [{BEYOND[kind]}]\nallow: {{{others}: [page]}}")


@pytest.mark.parametrize("kind", BEYOND)
def test_an_empty_allow_permits_nothing(kind: str):
    """`[]` permits none."""
    assert "E411" in codes(f"{TOOLS}main: [{BEYOND[kind]}]\nallow: {{{kind}: []}}")
    assert "E411" in codes(f"{TOOLS}main: [{BEYOND[kind]}]\nallow: []")
    assert codes("main: [{evaluate: 1}]\nallow: []") == []


def test_what_is_computed_is_compared_before_the_call():
    """A name that is known only when the step runs is compared before the call is made."""
    task = "name: t\nmain: [{prompt: hi, model: $ _, unwrap: true}]\nallow: {models: [small]}"
    assert output_of(task, "small") == "hi"
    desk = Noting()
    error = error_of(task, "large", desk)
    assert (error.code, desk.calls) == ("authority.denied", [])


def test_a_child_gets_at_most_what_its_parent_may():
    """A child never exceeds its parent's grant."""
    asked: list[Grant] = []

    def note(call: Call) -> Answered:
        assert not isinstance(call.params, ResolveParams)
        if isinstance(call.params, ChildParams):
            asked.append(call.params.origin.grant)
        return Answered(Ok(1))

    output_of("name: t\nmain: [{task: other}]\nallow: {tasks: [other], tools: [book]}", None, note)
    assert asked == [Grant(tools=("book",), tasks=("other",))]
    own = Grant(tools=("book", "pay"), models=("small",))
    assert narrow(own, asked[0]) == Grant(tools=("book",), models=("small",), tasks=("other",))


def test_explain_shows_what_a_task_can_reach(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`explain --authority` shows the reach and its bound."""
    file = tmp_path / "t.yaml"
    file.write_text("name: t\nmain: [{prompt: hi, model: large}]\nallow: {models: [large], tools: []}\n")
    assert run_command(["explain", "--authority", str(file), "-o", "json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert told["reach"]["models"] == ["large"]
    assert told["allow"] == {"models": ["large"], "tools": []}


def test_a_difference_says_what_a_change_newly_permits():
    """`tasks diff` shows what a change newly permits."""
    old = compile_in("name: t\nmain: [{tool: book}]").plan
    new = compile_in("name: t\nmain: [{tool: book}, {tool: pay}, {prompt: hi, model: large}]").plan
    difference = plan_difference(old, new)
    assert (difference.reach.tools, difference.reach.models) == (("pay",), ("large",))
    assert any("pay" in text for text in difference.gains)
    assert plan_difference(new, old).gains == []
