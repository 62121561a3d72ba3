"""Lets a worker use the backends of the registry as they are now: a change counts within a few seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.service import RPCError

from activities.backends.base import ReadSecret
from engine.control.registry import RegistryService, open_registry
from engine.control.secrets import SecretReader
from engine.core.errors import EngineError, InvalidInput, Unavailable
from engine.core.ids import DEFAULT_TENANT
from engine.settings import Project, Settings
from engine.store.backend_states import BackendState, BackendStateStore
from engine.store.database import Database
from engine.store.registry import Marks

LOOK_S = 1.0
STALE_CHECKS = 4
"""So many checks without a word, and what the last one found counts no more."""

log = structlog.get_logger("everstep.registry")

Use = Callable[[Project, Mapping[str, str]], None]


async def _nobody() -> None:
    """Tell nobody."""


class RegistryFollower:
    """Looks for changes of the registry.

    Args:
        registry: Backends and groups.
        states: What checks found.
        use: Told what to use: the project with all backends, and by name why backends do not answer.
        check_s: Seconds between two checks of backends.
        changed: Told that what is declared has changed.
        now_us: Unix microseconds.
    """

    def __init__(
        self,
        registry: RegistryService,
        states: BackendStateStore,
        use: Use,
        *,
        check_s: float = 30.0,
        changed: Callable[[], Awaitable[None]] = _nobody,
        now_us: Callable[[], int] = lambda: time.time_ns() // 1_000,
    ) -> None:
        self._registry = registry
        self._states = states
        self._use = use
        self._check_s = check_s
        self._changed = changed
        self._now_us = now_us
        self._marks: Marks | None = None
        self._known: dict[str, BackendState] = {}
        self._down: dict[str, str] = {}

    async def look(self) -> None:
        """Use what is declared and known now, if that has changed."""
        marks = await self._registry.marks()
        before = self._marks
        if marks != before:
            self._known = await self._states.all()
        down = self._those_down()
        if marks == before and down == self._down:
            return
        registry = await self._registry.registry()
        self._use(registry.merged(await self._states.models()), down)
        self._marks, self._down = marks, down
        if before is not None and before.config != marks.config:
            log.info("backends or groups have changed", backends=list(registry.backends))
            await self._changed()

    def _those_down(self) -> dict[str, str]:
        oldest = self._now_us() - STALE_CHECKS * self._check_s * 1e6
        return {
            name: f"does not answer ({state.error_code})"
            for name, state in self._known.items()
            if state.state == "down" and state.checked_us > oldest
        }

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.look()
            except (SQLAlchemyError, Unavailable, InvalidInput) as error:
                # calls go on with what is known
                log.warning("the registry cannot be read", why=_said(error))
            except Exception as error:
                log.error("the registry cannot be followed", exc_info=error)


def _said(error: Exception) -> str:
    return error.message if isinstance(error, EngineError) else type(error).__name__


def follow_registry(
    settings: Settings, client: Client, database: Database, project: Project, use: Use
) -> RegistryFollower:
    """Return what follows the registry for a worker, and has backends looked at when what is declared changes.

    Args:
        settings: Settings of the process.
        client: A connected client.
        database: The open store.
        project: The operator's project.
        use: Told what to use, as `RegistryFollower` says.
    """
    from engine.control.reconciling import check_now

    async def look_at_backends() -> None:
        try:
            await check_now(client, settings.task_queue)
        except RPCError as error:
            # the schedule comes by itself
            log.warning("backends are looked at later", why=error.message)

    registry, states = open_registry(database, project)
    return RegistryFollower(registry, states, use, check_s=settings.reconcile_s, changed=look_at_backends)


def secrets_of(settings: Settings, database: Database) -> ReadSecret:
    """Return what reads secrets of the operator's tenant."""
    reader = SecretReader.of(settings, database)

    async def read(name: str) -> SecretStr:
        return await reader.read(DEFAULT_TENANT, name)

    return read
