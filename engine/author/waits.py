"""Steps that wait for somebody or something outside: input, approvals, events."""

from __future__ import annotations

from typing import Any, Unpack

from engine.author.schemas import Schema, schema_of
from engine.author.step import Modifiers, Step, make_step
from engine.author.values import UNSET, Duration, Expr, Unset, Value, plain, seconds

_KEYS = ("schema", "deadline", "default")


def wait_for_input(
    info: Value = None,
    /,
    *,
    schema: Schema | None = None,
    deadline: Duration | Expr | None = None,
    default: Value | Unset = UNSET,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Wait for an answer; it is the step's output.

    Args:
        info: What the person who answers gets to see.
        schema: What an answer must be: a pydantic model, another type, or a JSON Schema.
        deadline: Longest wait; then the default is the output, or without one the step fails with `wait.expired`.
        default: The output when nobody answered.
        **modifiers: See `Modifiers`.
    """
    return make_step({"wait_for_input": _wait(info, schema, deadline, default)}, modifiers, _KEYS)


def approve(
    info: Value,
    /,
    *,
    schema: Schema | None = None,
    deadline: Duration | Expr | None = None,
    default: Value | Unset = UNSET,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Wait for somebody's approval; the output is the answer, `{approved, reason}` unless `schema` says otherwise.

    Args:
        info: What the person who decides gets to see.
        schema: What the answer must be: a pydantic model, another type, or a JSON Schema.
        deadline: Longest wait; then the default is the output, or without one the step fails with `wait.expired`.
        default: The output when nobody answered.
        **modifiers: See `Modifiers`.
    """
    return make_step({"approve": _wait(info, schema, deadline, default)}, modifiers, _KEYS)


def wait_for_event(
    name: str,
    /,
    *,
    key: Value = None,
    schema: Schema | None = None,
    deadline: Duration | Expr | None = None,
    default: Value | Unset = UNSET,
    **modifiers: Unpack[Modifiers],
) -> Step:
    """Wait for an event; its payload is the step's output.

    Args:
        name: Name of the event.
        key: Only an event with this key counts, such as `expr("_.order_id")`.
        schema: What the payload must be: a pydantic model, another type, or a JSON Schema.
        deadline: Longest wait; then the default is the output, or without one the step fails with `wait.expired`.
        default: The output when no event came.
        **modifiers: See `Modifiers`.
    """
    body = {"wait_for_event": plain(name, "wait_for_event")}
    if key is not None:
        body["key"] = plain(key, "key")
    return make_step({**body, **_wait(None, schema, deadline, default)}, modifiers, ("key", *_KEYS))


def _wait(
    info: Value, schema: Schema | None, deadline: Duration | Expr | None, default: Value | Unset
) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if info is not None:
        members["info"] = plain(info, "info")
    if schema is not None:
        members["schema"] = schema_of(schema, "schema")
    if deadline is not None:
        members["deadline"] = seconds(deadline, "deadline")
    if not isinstance(default, Unset):
        members["default"] = plain(default, "default")
    return members
