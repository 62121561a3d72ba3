"""An agent whose tool definition holds a secret: the service gets it; the model and all that is kept never see it."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from engine.edge.mockllm.script import MockRule, MockScript, MockToolCall
from tests.support.lab import Lab
from tests.workflow.test_secret_calls import CANARY, all_that_is_kept, ascii_back, echo, forms_of

TASK = """
name: helper
tools:
  - name: contacts
    effect: read
    description: Finds contacts.
    parameters: {type: object, properties: {params: {type: object}, json: {type: object}}, additionalProperties: false}
    api_call:
      method: POST
      url: "URL/things"
      headers: {Authorization: "Bearer {{ secrets.crm }}"}
main:
  - agent: "Find {{ _ }}."
    tools: [contacts]
    unwrap: true
"""


def asks(turn: int, name: str, arguments: object) -> MockRule:
    """Return the rule for a turn in which the model calls a tool."""
    return MockRule(turn=turn, tool_calls=[MockToolCall(name=name, id=f"c{turn}", arguments=arguments)])


async def test_an_agents_tool_sends_a_secret_that_nobody_else_sees(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    await lab.set_secret("crm", CANARY)
    # a model that fishes for it gets the text that it wrote
    fishing = {"params": {"q": "Ada"}, "json": {"a": "{{ secrets.crm }}", "b": "$ secrets.crm", "c": "‹secret:crm›"}}
    rules = [
        asks(0, "contacts", fishing),
        asks(1, "contacts", {"params": {"q": "again"}}),
        asks(2, "contacts", {"headers": {"Authorization": "mine"}}),
    ]
    lab.mock.use(MockScript(rules=[*rules, MockRule(reply="Ada is there")]))
    with structlog.testing.capture_logs() as lines, caplog.at_level(logging.INFO):
        async with echo() as (service, url), lab.worker():
            handle = await lab.start(TASK.replace("URL", url), "Ada")
            await lab.until(handle, "effect.finished", count=2)
            ended = await lab.end_of(handle)
            await lab.until(handle, "finish")
            kept = await all_that_is_kept(lab, handle)
    assert ended.output == "Ada is there"
    assert [sent["headers"]["authorization"] for sent in service.seen] == [f"Bearer {CANARY}"] * 2
    assert json.loads(service.seen[0]["body"]) == fishing["json"]
    told = [message["content"] for message in lab.mock.calls[-1]["messages"] if message["role"] == "tool"]
    assert "Bearer ***" in told[0]
    assert "‹secret:crm›" not in told[1]
    assert "tool.bad_arguments" in told[2], "what the schema does not name, a model cannot override"
    whole = ascii_back(kept) + repr(ended) + repr(lab.mock.calls) + repr(lines) + caplog.text
    assert [form for form in forms_of(CANARY) if form in whole] == []


async def test_an_agents_call_that_fails_tells_the_model_nothing_of_its_secret(lab: Lab) -> None:
    await lab.set_secret("crm", CANARY)
    rules = [asks(0, "contacts", {"params": {"q": "Ada"}}), MockRule(reply="gave up")]
    lab.mock.use(MockScript(rules=rules))
    async with echo() as (service, url), lab.worker():
        service.failures = 100
        handle = await lab.start(TASK.replace("URL", url) + "    retry: {attempts: 2, initial: 0.01}\n", "Ada")
        ended = await lab.end_of(handle)
        await lab.until(handle, "finish")
        kept = await all_that_is_kept(lab, handle)
    assert ended.output == "gave up"
    assert {sent["headers"]["authorization"] for sent in service.seen} == {f"Bearer {CANARY}"}
    (told,) = [message["content"] for message in lab.mock.calls[-1]["messages"] if message["role"] == "tool"]
    assert "tool.http_status" in told
    assert "Bearer ***" in kept, "the event tells what the service said"
    assert [form for form in forms_of(CANARY) if form in ascii_back(kept) + repr(ended) + repr(lab.mock.calls)] == []


async def test_an_agent_without_its_secret_calls_nobody(lab: Lab) -> None:
    rules = [asks(0, "contacts", {"params": {"q": "Ada"}}), MockRule(reply="no key")]
    lab.mock.use(MockScript(rules=rules))
    async with echo() as (service, url), lab.worker():
        ended = await lab.run(TASK.replace("URL", url), "Ada")
    assert service.seen == []
    told = [message["content"] for message in lab.mock.calls[-1]["messages"] if message["role"] == "tool"]
    assert (ended.error or {}).get("code") == "secret.missing" or "secret.missing" in told[0]
