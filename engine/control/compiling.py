"""The use case "compile a text": source to tree to task to plan, with everything that is wrong said at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Any
from zoneinfo import available_timezones

from engine.control.toolrules import offered_to
from engine.core.diagnostics import Diagnostic, Findings, Severity
from engine.core.errors import CompileError
from engine.core.kinds import Dialect
from engine.core.plan.chains import compile_chain
from engine.core.plan.compile import compile_task
from engine.core.plan.dispatch import check_dispatch
from engine.core.plan.ir import AgentSnapshot, Plan, ToolContract
from engine.core.plan.planned import CHAIN, refuse_planned
from engine.core.plan.planned_checks import report_planned
from engine.core.spec import codes
from engine.core.spec.dialects.choice import dialect_of
from engine.core.spec.dialects.contenox_read import read_chain
from engine.core.spec.nodes import Node, node_to_json
from engine.core.spec.read import read_task
from engine.core.spec.read_inherited import with_inherited
from engine.core.values import Json
from engine.source.parse import parse_source

MAX_DIAGNOSTICS = 500
"""Findings that are handed out; a source of 1 MB can have 100,000, and printing them all helps nobody."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """A task that may be run.

    Attributes:
        plan: The plan.
        spec: The task as its author wrote it, as plain JSON.
        warnings: What is doubtful about it.
        file: Name of its source.
        source: Its source.
    """

    plan: Plan
    spec: dict[str, Any]
    warnings: list[Diagnostic]
    file: str = ""
    source: str = ""

    def check_runs(self) -> None:
        """Refuse to run a task of which this engine can only make the plan.

        Raises:
            CompileError: `task.not_runnable` with the findings that say where.
        """
        planned = [item for item in self.warnings if item.code == codes.PLANNED]
        refuse_planned(self.plan, diagnostics=planned, file=self.file, source=self.source)


def compile_text(
    text: str,
    *,
    file: str = "task",
    contracts: Mapping[str, ToolContract],
    agent: AgentSnapshot = AgentSnapshot(),  # noqa: B008 - frozen
    dialect: Dialect = "everstep",
    tenant: str | None = None,
    name: str = "",
    inherited: Sequence[Mapping[str, Json]] = (),
) -> Compiled:
    """Compile the text of a task.

    Args:
        text: YAML or JSON.
        file: Name of the source for messages; a task without a name is called after it.
        contracts: The operator's tools by name.
        agent: The settings of the agent the task belongs to.
        dialect: What the text is read as if it has no key `dialect`.
        tenant: Whose task it is; None = nobody's, who may name all tools.
        name: What a task without a name is called; empty = after its file.
        inherited: Tools of its agent, as Julep's clients define them; it takes them over if it says so.

    Returns:
        The plan, the task as JSON, and the warnings.

    Raises:
        SourceError: The text cannot be read.
        CompileError: It can be read, but is no task that makes sense; carries all findings, errors and warnings.
    """
    doubled = Findings()
    root = parse_source(text, file, doubled)
    return compile_tree(
        root,
        source=text,
        file=file,
        contracts=contracts,
        agent=agent,
        dialect=dialect,
        read=doubled.items,
        tenant=tenant,
        name=name,
        inherited=inherited,
    )


def compile_tree(
    root: Node,
    *,
    source: str,
    file: str,
    contracts: Mapping[str, ToolContract],
    agent: AgentSnapshot = AgentSnapshot(),  # noqa: B008 - frozen
    dialect: Dialect = "everstep",
    read: Sequence[Diagnostic] = (),
    tenant: str | None = None,
    name: str = "",
    inherited: Sequence[Mapping[str, Json]] = (),
) -> Compiled:
    """Compile the tree of a task, whatever it was read from.

    Args:
        root: The tree; its places lie in the source.
        source: Text that is shown with findings.
        file: As for `compile_text`.
        contracts: As for `compile_text`.
        agent: As for `compile_text`.
        dialect: As for `compile_text`.
        read: What its reader found wrong with it, to be reported along with everything else.
        tenant: As for `compile_text`.
        name: As for `compile_text`.
        inherited: As for `compile_text`.

    Raises:
        CompileError: As by `compile_text`.
    """
    name = name or PurePath(file).stem or "task"
    dialect = dialect_of(root, dialect)
    contracts = offered_to(contracts, tenant)
    if dialect == "contenox":
        plan, items = _compile_chain(root, name, contracts, agent)
    else:
        plan, items = _compile_task(root, dialect, name, contracts, agent, inherited)
    found = sorted(
        [*read, *items],
        key=lambda item: (item.position.line, item.position.column, item.code, item.path),
    )
    errors = [item for item in found if item.severity is Severity.ERROR]
    if errors:
        # what a broken step does not name is not unused
        found = [item for item in found if item.code != codes.UNUSED_WORKFLOW]
        count = "1 error" if len(errors) == 1 else f"{len(errors):,} errors"
        if len(found) > MAX_DIAGNOSTICS:
            count += f" (the first {MAX_DIAGNOSTICS} findings are shown)"
        raise CompileError(
            f"{file}: {count}; first: {errors[0].message}",
            hint=errors[0].hint,
            diagnostics=found[:MAX_DIAGNOSTICS],
            file=file,
            source=source,
        )
    written: dict[str, Any] = node_to_json(root)
    if dialect != "everstep" and not written.get("dialect"):
        # whoever reads the task back must not take it for one of another dialect
        written = {**written, "dialect": dialect}
    return Compiled(plan, written, found, file, source)


def _compile_task(
    root: Node,
    dialect: Dialect,
    name: str,
    contracts: Mapping[str, ToolContract],
    agent: AgentSnapshot,
    inherited: Sequence[Mapping[str, Json]],
) -> tuple[Plan, list[Diagnostic]]:
    spec, findings = read_task(root, dialect)
    spec = with_inherited(spec, inherited, findings)
    if not spec.name:
        spec = replace(spec, name=name)
    plan, more = compile_task(spec, contracts=contracts, agent=agent)
    beside = check_dispatch(spec, available_timezones)
    return plan, [*findings.items, *more.items, *beside.items]


def _compile_chain(
    root: Node, name: str, contracts: Mapping[str, ToolContract], agent: AgentSnapshot
) -> tuple[Plan, list[Diagnostic]]:
    spec, findings = read_chain(root)
    plan, more = compile_chain(spec, contracts=contracts, agent=agent, name=name)
    report_planned(CHAIN, findings, spec.position, "")
    return plan, [*findings.items, *more.items]
