"""How values leave an evaluation: as JSON of our own, as Python's text, as the text of a template. Workflow-safe."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from engine.core.lang.containers import OrderedSet
from engine.core.lang.context import ITEM_SHIFT, TEXT_SHIFT, Fuel
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.secret import SecretNames, SecretText, used
from engine.core.values import MAX_DEPTH, MAX_VALUE_BYTES, Json, to_json_value

SMALL_INT_BITS: Final = 128
ENCODE_SHIFT: Final = 10
"""2**10 characters cost one unit when they are looked at one by one in C."""
ESCAPE_SHIFT: Final = 5
"""2**5 characters of text that is escaped cost one unit: a character may become ten."""


def export(value: Any, fuel: Fuel, *, secrets: bool = False) -> Json:
    """Return a value as JSON that shares no container with it, like `to_json_value`, paid for by its size.

    Args:
        value: The value.
        fuel: What pays for it.
        secrets: Whether texts with secrets stay what they are; the caller takes them out.

    Raises:
        ExpressionError: `expression.not_json`, `expression.too_large`, `expression.secret` or `expression.fuel`.
    """
    kind = type(value)
    if value is None or kind is bool:
        return value
    return _Export(fuel, secrets).convert(value, 0)


class _Export:
    """One conversion; keeps the size so far. Plain JSON goes the fast way, all else through `to_json_value`."""

    __slots__ = ("fuel", "left", "secrets")

    def __init__(self, fuel: Fuel, secrets: bool) -> None:
        self.fuel = fuel
        self.left = MAX_VALUE_BYTES
        self.secrets = secrets

    def convert(self, value: Any, depth: int) -> Json:
        kind = type(value)
        if kind is str:
            return self.text(value)
        if kind is int or kind is bool or value is None:
            self.take(8)
            return value
        if kind is float:
            self.take(8)
            if isfinite(value):
                return value
            return to_json_value(value, where="the result")
        if depth >= MAX_DEPTH:
            raise fail("not_json", f"the result is nested deeper than {MAX_DEPTH} levels")
        if isinstance(value, Mapping):
            return self.object(value, depth + 1)
        if isinstance(value, (list, tuple, range, OrderedSet)):
            return self.array(value, depth + 1)
        if kind is SecretText and self.secrets:
            self.take(sum(map(len, value.parts)))
            return value
        if kind is SecretText or kind is SecretNames:
            raise used("a secret cannot be a value of a task")
        if type(value).__name__ in ("Function", "Module"):
            raise fail("not_json", f"the result holds {type_name(value)}, not its value", "call it: add ()")
        return to_json_value(value, where="the result")

    def array(self, items: Any, depth: int) -> list[Json]:
        self.fuel.charge((len(items) >> ITEM_SHIFT) + 1)
        size = 2 + len(items)
        result = []
        for item in items:
            kind = type(item)
            if kind is str:
                size += len(item) + 2
                if not item.isascii():
                    self.check(item)
                result.append(item)
            elif kind is int or kind is bool or item is None or (kind is float and isfinite(item)):
                size += 8
                result.append(item)
            else:
                result.append(self.convert(item, depth))
        self.take(size)
        return result

    def object(self, value: Mapping[Any, Any], depth: int) -> dict[str, Json]:
        self.fuel.charge((len(value) >> ITEM_SHIFT) + 1)
        size = 2 + 4 * len(value)
        result: dict[str, Json] = {}
        for key, item in value.items():
            name = key if type(key) is str else _key_text(key)
            size += len(name)
            if not name.isascii():
                self.check(name)
            kind = type(item)
            if kind is str:
                size += len(item) + 2
                if not item.isascii():
                    self.check(item)
                result[name] = item
            elif kind is int or kind is bool or item is None or (kind is float and isfinite(item)):
                size += 8
                result[name] = item
            else:
                result[name] = self.convert(item, depth)
        self.take(size)
        return result

    def text(self, value: str) -> str:
        self.take(len(value) + 2)
        if not value.isascii():
            self.check(value)
        return value

    def check(self, text: str) -> None:
        self.fuel.charge(len(text) >> ENCODE_SHIFT)
        check_unicode(text)

    def take(self, size: int) -> None:
        self.left -= size
        if self.left < 0:
            raise fail(
                "too_large",
                f"the result is larger than {MAX_VALUE_BYTES // (1024 * 1024)} MB",
                "keep large data outside and pass a reference",
            )


def _key_text(key: Any) -> str:
    if isinstance(key, (str, int, float)) or key is None:
        (name,) = to_json_value({key: None}, where="the result")
        return str(name)
    raise fail("not_json", f"the result has a key that is {type_name(key)}", "use text as key")


def check_unicode(text: str) -> None:
    """Refuse text that cannot be written as UTF-8; it would break whoever stores it.

    Raises:
        ExpressionError: `expression.not_json` for half of a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise fail("not_json", "a text holds half of a surrogate pair", "remove the broken character") from error


