"""Says which budgets of the operator a model call uses up, and which period of each."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Protocol

from engine.store.spending import Pot

_NANO = Decimal(1_000_000_000)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Budget(Protocol):
    """What the operator says of a budget; see `engine.settings.BudgetConfig`."""

    @property
    def per(self) -> str:
        """Its period."""

    @property
    def cost(self) -> Decimal | None:
        """Most dollars."""

    @property
    def tokens(self) -> int | None:
        """Most tokens."""

    @property
    def tasks(self) -> Sequence[str]:
        """Globs of tasks."""

    @property
    def tenants(self) -> Sequence[str]:
        """Globs of tenants."""

    @property
    def each(self) -> Sequence[str]:
        """Who has one of its own."""


def period_of(per: str, now_us: int) -> tuple[int, int]:
    """Return begin and end of the period of a time; (0, 0) for `execution`, which has none.

    Args:
        per: `hour`, `day`, `month` or `execution`; days and months are those of UTC.
        now_us: Unix microseconds.
    """
    if per == "execution":
        return 0, 0
    hour = (_EPOCH + timedelta(microseconds=now_us)).replace(minute=0, second=0, microsecond=0)
    if per == "hour":
        return _us(hour), _us(hour + timedelta(hours=1))
    day = hour.replace(hour=0)
    if per == "day":
        return _us(day), _us(day + timedelta(days=1))
    month = day.replace(day=1)
    return _us(month), _us((month + timedelta(days=32)).replace(day=1))


def pots_of(budgets: Mapping[str, Budget], *, tenant: str, task: str, execution_id: str, now_us: int) -> list[Pot]:
    """Return what a call uses up of the operator's budgets.

    Args:
        budgets: By name.
        tenant: Tenant of the execution.
        task: Its task.
        execution_id: Its id.
        now_us: Unix microseconds.
    """
    return [
        _pot(name, budget, tenant, task, execution_id, now_us)
        for name, budget in budgets.items()
        if _is_one_of(task, budget.tasks) and _is_one_of(tenant, budget.tenants)
    ]


def cost_nano_of(budget: Budget) -> int | None:
    """Return the dollars of a budget in thousand-millionths; None = it has no limit of costs."""
    return None if budget.cost is None else int(budget.cost * _NANO)


def task_of(key: str) -> str:
    """Return the task that a pot is of alone; empty = it is of several."""
    parts = key.split("/", 3)
    return parts[3] if len(parts) == 4 and parts[2] == "task" else ""


def _pot(name: str, budget: Budget, tenant: str, task: str, execution_id: str, now_us: int) -> Pot:
    since_us, _ = period_of(budget.per, now_us)
    is_own = budget.per == "execution"
    whose = f"execution/{execution_id}" if is_own else f"task/{task}" if "task" in budget.each else "all"
    return Pot(
        tenant=tenant if is_own or "tenant" in budget.each else "",
        key=f"{name}/{since_us}/{whose}",
        budget=name,
        execution_id=execution_id if is_own else "",
        since_us=since_us,
        cost_nano=cost_nano_of(budget),
        tokens=budget.tokens,
    )


def _is_one_of(name: str, globs: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, glob) for glob in globs)


def _us(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)
