"""PostgreSQL as the store: how its URL is read, what its errors mean, and who is told that something was written."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import structlog
from sqlalchemy import event, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from engine.core.errors import EngineError, InvalidInput, Unavailable
from engine.store.full import NO_SPACE_STATE, store_full

DRIVER = "postgresql+asyncpg"
NAMES = ("postgres", "postgresql", DRIVER)
"""How a URL may begin; the first two are what hosts of databases hand out."""

POOL_SIZE = 10
"""Connections of one process; `?pool_size=` in the URL sets another number."""
POOL_WAIT_S = 10.0
CONNECT_S = 10.0
ANSWER_S = 60.0
"""Longest time for one statement, so that a server that went silent is noticed; `?command_timeout=` sets another."""
LOCK_WAIT = "10s"
IDLE_IN_TRANSACTION = "60s"
"""A process that stands still in the middle of a transaction loses its locks after this long."""
KEPT_ALIVE = {
    "tcp_keepalives_idle": "20",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "4",
    "tcp_user_timeout": "60000",
}
"""How the server notices within a minute that a process is gone without a word.

In the middle of a statement no other limit of its counts, and the system's own is two hours: so long its locks would be
held.
"""

CHANNEL = "everstep"
TELL = text("SELECT pg_notify('everstep', '') WHERE pg_current_xact_id_if_assigned() IS NOT NULL")
"""Tells `listen` of other processes when the transaction commits, if it wrote anything."""

ALIVE_S = 5.0
AGAIN_S = 0.5

_USED = "everstep_used"
"""Set on a connection that was in use before: a new one is not asked whether it is dead."""

_HINT = "look at EVERSTEP_DATABASE_URL, and whether the database server runs"
_REPEATABLE = ("40001", "40P01")

log = structlog.get_logger(__name__)


def open_engine(url: URL) -> AsyncEngine:
    """Make the engine for a URL that begins with one of `NAMES`; connects to nothing yet.

    Args:
        url: The URL. `pool_size`, `command_timeout`, and libpq's `sslmode`, `connect_timeout` and `application_name`
            may stand in its query; `host=/folder` names the folder of a Unix socket.

    Raises:
        InvalidInput: `store.bad_url` for other words in the query, or numbers that are none.
    """
    plain, pool_size, arguments = _read(url)
    engine = create_async_engine(
        plain,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_WAIT_S,
        # what callers gave us stays out of logs
        hide_parameters=True,
        connect_args=arguments,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def leave_dead_ones(connection: Any, record: Any, proxy: Any) -> None:
        # what the server did stands at our end of the line already, so no question need be sent; between its last word
        # and the end of the line none can be seen, and then the driver itself gives up the connection at its first use
        del proxy
        if record.info.setdefault(_USED, False) and _is_cut_off(connection.driver_connection):
            raise DisconnectionError
        record.info[_USED] = True

    return engine


def _is_cut_off(driver: Any) -> bool:
    """Whether an idle connection is closed, or holds something unread: to idle ones a server speaks to end them.

    The loop reads it as soon as it comes to that; under load a transaction may come first.
    """
    if driver.is_closed():
        return True
    line = select.poll()
    line.register(driver._transport.get_extra_info("socket").fileno(), select.POLLIN)
    return bool(line.poll(0))


def _read(url: URL) -> tuple[URL, int, dict[str, Any]]:
    query = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    server = {
        "application_name": query.pop("application_name", "everstep"),
        "lock_timeout": LOCK_WAIT,
        "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION,
        **KEPT_ALIVE,
        # the statements are short; compiling them would take longer than running them
        "jit": "off",
    }
    arguments: dict[str, Any] = {"server_settings": server}
    try:
        arguments["command_timeout"] = float(query.pop("command_timeout", ANSWER_S))
        pool_size = int(query.pop("pool_size", POOL_SIZE))
        arguments["timeout"] = float(query.pop("connect_timeout", CONNECT_S))
    except ValueError as error:
        raise InvalidInput(f"the URL of the store holds a number that is none: {error}", code="store.bad_url") from None
    if pool_size < 1:
        raise InvalidInput("the pool of the store needs one connection at least", code="store.bad_url")
    if "sslmode" in query:
        arguments["ssl"] = query.pop("sslmode")
    unknown = sorted(set(query) - {"host", "port"})
    if unknown:
        raise InvalidInput(
            f"the URL of the store has unknown words in its query: {', '.join(unknown)}",
            code="store.bad_url",
            hint="pool_size, command_timeout, sslmode, connect_timeout, application_name, host and port are known",
        )
    return url.set(drivername=DRIVER, query=query), pool_size, arguments


def place_of(url: URL) -> str:
    """Say where a database is, without the password."""
    host = url.host or url.query.get("host") or "localhost"
    port = f":{url.port}" if url.port else ""
    return f"{url.database or url.username or 'postgres'} at {host}{port}"


# --- errors --------------------------------------------------------------------------------------------------------


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = getattr(seen, "orig", None) or seen.__cause__


def _state_of(error: BaseException) -> str:
    return next((str(state) for cause in _causes(error) if (state := getattr(cause, "sqlstate", None))), "")


def is_cut(error: BaseException) -> bool:
    """Whether the transaction is gone for a reason that a repetition need not meet: a cut connection, a deadlock."""
    found = next((cause for cause in _causes(error) if isinstance(cause, DBAPIError)), None)
    return found is not None and (found.connection_invalidated or _state_of(found) in _REPEATABLE)


def explain(error: BaseException, url: URL) -> EngineError | None:
    """Return the error that says what an error of driver or server means; None if it is not about the database."""
    place, state = place_of(url), _state_of(error)
    last = list(_causes(error))[-1]
    # in the driver's own words this is a state of its protocol: it used a connection that the server had given up
    is_confused = any(kind.__name__ == "InternalClientError" for kind in type(last).__mro__)
    detail = "the connection was cut" if is_confused else str(last).strip() or type(error).__name__
    if isinstance(error, PoolTimeoutError) or state in ("55P03", "57014"):
        return Unavailable(
            f"the store {place} is too busy", code="store.busy", retryable=True, hint="a larger ?pool_size= may help"
        )
    if state in ("28P01", "28000"):
        return Unavailable(
            f"the store {place} refuses the user {url.username!r}",
            code="store.refused",
            hint="correct user and password in EVERSTEP_DATABASE_URL",
        )
    if state == "3D000":
        return Unavailable(
            f"there is no database {url.database!r} at {place.rpartition(' at ')[2]}",
            code="store.missing",
            hint=f"create it (`createdb {url.database}`), or correct EVERSTEP_DATABASE_URL",
        )
    if state in ("42501", "25006"):
        return Unavailable(
            f"the store {place} cannot be written: {detail}",
            code="store.read_only",
            hint="the user needs CREATE on the schema, and the server must not be a standby",
        )
    if state.startswith(("22", "54")) or any(type(cause).__name__ == "DataError" for cause in _causes(error)):
        return InvalidInput(f"the store cannot hold a value of the request: {detail}", code="store.unfit")
    if state == NO_SPACE_STATE:
        return store_full(place)
    gone = isinstance(error, InterfaceError) or (isinstance(error, DBAPIError) and error.connection_invalidated)
    if gone or isinstance(error, OSError | TimeoutError) or state.startswith(("08", "53", "57", "58")):
        return Unavailable(
            f"the store {place} does not answer: {detail}", code="store.unreachable", retryable=True, hint=_HINT
        )
    return None


# --- being told of writes ------------------------------------------------------------------------------------------


async def listen(engine: AsyncEngine, stop: asyncio.Event, wake: Callable[[], None], *, pause_s: float) -> None:
    """Call `wake` after writes of any process until `stop` is set; connects again when the connection is cut.

    Args:
        engine: The engine; one more connection is made through it.
        stop: Ends it.
        wake: Called after writes, and whenever one may have been missed.
        pause_s: Shortest time between two calls.
    """
    while not stop.is_set():
        try:
            await _listen_once(engine, stop, wake, pause_s)
        except (DBAPIError, PoolTimeoutError, OSError, TimeoutError) as error:
            log.warning("the store tells no changes; trying again", error=str(explain(error, engine.url) or error))
            wake()
        await _elapse(stop, AGAIN_S)


async def _listen_once(engine: AsyncEngine, stop: asyncio.Event, wake: Callable[[], None], pause_s: float) -> None:
    told = asyncio.Event()

    def tell(*_: object) -> None:
        told.set()

    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        # not one of the pool any more: it listens, and is closed at the end
        await connection.run_sync(lambda own: own.detach())
        driver.add_termination_listener(tell)
        await driver.add_listener(CHANNEL, tell)
        tell()  # for whatever was written before
        while not stop.is_set():
            if not await _either(told, stop, ALIVE_S):
                # a server that vanished without a word is found by asking
                await driver.execute("SELECT 1", timeout=ALIVE_S)
                continue
            if driver.is_closed():
                raise ConnectionResetError("the connection was cut")
            told.clear()
            wake()
            await _elapse(stop, pause_s)


async def _either(one: asyncio.Event, other: asyncio.Event, most_s: float) -> bool:
    waiting = [asyncio.ensure_future(one.wait()), asyncio.ensure_future(other.wait())]
    done, pending = await asyncio.wait(waiting, timeout=most_s, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    return bool(done)


async def _elapse(stop: asyncio.Event, most_s: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), most_s)
