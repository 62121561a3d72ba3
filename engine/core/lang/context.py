"""What an evaluation is given and what it uses up: time, seed and fuel. Workflow-safe."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from engine.core.errors import ExpressionError

DEFAULT_FUEL: Final = 100_000
"""Units of one evaluation. One unit stands for about 1 µs of work and at most about 500 bytes of new memory."""

TEXT_SHIFT: Final = 7
"""2**7 characters of new text cost one unit (a character takes up to four bytes)."""
SCAN_SHIFT: Final = 8
"""2**8 characters that are only read cost one unit."""
SLOT_SHIFT: Final = 5
"""2**5 references copied into a new list cost one unit."""
ITEM_SHIFT: Final = 3
"""2**3 items looked at or created one by one cost one unit."""


class Fuel:
    """The units that are left; every operation pays for its size before it starts.

    Attributes:
        limit: Units at the start.
        left: Units not used yet.
    """

    __slots__ = ("left", "limit")

    def __init__(self, limit: int = DEFAULT_FUEL) -> None:
        self.limit = limit
        self.left = limit

    def charge(self, units: int) -> None:
        """Take units away.

        Args:
            units: How many, at least 0.

        Raises:
            ExpressionError: `expression.fuel` when more is asked for than is left; the rest is lost then.
        """
        left = self.left - units
        if left < 0:
            self.left = 0
            raise ExpressionError(
                f"the evaluation needs more than its {self.limit:,} units of work and memory",
                code="expression.fuel",
                hint="work on less data at a time: split it over several steps or a foreach",
            )
        self.left = left


@dataclass(slots=True)
class DrawCounter:
    """Counts the random draws made with one context, so that two expressions of a step never draw the same."""

    made: int = 0


@dataclass(frozen=True, slots=True)
class EvalContext:
    """The impure world as the workflow saw it; one per step (or per field of a step).

    Attributes:
        now: Time of the workflow task, with zone UTC.
        seed: Execution id and step path; `random` and `uuid()` derive from it and from the number of the draw. The
            number goes on counting over the evaluations that share this context.
        fuel: Units shared by all evaluations with this context, or None for a fresh default each.
    """

    now: dt.datetime
    seed: str
    fuel: Fuel | None = None
    draws: DrawCounter = field(default_factory=DrawCounter, compare=False, repr=False)


class Frame:
    """One running evaluation.

    Attributes:
        env: Root names and their values.
        slots: Variables of comprehensions and templates, numbered by the compiler.
        fuel: What may still be used.
        context: Time and seed.
        out: Pieces of a template's result: texts, and texts with secrets.
        cache: Values derived once in an evaluation, such as compiled patterns.
    """

    __slots__ = ("cache", "context", "env", "fuel", "out", "slots")

    def __init__(self, env: Mapping[str, Any], slots: list[Any], context: EvalContext) -> None:
        self.env = env
        self.slots = slots
        self.fuel = context.fuel or Fuel()
        self.context = context
        self.out: list[Any] = []
        self.cache: dict[Any, Any] = {}


Run = Callable[[Frame], Any]
"""What a node of an expression becomes."""


class Unset:
    """Type of UNSET, which stands in the slot of a template variable that was not set yet, or for a missing value."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset()
