"""What lists find executions by: an execution's metadata as names and texts that an index can hold. Workflow-safe."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.core.values import Json, compact_json

LONGEST_TAG = 200
"""Most characters of a tag's name or value; longer ones end in a hash of all of them."""

OBJECT = "{}"
ARRAY = "[]"
"""Values of tags that say of a member only that it is an object, or an array."""


LABEL = "label"
META = "meta"
MODEL = "model"
BACKEND = "backend"
"""Kinds of tags; only those of the metadata have names, those of the others are empty."""


class Tag(NamedTuple):
    """One member of the metadata: its dotted path, and its JSON text (of an object or array only what it is)."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Ambiguous:
    """What a query says of a member where its text reads as a value too: `42` means 42 and "42".

    Attributes:
        text: The text.
        value: What it reads as.
    """

    text: str
    value: float | bool | None


def clip_tag(text: str) -> str:
    """Return a text as a tag can hold it: as it is, or its beginning and a hash if it is too long."""
    whole = text.encode("utf-8", "surrogatepass")
    storable = text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)
    if len(text) <= LONGEST_TAG and storable and "\0" not in text:
        return text
    begin = text[: LONGEST_TAG - 33].encode("utf-8", "replace").decode("utf-8").replace("\0", "?")
    return f"{begin}#{hashlib.blake2b(whole, digest_size=16).hexdigest()}"


def flatten_metadata(metadata: Mapping[str, Any]) -> list[Tag]:
    r"""Return the tags of an execution's metadata, one for each member at any depth of objects.

    Args:
        metadata: The metadata.

    Returns:
        Tags in the order of the members, already clipped, each once. Dots inside a key are written `\\.`.
    """
    return list(dict.fromkeys(Tag(name, value_tag(value)) for name, value in members_of(metadata)))


def members_of(part: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Json]]:
    """Yield name and value of each member of an object, at any depth of objects; arrays are not entered."""
    for key, value in part.items():
        path = prefix + str(key).replace("\\", "\\\\").replace(".", "\\.")
        yield clip_tag(path), value
        if isinstance(value, Mapping):
            yield from members_of(value, f"{path}.")


def value_tag(value: Json) -> str:
    """Return the value of a member's tag."""
    if isinstance(value, Mapping):
        return OBJECT
    if isinstance(value, list | tuple):
        return ARRAY
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)  # no JSON; nothing that is stored can equal it
    return clip_tag(compact_json(value))


def equal_tags(value: Json | Ambiguous) -> list[str]:
    """Return the tag values of everything that equals a value; numbers have several texts, and 1 equals true."""
    if isinstance(value, Ambiguous):
        return [*equal_tags(value.value), value_tag(value.text)]
    same: list[Any] = [value]
    if isinstance(value, int | float):
        for other in (0, 1, False, True, -0.0):
            if other == value:
                same.append(other)
        if isinstance(value, float) and math.isfinite(value):
            same.append(int(value))
        elif isinstance(value, int) and abs(value) < 1 << 1023:  # larger ones are no double
            same.append(float(value))
    return list(dict.fromkeys(value_tag(item) for item in same if item == value))
