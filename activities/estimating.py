"""Says before a model call is made what it will use at least, and what it may use."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from engine.core.contracts.activities import ChatParams
from engine.settings import Price
from engine.store.spending import Amount

OPEN_REPLY_TOKENS = 16_000
"""What a reply may use whose length the settings do not bound."""
IMAGE_TOKENS = 1_600
_DATA = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,[A-Za-z0-9+/=]{64,}")
_NANO_PER_MILLIONTH = 1_000


def estimate_chat(params: ChatParams, prices: Sequence[Price] = ()) -> tuple[Amount, Amount]:
    """Return what a chat call will use at least and may use at most.

    Tokens are counted by characters, since each provider has its own way of counting: for the least four of them are
    one, for the most three are, and each that is not ASCII.

    Args:
        params: The call, with all its messages.
        prices: Of those who may answer; the dearest counts. None of them = the cost is left at 0.
    """
    texts = [params.messages, params.tools, *([] if params.output_schema is None else [params.output_schema])]
    few, many = prompt_tokens(texts)
    bound, replies = reply_bound(params.settings), _replies(params.settings)
    bound = None if bound is None else bound * replies
    least, most = few + (bound or 1), many + (bound or replies * OPEN_REPLY_TOKENS + _thinking(params.settings))
    if not prices:
        return Amount(0, least), Amount(0, most)
    return (
        Amount(max(_nano(few * price.input + (bound or 1) * price.output) for price in prices), least),
        Amount(max(_nano(many * _dearest(price) + (most - many) * price.output) for price in prices), most),
    )


def estimate_texts(texts: Sequence[str], price: Price | None) -> tuple[Amount, Amount]:
    """Return what embedding texts will use at least and may use at most.

    Args:
        texts: The texts.
        price: Of the model; None = it is not known or not asked for.
    """
    few, many = prompt_tokens(texts)
    if price is None:
        return Amount(0, few), Amount(0, many)
    return Amount(_nano(few * price.input), few), Amount(_nano(many * price.input), many)


def prompt_tokens(parts: Sequence[Any]) -> tuple[int, int]:
    """Return how many tokens JSON values have, about: at least and at most.

    Args:
        parts: The values; pictures in them count by their number.
    """
    ascii_chars = other_chars = pictures = 0
    for part in parts:
        text, found = _DATA.subn("", part if isinstance(part, str) else json.dumps(part, ensure_ascii=False))
        pictures += found
        plain = len(text.encode("ascii", "ignore"))
        ascii_chars, other_chars = ascii_chars + plain, other_chars + len(text) - plain
    few = (ascii_chars + other_chars) // 4
    return few, math.ceil(ascii_chars / 3) + other_chars + pictures * IMAGE_TOKENS


def reply_bound(settings: dict[str, Any]) -> int | None:
    """Return how many tokens a reply may have by the settings; None = they do not say."""
    given = next((settings[name] for name in ("max_tokens", "max_completion_tokens") if settings.get(name)), None)
    return given if isinstance(given, int) and given > 0 else None


def _replies(settings: dict[str, Any]) -> int:
    given = settings.get("n")
    return given if isinstance(given, int) and given > 1 else 1


def _thinking(settings: dict[str, Any]) -> int:
    thinking = settings.get("thinking")
    budget = thinking.get("budget_tokens") if isinstance(thinking, dict) else None
    return budget if isinstance(budget, int) and budget > 0 else 0


def _dearest(price: Price) -> Decimal:
    return max(price.input, price.cache_write or price.input)


def _nano(millionths: Decimal) -> int:
    """Return tokens times dollars for a million of them in thousand-millionths of a dollar."""
    return math.ceil(millionths * _NANO_PER_MILLIONTH)
