"""Reads prompt steps and the function tools that are offered to a model. Workflow-safe."""

from __future__ import annotations

from typing import Any, Literal, cast

from engine.core.diagnostics import Findings
from engine.core.spec import codes, vocabulary
from engine.core.spec.fields import Fields
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode, node_to_json
from engine.core.spec.parts import FunctionToolSpec, NameSpec, NeedsSpec, SchemaSpec, ToolMode, ToolRuleSpec
from engine.core.spec.steps import AgentStep, PromptStep
from engine.core.values import Json

NEEDS = ("tools", "vision", "json_schema", "context", "max_price")
_NEEDS = "write `needs: {vision: true, context: 32000, max_price: 2}`"

PromptTools = tuple[NameSpec | FunctionToolSpec, ...] | Literal["all"]


def read_prompt(fields: Fields, common: dict[str, Any]) -> PromptStep | AgentStep:
    """Read the members of a prompt step; with `auto_run_tools` it is an agent's.

    Args:
        fields: The step's members.
        common: Position, path, label and modifiers, read already.

    Returns:
        The step.
    """
    messages = read_messages(fields, "prompt")
    settings = fields.mapping("settings")
    repair = fields.whole("repair", 0, vocabulary.MAX_REPAIR_ROUNDS)
    names = read_models(fields, settings)
    step = PromptStep(
        messages=messages,
        model=names[0] if names else None,
        models=names[1:],
        needs=read_needs(fields),
        settings=settings,
        tools=read_offered(fields),
        tool_choice=_tool_choice(fields),
        tool_mode=read_tool_mode(fields),
        output_schema=fields.schema("output_schema"),
        repair=2 if repair is None else repair,
        unwrap=fields.flag("unwrap") or False,
        **common,
    )
    # nothing is kept for equal prompts unless a step has `cache`
    fields.flag("disable_cache")
    return _as_agent(step, fields, common) if fields.flag("auto_run_tools") else step


def _as_agent(step: PromptStep, fields: Fields, common: dict[str, Any]) -> PromptStep | AgentStep:
    """Return what runs the tools that the model calls; without any the prompt stays one."""
    entry = fields.node.entry("auto_run_tools")
    if not step.tools or step.tool_choice == "none":
        at = fields.node.position if entry is None else entry.key_position
        message = "'auto_run_tools' changes nothing here, since the prompt offers no tools"
        fields.findings.warn(codes.NO_EFFECT, message, at, path=fields.at("auto_run_tools"), hint="add `tools: all`")
        return step
    shared = {
        name: getattr(step, name)
        for name in ("messages", "model", "models", "needs", "settings", "tools", "tool_mode", "output_schema")
    }
    rules: tuple[ToolRuleSpec, ...] = ()
    if isinstance(step.tool_choice, dict):
        chosen = NameSpec(str(step.tool_choice["function"]["name"]), step.position)
        rules = (ToolRuleSpec(tool=chosen, first=True, path=fields.at("tool_choice")),)
    return AgentStep(**shared, rules=rules, repair=step.repair, unwrap=step.unwrap, marker="prompt", **common)


def read_messages(fields: Fields, key: str) -> Node:
    """Take what a model is told: a text, or a list of messages."""
    messages = fields.need(key, hint="give it a text or a list of messages {role, content}")
    fields.entry(key)
    if isinstance(messages, ListNode):
        _check_messages(messages, fields, key)
    elif isinstance(messages, MapNode):
        fields.wrong_type(key, messages, "text or a list of messages", "put the message into a list: `- role: user`")
    elif messages is not None and not isinstance(messages.value, str):
        fields.wrong_type(key, messages, "text or a list of messages", "put quotes around it")
    return messages or ScalarNode("", fields.node.position)


def _check_messages(messages: ListNode, fields: Fields, key: str) -> None:
    if not messages.items:
        fields.error(codes.MISSING_KEY, f"'{key}' has no messages", messages.position, key=key)
    for index, item in enumerate(messages.items):
        path = f"{fields.at(key)}[{index}]"
        if not isinstance(item, MapNode):
            if not (isinstance(item, ScalarNode) and isinstance(item.value, str) and item.value.startswith("$")):
                message = "a message must be an object {role, content}"
                fields.findings.error(codes.WRONG_TYPE, message, item.position, path=path)
            continue
        role = item.get("role")
        if role is None:
            fields.findings.error(codes.MISSING_KEY, "the message has no 'role'", item.position, path=path)
        if item.get("content") is None and item.get("tool_calls") is None:
            fields.findings.error(codes.MISSING_KEY, "the message has no 'content'", item.position, path=path)


def read_models(fields: Fields, settings: MapNode | None) -> tuple[NameSpec, ...]:
    """Take the name of a model, or a list of names in order of preference, which may stand in the settings as well."""
    node = fields.take("model")
    inner = None if settings is None else settings.entry("model")
    if inner is None:
        return _names_of(node, fields)
    if node is not None:
        message = "the model is named twice, in 'model' and in 'settings'"
        fields.error(codes.CONFLICT, message, inner.key_position, key="settings", hint="keep one of them")
        return _names_of(node, fields)
    return _names_of(inner.value, fields)


