"""Says before a model call is made what it will use at least, and what it may use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from engine.core.contracts.activities import ChatParams
from engine.core.tokens import prompt_tokens, reply_bound
from engine.settings import Price
from engine.store.spending import Amount

OPEN_REPLY_TOKENS = 16_000
"""What a reply may use whose length the settings do not bound."""
_NANO_PER_MILLIONTH = 1_000


def estimate_chat(params: ChatParams, prices: Sequence[Price] = ()) -> tuple[Amount, Amount]:
    """Return what a chat call will use at least and may use at most.

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
