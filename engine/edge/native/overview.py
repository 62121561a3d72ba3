"""Route of the overview: what runs, waits and is stuck now, what the last minute and hour brought, and who works."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request

from engine.core.run.story_words import entry
from engine.core.run.times import iso_time
from engine.core.run.usage import nano_to_cost
from engine.edge.http.callers import caller_of, is_operator
from engine.edge.http.paging import refuse_unknown_queries
from engine.edge.http.services import Services, services_of, tenant_of
from engine.store.filters import ExecutionFilter
from engine.store.listing import ExecutionLists
from engine.store.overview import OpenOne, While, is_retrying
from engine.store.pulses import PulseStore

router = APIRouter(tags=["overview"], dependencies=[Depends(refuse_unknown_queries)])


@router.get("/overview")
async def read_overview(
    request: Request,
    services: Annotated[Services, Depends(services_of)],
    tenant: Annotated[str, Depends(tenant_of)],
    limit: Annotated[int, Query(ge=0, le=200, description="open executions to show")] = 20,
) -> dict[str, Any]:
    """Return what goes on: counts, open executions with the last thing that happened, the last minute and hour.

    `processes` are those of the installation; null for callers of other tenants than the operator's.
    """
    lists = ExecutionLists(services.database)
    counts = await lists.count(ExecutionFilter(), tenant=tenant)
    stuck = await lists.count(ExecutionFilter(stuck=True), tenant=tenant)
    shown = await services.overviews.open_ones(tenant=tenant, limit=limit)
    processes = None
    if is_operator(caller_of(request)):
        pulses = await PulseStore(services.database).all()
        processes = [{**pulse.to_json(), "alive": pulse.is_alive} for pulse in pulses]
    return {
        "at": iso_time(time.time_ns() // 1_000),
        "counts": {"total": counts.total, "by_status": counts.by_status},
        "stuck": stuck.total,
        "last_minute": _while_view(await services.overviews.minute(tenant=tenant)),
        "last_hour": _while_view(await services.overviews.hour(tenant=tenant)),
        "open": [_open_view(item) for item in shown],
        "processes": processes,
    }


def _while_view(found: While) -> dict[str, Any]:
    return {"started": found.started, "ended": found.ended, "usage": found.usage.to_json()}


def _open_view(item: OpenOne) -> dict[str, Any]:
    told = None if item.last is None else entry(item.last)
    return {
        "id": item.id,
        "task_name": item.task_name,
        "status": item.status,
        "created_at": iso_time(item.created_us),
        "updated_at": iso_time(item.updated_us),
        "retrying": is_retrying(item.last),
        "stuck": None if item.stuck is None else json.loads(item.stuck),
        "last": None if told is None else {name: told[name] for name in ("at", "seq", "what", "path")},
        "total_tokens": item.total_tokens,
        "cost": nano_to_cost(item.cost_nano),
    }
