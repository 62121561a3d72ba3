"""All that the reference of the expression language lists, in its order. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.core.lang.dates import DATE_FIELDS, DAY_FIELDS, DURATION_FIELDS
from engine.core.lang.functions import Doc, Function, Module
from engine.core.lang.reference import filters, methods
from engine.core.lang.stdlib import CONSTANTS, FUNCTIONS, all_modules

METHOD_GROUPS: Final[tuple[tuple[str, Mapping[str, Doc]], ...]] = (
    ("methods of text", methods.TEXT),
    ("methods of lists", methods.LIST),
    ("methods of objects", methods.OBJECT),
    ("methods of sets", methods.SET),
    ("methods of times", methods.TIME),
    ("methods of days", methods.DAY),
    ("methods of durations", methods.DURATION),
    ("methods of matches", methods.MATCH),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One function, method, filter or test.

    Attributes:
        group: Heading under which it stands, such as `functions` or `module math`.
        name: Its name in the group.
        doc: What is said of it.
        is_template: Whether the example is a template, and its result therefore text.
    """

    group: str
    name: str
    doc: Doc
    is_template: bool = False


def entries() -> Iterator[Entry]:
    """Yield all entries group by group.

    Raises:
        LookupError: If a function has no doc.
    """
    for function in FUNCTIONS.values():
        yield Entry("functions", function.name, _doc(function))
    for module in _sorted_modules():
        if module.call is not None:
            yield Entry(f"module {module.name}", module.name, _doc(module.call))
        for name, member in sorted(module.members.items()):
            if type(member) is Function:
                yield Entry(f"module {module.name}", name, _doc(member))
    for group, docs in METHOD_GROUPS:
        for name, doc in docs.items():
            yield Entry(group, name, doc)
    for name, doc in filters.FILTERS.items():
        yield Entry("filters of templates", name, doc, is_template=True)
    for name, doc in filters.TESTS.items():
        yield Entry("tests of templates", name, doc, is_template=True)


def constants() -> Iterator[tuple[str, Any]]:
    """Yield the dotted names and values of all constants; a zone stands as its text."""
    yield from CONSTANTS.items()
    for module in _sorted_modules():
        for name, member in sorted(module.members.items()):
            if not isinstance(member, (Function, Module)):
                yield f"{module.name}.{name}", member if isinstance(member, (int, float, str)) else str(member)


def fields() -> Iterator[tuple[str, list[str]]]:
    """Yield what can be read of times, days and durations by a point."""
    yield "fields of times", sorted(DATE_FIELDS)
    yield "fields of days", sorted(DAY_FIELDS)
    yield "fields of durations", sorted(DURATION_FIELDS)


def _doc(function: Function) -> Doc:
    if function.doc is None:
        raise LookupError(f"{function.name} has no doc")
    return function.doc


def _sorted_modules() -> list[Module]:
    return sorted(all_modules(), key=lambda module: module.name)
