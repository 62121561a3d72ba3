"""What other hands did to executions in Temporal: deleted, brought back; and whether it is still the same Temporal."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from temporalio.client import Client

from engine.control.describing import describe, namespace_id
from engine.core.errors import NotFound
from engine.store.pulses import PulseStore
from engine.store.upkeep import GONE, KnownRow, Upkeep

MANY = 20
"""Fewer open executions than that may vanish in one scan without a doubt: somebody deleted them."""
SAMPLE = 20
"""How many open executions are asked for when the server has become another one."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Foreign:
    """Decides what a missing execution means.

    An execution that Temporal does not know was deleted, or its retention has passed. But it may as well be that we ask
    another server, or an empty one where the database was lost: then thousands would be called failed that may still
    be brought back. So nothing is marked when the namespace has another id than the last time and knows none of our
    open executions, nor when many and most of the open ones vanish at once. Both are said, in the log and in the
    pulse, until they are there again or `everstep reindex --accept-gone` says that they are to be given up.

    Attributes:
        client: A connected client.
        upkeep: The projection.
        pulses: Where the id of the namespace is kept.
        warning: What is wrong now; empty = nothing.
    """

    client: Client
    upkeep: Upkeep
    pulses: PulseStore
    warning: str = ""

    async def check_server(self) -> bool:
        """Ask which server this is; returns whether missing executions may be taken for gone.

        Raises:
            RPCError: Temporal does not answer, or has no such namespace.
        """
        present = await namespace_id(self.client)
        known = (await self.pulses.read_temporal()).get("namespace_id", "")
        if known == present:
            return True
        if known and not await self._knows_ours():
            self._warn("Temporal is another server than before and knows none of the open executions")
            return False
        await self.accept(present)
        return True

    async def accept(self, present: str = "") -> None:
        """Take this Temporal for the one that the executions are in."""
        present = present or await namespace_id(self.client)
        await self.pulses.write_temporal({"namespace_id": present, "namespace": self.client.namespace})

    async def _knows_ours(self) -> bool:
        rows = await self.upkeep.open_rows(limit=SAMPLE)
        for row in rows:
            try:
                found = await describe(self.client, row.id)
            except NotFound:
                continue
            if found.is_of(row.tenant):
                return True
        return not rows

    async def mark_vanished(self, vanished: list[str], *, looked_at: int, now_us: int) -> int:
        """Mark open executions that Temporal does not know as gone, unless so many at once are not to be believed.

        Args:
            vanished: Their ids.
            looked_at: Among how many open executions they are.
            now_us: The time now, Unix microseconds.

        Returns:
            How many were marked.
        """
        if len(vanished) > MANY and len(vanished) > looked_at / 2:
            self._warn(f"Temporal no longer knows {len(vanished)} of {looked_at} open executions")
            return 0
        for execution_id in vanished:
            await self.upkeep.mark_gone(execution_id, at_us=now_us)
            log.warning("an execution was deleted in Temporal before it ended", execution=execution_id)
        self.calm()
        return len(vanished)

    async def check_settled(self, row: KnownRow, *, now_us: int) -> bool:
        """Look whether Temporal has an ended execution still, or again; returns whether its row must be made anew.

        Raises:
            RPCError: Temporal does not answer.
        """
        try:
            found = await describe(self.client, row.id)
        except NotFound:
            found = None
        if found is None or not found.is_of(row.tenant):
            if row.gone_us is None:
                await self.upkeep.mark_gone(row.id, at_us=now_us)
            return False
        if row.gone_us is None:
            return False
        if row.error_code != GONE:
            await self.upkeep.mark_there(row.id)
        return row.error_code == GONE

    def calm(self) -> None:
        """Say that nothing is wrong any more."""
        if self.warning:
            log.info("Temporal and the store agree again")
        self.warning = ""

    def _warn(self, what: str) -> None:
        said = f"{what}; none is marked as gone. If they are lost for good: everstep reindex --accept-gone"
        if said != self.warning:
            log.error("executions are missing in Temporal", what=said)
        self.warning = said
