"""Reads JSON into nodes with positions; what YAML cannot read of JSON (surrogate pairs, long keys) is read here."""

from __future__ import annotations

import math
import re
from json import decoder
from typing import Any

from engine.core.diagnostics import Findings, Position
from engine.core.spec import codes
from engine.core.spec.nodes import ListNode, MapEntry, MapNode, Node, ScalarNode
from engine.source.limits import MAX_DEPTH, MAX_NODES, MAX_NUMBER_CHARS, joined, report_duplicate, source_error

# unknown to the type stubs, but the same function since Python 2.6; it is what json.loads itself uses
_scanstring: Any = vars(decoder)["scanstring"]
_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}


def read_json(text: str, findings: Findings) -> Node | None:
    """Read a JSON document.

    Args:
        text: The source.
        findings: Where to put keys that stand twice, which do not stop the reading.

    Returns:
        Its tree, or None if the text is not JSON (it may still be YAML).

    Raises:
        SourceError: The text is JSON, but has a number without bounds, too many values or levels.
    """
    reader = _Reader(text, findings)
    try:
        node = reader.value(0)
        reader.skip()
    except (_NotJson, decoder.JSONDecodeError):
        return None
    return node if reader.at == len(text) else None


class _NotJson(Exception):
    """The text is not JSON."""


class _Reader:
    def __init__(self, text: str, findings: Findings) -> None:
        self.text = text
        self.findings = findings
        self.at = 0
        self.line = 1
        self.line_start = 0
        self.counted = 0
        self.nodes = 0

    def skip(self) -> None:
        match = _BLANK.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def position(self, index: int) -> Position:
        # indices only grow, so each line break is counted once
        breaks = self.text.count("\n", self.counted, index)
        if breaks:
            self.line += breaks
            self.line_start = self.text.rfind("\n", self.counted, index) + 1
        self.counted = max(self.counted, index)
        return Position(self.line, index - self.line_start + 1)

    def peek(self) -> str:
        self.skip()
        return self.text[self.at : self.at + 1]

    def value(self, depth: int) -> Node:
        mark = self.peek()
        start = self.at
        at = self.position(start)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            raise source_error(codes.TOO_LARGE, f"the source holds more than {MAX_NODES:,} values", at)
        if mark in ("{", "["):
            if depth >= MAX_DEPTH:
                raise source_error(codes.TOO_DEEP, f"the source is nested deeper than {MAX_DEPTH} levels", at)
            return self.object(at, depth) if mark == "{" else self.list(at, depth)
        if mark == '"':
            text = self.string(at)
            return ScalarNode(text, at, self.text[start : self.at], '"')
        for word, constant in _WORDS.items():
            if self.text.startswith(word, start):
                self.at = start + len(word)
                return ScalarNode(constant, at)
        return self.number(at)

    def string(self, at: Position) -> str:
        found: tuple[str, int] = _scanstring(self.text, self.at + 1, True)
        text, self.at = found
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise source_error(codes.NOT_TEXT, "the text holds half of a surrogate pair", at)
        return text

    def number(self, at: Position) -> Node:
        match = _NUMBER.match(self.text, self.at)
        if match is None:
            raise _NotJson
        self.at = match.end()
        whole, fraction, exponent = match.groups()
        value = int(match.group()) if not fraction and not exponent and len(whole) <= MAX_NUMBER_CHARS else None
        if value is not None:
            return ScalarNode(value, at)
        number = float(match.group()) if fraction or exponent else math.inf
        if not math.isfinite(number):
            shown = match.group()[:40]
            raise source_error(codes.BAD_NUMBER, f"{shown} is a number that JSON readers cannot hold", at)
        return ScalarNode(number, at)

    def list(self, at: Position, depth: int) -> Node:
        self.at += 1
        items: list[Node] = []
        if self.peek() == "]":
            self.at += 1
            return ListNode((), at)
        while True:
            items.append(self.value(depth + 1))
            mark = self.peek()
            self.at += 1
            if mark == "]":
                return ListNode(tuple(items), at)
            if mark != ",":
                raise _NotJson

    def object(self, at: Position, depth: int) -> Node:
        self.at += 1
        entries: dict[str, MapEntry] = {}
        if self.peek() == "}":
            self.at += 1
            return MapNode((), at)
        while True:
            if self.peek() != '"':
                raise _NotJson
            key_at = self.position(self.at)
            key = self.string(key_at)
            first = entries.get(key)
            if first is not None:
                report_duplicate(key, first.key_position, key_at, self.findings)
            if self.peek() != ":":
                raise _NotJson
            self.at += 1
            value = self.value(depth + 1)
            if first is None:
                entries[key] = MapEntry(key, key_at, value)
            else:
                entries[key] = MapEntry(key, first.key_position, joined(first.value, value, self.findings))
            mark = self.peek()
            self.at += 1
            if mark == "}":
                return MapNode(tuple(entries.values()), at)
            if mark != ",":
                raise _NotJson
