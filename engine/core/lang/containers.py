"""Containers of an evaluation and what walking, comparing and copying them costs. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from engine.core.lang.context import ITEM_SHIFT, SCAN_SHIFT, Fuel
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.values import MAX_DEPTH

HASH_MODULUS: Final = (1 << 61) - 1
"""Python hashes an integer to its remainder by this prime, so larger ones can be made to collide at will."""
SHORT_TEXT: Final = 256
"""Up to this many characters a text is compared or hashed at the cost of a number."""


class OrderedSet:
    """A set that keeps the order of insertion, so that its order never depends on the hash seed."""

    __slots__ = ("members",)

    def __init__(self, members: Iterable[Any] = ()) -> None:
        self.members: dict[Any, None] = dict.fromkeys(members)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, item: Any) -> bool:
        return item in self.members

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OrderedSet) and self.members.keys() == other.members.keys()

    __hash__ = None  # type: ignore[assignment]  # a set cannot be a member of a set, as in Python


def iterate(value: Any) -> Any:
    """Return the items of a value as something with a length.

    Raises:
        ExpressionError: `expression.type` if the value has no items.
    """
    kind = type(value)
    if kind is list or kind is tuple or kind is dict or kind is str or kind is range or kind is OrderedSet:
        return value
    if isinstance(value, (list, tuple, Mapping)):
        return value
    raise wrong_type(f"{type_name(value)} has no items to go through", "it must be a list, an object or text")


def measure(value: Any, fuel: Fuel, depth: int = 0) -> None:
    """Pay for walking through a value with all it holds, shared parts as often as they occur.

    Raises:
        ExpressionError: `expression.fuel` if it is too big, `expression.too_deep` if it is nested too deeply.
    """
    kind = type(value)
    if kind is str:
        fuel.charge(len(value) >> SCAN_SHIFT)
        return
    if kind is int or kind is float or kind is bool or value is None or kind is range:
        return
    if isinstance(value, (list, tuple, OrderedSet)):
        items: Any = value
    elif isinstance(value, Mapping):
        fuel.charge(len(value) >> ITEM_SHIFT)
        items = value.values()
        for key in value:
            if type(key) is str and len(key) > SHORT_TEXT:
                fuel.charge(len(key) >> SCAN_SHIFT)
    else:
        return
    if depth >= MAX_DEPTH:
        raise fail("too_deep", f"a value is nested deeper than {MAX_DEPTH} levels", "use a flatter structure")
    fuel.charge((len(items) >> ITEM_SHIFT) + 1)
    for item in items:
        inner = type(item)
        if inner is str:
            if len(item) > SHORT_TEXT:
                fuel.charge(len(item) >> SCAN_SHIFT)
        elif inner is not int and inner is not float:
            measure(item, fuel, depth + 1)


def is_scalar(value: Any) -> bool:
    """Whether a value compares at constant cost, whatever the other side is."""
    kind = type(value)
    return kind is int or kind is float or kind is bool or value is None or (kind is str and len(value) <= SHORT_TEXT)


def pay_for_comparison(left: Any, right: Any, fuel: Fuel) -> None:
    """Pay for comparing two values in any way."""
    if is_scalar(left) or is_scalar(right):
        return
    if type(left) is str and type(right) is str:
        fuel.charge(min(len(left), len(right)) >> SCAN_SHIFT)
        return
    measure(left, fuel)
    measure(right, fuel)


def equal(left: Any, right: Any, fuel: Fuel) -> bool:
    """Compare two values at their price; containers of different length cost nothing."""
    if not (is_scalar(left) or is_scalar(right)):
        if type(left) is type(right) and type(left) in (str, list, tuple, dict) and len(left) != len(right):
            return False
        pay_for_comparison(left, right, fuel)
    return bool(left == right)


def check_key(key: Any, size: int, fuel: Fuel) -> Any:
    """Pay for looking up or storing a key of an object or a member of a set.

    Args:
        key: The key.
        size: Number of keys already there.
        fuel: What pays.

    Returns:
        The key.

    Raises:
        ExpressionError: `expression.type` if the value cannot be a key.
    """
    kind = type(key)
    if kind is str:
        if len(key) > SHORT_TEXT:
            fuel.charge(len(key) >> SCAN_SHIFT)
        return key
    if kind is int:
        if not -HASH_MODULUS < key < HASH_MODULUS:
            # such keys may all fall on one place, and then each is compared with all
            fuel.charge((size >> ITEM_SHIFT) + 1)
        return key
    if kind is float or kind is bool or key is None:
        return key
    if kind is tuple:
        measure(key, fuel)
        fuel.charge(1 + (size >> ITEM_SHIFT) if _has_big_number(key) else 1)
        for item in key:
            check_key(item, 0, fuel)
        return key
    raise wrong_type(f"{type_name(key)} cannot be a key or a member of a set", "use text or a number")


def _has_big_number(items: tuple[Any, ...]) -> bool:
    return any(
        (type(item) is int and not -HASH_MODULUS < item < HASH_MODULUS)
        or (type(item) is tuple and _has_big_number(item))
        for item in items
    )


def make_set(items: Iterable[Any], fuel: Fuel) -> OrderedSet:
    """Return the set of the items in their order."""
    result = OrderedSet()
    members = result.members
    for item in items:
        members[check_key(item, len(members), fuel)] = None
    return result


def contains(container: Any, item: Any, fuel: Fuel) -> bool:
    """Whether `item in container`, at its price.

    Raises:
        ExpressionError: `expression.type` if the left side cannot be in the right one.
    """
    kind = type(container)
    if kind is str:
        if type(item) is not str:
            raise wrong_type(f"{type_name(item)} cannot be part of text", "turn it into text with str()")
        pay_for_search(container, item, fuel)
        return item in container
    if isinstance(container, (Mapping, OrderedSet)):
        if isinstance(item, (list, dict, OrderedSet)):
            raise wrong_type(f"{type_name(item)} cannot be a key or a member of a set")
        return check_key(item, len(container), fuel) in container
    if kind is range:
        return isinstance(item, (int, float)) and int(item) == item and int(item) in container
    if isinstance(container, (list, tuple)):
        fuel.charge((len(container) >> ITEM_SHIFT) + 1)
        if is_scalar(item):
            return item in container
        return any(equal(other, item, fuel) for other in container)
    raise wrong_type(f"{type_name(container)} has no items to look through")


def pay_for_search(text: str, part: str, fuel: Fuel) -> None:
    """Pay for finding a part in a text; short parts in short texts may take the product of both lengths."""
    fuel.charge((len(text) >> SCAN_SHIFT) + (len(text) * min(len(part), 64) >> 10))
