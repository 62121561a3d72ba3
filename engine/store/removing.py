"""Removes agents and users together with what is theirs alone, in one transaction each."""

from __future__ import annotations

from sqlalchemy import Connection, delete, select, update

from engine.core.contracts.lookups import Owner
from engine.store.agents import find_agent, no_agent
from engine.store.database import Database
from engine.store.docs import remove_of_owner
from engine.store.locks import lock_definitions, lock_rows
from engine.store.schema import agents, task_aliases, tasks
from engine.store.schema_resources import agent_tools, users
from engine.store.schema_sessions import chat_turns, entries, session_members, sessions
from engine.store.schema_summaries import session_summaries
from engine.store.users import find_user, no_user


async def remove_agent(database: Database, reference: str, *, tenant: str, now_us: int) -> str:
    """Remove an agent with its tasks, tools and documents, and the sessions in which no other agent takes part.

    Args:
        database: The open store.
        reference: Its id or canonical name.
        tenant: Its tenant.
        now_us: The time that its tasks get; as removed ones their rows stay, since executions name them.

    Returns:
        Its id.

    Raises:
        NotFound: `agent.not_found`.
    """

    def work(connection: Connection) -> str:
        lock_definitions(connection, tenant)
        agent = find_agent(connection, reference, tenant)
        if agent is None:
            raise no_agent(reference)
        _remove_tasks(connection, agent.id, tenant, now_us)
        _remove_sessions(connection, agent.id, tenant)
        mine = (agent_tools.c.tenant == tenant, agent_tools.c.agent_id == agent.id)
        connection.execute(delete(agent_tools).where(*mine))
        remove_of_owner(connection, Owner(kind="agent", id=agent.id), tenant)
        connection.execute(delete(agents).where(agents.c.tenant == tenant, agents.c.id == agent.id))
        return agent.id

    return await database.run(work, write=True)


async def remove_user(database: Database, user_id: str, *, tenant: str) -> None:
    """Remove a user with its documents; sessions go on without it.

    Args:
        database: The open store.
        user_id: The user.
        tenant: Its tenant.

    Raises:
        NotFound: `user.not_found`.
    """

    def work(connection: Connection) -> None:
        lock_definitions(connection, tenant)
        if find_user(connection, user_id, tenant) is None:
            raise no_user(user_id)
        _leave_sessions(connection, "user", user_id, tenant)
        remove_of_owner(connection, Owner(kind="user", id=user_id), tenant)
        connection.execute(delete(users).where(users.c.tenant == tenant, users.c.id == user_id))

    await database.run(work, write=True)


def _remove_tasks(connection: Connection, agent_id: str, tenant: str, now_us: int) -> None:
    mine = (tasks.c.tenant == tenant, tasks.c.agent_id == agent_id, tasks.c.deleted_us.is_(None))
    names = task_aliases.c.task_id.in_(select(tasks.c.id).where(*mine))
    connection.execute(delete(task_aliases).where(task_aliases.c.tenant == tenant, names))
    connection.execute(update(tasks).where(*mine).values(deleted_us=now_us))


def _remove_sessions(connection: Connection, agent_id: str, tenant: str) -> None:
    """Remove the sessions that have no other agent, with all that was said; leave the others."""
    members = session_members.c
    of_agents = select(members.session_id).where(members.tenant == tenant, members.kind == "agent")
    mine, others = of_agents.where(members.member_id == agent_id), of_agents.where(members.member_id != agent_id)
    alone = mine.where(members.session_id.not_in(others))
    ids = sorted(set(connection.execute(alone).scalars()))
    lock_rows(connection, sessions.name, [f"{tenant}:{session_id}" for session_id in ids])
    for session_id in ids:
        for table in (session_members, entries, chat_turns, session_summaries):
            connection.execute(delete(table).where(table.c.tenant == tenant, table.c.session_id == session_id))
        connection.execute(delete(sessions).where(sessions.c.tenant == tenant, sessions.c.id == session_id))
    _leave_sessions(connection, "agent", agent_id, tenant)


def _leave_sessions(connection: Connection, kind: str, member_id: str, tenant: str) -> None:
    members = session_members.c
    mine = (members.tenant == tenant, members.kind == kind, members.member_id == member_id)
    connection.execute(delete(session_members).where(*mine))
