"""Files, and what documents and secrets have beyond their text."""

from __future__ import annotations

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def _text(length: int) -> sa.types.TypeEngine[str]:
    if op.get_bind().dialect.name == "postgresql":
        return sa.TEXT(collation="C")
    return sa.String(length=length)


def _long() -> sa.types.TypeEngine[str]:
    return sa.TEXT(collation="C") if op.get_bind().dialect.name == "postgresql" else sa.Text()


def upgrade() -> None:
    """Add them."""
    op.add_column("docs", sa.Column("instruction", _long(), nullable=False, server_default=""))
    # documents from before have none, so that they are nobody's doubles
    op.add_column("docs", sa.Column("content_hash", _text(64), nullable=True))
    op.create_index("ix_docs_content_hash", "docs", ["tenant", "owner_kind", "owner_id", "content_hash"], unique=True)
    known = ["tenant", "owner_kind", "owner_id", "model", "dims", "embedded_us", "pieces"]
    op.create_index("ix_docs_vectors", "docs", known, unique=False)
    _give_secrets_ids()
    _add_files()


def downgrade() -> None:
    """Take them away again."""
    op.drop_index("ix_files_created_us", "files")
    op.drop_table("files")
    op.drop_index("ix_secrets_id", "secrets")
    for column in ("metadata", "id"):
        op.drop_column("secrets", column)
    op.drop_index("ix_docs_vectors", "docs")
    op.drop_index("ix_docs_content_hash", "docs")
    for column in ("content_hash", "instruction"):
        op.drop_column("docs", column)


def _give_secrets_ids() -> None:
    op.add_column("secrets", sa.Column("id", _text(64), nullable=False, server_default=""))
    op.add_column("secrets", sa.Column("metadata", _long(), nullable=False, server_default="{}"))
    secrets = sa.table("secrets", *(sa.column(name, sa.String()) for name in ("tenant", "name", "id")))
    connection = op.get_bind()
    for tenant, name in connection.execute(sa.select(secrets.c.tenant, secrets.c.name)).all():
        mine = sa.and_(secrets.c.tenant == tenant, secrets.c.name == name)
        connection.execute(sa.update(secrets).where(mine).values(id=str(uuid.uuid4())))
    op.create_index("ix_secrets_id", "secrets", ["tenant", "id"], unique=True)


def _add_files() -> None:
    op.create_table(
        "files",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("name", _text(255), nullable=False),
        sa.Column("description", _long(), nullable=False),
        sa.Column("mime_type", _text(255), nullable=True),
        sa.Column("project", _text(255), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("hash", _text(64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_files")),
    )
    op.create_index("ix_files_created_us", "files", ["tenant", "created_us", "id"], unique=False)
