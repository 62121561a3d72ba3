"""Tables of documents: what agents and users have to look things up in, in pieces, each with its vector."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, Text

from engine.store.schema import ByteText, truth

# One row for each document. It can be found by its words at once; a worker adds the vectors of its pieces.
docs = Table(
    "docs",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    # agent, user; empty = nobody's, so everybody's of the tenant
    Column("owner_kind", String(16), nullable=False),
    Column("owner_id", String(128), nullable=False),
    Column("title", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    # over title, pieces and metadata: who sends the same again under one key gets the same document
    Column("digest", String(64), nullable=False),
    Column("actor", String(255), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("pieces", Integer, nullable=False),
    # the model that is wished for; empty = the default
    Column("wanted", String(255), nullable=False),
    # the model that made the vectors, and their length; vectors of two models cannot be compared
    Column("model", String(255), nullable=False),
    Column("dims", Integer, nullable=False),
    Column("embedded_us", BigInteger),
    # when a worker makes the vectors, at the earliest; NULL = they are there, or are not wanted
    Column("due_us", BigInteger),
    Column("tries", Integer, nullable=False),
    Column("trouble", Text, nullable=False),
    # what the model is told of the texts; empty = nothing
    Column("instruction", Text, nullable=False),
    # over title and pieces: an owner has each text once; NULL = it was added before that was so
    Column("content_hash", String(64)),
    Index("ix_docs_content_hash", "tenant", "owner_kind", "owner_id", "content_hash", unique=True),
    # what a search asks of the vectors before it reads any
    Index("ix_docs_vectors", "tenant", "owner_kind", "owner_id", "model", "dims", "embedded_us", "pieces"),
    Index("ix_docs_owner", "tenant", "owner_kind", "owner_id", "created_us", "id"),
    Index("ix_docs_due_us", "due_us"),
)

# One row for each piece of a document: what is found, and by what it is found. A full-text index stands beside it: a
# virtual table of SQLite kept by triggers, an index over an expression in PostgreSQL.
snippets = Table(
    "snippets",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("doc_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    # what the full-text index of SQLite calls it
    Column("seq", BigInteger, nullable=False),
    Column("title", Text, nullable=False),
    Column("content", Text, nullable=False),
    # numbers of four bytes, the lowest byte first, of length one; NULL = there are none yet
    Column("embedding", LargeBinary),
    Index("ix_snippets_seq", "seq", unique=True),
)

WORDS = "snippets_words"
"""The full-text index: a virtual table of SQLite, an index of PostgreSQL."""

for _table in (docs, snippets):
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _column.type = _column.type.with_variant(ByteText(), "postgresql")
