"""What the static check of an expression or template finds before it runs. Workflow-safe."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from engine.core.lang.failures import suggest
from engine.core.lang.methods import ALL_METHOD_NAMES
from engine.core.lang.stdlib import ABSENT, LIBRARY_NAMES, find_module

_INSTEAD_OF_METHODS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "encode": "leave it out: there are no bytes here, base64 takes and gives text",
        "decode": "leave it out: there are no bytes here, base64 takes and gives text",
        "format": 'use an f-string: f"{value:.2f}"',
        "append": "values do not change: write items + [item]",
        "extend": "values do not change: write items + others",
        "sort": "values do not change: write sorted(items)",
        "reverse": "values do not change: write reversed(items)",
        "update": "values do not change: write a | b",
        "add": "values do not change: write a | {item}",
    }
)
MAX_HINTS: Final = 20
"""Looking for near words takes long, and nobody reads hundreds of hints."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What the static check found.

    Attributes:
        offset: Character of the source, from 0.
        code: Stable code, as the same mistake has at run time.
        message: What is wrong.
        hint: The remedy, or empty.
    """

    offset: int
    code: str
    message: str
    hint: str = ""


def unknown_names(reads: Iterable[tuple[str, int]], known: Collection[str], found: int) -> Iterator[Problem]:
    """Yield a problem for each name that nothing stands for.

    Args:
        reads: Free root names with their places.
        known: Root names that will be there.
        found: How many problems there are already.
    """
    for name, offset in reads:
        if name in known:
            continue
        hint = ABSENT.get(name, "")
        if not hint and found < MAX_HINTS:
            hint = suggest(name, [*known, *LIBRARY_NAMES])
        found += 1
        message = "the library has no nlp" if name == "nlp" else f"unknown name '{name}'"
        yield Problem(offset, "expression.unknown_name", message, hint)


def unknown_members(members: Iterable[tuple[str, str, bool, int]], known: Collection[str]) -> Iterator[Problem]:
    """Yield a problem for each member that a module of the library does not have.

    Args:
        members: Dotted name of the module, member, whether it is called, place.
        known: Root names that will be there; data of a module's name hides it.
    """
    for path, member, called, offset in members:
        module = find_module(path)
        if module is None or path.split(".")[0] in known or member in module.members:
            continue
        hint = suggest(member, module.members) or f"{path} has {', '.join(sorted(module.members))}"
        kind = "function" if called else "member"
        yield Problem(offset, "expression.unknown_function", f"unknown {kind} '{path}.{member}'", hint)


def unknown_method(name: str, offset: int) -> Problem:
    """Return the problem of a method that no value has."""
    hint = _INSTEAD_OF_METHODS.get(name) or suggest(name, ALL_METHOD_NAMES)
    return Problem(offset, "expression.unknown_function", f"no value has a method '{name}'", hint)


def private_attribute(name: str, offset: int) -> Problem:
    """Return the problem of an attribute such as `__class__`."""
    return Problem(
        offset,
        "expression.private_attribute",
        f"'{name}' is not available: only keys of the data can be read",
        f'if the data has such a key, write ["{name}"]',
    )
