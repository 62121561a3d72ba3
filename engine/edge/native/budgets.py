"""Route of budgets: what model calls may use together, what is used of it, and when it begins anew."""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import Field

from engine.core.values import Json
from engine.edge.http.callers import caller_of, is_operator
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.paging import refuse_unknown_queries
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import Answer

router = APIRouter(tags=["budgets"], dependencies=[Depends(refuse_unknown_queries)])


class BudgetUse(Answer):
    """What one tenant or task, or all together, used of a budget."""

    tenant: str | None = Field(description="Null: it is shared by all.")
    task: str | None = Field(description="Null: it is shared by all tasks that it counts.")
    cost: str = Field(description="Dollars of calls that ended.")
    tokens: int
    reserved_cost: str = Field(description="Dollars that calls under way may cost.")
    reserved_tokens: int
    calls: int


class BudgetView(Answer):
    """A budget."""

    name: str
    per: Literal["hour", "day", "month", "execution"]
    cost: str | None = Field(description="Most dollars; null: any amount.")
    tokens: int | None = Field(description="Most tokens; null: any number.")
    tasks: list[str]
    tenants: list[str]
    each: list[Literal["tenant", "task"]] = Field(description="Who has a budget of its own instead of one for all.")
    since: str | None
    resets_at: str | None
    used: list[BudgetUse] = Field(description="In the present period; empty where each execution has its own.")


class Budgets(Answer):
    """All budgets."""

    items: list[BudgetView]


@router.get("/budgets")
async def list_budgets(request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return the budgets and what is used of them now.

    Callers of other tenants than the operator's see those that count their calls, and what they used alone.
    """
    shown = None if is_operator(caller_of(request)) else tenant
    return {"items": await services.budgets.list_budgets(tenant=shown)}


BUDGET_DOCS: Final[Docs] = {("GET", "/api/budgets"): Doc(answer=Budgets, errors=(400, 422))}
_USE: Final[dict[str, Json]] = {
    "tenant": None,
    "task": None,
    "cost": "1.25",
    "tokens": 48_200,
    "reserved_cost": "0.04",
    "reserved_tokens": 1_500,
    "calls": 61,
}
_BUDGET: Final[dict[str, Json]] = {
    "name": "team",
    "per": "day",
    "cost": "5",
    "tokens": 1_000_000,
    "tasks": ["*"],
    "tenants": ["*"],
    "each": [],
    "since": "2026-11-20T00:00:00Z",
    "resets_at": "2026-11-21T00:00:00Z",
    "used": [_USE],
}
BUDGET_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    BudgetUse: _USE,
    BudgetView: _BUDGET,
    Budgets: {"items": [_BUDGET]},
}
