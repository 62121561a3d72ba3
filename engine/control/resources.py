"""What agents, users and projects have in common: ids that callers choose, creations that are repeated, merges."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from engine.control.request_keys import key_reused
from engine.core.errors import InvalidInput
from engine.core.run.times import iso_time
from engine.store.agents import AgentFacts
from engine.store.projects import ProjectFacts
from engine.store.users import UserFacts

Facts = TypeVar("Facts", AgentFacts, UserFacts, ProjectFacts)


def chosen_id(reference: str, what: str) -> str:
    """Return the id that a caller chose for something new.

    Args:
        reference: What stands in the path.
        what: What it is to be the id of, for people.

    Raises:
        InvalidInput: `request.bad_id` unless it is a UUID.
    """
    try:
        return str(uuid.UUID(reference))
    except ValueError:
        raise InvalidInput(
            f"there is no {what} {reference!r}, and a new one needs a UUID for its id",
            code="request.bad_id",
            hint="take a UUID, or create it without an id",
        ) from None


def first_or_same(present: Facts | None, wanted: Facts, request_key: str) -> Facts:
    """Return what a creation stores: what is wanted, or what the same request has created before.

    Args:
        present: What has the id already.
        wanted: What is wanted.
        request_key: The Idempotency-Key of which the id was made.

    Raises:
        Conflict: `idempotency.key_reused` if the key has created something else.
    """
    if present is None:
        return wanted
    same = replace(present, created_us=wanted.created_us, updated_us=wanted.updated_us, actor=wanted.actor) == wanted
    # one that was changed since then does not tell what it was
    if not same and present.updated_us == present.created_us:
        raise key_reused(request_key, present.id)
    return present


def merged(present: Mapping[str, Any], given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return an object with the members that a PATCH gives; null empties it."""
    return {} if given is None else {**present, **given}


def later(present_us: int, now_us: int) -> int:
    """Return the time of a change, which is after the one before even where a clock was set back."""
    return max(now_us, present_us + 1)


def deleted_view(resource_id: str, deleted_us: int) -> dict[str, Any]:
    """Return what is told of something that was deleted: {id, deleted_at, jobs}."""
    return {"id": resource_id, "deleted_at": iso_time(deleted_us), "jobs": []}
