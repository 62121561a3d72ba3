"""Tokens and money: prices in everstep.toml, the cost of a reply, and sums that never take unknown for nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from activities.llm import cost_of
from engine.control.payloads import data_converter
from engine.core.contracts.activities import ChatResult, Usage
from engine.core.errors import InvalidInput
from engine.core.run.usage import UsageSums, cost_to_nano, nano_to_cost, parts_text
from engine.settings import BackendConfig, load_project

PRICED = """
[backends.main]
base_url = "http://127.0.0.1:9/v1"
[backends.main.prices."small"]
input = 0.15
output = 0.60
[backends.main.prices."*"]
input = 3
output = 15
"""


def backend(tmp_path: Path, text: str = PRICED) -> BackendConfig:
    file = tmp_path / "everstep.toml"
    file.write_text(text, encoding="utf-8")
    return load_project(file).backends["main"]


def reply(model: str, usage: Usage | None = None) -> ChatResult:
    return ChatResult(
        id="1", model=model, backend="main", created=0, message={"role": "assistant"}, finish_reason="stop", usage=usage
    )


def finished(**body: Any) -> dict[str, Any]:
    return {"kind": "prompt", "outcome": "ok", **body}


# --- money ---------------------------------------------------------------------------------------------------------


def test_dollars_are_rounded_half_up_to_thousand_millionths() -> None:
    assert [cost_to_nano(text) for text in ("0.0000000005", "0.00000000049", "1.5", "0")] == [1, 0, 1_500_000_000, 0]


@pytest.mark.parametrize("text", [None, 1, "", "dear", "NaN", "Infinity", "-1", "1e30"])
def test_what_is_no_price_is_unknown(text: Any) -> None:
    assert cost_to_nano(text) is None


def test_money_is_shown_as_a_decimal_number_and_unknown_as_null() -> None:
    assert [nano_to_cost(nano) for nano in (123_000, 1, 0, 10_000_000_000, None)] == [
        "0.000123",
        "0.000000001",
        "0",
        "10",
        None,
    ]


# --- prices --------------------------------------------------------------------------------------------------------


def test_a_reply_costs_what_its_model_costs(tmp_path: Path) -> None:
    config, usage = backend(tmp_path), Usage(prompt_tokens=1_000, completion_tokens=200, total_tokens=1_200)
    assert cost_of(config, "small", reply("small", usage)) == "0.00027"
    assert cost_of(config, "other", reply("other", usage)) == "0.006"


def test_a_server_that_answers_with_a_longer_name_is_priced_by_the_name_that_was_asked_for(tmp_path: Path) -> None:
    usage = Usage(prompt_tokens=1_000_000, completion_tokens=0, total_tokens=1_000_000)
    assert cost_of(backend(tmp_path), "small", reply("small-2026-01-01", usage)) == "0.15"


CACHED = Usage(
    prompt_tokens=1_000_000,
    completion_tokens=100_000,
    total_tokens=1_100_000,
    cached_tokens=600_000,
    cache_write_tokens=300_000,
    reasoning_tokens=90_000,
)


@pytest.mark.parametrize(
    ("price", "cost"),
    [
        # 0.1 + 0.6 + 0.3 million at 3 dollars each, and 0.1 million at 15, thoughts included
        ("input = 3\noutput = 15", "4.5"),
        ("input = 3\noutput = 15\ncached_input = 0.3", "2.88"),
        ("input = 3\noutput = 15\ncache_write = 3.75", "4.725"),
        ("input = 3\noutput = 15\ncached_input = 0.3\ncache_write = 3.75", "3.105"),
        ("input = 3\noutput = 15\ncached_input = 0\ncache_write = 0", "1.8"),
    ],
)
def test_what_comes_from_the_cache_and_goes_there_has_its_own_price(tmp_path: Path, price: str, cost: str) -> None:
    text = f'[backends.main]\nbase_url = "http://127.0.0.1:9/v1"\n[backends.main.prices."m"]\n{price}\n'
    assert cost_of(backend(tmp_path, text), "m", reply("m", CACHED)) == cost


def test_a_price_of_the_cache_changes_nothing_for_a_call_that_met_none(tmp_path: Path) -> None:
    dear = '[backends.main]\nbase_url = "http://127.0.0.1:9/v1"\n[backends.main.prices."m"]\ninput = 1\noutput = 2\n'
    usage = Usage(prompt_tokens=7, completion_tokens=3, total_tokens=10)
    costs = [cost_of(backend(tmp_path, dear + more), "m", reply("m", usage)) for more in ("", "cached_input = 9\n")]
    assert costs == ["0.000013", "0.000013"]


def test_without_tokens_or_without_a_price_the_cost_is_unknown(tmp_path: Path) -> None:
    usage = Usage(prompt_tokens=1, completion_tokens=1, total_tokens=2)
    unpriced = '[backends.main]\nbase_url = "http://127.0.0.1:9/v1"\n'
    assert cost_of(backend(tmp_path), "small", reply("small")) is None
    assert cost_of(backend(tmp_path, unpriced), "small", reply("small", usage)) is None


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("inptu = 1\ninput = 1\noutput = 1", "did you mean 'input'"),
        ("input = -1\noutput = 1", "greater than or equal to 0"),
        ("input = 1", "output: Field required"),
        ('input = "dear"\noutput = 1', "valid decimal"),
        ("input = inf\noutput = 1", "finite"),
        ("input = 1\noutput = 1\ncached_input = -0.1", "cached_input: Input should be greater than or equal to 0"),
        ("input = 1\noutput = 1\ncache_write = 1e9", "cache_write: Input should be less than or equal to 1000000"),
        ("input = 1\noutput = 1\ncache_input = 1", "did you mean 'cached_input'"),
    ],
)
def test_a_wrong_price_is_an_error_that_names_its_place(tmp_path: Path, line: str, told: str) -> None:
    text = f'[backends.main]\nbase_url = "http://127.0.0.1:9/v1"\n[backends.main.prices."m"]\n{line}\n'
    with pytest.raises(InvalidInput) as caught:
        backend(tmp_path, text)
    assert "backends.main.prices.m" in caught.value.message
    assert told in caught.value.message


# --- sums ----------------------------------------------------------------------------------------------------------


def test_calls_tokens_and_costs_are_summed() -> None:
    sums = UsageSums()
    sums.apply("effect.started", {"kind": "prompt"})
    sums.apply("effect.started", {"kind": "tool_call"})
    sums.apply("effect.started", {"kind": "task"})
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    parts = {"cached_tokens": 1, "cache_write_tokens": 2, "reasoning_tokens": 1}
    sums.apply("effect.finished", finished(usage={**usage, **parts}, cost="0.5"))
    sums.apply("effect.finished", finished(usage=usage, cost="0.25"))
    sums.apply("attempt.failed", {"kind": "foreach"})
    assert sums.to_json() == {
        "llm_calls": 1,
        "tool_calls": 1,
        "prompt_tokens": 6,
        "completion_tokens": 4,
        "total_tokens": 10,
        "cached_tokens": 1,
        "cache_write_tokens": 2,
        "reasoning_tokens": 1,
        "cost": "0.75",
        "unpriced_calls": 0,
    }
    assert sums.failed_attempts == 1


def test_a_reply_of_unknown_price_is_counted_and_costs_nothing_known() -> None:
    sums = UsageSums()
    sums.apply("effect.finished", finished(cost=None))
    assert (sums.cost_nano, sums.unpriced_calls, sums.to_json()["cost"]) == (None, 1, None)
    sums.apply("effect.finished", finished(cost="0"))
    assert (sums.cost_nano, sums.unpriced_calls, sums.to_json()["cost"]) == (0, 1, "0")


def test_a_call_that_failed_has_no_price_to_be_unknown() -> None:
    sums = UsageSums()
    sums.apply("effect.finished", {"kind": "prompt", "outcome": "failed"})
    sums.apply("effect.finished", {"kind": "tool_call", "outcome": "ok"})
    assert sums == UsageSums()


# --- telling -------------------------------------------------------------------------------------------------------


def test_parts_that_are_0_are_not_told_and_all_else_is() -> None:
    whole = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    assert Usage().to_json() == whole
    assert Usage(cached_tokens=4).to_json() == whole | {"cached_tokens": 4}
    assert reply("m").to_json()["usage"] is None
    told = asdict(reply("m", CACHED))
    assert told.pop("logprobs") is None
    assert reply("m", CACHED).to_json() == told


async def test_what_crosses_temporal_for_a_call_without_parts_is_what_it_always_was(tmp_path: Path) -> None:
    usage = Usage(prompt_tokens=3, completion_tokens=2, total_tokens=5)
    converter = data_converter(tmp_path / "blobs")
    (payload,) = await converter.encode([reply("m", usage)])
    assert json.loads(payload.data)["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert await converter.decode([payload], [ChatResult]) == [reply("m", usage)]
    assert await converter.decode(await converter.encode([reply("m", CACHED)]), [ChatResult]) == [reply("m", CACHED)]


def test_parts_are_said_in_words_if_there_are_some() -> None:
    assert parts_text({"total_tokens": 5, "cached_tokens": 0}) == ""
    assert parts_text(None) == ""
    told = {"cached_tokens": 1_200, "cache_write_tokens": 3, "reasoning_tokens": 40}
    assert parts_text(told) == "1,200 cached, 3 written to the cache, 40 reasoning"
