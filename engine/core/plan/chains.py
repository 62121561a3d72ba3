"""Compiles a contenox chain into a plan whose blocks jump to each other. Workflow-safe.

Each task becomes a block named after it: first its input, then what its handler does, then its variables in the state
(under its id, and as `previous_output`), so that the block's output is the task's. The branches become the block's
exits, `on_failure` its way out of a failure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from engine.core.diagnostics import Findings
from engine.core.errors import ExpressionSyntaxError
from engine.core.lang.template import compile_template
from engine.core.plan import chain_values as values
from engine.core.plan.chain_checks import check_branches, check_chain
from engine.core.plan.chain_handlers import HandlerCompiler, set_of
from engine.core.plan.computed import Expr, Lit, Tmpl, Value
from engine.core.plan.go_templates import GoTemplateError, translate
from engine.core.plan.ir import AgentSnapshot, Block, Exit, Plan, ToolContract
from engine.core.plan.ops import EvaluateOp, IfElseOp, LogOp, Op, SetOp
from engine.core.plan.policies import NO_MODIFIERS, Modifiers, RetryPolicy
from engine.core.plan.toolbox import Toolbox
from engine.core.spec import codes
from engine.core.spec.dialects.contenox import END, ChainSpec, ChainTaskSpec, Operator
from engine.core.spec.fields import suggest
from engine.core.spec.nodes import ScalarNode, position_at
from engine.core.spec.parts import NameSpec

ANY_FAILURE = ("backend", "tool", "task", "expression", "step")
"""A chain repeats a task whatever went wrong; but a call whose outcome is unknown is not made twice."""


def compile_chain(
    spec: ChainSpec,
    *,
    contracts: Mapping[str, ToolContract],
    agent: AgentSnapshot,
    name: str = "",
) -> tuple[Plan, Findings]:
    """Compile a chain.

    Args:
        spec: The chain.
        contracts: The operator's tools; those of a service `crm` are named `crm.…`.
        agent: The agent's settings; `AgentSnapshot()` for a chain without agent.
        name: What to call a chain without id.

    Returns:
        The plan, and what is wrong with the chain; with errors in the findings the plan must not be run.
    """
    findings = Findings()
    return _ChainCompiler(spec, contracts, findings).compile(agent, spec.id or name or "chain"), findings


def variable(name: str) -> str:
    """Return the expression of a chain's variable."""
    return "input" if name == "input" else f"state[{name!r}]"


