"""Makes the spans of an execution, its steps and its waits of its events, with ids that every process makes alike."""

from __future__ import annotations

import json
import re
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.events import EventRecord
from engine.core.run.tracing import Traceparent, read_traceparent, span_id
from engine.core.run.usage import MODEL_KINDS, TOKENS, TOOL_KINDS, is_reply
from engine.obs.telemetry import SpanData, SpanEvent

MOST_FOLLOWED = 20_000
"""Executions whose open steps are kept in mind; the others are told from the store when they end."""

_MARK = re.compile(r"[~!]\d+$")
_COUNTER = re.compile(r"\[\d+\]|[~!]\d+")
_TOKENS = tuple(name for name in TOKENS if name != "total_tokens")
_UNTOLD = frozenset(
    {
        EventType.ANSWER_ACCEPTED.value,
        EventType.ANSWER_REFUSED.value,
        EventType.EVENT_RECEIVED.value,
        EventType.MESSAGE_TAKEN.value,
    }
)


def enclosing(path: str) -> str:
    """Return the path of the step around a step or around the body of a loop or branch; empty = there is none.

    `main.3.map[17].0` and `main.3.map[17]` give `main.3`, `main.4~2[0].1` gives `main.4`, `main.2` gives nothing.
    """
    head, cut, _ = path.partition("=")
    if cut:
        # the path was shortened, maybe in the middle of its last part: a step further out is named in full
        path = head.rpartition(".")[0]
    block = path.rpartition(".")[0] if path.rpartition(".")[2].isdigit() else path
    before, dot, last = block.rpartition(".")
    if not dot:
        return ""
    # branches of `parallel` and `race` stand right behind the number of their step
    step = f"{before}.{last.partition('[')[0]}" if last[0].isdigit() and last.endswith("]") else before
    return _MARK.sub("", step)


