"""Use cases on webhooks: register, change, send a delivery again; what a message says, and how it is signed."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import hashlib
import hmac
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

import httpx

from engine.control.definitions import now_us
from engine.control.request_keys import id_for
from engine.core.errors import Conflict, InvalidInput, NotFound
from engine.core.kinds import ExecutionStatus
from engine.core.run.projection import ExecutionFacts, Wait, iso_time
from engine.core.values import Json, compact_json
from engine.store.webhooks import DeliveryFacts, WebhookFacts, WebhookStore

STATUSES = tuple(
    status.value for status in ExecutionStatus if status not in (ExecutionStatus.QUEUED, ExecutionStatus.STARTING)
)
"""What webhooks can be told of."""

USUAL_STATUSES = tuple(
    status for status in STATUSES if ExecutionStatus(status).is_terminal or status == ExecutionStatus.AWAITING_INPUT
)
"""What they are told of unless they say something else."""

SECRET_PREFIX = "whsec_"  # noqa: S105 - what secrets of Standard Webhooks begin with
SECRET_BYTES = 32
LEAST_SECRET_BYTES = 16
MOST_SECRET_BYTES = 64
MOST_URL_CHARS = 2_000
MOST_HOST_CHARS = 253
MOST_MESSAGE_BYTES = 256 * 1024
"""Longer messages lose their long parts; the receiver can ask the API for them."""

_LONG_PARTS = ("output", "input", "metadata", "error", "waits")


@dataclass(frozen=True, slots=True)
class WebhookWish:
    """A webhook that a caller wants for one execution.

    Attributes:
        url: Where it is told.
        statuses: Of which statuses; empty = the usual ones.
        secret: What messages are signed with; empty = one is made.
    """

    url: str
    statuses: Sequence[str] = ()
    secret: str = ""


def new_secret() -> str:
    """Return a secret to sign with."""
    return f"{SECRET_PREFIX}{base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()}"


def check_url(url: str) -> str:
    """Return an address that webhooks may have.

    Raises:
        InvalidInput: `webhook.bad_url`.
    """
    why = _flaw_of(url)
    if why:
        raise InvalidInput(
            f"'{url[:200]}' is no address for a webhook: {why}",
            code="webhook.bad_url",
            hint="write https://HOST/PATH",
        )
    return url


def _flaw_of(url: str) -> str:
    if len(url) > MOST_URL_CHARS or not url.isprintable() or " " in url:
        return f"it has blanks, control characters, or more than {MOST_URL_CHARS} characters"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        return str(error)
    if parts.scheme not in ("http", "https"):
        return "only http and https can be called"
    if not parts.hostname:
        return "it names no host"
    if parts.username is not None or parts.password is not None:
        return "a name and a password in it would stand in logs; the message is signed"
    if port == 0:
        return "there is no port 0"
    return "it has a fragment, which is never sent" if parts.fragment else _flaw_of_host(url)


def _flaw_of_host(url: str) -> str:
    try:
        # what sends messages reads it, then the resolver; what they cannot encode would fail at each attempt
        sent = httpx.URL(url)
        shown, host = sent.host, sent.raw_host.decode("ascii")
        if ":" not in shown:
            host.encode("idna")
    except (httpx.InvalidURL, ValueError) as error:
        return f"its host cannot be encoded: {error}"
    return f"its host has more than {MOST_HOST_CHARS} characters" if len(host) > MOST_HOST_CHARS else ""


def secret_bytes(secret: str) -> bytes:
    """Return the key that a secret stands for.

    Raises:
        InvalidInput: `webhook.bad_secret`.
    """
    try:
        found = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not LEAST_SECRET_BYTES <= len(found) <= MOST_SECRET_BYTES or not secret.startswith(SECRET_PREFIX):
        raise InvalidInput(
            "this is no secret for webhooks",
            code="webhook.bad_secret",
            hint=f"`{SECRET_PREFIX}` and {LEAST_SECRET_BYTES} to {MOST_SECRET_BYTES} bytes in base64; "
            "leave it out to get one",
        )
    return found


def check_statuses(statuses: Sequence[str]) -> tuple[str, ...]:
    """Return the statuses that a webhook wants to know of; none = the usual ones.

    Raises:
        InvalidInput: `webhook.bad_status`.
    """
    for status in statuses:
        if status not in STATUSES:
            raise InvalidInput(
                f"webhooks are not told of '{status[:60]}'",
                code="webhook.bad_status",
                hint=f"they can be told of {', '.join(STATUSES)}",
            )
    return tuple(dict.fromkeys(statuses)) or USUAL_STATUSES


# --- messages --------------------------------------------------------------------------------------------------------


def message_of(delivery: DeliveryFacts, facts: ExecutionFacts | None, waits: Sequence[Wait]) -> bytes:
    """Return the body of a delivery: {type, timestamp, data}, the same at each attempt.

    Args:
        delivery: The delivery.
        facts: The execution; None if it is not known any more.
        waits: The waits that it is about.
    """
    data: dict[str, Any] = {"execution_id": delivery.execution_id, "status": delivery.status}
    if facts is not None:
        data |= {
            "task_id": facts.task_id,
            "task_name": facts.task_name,
            "task_version": facts.task_version,
            "parent_id": facts.parent_id or None,
            "labels": facts.labels,
            "metadata": facts.metadata,
            "created_at": iso_time(facts.created_us),
        }
        if ExecutionStatus(delivery.status).is_terminal:
            closed = facts.closed_us
            data |= {
                "closed_at": None if closed is None else iso_time(closed),
                "output": facts.output,
                "error": facts.error,
            }
        if delivery.status == ExecutionStatus.AWAITING_INPUT:
            data["waits"] = [_wait_json(wait) for wait in waits]
    message = {"type": f"execution.{delivery.status}", "timestamp": iso_time(delivery.at_us), "data": data}
    body = compact_json(message).encode()
    for part in _LONG_PARTS:
        if len(body) <= MOST_MESSAGE_BYTES:
            break
        if part in data:
            del data[part]
            data["left_out"] = [*data.get("left_out", []), part]
            body = compact_json(message).encode()
    return body


def _wait_json(wait: Wait) -> dict[str, Json]:
    return {
        "id": wait.wait_id,
        "path": wait.path,
        "label": wait.label,
        "info": wait.info,
        "schema": wait.schema,
        "opened_at": iso_time(wait.opened_us),
    }


def signature_of(secret: str, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a message as Standard Webhooks has it: `v1,` and HMAC-SHA256 over id, time and body."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret_bytes(secret), signed, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


# --- use cases -------------------------------------------------------------------------------------------------------


class WebhookService:
    """Keeps webhooks.

    Args:
        store: The webhooks in the store.
    """

    def __init__(self, store: WebhookStore) -> None:
        self.store = store

    async def create(
        self,
        *,
        tenant: str,
        url: str,
        statuses: Sequence[str] = (),
        tasks: Sequence[str] = (),
        labels: Sequence[str] = (),
        root_only: bool = False,
        secret: str = "",
        note: str = "",
        active: bool = True,
        actor: str = "",
        request_key: str = "",
    ) -> WebhookFacts:
        """Register a webhook for executions of a tenant.

        Raises:
            InvalidInput: `webhook.bad_url`, `webhook.bad_secret`, `webhook.bad_status`.
        """
        if secret:
            secret_bytes(secret)
        now = now_us()
        return await self.store.add(
            WebhookFacts(
                tenant=tenant,
                id=id_for(tenant, "webhook", request_key),
                url=check_url(url),
                statuses=check_statuses(statuses),
                tasks=tuple(tasks),
                labels=tuple(labels),
                root_only=root_only,
                secret=secret or new_secret(),
                note=note,
                active=active,
                created_us=now,
                updated_us=now,
                actor=actor,
            )
        )

    async def create_for(self, wish: WebhookWish, execution_id: str, *, tenant: str, actor: str = "") -> WebhookFacts:
        """Register a webhook for one execution, before that is started; done again, it changes nothing.

        Raises:
            InvalidInput: As `create`.
        """
        if wish.secret:
            secret_bytes(wish.secret)
        now = now_us()
        facts = WebhookFacts(
            tenant=tenant,
            id=str(uuid.uuid5(uuid.UUID(execution_id), f"webhook\n{wish.url}")),
            url=check_url(wish.url),
            statuses=check_statuses(wish.statuses),
            execution_id=execution_id,
            secret=wish.secret or new_secret(),
            created_us=now,
            updated_us=now,
            actor=actor,
        )
        return await self.store.add(facts)

    async def get(self, webhook_id: str, *, tenant: str) -> WebhookFacts:
        """Return a webhook.

        Raises:
            NotFound: `webhook.not_found`.
        """
        found = await self.store.find(webhook_id, tenant=tenant)
        if found is None:
            raise _not_found(webhook_id)
        return found

    async def change(self, webhook_id: str, *, tenant: str, changes: Mapping[str, Any]) -> WebhookFacts:
        """Change members of a webhook.

        Args:
            webhook_id: The webhook.
            tenant: Its tenant.
            changes: Those of url, statuses, tasks, labels, root_only, secret, note, active that change.

        Raises:
            NotFound: `webhook.not_found`.
            InvalidInput: As `create`.
        """
        facts = await self.get(webhook_id, tenant=tenant)
        changed = dict(changes)
        if "url" in changed:
            check_url(changed["url"])
        if "secret" in changed:
            secret_bytes(changed["secret"])
        if "statuses" in changed:
            changed["statuses"] = check_statuses(changed["statuses"])
        for name in ("tasks", "labels"):
            if name in changed:
                changed[name] = tuple(changed[name])
        if "active" in changed:
            changed["off_reason"] = "" if changed["active"] else "switched off"
        facts = dataclasses.replace(facts, **changed, updated_us=now_us())
        if not await self.store.put(facts):
            raise _not_found(webhook_id)
        return facts

    async def new_secret(self, webhook_id: str, *, tenant: str) -> WebhookFacts:
        """Give a webhook another secret; what is sent from now on is signed with it.

        Raises:
            NotFound: `webhook.not_found`.
        """
        facts = replace(await self.get(webhook_id, tenant=tenant), secret=new_secret(), updated_us=now_us())
        if not await self.store.put(facts):
            raise _not_found(webhook_id)
        return facts

    async def remove(self, webhook_id: str, *, tenant: str) -> None:
        """Delete a webhook with its deliveries.

        Raises:
            NotFound: `webhook.not_found`.
        """
        if not await self.store.remove(webhook_id, tenant=tenant):
            raise _not_found(webhook_id)

    async def delivery(self, webhook_id: str, delivery_id: str, *, tenant: str) -> DeliveryFacts:
        """Return a delivery of a webhook.

        Raises:
            NotFound: `webhook.not_found`, `delivery.not_found`.
        """
        await self.get(webhook_id, tenant=tenant)
        found = await self.store.delivery(delivery_id, tenant=tenant)
        if found is None or found.webhook_id != webhook_id:
            raise NotFound(f"the webhook has no delivery {delivery_id}", code="delivery.not_found")
        return found

    async def resend(self, webhook_id: str, delivery_id: str, *, tenant: str) -> DeliveryFacts:
        """Send a delivery again, under the id that it has.

        Raises:
            NotFound: `webhook.not_found`, `delivery.not_found`.
            Conflict: `delivery.under_way` if it has not ended, `webhook.off` if its webhook is switched off.
        """
        hook = await self.get(webhook_id, tenant=tenant)
        if not hook.active:
            raise Conflict(
                f"the webhook is switched off: {hook.off_reason or 'somebody did so'}",
                code="webhook.off",
                hint="switch it on first: PATCH {active: true}",
            )
        found = await self.delivery(webhook_id, delivery_id, tenant=tenant)
        again = await self.store.resend(delivery_id, tenant=tenant)
        if again is None:
            raise Conflict(
                f"the delivery {delivery_id} is still under way ({found.attempts} attempts)", code="delivery.under_way"
            )
        return again


class WebhookForStart:
    """Registers the webhook that a request to start an execution asks for.

    Args:
        service: Keeps webhooks.
        wish: What is asked for.
        tenant: The tenant.
        actor: Who asks for it.
    """

    def __init__(self, service: WebhookService, wish: WebhookWish, *, tenant: str, actor: str) -> None:
        self._service = service
        self._wish = wish
        self._tenant = tenant
        self._actor = actor
        self._made: WebhookFacts | None = None

    async def register(self, execution_id: str) -> None:
        """Register it, before anything of the execution can happen.

        Raises:
            InvalidInput: As `WebhookService.create`.
        """
        self._made = await self._service.create_for(self._wish, execution_id, tenant=self._tenant, actor=self._actor)

    async def shown(self, execution_id: str) -> dict[str, Any] | None:
        """Return it with its secret; None if the request was a repetition, and its webhook was made before.

        Args:
            execution_id: The execution that the start became: another one if it was joined to that.
        """
        if self._made is None:
            return None
        if self._made.execution_id != execution_id:
            await self._service.store.remove(self._made.id, tenant=self._tenant)
            await self.register(execution_id)
        return {**webhook_view(self._made), "secret": self._made.secret}


def _not_found(webhook_id: str) -> NotFound:
    return NotFound(f"there is no webhook {webhook_id}", code="webhook.not_found")


def webhook_view(facts: WebhookFacts) -> dict[str, Any]:
    """Return a webhook as JSON, without its secret."""
    return {
        "id": facts.id,
        "url": facts.url,
        "statuses": list(facts.statuses),
        "tasks": list(facts.tasks),
        "labels": list(facts.labels),
        "root_only": facts.root_only,
        "execution_id": facts.execution_id or None,
        "active": facts.active,
        "off_reason": facts.off_reason or None,
        "note": facts.note,
        "created_at": iso_time(facts.created_us),
        "updated_at": iso_time(facts.updated_us),
        "actor": facts.actor,
    }


def delivery_view(facts: DeliveryFacts) -> dict[str, Any]:
    """Return a delivery as JSON."""
    return {
        "id": facts.id,
        "webhook_id": facts.webhook_id,
        "execution_id": facts.execution_id,
        "status": facts.status,
        "at": iso_time(facts.at_us),
        "state": facts.state,
        "attempts": facts.attempts,
        "last_status": facts.last_status,
        "last_answer": facts.last_answer,
        "last_error": facts.last_error or None,
        "last_attempt_at": None if facts.last_us is None else iso_time(facts.last_us),
        "created_at": iso_time(facts.created_us),
        "ended_at": None if facts.ended_us is None else iso_time(facts.ended_us),
    }
