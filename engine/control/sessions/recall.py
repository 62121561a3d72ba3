"""How a session looks documents up: its options checked, and filled in with what Julep's clients count on."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from engine.core.errors import InvalidInput
from engine.core.values import Json


class Range(NamedTuple):
    """What a number may be.

    Attributes:
        least: The least.
        most: The most.
        whole: Whether it is a whole number.
        usual: What it is if nothing is said; None = it is left out.
        open_end: Whether it must stay below the most.
    """

    least: float
    most: float
    whole: bool
    usual: float | None
    open_end: bool = False


MODES: Final = ("vector", "text", "hybrid")
NUMBERS: Final[Mapping[str, Range]] = MappingProxyType(
    {
        "limit": Range(1, 50, True, 10),
        "num_search_messages": Range(1, 50, True, 4),
        "max_query_length": Range(100, 10_000, True, 1_000),
        "confidence": Range(-1, 1, False, 0.5),
        "mmr_strength": Range(0, 1, False, 0.5, open_end=True),
        "alpha": Range(0, 1, False, 0.5),
        "k_multiplier": Range(1, 100, True, 7),
        "trigram_similarity_threshold": Range(0, 1, False, None),
    }
)
_ALWAYS: Final = ("limit", "num_search_messages", "max_query_length", "lang", "metadata_filter", "include_embeddings")
OF_MODE: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "vector": (*_ALWAYS, "confidence", "mmr_strength"),
        "text": (*_ALWAYS, "trigram_similarity_threshold"),
        "hybrid": (
            *_ALWAYS,
            *("confidence", "mmr_strength", "alpha", "k_multiplier", "trigram_similarity_threshold"),
        ),
    }
)
"""Members that each mode has."""
_USUAL: Final[Mapping[str, Json]] = MappingProxyType(
    {
        "lang": "en-US",
        "metadata_filter": {},
        "include_embeddings": True,
        **{name: span.usual for name, span in NUMBERS.items() if span.usual is not None},
    }
)


def whole_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a session with all that they leave out.

    Args:
        given: What the client says; null stands for what is usual.

    Raises:
        InvalidInput: `session.bad_recall`.
    """
    said = {name: value for name, value in given.items() if value is not None}
    mode = said.pop("mode", "vector")
    if mode not in MODES:
        raise _wrong("mode", f"is one of {', '.join(MODES)}")
    for name, value in said.items():
        _check(mode, name, value)
    usual = {name: _USUAL[name] for name in OF_MODE[mode] if name in _USUAL}
    return {"mode": mode, **usual, **said}


def changed_options(present: Mapping[str, Any] | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options after a change: members that it does not name stay, unless it names another mode.

    Raises:
        InvalidInput: `session.bad_recall`.
    """
    before = dict(present or {})
    mode = given.get("mode") or before.get("mode")
    return whole_options({**before, **given} if mode == before.get("mode") else given)


def _check(mode: str, name: str, value: Any) -> None:
    if name not in OF_MODE[mode]:
        raise _wrong(name, f"means nothing in the mode {mode}, which has {', '.join(OF_MODE[mode])}")
    span = NUMBERS.get(name)
    if span is not None:
        _check_number(name, value, span)
    elif name == "metadata_filter" and not isinstance(value, dict):
        raise _wrong(name, "is an object")
    elif name == "include_embeddings" and not isinstance(value, bool):
        raise _wrong(name, "is true or false")
    elif name == "lang" and not (isinstance(value, str) and 0 < len(value) <= 35):
        raise _wrong(name, "is the name of a language, such as en-US")


def _check_number(name: str, value: Any, span: Range) -> None:
    kind = (int,) if span.whole else (int, float)
    fits = isinstance(value, kind) and not isinstance(value, bool) and span.least <= value <= span.most
    if not fits or (span.open_end and value == span.most):
        what = "a whole number" if span.whole else "a number"
        raise _wrong(name, f"is {what} from {span.least:g} to {'below ' if span.open_end else ''}{span.most:g}")


def _wrong(name: str, what: str) -> InvalidInput:
    return InvalidInput(f"'{name}' of recall_options {what}", code="session.bad_recall")
