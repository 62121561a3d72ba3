"""What all clients can do with the registry of models, as types: a part of `EverstepClient` and its like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Unpack

from engine.client.door_requests import View
from engine.client.registry import BackendParts
from engine.client.views import Page


class RegistryProtocol(Protocol):
    """Backends, groups, models and fetches."""

    def create_backend(self, name: str, *, key: str | None = None, **parts: Unpack[BackendParts]) -> View:
        """See `Client.create_backend`."""
        ...

    def backends(
        self, *, kind: str | None = None, source: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """See `Client.backends`."""
        ...

    def backend(self, name: str) -> View:
        """See `Client.backend`."""
        ...

    def update_backend(self, name: str, **parts: Unpack[BackendParts]) -> View:
        """See `Client.update_backend`."""
        ...

    def delete_backend(self, name: str) -> None:
        """See `Client.delete_backend`."""
        ...

    def check_backend(self, name: str) -> View:
        """See `Client.check_backend`."""
        ...

    def apply_registry(
        self,
        backends: Mapping[str, Mapping[str, Any]],
        groups: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        prune: bool = False,
        dry_run: bool = False,
        key: str | None = None,
    ) -> View:
        """See `Client.apply_registry`."""
        ...

    def models(
        self, backend: str | None = None, *, declared: bool | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """See `Client.models`."""
        ...

    def declare_model(self, backend: str, model: str, **said: Any) -> View:
        """See `Client.declare_model`."""
        ...

    def withdraw_model(self, backend: str, model: str) -> None:
        """See `Client.withdraw_model`."""
        ...

    def prune_models(self, backend: str, models: Sequence[str] = (), *, dry_run: bool = True) -> View:
        """See `Client.prune_models`."""
        ...

    def create_group(
        self, name: str, models: Sequence[str], *, policy: str | None = None, key: str | None = None
    ) -> View:
        """See `Client.create_group`."""
        ...

    def groups(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.groups`."""
        ...

    def group(self, name: str) -> View:
        """See `Client.group`."""
        ...

    def update_group(self, name: str, *, models: Sequence[str] | None = None, policy: str | None = None) -> View:
        """See `Client.update_group`."""
        ...

    def delete_group(self, name: str) -> None:
        """See `Client.delete_group`."""
        ...

    def pull_model(self, backend: str, model: str, *, key: str | None = None) -> View:
        """See `Client.pull_model`."""
        ...

    def pulls(
        self,
        *,
        state: str | None = None,
        backend: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[View]:
        """See `Client.pulls`."""
        ...

    def pull(self, pull_id: str) -> View:
        """See `Client.pull`."""
        ...

    def cancel_pull(self, pull_id: str) -> View:
        """See `Client.cancel_pull`."""
        ...


class AsyncRegistryProtocol(Protocol):
    """The same for asyncio."""

    async def create_backend(self, name: str, *, key: str | None = None, **parts: Unpack[BackendParts]) -> View:
        """See `Client.create_backend`."""
        ...

    async def backends(
        self, *, kind: str | None = None, source: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """See `Client.backends`."""
        ...

    async def backend(self, name: str) -> View:
        """See `Client.backend`."""
        ...

    async def update_backend(self, name: str, **parts: Unpack[BackendParts]) -> View:
        """See `Client.update_backend`."""
        ...

    async def delete_backend(self, name: str) -> None:
        """See `Client.delete_backend`."""
        ...

    async def check_backend(self, name: str) -> View:
        """See `Client.check_backend`."""
        ...

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
        ...

    async def models(
        self, backend: str | None = None, *, declared: bool | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """See `Client.models`."""
        ...

    async def declare_model(self, backend: str, model: str, **said: Any) -> View:
        """See `Client.declare_model`."""
        ...

    async def withdraw_model(self, backend: str, model: str) -> None:
        """See `Client.withdraw_model`."""
        ...

    async def prune_models(self, backend: str, models: Sequence[str] = (), *, dry_run: bool = True) -> View:
        """See `Client.prune_models`."""
        ...

    async def create_group(
        self, name: str, models: Sequence[str], *, policy: str | None = None, key: str | None = None
    ) -> View:
        """See `Client.create_group`."""
        ...

    async def groups(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.groups`."""
        ...

    async def group(self, name: str) -> View:
        """See `Client.group`."""
        ...

    async def update_group(self, name: str, *, models: Sequence[str] | None = None, policy: str | None = None) -> View:
        """See `Client.update_group`."""
        ...

    async def delete_group(self, name: str) -> None:
        """See `Client.delete_group`."""
        ...

    async def pull_model(self, backend: str, model: str, *, key: str | None = None) -> View:
        """See `Client.pull_model`."""
        ...

    async def pulls(
        self,
        *,
        state: str | None = None,
        backend: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[View]:
        """See `Client.pulls`."""
        ...

    async def pull(self, pull_id: str) -> View:
        """See `Client.pull`."""
        ...

    async def cancel_pull(self, pull_id: str) -> View:
        """See `Client.cancel_pull`."""
        ...
