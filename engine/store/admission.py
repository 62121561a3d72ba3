"""Starts on their way in: entered, looked up, taken back before they are let in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, and_, case, func, literal, or_, select, update

from engine.core.run.projection import ExecutionFacts
from engine.store.entering import Entry, NewStart, enter
from engine.store.projection import ProjectionStore
from engine.store.reading import facts_of
from engine.store.schema import executions
from engine.store.schema_admission import start_requests, starts
from engine.store.start_rows import ADMITTED, WAITING, Ends, Withdrawal, close, group_of, holders, is_start, take_out
from engine.store.turns import Held, Limits


class Known(NamedTuple):
    """An execution that a request has led to before.

    Attributes:
        facts: The execution.
        fingerprint: Hash of that request, if it might have become part of another one's execution; else empty.
    """

    facts: ExecutionFacts
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """How a start stands that has not become a workflow yet.

    Attributes:
        state: `waiting` or `admitted`.
        due_us: When it may be let in.
        gathering: Whether others join it: `debounce`, `collect`, or empty.
        gathered: How many requests it is made of.
        size: How many are enough.
        blocked: What keeps it from being let in; see `Held.blocks`.
        limit: The limit that does.
        running: How many executions that limit counts now.
        place: Its place among those that take turns with it, from 1.
        waiting: How many these are.
    """

    state: str
    due_us: int
    gathering: str = ""
    gathered: int = 0
    size: int = 0
    blocked: str = ""
    limit: int | None = None
    running: int = 0
    place: int = 1
    waiting: int = 1


class AdmissionStore:
    """Reads and writes of starts that wait.

    Args:
        store: The projection.
    """

    def __init__(self, store: ProjectionStore) -> None:
        self.store = store
        self.database = store.database

    def tell(self, ended: Ends) -> None:
        """Tell whoever wants to know of ends that were written."""
        if ended.news and self.store.on_closed is not None:
            self.store.on_closed(ended.ends, ended.news)

    # --- entering --------------------------------------------------------------------------------------------------

    async def find_known(self, wanted_id: str, *, tenant: str) -> Known | None:
        """Return the execution that a request has led to before, by the id that its own would have; one statement."""
        joined = select(start_requests.c.execution_id).where(
            start_requests.c.tenant == tenant, start_requests.c.id == wanted_id
        )
        fingerprint = select(start_requests.c.fingerprint).where(
            start_requests.c.tenant == tenant, start_requests.c.id == wanted_id
        )
        query = select(executions, func.coalesce(fingerprint.scalar_subquery(), "").label("fingerprint")).where(
            executions.c.tenant == tenant,
            executions.c.id == func.coalesce(joined.scalar_subquery(), wanted_id),
        )
        row = await self.database.run(lambda connection: connection.execute(query).one_or_none())
        return None if row is None else Known(facts_of(row), row.fingerprint)

    async def enter(self, new: NewStart) -> tuple[Entry, str]:
        """Take a start: as an execution of its own, as a part of one that waits, or not at all.

        Returns:
            What became of it, and the id of the execution that it led to.
        """
        return await self.database.run(lambda connection: enter(connection, new), write=True)

    # --- before it is let in ---------------------------------------------------------------------------------------

    async def withdraw(self, execution_id: str, how: Withdrawal, *, tenant: str, now_us: int) -> str:
        """End a start that has not become a workflow yet.

        Args:
            execution_id: The execution.
            how: How it is to end.
            tenant: Its tenant.
            now_us: The time, Unix microseconds.

        Returns:
            `ended` if it has, `later` if its workflow is being started, and is told as soon as it is there; empty if
            it is in Temporal's hands, or was never in ours.
        """
        done = Ends()

        def work(connection: Connection) -> str:
            done.ends, done.news = [], {}
            if take_out(connection, [execution_id]):
                close(connection, {execution_id: how}, now_us, done)
                return "ended"
            statement = update(starts).where(is_start(tenant, execution_id), starts.c.state == ADMITTED)
            told = connection.execute(statement.values(withdrawn=how.to_text()))
            return "later" if told.rowcount else ""

        if not await self.is_pending(execution_id, tenant=tenant):
            return ""
        outcome = await self.database.run(work, write=True)
        self.tell(done)
        return outcome

    async def is_pending(self, execution_id: str, *, tenant: str) -> bool:
        """Whether an execution waits to be let in, or is just being started."""
        query = select(starts.c.id).where(is_start(tenant, execution_id), starts.c.state.in_((WAITING, ADMITTED)))
        return await self.database.run(lambda connection: connection.execute(query).first()) is not None

    async def read(self, execution_id: str, *, tenant: str, limits: Limits, now_us: int) -> Waiting | None:
        """Return how a start stands that has not become a workflow yet; None for all others."""
        return await self.database.run(lambda connection: _read(connection, execution_id, tenant, limits, now_us))


# --- how it stands -------------------------------------------------------------------------------------------------


def _read(connection: Connection, execution_id: str, tenant: str, limits: Limits, now_us: int) -> Waiting | None:
    row = connection.execute(select(starts).where(is_start(tenant, execution_id))).one_or_none()
    if row is None or row.state not in (WAITING, ADMITTED):
        return None
    if row.state == ADMITTED or row.due_us > now_us:
        return Waiting(row.state, row.due_us, row.gathering, row.gathered, row.size)
    group = group_of(row)
    held = Held.of(holders(connection, tenant=None if limits.running is not None else tenant))
    blocked = held.blocks(group, limits)
    counted = {
        "singleton": (1, held.single[tenant, row.task_id, row.single_key]),
        "key": (row.key_limit, held.keys[tenant, row.task_id, row.limit_key]),
        "task": (row.task_limit, held.tasks[tenant, row.task_id]),
        "tenant": (limits.per_tenant, held.tenants[tenant]),
        "installation": (limits.running, held.total),
    }
    limit, running = counted.get(blocked, (None, 0))
    lane = (starts.c.tenant == tenant, starts.c.lane == row.lane, starts.c.state == WAITING, starts.c.due_us <= now_us)
    before = or_(
        starts.c.priority < row.priority,
        and_(starts.c.priority == row.priority, starts.c.due_us < row.due_us),
        and_(starts.c.priority == row.priority, starts.c.due_us == row.due_us, starts.c.id < row.id),
    )
    ahead = func.coalesce(func.sum(case((before, literal(1)), else_=literal(0))), 0)
    place, waiting = connection.execute(select(ahead, func.count()).select_from(starts).where(*lane)).one()
    return Waiting(
        row.state,
        row.due_us,
        row.gathering,
        row.gathered,
        row.size,
        blocked,
        limit,
        running,
        int(place) + 1,
        int(waiting),
    )
