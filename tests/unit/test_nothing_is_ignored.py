"""What nobody knows is refused with a hint instead of being ignored; a first long call counts as running."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from engine.core.errors import InvalidInput
from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord
from engine.core.run.progress import Progress
from engine.dryrun.scripted import dry_run
from engine.edge.native.shapes import ChangeBody, StartBody
from tests.support.memory import compiled


def test_a_misspelt_member_of_a_request_is_refused_with_the_right_word():
    with pytest.raises(ValidationError, match="did you mean 'input'"):
        StartBody.model_validate({"inptu": {}})
    with pytest.raises(ValidationError, match="did you mean 'reason'"):
        ChangeBody.model_validate({"status": "cancelled", "reson": "a"})
    assert StartBody.model_validate({"input": 1, "output": None, "transition_count": 0}).input == 1


def test_a_reply_for_no_step_of_the_task_is_refused():
    plan = compiled("name: t\nmain: [{prompt: hi, label: greet, unwrap: true}]")
    with pytest.raises(InvalidInput) as caught:
        dry_run(plan, None, replies={"gret": "x"})
    assert (caught.value.code, caught.value.hint) == ("replies.unknown", "did you mean 'greet'?")
    assert dry_run(plan, None, replies={"greet": "x"}).finished is not None


def test_an_execution_whose_first_call_is_under_way_is_running():
    progress = Progress()
    seen: list[ExecutionStatus] = []
    for seq, kind in ((1, "init"), (2, "effect.started")):
        progress.apply(EventRecord("e", "r", seq, 10, kind, '{"tenant":"default","path":"main.0"}'))
        seen.append(progress.status)
    assert seen == [ExecutionStatus.STARTING, ExecutionStatus.RUNNING]
