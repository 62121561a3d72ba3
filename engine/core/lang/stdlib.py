"""The library of expressions: one line per function with its arguments and its price. Workflow-safe."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import re2

from engine.core.lang.border import json_text, python_text
from engine.core.lang.containers import OrderedSet, check_key, iterate, make_set, measure
from engine.core.lang.context import ITEM_SHIFT, SCAN_SHIFT, Frame, Fuel
from engine.core.lang.draws import RANDOM, UUID
from engine.core.lang.failures import fail, no_key, type_name, wrong_type
from engine.core.lang.functions import (
    Function,
    Module,
    call_value,
    need_int,
    need_text,
    per_item,
    table,
)
from engine.core.lang.jsontext import extract_json, load_json
from engine.core.lang.methods import RegexMatch
from engine.core.lang.operators import comparable

MAX_RANGE: Final = 1_000_000
MAX_PATTERN_CHARS: Final = 1_000
MAX_PATTERN_BYTES: Final = 1 << 18
MAX_ROUND_DIGITS: Final = 400
MAX_INT_CHARS: Final = 1_300


# --- numbers and conversions ---------------------------------------------------------------------------------------


def _bool(value: Any = False) -> bool:
    return bool(value)


def _int(frame: Frame, value: Any = 0, base: Any = None) -> int:
    if isinstance(value, str):
        if len(value) > MAX_INT_CHARS:
            raise fail("too_large", "the text is too long for a number")
        try:
            frame.fuel.charge(len(value) >> 4)
            return int(value, 10 if base is None else need_int(base, "base"))
        except ValueError as error:
            raise fail("value", f"{value[:80]!r} is not a whole number") from error
    if base is not None or not isinstance(value, (int, float)):
        raise wrong_type(f"int() takes a number or text, not {type_name(value)}")
    return int(value)


def _float(value: Any = 0.0) -> float:
    if isinstance(value, str):
        if len(value) > MAX_INT_CHARS:
            raise fail("too_large", "the text is too long for a number")
        try:
            return float(value)
        except ValueError as error:
            raise fail("value", f"{value[:80]!r} is not a number") from error
    if not isinstance(value, (int, float)):
        raise wrong_type(f"float() takes a number or text, not {type_name(value)}")
    return float(value)


def _round(value: Any, ndigits: Any = None) -> Any:
    if not isinstance(value, (int, float)):
        raise wrong_type(f"round() takes a number, not {type_name(value)}")
    if ndigits is None:
        return round(value)
    if abs(need_int(ndigits, "ndigits")) > MAX_ROUND_DIGITS:
        raise fail("value", f"round() takes at most {MAX_ROUND_DIGITS} digits")
    return round(value, ndigits)


def _abs(value: Any) -> Any:
    if not isinstance(value, (int, float, dt.timedelta)):
        raise wrong_type(f"abs() takes a number, not {type_name(value)}")
    return abs(value)


def _len(value: Any) -> int:
    if not hasattr(value, "__len__"):
        raise wrong_type(f"{type_name(value)} has no length")
    return len(value)


def _str(frame: Frame, value: Any = "") -> str:
    return python_text(value, frame.fuel)


# --- lists and objects ---------------------------------------------------------------------------------------------


def _range(*bounds: Any) -> range:
    for bound in bounds:
        need_int(bound, "range()")
    result = range(*bounds)
    # the length is computed from the bounds since len() overflows on giants
    size = max(0, (result.stop - result.start + result.step - (1 if result.step > 0 else -1)) // result.step)
    if size > MAX_RANGE:
        raise fail("too_large", f"range() would have {_shown(size)} numbers; at most {MAX_RANGE:,} are allowed")
    return result


def _shown(number: int) -> str:
    return f"{number:,}" if number.bit_length() < 128 else "more than 10**38"


def _list(value: Any = ()) -> list[Any]:
    return list(iterate(value))


def _tuple(value: Any = ()) -> tuple[Any, ...]:
    return tuple(iterate(value))


def _set(frame: Frame, value: Any = ()) -> OrderedSet:
    return make_set(iterate(value), frame.fuel)


def _dict(frame: Frame, value: Any = None, /, **members: Any) -> dict[Any, Any]:
    if value is None:
        return dict(members)
    fuel = frame.fuel
    fuel.charge((len(iterate(value)) >> 1) + 1)
    if isinstance(value, Mapping):
        return {**value, **members}
    result: dict[Any, Any] = {}
    for pair in iterate(value):
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise wrong_type("dict() takes an object or a list of pairs", 'such as [["key", 1]]')
        result[check_key(pair[0], len(result), fuel)] = pair[1]
    return {**result, **members}


def _enumerate(value: Any, start: Any = 0) -> list[Any]:
    return list(enumerate(iterate(value), need_int(start, "start")))


def _zip(frame: Frame, *values: Any) -> list[Any]:
    columns = [iterate(value) for value in values]
    if not columns:
        return []
    rows = min(len(column) for column in columns)
    frame.fuel.charge((rows * (len(columns) + 6) >> 5) + 1)
    return list(zip(*columns, strict=False))


def _reversed(value: Any) -> list[Any]:
    return list(iterate(value))[::-1]


def _map(frame: Frame, function: Any, *values: Any) -> list[Any]:
    return [call_value(frame, function, row) for row in _zip(frame, *values)]


def _filter(frame: Frame, function: Any, values: Any) -> list[Any]:
    frame.fuel.charge((len(iterate(values)) >> ITEM_SHIFT) + 1)
    if function is None:
        return [item for item in iterate(values) if item]
    return [item for item in iterate(values) if call_value(frame, function, (item,))]


def _all(values: Any) -> bool:
    return all(iterate(values))


def _any(values: Any) -> bool:
    return any(iterate(values))


def _sum(values: Any, start: Any = 0) -> Any:
    if not isinstance(start, (int, float, dt.timedelta)):
        raise wrong_type(f"sum() cannot start with {type_name(start)}", "join lists with [x for l in lists for x in l]")
    items = iterate(values)
    for item in items:
        if not isinstance(item, (int, float, dt.timedelta)):
            hint = 'use "".join(...) for text' if isinstance(item, str) else "leave out what is not a number"
            raise wrong_type(f"sum() found {type_name(item)} among the numbers", hint)
    return sum(items, start)


def order_keys(frame: Frame, items: Sequence[Any], key: Any) -> list[Any]:
    """Return what the items are ordered by, checked to be comparable and paid for.

    Args:
        frame: The running evaluation.
        items: What is sorted.
        key: A function, the name of a member, or null for the items themselves.
    """
    frame.fuel.charge((len(items) >> ITEM_SHIFT) + 1)
    if key is None:
        keys = list(items)
    elif isinstance(key, str):
        keys = [lookup(item, key) for item in items]
    else:
        keys = [call_value(frame, key, (item,)) for item in items]
    for previous, following in pairwise(keys):
        if not comparable(previous, following):
            message = f"cannot put {type_name(previous)} and {type_name(following)} in order"
            raise wrong_type(message, "leave out null values, or sort by key=str")
    measure(keys, frame.fuel)
    return keys


def find(item: Any, path: str, default: Any) -> Any:
    """Return the member of an item at a dotted path, or the default if a part is missing."""
    for part in path.split("."):
        if isinstance(item, Mapping) and part in item:
            item = item[part]
        elif isinstance(item, (list, tuple)) and part.isdecimal() and int(part) < len(item):
            item = item[int(part)]
        else:
            return default
    return item


def lookup(item: Any, path: str) -> Any:
    """Return the member of an item at a dotted path; all parts must exist."""
    for part in path.split("."):
        if isinstance(item, Mapping):
            if part not in item:
                raise no_key(part, item)
            item = item[part]
        elif isinstance(item, (list, tuple)) and part.isdecimal() and int(part) < len(item):
            item = item[int(part)]
        else:
            raise fail("no_key", f"{type_name(item)} has no member {part[:80]!r}")
    return item


def sort_items(frame: Frame, values: Any, key: Any = None, reverse: Any = False) -> list[Any]:
    """Return the items in order; equal ones keep theirs."""
    items = list(iterate(values))
    keys = order_keys(frame, items, key)
    before = frame.fuel.left
    measure(keys, frame.fuel)
    # each key takes part in about log2(n) comparisons
    frame.fuel.charge((before - frame.fuel.left) * len(items).bit_length() >> 1)
    order = sorted(range(len(items)), key=keys.__getitem__, reverse=bool(reverse))
    return [items[place] for place in order]


def _extreme(pick: Any, name: str) -> Any:
    def run(frame: Frame, *values: Any, key: Any = None, **other: Any) -> Any:
        items = list(iterate(values[0])) if len(values) == 1 else list(values)
        if not items:
            if "default" in other:
                return other["default"]
            raise fail("value", f"{name}() of nothing", f"give it a default: {name}(items, default=0)")
        keys = order_keys(frame, items, key)
        return items[pick(range(len(keys)), key=keys.__getitem__)]

    return run


def get_path(frame: Frame, value: Any, path: Any, default: Any = None) -> Any:
    """Return the member at a dotted path (or list of keys), or the default if any part is missing or null."""
    parts = path.split(".") if isinstance(path, str) else list(iterate(path))
    frame.fuel.charge((len(parts) >> ITEM_SHIFT) + 1)
    for part in parts:
        if isinstance(value, Mapping):
            value = value.get(check_key(part, len(value), frame.fuel))
        elif isinstance(value, (list, tuple)):
            place = int(part) if isinstance(part, int) or (isinstance(part, str) and part.isdecimal()) else len(value)
            value = value[place] if -len(value) <= place < len(value) else None
        else:
            return default
        if value is None:
            return default
    return value


# --- JSON, patterns, time ------------------------------------------------------------------------------------------


def _dump_json(frame: Frame, value: Any, indent: Any = None, sort_keys: Any = False, **ignored: Any) -> str:
    return json_text(value, frame.fuel, indent=indent, sort_keys=bool(sort_keys))


def _pattern(frame: Frame, pattern: Any) -> Any:
    text = need_text(pattern, "the pattern")
    compiled = frame.cache.get(text)
    if compiled is not None:
        return compiled
    if len(text) > MAX_PATTERN_CHARS:
        raise fail("too_large", f"a pattern has at most {MAX_PATTERN_CHARS:,} characters")
    frame.fuel.charge(20 + len(text))
    options = re2.Options()
    options.max_mem = MAX_PATTERN_BYTES
    options.log_errors = False
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        shown = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        hint = "patterns have the syntax of RE2: no look-around, no back-references, bounded repetition"
        raise fail("value", f"the pattern cannot be used: {shown[:200]}", hint) from error
    frame.fuel.charge(compiled.programsize >> 2)
    frame.cache[text] = compiled
    return compiled


def _pay_for_match(fuel: Fuel, compiled: Any, text: str) -> None:
    fuel.charge((len(text) * (8 + compiled.programsize) >> 9) + (len(text) >> SCAN_SHIFT) + 4)


def _search_regex(frame: Frame, pattern: Any, text: Any) -> RegexMatch | None:
    compiled = _pattern(frame, pattern)
    _pay_for_match(frame.fuel, compiled, need_text(text, "the text"))
    match = compiled.search(text)
    if match is None:
        return None
    result = RegexMatch((match.group(), *match.groups()))
    result.names = dict(compiled.groupindex)
    result.start, result.end = match.span()
    return result


def _match_regex(frame: Frame, pattern: Any, text: Any) -> bool:
    compiled = _pattern(frame, pattern)
    _pay_for_match(frame.fuel, compiled, need_text(text, "the text"))
    return compiled.fullmatch(text) is not None


def _now(frame: Frame) -> dt.datetime:
    return frame.context.now


def _timedelta(days: Any = 0, **parts: Any) -> dt.timedelta:
    for part in (days, *parts.values()):
        if not isinstance(part, (int, float)):
            raise wrong_type(f"timedelta() takes numbers, not {type_name(part)}")
    return dt.timedelta(days=days, **parts)


# --- the tables ----------------------------------------------------------------------------------------------------


def _per_pair(fuel: Fuel, args: Sequence[Any]) -> None:
    # a pair is a tuple of 56 bytes and mostly a number of 28
    if args and hasattr(args[0], "__len__"):
        fuel.charge((len(args[0]) >> 2) + 1)


LOAD_JSON: Final = Function("load_json", load_json, 1, 1, framed=True)
DUMP_JSON: Final = Function(
    "dump_json", _dump_json, 1, 3, framed=True, keywords=("indent", "sort_keys", "ensure_ascii")
)

FUNCTIONS: Final[Mapping[str, Function]] = MappingProxyType(
    table(
        Function("abs", _abs, 1, 1),
        Function("all", _all, 1, 1, per_item),
        Function("any", _any, 1, 1, per_item),
        Function("bool", _bool, 0, 1),
        Function("dict", _dict, 0, None, framed=True, keywords=("*",)),
        DUMP_JSON,
        Function("enumerate", _enumerate, 1, 2, _per_pair, ("start",)),
        Function("extract_json", extract_json, 1, 1, framed=True),
        Function("filter", _filter, 2, 2, framed=True),
        Function("float", _float, 0, 1),
        Function("get", get_path, 2, 3, framed=True, keywords=("default",)),
        Function("int", _int, 0, 2, keywords=("base",), framed=True),
        Function("len", _len, 1, 1),
        Function("list", _list, 0, 1, _per_pair),
        LOAD_JSON,
        Function("map", _map, 2, None, framed=True),
        Function("match_regex", _match_regex, 2, 2, framed=True),
        Function("max", _extreme(max, "max"), 1, None, per_item, ("key", "default"), framed=True),
        Function("min", _extreme(min, "min"), 1, None, per_item, ("key", "default"), framed=True),
        Function("now", _now, 0, 0, framed=True),
        Function("range", _range, 1, 3),
        Function("reversed", _reversed, 1, 1, _per_pair),
        Function("round", _round, 1, 2, keywords=("ndigits",)),
        Function("search_regex", _search_regex, 2, 2, framed=True),
        Function("set", _set, 0, 1, _per_pair, framed=True),
        Function("sorted", sort_items, 1, 3, per_item, ("key", "reverse"), framed=True),
        Function("str", _str, 0, 1, framed=True),
        Function("sum", _sum, 1, 2, per_item, ("start",)),
        Function(
            "timedelta",
            _timedelta,
            0,
            6,
            keywords=("days", "seconds", "microseconds", "milliseconds", "minutes", "hours", "weeks"),
        ),
        Function("tuple", _tuple, 0, 1, _per_pair),
        UUID,
        Function("zip", _zip, 0, None, framed=True),
    )
)

MODULES: Final[Mapping[str, Module]] = MappingProxyType(
    {
        "json": Module("json", {"loads": LOAD_JSON, "dumps": DUMP_JSON}),
        "math": Module(
            "math",
            {
                "ceil": Function("math.ceil", math.ceil, 1, 1),
                "exp": Function("math.exp", math.exp, 1, 1),
                "fabs": Function("math.fabs", math.fabs, 1, 1),
                "floor": Function("math.floor", math.floor, 1, 1),
                "isfinite": Function("math.isfinite", math.isfinite, 1, 1),
                "isnan": Function("math.isnan", math.isnan, 1, 1),
                "log": Function("math.log", math.log, 1, 2),
                "log10": Function("math.log10", math.log10, 1, 1),
                "log2": Function("math.log2", math.log2, 1, 1),
                "sqrt": Function("math.sqrt", math.sqrt, 1, 1),
                "trunc": Function("math.trunc", math.trunc, 1, 1),
                "e": math.e,
                "inf": math.inf,
                "pi": math.pi,
            },
        ),
        "random": RANDOM,
    }
)

CONSTANTS: Final[Mapping[str, Any]] = MappingProxyType({"NEWLINE": "\n", "true": True, "false": False, "null": None})

LIBRARY_NAMES: Final = frozenset({*FUNCTIONS, *MODULES, *CONSTANTS})
