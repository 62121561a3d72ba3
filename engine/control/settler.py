"""Settles executions that seem to have ended, beside the live path and without holding it up."""

from __future__ import annotations

import asyncio

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from engine.control.settling import settle_from_temporal
from engine.core.errors import NotFound
from engine.store.projection import ProjectionStore

AT_ONCE = 8
TRIES = 5
PAUSE_S = 0.1
"""An event may be in the store a moment before the workflow task that it belongs to is in the history."""

log = structlog.get_logger(__name__)


class Settler:
    """Reads from Temporal how executions ended and writes it into the store.

    What it cannot settle (Temporal is away, the execution goes on after all) is left to the repair process.

    Args:
        client: A connected client.
        store: The projection.
    """

    def __init__(self, client: Client, store: ProjectionStore) -> None:
        self._client = client
        self._store = store
        self._waiting: asyncio.Queue[tuple[str, int] | None] = asyncio.Queue()

    def note(self, ended: list[str]) -> None:
        """Take ids of executions that seem to have ended."""
        for execution_id in ended:
            self._waiting.put_nowait((execution_id, TRIES))

    def stop(self) -> None:
        """Let `run` settle what was noted so far and return."""
        for _ in range(AT_ONCE):
            self._waiting.put_nowait(None)

    async def run(self) -> None:
        """Settle until `stop` is called."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while (item := await self._waiting.get()) is not None:
            execution_id, tries = item
            if not await self._settle(execution_id) and tries > 1:
                await asyncio.sleep(PAUSE_S)
                self._waiting.put_nowait((execution_id, tries - 1))

    async def _settle(self, execution_id: str) -> bool:
        try:
            return await settle_from_temporal(self._client, self._store, execution_id) is not None
        except (NotFound, RPCError) as error:
            log.warning("the end of an execution could not be read yet", execution=execution_id, error=str(error))
            return True
        except Exception as error:
            # one end that cannot be read or stored must not stop the settling of all others
            log.error("the end of an execution could not be settled", execution=execution_id, exc_info=error)
            return False
