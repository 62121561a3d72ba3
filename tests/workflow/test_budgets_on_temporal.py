"""Limits of costs and budgets hold before a call is made: counted at the model's side, over branches and workers."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.client import Client

from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockScript
from engine.settings import BackendConfig, BudgetConfig, Price, Project
from engine.store.budgets import period_of
from engine.store.schema_spending import spending_reserved
from engine.store.spending import Amount, Pot, SpendingStore
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.servers import serve_app

pytestmark = pytest.mark.usefixtures("both_stores")

DOLLAR_A_TOKEN = Price.model_validate({"input": 0, "output": 1_000_000})
"""A reply of one token costs a dollar; requests cost nothing."""

CROWD = """
name: crowd
limits: {cost: %s}
main:
  - over: $ list(range(_.count))
    parallelism: 50
    map: {prompt: "Item {{ _ }}", model: m, unwrap: true, settings: {max_tokens: 1}}
"""
ROW = "name: row\nlimits: {cost: %s}\nmain: [{foreach: {in: '$ [1,2,3,4,5]', do: {prompt: hi, model: m}}}]"


@contextlib.asynccontextmanager
async def model(
    lab: Lab, *, price: Price | None = DOLLAR_A_TOKEN, delay_s: float = 0.0, tokens: int = 1, **budgets: Any
) -> AsyncIterator[MockLlm]:
    """Run a model with a price, and budgets for it; each of its replies has so many tokens."""
    usage = {"prompt_tokens": 5, "completion_tokens": tokens}
    app = create_app(MockScript.model_validate({"rules": [{"reply": "ok", "delay_s": delay_s, "usage": usage}]}))
    async with serve_app(app) as url:
        config = BackendConfig(base_url=f"{url}/v1", models=["m"], prices={} if price is None else {"m": price})
        named = {name: BudgetConfig.model_validate(budget) for name, budget in budgets.items()}
        lab.project = Project(backends={"b": config}, http=lab.http, budgets=named)
        yield app


async def another(lab: Lab) -> Lab:
    """Return the same laboratory with a client of its own, for a second worker."""
    address = lab.client.service_client.config.target_host
    return dataclasses.replace(lab, client=await Client.connect(address, data_converter=lab.client.data_converter))


async def run(lab: Lab, task: str, given: Any = None) -> Any:
    return await asyncio.wait_for(lab.run(task, given), PATIENCE_S)


async def test_a_limit_of_costs_ends_an_execution_before_the_call_that_would_exceed_it(lab: Lab) -> None:
    async with model(lab, tokens=2) as app, lab.worker():
        ended = await run(lab, ROW.replace("model: m", "model: m, settings: {max_tokens: 2}") % 5)
    assert ended.error is not None
    assert ended.error["code"] == "limit.cost"
    assert "$4 of $5 is used, and this call needs $2" in ended.error["message"]
    assert len(app.calls) == 2


async def test_what_a_limit_allows_is_used_up_to_the_last_call(lab: Lab) -> None:
    async with model(lab) as app, lab.worker():
        ended = await run(lab, CROWD % 20, {"count": 20})
    assert ended.error is None
    assert len(app.calls) == 20


async def test_branches_side_by_side_do_not_exceed_a_limit_that_their_calls_say_beforehand(lab: Lab) -> None:
    async with model(lab, delay_s=0.05) as app, lab.worker():
        ended = await run(lab, CROWD % 7, {"count": 50})
    assert ended.error is not None
    assert ended.error["code"] == "limit.cost"
    assert len(app.calls) <= 7


async def test_branches_whose_replies_nobody_bounds_exceed_a_limit_by_one_call_at_most(lab: Lab) -> None:
    async with model(lab, tokens=3, delay_s=0.05) as app, lab.worker():
        ended = await run(lab, (CROWD % 10).replace(", settings: {max_tokens: 1}", ""), {"count": 50})
    assert ended.error is not None
    assert ended.error["code"] == "limit.cost"
    # 3, 6, 9, and one that goes beyond
    assert len(app.calls) == 4


async def test_a_model_without_a_price_is_not_asked_where_costs_are_limited(lab: Lab) -> None:
    async with model(lab, price=None) as app, lab.worker():
        ended = await run(lab, ROW % 5)
    assert ended.error is not None
    assert ended.error["code"] == "backend.unpriced"
    assert "[backends.b.prices]" in ended.error["hint"]
    assert app.calls == []


async def test_a_limit_of_tokens_is_compared_before_the_call_too(lab: Lab) -> None:
    task = "name: t\nlimits: {tokens: 100}\nmain: [{prompt: hi, model: m, settings: {max_tokens: 200}}]"
    async with model(lab) as app, lab.worker():
        ended = await run(lab, task)
    assert ended.error is not None
    assert ended.error["code"] == "limit.tokens"
    assert "0 of 100 tokens are used, and this call needs 2" in ended.error["message"]
    assert app.calls == []


async def test_a_call_that_no_period_has_enough_for_is_told_to_be_bounded_not_to_wait(lab: Lab) -> None:
    task = "name: t\nmain: [{prompt: hi, model: m, settings: {max_tokens: 200}}]"
    async with model(lab, team={"tokens": 100}) as app, lab.worker():
        ended = await run(lab, task)
    assert ended.error is not None
    assert (ended.error["code"], ended.error["details"]) == ("budget.exhausted", {"budget": "team", "per": "day"})
    assert "raise tokens of [budgets.team]" in ended.error["hint"]
    assert "bound the reply by max_tokens" in ended.error["hint"]
    assert "wait for" not in ended.error["hint"]
    assert app.calls == []


async def test_a_budget_is_shared_by_all_workers_and_ends_with_its_period(lab: Lab) -> None:
    day = {"per": "day", "cost": 10}
    async with model(lab, delay_s=0.02, team=day) as app, lab.worker(), (await another(lab)).worker():
        task = (CROWD % 1000).replace("limits: {cost: 1000}\n", "")
        ends = await asyncio.gather(*(run(lab, task, {"count": 4}) for _ in range(5)))
    assert len(app.calls) == 10
    refused = [ended.error for ended in ends if ended.error is not None]
    assert {error["code"] for error in refused} == {"budget.exhausted"}
    assert all(0 < error["details"]["retry_after_s"] <= 86_400 for error in refused)
    assert refused[0]["details"]["budget"] == "team"


async def test_a_budget_counts_the_tasks_and_tenants_that_it_names(lab: Lab) -> None:
    budgets: dict[str, Any] = {
        "dear": {"tasks": ["dear_*"], "tokens": 1},
        "others": {"tenants": ["somebody"], "tokens": 1},
    }
    task = "name: {}\nmain: [{{prompt: hi, model: m}}]"
    async with model(lab, **budgets) as app, lab.worker():
        assert (await run(lab, task.format("cheap"))).error is None
        refused = (await run(lab, task.format("dear_one"))).error
    assert refused is not None
    assert refused["code"] == "budget.exhausted"
    assert "retry_after_s" not in refused["details"], "no period has enough for it"
    assert len(app.calls) == 1


async def test_a_task_can_go_on_without_a_model_when_a_budget_is_used_up(lab: Lab) -> None:
    task = "name: t\nmain: [{prompt: hi, model: m, on_error: {evaluate: $ error.code}}]"
    async with model(lab, small={"per": "hour", "tokens": 1}), lab.worker():
        assert (await run(lab, task)).output == "budget.exhausted"


async def test_each_execution_and_each_task_may_have_a_budget_of_its_own(lab: Lab) -> None:
    budgets: dict[str, Any] = {"one": {"per": "execution", "cost": 2}, "kind": {"each": ["task"], "cost": 3}}
    prompt = "{{prompt: hi, model: m, settings: {{max_tokens: 1}}}}"
    task = f"name: {{}}\nmain: [{{{{foreach: {{{{in: '$ [1, 2, 3]', do: {prompt}}}}}}}}}]"
    async with model(lab, **budgets) as app, lab.worker():
        codes = [(await run(lab, task.format(name))).error["details"]["budget"] for name in ("a", "b", "a")]
    assert codes == ["one", "one", "kind"]
    assert len(app.calls) == 5


async def test_what_a_lost_worker_reserved_is_free_after_a_while(lab: Lab) -> None:
    store = SpendingStore(lab.store.database)
    pot = Pot(tenant="", key="team/0/all", budget="team", cost_nano=10)
    assert await store.reserve([pot], "lost", execution_id="x", least=Amount(9), most=Amount(9), now_us=1) is None
    assert await store.reserve([pot], "next", execution_id="x", least=Amount(9), most=Amount(9), now_us=2) is not None
    later_us = 20_000_000
    found = await store.reserve([pot], "next", execution_id="x", least=Amount(9), most=Amount(9), now_us=later_us)
    assert found is None


async def test_nothing_stays_reserved_when_calls_have_ended(lab: Lab) -> None:
    async with model(lab, team={"cost": 100}), lab.worker():
        await run(lab, CROWD % 50, {"count": 10})
        spent = await SpendingStore(lab.store.database).spent("team", since_us=today_us(), now_us=0)
    assert [(item.tenant, item.used, item.calls) for item in spent] == [("", Amount(10_000_000_000, 60), 10)]
    rows = await lab.store.database.run(lambda connection: connection.execute(spending_reserved.select()).all())
    assert rows == []


def today_us() -> int:
    return period_of("day", time.time_ns() // 1_000)[0]
