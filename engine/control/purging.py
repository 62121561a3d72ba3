"""Use case: purge ended executions, so that nothing of them can be read any more, here or in Temporal."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from engine.control.blobs import BlobDriver
from engine.control.claims import runs_of
from engine.control.connect import RPC_TIMEOUT
from engine.control.describing import is_namespace_missing, namespace_id
from engine.core.errors import InvalidInput, Unavailable
from engine.store.blobs import BlobStore
from engine.store.database import Database
from engine.store.filters import ExecutionFilter, Span
from engine.store.listing import ExecutionLists, Key
from engine.store.pulses import PulseStore
from engine.store.purging import Candidate, PurgeStore

PAGE = 100
MOST_AT_ONCE = 1_000
"""Most executions that one request purges."""
_FILTERED = "it does not fit what else was asked for"

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeWanted:
    """What to purge.

    Attributes:
        tenant: Whose executions.
        ids: These, of which the filter holds too; empty = all that pass the filter.
        filter: Which executions.
        before_us: Only those that ended before, and with `terminate` also open ones created before; None with `ids`.
        terminate: Whether open ones are stopped for it.
        dry_run: Whether nothing is purged.
        limit: Most to purge now.
        after: Where the request before ended.
        actor: Who wants it.
    """

    tenant: str
    ids: Sequence[str] = ()
    filter: ExecutionFilter = field(default_factory=ExecutionFilter)
    before_us: int | None = None
    terminate: bool = False
    dry_run: bool = False
    limit: int = MOST_AT_ONCE
    after: Key | None = None
    actor: str = ""


@dataclass(slots=True)
class PurgeReport:
    """What a purge did, or would do.

    Attributes:
        purged: Executions that were purged, those that they started included.
        kept: Those that were not, {id, code, message}.
        pending: Those of the purged whose histories or payloads are not all gone yet; the repair process goes on with
            them.
        after: Where to go on; None = all were looked at.
    """

    purged: list[str] = field(default_factory=list)
    kept: list[dict[str, str]] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    after: Key | None = None


class PurgeService:
    """Purges executions.

    The mark that an execution was purged and the removal of its rows are one transaction; Temporal's histories and the
    payloads follow. Whoever is killed in between leaves a mark that is not done, and the repair process finishes it.

    Args:
        database: The store.
    """

    def __init__(self, database: Database) -> None:
        self._store = PurgeStore(database)
        self._lists = ExecutionLists(database)

    async def purge(self, wanted: PurgeWanted, finisher: PurgeFinisher | None) -> PurgeReport:
        """Purge executions with all that they started; a Temporal that dies meanwhile leaves the rest `pending`.

        Args:
            wanted: Which ones.
            finisher: Removes what is not in the store; None = the repair process will.

        Raises:
            InvalidInput: `purge.no_bound` if neither ids nor an age are given.
        """
        if not wanted.ids and wanted.before_us is None:
            raise InvalidInput(
                "a purge needs an age or ids: without them it would take everything",
                code="purge.no_bound",
                hint='say how old they must be, e.g. {"older_than": "30d"}',
            )
        report = PurgeReport()
        trees = await (self._named(wanted, report) if wanted.ids else self._found(wanted, report))
        report.purged = [one.id for tree in trees for one in tree]
        if not wanted.dry_run:
            await self._bury(trees, wanted)
            report.pending = await _finish(report.purged, finisher)
        return report

    async def purge_ended(self, before_us: int, finisher: PurgeFinisher) -> int:
        """Purge executions of all tenants that ended before a time; returns how many, without those they started."""
        count, after = 0, ""
        while roots := await self._store.ended_before(before_us, after=after, limit=PAGE):
            after = roots[-1].id
            trees = [await self._store.below(root) for root in roots]
            ended = [tree for tree in trees if all(one.settled for one in tree)]
            await self._bury(ended, PurgeWanted(tenant="", actor="retention"))
            for one in (one for tree in ended for one in tree):
                await finisher.finish(one.id)
            count += len(ended)
        return count

    async def _bury(self, trees: Sequence[Sequence[Candidate]], wanted: PurgeWanted) -> None:
        for tree in trees:
            now_us = time.time_ns() // 1_000
            await self._store.bury(tree, now_us=now_us)
            log.info("an execution was purged", execution=tree[0].id, in_all=len(tree), actor=wanted.actor)
        if trees:
            await self._store.settle_files()

    async def _named(self, wanted: PurgeWanted, report: PurgeReport) -> list[list[Candidate]]:
        found = {one.id: one for one in await self._store.candidates(wanted.ids, tenant=wanted.tenant)}
        for name in dict.fromkeys(wanted.ids):
            if name not in found:
                _keep(report, name, "execution.not_found", "there is no such execution")
        passing = await self._passing(list(found), wanted)
        for name in found:
            if name not in passing:
                _keep(report, name, "purge.filtered", _FILTERED)
        return await self._trees([one for one in found.values() if one.id in passing], wanted, report)

    async def _passing(self, ids: Sequence[str], wanted: PurgeWanted) -> set[str]:
        """Return those of some executions that pass the filter too."""
        asked = replace(wanted.filter, created=_until(wanted.filter.created, wanted.before_us))
        if not ids or _asks_nothing(asked):
            return set(ids)
        only = replace(asked, ids=ids)
        passing: set[str] = set()
        after: Key | None = None
        while True:
            page = await self._lists.page(only, tenant=wanted.tenant, limit=PAGE, after=after)
            passing |= {item.id for item in page.items}
            after = page.after
            if after is None:
                return passing

    async def _found(self, wanted: PurgeWanted, report: PurgeReport) -> list[list[Candidate]]:
        # one that ended before a time was created before it
        only = replace(wanted.filter, created=_until(wanted.filter.created, wanted.before_us))
        trees: list[list[Candidate]] = []
        count, after = 0, wanted.after
        while count < wanted.limit:
            page = await self._lists.page(
                only, tenant=wanted.tenant, limit=PAGE, after=after, sort_by="created_at", descending=False
            )
            ids = [item.id for item in page.items]
            known = {one.id: one for one in await self._store.candidates(ids, tenant=wanted.tenant)}
            taken = await self._trees([known[name] for name in ids if name in known], wanted, report)
            trees += taken
            count += sum(len(tree) for tree in taken)
            after = page.after
            if after is None:
                break
        report.after = after
        return trees

    async def _trees(
        self, candidates: Sequence[Candidate], wanted: PurgeWanted, report: PurgeReport
    ) -> list[list[Candidate]]:
        """Return of each execution that may go itself and all that it started."""
        trees: list[list[Candidate]] = []
        for root in candidates:
            is_young = wanted.before_us is not None and root.settled and (root.closed_us or 0) >= wanted.before_us
            if is_young:
                if wanted.ids:
                    _keep(report, root.id, "purge.filtered", _FILTERED)
                continue
            if root.parent_id and await self._store.candidates([root.parent_id], tenant=wanted.tenant):
                if wanted.ids:
                    message = f"execution {root.parent_id} started it and holds what it gave"
                    _keep(report, root.id, "purge.child", message)
                continue
            tree = await self._store.below(root)
            still = [one.id for one in tree if not one.settled]
            if still and not wanted.terminate:
                _keep(report, root.id, "purge.open", _open_message(root.id, still))
                continue
            trees.append(tree)
        return trees


class PurgeFinisher:
    """Removes from Temporal and from the blobs what belongs to purged executions.

    Args:
        client: A connected client.
        database: The store.
        drivers: Where large payloads are.
        errors: Entered around each work on an execution, to map what Temporal says if it does not answer.
    """

    def __init__(
        self,
        client: Client,
        database: Database,
        drivers: Sequence[BlobDriver],
        errors: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._client = client
        self._errors = errors
        self._store = PurgeStore(database)
        self._blobs = BlobStore(database)
        self._pulses = PulseStore(database)
        self._drivers = drivers
        self._knows_all = False

    async def finish(self, execution_id: str) -> bool:
        """Remove what is left of a purged execution; returns whether nothing is.

        Temporal deletes in the background: its histories are unreadable at once or some seconds later. Nothing is
        deleted before the repair process has read once what all older histories refer to, since afterwards nobody
        could tell any more.

        Raises:
            RPCError: Temporal does not answer, unless `errors` says it another way.
        """
        with self._errors():
            return await self._finish(execution_id)

    async def _finish(self, execution_id: str) -> bool:
        if not await self._may_delete():
            return False
        runs = await runs_of(self._client, execution_id)
        for run_id in runs:
            await self._delete_run(execution_id, run_id)
        await self._blobs.release([execution_id])
        await self.remove_blobs()
        await self._store.sweep_rows([execution_id])
        if runs:
            return False
        await self._store.done(execution_id, now_us=time.time_ns() // 1_000)
        return True

    async def finish_all(self) -> int:
        """Go on with all purges under way; returns how many are not done yet."""
        left = 0
        for purge in await self._store.unfinished():
            left += not await self.finish(purge.id)
        return left

    async def remove_blobs(self) -> int:
        """Remove payloads that nobody refers to; returns how many. A place that is away is asked again later."""
        removed = 0
        for blob in await self._blobs.outgoing():
            try:
                for driver in self._drivers:
                    await driver.remove(blob)
            except Exception as error:
                log.warning("a payload cannot be removed yet", digest=blob.digest, error=str(error))
                continue
            await self._blobs.removed(blob)
            removed += 1
        return removed

    async def _may_delete(self) -> bool:
        if not self._knows_all:
            known = (await self._pulses.read_blobs()).get("namespace_id")
            self._knows_all = known == await namespace_id(self._client)
        return self._knows_all

    async def _delete_run(self, execution_id: str, run_id: str) -> None:
        request = DeleteWorkflowExecutionRequest(
            namespace=self._client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=execution_id, run_id=run_id),
        )
        try:
            # one that runs is terminated by it first
            await self._client.workflow_service.delete_workflow_execution(request, timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND or is_namespace_missing(error):
                raise


async def _finish(ids: Sequence[str], finisher: PurgeFinisher | None) -> list[str]:
    """Remove what is not in the store of purged executions; returns those of which something is left."""
    if finisher is None:
        return list(ids)
    left: list[str] = []
    for position, name in enumerate(ids):
        try:
            is_done = await finisher.finish(name)
        except (RPCError, Unavailable) as error:
            # the rows are gone and marked: a failure of the request would hide that
            log.warning("the rest of a purge is left to the repair process", execution=name, error=str(error)[:500])
            return [*left, *ids[position:]]
        if not is_done:
            left.append(name)
    return left


def _until(span: Span, before_us: int | None) -> Span:
    known = [bound for bound in (span.until_us, before_us) if bound is not None]
    return span._replace(until_us=min(known, default=None))


def _asks_nothing(asked: ExecutionFilter) -> bool:
    plain = replace(asked, statuses=tuple(asked.statuses), labels=tuple(asked.labels), metadata=dict(asked.metadata))
    return plain == ExecutionFilter()


def _open_message(execution_id: str, still: Sequence[str]) -> str:
    if execution_id in still:
        return "it has not ended; `terminate` stops it"
    return f"it started {still[0]}, which has not ended; `terminate` stops that"


def _keep(report: PurgeReport, execution_id: str, code: str, message: str) -> None:
    report.kept.append({"id": execution_id, "code": code, "message": message})


def report_json(report: PurgeReport, *, dry_run: bool) -> dict[str, Any]:
    """Return a report as JSON: {dry_run, purged, ids, pending, kept}."""
    return {
        "dry_run": dry_run,
        "purged": len(report.purged),
        "ids": report.purged,
        "pending": report.pending,
        "kept": report.kept,
    }
