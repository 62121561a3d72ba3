"""The table of secrets: values that only workers read, each encrypted for its tenant and name."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

from engine.store.schema import ByteText, truth

secrets = Table(
    "secrets",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("name", String(128), primary_key=True),
    # which key encrypted it, so that keys can be replaced
    Column("key_id", String(64), nullable=False),
    # nonce and ciphertext in base64
    Column("sealed", Text, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Column("updated_by", String(255), nullable=False),
    # stays when the secret gets another name
    Column("id", String(64), nullable=False),
    Column("metadata", Text, nullable=False),
    Index("ix_secrets_id", "tenant", "id", unique=True),
)

for _column in secrets.columns:
    if isinstance(_column.type, String):
        _column.type = _column.type.with_variant(ByteText(), "postgresql")
