"""Hands out turns at LLM backends to the calls of all workers, so that what a backend allows is never exceeded."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from engine.store.database import Database
from engine.store.locks import lock_rows
from engine.store.schema_limits import backend_calls, backend_limits, backend_sent

MINUTE_US = 60_000_000
SPARE_US = 1_000_000
"""A call is sent a moment after its turn, so that a minute at the backend's side has some of a longer one."""
SLOT_US = 500_000
"""What was sent is counted by slots of time."""
BURST = 0.1
"""Part of what a minute allows that may be asked for at once; the rest is spread over the minute."""
HELD_US = 15_000_000
"""How long a place is held without a sign of life of the worker that took it."""

TABLE = "backend_limits"

_State = Row[tuple[str, int, int, int]]


class _Sent(NamedTuple):
    slot_us: int
    requests: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What a backend allows all workers together.

    Attributes:
        backend: Its name.
        calls: Most calls at one time; None = any number.
        requests: Most calls that begin in a minute.
        tokens: Most tokens of the calls that begin in a minute.
        took_us: How long a call takes, about: how soon a place becomes free.
    """

    backend: str
    calls: int | None = None
    requests: int | None = None
    tokens: int | None = None
    took_us: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Turn:
    """When a call may be made.

    Attributes:
        backend: Where.
        at_us: When, Unix microseconds.
        is_now: Whether it may be made now.
    """

    backend: str
    at_us: int
    is_now: bool


class LimitStore:
    """Reads and writes the turns.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(
        self,
        bounds: Sequence[Bounds],
        call_id: str,
        tokens: int,
        *,
        now_us: int,
        promised: Turn | None = None,
        may_wait: bool = True,
    ) -> Turn | None:
        """Take a turn at the first backend that has one now, else a later one at the backend that has one first.

        Args:
            bounds: Backends that can answer, the best one first.
            call_id: Id of the call, for its place.
            tokens: How many it will use, at most or about.
            now_us: Unix microseconds.
            promised: A later turn that it was given before.
            may_wait: Whether a later turn is of use.

        Returns:
            Where and when; None if no turn is to be had now and a later one is of no use.
        """

        def work(connection: Connection) -> Turn | None:
            names = {bound.backend for bound in bounds} | ({promised.backend} if promised else set())
            lock_rows(connection, TABLE, names)
            return _Desk(connection, bounds, call_id, tokens, now_us).take(promised, may_wait=may_wait)

        return await self._database.run(work, write=True)

    async def give_back(self, bounds: Bounds, call_id: str, *, sent_us: int = 0, unused_tokens: int = 0) -> None:
        """End a call: its place is free, and tokens that it did not use are others'.

        Args:
            bounds: Of its backend.
            call_id: The call.
            sent_us: When its turn was.
            unused_tokens: Of those that `take` was told; negative = it used more.
        """

        def work(connection: Connection) -> None:
            lock_rows(connection, TABLE, [bounds.backend])
            if bounds.calls is not None:
                connection.execute(delete(backend_calls).where(backend_calls.c.id == call_id))
            if bounds.tokens is not None and unused_tokens:
                moved = backend_limits.c.tokens_us - round(unused_tokens * _every_us(bounds.tokens))
                mine = backend_limits.c.backend == bounds.backend
                connection.execute(update(backend_limits).where(mine).values(tokens_us=moved))
                add_sent(connection, bounds.backend, sent_us, requests=0, tokens=-unused_tokens)

        await self._database.run(work, write=True)

    async def hold(self, call_ids: Iterable[str], *, now_us: int) -> None:
        """Keep the places of calls that are under way."""
        ids = list(call_ids)
        if ids:
            held = update(backend_calls).where(backend_calls.c.id.in_(ids)).values(until_us=now_us + HELD_US)
            await self._database.run(lambda connection: connection.execute(held), write=True)


