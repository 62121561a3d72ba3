"""Use case on budgets: which there are, what of each is used now, and when it begins anew."""

from __future__ import annotations

import fnmatch
import time
from collections.abc import Callable
from typing import Any

from engine.core.run.times import iso_time
from engine.core.run.usage import nano_to_cost
from engine.settings import BudgetConfig, Project
from engine.store.budgets import cost_nano_of, period_of, task_of
from engine.store.spending import SpendingStore, Spent


class BudgetService:
    """Tells of budgets.

    Args:
        store: What was used of them.
        project: Returns what everstep.toml says.
    """

    def __init__(self, store: SpendingStore, project: Callable[[], Project]) -> None:
        self._store = store
        self._project = project

    async def list_budgets(self, *, tenant: str | None = None) -> list[dict[str, Any]]:
        """Return the budgets in the order of everstep.toml, each with what is used of it in the present period.

        Args:
            tenant: Only those that count the calls of this tenant, with what it used alone; None = all.
        """
        now_us = time.time_ns() // 1_000
        return [
            await self._view(name, budget, tenant, now_us)
            for name, budget in self._project().budgets.items()
            if tenant is None or any(fnmatch.fnmatchcase(tenant, glob) for glob in budget.tenants)
        ]

    async def _view(self, name: str, budget: BudgetConfig, tenant: str | None, now_us: int) -> dict[str, Any]:
        since_us, ends_us = period_of(budget.per, now_us)
        spent: list[Spent] = []
        if budget.per != "execution":
            spent = await self._store.spent(name, since_us=since_us, now_us=now_us, tenant=tenant)
        return {
            "name": name,
            "per": budget.per,
            "cost": nano_to_cost(cost_nano_of(budget)),
            "tokens": budget.tokens,
            "tasks": budget.tasks,
            "tenants": budget.tenants if tenant is None else [tenant],
            "each": list(budget.each),
            "since": iso_time(since_us) if since_us else None,
            "resets_at": iso_time(ends_us) if ends_us else None,
            "used": [_used(item) for item in spent],
        }


def _used(spent: Spent) -> dict[str, Any]:
    return {
        "tenant": spent.tenant or None,
        "task": task_of(spent.key) or None,
        "cost": nano_to_cost(spent.used.cost_nano),
        "tokens": spent.used.tokens,
        "reserved_cost": nano_to_cost(spent.reserved.cost_nano),
        "reserved_tokens": spent.reserved.tokens,
        "calls": spent.calls,
    }
