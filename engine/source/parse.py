"""Turns the text of a task file, YAML or JSON, into a tree of nodes with line and column."""

from __future__ import annotations

import json

from engine.core.diagnostics import Findings, Position
from engine.core.errors import SourceError
from engine.core.spec import codes
from engine.core.spec.nodes import Node
from engine.source.json_reader import read_json
from engine.source.limits import MAX_SOURCE_CHARS, source_error
from engine.source.yaml_reader import read_yaml

MAX_SHOWN = 500
"""Findings that are handed out at most; one more helps nobody."""


def parse_source(text: str, file: str, findings: Findings | None = None) -> Node:
    """Read a source text.

    Args:
        text: YAML 1.2 or JSON, at most 1 MB, one document.
        file: Name of the source for messages; one that ends in `.json` holds JSON and nothing else.
        findings: Where to put keys that stand twice, for who goes on with the tree all the same; None = they are an
            error.

    Returns:
        The tree; aliases are expanded, keys are text. Of a key that stands twice it has both values, if they are lists
        or objects, else the first.

    Raises:
        SourceError: With the E1xx diagnostics, the file and the source.
    """
    found = Findings() if findings is None else findings
    try:
        root = _read(text.removeprefix("\ufeff"), found, only_json=file.endswith(".json"))
    except SourceError as error:
        items = [*found.items[: MAX_SHOWN - 1], *error.diagnostics]
        raise SourceError(
            f"{file}: {error.message}", hint=error.hint, diagnostics=items, file=file, source=text
        ) from error.__cause__
    if findings is None and found.items:
        first = found.items[0]
        raise SourceError(
            f"{file}: {first.message}", hint=first.hint, diagnostics=found.items[:MAX_SHOWN], file=file, source=text
        )
    return root


def _read(text: str, findings: Findings, *, only_json: bool) -> Node:
    if len(text) > MAX_SOURCE_CHARS:
        raise source_error(
            codes.TOO_LARGE,
            f"the source has {len(text):,} characters, more than {MAX_SOURCE_CHARS:,}",
            Position(1, 1),
            hint="keep data out of the task and pass it as input",
        )
    for index, char in enumerate(text if not text.isascii() else ""):
        if "\ud800" <= char <= "\udfff":
            line_start = text.rfind("\n", 0, index) + 1
            at = Position(text.count("\n", 0, index) + 1, index - line_start + 1)
            raise source_error(codes.NOT_TEXT, "the source is not valid Unicode text", at)
    if only_json or text.lstrip(" \t\r\n")[:1] in ("{", "["):
        before = len(findings.items)
        node = read_json(text, findings)
        if node is not None:
            return node
        if not only_json:
            # the reader of YAML finds them again
            del findings.items[before:]
    if only_json and text.strip():
        raise _not_json(text)
    return read_yaml(text, findings)


def _not_json(text: str) -> SourceError:
    at, reason = Position(1, 1), "it holds something that JSON does not have"
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        at, reason = Position(error.lineno, error.colno), error.msg[:1].lower() + error.msg[1:]
    except RecursionError:
        reason = "it is nested too deeply"
    return source_error(codes.SYNTAX, f"this is not JSON: {reason}", at, hint="a YAML text belongs into a .yaml file")
