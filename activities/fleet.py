"""The backends of a worker while they change: calls under way end with the adapters that they began with."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

from activities.backends.base import Backend
from activities.routing import Router
from engine.settings import BackendConfig, Group, RoutingPolicy

MakeBackend = Callable[[str, BackendConfig], Backend]
_CONNECTION = {"kind", "api", "base_url", "api_key_env", "api_key_secret", "max_connections"}
"""What makes another adapter of it; all else an adapter can be told while it works."""


class Fleet:
    """A worker's adapters and the router over them.

    Args:
        backends: In the operator's order.
        policy: What puts the backends that have a model in order.
        groups: Names for several models.
    """

    def __init__(
        self, backends: Sequence[Backend], policy: RoutingPolicy = "order", groups: Mapping[str, Group] | None = None
    ) -> None:
        self.backends = tuple(backends)
        self.router = Router(backends, policy, groups)
        self._number = 0
        self._leases: Counter[int] = Counter()
        self._retired: list[tuple[int, list[Backend]]] = []
        self._closing: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def lease(self) -> Iterator[None]:
        """Keep all adapters that a call may find, from now on and as long as the block runs."""
        number = self._number
        self._leases[number] += 1
        try:
            yield
        finally:
            self._leases[number] -= 1
            if not self._leases[number]:
                del self._leases[number]
            if self._retired:
                self._close_unused()

    def change(
        self,
        configs: Mapping[str, BackendConfig],
        make: MakeBackend,
        *,
        policy: RoutingPolicy = "order",
        groups: Mapping[str, Group] | None = None,
    ) -> None:
        """Use other backends from now on.

        An adapter whose connection is the same stays, with all that is known of its backend.

        Args:
            configs: In the operator's order.
            make: Makes an adapter.
            policy: What puts the backends that have a model in order.
            groups: Names for several models.
        """
        known = {backend.name: backend for backend in self.backends}
        made: list[Backend] = []
        for name, config in configs.items():
            backend = known.get(name)
            if backend is not None and _connection(backend.config) == _connection(config):
                backend.config = config
            else:
                backend = make(name, config)
            made.append(backend)
        router = Router(made, policy, groups)
        router.take_over(self.router)
        gone = [backend for backend in self.backends if not any(backend is other for other in made)]
        self.backends, self.router = tuple(made), router
        if gone:
            self._retired.append((self._number, gone))
        self._number += 1
        self._close_unused()

    def _close_unused(self) -> None:
        oldest = min(self._leases, default=self._number)
        # whoever began before they were taken away may still come upon them
        unused = [backend for number, gone in self._retired if number < oldest for backend in gone]
        self._retired = [item for item in self._retired if item[0] >= oldest]
        for backend in unused:
            closing = asyncio.create_task(backend.aclose(), name=f"close-{backend.name}")
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all connections."""
        await asyncio.gather(*self._closing, return_exceptions=True)
        for backend in (*self.backends, *(backend for _, gone in self._retired for backend in gone)):
            await backend.aclose()


def _connection(config: BackendConfig) -> dict[str, object]:
    return config.model_dump(include=_CONNECTION)
