"""Turns the values of a plan into JSON: what each expression sees, where its chance comes from. Workflow-safe."""

from __future__ import annotations

import datetime as dt
from typing import Any, assert_never

from engine.core.lang.context import EvalContext, Fuel
from engine.core.lang.expression import compile_expression
from engine.core.lang.secret import SECRETS, take_out
from engine.core.lang.template import compile_template
from engine.core.plan.computed import Arr, Expr, Lit, Obj, Tmpl, Value
from engine.core.plan.ir import Plan
from engine.core.plan.reach import secrets_in
from engine.core.run.frames import GuardFrame
from engine.core.run.julep_names import add_julep_name
from engine.core.run.scopes import Scope
from engine.core.run.state import Branch
from engine.core.values import Json

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Evaluator:
    """Evaluates plan values for one execution.

    Args:
        plan: The plan.
        execution_id: Root execution; seeds `random` and `uuid`.
        task_id: Id of the task, shown as `task.id`.
        seed: What seeds them in its place, of one that goes on with those of another.
    """

    def __init__(self, plan: Plan, execution_id: str, task_id: str, *, seed: str = "") -> None:
        self._seed = seed or execution_id
        self._julep = plan.dialect in ("julep-2024", "julep-2025")
        self._plain_names = plan.dialect == "julep-2024"
        self._constants: dict[str, Json] = {
            "agent": {**plan.agent.shown, "id": plan.agent.id, "name": plan.agent.name, "model": plan.agent.model},
            "task": {"id": task_id, "name": plan.task},
            "execution": {"id": execution_id},
        }
        self.now_us = 0
        self.times: dict[int, int] | None = None
        """Recorded time of branches that have one, by their numbers; it is not that of the present activation."""
        self._now = (0, _EPOCH)
        self.fuel_used = 0

    def show(self, name: str, value: Json) -> None:
        """Let all expressions from now on see a name."""
        self._constants[name] = value

    def evaluate(
        self, value: Value, branch: Branch, path: str, given: Json, extra: dict[str, Json] | None = None
    ) -> Json:
        """Return the JSON value of a plan value.

        Args:
            value: What to evaluate.
            branch: The branch whose scope is seen.
            path: Step path; with the place inside the value it seeds `random` and `uuid`.
            given: What `_` means.
            extra: Further names, such as `results`; with `secrets` the value may hold texts with secrets.

        Raises:
            ExpressionError: If an expression or template fails.
        """
        if isinstance(value, Lit):
            return value.value
        if isinstance(value, Expr):
            compiled = compile_expression(value.source)
            context = self._context(path, branch)
            result = compiled.evaluate(self._env(compiled.names, branch, given, extra), context)
            self._account(context)
            return result
        if isinstance(value, Tmpl):
            template = compile_template(value.source)
            context = self._context(path, branch)
            text = template.compose(self._env(template.names, branch, given, extra), context)
            self._account(context)
            return text
        if isinstance(value, Obj):
            return {
                key: self.evaluate(item, branch, f"{path}/{key}", given, extra) for key, item in value.items.items()
            }
        if isinstance(value, Arr):
            return [
                self.evaluate(item, branch, f"{path}/{index}", given, extra) for index, item in enumerate(value.items)
            ]
        assert_never(value)

    def arguments(self, value: Value, branch: Branch, path: str, given: Json) -> tuple[Json, list[dict[str, Json]]]:
        """Return the arguments of a call, and where which secrets belong in them (see `lang.secret.take_out`).

        Raises:
            ExpressionError: If an expression or template fails.
        """
        if not secrets_in(value):
            return self.evaluate(value, branch, path, given), []
        return take_out(self.evaluate(value, branch, path, given, {"secrets": SECRETS}))

    def truthy(self, condition: Expr, branch: Branch, path: str, given: Json) -> bool:
        """Return whether a condition holds.

        Raises:
            ExpressionError: If the expression fails.
        """
        compiled = compile_expression(condition.source)
        context = self._context(path, branch)
        result: bool = compiled.truthy(self._env(compiled.names, branch, given, None), context)
        self._account(context)
        return result

    def _context(self, path: str, branch: Branch) -> EvalContext:
        now_us = self.now_us if self.times is None else self.times.get(branch.id, self.now_us)
        if self._now[0] != now_us:
            self._now = (now_us, _EPOCH + dt.timedelta(microseconds=now_us))
        return EvalContext(now=self._now[1], seed=f"{self._seed}/{path}", fuel=Fuel())

    def _account(self, context: EvalContext) -> None:
        if context.fuel is not None:
            self.fuel_used += context.fuel.limit - context.fuel.left

    def _env(self, names: frozenset[str], branch: Branch, given: Json, extra: dict[str, Json] | None) -> dict[str, Any]:
        env: dict[str, Any] = {}
        for name in sorted(names):
            if name == "_":
                env["_"] = given
            elif extra is not None and name in extra:
                env[name] = extra[name]
            elif name in self._constants:
                env[name] = self._constants[name]
            else:
                _add_scope_name(env, name, branch)
                if self._julep:
                    add_julep_name(env, name, branch, given, plain=self._plain_names)
        return env


def _add_scope_name(env: dict[str, Any], name: str, branch: Branch) -> None:
    scope = branch.scope
    if name == "state":
        env[name] = scope.state
    elif name == "steps":
        env[name] = _steps(scope)
    elif name == "input":
        env[name] = scope.input
    elif name == "inputs":
        env[name] = [record["input"] for record in scope.steps]
    elif name == "outputs":
        env[name] = [record["output"] for record in scope.steps]
    elif name == "error":
        env[name] = current_error(branch)


def _steps(scope: Scope) -> dict[Any, Json]:
    # numbers and labels live side by side: labels are never all digits
    view: dict[Any, Json] = dict(enumerate(scope.steps))
    view.update(scope.labels)
    return view


def current_error(branch: Branch) -> dict[str, Json] | None:
    """Return the error that the innermost running `on_error` handles, or None outside of handlers."""
    for frame in reversed(branch.stack):
        if isinstance(frame, GuardFrame) and frame.phase == "handler":
            return frame.error
    return branch.error
