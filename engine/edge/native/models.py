"""Routes of the models of backends: list, declare, withdraw; fetch, cancel, and delete what nobody declared."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import Field

from engine.control.registry_views import model_view, pull_view
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import FOR_OPERATORS, MAY_ADMIN, actor_of
from engine.edge.http.paging import Cursor, read_cursor, write_cursor
from engine.edge.http.services import In
from engine.edge.native.backends import EntryName, Limit, ModelName, Models
from engine.edge.native.shapes import Body
from engine.settings import Capabilities, Price

router = APIRouter(tags=["models"])

OneModel = Annotated[str, Path(min_length=1, max_length=255)]
OfBackend = Annotated[str, Query(max_length=64, description="only those of a backend")]


class ModelBody(Body):
    """What is declared of a model; what is left out stays, null takes it away.

    Attributes:
        price: Dollars for a million tokens.
        capabilities: What it can do; it wins over what the backend tells.
    """

    price: Price | None = None
    capabilities: Capabilities | None = None


class PullBody(Body):
    """A model that a backend is to fetch.

    Attributes:
        backend: An Ollama server.
        model: The model, with or without a tag.
    """

    backend: EntryName
    model: ModelName


class PruneBody(Body):
    """Which models are deleted.

    Attributes:
        models: Of those that nobody declared only these; empty = all of them.
        dry_run: Whether to say only which they are.
    """

    models: Models = Field(default_factory=list)
    dry_run: bool = True


@router.get("/models")
async def list_models(
    request: Request,
    services: In,
    limit: Limit = 100,
    cursor: Cursor = None,
    backend: OfBackend = "",
    declared: Annotated[bool | None, Query(description="only those that are declared, or that are not")] = None,
) -> dict[str, Any]:
    """List models by backend and name: those that are declared, and those that backends say they have."""
    place = read_cursor(request, cursor, kinds=(str, str))
    sights = sorted(await services.models.sights(backend), key=lambda item: (item.backend.name, item.model))
    found = [
        item
        for item in sights
        if (declared is None or item.declared == declared)
        and (place is None or (item.backend.name, item.model) > (str(place[0]), str(place[1])))
    ]
    shown = found[:limit]
    ended = (shown[-1].backend.name, shown[-1].model) if len(found) > limit else None
    return {"items": [model_view(item) for item in shown], "next_cursor": write_cursor(request, ended)}


@router.get("/backends/{backend}/models/{model:path}")
async def get_model(backend: str, model: OneModel, services: In) -> dict[str, Any]:
    """Return a model of a backend."""
    return model_view(await services.models.sight(backend, model))


@router.put("/backends/{backend}/models/{model:path}", dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def declare_model(backend: str, model: OneModel, request: Request, services: In) -> dict[str, Any]:
    """Declare a model at a backend, or change what is declared of it; `pull` of the backend fetches it."""
    body = await read_model(request, ModelBody)
    said = body.model_dump(mode="json", exclude_unset=True, exclude_none=False)
    return model_view(await services.models.declare(backend, model, said, actor=actor_of(request)))


@router.delete("/backends/{backend}/models/{model:path}", status_code=204, dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def withdraw_model(backend: str, model: OneModel, request: Request, services: In) -> Response:
    """Declare a model no more. The backend keeps it: only `prune` deletes models."""
    await services.models.withdraw(backend, model, actor=actor_of(request))
    return Response(status_code=204)


@router.post("/backends/{backend}/prune", dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def prune_models(backend: str, request: Request, services: In) -> dict[str, Any]:
    """Say which models an Ollama server has that nobody declared; with `dry_run: false`, delete them."""
    body = await read_model(request, PruneBody)
    done = await services.models.prune(backend, models=body.models, dry_run=body.dry_run)
    return {"backend": backend, "undeclared": done.undeclared, "deleted": done.deleted, "dry_run": body.dry_run}


# --- fetches ---------------------------------------------------------------------------------------------------------


@router.get("/pulls", dependencies=[FOR_OPERATORS])
async def list_pulls(
    request: Request,
    services: In,
    limit: Limit = 100,
    cursor: Cursor = None,
    state: Annotated[Literal["queued", "running", "done", "failed", "cancelled"] | None, Query()] = None,
    backend: OfBackend = "",
) -> dict[str, Any]:
    """List the models that backends fetch or fetched, the latest first."""
    place = read_cursor(request, cursor, kinds=(int, str))
    found = await services.models.pulls.page(
        limit=limit + 1,
        after=None if place is None else (int(place[0]), str(place[1])),
        state=state or "",
        backend=backend,
    )
    shown = found[:limit]
    ended = (shown[-1].created_us, shown[-1].id) if len(found) > limit else None
    return {"items": [pull_view(item) for item in shown], "next_cursor": write_cursor(request, ended)}


@router.post("/pulls", status_code=202, dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def pull_model(request: Request, services: In) -> dict[str, Any]:
    """Let a backend fetch a model; each backend fetches one at a time."""
    body = await read_model(request, PullBody)
    return pull_view(await services.models.pull(body.backend, body.model, actor=actor_of(request)))


@router.get("/pulls/{pull}", dependencies=[FOR_OPERATORS])
async def get_pull(pull: str, services: In) -> dict[str, Any]:
    """Return how far a fetch is."""
    return pull_view(await services.models.find_pull(pull))


@router.post("/pulls/{pull}/cancel", dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def cancel_pull(pull: str, services: In) -> dict[str, Any]:
    """Cancel a fetch: one that waits at once, one under way within two seconds. What is there already stays."""
    return pull_view(await services.models.cancel_pull(pull))
