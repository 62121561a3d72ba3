"""Reads YAML 1.2 scalars, lists and maps from parser events into nodes with positions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from engine.core.diagnostics import NOWHERE, Findings, Position
from engine.core.spec import codes
from engine.core.spec.nodes import ListNode, MapEntry, MapNode, Node, Scalar, ScalarNode
from engine.source.limits import (
    MAX_DEPTH,
    MAX_NODES,
    MAX_NUMBER_CHARS,
    MAX_TEXT_CHARS,
    joined,
    report_duplicate,
    source_error,
)

# the C parser is about ten times faster; wheels without libyaml have only the other one
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_INT = re.compile(r"[-+]?[0-9]+\Z")
_OCTAL = re.compile(r"0o[0-7]+\Z")
_HEX = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
_CONSTANTS: dict[str, Scalar] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_CUT = re.compile(r"[ \t]+(#\w[^\n]*)")
"""A comment right behind a text, without the blank that people write after the mark."""
_QUOTED_END = re.compile(r"""(?:^|[-:,\[{] ?)\s*(?:'(?:[^']|'')*'|"(?:[^"\\]|\\.)*")\s*\Z""")
_BARE_KEY = re.compile(r"\s*(?:- )?\w+\s*\Z")
_TAG_PREFIX = "tag:yaml.org,2002:"


def read_yaml(text: str, findings: Findings) -> Node:
    """Read one YAML document.

    Args:
        text: The source.
        findings: Where to put keys that stand twice, which do not stop the reading.

    Returns:
        Its tree.

    Raises:
        SourceError: With one E1xx diagnostic; its file and source are empty.
    """
    try:
        return _Builder(text, findings).build(yaml.parse(text, Loader=_LOADER))
    except yaml.reader.ReaderError as error:
        raise source_error(
            codes.NOT_TEXT,
            "the text holds a control character",
            _position_of_index(text, error.position),
            hint="remove it, or write it as an escape such as \\x00 in double quotes",
        ) from error
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(text, error) from error


@dataclass(slots=True)
class _Open:
    """A list or map that is being read."""

    position: Position
    anchor: str | None
    is_map: bool
    items: list[Node] = field(default_factory=list)
    entries: dict[str, MapEntry] = field(default_factory=dict)
    key: str | None = None
    key_position: Position = NOWHERE
    count: int = 1
    chars: int = 0


class _Builder:
    """Turns events into nodes without recursion, so that depth is bounded by us and not by the stack."""

    def __init__(self, text: str, findings: Findings) -> None:
        self.text = text
        self.findings = findings
        self.stack: list[_Open] = []
        self.anchors: dict[str, tuple[Node, int, int]] = {}
        self.total_count = 0
        self.total_chars = 0

    def build(self, events: Iterator[Any]) -> Node:
        root: Node | None = None
        documents = 0
        for event in events:
            at = Position(event.start_mark.line + 1, event.start_mark.column + 1)
            done: Node | None = None
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise source_error(
                        codes.SEVERAL_DOCUMENTS,
                        "a second document starts here, but a file holds one task",
                        at,
                        hint="put each task into a file of its own",
                    )
            elif isinstance(event, yaml.ScalarEvent):
                done = self._scalar(event, at)
            elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
                self._open(event, at)
            elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                done = self._close()
            elif isinstance(event, yaml.AliasEvent):
                done = self._alias(event, at)
            if done is not None and not self.stack:
                root = done
        if root is None:
            raise source_error(codes.EMPTY, "the source is empty", Position(1, 1), hint="a task needs at least `main:`")
        return root

    def _scalar(self, event: yaml.ScalarEvent, at: Position) -> Node | None:
        style = event.style or ""
        parent = self.stack[-1] if self.stack else None
        value = _scalar_value(event, style, at)
        if parent is not None and parent.is_map and parent.key is None:
            if value == "<<" and not style:
                raise source_error(
                    codes.MERGE_KEY, "the merge key `<<` is not supported", at, hint="write the members out"
                )
            self._charge(parent, 0, len(event.value), at)
            self._key(parent, _key_text(value, event.value), at)
            if event.anchor:
                self.anchors[event.anchor] = (ScalarNode(value, at), 1, len(event.value))
            return None
        raw = cut = ""
        if isinstance(value, str):
            marks: Any = event  # the stubs say that marks may be missing; the parser always sets them
            raw = self.text[marks.start_mark.index : marks.end_mark.index].rstrip("\n")
            found = None if style else _CUT.match(self.text, marks.end_mark.index)
            cut = "" if found is None else found[1].rstrip()
        node = ScalarNode(value, at, raw, style, cut)
        return self._add(node, event.anchor, 1, len(event.value))

    def _key(self, parent: _Open, key: str, at: Position) -> None:
        first = parent.entries.get(key)
        if first is not None:
            report_duplicate(key, first.key_position, at, self.findings)
        parent.key, parent.key_position = key, at

    def _open(self, event: Any, at: Position) -> None:
        is_map = isinstance(event, yaml.MappingStartEvent)
        _check_tag(event.tag, ("map",) if is_map else ("seq",), at)
        if self.stack and self.stack[-1].is_map and self.stack[-1].key is None:
            raise source_error(
                codes.BAD_KEY,
                f"a key cannot be {'an object' if is_map else 'a list'}",
                at,
                hint="put quotes around text that starts with { or [",
            )
        if len(self.stack) >= MAX_DEPTH:
            raise source_error(codes.TOO_DEEP, f"the source is nested deeper than {MAX_DEPTH} levels", at)
        self.stack.append(_Open(at, event.anchor, is_map))

    def _close(self) -> Node | None:
        done = self.stack.pop()
        node: Node
        if done.is_map:
            node = MapNode(tuple(done.entries.values()), done.position)
        else:
            node = ListNode(tuple(done.items), done.position)
        return self._add(node, done.anchor, done.count, done.chars, charged=True)

    def _alias(self, event: yaml.AliasEvent, at: Position) -> Node | None:
        name = str(event.anchor)
        found = self.anchors.get(name)
        if found is None:
            inside = any(item.anchor == name for item in self.stack)
            message = f"the alias *{name} " + ("contains itself" if inside else "names no anchor")
            raise source_error(codes.BAD_ALIAS, message, at, hint="" if inside else f"define it earlier as &{name}")
        node, count, chars = found
        parent = self.stack[-1] if self.stack else None
        if parent is not None and parent.is_map and parent.key is None:
            if not isinstance(node, ScalarNode):
                raise source_error(codes.BAD_KEY, f"the alias *{name} is a key, but it is not text", at)
            self._key(parent, _key_text(node.value, str(node.value)), at)
            return None
        return self._add(node, None, count, chars, at=at)

    def _add(
        self,
        node: Node,
        anchor: str | None,
        count: int,
        chars: int,
        *,
        charged: bool = False,
        at: Position | None = None,
    ) -> Node | None:
        """Put a finished node into its parent; return it if it is the root."""
        if anchor:
            self.anchors[anchor] = (node, count, chars)
        if not charged:
            self.total_count += count
            self.total_chars += chars
        if self.total_count > MAX_NODES or self.total_chars > MAX_TEXT_CHARS:
            code = codes.BAD_ALIAS if at is not None else codes.TOO_LARGE
            what = "this alias expands the source to" if at is not None else "the source holds"
            raise source_error(
                code, f"{what} more than {MAX_NODES:,} values or {MAX_TEXT_CHARS:,} characters", at or node.position
            )
        if not self.stack:
            return node
        parent = self.stack[-1]
        parent.count += count
        parent.chars += chars
        if parent.is_map:
            assert parent.key is not None
            first = parent.entries.get(parent.key)
            if first is None:
                parent.entries[parent.key] = MapEntry(parent.key, parent.key_position, node)
            else:
                both = joined(first.value, node, self.findings)
                parent.entries[parent.key] = MapEntry(parent.key, first.key_position, both)
            parent.key = None
        else:
            parent.items.append(node)
        return None

    def _charge(self, parent: _Open, count: int, chars: int, at: Position) -> None:
        parent.count += count
        parent.chars += chars
        self.total_count += count
        self.total_chars += chars


def _scalar_value(event: yaml.ScalarEvent, style: str, at: Position) -> Scalar:
    text: str = event.value
    tag = event.tag
    if tag is not None and tag != "!":
        kind = _check_tag(tag, ("str", "int", "float", "bool", "null"), at)
        if kind == "str":
            return text
        value = plain_value(text, at)
        fits = {
            "int": isinstance(value, int) and not isinstance(value, bool),
            "float": isinstance(value, (int, float)) and not isinstance(value, bool),
            "bool": isinstance(value, bool),
            "null": value is None,
        }[kind]
        if not fits:
            raise source_error(codes.BAD_TAG, f"'{text[:40]}' is not of the type that its tag !!{kind} says", at)
        return float(value) if kind == "float" and isinstance(value, (int, float)) else value
    if style or tag == "!":
        return text
    return plain_value(text, at)


def _check_tag(tag: str | None, allowed: tuple[str, ...], at: Position) -> str:
    if tag is None or tag == "!":
        return ""
    name = tag.removeprefix(_TAG_PREFIX)
    if name in allowed and tag.startswith(_TAG_PREFIX):
        return name
    shown = f"!!{name}" if tag.startswith(_TAG_PREFIX) else tag
    raise source_error(codes.BAD_TAG, f"the tag {shown[:60]} is not supported here", at, hint="leave the tag out")


def plain_value(text: str, at: Position) -> Scalar:
    """Return the value of a plain scalar by the core schema of YAML 1.2, where yes, no, on, off and dates are text.

    Args:
        text: The scalar.
        at: Its place, for messages.

    Raises:
        SourceError: E111 for a number that JSON cannot hold.
    """
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] not in "-+.0123456789":
        return text
    if _NOT_FINITE.match(text):
        raise _bad_number(text, at)
    if _OCTAL.match(text) or _HEX.match(text) or _INT.match(text):
        if len(text) > MAX_NUMBER_CHARS:
            raise _bad_number(text, at)
        base = 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10
        return int(text, base)
    if _FLOAT.match(text):
        value = float(text)
        if not math.isfinite(value):
            raise _bad_number(text, at)
        return value
    return text


