"""Reads `system` of a tool: which operation on which resource it is. Workflow-safe."""

from __future__ import annotations

from typing import Any, Final

from engine.core.spec import codes
from engine.core.spec.fields import Fields
from engine.core.spec.nodes import MapNode

OF_ONE: Final = ("list", "get", "create", "update", "delete")
DOC_OPERATIONS: Final = ("list", "get", "create", "delete", "search")
KEYS: Final = ("resource", "operation", "subresource", "resource_id", "arguments")
RESOURCES: Final = ("agent", "task", "execution", "user", "session", "doc")
OWNERS: Final = ("agent", "user")
"""Those that have documents of their own; `doc` alone means documents that are nobody's."""
OPERATIONS: Final = (
    *(f"{resource}.{operation}" for resource in ("agent", "user") for operation in OF_ONE),
    *("task.list", "task.get", "task.create", "task.update", "task.delete"),
    *("execution.list", "execution.get", "execution.create"),
    *(f"session.{operation}" for operation in (*OF_ONE, "create_or_update", "history", "chat")),
    *(f"{place}doc.{operation}" for place in ("", *(f"{owner}." for owner in OWNERS)) for operation in DOC_OPERATIONS),
)
"""All that this version has; engine.core.plan.system_tools says what each of them takes."""
_OF_TASK: Final = frozenset({"execution.create", "execution.list"})
"""Operations whose `resource_id` is that of the task."""
_WRITE: Final = "write `system: {resource: task, operation: list}`"


def julep_names(operation: str) -> dict[str, str]:
    """Return the names that Julep has for arguments which name something, each with the one that it has here.

    Args:
        operation: One of OPERATIONS.
    """
    place, _, _ = operation.rpartition(".")
    owner, _, inner = place.rpartition(".")
    names = {f"{owner}_id": owner} if owner else {}
    if operation in _OF_TASK:
        return {"task_id": "task"}
    return {**names, f"{inner}_id": "id"}


def read_system(fields: Fields, *, julep: bool = False) -> dict[str, Any]:
    """Take `system` of a tool.

    Args:
        fields: Members of the tool.
        julep: Whether its calls have the names that Julep has for arguments.

    Returns:
        {operation, arguments, names?}: its name and the arguments that are fixed; {} if it could not be read.
    """
    node = fields.need("system", hint=_WRITE)
    if not isinstance(node, MapNode):
        if node is not None:
            fields.wrong_type("system", node, "an object", _WRITE)
        return {}
    inner = Fields(node, fields.findings, fields.at("system"), "system")
    words = {key: inner.text(key) for key in ("resource", "operation", "subresource", "resource_id")}
    arguments = inner.json_object("arguments") or {}
    inner.refuse_left(KEYS)
    for key in ("resource", "operation"):
        if words[key] is None and node.entry(key) is None:
            inner.error(codes.MISSING_KEY, f"system has no '{key}'", node.position, hint=_WRITE)
    resource, operation, sub = words["resource"], words["operation"], words["subresource"]
    if resource is None or operation is None:
        return {}
    is_owned = sub is not None and sub.text == "doc" and resource.text in OWNERS
    name = f"{resource.text}.doc.{operation.text}" if is_owned else f"{(sub or resource).text}.{operation.text}"
    if name not in OPERATIONS:
        message = f"the operation '{name[:60]}' of system tools is not available in this version"
        hint = f"there are {', '.join(OPERATIONS)}"
        inner.error(codes.LATER, message, operation.position, key="operation", hint=hint)
        return {}
    named = words["resource_id"]
    if named is not None:
        arguments[resource.text if is_owned else "task" if name in _OF_TASK else "id"] = named.text
    if not julep:
        return {"operation": name, "arguments": arguments}
    names = julep_names(name)
    return {
        "operation": name,
        "arguments": {names.get(key, key): value for key, value in arguments.items()},
        "names": names,
    }
