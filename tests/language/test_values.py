"""DESIGN §3, "Values": what crosses the border of a step is JSON."""

from __future__ import annotations

import datetime as dt
import json
import math

import pytest

from engine.core.errors import ExpressionError
from engine.core.values import MAX_DEPTH, MAX_VALUE_BYTES, to_json_value
from tests.support.memory import error_of, output_of


def evaluated(source: str, given: object = None) -> object:
    return output_of(f"name: t\nmain: [{{evaluate: '$ {source}'}}]", given)


def failed_with(source: str, given: object = None) -> str:
    return str(error_of(f"name: t\nmain: [{{evaluate: '$ {source}'}}]", given).code)


@pytest.mark.parametrize(
    "source", ['{"a": (1, {2}), "b": [now(), null]}', "range(3)", '[x for x in "ab"]', "dict(a=set([1]))"]
)
def test_what_a_step_gives_is_json(source: str):
    """Values at step borders are JSON."""
    value = evaluated(source)
    assert json.loads(json.dumps(value, allow_nan=False)) == value


def test_tuples_become_lists():
    """A tuple becomes a list."""
    assert evaluated("(1, (2, 3))") == [1, [2, 3]]


def test_sets_become_lists():
    """A set becomes a list."""
    assert evaluated("{3, 1, 3, 2}") == [3, 1, 2]


def test_times_become_text():
    """A datetime becomes RFC 3339 text."""
    assert evaluated("now()") == "2026-01-01T00:00:00Z"
    moment = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert to_json_value(moment) == "2026-03-04T05:06:07+02:00"


@pytest.mark.parametrize("source", ["math.nan", "[math.inf]", '{"a": -math.inf}'])
def test_what_is_no_number_is_an_error(source: str):
    """NaN is an error."""
    assert failed_with(source) == "expression.not_json"


def test_a_tool_cannot_bring_in_nan_either():
    """NaN of a tool is an error too."""
    with pytest.raises(ExpressionError) as caught:
        to_json_value({"rate": math.nan})
    assert caught.value.code == "expression.not_json"


def nested(levels: int) -> object:
    value: object = 1
    for _ in range(levels):
        value = [value]
    return value


def test_values_are_at_most_a_hundred_levels_deep():
    """The depth of a value is at most 100."""
    assert MAX_DEPTH == 100
    assert to_json_value(nested(100)) == nested(100)
    with pytest.raises(ExpressionError, match="100 levels"):
        to_json_value(nested(101))
    assert evaluated("_", nested(100)) == nested(100)
    assert failed_with("[_]", nested(100)) in ("expression.not_json", "expression.too_deep")


def test_the_size_of_a_value_is_capped():
    """The size of a value is capped."""
    half = "x" * (MAX_VALUE_BYTES // 2 + 10)
    assert to_json_value(half) == half
    with pytest.raises(ExpressionError) as caught:
        to_json_value([half, half])
    assert caught.value.code == "expression.too_large"
