"""Executions and transitions as Julep's clients read them, where their types contradict our own answers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fastapi import Request

from engine.control.tasktokens import TokenMaker
from engine.core.kinds import EventType, ExecutionStatus
from engine.core.run.approvals import FUNCTION_CALL
from engine.core.run.events import EventRecord, body_of
from engine.core.run.projection import ExecutionFacts, LabelOf, is_listening, no_label, transition_view
from engine.core.values import Json
from engine.edge.http.callers import caller_of
from engine.edge.http.clients import FERN_HEADER, is_stainless
from engine.edge.http.services import Services

Reader = Literal["ours", "stainless", "fern"]
"""Who reads: our own clients, the SDK of 2025, the client of 2024."""

_NEWER = frozenset({EventType.INIT.value, EventType.INIT_BRANCH.value, EventType.FINISH_BRANCH.value})
"""Types of transitions that the client of 2024 does not know; they are told to it as steps."""


def reader_of(request: Request) -> Reader:
    """Return who reads the answer to a request."""
    if is_stainless(request.headers):
        return "stainless"
    # not by its key's header alone, which others send too: what is shown here is not ours with something added
    return "fern" if FERN_HEADER in request.headers else "ours"


# --- executions ------------------------------------------------------------------------------------------------------


def execution_for(reader: Reader, view: dict[str, Any], *, changed: bool = False) -> dict[str, Any]:
    """Return an execution as a client reads it.

    Args:
        reader: Who reads.
        view: The execution as JSON, as our own clients read it.
        changed: Whether it answers a request that made or changed it, which names the job that does it.

    Returns:
        For Julep's clients the error as text, with our own in `error_details`, and a status that their types know.
    """
    if reader == "ours":
        return view
    shown = {**view, "status": _status(view), "error": _error_text(view), "error_details": view["error"]}
    if changed:
        shown |= {"metadata": {**view["metadata"], "jobs": [view["id"]]}, "jobs": [view["id"]]}
    if reader == "fern":
        shown["input"] = _object(view["input"], "input")
    return shown


def _status(view: Mapping[str, Any]) -> str:
    """Return the status; one that is paused has none of Julep's, and says whether it asks something meanwhile."""
    if view["status"] != ExecutionStatus.PAUSED:
        return str(view["status"])
    asks = any(not is_listening(wait["info"]) for wait in view["waits"])
    return (ExecutionStatus.AWAITING_INPUT if asks else ExecutionStatus.RUNNING).value


def _error_text(view: Mapping[str, Any]) -> str | None:
    error = view["error"] or {}
    # their types have no place for the hint, which names the remedy
    told = [str(text) for text in (error.get("message") or error.get("code"), error.get("hint")) if text]
    if told:
        return "; ".join(told)
    return "it failed" if view["status"] == ExecutionStatus.FAILED else None


def _object(value: Json, name: str) -> dict[str, Any]:
    return value if isinstance(value, dict) else {name: value}


# --- transitions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TransitionViews:
    """How transitions are shown to one sort of reader; equal ones show the same.

    Attributes:
        reader: Who reads.
        tenant: Tenant of the execution.
        tokens: Makes the tokens of waits; None = the reader gets none.
        label_of: Knows the labels of the execution's steps, which are the same for all readers.
    """

    reader: Reader
    tenant: str
    tokens: TokenMaker | None
    label_of: LabelOf = field(default=no_label, compare=False)

    def view(self, record: EventRecord) -> dict[str, Any]:
        """Return a transition as JSON."""
        shown = transition_view(record, self.label_of)
        if record.type != EventType.WAIT or self.reader == "ours":
            return shown
        shown["output"] = _asked(record, shown["output"])
        if self.tokens is not None:
            wait_id = str(shown["metadata"].get("wait_id", ""))
            shown["metadata"]["task_token"] = self.tokens.token_for(record.execution_id, wait_id, tenant=self.tenant)
        return shown


async def transition_views(
    request: Request, services: Services, failing: ExecutionFacts | None = None
) -> TransitionViews:
    """Return how transitions are shown to whoever sends a request.

    Julep's clients get task tokens, if they may run executions. Others do not: they have links, which end by
    themselves, and may show transitions to people who shall not answer.

    Args:
        request: The request.
        services: The services.
        failing: The execution, if an error may be among its transitions, for the label of the step that failed.
    """
    caller, reader = caller_of(request), reader_of(request)
    gets_tokens = reader != "ours" and "run" in caller.scopes
    tokens = await services.task_tokens.maker() if gets_tokens else None
    label_of = no_label if failing is None else await services.stories.labels(failing)
    return TransitionViews(reader, caller.tenant, tokens, label_of)


def legacy_transition(view: Mapping[str, Any]) -> dict[str, Any]:
    """Return a transition as the client of 2024 reads it: places as pairs, the output an object."""
    current, following = view["current"], view["next"]
    return {
        **view,
        "type": EventType.STEP.value if view["type"] in _NEWER else view["type"],
        "output": _object(view["output"], "output"),
        "current": [current["workflow"], current["step"]],
        "next": None if following is None else [following["workflow"], following["step"]],
    }


def _asked(record: EventRecord, info: Json) -> Json:
    """Return what a wait tells; a call that the client has to make stands there in Julep's words."""
    if not isinstance(info, dict) or info.get("kind") != FUNCTION_CALL:
        return info
    place = f"{record.execution_id}\n{body_of(record).get('wait_id')}"
    call = hashlib.blake2b(place.encode(), digest_size=12).hexdigest()
    called = {"name": info.get("tool"), "arguments": info.get("arguments")}
    return {"function": called, "id": f"call_{call}", "type": "function"}
