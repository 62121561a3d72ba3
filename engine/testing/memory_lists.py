"""Lists and sums over the executions of the client in memory."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from engine.client.asking import Filters, Time, UsageBy, check_filter, moment, nested
from engine.client.rows import Counts, UsageRow
from engine.core.errors import InvalidInput
from engine.core.run.attempts import AttemptFacts
from engine.core.run.projection import ExecutionFacts
from engine.core.run.tags import BACKEND, MODEL
from engine.core.run.usage import MODEL_KINDS, TOOL_KINDS, UsageSums
from engine.testing.memory_run import MemoryExecution, contains

ABSENT: Final = ("agent_id", "parent_id", "actor", "stuck")
"""Filters about what no execution in memory has: agents, parents, callers, and things that go wrong in a cluster."""
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_NANO: Final = 1_000_000_000


def chosen(made: Iterable[MemoryExecution], filters: Filters) -> list[MemoryExecution]:
    """Return the executions that are asked for, in the order that is asked for.

    Args:
        made: All, the oldest first.
        filters: What is asked for.

    Raises:
        InvalidInput: `request.invalid` for a filter that says nothing in memory, or a wrong one.
    """
    given = dict[str, Any](filters)
    for name in given:
        check_filter(name)
        if name in ABSENT:
            raise InvalidInput(
                f"executions in memory have nothing that the filter '{name}' could find", code="request.invalid"
            )
    order, descending = given.pop("sort_by", "created_at"), given.pop("direction", "desc") == "desc"
    found = [item for item in made if all(_holds(item, name, value) for name, value in given.items())]
    # equal ones stay in the order of their starts, also when the highest comes first
    found = found[::-1] if descending else found
    return sorted(found, key=lambda item: _order(item.facts(), order), reverse=descending)


def _order(facts: ExecutionFacts, name: str) -> int:
    if name == "cost":
        return -1 if facts.usage.cost_nano is None else facts.usage.cost_nano
    if name == "total_tokens":
        return facts.usage.total_tokens
    value: int | None = getattr(facts, f"{name.removesuffix('_at')}_us")
    return -1 if value is None else value


def _holds(item: MemoryExecution, name: str, value: Any) -> bool:
    facts = item.facts()
    if name in ("task_id", "task_name"):
        return bool(facts.task_id == value)
    if name == "status":
        return facts.status in _several(value)
    if name == "label":
        return set(_several(value)) <= set(facts.labels)
    if name == "metadata":
        return contains(facts.metadata, nested(value))
    if name == "error_code":
        code = str((facts.error or {}).get("code") or "")
        return code.startswith(str(value)[:-1]) if str(value).endswith(".*") else code == value
    if name in ("model", "backend"):
        kind = MODEL if name == "model" else BACKEND
        return (kind, value) in item.progress().served
    if name in ("cost_min", "cost_max"):
        cost = facts.usage.cost_nano
        limit = float(value) * _NANO
        return cost is not None and (cost >= limit if name == "cost_min" else cost <= limit)
    if name == "root_only":
        return True
    what, _, side = name.partition("_")
    at: int | None = getattr(facts, f"{what}_us")
    limit_us = _us(value, name)
    return at is not None and (at >= limit_us if side == "after" else at < limit_us)


def _several(value: Any) -> Sequence[str]:
    return [value] if isinstance(value, str) else list(value)


def _us(value: Time, name: str) -> int:
    return (moment(value, name) - _EPOCH) // dt.timedelta(microseconds=1)


def counts(found: Sequence[MemoryExecution]) -> Counts:
    """Return how many executions stand where."""
    return {"total": len(found), "by_status": dict(Counter(item.status.value for item in found))}


# --- usage ---------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Line:
    sums: UsageSums
    failed: int = 0

    def add(self, call: AttemptFacts) -> None:
        self.sums.llm_calls += call.kind in MODEL_KINDS
        self.sums.tool_calls += call.kind in TOOL_KINDS
        self.failed += call.outcome == "failed"
        if call.model or call.backend:
            self.sums.add_reply(call.tokens, call.cost_nano)


def usage_rows(
    made: Iterable[MemoryExecution], by: UsageBy, since: Time | None, until: Time | None, label: str | None
) -> list[UsageRow]:
    """Return what the calls of executions used; see `Client.usage`."""
    first_us = None if since is None else _us(since, "since")
    end_us = None if until is None else _us(until, "until")
    lines: dict[str | None, _Line] = {}
    for item in made:
        if label is not None and label not in item.asked.labels:
            continue
        for call in item.attempts():
            began = call.started_us or call.ended_us or 0
            if (first_us is not None and began < first_us) or (end_us is not None and began >= end_us):
                continue
            if call.kind not in (*MODEL_KINDS, *TOOL_KINDS):
                continue
            for key in _keys(item, call, by):
                lines.setdefault(key, _Line(UsageSums())).add(call)
    rows = [_row(key, line, by) for key, line in lines.items()]
    if by == "day":
        return sorted(rows, key=lambda row: row["key"] or "")
    return sorted(rows, key=lambda row: (float(row["cost"] or -1), row["total_tokens"], row["calls"]), reverse=True)


def _keys(item: MemoryExecution, call: AttemptFacts, by: UsageBy) -> Iterator[str | None]:
    if by in ("model", "backend"):
        if call.kind in MODEL_KINDS or call.model:
            yield (call.model if by == "model" else call.backend) or None
    elif by == "label":
        yield from item.asked.labels or (None,)
    elif by == "task":
        yield item.asked.task
    elif by == "agent":
        yield None
    elif by == "day":
        yield (_EPOCH + dt.timedelta(microseconds=call.started_us or call.ended_us or 0)).date().isoformat()
    else:
        raise InvalidInput(f"usage is not summed up by '{by}'", code="request.invalid")


def _row(key: str | None, line: _Line, by: UsageBy) -> UsageRow:
    sums = line.sums
    row: Any = {
        "key": key,
        **({"name": key} if by == "task" else {}),
        "calls": sums.llm_calls + sums.tool_calls,
        "failed_calls": line.failed,
        **sums.to_json(),
    }
    return cast(UsageRow, row)
