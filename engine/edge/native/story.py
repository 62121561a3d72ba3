"""Routes of the whole story of an execution: its steps, attempts and history, and what Temporal has of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from engine.control.folding import FoldedStory
from engine.control.rawhistory import MOST_ITEMS, raw_history
from engine.control.stories import steps_at
from engine.core.errors import InvalidInput
from engine.core.run.attempts import attempt_view
from engine.core.run.events import EventRecord
from engine.core.run.story_parts import StepState, StepStory, Told
from engine.core.run.story_views import Show, seqs_of, show_clipped, step_row, step_view, story_view
from engine.core.run.story_words import closing_entry, entries
from engine.core.run.times import iso_time
from engine.edge.http.paging import Cursor, read_cursor, refuse_unknown_queries, write_cursor
from engine.edge.http.services import In, Tenant

router = APIRouter(tags=["story"], dependencies=[Depends(refuse_unknown_queries)])

Full = Annotated[bool, Query(description="whole values instead of their beginnings")]
States = Annotated[list[StepState], Query(description="only steps that stand like this; any of them")]

SHOWN_CHARS = 2_000
"""What the history shows of the data of each event, unless all of it is asked for."""
HISTORY_CHARS = 8_000_000
"""What the bodies of one page of the history hold together at most; one event is always told."""
MOST_VISITS = 100
MOST_BLOCKS = 1_000


@router.get("/executions/find")
async def find_executions(
    services: In, tenant: Tenant, id_prefix: Annotated[str, Query(description="how their ids begin")]
) -> dict[str, Any]:
    """Find executions by how their ids begin (6 characters or more); at most ten, in order of their ids."""
    found = await services.stories.full_id(id_prefix, tenant=tenant)
    return {"items": [{**item, "created_at": iso_time(item.pop("created_us"))} for item in found]}


# --- steps ---------------------------------------------------------------------------------------------------------


@router.get("/executions/{execution_id}/steps")
async def list_steps(
    execution_id: str,
    request: Request,
    services: In,
    tenant: Tenant,
    path: Annotated[str, Query(description="only this step and those inside it, or those of this body")] = "",
    state: States = [],  # noqa: B006 FastAPI copies it
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    full: Full = False,
) -> dict[str, Any]:
    """List the steps that were visited, in the order of the task, each with the depth at which it stands."""
    place = read_cursor(request, cursor, kinds=(str,))
    facts = (await services.executions.read(execution_id, tenant=tenant)).facts
    folded = await services.stories.fold(facts)
    start = 0 if place is None else _position(folded, place[0])
    chosen: list[StepStory] = []
    more = False
    for step in folded.order[start:]:
        if (state and step.state not in state) or (path and not _is_in(step.path, path)):
            continue
        more = len(chosen) == limit
        if more:
            break
        chosen.append(step)
    show: Show = show_clipped
    if full:
        sized = [(step, _cut(step.input, step.output)) for step in chosen]
        show, count = await services.stories.whole(facts, sized)
        more, chosen = more or count < len(chosen), chosen[:count]
    titles = await services.stories.titles(facts, chosen)
    return {
        "execution": {"id": facts.id, "status": facts.status.value, **story_view(folded.story, folded.totals[""])},
        "items": [step_row(step, folded.totals[step.path], show=show, titles=titles) for step in chosen],
        "next_cursor": write_cursor(request, [chosen[-1].path] if more and chosen else None),
    }


def _cut(*values: Told | None) -> set[int]:
    return {value.seq for value in values if value is not None and value.cut}


def _position(folded: FoldedStory, path: str) -> int:
    for number, step in enumerate(folded.order):
        if step.path == path:
            return number + 1
    raise InvalidInput(
        "the step at which the page before ended is there no longer",
        code="request.bad_cursor",
        hint="begin again: the repair has replaced the events of this execution",
    )


def _is_in(path: str, outer: str) -> bool:
    return path.startswith(outer) and path[len(outer) : len(outer) + 1] in ("", ".", "[", "~", "!")


@router.get("/executions/{execution_id}/steps/{path:path}")
async def get_step(
    execution_id: str,
    path: str,
    request: Request,
    services: In,
    tenant: Tenant,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=MOST_VISITS)] = 20,
    full: Full = True,
) -> dict[str, Any]:
    """Return everything about a step: input, prompts, replies, attempts, waits, output.

    The step is named by its path (`main.3.do[17].0`), by a path without counters for all visits (`main.3.do.0`), or by
    its label.
    """
    place = read_cursor(request, cursor, kinds=(int,))
    facts = (await services.executions.read(execution_id, tenant=tenant)).facts
    folded = await services.stories.fold(facts)
    visits = steps_at(folded, path)
    start = 0 if place is None else max(place[0], 0)
    chosen = visits[start : start + limit]
    show: Show = show_clipped
    if full:
        show, count = await services.stories.whole(facts, [(step, seqs_of(step, MOST_BLOCKS)) for step in chosen])
        chosen = chosen[:count]
    titles = await services.stories.titles(facts, chosen)
    after = start + len(chosen)
    return {
        "path": path,
        "visits": len(visits),
        "items": [
            step_view(step, folded.totals[step.path], show=show, titles=titles, most_blocks=MOST_BLOCKS)
            for step in chosen
        ],
        "next_cursor": write_cursor(request, [after] if chosen and after < len(visits) else None),
    }


# --- attempts ------------------------------------------------------------------------------------------------------


@router.get("/executions/{execution_id}/attempts")
async def list_attempts(
    execution_id: str,
    request: Request,
    services: In,
    tenant: Tenant,
    path: Annotated[str | None, Query(description="only those at this step")] = None,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> dict[str, Any]:
    """List attempts at calls, and failed attempts at blocks, in the order in which they began."""
    place = read_cursor(request, cursor, kinds=(int, str))
    await services.store.get_execution(execution_id, tenant=tenant)
    after = None if place is None else (place[0], place[1])
    found = await services.store.list_attempts(execution_id, tenant=tenant, path=path, after=after, limit=limit + 1)
    items = found[:limit]
    return {
        "items": [attempt_view(item) for item in items],
        "next_cursor": write_cursor(request, items[-1].place if len(found) > limit else None),
    }


# --- history -------------------------------------------------------------------------------------------------------


@router.get("/executions/{execution_id}/history")
async def list_history(
    execution_id: str,
    request: Request,
    services: In,
    tenant: Tenant,
    after_seq: Annotated[int, Query(ge=0, le=2**62)] = 0,
    cursor: Cursor = None,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    full: Full = False,
) -> dict[str, Any]:
    """Tell what happened, in order: of each event when, where and in a sentence what, and its data.

    An end that came from outside (terminated, deleted, timed out) has no event: it is told last, with `seq` null.
    """
    place = read_cursor(request, cursor, kinds=(int,))
    facts = (await services.executions.read(execution_id, tenant=tenant)).facts
    after = after_seq if place is None else place[0]
    found: list[EventRecord] = []
    room, more = HISTORY_CHARS, False
    async for batch in services.stories.reader.batches(facts.id, tenant=tenant, after_seq=after):
        for record in batch:
            room -= len(record.body)
            more = len(found) == limit or (room < 0 and bool(found))
            if more:
                break
            found.append(record)
        if more:
            break
    told = list(entries(found, after_seq=after, limit_chars=None if full else SHOWN_CHARS))
    if not more and facts.settled and not facts.terminal_seen and facts.error:
        # a full page leaves it to the next one
        more = len(found) == limit
        if not more:
            told.append(closing_entry(facts.error, facts.closed_us or facts.updated_us))
    return {"items": told, "next_cursor": write_cursor(request, [found[-1].seq] if more else None)}


@router.get("/executions/{execution_id}/temporal")
async def list_temporal(
    execution_id: str,
    services: In,
    tenant: Tenant,
    run_id: Annotated[str, Query(max_length=255, description="an earlier run; left out = the latest")] = "",
    next_page_token: Annotated[str, Query(max_length=10_000, description="that of the page before")] = "",
    limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 100,
) -> dict[str, Any]:
    """Return Temporal's own history of an execution, the newest event first; needs Temporal, unlike all other reads."""
    await services.store.get_execution(execution_id, tenant=tenant)
    if next_page_token and not run_id:
        raise InvalidInput(
            "a page token needs its run", code="request.bad_cursor", hint="give run_id of the page before as well"
        )
    return await raw_history(services.temporal, execution_id, run_id=run_id, limit=limit, token=next_page_token)
