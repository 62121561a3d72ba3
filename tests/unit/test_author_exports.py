"""What `from engine import …` offers, what it costs, and what a type checker makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import engine

ROOT = Path(__file__).resolve().parents[2]

PUBLIC = """
    Allow Approval Cache Case Check Collect Concurrency Cron Debounce Dispatch Expr FunctionTool HttpTool Limits Message
    Modifiers Needs Next Require Retry SearchOptions Settings Singleton Step Steps Task Tool ToolContext ToolRule
    Trigger Value agent approve assistant call_tool case embed error evaluate expr foreach get if_ listen log map_
    otherwise
    parallel prompt race return_ run_task run_workflow search set_ sleep switch system tool until user
    wait_for_event wait_for_input while_
"""

GOOD = """
from pydantic import BaseModel

from engine import HttpTool, Retry, Task, ToolContext, call_tool, evaluate, expr, foreach, if_, map_, prompt, tool
from engine import Approval, Cache, Limits, Next, ToolRule, agent, embed, run_task, search
from engine.core.kinds import ToolEffect


class Ticket(BaseModel):
    text: str


@tool(effect=ToolEffect.NONE)
def count(text: str) -> int:
    return len(text)


@tool(effect="read")
def look_up(name: str, context: ToolContext) -> str:
    return name


fetch = HttpTool(name="fetch", url="https://a.example")
arguments: dict[str, str] = {"name": "x"}
triage = Task(
    limits=Limits(cost=0.5),
    input=Ticket,
    tools=[fetch, look_up],
    main=[
        prompt("x", tools=[look_up], tool_choice=look_up),
        prompt("x", tools="all", tool_choice={"type": "function", "function": {"name": "fetch"}}),
        prompt("x", tools="all", tool_choice="none"),
        run_task("other", version=2),
        prompt("Sort {{ _.text }}", output=list[Ticket], settings={"temperature": 0}, retry=Retry(attempts=3)),
        map_("_", map=[evaluate({"a": [1, expr("_")], "b": None})], reduce="results + [_]", parallelism=2),
        if_("_", then=call_tool(look_up, arguments, label="x"), else_=[call_tool(fetch)]),
        foreach([1, 2], do=evaluate(expr("_"))),
        agent("Find {{ _ }}", tools=[look_up], rules=[ToolRule(look_up, at_most=2, next=[Next("fetch", "_")])]),
        agent([], rules=[ToolRule("fetch", approve=Approval(if_="_", deadline="1h"))], on_overflow="truncate"),
        embed(["a", expr("_")], cache="1h"),
        search("x", options={"limit": 3}, cache=Cache(ttl=60, key=expr("_"))),
    ],
)
text: str = triage.to_yaml()
found: str = look_up("x", ToolContext(idempotency_key="", execution_id="", path="", attempt=1, tenant=""))
"""

BAD = """
import engine
from engine import Cache, Retry, Task, ToolRule, agent, call_tool, evaluate, if_, map_, prompt, search

prompt("x", temperature=0)
prompt("x", settings={"temprature": 0})
prompt("x", retry={"attempts": 3})
if_("_", then="x")
if_("_")
map_("_", map=evaluate(1), on_item_error="ignore")
evaluate(object())
call_tool(print)
Retry(attempts="3")
Task(main=[evaluate(1)], inputs={})
evaluate(1, lable="x")
agent("x", rules=["fetch"])
agent("x", on_overflow="forget")
ToolRule("fetch", at_moast=1)
search("x", options={"limt": 1})
evaluate(1, cache=Cache(ttl=[1]))
engine.promt("x")
prompt("x", tool_choice="autp")
engine.tool(effect="reed")
engine.HttpTool(name="x", url="https://a.example", effect="reed")
engine.run_task("x", version="2")
"""


def test_the_author_api_is_exactly_this() -> None:
    assert sorted(engine.__all__) == sorted(PUBLIC.split())


def test_every_name_can_be_imported_and_is_listed() -> None:
    assert all(getattr(engine, name) is not None for name in engine.__all__)
    assert set(engine.__all__) <= set(dir(engine))


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'engine' has no attribute 'nothing'"):
        _ = engine.nothing  # type: ignore[attr-defined]


def test_importing_the_engine_loads_nothing_of_the_author_api() -> None:
    code = "import sys, engine; print([name for name in sys.modules if name.startswith(('engine', 'pydantic'))])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert shown.strip() == "['engine']"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_mypy_accepts_a_good_task_and_finds_every_wrong_field(tmp_path: Path) -> None:
    for name, text in (("good", GOOD), ("bad", BAD)):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", "--no-pretty"]
    shown = subprocess.run(
        [*command, str(tmp_path / "good.py"), str(tmp_path / "bad.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    ).stdout
    wrong = {line for line in shown.splitlines() if ": error:" in line}
    assert [line for line in wrong if "good.py" in line] == []
    lines = {int(line.split("bad.py:")[1].split(":")[0]) for line in wrong if "bad.py" in line}
    calls = {number for number, line in enumerate(BAD.splitlines(), 1) if "(" in line}
    assert lines == calls, shown
