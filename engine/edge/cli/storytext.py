"""Prints values, prompts and replies of a story for people: indented, and cut unless all of it is asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from engine.core.run.usage import cost_to_nano, parts_text
from engine.edge.cli.treesteps import usage_text

INDENT: Final = "    "
MOST_CHARS: Final = 600
MOST_LINES: Final = 12
_CUT: Final = "…"
_VECTOR: Final = 8
"""A list that begins with so many fractions is a vector."""


class StoryText:
    """Makes lines of what a story holds.

    Args:
        full: Whether nothing is cut.

    Attributes:
        full: Whether nothing is cut.
        cut: Whether something was.
    """

    def __init__(self, *, full: bool) -> None:
        self.full = full
        self.cut = False

    def value(self, name: str, value: Any, *, depth: int = 1) -> Iterator[str]:
        """Return a value under its name: in one line if it is short, else below it and further in."""
        if not self.full:
            value = self._without_vectors(value)
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        if "\n" not in text and len(text) <= 90:
            yield f"{INDENT * depth}{name}: {text}"
            return
        if not isinstance(value, str):
            text = json.dumps(value, ensure_ascii=False, indent=2, default=str)
        yield f"{INDENT * depth}{name}:"
        for line in self._lines(text):
            yield f"{INDENT * (depth + 1)}{line}".rstrip()

    def _without_vectors(self, value: Any) -> Any:
        """Return a value with the first numbers of each vector in it: a column of hundreds tells nobody anything."""
        if isinstance(value, dict):
            return {name: self._without_vectors(item) for name, item in value.items()}
        if not isinstance(value, list):
            return value
        if len(value) >= _VECTOR and all(isinstance(item, float) for item in value[:_VECTOR]):
            self.cut = True
            return f"[{', '.join(map(str, value[:3]))}, {_CUT}]"
        return [self._without_vectors(item) for item in value]

    def _lines(self, text: str) -> list[str]:
        lines = text.splitlines()
        if self.full:
            return lines
        short = text[:MOST_CHARS].splitlines()[:MOST_LINES]
        if len(text) > MOST_CHARS or len(lines) > MOST_LINES:
            self.cut = True
            short.append(_CUT)
        return short

    def told(self, name: str, value: Mapping[str, Any] | None, *, depth: int = 1) -> Iterator[str]:
        """Return a value as the API shows it: {seq, value, truncated?}."""
        if value is not None:
            self.cut = self.cut or bool(value.get("truncated"))
            yield from self.value(name, value["value"], depth=depth)

    def request(self, request: Any, *, depth: int = 1) -> Iterator[str]:
        """Return what was asked: the messages and settings of a prompt, or the arguments of a call."""
        if not isinstance(request, Mapping):
            yield from self.value("request", request, depth=depth)
            return
        rest = dict(request)
        if "messages" in rest and (earlier := rest.pop("before", 0)):
            # a turn of an agent tells only what is new
            yield f"{INDENT * depth}… {earlier} earlier message{'s' if earlier != 1 else ''}"
        for message in rest.pop("messages", ()):
            yield from self.message(message, depth=depth)
        if not rest.get("settings"):
            rest.pop("settings", None)
        # both stand in the line above
        for name in ("model", "task"):
            rest.pop(name, None)
        for name, value in rest.items():
            yield from self.value(name, value, depth=depth)

    def message(self, message: Any, *, depth: int = 1) -> Iterator[str]:
        """Return a message of a prompt, or a reply: its role and text, and what it calls."""
        if not isinstance(message, Mapping):
            yield from self.value("message", message, depth=depth)
            return
        rest = dict(message)
        role, content = str(rest.pop("role", "message")), rest.pop("content", None)
        calls = rest.pop("tool_calls", None) or ()
        if content is not None or not (rest or calls):
            answered = rest.pop("tool_call_id", "")
            yield from self.value(f"{role} {answered}".rstrip(), content, depth=depth)
        for call in calls:
            yield from self._call(role, call, depth)
        for name, value in rest.items():
            if value is not None:
                yield from self.value(f"{role} {name}", value, depth=depth)

    def _call(self, role: str, call: Any, depth: int) -> Iterator[str]:
        """Return a call that a model asks for: its id, the tool and the arguments."""
        function = call.get("function") if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping):
            yield from self.value(f"{role} calls", call, depth=depth)
            return
        name, arguments = f"{role} calls {call.get('id') or ''}".rstrip(), function.get("arguments")
        yield from self.value(f"{name}: {function.get('name')}", arguments, depth=depth)


def usage_line(usage: Mapping[str, Any] | None) -> str:
    """Return calls, tokens and cost of a usage sum: `3 model calls, 2 tool calls, 1,200 tokens (9 cached), $0.0021`."""
    usage = usage or {}
    calls = [_number(usage, "llm_calls", "model call"), _number(usage, "tool_calls", "tool call")]
    tokens, cost = int(usage.get("total_tokens") or 0), cost_to_nano(usage.get("cost"))
    used = usage_text(tokens, cost, parts_text(usage)).replace("  ", ", ")
    unpriced = int(usage.get("unpriced_calls") or 0)
    unknown = f"price of {unpriced} calls unknown" if unpriced > 1 else "price of 1 call unknown" if unpriced else ""
    return ", ".join(part for part in (*calls, used, unknown) if part)


def _number(usage: Mapping[str, Any], name: str, word: str) -> str:
    count = int(usage.get(name) or 0)
    return f"{count} {word}{'s' if count != 1 else ''}" if count else ""


def pages(
    api: Any, route: str, /, *, most: int | None = None, page: int = 500, **query: Any
) -> Iterator[dict[str, Any]]:
    """Yield the items of a list page by page.

    Args:
        api: The connection (engine.edge.cli.api.Api).
        route: Path of the list.
        most: Most items; None = all.
        page: Items of one page.
        **query: Further queries.
    """
    cursor: str | None = None
    given = 0
    while most is None or given < most:
        limit = page if most is None else min(page, most - given)
        answer = api.get(route, limit=limit, cursor=cursor, **query)
        yield from answer["items"]
        given += len(answer["items"])
        cursor = answer.get("next_cursor")
        if cursor is None:
            return
