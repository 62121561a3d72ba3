"""The step tree of a running execution, folded from its events: what is done, running, waiting, retrying or failed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from engine.core.spec.vocabulary import MARKERS
from engine.edge.cli.values import clip, duration, parse_moment

MAX_BRANCHES_SHOWN = 6
MAX_STEPS_SHOWN = 200

_STEP_PATH = re.compile(r"^(?P<block>.+)\.(?P<index>\d+)$")
_BLOCK_PATH = re.compile(r"^(?P<step>.+\.\d+)(?:[~!]\d+)?\.?(?P<branch>\[\d+\]|[^.\[\]]+(?:\[\d+\])?)$")
_KIND_OF_CONSTRUCT = {
    "mapreduce": "map_reduce",
    **{kind: kind for kind in ("foreach", "parallel", "race", "switch", "until", "while", "yield")},
}
UNNAMED = "…"
"""Title of a step of which only the place is known yet."""
_FANS = ("map_reduce", "parallel", "race", "foreach", "while", "until")


class State(StrEnum):
    """Where a step stands."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    RETRYING = "retrying"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


@dataclass(slots=True)
class Step:
    """One step.

    Attributes:
        path: Its path, such as `main.3.then.0`.
        title: What a person calls it.
        kind: Its step kind; empty until an event tells it.
        state: Where it stands.
        started_s: Unix seconds at which it started; 0 = not yet.
        ended_s: Unix seconds at which it ended; 0 = not yet.
        attempt: The present attempt, from 1.
        note: Why it is retried or failed, or what it waits for.
        child: The execution that it started, if it runs another task.
        branches: The bodies it runs, by the name in their path.
        total: How many branches it will run; 0 = unknown.
    """

    path: str
    title: str
    kind: str = ""
    state: State = State.PENDING
    started_s: float = 0.0
    ended_s: float = 0.0
    attempt: int = 1
    note: str = ""
    child: str = ""
    branches: dict[str, Branch] = field(default_factory=dict)
    total: int = 0

    @property
    def progress(self) -> str:
        """`12/50` for a map or loop that runs or ran, else an empty text."""
        if self.kind not in _FANS or not self.branches:
            return ""
        ended = sum(1 for branch in self.branches.values() if branch.state not in (State.RUNNING, State.PENDING))
        return f"{ended}/{self.total or len(self.branches)}"


