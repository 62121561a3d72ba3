"""One look at the starts that wait: what is over is cleared away, what may begin is let in and claimed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, delete, exists, func, or_, select, update

from engine.core.values import Json, compact_json
from engine.store.admission import AdmissionStore
from engine.store.bulk import replacing
from engine.store.locks import lock_executions, lock_row
from engine.store.projection import ensure_named
from engine.store.rows import Named
from engine.store.schema import executions
from engine.store.schema_admission import start_requests, start_turns, starts
from engine.store.start_rows import (
    ADMITTED,
    HOLDING,
    STARTED,
    TABLE,
    WAITING,
    Ends,
    Withdrawal,
    clear_requests,
    close,
    holders,
    take_out,
)
from engine.store.turns import Group, Held, Limits, choose, is_unbound

MOST = 100
"""Starts that are let in, or ended, at one time."""
LEASE_US = 15_000_000
"""How long a process has to start the workflows of what it let in, before another one tries."""
TURN_KEPT_US = 3_600_000_000
"""A tenant or lane that was not served for so long counts as never served."""
OUT_OF_TIME = "limit.time"

_TURN = "turn"
_PUT_TURNS = replacing(start_turns)
_IN_CHUNK = 500


class Look(NamedTuple):
    """What there is to do.

    Attributes:
        due_us: When the next start may be let in; None = none waits.
        deadline_us: When the next one that waits is out of time.
        claimed_us: When the next claim lapses.
        withdrawn: Whether a workflow is to be told of its end.
        holding: Whether executions hold places.
    """

    due_us: int | None
    deadline_us: int | None
    claimed_us: int | None
    withdrawn: bool
    holding: bool

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing at all."""
        return self.due_us is None and self.claimed_us is None and not self.withdrawn and not self.holding

    def is_due(self, now_us: int) -> bool:
        """Whether anything is to be done now."""
        times = (self.due_us, self.deadline_us, self.claimed_us)
        return self.withdrawn or any(time is not None and time <= now_us for time in times)


class Claim(NamedTuple):
    """A start whose workflow this process is to begin.

    Attributes:
        tenant: Its tenant.
        id: The execution.
        params: What its workflow is started with, without the input.
        input: The input.
        deadline_us: When it is out of time; None = never.
        again: Whether another process had claimed it before, and may have started it.
        begun: Whether its workflow is known to have been there.
        withdrawal: How it is to end instead of beginning.
        keeps: Whether its place is counted while it runs.
    """

    tenant: str
    id: str
    params: dict[str, Any]
    input: Json
    deadline_us: int | None
    again: bool
    begun: bool
    withdrawal: Withdrawal | None
    keeps: bool


@dataclass(slots=True)
class Round:
    """What a look has done.

    Attributes:
        claims: Starts to begin now.
        told: Running executions that are to be ended: tenant, id and how.
        ended: How many were ended without having begun.
        more: Whether there is more than fits into one look.
    """

    claims: list[Claim] = field(default_factory=list)
    told: list[tuple[str, str, Withdrawal]] = field(default_factory=list)
    ended: int = 0
    more: bool = False


