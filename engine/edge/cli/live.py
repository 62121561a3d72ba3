"""Shows a running execution: a live tree in a terminal, else one plain line per thing that happens."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from engine.edge.cli.answering import answer_hint
from engine.edge.cli.output import as_json, write
from engine.edge.cli.tree import RunTree, line_of
from engine.edge.cli.treesteps import State, Step, told, usage_text
from engine.edge.cli.values import clip_start, clock, parse_moment

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MARKS: dict[State, tuple[str, str]] = {
    State.PENDING: ("·", "dim"),
    State.RUNNING: ("", "cyan"),
    State.WAITING: ("?", "bold yellow"),
    State.RETRYING: ("↻", "yellow"),
    State.DONE: ("✓", "green"),
    State.FAILED: ("✗", "bold red"),
    State.CANCELLED: ("■", "yellow"),
    State.SKIPPED: ("-", "dim"),
}
REFRESH_PER_SECOND = 10
WRITING_CHARS = 300
"""How much is shown of what a model is writing."""


class Display(Protocol):
    """Shows the events of one execution."""

    def show(self, event: Mapping[str, Any]) -> None:
        """Take one more event."""

    def close(self) -> None:
        """Leave the terminal as the user will keep it."""


class PlainDisplay:
    """One line on standard error per step that ends, fails, waits or is tried again.

    Args:
        tree: The tree that the events are folded into.
        execution_id: The execution, for the hint how to answer.
    """

    def __init__(self, tree: RunTree, execution_id: str) -> None:
        self._tree = tree
        self._execution_id = execution_id
        self._failures: dict[str, str] = {}

    def show(self, event: Mapping[str, Any]) -> None:
        """Print what the event says, if it says something."""
        step = self._tree.apply(event)
        if step is None or self._is_known(step, event["type"]):
            return
        line = "  ".join(part for part in (_plain_line(step, event), self._lost_branch(step, event)) if part)
        if line:
            sys.stderr.write(f"{clock(event['at'])}  {line}\n")
        if event["type"] == "wait":
            sys.stderr.write(f"{answer_hint(self._execution_id, event['body'], self._tree.waits.values())}\n")
        sys.stderr.flush()

    def _is_known(self, step: Step, kind: str) -> bool:
        """Whether an execution ends with a failure that was told when its step failed."""
        if step.state is not State.FAILED:
            return False
        known = kind == "error" and self._failures.get(step.path) == step.note
        self._failures[step.path] = step.note
        return known

    def _lost_branch(self, step: Step, event: Mapping[str, Any]) -> str:
        """Return which branch failed and why, if no step of it has told that."""
        note = told(event["body"].get("error")) if event["type"] == "branch.failed" else ""
        if not note or note in self._failures.values():
            return ""
        return f"{str(event['body'].get('path', '')).removeprefix(step.path)} {note}"

    def close(self) -> None:
        """Nothing to put right."""


def _plain_line(step: Step, event: Mapping[str, Any]) -> str:
    kind = event["type"]
    if kind == "resume":
        return ""
    line = line_of(step, 0, parse_moment(event["at"]).timestamp())
    if kind == "effect.started":
        return "  ".join(part for part in (step.path, line.text, "started", line.note) if part)
    parts = (step.path, line.text, line.state.value, line.time, line.usage, line.note)
    return "  ".join(part for part in parts if part)


class TreeDisplay:
    """A tree that is redrawn ten times a second on a terminal.

    Args:
        tree: The tree that the events are folded into.
        execution_id: The execution.
        title: First line.
    """

    def __init__(self, tree: RunTree, execution_id: str, title: str) -> None:
        self._tree = tree
        self._execution_id = execution_id
        self._title = title
        self._lock = threading.Lock()
        self._writing: dict[str, str] = {}
        self._live = self._start()

    def _start(self) -> Live:
        from rich.console import Console
        from rich.live import Live

        live = Live(
            get_renderable=self.render,
            console=Console(highlight=False),
            refresh_per_second=REFRESH_PER_SECOND,
            vertical_overflow="ellipsis",
        )
        live.start()
        return live

    def show(self, event: Mapping[str, Any]) -> None:
        """Fold the event into the tree; the next redraw shows it."""
        with self._lock:
            self._tree.apply(event)
            if event["type"] == "effect.finished":
                self._writing.pop(str(event["body"].get("path")), None)

    def write(self, path: str, text: str, *, anew: bool) -> None:
        """Take some characters that a model is writing.

        Args:
            path: The step.
            text: The characters.
            anew: Whether they begin another reply.
        """
        with self._lock:
            before = "" if anew else self._writing.get(path, "")
            # only the end is shown, and a long reply must not be copied for every few characters
            self._writing[path] = (before + text)[-2 * WRITING_CHARS :]

    def close(self) -> None:
        """Draw the last state and give the terminal back."""
        self._live.stop()

    def render(self) -> Group:
        """Return the tree as coloured text, and below it how to answer, uncut."""
        from rich.console import Group
        from rich.text import Text

        now = time.time()
        with self._lock:
            lines = self._tree.lines(now)
            waits = list(self._tree.waits.values()) if not self._tree.ended else []
            used = usage_text(self._tree.tokens, self._tree.cost_nano)
            writing = {} if self._tree.ended else dict(self._writing)
        text = Text(no_wrap=True, overflow="ellipsis")
        text.append(self._title, "bold")
        text.append(f"  {used}" if used else "", "dim")
        for line in lines:
            mark, style = _MARKS[line.state]
            if line.state is State.RUNNING:
                mark = _SPINNER[int(now * REFRESH_PER_SECOND) % len(_SPINNER)]
            text.append(f"\n{'  ' * line.depth}  ")
            text.append(f"{mark} ", style)
            text.append(line.text, "dim" if line.state in (State.PENDING, State.SKIPPED) else "")
            for part in (line.time, line.usage):
                text.append(f"  {part}" if part else "", "dim")
            if line.note:
                text.append(f"  {line.note}", style)
        # the command stands on a line of its own, and is never cut: it is there to be copied
        told = [Text(f"{path} writes: {clip_start(words, WRITING_CHARS)}", "italic") for path, words in writing.items()]
        hints = [answer_hint(self._execution_id, wait, waits).replace(": ", ":\n", 1) for wait in waits]
        return Group(text, *told, *(Text(hint, "bold yellow") for hint in hints))


class SilentDisplay:
    """Shows nothing; for output that programs read."""

    def show(self, event: Mapping[str, Any]) -> None:
        """Drop the event."""

    def close(self) -> None:
        """Nothing to put right."""


class JsonDisplay:
    """One JSON line on standard output per event."""

    def show(self, event: Mapping[str, Any]) -> None:
        """Print the event."""
        write(as_json(dict(event), pretty=False))

    def close(self) -> None:
        """Nothing to put right."""