class _Desk:
    """One request for a turn, in a transaction that has locked its backends.

    What was sent in the last minute decides whether a call may be sent now. Buckets spread the calls over the minute
    and tell those that must wait when to come back; however late they do, nothing is exceeded.
    """

    def __init__(
        self, connection: Connection, bounds: Sequence[Bounds], call_id: str, tokens: int, now_us: int
    ) -> None:
        self._connection = connection
        self._bounds = {bound.backend: bound for bound in bounds}
        self._call_id = call_id
        self._tokens = tokens
        self._now_us = now_us
        self._states = self._read()
        self._sent = self._read_sent()

    def take(self, promised: Turn | None, *, may_wait: bool) -> Turn | None:
        for name, bound in self._bounds.items():
            due_us = self._due_us(bound, promised)
            if max(due_us, self._room_us(bound)) <= self._now_us and not self._is_full(bound):
                if promised is None or promised.backend != name:
                    self._spend(bound, self._now_us)
                return self._begin(bound)
        if not may_wait:
            return None
        waits = {name: self._wait_us(bound, promised) for name, bound in self._bounds.items()}
        best = min(waits, key=lambda name: waits[name])
        bound, at_us = self._bounds[best], waits[best]
        if promised is None or promised.backend != best:
            self._spend(bound, at_us)
        if bound.calls is not None and (promised is None or at_us > promised.at_us):
            self._write(bound, {"places_us": self._place_us(bound)})
        return Turn(best, at_us, is_now=False)

    def _begin(self, bound: Bounds) -> Turn:
        if bound.calls is not None:
            # a worker that was lost may have taken one for the same call; others of its places end here
            over = (backend_calls.c.backend == bound.backend) & (backend_calls.c.until_us <= self._now_us)
            self._connection.execute(delete(backend_calls).where((backend_calls.c.id == self._call_id) | over))
            place = {"id": self._call_id, "backend": bound.backend, "until_us": self._now_us + HELD_US}
            self._connection.execute(insert(backend_calls).values(place))
        if bound.requests is not None or bound.tokens is not None:
            add_sent(self._connection, bound.backend, self._now_us, requests=1, tokens=self._tokens)
            old = backend_sent.c.slot_us < self._now_us - 2 * MINUTE_US
            self._connection.execute(delete(backend_sent).where(backend_sent.c.backend == bound.backend, old))
        return Turn(bound.backend, self._now_us, is_now=True)

    def _wait_us(self, bound: Bounds, promised: Turn | None) -> int:
        at_us = max(self._due_us(bound, promised), self._room_us(bound))
        if bound.calls is None:
            return at_us
        is_early = promised is not None and promised.backend == bound.backend and self._now_us < promised.at_us
        return at_us if is_early else max(at_us, self._place_us(bound))

    # --- what was sent -----------------------------------------------------------------------------------------------

    def _room_us(self, bound: Bounds) -> int:
        """Return when the minute behind has room for a call; what is larger than a minute goes alone."""
        sent = self._sent.get(bound.backend, [])
        requests, tokens = sum(slot.requests for slot in sent), sum(slot.tokens for slot in sent)
        room_us = self._now_us
        for slot in sent:
            has_room = bound.requests is None or requests < bound.requests
            if has_room and (bound.tokens is None or tokens + self._tokens <= bound.tokens or not tokens):
                break
            requests, tokens, room_us = requests - slot.requests, tokens - slot.tokens, _gone_us(slot.slot_us)
        return room_us

    def _read_sent(self) -> dict[str, list[_Sent]]:
        first = self._now_us - MINUTE_US - SPARE_US - SLOT_US
        mine = backend_sent.c.backend.in_(self._bounds) & (backend_sent.c.slot_us > first)
        found: dict[str, list[_Sent]] = {}
        for row in self._connection.execute(select(backend_sent).where(mine).order_by(backend_sent.c.slot_us)):
            found.setdefault(row.backend, []).append(_Sent(row.slot_us, row.requests, row.tokens))
        return found

    # --- the buckets -------------------------------------------------------------------------------------------------

    def _due_us(self, bound: Bounds, promised: Turn | None) -> int:
        """Return when it is a call's turn."""
        if promised is not None and promised.backend == bound.backend:
            return promised.at_us
        state, due_us = self._states[bound.backend], self._now_us
        if bound.requests is not None:
            due_us = max(due_us, _allowed_us(state.requests_us, bound.requests, 1))
        if bound.tokens is not None:
            due_us = max(due_us, _allowed_us(state.tokens_us, bound.tokens, self._tokens))
        return due_us

    def _spend(self, bound: Bounds, turn_us: int) -> None:
        state, values = self._states[bound.backend], dict[str, int]()
        if bound.requests is not None:
            values["requests_us"] = round(max(state.requests_us, turn_us) + _every_us(bound.requests))
        if bound.tokens is not None:
            values["tokens_us"] = round(max(state.tokens_us, turn_us) + self._tokens * _every_us(bound.tokens))
        if values:
            self._write(bound, values)

    def _write(self, bound: Bounds, values: dict[str, int]) -> None:
        mine = backend_limits.c.backend == bound.backend
        self._connection.execute(update(backend_limits).where(mine).values(**values))

    def _read(self) -> dict[str, _State]:
        query = select(backend_limits).where(backend_limits.c.backend.in_(self._bounds))
        rows: dict[str, _State] = {row.backend: row for row in self._connection.execute(query)}
        missing = [name for name in self._bounds if name not in rows]
        if missing:
            fresh = {"requests_us": 0, "tokens_us": 0, "places_us": 0}
            self._connection.execute(insert(backend_limits), [{"backend": name, **fresh} for name in missing])
            rows = {row.backend: row for row in self._connection.execute(query)}
        return rows

    # --- calls at one time -------------------------------------------------------------------------------------------

    def _is_full(self, bound: Bounds) -> bool:
        if bound.calls is None:
            return False
        mine = (backend_calls.c.backend == bound.backend) & (backend_calls.c.until_us > self._now_us)
        mine &= backend_calls.c.id != self._call_id
        query = select(func.count()).select_from(backend_calls).where(mine)
        return int(self._connection.execute(query).scalar_one()) >= bound.calls

    def _place_us(self, bound: Bounds) -> int:
        """Return when a place may be free, behind those that wait already."""
        waited_for: int = self._states[bound.backend].places_us
        return max(waited_for, self._now_us) + bound.took_us // (bound.calls or 1)


