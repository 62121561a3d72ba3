"""System messages of sessions and messages of clients as templates: what they see, their check, and the usual one."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.control.definitions import now_us
from engine.core.errors import ExpressionError, ExpressionSyntaxError, InvalidInput
from engine.core.lang.context import DEFAULT_FUEL, EvalContext, Fuel
from engine.core.lang.template import Template, compile_template
from engine.core.run.times import iso_time
from engine.core.values import Json
from engine.store.agents import AgentFacts
from engine.store.sessions import SessionFacts
from engine.store.users import UserFacts

TURN_FUEL: Final = 5 * DEFAULT_FUEL
"""Units of work of all templates of a turn together: a request may have thousands of messages."""
PER_CHAR: Final = 4
"""Units that it takes to compile a character."""
NAMES: Final = ("agent", "agents", "user", "users", "session", "situation", "docs", "tools", "settings")
"""What a template of a session sees."""

USUAL: Final = """\
You are {{ agent.name }}.{% if agent.about %} {{ agent.about }}{% endif %}
{%- if agent.instructions %}

# Instructions
{%- if agent.instructions is string %}
{{ agent.instructions }}
{%- else %}
{%- for item in agent.instructions %}
- {{ item }}
{%- endfor %}
{%- endif %}
{%- endif %}
{%- if users %}

# Who you talk with
{%- for one in users %}
- {{ one.name or 'a user' }}{% if one.about %}: {{ one.about }}{% endif %}
{%- endfor %}
{%- endif %}
{%- if situation %}

# The situation
{{ situation }}
{%- endif %}
{%- if docs %}

# What was found in documents
{%- for doc in docs %}
## {{ doc.title or 'A document' }}
{{ doc.content }}
{%- endfor %}
{%- endif %}"""
"""The system message of a session for which neither the session nor its agent has a template."""


def check_template(text: str, where: str = "system_template") -> None:
    """Refuse a template that no session could render.

    Args:
        text: The template.
        where: What it is, for the message.

    Raises:
        InvalidInput: `template.invalid` with the place of the mistake.
    """
    try:
        problems = compile_template(text, lenient=True).problems(NAMES)
    except ExpressionSyntaxError as error:
        raise _invalid(where, text, error.offset, error.message, error.hint) from error
    if problems:
        first = problems[0]
        raise _invalid(where, text, first.offset, first.message, first.hint)


def turn_fuel() -> Fuel:
    """Return what the templates of one turn may use up."""
    return Fuel(TURN_FUEL)


def render(text: str, env: Mapping[str, Json], where: str, fuel: Fuel | None = None) -> str:
    """Render a template of a session.

    Args:
        text: The template.
        env: What it sees; see `template_env`.
        where: What it is, for the message.
        fuel: What the templates of its turn may still use up; None = it is alone.

    Raises:
        InvalidInput: `template.invalid` if it is none, `template.failed` if it cannot be rendered with these values.
    """
    fuel = fuel or turn_fuel()
    now = dt.datetime.fromtimestamp(now_us() / 1e6, dt.UTC)
    try:
        fuel.charge(len(text) * PER_CHAR)
        return _compiled(text, where).render(env, EvalContext(now=now, seed=where, fuel=fuel))
    except ExpressionError as error:
        place = place_of(text, int(error.details.get("offset", 0)))
        raise InvalidInput(
            f"{where} cannot be rendered: {error.message} ({place})", code="template.failed", hint=error.hint
        ) from error


def template_env(
    session: SessionFacts,
    agents: Sequence[AgentFacts],
    users: Sequence[UserFacts],
    *,
    docs: Sequence[Mapping[str, Any]] = (),
    tools: Sequence[Mapping[str, Any]] = (),
    settings: Mapping[str, Any] | None = None,
) -> dict[str, Json]:
    """Return what a template of a session sees.

    Args:
        session: The session.
        agents: Its agents, the one that answers first.
        users: Its users.
        docs: What was found in documents, as the client is told of it.
        tools: The tools that are offered.
        settings: Sampling settings.
    """
    people = [_user(user) for user in users]
    crew = [_agent(agent) for agent in agents]
    return {
        "agent": crew[0],
        "agents": list(crew),
        "user": people[0] if people else None,
        "users": list(people),
        "session": _session(session),
        "situation": session.situation or "",
        "docs": [_doc(doc) for doc in docs],
        "tools": [_tool(tool) for tool in tools],
        "settings": dict(settings or {}),
    }


def place_of(text: str, offset: int) -> str:
    """Return the place of a character in words: its line and column, from 1."""
    before = text[:offset]
    return f"line {before.count(chr(10)) + 1}, column {offset - (before.rfind(chr(10)) + 1) + 1}"


def _compiled(text: str, where: str) -> Template:
    try:
        # templates written for Julep count on it that what is missing prints nothing
        return compile_template(text, lenient=True)
    except ExpressionSyntaxError as error:
        raise _invalid(where, text, error.offset, error.message, error.hint) from error


def _invalid(where: str, text: str, offset: int, message: str, hint: str) -> InvalidInput:
    usual = f"a template sees {', '.join(NAMES)}, and has {{{{ }}}}, if, for, set and a list of filters"
    return InvalidInput(
        f"{where}, {place_of(text, offset)}: {message}",
        code="template.invalid",
        hint=hint or usual,
        details={"offset": offset},
    )


# --- what templates see ----------------------------------------------------------------------------------------------


def _agent(agent: AgentFacts) -> dict[str, Json]:
    return {
        "id": agent.id,
        "name": agent.name,
        "canonical_name": agent.canonical_name,
        "about": agent.about,
        "instructions": agent.instructions,
        "model": agent.model,
        "default_settings": agent.default_settings,
        "metadata": agent.metadata,
        "created_at": iso_time(agent.created_us),
        "updated_at": iso_time(agent.updated_us),
    }


def _user(user: UserFacts) -> dict[str, Json]:
    return {
        "id": user.id,
        "name": user.name,
        "about": user.about,
        "metadata": user.metadata,
        "created_at": iso_time(user.created_us),
        "updated_at": iso_time(user.updated_us),
    }


def _doc(doc: Mapping[str, Any]) -> dict[str, Json]:
    snippet = {name: doc["snippet"][name] for name in ("index", "content")}
    return {**doc, "content": snippet["content"], "snippet": snippet}


def _tool(tool: Mapping[str, Any]) -> dict[str, Json]:
    # how it is called, and with which keys, is nothing for the model, nor for clients whose messages are templates
    return {name: tool[name] for name in ("name", "type", "description", "function") if name in tool}


def _session(session: SessionFacts) -> dict[str, Json]:
    return {
        "id": session.id,
        "situation": session.situation or "",
        "summary": session.summary or "",
        "metadata": session.metadata,
        "token_budget": session.token_budget,
        "context_overflow": session.context_overflow,
        "created_at": iso_time(session.created_us),
        "updated_at": iso_time(session.updated_us),
    }
