"""How sessions, their histories and answers are shown: one shape for our own clients and for both of Julep's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from engine.core.run.times import iso_time
from engine.core.values import Json
from engine.store.entries import EntryFacts
from engine.store.sessions import SessionFacts

_OF_2024: Final = {"assistant": "agent", "tool": "function_response"}
"""Roles for which the client of 2024 has words of its own."""


def session_kind(session: SessionFacts) -> str:
    """Return which of the six kinds a session is: single or multi agent, and no, single or multi user."""
    agents = "single" if len(session.agents) == 1 else "multi"
    users = ("no", "single")[len(session.users)] if len(session.users) < 2 else "multi"
    return f"{agents}_agent_{users}_user"


def session_view(session: SessionFacts) -> dict[str, Any]:
    """Return a session as JSON, with `agent` or `agents`, and `user`, `users` or neither, as its kind has them."""
    members: dict[str, Json] = {}
    for one, several, ids in (("agent", "agents", session.agents), ("user", "users", session.users)):
        if ids:
            members[one if len(ids) == 1 else several] = ids[0] if len(ids) == 1 else ids
    return {
        "id": session.id,
        "kind": session_kind(session),
        **members,
        "situation": session.situation,
        "system_template": session.system_template,
        "summary": session.summary,
        "render_templates": session.render_templates,
        "token_budget": session.token_budget,
        "context_overflow": session.context_overflow,
        "auto_run_tools": session.auto_run_tools,
        "forward_tool_calls": session.forward_tool_calls,
        "recall_options": session.recall_options,
        "metadata": session.metadata,
        "created_at": iso_time(session.created_us),
        "updated_at": iso_time(session.updated_us),
        "actor": session.actor or None,
        "jobs": [],
    }


def entry_view(entry: EntryFacts) -> dict[str, Any]:
    """Return what was said as JSON."""
    return {
        "id": entry.id,
        "session_id": entry.session_id,
        "turn_id": entry.turn_id,
        "role": entry.role,
        "name": entry.name,
        "content": entry.content,
        "tool_calls": entry.tool_calls,
        "tool_call_id": entry.tool_call_id,
        "source": entry.source,
        "model": entry.model,
        "tokenizer": entry.tokenizer,
        "token_count": entry.token_count,
        "created_at": iso_time(entry.created_us),
        "timestamp": entry.created_us / 1e6,
    }


def history_view(session: SessionFacts, entries: Sequence[EntryFacts]) -> dict[str, Any]:
    """Return a history as JSON: what counts as said, and of what is summed up by which entry that is.

    Args:
        session: The session.
        entries: All its entries, in order.
    """
    return {
        "session_id": session.id,
        "created_at": iso_time(session.created_us),
        "entries": [entry_view(entry) for entry in entries if entry.summary_id is None],
        "relations": [
            {"head": entry.summary_id, "relation": "summary_of", "tail": entry.id}
            for entry in entries
            if entry.summary_id is not None
        ],
    }


def answer_view(answer: dict[str, Any]) -> dict[str, Any]:
    """Return a turn's answer as JSON."""
    return {name: value for name, value in answer.items() if name != "text"}


# --- the client of 2024 ----------------------------------------------------------------------------------------------


def for_fern(view: dict[str, Any]) -> dict[str, Any]:
    """Return a session as the client of 2024 reads it, which needs a text for the situation."""
    return {**view, "situation": view["situation"] or ""}


def history_for_fern(view: dict[str, Any]) -> dict[str, Any]:
    """Return a history as that client reads it, which has words of its own for the assistant and for results."""
    return {**view, "entries": [{**entry, "role": _role_for_fern(entry["role"])} for entry in view["entries"]]}


def answer_for_fern(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer as that client reads it: whole messages stand in `delta`, too."""
    return {**answer, "choices": [{**choice, "delta": _delta_for_fern(choice)} for choice in answer["choices"]]}


def _delta_for_fern(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice["message"]
    return {**message, "role": _role_for_fern(message["role"]), "tool_calls": message.get("tool_calls", [])}


def _role_for_fern(role: str) -> str:
    return _OF_2024.get(role, role)
