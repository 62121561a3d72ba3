"""Random programs: a plan differs from itself in nothing, an inserted step is the only change, gains mirror losses."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.difference import Difference, plan_difference
from engine.core.plan.grant import Reach
from engine.core.plan.ir import Plan
from engine.core.plan.reach import reach_of
from tests.support.lab import plan_of
from tests.support.programs import TOOLS, make_program

SEEDS = range(60)


def plan_with(seed: int, **changes: Any) -> Plan:
    task = json.loads(make_program(seed).text)
    return plan_of(json.dumps({**task, "name": "same", **changes}), TOOLS)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_plan_does_not_differ_from_itself_nor_from_its_stored_form(seed: int) -> None:
    plan = plan_with(seed)
    again = plan_from_json(json.loads(json.dumps(plan_to_json(plan))))
    assert plan_difference(plan, again) == Difference(reach=Reach())
    assert reach_of(plan) == reach_of(again)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_inserted_step_is_told_as_the_only_change(seed: int) -> None:
    main = json.loads(make_program(seed).text)["main"]
    place = random.Random(seed).randint(0, len(main))
    step = {"label": "a step that no program has", "evaluate": 1}
    after = plan_with(seed, main=[*main[:place], step, *main[place:]])
    told = plan_difference(plan_with(seed), after)
    assert told.changes == [f"main.{place}: new step: evaluate 'a step that no program has'"]
    assert (told.gains, told.losses) == ([], [])


@pytest.mark.parametrize("seed", SEEDS)
def test_any_two_programs_can_be_compared_and_what_one_gains_the_other_loses(seed: int) -> None:
    one, other = plan_with(seed), plan_with(seed + 1)
    there, back = plan_difference(one, other), plan_difference(other, one)
    assert (there.gains, there.losses) == (back.losses, back.gains)
    assert bool(there.changes) == bool(back.changes)
