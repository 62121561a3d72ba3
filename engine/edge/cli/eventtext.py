"""Prints events for people, one line each, in the words of the language."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from engine.core.run.times import iso_time
from engine.core.run.usage import parts_text
from engine.edge.cli.titles import BLOCK_PATH, UNNAMED, Titles
from engine.edge.cli.values import clip, duration

_TYPES: Final = MappingProxyType(
    {
        "init": "start",
        "init_branch": "branch",
        "finish_branch": "step",
        "resume": "answered",
        "effect.started": "call",
        "execution.paused": "paused",
        "execution.continued": "continued",
        "breaks.changed": "breaks",
        "deadline.changed": "deadline",
        "control.refused": "refused",
    }
)
"""What a person calls an event; other types lose their dots only."""
_ENDS: Final = MappingProxyType({"ok": "returned", "failed": "call failed", "cancelled": "call stopped"})
"""What a person calls the end of a call, by its outcome."""
_CONTROL: Final = ("execution.paused", "execution.continued", "breaks.changed", "deadline.changed", "control.refused")
"""Events that tell what an operator wanted, or a break."""
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
        place = body.get("path") or (body.get("error") or {}).get("step")
        if kind in _CONTROL:
            place = body.get("at") or body.get("wait_id")
        path = str(place or "")
        word = _TYPES.get(kind, kind.replace(".", " ").replace("_", " "))
        if kind == "effect.finished":
            word = _ENDS.get(str(body.get("outcome")), word)
            return word, path, self._name(path, body), self._shown(_end_of_call(body))
        if kind in _CONTROL:
            return word, path, self._name(path, {}) if path else "", self._shown(_wanted(body))
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
            "recorded": body.get("recorded"),
            # what `log` hands on is what came in
            "output": body.get("output") if body.get("log") is None else None,
            "reason": body.get("reason"),
            "child": body.get("child_id"),
            "drift": ", ".join(f"{item['tool']} ({'; '.join(item['changes'])})" for item in body.get("drift") or ())
            or None,
        }
        return self._shown(told)

    def _shown(self, told: Mapping[str, Any]) -> str:
        return "  ".join(f"{name}={self._clip(value)}" for name, value in told.items() if value is not None)

    def _clip(self, value: Any) -> str:
        text = clip(value, self._width)
        self.cut = self.cut or (len(text) == self._width and text.endswith("…"))
        return text


def _wanted(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person is told of the outcome of what an operator wanted."""
    code, deadline_us = body.get("code"), body.get("deadline_us")
    return {
        "actor": body.get("actor") or None,
        "reason": body.get("reason") or body.get("why") or None,
        "breaks": body.get("breaks"),
        "deadline": "none" if "deadline_us" in body and deadline_us is None else deadline_us and iso_time(deadline_us),
        "error": f"{code}: {body.get('message')}" if code else None,
        "repeated": body.get("repeated"),
    }


def _end_of_call(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a person is told of the end of a call; its result stands in the event of its step."""
    usage = body.get("usage") or {}
    tokens, parts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")], parts_text(usage)
    return {
        "attempt": body["attempt"] if body.get("attempt", 1) != 1 else None,
        # what the error says stands in the event of the failed attempt
        "error": (body.get("error") or {}).get("code"),
        "model": body.get("model"),
        "tokens": f"{tokens[0]}+{tokens[1]}{f' ({parts})' if parts else ''}" if None not in tokens else None,
        "cost": f"${body['cost']}" if body.get("cost") is not None else None,
        "time": duration(body["took_s"]) if body.get("took_s") else None,
        "deliveries": body.get("deliveries"),
        "cached": "yes" if body.get("cached") else None,
    }
