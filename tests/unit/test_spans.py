"""Spans of executions: names, places, errors, waits and usage as events give them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord
from engine.core.run.tracing import span_id
from engine.obs.spans import End, SpanMaker, enclosing, retell
from engine.obs.telemetry import SpanData, trace_for

ID = "11111111-1111-4111-8111-111111111111"
TRACE = "ab" * 16
DONE = End(status=ExecutionStatus.SUCCEEDED, closed_us=9_000_000)


def records(*events: tuple[str, dict[str, Any]], trace: str = f"00-{TRACE}-{'cd' * 8}-01") -> list[EventRecord]:
    """Number events; the first one is `init`, one second lies between two."""
    begun = ("init", {"task": "greet", "task_id": "t1", "version": 3, "tenant": "default", "trace": trace})
    return [
        EventRecord(ID, "run", seq, seq * 1_000_000, type_, json.dumps(body))
        for seq, (type_, body) in enumerate([begun, *events], 1)
    ]


def step(path: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """Return the event of a step's end."""
    return "step", {"path": path, "kind": "prompt", "output": 1, "next": None, **more}


def by_name(spans: list[SpanData]) -> dict[str, SpanData]:
    """Return spans by name; each name once."""
    found = {span.name: span for span in spans}
    assert len(found) == len(spans)
    return found


@pytest.mark.parametrize(
    ("path", "around"),
    [
        ("main.2", ""),
        ("finally.0", ""),
        ("main.3.map[17].0", "main.3"),
        ("main.3.map[17]", "main.3"),
        ("main.3~2.do[0].1", "main.3"),
        ("main.3!2.do[0].1", "main.3"),
        ("main.4[1].0", "main.4"),
        ("main.4~3[1].0", "main.4"),
        ("main.4[1]", "main.4"),
        ("main.1.then.0.case[2].5", "main.1.then.0"),
        ("main.5.sub.0", "main.5"),
        ("main.5.sub", "main.5"),
        ("main.0.undo.0", "main.0"),
        ("main.0.on_error.0", "main.0"),
        # cut in the middle of a number: the last part says nothing
        ("main.0.sub.1=0123456789abcdef.7", "main.0"),
    ],
)
def test_the_place_around_a_step_is_read_off_its_path(path: str, around: str) -> None:
    assert enclosing(path) == around


def test_a_step_has_the_times_of_its_event_and_the_span_around_it_as_parent() -> None:
    told = records(step("main.0", label="hello", started_us=1_200_000), ("finish", {"output": 1}))
    spans = by_name(retell(ID, told, DONE))
    found = spans["step main.0 hello"]
    assert (found.start_us, found.end_us) == (1_200_000, 2_000_000)
    assert (found.span_id, found.parent_id) == (span_id(ID, "main.0"), span_id(ID, ""))
    assert found.attributes["everstep.step.path"] == "main.0"
    assert found.attributes["everstep.step.kind"] == "prompt"
    root = spans["execution greet"]
    assert (root.span_id, root.parent_id) == (span_id(ID, ""), "cd" * 8)
    assert root.attributes["everstep.task.version"] == 3


def test_loop_counters_stand_in_attributes_and_not_in_names() -> None:
    told = records(
        ("init_branch", {"path": "main.0.map[3]", "construct": "mapreduce[3]"}),
        step("main.0.map[3].0"),
    )
    spans = by_name(retell(ID, told, DONE))
    assert spans["step main.0.map[].0"].attributes["everstep.step.path"] == "main.0.map[3].0"


def test_a_failed_attempt_is_an_event_with_its_error_and_pause() -> None:
    failed = {"kind": "prompt", "attempt": 1, "error": {"code": "backend.rate_limited", "message": "slow"}}
    told = records(
        ("effect.started", {"path": "main.0", "kind": "prompt", "attempt": 1, "name": "m"}),
        ("attempt.failed", {"path": "main.0", **failed, "retry_in_s": 2.5}),
        ("effect.started", {"path": "main.0", "kind": "prompt", "attempt": 2, "name": "m"}),
        step("main.0"),
    )
    found = by_name(retell(ID, told, DONE))["step main.0"]
    assert found.error is None
    assert found.start_us == 2_000_000
    assert found.attributes["everstep.attempts"] == 2
    (event,) = found.events
    assert (event.name, event.at_us) == ("attempt.failed", 3_000_000)
    assert event.attributes["error.type"] == "backend.rate_limited"
    assert event.attributes["everstep.retry_in_s"] == 2.5


