"""Holds the results of tools to the operator's bounds, in one place for tools of every type."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import Final

from engine.core.errors import ToolError
from engine.core.values import MAX_VALUE_BYTES, Json, compact_json

MOST_CHARS: Final = MAX_VALUE_BYTES
"""What no value of a step may pass anyway."""
CUT: Final = "… [cut: {left} of {whole} characters are left out]"


def bound_of(name: str, bounds: Mapping[str, int]) -> int:
    """Return the most characters that a tool's result may have: of the globs of its name the first that fits counts."""
    return next((chars for glob, chars in bounds.items() if fnmatch.fnmatchcase(name, glob)), MOST_CHARS)


def bounded(name: str, output: Json, most: int) -> Json:
    """Return a result, a text cut if it is too long.

    Args:
        name: Name of the tool.
        output: Its result.
        most: Most characters: of a text those of itself, of anything else those of its JSON.

    Raises:
        ToolError: `tool.too_large` if it is no text: half of a JSON value is none.
    """
    if isinstance(output, str):
        if len(output) <= most:
            return output
        mark = CUT.format(left=len(output) - most, whole=len(output))
        return f"{output[:most]}{mark}"
    size = len(compact_json(output))
    if size <= most:
        return output
    raise ToolError(
        f"tool '{name}': the result has {size:,} characters, more than the {most:,} that are allowed",
        code="tool.too_large",
        hint="ask for less, for example page by page; the operator's bound is max_result_chars of [tools]",
        details={"chars": size, "most": most},
    )