class _ChainCompiler:
    def __init__(self, spec: ChainSpec, contracts: Mapping[str, ToolContract], findings: Findings) -> None:
        self.spec = spec
        self.findings = findings
        self.targets: dict[str, int] = {}
        for number, task in enumerate(spec.tasks):
            self.targets.setdefault(task.id.text, number)
        self.names = {"input", "previous_output", *self.targets}
        self.names.update(f"{task.id.text}_composed" for task in spec.tasks if task.compose is not None)
        self.blocks: list[Block] = [Block(task.id.text, ()) for task in spec.tasks]
        self.handlers = HandlerCompiler(spec, Toolbox((), contracts, findings), self._template, self._inner_block)

    def compile(self, agent: AgentSnapshot, name: str) -> Plan:
        check_chain(self.spec, self.findings)
        for number, task in enumerate(self.spec.tasks):
            check_branches(task, self.findings)
            self.blocks[number] = self._block(task)
        return Plan(
            task=name,
            blocks=tuple(self.blocks),
            workflows={"main": 0} if self.blocks else {},
            tools=dict(sorted(self.handlers.tools.items())),
            agent=agent,
            dialect="contenox",
        )

    # --- tasks ---

    def _block(self, task: ChainTaskSpec) -> Block:
        name = task.id.text
        ops: list[Op] = []
        given = self._input(task)
        if given is not None:
            ops.append(EvaluateOp(value=given))
        ops += self._guarded(task, self.handlers.ops(task))
        result = values.result_of(task)
        kept = [name, "previous_output"]
        if task.compose is not None:
            # the output changes, but branches compare the handler's own result
            ops.append(set_of({f"{name}:result": Expr(result), f"{name}:output": Expr("_")}))
            result = f"state[{f'{name}:result'!r}]"
            self._check_variable(task.compose.with_var, f"{task.path}.compose.with_var")
            ops.append(EvaluateOp(value=Expr("_" + f"[{f'{name}:output'!r}]")))
            other = variable(task.compose.with_var.text)
            ops.append(EvaluateOp(value=Expr(values.composed(other, task.compose.strategy))))
            kept.append(f"{name}_composed")
        ops.append(set_of({key: Expr("_") for key in kept}))
        ops.append(EvaluateOp(value=Expr("_.previous_output")))
        if task.print is not None:
            ops.append(LogOp(message=self._template(task.print, f"{task.path}.print", "")))
        return Block(name, tuple(ops), self._exits(task, result), self._on_failure(task))

    def _input(self, task: ChainTaskSpec) -> Value | None:
        """Return what the task's input is computed by; None if it is the output before, or null after a failure."""
        if task.input_var is not None and task.input_var.text:
            self._check_variable(task.input_var, f"{task.path}.input_var")
            given: Value | None = Expr(variable(task.input_var.text))
        else:
            given = None
        if task.prompt_template is not None:
            given = self._template(task.prompt_template, f"{task.path}.prompt_template", "")
        return given

    def _guarded(self, task: ChainTaskSpec, ops: list[Op]) -> list[Op]:
        """Put retry and time limit around all that the handler does; each attempt starts from the same input."""
        if not ops:
            ops = [EvaluateOp(value=Expr("_"))]
        mods = NO_MODIFIERS
        if task.retries or task.timeout_s is not None:
            retry = RetryPolicy(attempts=task.retries + 1, on=ANY_FAILURE) if task.retries else None
            mods = Modifiers(retry=retry, timeout_s=task.timeout_s)
            if len(ops) > 1:
                # there is no plain block of steps, so it stands behind a condition that always holds
                ops = [IfElseOp(condition=Expr("true"), then=self._inner_block("then", ops))]
        told = next(index for index, op in enumerate(ops) if not isinstance(op, SetOp))
        ops[told] = replace(ops[told], label=task.id.text, mods=mods)
        return ops

    def _inner_block(self, name: str, ops: list[Op]) -> int:
        self.blocks.append(Block(name, tuple(ops)))
        return len(self.blocks) - 1

    # --- jumps ---

    def _exits(self, task: ChainTaskSpec, result: str) -> tuple[Exit, ...]:
        exits: list[Exit] = []
        last: Exit | None = None
        for branch in task.branches:
            to = self._target(branch.goto, f"{branch.path}.goto")
            if branch.operator is Operator.DEFAULT:
                last = last or Exit(to)
                continue
            source = values.condition(branch, result)
            if source is None:
                self.findings.error(
                    codes.NOT_ONE_OF,
                    f"'{branch.when.text[:60]}' is nothing that '{branch.operator}' can compare with",
                    branch.when.position,
                    path=f"{branch.path}.when",
                    hint="write a number, or for in_range two numbers without sign, such as 0-10",
                )
                continue
            exits.append(Exit(to, Expr(source)))
        return (*exits, last) if last is not None else tuple(exits)

    def _target(self, goto: NameSpec, path: str) -> int | None:
        if goto.text in END:
            return None
        found = self.targets.get(goto.text)
        if found is None:
            self.findings.error(
                codes.UNKNOWN_TARGET,
                f"the chain has no task '{goto.text[:60]}'",
                goto.position,
                path=path,
                hint=suggest(self.findings, goto.text, self.targets) or "write the id of a task, or `end`",
            )
        return found

    def _on_failure(self, task: ChainTaskSpec) -> int | None:
        return None if task.on_failure is None else self._target(task.on_failure, f"{task.path}.transition.on_failure")

    # --- variables and templates ---

    def _check_variable(self, name: NameSpec, path: str) -> None:
        if name.text not in self.names:
            self.findings.error(
                codes.UNKNOWN_NAME,
                f"the chain has no variable '{name.text[:60]}'",
                name.position,
                path=path,
                hint=suggest(self.findings, name.text, self.names)
                or "variables are input, previous_output and task ids",
            )

    def _template(self, node: ScalarNode, path: str, root: str) -> Value:
        """Translate a Go template; with a root it stands for one value instead of all variables."""
        text = str(node.value)
        try:
            found = translate(text, variable, root)
        except GoTemplateError as error:
            code = codes.LATER if error.later else codes.BAD_TEMPLATE
            self.findings.error(code, error.message, position_at(node, error.offset), path=path)
            return Lit(text)
        if not found.literal:
            try:
                compile_template(found.source)
            except ExpressionSyntaxError as error:
                self.findings.error(codes.BAD_TEMPLATE, error.message, node.position, path=path, hint=error.hint)
        for name, offset in found.variables:
            self._check_variable(NameSpec(name, position_at(node, offset)), path)
        return Lit(text) if found.literal else Tmpl(found.source)
