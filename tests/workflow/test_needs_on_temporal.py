"""Steps that say what they need: who is asked, what the history tells of it, and models that are told in words."""

from __future__ import annotations

from typing import Any

import pytest

from engine import tool
from engine.core.run.events import body_of
from engine.core.run.story_words import entry
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, Capabilities, Project
from tests.support.lab import Lab, plan_of

BLIND = Capabilities(vision=False, tools=False, json_schema=False)


def offer(lab: Lab, *rules: dict[str, Any], **models: Capabilities) -> None:
    """Let the laboratory have a backend for each model, all at its scripted server."""
    lab.mock.use(MockScript.model_validate({"rules": list(rules)}))
    backends = {
        name: BackendConfig(base_url=lab.llm_url, models=[name], capabilities={"*": can})
        for name, can in models.items()
    }
    lab.project = Project(backends=backends, http=lab.http)


async def finished(lab: Lab, handle: Any) -> list[dict[str, Any]]:
    return [body_of(event) for event in await lab.events(handle) if event.type == "effect.finished"]


async def test_a_list_with_needs_is_asked_in_order_and_the_history_says_who_could_not(lab: Lab) -> None:
    offer(lab, {"reply": "a cat"}, blind=BLIND, sighted=Capabilities(vision=True))
    task = """
    name: look
    main:
      - prompt: What is it?
        model: [lost, blind, sighted]
        needs: {vision: true, context: 1000}
        unwrap: true
    """
    async with lab.worker():
        handle = await lab.start(task)
        assert (await lab.end_of(handle)).output == "a cat"
        await lab.until(handle, "finish")
    (body,) = await finished(lab, handle)
    assert body["backend"] == "sighted"
    assert body["route"]["passed_over"] == [
        {"model": "lost", "why": "no backend has it"},
        {"backend": "blind", "model": "blind", "why": "reads no images"},
    ]
    events = await lab.events(handle)
    (started,) = [body_of(event) for event in events if event.type == "effect.started"]
    assert started["name"] == "lost"
    assert started["request"]["models"] == ["lost", "blind", "sighted"]
    assert started["request"]["needs"] == {"vision": True, "context": 1000}
    (told,) = [entry(event)["what"] for event in events if event.type == "effect.finished"]
    assert "at sighted, passing over lost (no backend has it), blind (reads no images)," in told


async def test_a_computed_list_is_asked_and_each_of_its_names_held_to_what_the_task_allows(lab: Lab) -> None:
    offer(lab, {"model": "small", "status": 503}, {"reply": "yes"}, small=Capabilities(), large=Capabilities())
    task = """
    name: pick
    allow: {models: [small, large]}
    main: [{prompt: Well?, model: $ _.models, unwrap: true, retry: {attempts: 1}}]
    """
    async with lab.worker():
        assert (await lab.run(task, {"models": ["small", "large"]})).output == "yes"
        denied = await lab.run(task, {"models": ["small", "huge"]})
        wrong = await lab.run(task, {"models": ["small", 7]})
    assert denied.error is not None
    assert (denied.error["code"], denied.error["details"]["name"]) == ("authority.denied", "huge")
    assert wrong.error is not None
    assert (wrong.error["code"], "a list with" in wrong.error["message"]) == ("input.rejected", True)
    assert [call["model"] for call in lab.mock.calls] == ["small", "large"]


async def test_needs_that_nobody_meets_end_the_step_at_once_and_can_be_handled(lab: Lab) -> None:
    offer(lab, {"reply": "yes"}, blind=BLIND)
    task = """
    name: picky
    main:
      - prompt: Well?
        model: blind
        needs: {vision: true}
        on_error: {evaluate: "$ error.code"}
    """
    async with lab.worker():
        assert (await lab.run(task)).output == "backend.no_candidate"
    assert lab.mock.calls == []


async def test_tools_and_schemas_reach_a_model_that_has_neither(lab: Lab) -> None:
    rules = (
        {"match": "^Look", "reply": 'Sure: {"tool_calls": [{"name": "look", "arguments": {"at": "x"}}]}'},
        {"match": "^Rate", "times": 1, "reply": "I like it."},
        {"reply": 'I say ```json\n{"stars": 4}\n``` of it.'},
    )
    offer(lab, *rules, blind=BLIND)
    task = """
    name: plain
    tools: [{name: look, type: function, function: {parameters: {type: object, properties: {at: {type: string}}}}}]
    main:
      - prompt: Look at x.
        tools: [look]
        label: asked
      - prompt: Rate it.
        output_schema: {type: object, properties: {stars: {type: integer}}, required: [stars]}
        unwrap: true
        label: rated
      - evaluate: "$ [steps['asked'].output.choices[0].message.tool_calls[0].function, _.stars]"
    """
    async with lab.worker():
        ended = await lab.run(task)
    assert ended.output == [{"name": "look", "arguments": '{"at":"x"}'}, 4]
    assert len(lab.mock.calls) == 3, "the reply without JSON was sent back once"
    assert not any(set(call["body"]) & {"tools", "response_format"} for call in lab.mock.calls)


@pytest.mark.parametrize("mode", ["native", "json"])
async def test_how_tools_are_offered_is_what_the_step_says(lab: Lab, mode: str) -> None:
    offer(lab, {"tool_calls": [{"name": "look"}], "reply": '{"reply": "hi"}'}, m=Capabilities())
    task = f"""
    name: mode
    tools: [{{name: look, type: function, function: {{}}}}]
    main: [{{prompt: Hello, tools: [look], tool_mode: {mode}}}]
    """
    async with lab.worker():
        handle = await lab.start(task)
        await lab.end_of(handle)
    events = await lab.events(handle)
    (started,) = [body_of(event) for event in events if event.type == "effect.started"]
    assert started["request"]["tool_mode"] == mode
    assert ("tools" in lab.mock.calls[0]["body"]) is (mode == "native")


@tool(effect="none")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.mark.parametrize("mode", ["auto", "json"])
async def test_an_agent_uses_its_tools_by_a_model_that_has_no_tool_calls(lab: Lab, mode: str) -> None:
    rules = (
        {"match": "^What", "reply": 'I add: {"tool_calls": [{"name": "add", "arguments": {"a": 1, "b": 2}}]}'},
        {"match": "^Result of add:\\s*3$", "json": {"reply": "It is three."}},
    )
    offer(lab, *rules, m=BLIND if mode == "auto" else Capabilities())
    lab.tools = [add]
    task = f"""
    name: sums
    main: [{{agent: What is 1 + 2?, model: [lost, m], tools: [add], tool_mode: {mode}, unwrap: true}}]
    """
    async with lab.worker():
        ended = await lab.run(plan_of(task, [add]))
    assert ended.output == "It is three."
    assert [call["rule"] for call in lab.mock.calls] == [0, 1]
    assert not any("tools" in call["body"] for call in lab.mock.calls)
    asked, called, result = lab.mock.calls[1]["messages"][-3:]
    assert (asked["role"], called["role"], result["role"]) == ("user", "assistant", "user")
    assert called["content"] == '{"tool_calls":[{"name":"add","arguments":{"a":1,"b":2}}]}'