@dataclass(slots=True)
class Branch:
    """One body of a step: `then`, `map[3]`, a named list."""

    name: str
    state: State = State.RUNNING
    started_s: float = 0.0
    note: str = ""
    steps: dict[int, Step] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the printed tree.

    Attributes:
        depth: How far it stands to the right.
        state: State of the step.
        text: Title and progress.
        time: Duration, or empty.
        note: Attempt and reason, or empty.
    """

    depth: int
    state: State
    text: str
    time: str
    note: str


class RunTree:
    """All steps of an execution that are known so far.

    Args:
        steps: The task's `main` list as JSON, for the titles of steps that have not begun.

    Attributes:
        main: The steps of `main`.
        ending: Those of `finally`, once they run.
    """

    def __init__(self, steps: Sequence[Any] = ()) -> None:
        self.main = Branch("main", State.PENDING)
        for index, step in enumerate(steps):
            kind, title = describe_step(step)
            self.main.steps[index] = Step(f"main.{index}", title, kind)
        self.ending = Branch("finally", State.PENDING)
        self.waits: dict[str, Mapping[str, Any]] = {}
        self.last_seq = 0
        self.ended = ""

    def apply(self, event: Mapping[str, Any]) -> Step | None:
        """Take an event as the API shows it: {seq, type, at, body}.

        Returns:
            The step that it changed, if it changed one.
        """
        self.last_seq = int(event["seq"])
        kind, body, at = str(event["type"]), event["body"], parse_moment(event["at"]).timestamp()
        handler = getattr(self, f"_on_{kind.replace('.', '_')}", None)
        return handler(body, at) if handler is not None else None

    # --- events ----------------------------------------------------------------------------------------------------

    def _on_init(self, _body: Mapping[str, Any], at: float) -> None:
        self.main.state, self.main.started_s = State.RUNNING, at
        self._begin(self.main, 0, "main", at)

    def _on_init_branch(self, body: Mapping[str, Any], at: float) -> None:
        path = str(body.get("path", ""))
        step, branch = self._branch(path, at)
        if branch is self.ending:
            self._begin(self.ending, 0, path, at)
        if step is None or branch is None:
            return
        branch.state, branch.started_s = State.RUNNING, at
        step.total = int(body.get("of") or step.total)
        if step.state is not State.RUNNING:
            step.state, step.started_s = State.RUNNING, step.started_s or at
        construct = str(body.get("construct", "")).partition("[")[0]
        _name(step, _KIND_OF_CONSTRUCT.get(construct, ""))

    def _on_effect_started(self, body: Mapping[str, Any], at: float) -> Step | None:
        step = self._step(str(body.get("path", "")), body, at)
        if step is None:
            return None
        name = str(body.get("name") or "")
        if name and not body.get("label") and step.title == step.kind:
            step.title = f"{step.kind} {name}"
        step.state, step.attempt = State.RUNNING, int(body.get("attempt") or 1)
        step.child = str(body.get("child_id") or "")
        step.started_s = step.started_s or at
        return step

    def _on_attempt_failed(self, body: Mapping[str, Any], at: float) -> Step | None:
        step = self._step(str(body.get("path", "")), body, at)
        if step is None:
            return None
        error = body.get("error") or {}
        again = body.get("retry_in_s")
        step.attempt = int(body.get("attempt") or step.attempt)
        step.note = f"{error.get('code', 'error')}: {error.get('message', '')}"
        step.state = State.FAILED if again is None else State.RETRYING
        step.ended_s = at if again is None else 0.0
        return step

    def _on_step(self, body: Mapping[str, Any], at: float) -> Step | None:
        path = str(body.get("path", ""))
        step = self._finish_step(path, body, at)
        following = body.get("next")
        place = _STEP_PATH.match(path)
        branch = self._block_of(path, at)
        if isinstance(following, int) and place and branch is not None:
            self._begin(branch, following, place["block"], at)
        return step

    def _on_finish_branch(self, body: Mapping[str, Any], at: float) -> Step | None:
        path = str(body.get("path", ""))
        step = self._finish_step(path, body, at)
        branch = self._block_of(path, at)
        if branch is not None:
            branch.state = State.DONE
        return step

    def _on_finish(self, body: Mapping[str, Any], at: float) -> Step | None:
        step = self._finish_step(str(body.get("path", "")), body, at)
        self._end(State.DONE, at)
        return step

    def _on_error(self, body: Mapping[str, Any], at: float) -> Step | None:
        error = body.get("error") or {}
        step = self._step(str(error.get("step") or ""), {}, at)
        if step is not None:
            step.state, step.ended_s = State.FAILED, at
            step.note = f"{error.get('code', 'error')}: {error.get('message', '')}"
        self._end(State.FAILED, at)
        return step

    def _on_cancelled(self, _body: Mapping[str, Any], at: float) -> None:
        self._end(State.CANCELLED, at)

    def _on_wait(self, body: Mapping[str, Any], at: float) -> Step | None:
        self.waits[str(body.get("wait_id", ""))] = body
        step = self._step(str(body.get("path", "")), {**body, "kind": "wait_for_input"}, at)
        if step is not None:
            step.state, step.started_s = State.WAITING, step.started_s or at
            step.note = clip(body.get("info"), 100)
        return step

    def _on_resume(self, body: Mapping[str, Any], at: float) -> Step | None:
        self.waits.pop(str(body.get("wait_id", "")), None)
        step = self._step(str(body.get("path", "")), body, at)
        if step is not None:
            step.state, step.note = State.RUNNING, ""
        return step

    def _on_branch_failed(self, body: Mapping[str, Any], at: float) -> Step | None:
        step, branch = self._branch(str(body.get("path", "")), at)
        if branch is not None:
            error = body.get("error") or {}
            branch.state = State.FAILED
            branch.note = f"{error.get('code', 'error')}: {error.get('message', '')}"
        return step

    # --- places ----------------------------------------------------------------------------------------------------

    def _begin(self, branch: Branch, index: int, block: str, at: float) -> None:
        step = branch.steps.setdefault(index, Step(f"{block}.{index}", UNNAMED))
        step.state, step.started_s = State.RUNNING, at

    def _finish_step(self, path: str, body: Mapping[str, Any], at: float) -> Step | None:
        step = self._step(path, body, at)
        if step is not None:
            step.state, step.ended_s, step.note = State.DONE, at, ""
            step.started_s = step.started_s or at
        return step

    def _step(self, path: str, facts: Mapping[str, Any], at: float) -> Step | None:
        place = _STEP_PATH.match(path)
        branch = self._block_of(path, at)
        if place is None or branch is None:
            return None
        index = int(place["index"])
        step = branch.steps.setdefault(index, Step(path, UNNAMED))
        _name(step, str(facts.get("kind") or ""), str(facts.get("label") or ""))
        return step

    def _block_of(self, path: str, at: float) -> Branch | None:
        place = _STEP_PATH.match(path)
        if place is None:
            return None
        return self._branch(place["block"], at)[1]

    def _branch(self, block: str, at: float) -> tuple[Step | None, Branch | None]:
        if block in ("main", "finally"):
            return None, self.main if block == "main" else self.ending
        place = _BLOCK_PATH.match(block)
        if place is None:
            return None, None
        step = self._step(place["step"], {}, at)
        if step is None:
            return None, None
        return step, step.branches.setdefault(place["branch"], Branch(place["branch"], started_s=at))

    def _end(self, state: State, at: float) -> None:
        self.ended = state.value
        self.main.state = state
        for step in (*self._walk(self.main), *self._walk(self.ending)):
            if step.state in (State.RUNNING, State.RETRYING, State.WAITING):
                # what still ran when another branch ended the execution was stopped with it
                step.state, step.ended_s = (State.CANCELLED if state is not State.DONE else State.SKIPPED), at
            elif step.state is State.PENDING:
                step.state = State.SKIPPED

    def _walk(self, branch: Branch) -> Iterator[Step]:
        for step in branch.steps.values():
            yield step
            for body in step.branches.values():
                yield from self._walk(body)

    # --- printing --------------------------------------------------------------------------------------------------

    def lines(self, now_s: float) -> list[Line]:
        """Return the tree as lines.

        Args:
            now_s: The present Unix second, for the durations of what runs.
        """
        ending = list(self._lines(self.ending, 1, now_s))
        if ending:
            states = [line.state for line in ending]
            state = next((each for each in (State.RUNNING, State.FAILED) if each in states), State.DONE)
            ending.insert(0, Line(0, state, self.ending.name, "", ""))
        return [*list(self._lines(self.main, 0, now_s))[:MAX_STEPS_SHOWN], *ending[:MAX_STEPS_SHOWN]]

    def _lines(self, branch: Branch, depth: int, now_s: float) -> Iterator[Line]:
        for _, step in sorted(branch.steps.items()):
            yield line_of(step, depth, now_s)
            if step.kind in _FANS:
                yield from self._fan_lines(step, depth + 1, now_s)
            else:
                for body in step.branches.values():
                    yield from self._lines(body, depth + 1, now_s)

    def _fan_lines(self, step: Step, depth: int, now_s: float) -> Iterator[Line]:
        # a map of fifty items would hide the rest: the branches under way and the failed ones are enough
        shown = [body for body in step.branches.values() if body.state in (State.RUNNING, State.FAILED)]
        if step.state not in (State.RUNNING, State.RETRYING):
            shown = [body for body in shown if body.state is State.FAILED]
        for body in shown[:MAX_BRANCHES_SHOWN]:
            active = [inner for inner in body.steps.values() if inner.state is not State.DONE] or [*body.steps.values()]
            last = active[-1] if active else None
            words = (body.name,) if last is None else (body.name, last.title, last.child)
            text = " ".join(word for word in words if word)
            note = body.note or (note_of(last) if last is not None else "")
            state = last.state if last is not None and body.state is State.RUNNING else body.state
            yield Line(depth, state, text, duration(max(0.0, now_s - body.started_s)), note)
        if len(shown) > MAX_BRANCHES_SHOWN:
            yield Line(depth, State.RUNNING, f"… and {len(shown) - MAX_BRANCHES_SHOWN} more", "", "")


def _name(step: Step, kind: str, label: str = "") -> None:
    """Take over what an event tells of a step's kind and label; what is known already stays."""
    step.kind = step.kind or kind
    if label:
        step.title = label
    elif step.title == UNNAMED and step.kind:
        step.title = step.kind


