"""Filters and tests of templates: the listed set, on top of the library of expressions. Workflow-safe."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from engine.core.errors import ExpressionError
from engine.core.lang.border import json_text, output_text
from engine.core.lang.containers import OrderedSet, check_key, contains, equal, iterate, measure
from engine.core.lang.context import ITEM_SHIFT, TEXT_SHIFT, Frame
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.functions import NO_KEYWORDS, Function, invoke, need_int, need_text, per_item, table
from engine.core.lang.library.lists import sort_items
from engine.core.lang.library.paths import find, lookup, split_path
from engine.core.lang.methods import TEXT_METHODS, replace
from engine.core.lang.operators import COMPARE
from engine.core.lang.stdlib import FUNCTIONS

MAX_INDENT: Final = 1_000
MISSING_CODES: Final = frozenset({"expression.no_key", "expression.no_attribute", "expression.no_index"})


def _parts(frame: Frame, attribute: Any, count: int) -> list[str]:
    path = attribute if isinstance(attribute, str) else str(need_int(attribute, "attribute"))
    return split_path(frame, path, count)


def _picked(frame: Frame, values: Any, attribute: Any) -> list[Any]:
    items = iterate(values)
    if attribute is None:
        frame.fuel.charge((len(items) >> ITEM_SHIFT) + 1)
        return list(items)
    frame.fuel.charge((len(items) >> 1) + 1)
    parts = _parts(frame, attribute, len(items))
    return [lookup(item, parts) for item in items]


# --- text ----------------------------------------------------------------------------------------------------------


def _text_filter(name: str) -> Callable[..., Any]:
    method = TEXT_METHODS[name]

    def run(frame: Frame, value: Any, *args: Any) -> Any:
        return invoke(method, frame, [output_text(value, frame.fuel), *args], bound=True)

    return run


def _join(frame: Frame, values: Any, d: Any = "", attribute: Any = None) -> str:
    texts = [output_text(item, frame.fuel) for item in _picked(frame, values, attribute)]
    separator = output_text(d, frame.fuel)
    frame.fuel.charge(sum(map(len, texts)) + len(separator) * len(texts) >> TEXT_SHIFT)
    return separator.join(texts)


def _replace(frame: Frame, value: Any, old: Any, new: Any, count: Any = None) -> str:
    return replace(frame, output_text(value, frame.fuel), old, new, -1 if count is None else count)


def _string(frame: Frame, value: Any) -> str:
    return output_text(value, frame.fuel)


def _escape(frame: Frame, value: Any) -> str:
    text = output_text(value, frame.fuel)
    # each character may become six
    frame.fuel.charge(len(text) * 6 >> TEXT_SHIFT)
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("'", "&#39;"), ('"', "&#34;")):
        text = text.replace(char, entity)
    return text


def _indent(frame: Frame, value: Any, width: Any = 4, first: Any = False, blank: Any = False) -> str:
    text = output_text(value, frame.fuel)
    pad = width if isinstance(width, str) else " " * _limited(width)
    if len(pad) > MAX_INDENT:
        raise fail("too_large", f"indent() takes at most {MAX_INDENT:,} characters")
    lines = text.count("\n") + 1
    frame.fuel.charge((len(text) + len(pad) * lines >> TEXT_SHIFT) + (lines >> 2))
    head, *rest = text.split("\n")
    padded = [pad + line if line or blank else line for line in rest]
    return "\n".join([(pad + head) if first else head, *padded])


def _limited(width: Any) -> int:
    size = need_int(width, "width")
    if size > MAX_INDENT:
        raise fail("too_large", f"indent() takes at most {MAX_INDENT:,} characters")
    return max(0, size)


def _truncate(
    frame: Frame, value: Any, length: Any = 255, killwords: Any = False, end: Any = "...", leeway: Any = 5
) -> str:
    text, tail = output_text(value, frame.fuel), need_text(end, "end")
    limit = need_int(length, "length")
    frame.fuel.charge(len(text) + len(tail) >> TEXT_SHIFT)
    if len(text) <= limit + need_int(leeway, "leeway"):
        return text
    kept = text[: max(0, limit - len(tail))]
    return (kept if killwords else kept.rsplit(" ", 1)[0]) + tail


def _wordcount(frame: Frame, value: Any) -> int:
    text = output_text(value, frame.fuel)
    words: list[str] = invoke(TEXT_METHODS["split"], frame, [text], bound=True)
    return len(words)


def _tojson(frame: Frame, value: Any, indent: Any = None) -> str:
    return json_text(value, frame.fuel, indent=indent)


# --- numbers -------------------------------------------------------------------------------------------------------


def _or_default(name: str, fallback: Any) -> Callable[..., Any]:
    function = FUNCTIONS[name]

    def run(frame: Frame, value: Any, default: Any = fallback) -> Any:
        try:
            if name == "int" and isinstance(value, str) and "." in value:
                return int(invoke(FUNCTIONS["float"], frame, [value]))
            return invoke(function, frame, [value])
        except (ExpressionError, ArithmeticError, ValueError):
            # Jinja's rule: what is no number becomes the default
            return default

    return run


def _round(value: Any, precision: Any = 0, method: Any = "common") -> float:
    if not isinstance(value, (int, float)):
        raise wrong_type(f"round takes a number, not {type_name(value)}")
    digits = need_int(precision, "precision")
    if not 0 <= digits <= 100:
        raise fail("value", "round takes 0 to 100 digits")
    if method == "common":
        return float(round(value, digits))
    factor = 10**digits
    scaled = value * factor
    whole = int(scaled // 1)
    if method == "ceil" and whole != scaled:
        whole += 1
    elif method not in ("ceil", "floor"):
        raise fail("value", "the method of round is common, ceil or floor")
    return float(whole / factor)


# --- lists ---------------------------------------------------------------------------------------------------------


def _first(value: Any) -> Any:
    for item in iterate(value):
        return item
    raise fail("no_index", "there is no first item: the list is empty", "put `default(…)` behind it")


def _last(value: Any) -> Any:
    items = iterate(value)
    if not len(items):
        raise fail("no_index", "there is no last item: the list is empty", "put `default(…)` behind it")
    return items[-1] if isinstance(items, (list, tuple, str, range)) else list(items)[-1]


def _reverse(value: Any) -> Any:
    return value[::-1] if isinstance(value, str) else list(iterate(value))[::-1]


def _sort(frame: Frame, values: Any, reverse: Any = False, case_sensitive: Any = False, attribute: Any = None) -> Any:
    items = list(iterate(values))
    keys = _picked(frame, items, attribute)
    if not case_sensitive:
        measure(keys, frame.fuel)
        keys = [key.lower() if isinstance(key, str) else key for key in keys]
    # the pair (key, place) keeps the order of equal items
    order = sort_items(frame, range(len(items)), _Reader(keys).function(), reverse)
    return [items[place] for place in order]


class _Reader:
    """Gives the sort key of a place to `sort_items`."""

    def __init__(self, keys: list[Any]) -> None:
        self.keys = keys

    def function(self) -> Function:
        return Function("key", self.keys.__getitem__, 1, 1)


def _unique(frame: Frame, values: Any, case_sensitive: Any = False, attribute: Any = None) -> list[Any]:
    items = list(iterate(values))
    seen: dict[Any, None] = {}
    result = []
    for item, key in zip(items, _picked(frame, items, attribute), strict=True):
        mark = key.lower() if isinstance(key, str) and not case_sensitive else key
        frame.fuel.charge(1)
        if check_key(mark, len(seen), frame.fuel) not in seen:
            seen[mark] = None
            result.append(item)
    return result


def _sum(frame: Frame, values: Any, attribute: Any = None, start: Any = 0) -> Any:
    return invoke(FUNCTIONS["sum"], frame, [_picked(frame, values, attribute), start])


def _extreme(name: str) -> Callable[..., Any]:
    def run(frame: Frame, values: Any, attribute: Any = None) -> Any:
        named: Mapping[str, Any] = NO_KEYWORDS if attribute is None else {"key": need_text(attribute, "attribute")}
        return invoke(FUNCTIONS[name], frame, [values], named)

    return run


def _map(frame: Frame, values: Any, *args: Any, **named: Any) -> list[Any]:
    items = iterate(values)
    frame.fuel.charge(len(items) + 1)
    if "attribute" in named:
        parts = _parts(frame, named["attribute"], len(items))
        if "default" not in named:
            return [lookup(item, parts) for item in items]
        return [find(item, parts, named["default"]) for item in items]
    if not args:
        raise fail("arguments", "map needs a filter's name or attribute=…")
    function = _named(FILTERS, args[0], "filter")
    return [invoke(function, frame, [item, *args[1:]], bound=True) for item in items]


def _selection(keep: bool, by_attribute: bool) -> Callable[..., Any]:
    def run(frame: Frame, values: Any, *args: Any) -> list[Any]:
        items = iterate(values)
        frame.fuel.charge(len(items) + 1)
        rest = list(args)
        parts = _parts(frame, rest.pop(0), len(items)) if by_attribute else []
        test = _named(TESTS, rest.pop(0), "test") if rest else None
        result = []
        for item in items:
            value = find(item, parts, None) if by_attribute else item
            passed = bool(value) if test is None else bool(invoke(test, frame, [value, *rest], bound=True))
            if passed is keep:
                result.append(item)
        return result

    return run


def _named(functions: Mapping[str, Function], name: Any, what: str) -> Function:
    found = functions.get(need_text(name, f"the {what}'s name"))
    if found is None:
        raise fail("unknown_function", f"unknown {what} '{name[:80]}'")
    return found


def _items(value: Any) -> list[Any]:
    if not isinstance(value, Mapping):
        raise wrong_type(f"items takes an object, not {type_name(value)}")
    return list(value.items())


def _aliases(function: Function, *names: str) -> list[Function]:
    return [dataclasses.replace(function, name=name) for name in names]


FILTERS: Final[Mapping[str, Function]] = MappingProxyType(
    table(
        *(Function(name, _text_filter(name), 0, 0, framed=True) for name in ("upper", "lower", "title", "capitalize")),
        Function("trim", _text_filter("strip"), 0, 1, framed=True),
        *_aliases(Function("length", FUNCTIONS["len"].run, 0, 0), "length", "count"),
        *_aliases(Function("escape", _escape, 0, 0, framed=True), "escape", "e"),
        Function("abs", FUNCTIONS["abs"].run, 0, 0),
        Function("first", _first, 0, 0),
        Function("float", _or_default("float", 0.0), 0, 1, keywords=("default",), framed=True),
        Function("indent", _indent, 0, 3, keywords=("width", "first", "blank"), framed=True),
        Function("int", _or_default("int", 0), 0, 1, keywords=("default",), framed=True),
        Function("items", _items, 0, 0, FUNCTIONS["list"].cost),
        Function("join", _join, 0, 2, keywords=("d", "attribute"), framed=True),
        Function("last", _last, 0, 0, per_item),
        Function("list", FUNCTIONS["list"].run, 0, 0, FUNCTIONS["list"].cost),
        Function("map", _map, 0, None, keywords=("attribute", "default"), framed=True),
        Function("max", _extreme("max"), 0, 1, keywords=("attribute",), framed=True),
        Function("min", _extreme("min"), 0, 1, keywords=("attribute",), framed=True),
        Function("reject", _selection(False, False), 0, 2, framed=True),
        Function("rejectattr", _selection(False, True), 1, 3, framed=True),
        Function("replace", _replace, 2, 3, keywords=("count",), framed=True),
        Function("reverse", _reverse, 0, 0, FUNCTIONS["list"].cost),
        Function("round", _round, 0, 2, keywords=("precision", "method")),
        Function("safe", _string, 0, 0, framed=True),
        Function("select", _selection(True, False), 0, 2, framed=True),
        Function("selectattr", _selection(True, True), 1, 3, framed=True),
        Function("sort", _sort, 0, 3, per_item, ("reverse", "case_sensitive", "attribute"), framed=True),
        Function("string", _string, 0, 0, framed=True),
        Function("sum", _sum, 0, 2, keywords=("attribute", "start"), framed=True),
        Function("tojson", _tojson, 0, 1, keywords=("indent",), framed=True),
        Function("truncate", _truncate, 0, 4, keywords=("length", "killwords", "end", "leeway"), framed=True),
        Function("unique", _unique, 0, 2, per_item, ("case_sensitive", "attribute"), framed=True),
        Function("wordcount", _wordcount, 0, 0, framed=True),
    )
)
"""All filters but `default`, which the compiler handles since its operand may be missing."""


# --- tests ---------------------------------------------------------------------------------------------------------


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> int:
    return need_int(value, "the value")


def _comparison(symbol: str) -> Callable[..., Any]:
    test = COMPARE[symbol]

    def run(frame: Frame, value: Any, other: Any) -> Any:
        return test(value, other, frame.fuel)

    return run


def _equal(frame: Frame, value: Any, other: Any) -> bool:
    return equal(value, other, frame.fuel)


def _in(frame: Frame, value: Any, container: Any) -> bool:
    return contains(container, value, frame.fuel)


def _divisible(value: Any, by: Any) -> bool:
    return _whole(value) % _whole(by) == 0


TESTS: Final[Mapping[str, Function]] = MappingProxyType(
    table(
        Function("boolean", lambda value: isinstance(value, bool), 0, 0),
        Function("divisibleby", _divisible, 1, 1),
        *_aliases(Function("eq", _equal, 1, 1, framed=True), "eq", "equalto", "==", "sameas"),
        Function("even", lambda value: _whole(value) % 2 == 0, 0, 0),
        Function("false", lambda value: value is False, 0, 0),
        Function("float", lambda value: isinstance(value, float), 0, 0),
        *_aliases(Function("ge", _comparison(">="), 1, 1, framed=True), "ge", ">="),
        *_aliases(Function("gt", _comparison(">"), 1, 1, framed=True), "gt", "greaterthan", ">"),
        Function("in", _in, 1, 1, framed=True),
        Function("integer", lambda value: isinstance(value, int) and not isinstance(value, bool), 0, 0),
        Function("iterable", lambda value: isinstance(value, (str, list, tuple, range, Mapping, OrderedSet)), 0, 0),
        *_aliases(Function("le", _comparison("<="), 1, 1, framed=True), "le", "<="),
        Function("lower", lambda value: isinstance(value, str) and value.islower(), 0, 0, per_item),
        *_aliases(Function("lt", _comparison("<"), 1, 1, framed=True), "lt", "lessthan", "<"),
        Function("mapping", lambda value: isinstance(value, Mapping), 0, 0),
        *_aliases(Function("ne", _comparison("!="), 1, 1, framed=True), "ne", "!="),
        Function("none", lambda value: value is None, 0, 0),
        Function("number", _is_number, 0, 0),
        Function("odd", lambda value: _whole(value) % 2 == 1, 0, 0),
        Function("sequence", lambda value: isinstance(value, (str, list, tuple, range, Mapping)), 0, 0),
        Function("string", lambda value: isinstance(value, str), 0, 0),
        Function("true", lambda value: value is True, 0, 0),
        Function("upper", lambda value: isinstance(value, str) and value.isupper(), 0, 0, per_item),
    )
)
"""All tests but `defined` and `undefined`, which the compiler handles since their operand may be missing."""
