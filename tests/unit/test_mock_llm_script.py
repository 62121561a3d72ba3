"""The script of the mock LLM server: reading it, and which rule applies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from engine.core.errors import InvalidInput
from engine.edge.mockllm.script import MockRule, fill, load_script


def rule(**body: Any) -> MockRule:
    return MockRule.model_validate(body)


@pytest.mark.parametrize(
    ("body", "call", "applies"),
    [
        ({}, {}, True),
        ({"model": "gpt-*"}, {"model": "gpt-4"}, True),
        ({"model": "gpt-*"}, {"model": "llama"}, False),
        ({"model": "a[b]"}, {"model": "a[b]"}, True),
        ({"match": "^he.*o"}, {"last": "hello"}, True),
        ({"match": "lo$"}, {"last": "hello"}, True),
        ({"match": "x"}, {"last": "hello"}, False),
        ({"turn": 0}, {"turn": 0}, True),
        ({"turn": 1}, {"turn": 0}, False),
        ({"model": "m", "match": "h", "turn": 2}, {"turn": 2}, True),
    ],
)
def test_a_rule_applies_when_all_its_conditions_do(body: Any, call: dict[str, Any], applies: bool) -> None:
    assert rule(**body).applies(**{"model": "m", "last": "hello", "turn": 0, **call}) is applies


def test_marks_are_filled_into_all_texts_of_a_reply_and_braces_stay() -> None:
    value = {"{n}": ["{last}!", {"x": "call {n}"}, 3, None], "y": "{other} {}"}
    assert fill(value, last="a {n}", n=7) == {"{n}": ["a {n}!", {"x": "call 7"}, 3, None], "y": "{other} {}"}


@pytest.mark.parametrize(
    "body",
    [
        {"reply": "a", "json": {}},
        {"match": "("},
        {"status": 200},
        {"retry_after_s": 1},
        {"error": "x"},
        {"times": 0},
        {"delay_s": -1},
        {"stream": {"chunk_chars": 0}},
        {"tool_calls": [{"arguments": {}}]},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(body: Any) -> None:
    with pytest.raises(ValidationError):
        rule(**body)


def test_a_script_is_read_from_yaml_and_from_json(tmp_path: Path) -> None:
    body = {"models": ["a"], "rules": [{"match": "x", "json": {"k": None}}, {"reply": "r"}]}
    (tmp_path / "s.json").write_text(json.dumps(body))
    (tmp_path / "s.yaml").write_text("models: [a]\nrules:\n  - match: x\n    json: {k: null}\n  - reply: r\n")
    script = load_script(tmp_path / "s.json")
    assert script == load_script(tmp_path / "s.yaml")
    assert (script.models, script.rules[0].json_reply) == (["a"], {"k": None})


def test_a_script_may_be_the_bare_list_of_rules_or_empty(tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("- reply: one\n- reply: two\n")
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert [item.reply for item in load_script(tmp_path / "list.yaml").rules] == ["one", "two"]
    assert load_script(tmp_path / "empty.yaml").rules == []


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            "rules:\n  - repply: x\n",
            ["rules.0.repply", "did you mean 'reply'?", "there are model, match, turn,", "json"],
        ),
        ("rulez: []\n", ["rulez: there is no such member; did you mean 'rules'? there are rules, models"]),
        ("- stream: {chars: 3}\n", ["rules.0.stream.chars", "there are chunk_chars, delay_s"]),
        ("- tool_calls: [{args: 1}]\n", ["rules.0.tool_calls.0.args", "there are name, id, arguments"]),
        ("- {reply: a, json: 1}\n", ["rules.0: reply and json exclude each other"]),
        (
            "- usage: {prompt_tokens: 9, completion_tokens: 1, cached_tokens: 8, cache_write_tokens: 2}\n",
            ["rules.0.usage: cached_tokens and cache_write_tokens are parts of prompt_tokens, but they are more"],
        ),
        (
            "- usage: {prompt_tokens: 9, completion_tokens: 1, reasoning_tokens: 2}\n",
            ["rules.0.usage: reasoning_tokens are a part of completion_tokens, but they are more"],
        ),
        (
            "- usage: {prompt_tokens: 9, completion_tokens: 1, cache_tokens: 2}\n",
            ["rules.0.usage.cache_tokens", "did you mean 'cached_tokens'?"],
        ),
        ("rules: [", ["s.yaml"]),
        ("rules:\n  - status: 99\n", ["rules.0.status"]),
        ("just text", ["s.yaml"]),
    ],
)
def test_a_wrong_script_is_refused_with_place_and_remedy(tmp_path: Path, text: str, parts: list[str]) -> None:
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(InvalidInput) as caught:
        load_script(tmp_path / "s.yaml")
    assert caught.value.code == "config.invalid"
    assert all(part in caught.value.message for part in parts)


def test_a_script_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.yaml"):
        load_script(tmp_path / "nowhere.yaml")
