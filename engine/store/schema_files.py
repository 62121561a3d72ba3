"""The table of files: what clients leave for themselves and for tasks, whole and as it was sent."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, LargeBinary, String, Table, Text

from engine.store.schema import ByteText, truth

files = Table(
    "files",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("description", Text, nullable=False),
    # NULL = the client said nothing of it
    Column("mime_type", String(255)),
    # canonical name of the project; NULL = of none
    Column("project", String(255)),
    # bytes, and their SHA-256: known without reading them
    Column("size", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Index("ix_files_created_us", "tenant", "created_us", "id"),
)

for _column in files.columns:
    if isinstance(_column.type, String):
        _column.type = _column.type.with_variant(ByteText(), "postgresql")
