"""Numbers and conversions of the library: abs, bool, float, int, round, str, and the module math. Workflow-safe."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from engine.core.lang.border import pay_for_digits, python_text
from engine.core.lang.containers import iterate
from engine.core.lang.context import Frame, Fuel
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.functions import Doc, Function, module, need_int, need_number, per_item, table
from engine.core.lang.operators import MAX_INT_BITS, multiply

MAX_ROUND_DIGITS: Final = 400
MAX_INT_CHARS: Final = 1_300


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


def _str(frame: Frame, value: Any = "") -> str:
    return python_text(value, frame.fuel)


NUMBER_FUNCTIONS: Final = table(
    Function("abs", _abs, 1, 1, doc=Doc("abs(number)", "The number without its sign.", "abs(-2)", 2)),
    Function(
        "bool",
        _bool,
        0,
        1,
        doc=Doc("bool(value)", "False for null, false, zero and what is empty; else true.", "bool([])", False),
    ),
    Function(
        "float",
        _float,
        0,
        1,
        doc=Doc("float(value)", "A number, or text that is one, as a number with a point.", "float('1.5')", 1.5),
    ),
    Function(
        "int",
        _int,
        0,
        2,
        keywords=("base",),
        framed=True,
        doc=Doc(
            "int(value, base=10)",
            "A whole number of text or of a number, which loses what is behind its point.",
            "[int('12'), int(2.9), int('ff', base=16)]",
            [12, 2, 255],
        ),
    ),
    Function(
        "round",
        _round,
        1,
        2,
        keywords=("ndigits",),
        doc=Doc(
            "round(number, ndigits=null)",
            "The nearest number with so many digits; a half goes to the even side.",
            "[round(3.14159, 2), round(2.5)]",
            [3.14, 2],
        ),
    ),
    Function(
        "str",
        _str,
        0,
        1,
        framed=True,
        doc=Doc("str(value)", "The value as text; dates as RFC 3339.", "str(1.0) + str([1, 'a'])", "1.0[1, 'a']"),
    ),
)


# --- math ----------------------------------------------------------------------------------------------------------


def _product(frame: Frame, factors: Iterable[int]) -> int:
    """Return the product of whole numbers; the guard of `*` stops it before it gets too large."""
    result = 1
    for factor in factors:
        frame.fuel.charge(1)
        result = multiply(result, factor, frame.fuel)
    return result


def _factorial(frame: Frame, value: Any) -> int:
    count = need_int(value, "factorial()")
    if count < 0:
        raise fail("value", "factorial() takes no negative number")
    return _product(frame, range(2, count + 1))


def _perm(frame: Frame, number: Any, taken: Any = None) -> int:
    size = need_int(number, "perm()")
    count = size if taken is None else need_int(taken, "perm()")
    if size < 0 or count < 0:
        raise fail("value", "perm() takes no negative number")
    return _product(frame, range(size - count + 1, size + 1)) if count <= size else 0


def _comb(frame: Frame, number: Any, taken: Any) -> int:
    size, count = need_int(number, "comb()"), need_int(taken, "comb()")
    if size < 0 or count < 0:
        raise fail("value", "comb() takes no negative number")
    if count > size:
        return 0
    result = 1
    for place in range(min(count, size - count)):
        frame.fuel.charge(1)
        # the division keeps the result whole in every round, since it is comb(size, place + 1)
        result = multiply(result, size - place, frame.fuel) // (place + 1)
    return result


def _prod(frame: Frame, values: Any, start: Any = 1) -> Any:
    result: Any = need_number(start, "start")
    items = iterate(values)
    frame.fuel.charge((len(items) >> 1) + 1)
    for item in items:
        result = multiply(result, need_number(item, "prod()"), frame.fuel)
    return result


def _lcm(frame: Frame, *values: Any) -> int:
    result = 1
    for value in values:
        number = abs(need_int(value, "lcm()"))
        frame.fuel.charge(1 + (number.bit_length() >> 6))
        if number == 0:
            return 0
        result = multiply(result, number // math.gcd(result, number), frame.fuel)
    return result


def _gcd(frame: Frame, *values: Any) -> int:
    result = 0
    for value in values:
        number = need_int(value, "gcd()")
        frame.fuel.charge(1 + (number.bit_length() >> 6))
        result = math.gcd(result, number)
    return result


def _fsum(values: Any) -> float:
    return math.fsum(need_number(item, "fsum()") for item in iterate(values))


def _dist(frame: Frame, left: Any, right: Any) -> float:
    frame.fuel.charge((len(iterate(left)) + len(iterate(right)) >> 2) + 1)
    first, second = list(iterate(left)), list(iterate(right))
    for item in (*first, *second):
        need_number(item, "dist()")
    return math.dist(first, second)


def _isclose(left: Any, right: Any, rel_tol: Any = 1e-9, abs_tol: Any = 0.0) -> bool:
    numbers = [need_number(number, "isclose()") for number in (left, right, rel_tol, abs_tol)]
    return math.isclose(numbers[0], numbers[1], rel_tol=numbers[2], abs_tol=numbers[3])


def _of_numbers(name: str) -> Callable[..., Any]:
    """Return a function of `math` that takes nothing but numbers."""
    code = getattr(math, name)

    def run(*numbers: Any) -> Any:
        for number in numbers:
            if not isinstance(number, (int, float)):
                raise wrong_type(f"math.{name}() must be given a real number, not {type_name(number)}")
        return code(*numbers)

    return run


def _isqrt(value: Any) -> int:
    return math.isqrt(need_int(value, "isqrt()"))


def _per_big(fuel: Fuel, args: Sequence[Any]) -> None:
    for arg in args:
        if type(arg) is int:
            pay_for_digits(arg, fuel)


_PLAIN: Final[tuple[tuple[str, int, int, str, str, Any], ...]] = (
    ("acos", 1, 1, "The angle of a cosine, in radians.", "math.acos(1)", 0.0),
    ("asin", 1, 1, "The angle of a sine, in radians.", "math.asin(0)", 0.0),
    ("atan", 1, 1, "The angle of a tangent, in radians.", "math.atan(0)", 0.0),
    ("atan2", 2, 2, "The angle of the point (x, y), written atan2(y, x), in radians.", "math.atan2(0, 1)", 0.0),
    ("cbrt", 1, 1, "The cube root.", "math.cbrt(0)", 0.0),
    ("ceil", 1, 1, "The next whole number above.", "math.ceil(1.2)", 2),
    ("copysign", 2, 2, "The first number with the sign of the second.", "math.copysign(3, -1)", -3.0),
    ("cos", 1, 1, "The cosine of an angle in radians.", "math.cos(0)", 1.0),
    ("degrees", 1, 1, "Radians in degrees.", "math.degrees(math.pi)", 180.0),
    ("exp", 1, 1, "e raised to the number.", "math.exp(0)", 1.0),
    ("fabs", 1, 1, "The number without its sign, with a point.", "math.fabs(-2)", 2.0),
    ("floor", 1, 1, "The next whole number below.", "math.floor(1.8)", 1),
    ("fmod", 2, 2, "The remainder with the sign of the first number.", "math.fmod(-7, 3)", -1.0),
    ("hypot", 0, 9, "The length of the vector with these sides.", "math.hypot(3, 4)", 5.0),
    ("isfinite", 1, 1, "Whether the number is neither infinite nor NaN.", "math.isfinite(1)", True),
    ("isinf", 1, 1, "Whether the number is infinite.", "math.isinf(math.inf)", True),
    ("isnan", 1, 1, "Whether the number is NaN.", "math.isnan(1)", False),
    ("log", 1, 2, "The logarithm to base e or to the second number.", "math.log(1)", 0.0),
    ("log10", 1, 1, "The logarithm to base 10.", "math.log10(1000)", 3.0),
    ("log1p", 1, 1, "The logarithm of 1 + x, exact for small x.", "math.log1p(0)", 0.0),
    ("log2", 1, 1, "The logarithm to base 2.", "math.log2(8)", 3.0),
    ("modf", 1, 1, "What is behind the point and what is before it.", "math.modf(1.5)", [0.5, 1.0]),
    ("pow", 2, 2, "The first number raised to the second, with a point.", "math.pow(2, 3)", 8.0),
    ("radians", 1, 1, "Degrees in radians.", "math.radians(0)", 0.0),
    ("sin", 1, 1, "The sine of an angle in radians.", "math.sin(0)", 0.0),
    ("sqrt", 1, 1, "The square root.", "math.sqrt(9)", 3.0),
    ("tan", 1, 1, "The tangent of an angle in radians.", "math.tan(0)", 0.0),
    ("trunc", 1, 1, "The whole number towards zero.", "math.trunc(-1.8)", -1),
)


def _plain() -> list[Function]:
    made = []
    for name, least, most, text, example, result in _PLAIN:
        arguments = {0: "*numbers", 1: "x" if most == 1 else "x, base=e", 2: "x, y"}[least]
        doc = Doc(f"math.{name}({arguments})", text, example, result)
        made.append(Function(f"math.{name}", _of_numbers(name), least, most, doc=doc))
    return made


def _math(name: str, code: Callable[..., Any], least: int, most: int | None, doc: Doc, **more: Any) -> Function:
    return Function(f"math.{name}", code, least, most, doc=doc, **more)


MATH: Final = module(
    "math",
    *_plain(),
    _math(
        "comb", _comb, 2, 2, Doc("math.comb(n, k)", "Ways to take k of n things.", "math.comb(5, 2)", 10), framed=True
    ),
    _math(
        "dist",
        _dist,
        2,
        2,
        Doc("math.dist(p, q)", "The distance of two points.", "math.dist([0, 0], [3, 4])", 5.0),
        framed=True,
    ),
    _math(
        "factorial",
        _factorial,
        1,
        1,
        Doc(
            "math.factorial(n)",
            f"The product of 1 to n; at most {MAX_INT_BITS:,} bits long.",
            "math.factorial(5)",
            120,
        ),
        framed=True,
    ),
    _math(
        "fsum",
        _fsum,
        1,
        1,
        Doc("math.fsum(numbers)", "The sum without errors of rounding.", "math.fsum([0.1] * 10)", 1.0),
        cost=per_item,
    ),
    _math(
        "gcd",
        _gcd,
        0,
        None,
        Doc("math.gcd(*numbers)", "The greatest common divisor.", "math.gcd(12, 18)", 6),
        framed=True,
    ),
    _math(
        "isclose",
        _isclose,
        2,
        4,
        Doc(
            "math.isclose(a, b, rel_tol=1e-09, abs_tol=0.0)",
            "Whether two numbers are nearly equal.",
            "math.isclose(0.1 + 0.2, 0.3)",
            True,
        ),
        keywords=("rel_tol", "abs_tol"),
    ),
    _math(
        "isqrt",
        _isqrt,
        1,
        1,
        Doc("math.isqrt(n)", "The whole part of the square root.", "math.isqrt(10)", 3),
        cost=_per_big,
    ),
    _math(
        "lcm",
        _lcm,
        0,
        None,
        Doc("math.lcm(*numbers)", "The least common multiple.", "math.lcm(4, 6)", 12),
        framed=True,
    ),
    _math(
        "perm",
        _perm,
        1,
        2,
        Doc("math.perm(n, k=n)", "Ways to put k of n things in order.", "math.perm(5, 2)", 20),
        framed=True,
    ),
    _math(
        "prod",
        _prod,
        1,
        2,
        Doc("math.prod(numbers, start=1)", "The product of all numbers.", "math.prod([2, 3, 4])", 24),
        framed=True,
        keywords=("start",),
    ),
    e=math.e,
    inf=math.inf,
    nan=math.nan,
    pi=math.pi,
    tau=math.tau,
)
