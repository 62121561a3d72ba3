"""Makes the projection anew from Temporal's histories: every execution that Temporal or the store knows."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from temporalio.client import Client
from temporalio.service import RPCError

from engine.control.describing import list_executions
from engine.control.foreign import Foreign
from engine.control.replaying import Replay, ReplayFailed, rebuild_execution
from engine.control.stuck import utc
from engine.core.contracts.execution import ATTRIBUTE_TENANT
from engine.core.errors import Conflict, EngineError, NotFound
from engine.store.projection import ProjectionStore
from engine.store.pulses import PulseStore
from engine.store.upkeep import Upkeep

AT_ONCE = 4
"""A replay waits for Temporal, then for the processor, then for the store: so many fill the gaps of each other."""
TELL_EVERY_S = 2.0
MOST_REASONS = 1_000
LEAST_PREFIX_CHARS = 6
ID_CHARS = 36
MOST_CANDIDATES = 10

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to reindex.

    Attributes:
        ids: These executions; empty = all.
        since_us: Of all, only those that began at or after this time, Unix microseconds.
        drop: Forget the rows of each execution before they are made anew.
        accept_gone: Take open executions that Temporal does not know for failed, however many they are.
    """

    ids: tuple[str, ...] = ()
    since_us: int = 0
    drop: bool = False
    accept_gone: bool = False


