"""What became of a message, for whoever sent it, from the event that tells it. Workflow-safe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.core.errors import Conflict, InputRejected
from engine.core.values import Json


def message_outcome(body: Mapping[str, Json]) -> dict[str, Any]:
    """Return what became of a message.

    Args:
        body: Body of a `message.taken` event.

    Returns:
        {message_id, name, disposition, path, turn}; the last two are null where nothing is known of them.

    Raises:
        InputRejected: `input.rejected` if it did not fit the schema of the step that listens.
        Conflict: `inbox.busy`, `inbox.full`.
    """
    if body.get("disposition") != "rejected":
        return {name: body.get(name) for name in ("message_id", "name", "disposition", "path", "turn")}
    details = {"message_id": body.get("message_id")}
    if body.get("code") == "inbox.busy":
        raise Conflict(
            "a turn runs, and the step that listens takes no message meanwhile",
            code="inbox.busy",
            hint="send it again later under another id, or with `busy` if the step permits another policy",
            details=details,
        )
    if body.get("code") == "inbox.full":
        raise Conflict(
            "too many messages wait in the execution already",
            code="inbox.full",
            hint="send it again later under another id",
            details=details,
        )
    why = str(body.get("message") or "")
    raise InputRejected(
        f"the message does not fit the step that listens: {why}", code="input.rejected", details=details
    )
