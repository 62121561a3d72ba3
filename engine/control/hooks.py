"""Use cases on hooks by which events come in: make one, know its caller, turn a body into an event."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qsl

from engine.control.definitions import now_us
from engine.control.dispatched import Computing, read_expression
from engine.control.request_keys import id_for
from engine.control.triggers import EventService, check_event_id
from engine.control.webhooks import new_secret, secret_bytes
from engine.core.errors import Conflict, ExpressionError, InvalidInput, NotAllowed, NotFound
from engine.core.run.projection import iso_time
from engine.core.values import Json
from engine.store.hooks import HookFacts, HookStore, InboundEvent

Kind = Literal["key", "github", "standard"]
KEY_PREFIX = "hk_"
KEY_BYTES = 32
LEAST_SECRET_CHARS = 16
TOLERANCE_S = 300
"""How old, or how far ahead, a signed message may be."""
ID_HEADERS = ("webhook-id", "x-github-delivery", "idempotency-key", "x-request-id")
"""What names a delivery; the first one that is there counts."""
KEY_HEADER = "x-hook-key"


@dataclass(frozen=True, slots=True)
class MadeHook:
    """A hook just made.

    Attributes:
        facts: The hook.
        secret: Its key, or the secret of its signatures, shown this once; None = it was made before.
    """

    facts: HookFacts
    secret: str | None


@dataclass(frozen=True, slots=True)
class HookRequest:
    """A request to a hook.

    Attributes:
        body: Its body, byte for byte.
        headers: Its headers, in lower case.
        query: Its query.
        content_type: Type of the body, in lower case, without parameters.
    """

    body: bytes
    headers: Mapping[str, str]
    query: Mapping[str, str]
    content_type: str


class HookService:
    """Keeps hooks and takes what they are sent.

    Args:
        store: Hooks in the store.
        events: Takes events.
    """

    def __init__(self, store: HookStore, events: EventService) -> None:
        self._store = store
        self._events = events

    async def create(
        self,
        *,
        tenant: str,
        name: str,
        event: str,
        kind: Kind = "key",
        key_of: str = "",
        only_if: str = "",
        secret: str = "",
        actor: str = "",
        request_key: str = "",
    ) -> MadeHook:
        """Make a hook.

        Args:
            tenant: Whose it is.
            name: What it is for.
            event: Name of the events.
            kind: How its caller is known.
            key_of: Expression over the body that gives an event its key.
            only_if: Expression that must hold of the body.
            secret: For signatures, the secret that the caller has; empty = one is made.
            actor: Who makes it.
            request_key: The request's Idempotency-Key.

        Raises:
            InvalidInput: `expression.invalid`, `hook.bad_secret`.
        """
        for source, where in ((key_of, "key"), (only_if, "only_if")):
            if source:
                read_expression(source, where=where)
        text = _secret_for(kind, secret)
        facts = HookFacts(
            tenant=tenant,
            # an id that nobody guesses: it stands in an address that needs no other credentials to be found
            id=id_for(tenant, "hook", request_key),
            name=name,
            event=event,
            key_of=key_of,
            only_if=only_if,
            kind=kind,
            secret=hash_key(text) if kind == "key" else text,
            created_us=now_us(),
            actor=actor,
        )
        stored = await self._store.add(facts)
        return MadeHook(stored, text if stored is facts else None)

    async def get(self, hook_id: str, *, tenant: str) -> HookFacts:
        """Return a hook.

        Raises:
            NotFound: `hook.not_found`.
        """
        found = await self._store.find(hook_id, tenant=tenant)
        if found is None:
            raise _not_found(hook_id)
        return found

    async def set_active(self, hook_id: str, active: bool, *, tenant: str) -> HookFacts:
        """Let a hook take nothing for now, or take events again.

        Raises:
            NotFound: `hook.not_found`.
        """
        found = await self._store.change(hook_id, tenant=tenant, values={"active": active})
        if found is None:
            raise _not_found(hook_id)
        return found

    async def remove(self, hook_id: str, *, tenant: str) -> None:
        """Delete a hook.

        Raises:
            NotFound: `hook.not_found`.
        """
        if not await self._store.remove(hook_id, tenant=tenant):
            raise _not_found(hook_id)

    async def receive(self, hook_id: str, request: HookRequest) -> tuple[InboundEvent | None, bool]:
        """Take what a hook is sent.

        Args:
            hook_id: The hook, whosever it is.
            request: The request.

        Returns:
            The event with what it did, None if the hook does not want the body; and whether it came before.

        Raises:
            NotFound: `hook.not_found`.
            NotAllowed: `hook.refused` if key or signature are wrong.
            Conflict: `hook.off`, `event.id_reused`.
            InvalidInput: `request.unreadable`, or the body gives no key.
            Unavailable: `unreachable`; the event is kept.
        """
        hook = await self._store.find(hook_id, tenant=None)
        if hook is None:
            raise _not_found(hook_id)
        try:
            check_caller(hook, request, now_s=time.time())
            if not hook.active:
                raise Conflict("this hook is switched off", code="hook.off")
            value = read_value_of(request)
            event = self._event_of(hook, request, value)
        except (NotAllowed, Conflict, InvalidInput):
            await self._store.count(hook, now_us=now_us(), refused=True)
            raise
        taken: tuple[InboundEvent | None, bool] = (None, False)
        if event is not None:
            taken = await self._events.take(event)
        await self._store.count(hook, now_us=now_us(), refused=False)
        return taken

    def _event_of(self, hook: HookFacts, request: HookRequest, value: Json) -> InboundEvent | None:
        received_us = now_us()
        given = next((request.headers[name] for name in ID_HEADERS if request.headers.get(name)), "")
        event_id = check_event_id(f"{hook.id}/{given}" if given else f"{hook.id}/{uuid.uuid4()}")
        computing = Computing(None, event_id, received_us)
        try:
            if hook.only_if and not computing.holds(read_expression(hook.only_if, where="if"), value, "if"):
                return None
            key = computing.value(read_expression(hook.key_of, where="key"), value, "key") if hook.key_of else None
        except ExpressionError as error:
            raise InvalidInput(
                f"the body does not fit the hook: {error.message}", code="hook.bad_body", hint=error.hint
            ) from error
        return InboundEvent(
            tenant=hook.tenant,
            id=event_id,
            name=hook.event,
            key=key,
            value=value,
            hook_id=hook.id,
            actor=f"hook {hook.name}"[:255],
            received_us=received_us,
        )


# --- who calls -------------------------------------------------------------------------------------------------------


def hash_key(key: str) -> str:
    """Return what is kept of a key: it is random enough to need no salt."""
    return hashlib.sha256(key.encode()).hexdigest()


def _secret_for(kind: Kind, given: str) -> str:
    if kind == "key":
        if given:
            raise InvalidInput(
                "the key of a hook is made here, not given", code="hook.bad_secret", hint="leave `secret` out"
            )
        return f"{KEY_PREFIX}{secrets.token_urlsafe(KEY_BYTES)}"
    if kind == "standard":
        text = given or new_secret()
        secret_bytes(text)
        return text
    if given and len(given) < LEAST_SECRET_CHARS:
        raise InvalidInput(
            f"a secret has at least {LEAST_SECRET_CHARS} characters",
            code="hook.bad_secret",
            hint="leave it out to get one",
        )
    return given or secrets.token_urlsafe(KEY_BYTES)


def check_caller(hook: HookFacts, request: HookRequest, *, now_s: float) -> None:
    """Refuse a request whose key or signature is not that of the hook.

    Args:
        hook: The hook.
        request: The request.
        now_s: The present time, Unix seconds.

    Raises:
        NotAllowed: `hook.refused`.
    """
    check = {"key": _key_fits, "github": _github_fits, "standard": _standard_fits}[hook.kind]
    why = check(hook, request, now_s)
    if why:
        raise NotAllowed(why, code="hook.refused", hint=_HINTS[hook.kind])


_HINTS = {
    "key": f"send the key as {KEY_HEADER}, as bearer token or as `?key=`",
    "github": "send X-Hub-Signature-256: sha256=HMAC-SHA256 of the body, in hex",
    "standard": "send webhook-id, webhook-timestamp and webhook-signature (standardwebhooks.com)",
}


def _key_fits(hook: HookFacts, request: HookRequest, now_s: float) -> str:
    del now_s
    bearer = request.headers.get("authorization", "")
    token = bearer[7:].strip() if bearer.lower().startswith("bearer ") else ""
    given = request.headers.get(KEY_HEADER) or token or request.query.get("key") or ""
    fits = hmac.compare_digest(hash_key(given).encode(), hook.secret.encode())
    return "" if given and fits else "the key is not that of the hook"


def _github_fits(hook: HookFacts, request: HookRequest, now_s: float) -> str:
    del now_s
    wanted = hmac.new(hook.secret.encode(), request.body, hashlib.sha256).hexdigest()
    given = request.headers.get("x-hub-signature-256", "")
    fits = hmac.compare_digest(f"sha256={wanted}".encode(), given.encode())
    return "" if fits else "the signature is not that of the body"


def _standard_fits(hook: HookFacts, request: HookRequest, now_s: float) -> str:
    message_id, moment = request.headers.get("webhook-id", ""), request.headers.get("webhook-timestamp", "")
    if not message_id or not moment.isascii() or not moment.isdecimal() or len(moment) > 15:
        return "webhook-id or webhook-timestamp is missing"
    if abs(now_s - int(moment)) > TOLERANCE_S:
        return f"the message was signed more than {TOLERANCE_S // 60} minutes ago, or in the future"
    signed = f"{message_id}.{moment}.".encode() + request.body
    wanted = base64.b64encode(hmac.new(secret_bytes(hook.secret), signed, hashlib.sha256).digest()).decode()
    for given in request.headers.get("webhook-signature", "").split(" "):
        version, _, signature = given.partition(",")
        if version == "v1" and hmac.compare_digest(signature.encode(), wanted.encode()):
            return ""
    return "no signature is that of the message"


def read_value_of(request: HookRequest) -> Json:
    """Return the body of a request as a value: JSON, the fields of a form (`payload` as JSON), or a text.

    Raises:
        InvalidInput: `request.unreadable`.
    """
    try:
        text = request.body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput("the body is not UTF-8", code="request.unreadable") from error
    if request.content_type == "application/x-www-form-urlencoded":
        fields: dict[str, Json] = dict(parse_qsl(text, keep_blank_values=True))
        payload = fields.get("payload")
        return _json_of(payload) if isinstance(payload, str) else fields
    if request.content_type.startswith("text/"):
        return text
    return _json_of(text) if text.strip() else None


def _json_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("the body is not JSON", code="request.unreadable") from error


def _not_found(hook_id: str) -> NotFound:
    return NotFound(f"there is no hook {hook_id[:64]}", code="hook.not_found")


def hook_view(facts: HookFacts) -> dict[str, Any]:
    """Return a hook as JSON, without its secret."""
    return {
        "id": facts.id,
        "name": facts.name,
        "event": facts.event,
        "key": facts.key_of or None,
        "only_if": facts.only_if or None,
        "kind": facts.kind,
        "active": facts.active,
        "path": f"/api/hooks/{facts.id}",
        "taken": facts.taken,
        "refused": facts.refused,
        "last_at": None if facts.last_us is None else iso_time(facts.last_us),
        "created_at": iso_time(facts.created_us),
        "actor": facts.actor,
    }
