"""Brings tools, as Julep's clients define them, into the form that the reader of tools knows. Workflow-safe."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from engine.core.spec.nodes import ListNode, MapEntry, MapNode, Node, ScalarNode, node_from_json, node_to_json
from engine.core.values import Json

DEFINITION: Final = "definition"
"""Holds a tool of ours that was told as one that the types of Julep's SDK take."""
SERVER_KEYS: Final = frozenset({"id", "created_at", "updated_at", "inherited"})
"""What a server writes into a tool that a client may send back."""
MOST_CHARS: Final = 10_000
"""Longer texts are not looked through for secrets that an expression puts into them."""

_TEXT: Final[Json] = {"type": "string"}
_PLACE: Final[Json] = {"type": "array", "items": {"type": "integer"}}


def _object(required: str, **properties: Json) -> Json:
    return {"type": "object", "properties": properties, "required": [required]}


MODEL_TOOLS: Final[Mapping[str, Json]] = MappingProxyType(
    {
        "computer_20241022": _object("action", action=_TEXT, coordinate=_PLACE, text=_TEXT),
        "bash_20241022": _object("command", command=_TEXT, restart={"type": "boolean"}),
        "text_editor_20241022": _object(
            "command",
            command=_TEXT,
            path=_TEXT,
            file_text=_TEXT,
            insert_line={"type": "integer"},
            new_str=_TEXT,
            old_str=_TEXT,
            view_range=_PLACE,
        ),
    }
)
"""Tools that are only told to a model, and what it may call them with; whoever asked makes the calls."""

_FIELD: Final = re.compile(r"(?<!\{)\{\s*(secrets(?:\.\w+|\[\s*['\"]\w+['\"]\s*\]))\s*\}(?!\})")
_NAME: Final = re.compile(r"\bsecrets(?:\.(\w+)|\[\s*['\"](\w+)['\"]\s*\])")


def plain_tools(node: Node) -> Node:
    """Return the tools of a task, or of an agent, in the form that the reader knows.

    Args:
        node: The list.
    """
    if not isinstance(node, ListNode):
        return node
    return ListNode(tuple(plain_tool(item) for item in node.items), node.position)


def plain_tool(node: Node) -> Node:
    """Return one tool in the form that the reader knows; keys without a value and those of servers are left out."""
    if not isinstance(node, MapNode):
        return node
    own = node.get(DEFINITION)
    if isinstance(own, MapNode):
        return own
    given = [entry for entry in node.entries if entry.key not in SERVER_KEYS]
    entries = tuple(_member(entry) for entry in given if not _is_null(entry.value))
    for kind, parameters in MODEL_TOOLS.items():
        if _is_kind(node, kind):
            kept = [entry for entry in entries if entry.key not in ("type", kind)]
            shown = {"type": "function", "parameters": parameters}
            added = [MapEntry(key, node.position, node_from_json(item, node.position)) for key, item in shown.items()]
            return MapNode((*kept, *added), node.position)
    return MapNode(entries, node.position)


def take_inline(node: Node, found: dict[str, MapNode]) -> Node:
    """Return steps whose prompts name the tools that they define themselves, as far as these are no functions.

    Args:
        node: Steps, or a part of them.
        found: Gets the definitions by name.
    """
    if isinstance(node, ListNode):
        return ListNode(tuple(take_inline(item, found) for item in node.items), node.position)
    if not isinstance(node, MapNode):
        return node
    is_prompt = node.entry("prompt") is not None
    entries = tuple(
        MapEntry(entry.key, entry.key_position, _offered(entry.value, found))
        if is_prompt and entry.key == "tools"
        else MapEntry(entry.key, entry.key_position, take_inline(entry.value, found))
        for entry in node.entries
    )
    return MapNode(entries, node.position)


def _offered(node: Node, found: dict[str, MapNode]) -> Node:
    if not isinstance(node, ListNode):
        return node
    return ListNode(tuple(_name_of(plain_tool(item), found) for item in node.items), node.position)


def _name_of(tool: Node, found: dict[str, MapNode]) -> Node:
    name = tool.get("name") if isinstance(tool, MapNode) else None
    if not isinstance(tool, MapNode) or not isinstance(name, ScalarNode):
        return tool
    if not any(_is_kind(tool, kind) for kind in ("api_call", "system", "integration")):
        return tool
    found.setdefault(str(name.value), tool)
    return name


def _is_kind(node: MapNode, kind: str) -> bool:
    named = node.get("type")
    if isinstance(named, ScalarNode) and named.value is not None:
        return named.value == kind
    return isinstance(node.get(kind), MapNode)


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.value is None


def _member(entry: MapEntry) -> MapEntry:
    value = entry.value
    if not isinstance(value, MapNode) or entry.key not in ("function", "api_call", "system", "integration"):
        return entry
    members = tuple(item for item in value.entries if not _is_null(item.value) or item.key == "json")
    inner: Node = MapNode(members, value.position)
    if entry.key in ("api_call", "integration"):
        inner = _with_secrets(MapNode(tuple(item for item in members if item.key != "secrets"), value.position), value)
    return MapEntry(entry.key, entry.key_position, inner)


# --- secrets -------------------------------------------------------------------------------------------------------


def _with_secrets(node: MapNode, whole: MapNode) -> Node:
    """Return a definition whose texts name secrets as ours do, by the secrets' own names."""
    given = whole.get("secrets")
    told = node_to_json(given) if isinstance(given, MapNode) else {}
    names = {
        alias: str(reference["name"])
        for alias, reference in (told.items() if isinstance(told, dict) else ())
        if isinstance(reference, dict) and "name" in reference
    }
    return _in_texts(node, names)


def _in_texts(node: Node, names: Mapping[str, str]) -> Node:
    match node:
        case MapNode():
            entries = (MapEntry(item.key, item.key_position, _in_texts(item.value, names)) for item in node.entries)
            return MapNode(tuple(entries), node.position)
        case ListNode():
            return ListNode(tuple(_in_texts(item, names) for item in node.items), node.position)
        case ScalarNode(value=str() as text) if "secrets" in text and len(text) <= MOST_CHARS:
            return ScalarNode(_named(_as_template(text), names), node.position)
        case _:
            return node


def _named(text: str, names: Mapping[str, str]) -> str:
    def own(found: re.Match[str]) -> str:
        alias = found[1] or found[2]
        return f"secrets.{names.get(alias, alias)}"

    return _NAME.sub(own, text)


def _as_template(text: str) -> str:
    """Return a text with secrets as a template; one that is more than a text put together stays as it is."""
    if not text.startswith("$ "):
        return _FIELD.sub(r"{{ \1 }}", text)
    try:
        found = ast.parse(text[2:].strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    parts = _parts(found)
    return text if parts is None else parts


def _parts(node: ast.AST) -> str | None:
    """Return an expression that joins texts and secrets as a template, or None if it does anything else."""
    match node:
        case ast.Constant(value=str() as text) if "{{" not in text and "{%" not in text:
            return text
        case ast.Attribute(value=ast.Name(id="secrets"), attr=name):
            return f"{{{{ secrets.{name} }}}}"
        case ast.Subscript(value=ast.Name(id="secrets"), slice=ast.Constant(value=str() as name)):
            return f"{{{{ secrets.{name} }}}}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _joined([left, right])
        case ast.JoinedStr(values=values):
            return _joined(values)
        case ast.FormattedValue(value=value, conversion=-1, format_spec=None):
            return _parts(value)
        case _:
            return None


def _joined(nodes: list[ast.expr]) -> str | None:
    parts = [_parts(node) for node in nodes]
    return None if None in parts else "".join(part for part in parts if part is not None)
