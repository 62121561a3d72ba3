"""Reads `allow` of a task: the names that its steps may reach, by kind. Workflow-safe."""

from __future__ import annotations

from typing import Final

from engine.core.spec import codes
from engine.core.spec.fields import Fields
from engine.core.spec.model import AllowSpec
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode
from engine.core.spec.parts import NameSpec

KINDS: Final = ("tools", "models", "hosts", "secrets", "tasks")
MAX_NAMES: Final = 200
"""Names of one kind; a child's bound is compared with its parent's name by name when it starts."""

_SHAPE = "write `allow: {tools: [NAME], hosts: [HOST]}`; `allow: []` permits nothing, no `allow` permits everything"


def read_allow(fields: Fields) -> AllowSpec | None:
    """Take `allow` out of a task.

    Args:
        fields: The members of the task.

    Returns:
        The bound; None if there is none.
    """
    entry = fields.entry("allow")
    if entry is None:
        return None
    node = entry.value
    if isinstance(node, ListNode) and not node.items:
        return AllowSpec(dict.fromkeys(KINDS, ()), entry.key_position)
    if not isinstance(node, MapNode):
        fields.wrong_type("allow", node, "an object or []", _SHAPE)
        return AllowSpec(dict.fromkeys(KINDS, ()), entry.key_position)
    inner = Fields(node, fields.findings, "allow", "allow")
    names: dict[str, tuple[NameSpec, ...]] = {}
    for kind in KINDS:
        member = inner.entry(kind)
        if member is not None:
            names[kind] = _names(inner, kind, member.value)
    inner.refuse_left(KINDS)
    return AllowSpec(names, entry.key_position)


def _names(fields: Fields, kind: str, node: Node) -> tuple[NameSpec, ...]:
    if not isinstance(node, ListNode):
        # also null: who empties a list by half must not open the task by that
        fields.wrong_type(kind, node, "a list of names", f"`{kind}: []` permits none; leave '{kind}' out to permit all")
        return ()
    if len(node.items) > MAX_NAMES:
        message = f"'{kind}' has {len(node.items)} names, but may have at most {MAX_NAMES}"
        fields.error(codes.OUT_OF_RANGE, message, node.position, key=kind)
        return ()
    found: list[NameSpec] = []
    for item in node.items:
        if not isinstance(item, ScalarNode) or not isinstance(item.value, str):
            hint = "put quotes around it" if isinstance(item, ScalarNode) else ""
            fields.wrong_type(kind, item, "a list of names", hint)
        elif not item.value.strip() or item.value == "*":
            message = f"'{item.value}' in '{kind}' is no name"
            fields.error(
                codes.BAD_NAME, message, item.position, key=kind, hint=f"leave '{kind}' out to permit all {kind}"
            )
        else:
            found.append(NameSpec(item.value, item.position))
    return tuple(found)
