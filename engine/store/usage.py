"""What calls of models and tools used, summed over many executions: by model, backend, task, agent, day or label."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Row, Select, and_, case, func, or_, select

from engine.core.kinds import StepKind
from engine.core.run.tags import LABEL
from engine.core.run.usage import MODEL_KINDS, TOKENS, TOOL_KINDS, UsageSums, nano_to_cost
from engine.store.database import Database
from engine.store.filters import Span
from engine.store.schema import attempts, execution_tags, executions

UsageBy = Literal["model", "backend", "task", "agent", "day", "label"]

_DAY_US = 86_400_000_000
_IS_LLM = attempts.c.kind.in_([kind.value for kind in MODEL_KINDS])
_IS_TOOL = attempts.c.kind.in_([kind.value for kind in TOOL_KINDS])
# only a reply names them, so a call without has none
_IS_REPLY = or_(attempts.c.model != "", attempts.c.backend != "")
_OF_MODEL = or_(_IS_LLM, attempts.c.kind == StepKind.SEARCH.value)
UNPRICED = and_(_OF_MODEL, _IS_REPLY, attempts.c.cost_nano.is_(None))
"""A reply whose price is not known, whether or not it was good enough; as `UsageSums.unpriced_calls` counts them."""


def _count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


SUMS = (
    _count(_IS_LLM).label("llm_calls"),
    _count(_IS_TOOL).label("tool_calls"),
    _count(attempts.c.outcome == "failed").label("failed_calls"),
    *(func.coalesce(func.sum(attempts.c[name]), 0).label(name) for name in TOKENS),
    func.sum(attempts.c.cost_nano).label("cost_nano"),
    _count(UNPRICED).label("unpriced_calls"),
)
"""What `sums_of` reads."""


@dataclass(frozen=True, slots=True)
class CallSums:
    """What some calls used.

    Attributes:
        llm_calls: Calls of models that were begun.
        tool_calls: Calls of tools that were begun.
        failed_calls: Those of both that failed, or whose reply did not fit.
        prompt_tokens: Tokens of requests, as far as backends told.
        completion_tokens: Tokens of replies.
        total_tokens: Both.
        cached_tokens: Tokens of requests that came from the providers' caches.
        cache_write_tokens: Tokens of requests that went into them.
        reasoning_tokens: Tokens of replies that models thought with.
        cost_nano: Thousand-millionths of a dollar over calls with a known price; None = there is none.
        unpriced_calls: Replies whose price is not known.
    """

    llm_calls: int
    tool_calls: int
    failed_calls: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    reasoning_tokens: int
    cost_nano: int | None
    unpriced_calls: int

    def to_usage(self) -> UsageSums:
        """Return the same as the events of an execution tell it."""
        counts = {name: getattr(self, name) for name in UsageSums.__dataclass_fields__ if name != "failed_attempts"}
        return UsageSums(**counts, failed_attempts=self.failed_calls)

    def to_json(self) -> dict[str, Any]:
        """Return {calls, llm_calls, tool_calls, failed_calls, …_tokens, cost, unpriced_calls}."""
        return {
            "calls": self.llm_calls + self.tool_calls,
            "llm_calls": self.llm_calls,
            "tool_calls": self.tool_calls,
            "failed_calls": self.failed_calls,
            **{name: getattr(self, name) for name in TOKENS},
            "cost": nano_to_cost(self.cost_nano),
            "unpriced_calls": self.unpriced_calls,
        }


class UsageItem(NamedTuple):
    """One line of a report.

    Attributes:
        key: The model, backend, task id, agent id, day (`2026-11-22`, UTC) or label; None = the calls have none.
        name: Name of the task; None for everything else.
        sums: What those calls used.
    """

    key: str | None
    name: str | None
    sums: CallSums


class UsageReport(NamedTuple):
    """A report.

    Attributes:
        items: By cost, then tokens, then calls, the highest first; days in their order.
        total: Over all calls, each once, also those that no item shows.
        truncated: Whether there are more items than were asked for.
    """

    items: list[UsageItem]
    total: CallSums
    truncated: bool


class UsageReader:
    """Sums over the attempts.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def report(
        self, by: UsageBy, *, tenant: str, span: Span, limit: int = 100, label: str | None = None
    ) -> UsageReport:
        """Sum up what calls used that began in a span of time.

        Args:
            by: What makes the lines; by model or backend only calls of models count. A call of an execution with
                several labels counts for each of them.
            tenant: Tenant id.
            span: When the calls began.
            limit: Most lines.
            label: Only calls of executions with this label.
        """
        conditions = _conditions(tenant, span, label)
        if by in ("model", "backend"):
            # a search that asked a model for its vector is one of that model's
            conditions.append(or_(_IS_LLM, and_(_OF_MODEL, _IS_REPLY)))
        key, name, source = _GROUPS[by]
        columns = (key.label("key"), name.label("name"), *SUMS)
        query = select(*columns).select_from(source).where(*conditions).group_by(key).limit(limit + 1)
        total = select(*SUMS).where(*conditions)

        def read(connection: Connection) -> UsageReport:
            rows = connection.execute(_sorted(query, key, by)).all()
            lines = [sums_of(row) for row in rows]
            items = [UsageItem(_key_of(row.key, by), row.name, sums) for row, sums in zip(rows, lines, strict=True)]
            # where each call is in one line, and all lines are here, nothing needs to be read twice
            once = by in _ONCE and len(rows) <= limit
            whole = _added(lines) if once else sums_of(connection.execute(total).one())
            return UsageReport(items[:limit], whole, len(rows) > limit)

        return await self.database.run(read)


