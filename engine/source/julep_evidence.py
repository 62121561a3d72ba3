"""Says in which of Julep's dialects a task is written, and where its steps do something else here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.core.kinds import Dialect
from engine.core.spec.dialects.choice import DIALECTS
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode

_OLD_EXPRESSION: Final = re.compile(r"\s*(?:_\s*[.\[]|(?:inputs|outputs)\[)")
_MODEL_READS: Final = re.compile(r"(?:^|\.)(?:prompt(?:\[\d+\]\.content)?|log|error)$")
_NO_STEPS: Final = frozenset({"tools", "input_schema", "metadata"})
_LISTS: Final = ("then", "else", "do", "map", "parallel")


@dataclass(frozen=True, slots=True)
class Evidence:
    """The dialect of a task.

    Attributes:
        dialect: The dialect.
        why: What in the task says so.
    """

    dialect: Dialect
    why: str


@dataclass(frozen=True, slots=True)
class Difference:
    """A step that does something else here.

    Attributes:
        path: Its place, such as `main[2]`.
        text: What is different.
    """

    path: str
    text: str


def dialect_of_task(root: MapNode) -> Evidence:
    """Return the dialect that a task is written in, by the strongest sign of it.

    Only texts of 2025 begin with `$ `. Only the client of 2024 writes `kind_` into steps; its templates stand in
    `{{ }}`, and its expressions stand bare. What shows none of these reads alike, or is of 2025.

    Args:
        root: The task.
    """
    written = root.get("dialect")
    if isinstance(written, ScalarNode) and written.value in DIALECTS:
        return Evidence(next(known for known in DIALECTS if known == written.value), "the key `dialect`")
    steps = [entry for entry in root.entries if entry.key not in _NO_STEPS]
    texts = [found for entry in steps for found in _texts_in(entry.value, entry.key)]
    for path, text in texts:
        if text.lstrip().startswith("$ "):
            return Evidence("julep-2025", f"`$ ` at {path}")
    for path, _ in texts:
        if path.endswith(".kind_"):
            return Evidence("julep-2024", f"`kind_` at {path.removesuffix('.kind_')}")
    for path, text in texts:
        if "{{" in text:
            return Evidence("julep-2024", f"`{{{{ }}}}` at {path}")
    for path, text in texts:
        if _OLD_EXPRESSION.match(text) and not _MODEL_READS.search(path):
            return Evidence("julep-2024", f"a bare expression at {path}")
    return Evidence("julep-2025", "no sign of the older one")


def differences(root: MapNode) -> list[Difference]:
    """Return the steps of a task that do something else here than they did at Julep, in their order."""
    found: list[Difference] = []
    for entry in root.entries:
        if entry.key not in _NO_STEPS and isinstance(entry.value, ListNode):
            for path, step in _steps(entry.value, entry.key):
                found += [Difference(path, text) for text in _of_step(step)]
    return found


def _of_step(step: MapNode) -> Iterator[str]:
    keys = step.keys()
    if "switch" in keys and not _has_default(step.get("switch")):
        yield "without a case that holds, the input goes on; there it failed"
    if "if" in keys and "else" not in keys:
        yield "without `else`, the input goes on as it is; there it came in {output: …}"
    if "get" in keys:
        yield "it reads what `set` has written; there it found nothing"
    if "parallel" in keys:
        yield "it runs; there it was refused"


def _has_default(cases: Node | None) -> bool:
    if not isinstance(cases, ListNode):
        return True
    defaults = [case.get("case") for case in cases.items if isinstance(case, MapNode)]
    return any(isinstance(default, ScalarNode) and default.value == "_" for default in defaults)


def _steps(node: Node, path: str) -> Iterator[tuple[str, MapNode]]:
    """Yield a step or the steps of a list, and all steps inside of them, with their places."""
    if isinstance(node, ListNode):
        for number, item in enumerate(node.items):
            yield from _steps(item, f"{path}[{number}]")
    elif isinstance(node, MapNode):
        yield path, node
        for entry in node.entries:
            if entry.key in _LISTS:
                yield from _steps(entry.value, f"{path}.{entry.key}")
            elif entry.key == "foreach" and isinstance(entry.value, MapNode):
                yield from _inside(entry.value, "do", f"{path}.foreach")
            elif entry.key == "switch" and isinstance(entry.value, ListNode):
                for number, case in enumerate(entry.value.items):
                    yield from _inside(case, "then", f"{path}.switch[{number}]")


def _inside(node: Node, key: str, path: str) -> Iterator[tuple[str, MapNode]]:
    inner = node.get(key) if isinstance(node, MapNode) else None
    if inner is not None:
        yield from _steps(inner, f"{path}.{key}")


def _texts_in(node: Node, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield every text of a tree with its place, such as `main[0].evaluate.x`."""
    match node:
        case ScalarNode():
            if isinstance(node.value, str):
                yield path, node.value
        case ListNode():
            for number, item in enumerate(node.items):
                yield from _texts_in(item, f"{path}[{number}]")
        case MapNode():
            for entry in node.entries:
                yield from _texts_in(entry.value, f"{path}.{entry.key}" if path else entry.key)
