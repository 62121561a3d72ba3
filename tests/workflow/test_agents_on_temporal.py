"""Agents on the real Temporal server with a scripted model: tools, approvals, functions, cancel, continue-as-new."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from engine.core.run.events import body_of
from engine.core.run.story import Story
from engine.edge.mockllm.script import MockRule, MockScript, MockToolCall
from engine.tooling import tool
from tests.chaos.test_scale import sizes_of_runs
from tests.support.lab import Lab
from workflows import renewal

CALLED: list[tuple[str, Any]] = []
STARTED = asyncio.Event()


@tool(effect="read")
async def look_up(name: str) -> dict[str, str]:
    """Look something up."""
    CALLED.append(("look_up", name))
    return {"name": name, "said": f"{name} is fine"}


@tool(effect="write")
async def pay(amount: float) -> str:
    """Pay."""
    CALLED.append(("pay", amount))
    return f"paid {amount:g}"


@tool(effect="write")
async def fail(why: str) -> str:
    """Fail."""
    CALLED.append(("fail", why))
    raise ValueError(why)


@tool(effect="read")
async def hang(name: str) -> str:
    """Take for ever."""
    CALLED.append(("hang", name))
    STARTED.set()
    await asyncio.sleep(3_600)
    return name


AGENT = """
name: agent
main:
  - agent: "Do {{ _ }}"
    tools: [look_up, pay, fail, hang]
    unwrap: true
    MORE
