"""The route of metrics, as Prometheus reads them, and the numbers that only the API can tell."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

import structlog
from fastapi import APIRouter, Request, Response
from sqlalchemy.exc import SQLAlchemyError

from engine.core.errors import EngineError
from engine.obs.metrics import BY_STATUS
from engine.obs.telemetry import Observed, Telemetry
from engine.store.database import Database
from engine.store.totals import count_by_status

FRESH_S = 5.0
"""How long a count of executions is shown again: readers may come as often as they like."""

router = APIRouter(tags=["metrics"])

log = structlog.get_logger(__name__)


class ApiMetrics:
    """The metrics of an API process, with a count of executions by status that is never older than it needs to be.

    Attributes:
        telemetry: Where metrics are kept.
    """

    def __init__(self, telemetry: Telemetry, database: Database) -> None:
        """Add the gauges.

        Args:
            telemetry: Where metrics are kept.
            database: The open store.
        """
        self.telemetry = telemetry
        self._database = database
        self._counted: dict[str, int] = {}
        self._counted_at = -FRESH_S
        self._lock = asyncio.Lock()
        telemetry.observe(BY_STATUS, self._read)

    def _read(self) -> Observed:
        # called from the threads of exporters
        return [(count, {"everstep.status": status}) for status, count in self._counted.items()]

    async def refresh(self) -> None:
        """Count again if the last count is old; a store that is away leaves it as it is."""
        async with self._lock:
            if time.monotonic() - self._counted_at < FRESH_S:
                return
            try:
                self._counted = await count_by_status(self._database)
            except (EngineError, SQLAlchemyError, OSError) as error:
                log.warning("executions could not be counted", error=str(error))
            self._counted_at = time.monotonic()

    @contextlib.asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Refresh for the length of the block, if metrics are sent; whoever reads `/metrics` does it by reading."""
        if not self.telemetry.sends_metrics:
            yield
            return

        async def keep() -> None:
            while True:
                await self.refresh()
                await asyncio.sleep(FRESH_S)

        keeping = asyncio.create_task(keep())
        try:
            yield
        finally:
            keeping.cancel()


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def read_metrics(request: Request) -> Response:
    """Return the metrics of this process in Prometheus' text format."""
    metrics = request.app.state.metrics
    assert isinstance(metrics, ApiMetrics)
    await metrics.refresh()
    found = metrics.telemetry.scrape()
    if found is None:
        return Response("# this process keeps no metrics\n", media_type="text/plain")
    text, media_type = found
    return Response(text, headers={"content-type": media_type})
