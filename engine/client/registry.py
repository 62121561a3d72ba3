"""What the clients can do with the registry of models: backends, groups, models, and fetches of these."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, TypeVar, Unpack

from engine.client.door_requests import View, check_parts, delete, get_one, get_page, patch, post, put
from engine.client.requests import Request, given, segment
from engine.client.views import Page

T = TypeVar("T")
LONG_S = 35.0
"""A worker must come by for a check."""


class BackendParts(TypedDict, total=False):
    """What is said of a backend, as in everstep.toml; None puts a member back to what it is without being said."""

    kind: str | None
    api: str | None
    base_url: str | None
    api_key_env: str | None
    api_key_secret: str | None
    models: Sequence[str] | None
    pull: bool | None
    default_model: str | None
    max_connections: int | None
    limits: Mapping[str, int] | None
    prices: Mapping[str, Mapping[str, Any]] | None
    capabilities: Mapping[str, Mapping[str, Any]] | None
    warm_first: bool | None


def _backend(name: str, verb: str = "") -> str:
    return f"/backends/{segment(name)}" + (f"/{verb}" if verb else "")


def _model(backend: str, model: str) -> str:
    return _backend(backend, f"models/{segment(model)}")


def _group(name: str) -> str:
    return f"/groups/{segment(name)}"


def _said(parts: BackendParts) -> dict[str, Any]:
    check_parts(BackendParts, parts)
    return dict(parts)


def _whole(
    backends: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Mapping[str, Any]] | None,
    prune: bool,
    dry_run: bool,
) -> dict[str, Any]:
    tables = {name: dict(parts) for name, parts in backends.items()}
    members = {name: dict(parts) for name, parts in (groups or {}).items()}
    return {"backends": tables, "groups": members, "prune": prune, "dry_run": dry_run}


def _flag(value: bool | None) -> str | None:
    return None if value is None else str(value).lower()


class Registry(ABC):
    """Backends, groups, models and fetches; a part of `Client`."""

    @abstractmethod
    def _send(self, request: Request[T]) -> T:
        """Send a request and read its answer."""

    def create_backend(self, name: str, *, key: str | None = None, **parts: Unpack[BackendParts]) -> View:
        """Declare a backend; workers use it within five seconds.

        Args:
            name: What tasks and groups call it.
            key: Idempotency key; None = a new one.
            parts: What is said of it: `kind`, `base_url`, `models`, `api_key_secret`, …; never the key itself.

        Raises:
            InvalidInput: `backend.invalid`.
            Conflict: `backend.exists`, `backend.of_file`.
        """
        return self._send(post("/backends", {"name": name, **_said(parts)}, key))

    def backends(
        self, *, kind: str | None = None, source: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """Return one page of the backends by name, with how they are."""
        return self._send(get_page("/backends", limit, cursor, kind=kind, source=source))

    def backend(self, name: str) -> View:
        """Return a backend, with how it is.

        Raises:
            NotFound: `backend.not_found`.
        """
        return self._send(get_one(_backend(name)))

    def update_backend(self, name: str, **parts: Unpack[BackendParts]) -> View:
        """Change a backend; calls under way end as they began.

        Raises:
            Conflict: `backend.of_file`, `registry.moved`.
        """
        return self._send(patch(_backend(name), _said(parts)))

    def delete_backend(self, name: str) -> None:
        """Remove a backend; its server is not touched."""
        self._send(delete(_backend(name)))

    def check_backend(self, name: str) -> View:
        """Let a worker look at a backend now, and return what it finds.

        Raises:
            Unavailable: `backend.no_worker`.
        """
        return self._send(post(_backend(name, "check"), {}, timeout_s=LONG_S))

    def apply_registry(
        self,
        backends: Mapping[str, Mapping[str, Any]],
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        prune: bool = False,
        dry_run: bool = False,
        key: str | None = None,
    ) -> View:
        """Make what the store declares this: all of it, or nothing if something is wrong.

        Args:
            backends: By name, as in everstep.toml.
            groups: The same of groups.
            prune: Whether what the store has beyond that is removed.
            dry_run: Whether to say only what would happen.
            key: Idempotency key; None = a new one.
        """
        return self._send(post("/backends/apply", _whole(backends, groups, prune, dry_run), key))

    def models(
        self, backend: str | None = None, *, declared: bool | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """Return one page of the models that are declared, or that backends say they have."""
        return self._send(get_page("/models", limit, cursor, backend=backend, declared=_flag(declared)))

    def declare_model(self, backend: str, model: str, **said: Any) -> View:
        """Declare a model at a backend, or change what is declared of it.

        Args:
            backend: The backend.
            model: The model.
            said: `price={"input": …, "output": …}`, `capabilities={"context": …}`; None takes one away.
        """
        return self._send(put(_model(backend, model), said))

    def withdraw_model(self, backend: str, model: str) -> None:
        """Declare a model no more; the backend keeps it."""
        self._send(delete(_model(backend, model)))

    def prune_models(self, backend: str, models: Sequence[str] = (), *, dry_run: bool = True) -> View:
        """Say which models an Ollama server has that nobody declared; with `dry_run=False`, delete them."""
        return self._send(
            post(_backend(backend, "prune"), {"models": list(models), "dry_run": dry_run}, timeout_s=LONG_S)
        )

    def create_group(
        self, name: str, models: Sequence[str], *, policy: str | None = None, key: str | None = None
    ) -> View:
        """Declare a group: several models and backends under one name."""
        return self._send(post("/groups", {"name": name, **given(models=list(models), policy=policy)}, key))

    def groups(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """Return one page of the groups by name."""
        return self._send(get_page("/groups", limit, cursor))

    def group(self, name: str) -> View:
        """Return a group."""
        return self._send(get_one(_group(name)))

    def update_group(self, name: str, *, models: Sequence[str] | None = None, policy: str | None = None) -> View:
        """Change the members or the policy of a group."""
        return self._send(patch(_group(name), given(models=None if models is None else list(models), policy=policy)))

    def delete_group(self, name: str) -> None:
        """Remove a group; what it names stays."""
        self._send(delete(_group(name)))

    def pull_model(self, backend: str, model: str, *, key: str | None = None) -> View:
        """Let an Ollama server fetch a model; it stands in the queue of its backend.

        Raises:
            Conflict: `backend.not_pulling`.
        """
        return self._send(post("/pulls", {"backend": backend, "model": model}, key))

    def pulls(
        self,
        *,
        state: str | None = None,
        backend: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[View]:
        """Return one page of the models that are fetched or were, the latest first."""
        return self._send(get_page("/pulls", limit, cursor, state=state, backend=backend))

    def pull(self, pull_id: str) -> View:
        """Return how far a fetch is."""
        return self._send(get_one(f"/pulls/{segment(pull_id)}"))

    def cancel_pull(self, pull_id: str) -> View:
        """Cancel a fetch.

        Raises:
            Conflict: `pull.ended`.
        """
        return self._send(post(f"/pulls/{segment(pull_id)}/cancel", {}))


class AsyncRegistry(ABC):
    """The same for asyncio; a part of `AsyncClient`."""

    @abstractmethod
    async def _send(self, request: Request[T]) -> T:
        """Send a request and read its answer."""

    async def create_backend(self, name: str, *, key: str | None = None, **parts: Unpack[BackendParts]) -> View:
        """See `Client.create_backend`."""
        return await self._send(post("/backends", {"name": name, **_said(parts)}, key))

    async def backends(
        self, *, kind: str | None = None, source: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """See `Client.backends`."""
        return await self._send(get_page("/backends", limit, cursor, kind=kind, source=source))

    async def backend(self, name: str) -> View:
        """See `Client.backend`."""
        return await self._send(get_one(_backend(name)))

    async def update_backend(self, name: str, **parts: Unpack[BackendParts]) -> View:
        """See `Client.update_backend`."""
        return await self._send(patch(_backend(name), _said(parts)))

    async def delete_backend(self, name: str) -> None:
        """See `Client.delete_backend`."""
        await self._send(delete(_backend(name)))

    async def check_backend(self, name: str) -> View:
        """See `Client.check_backend`."""
        return await self._send(post(_backend(name, "check"), {}, timeout_s=LONG_S))

    async def apply_registry(
        self,
        backends: Mapping[str, Mapping[str, Any]],
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        prune: bool = False,
        dry_run: bool = False,
        key: str | None = None,
    ) -> View:
        """See `Client.apply_registry`."""
        return await self._send(post("/backends/apply", _whole(backends, groups, prune, dry_run), key))

    async def models(
        self, backend: str | None = None, *, declared: bool | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """See `Client.models`."""
        return await self._send(get_page("/models", limit, cursor, backend=backend, declared=_flag(declared)))

    async def declare_model(self, backend: str, model: str, **said: Any) -> View:
        """See `Client.declare_model`."""
        return await self._send(put(_model(backend, model), said))

    async def withdraw_model(self, backend: str, model: str) -> None:
        """See `Client.withdraw_model`."""
        await self._send(delete(_model(backend, model)))

    async def prune_models(self, backend: str, models: Sequence[str] = (), *, dry_run: bool = True) -> View:
        """See `Client.prune_models`."""
        return await self._send(
            post(_backend(backend, "prune"), {"models": list(models), "dry_run": dry_run}, timeout_s=LONG_S)
        )

    async def create_group(
        self, name: str, models: Sequence[str], *, policy: str | None = None, key: str | None = None
    ) -> View:
        """See `Client.create_group`."""
        return await self._send(post("/groups", {"name": name, **given(models=list(models), policy=policy)}, key))

    async def groups(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.groups`."""
        return await self._send(get_page("/groups", limit, cursor))

    async def group(self, name: str) -> View:
        """See `Client.group`."""
        return await self._send(get_one(_group(name)))

    async def update_group(self, name: str, *, models: Sequence[str] | None = None, policy: str | None = None) -> View:
        """See `Client.update_group`."""
        return await self._send(
            patch(_group(name), given(models=None if models is None else list(models), policy=policy))
        )

    async def delete_group(self, name: str) -> None:
        """See `Client.delete_group`."""
        await self._send(delete(_group(name)))

    async def pull_model(self, backend: str, model: str, *, key: str | None = None) -> View:
        """See `Client.pull_model`."""
        return await self._send(post("/pulls", {"backend": backend, "model": model}, key))

    async def pulls(
        self,
        *,
        state: str | None = None,
        backend: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[View]:
        """See `Client.pulls`."""
        return await self._send(get_page("/pulls", limit, cursor, state=state, backend=backend))

    async def pull(self, pull_id: str) -> View:
        """See `Client.pull`."""
        return await self._send(get_one(f"/pulls/{segment(pull_id)}"))

    async def cancel_pull(self, pull_id: str) -> View:
        """See `Client.cancel_pull`."""
        return await self._send(post(f"/pulls/{segment(pull_id)}/cancel", {}))
