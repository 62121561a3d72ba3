"""Makes tools of what an MCP server says that it has: names, arguments, effects; also of its resources and prompts."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.control.openapi.services import MAX_DESCRIPTION_CHARS, matches, tool_name
from engine.core.errors import InvalidInput
from engine.core.kinds import ToolEffect
from engine.core.plan.ir import ToolContract
from engine.core.schemas import schema_problems
from engine.core.values import Json, canonical_json
from engine.settings import McpConfig

READ_RESOURCE = "read_resource"
GET_PROMPT = "get_prompt"
MAX_SCHEMA_CHARS = 64 * 1024
MAX_NAMED = 20
"""Resources or prompts that the description of their tool names."""

_URI: Json = {
    "type": "object",
    "properties": {"uri": {"type": "string", "minLength": 1, "maxLength": 4_000, "description": "Its address."}},
    "required": ["uri"],
    "additionalProperties": False,
}
_PROMPT: Json = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "description": "Its name."},
        "arguments": {"type": "object", "additionalProperties": {"type": "string"}},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server said of itself, in the words of the protocol.

    Attributes:
        server: {name, version, …}.
        protocol: Version of the protocol that was agreed on.
        tools: {name, description?, inputSchema, annotations?, …}.
        resources: {uri, name, …}.
        templates: {uriTemplate, name, …} of further resources.
        prompts: {name, description?, arguments?}.
        offers: Which of `tools`, `resources` and `prompts` it has at all.
    """

    server: dict[str, Any] = field(default_factory=dict)
    protocol: str = ""
    tools: list[dict[str, Any]] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    templates: list[dict[str, Any]] = field(default_factory=list)
    prompts: list[dict[str, Any]] = field(default_factory=list)
    offers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Offered:
    """The tools of a server.

    Attributes:
        contracts: By name.
        left_out: Why those that cannot be tools here are none, by their own name.
    """

    contracts: dict[str, ToolContract]
    left_out: dict[str, str]


def tools_of(server: str, listing: Listing, config: McpConfig) -> Offered:
    """Return the tools of a server.

    Args:
        server: The name under which it is registered.
        listing: What it said of itself.
        config: How the operator registered it.

    Raises:
        InvalidInput: `config.mcp` if two tools would have one name, or a glob names none.
    """
    found = dict(_all(listing))
    _check_globs(server, config, found)
    contracts: dict[str, ToolContract] = {}
    left_out: dict[str, str] = {}
    for label, (kind, definition) in found.items():
        if not matches(config.tools, label):
            continue
        problem = _problem(definition.get("inputSchema"))
        if problem:
            left_out[label] = problem
            continue
        name = tool_name(server, label)
        if name in contracts:
            raise refused(
                server,
                f"'{label}' and '{contracts[name].spec['tool']}' would both be the tool '{name}'",
                f'offer one of them: tools = ["*", "!{label}"]',
            )
        contracts[name] = ToolContract(
            name=name,
            type="mcp",
            parameters=definition["inputSchema"],
            effect=_effect(config, definition, label),
            idempotent=_idempotent(config, definition, label),
            description=_clipped(_description(definition, label)),
            timeout_s=config.timeout_s,
            spec={"server": server, "kind": kind, "tool": label},
        )
    return Offered(contracts, left_out)


def _all(listing: Listing) -> Iterator[tuple[str, tuple[str, dict[str, Any]]]]:
    if "resources" in listing.offers:
        known = [str(item.get("uri")) for item in listing.resources]
        known += [str(item.get("uriTemplate")) for item in listing.templates]
        text = "Read a resource of the server."
        yield READ_RESOURCE, ("resource", _reading(_URI, text, known))
    if "prompts" in listing.offers:
        known = [str(item.get("name")) for item in listing.prompts]
        yield GET_PROMPT, ("prompt", _reading(_PROMPT, "Get a prompt of the server, with its arguments put in.", known))
    # later: a tool of the server that has one of these names is meant by it
    for tool in listing.tools:
        yield str(tool["name"]), ("tool", tool)


def _reading(schema: Json, text: str, known: list[str]) -> dict[str, Any]:
    named = ", ".join(known[:MAX_NAMED]) + (", …" if len(known) > MAX_NAMED else "")
    said = f"{text} It has: {named}" if known else text
    hints = {"readOnlyHint": True}
    return {"inputSchema": schema, "description": said, "annotations": hints}


def _problem(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "its inputSchema is no object"
    if len(canonical_json(schema)) > MAX_SCHEMA_CHARS:
        return f"its inputSchema is larger than {MAX_SCHEMA_CHARS // 1024} KB"
    problems = schema_problems(schema)
    return f"its inputSchema is wrong: {problems[0]}" if problems else ""


def _effect(config: McpConfig, definition: Mapping[str, Any], label: str) -> ToolEffect:
    for glob, effect in config.effects.items():
        if fnmatch.fnmatchcase(label, glob):
            return effect
    return ToolEffect.READ if _hint(definition, "readOnlyHint") else ToolEffect.WRITE


def _idempotent(config: McpConfig, definition: Mapping[str, Any], label: str) -> bool:
    for glob in config.idempotent:
        if fnmatch.fnmatchcase(label, glob.removeprefix("!")):
            return not glob.startswith("!")
    return _hint(definition, "idempotentHint")


def _hint(definition: Mapping[str, Any], name: str) -> bool:
    hints = definition.get("annotations")
    return isinstance(hints, dict) and hints.get(name) is True


def _description(definition: Mapping[str, Any], label: str) -> str:
    hints = definition.get("annotations")
    title = definition.get("title") or (hints.get("title") if isinstance(hints, dict) else "")
    said = [str(item).strip() for item in (title, definition.get("description")) if item]
    return "\n".join(dict.fromkeys(item for item in said if item)) or label


def _clipped(text: str) -> str:
    return text if len(text) <= MAX_DESCRIPTION_CHARS else f"{text[: MAX_DESCRIPTION_CHARS - 1]}…"


def _check_globs(server: str, config: McpConfig, labels: Mapping[str, Any]) -> None:
    for member, globs in (
        ("tools", config.tools),
        ("effects", list(config.effects)),
        ("idempotent", config.idempotent),
    ):
        for glob in globs:
            if not any(fnmatch.fnmatchcase(label, glob.removeprefix("!")) for label in labels):
                known = ", ".join(sorted(labels)[:MAX_NAMED]) or "none"
                raise refused(server, f"no tool is called '{glob[:60]}', as `{member}` has it", f"there are {known}")


def refused(server: str, reason: str, hint: str = "") -> InvalidInput:
    """Return `config.mcp`: the server, the reason and the remedy."""
    return InvalidInput(f"MCP server '{server}': {reason}", code="config.mcp", hint=hint)
