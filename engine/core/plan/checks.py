"""Checks a whole task: labels, sub-workflows, steps that can never run, calls that never end. Workflow-safe."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from engine.core.diagnostics import Findings, Position
from engine.core.lang.syntax import Source
from engine.core.plan.exits import Failures, constant_of, grow
from engine.core.plan.label_places import BRANCH, LATER, OPEN, OTHER, LabelPlaces
from engine.core.plan.toolbox import is_literal
from engine.core.spec import codes, vocabulary
from engine.core.spec.fields import suggest
from engine.core.spec.steps import (
    ApproveStep,
    ErrorStep,
    EventStep,
    ForeachStep,
    IfElseStep,
    ListenStep,
    MapReduceStep,
    ParallelStep,
    RaceStep,
    ReturnStep,
    SleepStep,
    StepList,
    StepSpec,
    SwitchStep,
    UntilStep,
    WaitStep,
    WhileStep,
    YieldStep,
)
from engine.core.spec.walk import all_steps

_TAG = re.compile(r"\{[{%]")
_CLOSING = {"{{": "}}", "{%": "%}"}
_IN_TAG = re.compile(
    r"""(?<![\w.'"])(?:(?:inputs|outputs)\s*\[\s*(?P<older>[0-9]+)\s*\]|steps\s*(?:\[\s*(?:'(?P<one>[^'\\\n]*)'|"(?P<two>[^"\\\n]*)"|(?P<number>-?[0-9]+))\s*\]|\.\s*(?P<word>[A-Za-z_]\w*+)(?!\s*+\()))"""
)
_QUOTED = re.compile(r"""(?P<keep>\[\s*)?('[^'\\\n]*(?:\\.[^'\\\n]*)*'|"[^"\\\n]*(?:\\.[^"\\\n]*)*")""")
_METHODS = frozenset({"items", "keys", "values", "get"})
_STEP_NAMES = ("steps", "inputs", "outputs")
"""Names under which steps are found; the older spellings `inputs[…]` and `outputs[…]` also count from the end."""
_HIDDEN = MappingProxyType(
    {
        LATER: ("the step '{}' comes later, so it has no output at this place", "`_` is the output of the step before"),
        OPEN: ("'{}' is the step in which this stands, and has not ended yet", "`_` is its input"),
        BRANCH: (
            "'{}' is inside of an `over`, `parallel` or `race`, and only its own branch sees it",
            "the outputs of all branches are the output of that step: give it a label, or read `_` after it",
        ),
        OTHER: ("'{}' stands in another branch of the same step, and only one of them runs", ""),
    }
)
"""Why the output of a labelled step cannot be read, and what to do."""


def check_labels(name: str, steps: StepList, findings: Findings) -> frozenset[str]:
    """Report labels that stand twice in a named list.

    Returns:
        The labels of the list.
    """
    seen: dict[str, Position] = {}
    for step in all_steps(steps):
        if step.label is None:
            continue
        first = seen.get(step.label.text)
        if first is not None:
            findings.error(
                codes.DUPLICATE_LABEL,
                f"the label '{step.label.text}' stands twice in '{name}'; first at line {first.line}",
                step.label.position,
                path=f"{step.path}.label",
                hint="give one of the steps another label",
            )
        seen.setdefault(step.label.text, step.label.position)
    return frozenset(seen)


def check_calls(workflows: Mapping[str, StepList], findings: Findings, *, ending: StepList | None = None) -> None:
    """Report unknown sub-workflows, those that call each other for ever, and those that nothing runs.

    Args:
        workflows: The named lists.
        findings: Where to put what is wrong.
        ending: The steps of `finally`, which call sub-workflows too.
    """
    used: set[str] = set()
    for steps in workflows.values() if ending is None else [*workflows.values(), ending]:
        for step in all_steps(steps):
            if not isinstance(step, YieldStep) or not step.workflow.text:
                continue
            used.add(step.workflow.text)
            path = f"{step.path}.workflow"
            if step.workflow.text not in workflows and is_literal(step.workflow, "sub-workflow", path, findings):
                hint = suggest(findings, step.workflow.text, workflows)
                findings.error(
                    codes.UNKNOWN_WORKFLOW,
                    f"the task has no sub-workflow '{step.workflow.text[:60]}'",
                    step.workflow.position,
                    path=path,
                    hint=hint or "define it as a list of steps beside `main:`",
                )
    _check_endless(workflows, findings)
    for name, steps in workflows.items():
        if name != "main" and name not in used:
            message = f"no step runs the sub-workflow '{name}'"
            # a misspelt `finally` would be found out only when something has to be cleaned up
            hint = suggest(findings, name, vocabulary.TASK_KEYS)
            findings.warn(codes.UNUSED_WORKFLOW, message, steps.position, hint=hint, path=name)


def _check_endless(workflows: Mapping[str, StepList], findings: Findings) -> None:
    ending = _ending_workflows(workflows)
    reported: set[str] = set()
    for start in workflows:
        chain: list[str] = []
        calls: list[YieldStep] = []
        name = start
        while name not in ending and name not in chain and name not in reported:
            chain.append(name)
            call = next(
                step
                for step in all_steps(workflows[name])
                if isinstance(step, YieldStep) and step.workflow.text in workflows and step.workflow.text not in ending
            )
            calls.append(call)
            name = call.workflow.text
        reported.update(chain)
        if name in chain:
            first = chain.index(name)
            _report_cycle(workflows, chain[first:], calls[-1], findings)


def _report_cycle(workflows: Mapping[str, StepList], cycle: list[str], call: YieldStep, findings: Findings) -> None:
    chain = " → ".join([*cycle, cycle[0]])
    waits = any(
        isinstance(step, (WaitStep, ApproveStep, EventStep, ListenStep, SleepStep))
        for name in cycle
        for step in all_steps(workflows[name])
    )
    at, path = call.workflow.position, f"{call.path}.workflow"
    if waits:
        message = f"the sub-workflows call each other for ever: {chain}"
        hint = "each round makes the execution's state larger; end it with an `if` at some time"
        findings.warn(codes.WAITING_CYCLE, message, at, path=path, hint=hint)
        return
    hint = "put the call under an `if` or give it a `when`"
    if call.mods.on_error is not None:
        hint += "; no `on_error` catches calls that are nested too deeply"
    findings.error(codes.ENDLESS_CYCLE, f"this never ends, whatever the data: {chain}", at, path=path, hint=hint)


def _ending_workflows(workflows: Mapping[str, StepList]) -> set[str]:
    """Return the named lists that can come to an end by some way through their branches."""
    known = _Known(workflows, set(), Failures(workflows))

    def add(name: str) -> bool:
        if name in known.ending or not any(_ways(workflows[name], known)):
            return False
        known.ending.add(name)
        return True

    grow(workflows, add)
    return known.ending


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of the named lists: which of them can come to an end, and which steps may fail."""

    workflows: Mapping[str, StepList]
    ending: set[str]
    failures: Failures


def _ways(steps: StepList, known: _Known) -> tuple[bool, bool]:
    """Return whether control may fall through the list, and whether it may leave the named list from within."""
    leaves = False
    for step in steps.steps:
        through, out = _step_ways(step, known)
        leaves = leaves or out
        if not through:
            return False, leaves
    return True, leaves


def _step_ways(step: StepSpec, known: _Known) -> tuple[bool, bool]:
    through, out = True, False
    match step:
        case ReturnStep() | ErrorStep():
            through, out = False, True
        case YieldStep():
            through = step.workflow.text in known.ending or step.workflow.text not in known.workflows
        case IfElseStep():
            ways = [_ways(step.then, known)]
            ways.append((True, False) if step.otherwise is None else _ways(step.otherwise, known))
            through, out = any(way[0] for way in ways), any(way[1] for way in ways)
        case SwitchStep():
            ways = [_ways(case.then, known) for case in step.cases]
            if all(case.condition is not None for case in step.cases):
                ways.append((True, False))
            through, out = any(way[0] for way in ways), any(way[1] for way in ways)
        case ForeachStep() | WhileStep() | ListenStep():
            out = _ways(step.do, known)[1]
        case UntilStep():
            through, out = _ways(step.do, known)
        case MapReduceStep():
            out = _ways(step.map, known)[1]
        case ParallelStep():
            ways = [_ways(branch, known) for branch in step.branches]
            through, out = all(way[0] for way in ways), any(way[1] for way in ways)
        case RaceStep():
            ways = [_ways(branch, known) for branch in step.branches]
            through, out = not ways or any(way[0] for way in ways), any(way[1] for way in ways)
        case _:
            pass
    # calls that are nested too deeply end the execution, so that only another error leads into `on_error`
    if step.mods.on_error is not None and known.failures.may_fail(step):
        handled = _ways(step.mods.on_error, known)
        through, out = through or handled[0], out or handled[1]
    return through or (step.mods.when is not None and constant_of(step.mods.when) is not True), out


def check_ending(steps: StepList, findings: Findings, key: str = "finally") -> None:
    """Report what the steps of `finally` and `undo` must not do: decide how the execution ends."""
    for step in all_steps(steps):
        if isinstance(step, ReturnStep):
            findings.error(
                codes.RETURN_IN_FINALLY,
                f"'return' in '{key}' would hide how the execution ended",
                step.position,
                path=step.path,
                hint="use `evaluate` instead",
            )


@dataclass(frozen=True, slots=True)
class StepNames:
    """What a place in a named list knows of names and of steps; satisfies `Scope` of the resolver.

    Attributes:
        names: Root names.
        workflow: The named list.
        labels: Labels of the named list.
        count: Number of steps at its top level.
        index: Number of the top-level step in which the place is.
        own: Whether that step itself is in `steps` there: in the older dialects, and in its `undo`.
        findings: What was found so far.
        places: Where the labels stand.
        step: The innermost step around the place; None = outside of all.
    """

    names: Collection[str]
    workflow: str
    labels: frozenset[str]
    count: int
    index: int
    findings: Findings
    own: bool = False
    places: LabelPlaces | None = None
    step: StepSpec | None = None

    def check_steps(self, source: str, is_template: bool) -> Iterable[tuple[int, str, str]]:
        """Return (offset, message, hint) for each reference to a step that does not exist."""
        if "steps" not in self.names or not any(name in source for name in _STEP_NAMES):
            return []
        found = _in_template(source) if is_template else _in_expression(source)
        return [(offset, *problem) for offset, key in found for problem in self._problem(key)]

    def _problem(self, key: int | str) -> Iterator[tuple[str, str]]:
        if isinstance(key, str) and key.isdigit():
            key = int(key)
        if isinstance(key, str):
            if key not in self.labels and key not in _METHODS:
                hint = suggest(self.findings, key, self.labels) or "only labels of the same named list are visible"
                yield f"'{self.workflow}' has no step with the label '{key[:60]}'", hint
            elif (hidden := self._hidden(key)) in _HIDDEN:
                message, hint = _HIDDEN[hidden]
                yield message.format(key[:60]), hint
        elif key < 0:
            hint = "`_` is the output of the step before, outputs[-1] the last output of the list"
            yield f"steps are counted from the first one, so there is no steps[{key}]", hint
        elif key >= self.count:
            last = f"the last one is steps[{self.count - 1}]"
            yield f"'{self.workflow}' has {self.count} steps, so there is no steps[{key}]", last
        elif key > self.index:
            yield f"steps[{key}] has not run yet at this place, which is in step {self.index}", ""
        elif key == self.index and not self.own:
            yield f"steps[{key}] is the step in which this stands, and has not ended yet", "`_` is its input"

    def _hidden(self, label: str) -> str:
        if self.places is None or self.step is None:
            return ""
        why = self.places.hidden(label, self.step)
        return "" if why == OPEN and self.own else why


def _in_expression(source: str) -> list[tuple[int, int | str]]:
    text = Source(source)
    tree = text.parse()
    found: list[tuple[int, int | str]] = []
    for node in ast.walk(tree):
        base = node.value if isinstance(node, (ast.Subscript, ast.Attribute)) else None
        if not isinstance(base, ast.Name) or base.id not in _STEP_NAMES:
            continue
        offset = text.offset(base)
        if base.id != "steps":
            older = _literal_key(node.slice) if isinstance(node, ast.Subscript) else None
            if type(older) is int and older >= 0:
                found.append((offset, older))
        elif isinstance(node, ast.Attribute):
            found.append((offset, node.attr))
        elif isinstance(node, ast.Subscript):
            key = _literal_key(node.slice)
            if isinstance(key, str) or (isinstance(key, int) and not isinstance(key, bool)):
                found.append((offset, key))
    return sorted(found, key=lambda item: item[0])


def _literal_key(node: ast.expr) -> object:
    """Return the literal in brackets, also a negative number, or None."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
        return -node.operand.value if type(node.operand.value) is int else None
    return node.value if isinstance(node, ast.Constant) else None


def _in_template(source: str) -> list[tuple[int, int | str]]:
    found: list[tuple[int, int | str]] = []
    for start, tag in _tags(source):
        # quoted text is no code, except as a key in brackets
        code = _QUOTED.sub(lambda match: match.group() if match.group("keep") else " " * len(match.group()), tag)
        for match in _IN_TAG.finditer(code):
            key = next(value for value in match.groups() if value is not None)
            number = match.group("number") or match.group("older")
            found.append((start + match.start(), int(number) if number and len(number) < 10 else key))
    return found


def _tags(source: str) -> Iterator[tuple[int, str]]:
    """Yield (offset, text) of what stands between the marks of a template; ends where a mark is never closed."""
    at = 0
    while (opening := _TAG.search(source, at)) is not None:
        end = source.find(_CLOSING[opening.group()], opening.end())
        if end < 0:
            return
        yield opening.start(), source[opening.start() : end]
        at = end + 2
