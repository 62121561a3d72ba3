"""Compiles the step that listens for messages and runs steps for each of them. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable

from engine.core.diagnostics import Findings
from engine.core.plan.checks import StepNames
from engine.core.plan.computed import Value
from engine.core.plan.ops import ListenOp
from engine.core.plan.resolve import Resolver
from engine.core.plan.schema_check import check_schema
from engine.core.plan.toolbox import is_literal
from engine.core.spec import vocabulary
from engine.core.spec.nodes import Node
from engine.core.spec.steps import ListenStep, StepList


def compile_listen(
    step: ListenStep,
    resolver: Resolver,
    scope: StepNames,
    findings: Findings,
    *,
    block: Callable[[str, StepList], int],
    seconds: Callable[[Node, str], Value],
) -> ListenOp:
    """Return the op of a step that listens.

    Args:
        step: The step.
        resolver: Reads expressions and values.
        scope: What the step's expressions see.
        findings: Where to put what is wrong.
        block: Compiles a list of steps under a name and returns the number of its block.
        seconds: Compiles a time in seconds that stands at a path.
    """
    path = f"{step.path}.listen"
    if step.schema is not None:
        check_schema(step.schema, findings, f"{path}.schema")
    if step.messages is not None:
        is_literal(step.messages, "inbox", f"{path}.messages", findings)
    name = vocabulary.DEFAULT_INBOX if step.messages is None else step.messages.text
    return ListenOp(
        do=block("do", step.do),
        messages=name,
        busy=step.busy,
        allow_busy=step.allow_busy,
        schema=None if step.schema is None else step.schema.value,
        until=None if step.until is None else resolver.expression(step.until, f"{path}.until", scope),
        idle=None if step.idle is None else seconds(step.idle, f"{path}.idle"),
        default=None if step.default is None else resolver.value(step.default, f"{path}.default", scope),
    )
