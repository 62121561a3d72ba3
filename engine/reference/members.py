"""The members of each word as rows of a table, read off the shapes that editors get and the defaults of the code."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from types import MappingProxyType
from typing import Any, Final, get_args

from engine.core.kinds import StepKind
from engine.core.plan.ir import Limits, ToolContract
from engine.core.spec import vocabulary
from engine.core.spec.parts import RetrySpec
from engine.core.spec.steps import StepSpec
from engine.core.values import compact_json
from engine.reference.entry import Entry, Group
from engine.source.editor_modifiers import MODIFIER_KEYS
from engine.source.editor_shapes import Shape
from engine.source.editor_steps import REQUIRED, STEP_KEYS
from engine.source.editor_tasks import TASK_KEYS


@dataclass(frozen=True, slots=True)
class Member:
    """One row of the table of a word.

    Attributes:
        name: The member, with those around it: `retry.attempts`, `switch[].case`.
        type: What may stand there.
        default: What holds if it is left out, as JSON; "required", or empty for nothing.
        meaning: One sentence.
    """

    name: str
    type: str
    default: str
    meaning: str


_SHARED: Final = MappingProxyType(
    {
        "steps": "steps",
        "step": "step",
        "branches": "list of steps",
        "expression": "expression",
        "duration": "duration",
        "amount": "duration or expression",
        "json_schema": "JSON Schema",
        "name": "name",
        "message": "message",
    }
)
_PLAIN: Final = MappingProxyType(
    {
        "string": "text",
        "boolean": "true or false",
        "array": "list",
        "object": "object",
        "integer": "whole number",
        "number": "number",
    }
)
_SAYS_DEFAULT: Final = re.compile(r"[;,] [^;,.]+(?:,\d{3})? if left out|; left out = [^.;]+")
"""A default that the words for editors say, where it stands in a column of its own here."""
_TYPES: Final = MappingProxyType(
    {
        "prompt": "text or list of messages",
        "tools": "`all` or list of names and functions",
        "model": "name or list of names",
        "arguments": "object or expression",
        "set": "object or expression",
        "input_schema": "JSON Schema",
        **{f"sleep.{unit}": "number or expression" for unit in vocabulary.SLEEP_UNITS_S},
    }
)
"""Types that the shape for editors does not tell."""

_MEANINGS: Final = MappingProxyType(
    {
        (StepKind.AGENT, "max_rounds"): "Most calls of the model.",
        (StepKind.AGENT, "parallelism"): "Most tool calls at one time.",
        (StepKind.WHILE, "max_rounds"): "Most rounds; more fail with `loop.too_many_rounds`.",
        (StepKind.UNTIL, "max_rounds"): "Most rounds; more fail with `loop.too_many_rounds`.",
        (StepKind.MAP_REDUCE, "parallelism"): "Most items at one time.",
        (StepKind.PARALLEL, "parallelism"): "Most branches at one time.",
    }
)
"""Meanings of members that several kinds have, and of which editors are told one for all."""

_MEANINGS_BY_NAME: Final = MappingProxyType(
    {
        "approve.schema": "JSON Schema of the answer; left out = {approved, reason}.",
        "schema": "JSON Schema of the event's value; left out = anything.",
    }
)
"""Meanings that differ from what editors are told of all waits."""

_DEFAULTS: Final = MappingProxyType(
    {
        "max_rounds": vocabulary.DEFAULT_ROUNDS,
        "initial": [],
        "arguments": "$ _",
        "limits.steps": Limits().steps,
        # of what the worker sends; a test compares them with its adapter
        "api_call.method": "GET",
        "api_call.follow_redirects": False,
        "api_call.include_response_content": True,
        "tools[].timeout": f"{ToolContract('', 'python').timeout_s:g}s",
        "listen.messages": vocabulary.DEFAULT_INBOX,
        "listen.busy": "enqueue",
        "dialect": "everstep",
        **{f"retry.{key}": f"{getattr(RetrySpec(), f'{key}_s'):g}s" for key in ("initial", "max")},
        "retry.factor": int(RetrySpec().factor),
    }
)
"""Defaults that are no defaults of a member of the same name in the step's own class."""


def members_of(entry: Entry) -> list[Member]:
    """Return the rows of a word: its own members, and those of the objects in them."""
    if entry.group is Group.KIND:
        kind = vocabulary.MARKERS.get(entry.name)
        if kind is None:
            return list(_rows(entry.name, *STEP_KEYS[entry.name], required=True)) if entry.name in STEP_KEYS else []
        return [row for key in vocabulary.KEYS[kind] for row in _of_kind(kind, key)]
    if entry.group is Group.MODIFIER:
        return list(_rows(entry.name, *MODIFIER_KEYS[entry.name]))
    if entry.group is Group.KEY:
        return _of_task(entry.name)
    return _of_tool(entry.name)


