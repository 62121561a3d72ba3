"""The reads that the bench of the projection measures: each as a request and as a call of the store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.seeding import AGENTS, SPREAD_US, T0_US, TASKS
from engine.core.kinds import ExecutionStatus
from engine.store.database import Database
from engine.store.event_pages import EventKey, EventPages
from engine.store.filters import ExecutionFilter, Span
from engine.store.listing import ExecutionLists, Key
from engine.store.usage import UsageReader

LIST_MS, TRANSITIONS_MS = 50.0, 20.0
"""What a page may take (95th percentile, nothing being written)."""

TENANT = "default"
PAGE = 100


@dataclass(frozen=True, slots=True)
class Case:
    """One read.

    Attributes:
        title: What a reader calls it.
        path: Path below `/api`.
        at_store: The same read without HTTP.
        params: Queries.
        limit_ms: What it may take; None = no limit is set.
        least_items: Items that it must have, so that nothing empty is measured.
        behind: The page is the one behind so many items, by a cursor that is fetched first; None = as `params` say.
    """

    title: str
    path: str
    at_store: Callable[[], Awaitable[Any]]
    params: Mapping[str, Any] = field(default_factory=dict)
    limit_ms: float | None = LIST_MS
    least_items: int = 1
    behind: int | None = None


async def cases_of(database: Database, long_id: str, transitions: int, executions: int) -> list[Case]:
    """Return all cases for a seeded store.

    Args:
        database: The store.
        long_id: The execution with many transitions.
        transitions: How many it has.
        executions: How many executions there are.
    """
    return [
        *_filters(database),
        *_orders(database),
        *await _deep(database, executions),
        *await _transitions(database, long_id, transitions),
        *_sums(database),
    ]


def _filters(database: Database) -> list[Case]:
    vip_days = Span(T0_US, T0_US + 500 * SPREAD_US)
    until = dt.datetime.fromtimestamp((T0_US + 500 * SPREAD_US) // 1_000_000, dt.UTC).isoformat()
    task, rare = TASKS[0][0], TASKS[15][0]
    failed = ExecutionStatus.FAILED
    wanted: list[tuple[str, dict[str, Any], ExecutionFilter]] = [
        ("newest", {}, ExecutionFilter()),
        ("task", {"task_id": task}, ExecutionFilter(task_id=task)),
        ("rare task", {"task_id": rare}, ExecutionFilter(task_id=rare)),
        ("agent", {"agent_id": AGENTS[0]}, ExecutionFilter(agent_id=AGENTS[0])),
        ("status", {"status": "failed"}, ExecutionFilter(statuses=[failed])),
        ("task + status", {"task_id": task, "status": "failed"}, ExecutionFilter(task_id=task, statuses=[failed])),
        ("label", {"label": "team:search"}, ExecutionFilter(labels=["team:search"])),
        ("rare label", {"label": "vip"}, ExecutionFilter(labels=["vip"])),
        ("two labels", {"label": ["team:search", "nightly"]}, ExecutionFilter(labels=["team:search", "nightly"])),
        ("metadata", {"metadata_filter.customer": "c-77"}, ExecutionFilter(metadata={"customer": "c-77"})),
        (
            "metadata, two members",
            {"metadata_filter.priority": 1, "metadata_filter.order.region": "eu"},
            ExecutionFilter(metadata={"priority": 1, "order": {"region": "eu"}}),
        ),
        ("error code", {"error_code": "tool.failed"}, ExecutionFilter(error_code="tool.failed")),
        ("error codes below", {"error_code": "backend.*"}, ExecutionFilter(error_code="backend.*")),
        ("model", {"model": "odd-9"}, ExecutionFilter(model="odd-9")),
        ("cost from", {"cost_min": "0.002"}, ExecutionFilter(min_cost_nano=2_000_000)),
        ("time", {"created_before": until}, ExecutionFilter(created=Span(None, vip_days.until_us))),
        (
            "label + status + task",
            {"label": "team:search", "status": "failed", "task_id": task},
            ExecutionFilter(labels=["team:search"], statuses=[failed], task_id=task),
        ),
    ]
    return [_list(database, f"list: {title}", params, one) for title, params, one in wanted]


def _list(database: Database, title: str, params: Mapping[str, Any], wanted: ExecutionFilter, **more: Any) -> Case:
    lists = ExecutionLists(database)
    return Case(
        title, "/executions", lambda: lists.page(wanted, tenant=TENANT, limit=PAGE, **more), {"limit": PAGE, **params}
    )


def _orders(database: Database) -> list[Case]:
    found = []
    for sort_by in ("updated_at", "closed_at", "cost", "total_tokens"):
        found.append(_list(database, f"list: by {sort_by}", {"sort_by": sort_by}, ExecutionFilter(), sort_by=sort_by))
    of_task = ExecutionFilter(task_id=TASKS[0][0])
    params = {"sort_by": "cost", "task_id": TASKS[0][0]}
    return [*found, _list(database, "list: task, by cost", params, of_task, sort_by="cost")]


async def _deep(database: Database, executions: int) -> list[Case]:
    lists, everything = ExecutionLists(database), ExecutionFilter()
    behind = executions * 6 // 10
    found = []
    for sort_by in ("created_at", "updated_at", "cost"):
        before = await lists.page(everything, tenant=TENANT, limit=1, offset=behind - 1, sort_by=sort_by)

        def read(after: Key | None = before.after, sort_by: str = sort_by) -> Awaitable[Any]:
            return lists.page(everything, tenant=TENANT, limit=PAGE, after=after, sort_by=sort_by)

        params = {"limit": PAGE, "sort_by": sort_by}
        found.append(Case(f"list: cursor behind 60 %, by {sort_by}", "/executions", read, params, behind=behind))
    offset = _list(database, "list: offset of 60 %", {"offset": behind}, everything, offset=behind)
    return [*found, offset]


async def _transitions(database: Database, long_id: str, count: int) -> list[Case]:
    pages, path = EventPages(database), f"/executions/{long_id}/transitions"
    found = []
    for title, behind in (("first", 0), ("middle", count // 2), ("last", count - PAGE)):
        after = None
        if behind:
            before = await pages.page(
                long_id, tenant=TENANT, limit=1, offset=behind - 1, transitions_only=True, descending=True
            )
            after = before.after

        def read(after: EventKey | None = after) -> Awaitable[Any]:
            return pages.page(long_id, tenant=TENANT, limit=PAGE, after=after, transitions_only=True, descending=True)

        params = {"limit": PAGE}
        case = Case(f"transitions: {title} page", path, read, params, TRANSITIONS_MS, PAGE, behind or None)
        found.append(case)
    return found


def _sums(database: Database) -> list[Case]:
    lists, usage = ExecutionLists(database), UsageReader(database)
    everything, some = ExecutionFilter(), ExecutionFilter(labels=["team:search"])
    return [
        Case("counts: all", "/executions/counts", lambda: lists.count(everything, tenant=TENANT), {}, None, 0),
        Case(
            "counts: label",
            "/executions/counts",
            lambda: lists.count(some, tenant=TENANT),
            {"label": "team:search"},
            None,
            0,
        ),
        Case("usage: by model", "/usage", lambda: usage.report("model", tenant=TENANT, span=Span()), {}, None),
    ]
