"""Agents, embeddings, searches and `cache` in plans, alike from every source; and chains, which are never started."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import engine
from engine import Approval, Cache, Check, FunctionTool, HttpTool, Limits, Next, Task, ToolRule, evaluate, expr
from engine.control.compiling import Compiled, compile_text, compile_tree
from engine.control.definitions import DefinitionService
from engine.core.errors import BugError, CompileError, DefinitionError
from engine.core.kinds import StepKind
from engine.core.plan.codec import plan_from_json, plan_hash, plan_to_json
from engine.core.plan.difference import plan_difference
from engine.core.plan.ir import STDLIB_VERSION, Plan
from engine.core.plan.ops import AgentOp, EmbedOp, SearchOp
from engine.core.plan.planned import CHAIN as CHAIN_NAME
from engine.core.plan.planned import planned_only
from engine.core.plan.policies import Cache as PlannedCache
from engine.core.plan.policies import Modifiers
from engine.core.plan.reach import reach_of
from engine.core.plan.render import plan_outline
from engine.core.run.effects import Ok
from engine.dryrun.effects import Answered
from engine.dryrun.running import run_in_memory
from engine.dryrun.scripted import dry_run
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from engine.store.database import open_database
from engine.store.definitions import Definitions
from engine.testing import run_task
from tests.golden.cases import CONTRACTS

FOLDER = Path(__file__).parents[1] / "golden" / "plan_planned"
WHOLE = (FOLDER / "task.yaml").read_text(encoding="utf-8")
CHAIN = "dialect: contenox\nid: c\ntasks: [{id: a, handler: noop, transition: {branches: [{operator: default}]}}]"


def compiled(text: str, **options: Any) -> Compiled:
    return compile_text(text, contracts=CONTRACTS, **options)


def plan_of(text: str) -> Plan:
    return compiled(text).plan


def places(text: str) -> list[tuple[str, str]]:
    """Return (code, path) of all findings."""
    return [(item.code, item.path) for item in compiled(text).warnings]


# --- one plan from YAML, JSON and Python ---------------------------------------------------------------------------

PAGE = HttpTool(name="page", description="Read a web page.", url="https://pages.example/read")
ASK_USER = FunctionTool(
    name="ask_user",
    description="Ask the user something.",
    parameters={"type": "object", "properties": {"question": {"type": "string"}}},
)
GIVE_UP = FunctionTool(name="give_up", parameters={"type": "object", "properties": {}})

RESEARCH = Task(
    name="research",
    description="Steps, modifiers and limits that are planned, and run in a later version.",
    tools=[PAGE, ASK_USER],
    limits=Limits(cost=0.5, tokens=100_000),
    main=[
        engine.embed("{{ _.topic }}"),
        engine.embed(
            [expr("input.topic"), "a fixed text"],
            embed_instruction="Represent the question.",
            model="minilm",
        ),
        engine.search(expr("input.topic")),
        engine.search(
            "{{ input.topic }}",
            vector=expr("outputs[1].vectors[0]"),
            metadata_filter={"kind": "note", "year": expr("input.year")},
            user=expr("input.user"),
            options={"limit": expr("input.limit"), "alpha": 0.7, "lang": "en-US"},
            when="input.year > 2000",
            retry=engine.Retry(attempts=2),
            label="near",
        ),
        engine.agent("Find out who wrote {{ input.topic }}.", tools="all", unwrap=True),
        engine.agent(
            [engine.user("Write a report on {{ input.topic }}."), engine.user(expr("steps.near.output.docs"))],
            instructions="You write for {{ input.readers }}.",
            model="large",
            settings={"temperature": 0.2},
            tools=[PAGE, "word_count", "send_mail", GIVE_UP],
            rules=[
                ToolRule(PAGE, first=True, at_most=5, next=[PAGE, Next("word_count", "_.status_code == 200")]),
                ToolRule("word_count", only_after=[PAGE]),
                ToolRule(
                    "send_mail",
                    required=True,
                    ends=True,
                    approve=Approval(
                        if_="_.to != 'me'",
                        info="Send this mail?",
                        deadline="24h",
                        default={"approved": False, "reason": "nobody answered"},
                    ),
                ),
                ToolRule(GIVE_UP, approve=True),
            ],
            max_rounds=12,
            parallelism=2,
            on_overflow="summarise",
            output={"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]},
            repair=1,
            check=[Check(if_="len(_.title) < 80", message="the title is too long")],
            timeout="10m",
            on_error=evaluate({"title": "none"}),
            label="report",
        ),
        engine.if_("_.title", then=engine.agent("Shorten it.")),
        engine.prompt("Say it in {{ input.lang }}.", cache="7d"),
        engine.call_tool(
            "word_count",
            {"text": expr("_")},
            cache=Cache(ttl="1h30m", key=[expr("input.topic"), expr("input.year")]),
        ),
    ],
    finally_=engine.search(vector=[0.1, 0.2], agent="ada"),
)


def test_yaml_json_and_python_give_the_same_plan() -> None:
    in_yaml = plan_of(WHOLE)
    as_json = json.dumps(compiled(WHOLE).spec)
    in_json = compiled(as_json, file="task.json").plan
    in_python = compile_tree(RESEARCH.to_node(), source="", file="task.py", contracts=CONTRACTS).plan
    printed = compiled(RESEARCH.to_yaml()).plan
    assert plan_to_json(in_python) == plan_to_json(in_yaml)
    assert {plan_hash(plan) for plan in (in_yaml, in_json, in_python, printed)} == {plan_hash(in_yaml)}


def test_a_plan_with_all_of_it_is_the_same_after_writing_and_reading_it() -> None:
    plan = plan_of(WHOLE)
    assert plan_from_json(plan_to_json(plan)) == plan


def test_what_is_not_there_leaves_no_trace_in_the_plan() -> None:
    plan = plan_of("main: [{agent: hello}, {embed: x}, {search: x}]")
    agent, embed, search = plan_to_json(plan)["blocks"][0]["ops"]
    assert set(agent) == {"op", "messages"}
    assert set(embed) == {"op", "text"}
    assert set(search) == {"op", "text"}
    assert "limits" not in plan_to_json(plan)


def test_defaults_of_an_agent_are_those_of_its_page() -> None:
    (op,) = plan_of("main: {agent: hello}").blocks[0].ops
    assert isinstance(op, AgentOp)
    assert (op.max_rounds, op.parallelism, op.on_overflow, op.repair, op.unwrap) == (50, 10, "error", 2, False)


def test_an_agent_keeps_tools_of_the_engine_and_functions_of_the_client_apart() -> None:
    plan = plan_of(WHOLE)
    ops = [op for block in plan.blocks for op in block.ops if isinstance(op, AgentOp)]
    assert ops[0].tools == ("page",)
    assert [item["function"]["name"] for item in ops[0].functions] == ["ask_user"]
    assert ops[1].tools == ("page", "word_count", "send_mail")
    assert [item["function"]["name"] for item in ops[1].functions] == ["give_up"]
    assert set(plan.tools) == {"page", "word_count", "send_mail"}


def test_embed_and_search_have_the_members_that_julep_named() -> None:
    plan = plan_of("main: [{embed: {text: x, embed_instruction: y}}, {search: {text: x, mmr_strength: 0.5}}]")
    embed, search = plan.blocks[0].ops
    assert isinstance(embed, EmbedOp)
    assert isinstance(search, SearchOp)
    assert plan_to_json(plan)["blocks"][0]["ops"][1]["options"] == {"t": "lit", "value": {"mmr_strength": 0.5}}


@pytest.mark.parametrize("dialect", ["julep-2024", "julep-2025"])
def test_the_dialects_of_julep_have_embed_and_search_too(dialect: str) -> None:
    text = f"dialect: {dialect}\nmain:\n- kind_: embed\n  embed: {{text: $ _.x}}\n- search: {{text: _.x, limit: 3}}"
    if dialect == "julep-2024":
        text = text.replace("$ _.x", "_.x")
    plan = plan_of(text)
    assert [op.op for op in plan.blocks[0].ops] == [StepKind.EMBED, StepKind.SEARCH]


# --- the diagnostic ------------------------------------------------------------------------------------------------


def test_steps_modifiers_and_limits_of_all_kinds_are_run() -> None:
    assert places(WHOLE) == []
    assert list(planned_only(plan_of(WHOLE))) == []


def test_the_warning_says_what_is_planned_and_where() -> None:
    (found,) = compiled(CHAIN).warnings
    assert (found.code, found.position.line, found.position.column) == ("W614", 1, 1)
    assert found.message == "a contenox chain is planned, but this engine does not run it yet"
    assert [item.what for item in planned_only(plan_of(CHAIN))] == [CHAIN_NAME]


def test_nothing_is_only_planned_in_an_ordinary_task() -> None:
    assert list(planned_only(plan_of("main: [{prompt: x}, {tool: word_count, arguments: {text: a}}]"))) == []


# --- how it is shown -----------------------------------------------------------------------------------------------


def test_the_outline_has_the_steps_with_their_titles() -> None:
    titles = {row.path: row.title for row in plan_outline(plan_of(WHOLE))}
    assert titles["main.1"] == "embed 2 items"
    assert titles["main.2"] == "search input.topic"
    assert titles["main.4"] == "agent “Find out who wrote {{ input.topic }}.”"
    assert titles["main.5"] == "report"
    assert titles["finally.0"] == "search by a vector"


def test_the_outline_of_a_chain_has_every_task() -> None:
    text = CHAIN.replace("default}", "default, goto: b}").replace("]}}]", "]}}, {id: b, handler: noop}]")
    assert {row.path.rpartition(".")[0] for row in plan_outline(plan_of(text))} == {"main.a", "main.b"}


def test_an_agent_reaches_its_tools_their_hosts_and_its_model() -> None:
    reach = reach_of(plan_of(WHOLE))
    assert reach.tools == ("page", "send_mail", "word_count")
    assert {"large", "minilm"} <= set(reach.models)
    assert reach.hosts == ("*",)  # the model makes the arguments of `page`, and they may hold an address


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("max_rounds: 12", "max_rounds: 13", "main.5: agent 'report': max_rounds changed"),
        ("at_most: 5", "at_most: 6", "main.5: agent 'report': rules changed"),
        ("cost: 0.5", "cost: 5", "the task's limits: cost changed"),
        ("key: [$ input.topic, $ input.year]", "key: 1", "main.8: tool word_count: cache changed"),
    ],
)
def test_a_change_is_told_in_words(old: str, new: str, told: str) -> None:
    assert old in WHOLE
    assert told in plan_difference(plan_of(WHOLE), plan_of(WHOLE.replace(old, new))).changes


def test_a_new_tool_of_an_agent_is_a_gain() -> None:
    before, after = "main: {agent: x, tools: [word_count]}", "main: {agent: x, tools: [word_count, send_mail]}"
    found = plan_difference(plan_of(before), plan_of(after))
    assert "call the tool 'send_mail' (effect: external)" in found.gains


# --- refused before anything is created ----------------------------------------------------------------------------


def test_no_way_of_running_in_memory_takes_it() -> None:
    plan = plan_of(CHAIN)
    with pytest.raises(CompileError) as refused:
        dry_run(plan, {})
    assert refused.value.code == "task.not_runnable"
    assert refused.value.details["places"]
    with pytest.raises(BugError) as broken:
        run_in_memory(plan, {}, lambda call: Answered(Ok(None)))
    assert broken.value.code == "plan.not_runnable"


def test_the_helper_for_pytest_says_where() -> None:
    with pytest.raises(DefinitionError) as refused:
        run_task(CHAIN)
    assert refused.value.code == "task.not_runnable"
    assert "task:1:1: warning[W614]" in str(refused.value)


def test_the_error_names_the_place() -> None:
    with pytest.raises(CompileError) as refused:
        compiled(CHAIN).check_runs()
    assert refused.value.message == ("the task 'c' cannot be run by this engine yet: a contenox chain at main")


def test_a_cache_that_an_older_compiler_let_stand_elsewhere_is_none_that_runs() -> None:
    plan = plan_of("main: [{evaluate: 1}]")
    (op,) = plan.blocks[0].ops
    older = replace(plan, blocks=(replace(plan.blocks[0], ops=(replace(op, mods=Modifiers(cache=PlannedCache(60))),)),))
    assert [item.path for item in planned_only(older)] == ["main.0"]


@pytest.mark.parametrize(
    "text",
    [
        "main: [{prompt: x, cache: 1h}]",
        "main: [{tool: word_count, arguments: {text: a}, cache: 1h}]",
        "limits: {cost: 1}\nmain: [{prompt: x}]",
    ],
)
def test_a_cache_of_calls_and_a_limit_of_costs_are_run(text: str) -> None:
    assert list(planned_only(plan_of(text))) == []


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("evaluate: 1", "so it stands on `prompt` and `tool` steps only"),
        ("over: _, map: {prompt: x}", "so it stands on `prompt` and `tool` steps only"),
        ("agent: x", "so it stands on `prompt` and `tool` steps only"),
        ("tool: send_mail", "the tool 'send_mail' changes something"),
    ],
)
def test_a_cache_that_would_leave_out_an_effect_is_an_error(step: str, told: str) -> None:
    with pytest.raises(CompileError) as caught:
        compiled(f"main: [{{{step}, cache: 1h}}]")
    (found,) = [item for item in caught.value.diagnostics if item.code == "E509"]
    assert told in found.message
    assert found.path == "main[0].cache"


def test_dry_run_and_test_end_with_the_code_and_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asks.yaml").write_text(CHAIN)
    (tmp_path / "asks.test.yaml").write_text("cases:\n  - name: one\n    expect: {output: 1}\n")
    assert run_command(["dry-run", "asks.yaml"]) == Exit.USAGE
    told = capsys.readouterr().err
    assert "asks.yaml:1:1: warning[W614]: a contenox chain is planned" in told
    assert "error[task.not_runnable]" in told
    assert run_command(["test", "asks.test.yaml"]) != Exit.OK
    printed = capsys.readouterr()
    assert "task.not_runnable" in printed.out + printed.err


def test_validate_and_graph_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "asks.yaml").write_text(CHAIN)
    assert run_command(["validate", "asks.yaml"]) == Exit.OK
    out = capsys.readouterr().out
    assert "asks.yaml:1:1: warning[W614]" in out
    assert "task 'c' is valid" in out
    assert run_command(["graph", "asks.yaml"]) == Exit.OK
    assert "n_main_a_1" in capsys.readouterr().out


@contextlib.asynccontextmanager
async def definitions(folder: Path) -> AsyncIterator[DefinitionService]:
    """Give the use cases on tasks over a store of the test's own."""
    database = await open_database(f"sqlite+aiosqlite:///{folder / 'tasks.db'}")
    try:
        yield DefinitionService(Definitions(database), {})
    finally:
        await database.close()


