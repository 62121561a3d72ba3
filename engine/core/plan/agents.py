"""Compiles the steps agent, embed and search, with the tools of an agent and the rules for them. Workflow-safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from engine.core.plan.agent_rules import Approval, NextTool, ToolRule
from engine.core.plan.computed import Arr, Expr, Lit, Obj, Tmpl, Value
from engine.core.plan.ir import ToolContract
from engine.core.plan.ops import AgentOp, EmbedOp, SearchOp
from engine.core.plan.prompts import compile_messages, compile_model
from engine.core.plan.resolve import Resolver, Role, Scope
from engine.core.plan.schema_check import check_schema
from engine.core.plan.search_options import OPTION_BOUNDS, WHOLE_OPTIONS
from engine.core.plan.toolbox import Toolbox
from engine.core.spec import codes
from engine.core.spec.fields import suggest
from engine.core.spec.nodes import MapNode, Node, ScalarNode, describe
from engine.core.spec.parts import ApprovalSpec, NameSpec, ToolRuleSpec
from engine.core.spec.steps import AgentStep, EmbedStep, SearchStep

Seconds = Callable[[Node, str], Value]
"""Compiles a duration that may be an expression, given its place."""


def compile_approval(spec: ApprovalSpec, path: str, resolver: Resolver, scope: Scope, seconds: Seconds) -> Approval:
    """Return which calls of a tool wait for a person.

    Args:
        spec: What the author wrote.
        path: Its place in the structure.
        resolver: Reads expressions and values.
        scope: What they see.
        seconds: Compiles durations.
    """
    value = resolver.value
    return Approval(
        condition=None if spec.condition is None else resolver.expression(spec.condition, f"{path}.if", scope),
        info=None if spec.info is None else value(spec.info, f"{path}.info", scope, Role.PROSE),
        deadline=None if spec.deadline is None else seconds(spec.deadline, f"{path}.deadline"),
        default=None if spec.default is None else value(spec.default, f"{path}.default", scope),
    )


@dataclass(frozen=True, slots=True)
class ToolStepCompiler:
    """Turns steps of these kinds into their ops.

    Attributes:
        resolver: Reads expressions and values.
        toolbox: Knows the tools.
        scope: What the step's expressions see.
        tools: Contracts that the plan's steps need so far; those of an agent are added.
        seconds: Compiles durations.
    """

    resolver: Resolver
    toolbox: Toolbox
    scope: Scope
    tools: dict[str, ToolContract]
    seconds: Seconds

    # --- agent ---

    def agent(self, step: AgentStep) -> AgentOp:
        """Return the op of an agent step."""
        asked = compile_model(step, self.resolver, self.scope)
        if step.output_schema is not None:
            check_schema(step.output_schema, self.resolver.findings, f"{step.path}.output_schema")
        tools, functions = self._offered(step)
        names = [*tools, *(tool["function"]["name"] for tool in functions)]
        self._check_order(step.rules, names)
        return AgentOp(
            messages=compile_messages(step.messages, f"{step.path}.{step.marker}", self.resolver, self.scope),
            instructions=self._text(step.instructions, f"{step.path}.instructions"),
            model=asked.model,
            models=asked.models[1:],
            needs=asked.needs,
            settings=asked.settings,
            tool_mode=step.tool_mode,
            tools=tools,
            functions=functions,
            rules=tuple(self._rule(rule, names) for rule in step.rules),
            max_rounds=step.max_rounds,
            parallelism=step.parallelism,
            on_overflow=step.on_overflow,
            output_schema=None if step.output_schema is None else step.output_schema.value,
            repair=step.repair,
            unwrap=step.unwrap,
        )

    def _text(self, node: Node | None, path: str) -> Value | None:
        if node is None:
            return None
        if not isinstance(node, ScalarNode) or not isinstance(node.value, str):
            name = path.rpartition(".")[2]
            message = f"'{name}' must be text, not {describe(node)}"
            self.resolver.findings.error(codes.WRONG_TYPE, message, node.position, path=path)
            return None
        return self.resolver.value(node, path, self.scope, Role.PROSE)

    def _offered(self, step: AgentStep) -> tuple[tuple[str, ...], tuple[dict[str, Any], ...]]:
        """Return the names of the tools that the engine runs, and the functions that the client runs."""
        items = [NameSpec(name) for name in self.toolbox.own] if step.tools == "all" else list(step.tools)
        names: dict[str, None] = {}
        functions: dict[str, dict[str, Any]] = {}
        for index, item in enumerate(items):
            shape = self.toolbox.offered(item, f"{step.path}.tools[{index}]")
            if shape is None:
                continue
            name = shape["function"]["name"]
            contract = self.toolbox.contracts.get(name) if isinstance(item, NameSpec) else None
            if name in names or name in functions:
                told = item if isinstance(item, NameSpec) else item.name
                message, path = f"the tool '{name}' is offered twice", f"{step.path}.tools[{index}]"
                self.resolver.findings.error(codes.DUPLICATE_TOOL, message, told.position, path=path)
            elif contract is None:
                functions[name] = shape
            else:
                names[name] = None
                self.tools[name] = contract
        return tuple(names), tuple(functions.values())

    def _rule(self, rule: ToolRuleSpec, names: list[str]) -> ToolRule:
        findings = self.resolver.findings
        self._known(rule.tool, names, rule.path)
        for index, choice in enumerate(rule.next or ()):
            self._known(choice.tool, names, f"{rule.path}.next[{index}]")
        for index, before in enumerate(rule.only_after):
            self._known(before, names, f"{rule.path}.only_after[{index}]")
        if rule.first and rule.only_after:
            message = f"'{rule.tool.text[:60]}' cannot come first and only after another tool"
            findings.error(codes.CONFLICT, message, rule.tool.position, path=rule.path, hint="keep one of the two")
        if rule.ends and rule.next is not None:
            message = f"nothing can follow '{rule.tool.text[:60]}', which ends the loop"
            findings.error(codes.CONFLICT, message, rule.tool.position, path=rule.path, hint="keep `ends` or `next`")
        return ToolRule(
            tool=rule.tool.text,
            first=rule.first,
            next=None if rule.next is None else tuple(self._next(rule, number) for number in range(len(rule.next))),
            only_after=tuple(name.text for name in rule.only_after),
            at_most=rule.at_most,
            ends=rule.ends,
            required=rule.required,
            approve=self._approval(rule),
        )

    def _check_order(self, rules: tuple[ToolRuleSpec, ...], names: list[str]) -> None:
        """Report tools whose turn never comes, since each of those before them waits for another one."""
        after = {rule.tool.text: {name.text for name in rule.only_after} for rule in rules if rule.only_after}
        following = {rule.tool.text: {choice.tool.text for choice in rule.next} for rule in rules if rule.next}
        callable_now = {name for name in names if name not in after}
        grown = True
        while grown:
            found = {
                name
                for name, before in after.items()
                if any(one in callable_now and name in following.get(one, {name}) for one in before)
            }
            grown = not found <= callable_now
            callable_now |= found
        for rule in rules:
            name = rule.tool.text
            if name in names and name not in callable_now and after[name] <= set(names):
                self.resolver.findings.error(
                    codes.CONFLICT,
                    f"the turn of '{name[:60]}' never comes: what must come before it cannot",
                    rule.tool.position,
                    path=rule.path,
                    hint="let `only_after` name a tool that may be called, and that does not rule it out by `next`",
                )

    def _known(self, name: NameSpec, names: list[str], path: str) -> None:
        if name.text not in names:
            self.resolver.findings.error(
                codes.UNKNOWN_TOOL,
                f"the agent is not offered the tool '{name.text[:60]}'",
                name.position,
                path=path,
                hint=suggest(self.resolver.findings, name.text, names) or "name it under `tools:`",
            )

    def _next(self, rule: ToolRuleSpec, number: int) -> NextTool:
        assert rule.next is not None
        choice = rule.next[number]
        path = f"{rule.path}.next[{number}].if"
        return NextTool(choice.tool.text, self._condition(choice.condition, path))

    def _condition(self, node: Node | None, path: str) -> Expr | None:
        return None if node is None else self.resolver.expression(node, path, self.scope)

    def _approval(self, rule: ToolRuleSpec) -> Approval | None:
        spec, path = rule.approve, f"{rule.path}.approve"
        if spec is None:
            return None
        return compile_approval(spec, path, self.resolver, self.scope, self.seconds)

    # --- embed and search ---

    def embed(self, step: EmbedStep) -> EmbedOp:
        """Return the op of an embed step."""
        path = f"{step.path}.embed"
        model = "" if step.model is None else step.model.text
        if step.model is not None:
            node = ScalarNode(step.model.text, step.model.position)
            named = self.resolver.value(node, f"{path}.model", self.scope, Role.SETTING)
            if not isinstance(named, Lit):
                message = "the model of 'embed' must be written out: vectors of two models cannot be compared"
                self.resolver.findings.error(codes.NOT_LITERAL, message, step.model.position, path=f"{path}.model")
        return EmbedOp(
            text=self.resolver.value(step.text, f"{path}.text", self.scope),
            instruction=self._text(step.instruction, f"{path}.embed_instruction"),
            model=model,
        )

    def search(self, step: SearchStep) -> SearchOp:
        """Return the op of a search step."""
        path = f"{step.path}.search"
        return SearchOp(
            text=self._member(step.text, f"{path}.text", "text"),
            vector=self._member(step.vector, f"{path}.vector", "a list of numbers"),
            metadata_filter=self._member(step.metadata_filter, f"{path}.metadata_filter", "an object"),
            agent=self._member(step.agent, f"{path}.agent", "text"),
            user=self._member(step.user, f"{path}.user", "text"),
            options=self._options(step.options, path),
        )

    def _member(
        self, node: Node | None, path: str, wanted: Literal["text", "an object", "a list of numbers"]
    ) -> Value | None:
        """Return a member whose literal value has the right type; what is computed is looked at when it runs."""
        if node is None:
            return None
        value = self.resolver.value(node, path, self.scope)
        if not _fits(value, wanted):
            name = path.rpartition(".")[2]
            message = f"'{name}' must be {wanted}, not {describe(node)}"
            self.resolver.findings.error(codes.WRONG_TYPE, message, node.position, path=path)
        return value

    def _options(self, node: MapNode, path: str) -> Value:
        members: dict[str, Value] = {}
        for entry in node.entries:
            here = f"{path}.{entry.key}"
            value = members[entry.key] = self.resolver.value(entry.value, here, self.scope, Role.SETTING)
            if isinstance(value, Lit):
                self._check_option(entry.key, value.value, entry.value, here)
        literals = {key: value.value for key, value in members.items() if isinstance(value, Lit)}
        return Lit(literals) if len(literals) == len(members) else Obj(members)

    def _check_option(self, name: str, value: Any, node: Node, path: str) -> None:
        findings = self.resolver.findings
        bounds = OPTION_BOUNDS.get(name)
        if bounds is None:
            wanted, kind = ("text", str) if name == "lang" else ("true or false", bool)
            if not isinstance(value, kind):
                message = f"'{name}' must be {wanted}, not {describe(node)}"
                findings.error(codes.WRONG_TYPE, message, node.position, path=path)
            return
        is_whole = name in WHOLE_OPTIONS
        if isinstance(value, bool) or not isinstance(value, int if is_whole else (int, float)):
            message = f"'{name}' must be {'a whole number' if is_whole else 'a number'}, not {describe(node)}"
            findings.error(codes.WRONG_TYPE, message, node.position, path=path)
        elif not bounds[0] <= value <= bounds[1]:
            message = f"'{name}' is {value}, but must be {bounds[0]} to {bounds[1]}"
            findings.error(codes.OUT_OF_RANGE, message, node.position, path=path)


def _fits(value: Value, wanted: Literal["text", "an object", "a list of numbers"]) -> bool:
    match value:
        case Expr():
            return True
        case Tmpl():
            return wanted == "text"
        case Obj():
            return wanted == "an object"
        case Arr():
            return wanted == "a list of numbers"
        case Lit(value=list() as items):
            return wanted == "a list of numbers" and all(type(item) in (int, float) for item in items)
        case Lit():
            return isinstance(value.value, {"text": str, "an object": dict, "a list of numbers": list}[wanted])