@dataclass(slots=True)
class Summary:
    """What a reindex did.

    Attributes:
        executions: How many were looked at.
        rebuilt: How many have other rows now.
        unchanged: How many have the rows they had.
        gone: How many Temporal no longer has; they keep their rows.
        given_up: How many of those had not ended and are called failed now.
        failed: Those that could not be rebuilt and keep their rows, {id, code, message}.
        took_s: Seconds.
        rebuilt_ids: The first thousand of those that have other rows now.
    """

    executions: int = 0
    rebuilt: int = 0
    unchanged: int = 0
    gone: int = 0
    given_up: int = 0
    failed: list[dict[str, str]] = field(default_factory=list)
    took_s: float = 0.0
    rebuilt_ids: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON, with no more than the first thousand failures."""
        return {
            "executions": self.executions,
            "rebuilt": self.rebuilt,
            "unchanged": self.unchanged,
            "gone": self.gone,
            "given_up": self.given_up,
            "failed": len(self.failed),
            "failures": self.failed[:MOST_REASONS],
            "rebuilt_ids": self.rebuilt_ids,
            "took_s": round(self.took_s, 3),
        }


class Reindex:
    """Rebuilds executions, several at a time; may be run beside workers and again and again.

    Args:
        client: A connected client.
        store: The projection.
        replay: How to replay a run.
        tell: Called now and then with what was done so far.
    """

    def __init__(
        self, client: Client, store: ProjectionStore, replay: Replay, tell: Callable[[Summary], None] | None = None
    ) -> None:
        self._client = client
        self._store = store
        self._replay = replay
        self._tell = tell
        self._upkeep = Upkeep(store.database)
        self._summary = Summary()
        self._told_at = time.monotonic()

    async def run(self, wanted: Wanted) -> Summary:
        """Rebuild what is wanted.

        Raises:
            Conflict: `execution.ambiguous` for the beginning of several ids; nothing is rebuilt then.
            RPCError: Temporal does not answer; what was rebuilt so far stays.
        """
        began = time.monotonic()
        self._summary = Summary()
        pending: set[asyncio.Task[None]] = set()
        try:
            async for execution_id in self._ids(wanted):
                if len(pending) >= AT_ONCE:
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    _raise_first(done)
                pending.add(asyncio.create_task(self._one(execution_id, wanted)))
            while pending:
                done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                _raise_first(done)
        finally:
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        if wanted.accept_gone:
            await Foreign(self._client, self._upkeep, PulseStore(self._store.database)).accept()
        self._summary.took_s = time.monotonic() - began
        return self._summary

    async def _ids(self, wanted: Wanted) -> AsyncIterator[str]:
        if wanted.ids:
            for execution_id in dict.fromkeys([await self._whole(text) for text in wanted.ids]):
                yield execution_id
            return
        seen: set[str] = set()
        query = f"{ATTRIBUTE_TENANT} IS NOT NULL"
        if wanted.since_us:
            query += f" AND StartTime >= '{utc(wanted.since_us)}'"
        async for info in list_executions(self._client, query):
            # a run that continued another one, or was made by a reset, has the same id
            if info.execution.workflow_id not in seen:
                seen.add(info.execution.workflow_id)
                yield info.execution.workflow_id
        after = ""
        while page := await self._upkeep.ids(after_id=after, since_us=wanted.since_us):
            after = page[-1]
            for execution_id in page:
                if execution_id not in seen:
                    yield execution_id

    async def _whole(self, text: str) -> str:
        """Return the id that begins so; a text of which the store knows none comes back as it is.

        Raises:
            Conflict: `execution.ambiguous` if several do.
        """
        if not LEAST_PREFIX_CHARS <= len(text) < ID_CHARS:
            return text
        found = await self._upkeep.ids_like(text, limit=MOST_CANDIDATES)
        if len(found) > 1:
            raise Conflict(
                f"several executions have ids that begin with {text}",
                code="execution.ambiguous",
                hint=f"write more of the id: {', '.join(found)}",
                details={"ids": found},
            )
        return found[0] if found else text

    async def _one(self, execution_id: str, wanted: Wanted) -> None:
        summary = self._summary
        try:
            changed = await rebuild_execution(self._client, self._store, execution_id, self._replay, drop=wanted.drop)
        except NotFound as error:
            await self._missing(execution_id, error, wanted)
        except ReplayFailed as error:
            await self._fail(execution_id, error.code, error.message)
        except (RPCError, OSError):
            raise
        except Exception as error:
            log.error("an execution could not be rebuilt", execution=execution_id, exc_info=error)
            code = error.code if isinstance(error, EngineError) else "reindex.failed"
            await self._fail(execution_id, code, str(error))
        else:
            summary.rebuilt += changed
            if changed and len(summary.rebuilt_ids) < MOST_REASONS:
                summary.rebuilt_ids.append(execution_id)
            summary.unchanged += not changed
        summary.executions += 1
        if self._tell is not None and time.monotonic() - self._told_at > TELL_EVERY_S:
            self._told_at = time.monotonic()
            self._tell(summary)

    async def _missing(self, execution_id: str, error: NotFound, wanted: Wanted) -> None:
        known = (await self._upkeep.known([execution_id])).get(execution_id)
        if known is None:
            await self._fail(execution_id, error.code, error.message)
            return
        if not await self._upkeep.has_begun(execution_id):
            # it waits to be let in, or ended before it was: Temporal never had it
            self._summary.unchanged += 1
            return
        self._summary.gone += 1
        if known.gone_us is None and (known.settled or wanted.accept_gone):
            await self._upkeep.mark_gone(execution_id, at_us=time.time_ns() // 1_000)
            self._summary.given_up += not known.settled

    async def _fail(self, execution_id: str, code: str, message: str) -> None:
        self._summary.failed.append({"id": execution_id, "code": code, "message": message})
        tenant = await self._store.tenant_of(execution_id)
        if tenant is not None:
            await self._store.mark_verified(execution_id, tenant=tenant, verified=False)


def _raise_first(done: set[asyncio.Task[None]]) -> None:
    for task in done:
        task.result()


def wanted_of(arguments: Sequence[str]) -> Wanted:
    """Read the arguments of the process `reindex`: [ID…] --since-us N --drop --accept-gone."""
    parser = argparse.ArgumentParser(prog="python -m worker reindex")
    parser.add_argument("ids", nargs="*")
    parser.add_argument("--since-us", type=int, default=0)
    parser.add_argument("--drop", action="store_true")
    parser.add_argument("--accept-gone", action="store_true")
    found = parser.parse_args(list(arguments))
    return Wanted(tuple(found.ids), found.since_us, found.drop, found.accept_gone)


def tell_line(name: str, summary: Summary) -> None:
    """Print a summary as one JSON line on standard output: {"event": name, …}."""
    told = {"event": name, **summary.to_json()}
    if name == "progress":
        del told["failures"], told["rebuilt_ids"]
    sys.stdout.write(f"{json.dumps(told, ensure_ascii=False)}\n")
    sys.stdout.flush()
