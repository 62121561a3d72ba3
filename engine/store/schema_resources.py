"""Tables of what agents work with: users, projects, and the tools of agents."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, String, Table, Text, UniqueConstraint

from engine.store.schema import ByteText, truth

users = Table(
    "users",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("about", Text, nullable=False),
    # canonical name of a project; NULL = it belongs to none
    Column("project", String(255)),
    Column("metadata", Text, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("ix_users_created_us", "tenant", "created_us", "id"),
)

# Groups of agents, users and files, which name them by their canonical names.
projects = Table(
    "projects",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    Column("canonical_name", String(255), nullable=False),
    Column("metadata", Text, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    UniqueConstraint("tenant", "canonical_name"),
)

# Tools that an agent has for its sessions and for those of its tasks that inherit them.
agent_tools = Table(
    "agent_tools",
    truth,
    Column("tenant", String(64), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("agent_id", String(64), nullable=False),
    Column("name", String(64), nullable=False),
    # function, integration, system, api_call, computer_20241022, text_editor_20241022, bash_20241022
    Column("type", String(32), nullable=False),
    Column("description", Text, nullable=False),
    # JSON: what stands under the key of the type
    Column("definition", Text, nullable=False),
    Column("actor", String(255), nullable=False),
    Column("created_us", BigInteger, nullable=False),
    Column("updated_us", BigInteger, nullable=False),
    Index("ix_agent_tools_name", "tenant", "agent_id", "name", unique=True),
)

for _table in (users, projects, agent_tools):
    for _column in _table.columns:
        if isinstance(_column.type, String):
            _column.type = _column.type.with_variant(ByteText(), "postgresql")
