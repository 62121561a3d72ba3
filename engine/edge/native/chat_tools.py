"""Who may send which tools with a chat: what the engine runs is a definition, with addresses and secrets in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from engine.core.spec.dialects.julep_tools import MODEL_TOOLS
from engine.edge.http.callers import Caller, check_scope

TOLD: Final = frozenset({"function", *MODEL_TOOLS})
"""Types of tools that a model is told of, and that the client runs."""
_BESIDE: Final = frozenset({"name", "type", "description", "id", "agent_id", "created_at", "updated_at", "inherited"})


def check_tools(caller: Caller, tools: Sequence[Mapping[str, Any]] | None) -> None:
    """Refuse tools that the engine would run, of callers who may not define any.

    Args:
        caller: Who sends them.
        tools: Julep tool objects of a request.

    Raises:
        NotAllowed: `auth.scope`.
    """
    if not all(map(_is_only_told, tools or ())):
        check_scope(caller, "define")


def _is_only_told(tool: Mapping[str, Any]) -> bool:
    said = {name for name, value in tool.items() if value is not None}
    return said <= TOLD | _BESIDE and str(tool.get("type", "function")) in TOLD