@dataclass(slots=True)
class OpenStep:
    """What is known of a step that has not ended."""

    start_us: int
    kind: str = ""
    label: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    events: list[SpanEvent] = field(default_factory=list)
    error: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How an execution ended, as Temporal tells it."""

    status: ExecutionStatus
    closed_us: int
    error: tuple[str, str] | None = None


class ExecutionSpans:
    """Follows one execution from its first event and gives its spans.

    Args:
        execution_id: The execution.
    """

    def __init__(self, execution_id: str) -> None:
        self._id = execution_id
        self._trace: Traceparent | None = None
        self._steps: dict[str, OpenStep] = {}
        self._about: dict[str, Any] = {}
        self._task = ""
        self._start_us = self._last_us = 0
        self._sums = {"llm_calls": 0, "tool_calls": 0, "failed_attempts": 0} | dict.fromkeys(_TOKENS, 0)
        self._cost: Decimal | None = Decimal(0)
        self.seq = 0

    def take(self, record: EventRecord) -> list[SpanData]:
        """Take the next event and return the spans that end with it."""
        self.seq = record.seq
        self._last_us = record.now_us
        if record.type in _UNTOLD or (self._trace is None and record.seq > 1):
            return []
        body: dict[str, Any] = json.loads(record.body)
        match record.type:
            case EventType.INIT:
                self._begin(record, body)
            case EventType.INIT_BRANCH:
                if body["construct"] != "undo":
                    self._open(enclosing(body["path"]), record.now_us)
            case EventType.EFFECT_STARTED:
                self._started(record, body)
            case EventType.EFFECT_FINISHED:
                self._finished(body)
            case EventType.ATTEMPT_FAILED:
                return self._attempt_failed(record, body)
            case EventType.BRANCH_FAILED:
                return self._close_below(body["path"], record.now_us, _error_of(body.get("error")))
            case EventType.WAIT:
                self._open(body["path"], record.now_us).label = body.get("label") or ""
            case EventType.RESUME:
                return self._resumed(record, body)
            case EventType.STEP | EventType.FINISH_BRANCH | EventType.FINISH if "path" in body:
                return self._ended(record, body)
            case EventType.ERROR:
                return self._failed(record, body["error"])
            case _:
                pass
        return []

    def end(self, how: End) -> list[SpanData]:
        """Return the spans of what was still open, and of the execution itself."""
        if self._trace is None:
            return []
        own = span_id(self._id, "")
        spans = self._close_below("", max(self._last_us, self._start_us), None)
        usage = {f"everstep.usage.{name}": value for name, value in self._sums.items()}
        spans.append(
            SpanData(
                name=f"execution {self._task}".strip(),
                trace_id=self._trace.trace_id,
                span_id=own,
                # one that nobody's span started names itself
                parent_id="" if self._trace.span_id == own else self._trace.span_id,
                start_us=self._start_us,
                end_us=max(how.closed_us, self._start_us),
                attributes={
                    **self._about,
                    **usage,
                    "everstep.usage.cost": None if self._cost is None else float(self._cost),
                    "everstep.status": how.status.value,
                },
                error=how.error if how.status is ExecutionStatus.FAILED else None,
            )
        )
        return spans if self._trace.sampled else []

    # --- events ------------------------------------------------------------------------------------------------

    def _begin(self, record: EventRecord, body: dict[str, Any]) -> None:
        self._trace = read_traceparent(str(body.get("trace") or ""))
        self._start_us = int(body.get("created_us") or record.now_us)
        self._task = str(body.get("task") or "")
        parent = body.get("parent") or {}
        self._about = {
            "everstep.execution.id": self._id,
            "everstep.task.name": self._task,
            "gen_ai.workflow.name": self._task or None,
            "everstep.task.id": body.get("task_id") or None,
            "everstep.task.version": body.get("version"),
            "everstep.tenant": body.get("tenant"),
            "everstep.actor": body.get("actor") or None,
            "everstep.labels": list(body.get("labels") or []) or None,
            "everstep.parent.execution.id": parent.get("execution_id"),
            "everstep.parent.step.path": parent.get("path"),
        }

    def _open(self, path: str, now_us: int) -> OpenStep:
        around = path
        while around and around not in self._steps:
            self._steps[around] = OpenStep(now_us)
            # what is undone has ended: its span must not begin anew
            around = "" if around.rpartition(".")[0].endswith(".undo") else enclosing(around)
        return self._steps.get(path) or OpenStep(now_us)

    def _started(self, record: EventRecord, body: dict[str, Any]) -> None:
        step = self._open(body["path"], record.now_us)
        step.kind, step.label = body["kind"], body.get("label") or ""
        step.attributes["everstep.attempts"] = body["attempt"]
        step.attributes["everstep.effect.name"] = body.get("name") or None
        if body.get("child_id"):
            step.attributes["everstep.child.execution.id"] = body["child_id"]

    def _finished(self, body: dict[str, Any]) -> None:
        sums, kind = self._sums, body["kind"]
        sums["tool_calls"] += kind in TOOL_KINDS
        sums["llm_calls"] += kind in MODEL_KINDS
        if kind not in MODEL_KINDS and not is_reply(EventType.EFFECT_FINISHED, body):
            return
        usage = body.get("usage") or {}
        for name in _TOKENS:
            sums[name] += int(usage.get(name) or 0)
        if body["outcome"] == "ok" and body.get("cost") is None:
            self._cost = None
        elif self._cost is not None and body.get("cost") is not None:
            self._cost += Decimal(str(body["cost"]))

    def _attempt_failed(self, record: EventRecord, body: dict[str, Any]) -> list[SpanData]:
        path, error = body["path"], _error_of(body["error"])
        inside = self._close_below(path, record.now_us, None)
        step = self._open(path, record.now_us)
        step.kind = step.kind or body["kind"]
        step.attributes["everstep.attempts"] = body["attempt"]
        about = {"everstep.attempt": body["attempt"], "error.type": error[0], "error.message": error[1]}
        if body["retry_in_s"] is None:
            step.error = error
        else:
            about["everstep.retry_in_s"] = body["retry_in_s"]
        step.events.append(SpanEvent("attempt.failed", record.now_us, about))
        self._sums["failed_attempts"] += 1
        return inside

    def _resumed(self, record: EventRecord, body: dict[str, Any]) -> list[SpanData]:
        path, opened_us = body["path"], int(body.get("opened_us") or record.now_us)
        step = self._open(path, opened_us)
        attributes = {
            **self._place(path),
            "everstep.wait.id": body["wait_id"],
            "everstep.wait.outcome": "expired" if body.get("expired") else "answered",
            "everstep.wait.actor": body.get("actor") or None,
        }
        own = span_id(self._id, f"{body['wait_id']}?{opened_us}")
        name = f"wait {step.label or _COUNTER.sub('[]', path)}"
        return self._sampled([self._span(name, own, span_id(self._id, path), opened_us, record.now_us, attributes)])

    def _ended(self, record: EventRecord, body: dict[str, Any]) -> list[SpanData]:
        path = body["path"]
        spans = self._close_below(path, record.now_us, None)
        step = self._steps.pop(path, None) or OpenStep(record.now_us)
        # the event's word counts: the first thing that was heard of a step may have come later than its beginning
        step.start_us = int(body.get("started_us") or min(step.start_us, record.now_us))
        step.kind, step.label = body["kind"], body.get("label") or step.label
        if step.error is not None:
            # `on_error` gave the step a value after all
            step.attributes["everstep.handled_error"], step.error = step.error[0], None
        spans.extend(self._sampled([self._step_span(path, step, record.now_us)]))
        return spans

    def _failed(self, record: EventRecord, error: dict[str, Any]) -> list[SpanData]:
        path = str(error.get("step") or "")
        if not path.rpartition(".")[2].isdigit():
            path = ""  # the execution as a whole failed
        while path:
            # the error went up through the steps around the one that it came from
            step = self._open(path, record.now_us)
            step.error = step.error or _error_of(error)
            path = enclosing(path)
        return self._close_below("", record.now_us, None)

    # --- spans -------------------------------------------------------------------------------------------------

    def _close_below(self, path: str, now_us: int, error: tuple[str, str] | None) -> list[SpanData]:
        """Give the spans of the steps inside a place, which end without a word of their own."""
        inside = [other for other in self._steps if not path or (other.startswith(path) and _is_below(other, path))]
        spans = []
        for other in inside:
            step = self._steps.pop(other)
            step.error = step.error or error
            if step.error is None:
                step.attributes["everstep.outcome"] = "stopped"
            spans.append(self._step_span(other, step, now_us))
        return self._sampled(spans)

    def _sampled(self, spans: list[SpanData]) -> list[SpanData]:
        return spans if self._trace is not None and self._trace.sampled else []

    def _step_span(self, path: str, step: OpenStep, end_us: int) -> SpanData:
        around = enclosing(path)
        attributes = {
            **self._place(path),
            "everstep.step.kind": step.kind or None,
            "everstep.step.label": step.label or None,
            **step.attributes,
        }
        # loop counters stand in the attributes alone: a name is what backends group by
        name = f"step {_COUNTER.sub('[]', path)} {step.label}".strip()
        own, parent = span_id(self._id, path), span_id(self._id, around)
        return self._span(name, own, parent, step.start_us, end_us, attributes, tuple(step.events), step.error)

    def _place(self, path: str) -> dict[str, Any]:
        return {"everstep.execution.id": self._id, "everstep.task.name": self._task, "everstep.step.path": path}

    def _span(
        self,
        name: str,
        own: str,
        parent: str,
        start_us: int,
        end_us: int,
        attributes: dict[str, Any],
        events: tuple[SpanEvent, ...] = (),
        error: tuple[str, str] | None = None,
    ) -> SpanData:
        assert self._trace is not None
        return SpanData(
            name=name,
            trace_id=self._trace.trace_id,
            span_id=own,
            parent_id=parent,
            start_us=start_us,
            end_us=max(start_us, end_us),
            attributes=attributes,
            events=events,
            error=error,
        )


class SpanMaker:
    """Follows the executions whose events one process stores.

    Args:
        most: Executions to keep in mind at one time.
    """

    def __init__(self, most: int = MOST_FOLLOWED) -> None:
        self._most = most
        self._followed: OrderedDict[str, ExecutionSpans] = OrderedDict()

    def take(self, records: Iterable[EventRecord]) -> list[SpanData]:
        """Take stored events and return the spans that end with them.

        An execution of which an event is missing, or came twice, is followed no longer.
        """
        spans: list[SpanData] = []
        for record in records:
            followed = self._followed.get(record.execution_id)
            if record.seq == 1 and followed is None:
                followed = self._followed[record.execution_id] = ExecutionSpans(record.execution_id)
                if len(self._followed) > self._most:
                    self._followed.popitem(last=False)
            if followed is None:
                continue
            if record.seq != followed.seq + 1:
                del self._followed[record.execution_id]
                continue
            spans += followed.take(record)
        return spans

    def end(self, execution_id: str, how: End, events: int) -> list[SpanData] | None:
        """Return the last spans of an execution.

        Args:
            execution_id: The execution.
            how: How it ended.
            events: Number of its events.

        Returns:
            None if it was not followed from its first event to its last one: `retell` then.
        """
        followed = self._followed.pop(execution_id, None)
        return followed.end(how) if followed is not None and followed.seq == events else None


def retell(execution_id: str, records: Sequence[EventRecord], how: End) -> list[SpanData]:
    """Return all spans of an execution that has ended, of its stored events."""
    followed = ExecutionSpans(execution_id)
    spans = [span for record in records for span in followed.take(record)]
    return spans + followed.end(how)


def _is_below(path: str, around: str) -> bool:
    return len(path) > len(around) and path[len(around)] in ".[~!"


def _error_of(body: Any) -> tuple[str, str]:
    error = body if isinstance(body, dict) else {}
    return str(error.get("code") or "error"), str(error.get("message") or "")
