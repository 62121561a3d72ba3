"""Signed texts that carry a permission: whoever has one can read what it says, and nobody without the key makes one."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Sequence
from typing import Any

from engine.core.values import Json, compact_json


def write_signed(told: Sequence[Json], key: bytes, purpose: bytes) -> str:
    """Return a text that says something, with our signature.

    Args:
        told: What it says.
        key: The key that signs.
        purpose: What such texts are for; one that was signed for something else is no good here.
    """
    body = base64.urlsafe_b64encode(compact_json(list(told)).encode()).rstrip(b"=")
    return f"{body.decode()}.{_sign(body, key, purpose)}"


def read_signed(text: str, key: bytes, purpose: bytes) -> list[Any] | None:
    """Return what a signed text says; None if it is none of ours.

    Args:
        text: The text, from anybody.
        key: The key that signs.
        purpose: What such texts are for.
    """
    # halves of characters, which JSON can name, are in no text of ours
    body, _, signature = text.encode(errors="replace").partition(b".")
    # nothing of it is looked at before it is known to be ours
    if not hmac.compare_digest(signature, _sign(body, key, purpose).encode()):
        return None
    told: list[Any] = json.loads(base64.urlsafe_b64decode(body + b"=" * (-len(body) % 4)))
    return told


def _sign(body: bytes, key: bytes, purpose: bytes) -> str:
    digest = hmac.new(key, purpose + body, hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
