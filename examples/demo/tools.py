"""The demo's Python tools: what needs code and not a model."""

from __future__ import annotations

import re
from typing import Any

from engine.tool import tool

_EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
_CARD = re.compile(r"\b(?:\d[ -]?){13,16}\b")
_URGENT = ("charged twice", "cannot log in", "down", "urgent", "immediately", "refund")


@tool(effect="none")
def redact(text: str) -> str:
    """Take e-mail addresses and card numbers out of a text, so that no model sees them.

    Args:
        text: What a customer wrote.
    """
    return _CARD.sub("[card]", _EMAIL.sub("[e-mail]", text))


@tool(effect="none")
def rank(tickets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put tickets in the order in which somebody should look at them.

    Args:
        tickets: Objects with id, text, topic and summary.
    """

    def score(ticket: dict[str, Any]) -> int:
        text = str(ticket["text"]).lower()
        return sum(word in text for word in _URGENT)

    ranked = sorted(tickets, key=score, reverse=True)
    return [{**ticket, "urgent": score(ticket) > 0} for ticket in ranked]
