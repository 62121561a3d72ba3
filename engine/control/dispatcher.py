"""Lets starts in that wait: a loop in every worker and every API, woken by what makes room and once a second."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import structlog
from temporalio.client import Client
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT
from engine.control.describing import describe
from engine.control.failing import is_shared
from engine.control.launching import Launch, launch
from engine.control.settling import TERMINATED_BY
from engine.core.contracts.execution import SIGNAL_CANCEL_REASON, CancelReasonSignal
from engine.core.errors import EngineError, NotFound
from engine.settings import Settings
from engine.store.admission import AdmissionStore
from engine.store.ends import ExecutionEnd
from engine.store.letting_in import LEASE_US, Claim, LettingIn, Round
from engine.store.projection import ProjectionStore
from engine.store.rows import Named
from engine.store.start_rows import Withdrawal
from engine.store.turns import Limits

SWEEP_S = 1.0
"""A place is given back after so long at the latest, whoever stored the end of its execution."""
SHORTEST_S = 0.02
"""Between two looks at what waits, so that a burst of ends is one look."""
AT_ONCE = 16
AGAIN_US = 1_000_000
"""After which time a start is tried again that Temporal did not take."""
REFUSED = "start.refused"

_REFUSALS = frozenset({RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.FAILED_PRECONDITION, RPCStatusCode.OUT_OF_RANGE})

log = structlog.get_logger(__name__)

Connect = Callable[[], Awaitable[Client]]


class Dispatcher:
    """Lets starts in, beside other processes that do the same.

    Args:
        store: The projection; once it was started, the dispatcher hears of the ends that are stored through it.
        connect: Returns a connected client.
        task_queue: Task queue of the workers.
        limits: The operator's limits.
        lease_us: How long another process waits before it takes over what this one has claimed.
    """

    def __init__(
        self,
        store: ProjectionStore,
        connect: Connect,
        *,
        task_queue: str,
        limits: Limits,
        lease_us: int = LEASE_US,
    ) -> None:
        self._admission = AdmissionStore(store)
        owner = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._letting = LettingIn(self._admission, limits, owner=owner, lease_us=lease_us)
        self._connect = connect
        self._task_queue = task_queue
        self._woken = asyncio.Event()
        self._ended: set[str] = set()
        self._has_starts = False
        self._stopping = False
        self._running: asyncio.Task[None] | None = None
        self._swept = 0.0
        self._store = store
        self._told = store.on_closed

    def _closed(self, ends: Sequence[ExecutionEnd], news: Mapping[str, bool]) -> None:
        if self._told is not None:
            self._told(ends, news)
        # while nothing waits and no place is held, ends cost nothing
        if self._has_starts:
            self._ended.update(end.execution_id for end in ends if end.execution_id in news)
            self._woken.set()

    def wake(self) -> None:
        """Look at once: a start was entered or taken back."""
        self._has_starts = True
        self._woken.set()

    def start(self) -> None:
        """Begin to let in, and to listen to ends, beside whoever does already."""
        self._told, self._store.on_closed = self._store.on_closed, self._closed
        self._running = asyncio.create_task(self.run(), name="dispatcher")

    async def stop(self) -> None:
        """Finish what is under way and let nothing more in."""
        self._stopping = True
        self._woken.set()
        if self._running is not None:
            await self._running

    async def run(self) -> None:
        """Let in until `stop` is called; a store or Temporal that fails for a while is asked again."""
        while not self._stopping:
            began = time.monotonic()
            self._woken.clear()
            try:
                pause_s = await self.turn()
            except Exception as error:
                log.error("starts that wait could not be let in", exc_info=error)
                pause_s = SWEEP_S
            ended = time.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._woken.wait()
            # a long look must not be followed by the next one at once
            rest_s = ended + max(SHORTEST_S, ended - began) - time.monotonic()
            if rest_s > 0 and not self._stopping:
                await asyncio.sleep(rest_s)

    async def turn(self) -> float:
        """Look once; returns after how many seconds to look again, if nothing happens before."""
        ended, self._ended = self._ended, set()
        if ended:
            await self._letting.release(ended)
        look = await self._letting.look()
        self._has_starts = not look.is_empty
        if look.is_empty:
            return SWEEP_S
        if look.holding and time.monotonic() - self._swept >= SWEEP_S:
            self._swept = time.monotonic()
            await self._letting.sweep(_now_us())
        if look.is_due(_now_us()):
            found = await self._letting.round(_now_us())
            await self._carry_out(found)
            if found.more:
                return 0.0
            look = await self._letting.look()
        # one that is due already waits for room
        later = [at_us for at_us in (look.due_us, look.deadline_us, look.claimed_us) if at_us and at_us > _now_us()]
        return min([SWEEP_S, *((at_us - _now_us()) / 1e6 for at_us in later)])

    async def _carry_out(self, found: Round) -> None:
        if not (found.claims or found.told):
            return
        try:
            client = await self._connect()
        except EngineError as error:
            log.warning("Temporal cannot be reached; starts wait", starts=len(found.claims), error=error.message)
            await self._letting.put_back([claim.id for claim in found.claims], until_us=_now_us() + AGAIN_US)
            return
        for tenant, execution_id, how in found.told:
            await self._tell(client, tenant, execution_id, how, keeps=True)
        if found.claims:
            await self._begin(client, found.claims)

    # --- beginning -------------------------------------------------------------------------------------------------

    async def _begin(self, client: Client, claims: Sequence[Claim]) -> None:
        """Start workflows, several at a time, and note what became of each."""
        gate = asyncio.Semaphore(AT_ONCE)
        begun: list[tuple[Claim, Named]] = []
        refused: dict[str, Withdrawal] = {}
        later: list[str] = []

        async def one(claim: Claim) -> None:
            async with gate:
                try:
                    what = Launch.of(claim.params, claim.input, deadline_us=claim.deadline_us)
                    refusal = await self._launch(client, claim, what)
                except Exception as error:
                    later.append(claim.id)
                    if is_shared(error):
                        log.warning("a start has to wait for Temporal", execution=claim.id, error=str(error))
                    else:
                        log.error("an execution could not be started", execution=claim.id, exc_info=error)
                    return
            if refusal is None:
                begun.append((claim, what.named))
            else:
                refused[claim.id] = refusal

        async with asyncio.TaskGroup() as group:
            for claim in claims:
                group.create_task(one(claim))
        if refused:
            await self._letting.give_up(refused, now_us=_now_us())
        if later:
            await self._letting.put_back(later, until_us=_now_us() + AGAIN_US)
        if begun:
            keeps = {claim.id: claim.keeps for claim, _ in begun}
            for tenant, execution_id, how in await self._letting.began(begun):
                await self._tell(client, tenant, execution_id, how, keeps=keeps[execution_id])

    async def _launch(self, client: Client, claim: Claim, what: Launch) -> Withdrawal | None:
        """Start a workflow that may have been started before; returns how its execution ends if it never can be."""
        if claim.begun:
            # its events are in the store: it was started, whatever has become of it
            return None
        if claim.withdrawal is not None and not await self._is_there(client, claim):
            return claim.withdrawal
        try:
            await launch(client, what, task_queue=self._task_queue)
        except WorkflowAlreadyStartedError:
            found = await describe(client, claim.id)
            if not found.is_of(claim.tenant):
                return Withdrawal("fail", f"Temporal has an execution {claim.id} already", code="execution.exists")
        except RPCError as error:
            if error.status not in _REFUSALS:
                raise
            return Withdrawal("fail", f"Temporal refused to start it: {error.message}", code=REFUSED)
        return None

    async def _is_there(self, client: Client, claim: Claim) -> bool:
        try:
            return (await describe(client, claim.id)).is_of(claim.tenant)
        except NotFound:
            return False

    # --- ending ----------------------------------------------------------------------------------------------------

    async def _tell(self, client: Client, tenant: str, execution_id: str, how: Withdrawal, *, keeps: bool) -> None:
        """End a running execution as it was wanted while it was started, or by the one that takes its place."""
        handle = client.get_workflow_handle(execution_id)
        try:
            if how.kind == "terminate":
                details = [{TERMINATED_BY: how.actor}] if how.actor else []
                await handle.terminate(*details, reason=how.reason or None, rpc_timeout=RPC_TIMEOUT)
            else:
                signal = CancelReasonSignal(reason=how.reason, actor=how.actor)
                await handle.signal(SIGNAL_CANCEL_REASON, signal, rpc_timeout=RPC_TIMEOUT)
                await handle.cancel(rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                log.warning("an execution could not be told to end yet", execution=execution_id, error=str(error))
                return
            # it has ended by itself
        await self._letting.told(execution_id, tenant=tenant, keeps=keeps)


def limits_of(settings: Settings) -> Limits:
    """Return what the operator permits."""
    return Limits(settings.max_running, settings.max_running_per_tenant)


def _now_us() -> int:
    return time.time_ns() // 1_000
