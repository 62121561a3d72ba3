"""What must be taken out of everything that the present call brings back, known wherever it is brought back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from engine.obs.redaction import Mask

_MASK: ContextVar[Mask | None] = ContextVar("mask", default=None)


@contextmanager
def masked_by(mask: Mask) -> Iterator[None]:
    """Take these secrets out of what comes back within the block."""
    token = _MASK.set(mask)
    try:
        yield
    finally:
        _MASK.reset(token)


def has_secrets() -> bool:
    """Whether the present call holds secrets."""
    return _MASK.get() is not None


def without_secrets(body: bytes) -> bytes:
    """Return the body of an answer without the secrets of the present call."""
    mask = _MASK.get()
    return body if mask is None else mask.bytes(body)


def text_without_secrets(text: str) -> str:
    """Return a text without the secrets of the present call."""
    mask = _MASK.get()
    return text if mask is None else mask.text(text)
