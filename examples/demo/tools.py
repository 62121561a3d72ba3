"""The demo's Python tools: what needs code and not a model."""

from __future__ import annotations

import re
from typing import Any

from engine import tool

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
_CARD = re.compile(r"\b(?:\d[ -]?){13,16}\b")
_URGENT = ("charged twice", "cannot log in", "is down", "immediately")


@tool(effect="none")
def redact(text: str) -> str:
    """Take e-mail addresses and card numbers out of a text, so that no model sees them.

    Args:
        text: What a customer wrote.
    """
    return _CARD.sub("[card]", _EMAIL.sub("[e-mail]", text))


@tool(effect="none")
def rank(tickets: list[dict[str, Any]], read: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put tickets in the order in which somebody should look at them.

    Args:
        tickets: Objects with id and customer.
        read: Objects with text and subject, one per ticket.
    """
    joined = [
        {**ticket, **seen, "urgent": _is_urgent(seen["text"])} for ticket, seen in zip(tickets, read, strict=True)
    ]
    return sorted(joined, key=lambda ticket: not ticket["urgent"])


def _is_urgent(text: str) -> bool:
    return any(words in text.lower() for words in _URGENT)
