"""Brings the spellings of Julep's clients and documentation into the form that the task reader knows. Workflow-safe.

Only the structure changes: a step that stands inside a key of its kind is lifted out of it, and keys that a server adds
to a task are left out. Every node keeps its place in the source.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import Final

from engine.core.diagnostics import Findings
from engine.core.spec import codes, vocabulary
from engine.core.spec.dialects.julep_tools import plain_tools, take_inline
from engine.core.spec.nodes import ListNode, MapEntry, MapNode, Node, ScalarNode

SERVER_KEYS: Final = ("id", "agent_id", "developer_id", "created_at", "updated_at", "version", "plan_hash")
"""What a server writes into a task that a client may send back."""

WRAPPERS: Final = MappingProxyType({"yield": "workflow", "tool_call": "tool", "if_else": "if", "map_reduce": "over"})
"""Keys that may hold a whole step, and the key by which the step inside shows its kind."""

TOLD_AS: Final = "told_as"
"""Names the member that made a step or several steps one that the types of Julep's SDK take."""

_LISTS: Final = ("then", "else", "map", "on_error")


def plain_julep(node: MapNode, findings: Findings, dialect: str) -> MapNode:
    """Return a Julep task in the form that the task reader knows.

    Args:
        node: The task.
        findings: Where to put what is left out.
        dialect: The dialect's name, for messages.
    """
    entries: list[MapEntry] = []
    inline: dict[str, MapNode] = {}
    for entry in node.entries:
        if entry.key in SERVER_KEYS:
            findings.warn(
                codes.NO_EFFECT,
                f"'{entry.key}' of a task is given by the server; it is left out ({dialect})",
                entry.key_position,
                path=entry.key,
            )
        elif entry.key == "tools":
            entries.append(_with(entry, plain_tools(entry.value)))
        elif entry.key == "main" or entry.key not in vocabulary.TASK_KEYS:
            entries.append(_with(entry, take_inline(_steps(entry.value), inline)))
        else:
            entries.append(entry)
    return MapNode(tuple(_with_tools(entries, inline, node)), node.position)


def _with_tools(entries: list[MapEntry], inline: dict[str, MapNode], node: MapNode) -> list[MapEntry]:
    """Return the members of a task with the tools that its prompts define themselves among its own, which win."""
    if not inline:
        return entries
    tools = next((entry for entry in entries if entry.key == "tools"), None)
    given = tools.value.items if tools is not None and isinstance(tools.value, ListNode) else ()
    names = [item.get("name") for item in given if isinstance(item, MapNode)]
    known = {name.value for name in names if isinstance(name, ScalarNode)}
    added = tuple(tool for name, tool in inline.items() if name not in known)
    whole = MapEntry("tools", node.position, ListNode((*given, *added), node.position))
    return [*(entry for entry in entries if entry is not tools), whole]


def _with(entry: MapEntry, value: Node) -> MapEntry:
    return entry if value is entry.value else MapEntry(entry.key, entry.key_position, value)


def _steps(node: Node) -> Node:
    if isinstance(node, ListNode):
        return ListNode(tuple(_step(item) for item in node.items), node.position)
    several = _several(node)
    return _step(node) if several is None else _steps(several)


def _several(node: Node) -> ListNode | None:
    """Return the steps that were told as one, or None."""
    marker = node.get(TOLD_AS) if isinstance(node, MapNode) else None
    if not isinstance(node, MapNode) or not isinstance(marker, ScalarNode) or marker.value != "steps":
        return None
    steps = node.get("steps")
    return steps if isinstance(steps, ListNode) else None


def _as_written(node: MapNode) -> MapNode:
    """Return a step without the member that made it one of the SDK's."""
    marker = node.get(TOLD_AS)
    if not isinstance(marker, ScalarNode):
        return node
    left_out = (TOLD_AS, marker.value)
    return MapNode(tuple(entry for entry in node.entries if entry.key not in left_out), node.position)


def _step(node: Node) -> Node:
    if not isinstance(node, MapNode):
        return node
    step = _several_keys(_without_flag(_with_all_tools(_nested_map(_unwrapped(_as_written(node))))))
    return MapNode(tuple(_inner(entry) for entry in step.entries), step.position)


def _inner(entry: MapEntry) -> MapEntry:
    """Return a member of a step with the steps inside it in plain form."""
    value = entry.value
    if entry.key in _LISTS:
        return _with(entry, _steps(value))
    if entry.key == "foreach" and isinstance(value, MapNode):
        return _with(entry, _changed(value, "do", _steps))
    if entry.key in ("parallel", "switch") and isinstance(value, ListNode):
        change = _steps if entry.key == "parallel" else _case
        return _with(entry, ListNode(tuple(change(item) for item in value.items), value.position))
    return entry


