"""Tells how control may leave steps and lists, and warns about steps that can never run. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from enum import Flag

from engine.core.diagnostics import Findings
from engine.core.plan.resolve import is_template, mark_length
from engine.core.spec import codes
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode
from engine.core.spec.steps import (
    ErrorStep,
    EvaluateStep,
    ForeachStep,
    IfElseStep,
    ListenStep,
    LogStep,
    MapReduceStep,
    ParallelStep,
    RaceStep,
    ReturnStep,
    SetStep,
    StepList,
    StepSpec,
    SwitchStep,
    UntilStep,
    WhileStep,
    YieldStep,
)
from engine.core.spec.walk import all_steps, inner_lists

_CONSTANTS = {"true": True, "True": True, "false": False, "False": False, "null": False, "None": False}
_HANDLERS = ("on_error", "undo")


class Exit(Flag):
    """The ways in which control may leave a step or a list."""

    NONE = 0
    THROUGH = 1
    RETURN = 2
    FAIL = 4


def constant_of(condition: Node | None) -> bool | None:
    """Return what a condition that is written out always is, or None if that shows only when it is evaluated."""
    if isinstance(condition, ScalarNode):
        if isinstance(condition.value, str):
            text = condition.value[mark_length(condition.value) :].strip()
            return _CONSTANTS.get(text)
        return None if condition.value is None else bool(condition.value)
    return None


def is_plain(node: Node | None) -> bool:
    """Return whether a value is written out in every dialect, so that nothing is evaluated that might fail."""
    match node:
        case ScalarNode(value=str()):
            return False
        case ListNode():
            return all(is_plain(item) for item in node.items)
        case MapNode():
            return all(is_plain(entry.value) for entry in node.entries)
        case _:
            return True


def grow(workflows: Mapping[str, StepList], step_on: Callable[[str], bool]) -> None:
    """Do something with each named list, and again with those that call one for which it changed something.

    Args:
        workflows: The named lists.
        step_on: Takes a name and returns whether that has changed something for those who call it.
    """
    callers: dict[str, set[str]] = {}
    for name, steps in workflows.items():
        for step in all_steps(steps):
            if isinstance(step, YieldStep):
                callers.setdefault(step.workflow.text, set()).add(name)
    waiting = dict.fromkeys(reversed(list(workflows)))
    while waiting:
        name, _ = waiting.popitem()
        if step_on(name):
            waiting.update(dict.fromkeys(sorted(callers.get(name, ()))))


class Failures:
    """Knows which steps may end in an error that an `on_error` catches; a recursion that is too deep is none."""

    def __init__(self, workflows: Mapping[str, StepList]) -> None:
        """Look through all named lists once."""
        self._workflows = workflows
        self._lists: set[str] = set()
        self._known: dict[str, bool] = {}
        grow(workflows, self._grow)
        # what was found on the way may have been too little
        self._known.clear()

    def may_fail(self, step: StepSpec) -> bool:
        """Return whether a step, or one that it runs, may fail; not whether its own `on_error` may."""
        found = self._known.get(step.path)
        if found is None:
            lists = [steps for name, steps in inner_lists(step) if name not in _HANDLERS]
            found = self._own(step) or any(self.may_fail(inner) for steps in lists for inner in steps.steps)
            self._known[step.path] = found
        return found

    def _grow(self, name: str) -> bool:
        self._known.clear()
        if name in self._lists or not any(self.may_fail(step) for step in self._workflows[name].steps):
            return False
        self._lists.add(name)
        return True

    def _own(self, step: StepSpec) -> bool:
        mods = step.mods
        if mods.timeout_s is not None or mods.total_timeout_s is not None or mods.checks:
            return True
        if mods.when is not None and constant_of(mods.when) is None:
            return True
        match step:
            case EvaluateStep() | ReturnStep():
                return not is_plain(step.value)
            case SetStep():
                return not is_plain(step.values)
            case LogStep():
                text = step.message.value if isinstance(step.message, ScalarNode) else None
                is_text = isinstance(text, str) and not is_template(text) and not mark_length(text)
                return not is_text and not is_plain(step.message)
            case YieldStep():
                name = step.workflow.text
                return name not in self._workflows or name in self._lists or not is_plain(step.arguments)
            case IfElseStep():
                return constant_of(step.condition) is None
            case ParallelStep() | RaceStep():
                return False
            case _:
                return True


class Exits:
    """Knows how control may leave each step of a task."""

    def __init__(self, workflows: Mapping[str, StepList]) -> None:
        """Look through all named lists, those that are called first."""
        self._workflows = workflows
        self._failures = Failures(workflows)
        self._lists = dict.fromkeys(workflows, Exit.NONE)
        self._known: dict[str, Exit] = {}
        grow(workflows, self._grow)
        # a list without a way out never ends, which is told elsewhere
        self._lists.update({name: Exit.THROUGH for name, exits in self._lists.items() if not exits})
        self._known.clear()

    def check(self, steps: StepList, findings: Findings) -> None:
        """Warn about steps that can never run, in a list and in all lists inside it."""
        for number, step in enumerate(steps.steps):
            for dead in _never_chosen(step):
                _warn(findings, *dead)
            for _, inner in inner_lists(step):
                self.check(inner, findings)
            if number + 1 < len(steps.steps) and Exit.THROUGH not in self.of_step(step):
                message, hint = self._reason(step)
                after = steps.steps[number + 1]
                _warn(findings, after, f"this step can never run: {message}", hint)
                for rest in steps.steps[number + 1 :]:
                    for _, inner in inner_lists(rest):
                        self.check(inner, findings)
                return

    def of_list(self, steps: StepList) -> Exit:
        """Return how control may leave a list."""
        found = Exit.NONE
        for step in steps.steps:
            exits = self.of_step(step)
            found |= exits & ~Exit.THROUGH
            if Exit.THROUGH not in exits:
                return found
        return found | Exit.THROUGH

    def of_step(self, step: StepSpec) -> Exit:
        """Return how control may leave a step, its modifiers included."""
        found = self._known.get(step.path)
        if found is None:
            found = self._known[step.path] = self._of_step(step)
        return found

    def _of_step(self, step: StepSpec) -> Exit:
        runs = True if step.mods.when is None else constant_of(step.mods.when)
        if runs is False:
            return Exit.THROUGH
        exits = self._of_kind(step)
        if self._failures.may_fail(step):
            exits |= Exit.FAIL
        if step.mods.on_error is not None and Exit.FAIL in exits:
            exits = (exits & ~Exit.FAIL) | self.of_list(step.mods.on_error)
        return exits if runs else exits | Exit.THROUGH

    def _grow(self, name: str) -> bool:
        self._known.clear()
        exits = self.of_list(self._workflows[name])
        if exits == self._lists[name]:
            return False
        self._lists[name] = exits
        return True

    def _of_kind(self, step: StepSpec) -> Exit:
        match step:
            case ReturnStep():
                return Exit.RETURN
            case ErrorStep():
                return Exit.FAIL
            case YieldStep():
                return self._of_call(step.workflow.text)
            case IfElseStep() | SwitchStep():
                return self._any(_ways(step))
            case WhileStep() | UntilStep():
                return self._of_loop(step)
            case ForeachStep():
                return self._of_rounds(step.do, step.items)
            case ListenStep():
                return self.of_list(step.do) | Exit.THROUGH
            case MapReduceStep():
                exits = self._of_rounds(step.map, step.over)
                return exits if step.on_item_error == "fail" else _taken(exits)
            case ParallelStep():
                exits = self._any(step.branches)
                return exits if step.on_item_error == "fail" else _taken(exits)
            case RaceStep():
                return self._any(step.branches)
            case _:
                return Exit.THROUGH

    def _of_call(self, name: str) -> Exit:
        exits = self._lists.get(name, Exit.THROUGH)
        back = Exit.THROUGH if exits & (Exit.THROUGH | Exit.RETURN) else Exit.NONE
        return back | (exits & Exit.FAIL)

    def _any(self, lists: tuple[StepList | None, ...]) -> Exit:
        """Return how control may leave one of some lists, of which None is to go on at once."""
        found = Exit.NONE
        for steps in lists:
            found |= Exit.THROUGH if steps is None else self.of_list(steps)
        return found if lists else Exit.THROUGH

    def _of_loop(self, step: WhileStep | UntilStep) -> Exit:
        holds = constant_of(step.condition)
        if isinstance(step, WhileStep) and holds is False:
            return Exit.THROUGH
        body = self.of_list(step.do)
        if Exit.THROUGH not in body:
            return body if isinstance(step, UntilStep) or holds else body | Exit.THROUGH
        if holds is isinstance(step, WhileStep):
            # its condition never ends it, so that in the end it has too many rounds
            return (body & ~Exit.THROUGH) | Exit.FAIL
        return body

    def _of_rounds(self, body: StepList, items: Node) -> Exit:
        runs = isinstance(items, ListNode) and bool(items.items)
        return self.of_list(body) if runs else self.of_list(body) | Exit.THROUGH

    def _reason(self, step: StepSpec) -> tuple[str, str]:
        if step.mods.on_error is None:
            if isinstance(step, (WhileStep, UntilStep)) and Exit.THROUGH in self.of_list(step.do):
                return "the condition of the loop before it never ends it", "write a condition that changes"
            if isinstance(step, YieldStep):
                name = step.workflow.text
                return (
                    f"the sub-workflow '{name}' always fails",
                    f"let '{name}' end without an error, or remove the step",
                )
        return "the step before it always ends the list", "put the step before it under a condition, or remove this one"


def check_reachable(workflows: Mapping[str, StepList], findings: Findings, *, ending: StepList | None = None) -> None:
    """Warn about steps after one that always ends the list, and about those whose condition is never true.

    Args:
        workflows: The named lists.
        findings: Where to put what is wrong.
        ending: The steps of `finally`.
    """
    exits = Exits(workflows)
    for steps in workflows.values() if ending is None else [*workflows.values(), ending]:
        exits.check(steps, findings)


def _ways(step: IfElseStep | SwitchStep) -> tuple[StepList | None, ...]:
    """Return the lists of which one is chosen; None is to go on at once."""
    if isinstance(step, IfElseStep):
        holds = constant_of(step.condition)
        return (step.then, step.otherwise) if holds is None else (step.then if holds else step.otherwise,)
    ways: list[StepList | None] = []
    for case in step.cases:
        holds = True if case.condition is None else constant_of(case.condition)
        if holds is not False:
            ways.append(case.then)
        if holds:
            return tuple(ways)
    return (*ways, None)


def _taken(exits: Exit) -> Exit:
    """Return how control leaves a step that goes on when something inside it fails."""
    return (exits & ~Exit.FAIL) | Exit.THROUGH if Exit.FAIL in exits else exits


def _never_chosen(step: StepSpec) -> Iterator[tuple[StepSpec, str, str]]:
    """Yield the step and what to say of it where a condition is written out and leaves no choice."""
    if step.mods.when is not None and constant_of(step.mods.when) is False:
        yield step, "this step can never run: its 'when' is always false", "write a condition that looks at the data"
    branches: list[tuple[StepList | None, str]] = []
    match step:
        case IfElseStep():
            holds = constant_of(step.condition)
            if holds is not None:
                branches.append(
                    (step.otherwise, "the 'if' is always true") if holds else (step.then, "the 'if' is always false")
                )
        case SwitchStep():
            dead = (case.then for case in step.cases if constant_of(case.condition) is False)
            branches.extend((then, "the 'case' is always false") for then in dead)
        case WhileStep() if constant_of(step.condition) is False:
            branches.append((step.do, "the 'while' is always false"))
        case _:
            pass
    for steps, reason in branches:
        if steps is not None and steps.steps:
            yield steps.steps[0], f"this step can never run: {reason}", "write a condition that looks at the data"


def _warn(findings: Findings, step: StepSpec, message: str, hint: str) -> None:
    findings.warn(codes.UNREACHABLE, message, step.position, hint=hint, path=step.path)
