"""Reads what a stored task says beside its plan, crons and triggers, and computes inputs and conditions of starts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from engine.core.diagnostics import Findings, Severity
from engine.core.errors import ExpressionError, InvalidInput
from engine.core.plan.checks import StepNames
from engine.core.plan.codec import plan_from_json
from engine.core.plan.computed import Expr, Value
from engine.core.plan.dialects import make_resolver
from engine.core.plan.ir import Plan
from engine.core.plan.resolve import Resolver
from engine.core.run.evaluate import Evaluator
from engine.core.run.scopes import Scope
from engine.core.run.state import Branch
from engine.core.spec.dialects.choice import dialect_of
from engine.core.spec.nodes import Node
from engine.core.spec.read import read_task
from engine.core.values import Json, canonical_json
from engine.source.parse import parse_source
from engine.store.definitions import TaskFacts

MOST_KEPT = 500
"""Tasks whose dispatch a process keeps in memory."""
VALUE_NAMES = frozenset({"_"})
NO_NAMES: frozenset[str] = frozenset()
_EMPTY = Plan(task="", blocks=(), workflows={})


@dataclass(frozen=True, slots=True)
class Trigger:
    """An event that starts executions of a task: its name, a condition and the input, both over its value `_`."""

    event: str
    condition: Expr | None
    input: Value | None


@dataclass(frozen=True, slots=True)
class Cron:
    """Times at which executions of a task start; the input is None for {}."""

    at: str
    timezone: str
    input: Value | None


@dataclass(frozen=True, slots=True)
class Dispatched:
    """What starts executions of a version of a task."""

    triggers: tuple[Trigger, ...] = ()
    crons: tuple[Cron, ...] = ()


def read_dispatched(task: TaskFacts) -> Dispatched:
    """Read the triggers and crons of a stored task, in its dialect."""
    root = parse_source(task.source, "task")
    dialect = dialect_of(root, plan_from_json(task.plan).dialect)
    if dialect == "contenox":
        return Dispatched()
    spec, findings = read_task(root, dialect)
    if spec.dispatch is None:
        return Dispatched()
    resolver = make_resolver(spec, findings)
    value_scope, no_scope = _scope(VALUE_NAMES, findings), _scope(NO_NAMES, findings)
    triggers = [
        Trigger(
            event=str(item.event.value),
            condition=None
            if item.condition is None
            else resolver.expression(item.condition, f"{item.path}.if", value_scope),
            input=None if item.input is None else resolver.value(item.input, f"{item.path}.input", value_scope),
        )
        for item in spec.dispatch.triggers
    ]
    crons = [
        Cron(
            at=str(item.at.value),
            timezone="UTC" if item.timezone is None else str(item.timezone.value or "UTC"),
            input=None if item.input is None else resolver.value(item.input, f"{item.path}.input", no_scope),
        )
        for item in spec.dispatch.crons
    ]
    return Dispatched(tuple(triggers), tuple(crons))


def _scope(names: Collection[str], findings: Findings) -> StepNames:
    return StepNames(names, "dispatch", frozenset(), 0, 0, findings)


class DispatchCache:
    """Remembers what versions of tasks say; a version never changes its `dispatch`."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str, int], Dispatched] = OrderedDict()

    def of(self, task: TaskFacts) -> Dispatched:
        """Return what a version of a task says."""
        key = (task.tenant, task.id, task.version)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = read_dispatched(task)
            if len(self._known) > MOST_KEPT:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return found


def read_value(given: Json, *, where: str) -> Value:
    """Read a JSON value whose texts with `$ ` are computed, where nothing but functions may be named.

    Raises:
        InvalidInput: `expression.invalid` if something in it cannot be computed.
    """
    findings = Findings()
    node: Node = parse_source(canonical_json(given), "value.json")
    value = Resolver(findings).value(node, where, _scope(NO_NAMES, findings))
    _refuse(findings, where)
    return value


def read_expression(source: str, *, where: str) -> Expr:
    """Read an expression over `_`.

    Raises:
        InvalidInput: `expression.invalid`.
    """
    findings = Findings()
    node = parse_source(canonical_json(source), "value.json")
    found = Resolver(findings).expression(node, where, _scope(VALUE_NAMES, findings))
    _refuse(findings, where)
    return found


def _refuse(findings: Findings, where: str) -> None:
    wrong = [item for item in findings.items if item.severity is Severity.ERROR]
    if wrong:
        raise InvalidInput(
            f"`{where}` cannot be computed: {wrong[0].message}", code="expression.invalid", hint=wrong[0].hint
        )


class Computing:
    """Computes values outside of an execution.

    Args:
        plan: The plan of the task that shall be started; None = there is none.
        seed: What `random` and `uuid` are made of.
        now_us: The time that `now()` gives.
    """

    def __init__(self, plan: Plan | None, seed: str, now_us: int) -> None:
        self._evaluator = Evaluator(plan or _EMPTY, seed, "")
        self._evaluator.now_us = now_us

    def value(self, value: Value, given: Json, where: str) -> Json:
        """Return a value.

        Raises:
            ExpressionError: It cannot be computed.
        """
        return self._evaluator.evaluate(value, _nowhere(given), where, given)

    def holds(self, condition: Expr, given: Json, where: str) -> bool:
        """Return whether a condition holds.

        Raises:
            ExpressionError: It cannot be computed.
        """
        return self._evaluator.truthy(condition, _nowhere(given), where, given)


def _nowhere(given: Json) -> Branch:
    return Branch(0, None, [], [Scope("", "dispatch", given)])


def computed_input(value: Value, computing: Computing, given: Json, where: str) -> Any:
    """Return an input that is computed.

    Raises:
        InvalidInput: `expression.failed` and its like, with the place.
    """
    try:
        return computing.value(value, given, where)
    except ExpressionError as error:
        raise InvalidInput(f"{where}: {error.message}", code=error.code, hint=error.hint) from error