class LettingIn:
    """Lets starts in, for one process of several.

    All that counts places runs under one lock of the store, so that two processes never give one place away twice.

    Args:
        admission: The starts.
        limits: The operator's limits.
        owner: Name of this process, as no other one has it.
        lease_us: How long it has to begin what it has claimed.
    """

    def __init__(self, admission: AdmissionStore, limits: Limits, *, owner: str, lease_us: int = LEASE_US) -> None:
        self._admission = admission
        self._database = admission.database
        self._limits = limits
        self._owner = owner
        self._lease_us = lease_us

    async def look(self) -> Look:
        """Ask what there is to do; one statement, which looks into four indexes."""
        return await self._database.run(_look)

    async def release(self, ids: Collection[str]) -> None:
        """Give back the places of executions whose end was just stored."""
        wanted = list(ids)

        def work(connection: Connection) -> None:
            for start in range(0, len(wanted), _IN_CHUNK):
                some = starts.c.id.in_(wanted[start : start + _IN_CHUNK])
                connection.execute(delete(starts).where(some, starts.c.state.in_(HOLDING), _is_over()))

        await self._database.run(work, write=True)

    async def sweep(self, now_us: int) -> None:
        """Give back the places of executions that ended while nobody looked, and forget turns of long ago."""

        def over(connection: Connection) -> bool:
            query = select(starts.c.id).where(starts.c.state.in_(HOLDING), _is_over()).limit(1)
            old = select(start_turns.c.tenant).where(start_turns.c.at_us < now_us - TURN_KEPT_US).limit(1)
            return any(connection.execute(part).first() is not None for part in (query, old))

        def work(connection: Connection) -> None:
            connection.execute(delete(starts).where(starts.c.state.in_(HOLDING), _is_over()))
            connection.execute(delete(start_turns).where(start_turns.c.at_us < now_us - TURN_KEPT_US))

        if await self._database.run(over):
            await self._database.run(work, write=True)

    async def round(self, now_us: int) -> Round:
        """End what is out of time, let in what may begin, and claim it for this process."""
        done = Ends()
        # what only waits is counted outside of the lock: the longest part, and nothing is lost if it changes
        groups = await self._database.run(lambda connection: _groups(connection, now_us))

        def work(connection: Connection) -> Round:
            done.ends, done.news = [], {}
            lock_row(connection, TABLE, _TURN)
            found = Round()
            # before any is let in: who is out of time or replaced must not be
            over = _expire(connection, now_us) | _replace(connection, groups, now_us)
            ids = self._admit(connection, groups, Held.of(holders(connection)), now_us, found)
            lapsed = starts.c.claimed_until_us <= now_us
            lapse = select(starts.c.id).where(starts.c.state == ADMITTED, lapsed).limit(MOST)
            again = list(connection.execute(lapse).scalars())
            self._claim(connection, again, ADMITTED, now_us)
            found.told = _withdrawn(connection)
            found.claims = self._claims(connection, now_us, [*ids, *again], set(again))
            # rows of executions last, as everywhere
            close(connection, over, now_us, done)
            found.ended = len(over)
            return found

        found = await self._database.run(work, write=True)
        self._admission.tell(done)
        return found

    def _admit(
        self, connection: Connection, groups: Sequence[Group], held: Held, now_us: int, found: Round
    ) -> list[str]:
        """Claim what may begin; returns what was chosen, of which some may have been joined or taken back meanwhile."""
        admitted: list[str] = []
        free = [group for group in groups if is_unbound(group, self._limits)]
        counts = Counter({group: group.waiting for group in free})
        bound = [group for group in groups if group not in counts]
        turns = _turns(connection, bound)
        chosen = choose(bound, held, self._limits, turns, most=MOST)
        counts.update(chosen)
        found.more = len(chosen) >= MOST
        for group, n in counts.items():
            ids = _first_of(connection, group, min(n, MOST), now_us)
            found.more = found.more or n > MOST
            self._claim(connection, ids, WAITING, now_us)
            admitted += ids
        # a clock of its own, which goes on with every one that is let in
        clock = max([now_us, *turns.values()])
        served: dict[tuple[str, str], int] = {}
        for number, group in enumerate(chosen, 1):
            served[group.tenant, ""] = served[group.tenant, group.lane] = clock + number
        rows = [{"tenant": tenant, "lane": lane, "at_us": at_us} for (tenant, lane), at_us in served.items()]
        _PUT_TURNS.run(connection, rows)
        return admitted

    def _claim(self, connection: Connection, ids: Sequence[str], state: str, now_us: int) -> None:
        if ids:
            # a start that was joined or taken back meanwhile stays out
            mine = (starts.c.id.in_(ids), starts.c.state == state, starts.c.due_us <= now_us)
            claim = {"state": ADMITTED, "claimed_by": self._owner, "claimed_until_us": now_us + self._lease_us}
            connection.execute(update(starts).where(*mine).values(claim))

    def _claims(self, connection: Connection, now_us: int, ids: Sequence[str], again: Collection[str]) -> list[Claim]:
        mine = (starts.c.id.in_(ids), starts.c.state == ADMITTED, starts.c.claimed_by == self._owner)
        rows = connection.execute(select(starts).where(*mine).order_by(starts.c.due_us, starts.c.id)).all()
        begun: set[str] = set()
        if again:
            heard = select(executions.c.id).where(executions.c.id.in_(again))
            begun = set(connection.execute(heard.where(or_(executions.c.last_seq > 0, executions.c.settled))).scalars())
        return [self._claim_of(connection, row, now_us, row.id in again, begun) for row in rows]

    def _claim_of(
        self, connection: Connection, row: Row[*tuple[Any, ...]], now_us: int, again: bool, begun: set[str]
    ) -> Claim:
        given = json.loads(row.input)
        if row.gathering == "collect":
            given = _gathered(connection, row, now_us)
        deadline_us = row.deadline_us
        if deadline_us is None and row.deadline_after_us is not None:
            deadline_us = now_us + row.deadline_after_us
        keeps = self._limits.are_set or bool(row.busy) or row.task_limit is not None or row.key_limit is not None
        how = None if row.withdrawn is None else Withdrawal.of(row.withdrawn)
        return Claim(row.tenant, row.id, json.loads(row.params), given, deadline_us, again, row.id in begun, how, keeps)

    async def began(self, claims: Sequence[tuple[Claim, Named]]) -> list[tuple[str, str, Withdrawal]]:
        """Note that workflows run; a start whose place is not counted is forgotten.

        Args:
            claims: The starts, and what their executions are called.

        Returns:
            Those that are to be ended at once, since somebody wanted so meanwhile.
        """

        def work(connection: Connection) -> list[tuple[str, str, Withdrawal]]:
            ids = [claim.id for claim, _ in claims]
            mine = (starts.c.id.in_(ids), starts.c.state == ADMITTED)
            values = {"state": STARTED, "params": "", "input": "", "claimed_by": "", "claimed_until_us": None}
            connection.execute(update(starts).where(*mine).values(values))
            gone = [claim.id for claim, _ in claims if not claim.keeps]
            forget = (starts.c.id.in_(gone), starts.c.state == STARTED, starts.c.withdrawn.is_(None))
            connection.execute(delete(starts).where(*forget))
            clear_requests(connection, ids)
            lock_executions(connection, ids)
            for claim, named in claims:
                # the projection may have been lost while it waited
                ensure_named(connection, claim.id, claim.tenant, named)
            return [item for item in _withdrawn(connection) if item[1] in ids]

        return await self._database.run(work, write=True)

    async def told(self, execution_id: str, *, tenant: str, keeps: bool) -> None:
        """Note that a running execution knows how it is to end."""
        mine = (starts.c.tenant == tenant, starts.c.id == execution_id, starts.c.state == STARTED)
        statement = update(starts).where(*mine).values(withdrawn=None) if keeps else delete(starts).where(*mine)
        await self._database.run(lambda connection: connection.execute(statement), write=True)

    async def give_up(self, how: Mapping[str, Withdrawal], *, now_us: int) -> None:
        """End starts that were let in and cannot begin."""
        done = Ends()

        def work(connection: Connection) -> None:
            done.ends, done.news = [], {}
            taken = take_out(connection, how, state=ADMITTED)
            close(connection, {name: how[name] for name in taken}, now_us, done)

        await self._database.run(work, write=True)
        self._admission.tell(done)

    async def put_back(self, ids: Sequence[str], *, until_us: int) -> None:
        """Let others try to begin what this process could not, from a time on."""
        mine = (starts.c.id.in_(ids), starts.c.state == ADMITTED, starts.c.claimed_by == self._owner)
        statement = update(starts).where(*mine).values(claimed_until_us=until_us)
        await self._database.run(lambda connection: connection.execute(statement), write=True)


