"""Periods, pots and estimates of budgets: whose calls they count, from when to when, and what a call may use."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from activities.budgets import Spender
from activities.estimating import OPEN_REPLY_TOKENS, estimate_chat, estimate_texts
from engine.core.contracts.activities import CallContext, CallLimits, ChatParams
from engine.core.tokens import IMAGE_TOKENS, prompt_tokens
from engine.settings import BudgetConfig, Price
from engine.store.budgets import period_of, pots_of, task_of
from engine.store.spending import Amount

HOUR_US = 3_600_000_000


def us(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> int:
    return round(datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp() * 1_000_000)


def call(text: str = "x" * 1_200, **more: Any) -> ChatParams:
    context = CallContext(tenant="acme", execution_id="e", path="main.0", key="k")
    return ChatParams(context=context, messages=[{"role": "user", "content": text}], **more)


@pytest.mark.parametrize(
    ("per", "since", "ends"),
    [
        ("hour", us(2026, 12, 31, 23), us(2027, 1, 1)),
        ("day", us(2026, 12, 31), us(2027, 1, 1)),
        ("month", us(2026, 12, 1), us(2027, 1, 1)),
        ("execution", 0, 0),
    ],
)
def test_periods_are_those_of_utc(per: str, since: int, ends: int) -> None:
    assert period_of(per, us(2026, 12, 31, 23, 59, 59)) == (since, ends)


def test_a_month_ends_where_the_next_one_begins_whatever_its_length() -> None:
    begins = [period_of("month", us(2024, month, 28))[0] for month in range(1, 13)]
    assert [period_of("month", us(2024, month, 1))[1] for month in range(1, 12)] == begins[1:]


def test_a_budget_has_one_pot_for_all_or_one_for_each_tenant_task_or_execution() -> None:
    budgets = {
        "all": BudgetConfig(tokens=1),
        "mine": BudgetConfig(tokens=1, each=["tenant", "task"]),
        "own": BudgetConfig(tokens=1, per="execution"),
        "others": BudgetConfig(tokens=1, tasks=["b*"]),
        "strangers": BudgetConfig(tokens=1, tenants=["globex"]),
    }
    pots = pots_of(budgets, tenant="acme", task="a/b", execution_id="e", now_us=us(2026, 1, 2, 3))
    since = us(2026, 1, 2)
    assert [(pot.tenant, pot.key, pot.execution_id) for pot in pots] == [
        ("", f"all/{since}/all", ""),
        ("acme", f"mine/{since}/task/a/b", ""),
        ("acme", "own/0/execution/e", "e"),
    ]
    assert [task_of(pot.key) for pot in pots] == ["", "a/b", ""]


@pytest.mark.parametrize("wrong", [{}, {"cost": 0}, {"tokens": 0}, {"tokens": 1, "per": "week"}, {"cost": 1, "x": 1}])
def test_a_budget_that_bounds_nothing_or_says_something_else_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BudgetConfig.model_validate(wrong)


def test_the_limits_of_an_execution_come_first_and_know_what_it_knows() -> None:
    spender = Spender(None, {"all": BudgetConfig(tokens=1)})  # type: ignore[arg-type]
    context = call().context
    limits = CallLimits(tokens=10, tokens_used=4, cost_nano_used=7)
    own, _ = spender.pots(context, "t", limits)
    assert (own.key, own.budget, own.tokens, own.cost_nano, own.known) == ("/e", "", 10, None, Amount(7, 4))
    assert len(spender.pots(context, "t", CallLimits())) == 1


def test_an_estimate_reaches_from_what_is_certain_to_what_may_be() -> None:
    price = Price.model_validate({"input": 2, "output": 10, "cache_write": 3})
    least, most = estimate_chat(call(settings={"max_tokens": 100}), [price])
    assert 300 <= least.tokens - 100 <= 320
    assert 400 <= most.tokens - 100 <= 420
    assert least.cost_nano == (least.tokens - 100) * 2_000 + 100 * 10_000
    assert most.cost_nano == (most.tokens - 100) * 3_000 + 100 * 10_000


def test_a_reply_that_nobody_bounds_may_be_long_and_thoughts_make_it_longer() -> None:
    least, most = estimate_chat(call("hi"))
    assert least.tokens < 20
    assert most.tokens >= OPEN_REPLY_TOKENS
    thinking = estimate_chat(call("hi", settings={"thinking": {"budget_tokens": 5_000}}))[1]
    assert thinking.tokens == most.tokens + 5_000


def test_the_dearest_of_those_who_may_answer_counts() -> None:
    prices = [Price.model_validate({"input": number, "output": number}) for number in (1, 5, 3)]
    assert estimate_chat(call(), prices) == estimate_chat(call(), prices[1:2])


def test_pictures_count_by_their_number_and_other_letters_one_by_one() -> None:
    picture = f"data:image/png;base64,{'A' * 100_000}"
    assert prompt_tokens([[{"url": picture}, {"url": picture}]])[1] < 2 * IMAGE_TOKENS + 50
    assert prompt_tokens(["漢字" * 50]) == (25, 100)


def test_texts_to_embed_cost_what_goes_in() -> None:
    assert estimate_texts(["abc" * 100], None) == (Amount(0, 75), Amount(0, 100))
    assert estimate_texts(["abc" * 100], Price.model_validate({"input": 1, "output": 9}))[1] == Amount(100_000, 100)
