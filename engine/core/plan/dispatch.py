"""Checks what the `dispatch` block of a task computes and names, and says how two blocks differ. Workflow-safe.

Nothing of it enters the plan: what starts executions may change without a new meaning of the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

from engine.core.diagnostics import Findings, Position
from engine.core.plan.checks import StepNames
from engine.core.plan.computed import Lit
from engine.core.plan.dialects import make_resolver
from engine.core.plan.resolve import INPUT_NAMES, Resolver
from engine.core.schemas import schema_problems, value_problems
from engine.core.spec import codes
from engine.core.spec.dispatch import CronSpec, DispatchSpec, TriggerSpec
from engine.core.spec.fields import suggest
from engine.core.spec.model import TaskSpec
from engine.core.spec.nodes import Node, ScalarNode
from engine.core.values import Json, compact_json

Zones = Callable[[], Collection[str]]
"""Returns the names of all time zones; none if they are not known here."""

VALUE_NAMES = frozenset({"_"})
"""What a trigger sees: the event's value."""


def check_dispatch(task: TaskSpec, zones: Zones) -> Findings:
    """Check the expressions, time zones and inputs of a `dispatch` block.

    Args:
        task: The task.
        zones: Asked only if the block names a time zone.

    Returns:
        What is wrong.
    """
    findings = Findings()
    if task.dispatch is not None:
        _Checker(task, make_resolver(task, findings), zones, findings).check(task.dispatch)
    return findings


class _Checker:
    def __init__(self, task: TaskSpec, resolver: Resolver, zones: Zones, findings: Findings) -> None:
        self.task = task
        self.resolver = resolver
        self.zones = zones
        self.findings = findings

    def check(self, dispatch: DispatchSpec) -> None:
        for trigger in dispatch.triggers:
            self._trigger(trigger)
        for cron in dispatch.crons:
            self._cron(cron)
        for name, part in (
            ("debounce", dispatch.debounce),
            ("collect", dispatch.collect),
            ("singleton", dispatch.singleton),
            ("concurrency", dispatch.concurrency),
        ):
            if part is not None and part.key is not None:
                self.resolver.expression(part.key, f"dispatch.admission.{name}.key", self._scope(INPUT_NAMES))

    def _scope(self, names: Collection[str]) -> StepNames:
        return StepNames(names, "dispatch", frozenset(), 0, 0, self.findings)

    def _trigger(self, trigger: TriggerSpec) -> None:
        scope = self._scope(VALUE_NAMES)
        if trigger.condition is not None:
            self.resolver.expression(trigger.condition, f"{trigger.path}.if", scope)
        if trigger.input is not None:
            self._input(trigger.input, trigger.path, scope)

    def _cron(self, cron: CronSpec) -> None:
        if cron.timezone is not None and cron.timezone.value:
            self._zone(cron.timezone, f"{cron.path}.timezone")
        if cron.input is None:
            self._check_input(
                {}, "a cron without an `input` starts the task with {}, which", cron.at.position, cron.path
            )
        else:
            self._input(cron.input, cron.path, self._scope(frozenset()))

    def _zone(self, node: ScalarNode, path: str) -> None:
        name, known = str(node.value), self.zones()
        if known and name not in known:
            hint = suggest(self.findings, name, known) or "write a name such as Europe/Berlin"
            message = f"there is no time zone '{name[:60]}'"
            self.findings.error(codes.NOT_ONE_OF, message, node.position, path=path, hint=hint)

    def _input(self, node: Node, path: str, scope: StepNames) -> None:
        value = self.resolver.value(node, f"{path}.input", scope)
        if isinstance(value, Lit):
            self._check_input(value.value, "the input", node.position, f"{path}.input")

    def _check_input(self, value: Json, what: str, at: Position, path: str) -> None:
        schema = None if self.task.input_schema is None else self.task.input_schema.value
        # a schema that is wrong itself is reported where it stands
        if schema is None or schema_problems(schema):
            return
        problems = value_problems(value, schema)
        if problems:
            message = f"{what} does not fit `input_schema`: {'; '.join(problems)}"
            self.findings.error(codes.BAD_ARGUMENTS, message[:500], at, path=path)


# --- difference ----------------------------------------------------------------------------------------------------


def dispatch_changes(before: Json, after: Json) -> list[str]:
    """Say in words how a `dispatch` block differs from an older one, both as their authors wrote them.

    Args:
        before: The older block; None = there was none.
        after: The newer one; None = there is none.
    """
    return list(_changes(before if before is not None else {}, after if after is not None else {}, ""))


def _changes(before: Any, after: Any, path: str) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*after, *(key for key in before if key not in after)]:
            where = f"{path}.{key}" if path else key
            if key not in before:
                yield f"`{where}` is new: {_short(after[key])}"
            elif key not in after:
                yield f"`{where}` is gone; it was {_short(before[key])}"
            else:
                yield from _changes(before[key], after[key], where)
    elif before != after or type(before) is not type(after):
        yield f"`{path}` is {_short(after)}, was {_short(before)}"


def _short(value: Json) -> str:
    text = compact_json(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
