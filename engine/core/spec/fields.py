"""Reads the members of an object one by one and says what is missing, unknown or of the wrong type. Workflow-safe."""

from __future__ import annotations

import math
from collections.abc import Iterable

from engine.core.diagnostics import Findings, Position, did_you_mean
from engine.core.spec import codes
from engine.core.spec.nodes import ListNode, MapEntry, MapNode, Node, ScalarNode, describe, node_to_json
from engine.core.spec.parts import NameSpec, SchemaSpec
from engine.core.values import Json, duration_seconds

MAX_DURATION_S = 3650 * 86400.0
MAX_HINTS = 50
MAX_COMPARED = 1_000
"""A comparison takes some microseconds, and a source can hold 100,000 mistakes."""


class Fields:
    """The members of one object, taken out one after another."""

    def __init__(self, node: MapNode, findings: Findings, path: str, what: str) -> None:
        """Wrap an object.

        Args:
            node: The object.
            findings: Where to put what is wrong.
            path: The object's place in the structure.
            what: What the object is, for messages: `the task`, `a prompt step`.
        """
        self.node = node
        self.findings = findings
        self.path = path
        self.what = what
        self._left = {entry.key: entry for entry in node.entries}

    def at(self, key: str) -> str:
        """Return the path of a member."""
        return f"{self.path}.{key}" if self.path else key

    def entry(self, key: str) -> MapEntry | None:
        """Take a member out; null counts as a value."""
        return self._left.pop(key, None)

    def take(self, key: str) -> Node | None:
        """Take a member out; None if it is missing or null."""
        found = self._left.pop(key, None)
        if found is None or (isinstance(found.value, ScalarNode) and found.value.value is None):
            return None
        return found.value

    def need(self, key: str, hint: str = "") -> Node | None:
        """Take a member out that must be there; null counts as missing."""
        found = self._left.get(key)
        node = self.take(key)
        if node is None:
            at = self.node.position if found is None else found.key_position
            verb = "has no" if found is None else "has an empty"
            self.error(codes.MISSING_KEY, f"{self.what} {verb} '{key}'", at, hint=hint)
        return node

    def error(self, code: str, message: str, at: Position, *, key: str = "", hint: str = "") -> None:
        """Add an error at a member."""
        self.findings.error(code, message, at, hint=hint, path=self.at(key) if key else self.path)

    def wrong_type(self, key: str, node: Node, wanted: str, hint: str = "") -> None:
        """Say that a member has the wrong type."""
        self.error(
            codes.WRONG_TYPE, f"'{key}' must be {wanted}, not {describe(node)}", node.position, key=key, hint=hint
        )

    def text(self, key: str) -> NameSpec | None:
        """Take a text; numbers and flags are no texts."""
        node = self.take(key)
        if node is None:
            return None
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            return NameSpec(node.value, node.position)
        hint = "put quotes around it" if isinstance(node, ScalarNode) else ""
        self.wrong_type(key, node, "text", hint)
        return None

    def flag(self, key: str) -> bool | None:
        """Take true or false."""
        node = self.take(key)
        if node is None:
            return None
        if isinstance(node, ScalarNode) and isinstance(node.value, bool):
            return node.value
        hint = "YAML 1.2 knows only true and false; yes, no, on and off are text"
        self.wrong_type(key, node, "true or false", hint if isinstance(node, ScalarNode) else "")
        return None

    def whole(self, key: str, least: int, most: int) -> int | None:
        """Take a whole number within bounds, both included."""
        node = self.take(key)
        if node is None:
            return None
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong_type(key, node, "a whole number")
            return None
        if not least <= value <= most:
            self.error(codes.OUT_OF_RANGE, f"'{key}' is {value}, but must be {least} to {most}", node.position, key=key)
            return None
        return value

    def number(self, key: str, least: float, most: float) -> float | None:
        """Take a number within bounds, both included."""
        node = self.take(key)
        if node is None:
            return None
        value = node.value if isinstance(node, ScalarNode) else None
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            self.wrong_type(key, node, "a number")
            return None
        if not least <= value <= most:
            self.error(
                codes.OUT_OF_RANGE, f"'{key}' is {value}, but must be {least:g} to {most:g}", node.position, key=key
            )
            return None
        return float(value)

    def duration(self, key: str, *, zero: bool = False) -> float | None:
        """Take a duration: seconds as a number, or text such as `500ms` or `1h30m`."""
        node = self.take(key)
        if node is None:
            return None
        seconds = parse_duration(node)
        if seconds is None:
            self.error(
                codes.BAD_DURATION,
                f"'{key}' is not a duration",
                node.position,
                key=key,
                hint="write seconds as a number, or text such as 500ms, 30s, 5m, 2h, 1d",
            )
            return None
        if seconds > MAX_DURATION_S or seconds < 0 or (seconds == 0 and not zero):
            wanted = "0 or more" if zero else "more than 0"
            self.error(
                codes.OUT_OF_RANGE,
                f"'{key}' is {seconds:g} seconds, but must be {wanted} and at most ten years",
                node.position,
                key=key,
            )
            return None
        return seconds

    def choice(self, key: str, allowed: tuple[str, ...]) -> str | None:
        """Take one of some words."""
        word = self.text(key)
        if word is None or word.text in allowed:
            return None if word is None else word.text
        self.error(
            codes.NOT_ONE_OF,
            f"'{key}' is '{_clip(word.text)}', but must be one of {', '.join(allowed)}",
            word.position,
            key=key,
            hint=suggest(self.findings, word.text, allowed),
        )
        return None

    def mapping(self, key: str) -> MapNode | None:
        """Take an object."""
        node = self.take(key)
        if node is None or isinstance(node, MapNode):
            return node
        self.wrong_type(key, node, "an object")
        return None

    def sequence(self, key: str) -> ListNode | None:
        """Take a list."""
        node = self.take(key)
        if node is None or isinstance(node, ListNode):
            return node
        self.wrong_type(key, node, "a list")
        return None

    def schema(self, key: str) -> SchemaSpec | None:
        """Take a JSON Schema: an object, or true or false."""
        node = self.take(key)
        if node is None:
            return None
        if isinstance(node, MapNode) or (isinstance(node, ScalarNode) and isinstance(node.value, bool)):
            return SchemaSpec(node_to_json(node), node)
        self.wrong_type(key, node, "a JSON Schema (an object)")
        return None

    def json_object(self, key: str) -> dict[str, Json] | None:
        """Take an object as plain JSON."""
        node = self.mapping(key)
        return None if node is None else node_to_json(node)

    def left(self) -> list[MapEntry]:
        """Return the members that nobody took."""
        return list(self._left.values())

    def refuse_left(self, known: Iterable[str], *, skip: Iterable[str] = ()) -> None:
        """Say that every member that nobody took is unknown.

        Args:
            known: Keys that may stand here, for the did-you-mean.
            skip: Members that were reported already.
        """
        names = sorted(known)
        ignored = set(skip)
        for entry in self.left():
            if entry.key not in ignored:
                near = suggest(self.findings, entry.key, names)
                self.error(
                    codes.UNKNOWN_KEY,
                    f"{self.what} has no key '{_clip(entry.key)}'",
                    entry.key_position,
                    key=_clip(entry.key),
                    hint=near or f"it may have {', '.join(names)}",
                )


def suggest(findings: Findings, word: str, known: Iterable[str]) -> str:
    """Return a did-you-mean for a word, or nothing where comparing costs more than it helps.

    Args:
        findings: What was found so far; after 50 findings nothing is compared any more.
        word: The unknown word.
        known: What there is; of more than 1,000 words nothing is compared.
    """
    words = list(known)
    return did_you_mean(word, words) if len(findings.items) < MAX_HINTS and len(words) <= MAX_COMPARED else ""


def parse_duration(node: Node) -> float | None:
    """Return the seconds of a duration node, or None if it is none; may be negative or zero."""
    if not isinstance(node, ScalarNode) or isinstance(node.value, bool):
        return None
    if isinstance(node.value, (int, float)):
        return float(node.value) if abs(node.value) < 1e15 and math.isfinite(node.value) else None
    return duration_seconds(node.value) if isinstance(node.value, str) else None


def _clip(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}…"