def _is_over() -> Any:
    mine = (executions.c.tenant == starts.c.tenant, executions.c.id == starts.c.id)
    return exists().where(*mine, executions.c.settled.is_(True))


def _look(connection: Connection) -> Look:
    def least(column: Any, state: str) -> Any:
        return select(func.min(column)).where(starts.c.state == state, column.is_not(None)).scalar_subquery()

    row = connection.execute(
        select(
            least(starts.c.due_us, WAITING),
            least(starts.c.deadline_us, WAITING),
            least(starts.c.claimed_until_us, ADMITTED),
            exists().where(starts.c.state == STARTED, starts.c.withdrawn.is_not(None)),
            exists().where(starts.c.state == STARTED),
        )
    ).one()
    return Look(row[0], row[1], row[2], bool(row[3]), bool(row[4]))


def _groups(connection: Connection, now_us: int) -> list[Group]:
    columns = tuple(starts.c[name] for name in Group._fields[:-2])
    query = select(*columns, func.count(), func.min(starts.c.due_us)).group_by(*columns)
    waits = (starts.c.state == WAITING, starts.c.due_us <= now_us)
    return [Group(*row) for row in connection.execute(query.where(*waits))]


def _same(group: Group, now_us: int) -> tuple[Any, ...]:
    """Return the conditions of the starts of a group."""
    equal = tuple(starts.c[name].is_not_distinct_from(getattr(group, name)) for name in Group._fields[2:-2])
    lane = (starts.c.state == WAITING, starts.c.tenant == group.tenant, starts.c.lane == group.lane)
    return (*lane, *equal, starts.c.due_us <= now_us)


