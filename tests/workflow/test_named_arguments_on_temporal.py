"""Tools whose schema names their arguments on Temporal: called by steps, by prompts that run tools, and by agents."""

from __future__ import annotations

import pytest

from engine.edge.mockllm.script import MockRule, MockScript, MockToolCall
from tests.support.lab import Lab
from tests.workflow.test_secret_calls import echo

TASK = """
name: t
dialect: julep-2025
tools:
  - name: lookup_order
    type: api_call
    api_call:
      method: GET
      url: "URL/orders/{order_id}"
      params_schema: {type: object, properties: {order_id: {type: string}, lang: {type: string}}}
main:
"""
STEP = """
  - tool: lookup_order
    arguments: {order_id: "$ '4 2'", lang: "$ 'en'"}
  - evaluate: {status: $ _.status_code}
"""
PROMPT = """
  - prompt: [{role: user, content: Where is it?}]
    tools: all
    auto_run_tools: true
    unwrap: true
"""


@pytest.mark.parametrize(("steps", "output"), [(STEP, {"status": 200}), (PROMPT, "It is on its way")])
async def test_whoever_calls_names_the_arguments_as_the_schema_does(lab: Lab, steps: str, output: object) -> None:
    call = MockToolCall(name="lookup_order", arguments={"order_id": "4 2", "lang": "en"})
    lab.mock.use(MockScript(rules=[MockRule(turn=0, tool_calls=[call]), MockRule(reply="It is on its way")]))
    async with echo() as (service, url), lab.worker():
        ended = await lab.end_of(await lab.start(TASK.replace("URL", url) + steps))
    assert (ended.error, ended.output) == (None, output)
    assert [(sent["path"], sent["query"]) for sent in service.seen] == [("orders/4 2", "lang=en")]
