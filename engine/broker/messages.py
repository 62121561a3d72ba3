"""Messages between workers and APIs about the texts of model calls, as JSON that fits into one packet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from engine.broker.running import Piece
from engine.core.values import Json

KINDS = ("content", "reasoning", "tool_call")


@dataclass(frozen=True, slots=True)
class Want:
    """An API wants the texts of an execution's calls.

    Attributes:
        tenant: The tenant.
        execution_id: The execution.
        room: Number of the API's room for it; another number means that it knows nothing yet.
    """

    tenant: str
    execution_id: str
    room: int


@dataclass(frozen=True, slots=True)
class Wants:
    """What an API wants for the next seconds; it says so again before they are over."""

    address: str
    wants: tuple[Want, ...]


@dataclass(frozen=True, slots=True)
class Hello:
    """A worker has come and knows of no wants yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Pieces of a call.

    Attributes:
        want: Whom they are for.
        effect_id: Id of the call: its step's path and attempt.
        path: The step.
        attempt: The attempt at the step, from 1.
        delivery: How often the call was handed to a worker, or to a further backend, from 1; each begins anew.
        pieces: Its characters.
    """

    want: Want
    effect_id: str
    path: str
    attempt: int
    delivery: int
    pieces: tuple[Piece, ...] = ()


Message = Wants | Hello | Told


def encode(message: Message) -> bytes:
    """Return a message as JSON."""
    body: Json
    if isinstance(message, Wants):
        body = {
            "wants": [[want.tenant, want.execution_id, want.room] for want in message.wants],
            "address": message.address,
        }
    elif isinstance(message, Hello):
        body = {"hello": True}
    else:
        want = message.want
        body = {
            "told": [want.tenant, want.execution_id, want.room],
            "call": [message.effect_id, message.path, message.attempt, message.delivery],
            "pieces": [piece.to_json() for piece in message.pieces],
        }
    # escapes keep half characters, which no encoding of text has
    return json.dumps(body, separators=(",", ":"), ensure_ascii=True).encode()


def decode(data: bytes) -> Message | None:
    """Return the message that some bytes are, or None if they are none that this version knows."""
    try:
        body = json.loads(data)
        if "wants" in body:
            return Wants(str(body["address"]), tuple(_want(item) for item in body["wants"]))
        if "told" in body:
            effect_id, path, attempt, delivery = body["call"]
            return Told(
                want=_want(body["told"]),
                effect_id=str(effect_id),
                path=str(path),
                attempt=int(attempt),
                delivery=int(delivery),
                pieces=tuple(_piece(item) for item in body["pieces"]),
            )
        return Hello() if "hello" in body else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _want(item: Sequence[object]) -> Want:
    tenant, execution_id, room = item
    return Want(str(tenant), str(execution_id), int(str(room)))


def _piece(item: Sequence[object]) -> Piece:
    index, kind, text, call, member = item
    if kind not in KINDS or not isinstance(text, str) or not text:
        raise ValueError(kind)
    return Piece(int(str(index)), str(kind), text, int(str(call)), str(member))


def wants_in_packets(address: str, wants: Iterable[Want], most_bytes: int) -> Iterator[bytes]:
    """Return messages that tell of all wants, each no longer than a packet."""
    rest = list(wants)
    while rest:
        count = len(rest)
        while len(packet := encode(Wants(address, tuple(rest[:count])))) > most_bytes and count > 1:
            count = max(1, count // 2)
        yield packet
        del rest[:count]


def split_piece(piece: Piece, most_bytes: int) -> tuple[Piece, Piece | None]:
    """Cut a piece so that its first part takes at most so many bytes in a message; the second is the rest, if any."""
    count = len(piece.text)
    while count > 1 and len(json.dumps(piece.text[:count])) > most_bytes:
        count = max(1, count // 2)
    rest = piece.after(piece.index + count) if count < len(piece.text) else None
    return replace(piece, text=piece.text[:count]), rest
