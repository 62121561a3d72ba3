"""What a function of the language is: its name, arguments, price and code; and how one is called. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from engine.core.lang.context import ITEM_SHIFT, SCAN_SHIFT, TEXT_SHIFT, Frame, Fuel
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.values import Json

Cost = Callable[[Fuel, Sequence[Any]], None]
"""Pays for a call before it is made, from the sizes of its positional arguments."""

NO_KEYWORDS: Final[Mapping[str, Any]] = {}


def free(fuel: Fuel, args: Sequence[Any]) -> None:
    """The price of what takes constant time and memory: it is part of the price of the call's node."""


def per_text(fuel: Fuel, args: Sequence[Any]) -> None:
    """The price of making a text about as long as the texts given."""
    fuel.charge(sum(len(arg) for arg in args if type(arg) is str) >> TEXT_SHIFT)


def per_scan(fuel: Fuel, args: Sequence[Any]) -> None:
    """The price of reading the first argument once, comparing it with the short ones that follow."""
    size = len(args[0])
    needle = max((len(arg) for arg in args[1:] if type(arg) is str), default=0)
    choices = max((len(arg) for arg in args[1:] if type(arg) is tuple), default=0)
    fuel.charge((size >> SCAN_SHIFT) + (size * min(needle, 64) >> 10) + (choices >> ITEM_SHIFT))


def per_strip(fuel: Fuel, args: Sequence[Any]) -> None:
    """The price of stripping: each character of the text is looked for among those given."""
    size = len(args[0])
    wanted = len(args[1]) if len(args) > 1 and type(args[1]) is str else 0
    fuel.charge((size >> TEXT_SHIFT) + (size * wanted >> 12))


def per_item(fuel: Fuel, args: Sequence[Any]) -> None:
    """The price of looking at each item of the first argument or making a list of them."""
    if args and hasattr(args[0], "__len__"):
        fuel.charge((len(args[0]) >> ITEM_SHIFT) + 1)


@dataclass(frozen=True, slots=True)
class Doc:
    """What the reference says of a function; the example is executed by the tests.

    Attributes:
        signature: How it is called.
        text: What it gives, in one sentence.
        example: An expression (of a filter or test: a template).
        result: What the example gives, as JSON.
    """

    signature: str
    text: str
    example: str
    result: Json


@dataclass(frozen=True, slots=True)
class Function:
    """One function or method.

    Attributes:
        name: As authors write it.
        run: The code; a method gets its object as first argument.
        least: Fewest arguments, the object of a method not counted.
        most: Most arguments, keywords counted, or None for any number.
        cost: What a call costs; `run` itself pays what depends on more than the sizes of the arguments.
        keywords: Arguments that may be given by name.
        framed: Whether `run` gets the frame before all arguments.
        doc: What the reference says of it; methods, filters and tests have theirs in `reference`.
    """

    name: str
    run: Callable[..., Any]
    least: int
    most: int | None
    cost: Cost = free
    keywords: tuple[str, ...] = ()
    framed: bool = False
    doc: Doc | None = field(default=None, compare=False)

    def __repr__(self) -> str:
        return f"<function {self.name}>"

    def misuse(self, count: int, keywords: Sequence[str]) -> str:
        """Return what is wrong with a call by its number of arguments and names, or an empty text."""
        total = count + len(keywords)
        if total < self.least or (self.most is not None and total > self.most):
            return f"{self.name}() takes {self._arity()}, not {total}"
        for keyword in keywords:
            if keyword not in self.keywords and "*" not in self.keywords:
                return f"{self.name}() has no argument '{keyword}'"
        return ""

    def _arity(self) -> str:
        if self.most is None:
            return f"at least {self.least} argument{'' if self.least == 1 else 's'}"
        if self.most == self.least:
            return f"{self.least or 'no'} argument{'' if self.least == 1 else 's'}"
        return f"{self.least} to {self.most} arguments"


@dataclass(frozen=True, slots=True)
class Module:
    """A named group of functions and constants, such as `math`.

    Attributes:
        name: Dotted name, as authors write it.
        members: Functions, constants and further modules by their last name.
        call: What a call of the module itself does, for `datetime.datetime(…)` and its like.
    """

    name: str
    members: Mapping[str, Any]
    call: Function | None = None

    def __repr__(self) -> str:
        return f"<module {self.name}>"


def table(*functions: Function) -> dict[str, Function]:
    """Return functions by their names."""
    return {function.name: function for function in functions}


def module(name: str, *functions: Function, call: Function | None = None, **others: Any) -> Module:
    """Return a module of functions whose names are dotted, and of constants and modules."""
    members = {function.name.rsplit(".", 1)[-1]: function for function in functions}
    return Module(name, {**members, **others}, call)


def invoke(
    function: Function,
    frame: Frame,
    args: Sequence[Any],
    keywords: Mapping[str, Any] = NO_KEYWORDS,
    *,
    bound: bool = False,
) -> Any:
    """Check, pay for and make a call.

    Args:
        function: What to call.
        frame: The running evaluation.
        args: Positional arguments; for a method its object first.
        keywords: Arguments by name.
        bound: Whether the first of `args` is the object of a method.

    Returns:
        The result.

    Raises:
        ExpressionError: `expression.arguments` for a wrong call, or what the function raises.
    """
    count = len(args) - 1 if bound else len(args)
    if keywords or count < function.least or (function.most is not None and count > function.most):
        problem = function.misuse(count, tuple(keywords))
        if problem:
            raise fail("arguments", problem)
    function.cost(frame.fuel, args)
    if function.framed:
        return function.run(frame, *args, **keywords)
    return function.run(*args, **keywords)


def call_value(frame: Frame, value: Any, args: Sequence[Any]) -> Any:
    """Call a function that was passed as a value, as `map` and `sorted` do.

    Raises:
        ExpressionError: `expression.type` if the value is no function.
    """
    if type(value) is not Function:
        raise wrong_type(f"{type_name(value)} is not a function", "pass a function's name, such as len or str")
    frame.fuel.charge(1)
    return invoke(value, frame, args)


def need_text(value: Any, what: str) -> str:
    """Return the value if it is text.

    Raises:
        ExpressionError: `expression.type` otherwise.
    """
    if isinstance(value, str):
        return value
    raise wrong_type(f"{what} must be text, not {type_name(value)}", "turn it into text with str()")


def need_int(value: Any, what: str) -> int:
    """Return the value if it is a whole number.

    Raises:
        ExpressionError: `expression.type` otherwise.
    """
    if isinstance(value, int):
        return int(value)
    raise wrong_type(f"{what} must be a whole number, not {type_name(value)}")


def need_number(value: Any, what: str) -> int | float:
    """Return the value if it is a number; true and false count as 1 and 0.

    Raises:
        ExpressionError: `expression.type` otherwise.
    """
    if isinstance(value, (int, float)):
        return value
    raise wrong_type(f"{what} must be a number, not {type_name(value)}")
