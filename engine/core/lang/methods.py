"""Methods of text, lists, objects, sets, dates and regex matches, each with its price. Workflow-safe."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from engine.core.lang.containers import OrderedSet, check_key, equal, iterate, make_set, pay_for_search
from engine.core.lang.context import ITEM_SHIFT, TEXT_SHIFT, Frame, Fuel
from engine.core.lang.dates import DATE_METHODS, DAY_METHODS, DURATION_METHODS
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.functions import Function, need_int, need_text, per_item, per_scan, per_strip, per_text, table

WHITESPACE: Final = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)


class RegexMatch(tuple[Any, ...]):
    """A match as a list: the whole text first, then the groups, null for a group that took no part.

    Attributes:
        names: Number of each named group.
        start: First character of the match in the text, from 0.
        end: Character after the match.
    """

    names: Mapping[str, int]
    start: int
    end: int


# --- text ----------------------------------------------------------------------------------------------------------


def join(frame: Frame, separator: str, items: Any) -> str:
    """Join texts; anything else among the items is an error, as in Python."""
    values = iterate(items)
    fuel = frame.fuel
    fuel.charge((len(values) >> ITEM_SHIFT) + 1)
    size = len(separator) * len(values)
    for value in values:
        if type(value) is not str:
            raise wrong_type(f"join() found {type_name(value)} among the texts", "write join(str(x) for x in items)")
        size += len(value)
    fuel.charge(size >> TEXT_SHIFT)
    return separator.join(values)


def replace(frame: Frame, text: str, old: Any, new: Any, count: Any = -1) -> str:
    """Replace a part of a text, at most `count` times."""
    old, new, count = need_text(old, "the old text"), need_text(new, "the new text"), need_int(count, "count")
    pay_for_search(text, old, frame.fuel)
    hits = text.count(old)
    if count >= 0:
        hits = min(hits, count)
    frame.fuel.charge((len(text) + hits * max(0, len(new) - len(old)) >> TEXT_SHIFT) + (hits >> 4))
    return text.replace(old, new, count)


def _pay_for_pieces(fuel: Fuel, text: str, pieces: int) -> None:
    fuel.charge((len(text) >> TEXT_SHIFT) + (pieces >> 2))


def _count_blanks(text: str, blanks: str) -> int:
    return sum(text.count(blank) for blank in blanks)


def split(frame: Frame, text: str, sep: Any = None, maxsplit: Any = -1) -> list[str]:
    """Split a text at a separator, or at white space if it is null."""
    return _split(frame, text, sep, maxsplit, str.split)


def rsplit(frame: Frame, text: str, sep: Any = None, maxsplit: Any = -1) -> list[str]:
    """Split a text from its end."""
    return _split(frame, text, sep, maxsplit, str.rsplit)


def _split(frame: Frame, text: str, sep: Any, maxsplit: Any, how: Any) -> list[str]:
    limit = need_int(maxsplit, "maxsplit")
    if sep is None:
        frame.fuel.charge(len(text) >> TEXT_SHIFT)
        pieces = _count_blanks(text, WHITESPACE[:10] if text.isascii() else WHITESPACE)
    else:
        pay_for_search(text, need_text(sep, "the separator"), frame.fuel)
        if not sep:
            raise fail("value", "the separator is empty", "use list(text) for its characters")
        pieces = text.count(sep)
    _pay_for_pieces(frame.fuel, text, min(pieces, limit) if limit >= 0 else pieces)
    result: list[str] = how(text, sep, limit)
    return result


def splitlines(frame: Frame, text: str, keepends: Any = False) -> list[str]:
    """Split a text into its lines."""
    frame.fuel.charge(len(text) >> TEXT_SHIFT)
    _pay_for_pieces(frame.fuel, text, _count_blanks(text, "\n\v\f\r\x1c\x1d\x1e\x85\u2028\u2029"))
    return text.splitlines(bool(keepends))


def _padded(method: Any) -> Any:
    def pad(frame: Frame, text: str, width: Any, *fill: Any) -> str:
        frame.fuel.charge(max(len(text), need_int(width, "the width")) >> TEXT_SHIFT)
        return str(method(text, int(width), *fill))

    return pad


def _expandtabs(frame: Frame, text: str, tabsize: Any = 8) -> str:
    size = need_int(tabsize, "the tab size")
    frame.fuel.charge(len(text) + text.count("\t") * max(0, size) >> TEXT_SHIFT)
    return text.expandtabs(size)


def _method(name: str, least: int, most: int, cost: Any = per_text) -> Function:
    return Function(name, getattr(str, name), least, most, cost)


def _per_partition(fuel: Fuel, args: Sequence[Any]) -> None:
    per_scan(fuel, args)
    per_text(fuel, args)


TEXT_METHODS: Final = table(
    *(_method(name, 0, 0) for name in ("upper", "lower", "title", "capitalize", "casefold", "swapcase")),
    *(_method(name, 0, 1, per_strip) for name in ("strip", "lstrip", "rstrip")),
    *(_method(name, 1, 1) for name in ("removeprefix", "removesuffix")),
    *(_method(name, 1, 3, per_scan) for name in ("startswith", "endswith", "find", "rfind", "index", "count")),
    *(
        _method(name, 0, 0, per_scan)
        for name in ("isdigit", "isalpha", "isalnum", "isspace", "isupper", "islower", "isnumeric", "isdecimal")
    ),
    *(_method(name, 1, 1, _per_partition) for name in ("partition", "rpartition")),
    *(Function(name, _padded(getattr(str, name)), 1, 2, framed=True) for name in ("ljust", "rjust", "center")),
    Function("zfill", _padded(str.zfill), 1, 1, framed=True),
    Function("expandtabs", _expandtabs, 0, 1, framed=True, keywords=("tabsize",)),
    Function("join", join, 1, 1, framed=True),
    Function("replace", replace, 2, 3, framed=True, keywords=("count",)),
    Function("split", split, 0, 2, framed=True, keywords=("sep", "maxsplit")),
    Function("rsplit", rsplit, 0, 2, framed=True, keywords=("sep", "maxsplit")),
    Function("splitlines", splitlines, 0, 1, framed=True, keywords=("keepends",)),
)


# --- lists, objects, sets ------------------------------------------------------------------------------------------


def _list_index(frame: Frame, items: Any, wanted: Any) -> int:
    frame.fuel.charge((len(items) >> ITEM_SHIFT) + 1)
    for place, item in enumerate(items):
        if equal(item, wanted, frame.fuel):
            return place
    raise fail("value", "index(): the value is not in the list", "test it first with `in`")


def _list_count(frame: Frame, items: Any, wanted: Any) -> int:
    frame.fuel.charge((len(items) >> ITEM_SHIFT) + 1)
    return sum(1 for item in items if equal(item, wanted, frame.fuel))


def _dict_get(frame: Frame, value: Mapping[Any, Any], key: Any, default: Any = None) -> Any:
    if isinstance(key, (list, dict, OrderedSet)):
        raise wrong_type(f"{type_name(key)} cannot be a key")
    return value.get(check_key(key, len(value), frame.fuel), default)


LIST_METHODS: Final = table(
    Function("index", _list_index, 1, 1, framed=True),
    Function("count", _list_count, 1, 1, framed=True),
    Function("copy", list, 0, 0, per_item),
)

DICT_METHODS: Final = table(
    Function("get", _dict_get, 1, 2, framed=True, keywords=("default",)),
    Function("keys", lambda value: list(value.keys()), 0, 0, per_item),
    Function("values", lambda value: list(value.values()), 0, 0, per_item),
    Function("items", lambda value: list(value.items()), 0, 0, lambda fuel, args: fuel.charge((len(args[0]) >> 2) + 1)),
    Function("copy", dict, 0, 0, lambda fuel, args: fuel.charge((len(args[0]) >> 2) + 1)),
)


def _set_method(combine: Any) -> Any:
    def run(frame: Frame, left: OrderedSet, other: Any) -> Any:
        values = iterate(other)
        frame.fuel.charge(len(left) + len(values))
        return combine(left, make_set(values, frame.fuel))

    return run


SET_METHODS: Final = table(
    Function("union", _set_method(lambda a, b: OrderedSet([*a, *b])), 1, 1, framed=True),
    Function("intersection", _set_method(lambda a, b: OrderedSet(x for x in a if x in b)), 1, 1, framed=True),
    Function("difference", _set_method(lambda a, b: OrderedSet(x for x in a if x not in b)), 1, 1, framed=True),
    Function("issubset", _set_method(lambda a, b: all(x in b for x in a)), 1, 1, framed=True),
    Function("issuperset", _set_method(lambda a, b: all(x in a for x in b)), 1, 1, framed=True),
    Function("isdisjoint", _set_method(lambda a, b: not any(x in a for x in b)), 1, 1, framed=True),
)


# --- matches -----------------------------------------------------------------------------------------------------


def _group(match: RegexMatch, key: Any = 0) -> Any:
    if isinstance(key, str):
        if key not in match.names:
            raise fail("no_key", f"the pattern has no group named {key[:80]!r}")
        return match[match.names[key]]
    return match[need_int(key, "the group")]


MATCH_METHODS: Final = table(
    Function("group", _group, 0, 1),
    Function("groups", lambda match: list(match[1:]), 0, 0, per_item),
    Function("groupdict", lambda match: {name: match[place] for name, place in match.names.items()}, 0, 0, per_item),
    Function("start", lambda match: match.start, 0, 0),
    Function("end", lambda match: match.end, 0, 0),
)

METHODS: Final[Mapping[type, Mapping[str, Function]]] = MappingProxyType(
    {
        str: TEXT_METHODS,
        list: LIST_METHODS,
        tuple: LIST_METHODS,
        range: LIST_METHODS,
        dict: DICT_METHODS,
        OrderedSet: SET_METHODS,
        dt.datetime: DATE_METHODS,
        dt.date: DAY_METHODS,
        dt.timedelta: DURATION_METHODS,
        RegexMatch: MATCH_METHODS,
    }
)


def methods_of(value: Any) -> Mapping[str, Function]:
    """Return the methods that a value has, by name."""
    found = METHODS.get(type(value))
    if found is not None:
        return found
    if isinstance(value, Mapping):
        return DICT_METHODS
    if isinstance(value, list):
        return LIST_METHODS
    return TEXT_METHODS if isinstance(value, str) else {}


ALL_METHOD_NAMES: Final = frozenset(name for methods in METHODS.values() for name in methods)
