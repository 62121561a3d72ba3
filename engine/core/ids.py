"""Names of the ids that travel through the engine, so that one cannot be passed for another. Workflow-safe."""

from __future__ import annotations

import hashlib
from typing import NewType

TenantId = NewType("TenantId", str)
AgentId = NewType("AgentId", str)
TaskId = NewType("TaskId", str)
ExecutionId = NewType("ExecutionId", str)
"""UUID text; also the Temporal workflow id of the execution."""
RunId = NewType("RunId", str)
"""Temporal run id: one link of an execution's chain of runs."""
StepPath = NewType("StepPath", str)
"""Place of a step in an execution, loop counters included: `main.3.do[17].0`."""
EffectId = NewType("EffectId", str)
"""One attempt of one effect, unique in an execution: `main.3.do[17].0#2`."""

DEFAULT_TENANT = TenantId("default")

MAX_ACTIVITY_ID_CHARS = 200
"""Temporal fails a workflow task for ever when an activity id has over 1,000 characters."""


def shorten_id(text: str, limit: int = MAX_ACTIVITY_ID_CHARS) -> str:
    """Keep `text` if it is short enough, else its head and a hash of the whole.

    Args:
        text: Any id.
        limit: Longest result in characters, at least 32.

    Returns:
        At most `limit` characters; equal inputs give equal outputs.
    """
    if len(text) <= limit:
        return text
    digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    return f"{text[: limit - len(digest) - 1]}~{digest}"
