"""The queries by which executions are listed, read into the filter of the store."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Annotated, Literal

from fastapi import Depends, Query, Request
from pydantic import StringConstraints

from engine.core.kinds import ExecutionStatus
from engine.edge.http.paging import MOST_OFFSET, metadata_filter, read_cursor
from engine.edge.http.times import Moment, to_us
from engine.store.filters import ExecutionFilter, Span
from engine.store.listing import Key

SortBy = Literal["created_at", "updated_at", "closed_at", "cost", "total_tokens"]
Direction = Literal["asc", "desc"]
Text = Annotated[str | None, Query(max_length=255)]
Time = Annotated[Moment | None, Query(description="RFC 3339, included in `after`, not in `before`")]
Dollars = Annotated[Decimal | None, Query(ge=0, le=1_000_000_000, description="dollars; leaves unknown costs out")]
Label = Annotated[str, StringConstraints(max_length=255)]

# the functions below are coroutines because FastAPI sends ordinary ones to a thread, which costs more than they do

_NANO = 1_000_000_000


@dataclass(frozen=True, slots=True)
class ListPage:
    """Which page of a list of executions.

    Attributes:
        limit: Most items.
        offset: Items left out first.
        sort_by: What it is sorted by.
        descending: Highest first.
        after: Where the page before ended; None = from the beginning.
    """

    limit: int
    offset: int
    sort_by: SortBy
    descending: bool
    after: Key | None


async def read_list_page(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    offset: Annotated[int, Query(ge=0, le=MOST_OFFSET)] = 0,
    sort_by: SortBy = "created_at",
    direction: Direction = "desc",
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before")] = None,
) -> ListPage:
    """Read which page is asked for.

    Raises:
        InvalidInput: `request.bad_cursor`.
    """
    place = read_cursor(request, cursor, kinds=((int, type(None)), str))
    return ListPage(limit, offset, sort_by, direction == "desc", None if place is None else (place[0], place[1]))


def span_of(since: dt.datetime | None, until: dt.datetime | None) -> Span:
    """Return the span between two times; None = it has no end there."""
    return Span(None if since is None else to_us(since), None if until is None else to_us(until))


async def _times(
    created_after: Time = None,
    created_before: Time = None,
    updated_after: Time = None,
    updated_before: Time = None,
    closed_after: Time = None,
    closed_before: Time = None,
) -> tuple[Span, Span, Span]:
    return (
        span_of(created_after, created_before),
        span_of(updated_after, updated_before),
        span_of(closed_after, closed_before),
    )


async def read_filter(
    request: Request,
    times: Annotated[tuple[Span, Span, Span], Depends(_times)],
    task_name: Text = None,
    agent_id: Text = None,
    parent_id: Annotated[str | None, Query(max_length=255, description="the execution that started them")] = None,
    root_only: Annotated[bool, Query(description="only those that no execution started")] = False,
    status: Annotated[list[ExecutionStatus], Query(description="any of them")] = [],  # noqa: B006 FastAPI copies it
    label: Annotated[list[Label], Query(max_length=20, description="all of them")] = [],  # noqa: B006 FastAPI copies it
    error_code: Annotated[
        str | None, Query(max_length=255, description="`x` = the code x and all that begin with `x.`; `x.y` = this one")
    ] = None,
    model: Annotated[str | None, Query(max_length=255, description="one that replied")] = None,
    backend: Annotated[str | None, Query(max_length=255, description="one that replied")] = None,
    actor: Annotated[str | None, Query(max_length=255, description="who started them")] = None,
    cost_min: Dollars = None,
    cost_max: Dollars = None,
    stuck: Annotated[bool, Query(description="only those that do not go on although they should")] = False,
) -> ExecutionFilter:
    """Read which executions are asked for.

    Raises:
        InvalidInput: `request.invalid` for a `metadata_filter` that is no object.
    """
    created, updated, closed = times
    return ExecutionFilter(
        task_name=task_name,
        agent_id=agent_id,
        statuses=status,
        labels=label,
        metadata=metadata_filter(request) or {},
        created=created,
        updated=updated,
        closed=closed,
        error_code=error_code,
        model=model,
        backend=backend,
        actor=actor,
        min_cost_nano=None if cost_min is None else int((cost_min * _NANO).to_integral_value(ROUND_CEILING)),
        max_cost_nano=None if cost_max is None else int((cost_max * _NANO).to_integral_value(ROUND_FLOOR)),
        stuck=stuck,
        parent_id=parent_id,
        root_only=root_only,
    )


def read_any_filter(wanted: Annotated[ExecutionFilter, Depends(read_filter)], task_id: Text = None) -> ExecutionFilter:
    """Read which executions are asked for, where the path names no task."""
    return replace(wanted, task_id=task_id)