def _of_kind(kind: StepKind, key: str) -> Iterator[Member]:
    if key == "info" and kind is StepKind.WAIT_FOR_INPUT:
        # the older spelling; the member of the same name is listed
        return
    needed = key in REQUIRED.get(kind, ()) or key == vocabulary.MARKER_OF[kind]
    shape, text = STEP_KEYS[key]
    yield from _rows(key, shape, _MEANINGS.get((kind, key), text), required=needed, own=_own_defaults(kind))


def _own_defaults(kind: StepKind) -> Mapping[str, Any]:
    """Return the defaults of the class that holds a step of a kind, by the author's names of its members."""
    for candidate in get_args(StepSpec):
        found = {item.name: item.default for item in fields(candidate)}
        if found.get("kind") is kind:
            return {name.removesuffix("_s"): value for name, value in found.items() if value is not MISSING}
    return {}


def _of_task(name: str) -> list[Member]:
    shape, text = TASK_KEYS[name]
    rows = list(_rows(name, shape, text, required=name == "main"))
    # what a tool may say has a page of its own
    return [Member(name, "list of tools", "", rows[0].meaning)] if name == "tools" else rows


def _of_tool(name: str) -> list[Member]:
    items = TASK_KEYS["tools"][0]["items"]
    rows = [row for row in _inner("tools[]", items, {}) if not row.name.startswith("tools[].api_call.")]
    if name == "api_call":
        rows = list(_inner("api_call", items["properties"]["api_call"], {}))
    return [Member(row.name.removeprefix("tools[]."), row.type, row.default, row.meaning) for row in rows]


def _rows(
    name: str, shape: Shape, text: str, *, required: bool = False, own: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[Member]:
    default = "required" if required else _default(name, own)
    kind, text = _TYPES.get(name, type_of(shape)), _MEANINGS_BY_NAME.get(name, text)
    yield Member(name, kind, default, _SAYS_DEFAULT.sub("", text) if default else text)
    yield from _inner(name, shape, own)


def _inner(name: str, shape: Shape, own: Mapping[str, Any]) -> Iterator[Member]:
    """Yield the rows of the members of an object, or of the objects in a list."""
    for option in (shape, *shape.get("anyOf", ())):
        if option.get("type") == "array" and isinstance(option.get("items"), dict):
            inside, place = option["items"], f"{name}[]"
        elif isinstance(option.get("additionalProperties"), dict):
            inside, place = option["additionalProperties"], f"{name}.NAME"
        else:
            inside, place = option, name
        if "properties" not in inside:
            continue
        for key, part in inside["properties"].items():
            here = f"{place}.{key}" if place else key
            needed = key in inside.get("required", ())
            yield from _rows(here, part, str(part.get("description", "")), required=needed, own=own)
        return


def _default(name: str, own: Mapping[str, Any]) -> str:
    value = own.get(name)
    if value is None or value == ():
        value = _DEFAULTS.get(name)
    if isinstance(value, float):
        value = int(value)
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return compact_json(value)


def type_of(shape: Shape) -> str:
    """Return a JSON Schema of ours in two or three words."""
    if "$ref" in shape:
        return _SHARED[shape["$ref"].rpartition("/")[2]]
    if "enum" in shape:
        return ", ".join(f"`{word}`" for word in shape["enum"])
    if "const" in shape:
        return f"`{shape['const']}`"
    if "anyOf" in shape:
        return " or ".join(dict.fromkeys(type_of(option) for option in shape["anyOf"]))
    if "then" in shape:
        return f"{type_of(shape['else'])} or list"
    kind = shape.get("type")
    if kind is None:
        return "any value"
    if isinstance(kind, list):
        return " or ".join(_PLAIN[item] for item in kind if item != "null")
    ends = [shape.get("minimum"), shape.get("maximum")]
    bounds = f" {ends[0]:,} to {ends[1]:,}" if all(type(end) is int for end in ends) else ""
    items = shape.get("items")
    if kind == "array" and isinstance(items, dict) and items:
        return f"list of {_plural(type_of(items))}"
    return f"{_PLAIN[kind]}{bounds}"


def _plural(word: str) -> str:
    return {"text": "texts", "object": "objects", "step": "steps"}.get(word, word)
