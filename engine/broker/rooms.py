"""The API's side: a room for each execution whose model calls somebody reads, with the texts of calls under way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator

import structlog

from engine.broker.messages import Hello, Told, Want, decode, wants_in_packets
from engine.broker.running import Piece, RunningText
from engine.broker.transport import Transport

Show = Callable[[Told, Piece], bytes]
"""How readers see some characters of a call."""

RENEW_S = 2.0
"""How often workers are told what is wanted."""
TAKE_BYTES = 64 * 1024
MOST_FINISHED = 1_000
"""Calls that are remembered as finished, so that a late packet does not bring them back."""
MOST_CALLS = 2_000
KEPT_TEXTS = 4
"""Texts of a call that are kept for readers at the same place."""

log = structlog.get_logger(__name__)


class RoomCall:
    """A call under way.

    Attributes:
        told: What says which call it is.
        text: Its characters so far.
        version: Count of the room when something last came.
    """

    def __init__(self, told: Told, show: Show) -> None:
        self.told = told
        self.text = RunningText()
        self.version = 0
        self._show = show
        self._texts: OrderedDict[tuple[int, int], bytes] = OrderedDict()

    def events(self, index: int) -> bytes:
        """Return events with all characters from an index on; made once for all readers that have got so far."""
        key = (index, self.text.end)
        if key not in self._texts:
            self._texts[key] = b"".join(self._show(self.told, piece) for piece in self.text.since(index))
            while len(self._texts) > KEPT_TEXTS:
                self._texts.popitem(last=False)
        return self._texts[key]


class Room:
    """Calls under way of one execution.

    Attributes:
        want: What workers are told.
        readers: Number of readers.
        version: Counts what came.
        calls: Calls by effect id, the one with the latest characters last.
        news: Done when something comes; never to be cancelled.
    """

    def __init__(self, want: Want, show: Show) -> None:
        self.want = want
        self._show = show
        self.readers = 0
        self.version = 0
        self.calls: OrderedDict[str, RoomCall] = OrderedDict()
        self.news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._finished: OrderedDict[str, None] = OrderedDict()

    def take_in(self, told: Told) -> None:
        """Take in what a worker tells."""
        if told.effect_id in self._finished:
            return
        call = self.calls.get(told.effect_id)
        if call is None or call.told.delivery < told.delivery:
            call = self.calls[told.effect_id] = RoomCall(told, self._show)
        elif call.told.delivery > told.delivery:
            return  # from a worker that was taken for lost
        before = call.text.end
        for piece in told.pieces:
            call.text.put(piece)
        if call.text.end > before:
            self.version += 1
            call.version = self.version
            self.calls.move_to_end(told.effect_id)
            news, self.news = self.news, asyncio.get_running_loop().create_future()
            news.set_result(None)
        while len(self.calls) > MOST_CALLS:
            self.calls.popitem(last=False)

    def finish(self, effect_id: str) -> None:
        """Forget a call that an event has ended."""
        self.calls.pop(effect_id, None)
        self._finished[effect_id] = None
        while len(self._finished) > MOST_FINISHED:
            self._finished.popitem(last=False)


class RoomReader:
    """One reader's places in the calls of a room, and nothing else."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._version = 0
        self._places: dict[str, tuple[int, int]] = {}

    @property
    def news(self) -> asyncio.Future[None]:
        """Done when something comes."""
        return self._room.news

    @property
    def has_more(self) -> bool:
        """Whether `take` would return something."""
        return self._version < self._room.version

    def take(self) -> bytes:
        """Return events with what this reader lacks, about TAKE_BYTES at most; the rest the next time."""
        changed: list[tuple[str, RoomCall]] = []
        for effect_id, call in reversed(self._room.calls.items()):
            if call.version <= self._version:
                break
            changed.append((effect_id, call))
        events: list[bytes] = []
        size = 0
        for effect_id, call in reversed(changed):
            if size >= TAKE_BYTES:
                return b"".join(events)
            delivery, index = self._places.get(effect_id, (call.told.delivery, 0))
            text = call.events(index if delivery == call.told.delivery else 0)
            self._places[effect_id] = (call.told.delivery, call.text.end)
            self._version = call.version
            events.append(text)
            size += len(text)
        self._version = self._room.version
        if len(self._places) > 2 * len(self._room.calls) + 16:
            self._places = {name: place for name, place in self._places.items() if name in self._room.calls}
        return b"".join(events)


class PieceReader:
    """One reader's places in the calls of a room, for one that takes characters as they are.

    Args:
        room: The room.
    """

    def __init__(self, room: Room) -> None:
        self._room = room
        self._version = 0
        self._places: dict[str, tuple[int, int]] = {}

    @property
    def news(self) -> asyncio.Future[None]:
        """Done when something comes."""
        return self._room.news

    def take(self) -> list[tuple[Told, Piece]]:
        """Return what this reader lacks: each piece with the call that it is of, calls in the order of their news."""
        found: list[tuple[Told, Piece]] = []
        for effect_id, call in self._room.calls.items():
            if call.version <= self._version:
                continue
            delivery, index = self._places.get(effect_id, (call.told.delivery, 0))
            since = index if delivery == call.told.delivery else 0
            self._places[effect_id] = (call.told.delivery, call.text.end)
            found += [(call.told, piece) for piece in call.text.since(since)]
        self._version = self._room.version
        return found


class TokenRooms:
    """All rooms of a process.

    Args:
        transport: Carries the messages; opened with the first room, closed by `close`.
        show: How readers see characters.
    """

    def __init__(self, transport: Transport, show: Show) -> None:
        self._transport = transport
        self._show = show
        self._rooms: dict[tuple[str, str], Room] = {}
        self._numbers = itertools.count(1)
        self._renewing: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def joined(self, tenant: str, execution_id: str) -> Iterator[Room]:
        """Take part in the room of an execution for the length of the block.

        Args:
            tenant: The tenant; whoever enters must be of it.
            execution_id: The execution.
        """
        key = (tenant, execution_id)
        room = self._rooms.get(key)
        if room is None:
            room = self._rooms[key] = Room(Want(tenant, execution_id, next(self._numbers)), self._show)
            self._announce([room])
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew(), name="token-rooms")
        room.readers += 1
        try:
            yield room
        finally:
            room.readers -= 1
            if not room.readers:
                del self._rooms[key]

    async def close(self) -> None:
        """Close the transport."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)
        await self._transport.close()

    async def _renew(self) -> None:
        while not self._transport.address:
            try:
                await self._transport.open(self._heard)
            except Exception as error:
                log.warning("the texts of model calls cannot be streamed", error=str(error))
                await asyncio.sleep(RENEW_S)
        while True:
            self._announce(list(self._rooms.values()))
            await asyncio.sleep(RENEW_S)

    def _announce(self, rooms: list[Room]) -> None:
        if not self._transport.address:
            return
        wants = [room.want for room in rooms]
        for packet in wants_in_packets(self._transport.address, wants, self._transport.most_bytes):
            self._transport.send_all(packet)

    def _heard(self, data: bytes) -> None:
        message = decode(data)
        if isinstance(message, Hello):
            self._announce(list(self._rooms.values()))
        elif isinstance(message, Told):
            room = self._rooms.get((message.want.tenant, message.want.execution_id))
            # an earlier room knew less or more
            if room is not None and room.want == message.want:
                room.take_in(message)
