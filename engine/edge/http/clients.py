"""Tells by the headers of a request which client sent it, and so in which dialect its tasks are written."""

from __future__ import annotations

from typing import Final

from fastapi import Request

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
