"""The repair path: a loop that settles what has ended, and makes rows right that are not those of the history."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import structlog
from sqlalchemy.exc import SQLAlchemyError
from temporalio.client import Client
from temporalio.service import RPCError

from engine.control.failing import is_shared
from engine.control.foreign import Foreign
from engine.control.replaying import Replay, ReplayFailed, rebuild_execution, repair_execution
from engine.control.scan import Report, Scan, each
from engine.control.settling import Settled, settle_from_temporal
from engine.core.errors import NotFound
from engine.store.projection import ProjectionStore
from engine.store.pulses import PulseStore
from engine.store.reading import OpenExecution
from engine.store.upkeep import Upkeep

POLL_S = 0.5
SCAN_S = 5.0
SHARE = 0.05
"""Part of the time that scans may take once there is nothing new: more executions are looked at less often."""
SETTLE_AFTER_US = 1_000_000
GIVEN_UP_S = 600.0
"""How long an execution that cannot be settled or replayed is left alone."""
SLOW_TRIES = 20
"""How often a replay may take too long, on a machine with much to do, before the execution is left alone."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Repair:
    """The loop of the repair process.

    Attributes:
        client: A connected client.
        store: The projection.
        replay: How to replay a run.
        given_up: Executions that do not replay, with the time of the last try. Lost with the process: a new one tries
            each of them once more, fifty at a time at most.
        report: What the last complete scan did.
        scanned_us: When it was complete, Unix microseconds; 0 = there was none.
        scan_every_s: Seconds from one complete scan to the next, as far as the last one tells.
        on_repaired: Called for each execution whose rows became others.
    """

    client: Client
    store: ProjectionStore
    replay: Replay
    given_up: dict[str, float] = field(default_factory=dict)
    report: Report | None = None
    scanned_us: int = 0
    scan_every_s: float = SCAN_S
    on_repaired: Callable[[], None] | None = None
    _scan: Scan | None = None
    _next_scan: float = 0.0
    _slow: dict[str, int] = field(default_factory=dict)

    async def run(self, stopping: asyncio.Event) -> None:
        """Work until told to stop; a Temporal or a store that does not answer is waited for."""
        # beside each other: a scan may take minutes, and until an end is verified nobody builds on it
        async with asyncio.TaskGroup() as group:
            group.create_task(self._repeat(self.settle_ended, stopping), name="repair-ended")
            group.create_task(self._repeat(self._look_over, stopping), name="repair-scan")

    async def _repeat(self, turn: Callable[[], Awaitable[None]], stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            try:
                await turn()
            except* RPCError as errors:
                log.warning("Temporal does not answer, trying again", error=str(errors.exceptions[0]))
            except* (OSError, SQLAlchemyError) as errors:
                log.warning("the store does not answer, trying again", error=str(errors.exceptions[0]))
            except* Exception as errors:
                # whatever it is, a repair that ends repairs nothing more
                log.error("a turn of the repair failed, trying again", exc_info=errors)
            try:
                await asyncio.wait_for(stopping.wait(), POLL_S)
            except TimeoutError:
                continue

    def pulse(self) -> dict[str, Any]:
        """Return what the process says of itself with each sign of life: {scanned_us, scan_every_s, scan, warning}."""
        told: dict[str, Any] = {"scanned_us": self.scanned_us, "scan_every_s": round(self.scan_every_s, 3)}
        if self.report is not None:
            told["scan"] = asdict(self.report)
        if self._scan is not None and self._scan.foreign.warning:
            told["warning"] = self._scan.foreign.warning
        return told

    async def _look_over(self) -> None:
        if time.monotonic() >= self._next_scan:
            report = await self.scan()
            rest_s = 0.0 if report.waiting or report.adopted else report.took_s / SHARE - report.took_s
            self._next_scan = time.monotonic() + max(SCAN_S, rest_s)
            self.scan_every_s = max(SCAN_S, rest_s) + report.took_s
        elif self._scan is not None:
            await self._scan.adopt()

    # --- what has ended --------------------------------------------------------------------------------------------

    async def settle_ended(self) -> None:
        """Settle executions that seem to have ended, and repair those whose events do not match."""
        quiet = time.time_ns() // 1_000 - SETTLE_AFTER_US
        # those given up stand in the way of none behind them
        ended = await self.store.unsettled(limit=200 + len(self.given_up))
        await each([item.id for item in ended if item.last_us < quiet and self._is_due(item.id)], self._settle)
        # what has just ended does not wait behind thousands that a lost store left
        last = await self.store.unverified(limit=50, newest=True)
        unsure = last + await self.store.unverified(limit=50 + len(self.given_up))
        due = {item.id: item for item in unsure if self._is_due(item.id)}
        await each(due.values(), self._repair_closed)

    def _is_due(self, execution_id: str) -> bool:
        return time.monotonic() - self.given_up.get(execution_id, -1e9) > GIVEN_UP_S

    def _give_up(self, execution_id: str) -> None:
        now = time.monotonic()
        if len(self.given_up) > 1_000:
            # what was deleted meanwhile would stay for ever
            self.given_up = {name: at for name, at in self.given_up.items() if now - at <= GIVEN_UP_S}
        self.given_up[execution_id] = now

    async def _settle(self, execution_id: str) -> Settled | None:
        try:
            return await settle_from_temporal(self.client, self.store, execution_id)
        except NotFound:
            # the scan finds out what that means
            self._give_up(execution_id)
        except Exception as error:
            if is_shared(error):
                raise
            # one end that cannot be read or stored must not stop the repair of all others
            self._give_up(execution_id)
            log.error("the end of an execution could not be settled", execution=execution_id, exc_info=error)
        return None

    async def _repair_closed(self, item: OpenExecution) -> None:
        settled = None if await self._repair(item.id) is None else await self._settle(item.id)
        if settled is None:
            return
        if settled.matches is False:
            self._give_up(item.id)
            log.error("a replay gives other events than the workflow counted", execution=item.id)
            return
        await self.store.mark_verified(item.id, tenant=item.tenant, verified=True)

    # --- what goes on ----------------------------------------------------------------------------------------------

    async def scan(self) -> Report:
        """Look over all executions once."""
        if self._scan is None:
            upkeep, pulses = Upkeep(self.store.database), PulseStore(self.store.database)
            foreign = Foreign(self.client, upkeep, pulses)
            self._scan = Scan(self.client, self.store, self._repair_due, self._settle, self._rebuild, foreign)
        report = await self._scan.run()
        self.report, self.scanned_us = report, time.time_ns() // 1_000
        return report

    async def _repair_due(self, execution_id: str) -> bool | None:
        return await self._repair(execution_id) if self._is_due(execution_id) else None

    async def _repair(self, execution_id: str) -> bool | None:
        """Make an execution's events right; returns whether they were not, None if that cannot be known."""
        try:
            replaced = await repair_execution(self.client, self.store, execution_id, self.replay)
        except (ReplayFailed, NotFound) as error:
            if error.retryable and self._slow.setdefault(execution_id, 0) < SLOW_TRIES:
                self._slow[execution_id] += 1
                log.warning("the replay of an execution is put off", execution=execution_id, reason=error.message)
                return None
            self._slow.pop(execution_id, None)
            self._give_up(execution_id)
            log.error("an execution's events cannot be verified", execution=execution_id, reason=error.message)
            return None
        except Exception as error:
            if is_shared(error):
                raise
            self._give_up(execution_id)
            log.error("an execution's events cannot be verified", execution=execution_id, exc_info=error)
            return None
        self.given_up.pop(execution_id, None)
        self._slow.pop(execution_id, None)
        if replaced:
            log.info("events restored from the history", execution=execution_id)
            self._tell_repaired()
        return replaced

    def _tell_repaired(self) -> None:
        if self.on_repaired is not None:
            self.on_repaired()

    async def _rebuild(self, execution_id: str) -> None:
        try:
            if await rebuild_execution(self.client, self.store, execution_id, self.replay):
                self._tell_repaired()
        except Exception as error:
            if is_shared(error):
                raise
            # the scan meets it again; one that does not replay must not stop the others
            log.error("an execution that runs again cannot be rebuilt", execution=execution_id, exc_info=error)
