"""Arithmetic and comparison with a guard on the size of every result. Workflow-safe."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from engine.core.errors import ExpressionError
from engine.core.lang.containers import (
    OrderedSet,
    check_key,
    contains,
    equal,
    is_scalar,
    pay_for_comparison,
)
from engine.core.lang.context import SLOT_SHIFT, TEXT_SHIFT, Fuel
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.secret import SecretText, join

MAX_INT_BITS: Final = 4096
SMALL_INT_BITS: Final = 128

BinaryOp = Callable[[Any, Any, Fuel], Any]


def _numbers(left: Any, right: Any) -> bool:
    return isinstance(left, (int, float)) and isinstance(right, (int, float))


def _mismatch(verb: str, left: Any, right: Any) -> ExpressionError:
    hint = ""
    if "text" in (type_name(left), type_name(right)):
        hint = 'turn the other side into text with str(), or use an f-string: f"{a} {b}"'
    if left is None or right is None:
        hint = "one side is null; give it a default first: (a or 0)"
    return wrong_type(f"cannot {verb} {type_name(left)} and {type_name(right)}", hint)


def _bounded(bits: int) -> None:
    if bits > MAX_INT_BITS:
        raise fail("too_large", f"a whole number would have more than {MAX_INT_BITS} bits", "use float() numbers")


def _bits(left: Any, right: Any) -> tuple[int, int]:
    return int(left).bit_length(), int(right).bit_length()


def add(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left + right` of numbers, texts, lists, or dates and durations."""
    if _numbers(left, right):
        return left + right
    if isinstance(left, str) and isinstance(right, str):
        fuel.charge(len(left) + len(right) >> TEXT_SHIFT)
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        fuel.charge(len(left) + len(right) >> SLOT_SHIFT)
        return left + right
    if isinstance(left, tuple) and isinstance(right, tuple):
        fuel.charge(len(left) + len(right) >> SLOT_SHIFT)
        return left + right
    if isinstance(left, (dt.date, dt.timedelta)) and isinstance(right, (dt.date, dt.timedelta)):
        return left + right  # type: ignore[operator]  # two dates raise TypeError, which becomes expression.type
    if type(left) is SecretText or type(right) is SecretText:
        return join((left, right))
    raise _mismatch("add", left, right)


