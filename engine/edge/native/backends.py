"""Routes of backends and groups: list, show, declare, change, remove, check, and make them those of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from engine.control.declaring import KEY_HINT, holds_key
from engine.control.registry_views import backend_view, group_view, state_view
from engine.core.errors import InvalidInput
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import FOR_OPERATORS, MAY_ADMIN, actor_of, caller_of, is_operator
from engine.edge.http.paging import Cursor, read_cursor, write_cursor
from engine.edge.http.services import In
from engine.edge.native.shapes import Body
from engine.settings import BackendKind, BackendLimits, Capabilities, OpenAiApi, Price, RoutingPolicy

router = APIRouter(tags=["backends"])

Limit = Annotated[int, Query(ge=1, le=999)]
EntryName = Annotated[str, Field(min_length=1, max_length=64)]
ModelName = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
Models = Annotated[list[ModelName], Field(max_length=1_000)]
OfKind = Annotated[BackendKind | None, Query(description="only those of a kind")]
OfSource = Annotated[
    Literal["environment", "file", "store", "bundled"] | None, Query(description="only those declared there")
]


class BackendParts(Body):
    """What is said of a backend; the same as in a table of everstep.toml.

    Attributes:
        kind: What it speaks.
        api: Which of OpenAI's two ways: `chat` or `responses`.
        base_url: Its address; left out = that of the provider that `kind` names.
        api_key_env: Variable of the workers that holds its key.
        api_key_secret: Secret of the operator's tenant that holds it, instead.
        models: Models that it serves; left out = any name is passed on.
        pull: Whether an Ollama server fetches those of them that it lacks.
        default_model: Model of prompts that name none.
        max_connections: Most calls of a worker at one time.
        limits: What all workers together may ask it.
        prices: Dollars for a million tokens, by model, `*` for all others.
        capabilities: What its models can do, by model, `*` for all others.
        warm_first: Whether of calls that begin with the same long text one goes ahead.
    """

    kind: BackendKind | None = None
    api: OpenAiApi | None = None
    base_url: str | None = Field(default=None, max_length=2_000)
    api_key_env: str | None = Field(default=None, max_length=200)
    api_key_secret: str | None = Field(default=None, max_length=128)
    models: Models | None = None
    pull: bool | None = None
    default_model: str | None = Field(default=None, max_length=255)
    max_connections: int | None = Field(default=None, ge=1, le=100_000)
    limits: BackendLimits | None = None
    prices: dict[ModelName, Price] | None = None
    capabilities: dict[ModelName, Capabilities] | None = None
    warm_first: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def refuse_keys(cls, given: Any) -> Any:
        """Refuse a key, without showing it."""
        if isinstance(given, dict):
            for member in given:
                if holds_key(str(member)):
                    text = "there is no member '{name}' here, since keys are not kept with backends; {hint}"
                    raise PydanticCustomError("key_in_body", text, {"name": str(member), "hint": KEY_HINT})
        return given

    def said(self) -> dict[str, Any]:
        """Return what is said, with None for what is taken back."""
        return self.model_dump(mode="json", exclude_unset=True, exclude={"name"})


class BackendBody(BackendParts):
    """A new backend.

    Attributes:
        name: What tasks and groups call it.
    """

    name: EntryName


class BackendChange(BackendParts):
    """What changes of a backend; what is left out stays, null puts a member back."""


class GroupBody(Body):
    """A new group.

    Attributes:
        name: What tasks call it, as if it were a model.
        models: `BACKEND/MODEL`, or `MODEL` at every backend that names it, in order of preference.
        policy: What puts them in order; left out = that of `[routing]`.
    """

    name: EntryName
    models: Annotated[Models, Field(min_length=1)]
    policy: RoutingPolicy | None = None


class GroupChange(Body):
    """What changes of a group; what is left out stays, a policy of null is that of `[routing]`.

    Attributes:
        models: Its members.
        policy: What puts them in order.
    """

    models: Annotated[Models, Field(min_length=1)] | None = None
    policy: RoutingPolicy | None = None


class RegistryBody(Body):
    """What a file declares, as tables of everstep.toml do.

    Attributes:
        backends: By name.
        groups: By name.
        prune: Whether what the store has beyond that is removed.
        dry_run: Whether to say only what would happen.
    """

    backends: dict[EntryName, BackendParts] = Field(default_factory=dict)
    groups: dict[EntryName, GroupChange] = Field(default_factory=dict)
    prune: bool = False
    dry_run: bool = False


def page_of(request: Request, cursor: str | None, names: list[str], limit: int) -> tuple[list[str], str | None]:
    """Return the names of one page of a list that is ordered by them, and where the next one begins."""
    place = read_cursor(request, cursor, kinds=(str,))
    ordered = sorted(name for name in names if place is None or name > str(place[0]))
    shown = ordered[:limit]
    return shown, write_cursor(request, (shown[-1],) if len(ordered) > limit else None)


def sees_all(request: Request) -> bool:
    """Whether the caller may know where backends are, and where their keys are kept."""
    return is_operator(caller_of(request))


# --- backends --------------------------------------------------------------------------------------------------------


@router.get("/backends")
async def list_backends(
    request: Request,
    services: In,
    limit: Limit = 100,
    cursor: Cursor = None,
    kind: OfKind = None,
    source: OfSource = None,
) -> dict[str, Any]:
    """List backends by name, with how they are. Where they are and where their keys are kept only operators see."""
    known = await services.models.backends()
    names = [
        item.name
        for item in known.values()
        if (kind is None or item.config.kind == kind) and (source is None or item.source == source)
    ]
    shown, after = page_of(request, cursor, names, limit)
    states = await services.models.states.all()
    whole = sees_all(request)
    items = [backend_view(known[name], states.get(name), whole=whole) for name in shown]
    return {"items": items, "next_cursor": after}


@router.post("/backends", status_code=201, dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def create_backend(request: Request, services: In) -> dict[str, Any]:
    """Declare a backend. Workers use it within five seconds."""
    body = await read_model(request, BackendBody)
    made = await services.models.registry.add_backend(body.name, body.said(), actor=actor_of(request))
    return backend_view(made, None, whole=True)


@router.post("/backends/apply", dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def apply_registry(request: Request, services: In) -> dict[str, Any]:
    """Make what the store declares that of a file: all of it, or nothing if something is wrong."""
    body = await read_model(request, RegistryBody)
    changes = await services.models.registry.apply(
        {name: parts.said() for name, parts in body.backends.items()},
        {name: parts.model_dump(mode="json", exclude_unset=True) for name, parts in body.groups.items()},
        prune=body.prune,
        dry_run=body.dry_run,
        actor=actor_of(request),
    )
    return {"changes": changes, "dry_run": body.dry_run}


@router.get("/backends/{backend}")
async def get_backend(backend: str, request: Request, services: In) -> dict[str, Any]:
    """Return a backend, with how it is."""
    item = await services.models.backend(backend)
    return backend_view(item, await services.models.state(backend), whole=sees_all(request))


@router.patch("/backends/{backend}", dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def change_backend(backend: str, request: Request, services: In) -> dict[str, Any]:
    """Change members of a backend. Calls under way end as they began."""
    body = await read_model(request, BackendChange)
    item = await services.models.registry.change_backend(backend, body.said(), actor=actor_of(request))
    return backend_view(item, await services.models.state(backend), whole=True)


@router.delete("/backends/{backend}", status_code=204, dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def delete_backend(backend: str, request: Request, services: In) -> Response:
    """Remove a backend; its server is not touched, and calls under way end as they began."""
    await services.models.registry.remove("backend", backend, actor=actor_of(request))
    return Response(status_code=204)


@router.get("/backends/{backend}/state")
async def get_state(backend: str, request: Request, services: In) -> dict[str, Any]:
    """Return what the last check of a backend found."""
    await services.models.backend(backend)
    state = await services.models.state(backend)
    return {"backend": backend, "state": state_view(state, whole=sees_all(request))}


@router.post("/backends/{backend}/check", dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def check_backend(backend: str, request: Request, services: In) -> dict[str, Any]:
    """Let a worker look at a backend now, and return what it finds."""
    await services.models.check(backend)
    return await get_state(backend, request, services)


# --- groups ----------------------------------------------------------------------------------------------------------


@router.get("/groups")
async def list_groups(
    request: Request, services: In, limit: Limit = 100, cursor: Cursor = None, source: OfSource = None
) -> dict[str, Any]:
    """List groups by name."""
    known = (await services.models.registry.registry()).groups
    names = [item.name for item in known.values() if source is None or item.source == source]
    shown, after = page_of(request, cursor, names, limit)
    return {"items": [group_view(known[name], whole=sees_all(request)) for name in shown], "next_cursor": after}


@router.post("/groups", status_code=201, dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def create_group(request: Request, services: In) -> dict[str, Any]:
    """Declare a group: several models and backends under one name."""
    body = await read_model(request, GroupBody)
    said: Mapping[str, Any] = body.model_dump(mode="json", exclude_unset=True, exclude={"name"})
    return group_view(await services.models.registry.add_group(body.name, said, actor=actor_of(request)), whole=True)


@router.get("/groups/{group}")
async def get_group(group: str, request: Request, services: In) -> dict[str, Any]:
    """Return a group."""
    return group_view(await services.models.registry.group(group), whole=sees_all(request))


@router.patch("/groups/{group}", dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def change_group(group: str, request: Request, services: In) -> dict[str, Any]:
    """Change the members or the policy of a group."""
    body = await read_model(request, GroupChange)
    said = body.model_dump(mode="json", exclude_unset=True)
    if "models" in said and said["models"] is None:
        raise InvalidInput("a group has members", code="group.invalid", hint="remove it instead, or leave models out")
    return group_view(await services.models.registry.change_group(group, said, actor=actor_of(request)), whole=True)


@router.delete("/groups/{group}", status_code=204, dependencies=[MAY_ADMIN, FOR_OPERATORS])
async def delete_group(group: str, request: Request, services: In) -> Response:
    """Remove a group; the backends and models that it names stay."""
    await services.models.registry.remove("group", group, actor=actor_of(request))
    return Response(status_code=204)
