"""How events become transitions and views."""

from __future__ import annotations

import json
import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from engine.core.ids import scope_id
from engine.core.kinds import EventType
from engine.core.run.events import EventRecord
from engine.core.run.progress import Progress
from engine.core.run.projection import (
    CANCELLED_TEXT,
    TRANSITION_TYPES,
    event_view,
    iso_time,
    seq_of_transition,
    transition_id,
    transition_view,
)

NOW = 1_800_000_000_123_456
SCOPE = "7f3a2c1e-0000-8000-a000-000000000001"
OF_STEPS = scope_id("e1", "main")
"""Scope that an execution opens for its steps."""


def view(kind: str, /, **body: Any) -> dict[str, Any]:
    return transition_view(EventRecord("e1", "r1", 7, NOW, kind, json.dumps(body)))


@given(st.text(min_size=1, max_size=40), st.integers(1, 2**62 - 1))
def test_a_transition_id_is_a_uuid_that_leads_back_to_its_number(execution: str, seq: int) -> None:
    text = transition_id(execution, seq)
    parsed = uuid.UUID(text)
    assert (str(parsed), parsed.version, parsed.variant) == (text, 8, uuid.RFC_4122)
    assert seq_of_transition(execution, text) == seq
    assert seq_of_transition(execution, text.upper()) == seq


def test_a_transition_id_belongs_to_one_execution() -> None:
    assert seq_of_transition("e2", transition_id("e1", 3)) is None
    for text in ("", "x", str(uuid.UUID(int=0)), transition_id("e1", 3)[:-1]):
        assert seq_of_transition("e1", text) is None


def test_times_keep_their_microseconds_and_their_zone() -> None:
    assert iso_time(NOW) == "2027-01-15T08:00:00.123456Z"
    assert iso_time(1_800_000_000_000_000) == "2027-01-15T08:00:00Z"


def test_init_points_at_the_first_step_with_the_input_as_output() -> None:
    found = view("init", workflow="main", scope=SCOPE, input={"a": 1}, task="t")
    place = {"workflow": "main", "step": 0, "scope_id": SCOPE}
    assert (found["current"], found["next"], found["output"]) == (place, place, {"a": 1})


def test_a_step_points_at_the_next_one() -> None:
    found = view(
        "step", path="main.2", workflow="main", index=2, scope=SCOPE, kind="evaluate", label="sum", output=3, next=3
    )
    assert found == {
        "id": transition_id("e1", 7),
        "execution_id": "e1",
        "type": "step",
        "output": 3,
        "current": {"workflow": "main", "step": 2, "scope_id": SCOPE},
        "next": {"workflow": "main", "step": 3, "scope_id": SCOPE},
        "created_at": iso_time(NOW),
        "updated_at": iso_time(NOW),
        "metadata": {"seq": 7, "step_type": "evaluate", "path": "main.2"},
        "step_label": "sum",
    }
    assert view("step", workflow="main", index=2, scope=SCOPE, output=3, next=None)["next"] is None


def test_a_wait_shows_what_it_asks_and_how_to_answer_it() -> None:
    found = view(
        "wait", workflow="main", index=1, scope=SCOPE, wait_id="main.1", info={"q": 1}, schema={"type": "null"}
    )
    assert found["output"] == {"q": 1}
    assert found["metadata"] == {
        "seq": 7,
        "step_type": "wait_for_input",
        "wait_id": "main.1",
        "schema": {"type": "null"},
    }


def test_an_error_stands_where_its_step_stood() -> None:
    error = {"code": "task.error", "message": "no", "step": "main.3.then.0"}
    found = view("error", error=error)
    assert (found["output"], found["current"]) == (error, {"workflow": "main", "step": 3, "scope_id": OF_STEPS})
    assert view("error", error={"code": "limit.steps"})["current"]["step"] == 0


def test_an_error_has_the_label_of_the_step_that_failed_from_who_knows_it() -> None:
    record = EventRecord("e1", "r1", 7, NOW, "error", json.dumps({"error": {"code": "c", "step": "main.3.then.0"}}))
    assert transition_view(record)["step_label"] is None
    assert transition_view(record, {"main.3.then.0": "pays"}.__getitem__)["step_label"] == "pays"


def test_a_cancel_tells_its_reason_beside_the_fixed_text() -> None:
    found = view("cancelled", reason="late", actor="Ada")
    assert found["output"] == CANCELLED_TEXT
    assert found["metadata"] == {"seq": 7, "reason": "late", "actor": "Ada"}
    assert found["current"] == {"workflow": "main", "step": 0, "scope_id": OF_STEPS}


def test_every_transition_type_has_the_members_that_clients_require() -> None:
    for kind in TRANSITION_TYPES:
        found = view(kind)
        assert found["current"].keys() == {"workflow", "step", "scope_id"}
        assert found["type"] == kind
    assert {kind for kind in EventType if not kind.is_transition}.isdisjoint(TRANSITION_TYPES)


def test_an_event_view_carries_the_whole_body() -> None:
    found = event_view(EventRecord("e1", "r1", 2, NOW, "attempt.failed", '{"attempt":1}'))
    assert found["body"] == {"attempt": 1}
    assert (found["seq"], found["type"], found["is_transition"], found["run_id"]) == (2, "attempt.failed", False, "r1")


def test_a_failed_branch_closes_the_waits_inside_it_and_no_others() -> None:
    progress = Progress()

    def tell(seq: int, kind: str, **body: Any) -> None:
        progress.apply(EventRecord("e1", "r1", seq, NOW, kind, json.dumps(body)))

    for seq, path in enumerate(("main.1[0].0", "main.1[0].1", "main.1[1].0", "main.10"), 1):
        tell(seq, "wait", wait_id=path, path=path)
    tell(5, "branch.failed", path="main.1[0]")
    assert [wait.wait_id for wait in progress.open_waits] == ["main.1[1].0", "main.10"]
    tell(6, "cancelled")
    assert progress.open_waits == []