def line_of(step: Step, depth: int, now_s: float) -> Line:
    """Return the line of one step."""
    seconds = (step.ended_s or now_s) - step.started_s if step.started_s else None
    text = "  ".join(part for part in (step.title, step.progress, step.child) if part)
    return Line(depth, step.state, text, "" if seconds is None else duration(max(0.0, seconds)), note_of(step))


def note_of(step: Step) -> str:
    """Return attempt and reason of a step, or an empty text."""
    if step.state is State.RETRYING:
        return f"attempt {step.attempt} failed, trying again: {clip(step.note, 120)}"
    if step.state is State.RUNNING and step.attempt > 1:
        return f"attempt {step.attempt}{f' after {clip(step.note, 100)}' if step.note else ''}"
    return clip(step.note, 160) if step.state in (State.FAILED, State.WAITING) else ""


def describe_step(step: Any) -> tuple[str, str]:
    """Return kind and title of a step as its author wrote it."""
    if not isinstance(step, Mapping):
        return "", "step"
    kind = str(step.get("kind_") or next((MARKERS[key] for key in MARKERS if key in step), ""))
    name = step.get({"tool_call": "tool", "yield": "workflow", "task": "task"}.get(kind, ""), "")
    return kind, str(step.get("label") or f"{kind or 'step'} {name or ''}".rstrip())
