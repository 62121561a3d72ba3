"""Values at step borders, diagnostics, errors and ids."""

from __future__ import annotations

import datetime as dt
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.diagnostics import Diagnostic, Findings, Position, did_you_mean, render_diagnostics
from engine.core.errors import (
    BackendError,
    EngineError,
    ExpressionError,
    LimitExceeded,
    RunError,
    ToolError,
    run_error_from_json,
)
from engine.core.ids import shorten_id
from engine.core.run.calls import idempotency_key
from engine.core.schemas import schema_problems, value_problems
from engine.core.values import canonical_json, copy_json, to_json_value

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_a_json_value_stays_what_it_is_and_is_copied(value):
    assert to_json_value(value) == value
    assert copy_json(value) == value
    if isinstance(value, (list, dict)) and value:
        assert to_json_value(value) is not value


def test_other_values_become_json():
    moment = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    assert to_json_value({"t": (1, 2), "d": moment, "n": {1: b"x"}}) == {
        "t": [1, 2],
        "d": "2026-01-02T03:04:05Z",
        "n": {"1": "eA=="},
    }


def deep(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), deep(101), object(), {("a",): 1}])
def test_what_json_cannot_hold_is_an_error(value):
    with pytest.raises(ExpressionError) as caught:
        to_json_value(value, where="the output")
    assert caught.value.code == "expression.not_json"
    assert "the output" in caught.value.message


def test_the_canonical_text_does_not_depend_on_the_order_of_keys():
    assert canonical_json({"b": 1, "a": "ü"}) == canonical_json({"a": "ü", "b": 1}) == '{"a":"ü","b":1}'


def test_findings_are_printed_with_place_source_line_caret_and_hint():
    findings = Findings()
    findings.warn("W601", "looks odd", Position(2, 3))
    findings.error("E204", "unknown key 'promt'", Position(1, 1), hint=did_you_mean("promt", ["prompt", "tool"]))
    text = render_diagnostics(findings.items, file="a.yaml", source="promt: hi\n  x")
    assert text.splitlines() == [
        "a.yaml:1:1: error[E204]: unknown key 'promt'",
        "    1 | promt: hi",
        "      | ^",
        "      = hint: did you mean 'prompt'?",
        "a.yaml:2:3: warning[W601]: looks odd",
        "    2 |   x",
        "      |   ^",
    ]
    assert [item.code for item in findings.errors] == ["E204"]
    assert Diagnostic("E1", "m", Position(3, 4)).to_json("f")["line"] == 3


def every_error(kind: type[EngineError]) -> list[type[EngineError]]:
    return [kind, *(leaf for child in kind.__subclasses__() for leaf in every_error(child))]


@pytest.mark.parametrize("kind", every_error(EngineError), ids=lambda kind: kind.__name__)
def test_every_error_survives_pickling_with_all_it_carries(kind):
    error = kind("text", code="a.b", hint="do", retryable=True, details={"x": 1})
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.message, again.code, again.hint, again.retryable, again.details) == (
        "text",
        "a.b",
        "do",
        True,
        {"x": 1},
    )


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("backend.rate_limited", BackendError),
        ("tool.failed", ToolError),
        ("effect.outcome_unknown", ToolError),
        ("limit.steps", LimitExceeded),
        ("foreign.code", RunError),
    ],
)
def test_an_error_is_rebuilt_by_its_code(code, kind):
    assert type(run_error_from_json({"code": code, "message": "m"})) is kind


@given(st.text(max_size=2000))
def test_ids_are_never_longer_than_temporal_takes(text):
    assert len(shorten_id(text)) <= 200


def test_long_ids_that_differ_at_the_end_stay_different():
    assert shorten_id("x" * 300 + "a") != shorten_id("x" * 300 + "b")


def test_a_key_leaves_out_the_mark_of_repeated_blocks():
    assert idempotency_key("e", "main.0~2.do[1].0") == idempotency_key("e", "main.0.do[1].0") == "e:main.0.do[1].0"


def test_schemas_refuse_foreign_references_and_patterns_that_can_explode():
    assert schema_problems({"type": "object"}) == []
    assert "only references within" in schema_problems({"properties": {"a": {"$ref": "https://x.org/s"}}})[0]
    assert "linear-time" in schema_problems({"pattern": "(?=a)b"})[0]
    assert schema_problems({"type": "numbr"})


def test_a_pattern_bomb_ends_at_once():
    assert value_problems("a" * 50_000 + "b", {"pattern": "^(a+)+$"}) == [
        f"value: {('a' * 50_000 + 'b')!r} does not match '^(a+)+$'"[:307] + "…"
    ]