def _bad_number(text: str, at: Position) -> Exception:
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return source_error(
        codes.BAD_NUMBER, f"{shown} is a number that JSON cannot hold", at, hint="put quotes around it if it is text"
    )


def _key_text(value: Scalar, written: str) -> str:
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return written


def _position_of_index(text: str, index: int) -> Position:
    before = text[:index]
    return Position(before.count("\n") + 1, index - before.rfind("\n"))


def _syntax_error(text: str, error: yaml.MarkedYAMLError) -> Exception:
    mark = error.problem_mark or error.context_mark
    at = Position(1, 1) if mark is None else Position(mark.line + 1, mark.column + 1)
    lines = text.split("\n")
    line = lines[at.line - 1] if at.line <= len(lines) else ""
    message = error.problem or "the text is not well-formed"
    hint = ""
    if line.lstrip(" ").startswith("\t"):
        message, hint = "a tab stands in the indentation", "indent with spaces; YAML forbids tabs there"
    elif _ends_quote(line[: at.column - 1]) and "did not find expected" in message:
        message = "this stands behind the closing quote of a text"
        hint = "put other quotes around the whole, double a ' within '…', or write the text as a block after `|`"
    elif "mapping values are not allowed" in message and ": " in line[: at.column - 1]:
        message = "a second colon stands in a text without quotes"
        hint = "put quotes around the whole text, or write it as a block after `|`"
        if "lambda" in line:
            hint = "an expression has no `lambda`: write a comprehension such as `[x + 1 for x in _]`"
    elif "mapping values are not allowed" in message and _BARE_KEY.match(line[: at.column - 1]):
        message = "this key does not fit its surroundings"
        hint = "check the indentation: the keys of one object stand in one column"
    elif "mapping values are not allowed" in message:
        message = "a colon stands where none may"
        hint = "put quotes around a text that contains ': ', and check the indentation"
    elif any(what in message for what in ("find expected key", "expected '-' indicator", "expected <block end>")):
        message, hint = (
            "this line does not fit its surroundings",
            "check the indentation of this line and the one before",
        )
    elif (error.context or "").endswith("scanning a quoted scalar") and "end of stream" in message:
        # where the text ends says nothing of where the closing quote was forgotten
        opening = error.context_mark
        at = at if opening is None else Position(opening.line + 1, opening.column + 1)
        message, hint = "the quote that starts here is never closed", "close it where the text ends"
    elif "<document start>" in message:
        message = "this does not belong to what stands before it"
        hint = "a file holds one document; check the quotes and the indentation"
    elif "expected ',' or" in message and at.column > 1:
        message = f"this does not fit into the brackets{_opened(error)}"
        hint = "put quotes around a text that contains any of [ ] { } , inside brackets, or close the bracket"
    elif "cannot start any token" in message and line[at.column - 1 : at.column] in ("@", "`", "%"):
        message, hint = f"a text cannot start with {line[at.column - 1]}", "put quotes around it"
    elif (error.context or "").endswith("scanning an alias"):
        at = Position(at.line, at.column - 1)
        message, hint = "a text cannot start with *, which marks an alias", "put quotes around it"
    elif error.context and error.context_mark is not None:
        message = f"{message} ({error.context}; line {error.context_mark.line + 1})"
    return source_error(codes.SYNTAX, message, at, hint=hint)


def _ends_quote(before: str) -> bool:
    """Whether a part of a line ends with a text in quotes that is a whole value, such as `a: 'it'`."""
    return _QUOTED_END.search(before) is not None


def _opened(error: yaml.MarkedYAMLError) -> str:
    mark = error.context_mark
    return "" if mark is None else f" that start at line {mark.line + 1}, column {mark.column + 1}"
