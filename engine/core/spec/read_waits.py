"""Reads the steps that wait: for an answer, for an approval, for a time. Workflow-safe."""

from __future__ import annotations

from typing import Any

from engine.core.spec import codes, vocabulary
from engine.core.spec.fields import Fields
from engine.core.spec.nodes import MapNode, Node, ScalarNode
from engine.core.spec.parts import NameSpec
from engine.core.spec.steps import ApproveStep, EventStep, StepSpec, WaitStep

_WAIT_KEYS = ("info", "schema", "deadline", "default")
_WAIT = "write `wait_for_input: {info: …, schema: …, deadline: …, default: …}`"
_SLEEP = "write `sleep: {seconds: 30}`"


def read_wait(fields: Fields, common: dict[str, Any]) -> StepSpec:
    """Read a `wait_for_input` step."""
    if fields.node.entry("wait_for_input") is None:
        # the oldest clients write the kind in `kind_` and `info` beside it
        info = fields.need("info")
        return WaitStep(info=info, **common)
    node = fields.take("wait_for_input")
    if node is None:
        return WaitStep(**common)
    if not isinstance(node, MapNode):
        fields.wrong_type("wait_for_input", node, "an object", _WAIT)
        return WaitStep(**common)
    return WaitStep(**_members(node, fields, "wait_for_input"), **common)


def read_approve(fields: Fields, common: dict[str, Any]) -> StepSpec:
    """Read an `approve` step; a text alone is what the person who decides is told."""
    node = fields.take("approve")
    if isinstance(node, MapNode):
        return ApproveStep(**_members(node, fields, "approve"), **common)
    if node is not None and not isinstance(node, ScalarNode):
        fields.wrong_type("approve", node, "a text or an object", "write `approve: {info: …, deadline: …, default: …}`")
        return ApproveStep(**common)
    return ApproveStep(info=node, **common)


def read_event(fields: Fields, common: dict[str, Any]) -> StepSpec:
    """Read a `wait_for_event` step."""
    fields.node.entry("wait_for_event")
    name = fields.text("wait_for_event")
    if name is None or not name.text.strip():
        at = fields.node.position if name is None else name.position
        hint = "write `wait_for_event: order.paid`"
        fields.error(codes.MISSING_KEY, "the step names no event", at, key="wait_for_event", hint=hint)
    return EventStep(event=name or NameSpec(""), key=fields.take("key"), **_ends(fields), **common)


def _members(node: MapNode, fields: Fields, key: str) -> dict[str, Any]:
    inner = Fields(node, fields.findings, fields.at(key), key)
    members = {"info": inner.take("info"), **_ends(inner)}
    inner.refuse_left(_WAIT_KEYS)
    return members


def _ends(inner: Fields) -> dict[str, Any]:
    """Take what a wait accepts and how it ends without an answer."""
    schema = inner.schema("schema")
    default = default_of(inner, "deadline", "24h")
    return {"schema": schema, "deadline": inner.take("deadline"), "default": default}


def default_of(inner: Fields, end: str, example: str) -> Node | None:
    """Take the output of a step whose time is over; None = there is none, since null is a default like any other.

    Args:
        inner: Members of the step.
        end: The key that says how long it waits, without which there is no need of a default.
        example: A value of that key.
    """
    default = inner.entry("default")
    if default is None:
        return None
    time = inner.node.get(end)
    if time is None or (isinstance(time, ScalarNode) and time.value is None):
        what = "the answer at the deadline" if end == "deadline" else "the output when no message comes"
        inner.error(
            codes.CONFLICT,
            f"'default' is {what}, but there is no '{end}'",
            default.key_position,
            key="default",
            hint=f"add `{end}: {example}`, or leave the default out",
        )
    return default.value


def read_sleep_parts(fields: Fields) -> tuple[tuple[Node, float], ...]:
    """Read `sleep`: (amount, seconds in its unit) for each part."""
    node = fields.need("sleep", hint=_SLEEP)
    if isinstance(node, ScalarNode):
        return ((node, 1.0),)
    if not isinstance(node, MapNode):
        if node is not None:
            fields.wrong_type("sleep", node, "an object or a duration", _SLEEP)
        return ()
    inner = Fields(node, fields.findings, fields.at("sleep"), "sleep")
    parts: list[tuple[Node, float]] = []
    for unit, seconds in vocabulary.SLEEP_UNITS_S.items():
        amount = inner.take(unit)
        if amount is not None:
            parts.append((amount, seconds))
    if not parts and not inner.left():
        inner.error(codes.MISSING_KEY, "sleep has no duration", node.position, hint=_SLEEP)
    inner.refuse_left(vocabulary.SLEEP_UNITS_S)
    return tuple(parts)