def _first_of(connection: Connection, group: Group, n: int, now_us: int) -> list[str]:
    query = select(starts.c.id).where(*_same(group, now_us)).order_by(starts.c.due_us, starts.c.id).limit(n)
    return list(connection.execute(query).scalars())


def _turns(connection: Connection, groups: Sequence[Group]) -> dict[tuple[str, str], int]:
    tenants = sorted({group.tenant for group in groups})
    found: dict[tuple[str, str], int] = {}
    for start in range(0, len(tenants), _IN_CHUNK):
        query = select(start_turns).where(start_turns.c.tenant.in_(tenants[start : start + _IN_CHUNK]))
        found |= {(row.tenant, row.lane): row.at_us for row in connection.execute(query)}
    return found


def _replace(connection: Connection, groups: Sequence[Group], now_us: int) -> dict[str, Withdrawal]:
    """Make room for starts that take the place of others: those that wait before them end, what runs is cancelled."""
    over: dict[str, Withdrawal] = {}
    for group in groups:
        if group.busy != "replace":
            continue
        same = (
            starts.c.tenant == group.tenant,
            starts.c.task_id == group.task_id,
            starts.c.single_key == group.single_key,
            starts.c.busy != "",
        )
        waits = select(starts.c.id).where(*same, starts.c.state == WAITING, starts.c.due_us <= now_us)
        waiting = list(connection.execute(waits.order_by(starts.c.due_us.desc(), starts.c.id.desc())).scalars())
        if not waiting:
            continue
        how = Withdrawal("cancel", f"the execution {waiting[0]} took its place")
        over |= dict.fromkeys(take_out(connection, waiting[1:]), how)
        runs = (*same, starts.c.state.in_(HOLDING), starts.c.withdrawn.is_(None))
        connection.execute(update(starts).where(*runs).values(withdrawn=how.to_text()))
    return over


def _expire(connection: Connection, now_us: int) -> dict[str, Withdrawal]:
    late = (starts.c.state == WAITING, starts.c.deadline_us <= now_us)
    ids = list(connection.execute(select(starts.c.id).where(*late).limit(MOST)).scalars())
    how = Withdrawal("fail", "its deadline passed before it was let in", code=OUT_OF_TIME)
    return dict.fromkeys(take_out(connection, ids), how)


def _withdrawn(connection: Connection) -> list[tuple[str, str, Withdrawal]]:
    query = select(starts.c.tenant, starts.c.id, starts.c.withdrawn)
    query = query.where(starts.c.state == STARTED, starts.c.withdrawn.is_not(None)).limit(MOST)
    return [(row.tenant, row.id, Withdrawal.of(row.withdrawn)) for row in connection.execute(query)]


def _gathered(connection: Connection, row: Row[*tuple[Any, ...]], now_us: int) -> Json:
    """Make the list of the inputs that were gathered, and let the execution show it."""
    mine = (start_requests.c.tenant == row.tenant, start_requests.c.execution_id == row.id)
    query = select(start_requests.c.input).where(*mine, start_requests.c.input != "").order_by(start_requests.c.number)
    given: Json = [json.loads(text) for text in connection.execute(query).scalars()]
    values = {"input": compact_json(given), "updated_us": now_us}
    unheard = (executions.c.tenant == row.tenant, executions.c.id == row.id, executions.c.last_seq == 0)
    connection.execute(update(executions).where(*unheard).values(values))
    return given
