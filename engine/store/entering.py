"""Takes a start that is not made at once: as an execution of its own, as a part of one that waits, or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, case, exists, insert, or_, select, union_all, update

from engine.core.values import Json, compact_json
from engine.store.locks import lock_executions, lock_rows
from engine.store.projection import ensure_named
from engine.store.purging import buried
from engine.store.rows import Named
from engine.store.schema import executions
from engine.store.schema_admission import start_requests, starts
from engine.store.start_rows import HOLDING, TABLE, WAITING, is_start
from engine.store.tags import add_tags, drop_tags, named_tags

MOST_GATHERED_CHARS = 8_000_000
"""Inputs that are gathered into one execution have so many characters at most; after that it waits for no more."""


class Entry(Enum):
    """What became of a request to start.

    Attributes:
        QUEUED: It has an execution of its own, which is let in when it may be.
        JOINED: It became part of an execution that had been asked for before.
        SKIPPED: It was dropped, since an execution runs.
        KNOWN: Its id was there already.
    """

    QUEUED = "queued"
    JOINED = "joined"
    SKIPPED = "skipped"
    KNOWN = "known"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewStart:
    """A start that is not made at once; see the columns of `starts`.

    Attributes:
        named: What its execution is called.
        params: How its workflow is started: {execution, …}, where `execution` is all but the input that it is given.
        wait_us: How long it waits for others to join it.
        at_most_us: How long they may keep it waiting.
        fingerprint: Hash of what was asked for.
        keyed: Whether the caller gave a key, so that the same request may come again.
    """

    id: str
    tenant: str
    task_id: str
    lane: str
    priority: int
    named: Named
    params: Mapping[str, Any]
    input: Json
    now_us: int
    due_us: int
    deadline_us: int | None = None
    deadline_after_us: int | None = None
    gathering: str = ""
    gather_key: str = ""
    wait_us: int = 0
    at_most_us: int | None = None
    size: int = 0
    task_limit: int | None = None
    key_limit: int | None = None
    limit_key: str = ""
    busy: str = ""
    single_key: str = ""
    fingerprint: str = ""
    keyed: bool = False


def enter(connection: Connection, new: NewStart) -> tuple[Entry, str]:
    """Do what `AdmissionStore.enter` does, in a transaction of the caller's."""
    names = [new.id]
    if new.gathering or new.busy == "skip":
        # of two that come at once, one must see the other
        names.append(f"{new.tenant}/{new.task_id}")
    lock_rows(connection, TABLE, names)
    known = _known(connection, new)
    if known:
        return Entry.KNOWN, known
    if new.gathering:
        joined = _join(connection, new)
        if joined:
            return Entry.JOINED, joined
    if new.busy == "skip":
        running = _running(connection, new)
        if running:
            if new.keyed:
                _add_request(connection, new, running, 0)
            return Entry.SKIPPED, running
    connection.execute(insert(starts).values(_row_of(new)))
    if new.gathering:
        _add_request(connection, new, new.id, 1)
    lock_executions(connection, [new.id])
    ensure_named(connection, new.id, new.tenant, new.named)
    return Entry.QUEUED, new.id


def _known(connection: Connection, new: NewStart) -> str:
    """Return the execution that has the id already, or that a request with it led to."""
    mine = start_requests.c.tenant == new.tenant, start_requests.c.id == new.id
    found = connection.execute(
        union_all(
            select(executions.c.id).where(executions.c.id == new.id),
            select(start_requests.c.execution_id).where(*mine),
        )
    ).first()
    if found is not None:
        return str(found[0])
    # one that was purged keeps its id for ever
    return new.id if buried(connection, [new.id]) else ""


def _row_of(new: NewStart) -> dict[str, Any]:
    chars = len(compact_json(new.input))
    return {
        "tenant": new.tenant,
        "id": new.id,
        "state": WAITING,
        "task_id": new.task_id,
        "created_us": new.now_us,
        "until_us": None if new.at_most_us is None else new.now_us + new.at_most_us,
        "gathering": new.gathering,
        "gather_key": new.gather_key,
        "gathered": 1,
        "gathered_chars": chars,
        "size": new.size,
        "claimed_by": "",
        "claimed_until_us": None,
        "withdrawn": None,
        **_last_of(new),
        "due_us": max(new.due_us, new.now_us + new.wait_us),
    }


def _last_of(new: NewStart) -> dict[str, Any]:
    """Return what the last start gives to an execution that debounced ones share."""
    return {
        "lane": new.lane,
        "priority": new.priority,
        "deadline_us": new.deadline_us,
        "deadline_after_us": new.deadline_after_us,
        "task_limit": new.task_limit,
        "key_limit": new.key_limit,
        "limit_key": new.limit_key,
        "busy": new.busy,
        "single_key": new.single_key,
        "params": compact_json(dict(new.params)),
        "input": compact_json(new.input),
    }


