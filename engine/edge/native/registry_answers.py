"""Shapes of answers about backends, groups, models and fetches, with an example of each."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import BaseModel, Field

from engine.core.values import Json
from engine.edge.native.answers import MOMENT, Answer, Paged
from engine.settings import BackendKind, Capabilities, OpenAiApi, RoutingPolicy

_Object = dict[str, Any]
_PULL_ID: Final = "9f86d081884c7d659a2feaa0c55ad015"

DeclaredBy = Literal["environment", "file", "store", "bundled"]


class CheckError(Answer):
    """Why a check of a backend failed."""

    code: str
    message: str | None
    at: str


class StateView(Answer):
    """What the last check of a backend found."""

    health: Literal["up", "down", "refused"] = Field(description="`refused`: it answers, but not us (key, address).")
    breaker: Literal["closed", "open"] = Field(description="While it is open, all workers pass the backend over.")
    since: str
    checked_at: str
    latency_ms: float | None
    failures: int = Field(description="Failed checks in a row.")
    missing: list[str] = Field(description="Of the declared models those that it does not have.")
    last_error: CheckError | None = Field(description="Of the last check that failed, also when it is well again.")


class PriceView(Answer):
    """Dollars for a million tokens, as decimal text."""

    input: str
    output: str
    cached_input: str | None = None
    cache_write: str | None = None


class BackendView(Answer):
    """A backend; null in what only operators see."""

    name: str
    source: DeclaredBy = Field(description="Where it is declared; only those of the store can be changed here.")
    kind: BackendKind
    api: OpenAiApi
    models: list[str]
    default_model: str | None
    prices: dict[str, PriceView]
    capabilities: dict[str, Capabilities]
    pull: bool
    warm_first: bool | None
    base_url: str | None
    api_key_env: str | None = Field(description="Name of the workers' variable that holds its key.")
    api_key_secret: str | None = Field(description="Name of the secret that holds its key.")
    max_connections: int | None
    limits: dict[str, int] | None
    state: StateView | None = Field(description="null = it was not looked at yet.")
    rev: int | None
    created_at: str | None
    updated_at: str | None
    actor: str | None


class Backends(Paged):
    """A page of backends."""

    items: list[BackendView]


class BackendStateView(Answer):
    """How a backend is."""

    backend: str
    state: StateView | None


class GroupView(Answer):
    """A group of models."""

    name: str
    source: DeclaredBy
    models: list[str]
    policy: RoutingPolicy | None
    rev: int | None
    created_at: str | None
    updated_at: str | None
    actor: str | None


class Groups(Paged):
    """A page of groups."""

    items: list[GroupView]


class RegistryChange(Answer):
    """What became of an entry of a file."""

    kind: Literal["backend", "group"]
    name: str
    change: Literal["created", "updated", "unchanged", "removed"]


class AppliedRegistry(Answer):
    """What became of all entries of a file."""

    changes: list[RegistryChange]
    dry_run: bool


class ModelView(Answer):
    """A model of a backend."""

    backend: str
    model: str
    declared: bool
    found: bool = Field(description="Whether the backend said that it has it.")
    capabilities: Capabilities = Field(description="What is declared, else what the backend told.")
    price: PriceView | None
    details: dict[str, Json] = Field(description="What else the backend told.")
    found_at: str | None


class ModelList(Paged):
    """A page of models."""

    items: list[ModelView]


class PrunedView(Answer):
    """Models that nobody declared."""

    backend: str
    undeclared: list[str]
    deleted: list[str]
    dry_run: bool


class PullError(Answer):
    """Why an attempt to fetch a model failed."""

    code: str
    message: str


class PullView(Answer):
    """A model that a backend fetches or fetched."""

    id: str
    backend: str
    model: str
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    status: str | None = Field(description="What the server does now, in its words.")
    done_bytes: int = Field(description="Of the part that it fetches now.")
    total_bytes: int | None
    attempts: int = Field(description="How many failed.")
    error: PullError | None
    reason: Literal["asked", "declared"]
    actor: str
    created_at: str
    started_at: str | None
    updated_at: str
    ended_at: str | None


class Pulls(Paged):
    """A page of fetches."""

    items: list[PullView]


_STATE: Final[_Object] = {
    "health": "up",
    "breaker": "closed",
    "since": MOMENT,
    "checked_at": MOMENT,
    "latency_ms": 12.3,
    "failures": 0,
    "missing": [],
    "last_error": None,
}
_RECORD: Final[_Object] = {"rev": 1, "created_at": MOMENT, "updated_at": MOMENT, "actor": "ada"}
_BACKEND: Final[_Object] = {
    "name": "desk",
    "source": "store",
    "kind": "ollama",
    "api": "chat",
    "models": ["qwen3"],
    "default_model": None,
    "prices": {},
    "capabilities": {"qwen3": {"tools": True, "context": 32768}},
    "pull": True,
    "warm_first": None,
    "base_url": "http://127.0.0.1:11434",
    "api_key_env": None,
    "api_key_secret": "desk_key",
    "max_connections": 200,
    "limits": {"calls": 2},
    "state": _STATE,
    **_RECORD,
}
_GROUP: Final[_Object] = {
    "name": "fast",
    "source": "store",
    "models": ["desk/qwen3", "claude/claude-haiku-4-5"],
    "policy": "order",
    **_RECORD,
}
_MODEL: Final[_Object] = {
    "backend": "desk",
    "model": "qwen3",
    "declared": True,
    "found": True,
    "capabilities": {"chat": True, "tools": True, "context": 32768},
    "price": {"input": "0", "output": "0"},
    "details": {"parameter_size": "8.2B", "quantization": "Q4_K_M"},
    "found_at": MOMENT,
}
_PULL: Final[_Object] = {
    "id": _PULL_ID,
    "backend": "desk",
    "model": "qwen3",
    "state": "running",
    "status": "pulling 3291abe70f16",
    "done_bytes": 1_200_000_000,
    "total_bytes": 5_200_000_000,
    "attempts": 0,
    "error": None,
    "reason": "declared",
    "actor": "",
    "created_at": MOMENT,
    "started_at": MOMENT,
    "updated_at": MOMENT,
    "ended_at": None,
}


def _page(item: _Object) -> _Object:
    return {"items": [item], "next_cursor": None}


REGISTRY_EXAMPLES: Final[dict[type[BaseModel], Json]] = {
    BackendView: _BACKEND,
    Backends: _page(_BACKEND),
    BackendStateView: {"backend": "desk", "state": _STATE},
    GroupView: _GROUP,
    Groups: _page(_GROUP),
    AppliedRegistry: {"changes": [{"kind": "backend", "name": "desk", "change": "created"}], "dry_run": False},
    ModelView: _MODEL,
    ModelList: _page(_MODEL),
    PrunedView: {"backend": "desk", "undeclared": ["old:7b"], "deleted": [], "dry_run": True},
    PullView: _PULL,
    Pulls: _page(_PULL),
}