# --- rules that are checked now ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("agent: x, tools: [nothing]", "E402"),
        ("agent: x, tools: [word_count], rules: {send_mail: {ends: true}}", "E402"),
        ("agent: x, tools: [word_count], rules: {word_count: {next: send_mail}}", "E402"),
        ("agent: x, tools: [word_count, word_count]", "E408"),
        (
            "agent: x, tools: [word_count, send_mail], rules: {word_count: {first: true, only_after: send_mail}}",
            "E509",
        ),
        ("agent: x, tools: [word_count], rules: {word_count: {ends: true, next: word_count}}", "E509"),
        ("agent: x, tools: [word_count], rules: {word_count: {only_after: word_count}}", "E509"),
        (
            "agent: x, tools: [word_count, send_mail], "
            "rules: {word_count: {next: word_count}, send_mail: {only_after: word_count}}",
            "E509",
        ),
        ("agent: x, tools: [word_count], rules: {word_count: {approve: _.to ==}}", "E301"),
        ("agent: x, tools: [word_count], rules: {word_count: {approve: {default: {}}}}", "E509"),
        ("agent: x, output_schema: {type: objekt}", "E501"),
        ("agent: x, instructions: '{{ nobody }}'", "E401"),
        ("agent: x, max_rounds: 0", "E503"),
        ("agent: x, on_overflow: forget", "E506"),
        ("embed: '{{ nobody }}'", "E401"),
        ("embed: {text: x, model: $ _.m}", "E508"),
        ("search: {limit: 3}", "E202"),
        ("search: {text: x, limit: 51}", "E503"),
        ("search: {text: x, metadata_filter: note}", "E203"),
        ("search: {text: x, limit: many}", "E203"),
        ("evaluate: 1, cache: soon", "E504"),
        ("evaluate: 1, cache: {key: 1}", "E202"),
        ("evaluate: 1, cache: {ttl: null}", "E202"),
        ("prompt: x, cache: {ttl: 1h, key: $ nobody}", "E401"),
    ],
)
def test_a_mistake_is_an_error_now(step: str, code: str) -> None:
    with pytest.raises(CompileError) as caught:
        compiled(f"main: [{{{step}}}]")
    assert [item.code for item in caught.value.diagnostics if item.code != "W614"] == [code]


