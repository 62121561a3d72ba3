"""Lists and objects of the library: making, joining, ordering, folding and reading them. Workflow-safe."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

from engine.core.lang.containers import OrderedSet, check_key, iterate, make_set, measure
from engine.core.lang.context import ITEM_SHIFT, UNSET, Frame, Fuel
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.functions import Doc, Function, call_value, need_int, per_item, table
from engine.core.lang.library.paths import get_path, lookup, split_path
from engine.core.lang.operators import comparable

MAX_RANGE: Final = 1_000_000


def per_pair(fuel: Fuel, args: Sequence[Any]) -> None:
    """The price of a list of the first argument's items: a pair is a tuple of 56 bytes and mostly a number of 28."""
    if args and hasattr(args[0], "__len__"):
        fuel.charge((len(args[0]) >> 2) + 1)


def _len(value: Any) -> int:
    if not hasattr(value, "__len__"):
        raise wrong_type(f"{type_name(value)} has no length")
    return len(value)


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
        parts = split_path(frame, key, len(items))
        keys = [lookup(item, parts) for item in items]
    else:
        keys = [call_value(frame, key, (item,)) for item in items]
    for previous, following in pairwise(keys):
        if not comparable(previous, following):
            message = f"cannot put {type_name(previous)} and {type_name(following)} in order"
            raise wrong_type(message, "leave out null values, or sort by key=str")
    measure(keys, frame.fuel)
    return keys


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


def _reduce(frame: Frame, function: Any, values: Any, initial: Any = UNSET) -> Any:
    items = iterate(values)
    frame.fuel.charge((len(items) >> ITEM_SHIFT) + 1)
    result = initial
    for item in items:
        result = item if result is UNSET else call_value(frame, function, (result, item))
    if result is UNSET:
        raise fail("value", "reduce() of nothing", "give it a start: reduce(max, items, 0)")
    return result


LIST_FUNCTIONS: Final = table(
    Function("all", _all, 1, 1, per_item, doc=Doc("all(items)", "Whether all items are true.", "all([1, 0])", False)),
    Function(
        "any",
        _any,
        1,
        1,
        per_item,
        doc=Doc("any(items)", "Whether one item is true.", "any(x > 1 for x in [1, 2])", True),
    ),
    Function(
        "dict",
        _dict,
        0,
        None,
        framed=True,
        keywords=("*",),
        doc=Doc(
            "dict(object_or_pairs, **members)",
            "An object of another one or of pairs, with further members.",
            "dict([['a', 1]], b=2)",
            {"a": 1, "b": 2},
        ),
    ),
    Function(
        "enumerate",
        _enumerate,
        1,
        2,
        per_pair,
        ("start",),
        doc=Doc(
            "enumerate(items, start=0)", "Pairs of number and item.", "enumerate('ab', start=1)", [[1, "a"], [2, "b"]]
        ),
    ),
    Function(
        "filter",
        _filter,
        2,
        2,
        framed=True,
        doc=Doc(
            "filter(function, items)",
            "The items for which the function, or with null the item itself, is true.",
            "filter(null, [0, 1])",
            [1],
        ),
    ),
    Function(
        "get",
        get_path,
        2,
        3,
        framed=True,
        keywords=("default",),
        doc=Doc(
            "get(value, path, default=null)",
            "The member at a dotted path; the default if a part is missing or null.",
            "get({'a': [{'b': 1}]}, 'a.0.b')",
            1,
        ),
    ),
    Function("len", _len, 1, 1, doc=Doc("len(value)", "The number of items, members or characters.", "len('abc')", 3)),
    Function("list", _list, 0, 1, per_pair, doc=Doc("list(items)", "The items as a list.", "list('ab')", ["a", "b"])),
    Function(
        "map",
        _map,
        2,
        None,
        framed=True,
        doc=Doc(
            "map(function, *lists)",
            "What a function of the library gives for each item.",
            "map(max, [1, 5], [4, 2])",
            [4, 5],
        ),
    ),
    Function(
        "max",
        _extreme(max, "max"),
        1,
        None,
        per_item,
        ("key", "default"),
        framed=True,
        doc=Doc(
            "max(items, key=null, default=…)",
            "The greatest item; `key` is a function or the name of a member.",
            "[max(1, 3), max([{'p': 2}, {'p': 5}], key='p'), max([], default=0)]",
            [3, {"p": 5}, 0],
        ),
    ),
    Function(
        "min",
        _extreme(min, "min"),
        1,
        None,
        per_item,
        ("key", "default"),
        framed=True,
        doc=Doc("min(items, key=null, default=…)", "The least item.", "min([4, 2])", 2),
    ),
    Function(
        "range",
        _range,
        1,
        3,
        doc=Doc(
            "range(start, stop, step)",
            f"Whole numbers up to below `stop`; at most {MAX_RANGE:,}.",
            "[range(3), range(2, 8, 3)]",
            [[0, 1, 2], [2, 5]],
        ),
    ),
    Function(
        "reduce",
        _reduce,
        2,
        3,
        framed=True,
        keywords=("initial",),
        doc=Doc(
            "reduce(function, items, initial=…)",
            "Folds the items with a function of two arguments.",
            "reduce(math.gcd, [12, 18, 27])",
            3,
        ),
    ),
    Function(
        "reversed",
        _reversed,
        1,
        1,
        per_pair,
        doc=Doc("reversed(items)", "The items from the last.", "reversed([1, 2])", [2, 1]),
    ),
    Function(
        "set",
        _set,
        0,
        1,
        per_pair,
        framed=True,
        doc=Doc("set(items)", "Each item once, in the order of its first occurrence.", "set([2, 1, 2])", [2, 1]),
    ),
    Function(
        "sorted",
        sort_items,
        1,
        3,
        per_item,
        ("key", "reverse"),
        framed=True,
        doc=Doc(
            "sorted(items, key=null, reverse=false)",
            "The items in order; `key` is a function or a dotted path.",
            "sorted([{'a': 2}, {'a': 1}], key='a')",
            [{"a": 1}, {"a": 2}],
        ),
    ),
    Function(
        "sum",
        _sum,
        1,
        2,
        per_item,
        ("start",),
        doc=Doc("sum(numbers, start=0)", "The sum of numbers or durations.", "sum([1, 2.5])", 3.5),
    ),
    Function(
        "tuple",
        _tuple,
        0,
        1,
        per_pair,
        doc=Doc("tuple(items)", "The items, fit to be a key.", "tuple('ab')", ["a", "b"]),
    ),
    Function(
        "zip",
        _zip,
        0,
        None,
        framed=True,
        doc=Doc(
            "zip(*lists)",
            "Rows of the lists' items, as long as the shortest.",
            "zip([1, 2], 'ab')",
            [[1, "a"], [2, "b"]],
        ),
    ),
)
