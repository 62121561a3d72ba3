"""Members at dotted paths, for get(), sorted() and the filters that take an attribute. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.core.lang.containers import check_key, iterate
from engine.core.lang.context import ITEM_SHIFT, Frame
from engine.core.lang.failures import fail, no_key, type_name
from engine.core.values import MAX_DEPTH

MAX_PATH_CHARS: Final = 1_000


def split_path(frame: Frame, path: str, count: int) -> list[str]:
    """Return the parts of a dotted path after paying for following it in some items.

    Args:
        frame: The running evaluation.
        path: The path, such as `price.net`.
        count: In how many items it will be followed.

    Raises:
        ExpressionError: `expression.too_large` if the path is too long.
    """
    if len(path) > MAX_PATH_CHARS:
        raise fail("too_large", f"a path has at most {MAX_PATH_CHARS:,} characters")
    parts = path.split(".")
    # data is at most so deep, so that a path ends there if not before
    frame.fuel.charge(count * min(len(parts), MAX_DEPTH) >> ITEM_SHIFT)
    return parts


def find(item: Any, parts: Sequence[str], default: Any) -> Any:
    """Return the member of an item at a path, or the default if a part is missing."""
    for part in parts:
        if isinstance(item, Mapping) and part in item:
            item = item[part]
        elif isinstance(item, (list, tuple)) and part.isdecimal() and int(part) < len(item):
            item = item[int(part)]
        else:
            return default
    return item


def lookup(item: Any, parts: Sequence[str]) -> Any:
    """Return the member of an item at a path; all parts must exist."""
    for part in parts:
        if isinstance(item, Mapping):
            if part not in item:
                raise no_key(part, item)
            item = item[part]
        elif isinstance(item, (list, tuple)) and part.isdecimal() and int(part) < len(item):
            item = item[int(part)]
        else:
            raise fail("no_key", f"{type_name(item)} has no member {part[:80]!r}")
    return item


def get_path(frame: Frame, value: Any, path: Any, default: Any = None) -> Any:
    """Return the member at a dotted path (or list of keys), or the default if any part is missing or null."""
    frame.fuel.charge(len(iterate(path)) >> ITEM_SHIFT)
    parts = path.split(".") if isinstance(path, str) else list(iterate(path))
    frame.fuel.charge((len(parts) >> ITEM_SHIFT) + 1)
    for part in parts:
        if isinstance(value, Mapping):
            value = value.get(check_key(part, len(value), frame.fuel))
        elif isinstance(value, (list, tuple)):
            place = int(part) if isinstance(part, int) or (isinstance(part, str) and part.isdecimal()) else len(value)
            value = value[place] if -len(value) <= place < len(value) else None
        else:
            return default
        if value is None:
            return default
    return value
