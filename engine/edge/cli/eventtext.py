"""Prints events for people, one line each, in the words of the language."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from engine.edge.cli.titles import BLOCK_PATH, UNNAMED, Titles
from engine.edge.cli.values import clip

_TYPES: Final = MappingProxyType(
    {
        "init": "start",
        "init_branch": "branch",
        "finish_branch": "step",
        "resume": "answered",
        "effect.started": "call",
    }
)
"""What a person calls an event; other types lose their dots only."""
TYPE_WIDTH: Final = 14


class EventLines:
    """Makes lines of events, in order: what an earlier one tells of a step names it in the later ones.

    Args:
        titles: Titles of the steps of the task.
        width: Longest value that is shown whole.

    Attributes:
        cut: Whether a value was too long for its line.
    """

    def __init__(self, titles: Titles, width: int) -> None:
        self._titles = titles
        self._width = width
        self._labels: dict[str, str] = {}
        self.cut = False

    def line(self, event: Mapping[str, Any]) -> tuple[str, str, str, str]:
        """Return type, path, name and facts of an event."""
        body, kind = event["body"], str(event["type"])
        path = str(body.get("path") or (body.get("error") or {}).get("step") or "")
        word = _TYPES.get(kind, kind.replace(".", " ").replace("_", " "))
        return word, path, self._name(path, body), self._facts(body)

    def _name(self, path: str, body: Mapping[str, Any]) -> str:
        if body.get("label"):
            self._labels[path] = str(body["label"])
        block = BLOCK_PATH.match(path) if body.get("construct") else None
        step = block["step"] if block else path
        title = self._labels.get(step) or self._titles.of(step)[1]
        if title != UNNAMED:
            return title
        return str(body.get("name") or self._titles.word(str(body.get("kind") or "")))

    def _facts(self, body: Mapping[str, Any]) -> str:
        error = body.get("error") or {}
        told = {
            "attempt": body["attempt"] if body.get("attempt", 1) != 1 else None,
            "error": f"{error.get('code')}: {error.get('message')}" if error else None,
            "retry_in_s": None if body.get("repair") else body.get("retry_in_s"),
            "repair": body.get("repair"),
            "input": body.get("input"),
            "info": body.get("info"),
            "log": body.get("log"),
            # what `log` hands on is what came in
            "output": body.get("output") if body.get("log") is None else None,
            "reason": body.get("reason"),
            "child": body.get("child_id"),
        }
        return "  ".join(f"{name}={self._clip(value)}" for name, value in told.items() if value is not None)

    def _clip(self, value: Any) -> str:
        text = clip(value, self._width)
        self.cut = self.cut or (len(text) == self._width and text.endswith("…"))
        return text
