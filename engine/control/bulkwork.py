"""The work of jobs over many executions: fixes the set page by page, then does to each what is wanted, once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import structlog

from engine.control.bulk import BulkOptions, only_ids, read_filter, store_filter
from engine.control.controlling import ControlService
from engine.control.definitions import now_us
from engine.control.executions import ExecutionService
from engine.control.forking import ForkService, ForkWish
from engine.control.purging import PurgeService, PurgeWanted
from engine.core.errors import Conflict, EngineError, RequestError, Unavailable
from engine.store.jobs import COLLECTING, DONE, RUNNING, ItemFacts, JobFacts, JobStore
from engine.store.listing import ExecutionLists

PAGE = 500
AT_ONCE = 10
"""Executions that a job works on at one time."""
TRIES = 5
AGAIN_S = 1.0
UNVERIFIED = "fork.history_unverified"
UNVERIFIED_S = 60.0
"""How long an execution is put off whose stored events the repair has still to make right; others come first."""
PENDING_CODES = frozenset({"answer.pending", "control.pending"})
"""No worker took it: the next execution may have more luck, and this one is told of as failed."""

log = structlog.get_logger("everstep.bulk")

Do = Callable[[JobFacts, BulkOptions, str, str], Awaitable[str]]


class BulkWork:
    """Works on jobs.

    Args:
        store: Jobs in the store.
        executions: Answers and cancels.
        control: Pauses, continues, terminates.
        forks: Makes retries and forks.
        purges: Purges.
    """

    def __init__(
        self,
        store: JobStore,
        executions: ExecutionService,
        control: ControlService,
        forks: ForkService,
        purges: PurgeService,
    ) -> None:
        self._store = store
        self._executions = executions
        self._control = control
        self._forks = forks
        self._purges = purges
        self._lists = ExecutionLists(store.database)
        self._actions: dict[str, Do] = {
            "cancel": self._cancel,
            "terminate": self._terminate,
            "pause": self._pause,
            "continue": self._go_on,
            "retry": self._fork,
            "fork": self._fork,
            "answer": self._answer,
            "purge": self._purge,
        }

    async def collect(self, tenant: str, job_id: str) -> str:
        """Fix the set of a job; goes on where an attempt before it broke off.

        Returns:
            The state of the job.
        """
        job = await self._store.get(job_id, tenant=tenant)
        wanted = read_filter(job.filter)
        if job.state == COLLECTING and only_ids(wanted):
            ids = await self._store.known(wanted.ids, tenant=tenant)
            job = await self._store.add_items(job, ids, cursor="ids", whole=True, now_us=now_us())
        # executions that begin after the job are none of it
        condition = store_filter(wanted, task_id=wanted.task, until_us=job.created_us)
        while job.state == COLLECTING:
            after = None if not job.cursor else tuple(json.loads(job.cursor))
            page = await self._lists.page(condition, tenant=tenant, limit=PAGE, after=after)
            ids = [facts.id for facts in page.items]
            cursor = job.cursor if page.after is None else json.dumps(list(page.after))
            job = await self._store.add_items(job, ids, cursor=cursor, whole=page.after is None, now_us=now_us())
        return job.state

    async def work(self, tenant: str, job_id: str) -> str:
        """Do what is wanted to one execution after the other, until all are done or the job is paused or aborted.

        Returns:
            The state of the job.

        Raises:
            Unavailable: Temporal or the store does not answer; the next attempt goes on with the same execution.
        """
        began, begun = time.monotonic(), 0
        last, met_at = -1, dict[int, float]()
        while True:
            job = await self._store.get(job_id, tenant=tenant)
            if job.state != RUNNING:
                return job.state
            items = await self._store.next_items(job_id, tenant=tenant, limit=min(AT_ONCE, job.rate), after=last)
            if not items and met_at:
                # once more from the first that was put off
                last = -1
                await asyncio.sleep(AGAIN_S)
                items = await self._store.next_items(job_id, tenant=tenant, limit=min(AT_ONCE, job.rate))
            if not items:
                await self._store.move(job_id, tenant=tenant, to=DONE, of=(RUNNING,), now_us=now_us())
                return (await self._store.get(job_id, tenant=tenant)).state
            # each has its own moment on a line that goes at the job's rate
            wait = began + begun / job.rate - time.monotonic()
            if wait > 0:
                await asyncio.sleep(wait)
            begun += len(items)
            last = items[-1].place
            await self._work_on(job, items, met_at)

    async def _work_on(self, job: JobFacts, items: Sequence[ItemFacts], met_at: dict[int, float]) -> None:
        # places in the job, with the time when each was first found unverified; these stay undone for the next round
        options = BulkOptions.model_validate(job.options)
        told = await asyncio.gather(*(self._one(job, options, item) for item in items), return_exceptions=True)
        done: list[ItemFacts] = []
        for item in told:
            if not isinstance(item, ItemFacts):
                continue
            now = time.monotonic()
            if item.code != UNVERIFIED or now - met_at.setdefault(item.place, now) >= UNVERIFIED_S:
                met_at.pop(item.place, None)
                done.append(item)
        if done:
            await self._store.record(job.id, done, tenant=job.tenant, now_us=now_us())
        for item in told:
            if isinstance(item, BaseException):
                raise item

    async def _one(self, job: JobFacts, options: BulkOptions, item: ItemFacts) -> ItemFacts:
        key = f"bulk {job.id} {item.execution_id}"
        try:
            new_id = await self._patiently(lambda: self._actions[job.action](job, options, item.execution_id, key))
        except EngineError as error:
            if isinstance(error, Unavailable) and error.code not in PENDING_CODES:
                raise
            outcome = "failed" if isinstance(error, Unavailable) else "refused"
            return replace(item, outcome=outcome, code=error.code, message=error.message)
        except OSError:
            raise
        except Exception as error:
            # one execution that cannot be worked on must not hold up all others
            log.error("a job could not work on an execution", job=job.id, execution=item.execution_id, exc_info=error)
            return replace(item, outcome="failed", code="bug", message=f"{type(error).__name__}: {error}"[:500])
        return replace(item, outcome="done", new_id=new_id)

    async def _patiently(self, work: Callable[[], Awaitable[str]]) -> str:
        """Do something again that may be possible in a moment, such as a retry of what has only just failed."""
        for _ in range(TRIES - 1):
            try:
                return await work()
            except RequestError as error:
                if isinstance(error, Unavailable) or not error.retryable or error.code == UNVERIFIED:
                    raise
            await asyncio.sleep(AGAIN_S)
        return await work()

    # --- what can be done ------------------------------------------------------------------------------------------

    async def _cancel(self, job: JobFacts, options: BulkOptions, execution_id: str, key: str) -> str:
        del key  # one that is cancelled already stays as it is
        await self._executions.cancel(execution_id, tenant=job.tenant, reason=options.reason, actor=job.actor)
        return ""

    async def _terminate(self, job: JobFacts, options: BulkOptions, execution_id: str, key: str) -> str:
        del key  # likewise
        await self._control.terminate(execution_id, tenant=job.tenant, reason=options.reason, actor=job.actor)
        return ""

    async def _pause(self, job: JobFacts, options: BulkOptions, execution_id: str, key: str) -> str:
        await self._control.pause(execution_id, tenant=job.tenant, key=key, reason=options.reason, actor=job.actor)
        return ""

    async def _go_on(self, job: JobFacts, options: BulkOptions, execution_id: str, key: str) -> str:
        del options
        await self._control.go_on(execution_id, tenant=job.tenant, key=key, actor=job.actor)
        return ""

    async def _fork(self, job: JobFacts, options: BulkOptions, execution_id: str, key: str) -> str:
        wish = ForkWish(kind="retry" if job.action == "retry" else "fork", at=options.at, definition=options.definition)
        started = await self._forks.fork(execution_id, wish, tenant=job.tenant, key=key, actor=job.actor)
        return started.facts.id

    async def _answer(self, job: JobFacts, options: BulkOptions, execution_id: str, key: str) -> str:
        await self._executions.answer(
            execution_id,
            options.value,
            tenant=job.tenant,
            key=key,
            wait_id=options.wait_id,
            actor=job.actor,
            several="oldest" if options.oldest else "refuse",
        )
        return ""

    async def _purge(self, job: JobFacts, options: BulkOptions, execution_id: str, key: str) -> str:
        del options, key
        wanted = PurgeWanted(tenant=job.tenant, ids=[execution_id], actor=job.actor)
        # what is not in the store is removed by the repair process
        report = await self._purges.purge(wanted, None)
        for kept in report.kept:
            raise Conflict(kept["message"], code=kept["code"])
        return ""
