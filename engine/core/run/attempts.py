"""From events to attempts: every try at a call, and every failed try at a block, as one row. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.core.kinds import EventType
from engine.core.run.events import EventRecord
from engine.core.run.times import iso_time
from engine.core.run.usage import PARTS, TOKENS, cost_to_nano, nano_to_cost, tokens_of

ATTEMPT_EVENTS = frozenset(
    {EventType.EFFECT_STARTED.value, EventType.EFFECT_FINISHED.value, EventType.ATTEMPT_FAILED.value}
)

RUNNING, FAILED, CANCELLED = "running", "failed", "cancelled"


@dataclass(slots=True, kw_only=True)
class AttemptFacts:
    """One attempt at a call (of a model, a tool, a task), or a failed attempt at another step; times in microseconds.

    Attributes:
        effect_id: Its id: path and number, of a repair round more.
        path: Step path.
        label: The step's label, may be empty.
        kind: Kind of the step.
        name: Tool, asked model or task; empty for other steps.
        attempt: Which attempt of the step visit it is, from 1.
        started_seq: Number of the event that began it; None if none did (a block, or it failed before its call).
        started_us: When it began.
        ended_seq: Number of the event that ended it; None while it runs, or if the execution ended over it.
        ended_us: When it ended.
        outcome: running, ok, failed or cancelled. A reply that did not fit is an attempt that failed.
        failed_seq: Number of the event that says that it failed.
        error_code: Code of its error, may be empty.
        pause_us: Pause before the next attempt; None = there was none.
        deliveries: How often Temporal handed the call to a worker; more than once after a lost worker.
        model: Model that answered.
        backend: Backend that answered.
        prompt_tokens: Tokens of the request; None = not told.
        completion_tokens: Tokens of the reply.
        total_tokens: Both.
        cached_tokens: Tokens of the request that came from the provider's cache; None = none, or not told.
        cache_write_tokens: Tokens of the request that went into it.
        reasoning_tokens: Tokens of the reply that the model thought with.
        cost_nano: Its price in thousand-millionths of a dollar; None = unknown.
        child_id: The execution that it started.
    """

    effect_id: str
    path: str
    label: str = ""
    kind: str
    name: str = ""
    attempt: int = 1
    started_seq: int | None = None
    started_us: int | None = None
    ended_seq: int | None = None
    ended_us: int | None = None
    outcome: str = RUNNING
    failed_seq: int | None = None
    error_code: str = ""
    pause_us: int | None = None
    deliveries: int = 1
    model: str = ""
    backend: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_nano: int | None = None
    child_id: str = ""

    @property
    def tokens(self) -> tuple[int | None, ...]:
        """Its counts in the order of `TOKENS`."""
        return (
            self.prompt_tokens,
            self.completion_tokens,
            self.total_tokens,
            self.cached_tokens,
            self.cache_write_tokens,
            self.reasoning_tokens,
        )

    @property
    def place(self) -> tuple[int, str]:
        """Where it stands among the attempts of its execution: number of its first event, then its id."""
        first = next((seq for seq in (self.started_seq, self.ended_seq, self.failed_seq) if seq is not None), 0)
        return first, self.effect_id


def apply_attempt(attempts: dict[str, AttemptFacts], record: EventRecord, body: Mapping[str, Any]) -> AttemptFacts:
    """Take an event of an attempt; fold it over the events in order of their numbers.

    Args:
        attempts: Attempts by id; changed.
        record: An event whose type is one of `ATTEMPT_EVENTS`.
        body: Its body.

    Returns:
        The attempt as it is now.
    """
    effect_id = str(body.get("effect_id") or "")
    known = attempts.get(effect_id)
    if known is None or record.type == EventType.EFFECT_STARTED:
        known = attempts[effect_id] = _attempt_of(effect_id, body)
    if record.type == EventType.EFFECT_STARTED:
        known.started_seq, known.started_us = record.seq, record.now_us
    elif record.type == EventType.EFFECT_FINISHED:
        _end(known, record, body)
    else:
        _fail(known, record, body)
    return known


def _attempt_of(effect_id: str, body: Mapping[str, Any]) -> AttemptFacts:
    number = body.get("attempt")
    return AttemptFacts(
        effect_id=effect_id,
        path=str(body.get("path") or ""),
        label=str(body.get("label") or ""),
        kind=str(body.get("kind") or ""),
        name=str(body.get("name") or ""),
        attempt=number if isinstance(number, int) else 1,
        child_id=str(body.get("child_id") or ""),
    )


def _end(known: AttemptFacts, record: EventRecord, body: Mapping[str, Any]) -> None:
    known.ended_seq, known.ended_us = record.seq, record.now_us
    known.outcome = str(body.get("outcome") or "ok")
    known.error_code = str((body.get("error") or {}).get("code") or "")
    known.deliveries = int(body.get("deliveries") or 1)
    known.model, known.backend = str(body.get("model") or ""), str(body.get("backend") or "")
    usage = body.get("usage")
    known.prompt_tokens = tokens_of(usage, "prompt_tokens")
    known.completion_tokens = tokens_of(usage, "completion_tokens")
    known.total_tokens = tokens_of(usage, "total_tokens")
    # one that is 0 is left out of the event
    known.cached_tokens = tokens_of(usage, "cached_tokens")
    known.cache_write_tokens = tokens_of(usage, "cache_write_tokens")
    known.reasoning_tokens = tokens_of(usage, "reasoning_tokens")
    known.cost_nano = cost_to_nano(body.get("cost"))


def _fail(known: AttemptFacts, record: EventRecord, body: Mapping[str, Any]) -> None:
    known.failed_seq, known.outcome = record.seq, FAILED
    known.error_code = str((body.get("error") or {}).get("code") or "")
    pause_s = body.get("retry_in_s")
    known.pause_us = round(pause_s * 1_000_000) if isinstance(pause_s, int | float) else None
    if known.ended_seq is None:
        known.ended_seq, known.ended_us = record.seq, record.now_us


def attempt_view(facts: AttemptFacts) -> dict[str, Any]:
    """Return an attempt as JSON.

    Args:
        facts: The attempt.

    Returns:
        {id, path, label, kind, name, attempt, outcome, error_code, started_at, ended_at, took_s, retry_in_s,
        deliveries, model, backend, usage {prompt_tokens, completion_tokens, total_tokens, those of `PARTS` that there
        are} or null, cost, child_id, started_seq, ended_seq, failed_seq}; what is unknown is null.
    """
    took_s = None
    if facts.started_us is not None and facts.ended_us is not None:
        took_s = (facts.ended_us - facts.started_us) / 1_000_000
    told = zip(TOKENS, facts.tokens, strict=True)
    counts = {name: count for name, count in told if count is not None or name not in PARTS}
    return {
        "id": facts.effect_id,
        "path": facts.path,
        "label": facts.label or None,
        "kind": facts.kind,
        "name": facts.name or None,
        "attempt": facts.attempt,
        "outcome": facts.outcome,
        "error_code": facts.error_code or None,
        "started_at": None if facts.started_us is None else iso_time(facts.started_us),
        "ended_at": None if facts.ended_us is None else iso_time(facts.ended_us),
        "took_s": took_s,
        "retry_in_s": None if facts.pause_us is None else facts.pause_us / 1_000_000,
        "deliveries": facts.deliveries,
        "model": facts.model or None,
        "backend": facts.backend or None,
        "usage": None if all(count is None for count in facts.tokens) else counts,
        "cost": nano_to_cost(facts.cost_nano),
        "child_id": facts.child_id or None,
        "started_seq": facts.started_seq,
        "ended_seq": facts.ended_seq,
        "failed_seq": facts.failed_seq,
    }
