"""Route of the purge: executions that ended go for good, with all that is kept of them."""

from __future__ import annotations

import datetime as dt
import time
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import Field, StringConstraints

from engine.control.connect import TemporalConnection
from engine.control.payloads import blob_drivers
from engine.control.purging import MOST_AT_ONCE, PurgeFinisher, PurgeService, PurgeWanted, report_json
from engine.core.errors import InvalidInput, Unavailable
from engine.core.kinds import ExecutionStatus
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_ADMIN, actor_of
from engine.edge.http.paging import read_cursor, write_cursor
from engine.edge.http.services import In, Tenant
from engine.edge.http.times import Moment, to_us
from engine.edge.native.listfilters import span_of
from engine.edge.native.shapes import ActorName, Body
from engine.store.database import Database
from engine.store.filters import ExecutionFilter

router = APIRouter(tags=["executions"])

MOST_AGE_S = 100 * 365 * 86_400
Text = Annotated[str, StringConstraints(max_length=255)]


class PurgeBody(Body):
    """Which executions to purge: those named, or all that ended before a time and pass the filter.

    Attributes:
        ids: These.
        older_than_s: Only those that ended at least so many seconds ago.
        ended_before: Only those that ended before this time.
        status: Only those that ended like this; any of them.
        task_id: Only those of this task.
        task_name: Only those of tasks of this name.
        agent_id: Only those of this agent.
        label: Only those with all of these labels.
        metadata: Only those whose metadata contains this.
        error_code: Only those that failed with this code.
        started_by: Only those that this one started.
        created_after: Only those created at or after this time.
        terminate: Whether those that have not ended are stopped for it, if they were created before that time.
        dry_run: Whether to tell only which ones would go.
        limit: Most to purge by this request.
        cursor: `next_cursor` of the request before.
        actor: Who wants it.
    """

    ids: list[Text] = Field(default_factory=list, max_length=MOST_AT_ONCE)
    older_than_s: float | None = Field(default=None, ge=0, le=MOST_AGE_S)
    ended_before: Moment | None = None
    status: list[ExecutionStatus] = Field(default_factory=list, max_length=20)
    task_id: Text | None = None
    task_name: Text | None = None
    agent_id: Text | None = None
    label: list[Text] = Field(default_factory=list, max_length=20)
    metadata: dict[str, Any] = Field(default_factory=dict)
    error_code: Text | None = None
    started_by: Text | None = None
    created_after: Moment | None = None
    terminate: bool = False
    dry_run: bool = False
    limit: int = Field(default=100, ge=1, le=MOST_AT_ONCE)
    cursor: str | None = None
    actor: ActorName = ""


@router.post("/purge", dependencies=[MAY_ADMIN])
async def purge(request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Purge executions and all that they started: rows, histories, payloads. What is gone cannot be brought back.

    What Temporal still has to delete is finished by the repair process, also if Temporal does not answer: `pending`
    names these executions, whose rows are gone. Executions that have not ended are kept, unless
    `terminate` stops them; `kept` says why.
    """
    body = await read_model(request, PurgeBody)
    place = read_cursor(request, body.cursor, kinds=(int, str))
    wanted = PurgeWanted(
        tenant=tenant,
        ids=tuple(body.ids),
        filter=_filter_of(body),
        before_us=_before_us(body),
        terminate=body.terminate,
        dry_run=body.dry_run,
        limit=body.limit,
        after=None if place is None else (place[0], place[1]),
        actor=actor_of(request, body.actor),
    )
    finisher = None if body.dry_run else await _finisher(services.temporal, services.database)
    report = await PurgeService(services.database).purge(wanted, finisher)
    return {**report_json(report, dry_run=body.dry_run), "next_cursor": write_cursor(request, report.after)}


async def _finisher(temporal: TemporalConnection, database: Database) -> PurgeFinisher | None:
    try:
        client = await temporal.client()
    except Unavailable:
        return None  # the repair process does it once Temporal answers
    return PurgeFinisher(client, database, blob_drivers(client.data_converter), temporal.errors)


def _before_us(body: PurgeBody) -> int | None:
    """Return the time before which executions must have ended.

    Raises:
        InvalidInput: `request.invalid` if two are given.
    """
    if body.older_than_s is not None and body.ended_before is not None:
        raise InvalidInput("older_than_s and ended_before say the same in two ways", code="request.invalid")
    if body.older_than_s is not None:
        return time.time_ns() // 1_000 - int(body.older_than_s * 1e6)
    return None if body.ended_before is None else to_us(body.ended_before)


def _filter_of(body: PurgeBody) -> ExecutionFilter:
    never: dt.datetime | None = None
    return ExecutionFilter(
        task_id=body.task_id,
        task_name=body.task_name,
        agent_id=body.agent_id,
        statuses=body.status,
        labels=body.label,
        metadata=body.metadata,
        error_code=body.error_code,
        actor=body.started_by,
        created=span_of(body.created_after, never),
    )
