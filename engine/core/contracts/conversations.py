"""Conversations as they cross the border in parts: what a call carries of one, and hashes of what it leaves out.

An agent's conversation grows with each round, and to send it whole each time would let histories grow with the square
of the rounds. So a call carries what is new, and names what the worker keeps already by number and hash. The
interpreter has the whole of it: if the worker keeps it no more, or keeps something else, the call ends with
`conversation.missing` and is made again with everything, which uses up no attempt. Workflow-safe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

CONVERSATION_MISSING: Final = "conversation.missing"
"""Code of the error of a call whose conversation the worker does not keep, or not as the call says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """Which conversation the messages of a call go on with.

    Attributes:
        id: Its id, at most 64 characters; unique in the execution.
        known: How many messages are kept, and come before those of the call; 0 = the call carries all of them.
        hash: Hash of these messages (`chain`); empty = there are none.
    """

    id: str
    known: int = 0
    hash: str = ""


def chain(hash: str, message: dict[str, Any]) -> str:
    """Return the hash of a conversation after one more message.

    Args:
        hash: Hash of the messages before; empty = there are none.
        message: The message.

    Returns:
        32 hexadecimal digits.
    """
    # escaped, since models send halves of characters that have no bytes
    text = json.dumps(message, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(f"{hash}\n{text}".encode(), digest_size=16).hexdigest()


def chain_all(hash: str, messages: Iterable[dict[str, Any]]) -> str:
    """Return the hash of a conversation after several more messages; see `chain`."""
    for message in messages:
        hash = chain(hash, message)
    return hash
