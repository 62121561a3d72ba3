"""The five paging queries of every list: limit, offset, sort_by, direction, metadata_filter."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Query, Request

from engine.core.errors import InvalidInput

FILTER = "metadata_filter"


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list.

    Attributes:
        limit: Most items.
        offset: Items left out first.
        sort_by: `created_at` or `updated_at`.
        direction: `asc`, `desc`, or None for the list's own order.
        metadata: Only items whose metadata contains this object; None = all.
    """

    limit: int
    offset: int
    sort_by: Literal["created_at", "updated_at"]
    direction: Literal["asc", "desc"] | None
    metadata: dict[str, Any] | None

    def descending(self, default: Literal["asc", "desc"]) -> bool:
        """Whether the latest comes first, with the list's own order as the default."""
        return (self.direction or default) == "desc"


def read_page(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
    sort_by: Literal["created_at", "updated_at"] = "created_at",
    direction: Literal["asc", "desc"] | None = None,
) -> Page:
    """Read the paging queries; a metadata filter is one JSON object or dotted keys (`metadata_filter.a.b=x`)."""
    return Page(limit, offset, sort_by, direction, _metadata_filter(request))


def _metadata_filter(request: Request) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for key, text in request.query_params.multi_items():
        if key == FILTER and text:
            whole = _json_or_text(text)
            if not isinstance(whole, dict):
                raise InvalidInput(f"{FILTER} is not a JSON object: {text}", code="request.invalid")
            found |= whole
        elif key.startswith(f"{FILTER}."):
            *path, last = key.removeprefix(f"{FILTER}.").split(".")
            place = found
            for name in path:
                inner = place.setdefault(name, {})
                if not isinstance(inner, dict):
                    raise InvalidInput(f"{key} names a member of a value that is no object", code="request.invalid")
                place = inner
            place[last] = _json_or_text(text)
    return found or None


def _json_or_text(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