def test_tools_may_wait_for_each_other_as_long_as_one_begins() -> None:
    rules = "{word_count: {next: [send_mail, word_count]}, send_mail: {only_after: [send_mail, word_count]}}"
    assert places(f"main: {{agent: x, tools: [word_count, send_mail], rules: {rules}}}") == []


def test_a_race_takes_no_agent_whose_tools_cannot_be_stopped() -> None:
    text = "main: {race: [{agent: x, tools: [send_mail]}, {agent: x, tools: [word_count]}]}"
    with pytest.raises(CompileError) as caught:
        compiled(text)
    errors = [(item.code, item.path) for item in caught.value.diagnostics if item.code != "W614"]
    assert errors == [("E510", "main.race[0].tools[0]")]


def test_a_check_on_an_agent_is_repaired_by_default() -> None:
    (op,) = plan_of("main: {agent: x, check: {if: _}}").blocks[0].ops
    assert [check.on_fail for check in op.mods.checks] == ["repair"]


def test_the_modifiers_are_written_in_the_order_in_which_they_nest() -> None:
    text = engine.evaluate(1, when="_", cache="1h", retry=engine.Retry(attempts=2), timeout="1s")
    assert list(Task(main=text).to_json()["main"]) == ["evaluate", "when", "cache", "retry", "timeout"]


@pytest.mark.parametrize("older", [STDLIB_VERSION, STDLIB_VERSION - 1, 1])
async def test_a_stored_task_starts_with_the_library_of_the_day(tmp_path: Path, older: int) -> None:
    async with definitions(tmp_path) as service:
        task = (await service.create_task("main: {evaluate: 1}", tenant="default")).task
        plan = await service.plan_for_start(replace(task, plan={**task.plan, "stdlib": older}))
    assert plan["stdlib"] == STDLIB_VERSION


async def test_a_stored_task_of_a_newer_library_is_not_started(tmp_path: Path) -> None:
    async with definitions(tmp_path) as service:
        task = (await service.create_task("main: {evaluate: 1}", tenant="default")).task
        with pytest.raises(BugError) as caught:
            await service.plan_for_start(replace(task, plan={**task.plan, "stdlib": STDLIB_VERSION + 1}))
    assert caught.value.code == "plan.stdlib"
