"""The worker's side: keeps the texts of its running model calls and sends them to the APIs that want them."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from dataclasses import dataclass, field

import structlog

from engine.broker.messages import Hello, Told, Want, Wants, decode, encode, split_piece
from engine.broker.running import Piece, RunningText
from engine.broker.transport import Sent, Transport

FLUSH_S = 0.05
"""How long characters are collected before they are sent."""
WANTED_S = 6.0
"""How long a want counts; APIs repeat theirs more often."""
RETRY_S = 5.0
HEAD_BYTES = 2_048
"""Room in a packet for what is not text; a longer path leaves the text less."""

log = structlog.get_logger(__name__)


@dataclass
class _Wish:
    """One API's want of one execution.

    Attributes:
        want: What it said.
        until: When it ends, monotonic.
        sent: By call: index of the next character it needs.
    """

    want: Want
    until: float
    sent: dict[Call, int] = field(default_factory=dict)


class Call:
    """A running model call; tell it every delta, and close it at the end."""

    def __init__(self, publisher: TokenPublisher, key: tuple[str, str], head: Told) -> None:
        self._publisher = publisher
        self.key = key
        self.head = head
        self.text = RunningText()

    def tell(self, kind: str, text: str, call: int = 0, member: str = "") -> None:
        """Take a delta; never waits and never fails.

        Args:
            kind: content, reasoning or tool_call.
            text: Its characters.
            call: Of a tool call: which one, from 0.
            member: Of a tool call: name or arguments.
        """
        if text:
            self.text.add(kind, text, call, member)
            self._publisher.note(self)

    def close(self) -> None:
        """Send what is left; the call's own event says that it is over."""
        self._publisher.end(self)


class TokenPublisher:
    """Sends the texts of running calls, only to those who want them.

    Args:
        transport: Carries the messages; opened and closed here.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._calls: dict[tuple[str, str], dict[Call, None]] = {}
        self._wishes: dict[tuple[str, str], dict[str, _Wish]] = {}
        self._changed: dict[Call, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._opening: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Take part as soon as the transport can be set up; calls never wait for it."""
        self._opening = asyncio.create_task(self._open(), name="token-publisher")

    async def _open(self) -> None:
        while True:
            try:
                await self._transport.open(self._heard)
                break
            except Exception as error:
                log.warning("what models write cannot be streamed", error=str(error))
                await asyncio.sleep(RETRY_S)
        self._transport.send_all(encode(Hello()))

    async def close(self) -> None:
        """Take part no more."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        await self._transport.close()

    def call(self, *, tenant: str, execution_id: str, path: str, effect_id: str, attempt: int, delivery: int) -> Call:
        """Return a call that begins.

        Args:
            tenant: Tenant of the execution.
            execution_id: The execution.
            path: The step.
            effect_id: Id of the call.
            attempt: The attempt at the step, from 1.
            delivery: How often the call was handed to a worker, or to a further backend, from 1.
        """
        want = Want(tenant, execution_id, 0)
        head = Told(want=want, effect_id=effect_id, path=path, attempt=attempt, delivery=delivery)
        begun = Call(self, (tenant, execution_id), head)
        self._calls.setdefault(begun.key, {})[begun] = None
        return begun

    def note(self, call: Call) -> None:
        """Send a call's new characters soon, if anybody wants them."""
        if call.key in self._wishes:
            self._changed[call] = None
            self._soon()

    def end(self, call: Call) -> None:
        """Send what is left of a call and forget it."""
        running = self._calls.get(call.key)
        if running is None or call not in running:
            return
        del running[call]
        if not running:
            del self._calls[call.key]
        self._changed.pop(call, None)
        for address, wish in self._wishes_of(call).items():
            self._send(address, wish, call)
            wish.sent.pop(call, None)

    def _soon(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    def _flush(self) -> None:
        self._timer = None
        changed, self._changed = self._changed, {}
        for call in changed:
            for address, wish in self._wishes_of(call).items():
                if not self._send(address, wish, call):
                    self._changed[call] = None
        if self._changed:
            self._soon()

    def _wishes_of(self, call: Call) -> dict[str, _Wish]:
        wishes = self._wishes.get(call.key)
        if wishes is None:
            return {}
        now = time.monotonic()
        alive = {address: wish for address, wish in wishes.items() if wish.until > now}
        if len(alive) < len(wishes):
            if alive:
                self._wishes[call.key] = alive
            else:
                del self._wishes[call.key]
        return alive

    def _send(self, address: str, wish: _Wish, call: Call) -> bool:
        """Send what an API lacks of a call; False if it must be tried again."""
        room = max(256, self._transport.most_bytes - HEAD_BYTES - len(call.head.path) - len(call.head.effect_id))
        rest: list[Piece] = call.text.since(wish.sent.get(call, 0))[::-1]
        while rest:
            piece, more = split_piece(rest.pop(), room)
            if more is not None:
                rest.append(more)
            sent = self._transport.send(
                address, encode(dataclasses.replace(call.head, want=wish.want, pieces=(piece,)))
            )
            if sent is Sent.GONE:
                self._wishes.get(call.key, {}).pop(address, None)
                return True
            if sent is Sent.FULL:
                return False
            wish.sent[call] = piece.end
        return True

    def _heard(self, data: bytes) -> None:
        message = decode(data)
        if not isinstance(message, Wants):
            return
        until = time.monotonic() + WANTED_S
        for want in message.wants:
            key = (want.tenant, want.execution_id)
            wishes = self._wishes.setdefault(key, {})
            wish = wishes.get(message.address)
            if wish is not None and wish.want == want:
                wish.until = until
                continue
            wishes[message.address] = _Wish(want, until)
            # from their beginning: it has come in the middle of them
            for call in self._calls.get(key, {}):
                self.note(call)
        self._forget_old()

    def _forget_old(self) -> None:
        now = time.monotonic()
        for key in [key for key, wishes in self._wishes.items() if all(wish.until <= now for wish in wishes.values())]:
            del self._wishes[key]
