"""Names of the ids that travel through the engine, so that one cannot be passed for another. Workflow-safe."""

from __future__ import annotations

import hashlib
import re
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

_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def is_tenant_name(text: str) -> bool:
    """Whether a tenant may be called so: small letters, digits, `_` and `-`, at most 63 characters."""
    return _TENANT.fullmatch(text) is not None


def derive_uuid(*parts: str) -> str:
    """Return a UUID text that depends on nothing but the given texts."""
    digest = hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()
    # version 8 (custom) and the RFC 9562 variant, so that strict readers accept it
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:]}"


def scope_id(execution_id: str, path: str) -> str:
    """Return the id of the scope that an execution opens at a path; that of its steps is opened at `main`."""
    return derive_uuid(execution_id, "scope", path)


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


_ATTEMPT_MARK = re.compile(r"~\d+")


def unmarked_path(path: str) -> str:
    """Return a step path without the marks of repeated blocks: the same text for every repetition of a step visit."""
    return _ATTEMPT_MARK.sub("", path)


def shorten_path(path: str, limit: int) -> str:
    """Shorten a step path so that it stays one, and so that `unmarked_path` of two repetitions is still the same.

    Args:
        path: Any step path.
        limit: Longest result in characters, about.

    Returns:
        The path itself if it is short enough; else the head and a hash of the unmarked path, then a mark made of all
        its marks.
    """
    if len(path) <= limit:
        return path
    plain = unmarked_path(path)
    digest = hashlib.blake2b(plain.encode(), digest_size=8).hexdigest()
    short = f"{plain[: limit - len(digest) - 1]}={digest}"
    marks = "".join(_ATTEMPT_MARK.findall(path))
    if not marks:
        return short
    return f"{short}~{int.from_bytes(hashlib.blake2b(marks.encode(), digest_size=6).digest())}"
