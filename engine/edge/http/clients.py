"""Tells by the headers of a request which client sent it: how its tasks are written, and how it reads answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import Request
from starlette.datastructures import Headers

from engine.core.kinds import Dialect

FERN_HEADER: Final = "x-fern-language"
"""Sent by the Julep client of 2024, whose texts are all expressions."""
STAINLESS_HEADER: Final = "x-stainless-lang"
"""Sent by the Julep SDK of 2025, whose texts are f-strings unless `$ ` stands before them."""


def dialect_of(request: Request) -> Dialect:
    """Return the dialect of a task that comes with a request and has no key `dialect`.

    Args:
        request: The request.
    """
    if FERN_HEADER in request.headers:
        return "julep-2024"
    if STAINLESS_HEADER in request.headers:
        return "julep-2025"
    return "everstep"


def is_stainless(headers: Headers) -> bool:
    """Whether the Julep SDK of 2025 sent a request; it repeats what failed without a key, and wants its own types."""
    return STAINLESS_HEADER in headers


def is_fern(headers: Headers) -> bool:
    """Whether the Julep client of 2024 sent a request; that one reads lists from `results`."""
    # its key stands in a header of its own, which tells it where a proxy has taken the other away
    return FERN_HEADER in headers or ("x-auth-key" in headers and STAINLESS_HEADER not in headers)


def listed(request: Request, items: Sequence[Any], **more: Any) -> dict[str, Any]:
    """Return the body of a list: {items, …}, and once more as `results` for the client of 2024.

    Args:
        request: The request.
        items: The items, as JSON.
        more: Further members.
    """
    body: dict[str, Any] = {"items": list(items), **more}
    return {**body, "results": body["items"]} if is_fern(request.headers) else body
