"""The tree of a source text: scalars, lists and maps that know where they stand. Workflow-safe.

The readers of YAML and JSON build it (engine.source), the task reader walks it. Every node has the position at which it
starts, every key of a map has its own, and a scalar keeps its raw text so that a place inside it can be pointed at.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.core.diagnostics import NOWHERE, Position
from engine.core.values import Json

Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """Text, a number, true, false or null.

    Attributes:
        value: The value.
        position: Where its source text starts, the quote or block mark included.
        raw: The source text of a text value, quotes and block mark included; empty if it was not read from a source.
        style: `'`, `"`, `|`, `>` or empty for plain.
        cut: A comment behind a plain text that looks as if it was part of the text.
    """

    value: Scalar
    position: Position = NOWHERE
    raw: str = ""
    style: str = ""
    cut: str = ""


@dataclass(frozen=True, slots=True)
class ListNode:
    """A list."""

    items: tuple[Node, ...]
    position: Position = NOWHERE


@dataclass(frozen=True, slots=True)
class MapEntry:
    """One member of a map."""

    key: str
    key_position: Position
    value: Node


@dataclass(frozen=True, slots=True)
class MapNode:
    """A map whose keys are distinct texts, in the order of the source."""

    entries: tuple[MapEntry, ...]
    position: Position = NOWHERE

    def get(self, key: str) -> Node | None:
        """Return the value of a key, or None if there is none."""
        found = self.entry(key)
        return None if found is None else found.value

    def entry(self, key: str) -> MapEntry | None:
        """Return the member with a key, or None if there is none."""
        return next((entry for entry in self.entries if entry.key == key), None)

    def keys(self) -> tuple[str, ...]:
        """Return the keys in the order of the source."""
        return tuple(entry.key for entry in self.entries)


Node = ScalarNode | ListNode | MapNode


def node_to_json(node: Node) -> Json:
    """Return the plain JSON value of a tree; positions are lost."""
    match node:
        case ScalarNode():
            return node.value
        case ListNode():
            return [node_to_json(item) for item in node.items]
        case MapNode():
            return {entry.key: node_to_json(entry.value) for entry in node.entries}


def node_from_json(value: Json, position: Position = NOWHERE) -> Node:
    """Return a tree for a JSON value whose nodes all stand at one position."""
    if isinstance(value, dict):
        return MapNode(
            tuple(MapEntry(key, position, node_from_json(item, position)) for key, item in value.items()), position
        )
    if isinstance(value, (list, tuple)):
        return ListNode(tuple(node_from_json(item, position) for item in value), position)
    return ScalarNode(value, position)


def describe(node: Node) -> str:
    """Return what a node is, in words for messages, such as `text` or `a list`."""
    match node:
        case ListNode():
            return "a list"
        case MapNode():
            return "an object"
        case ScalarNode(value=None):
            return "null"
        case ScalarNode(value=bool()):
            return "true or false"
        case ScalarNode(value=str()):
            return "text"
        case ScalarNode():
            return "a number"


def position_at(node: ScalarNode, offset: int) -> Position:
    """Return the place in the source of a character of a text.

    Exact for all styles as long as the source shows the text line by line; where an escaped line break hides the
    correspondence, the nearest earlier place is returned.

    Args:
        node: The text.
        offset: Character of `node.value`, from 0.

    Returns:
        The place; the node's own position if the node has no raw text.
    """
    if not node.raw or not isinstance(node.value, str):
        return node.position
    best = node.position
    cursor = 0
    for line_number, column, text in _content_lines(node):
        widths = _widths(text, node.style)
        start = cursor
        if line_number > 0:
            while start < len(node.value) and node.value[start].isspace():
                start += 1
        if offset < start and line_number > 0:
            break
        inside = min(max(offset - start, 0), len(widths))
        first = node.position.column if line_number == 0 else 1
        best = Position(node.position.line + line_number, first + column + sum(widths[:inside]))
        cursor = start + len(widths)
        if offset < cursor:
            break
    return best


def _content_lines(node: ScalarNode) -> list[tuple[int, int, str]]:
    """Return (line from 0, column from 0 in the raw line, text without margins) of the lines that hold content."""
    result: list[tuple[int, int, str]] = []
    lines = node.raw.split("\n")
    quoted = node.style in ("'", '"')
    for number, line in enumerate(lines):
        if node.style in ("|", ">") and number == 0:
            continue
        start, end = 0, len(line)
        if quoted and number == 0:
            start = 1
        if quoted and number == len(lines) - 1:
            end = len(line) - 1
        text = line[start:end]
        if number > 0:
            stripped = text.lstrip(" \t")
            start += len(text) - len(stripped)
            text = stripped
        if number < len(lines) - 1:
            text = text.rstrip(" \t\r")
        if text or (number == 0 and quoted):
            result.append((number, start, text))
    return result


def _widths(text: str, style: str) -> list[int]:
    """Return for each character of the value how many characters of the raw line stand for it."""
    if style == "'":
        return [2 if piece == "''" else 1 for piece in _split_pairs(text, "'")]
    if style != '"' or "\\" not in text:
        return [1] * len(text)
    widths: list[int] = []
    index = 0
    while index < len(text):
        width = 1
        if text[index] == "\\" and index + 1 < len(text):
            width = 2 + {"x": 2, "u": 4, "U": 8}.get(text[index + 1], 0)
        widths.append(width)
        index += width
    return widths


def _split_pairs(text: str, mark: str) -> list[str]:
    pieces: list[str] = []
    index = 0
    while index < len(text):
        width = 2 if text.startswith(mark * 2, index) else 1
        pieces.append(text[index : index + width])
        index += width
    return pieces
