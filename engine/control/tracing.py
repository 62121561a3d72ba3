"""Sends the spans of executions while their events are stored, and the last ones when Temporal's word is stored."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Mapping, Sequence

import structlog

from engine.core.kinds import EventType
from engine.core.run.events import EventRecord
from engine.obs.metrics import ENDED, EVENTS_WRITTEN, FLUSH_LAG, REPAIRED, STARTED
from engine.obs.spans import End, SpanMaker, retell
from engine.obs.telemetry import Telemetry
from engine.store.ends import ExecutionEnd
from engine.store.projection import ProjectionStore

PAGE = 1_000
MOST_RETOLD = 100_000
"""Events of one execution that are read again for its spans; what comes after them is left out."""
CLOSE_S = 5.0

log = structlog.get_logger(__name__)


class ExecutionTelemetry:
    """Spans and metrics of executions, as one process sees them.

    A step's span is sent when its event is stored. When the end of an execution is stored and this process has not
    followed it from its first event to its last, all its spans are sent again, made of the stored events: whoever
    followed it before may have died with some. They have the same ids.

    Args:
        telemetry: Where spans and metrics go.
        store: The projection.
    """

    def __init__(self, telemetry: Telemetry, store: ProjectionStore) -> None:
        self._telemetry = telemetry
        self._store = store
        self._maker = SpanMaker()
        self._untold: deque[tuple[str, End]] = deque()
        self._telling: asyncio.Task[None] | None = None
        if telemetry.traces or telemetry.metrics:
            store.on_closed = self.closed

    def stored(self, records: Sequence[EventRecord]) -> None:
        """Take events that the live path has stored; never raises, since the events are worth more."""
        telemetry = self._telemetry
        try:
            if telemetry.metrics:
                telemetry.count(EVENTS_WRITTEN, len(records))
                telemetry.record(FLUSH_LAG, max(0.0, time.time() - min(record.now_us for record in records) / 1e6))
                telemetry.count(STARTED, sum(record.type == EventType.INIT for record in records))
            if telemetry.traces:
                telemetry.emit(self._maker.take(records))
        except Exception as error:
            log.error("spans of events could not be made", events=len(records), exc_info=error)

    def closed(self, ends: Sequence[ExecutionEnd], first: Mapping[str, bool]) -> None:
        """Take the word of Temporal that was just stored.

        Args:
            ends: How executions ended.
            first: Of those whose rows changed: True if the end is news, False if the events were right only now.
        """
        for end in ends:
            if end.execution_id not in first:
                continue
            is_news = first[end.execution_id]
            if is_news:
                self._telemetry.count(ENDED, 1, {"everstep.status": end.status})
            if self._telemetry.traces:
                self._tell(end, again=not is_news)

    def repaired(self) -> None:
        """Count an execution whose rows the repair has just made those of its history."""
        self._telemetry.count(REPAIRED, 1)

    def _tell(self, end: ExecutionEnd, *, again: bool) -> None:
        how = End(status=end.status, closed_us=end.closed_us, error=_error_of(end))
        # an execution that was terminated did not count its events
        spans = None if again or end.events is None else self._maker.end(end.execution_id, how, end.events)
        if spans is not None:
            self._telemetry.emit(spans)
            return
        self._untold.append((end.execution_id, how))
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._retell())

    async def _retell(self) -> None:
        while self._untold:
            execution_id, how = self._untold.popleft()
            try:
                self._telemetry.emit(retell(execution_id, await self._events(execution_id), how))
            except Exception as error:
                # the store may be away: one trace less must not cost the others
                log.warning("the spans of an execution could not be sent", execution=execution_id, exc_info=error)

    async def _events(self, execution_id: str) -> list[EventRecord]:
        tenant = await self._store.tenant_of(execution_id)
        found: list[EventRecord] = []
        while tenant is not None and len(found) < MOST_RETOLD:
            after = found[-1].seq if found else 0
            page = await self._store.list_events(execution_id, tenant=tenant, after_seq=after, limit=PAGE)
            found += page
            if len(page) < PAGE:
                break
        return found

    async def close(self) -> None:
        """Send what is still to be told; the caller closes telemetry and store afterwards."""
        if self._telling is not None and not self._telling.done():
            await asyncio.wait({self._telling}, timeout=CLOSE_S)
            self._telling.cancel()


def _error_of(end: ExecutionEnd) -> tuple[str, str] | None:
    if end.error is None:
        return None
    return str(end.error.get("code") or "execution.failed"), str(end.error.get("message") or "")
