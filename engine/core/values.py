"""JSON values at step borders: what is allowed, how other values become JSON, canonical text. Workflow-safe."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from typing import Any

from engine.core.errors import ExpressionError

Json = Any
"""None, bool, int, float, str, list[Json] or dict[str, Json]; `Any`, since mypy does not narrow recursive unions."""

MAX_DEPTH = 100
MAX_VALUE_BYTES = 50 * 1024 * 1024
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*(ms|s|m|h|d)\s*")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MAX_DURATION_CHARS = 100


def to_json_value(value: Any, *, where: str = "value") -> Json:
    """Turn a value of an expression or a tool into a JSON value of our own; containers are always copied.

    Tuples and sets become lists, dates become RFC 3339 text, pydantic models and dataclasses do not pass (their owner
    dumps them first).

    Args:
        value: The value.
        where: Name of the place for messages.

    Returns:
        A JSON value that shares no container with the input.

    Raises:
        ExpressionError: `expression.not_json` for NaN, infinities, half surrogate pairs, foreign types, non-text keys
            that are no scalars, or a depth over 100; `expression.too_large` if the size passes 50 MB.
    """
    budget = [MAX_VALUE_BYTES]
    return _convert(value, where, 0, budget)


def _convert(value: Any, where: str, depth: int, budget: list[int]) -> Json:
    kind = type(value)
    if value is None or kind is bool:
        _charge(budget, 4, where)
        return value
    if kind is str:
        _charge(budget, len(value) + 2, where)
        _check_unicode(value, where)
        return value
    if kind is int:
        _charge(budget, 8 + value.bit_length() // 3, where)
        return value
    if kind is float:
        _charge(budget, 8, where)
        if not math.isfinite(value):
            raise ExpressionError(
                f"{where} is {value}, which JSON cannot hold",
                code="expression.not_json",
                hint="test for it with math.isfinite before you pass it on",
            )
        return value
    if depth >= MAX_DEPTH:
        raise ExpressionError(f"{where} is nested deeper than {MAX_DEPTH} levels", code="expression.not_json")
    if isinstance(value, dict):
        result: dict[str, Json] = {}
        for key, item in value.items():
            name = _key(key, where)
            _charge(budget, len(name) + 4, where)
            _check_unicode(name, where)
            result[name] = _convert(item, where, depth + 1, budget)
        return result
    if isinstance(value, (list, tuple, set, frozenset)):
        _charge(budget, 2 + len(value), where)
        return [_convert(item, where, depth + 1, budget) for item in value]
    return _convert_scalar(value, where, depth, budget)


def _convert_scalar(value: Any, where: str, depth: int, budget: list[int]) -> Json:
    if isinstance(value, (str, int, float)):
        # subclasses (enums, numpy scalars that derive from float) fall back to their base value
        base = str if isinstance(value, str) else int if isinstance(value, int) else float
        return _convert(base(value), where, depth, budget)
    if isinstance(value, dt.datetime):
        text = value.isoformat()
        return text.replace("+00:00", "Z")
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray)):
        return _convert(base64.b64encode(bytes(value)).decode("ascii"), where, depth, budget)
    raise ExpressionError(
        f"{where} is of type {type(value).__name__}, which is not a JSON value",
        code="expression.not_json",
        hint="turn it into text, a number, a list or an object first",
    )


def _key(key: Any, where: str) -> str:
    if isinstance(key, str):
        return key
    if key is None or isinstance(key, bool):
        return {None: "null", True: "true", False: "false"}[key]
    if isinstance(key, (int, float)):
        return str(key)
    raise ExpressionError(f"{where} has a key of type {type(key).__name__}", code="expression.not_json")


def _check_unicode(text: str, where: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ExpressionError(
            f"{where} holds half of a surrogate pair, which no text file can hold",
            code="expression.not_json",
            hint="remove the broken character",
        ) from error


def _charge(budget: list[int], size: int, where: str) -> None:
    budget[0] -= size
    if budget[0] < 0:
        raise ExpressionError(
            f"{where} is larger than {MAX_VALUE_BYTES // (1024 * 1024)} MB",
            code="expression.too_large",
            hint="keep large data outside and pass a reference",
        )


def canonical_json(value: Json) -> str:
    """Return the one JSON text of a value: sorted keys, no blanks, non-ASCII characters kept.

    Raises:
        ValueError: If the value holds NaN or an infinity.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


# json.dumps makes an encoder at each call, which takes longer than a small value
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def compact_json(value: Json) -> str:
    """Return JSON text without blanks in the value's own key order; the cheap form for records."""
    return _compact(value)


def copy_json(value: Json) -> Json:
    """Return a copy of a JSON value that shares no container with it."""
    if isinstance(value, dict):
        return {key: copy_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [copy_json(item) for item in value]
    return value


def duration_seconds(text: str) -> float | None:
    """Return the seconds of a duration such as `500ms` or `1h30m`, or None if the text is none."""
    if len(text) > _MAX_DURATION_CHARS:
        return None
    total, end = 0.0, 0
    while end < len(text):
        match = _DURATION.match(text, end)
        if match is None:
            return None
        total += float(match.group(1)) * _UNIT_S[match.group(2)]
        end = match.end()
    return total if end else None
