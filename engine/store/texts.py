"""Texts on their way into plain columns: no character that PostgreSQL refuses, no text longer than its column."""

from __future__ import annotations

import hashlib

LONGEST_ID = 500
"""Characters of an id inside a key: PostgreSQL's indexes take entries of 2,700 bytes at most."""
LONGEST_CODE = 200
"""Bytes of an error code: the index of lists holds it together with two names of 255 characters of four bytes."""
_HASH_CHARS = 17


def plain(text: str, limit: int | None = None) -> str:
    """Return a text as a column of text can hold it.

    Args:
        text: Any text.
        limit: Length of the column; None = it has none. What is too long is cut.
    """
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    if not text.isascii():
        # half a surrogate pair has no bytes in UTF-8
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text if limit is None or len(text) <= limit else text[:limit]


def plain_code(text: str) -> str:
    """Return an error code as an index can hold it beside long names: cut by its bytes, not by its characters."""
    return plain(text).encode()[:LONGEST_CODE].decode("utf-8", "ignore")


def plain_id(text: str, limit: int = LONGEST_ID) -> str:
    """Return an id as a key can hold it: what is too long ends in a hash of the whole, so that two ids stay two."""
    text = plain(text)
    if len(text) <= limit:
        return text
    return f"{text[: limit - _HASH_CHARS]}~{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"
