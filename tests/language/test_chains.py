"""DESIGN §3, "Kinds": contenox chains compile to the same plan."""

from __future__ import annotations

from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.computed import Expr
from engine.core.plan.ir import Exit, Plan
from engine.core.plan.ops import EvaluateOp, PromptOp
from tests.language.words import compile_in

CHAIN = """
id: triage
tasks:
- id: judge
  handler: condition_key
  valid_conditions: {urgent: true, later: false}
  prompt_template: "Is {{.input}} urgent?"
  transition:
    on_failure: judge
    branches:
    - {operator: equals, when: "true", goto: note}
    - {operator: default, goto: judge}
- id: note
  handler: noop
  transition: {branches: [{operator: default, goto: end}]}
"""


def plan_of(text: str) -> Plan:
    """Compile a chain; a warning says that it does not run yet."""
    made = compile_in(text, "contenox")
    assert [item.code for item in made.warnings] == ["W614"]
    return made.plan


def test_a_chain_becomes_a_plan_with_the_ops_of_tasks():
    """Contenox chains compile to the same plan as tasks."""
    plan = plan_of(CHAIN)
    assert (plan.task, plan.dialect, plan.workflows) == ("triage", "contenox", {"main": 0})
    assert any(isinstance(op, PromptOp) for op in plan.blocks[0].ops)
    assert isinstance(plan.blocks[1].ops[-1], EvaluateOp)
    assert plan_from_json(plan_to_json(plan)) == plan


def test_a_plan_says_jumps_back_and_forth():
    """The plan expresses jumps, not only nesting."""
    judge, note = plan_of(CHAIN).blocks[:2]
    assert [way.to for way in judge.exits] == [1, 0]
    assert isinstance(judge.exits[0].when, Expr)
    assert judge.exits[1] == Exit(0), "back to itself"
    assert judge.on_failure == 0
    assert note.exits == (Exit(),)
