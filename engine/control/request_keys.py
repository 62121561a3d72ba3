"""Ids made of the keys of requests: a request that is made again after a crash creates the same thing, not another."""

from __future__ import annotations

import uuid

from engine.core.errors import Conflict

_SPACE = uuid.UUID("b3b6d0c4-55cf-4d4a-8a5e-3a7f6a0d6c21")


def id_for(tenant: str, kind: str, request_key: str) -> str:
    """Return the id of what a request creates.

    Args:
        tenant: Tenant of the caller.
        kind: What is created.
        request_key: The request's Idempotency-Key; empty = a new id each time.
    """
    return str(uuid.uuid5(_SPACE, f"{tenant}\n{kind}\n{request_key}") if request_key else uuid.uuid4())


def key_reused(request_key: str, what: str) -> Conflict:
    """Return the refusal of a request whose key has created something else before."""
    return Conflict(
        f"the idempotency key {request_key!r} has created {what} before, by another request",
        code="idempotency.key_reused",
        hint="use a new key for a new request",
    )
