"""Keeps documents and the vectors of their pieces: added, listed, deleted; and what a worker has to embed."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, insert, or_, select, text, update
from sqlalchemy.exc import IntegrityError

from engine.core.contracts.lookups import Owner
from engine.core.errors import Conflict
from engine.core.values import Json, canonical_json
from engine.store.database import Database
from engine.store.metadata import contains
from engine.store.schema_docs import docs, snippets
from engine.store.texts import plain

LEASE_US = 60_000_000
"""How long a worker has for the vectors of a document before another one may make them."""
FIRST_PAUSE_US = 1_000_000
LONGEST_PAUSE_US = 600_000_000
"""Pauses between the tries to embed a document double up to this; it is tried until it is deleted."""
TROUBLE_CHARS = 500
CLEAN_SINCE = (3, 42)
"""From this version of SQLite on its full-text index overwrites what is deleted; before, it has to be merged."""

Key = tuple[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DocFacts:
    """A document.

    Attributes:
        id: Its id.
        tenant: Tenant id.
        owner: Whose it is.
        title: What it is called.
        metadata: What else is known of it.
        created_us: When it was added, Unix microseconds.
        pieces: How many pieces it has.
        actor: Who added it.
        digest: Hash of what was added.
        wanted: The model that is wished for; empty = the default.
        model: The model that made its vectors; empty = there are none.
        dims: Their length.
        embedded_us: When they were there; None = they are not.
        due_us: When a worker makes them, at the earliest; None = they are there, or are not wanted.
        tries: How often that failed.
        trouble: Why it failed last.
        instruction: What the model is told of the texts; empty = nothing.
        content_hash: Hash of title and pieces, which an owner has once; None = they are compared with nothing.
    """

    id: str
    tenant: str
    owner: Owner
    title: str
    metadata: dict[str, Any] = field(default_factory=dict)
    created_us: int
    pieces: int
    actor: str = ""
    digest: str = ""
    wanted: str = ""
    model: str = ""
    dims: int = 0
    embedded_us: int | None = None
    due_us: int | None = None
    tries: int = 0
    trouble: str = ""
    instruction: str = ""
    content_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a document: its number from 0, its text, its vector if there is one."""

    number: int
    content: str
    embedding: bytes | None = None