def add_sent(connection: Connection, backend: str, at_us: int, *, requests: int, tokens: int) -> None:
    """Note what was sent to a backend at a time, or take it back; the caller has locked the backend."""
    slot_us = at_us - at_us % SLOT_US
    mine = (backend_sent.c.backend == backend) & (backend_sent.c.slot_us == slot_us)
    values = {"requests": backend_sent.c.requests + requests, "tokens": backend_sent.c.tokens + tokens}
    if not connection.execute(update(backend_sent).where(mine).values(values)).rowcount:
        row = {"backend": backend, "slot_us": slot_us, "requests": requests, "tokens": tokens}
        connection.execute(insert(backend_sent).values(row))


def _gone_us(slot_us: int) -> int:
    """Return when what was sent in a slot lies behind the last minute."""
    return slot_us + SLOT_US + MINUTE_US + SPARE_US


def _burst(per_minute: int) -> int:
    return max(1, int(per_minute * BURST))


def _every_us(per_minute: int) -> float:
    """Return after how long one more may be spent, so that a minute has no more than is allowed, burst included."""
    return (MINUTE_US + SPARE_US + SLOT_US) / (per_minute - _burst(per_minute) + 1)


def _allowed_us(full_us: int, per_minute: int, cost: int) -> int:
    """Return when a bucket that is full again at a time has what a call costs; one larger than the burst waits on."""
    return round(full_us - (_burst(per_minute) - cost) * _every_us(per_minute))
