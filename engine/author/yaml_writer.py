"""Prints a task as YAML that people like to read; reading the text again gives the same values."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from engine.core.values import Json

MAX_FLOW_CHARS = 80
"""Longest list that is printed on one line."""
_LONG_KEY_CHARS = 200
"""Longer keys are printed in the explicit form, since parsers give up looking for their colon."""

# what stands for itself without quotes; narrower than YAML 1.2, so that readers of YAML 1.1 agree
_BARE = re.compile(r"[A-Za-z_$(/](?:.*[^\s:])?\Z")
_DURATION = re.compile(r"[0-9]+(?:ms|s|m|h|d)\Z")
_WORDS = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_NOT_IN_FLOW = frozenset(",[]{}:?")
_ESCAPES = {"\n": "\\n", "\t": "\\t", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def write_yaml(value: Json) -> str:
    """Print a JSON value as a YAML document.

    Args:
        value: What a task file holds.

    Returns:
        Text with a line break at the end; the reader of task files gives the same value back.

    Raises:
        ValueError: For NaN and infinities, which JSON does not have.
    """
    lines = _container(value, 0) if isinstance(value, (dict, list)) and value else [_scalar(value)]
    return "\n".join(lines) + "\n"


def _container(value: Json, indent: int) -> Iterator[str]:
    """Yield the lines of an object or a list that is not empty."""
    margin = " " * indent
    if isinstance(value, list):
        for item in value:
            yield from _put(f"{margin}-", item, indent)
        return
    for key, item in value.items():
        name = _quoted_unless_bare(key)
        if len(name) > _LONG_KEY_CHARS:
            yield f"{margin}? {name}"
            name = ""
        yield from _put(f"{margin}{name}:", item, indent)


def _put(lead: str, value: Json, indent: int) -> Iterator[str]:
    """Yield the lines of a value behind what leads to it: a dash, or a key with its colon.

    Args:
        lead: Indentation and dash or key.
        value: The value.
        indent: Indentation of what leads to it.
    """
    margin = " " * (indent + 2)
    if isinstance(value, str) and _is_block(value):
        yield f"{lead} {'|' if value.endswith(chr(10)) else '|-'}"
        for line in value.removesuffix("\n").split("\n"):
            yield f"{margin}{line}" if line else ""
        return
    if not isinstance(value, (dict, list)) or not value:
        yield f"{lead} {_scalar(value)}"
        return
    flow = _flow(value)
    if flow and len(lead) + len(flow) < MAX_FLOW_CHARS:
        yield f"{lead} {flow}"
        return
    lines = _container(value, indent + 2)
    # the first line of a container stands beside the dash that it belongs to
    yield f"{lead} {next(lines).removeprefix(margin)}" if lead.endswith("-") else lead
    yield from lines


def _flow(value: Json) -> str:
    """Return a list of scalars on one line, or an empty text for anything else."""
    if not isinstance(value, list) or any(isinstance(item, (dict, list)) for item in value):
        return ""
    return f"[{', '.join(_scalar(item, in_flow=True) for item in value)}]"


def _scalar(value: Json, *, in_flow: bool = False) -> str:
    """Return a scalar, or an empty object or list."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{value} is no JSON value")
        return repr(value)
    if isinstance(value, str):
        return _quoted_unless_bare(value, in_flow=in_flow)
    return "{}" if isinstance(value, dict) else "[]"


def _quoted_unless_bare(text: str, *, in_flow: bool = False) -> str:
    if not text.isprintable():
        return f'"{"".join(_escaped(char) for char in text)}"'
    if _is_bare(text) and not (in_flow and _NOT_IN_FLOW & set(text)):
        return text
    if "'" in text and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return "'" + text.replace("'", "''") + "'"


def _is_bare(text: str) -> bool:
    if text.lower() in _WORDS or ": " in text or " #" in text:
        return False
    return bool(_BARE.match(text) or _DURATION.match(text))


def _is_block(text: str) -> bool:
    """Whether a text of several lines can be shown line by line without any change."""
    lines = text.removesuffix("\n").split("\n")
    if "\n" not in text or not lines[0] or lines[0][0] == " " or not lines[-1]:
        return False
    return all(line.isprintable() and (not line or not line.isspace()) for line in lines)


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