"""


def task(more: str = "") -> str:
    return AGENT.replace("MORE", more.replace("; ", "\n    "))


def turn(number: int, *calls: tuple[str, dict[str, Any]], **more: Any) -> MockRule:
    """Return the rule for a turn of the conversation that asks for tools."""
    return MockRule(turn=number, tool_calls=[MockToolCall(name=name, arguments=given) for name, given in calls], **more)


@pytest.fixture
def agents(lab: Lab) -> Lab:
    CALLED.clear()
    STARTED.clear()
    lab.tools = (look_up, pay, fail, hang)
    return lab


def says(lab: Lab, *rules: MockRule) -> None:
    lab.mock.use(MockScript(rules=list(rules)))


def told(lab: Lab, number: int = -1) -> list[str]:
    """Return the tool messages that stand at the end of a conversation."""
    messages = lab.mock.calls[number]["messages"]
    return [message["content"] for message in messages if message["role"] == "tool"]


async def stored(lab: Lab, handle: WorkflowHandle[Any, Any], kind: str) -> list[dict[str, Any]]:
    return [body_of(event) for event in await lab.events(handle) if event.type == kind]


# --- the loop ------------------------------------------------------------------------------------------------------


async def test_tools_of_a_turn_run_together_and_the_model_goes_on_with_what_they_gave(agents: Lab) -> None:
    says(
        agents,
        turn(0, ("look_up", {"name": "a"}), ("look_up", {"name": "b"}), ("fail", {"why": "broken"})),
        turn(1, ("pay", {"amount": 3})),
        MockRule(reply="done"),
    )
    async with agents.worker():
        handle = await agents.start(task(), "it")
        assert (await agents.end_of(handle)).output == "done"
        await agents.until(handle, "finish")
    assert sorted(CALLED, key=str) == [("fail", "broken"), ("look_up", "a"), ("look_up", "b"), ("pay", 3)]
    first, second, third, fourth = told(agents)
    assert [json.loads(text)["name"] for text in (first, second)] == ["a", "b"]
    assert json.loads(third)["error"]["code"] == "tool.failed"
    assert fourth == "paid 3"
    activities = await activity_ids(handle)
    assert len(set(activities)) == len(activities) == 7
    assert "main.0.turn[1].1[0].0#1" in activities


async def activity_ids(handle: WorkflowHandle[Any, Any]) -> list[str]:
    found: list[str] = []
    async for event in handle.fetch_history_events():
        scheduled = event.activity_task_scheduled_event_attributes
        if scheduled.activity_id:
            found.append(scheduled.activity_id)
    return found


async def test_names_and_arguments_that_a_model_makes_up_reach_no_activity(agents: Lab) -> None:
    says(
        agents,
        turn(0, ("rm -rf /", {}), ("look_up", {"wrong": 1}), ("pay", {"amount": "much"})),
        turn(1, ("look_up", {"name": "a"})),
        MockRule(reply="done"),
    )
    async with agents.worker():
        handle = await agents.start(task(), "it")
        assert (await agents.end_of(handle)).output == "done"
    assert CALLED == [("look_up", "a")]
    codes = [json.loads(text)["error"]["code"] for text in told(agents, 1)]
    assert codes == ["tool.unknown", "tool.bad_arguments", "tool.bad_arguments"]
    assert len(await activity_ids(handle)) == 4


async def test_rules_hold_and_the_model_is_forced_where_they_say_so(agents: Lab) -> None:
    says(
        agents,
        turn(0, ("pay", {"amount": 1})),
        turn(1, ("look_up", {"name": "a"})),
        MockRule(turn=2, reply="done?"),
        turn(3, ("pay", {"amount": 2})),
    )
    rules = "rules: {look_up: {first: true}, pay: {required: true, at_most: 1, ends: true}}"
    async with agents.worker():
        ended = await agents.run(task(rules), "it")
    assert ended.output == "paid 2"
    assert CALLED == [("look_up", "a"), ("pay", 2)]
    assert [call["body"].get("tool_choice") for call in agents.mock.calls] == ["required", "required", None, "required"]
    names = [[item["function"]["name"] for item in call["body"]["tools"]] for call in agents.mock.calls]
    assert names[0] == ["look_up"]
    assert names[3] == ["pay"]


async def test_a_failed_model_call_is_made_again_and_no_tool_with_it(agents: Lab) -> None:
    says(agents, turn(0, ("pay", {"amount": 1})), MockRule(turn=1, times=2, status=503), MockRule(reply="done"))
    async with agents.worker():
        assert (await agents.run(task("retry: {attempts: 3, initial: 50ms}"), "it")).output == "done"
    assert CALLED == [("pay", 1)]


# --- people and clients --------------------------------------------------------------------------------------------

APPROVE = "rules: {pay: {approve: {if: _.amount > 10, deadline: DEADLINE}}}"


@pytest.mark.parametrize(
    ("answer", "made", "heard"),
    [
        ({"approved": True}, [("pay", 99)], "paid 99"),
        ({"approved": True, "arguments": {"amount": 5}}, [("pay", 5)], "paid 5"),
        ({"approved": False, "reason": "too dear"}, [], "too dear"),
    ],
)
async def test_a_call_waits_for_a_person(agents: Lab, answer: dict[str, Any], made: list[Any], heard: str) -> None:
    says(agents, turn(0, ("pay", {"amount": 99}), ("look_up", {"name": "a"})), MockRule(reply="done"))
    async with agents.worker():
        handle = await agents.start(task(APPROVE.replace("DEADLINE", "1h")), "it")
        wait = await agents.until(handle, "wait")
        assert (wait["path"], wait["info"]["arguments"]) == ("main.0.turn[0].1[0].0", {"amount": 99})
        await agents.until(handle, "finish_branch", path="main.0.turn[0].1[1].0")
        await agents.answer(handle, answer, wait_id=wait["wait_id"])
        assert (await agents.end_of(handle)).output == "done"
    assert [item for item in CALLED if item[0] == "pay"] == made
    assert heard in told(agents)[0]


async def test_a_deadline_denies_and_a_decision_may_be_remembered(agents: Lab) -> None:
    says(agents, turn(0, ("pay", {"amount": 99})), MockRule(reply="done"))
    async with agents.worker():
        assert (await agents.run(task(APPROVE.replace("DEADLINE", "100ms")), "it")).output == "done"
        assert CALLED == []
        assert json.loads(told(agents)[0])["error"]["code"] == "tool.denied"
        says(agents, turn(0, ("pay", {"amount": 20})), turn(1, ("pay", {"amount": 30})), MockRule(reply="done"))
        handle = await agents.start(task(APPROVE.replace("DEADLINE", "1h")), "it")
        await agents.until(handle, "wait")
        await agents.answer(handle, {"approved": True, "remember": True})
        assert (await agents.end_of(handle)).output == "done"
    assert CALLED == [("pay", 20), ("pay", 30)]


async def test_a_function_of_the_client_gets_its_result_by_an_answer(agents: Lab) -> None:
    says(agents, turn(0, ("ask_user", {"q": "why?"})), MockRule(reply="done"))
    text = task().replace("[look_up, pay, fail, hang]", "[look_up, {name: ask_user, parameters: {type: object}}]")
    async with agents.worker():
        handle = await agents.start(text, "it")
        wait = await agents.until(handle, "wait")
        assert wait["info"] == {"kind": "function_call", "tool": "ask_user", "arguments": {"q": "why?"}}
        await agents.answer(handle, {"because": 1})
        assert (await agents.end_of(handle)).output == "done"
    assert told(agents) == ['{"because":1}']


# --- overflow ------------------------------------------------------------------------------------------------------

TOO_LONG = {
    "error": {"message": "This model's maximum context length is 100 tokens.", "code": "context_length_exceeded"}
}


@pytest.mark.parametrize("way", ["truncate", "summarise"])
async def test_a_conversation_that_outgrows_the_model_goes_on(agents: Lab, way: str) -> None:
    looks = [turn(number, ("look_up", {"name": f"{number}" * 40}), times=1) for number in range(4)]
    says(
        agents,
        *looks,
        MockRule(turn=4, times=1, status=400, error=TOO_LONG),
        MockRule(match="(?s)look_up", reply="a summary of it"),
        MockRule(reply="done"),
    )
    async with agents.worker():
        handle = await agents.start(task(f"on_overflow: {way}"), "it")
        assert (await agents.end_of(handle)).output == "done"
        await agents.until(handle, "finish")
    assert len(CALLED) == 4
    last = agents.mock.calls[-1]["messages"]
    assert last[0]["content"] == "Do it"
    assert "0" * 40 not in json.dumps(last)
    assert "3" * 40 in json.dumps(last)
    assert ("a summary of it" in json.dumps(last)) is (way == "summarise")
    (failure,) = await stored(agents, handle, "attempt.failed")
    assert (failure["overflow"], failure["error"]["code"]) == (way, "backend.context_too_long")


# --- cancel, and runs that continue as new -------------------------------------------------------------------------


async def test_a_cancel_stops_the_tools_of_a_turn(agents: Lab) -> None:
    says(agents, turn(0, ("look_up", {"name": "a"}), ("hang", {"name": "b"})))
    async with agents.worker():
        handle = await agents.start(task(), "it")
        await asyncio.wait_for(STARTED.wait(), 30)
        await agents.cancel(handle, "enough")
        assert (await agents.end_of(handle)).cancelled
        await agents.until(handle, "cancelled")
    ends = {body["path"]: body["outcome"] for body in await stored(agents, handle, "effect.finished")}
    assert ends["main.0.turn[0].1[1].0"] == "cancelled"
    assert len(agents.mock.calls) == 1


async def test_it_continues_as_new_in_the_middle_and_repeats_nothing(
    agents: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "YOUNGEST_RUN_S", 0.0)
    looks = [
        turn(number, ("look_up", {"name": f"{number}a"}), ("look_up", {"name": f"{number}b"})) for number in range(6)
    ]
    says(agents, *looks, MockRule(reply="done"))
    async with agents.worker():
        handle = await agents.start(task(), "it", continue_after_events=30)
        ended = await agents.end_of(handle)
        await agents.until(handle, "finish")
        assert len(await sizes_of_runs(agents, handle)) > 1
    assert ended.output == "done"
    assert len(CALLED) == len(set(CALLED)) == 12
    assert len(told(agents)) == 12
    assert len(agents.mock.calls) == 7
    assert await agents.store.digest(handle.id) == (ended.events, ended.digest, ended.times)


async def test_without_a_cache_every_workflow_task_is_a_replay_and_gives_the_same(agents: Lab) -> None:
    says(
        agents,
        turn(0, ("look_up", {"name": "a"}), ("nothing", {}), ("pay", {"amount": 1})),
        turn(1, ("fail", {"why": "x"})),
        MockRule(reply="done"),
    )
    async with agents.worker(cached_workflows=0):
        handle = await agents.start(task(), "it")
        ended = await agents.end_of(handle)
        await agents.until(handle, "finish")
    assert ended.output == "done"
    assert sorted(name for name, _ in CALLED) == ["fail", "look_up", "pay"]
    assert await agents.store.digest(handle.id) == (ended.events, ended.digest, ended.times)


async def test_the_story_has_turns_with_their_calls(agents: Lab) -> None:
    says(agents, turn(0, ("look_up", {"name": "a"}), ("nope", {})), MockRule(reply="done"))
    async with agents.worker():
        handle = await agents.start(task(), "it")
        await agents.end_of(handle)
        await agents.until(handle, "finish")
        story = Story().extend(await agents.events(handle))
    steps = {step.path: (step.kind, step.state.value) for step in story.walk()}
    assert steps == {
        "main.0": ("agent", "done"),
        "main.0.turn[0].0": ("prompt", "done"),
        "main.0.turn[0].1": ("parallel", "done"),
        "main.0.turn[0].1[0].0": ("tool_call", "done"),
        "main.0.turn[1].0": ("prompt", "done"),
    }
    totals = story.totals()["main.0"]
    assert (totals.llm_calls, totals.tool_calls) == (2, 1)
    failed = [block for block in story.steps["main.0.turn[0].1"].blocks if block.error]
    assert [block.error["code"] for block in failed if block.error] == ["tool.unknown"]
