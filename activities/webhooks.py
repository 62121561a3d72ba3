"""The activities of webhooks: post a message, signed, to an address that is not ours; say that it was given up."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

import httpx
from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.net import (
    CONNECT_TIMEOUT_S,
    HTTP_EXCEPTIONS,
    describe_fault,
    make_ssl_context,
    retry_after_s,
)
from engine import __version__
from engine.control.guard import AddressGuard, GuardedTransport
from engine.control.webhooks import message_of, signature_of
from engine.core.contracts.doors import GIVE_UP_ACTIVITY, POST_ACTIVITY, WebhookParams
from engine.core.errors import NotFound, ToolError
from engine.core.kinds import ExecutionStatus
from engine.settings import HttpConfig
from engine.store.outbox import DELIVERED, FAILED
from engine.store.projection import ProjectionStore
from engine.store.webhooks import ANSWER_CHARS, DeliveryFacts, WebhookFacts, WebhookStore

ANSWER_TIMEOUT_S = 15.0
"""How long a receiver may take from the connect to the end of its answer."""
MOST_PAUSE_S = 3_600.0
GONE = 410
"""The receiver wants no more messages."""


class WebhookActivities:
    """Posts messages to webhooks.

    Args:
        webhooks: The webhooks in the store.
        store: The projection.
        config: Private addresses that may be called.
        timeout_s: How long a receiver may take.
    """

    def __init__(
        self,
        webhooks: WebhookStore,
        store: ProjectionStore,
        config: HttpConfig,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self._webhooks = webhooks
        self._store = store
        self._guard = AddressGuard(config)
        self._timeout_s = timeout_s
        self._client: httpx.AsyncClient | None = None

    async def aclose(self) -> None:
        """Close all connections."""
        if self._client is not None:
            await self._client.aclose()

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            # a connection of its own for each message: receivers are many, and each is called seldom
            limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
            self._client = httpx.AsyncClient(
                transport=GuardedTransport(self._guard, verify=make_ssl_context(), limits=limits),
                timeout=httpx.Timeout(None, connect=CONNECT_TIMEOUT_S),
                trust_env=False,
            )
        return self._client

    @activity.defn(name=POST_ACTIVITY)
    async def post(self, params: WebhookParams) -> str:
        """Post a message once.

        Args:
            params: The delivery.

        Returns:
            `delivered`, or `failed` if no further attempt makes sense.

        Raises:
            ApplicationError: The receiver did not take it; Temporal tries again later.
        """
        found = await self._load(params)
        if isinstance(found, str):
            return found
        delivery, hook = found
        record = _Recorder(self._webhooks, params)
        body = await self._message(delivery)
        try:
            status, answer, pause_s = await self._send(hook, delivery.id, body)
        except ToolError as refused:
            # the guard: another try asks the resolver again, and hosts move
            await record(error=refused.message)
            raise _again(refused.message, None) from None
        except TimeoutError:
            why = f"no answer within {self._timeout_s:g} s"
            await record(error=why)
            raise _again(why, None) from None
        except HTTP_EXCEPTIONS as error:
            why = describe_fault(error, where=hook.url)
            await record(error=why)
            raise _again(why, None) from None
        except Exception as error:
            # whatever it is, somebody has to see it
            why = f"the message cannot be sent to {hook.url}: {type(error).__name__}: {error}"
            await record(error=why)
            raise _again(why, None) from error
        if 200 <= status < 300:
            await record(state=DELIVERED, status=status, answer=answer)
            return DELIVERED
        if status == GONE:
            await self._webhooks.switch_off(hook.id, tenant=params.tenant, reason="the receiver answered 410 Gone")
            await record(state=FAILED, status=status, answer=answer, error="the receiver wants no more messages")
            return FAILED
        why = f"the receiver answered {status}"
        await record(status=status, answer=answer, error=why)
        raise _again(why, pause_s)

    @activity.defn(name=GIVE_UP_ACTIVITY)
    async def give_up(self, params: WebhookParams) -> None:
        """Say that a delivery is tried no more; how its last attempt failed stays.

        Args:
            params: The delivery.
        """
        found = await self._webhooks.delivery(params.delivery_id, tenant=params.tenant)
        if found is not None and found.state not in (DELIVERED, FAILED):
            why = f"given up after {found.attempts} attempts: {found.last_error or 'no worker was there'}"
            await self._webhooks.record(
                params.delivery_id, tenant=params.tenant, round_=params.round, state=FAILED, attempt=False, error=why
            )

    async def _load(self, params: WebhookParams) -> tuple[DeliveryFacts, WebhookFacts] | str:
        delivery = await self._webhooks.delivery(params.delivery_id, tenant=params.tenant)
        if delivery is None or delivery.round != params.round:
            return FAILED  # deleted with its webhook, or sent anew by another workflow
        if delivery.state in (DELIVERED, FAILED):
            return delivery.state  # the attempt was written, and its worker lost before it could say so
        hook = await self._webhooks.find(delivery.webhook_id, tenant=params.tenant)
        if hook is None or not hook.active:
            why = "the webhook is switched off" if hook is not None else "there is no such webhook any more"
            await self._webhooks.record(
                delivery.id, tenant=params.tenant, round_=params.round, state=FAILED, attempt=False, error=why
            )
            return FAILED
        return delivery, hook

    async def _message(self, delivery: DeliveryFacts) -> bytes:
        try:
            facts = await self._store.get_execution(delivery.execution_id, tenant=delivery.tenant)
        except NotFound:
            return message_of(delivery, None, [])
        is_wait = delivery.status == ExecutionStatus.AWAITING_INPUT
        return message_of(delivery, facts, await self._webhooks.waits_of(delivery) if is_wait else [])

    async def _send(self, hook: WebhookFacts, message_id: str, body: bytes) -> tuple[int, str, float | None]:
        """Return status and beginning of the answer, and when the receiver wants the next try."""
        moment = int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": f"Everstep/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(moment),
            "webhook-signature": signature_of(hook.secret, message_id, moment, body),
        }
        async with asyncio.timeout(self._timeout_s):
            request = self._http().build_request("POST", hook.url, content=body, headers=headers)
            response = await self._http().send(request, stream=True, follow_redirects=False)
            try:
                return response.status_code, await _beginning(response), retry_after_s(response.headers)
            finally:
                await response.aclose()


class _Recorder:
    """Writes what an attempt came to."""

    def __init__(self, webhooks: WebhookStore, params: WebhookParams) -> None:
        self._webhooks = webhooks
        self._params = params

    async def __call__(
        self, *, state: str | None = None, status: int | None = None, answer: str = "", error: str = ""
    ) -> None:
        await self._webhooks.record(
            self._params.delivery_id,
            tenant=self._params.tenant,
            round_=self._params.round,
            state=state,
            status=status,
            answer=answer,
            error=error,
        )


async def _beginning(response: httpx.Response) -> str:
    """Return the beginning of an answer; the rest is not read, and an answer that breaks off is as good as a whole."""
    found = b""
    try:
        # raw: what a small body unpacks to has no bound
        async for part in response.aiter_raw():
            found += part
            if len(found) >= ANSWER_CHARS:
                break
    except HTTP_EXCEPTIONS:
        pass
    return found[:ANSWER_CHARS].decode("utf-8", "replace")


def _again(why: str, pause_s: float | None) -> ApplicationError:
    pause = None if pause_s is None else timedelta(seconds=min(pause_s, MOST_PAUSE_S))
    return ApplicationError(
        why, type="webhook.not_taken", next_retry_delay=pause, category=ApplicationErrorCategory.BENIGN
    )
