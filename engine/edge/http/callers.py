"""Who sends a request: tenant, name for the records, and what the credentials permit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, get_args

from fastapi import Depends, Request

from engine.core.errors import BugError, NotAllowed
from engine.core.ids import DEFAULT_TENANT

CallerScope = Literal["read", "run", "define", "admin"]
SCOPES: Final[tuple[CallerScope, ...]] = get_args(CallerScope)
"""What credentials permit, each with all before it: read, run executions, define tasks and agents, manage keys."""

ALL_SCOPES: Final[frozenset[str]] = frozenset(SCOPES)
MAX_ACTOR_CHARS: Final = 255
"""What the store's columns hold."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request.

    Attributes:
        tenant: The tenant whose rows the request may see.
        actor: Name of the principal, as records show it; empty = nobody gave credentials.
        scopes: What the credentials permit, those below included.
        key_id: The API key; empty = none was used.
        root: Whether it may make keys for every tenant.
    """

    tenant: str
    actor: str = ""
    scopes: frozenset[str] = frozenset()
    key_id: str = ""
    root: bool = False


ANYBODY: Final = Caller(DEFAULT_TENANT, scopes=ALL_SCOPES, root=True)
"""Who calls a server on loopback that asks for no credentials."""


def widened(scopes: Iterable[str]) -> frozenset[str]:
    """Return scopes with those that they include; words that are none are left out."""
    named = frozenset(scopes)
    highest = max((number for number, scope in enumerate(SCOPES) if scope in named), default=-1)
    return frozenset(SCOPES[: highest + 1])


def caller_of(request: Request) -> Caller:
    """Return who sends a request; the guard in front of all routes has found it out.

    Raises:
        BugError: `bug.no_caller` if the request came past the guard.
    """
    caller = getattr(request.state, "caller", None)
    if not isinstance(caller, Caller):
        raise BugError("a request came to a route without passing the guard", code="bug.no_caller")
    return caller


async def tenant_of(request: Request) -> str:
    """Return the tenant of a request; a dependency of routes."""
    return caller_of(request).tenant


def actor_of(request: Request, body_actor: str = "") -> str:
    """Return who did something, as records show it.

    Args:
        request: The request.
        body_actor: Whom its body names, which is the caller's word alone.

    Returns:
        The principal's name; `BODY'S NAME via PRINCIPAL` if the body names somebody else; without credentials the
        body's name, which may be empty.
    """
    principal, told = caller_of(request).actor, " ".join(body_actor.split())
    if not principal or not told or told == principal:
        return (principal or told)[:MAX_ACTOR_CHARS]
    end = f" via {principal}"
    # the principal is what we know: if one of the names must be cut, the other one
    return f"{told[: max(1, MAX_ACTOR_CHARS - len(end))]}{end}"[:MAX_ACTOR_CHARS]


@dataclass(frozen=True, slots=True)
class Require:
    """A dependency that lets only callers of a scope pass.

    Attributes:
        scope: The scope.
    """

    scope: CallerScope

    async def __call__(self, request: Request) -> None:
        """Refuse a request whose credentials lack the scope.

        Raises:
            NotAllowed: `auth.scope`.
        """
        check_scope(caller_of(request), self.scope)


def require(scope: CallerScope) -> Require:
    """Return a dependency that lets only callers of a scope pass: `dependencies=[Depends(require("run"))]`."""
    return Require(scope)


def check_scope(caller: Caller, scope: str) -> None:
    """Refuse a caller whose credentials lack a scope.

    Raises:
        NotAllowed: `auth.scope`.
    """
    if scope in caller.scopes:
        return
    has = ", ".join(item for item in SCOPES if item in caller.scopes) or "none"
    raise NotAllowed(
        f"this needs the scope '{scope}', which the credentials do not have (they have: {has})",
        code="auth.scope",
        hint=f"use a key with the scope '{scope}'",
        details={"scope": scope},
    )


def is_operator(caller: Caller) -> bool:
    """Whether a caller may know of the installation and not only of a tenant's own."""
    return caller.tenant == DEFAULT_TENANT


async def _operator(request: Request) -> None:
    if not is_operator(caller_of(request)):
        raise NotAllowed(
            "this tells of the whole installation, not of one tenant",
            code="auth.tenant",
            hint=f"use a key of the tenant '{DEFAULT_TENANT}'",
        )


FOR_OPERATORS: Final = Depends(_operator)
"""For routes whose answers are about all tenants."""

MAY_READ: Final = Depends(require("read"))
MAY_RUN: Final = Depends(require("run"))
MAY_DEFINE: Final = Depends(require("define"))
MAY_ADMIN: Final = Depends(require("admin"))
"""What routes put into their `dependencies`; a test holds that every route says what it needs."""
