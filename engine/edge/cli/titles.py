"""What a person calls a step: its label, or the language's word for its kind, found in the task by the step's path."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from engine.core.spec.vocabulary import MARKER_OF, MARKERS

STEP_PATH: Final = re.compile(r"^(?P<block>.+)\.(?P<index>\d+)$")
BLOCK_PATH: Final = re.compile(r"^(?P<step>.+\.\d+)(?:[~!]\d+)?\.?(?P<branch>\[\d+\]|[^.\[\]]+(?:\[\d+\])?)$")
UNNAMED: Final = "…"
"""Title of a step of which only the place is known yet."""
WORDS: Final = MappingProxyType({kind.value: marker for kind, marker in MARKER_OF.items()})
"""Kinds as authors write them: `tool` for `tool_call`."""

_NAMED_BY: Final = MappingProxyType({"tool_call": "tool", "yield": "workflow", "task": "task"})
_NUMBERED: Final = re.compile(r"^(?P<name>[^\[\]]*)(?:\[(?P<number>\d+)\])?$")


class Titles:
    """Kinds and titles of the steps of a task, as far as its text tells them.

    Args:
        lists: The task's named lists by name, `main` among them, as the API shows them.
        words: What to call a kind; kinds that are not in it are called what they are called.
    """

    def __init__(self, lists: Mapping[str, Any], words: Mapping[str, str] = WORDS) -> None:
        self._lists = lists
        self.words = words

    def of(self, path: str) -> tuple[str, str]:
        """Return kind and title of the step at a path; empty kind and `…` if the task does not tell them."""
        step = self._step(path)
        return ("", UNNAMED) if step is None else describe_step(step, self.words)

    def word(self, kind: str) -> str:
        """Return what a kind is called."""
        return self.words.get(kind, kind)

    def _step(self, path: str) -> Any:
        place = STEP_PATH.match(path)
        steps = self._steps(place["block"]) if place else []
        index = int(place["index"]) if place else 0
        return steps[index] if index < len(steps) else None

    def _steps(self, block: str) -> Sequence[Any]:
        if block in self._lists:
            return _as_list(self._lists[block])
        place = BLOCK_PATH.match(block)
        step = self._step(place["step"]) if place else None
        if place is None or not isinstance(step, Mapping):
            return []
        return _as_list(self._inner(step, place["branch"]))

    def _inner(self, step: Mapping[str, Any], branch: str) -> Any:
        """Return what a step has under the name of a body: `then`, `do[2]`, `case[0]`, `[1]`, a named list."""
        numbered = _NUMBERED.match(branch)
        if numbered is None:
            return None
        name, number = numbered["name"], int(numbered["number"] or 0)
        if not name:
            return _item(step.get("parallel", step.get("race")), number)
        if name == "case":
            case = _item(step.get("switch"), number)
            return case.get("then") if isinstance(case, Mapping) else None
        if name in step:
            return step[name]
        loop = step.get("foreach")
        if isinstance(loop, Mapping) and name in loop:
            return loop[name]
        return self._lists.get(name)


def titles_of(task: Mapping[str, Any], words: Mapping[str, str] = WORDS) -> Titles:
    """Return the titles of a task as the API shows it."""
    return Titles({name: value for name, value in task.items() if isinstance(value, list)}, words)


def describe_step(step: Any, words: Mapping[str, str] = WORDS) -> tuple[str, str]:
    """Return kind and title of a step as its author wrote it."""
    if not isinstance(step, Mapping):
        return "", "step"
    kind = str(step.get("kind_") or next((MARKERS[key] for key in MARKERS if key in step), ""))
    name = step.get(_NAMED_BY.get(kind, ""), "")
    word = words.get(kind, kind)
    return kind, str(step.get("label") or f"{word or 'step'} {name or ''}".rstrip())


def _as_list(steps: Any) -> Sequence[Any]:
    if steps is None:
        return []
    return steps if isinstance(steps, list) else [steps]


def _item(items: Any, number: int) -> Any:
    return items[number] if isinstance(items, list) and number < len(items) else None
