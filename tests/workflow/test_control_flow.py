"""Choices, loops, checks and conditions on the real Temporal server, through model, API and command line."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from engine.core.run.events import body_of
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockRule, MockScript
from engine.tooling import tool
from tests.compat.apiserver import api_server, settings_for
from tests.support.lab import Lab
from tests.support.servers import serve_app

YAML = {"content-type": "application/yaml"}


@tool(effect="read")
async def price_of(thing: str, attempt: int = 1) -> int:
    """Return a price, which falls with every letter."""
    return 120 - 10 * len(thing) - 10 * (attempt - 1)


@pytest.fixture
def tools(lab: Lab) -> Lab:
    lab.tools = (price_of,)
    return lab


async def told(lab: Lab, handle: WorkflowHandle[Any, Any], *types: str) -> list[dict[str, Any]]:
    """Return the bodies of the stored events of some types."""
    return [body_of(event) for event in await lab.events(handle) if event.type in types]


# --- switch --------------------------------------------------------------------------------------------------------

SWITCH = """
name: t
main:
  - switch:
      - case: _.kind == 'tea'
        then: {evaluate: leaves}
      - case: $ _.kind == 'price'
        then:
          - tool: price_of
            arguments: {thing: $ _.kind}
            label: price
          - sleep: 0.05
      - case: _.kind == 'other'
        then: [{prompt: "say {{ _.kind }}", unwrap: true}]
  - evaluate: {was: $ _, price: "$ steps['price'].output if 'price' in steps else None"}
"""


@pytest.mark.parametrize(
    ("kind", "output", "taken"),
    [
        ("tea", {"was": "leaves", "price": None}, ["switch[0]"]),
        ("price", {"was": 70, "price": 70}, ["switch[1]"]),
        ("other", {"was": "say other", "price": None}, ["switch[2]"]),
        ("none", {"was": {"kind": "none"}, "price": None}, []),
    ],
)
async def test_switch_takes_the_first_case_that_holds_and_its_calls_and_labels_count_afterwards(
    tools: Lab, kind: str, output: Any, taken: list[str]
) -> None:
    async with tools.worker():
        handle = await tools.start(SWITCH, {"kind": kind})
        ended = await tools.end_of(handle)
        await tools.until(handle, "finish")
    assert ended.output == output
    assert [body["construct"] for body in await told(tools, handle, "init_branch")] == taken


# --- while ---------------------------------------------------------------------------------------------------------

WHILE = """
name: t
main:
  - while: _.price > 60
    do:
      - tool: price_of
        arguments: {thing: abc, attempt: $ _.round}
      - evaluate: {price: $ _, round: "$ (100 - _) // 10 + 1"}
"""


async def test_while_calls_again_as_long_as_its_condition_holds(tools: Lab) -> None:
    async with tools.worker():
        handle = await tools.start(WHILE, {"price": 100, "round": 1})
        ended = await tools.end_of(handle)
        await tools.until(handle, "finish")
    assert ended.output == {"price": 60, "round": 5}
    started = await told(tools, handle, "effect.started")
    assert [body["request"]["arguments"]["attempt"] for body in started] == [1, 2, 3, 4]


async def test_while_goes_on_over_continue_as_new_and_counts_its_rounds_on(tools: Lab) -> None:
    task = "name: t\nmain: [{while: 'True', do: [{sleep: 0.05}, {evaluate: $ _ + 1}], max_rounds: 40}]"
    async with tools.worker():
        handle = await tools.start(task, 0, continue_after_events=30)
        ended = await tools.end_of(handle)
        await tools.until(handle, "error")
    assert ended.error is not None
    assert ended.error["code"] == "loop.too_many_rounds"
    assert len({event.run_id for event in await tools.events(handle)}) > 1
    rounds = [body["construct"] for body in await told(tools, handle, "init_branch")]
    assert rounds == [f"while[{number}]" for number in range(40)]


# --- limits.rounds -------------------------------------------------------------------------------------------------


async def test_the_limit_of_rounds_ends_an_execution_that_its_handler_cannot_save(tools: Lab) -> None:
    task = """
name: t
limits: {rounds: 9}
main:
  - foreach: {in: "$ [1, 2, 3, 4, 5]", do: {evaluate: $ _}}
  - evaluate: $ 0
  - while: _ < 5
    do: [{sleep: 0.01}, {evaluate: $ _ + 1}]
    on_error: {evaluate: caught}
