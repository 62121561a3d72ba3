"""Users, projects, tools of agents, and what agents have beyond a model."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def _text(length: int) -> sa.types.TypeEngine[str]:
    if op.get_bind().dialect.name == "postgresql":
        return sa.TEXT(collation="C")
    return sa.String(length=length)


def _long() -> sa.types.TypeEngine[str]:
    return sa.TEXT(collation="C") if op.get_bind().dialect.name == "postgresql" else sa.Text()


def upgrade() -> None:
    """Add them."""
    op.add_column("agents", sa.Column("default_system_template", _long(), nullable=True))
    op.add_column("agents", sa.Column("project", _text(255), nullable=True))
    _add_users()
    _add_projects()
    _add_tools()


def downgrade() -> None:
    """Take them away again."""
    op.drop_index("ix_agent_tools_name", "agent_tools")
    op.drop_table("agent_tools")
    op.drop_table("projects")
    op.drop_index("ix_users_created_us", "users")
    op.drop_table("users")
    op.drop_column("agents", "project")
    op.drop_column("agents", "default_system_template")


def _add_users() -> None:
    op.create_table(
        "users",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("name", _text(255), nullable=False),
        sa.Column("about", _long(), nullable=False),
        sa.Column("project", _text(255), nullable=True),
        sa.Column("metadata", _long(), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_users")),
    )
    op.create_index("ix_users_created_us", "users", ["tenant", "created_us", "id"], unique=False)


def _add_projects() -> None:
    op.create_table(
        "projects",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("name", _text(255), nullable=False),
        sa.Column("canonical_name", _text(255), nullable=False),
        sa.Column("metadata", _long(), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_projects")),
        sa.UniqueConstraint("tenant", "canonical_name", name=op.f("uq_projects_tenant_canonical_name")),
    )


def _add_tools() -> None:
    op.create_table(
        "agent_tools",
        sa.Column("tenant", _text(64), nullable=False),
        sa.Column("id", _text(64), nullable=False),
        sa.Column("agent_id", _text(64), nullable=False),
        sa.Column("name", _text(64), nullable=False),
        sa.Column("type", _text(32), nullable=False),
        sa.Column("description", _long(), nullable=False),
        sa.Column("definition", _long(), nullable=False),
        sa.Column("actor", _text(255), nullable=False),
        sa.Column("created_us", sa.BigInteger(), nullable=False),
        sa.Column("updated_us", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_agent_tools")),
    )
    op.create_index("ix_agent_tools_name", "agent_tools", ["tenant", "agent_id", "name"], unique=True)
