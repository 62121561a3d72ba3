"""Routes for load balancers and people who wonder what is wrong: healthz and readyz."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from engine import __version__
from engine.core.errors import Unavailable
from engine.edge.http.callers import Caller, is_operator
from engine.edge.http.services import In, Services

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, Any]:
    """Say that the process answers."""
    return {"status": "ok", "version": __version__}


@router.get("/readyz")
async def readyz(request: Request, services: In, response: Response) -> dict[str, Any]:
    """Say whether store and Temporal answer: 200 if both do, else 503; where they are and why only to operators.

    With Temporal down, or no space for the store, the API still answers reads, so this decides about new work only.
    """
    parts = {"store": await _check_store(services), "temporal": await _check_temporal(services)}
    ready = all(part["ok"] for part in parts.values())
    response.status_code = 200 if ready else 503
    caller = getattr(request.state, "caller", None)
    if not isinstance(caller, Caller) or not is_operator(caller):
        parts = {name: {"ok": part["ok"]} for name, part in parts.items()}
    return {"status": "ready" if ready else "not ready", "version": __version__, **parts}


async def _check_store(services: Services) -> dict[str, Any]:
    place = services.database.place
    try:
        async with services.database.read() as connection:
            await connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, Unavailable) as error:
        return {"ok": False, "place": place, "error": str(error)}
    trouble = services.database.trouble
    # this process writes a sign of life every few seconds, so what it knows is not old
    return {"ok": True, "place": place} if trouble is None else {"ok": False, "place": place, "error": trouble.message}


async def _check_temporal(services: Services) -> dict[str, Any]:
    address = services.temporal.address
    try:
        await services.temporal.check()
    except Unavailable as error:
        return {"ok": False, "address": address, "error": error.message, "hint": error.hint}
    return {"ok": True, "address": address}