def json_text(value: Any, fuel: Fuel, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Return a value as JSON text with blanks after `,` and `:`, non-ASCII characters kept.

    Args:
        value: Any value of an evaluation.
        fuel: What pays for it.
        indent: Blanks per level (0–16), or None for one line.
        sort_keys: Whether keys are put in order.

    Raises:
        ExpressionError: As `export`; `expression.value` for an indent out of range.
    """
    plain = export(value, fuel)
    if indent is not None and not (type(indent) is int and 0 <= indent <= 16):
        raise fail("value", "indent must be a number from 0 to 16")
    _pay_for_text(plain, fuel, 0, indent or 0)
    return json.dumps(plain, ensure_ascii=False, indent=indent, sort_keys=sort_keys)


def _pay_for_text(value: Json, fuel: Fuel, depth: int, indent: int) -> None:
    if type(value) is str:
        fuel.charge(len(value) >> ESCAPE_SHIFT)
        return
    if type(value) is list:
        items: Any = value
    elif type(value) is dict:
        items = value.values()
        fuel.charge(sum(map(len, value)) >> ESCAPE_SHIFT)
    else:
        if type(value) is int:
            pay_for_digits(value, fuel)
        return
    size = len(items)
    fuel.charge((size >> 2) + 1 + (size * depth * indent >> TEXT_SHIFT))
    for item in items:
        _pay_for_text(item, fuel, depth + 1, indent)


def pay_for_digits(value: int, fuel: Fuel) -> None:
    """Pay for writing a whole number in digits, which takes the square of its length."""
    bits = value.bit_length()
    if bits > SMALL_INT_BITS:
        fuel.charge((bits >> 6) + (bits * bits >> 19))


def output_text(value: Any, fuel: Fuel) -> str:
    """Return a value as a template prints it: text as it is, null as nothing, all else as JSON."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    fuel.charge(1)
    if type(value) is int:
        pay_for_digits(value, fuel)
        return str(value)
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is float and isfinite(value):
        return repr(value)
    if isinstance(value, (dt.date, dt.time)):
        fuel.charge(3)
        return str(to_json_value(value))
    return json_text(value, fuel)


def python_text(value: Any, fuel: Fuel) -> str:
    """Return a value as `str()` shows it: text as it is, containers in Python's notation, dates as RFC 3339."""
    if type(value) is str:
        return value
    if isinstance(value, (list, tuple, dict, OrderedSet)):
        return python_repr(value, fuel)
    return _leaf_text(value, fuel)


def python_repr(value: Any, fuel: Fuel, depth: int = 0) -> str:
    """Return a value in Python's notation."""
    if type(value) is str:
        fuel.charge(len(value) >> ESCAPE_SHIFT)
        return repr(value)
    if depth >= MAX_DEPTH:
        raise fail("too_deep", f"a value is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, Mapping):
        fuel.charge(len(value) + 1)
        parts = [f"{python_repr(key, fuel, depth + 1)}: {python_repr(value[key], fuel, depth + 1)}" for key in value]
        return _joined("{", parts, "}", fuel)
    if isinstance(value, (list, tuple, OrderedSet)):
        fuel.charge((len(value) >> 1) + 1)
        parts = [python_repr(item, fuel, depth + 1) for item in value]
        if isinstance(value, list):
            return _joined("[", parts, "]", fuel)
        if isinstance(value, tuple):
            return _joined("(", parts, ",)" if len(parts) == 1 else ")", fuel)
        return _joined("{", parts, "}", fuel) if parts else "set()"
    return _leaf_text(value, fuel)


def _joined(start: str, parts: list[str], end: str, fuel: Fuel) -> str:
    fuel.charge(sum(map(len, parts)) >> TEXT_SHIFT)
    return start + ", ".join(parts) + end


def _leaf_text(value: Any, fuel: Fuel) -> str:
    if type(value) is int:
        pay_for_digits(value, fuel)
    if value is None or isinstance(value, (bool, int, float, range)):
        return str(value)
    if type(value) is SecretText:
        raise used("a secret cannot be turned into another text")
    if isinstance(value, (dt.date, dt.time)):
        fuel.charge(3)
        return str(to_json_value(value))
    if isinstance(value, dt.timedelta):
        return str(value)
    raise wrong_type(f"{type_name(value)} cannot be turned into text", "call it: add ()")
