"""What the commands of schedules, webhooks, hooks and jobs share: whole lists, and answers as JSON or one line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.edge.cli.api import Api
from engine.edge.cli.output import Mode, as_json, write

LONG_S = 15.0
"""What Temporal must do for an answer may take a while."""


def all_items(api: Api, path: str, *, most: int = 10_000, **params: Any) -> list[dict[str, Any]]:
    """Return the items of a list, all of its pages."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = api.get(path, limit=min(500, most), cursor=cursor, **params)
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None or len(found) >= most:
            return found[:most]


def tell(view: Mapping[str, Any], sentence: str, output: Mode) -> None:
    """Print what was done: the answer as JSON, or a sentence."""
    write(sentence if output is Mode.TEXT else as_json(dict(view), pretty=output is Mode.JSON))


def lines_of(pairs: Mapping[str, Any]) -> str:
    """Return names and values below each other; values that are None or empty are left out."""
    shown = {name: value for name, value in pairs.items() if value not in (None, "", [], {})}
    width = max((len(name) for name in shown), default=0)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in shown.items())
