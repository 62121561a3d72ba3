"""Conversations of agents, the registry of models, secrets, documents, budgets and kept replies."""

from __future__ import annotations

import sqlite3

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def _text(length: int) -> sa.types.TypeEngine[str]:
    if op.get_bind().dialect.name == "postgresql":
        return sa.TEXT(collation="C")
    return sa.String(length=length)


def _long() -> sa.types.TypeEngine[str]:
    return sa.TEXT(collation="C") if op.get_bind().dialect.name == "postgresql" else sa.Text()


def upgrade() -> None:
    """Add the tables."""
    _add_conversations()
    _add_registry()
    _add_secrets()
    _add_spending()
    _add_kept()
    _add_docs()


def downgrade() -> None:
    """Drop them again."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TABLE snippets_words")
    op.drop_table("snippets")
    op.drop_table("docs")
    for name in ("at_us", "execution_id", "until_us"):
        op.drop_index(f"ix_kept_replies_{name}", "kept_replies")
    op.drop_table("kept_replies")
    op.drop_index("ix_spending_reserved_call_id", "spending_reserved")
    op.drop_index("ix_spending_reserved_execution_id", "spending_reserved")
    op.drop_table("spending_reserved")
    op.drop_index("ix_spending_budget_since_us", "spending")
    op.drop_index("ix_spending_execution_id", "spending")
    op.drop_table("spending")
    op.drop_index("ix_model_pulls_queue", "model_pulls")
    for table in ("model_pulls", "found_models", "backend_states", "registry_entries", "registry_marks"):
        op.drop_table(table)
    op.drop_table("secrets")
    op.drop_index("ix_conversations_at_us", "conversations")
    op.drop_table("conversations")


def _add_conversations() -> None:
    op.create_table(
        "conversations",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("execution_id", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("hash", _text(64), nullable=False),
        sa.Column("before", _text(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("messages", _long(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "execution_id", "id", "hash", name=op.f("pk_conversations")),
    )
    op.create_index("ix_conversations_at_us", "conversations", ["at_us"], unique=False)


def _add_secrets() -> None:
    op.create_table(
        "secrets",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("name", _text(128), nullable=False),
        sa.Column("key_id", _text(64), nullable=False),
        sa.Column("sealed", _long(), nullable=False),
        sa.Column("description", _long(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_by", _text(255), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "name", name=op.f("pk_secrets")),
    )


def _add_registry() -> None:
    op.create_table(
        "registry_marks",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("config", sa.BigInteger(), nullable=False),
        sa.Column("seen", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_registry_marks")),
    )
    op.create_table(
        "registry_entries",
        sa.Column("kind", _text(16), nullable=False),
        sa.Column("name", _text(128), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("body", _long(), nullable=False),
        sa.Column("rev", sa.Integer(), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name=op.f("pk_registry_entries")),
    )
    op.create_table(
        "backend_states",
        sa.Column("backend", _text(128), nullable=False),
        sa.Column("source", _text(16), nullable=False),
        sa.Column("body", _long(), nullable=False),
        sa.Column("state", _text(16), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("checked_us", sa.BigInteger(), nullable=False),
        sa.Column("latency_us", sa.BigInteger(), nullable=True),
        sa.Column("error_code", _text(64), nullable=False),
        sa.Column("error_message", _long(), nullable=False),
        sa.Column("error_us", sa.BigInteger(), nullable=True),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("missing", _long(), nullable=False),
        sa.PrimaryKeyConstraint("backend", name=op.f("pk_backend_states")),
    )
    op.create_table(
        "found_models",
        sa.Column("backend", _text(128), nullable=False),
        sa.Column("model", _text(255), nullable=False),
        sa.Column("body", _long(), nullable=False),
        sa.Column("seen_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("backend", "model", name=op.f("pk_found_models")),
    )
    _add_pulls()


def _add_pulls() -> None:
    op.create_table(
        "model_pulls",
        sa.Column("id", _text(64), nullable=False),
        sa.Column("backend", _text(128), nullable=False),
        sa.Column("model", _text(255), nullable=False),
        sa.Column("state", _text(16), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("status", _long(), nullable=False),
        sa.Column("done_bytes", sa.BigInteger(), nullable=False),
        sa.Column("total_bytes", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error_code", _text(64), nullable=False),
        sa.Column("error_message", _long(), nullable=False),
        sa.Column("reason", _text(16), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("started_us", sa.BigInteger(), nullable=True),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.Column("ended_us", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_model_pulls")),
    )
    op.create_index("ix_model_pulls_queue", "model_pulls", ["backend", "state", "created_us"], unique=False)


def _add_spending() -> None:
    op.create_table(
        "spending",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("pot", _text(400), nullable=False),
        sa.Column("budget", _text(128), nullable=False),
        sa.Column("execution_id", _text(200), nullable=False),
        sa.Column("since_us", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "pot", name=op.f("pk_spending")),
    )
    op.create_index("ix_spending_execution_id", "spending", ["execution_id"], unique=False)
    op.create_index("ix_spending_budget_since_us", "spending", ["budget", "since_us"], unique=False)
    op.create_table(
        "spending_reserved",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("pot", _text(400), nullable=False),
        sa.Column("call_id", _text(64), nullable=False),
        sa.Column("execution_id", _text(200), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "pot", "call_id", name=op.f("pk_spending_reserved")),
    )
    op.create_index("ix_spending_reserved_execution_id", "spending_reserved", ["execution_id"], unique=False)
    op.create_index("ix_spending_reserved_call_id", "spending_reserved", ["call_id"], unique=False)


def _add_kept() -> None:
    op.create_table(
        "kept_replies",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("execution_id", _text(200), nullable=False),
        sa.Column("body", _long(), nullable=False),
        sa.Column("chars", sa.Integer(), nullable=False),
        sa.Column("at_us", sa.BigInteger(), nullable=False),
        sa.Column("until_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_kept_replies")),
    )
    for name in ("execution_id", "at_us", "until_us"):
        op.create_index(f"ix_kept_replies_{name}", "kept_replies", [name], unique=False)


def _add_docs() -> None:
    op.create_table(
        "docs",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("owner_kind", _text(16), nullable=False),
        sa.Column("owner_id", _text(128), nullable=False),
        sa.Column("title", _long(), nullable=False),
        sa.Column("metadata", _long(), nullable=False),
        sa.Column("digest", _text(64), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("pieces", sa.Integer(), nullable=False),
        sa.Column("wanted", _text(255), nullable=False),
        sa.Column("model", _text(255), nullable=False),
        sa.Column("dims", sa.Integer(), nullable=False),
        sa.Column("embedded_us", sa.BigInteger(), nullable=True),
        sa.Column("due_us", sa.BigInteger(), nullable=True),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("trouble", _long(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_docs")),
    )
    op.create_index("ix_docs_owner", "docs", ["tenant", "owner_kind", "owner_id", "created_us", "id"], unique=False)
    op.create_index("ix_docs_due_us", "docs", ["due_us"], unique=False)
    op.create_table(
        "snippets",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("doc_id", _text(64), nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("title", _long(), nullable=False),
        sa.Column("content", _long(), nullable=False),
        sa.Column("embedding", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("tenant", "doc_id", "number", name=op.f("pk_snippets")),
    )
    op.create_index("ix_snippets_seq", "snippets", ["seq"], unique=True)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE INDEX snippets_words ON snippets USING gin (to_tsvector('english', title || ' ' || content))"
        )
    else:
        _index_words_in_sqlite()


def _index_words_in_sqlite() -> None:
    op.execute(
        "CREATE VIRTUAL TABLE snippets_words USING fts5"
        "(title, content, content='snippets', content_rowid='seq', tokenize='porter unicode61')"
    )
    op.execute(
        "CREATE TRIGGER snippets_words_add AFTER INSERT ON snippets BEGIN "
        "INSERT INTO snippets_words(rowid, title, content) VALUES (new.seq, new.title, new.content); END"
    )
    op.execute(
        "CREATE TRIGGER snippets_words_remove AFTER DELETE ON snippets BEGIN "
        "INSERT INTO snippets_words(snippets_words, rowid, title, content) "
        "VALUES ('delete', old.seq, old.title, old.content); END"
    )
    if sqlite3.sqlite_version_info >= (3, 42):
        # else the words of what was deleted stay in the index until it is merged
        op.execute("INSERT INTO snippets_words(snippets_words, rank) VALUES ('secure-delete', 1)")
