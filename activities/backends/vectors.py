"""What calls for vectors have in common whoever makes them: the parts they are made in, and the numbers of a reply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from engine.core.errors import BackendError

MAX_EMBED_CHARS = 200_000
"""Of the texts of one call for vectors; more go into several calls."""


def batches(texts: Sequence[str], most: int) -> list[Sequence[str]]:
    """Return texts in parts, none larger than a provider takes; in order."""
    parts: list[list[str]] = [[]]
    chars = 0
    for text in texts:
        if parts[-1] and (len(parts[-1]) >= max(most, 1) or chars + len(text) > MAX_EMBED_CHARS):
            parts.append([])
            chars = 0
        parts[-1].append(text)
        chars += len(text)
    return list(parts)


def numbers_of(values: Any) -> list[float]:
    """Return the numbers of a vector.

    Raises:
        ValueError, TypeError: It is none.
    """
    vector = [float(value) for value in values]
    if not all(map(math.isfinite, vector)):
        raise ValueError("a vector holds something that is no number")
    return vector


def no_embeddings(backend: str, provider: str) -> BackendError:
    """Return the error of a backend whose provider turns no texts into vectors."""
    return BackendError(
        f"backend '{backend}' makes no vectors: {provider} has no embeddings",
        code="backend.no_embeddings",
        hint="name a model of another backend in `model` of the step, or set [routing] embed; the bundled model is "
        "called minilm",
        details={"backend": backend},
    )
