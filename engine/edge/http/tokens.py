"""How readers of a token stream see some characters of a model call."""

from __future__ import annotations

from typing import Any

from engine.broker.messages import Told
from engine.broker.running import Piece
from engine.edge.http.sse import sse_text


def token_text(told: Told, piece: Piece) -> bytes:
    """Return the event that tells some characters of a model call."""
    data: dict[str, Any] = {
        "execution_id": told.want.execution_id,
        "path": told.path,
        "effect_id": told.effect_id,
        "attempt": told.attempt,
        "delivery": told.delivery,
        "index": piece.index,
        "kind": piece.kind,
        "text": piece.text,
    }
    if piece.kind == "tool_call":
        data |= {"call": piece.call, "member": piece.member}
    return sse_text(data, event="token")
