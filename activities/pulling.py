"""The activity that fetches one model: tells how far it is, ends when nobody wants it any more, and tries again."""

from __future__ import annotations

import asyncio
import time

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.backends.ollama_models import OllamaModels, Progress
from activities.effects import Heartbeat
from activities.reconciling import BackendKeeper
from engine.core.contracts.registry import PULL_ACTIVITY, PullParams, PullResult
from engine.core.errors import BackendError
from engine.store.pulls import PullFacts

TOLD_S = 1.0
"""How often it is written how far a fetch is, and looked whether it is still wanted."""
MOST_FAILURES = 5


def _now_us() -> int:
    return time.time_ns() // 1_000


class PullActivities:
    """The activity `backend.pull`.

    Args:
        keeper: Knows all backends.
    """

    def __init__(self, keeper: BackendKeeper) -> None:
        self._keeper = keeper

    @activity.defn(name=PULL_ACTIVITY)
    async def pull(self, params: PullParams) -> PullResult:
        """Fetch the model whose turn it is at a backend.

        What a lost worker left behind comes first: the server goes on where it was.

        Args:
            params: The backend.

        Returns:
            What became of it; without a model if there was nothing to fetch.

        Raises:
            ApplicationError: It failed in a way that may pass, and is to be tried again.
        """
        beating = Heartbeat()
        try:
            facts = await self._keeper.pulls.begin_next(params.backend, now_us=_now_us())
            if facts is None:
                return PullResult()
            with self._keeper.lease():
                return PullResult(model=facts.model, state=await self._one(facts))
        finally:
            beating.stop()

    async def _one(self, facts: PullFacts) -> str:
        registry, adapters = await self._keeper.adapters()
        backend = adapters.get(facts.backend)
        if not isinstance(backend, OllamaModels):
            gone = f"the backend '{facts.backend}' is gone, or fetches no models any more"
            return await self._end(facts, "failed", BackendError(gone, code="backend.not_found"))
        try:
            is_there = await self._fetch(facts, backend)
        except BackendError as error:
            failures = facts.attempts + 1
            if not error.retryable or failures >= MOST_FAILURES:
                await self._keeper.pulls.note(facts, now_us=_now_us(), attempts=failures)
                return await self._end(facts, "failed", error)
            told = {"error_code": error.code, "error_message": error.message[:500]}
            await self._keeper.pulls.note(facts, now_us=_now_us(), attempts=failures, **told)
            raise ApplicationError(error.message, type=error.code, category=ApplicationErrorCategory.BENIGN) from None
        if not is_there:
            return "cancelled"
        self._keeper.forget(backend.config, facts.model)
        ended = await self._end(facts, "done")
        check = await self._keeper.look_at(registry.backends[facts.backend], backend)
        await self._keeper.states.record([check], now_us=_now_us())
        return ended

    async def _end(self, facts: PullFacts, state: str, error: BackendError | None = None) -> str:
        told = {} if error is None else {"error_code": error.code, "error_message": error.message}
        await self._keeper.pulls.end(facts, "done" if state == "done" else "failed", now_us=_now_us(), **told)
        return state

    async def _fetch(self, facts: PullFacts, backend: OllamaModels) -> bool:
        """Fetch it; False if nobody wants it any more."""
        last = sized = Progress("")

        def keep(progress: Progress) -> None:
            nonlocal last, sized
            last = progress
            if progress.total_bytes:
                sized = progress

        fetching = asyncio.create_task(backend.pull(facts.model, keep), name=f"pull-{facts.id}")
        try:
            is_over = False
            while not is_over:
                await asyncio.wait({fetching}, timeout=TOLD_S)
                is_over = fetching.done()
                # what was seen last is told of one that has ended too
                so_far = {"status": last.status[:200], "done_bytes": sized.done_bytes, "total_bytes": sized.total_bytes}
                is_wanted = await self._keeper.pulls.note(facts, now_us=_now_us(), **so_far)
                if not is_wanted and not is_over:
                    return False
            await fetching
            return True
        finally:
            # a cancel closes the connection, upon which the server stops
            fetching.cancel()
            await asyncio.gather(fetching, return_exceptions=True)
