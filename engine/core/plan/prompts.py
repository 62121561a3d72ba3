"""Compiles prompt steps: messages, settings, offered tools, and the schema of the reply. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from engine.core.plan.computed import Arr, Expr, Lit, Obj, Value
from engine.core.plan.needs import Needs
from engine.core.plan.ops import PromptOp
from engine.core.plan.resolve import Resolver, Role, Scope
from engine.core.plan.schema_check import check_schema
from engine.core.plan.toolbox import Toolbox
from engine.core.spec import codes
from engine.core.spec.fields import suggest
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode
from engine.core.spec.parts import NameSpec, NeedsSpec
from engine.core.spec.steps import AgentStep, PromptStep

ROLES = ("system", "user", "assistant", "tool", "developer")


def compile_prompt(step: PromptStep, resolver: Resolver, toolbox: Toolbox, scope: Scope) -> PromptOp:
    """Compile a prompt step.

    Args:
        step: The step.
        resolver: Reads values.
        toolbox: Knows the tools.
        scope: What expressions of the step see.

    Returns:
        The op without label and modifiers.
    """
    asked = compile_model(step, resolver, scope)
    if step.output_schema is not None:
        check_schema(step.output_schema, resolver.findings, f"{step.path}.output_schema")
    tools = _tools(step, toolbox)
    _check_choice(step, tools, resolver)
    return PromptOp(
        messages=compile_messages(step.messages, f"{step.path}.prompt", resolver, scope),
        model=asked.model,
        models=asked.models[1:],
        needs=asked.needs,
        settings=asked.settings,
        tools=tools,
        tool_choice=step.tool_choice,
        tool_mode=step.tool_mode,
        output_schema=None if step.output_schema is None else step.output_schema.value,
        repair=step.repair,
        unwrap=step.unwrap,
    )


def compile_messages(messages: Node, path: str, resolver: Resolver, scope: Scope) -> Value:
    """Return what a model is told as a list of messages, or as an expression that may give one."""
    value = resolver.value(messages, path, scope, Role.PROSE)
    if isinstance(messages, ListNode):
        for index, item in enumerate(messages.items):
            _check_role(item, f"{path}[{index}].role", resolver)
        return value
    # an expression may give a whole list of messages; the run takes a text as one message of the user
    if isinstance(value, Expr):
        return value
    if isinstance(value, Lit):
        return Lit([{"role": "user", "content": value.value}])
    return Arr((Obj({"role": Lit("user"), "content": value}),))


def _check_role(item: Node, path: str, resolver: Resolver) -> None:
    role = item.get("role") if isinstance(item, MapNode) else None
    if role is None:
        return
    text = role.value if isinstance(role, ScalarNode) else None
    if isinstance(text, str) and (text in ROLES or text.startswith("$") or "{{" in text):
        return
    resolver.findings.error(
        codes.NOT_ONE_OF,
        f"the role of a message must be one of {', '.join(ROLES)}",
        role.position,
        path=path,
        hint=suggest(resolver.findings, str(text), ROLES),
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """Who is asked: models and groups in order of preference, none if they are computed or not given, and how."""

    models: tuple[str, ...]
    settings: Value
    needs: Needs

    @property
    def model(self) -> str:
        """The first of them; empty if there is none."""
        return self.models[0] if self.models else ""


def compile_model(step: PromptStep | AgentStep, resolver: Resolver, scope: Scope) -> Asked:
    """Return who is asked, with the sampling settings; names that are computed travel in the settings."""
    settings: Value = Lit({})
    inner = False
    if step.settings is not None:
        inner = step.settings.entry("model") is not None
        settings = resolver.value(step.settings, f"{step.path}.settings", scope, Role.SETTING)
    needs = Needs() if step.needs is None else _needs_of(step.needs)
    if step.model is None:
        return Asked((), settings, needs)
    names = (step.model, *step.models)
    found: list[Value] = []
    for index, name in enumerate(names):
        path = f"{step.path}.model" if len(names) == 1 else f"{step.path}.model[{index}]"
        found.append(resolver.value(ScalarNode(name.text, name.position), path, scope, Role.SETTING))
    written = [str(item.value) for item in found if isinstance(item, Lit)]
    if len(written) == len(found):
        return Asked(tuple(written), _without_model(settings) if inner else settings, needs)
    return Asked((), _with_model(settings, found[0] if len(found) == 1 else Arr(tuple(found))), needs)


def _needs_of(spec: NeedsSpec) -> Needs:
    return Needs(
        tools=spec.tools,
        vision=spec.vision,
        json_schema=spec.json_schema,
        context=spec.context,
        max_price=spec.max_price,
    )


def _without_model(settings: Value) -> Value:
    if isinstance(settings, Lit):
        return Lit({key: item for key, item in settings.value.items() if key != "model"})
    assert isinstance(settings, Obj)
    return Obj({key: item for key, item in settings.items.items() if key != "model"})


def _with_model(settings: Value, model: Value) -> Value:
    if isinstance(settings, Lit):
        return Obj({**{key: Lit(item) for key, item in settings.value.items()}, "model": model})
    assert isinstance(settings, Obj)
    return Obj({**settings.items, "model": model})


def _tools(step: PromptStep, toolbox: Toolbox) -> tuple[dict[str, Any], ...]:
    items = [NameSpec(name) for name in toolbox.own] if step.tools == "all" else list(step.tools)
    offered = [toolbox.offered(item, f"{step.path}.tools[{index}]") for index, item in enumerate(items)]
    return tuple(tool for tool in offered if tool is not None)


def _check_choice(step: PromptStep, tools: tuple[dict[str, Any], ...], resolver: Resolver) -> None:
    if step.tool_choice is None or step.tool_choice in ("auto", "none"):
        return
    names = [tool["function"]["name"] for tool in tools]
    path = f"{step.path}.tool_choice"
    if not step.tools:
        message = "'tool_choice' asks for a tool, but the prompt offers none"
        resolver.findings.error(codes.CONFLICT, message, step.position, path=path, hint="name them under `tools:`")
    elif isinstance(step.tool_choice, dict):
        name = step.tool_choice["function"]["name"]
        if name not in names:
            message = f"'tool_choice' names the tool '{name}', which the prompt does not offer"
            hint = suggest(resolver.findings, name, names)
            resolver.findings.error(codes.UNKNOWN_TOOL, message, step.position, path=path, hint=hint)