finally:
  - tool: price_of
    arguments: {thing: end}
"""
    async with tools.worker():
        handle = await tools.start(task)
        ended = await tools.end_of(handle)
        await tools.until(handle, "error")
        enough = await tools.run(task.replace("rounds: 9", "rounds: 10"))
    assert ended.error is not None
    assert (ended.error["code"], ended.error["step"]) == ("limit.rounds", "main.2")
    rounds = [body["construct"] for body in await told(tools, handle, "init_branch")]
    assert rounds == [*(f"foreach[{n}]" for n in range(5)), *(f"while[{n}]" for n in range(4)), "finally"]
    assert enough.output == 5


async def test_the_rounds_of_concurrent_branches_count_together_over_continue_as_new(tools: Lab) -> None:
    loop = "[{until: 'False', do: [{sleep: 0.05}, {evaluate: $ _ + 1}]}]"
    task = f"name: t\nlimits: {{rounds: 60}}\nmain: [{{parallel: [{loop}, {loop}]}}]"
    async with tools.worker():
        handle = await tools.start(task, 0, continue_after_events=30)
        ended = await tools.end_of(handle)
        await tools.until(handle, "error")
    assert ended.error is not None
    assert ended.error["code"] == "limit.rounds"
    assert len({event.run_id for event in await tools.events(handle)}) > 1
    rounds = await told(tools, handle, "init_branch")
    assert sum(body["construct"].startswith("until") for body in rounds) == 60


# --- check ---------------------------------------------------------------------------------------------------------

REPAIR = """
name: t
main:
  - prompt: Name a fruit
    unwrap: true
    check: {if: len(_) < 6, message: "{{ _ }} has {{ len(_) }} letters"}
"""


async def test_a_reply_that_does_not_pass_its_check_is_sent_back_to_the_model_with_what_is_wrong(tools: Lab) -> None:
    rules = [MockRule(turn=0, reply="pineapple"), MockRule(turn=1, match="9 letters", reply="melon")]
    async with serve_app(create_app(MockScript(rules=rules))) as url:
        tools.llm_url = f"{url}/v1"
        async with tools.worker():
            handle = await tools.start(REPAIR)
            ended = await tools.end_of(handle)
            await tools.until(handle, "finish")
    assert ended.output == "melon"
    first, second = await told(tools, handle, "effect.started")
    assert len(first["request"]["messages"]) == 1
    assert [message["role"] for message in second["request"]["messages"]] == ["user", "assistant", "user"]
    assert "pineapple has 9 letters" in second["request"]["messages"][2]["content"]
    failures = await told(tools, handle, "attempt.failed")
    assert [(body["error"]["code"], body["repair"]) for body in failures] == [("check.failed", 1)]


async def test_a_reply_that_never_passes_its_check_fails_after_its_repair_rounds(tools: Lab) -> None:
    async with serve_app(create_app(MockScript(rules=[MockRule(reply="pineapple {n}")]))) as url:
        tools.llm_url = f"{url}/v1"
        async with tools.worker():
            handle = await tools.start(REPAIR + "    repair: 1\n")
            ended = await tools.end_of(handle)
            await tools.until(handle, "error")
    assert ended.error is not None
    assert (ended.error["code"], ended.error["details"]["output"]) == ("check.failed", "pineapple 2")
    assert len(await told(tools, handle, "effect.started")) == 2


async def test_a_tool_that_does_not_pass_its_check_is_tried_again_and_then_handled(tools: Lab) -> None:
    task = """
name: t
main:
  - tool: price_of
    arguments: {thing: abc}
    check: {if: _ < 50, message: "{{ _ }} is too much", on_fail: error}
    retry: {attempts: 2, initial: 0.01}
    on_error: {evaluate: {code: $ error.code, said: $ error.message, attempts: $ error.attempts}}
"""
    async with tools.worker():
        ended = await tools.run(task)
        bare = await tools.run("name: t\nmain: [{tool: price_of, arguments: {thing: x}, check: {if: _ > 200}}]")
    assert ended.output["code"] == "check.failed"
    assert "90 is too much" in ended.output["said"]
    assert ended.output["attempts"] == 2
    assert bare.error is not None
    assert bare.error["code"] == "check.failed"


ASK = """
name: ask
main:
  - tool: price_of
    arguments: {thing: abc}
    label: price
    check: {if: _ < 50, message: "{{ _ }} is much", on_fail: ask}
  - evaluate: {paid: $ _}
