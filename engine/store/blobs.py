"""Which large payloads there are and which workflows refer to them, so that the last one to go takes them along."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from engine.store.database import Database
from engine.store.locks import lock_row
from engine.store.schema import executions
from engine.store.schema_blobs import blob_holders, blobs, purged

IN_CHUNK = 500


class Blob(NamedTuple):
    """One stored payload.

    Attributes:
        digest: SHA-256 of its bytes.
        made_us: When it was first stored, Unix microseconds; 0 = before references were counted.
    """

    digest: str
    made_us: int


class BlobStore:
    """The counted references.

    A reference is written before the payload itself, so nothing that a history refers to is ever taken for
    unreferenced. A payload that is on its way out is never taken up again: the same bytes, stored once more, are
    another blob with another time, which a late removal of the first cannot hit.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    async def hold(self, digest: str, holder: str) -> Blob:
        """Note, durably, that a workflow refers to some bytes, whether they are stored yet or not.

        Args:
            digest: SHA-256 of the bytes.
            holder: The workflow's id; empty = nobody knows whose they are, and they stay for ever.

        Returns:
            The blob that holds them, or is to hold them.
        """
        now_us = time.time_ns() // 1_000
        return await self.database.run(lambda connection: _hold(connection, digest, holder, now_us), write=True)

    async def learn(self, found: Mapping[str, Collection[Blob]]) -> None:
        """Note, in one transaction, what the histories of workflows refer to that began before this was counted."""
        now_us = time.time_ns() // 1_000
        await self.database.run(lambda connection: _learn(connection, found, now_us), write=True)

    async def holders(self, digest: str) -> list[str]:
        """Return the workflows that refer to some bytes, in order."""
        query = select(blob_holders.c.holder).where(blob_holders.c.digest == digest).order_by(blob_holders.c.holder)
        return list(await self.database.run(lambda connection: connection.execute(query).scalars().all()))

    async def release(self, holders: Sequence[str]) -> None:
        """Forget all references of workflows that are gone, and put the blobs out that nobody else refers to."""
        for start in range(0, len(holders), IN_CHUNK):
            part = list(holders[start : start + IN_CHUNK])
            await self._write_release(part)

    async def _write_release(self, holders: list[str]) -> None:
        await self.database.run(lambda connection: _release(connection, holders), write=True)

    async def outgoing(self, *, limit: int = 1_000) -> list[Blob]:
        """Return blobs that are to be removed."""
        query = select(blobs.c.digest, blobs.c.made_us).where(blobs.c.going.is_(True)).limit(limit)
        rows = await self.database.run(lambda connection: connection.execute(query).all())
        return [Blob(*row) for row in rows]

    async def removed(self, blob: Blob) -> None:
        """Note that a blob is no longer kept anywhere."""
        statement = delete(blobs).where(_is(blob), blobs.c.going.is_(True))
        await self.database.run(lambda connection: connection.execute(statement), write=True)

    async def lost_holders(self, *, before_us: int, limit: int = 1_000) -> list[str]:
        """Return workflows that refer to blobs although they were purged, or Temporal has lost them since a time."""
        over = select(purged.c.id).union(select(executions.c.id).where(executions.c.gone_us < before_us))
        query = select(blob_holders.c.holder).distinct().where(blob_holders.c.holder.in_(over)).limit(limit)
        return list(await self.database.run(lambda connection: connection.execute(query).scalars().all()))

    async def strangers(self, *, after: str = "", before_us: int, limit: int = 100) -> list[str]:
        """Return one page of workflows that have referred to blobs since before a time and have no row, by id."""
        known = select(executions.c.id).where(executions.c.id == blob_holders.c.holder).exists()
        old = (blob_holders.c.holder > after) & (blob_holders.c.at_us < before_us)
        query = select(blob_holders.c.holder).distinct().where(old, ~known)
        query = query.order_by(blob_holders.c.holder).limit(limit)
        return list(await self.database.run(lambda connection: connection.execute(query).scalars().all()))


def _is(blob: Blob) -> ColumnElement[bool]:
    return (blobs.c.digest == blob.digest) & (blobs.c.made_us == blob.made_us)


def _hold(connection: Connection, digest: str, holder: str, now_us: int) -> Blob:
    lock_row(connection, "blobs", digest)
    staying = select(blobs.c.made_us).where(blobs.c.digest == digest, blobs.c.going.is_(False))
    made_us = connection.execute(staying).scalar()
    if made_us is None:
        made_us = now_us
        connection.execute(insert(blobs).values(digest=digest, made_us=made_us, going=False))
    blob = Blob(digest, int(made_us))
    _refer(connection, blob, holder, now_us)
    return blob


def _refer(connection: Connection, blob: Blob, holder: str, now_us: int) -> None:
    row = {"digest": blob.digest, "made_us": blob.made_us, "holder": holder}
    mine = [blob_holders.c[name] == value for name, value in row.items()]
    if connection.execute(select(blob_holders.c.at_us).where(*mine)).first() is None:
        connection.execute(insert(blob_holders).values(**row, at_us=now_us))


def _learn(connection: Connection, found: Mapping[str, Collection[Blob]], now_us: int) -> None:
    pairs = sorted({(blob, holder) for holder, blobs_of in found.items() for blob in blobs_of})
    for blob, holder in pairs:
        lock_row(connection, "blobs", blob.digest)
        if connection.execute(select(blobs.c.digest).where(_is(blob))).first() is None:
            connection.execute(insert(blobs).values(digest=blob.digest, made_us=blob.made_us, going=False))
        _refer(connection, blob, holder, now_us)


def _release(connection: Connection, holders: list[str]) -> None:
    mine = blob_holders.c.holder.in_(holders)
    held = select(blob_holders.c.digest, blob_holders.c.made_us).distinct().where(mine).order_by(blob_holders.c.digest)
    for blob in [Blob(*row) for row in connection.execute(held)]:
        lock_row(connection, "blobs", blob.digest)
        same = (blob_holders.c.digest == blob.digest) & (blob_holders.c.made_us == blob.made_us)
        connection.execute(delete(blob_holders).where(same, mine))
        if connection.execute(select(blob_holders.c.digest).where(same).limit(1)).first() is None:
            connection.execute(update(blobs).where(_is(blob)).values(going=True))
