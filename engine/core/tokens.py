"""Says how many tokens texts have, about, without asking the model that will count them. Workflow-safe."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

IMAGE_TOKENS: Final = 1_600
TOKENIZER: Final = "characters"
"""What counts of `likely_tokens` are told to be made with."""
_DATA: Final = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=]{64,}")


def prompt_tokens(parts: Sequence[Any]) -> tuple[int, int]:
    """Return how many tokens JSON values have, about: at least and at most.

    Tokens are counted by characters, since each provider has its own way of counting: for the least four of them are
    one, for the most three are, and each that is not ASCII.

    Args:
        parts: The values; pictures in them count by their number.
    """
    plain, others, pictures = _counted(parts)
    return (plain + others) // 4, math.ceil(plain / 3) + others + pictures * IMAGE_TOKENS


def likely_tokens(parts: Sequence[Any]) -> int:
    """Return how many tokens JSON values have, most likely: four characters are one, and each that is not ASCII."""
    plain, others, pictures = _counted(parts)
    return math.ceil(plain / 4) + others + pictures * IMAGE_TOKENS


def cut_to(text: str, tokens: int) -> str:
    """Return the beginning of a text that most likely has at most so many tokens: all of it if it has no more."""
    while (found := likely_tokens([text])) > tokens:
        text = text[: min(len(text) * tokens // found, len(text) - 1)]
    return text


def reply_bound(settings: Mapping[str, Any]) -> int | None:
    """Return how many tokens a reply may have by the settings; None = they do not say."""
    given = next((settings[name] for name in ("max_tokens", "max_completion_tokens") if settings.get(name)), None)
    return given if isinstance(given, int) and given > 0 else None


def _counted(parts: Sequence[Any]) -> tuple[int, int, int]:
    """Return how many characters are ASCII, how many are not, and how many pictures there are."""
    ascii_chars = other_chars = pictures = 0
    for part in parts:
        text, found = _DATA.subn("", part if isinstance(part, str) else json.dumps(part, ensure_ascii=False))
        pictures += found
        plain = len(text.encode("ascii", "ignore"))
        ascii_chars, other_chars = ascii_chars + plain, other_chars + len(text) - plain
    return ascii_chars, other_chars, pictures
