"""What a task may touch at most binds its agents as well, whatever a model makes up."""

from __future__ import annotations

import json

from engine.core.plan.ir import Plan
from engine.dryrun.running import run_in_memory
from tests.support.agents import Model
from tests.support.memory import compiled
from tests.unit.test_run_agents import outcome

TASK = """
name: t
allow: {hosts: [good.example], tools: [page], models: [(default)]}
tools:
  - name: page
    type: api_call
    api_call: {method: GET, url: "https://good.example/"}
main:
  - agent: Read it.
    tools: [page]
    unwrap: true
"""


def plan() -> Plan:
    return compiled(TASK)


def test_an_address_that_a_model_makes_up_is_held_to_the_hosts_of_the_task() -> None:
    model = Model(
        [{"page": {"url": "https://evil.example/x"}}, {"page": {"url": "https://good.example/y"}}],
        "done",
        tools={"page": "read"},
    )
    assert outcome(run_in_memory(plan(), None, model)) == "done"
    assert [given["url"] for _, given in model.called] == ["https://good.example/y"]
    refused, read = model.heard()
    assert json.loads(refused)["error"]["code"] == "authority.denied"
    assert read == "read"
