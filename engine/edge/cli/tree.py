"""The step tree of a running execution, folded from its events: what is done, running, waiting, retrying or failed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from engine.core.run.usage import cost_to_nano, tokens_of
from engine.edge.cli.titles import BLOCK_PATH, STEP_PATH, UNNAMED, Titles, describe_step
from engine.edge.cli.treesteps import FANS, UNKNOWN, Branch, State, Step, asked, told
from engine.edge.cli.values import clip, duration, parse_moment

MAX_BRANCHES_SHOWN = 6
MAX_STEPS_SHOWN = 200
MAX_TURNS_SHOWN = 8
_TOOL_WAITS = ("approval", "function_call")
"""Kinds of waits of a call."""

_KIND_OF_CONSTRUCT = {
    "mapreduce": "map_reduce",
    **{kind: kind for kind in ("agent", "foreach", "parallel", "race", "switch", "until", "while", "yield")},
}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the printed tree.

    Attributes:
        depth: How far it stands to the right.
        state: State of the step.
        text: Title and progress.
        time: Duration, or empty.
        note: Attempt and reason, or empty.
        output: What the step handed on; UNKNOWN if it is not done, or wrote into the log only.
        usage: Tries, tokens and cost, or empty.
    """

    depth: int
    state: State
    text: str
    time: str
    note: str
    output: Any = UNKNOWN
    usage: str = ""