"""


@pytest.mark.parametrize(
    ("answer", "output", "code"),
    [
        ({"accept": True}, {"paid": 90}, None),
        ({"accept": True, "output": 40}, {"paid": 40}, None),
        ({"accept": False}, None, "check.failed"),
    ],
)
async def test_a_person_who_is_asked_accepts_replaces_or_refuses_a_result(
    tools: Lab, answer: dict[str, Any], output: Any, code: str | None
) -> None:
    async with tools.worker():
        handle = await tools.start(ASK)
        wait = await tools.until(handle, "wait")
        await tools.answer(handle, {"no": "judgement"})
        await tools.until(handle, "answer.refused")
        await tools.answer(handle, answer, wait_id=wait["wait_id"])
        ended = await tools.end_of(handle)
    assert (wait["info"], wait["label"]) == ({"problem": "90 is much", "output": 90}, "price")
    assert (ended.output, ended.error["code"] if ended.error else None) == (output, code)


async def test_the_question_of_a_check_is_shown_and_answered_over_the_api(tools: Lab, temporal_address: str) -> None:
    contracts = {"price_of": price_of.contract()}
    settings = settings_for(tools.folder, task_queue=tools.queue)
    async with api_server(settings, temporal=temporal_address, contracts=contracts) as api, tools.worker():
        made = await api.http.post("/tasks", content=ASK, headers=YAML)
        assert made.status_code == 201, made.text
        started = (await api.http.post(f"/tasks/{made.json()['id']}/executions", json={})).json()
        await tools.until(tools.client.get_workflow_handle(started["id"]), "wait")
        shown = (await api.http.get(f"/executions/{started['id']}")).json()
        answered = await api.http.put(
            f"/executions/{started['id']}", json={"status": "running", "input": {"accept": True}}
        )
        ended = await tools.end_of(tools.client.get_workflow_handle(started["id"]))
    assert shown["status"] == "awaiting_input"
    assert answered.status_code == 200
    assert ended.output == {"paid": 90}


# --- require -------------------------------------------------------------------------------------------------------

REQUIRE = """
name: picky
require:
  - {if: _.n > 3, message: "n is {{ _.n }}, not above 3"}
  - if: $ _.word
main:
  - evaluate: {n: $ _.n}
"""


async def workflows_of(lab: Lab) -> list[str]:
    """Return the ids of the workflows on the laboratory's queue, once Temporal lists the one that is known."""
    query = f"TaskQueue = '{lab.queue}'"
    for _ in range(500):
        found = [workflow.id async for workflow in lab.client.list_workflows(query)]
        if found:
            return found
        await asyncio.sleep(0.02)
    return []


async def test_an_input_that_is_not_taken_is_refused_by_api_and_command_before_anything_is_made(
    lab: Lab, temporal_address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address) as api, lab.worker():
        made = await api.http.post("/tasks", content=REQUIRE, headers=YAML)
        assert made.status_code == 201, made.text
        path = f"/tasks/{made.json()['id']}/executions"

        refused = await api.http.post(path, json={"input": {"n": 1, "word": ""}})
        assert refused.status_code == 422
        assert refused.json()["code"] == "input.requirement"
        assert refused.json()["details"]["problems"] == ["n is 1, not above 3", "`_.word` does not hold"]
        # a key that was refused stands for nothing
        keyed = {"Idempotency-Key": "once"}
        assert (await api.http.post(path, json={"input": {"n": 0}}, headers=keyed)).status_code == 422

        words = ["run", "picky", "--input", json.dumps({"n": 2, "word": "x"}), "--address", api.url]
        code = await asyncio.to_thread(run_command, words)
        told = capsys.readouterr()
        assert code == Exit.USAGE
        assert "error[input.requirement]" in told.err
        assert "n is 2, not above 3" in told.err
        assert told.out == ""

        assert (await api.http.get("/executions")).json()["items"] == []
        taken = await api.http.post(path, json={"input": {"n": 4, "word": "x"}}, headers=keyed)
        assert taken.status_code == 201, taken.text
        ended = await lab.end_of(lab.client.get_workflow_handle(taken.json()["id"]))
        listed = [item["id"] for item in (await api.http.get("/executions")).json()["items"]]
    assert ended.output == {"n": 4}
    assert listed == [taken.json()["id"]]
    # and Temporal has seen no other
    assert await workflows_of(lab) == listed