def _conditions(tenant: str, span: Span, label: str | None) -> list[ColumnElement[bool]]:
    began = attempts.c.started_us
    found: list[ColumnElement[bool]] = [attempts.c.tenant == tenant, began.is_not(None), or_(_IS_LLM, _IS_TOOL)]
    if span.since_us is not None:
        found.append(began >= span.since_us)
    if span.until_us is not None:
        found.append(began < span.until_us)
    if label is not None:
        tags = execution_tags.alias("wanted")
        has = select(tags.c.execution_id).where(tags.c.tenant == tenant, tags.c.kind == LABEL, tags.c.name == "")
        found.append(attempts.c.execution_id.in_(has.where(tags.c.value == label)))
    return found


def _groups() -> Mapping[str, tuple[ColumnElement[Any], ColumnElement[Any], Any]]:
    """Return for each kind of report what makes its lines, their names, and the tables."""
    none = func.max(None)
    model = case((attempts.c.model != "", attempts.c.model), else_=attempts.c.name)
    of_execution = attempts.join(
        executions, and_(executions.c.tenant == attempts.c.tenant, executions.c.id == attempts.c.execution_id)
    )
    of_label = attempts.outerjoin(
        execution_tags,
        and_(
            execution_tags.c.tenant == attempts.c.tenant,
            execution_tags.c.execution_id == attempts.c.execution_id,
            execution_tags.c.kind == LABEL,
            execution_tags.c.name == "",
        ),
    )
    return {
        # a call without a reply has only the model that was asked
        "model": (model, none, attempts),
        "backend": (attempts.c.backend, none, attempts),
        "task": (executions.c.task_id, func.max(executions.c.task_name), of_execution),
        "agent": (executions.c.agent_id, none, of_execution),
        "day": (attempts.c.started_us // _DAY_US, none, attempts),
        "label": (execution_tags.c.value, none, of_label),
    }


_GROUPS = _groups()
_ONCE = frozenset({"model", "backend", "day"})
"""Reports that have each call in exactly one line; others need a row besides that of the call."""


def _sorted(query: Select[Any], key: ColumnElement[Any], by: UsageBy) -> Select[Any]:
    if by == "day":
        return query.order_by(key)
    highest = [func.coalesce(func.sum(attempts.c.cost_nano), -1), func.coalesce(func.sum(attempts.c.total_tokens), 0)]
    return query.order_by(*(column.desc() for column in highest), func.count().desc(), key)


def _key_of(key: Any, by: UsageBy) -> str | None:
    if by == "day":
        return (dt.date(1970, 1, 1) + dt.timedelta(days=int(key))).isoformat()
    return str(key) if key else None


def _added(lines: Sequence[CallSums]) -> CallSums:
    names = [name for name in CallSums.__dataclass_fields__ if name != "cost_nano"]
    known = [line.cost_nano for line in lines if line.cost_nano is not None]
    counts = {name: sum(getattr(line, name) for line in lines) for name in names}
    return CallSums(**counts, cost_nano=sum(known) if known else None)


def sums_of(row: Row[*tuple[Any, ...]]) -> CallSums:
    """Read a row of `SUMS`."""
    # sums of whole numbers are decimals in PostgreSQL
    names = (name for name in CallSums.__dataclass_fields__ if name != "cost_nano")
    counts = {name: int(getattr(row, name)) for name in names}
    return CallSums(**counts, cost_nano=None if row.cost_nano is None else int(row.cost_nano))
