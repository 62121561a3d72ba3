"""Keeps the model calls of a worker within limits of executions and budgets of the operator, before they are made."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from activities.effects import Postponed
from engine.core.contracts.activities import CallContext, CallLimits
from engine.core.errors import BackendError, BudgetError, LimitExceeded, RunError, Unavailable
from engine.core.run.usage import nano_to_cost
from engine.settings import BudgetConfig
from engine.store.budgets import period_of, pots_of
from engine.store.spending import HELD_US, Amount, Pot, Refused, SpendingStore

PATIENCE_S = 3.0
"""How long a call waits in its slot for others to tell what they used; they often do so soon."""
LOOK_EVERY_S = 1.0
"""How often it looks again then: others may be in other workers."""
LATER_S = 2.0
STORE_AWAY_S = 1.0
HOLD_EVERY_S = HELD_US / 1e6 / 3

log = structlog.get_logger(__name__)


def _now_us() -> int:
    return time.time_ns() // 1_000


@dataclass(frozen=True, slots=True)
class _Debt:
    """What a call used and the store does not know yet."""

    pots: Sequence[Pot]
    call_id: str
    used: Amount


class Spender:
    """What the calls of a worker use up.

    Args:
        store: Where all workers count.
        budgets: The operator's, by name.
        now_us: Unix microseconds.
    """

    def __init__(
        self,
        store: SpendingStore,
        budgets: Mapping[str, BudgetConfig] | None = None,
        now_us: Callable[[], int] = _now_us,
    ) -> None:
        self.store = store
        self.budgets = dict(budgets or {})
        self.now_us = now_us
        self._held: set[str] = set()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._debts: list[_Debt] = []
        self._holding: asyncio.Task[None] | None = None

    def pots(self, context: CallContext, task: str, limits: CallLimits | None) -> list[Pot]:
        """Return what a call uses up, the limits of its execution first.

        Args:
            context: Who calls.
            task: Name of the task.
            limits: What its execution may use; None = anything.
        """
        tenant, execution_id = context.tenant, context.execution_id
        found = pots_of(self.budgets, tenant=tenant, task=task, execution_id=execution_id, now_us=self.now_us())
        if limits is None or (limits.tokens is None and limits.cost_nano is None):
            return found
        own = Pot(
            tenant=tenant,
            key=f"/{execution_id}",
            execution_id=execution_id,
            cost_nano=limits.cost_nano,
            tokens=limits.tokens,
            known=Amount(limits.cost_nano_used, limits.tokens_used),
        )
        return [own, *found]

    async def reserve(
        self, pots: Sequence[Pot], call_id: str, *, execution_id: str, least: Amount, most: Amount
    ) -> bool:
        """Reserve what a call may use, and wait a moment if others must first tell what they used.

        Args:
            pots: What it uses up.
            call_id: Its id, the same whenever it is tried again.
            execution_id: Its execution.
            least: What it is certain to use.
            most: What it may use.

        Returns:
            Whether it is reserved; if not, the call is to be made again later.

        Raises:
            LimitExceeded: `limit.cost` or `limit.tokens`.
            BudgetError: `budget.exhausted`.
            Unavailable: The store does not answer.
        """
        if self._holding is None:
            self._holding = asyncio.create_task(self._hold(), name="budgets")
        until = time.monotonic() + PATIENCE_S
        while True:
            found = await self.store.reserve(
                pots, call_id, execution_id=execution_id, least=least, most=most, now_us=self.now_us()
            )
            if found is None:
                self._held.add(call_id)
                self._wake()  # there may be enough for the next one too
                return True
            if isinstance(found, Refused):
                self._wake()  # what this one must not do, a smaller one may
                raise self._refusal(found, least)
            if time.monotonic() >= until:
                return False
            await self._next_turn()

    async def settle(self, pots: Sequence[Pot], call_id: str, used: Amount | None) -> None:
        """End a call: what it reserved is free, and what it used is counted, if not now then later.

        Args:
            pots: What it uses up.
            call_id: The call.
            used: What it used; None = it was not answered.
        """
        self._held.discard(call_id)
        try:
            await self.store.settle(pots, call_id, used)
        except Unavailable as error:
            log.warning("what a call used could not be counted yet", call=call_id, error=str(error))
            if used is not None:
                self._debts.append(_Debt(pots, call_id, used))
        self._wake()

    async def aclose(self) -> None:
        """Hold nothing any more."""
        if self._holding is not None:
            self._holding.cancel()
            await asyncio.gather(self._holding, return_exceptions=True)

    # --- waiting -----------------------------------------------------------------------------------------------------

    async def _next_turn(self) -> None:
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await turn
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self._wake()
            raise

    def _wake(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    async def _hold(self) -> None:
        while True:
            await asyncio.sleep(HOLD_EVERY_S)
            try:
                await self.store.hold(self._held, now_us=self.now_us())
                while self._debts:
                    debt = self._debts[0]
                    await self.store.settle(debt.pots, debt.call_id, debt.used)
                    self._debts.pop(0)
            except Unavailable as error:
                log.warning("what calls may use could not be held", error=str(error))

    # --- refusing ----------------------------------------------------------------------------------------------------

    def _refusal(self, found: Refused, least: Amount) -> RunError:
        pot, what = found.pot, "cost" if found.is_cost else "tokens"
        if found.is_cost:
            limit = pot.cost_nano or 0
            used, needs, most = (f"${nano_to_cost(nano)}" for nano in (found.used.cost_nano, least.cost_nano, limit))
            is_too_small = least.cost_nano > limit
            told = f"{used} of {most} is used, and this call needs {needs}"
        else:
            limit = pot.tokens or 0
            is_too_small = least.tokens > limit
            told = f"{found.used.tokens} of {limit} tokens are used, and this call needs {least.tokens}"
        if not pot.budget:
            return LimitExceeded(
                f"the limit of the execution leaves nothing for this call: {told}",
                code=f"limit.{what}",
                hint=f"raise limits.{what} of the task, or bound the reply by max_tokens in the settings of the step",
            )
        budget = self.budgets[pot.budget]
        _, ends_us = period_of(budget.per, self.now_us())
        details: dict[str, object] = {"budget": pot.budget, "per": budget.per}
        hint = f"raise {what} of [budgets.{pot.budget}] in everstep.toml"
        if ends_us and not is_too_small:
            details["retry_after_s"] = max(1.0, (ends_us - self.now_us()) / 1e6)
            hint += f", or wait for the next {budget.per}: `retry: {{on: budget.exhausted, attempts: 2}}` does"
        elif is_too_small:
            hint += ", or bound the reply by max_tokens in the settings of the step"
        message = f"the budget '{pot.budget}' leaves nothing for this call: {told}"
        return BudgetError(message, hint=hint, details=details)


class CallSpending:
    """What one call uses up.

    Args:
        spender: The worker's; None = nothing is bounded.
        pots: What the call uses up.
        call_id: Its id, the same whenever it is tried again.
        execution_id: Its execution.
        put_off: Makes the call be made again after so many seconds.
    """

    def __init__(
        self,
        spender: Spender | None,
        pots: Sequence[Pot],
        call_id: str,
        execution_id: str,
        put_off: Callable[[float], Postponed],
    ) -> None:
        self._spender = spender
        self._pots = pots
        self._call_id = call_id
        self._execution_id = execution_id
        self._put_off = put_off
        self._least: Amount | None = None
        self._used: Amount | None = None

    @property
    def needs_prices(self) -> bool:
        """Whether it must be known what the call costs."""
        return any(pot.cost_nano is not None for pot in self._pots)

    @property
    def is_bounded(self) -> bool:
        """Whether anything is bounded at all."""
        return bool(self._pots)

    async def reserve(self, least: Amount, most: Amount) -> None:
        """Reserve what the call may use, instead of what was reserved for it before.

        Args:
            least: What it is certain to use.
            most: What it may use.

        Raises:
            LimitExceeded: `limit.cost` or `limit.tokens`.
            BudgetError: `budget.exhausted`.
            Postponed: It is to be made again later.
        """
        if self._spender is None or not self._pots:
            return
        self._least = least  # also of a try that is broken off, which may have been written down
        try:
            is_reserved = await self._spender.reserve(
                self._pots, self._call_id, execution_id=self._execution_id, least=least, most=most
            )
        except Unavailable:
            raise self._put_off(STORE_AWAY_S) from None
        if not is_reserved:
            raise self._put_off(LATER_S)

    def note(self, cost_nano: int | None, tokens: int | None) -> None:
        """Say what the call used; what is not known counts as much as it was certain to use."""
        least = self._least or Amount()
        self._used = Amount(
            least.cost_nano if cost_nano is None else cost_nano, least.tokens if tokens is None else tokens
        )

    def unpriced(self, backend: str, model: str) -> BackendError:
        """Return the error of a model whose price is not known, since costs are limited.

        Args:
            backend: Name of the backend.
            model: The model.
        """
        budget = next((pot.budget for pot in self._pots if pot.cost_nano is not None), "")
        what = f"the budget '{budget}'" if budget else "the limit `cost` of the task"
        return BackendError(
            f"the price of '{model}' at backend '{backend}' is not known, and {what} cannot be kept without it",
            code="backend.unpriced",
            hint=f"state it under [backends.{backend}.prices] in everstep.toml, "
            f'such as "{model}" = {{input = 0.15, output = 0.6}}; what costs nothing has the price 0',
        )

    async def settle(self) -> None:
        """End the call; without a `note` before it was not answered, and nothing is counted."""
        if self._spender is not None and self._least is not None:
            await asyncio.shield(self._spender.settle(self._pots, self._call_id, self._used))
