"""Compiles a task into a plan: flat blocks of ops, with values and tools resolved and all checked. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

from engine.core.diagnostics import Findings
from engine.core.kinds import JULEP_NAMES
from engine.core.plan.agents import ToolStepCompiler, compile_approval
from engine.core.plan.authority import check_reach, compile_allow
from engine.core.plan.blocks import BlockCompiler
from engine.core.plan.cache_checks import check_caches
from engine.core.plan.checks import StepNames, check_calls, check_ending, check_labels
from engine.core.plan.computed import Expr, Lit, Obj, Value
from engine.core.plan.dialects import make_resolver
from engine.core.plan.exits import check_reachable
from engine.core.plan.ir import AgentSnapshot, Block, Limits, Plan, Requirement, ToolContract
from engine.core.plan.label_places import LabelPlaces
from engine.core.plan.listens import compile_listen
from engine.core.plan.ops import (
    ApproveOp,
    ErrorOp,
    EvaluateOp,
    EventOp,
    GetOp,
    LogOp,
    Op,
    ReturnOp,
    SetOp,
    SleepOp,
    TaskOp,
    ToolCallOp,
    WaitOp,
    YieldOp,
)
from engine.core.plan.policies import NO_MODIFIERS, Cache, Check, Modifiers, RetryPolicy
from engine.core.plan.prompts import compile_prompt
from engine.core.plan.race_check import check_races
from engine.core.plan.resolve import (
    ARGUMENT_NAMES,
    ENDING_NAMES,
    ERROR_NAMES,
    INPUT_NAMES,
    REDUCE_NAMES,
    ROOT_NAMES,
    SECRETS_NAME,
    Role,
)
from engine.core.plan.schema_check import check_schema, check_value
from engine.core.plan.secret_spec import check_no_client_sees
from engine.core.plan.state_keys import check_state_keys
from engine.core.plan.toolbox import Toolbox, is_literal
from engine.core.spec import codes, vocabulary
from engine.core.spec.fields import MAX_DURATION_S, parse_duration
from engine.core.spec.model import LimitsSpec, TaskSpec
from engine.core.spec.nodes import MapNode, Node, ScalarNode, describe
from engine.core.spec.parts import CacheSpec
from engine.core.spec.steps import (
    AgentStep,
    ApproveStep,
    EmbedStep,
    ErrorStep,
    EvaluateStep,
    EventStep,
    GetStep,
    ListenStep,
    LogStep,
    ModifiersSpec,
    PromptStep,
    ReturnStep,
    SearchStep,
    SetStep,
    SleepStep,
    StepList,
    StepSpec,
    TaskStep,
    ToolCallStep,
    WaitStep,
    YieldStep,
)
from engine.core.values import Json

OnFail = Literal["repair", "error", "ask"]

_TIMES = {
    "sleep": "write a duration such as `sleep: 30s`, or `sleep: {seconds: 30}`, or `sleep: $ _.pause`",
    "deadline": "write a duration such as `24h`, or an expression that gives seconds or a duration",
    "idle": "write a duration such as `7d`, or an expression that gives seconds or a duration",
}
APPROVAL: Json = {
    "type": "object",
    "properties": {"approved": {"type": "boolean"}, "reason": {"type": "string"}},
    "required": ["approved"],
}
"""What an approval must look like if its step has no schema."""
MAX_OPS = 20_000
"""Steps of one task, inner ones included; the plan travels in the input of each of its executions."""


def compile_task(
    spec: TaskSpec, *, contracts: Mapping[str, ToolContract], agent: AgentSnapshot
) -> tuple[Plan, Findings]:
    """Compile a task.

    Args:
        spec: The task.
        contracts: The operator's tools by name.
        agent: The agent's settings; `AgentSnapshot()` for a task without agent.

    Returns:
        The plan, and what is wrong with the task; with errors in the findings the plan must not be run.
    """
    findings = Findings()
    return _Compiler(spec, contracts, findings).compile(agent), findings


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a step stands: what its expressions see, with and without being inside an `on_error`."""

    scope: StepNames

    def at(self, step: StepSpec, index: int | None) -> _Place:
        return _Place(replace(self.scope, step=step, index=self.scope.index if index is None else index))

    def in_handler(self) -> _Place:
        return _Place(replace(self.scope, names=frozenset(self.scope.names) | ERROR_NAMES))

    def reducing(self) -> StepNames:
        return replace(self.scope, names=frozenset(self.scope.names) | REDUCE_NAMES)


