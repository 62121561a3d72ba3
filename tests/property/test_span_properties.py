"""Spans of random programs: whatever runs, repeats, fails or is stopped, they are one whole tree."""

from __future__ import annotations

import json
from collections.abc import Iterable

from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.effects import Call, Failed, Ok
from engine.core.run.events import EventRecord
from engine.core.run.tracing import read_traceparent, span_id
from engine.core.run.walker import Identity
from engine.dryrun.effects import Answered, SeenEvent
from engine.dryrun.running import DryRun, run_in_memory
from engine.obs.spans import End, retell
from engine.obs.telemetry import SpanData
from tests.support.lab import plan_of
from tests.support.program_runs import MOST_EVENTS, answer_call, answer_wait
from tests.support.programs import TOOLS, events_for_all, make_program

TRACE, CALLER = "ab" * 16, "cd" * 8


def run_with_spans(seed: int, carry_every: int | None = None) -> tuple[DryRun, list[SpanData], set[str], str]:
    """Run a program; return also its spans, the spans that its calls name as theirs, and the execution's id."""
    program, execution_id = make_program(seed, clock=False), f"execution-{seed}"
    named: set[str] = set()

    def handler(call: Call) -> Answered:
        place = read_traceparent(call.params.context.trace)
        assert place is not None
        assert place.trace_id == TRACE
        named.add(place.span_id)
        return answer_call(call)

    run = run_in_memory(
        plan_of(program.text, TOOLS),
        program.given,
        handler,
        answerer=answer_wait,
        outside=events_for_all(MOST_EVENTS) if "event" in program.kinds else (),
        identity=Identity(execution_id=execution_id, trace=f"00-{TRACE}-{CALLER}-01"),
        carry_every=carry_every,
    )
    return run, spans_of(run, execution_id), named, execution_id


def spans_of(run: DryRun, execution_id: str) -> list[SpanData]:
    """Return the spans that the events of a run in memory give."""
    assert run.finished is not None
    outcome = run.finished.outcome
    error = (outcome.error.code, outcome.error.message) if isinstance(outcome, Failed) else None
    status = ExecutionStatus.SUCCEEDED if isinstance(outcome, Ok) else ExecutionStatus.FAILED
    end = End(status=status, closed_us=run.events[-1].now_us, error=error)
    return retell(execution_id, list(records_of(run.events, execution_id)), end)


def records_of(events: Iterable[SeenEvent], execution_id: str) -> Iterable[EventRecord]:
    """Write events as they travel."""
    for event in events:
        yield EventRecord(execution_id, "run", event.seq, event.now_us, event.type, json.dumps(event.body))


def test_the_spans_of_an_execution_are_one_tree_that_holds_every_call(full: bool) -> None:
    stopped = failed = 0
    for seed in range(2_000 if full else 300):
        run, spans, named, execution_id = run_with_spans(seed)
        ids = [span.span_id for span in spans]
        assert len(set(ids)) == len(ids), seed
        assert {span.trace_id for span in spans} == {TRACE}
        root = span_id(execution_id, "")
        by_id = {span.span_id: span for span in spans}
        assert by_id[root].parent_id == CALLER
        for span in spans:
            assert span.span_id == root or span.parent_id in by_id, (seed, span)
            assert span.start_us <= span.end_us, (seed, span)
        assert named <= set(ids), seed
        ended = [e.body for e in run.events if e.type in ("step", "finish_branch", "finish")]
        told = {str(body["path"]) for body in ended if "path" in body}
        assert {span_id(execution_id, path) for path in told} <= set(ids), seed
        stopped += any(span.attributes.get("everstep.outcome") == "stopped" for span in spans)
        failed += any(span.error is not None and span.span_id != root for span in spans)
    # steps that end without a word of their own are among them
    assert stopped > 5
    assert failed > 5


def test_spans_do_not_depend_on_where_an_execution_continues_as_new() -> None:
    for seed in range(60):
        straight = {span.span_id: span.name for span in run_with_spans(seed)[1]}
        carried = {span.span_id: span.name for span in run_with_spans(seed, carry_every=2)[1]}
        assert carried.keys() == straight.keys() or _waits(seed), seed


def _waits(seed: int) -> bool:
    # the span of a wait is named by the moment at which it was opened, which a held-back call may shift
    run = run_with_spans(seed)[0]
    return any(event.type == EventType.RESUME for event in run.events)
