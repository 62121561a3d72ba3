"""DESIGN §3, "Kinds": limits of a task."""

from __future__ import annotations

import pytest

from engine.core.errors import LimitExceeded
from engine.core.run.effects import Ok
from engine.dryrun.effects import Answered
from engine.dryrun.replies import chat_reply
from tests.language.words import Noting, codes, seconds
from tests.support.memory import error_of, output_of, run

ENDLESS = {
    "steps": ("{steps: 30}", "{while: 'True', do: {evaluate: 1}}"),
    "rounds": ("{rounds: 30}", "{while: 'True', do: {evaluate: 1}}"),
    "tokens": ("{tokens: 25}", "{while: 'True', do: {prompt: hi}}"),
    "cost": ("{cost: 0.25}", "{while: 'True', do: {prompt: hi}}"),
    "time": ("{time: 25s}", "{while: 'True', do: {sleep: 10}}"),
}


def of_ten(call: object) -> Answered:
    """Answer a prompt with a reply of ten tokens that costs ten cents."""
    return Answered(Ok(chat_reply("x", tokens=10) | {"cost": "0.1"}))


def limited(limit: str, more: str = "") -> str:
    limits, step = ENDLESS[limit]
    return f"name: t\nlimits: {limits}\nmain: [{{if: $ True, then: {step}{more}}}]"


@pytest.mark.parametrize("limit", ENDLESS)
def test_reaching_a_limit_is_an_error_of_its_own_type(limit: str):
    """Reaching a limit is a typed error."""
    error = error_of(limited(limit), None, of_ten)
    assert isinstance(error, LimitExceeded)
    assert error.code == f"limit.{limit}"


@pytest.mark.parametrize("limit", ENDLESS)
def test_no_handler_and_no_retry_keeps_a_task_alive_past_its_limit(limit: str):
    """The error of a limit cannot be caught."""
    caught = ", on_error: {evaluate: caught}, retry: {attempts: 9, initial: 1, on: [limit]}"
    assert error_of(limited(limit, caught), None, of_ten).code == f"limit.{limit}"


AROUND = {
    "parallel": "{parallel: [STEP], on_item_error: collect}",
    "map": "{over: '$ [1]', map: STEP, on_item_error: skip}",
    "race": "{race: [STEP, {sleep: 1h}]}",
    "workflow": "{workflow: sub, on_error: {evaluate: caught}}",
    "foreach": "{foreach: {in: '$ [1]', do: STEP}, on_error: {evaluate: caught}}",
}


@pytest.mark.parametrize("around", AROUND)
def test_no_branch_swallows_the_end_by_a_limit(around: str):
    """The error of a limit goes through every block."""
    limits, step = ENDLESS["steps"]
    task = f"name: t\nlimits: {limits}\nmain: [{AROUND[around].replace('STEP', step)}]\nsub: [{step}]"
    assert error_of(task).code == "limit.steps"


def test_the_limit_of_steps_counts_every_step_that_runs():
    """A task has a limit of steps."""
    loop = "{foreach: {in: '$ range(3)', do: {evaluate: $ _}}}"
    task = f"name: t\nlimits: {{steps: LIMIT}}\nmain: [{loop}, {{evaluate: end}}]"
    assert output_of(task.replace("LIMIT", "5")) == "end"
    assert error_of(task.replace("LIMIT", "4")).code == "limit.steps"


def test_the_limit_of_rounds_counts_all_loops_together():
    """A task has a limit of loop rounds."""
    loops = "{foreach: {in: '$ range(3)', do: {evaluate: 0}}}, {evaluate: 0}, {while: _ < 2, do: {evaluate: $ _ + 1}}"
    task = f"name: t\nlimits: {{rounds: LIMIT}}\nmain: [{loops}]"
    assert output_of(task.replace("LIMIT", "5")) == 2
    assert error_of(task.replace("LIMIT", "4")).code == "limit.rounds"


def test_the_limit_of_tokens_ends_the_task_before_the_next_call():
    """A task has a limit of tokens."""
    desk = Noting(of_ten)
    assert error_of(limited("tokens"), None, desk).code == "limit.tokens"
    assert len(desk.calls) == 3


def test_the_limit_of_time_is_the_time_on_the_wall():
    """A task has a limit of wall time, by a timer of its own."""
    result = run(limited("time"))
    assert result.events[-1].body["error"]["code"] == "limit.time"
    assert seconds(result) == 25


def test_the_limit_of_cost_ends_the_task_before_the_next_call():
    """A task has a limit of cost."""
    desk = Noting(of_ten)
    assert error_of(limited("cost"), None, desk).code == "limit.cost"
    assert len(desk.calls) == 3
    assert codes("limits: {cost: -1}\nmain: [{prompt: hi}]") == ["E503"]