class _Compiler:
    def __init__(self, spec: TaskSpec, contracts: Mapping[str, ToolContract], findings: Findings) -> None:
        self.spec = spec
        self.findings = findings
        self.resolver = make_resolver(spec, findings)
        self.toolbox = Toolbox(spec.tools, contracts, findings)
        self.blocks: list[Block] = []
        self.ops = 0
        self.steps: list[tuple[StepSpec, Op]] = []
        self.tools: dict[str, ToolContract] = {}
        self._hold_tools()

    def _hold_tools(self) -> None:
        scope = StepNames(ARGUMENT_NAMES, "tools", frozenset(), 0, 0, self.findings)
        times = self._times(_Place(scope))
        for tool in self.spec.tools:
            if tool.approve is not None:
                approval = compile_approval(tool.approve, f"{tool.path}.approve", self.resolver, scope, times)
                self.toolbox.hold(tool.name.text, approval)

    def compile(self, agent: AgentSnapshot) -> Plan:
        if self.spec.input_schema is not None:
            check_schema(self.spec.input_schema, self.findings, "input_schema")
        workflows = {name: self._named_list(name, steps) for name, steps in self.spec.workflows.items()}
        check_reachable(self.spec.workflows, self.findings, ending=self.spec.ending)
        ending = self._ending()
        check_calls(self.spec.workflows, self.findings, ending=self.spec.ending)
        check_races(self.spec.workflows, self.tools, self.findings, tuple(self.toolbox.own))
        check_caches(self.spec, self.tools, self.findings)
        if self.spec.dialect == "everstep":
            check_state_keys(self.spec.workflows, self.findings)
        if self.ops > MAX_OPS:
            message = f"the task has {self.ops:,} steps, more than {MAX_OPS:,}"
            self.findings.error(codes.PLAN_TOO_LARGE, message, hint="use loops, or split it into several tasks")
        plan = Plan(
            task=self.spec.name or "task",
            blocks=tuple(self.blocks),
            workflows=workflows,
            tools=dict(sorted(self.tools.items())),
            agent=agent,
            input_schema=None if self.spec.input_schema is None else self.spec.input_schema.value,
            limits=_limits(self.spec.limits),
            require=self._requirements(),
            ending=ending,
            allow=compile_allow(self.spec.allow, self.findings),
            dialect=self.spec.dialect,
        )
        check_reach(plan, self.steps, self.spec, self.findings)
        return plan

    def _ending(self) -> int | None:
        steps = self.spec.ending
        if steps is None:
            return None
        check_ending(steps, self.findings)
        return self._named_list("finally", steps, ENDING_NAMES)

    def _requirements(self) -> tuple[Requirement, ...]:
        scope = StepNames(INPUT_NAMES, "require", frozenset(), 0, 0, self.findings)
        found: list[Requirement] = []
        for index, item in enumerate(self.spec.require):
            path = f"require[{index}]"
            condition = self.resolver.expression(item.condition, f"{path}.if", scope)
            message: Value = Lit(f"`{condition.source}` does not hold")
            if item.message is not None:
                message = self.resolver.value(item.message, f"{path}.message", scope, Role.PROSE)
            found.append(Requirement(condition, message))
        return tuple(found)

    # --- lists and modifiers ---

    def _named_list(self, name: str, steps: StepList, names: frozenset[str] = ROOT_NAMES) -> int:
        labels = check_labels(name, steps, self.findings)
        own = self.spec.dialect != "everstep"
        names = names | JULEP_NAMES if own else names
        scope = StepNames(names, name, labels, len(steps.steps), 0, self.findings, own, LabelPlaces(steps))
        return self._block(name, steps, _Place(scope), top=True)

    def _block(self, name: str, steps: StepList, place: _Place, *, top: bool = False) -> int:
        number = len(self.blocks)
        self.blocks.append(Block(name, ()))
        self.ops += len(steps.steps)
        ops = tuple(self._op(step, place.at(step, index if top else None)) for index, step in enumerate(steps.steps))
        self.blocks[number] = Block(name, ops)
        return number

    def _modifiers(self, step: StepSpec, place: _Place) -> Modifiers:
        mods: ModifiersSpec = step.mods
        if mods == ModifiersSpec():
            return NO_MODIFIERS
        return Modifiers(
            when=None if mods.when is None else self.resolver.expression(mods.when, f"{step.path}.when", place.scope),
            cache=None if mods.cache is None else self._cache(mods.cache, f"{step.path}.cache", place),
            retry=None
            if mods.retry is None
            else RetryPolicy(
                mods.retry.attempts, mods.retry.initial_s, mods.retry.factor, mods.retry.max_s, mods.retry.on
            ),
            timeout_s=mods.timeout_s,
            total_timeout_s=mods.total_timeout_s,
            on_error=None if mods.on_error is None else self._block("on_error", mods.on_error, place.in_handler()),
            checks=tuple(self._check(step, number, place) for number in range(len(mods.checks))),
            undo=None if mods.undo is None else self._undo(mods.undo, place),
        )

    def _cache(self, cache: CacheSpec, path: str, place: _Place) -> Cache:
        return Cache(cache.ttl_s, None if cache.key is None else self._value(cache.key, f"{path}.key", place))

    def _undo(self, steps: StepList, place: _Place) -> int:
        check_ending(steps, self.findings, "undo")
        return self._block("undo", steps, _Place(replace(place.scope, own=True)))

    def _check(self, step: StepSpec, number: int, place: _Place) -> Check:
        check, path = step.mods.checks[number], f"{step.path}.check[{number}]"
        condition = self.resolver.expression(check.condition, f"{path}.if", place.scope)
        message: Value = Lit(f"`{condition.source}` does not hold")
        if check.message is not None:
            message = self.resolver.value(check.message, f"{path}.message", place.scope, Role.PROSE)
        default = "repair" if step.kind in vocabulary.REPAIRING_KINDS else "error"
        return Check(condition, message, cast("OnFail", check.on_fail or default))

    # --- steps ---

    def _op(self, step: StepSpec, place: _Place) -> Op:
        op = self._plain_op(step, place)
        # inner lists of the step itself come before its on_error, as in the source
        label = "" if step.label is None else step.label.text
        op = replace(op, label=label, mods=self._modifiers(step, place))
        self.steps.append((step, op))
        return op

    def _plain_op(self, step: StepSpec, place: _Place) -> Op:
        match step:
            case EvaluateStep():
                return EvaluateOp(value=self._value(step.value, f"{step.path}.evaluate", place))
            case ReturnStep():
                return ReturnOp(value=self._value(step.value, f"{step.path}.return", place))
            case SetStep():
                return SetOp(values=self._object(step.values, f"{step.path}.set", "set", place))
            case GetStep():
                return GetOp(key=self._text(step.key, f"{step.path}.get", "get", place, Role.SETTING))
            case ErrorStep():
                return ErrorOp(message=self._text(step.message, f"{step.path}.error", "error", place, Role.PROSE))
            case PromptStep():
                return compile_prompt(step, self.resolver, self.toolbox, place.scope)
            case ToolCallStep():
                return self._tool_call(step, place)
            case AgentStep():
                return self._tool_steps(place).agent(step)
            case EmbedStep():
                return self._tool_steps(place).embed(step)
            case SearchStep():
                return self._tool_steps(place).search(step)
            case YieldStep():
                arguments = self.resolver.arguments(step.arguments, f"{step.path}.arguments", place.scope)
                return YieldOp(workflow=step.workflow.text, arguments=arguments)
            case TaskStep():
                return self._task(step, place)
            case WaitStep() | ApproveStep() | EventStep():
                return self._wait(step, place)
            case ListenStep():
                return self._listen(step, place)
            case LogStep():
                return LogOp(message=self.resolver.value(step.message, f"{step.path}.log", place.scope, Role.PROSE))
            case SleepStep():
                return SleepOp(seconds=self._seconds(step.parts, f"{step.path}.sleep", place))
            case _:
                compiler = BlockCompiler(
                    self.resolver, place.scope, place.reducing(), lambda name, steps: self._block(name, steps, place)
                )
                return compiler.compile(step)

    def _tool_steps(self, place: _Place) -> ToolStepCompiler:
        return ToolStepCompiler(self.resolver, self.toolbox, place.scope, self.tools, self._times(place))

    def _times(self, place: _Place) -> Callable[[Node, str], Value]:
        return lambda node, path: self._seconds(((node, 1.0),), path, place)

    def _listen(self, step: ListenStep, place: _Place) -> Op:
        def block(name: str, steps: StepList) -> int:
            return self._block(name, steps, place)

        return compile_listen(step, self.resolver, place.scope, self.findings, block=block, seconds=self._times(place))

    def _tool_call(self, step: ToolCallStep, place: _Place) -> Op:
        path = f"{step.path}.arguments"
        scope = replace(place.scope, names=frozenset(place.scope.names) | {SECRETS_NAME})
        arguments = self.resolver.arguments(step.arguments, path, scope)
        contract = self.toolbox.callable_tool(step.tool, f"{step.path}.tool")
        if contract is not None:
            check_no_client_sees(contract, arguments, step, self.findings)
            self.tools[contract.name] = contract
            self.toolbox.check_arguments(contract, arguments, step.arguments, path)
        return ToolCallOp(tool=step.tool.text, arguments=arguments)

    def _task(self, step: TaskStep, place: _Place) -> Op:
        # whether there is such a task shows when the step runs: it may be created, or get another version, until then
        is_literal(step.task, "task", f"{step.path}.task", self.findings)
        name = step.task.text if step.version is None else f"{step.task.text}@{step.version}"
        return TaskOp(
            task=name, arguments=self.resolver.arguments(step.arguments, f"{step.path}.arguments", place.scope)
        )

    def _wait(self, step: WaitStep | ApproveStep | EventStep, place: _Place) -> Op:
        path = step.path if isinstance(step, EventStep) else f"{step.path}.{step.kind.value}"
        fits = step.schema is None or check_schema(step.schema, self.findings, f"{path}.schema")
        deadline = None if step.deadline is None else self._seconds(((step.deadline, 1.0),), f"{path}.deadline", place)
        default = None if step.default is None else self._value(step.default, f"{path}.default", place)
        schema = None if step.schema is None else step.schema.value
        if isinstance(step, EventStep):
            key = Lit(None) if step.key is None else self._value(step.key, f"{path}.key", place)
            return EventOp(event=step.event.text, key=key, schema=schema, deadline=deadline, default=default)
        # the old dialects have no approve: its text is meant for a person; their wait_for_input has data
        role = Role.PROSE if isinstance(step, ApproveStep) else Role.DATA
        info = Lit(None) if step.info is None else self.resolver.value(step.info, f"{path}.info", place.scope, role)
        if isinstance(step, ApproveStep):
            schema = APPROVAL if schema is None else schema
            # other waits may have a default that no answer can be, to tell that none came; null says so everywhere
            if fits and step.default is not None and isinstance(default, Lit) and default.value is not None:
                check_value(default.value, schema, step.default, self.findings, f"{path}.default")
            return ApproveOp(info=info, schema=schema, deadline=deadline, default=default)
        return WaitOp(info=info, schema=schema, deadline=deadline, default=default)

    # --- values ---

    def _value(self, node: Node, path: str, place: _Place) -> Value:
        return self.resolver.value(node, path, place.scope)

    def _object(self, node: Node, path: str, key: str, place: _Place) -> Value:
        value = self._value(node, path, place)
        if isinstance(value, (Obj, Expr)) or isinstance(node, MapNode):
            return value
        hint = "start an expression with `$ `" if isinstance(node, ScalarNode) else ""
        message = f"'{key}' must be an object or an expression, not {describe(node)}"
        self.findings.error(codes.WRONG_TYPE, message, node.position, path=path, hint=hint)
        return value

    def _text(self, node: Node, path: str, key: str, place: _Place, role: Role) -> Value:
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            return self.resolver.value(node, path, place.scope, role)
        hint = "put quotes around it" if isinstance(node, ScalarNode) else ""
        message = f"'{key}' must be text, not {describe(node)}"
        self.findings.error(codes.WRONG_TYPE, message, node.position, path=path, hint=hint)
        return Lit("")

    def _seconds(self, parts: Sequence[tuple[Node, float]], path: str, place: _Place) -> Value:
        """Return a time in seconds: one number if all parts are written out, else one expression."""
        name = path.rpartition(".")[2]
        total, sources = 0.0, []
        for node, unit_s in parts:
            seconds = self._amount(node, unit_s)
            if seconds is not None:
                total += seconds
                continue
            if isinstance(node, ScalarNode) and isinstance(node.value, str):
                value = self._value(node, path, place)
                if isinstance(value, Expr):
                    sources.append(f"({value.source})" if unit_s == 1 else f"({value.source}) * {_number(unit_s)}")
                    continue
            part = "a part of " if name == "sleep" and (len(parts) > 1 or unit_s != 1) else ""
            is_text = isinstance(node, ScalarNode) and isinstance(node.value, str)
            shown = f"is {describe(node)}, not a time" if not is_text or part else "is not a duration"
            self.findings.error(
                codes.BAD_DURATION,
                f"{part}'{name}' {shown} or an expression",
                node.position,
                path=path,
                hint=_TIMES.get(name, ""),
            )
            return Lit(1)
        if not sources:
            if parts and not 0 < total <= MAX_DURATION_S:
                at = parts[0][0].position
                message = f"'{name}' is {total:g} seconds, but must be more than 0 and at most ten years"
                self.findings.error(codes.OUT_OF_RANGE, message, at, path=path)
            return Lit(_number(total))
        if len(sources) == 1 and not total:
            single = sources[0]
            return Expr(single[1:-1] if single.endswith(")") else single)
        return Expr(" + ".join([*sources, str(_number(total))] if total else sources))

    def _amount(self, node: Node, unit_s: float) -> float | None:
        if isinstance(node, ScalarNode) and isinstance(node.value, str) and unit_s != 1:
            return None
        seconds = parse_duration(node)
        return None if seconds is None else seconds * unit_s


def _number(value: float) -> int | float:
    return int(value) if value.is_integer() else value


def _limits(spec: LimitsSpec) -> Limits:
    default = Limits()
    steps = default.steps if spec.steps is None else spec.steps
    return Limits(steps=steps, rounds=spec.rounds, seconds=spec.seconds, tokens=spec.tokens, cost_usd=spec.cost_usd)