def _case(node: Node) -> Node:
    return _changed(node, "then", _steps) if isinstance(node, MapNode) else node


def _changed(node: MapNode, key: str, change: Callable[[Node], Node]) -> MapNode:
    entries = tuple(_with(entry, change(entry.value)) if entry.key == key else entry for entry in node.entries)
    return MapNode(entries, node.position)


def _unwrapped(node: MapNode) -> MapNode:
    """Lift `{tool_call: {tool: x, arguments: …}}` and the like; `yield: NAME` means `workflow: NAME`."""
    for wrapper, marker in WRAPPERS.items():
        outer = node.entry(wrapper)
        if outer is None or node.entry(marker) is not None:
            continue
        if isinstance(outer.value, ScalarNode) and marker in ("workflow", "tool"):
            inner: tuple[MapEntry, ...] = (MapEntry(marker, outer.key_position, outer.value),)
        elif isinstance(outer.value, MapNode):
            inner = tuple(_named(entry, outer.value, marker) for entry in outer.value.entries)
        else:
            continue
        return _spliced(node, outer, inner)
    return node


def _without_flag(node: MapNode) -> MapNode:
    """Leave out `parallel: true` beside `over`, which said in 2024 what `parallelism` says now."""
    flag = node.get("parallel")
    if node.entry("over") is None or not isinstance(flag, ScalarNode):
        return node
    return MapNode(tuple(entry for entry in node.entries if entry.key != "parallel"), node.position)


def _with_all_tools(node: MapNode) -> MapNode:
    """Read a prompt that shall run tools and names none as one that is offered all there are."""
    flag = node.entry("auto_run_tools")
    if flag is None or not isinstance(flag.value, ScalarNode) or flag.value.value is not True or node.entry("tools"):
        return node
    everything = MapEntry("tools", flag.key_position, ScalarNode("all", flag.value.position))
    return MapNode((*node.entries, everything), node.position)


def _several_keys(node: MapNode) -> MapNode:
    """Read `get: [a, b]` as the object of these members of the state."""
    outer = node.entry("get")
    if outer is None or not isinstance(outer.value, ListNode) or not outer.value.items:
        return node
    members: list[MapEntry] = []
    for item in outer.value.items:
        if not isinstance(item, ScalarNode) or not isinstance(item.value, str):
            return node
        members.append(MapEntry(item.value, item.position, ScalarNode(f"$ state[{item.value!r}]", item.position)))
    kept = tuple(entry for entry in node.entries if entry.key not in ("get", "kind_"))
    wanted = MapEntry("evaluate", outer.key_position, MapNode(tuple(members), outer.value.position))
    return MapNode((wanted, *kept), node.position)


def _named(entry: MapEntry, inside: MapNode, marker: str) -> MapEntry:
    """Read `name` of a wrapped tool or sub-workflow as the key that marks the kind."""
    if entry.key == "name" and marker in ("workflow", "tool") and inside.entry(marker) is None:
        return MapEntry(marker, entry.key_position, entry.value)
    return entry


def _spliced(node: MapNode, outer: MapEntry, inner: tuple[MapEntry, ...]) -> MapNode:
    own = {entry.key for entry in node.entries if entry is not outer}
    if own & {entry.key for entry in inner}:
        # what stands twice is left as it is, so that the reader says what it does not know
        return node
    entries: list[MapEntry] = []
    for entry in node.entries:
        entries.extend(inner if entry is outer else (entry,))
    return MapNode(tuple(entries), node.position)


def _nested_map(node: MapNode) -> MapNode:
    """Lift `{map: {over: x, …}}`; the rest of what stands inside is the mapped step, unless it has its own `map`."""
    outer = node.entry("map")
    if outer is None or not isinstance(outer.value, MapNode) or node.entry("over") is not None:
        return node
    inside = outer.value
    over = inside.entry("over")
    if over is None:
        return node
    beside = [entry for entry in inside.entries if entry.key in ("reduce", "initial", "parallelism")]
    rest = tuple(entry for entry in inside.entries if entry is not over and entry not in beside)
    own = inside.entry("map")
    body = own.value if own is not None and len(rest) == 1 else MapNode(rest, inside.position)
    return _spliced(node, outer, (over, MapEntry("map", outer.key_position, body), *beside))
