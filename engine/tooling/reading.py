"""Reads functions that are to be tools: whether they will do, and what their docstrings say of their arguments."""

from __future__ import annotations

import inspect
import json
import re
from typing import Any

from pydantic import BaseModel

from engine.core.contracts.pools import POOL_HINT, is_pool
from engine.core.errors import InvalidInput
from engine.core.kinds import ToolEffect

TOOL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_ARGUMENT_LINE = re.compile(r"(\*{0,2}\w+)(?:\s*\([^)]*\))?:\s*(.*)")
_SECTION = re.compile(r"(args|arguments|returns|raises|yields|examples?|notes?|attributes):\s*\Z", re.IGNORECASE)


def check_function(target: Any, name: str, effect: ToolEffect | str, timeout_s: float) -> None:
    """Make sure that a function can be a tool.

    Args:
        target: What `@tool` stands on.
        name: The name by which steps would call it.
        effect: What it says to do to the world.
        timeout_s: Longest time of one call in seconds.

    Raises:
        InvalidInput: `config.bad_tool`.
    """

    def refuse(reason: str, hint: str = "") -> InvalidInput:
        return InvalidInput(f"tool '{name}' {reason}", code="config.bad_tool", hint=hint)

    if not inspect.isfunction(target):
        raise refuse("is not made of a function", "put @tool on a plain or async function")
    if inspect.isgeneratorfunction(target) or inspect.isasyncgenfunction(target):
        raise refuse("is a generator", "return a list instead of yielding")
    if not TOOL_NAME.match(name):
        raise refuse("has a name that models cannot call", "use letters, digits, _ and -, at most 64 characters")
    if effect not in set(ToolEffect):
        raise refuse(f"has the unknown effect '{effect}'", f"use one of {', '.join(ToolEffect)}")
    if not timeout_s > 0:
        raise refuse(f"has a time limit of {timeout_s} s", "timeout_s must be above 0")
    for parameter in inspect.signature(target).parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY):
            raise refuse(f"takes '{parameter.name}' by position only", "arguments are passed by name")
        if parameter.default is not parameter.empty and not _is_json(parameter.default):
            raise refuse(
                f"has a default for '{parameter.name}' that JSON cannot hold", "use None and replace it inside"
            )


def check_pool(name: str, pool: str) -> None:
    """Make sure that a tool's pool can be called so.

    Raises:
        InvalidInput: `config.bad_tool`.
    """
    if pool and not is_pool(pool):
        raise InvalidInput(
            f"tool '{name}' has a pool that cannot be called '{pool}'",
            code="config.bad_tool",
            hint=POOL_HINT,
        )


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, default=_dump_model, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True


def _dump_model(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(type(value).__name__)


def summary_of(doc: str) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(doc.split("\n\n", 1)[0].split())


def argument_docs(doc: str) -> dict[str, str]:
    """Read the `Args:` section of a Google docstring: {name: text}."""
    found: dict[str, str] = {}
    inside, indent, current = False, -1, ""
    for line in doc.splitlines():
        text = line.strip()
        if _SECTION.match(text) and line == line.lstrip():
            inside, indent, current = text.lower().startswith("arg"), -1, ""
            continue
        if not inside or not text:
            continue
        depth = len(line) - len(line.lstrip())
        indent = depth if indent < 0 else indent
        match = _ARGUMENT_LINE.match(text) if depth == indent else None
        if match:
            current = match[1].lstrip("*")
            found[current] = match[2]
        elif current:
            found[current] = f"{found[current]} {text}".strip()
    return found
