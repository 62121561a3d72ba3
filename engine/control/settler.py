"""Settles executions that seem to have ended, beside the live path and without holding it up."""

from __future__ import annotations

import asyncio

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from engine.control.settling import read_end, store_ends
from engine.core.errors import NotFound
from engine.store.ends import ExecutionEnd
from engine.store.projection import ProjectionStore

AT_ONCE = 8
"""Questions to Temporal at one time."""
BATCH = 100
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
        self._slots = asyncio.Semaphore(AT_ONCE)

    def note(self, ended: list[str]) -> None:
        """Take ids of executions that seem to have ended."""
        for execution_id in ended:
            self._waiting.put_nowait((execution_id, TRIES))

    def stop(self) -> None:
        """Let `run` settle what was noted so far and return."""
        self._waiting.put_nowait(None)

    async def run(self) -> None:
        """Settle until `stop` is called, all that wait together in one transaction."""
        stopped = False
        while not stopped:
            taken = [await self._waiting.get()]
            while len(taken) < BATCH and not self._waiting.empty():
                taken.append(self._waiting.get_nowait())
            stopped = None in taken
            await self._settle([item for item in taken if item is not None])

    async def _settle(self, batch: list[tuple[str, int]]) -> None:
        try:
            found = await asyncio.gather(*(self._read(execution_id, tries) for execution_id, tries in batch))
            ends = [end for end in found if end is not None]
            if ends:
                await store_ends(self._client, self._store, ends)
        except Exception as error:
            # a store that fails for a while must not stop the settling for good
            log.error("ends of executions could not be stored", count=len(batch), exc_info=error)
            for item in batch:
                self._again(*item)

    async def _read(self, execution_id: str, tries: int) -> ExecutionEnd | None:
        try:
            async with self._slots:
                end = await read_end(self._client, execution_id)
        except (NotFound, RPCError) as error:
            log.warning("the end of an execution could not be read yet", execution=execution_id, error=str(error))
            return None
        except Exception as error:
            # one end that cannot be read must not stop the settling of all others
            log.error("the end of an execution could not be read", execution=execution_id, exc_info=error)
            return None
        if end is None:
            self._again(execution_id, tries)
        return end

    def _again(self, execution_id: str, tries: int) -> None:
        if tries > 1:
            asyncio.get_running_loop().call_later(PAUSE_S, self._waiting.put_nowait, (execution_id, tries - 1))
