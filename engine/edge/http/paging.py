"""Queries of lists: limit, offset, sort_by, direction, metadata_filter, cursors; and none that nobody knows."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from fastapi.dependencies.models import Dependant

from engine.core.diagnostics import did_you_mean
from engine.core.errors import InvalidInput
from engine.core.run.tags import Ambiguous
from engine.core.values import MAX_DEPTH
from engine.edge.http.jsonvalues import flaw_of, load_json

FILTER = "metadata_filter"
MOST_OFFSET = 2**31
"""Databases count rows in numbers that end somewhere."""

IdPrefix = Annotated[str, Query(max_length=36, description="only those whose ids begin like this")]

Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
"""Where a list goes on, as a parameter of its route."""

PLACELESS = frozenset({"cursor", "limit", "offset"})
"""Queries that do not make another list of it."""


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

    def arguments(self, default: Literal["asc", "desc"]) -> dict[str, Any]:
        """Return the page as arguments of a store's method, with the list's own order as the default."""
        return {
            "metadata": self.metadata,
            "limit": self.limit,
            "offset": self.offset,
            "sort_by": self.sort_by,
            "descending": self.descending(default),
        }


async def read_page(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=999)] = 100,
    offset: Annotated[int, Query(ge=0, le=MOST_OFFSET)] = 0,
    sort_by: Literal["created_at", "updated_at"] = "created_at",
    direction: Literal["asc", "desc"] | None = None,
) -> Page:
    """Read the paging queries; a metadata filter is one JSON object or dotted keys (`metadata_filter.a.b=x`)."""
    return Page(limit, offset, sort_by, direction, metadata_filter(request))


def metadata_filter(request: Request, *, is_exact: bool = False) -> dict[str, Any] | None:
    """Read the object that metadata must contain: one JSON object or dotted keys (`metadata_filter.a.b=x`).

    Args:
        request: The request.
        is_exact: Take the value of a dotted key for what it reads as, so that all is JSON; else it may be either, since
            a query does not tell the text "42" from the number.

    Raises:
        InvalidInput: `request.invalid` if it is none, or one that no metadata can contain.
    """
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
            place[last] = _json_or_text(text) if is_exact else _text_and_value(text)
    if flaw := flaw_of(found, most_depth=MAX_DEPTH):
        raise InvalidInput(f"no metadata contains the {FILTER}: {flaw}", code="request.invalid")
    return found or None


def _json_or_text(text: str) -> Any:
    try:
        return load_json(text)
    except ValueError:
        return text


def _text_and_value(text: str) -> Any:
    value = _json_or_text(text)
    return Ambiguous(text, value) if value is None or isinstance(value, float | int) else value


# --- cursors -------------------------------------------------------------------------------------------------------


def write_cursor(request: Request, place: Sequence[Any] | None) -> str | None:
    """Return the text by which the next page of a list is asked for.

    Args:
        request: The request for this page.
        place: Where it ended, as JSON values; None = there is no next page.
    """
    if place is None:
        return None
    text = json.dumps([_list_of(request), *place], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(request: Request, cursor: str | None, *, kinds: Sequence[type | tuple[type, ...]]) -> list[Any] | None:
    """Read what `write_cursor` wrote.

    Args:
        request: The request for the next page.
        cursor: The text; None = the first page is asked for.
        kinds: Types of the values of a place.

    Raises:
        InvalidInput: `request.bad_cursor` if it is none, or one of another list.
    """
    if cursor is None:
        return None
    if request.query_params.get("offset", "0") != "0":
        raise _bad_cursor("a list goes on from a cursor or from an offset, not from both")
    try:
        place: list[Any]
        listed, *place = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (ValueError, TypeError, binascii.Error) as error:
        raise _bad_cursor(f"{cursor[:60]!r} is no cursor") from error
    if listed != _list_of(request):
        raise _bad_cursor("the cursor is one of another list: path, filters, order or direction differ")
    fits = len(place) == len(kinds) and all(_is(value, kind) for value, kind in zip(place, kinds, strict=True))
    if not fits:
        raise _bad_cursor(f"{cursor[:60]!r} is no cursor of this list")
    return place


def _is(value: Any, kind: type | tuple[type, ...]) -> bool:
    in_range = not isinstance(value, int) or -(2**63) <= value < 2**63
    return isinstance(value, kind) and not isinstance(value, bool) and in_range and "\0" not in str(value)


def _list_of(request: Request) -> str:
    asked = sorted(item for item in request.query_params.multi_items() if item[0] not in PLACELESS)
    text = json.dumps([request.url.path, asked])
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def _bad_cursor(message: str) -> InvalidInput:
    return InvalidInput(message, code="request.bad_cursor", hint="take `next_cursor` of the page before as it is")


# --- unknown queries -----------------------------------------------------------------------------------------------


async def refuse_unknown_queries(request: Request) -> None:
    """Refuse queries that the route does not know: a misspelt filter would silently show everything.

    Raises:
        InvalidInput: `request.unknown_query` with what may be meant; `request.invalid` for a NUL character.
    """
    known = {FILTER, *_queries_of(request.scope["route"].dependant)}
    for name, text in request.query_params.multi_items():
        if name not in known and not name.startswith(f"{FILTER}."):
            hint = did_you_mean(name, known) or f"there are {', '.join(sorted(known))}"
            raise InvalidInput(f"there is no query {name[:60]!r} here", code="request.unknown_query", hint=hint)
        if "\0" in text:
            # no text column of PostgreSQL takes it, so nothing can be equal to it
            raise InvalidInput(f"the query {name!r} has a NUL character", code="request.invalid")


def _queries_of(dependant: Dependant) -> Iterator[str]:
    """Yield the queries of a route and of all that it depends on."""
    yield from (str(query.alias) for query in dependant.query_params)
    for needed in dependant.dependencies:
        yield from _queries_of(needed)