def subtract(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left - right` of numbers, sets, or dates and durations."""
    if _numbers(left, right):
        return left - right
    if isinstance(left, OrderedSet) and isinstance(right, OrderedSet):
        fuel.charge(len(left))
        return OrderedSet(item for item in left if item not in right)
    if isinstance(left, (dt.date, dt.timedelta)) and isinstance(right, (dt.date, dt.timedelta)):
        return left - right  # type: ignore[operator]  # a duration minus a date raises TypeError
    raise _mismatch("subtract", left, right)


def multiply(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left * right` of numbers, or a text or list repeated."""
    if _numbers(left, right):
        if isinstance(left, int) and isinstance(right, int):
            bits = sum(_bits(left, right))
            if bits > 64:
                _bounded(bits)
                fuel.charge(bits >> 9)
        return left * right
    if isinstance(left, int) and isinstance(right, (str, list, tuple)):
        left, right = right, left
    if isinstance(left, (str, list, tuple)) and isinstance(right, int):
        count = max(0, int(right))
        fuel.charge(len(left) * count >> (TEXT_SHIFT if isinstance(left, str) else SLOT_SHIFT))
        return left * count
    if isinstance(left, dt.timedelta) and isinstance(right, (int, float)):
        return left * right
    if isinstance(right, dt.timedelta) and isinstance(left, (int, float)):
        return left * right
    raise _mismatch("multiply", left, right)


def divide(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left / right` of numbers, or of durations."""
    if _numbers(left, right):
        _pay_for_division(left, right, fuel)
        return left / right
    if isinstance(left, dt.timedelta) and isinstance(right, (int, float, dt.timedelta)):
        return left / right
    raise _mismatch("divide", left, right)


def _pay_for_division(left: Any, right: Any, fuel: Fuel) -> None:
    if isinstance(left, int) and isinstance(right, int):
        bits = int(left).bit_length()
        if bits > SMALL_INT_BITS:
            fuel.charge(bits * int(right).bit_length() >> 20)


def floor_divide(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left // right` of numbers."""
    if _numbers(left, right):
        _pay_for_division(left, right, fuel)
        return left // right
    raise _mismatch("divide", left, right)


def modulo(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left % right` of numbers; formatting text with % is not part of the language."""
    if _numbers(left, right):
        _pay_for_division(left, right, fuel)
        return left % right
    if isinstance(left, str):
        raise wrong_type("text cannot be formatted with %", 'use an f-string: f"{value:.2f}"')
    raise _mismatch("divide", left, right)


def power(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left ** right` of numbers."""
    if not _numbers(left, right):
        raise _mismatch("raise to a power", left, right)
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        bits = int(left).bit_length() * int(right)
        if abs(left) > 1:
            _bounded(bits)
            fuel.charge(bits >> 9)
    result = left**right
    if isinstance(result, complex):
        raise fail("value", "a negative number has no real root of that kind")
    return result


def shift_left(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left << right` of whole numbers."""
    if not (isinstance(left, int) and isinstance(right, int)):
        raise _mismatch("shift", left, right)
    if left:
        bits = int(left).bit_length() + int(right)
        _bounded(bits)
        fuel.charge(max(0, bits) >> 9)
    return left << min(int(right), MAX_INT_BITS)


def shift_right(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left >> right` of whole numbers."""
    if not (isinstance(left, int) and isinstance(right, int)):
        raise _mismatch("shift", left, right)
    return left >> right


def bit_and(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left & right` of whole numbers or sets."""
    if isinstance(left, int) and isinstance(right, int):
        return left & right
    if isinstance(left, OrderedSet) and isinstance(right, OrderedSet):
        fuel.charge(len(left))
        return OrderedSet(item for item in left if item in right)
    raise _mismatch("combine", left, right)


def bit_or(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left | right` of whole numbers, sets or objects (the right one's keys win)."""
    if isinstance(left, int) and isinstance(right, int):
        return left | right
    if isinstance(left, OrderedSet) and isinstance(right, OrderedSet):
        fuel.charge(len(left) + len(right))
        result = OrderedSet(left)
        for item in right:
            result.members[check_key(item, len(result), fuel)] = None
        return result
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        fuel.charge(len(left) + len(right) >> 2)
        return {**left, **right}
    raise _mismatch("combine", left, right)


def bit_xor(left: Any, right: Any, fuel: Fuel) -> Any:
    """Return `left ^ right` of whole numbers or sets."""
    if isinstance(left, int) and isinstance(right, int):
        return left ^ right
    if isinstance(left, OrderedSet) and isinstance(right, OrderedSet):
        return bit_or(subtract(left, right, fuel), subtract(right, left, fuel), fuel)
    raise _mismatch("combine", left, right)


def _not_equal(left: Any, right: Any, fuel: Fuel) -> bool:
    return not equal(left, right, fuel)


def _ordering(test: Callable[[Any, Any], Any]) -> BinaryOp:
    def compare(left: Any, right: Any, fuel: Fuel) -> bool:
        if _numbers(left, right):
            return bool(test(left, right))
        if isinstance(left, OrderedSet) and isinstance(right, OrderedSet):
            fuel.charge(len(left) + len(right))
            return bool(test(left.members.keys(), right.members.keys()))
        if not comparable(left, right):
            raise _mismatch("compare", left, right)
        if not (is_scalar(left) or is_scalar(right)):
            pay_for_comparison(left, right, fuel)
        return bool(test(left, right))

    return compare


def comparable(left: Any, right: Any) -> bool:
    """Whether two values have an order."""
    if _numbers(left, right):
        return True
    return any(isinstance(left, kind) and isinstance(right, kind) for kind in (str, list, tuple, dt.date, dt.timedelta))


def _is(left: Any, right: Any, fuel: Fuel) -> bool:
    # identity of numbers and texts is an accident of the interpreter, so `is` asks for equal type and value
    return type(left) is type(right) and equal(left, right, fuel)


def _is_not(left: Any, right: Any, fuel: Fuel) -> bool:
    return not _is(left, right, fuel)


def _in(left: Any, right: Any, fuel: Fuel) -> bool:
    return contains(right, left, fuel)


def _not_in(left: Any, right: Any, fuel: Fuel) -> bool:
    return not contains(right, left, fuel)


BINARY: Final[Mapping[str, BinaryOp]] = MappingProxyType(
    {
        "+": add,
        "-": subtract,
        "*": multiply,
        "/": divide,
        "//": floor_divide,
        "%": modulo,
        "**": power,
        "<<": shift_left,
        ">>": shift_right,
        "&": bit_and,
        "|": bit_or,
        "^": bit_xor,
    }
)

COMPARE: Final[Mapping[str, BinaryOp]] = MappingProxyType(
    {
        "==": equal,
        "!=": _not_equal,
        "<": _ordering(operator.lt),
        "<=": _ordering(operator.le),
        ">": _ordering(operator.gt),
        ">=": _ordering(operator.ge),
        "is": _is,
        "is not": _is_not,
        "in": _in,
        "not in": _not_in,
    }
)