def _names_of(node: Node | None, fields: Fields) -> tuple[NameSpec, ...]:
    if node is None:
        return ()
    wanted = "the name of a model or a list of names"
    if isinstance(node, MapNode):
        fields.wrong_type("model", node, wanted)
        return ()
    items = node.items if isinstance(node, ListNode) else (node,)
    names: list[NameSpec] = []
    for item in items:
        if not isinstance(item, ScalarNode) or not isinstance(item.value, str):
            hint = "put quotes around it" if isinstance(item, ScalarNode) else ""
            fields.wrong_type("model", item, wanted, hint)
        elif isinstance(node, ListNode) and (not item.value.strip() or item.value in [name.text for name in names]):
            told = "names no model" if not item.value.strip() else f"has '{item.value[:60]}' twice"
            fields.error(codes.CONFLICT, f"the list of models {told}", item.position, key="model", hint="leave it out")
        else:
            names.append(NameSpec(item.value, item.position))
    if isinstance(node, ListNode) and not 0 < len(items) <= vocabulary.MAX_MODELS:
        message = f"'model' is a list of {len(items)}, but must name 1 to {vocabulary.MAX_MODELS} models"
        fields.error(codes.OUT_OF_RANGE, message, node.position, key="model")
    return tuple(names)


def read_needs(fields: Fields) -> NeedsSpec | None:
    """Take what whoever answers must be able to do."""
    node = fields.take("needs")
    if node is None:
        return None
    if not isinstance(node, MapNode):
        fields.wrong_type("needs", node, "an object", _NEEDS)
        return None
    inner = Fields(node, fields.findings, fields.at("needs"), "needs")
    found = NeedsSpec(
        tools=inner.flag("tools") or False,
        vision=inner.flag("vision") or False,
        json_schema=inner.flag("json_schema") or False,
        context=inner.whole("context", 1, vocabulary.MAX_CONTEXT),
        max_price=inner.number("max_price", 0, vocabulary.MAX_PRICE),
    )
    inner.refuse_left(NEEDS)
    return found


def read_tool_mode(fields: Fields) -> ToolMode:
    """Take how the tools are offered to a model."""
    return cast("ToolMode", fields.choice("tool_mode", vocabulary.TOOL_MODES) or "auto")


def read_offered(fields: Fields) -> PromptTools:
    """Take the tools that are offered to a model."""
    node = fields.take("tools")
    if node is None:
        return ()
    if isinstance(node, ScalarNode) and node.value == "all":
        return "all"
    if not isinstance(node, ListNode):
        fields.wrong_type("tools", node, "`all` or a list of tools")
        return ()
    tools: list[NameSpec | FunctionToolSpec] = []
    for index, item in enumerate(node.items):
        tool = _prompt_tool(item, fields.findings, f"{fields.at('tools')}[{index}]")
        if tool is not None:
            tools.append(tool)
    return tuple(tools)


def _prompt_tool(node: Node, findings: Findings, path: str) -> NameSpec | FunctionToolSpec | None:
    if isinstance(node, ScalarNode) and isinstance(node.value, str):
        return NameSpec(node.value, node.position)
    if not isinstance(node, MapNode):
        message = "a tool of a model must be a name or an object"
        findings.error(codes.WRONG_TYPE, message, node.position, path=path)
        return None
    fields = Fields(node, findings, path, "the tool")
    reference = fields.mapping("ref")
    if reference is not None:
        inner = Fields(reference, findings, f"{path}.ref", "ref")
        key = "name" if reference.get("id") is None else "id"
        if inner.need(key) is None:
            return None
        name = reference.get(key)
        assert isinstance(name, (ScalarNode, ListNode, MapNode))
        return NameSpec(str(node_to_json(name)), name.position)
    kind = fields.choice("type", ("function",))
    name_spec, description, parameters = read_function(fields)
    fields.refuse_left(("ref", "type", "name", "description", "parameters", "function"))
    if name_spec is None:
        if kind is not None or node.get("type") is None:
            fields.error(codes.MISSING_KEY, "the tool has no 'name'", node.position)
        return None
    return FunctionToolSpec(name=name_spec, description=description or "", parameters=parameters)


def read_function(fields: Fields) -> tuple[NameSpec | None, str | None, SchemaSpec | None]:
    """Take name, description and parameters, which stand in the tool itself or in its `function`.

    Args:
        fields: The tool's members.

    Returns:
        What was found of the three.
    """
    name, description, parameters = fields.text("name"), fields.text("description"), fields.schema("parameters")
    node = fields.mapping("function")
    if node is not None:
        inner = Fields(node, fields.findings, fields.at("function"), "function")
        name = inner.text("name") or name
        description = inner.text("description") or description
        parameters = inner.schema("parameters") or parameters
        inner.refuse_left(("name", "description", "parameters"), skip=("strict",))
    return name, None if description is None else description.text, parameters


def _tool_choice(fields: Fields) -> Json:
    node = fields.take("tool_choice")
    if node is None:
        return None
    value = node_to_json(node)
    if isinstance(value, str) and value in ("auto", "none", "required"):
        return value
    if isinstance(value, dict):
        function = value.get("function")
        if isinstance(function, dict) and isinstance(function.get("name"), str):
            return {"type": "function", "function": {"name": function["name"]}}
    fields.error(
        codes.NOT_ONE_OF,
        "'tool_choice' must be auto, none, required or {type: function, function: {name: …}}",
        node.position,
        key="tool_choice",
    )
    return None