def _add_request(connection: Connection, new: NewStart, execution_id: str, number: int) -> None:
    gathered = new.gathering == "collect" and number > 0
    row = {
        "tenant": new.tenant,
        "id": new.id,
        "execution_id": execution_id,
        "number": number,
        "fingerprint": new.fingerprint,
        "input": compact_json(new.input) if gathered else "",
        "created_us": new.now_us,
    }
    connection.execute(insert(start_requests).values(row))


def _join(connection: Connection, new: NewStart) -> str:
    """Make a start part of one that waits for others; returns the execution, empty if none does."""
    waits = (
        starts.c.tenant == new.tenant,
        starts.c.task_id == new.task_id,
        starts.c.state == WAITING,
        starts.c.gathering == new.gathering,
        starts.c.gather_key == new.gather_key,
    )
    has_room = (starts.c.gathered < starts.c.size, starts.c.gathered_chars < MOST_GATHERED_CHARS)
    query = select(starts).where(*waits, *(has_room if new.gathering == "collect" else ()))
    query = query.order_by(starts.c.created_us, starts.c.id).limit(1)
    found = connection.execute(query).one_or_none()
    if found is None:
        return ""
    joined = _collect(connection, new, found) if new.gathering == "collect" else _debounce(connection, new, found)
    return str(found.id) if joined else ""


def _collect(connection: Connection, new: NewStart, found: Row[*tuple[Any, ...]]) -> bool:
    chars = found.gathered_chars + len(compact_json(new.input))
    full = found.gathered + 1 >= found.size or chars >= MOST_GATHERED_CHARS
    values: dict[str, Any] = {"gathered": found.gathered + 1, "gathered_chars": chars}
    if full:
        values["due_us"] = case((starts.c.due_us > new.now_us, new.now_us), else_=starts.c.due_us)
    # whoever lets it in has changed its state before, or sees this one among its inputs
    statement = update(starts).where(is_start(new.tenant, found.id), starts.c.state == WAITING).values(values)
    if not connection.execute(statement).rowcount:
        return False
    _add_request(connection, new, found.id, found.gathered + 1)
    return True


def _debounce(connection: Connection, new: NewStart, found: Row[*tuple[Any, ...]]) -> bool:
    due_us = max(new.due_us, new.now_us + new.wait_us)
    if found.until_us is not None:
        due_us = min(due_us, found.until_us)
    first = json.loads(found.params)["execution"]
    kept = {name: first.get(name) for name in ("execution_id", "created_us", "trace")}
    params = {**new.params, "execution": {**new.params["execution"], **kept}}
    values = _last_of(new) | {"due_us": due_us, "gathered": found.gathered + 1, "params": compact_json(params)}
    statement = update(starts).where(is_start(new.tenant, found.id), starts.c.state == WAITING).values(values)
    if not connection.execute(statement).rowcount:
        return False
    if new.keyed:
        _add_request(connection, new, found.id, found.gathered + 1)
    lock_executions(connection, [found.id])
    rename(connection, new.tenant, found.id, new.named, created_us=found.created_us, at_us=new.now_us)
    return True


def rename(
    connection: Connection, tenant: str, execution_id: str, named: Named, *, created_us: int, at_us: int
) -> None:
    """Give an execution that has not begun another input, other metadata and labels."""
    kept = ("trace_id", "created_us")
    row = {name: value for name, value in named.row().items() if name not in kept}
    mine = (executions.c.tenant == tenant, executions.c.id == execution_id)
    connection.execute(update(executions).where(*mine).values(**row, updated_us=at_us))
    drop_tags(connection, [(tenant, execution_id)])
    tags = named_tags(tenant, execution_id, named)
    add_tags(connection, [tag | {"created_us": created_us} for tag in tags])


def _running(connection: Connection, new: NewStart) -> str:
    """Return the execution that takes the only place there is; empty if none does."""
    open_ones = exists().where(
        executions.c.tenant == starts.c.tenant, executions.c.id == starts.c.id, executions.c.settled.is_(False)
    )
    # one that is delayed takes no place before its time
    there = or_(starts.c.state.in_(HOLDING), and_(starts.c.state == WAITING, _comes(new.now_us)))
    query = (
        select(starts.c.id)
        .where(
            starts.c.tenant == new.tenant,
            starts.c.task_id == new.task_id,
            starts.c.single_key == new.single_key,
            starts.c.busy != "",
            there,
            open_ones,
        )
        .order_by(starts.c.created_us, starts.c.id)
        .limit(1)
    )
    return str(connection.execute(query).scalar_one_or_none() or "")


def _comes(now_us: int) -> ColumnElement[bool]:
    return or_(starts.c.due_us <= now_us, starts.c.gathering != "")