class RunTree:
    """All steps of an execution that are known so far.

    Args:
        steps: The task's `main` list as JSON, for the titles of steps that have not begun.
        titles: Titles of all steps; None = those of `main`.

    Attributes:
        main: The steps of `main`.
        ending: Those of `finally`, once they run.
        paused: Who paused the execution, why, and before which step, while it stands still; None = it does not.
        tokens: Tokens that all calls used.
        cost_nano: What they cost, in thousand-millionths of a dollar; None = not known.
    """

    def __init__(self, steps: Sequence[Any] = (), titles: Titles | None = None) -> None:
        self._titles = titles or Titles({"main": list(steps)})
        self.main = Branch("main", State.PENDING)
        for index, step in enumerate(steps):
            kind, title = describe_step(step, self._titles.words)
            self.main.steps[index] = Step(f"main.{index}", title, kind)
        self.ending = Branch("finally", State.PENDING)
        self.waits: dict[str, Mapping[str, Any]] = {}
        self.last_seq = 0
        self.ended = ""
        self.paused: str | None = None
        self.tokens = 0
        self.cost_nano: int | None = None

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
        if construct == "on_error":
            step.caught = step.note
        self._name(step, _KIND_OF_CONSTRUCT.get(construct, ""))

    def _on_effect_started(self, body: Mapping[str, Any], at: float) -> Step | None:
        step = self._step(str(body.get("path", "")), body, at)
        if step is None:
            return None
        name = str(body.get("name") or "")
        if name and not body.get("label") and step.title == self._titles.word(step.kind):
            step.title = f"{step.title} {name}"
        step.state, step.attempt = State.RUNNING, int(body.get("attempt") or 1)
        step.child = str(body.get("child_id") or "")
        step.caught = ""
        step.started_s = step.started_s or at
        return step

    def _on_effect_finished(self, body: Mapping[str, Any], at: float) -> None:
        tokens = tokens_of(body.get("usage"), "total_tokens") or 0
        cost_nano = cost_to_nano(body.get("cost"))
        if body.get("cached") and (called := self._step(str(body.get("path", "")), body, at)) is not None:
            called.cached = True
        if not tokens and cost_nano is None:
            return
        self.tokens += tokens
        self.cost_nano = self.cost_nano if cost_nano is None else (self.cost_nano or 0) + cost_nano
        step = self._step(str(body.get("path", "")), body, at)
        while step is not None:
            step.tokens += tokens
            step.cost_nano = step.cost_nano if cost_nano is None else (step.cost_nano or 0) + cost_nano
            place = STEP_PATH.match(step.path)
            step = None if place is None else self._branch(place["block"], at)[0]

    def _on_attempt_failed(self, body: Mapping[str, Any], at: float) -> Step | None:
        step = self._step(str(body.get("path", "")), body, at)
        if step is None:
            return None
        again = body.get("retry_in_s")
        step.attempt = int(body.get("attempt") or step.attempt)
        step.repair = int(body.get("repair") or 0)
        step.note = told(body.get("error"))
        step.state = State.FAILED if again is None else State.RETRYING
        step.ended_s = at if again is None else 0.0
        return step

    def _on_step(self, body: Mapping[str, Any], at: float) -> Step | None:
        path = str(body.get("path", ""))
        step = self._finish_step(path, body, at)
        following = body.get("next")
        place = STEP_PATH.match(path)
        branch = self._block_of(path, at)
        if isinstance(following, int) and place and branch is not None:
            self._begin(branch, following, place["block"], at)
        return step

    def _on_finish_branch(self, body: Mapping[str, Any], at: float) -> Step | None:
        path = str(body.get("path", ""))
        step = self._finish_step(path, body, at)
        branch = self._block_of(path, at)
        if branch is not None:
            branch.state, branch.ended_s = State.DONE, at
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
            step.note = told(error)
            self._fail_around(step.path, at)
        self._end(State.FAILED, at)
        return step

    def _on_cancelled(self, _body: Mapping[str, Any], at: float) -> None:
        self._end(State.CANCELLED, at)

    def _on_wait(self, body: Mapping[str, Any], at: float) -> Step | None:
        self.waits[str(body.get("wait_id", ""))] = body
        info = body.get("info")
        # a call of a tool may wait as well: for a person, or for the client that makes it
        tool = str(info.get("tool") or "") if isinstance(info, Mapping) and info.get("kind") in _TOOL_WAITS else ""
        kind = "tool_call" if tool else "wait_for_input"
        step = self._step(str(body.get("path", "")), {**body, "kind": kind}, at)
        if step is not None:
            if tool and step.title == self._titles.word(kind):
                step.title = f"{step.title} {tool}"
            step.state, step.started_s = State.WAITING, step.started_s or at
            step.note = clip(asked(body["info"]) if tool else info, 100)
        return step

    def _on_resume(self, body: Mapping[str, Any], at: float) -> Step | None:
        self.waits.pop(str(body.get("wait_id", "")), None)
        step = self._step(str(body.get("path", "")), body, at)
        if step is not None:
            step.state, step.note = State.RUNNING, ""
        return step

    def _on_execution_paused(self, body: Mapping[str, Any], _at: float) -> None:
        if body.get("repeated") or body.get("already"):
            return
        where = f"before {body['at']}" if body.get("at") else ""
        who = f"by {body['actor']}" if body.get("actor") else ""
        why = str(body.get("reason") or "") if body.get("key") else ""
        self.paused = ", ".join(part for part in (where, who, why) if part)

    def _on_execution_continued(self, body: Mapping[str, Any], _at: float) -> None:
        if not body.get("repeated"):
            self.paused = None

    def _on_deadline_changed(self, body: Mapping[str, Any], _at: float) -> None:
        wait = self.waits.get(str(body.get("wait_id", "")))
        if wait is not None and not body.get("repeated"):
            self.waits[str(body["wait_id"])] = {**wait, "deadline_us": body.get("deadline_us")}

    def _on_branch_failed(self, body: Mapping[str, Any], at: float) -> Step | None:
        step, branch = self._branch(str(body.get("path", "")), at)
        if branch is not None:
            stopped = body.get("taken") in ("interrupt", "rollback")
            branch.state, branch.ended_s = State.CANCELLED if stopped else State.FAILED, at
            branch.note = told(body.get("error"))
            if stopped:
                for inner in self._walk(branch):
                    if inner.state in (State.RUNNING, State.WAITING, State.RETRYING):
                        inner.state, inner.ended_s = State.CANCELLED, at
        return step

    # --- places ----------------------------------------------------------------------------------------------------

    def _begin(self, branch: Branch, index: int, block: str, at: float) -> None:
        step = self._at(branch, index, f"{block}.{index}")
        step.state, step.started_s, step.caught = State.RUNNING, at, ""

    def _finish_step(self, path: str, body: Mapping[str, Any], at: float) -> Step | None:
        step = self._step(path, body, at)
        if step is not None:
            told_of = "recorded" if body.get("recorded") else ""
            step.state, step.ended_s, step.note = State.DONE, at, str(body.get("log") or told_of)
            step.output = body.get("output", UNKNOWN) if "log" not in body else UNKNOWN
            step.started_s = step.started_s or at
        return step

    def _step(self, path: str, facts: Mapping[str, Any], at: float) -> Step | None:
        place = STEP_PATH.match(path)
        branch = self._block_of(path, at)
        if place is None or branch is None:
            return None
        index = int(place["index"])
        step = self._at(branch, index, path)
        self._name(step, str(facts.get("kind") or ""), str(facts.get("label") or ""))
        return step

    def _at(self, branch: Branch, index: int, path: str) -> Step:
        step = branch.steps.get(index)
        if step is None:
            kind, title = self._titles.of(path)
            step = branch.steps[index] = Step(path, title, kind)
        return step

    def _name(self, step: Step, kind: str, label: str = "") -> None:
        """Take over what an event tells of a step's kind and label; what is known already stays."""
        step.kind = step.kind or kind
        if label:
            step.title = label
        elif step.title == UNNAMED and step.kind:
            step.title = self._titles.word(step.kind)

    def _fail_around(self, path: str, at: float) -> None:
        """Say of all that stands around a step whose error ended the execution that it failed."""
        place = STEP_PATH.match(path)
        while place is not None:
            step, branch = self._branch(place["block"], at)
            if step is None or branch is None or step.state is State.DONE:
                return
            branch.state, branch.ended_s = State.FAILED, at
            step.state, step.ended_s, step.note = State.FAILED, at, ""
            place = STEP_PATH.match(step.path)

    def _block_of(self, path: str, at: float) -> Branch | None:
        place = STEP_PATH.match(path)
        if place is None:
            return None
        return self._branch(place["block"], at)[1]

    def _branch(self, block: str, at: float) -> tuple[Step | None, Branch | None]:
        if block in ("main", "finally"):
            return None, self.main if block == "main" else self.ending
        place = BLOCK_PATH.match(block)
        if place is None:
            return None, None
        step = self._step(place["step"], {}, at)
        if step is None:
            return None, None
        return step, step.branches.setdefault(place["branch"], Branch(place["branch"], started_s=at))

    def _end(self, state: State, at: float) -> None:
        self.ended, self.paused = state.value, None
        self.main.state = state
        for step in (*self._walk(self.main), *self._walk(self.ending)):
            if step.state in (State.RUNNING, State.RETRYING, State.WAITING):
                # what still ran when another branch ended the execution was stopped with it
                step.state, step.ended_s = (State.CANCELLED if state is not State.DONE else State.SKIPPED), at
            elif step.state is State.PENDING:
                step.state = State.SKIPPED
            for body in step.branches.values():
                body.ended_s = body.ended_s or at

    def _walk(self, branch: Branch) -> Iterator[Step]:
        for step in branch.steps.values():
            yield step
            for body in step.branches.values():
                yield from self._walk(body)

    def title_of(self, path: str) -> str:
        """Return what the step at a path is called; an empty text if nothing tells it."""
        step = self._step(path, {}, 0.0)
        return "" if step is None or step.title == UNNAMED else step.title

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
        paused = [] if self.paused is None else [Line(0, State.WAITING, "paused", "", self.paused)]
        return [*list(self._lines(self.main, 0, now_s))[:MAX_STEPS_SHOWN], *ending[:MAX_STEPS_SHOWN], *paused]

    def _lines(self, branch: Branch, depth: int, now_s: float) -> Iterator[Line]:
        for _, step in sorted(branch.steps.items()):
            yield line_of(step, depth, now_s)
            yield from self._inner_lines(step, depth + 1, now_s)

    def _inner_lines(self, step: Step, depth: int, now_s: float) -> Iterator[Line]:
        if step.kind in FANS:
            yield from self._fan_lines(step, depth, now_s)
            return
        turns = [body for name, body in step.branches.items() if name.startswith("turn[")]
        yield from self._turn_lines(turns, depth, now_s)
        for body in step.branches.values():
            if body not in turns:
                yield from self._lines(body, depth, now_s)

    def _turn_lines(self, turns: list[Branch], depth: int, now_s: float) -> Iterator[Line]:
        # the last turns of an agent, each with the tools that it called; of the one that runs all
        earlier = len(turns) - MAX_TURNS_SHOWN
        if earlier > 0:
            yield Line(depth, State.DONE, f"… {earlier} earlier turn{'s' if earlier > 1 else ''}", "", "")
        for body in turns[-MAX_TURNS_SHOWN:]:
            called = [call for step in body.steps.values() for call in step.branches.values()]
            names = [inner.title.removeprefix("tool ") for call in called for inner in call.steps.values()]
            number = int(body.name.removeprefix("turn[").rstrip("]")) + 1
            text = f"turn {number}  {', '.join(names)}".rstrip()
            failed = "; ".join(call.note for call in called if call.note)
            took = duration(max(0.0, (body.ended_s or now_s) - body.started_s))
            yield Line(depth, body.state, text, took, clip(failed, 160))
            if body.state is State.RUNNING:
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
            yield Line(depth, state, text, duration(max(0.0, (body.ended_s or now_s) - body.started_s)), note)
            if last is not None and last.state is not State.DONE:
                yield from self._inner_lines(last, depth + 1, now_s)
        if len(shown) > MAX_BRANCHES_SHOWN:
            yield Line(depth, State.RUNNING, f"… and {len(shown) - MAX_BRANCHES_SHOWN} more", "", "")


def line_of(step: Step, depth: int, now_s: float) -> Line:
    """Return the line of one step."""
    seconds = (step.ended_s or now_s) - step.started_s if step.started_s else None
    text = "  ".join(part for part in (step.title, step.progress, step.child) if part)
    took = "" if seconds is None else duration(max(0.0, seconds))
    output = step.output if step.state is State.DONE else UNKNOWN
    return Line(depth, step.state, text, took, note_of(step), output, step.usage)


def note_of(step: Step) -> str:
    """Return attempt and reason of a step, or an empty text."""
    if step.repair and step.state in (State.RETRYING, State.RUNNING):
        return f"repair round {step.repair}: {clip(step.note, 120)}"
    if step.state is State.RETRYING:
        return f"attempt {step.attempt} failed, trying again: {clip(step.note, 120)}"
    if step.state is State.RUNNING and step.attempt > 1:
        return f"attempt {step.attempt}{f' after {clip(step.note, 100)}' if step.note else ''}"
    if step.state is State.DONE and step.caught:
        return f"on_error took {clip(step.caught, 120)}"
    return clip(step.note, 160) if step.state in (State.FAILED, State.WAITING, State.DONE) else ""