class DocStore:
    """Reads and writes documents.

    Args:
        database: The open store.
    """

    def __init__(self, database: Database) -> None:
        self.database = database

    # --- documents ---------------------------------------------------------------------------------------------------

    async def add(self, facts: DocFacts, contents: Sequence[str]) -> DocFacts:
        """Add a document with its pieces, or return the one that was added before: under its id, or with its content.

        One that its owner has already takes over what is said of it now: metadata, and how its vectors are made.

        Raises:
            Conflict: `doc.exists` if one with other contents has the id.
        """

        def work(connection: Connection) -> DocFacts:
            known = _get(connection, facts.id, facts.tenant)
            if known is None:
                double = _double_of(connection, facts)
                return _insert(connection, facts, contents) if double is None else _restate(connection, double, facts)
            if known.digest != facts.digest or known.owner != facts.owner:
                raise Conflict(
                    f"there is another document with the id '{facts.id}'", code="doc.exists", hint="leave the id out"
                )
            return known

        try:
            return await self.database.run(work, write=True)
        except IntegrityError:
            # somebody added it at the same moment
            return await self.database.run(work, write=True)

    async def get(self, doc_id: str, *, tenant: str) -> DocFacts | None:
        """Return a document; None = there is none."""
        return await self.database.run(lambda connection: _get(connection, doc_id, tenant))

    async def pieces(self, doc_id: str, *, tenant: str) -> list[Piece]:
        """Return the pieces of a document in order."""
        return (await self.pieces_of([doc_id], tenant=tenant)).get(doc_id, [])

    async def pieces_of(self, ids: Sequence[str], *, tenant: str) -> dict[str, list[Piece]]:
        """Return the pieces of documents in order, by document; those that are gone are left out."""
        columns = (snippets.c.doc_id, snippets.c.number, snippets.c.content, snippets.c.embedding)
        query = select(*columns).where(snippets.c.tenant == tenant, snippets.c.doc_id.in_(ids))
        rows = await self.database.run(lambda connection: connection.execute(query.order_by(snippets.c.number)).all())
        found: dict[str, list[Piece]] = {}
        for row in rows:
            found.setdefault(row.doc_id, []).append(Piece(row.number, row.content, row.embedding))
        return found

    async def page(
        self,
        *,
        tenant: str,
        owner: Owner | None = None,
        metadata: Mapping[str, Any] | None = None,
        limit: int = 100,
        after: Key | None = None,
        offset: int = 0,
        descending: bool = True,
    ) -> list[DocFacts]:
        """Return documents by the time at which they were added.

        Args:
            tenant: Tenant id.
            owner: Whose; None = anybody's.
            metadata: What their metadata must hold.
            limit: Most documents.
            after: Time and id of the last one of the page before, the newest first.
            offset: How many are passed over.
            descending: Whether the newest comes first.
        """
        conditions = [docs.c.tenant == tenant, *_owned([owner] if owner is not None else [])]
        if after is not None:
            older = docs.c.created_us < after[0]
            conditions.append(or_(older, and_(docs.c.created_us == after[0], docs.c.id < after[1])))
        order = [column.desc() if descending else column.asc() for column in (docs.c.created_us, docs.c.id)]
        query = select(docs).where(*conditions).order_by(*order)
        query = query if metadata else query.limit(limit).offset(offset)

        def work(connection: Connection) -> list[DocFacts]:
            found = [_facts(row) for row in connection.execute(query)]
            if not metadata:
                return found
            return [facts for facts in found if contains(facts.metadata, dict(metadata))][offset : offset + limit]

        return await self.database.run(work)

    async def remove(self, doc_id: str, *, tenant: str) -> bool:
        """Delete a document with its pieces and their words; whether there was one."""
        return await self.database.run(lambda connection: _remove(connection, [doc_id], tenant) > 0, write=True)

    async def remove_where(self, owner: Owner, metadata: Mapping[str, Any], *, tenant: str) -> list[str]:
        """Delete the documents of an owner whose metadata hold something; return their ids."""

        def work(connection: Connection) -> list[str]:
            query = select(docs.c.id, docs.c.metadata).where(docs.c.tenant == tenant, *_owned([owner]))
            ids = [
                str(row.id) for row in connection.execute(query) if contains(json.loads(row.metadata), dict(metadata))
            ]
            _remove(connection, ids, tenant)
            return ids

        return await self.database.run(work, write=True)

    async def remove_of_owner(self, owner: Owner, *, tenant: str) -> None:
        """Delete all documents of an owner that is gone itself."""
        await self.database.run(lambda connection: remove_of_owner(connection, owner, tenant), write=True)

    # --- vectors -----------------------------------------------------------------------------------------------------

    async def any_due(self, *, now_us: int) -> bool:
        """Whether a document waits for its vectors; a read, which disturbs no writer."""
        query = select(docs.c.id).where(docs.c.due_us <= now_us).limit(1)
        return await self.database.run(lambda connection: connection.execute(query).first() is not None)

    async def claim(self, *, now_us: int, limit: int) -> list[DocFacts]:
        """Take documents whose vectors are to be made; others take them again after a lease."""
        query = select(docs).where(docs.c.due_us <= now_us).order_by(docs.c.due_us).limit(limit)

        def work(connection: Connection) -> list[DocFacts]:
            rows = query if connection.dialect.name == "sqlite" else query.with_for_update(skip_locked=True)
            found = [_facts(row) for row in connection.execute(rows)]
            for facts in found:
                connection.execute(update(docs).where(*_is(facts)).values(due_us=now_us + LEASE_US))
            return [replace(facts, due_us=now_us + LEASE_US) for facts in found]

        return await self.database.run(work, write=True)

    async def keep_vectors(self, facts: DocFacts, model: str, vectors: Sequence[bytes], *, now_us: int) -> bool:
        """Keep the vectors of a document.

        Args:
            facts: The document.
            model: The model that made them.
            vectors: One for each piece, in order; see `engine.store.docsearch.to_bytes`.
            now_us: Unix microseconds.

        Returns:
            False if it was deleted meanwhile, or its vectors are to be made in another way.
        """

        def work(connection: Connection) -> bool:
            # for another instruction or model there are others to be made
            still = (docs.c.instruction == facts.instruction, docs.c.wanted == facts.wanted)
            changed = connection.execute(
                update(docs)
                .where(*_is(facts), *still)
                .values(model=plain(model, 255), dims=len(vectors[0]) // 4, embedded_us=now_us, due_us=None, trouble="")
            )
            if not changed.rowcount:
                return False
            mine = and_(snippets.c.tenant == facts.tenant, snippets.c.doc_id == facts.id)
            for number, vector in enumerate(vectors):
                piece = update(snippets).where(mine, snippets.c.number == number)
                connection.execute(piece.values(embedding=vector))
            return True

        return await self.database.run(work, write=True)

    async def put_off(self, facts: DocFacts, *, until_us: int) -> bool:
        """Let nobody else make the vectors of a document until then; False if it has them, or was deleted."""
        still = update(docs).where(*_is(facts), docs.c.due_us.is_not(None)).values(due_us=until_us)
        return await self.database.run(lambda connection: connection.execute(still).rowcount > 0, write=True)

    async def note_trouble(self, facts: DocFacts, trouble: str, *, now_us: int) -> None:
        """Keep why the vectors of a document could not be made; it is tried again, ever later."""
        pause_us = min(FIRST_PAUSE_US << min(facts.tries, 20), LONGEST_PAUSE_US)
        noted = {"tries": facts.tries + 1, "trouble": plain(trouble, TROUBLE_CHARS), "due_us": now_us + pause_us}
        # one that another worker has finished meanwhile needs nothing more
        still = update(docs).where(*_is(facts), docs.c.due_us.is_not(None)).values(noted)
        await self.database.run(lambda connection: connection.execute(still), write=True)


# --- rows ------------------------------------------------------------------------------------------------------------


def remove_of_owner(connection: Connection, owner: Owner, tenant: str) -> None:
    """Delete all documents of an owner, as a part of the transaction that deletes the owner.

    Args:
        connection: The transaction.
        owner: Whose documents.
        tenant: Tenant id.
    """
    ids = connection.execute(select(docs.c.id).where(docs.c.tenant == tenant, *_owned([owner]))).scalars().all()
    _remove(connection, ids, tenant)


def _double_of(connection: Connection, facts: DocFacts) -> DocFacts | None:
    if facts.content_hash is None:
        return None
    mine = (docs.c.tenant == facts.tenant, *_owned([facts.owner]), docs.c.content_hash == facts.content_hash)
    row = connection.execute(select(docs).where(*mine)).first()
    return None if row is None else _facts(row)


def _insert(connection: Connection, facts: DocFacts, contents: Sequence[str]) -> DocFacts:
    connection.execute(insert(docs).values(_values(facts)))
    rows = [
        {
            "tenant": facts.tenant,
            "doc_id": facts.id,
            "number": number,
            "seq": secrets.randbits(62),
            "title": plain(facts.title),
            "content": plain(content),
        }
        for number, content in enumerate(contents)
    ]
    connection.execute(insert(snippets), rows)
    return facts


def _restate(connection: Connection, known: DocFacts, facts: DocFacts) -> DocFacts:
    """Write what is said of a document that was added again; what is left out stays."""
    now = replace(known, metadata=facts.metadata or known.metadata)
    has_none = known.embedded_us is None and known.due_us is None
    is_other = (facts.instruction, facts.wanted) != (known.instruction, known.wanted)
    if facts.due_us is not None and (has_none or is_other):
        now = replace(now, instruction=facts.instruction, wanted=facts.wanted, due_us=facts.due_us)
    if now != known:
        connection.execute(update(docs).where(*_is(known)).values(_values(now)))
    return now


def _is(facts: DocFacts) -> tuple[ColumnElement[bool], ...]:
    return docs.c.tenant == facts.tenant, docs.c.id == facts.id


def _owned(owners: Sequence[Owner]) -> list[ColumnElement[bool]]:
    each = [and_(docs.c.owner_kind == owner.kind, docs.c.owner_id == owner.id) for owner in owners]
    return [or_(*each)] if each else []


def _get(connection: Connection, doc_id: str, tenant: str) -> DocFacts | None:
    row = connection.execute(select(docs).where(docs.c.tenant == tenant, docs.c.id == doc_id)).first()
    return None if row is None else _facts(row)


def _remove(connection: Connection, ids: Sequence[str], tenant: str) -> int:
    removed = 0
    for doc_id in ids:
        mine = and_(snippets.c.tenant == tenant, snippets.c.doc_id == doc_id)
        connection.execute(delete(snippets).where(mine))
        removed += connection.execute(delete(docs).where(docs.c.tenant == tenant, docs.c.id == doc_id)).rowcount
    if removed and connection.dialect.name == "sqlite" and sqlite3.sqlite_version_info < CLEAN_SINCE:
        # the words of deleted pieces would stay in the file until the index is merged some day
        connection.execute(text("INSERT INTO snippets_words(snippets_words) VALUES ('optimize')"))
    return removed


def _values(facts: DocFacts) -> dict[str, Json]:
    return {
        "tenant": facts.tenant,
        "id": facts.id,
        "owner_kind": facts.owner.kind,
        "owner_id": facts.owner.id,
        "title": plain(facts.title),
        "metadata": canonical_json(facts.metadata),
        "digest": facts.digest,
        "actor": plain(facts.actor, 255),
        "created_us": facts.created_us,
        "pieces": facts.pieces,
        "wanted": plain(facts.wanted, 255),
        "model": facts.model,
        "dims": facts.dims,
        "embedded_us": facts.embedded_us,
        "due_us": facts.due_us,
        "tries": facts.tries,
        "trouble": facts.trouble,
        "instruction": plain(facts.instruction),
        "content_hash": facts.content_hash,
    }


def _facts(row: Row[Any]) -> DocFacts:
    own = ("id", "tenant", "title", "created_us", "pieces", "actor", "digest", "wanted", "model", "dims")
    more = ("embedded_us", "due_us", "tries", "trouble", "instruction", "content_hash")
    return DocFacts(
        owner=Owner(kind=row.owner_kind, id=row.owner_id),
        metadata=json.loads(row.metadata),
        **{name: getattr(row, name) for name in (*own, *more)},
    )
