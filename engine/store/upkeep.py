"""What the repair asks of the projection and writes into it beside events: open rows, what is stuck, what is gone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Select, Update, bindparam, select, update

from engine.core.kinds import ExecutionStatus
from engine.core.run.events import EventRecord
from engine.store.batches import IN_CHUNK
from engine.store.database import Database
from engine.store.ends import ExecutionEnd, stored_events, write_ends
from engine.store.locks import lock_executions
from engine.store.projection import replace_events
from engine.store.rebuilding import forget, reopen, rows_of
from engine.store.schema import executions
from engine.store.start_rows import is_begun

GONE = "execution.gone"
GONE_HINT = "start it again; what the store holds of it is kept"


class OpenRow(NamedTuple):
    """A row of an execution that has not ended, as far as the store knows.

    Attributes:
        id: Execution id.
        tenant: Its tenant.
        last_seq: Highest event number stored.
        last_us: Time of the latest event, Unix microseconds; 0 if there is none.
        created_us: When it was created.
        terminal_seen: Whether a terminal event is stored.
        checked_events: Length of the history at which the events were last found right; None = never.
        stuck: What it is stuck with, as JSON text; None = nothing.
    """

    id: str
    tenant: str
    last_seq: int
    last_us: int
    created_us: int
    terminal_seen: bool
    checked_events: int | None
    stuck: str | None


class KnownRow(NamedTuple):
    """What the store knows of an execution that Temporal names.

    Attributes:
        id: Execution id.
        settled: Whether its end is stored.
        closed_us: When it ended.
        gone_us: When Temporal was found to have it no longer.
        error_code: Code of its error, may be empty.
        tenant: Its tenant.
    """

    id: str
    settled: bool
    closed_us: int | None
    gone_us: int | None
    error_code: str
    tenant: str


_OPEN = tuple(executions.c[name] for name in OpenRow._fields)
_KNOWN = tuple(executions.c[name] for name in KnownRow._fields)
_BY_ID = executions.c.id == bindparam("b_id")


class Upkeep:
    """Reads and writes of the repair.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- reads -----------------------------------------------------------------------------------------------------

    async def open_rows(self, *, after_id: str = "", limit: int = 1_000) -> list[OpenRow]:
        """Return one page of executions that began and are not settled, of all tenants, in order of their ids."""
        # one that waits to be let in is none that Temporal should know
        open_ones = (executions.c.settled.is_(False), executions.c.id > after_id, is_begun())
        query = select(*_OPEN).where(*open_ones)
        query = query.order_by(executions.c.id).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [OpenRow(*row) for row in rows]

    async def known(self, ids: Sequence[str]) -> dict[str, KnownRow]:
        """Return what the store knows of executions; unknown ones are left out."""
        found: dict[str, KnownRow] = {}
        for start in range(0, len(ids), IN_CHUNK):
            found |= await self._known(select(*_KNOWN).where(executions.c.id.in_(ids[start : start + IN_CHUNK])))
        return found

    async def has_begun(self, execution_id: str) -> bool:
        """Whether an execution is Temporal's; not so one that waits to be let in, or ended before it was."""
        query = select(executions.c.id).where(executions.c.id == execution_id, is_begun())
        return await self.database.run(lambda connection: connection.execute(query).first()) is not None

    async def settled_rows(self, *, after_id: str = "", limit: int = 100) -> list[KnownRow]:
        """Return one page of executions that began and whose end is stored, in order of their ids."""
        query = select(*_KNOWN).where(executions.c.settled.is_(True), executions.c.id > after_id, is_begun())
        return list((await self._known(query.order_by(executions.c.id).limit(limit))).values())

    async def _known(self, query: Select[Any]) -> dict[str, KnownRow]:
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return {row.id: KnownRow(*row) for row in rows}

    async def ids(self, *, after_id: str = "", since_us: int = 0, limit: int = 1_000) -> list[str]:
        """Return one page of the ids of all executions that began, in order."""
        wanted = (executions.c.id > after_id, executions.c.created_us >= since_us, is_begun())
        query = select(executions.c.id).where(*wanted)
        query = query.order_by(executions.c.id).limit(limit)
        return list(await self.database.run(lambda connection: connection.execute(query).scalars().all()))

    async def ids_like(self, prefix: str, *, limit: int) -> list[str]:
        """Return ids that begin with a text, of all tenants, in order."""
        start = prefix.lower()
        # a range and not LIKE, so that both databases answer from the primary key
        query = select(executions.c.id).where(executions.c.id >= start, executions.c.id < f"{start}g")
        query = query.order_by(executions.c.id).limit(limit)
        found = await self.database.run(lambda connection: connection.execute(query).scalars().all())
        # some collations overlook the hyphens of an id
        return [item for item in found if item.startswith(start)]

    async def rows_of(self, execution_id: str) -> dict[str, list[dict[str, Any]]]:
        """Return all rows of an execution by table, in the order of their primary keys."""
        return await self.database.run(lambda connection: rows_of(connection, execution_id))

    # --- writes ----------------------------------------------------------------------------------------------------

    async def mark_checked(self, lengths: Mapping[str, int]) -> None:
        """Note at which length of the history the stored events of executions were found right."""
        if lengths:
            statement = update(executions).where(_BY_ID).values(checked_events=bindparam("b_length"))
            await self._note(statement, [{"b_id": name, "b_length": length} for name, length in lengths.items()])

    async def mark_stuck(self, found: Mapping[str, str | None]) -> None:
        """Write why executions do not go on (JSON text), or that nothing is wrong with them (None)."""
        if found:
            statement = update(executions).where(_BY_ID).values(stuck=bindparam("b_stuck"))
            await self._note(statement, [{"b_id": name, "b_stuck": text} for name, text in found.items()])

    async def _note(self, statement: Update, values: Sequence[dict[str, Any]]) -> None:
        def note(connection: Connection) -> None:
            lock_executions(connection, [value["b_id"] for value in values])
            connection.execute(statement, values)

        await self.database.run(note, write=True)

    async def clear_stuck(self) -> None:
        """Take the note off executions that have ended."""
        ended = (executions.c.stuck.is_not(None), executions.c.settled.is_(True))
        query = select(executions.c.id).where(*ended).limit(1)
        if await self.database.run(lambda connection: connection.execute(query).first()) is not None:
            statement = update(executions).where(*ended).values(stuck=None)
            await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def mark_gone(self, execution_id: str, *, at_us: int) -> None:
        """Note that Temporal no longer has an execution; one that had not ended has failed, a known end stays."""
        message = "Temporal no longer has this execution: it was deleted before it ended"
        error = {"code": GONE, "message": message, "hint": GONE_HINT}
        end = ExecutionEnd(execution_id, ExecutionStatus.FAILED, at_us, error=error)
        mine = executions.c.id == execution_id

        def mark(connection: Connection) -> None:
            lock_executions(connection, [execution_id])
            settled = connection.execute(select(executions.c.settled).where(mine, is_begun())).scalar_one_or_none()
            if settled is None:
                return  # Temporal never had it: it waits to be let in
            if settled is False:
                write_ends(connection, [end], stored_events(connection, [execution_id]))
            connection.execute(update(executions).where(mine).values(gone_us=at_us, stuck=None))

        await self.database.run(mark, write=True)

    async def mark_there(self, execution_id: str) -> None:
        """Note that Temporal has an execution after all."""
        statement = update(executions).where(executions.c.id == execution_id).values(gone_us=None)
        await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def rebuild(
        self,
        execution_id: str,
        runs: Mapping[str, Sequence[EventRecord]],
        *,
        tenant: str,
        until_us: Mapping[str, int],
        end: ExecutionEnd | None,
        drop: bool = False,
    ) -> bool:
        """Make all rows of an execution anew from what its histories gave, in one transaction.

        Args:
            execution_id: The execution.
            runs: Events by run id; a run with no events loses its rows.
            tenant: Its tenant.
            until_us: By run id, the time up to which the history was read; later rows are newer and stay.
            end: How it ended; None = it has not, whatever was stored before.
            drop: Whether nothing of the old rows may be used, save newer events.

        Returns:
            Whether any row is another one than before.
        """

        def replace(connection: Connection) -> bool:
            lock_executions(connection, [execution_id])
            before = rows_of(connection, execution_id)
            if drop:
                forget(connection, execution_id)
            else:
                reopen(connection, execution_id)
            replace_events(connection, execution_id, runs, tenant=tenant, until_us=until_us)
            if end is not None:
                matches = write_ends(connection, [end], stored_events(connection, [execution_id]))
                if matches.get(execution_id) is None:
                    # the workflow could not say what it counted; the replay is all the proof there is
                    mine = executions.c.id == execution_id
                    connection.execute(update(executions).where(mine).values(verified=True))
            return rows_of(connection, execution_id) != before

        return await self.database.run(replace, write=True)