def test_an_error_that_on_error_took_is_no_error_of_the_step() -> None:
    error = {"code": "tool.failed", "message": "no"}
    told = records(
        ("effect.started", {"path": "main.0", "kind": "tool_call", "attempt": 1, "name": "t"}),
        ("attempt.failed", {"path": "main.0", "kind": "tool_call", "attempt": 1, "error": error, "retry_in_s": None}),
        ("init_branch", {"path": "main.0.on_error", "construct": "on_error"}),
        ("finish_branch", {"path": "main.0.on_error.0", "kind": "evaluate"}),
        step("main.0"),
    )
    found = by_name(retell(ID, told, DONE))["step main.0"]
    assert found.error is None
    assert found.attributes["everstep.handled_error"] == "tool.failed"


def test_a_failed_execution_marks_the_step_and_all_around_it() -> None:
    error = {"code": "tool.failed", "message": "no", "step": "main.0.then.1"}
    told = records(
        ("init_branch", {"path": "main.0.then", "construct": "if_else.then"}),
        ("effect.started", {"path": "main.0.then.1", "kind": "tool_call", "attempt": 1, "name": "t"}),
        (
            "attempt.failed",
            {"path": "main.0.then.1", "kind": "tool_call", "attempt": 1, "error": error, "retry_in_s": None},
        ),
        ("error", {"error": error}),
    )
    end = End(status=ExecutionStatus.FAILED, closed_us=7_000_000, error=("tool.failed", "no"))
    spans = by_name(retell(ID, told, end))
    assert {name for name, span in spans.items() if span.error == ("tool.failed", "no")} == {
        "execution greet",
        "step main.0",
        "step main.0.then.1",
    }


def test_a_wait_is_a_span_from_its_opening_to_its_answer() -> None:
    told = records(
        ("wait", {"path": "main.0", "label": "ask", "wait_id": "main.0"}),
        ("resume", {"path": "main.0", "wait_id": "main.0", "opened_us": 2_000_000, "actor": "ann", "key": "k"}),
        step("main.0", label="ask", kind="wait_for_input", started_us=2_000_000),
    )
    found = by_name(retell(ID, told, DONE))["wait ask"]
    assert (found.start_us, found.end_us) == (2_000_000, 3_000_000)
    assert found.parent_id == span_id(ID, "main.0")
    assert found.attributes["everstep.wait.outcome"] == "answered"
    assert found.attributes["everstep.wait.actor"] == "ann"


def test_the_execution_tells_what_it_used_and_an_unknown_cost_stays_unknown() -> None:
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "cached_tokens": 4, "reasoning_tokens": 1}
    ended = {"path": "main.0", "kind": "prompt", "attempt": 1, "outcome": "ok", "usage": usage}
    known = by_name(retell(ID, records(("effect.finished", {**ended, "cost": "0.25"}), step("main.0")), DONE))
    used = known["execution greet"].attributes
    assert [used[f"everstep.usage.{name}"] for name in ("prompt_tokens", "cached_tokens", "cache_write_tokens")] == [
        5,
        4,
        0,
    ]
    assert used["everstep.usage.reasoning_tokens"] == 1
    assert known["execution greet"].attributes["everstep.usage.cost"] == 0.25
    unknown = by_name(retell(ID, records(("effect.finished", {**ended, "cost": None}), step("main.0")), DONE))
    assert unknown["execution greet"].attributes["everstep.usage.cost"] is None


def test_an_execution_that_nobodys_span_started_is_the_root_of_its_trace() -> None:
    spans = retell(ID, records(step("main.0"), trace=trace_for(ID)), DONE)
    assert by_name(spans)["execution greet"].parent_id == ""


def test_a_trace_that_is_not_sampled_and_an_execution_without_one_give_no_spans() -> None:
    assert retell(ID, records(step("main.0"), trace=f"00-{TRACE}-{'cd' * 8}-00"), DONE) == []
    assert retell(ID, records(step("main.0"), trace=""), DONE) == []


def test_live_and_retold_spans_are_the_same() -> None:
    told = records(step("main.0", next=1), ("finish", {"path": "main.1", "kind": "evaluate"}))
    maker = SpanMaker()
    live = maker.take(told[:2]) + maker.take(told[2:])
    last = maker.end(ID, DONE, events=3)
    assert last is not None
    assert live + last == retell(ID, told, DONE)


@pytest.mark.parametrize("seen", [[1, 3], [2, 3], [1, 2, 2, 3], [1, 2]])
def test_an_execution_that_was_not_seen_whole_must_be_retold(seen: list[int]) -> None:
    told = records(step("main.0", next=1), ("finish", {"path": "main.1", "kind": "evaluate"}))
    maker = SpanMaker()
    maker.take([told[seq - 1] for seq in seen])
    assert maker.end(ID, DONE, events=3) is None


def test_only_so_many_executions_are_kept_in_mind() -> None:
    maker = SpanMaker(most=2)
    for number in range(3):
        maker.take([record._replace(execution_id=f"e{number}") for record in records()])
    assert maker.end("e0", DONE, events=1) is None
    assert maker.end("e2", DONE, events=1) is not None
