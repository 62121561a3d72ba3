"""Where a fork begins: the step that somebody names, or the one that failed, was undone, or was under way."""

from __future__ import annotations

from collections.abc import Iterable

from engine.control.steppaths import order_of, steps_to
from engine.control.tracking import Tracker
from engine.core.errors import Conflict, InvalidInput
from engine.core.kinds import EventType
from engine.core.plan.ir import Plan
from engine.core.plan.lists import step_places
from engine.core.plan.paths import HANDLERS, Places, plain_path
from engine.core.run.events import EventRecord, body_of
from engine.core.run.projection import ExecutionFacts

FIRST = "main.0"
MOST_LISTED = 10

_LABELLED = frozenset(
    {
        EventType.STEP.value,
        EventType.FINISH_BRANCH.value,
        EventType.FINISH.value,
        EventType.EFFECT_STARTED.value,
        EventType.WAIT.value,
    }
)


class Survey(Tracker):
    """A first look at the events of an execution: what was undone, what was under way, where a label is.

    Args:
        label: The label that is looked for; empty = none.

    Attributes:
        labelled: Plain paths of the steps with that label that it came to.
        children: The executions that steps started last, by plain path.
    """

    def __init__(self, label: str = "") -> None:
        super().__init__()
        self.labelled: dict[str, None] = {}
        self.children: dict[str, str] = {}
        self._label = label

    def apply(self, record: EventRecord) -> None:
        """See `Tracker.apply`."""
        super().apply(record)
        if record.type == EventType.EFFECT_STARTED and '"child_id"' in record.body:
            body = body_of(record)
            self.children[plain_path(str(body["path"]))] = str(body.get("child_id") or "")
        if self._label and record.type in _LABELLED and self._label in record.body:
            body = body_of(record)
            if body.get("label") == self._label and body.get("path"):
                self.labelled[plain_path(str(body["path"]))] = None


def choose_point(facts: ExecutionFacts, survey: Survey, named: str, plan: Plan) -> str:
    """Return the plain path of the step that a fork begins with.

    Args:
        facts: The execution that is forked.
        survey: Has seen its events.
        named: Path or label of the step; empty = the first that was undone, or the one that failed, or the first that
            was under way.
        plan: Its plan.

    Raises:
        InvalidInput: `fork.bad_point` if it names no step, several, or one that no execution can begin with.
        Conflict: `fork.no_failed_step` if none is named and none failed.
    """
    point = plain_point(named, plan, survey.labelled) if named else _failed_step(facts, survey, plan)
    if any(word in HANDLERS for word in point.split(".")) or not point.startswith("main."):
        raise InvalidInput(
            f"no execution can begin with {point}: it runs only after other steps",
            code="fork.bad_point",
            hint="begin with the step that it belongs to",
        )
    if "=" in point:
        raise InvalidInput(
            f"{point} stands too deep in lists that run each other", code="fork.bad_point", hint="begin further out"
        )
    return point


def plain_point(named: str, plan: Plan, visited: Iterable[str]) -> str:
    """Return the plain path of the step that somebody names by its path or label.

    Args:
        named: What was written.
        plan: The plan.
        visited: Plain paths of steps that the execution came to: of a label in a loop, these count.

    Raises:
        InvalidInput: `fork.bad_point` if there is no such step, or several.
    """
    if Places(plan).op_at(named) is not None or "=" in named:
        return plain_path(named)
    places = [_as_shown(path) for path, op in step_places(plan) if op.label == named]
    if not places:
        raise InvalidInput(
            f"the task has no step {named!r}",
            code="fork.bad_point",
            hint="name it by its path (main.3, main.2.do[4].0) or its label; `everstep steps ID` shows both",
        )
    if len(places) == 1 and _is_written_out(places[0]):
        return places[0]
    known = Places(plan)
    mine = [path for path in visited if (op := known.op_at(path)) is not None and op.label == named]
    found = sorted(mine, key=order_of)
    if len(found) == 1:
        return found[0]
    listed = ", ".join(found[:MOST_LISTED])
    raise InvalidInput(
        f"the execution came to {'several steps' if found else 'no step'} with the label {named!r}",
        code="fork.bad_point",
        hint=f"name one by its path: {listed}" if found else "name the step by its path",
        details={"paths": found[:100]},
    )


def _as_shown(path: str) -> str:
    """Return a path of a plan as executions write it: `main.4[0].1` for a step in a branch of `parallel` or `race`."""
    shown = ""
    before = ""
    for word in path.split("."):
        shown += f"[{word}]" if word.isdigit() and before.isdigit() else f".{word}"
        before = "" if shown.endswith("]") else word
    return shown.removeprefix(".")


def _is_written_out(path: str) -> bool:
    """Whether a path of a plan is that of one step only: it stands in no loop and in no list of its own."""
    return path.startswith("main.") and not any(word.startswith(("do", "map")) for word in path.split("."))


def _failed_step(facts: ExecutionFacts, survey: Survey, plan: Plan) -> str:
    if survey.undone:
        return sorted(survey.undone, key=order_of)[0]
    if not survey.last_seq:
        return FIRST
    step = plain_path(str((facts.error or {}).get("step") or ""))
    if Places(plan).op_at(step) is not None and step.startswith("main."):
        return _outside_handlers(step)
    under_way = [path for path in survey.under_way() if path.startswith("main.")]
    if facts.settled and facts.error is not None and under_way:
        return _outside_handlers(under_way[0])
    why = f": its error is one of {step}" if step.startswith("finally") else ""
    raise Conflict(
        f"no step of execution {facts.id} has failed{why}",
        code="fork.no_failed_step",
        hint=f"name the step to begin with: everstep fork {facts.id} --from PATH",
    )


def _outside_handlers(path: str) -> str:
    """Return a step, or the one whose failure or undoing it handles."""
    outer = ""
    for step in steps_to(path):
        if any(word in HANDLERS for word in step[len(outer) :].split(".")):
            return outer
        outer = step
    return path
