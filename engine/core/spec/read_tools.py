"""Reads the tools of a task. Workflow-safe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, cast

from engine.core.diagnostics import Findings, Position
from engine.core.kinds import ToolEffect
from engine.core.spec import codes, vocabulary
from engine.core.spec.fields import Fields, suggest
from engine.core.spec.model import ToolSpec
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode, describe, node_to_json
from engine.core.spec.parts import NameSpec, SchemaSpec
from engine.core.spec.read_agent import read_approval
from engine.core.spec.read_integration import read_integration
from engine.core.spec.read_prompt import read_function
from engine.core.spec.read_system import read_system

_TYPES = ("python", "api_call", "function", "integration", "system", "task")
Kind = Literal["python", "api_call", "function", "integration", "system", "task"]
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_CALL_KEYS = (
    "method",
    "url",
    "headers",
    "params",
    "json",
    "data",
    "content",
    "files",
    "cookies",
    "timeout",
    "follow_redirects",
    "include_response_content",
    "params_schema",
    "schema",
)
_LATER_CALL_KEYS = {
    "secrets": "write `{{ secrets.NAME }}` where the value belongs, such as in `headers`",
}
_INSTEAD = "call the service with `api_call: {method: GET, url: …}`, or with a Python tool of the operator"
_WRITE_TASK = "write `task: NAME`, with `@VERSION` or `@ALIAS` behind it if one is meant"
_OPERATORS = "the operator registers it in everstep.toml; steps name its tools, which `everstep tools ls` lists"
_INSTEAD_OF = {"mcp": _OPERATORS}


def read_tools(node: ListNode | None, findings: Findings, *, julep: bool = False) -> tuple[ToolSpec, ...]:
    """Read the task's `tools`.

    Args:
        node: The list, or None.
        findings: Where to put what is wrong.
        julep: Whether system tools are called with the names that Julep has for their arguments.

    Returns:
        The tools that could be read.
    """
    tools: list[ToolSpec] = []
    seen: dict[str, Position] = {}
    for index, item in enumerate(node.items if node is not None else ()):
        tool = read_tool(item, findings, f"tools[{index}]", julep=julep)
        if tool is None:
            continue
        first = seen.get(tool.name.text)
        if first is not None:
            message = f"the tool '{tool.name.text}' is defined twice; first at line {first.line}"
            findings.error(codes.DUPLICATE_TOOL, message, tool.name.position, path=tool.path)
            continue
        seen[tool.name.text] = tool.name.position
        tools.append(tool)
    return tuple(tools)


def check_tool_name(name: NameSpec, findings: Findings, path: str) -> None:
    """Report a name that models and clients would not accept."""
    text = name.text
    if not (text.isascii() and text.isidentifier() and len(text) <= vocabulary.MAX_NAME_CHARS):
        findings.error(
            codes.BAD_NAME,
            f"'{text[:60]}' is not a name for a tool",
            name.position,
            path=path,
            hint=f"use letters, digits and _, at most {vocabulary.MAX_NAME_CHARS}, and no digit first",
        )


@dataclass(frozen=True, slots=True)
class _Call:
    """What stands below `api_call`."""

    spec: dict[str, Any]
    timeout_s: float | None = None
    answer: SchemaSpec | None = None
    arguments: SchemaSpec | None = None


def read_tool(node: Node, findings: Findings, path: str, *, julep: bool = False) -> ToolSpec | None:
    """Read one tool; None after saying why it cannot be read. See `read_tools`."""
    if not isinstance(node, MapNode):
        message = f"a tool must be an object, not {describe(node)}"
        findings.error(codes.WRONG_TYPE, message, node.position, path=path, hint="write `- name: …` and `type: …`")
        return None
    fields = Fields(node, findings, path, "the tool")
    kind = _type(fields)
    name, description, parameters = read_function(fields)
    if name is None and node.entry("name") is None:
        fields.error(codes.MISSING_KEY, "the tool has no 'name'", node.position)
    effect = fields.choice("effect", tuple(ToolEffect))
    idempotent = fields.flag("idempotent")
    timeout_s = fields.duration("timeout")
    approve = read_approval(fields)
    call = _api_call(fields, kind == "api_call")
    if call.arguments is not None and parameters is not None:
        message = "the schema of the arguments is given twice, as 'parameters' and as 'params_schema'"
        fields.error(codes.CONFLICT, message, node.position, key="api_call", hint="keep one of them")
    named = _named(kind, fields, julep)
    known = (
        "name",
        "type",
        "description",
        "parameters",
        "effect",
        "idempotent",
        "timeout",
        "approve",
        "api_call",
        "function",
        "integration",
        "system",
        "task",
    )
    fields.refuse_left(known, skip=vocabulary.LATER_TOOL_TYPES if kind is None else ())
    if name is None:
        return None
    check_tool_name(name, findings, f"{path}.name")
    return ToolSpec(
        name=name,
        type=kind or "unknown",
        description=description,
        parameters=call.arguments if parameters is None else parameters,
        effect=None if effect is None else ToolEffect(effect),
        idempotent=idempotent,
        timeout_s=timeout_s if timeout_s is not None else call.timeout_s,
        approve=approve,
        spec=call.spec if named is None else named,
        answer=call.answer,
        position=node.position,
        path=path,
    )


def _named(kind: Kind | None, fields: Fields, julep: bool) -> dict[str, Any] | None:
    """Take what tools of some types are an instance of; None = it is none of those."""
    match kind:
        case "task":
            return _task(fields)
        case "system":
            return read_system(fields, julep=julep)
        case "integration":
            return read_integration(fields)
        case _:
            return None


def _type(fields: Fields) -> Kind | None:
    word = fields.text("type")
    if word is None:
        kinds: tuple[Kind, ...] = ("api_call", "function", "integration", "system", "task")
        for kind in kinds:
            if fields.node.entry(kind) is not None:
                return kind
        for later in vocabulary.LATER_TOOL_TYPES:
            entry = fields.node.entry(later)
            if entry is not None:
                message = _later(later)
                fields.error(codes.LATER, message, entry.key_position, hint=_INSTEAD_OF.get(later, _INSTEAD))
                return None
        return "python"
    if word.text in vocabulary.LATER_TOOL_TYPES:
        message = _later(word.text)
        fields.error(codes.LATER, message, word.position, key="type", hint=_INSTEAD_OF.get(word.text, _INSTEAD))
        return None
    if word.text not in _TYPES:
        hint = suggest(fields.findings, word.text, _TYPES) or f"types are {', '.join(_TYPES)}"
        fields.error(codes.NOT_ONE_OF, f"'{word.text}' is not a type of tool", word.position, key="type", hint=hint)
        return None
    return cast("Kind", word.text)


def _task(fields: Fields) -> dict[str, Any]:
    """Take `task` of a tool: a name, or {name}. Return {task: NAME}, {} if it could not be read."""
    node, inner, key = fields.node.get("task"), fields, "task"
    if isinstance(node, MapNode):
        fields.entry("task")
        inner, key = Fields(node, fields.findings, fields.at("task"), "task"), "name"
    entry = inner.node.entry(key)
    name = inner.text(key)
    if inner is not fields:
        inner.refuse_left(("name",))
    if name is not None and name.text:
        return {"task": name.text}
    if name is not None or entry is None or (isinstance(entry.value, ScalarNode) and entry.value.value is None):
        at, verb = (inner.node.position, "has no") if entry is None else (entry.key_position, "has an empty")
        inner.error(codes.MISSING_KEY, f"{inner.what} {verb} '{key}'", at, hint=_WRITE_TASK)
    return {}


def _later(kind: str) -> str:
    if kind in _INSTEAD_OF:
        return f"a task defines no tool of type '{kind}' itself"
    return f"tools of type '{kind}' are not available in this version"


def _api_call(fields: Fields, wanted: bool) -> _Call:
    if not wanted:
        entry = fields.entry("api_call")
        if entry is not None and fields.node.get("type") is not None:
            message = "'api_call' stands in a tool of another type"
            fields.error(codes.CONFLICT, message, entry.key_position, key="api_call")
        return _Call({})
    node = fields.need("api_call", hint="write `api_call: {method: GET, url: …}`")
    fields.entry("api_call")
    if not isinstance(node, MapNode):
        if node is not None:
            fields.wrong_type("api_call", node, "an object")
        return _Call({})
    inner = Fields(node, fields.findings, fields.at("api_call"), "api_call")
    call: dict[str, Any] = {"method": _method(inner)}
    url = inner.text("url")
    if url is None and node.entry("url") is None:
        inner.error(codes.MISSING_KEY, "api_call has no 'url'", node.position)
    elif url is not None:
        if not url.text.startswith(("http://", "https://")):
            message = "'url' must start with http:// or https://"
            inner.error(codes.OUT_OF_RANGE, message, url.position, key="url")
        call["url"] = url.text
    for key in ("headers", "params", "cookies", "files"):
        value = inner.mapping(key)
        if value is not None:
            call[key] = node_to_json(value)
    _body(inner, call)
    for key in ("follow_redirects", "include_response_content"):
        flag = inner.flag(key)
        if flag is not None:
            call[key] = flag
    answer, arguments = inner.schema("schema"), inner.schema("params_schema")
    timeout_s = inner.duration("timeout")
    reported = [entry.key for entry in inner.left() if entry.key in _LATER_CALL_KEYS]
    for key in reported:
        entry = node.entry(key)
        assert entry is not None
        message = f"'{key}' of api_call is not available in this version"
        inner.error(codes.LATER, message, entry.key_position, key=key, hint=_LATER_CALL_KEYS[key])
    inner.refuse_left(_CALL_KEYS, skip=reported)
    return _Call(call, timeout_s, answer, arguments)


def _body(inner: Fields, call: dict[str, Any]) -> None:
    content = inner.text("content")
    data = inner.take("data")
    if content is not None:
        call["content"] = content.text
    if isinstance(data, ListNode):
        inner.wrong_type("data", data, "text or an object")
    elif data is not None:
        call["data"] = node_to_json(data)
    body = inner.entry("json")
    if body is not None:
        call["json"] = node_to_json(body.value)
    given: list[str] = [key for key in ("json", "data", "content") if key in call]
    if "files" in call:
        # a form carries files and fields; a text has no fields
        given = ["files", *(key for key in given if key != "data" or isinstance(call[key], str))]
    if len(given) > 1:
        message = f"a request has one body, but this one has {' and '.join(given)}"
        inner.error(codes.CONFLICT, message, inner.node.position, hint="keep one of them")


def _method(inner: Fields) -> str:
    word = inner.text("method")
    if word is None:
        return "GET"
    if word.text.upper() not in _METHODS:
        message = f"'{word.text}' is not an HTTP method"
        inner.error(codes.NOT_ONE_OF, message, word.position, key="method", hint=f"one of {', '.join(_METHODS)}")
        return "GET"
    return word.text.upper()
