"""What `AsyncClient` can do beside executions; the same methods as `Doors`, which says what each of them does."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeVar, Unpack

from engine.client import door_requests as ask
from engine.client.door_requests import ScheduleParts, View, WebhookParts
from engine.client.requests import Request, segment
from engine.client.views import Page
from engine.core.values import Json

T = TypeVar("T")


class AsyncDoors(ABC):
    """The same for asyncio; a part of `AsyncClient`."""

    @abstractmethod
    async def _send(self, request: Request[T]) -> T:
        """Send a request and read its answer."""

    async def create_schedule(
        self,
        name: str,
        task: str,
        *,
        paused: bool = False,
        key: str | None = None,
        actor: str = "",
        **parts: Unpack[ScheduleParts],
    ) -> View:
        """See `Client.create_schedule`."""
        return await self._send(ask.create_schedule(name, task, parts, paused=paused, key=key, actor=actor))

    async def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.schedules`."""
        return await self._send(ask.get_page("/schedules", limit, cursor))

    async def schedule(self, reference: str) -> View:
        """See `Client.schedule`."""
        return await self._send(ask.get_one(ask.schedule_path(reference)))

    async def update_schedule(
        self,
        reference: str,
        *,
        name: str | None = None,
        task: str | None = None,
        **parts: Unpack[ScheduleParts],
    ) -> View:
        """See `Client.update_schedule`."""
        return await self._send(ask.update_schedule(reference, parts, name, task))

    async def pause_schedule(self, reference: str, *, note: str = "", key: str | None = None) -> View:
        """See `Client.pause_schedule`."""
        return await self._send(ask.act_on_schedule(reference, "pause", key, note=note))

    async def resume_schedule(self, reference: str, *, note: str = "", key: str | None = None) -> View:
        """See `Client.resume_schedule`."""
        return await self._send(ask.act_on_schedule(reference, "resume", key, note=note))

    async def run_schedule(self, reference: str, *, overlap: str | None = None, key: str | None = None) -> View:
        """See `Client.run_schedule`."""
        return await self._send(ask.act_on_schedule(reference, "run", key, overlap=overlap))

    async def backfill_schedule(
        self,
        reference: str,
        start_at: dt.datetime,
        end_at: dt.datetime,
        *,
        overlap: str | None = None,
        key: str | None = None,
    ) -> View:
        """See `Client.backfill_schedule`."""
        return await self._send(
            ask.act_on_schedule(
                reference, "backfill", key, start_at=ask.moment(start_at), end_at=ask.moment(end_at), overlap=overlap
            )
        )

    async def delete_schedule(self, reference: str) -> None:
        """See `Client.delete_schedule`."""
        await self._send(ask.delete(ask.schedule_path(reference)))

    async def create_webhook(
        self, url: str, *, key: str | None = None, actor: str = "", **parts: Unpack[WebhookParts]
    ) -> View:
        """See `Client.create_webhook`."""
        return await self._send(ask.create_webhook(url, parts, key=key, actor=actor))

    async def webhooks(self, execution_id: str = "", *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.webhooks`."""
        return await self._send(ask.get_page("/webhooks", limit, cursor, execution_id=execution_id or None))

    async def webhook(self, webhook_id: str) -> View:
        """See `Client.webhook`."""
        return await self._send(ask.get_one(ask.webhook_path(webhook_id)))

    async def update_webhook(self, webhook_id: str, *, url: str | None = None, **parts: Unpack[WebhookParts]) -> View:
        """See `Client.update_webhook`."""
        return await self._send(ask.update_webhook(webhook_id, url, parts))

    async def delete_webhook(self, webhook_id: str) -> None:
        """See `Client.delete_webhook`."""
        await self._send(ask.delete(ask.webhook_path(webhook_id)))

    async def deliveries(
        self,
        webhook_id: str,
        *,
        state: str | None = None,
        execution_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[View]:
        """See `Client.deliveries`."""
        return await self._send(
            ask.get_page(
                ask.webhook_path(webhook_id, "/deliveries"), limit, cursor, state=state, execution_id=execution_id
            )
        )

    async def resend_delivery(self, webhook_id: str, delivery_id: str) -> View:
        """See `Client.resend_delivery`."""
        return await self._send(ask.resend(webhook_id, delivery_id))

    async def emit(
        self,
        name: str,
        value: Json = None,
        *,
        key: Json = None,
        event_id: str | None = None,
        execution_id: str | None = None,
        actor: str = "",
    ) -> View:
        """See `Client.emit`."""
        return await self._send(
            ask.emit(name, value, key=key, event_id=event_id, execution_id=execution_id, actor=actor)
        )

    async def create_hook(
        self,
        name: str,
        event: str,
        *,
        key: str = "",
        only_if: str = "",
        kind: str = "key",
        secret: str = "",
        request_key: str | None = None,
        actor: str = "",
    ) -> View:
        """See `Client.create_hook`."""
        return await self._send(
            ask.create_hook(
                name,
                event,
                key=key,
                only_if=only_if,
                kind=kind,
                secret=secret,
                request_key=request_key,
                actor=actor,
            )
        )

    async def hooks(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.hooks`."""
        return await self._send(ask.get_page("/hooks", limit, cursor))

    async def switch_hook(self, hook_id: str, active: bool) -> View:
        """See `Client.switch_hook`."""
        return await self._send(ask.switch_hook(hook_id, active))

    async def delete_hook(self, hook_id: str) -> None:
        """See `Client.delete_hook`."""
        await self._send(ask.delete(f"/hooks/{segment(hook_id)}"))

    async def bulk(
        self,
        action: str,
        filter: Mapping[str, Any],
        *,
        options: Mapping[str, Any] | None = None,
        rate: int | None = None,
        dry_run: bool = False,
        key: str | None = None,
        actor: str = "",
    ) -> View:
        """See `Client.bulk`."""
        return await self._send(
            ask.bulk(action, filter, options=options or {}, rate=rate, dry_run=dry_run, key=key, actor=actor)
        )

    async def bulk_job(self, job_id: str) -> View:
        """See `Client.bulk_job`."""
        return await self._send(ask.get_one(f"/bulk/{segment(job_id)}"))

    async def bulk_jobs(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.bulk_jobs`."""
        return await self._send(ask.get_page("/bulk", limit, cursor))

    async def bulk_items(
        self, job_id: str, *, outcome: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """See `Client.bulk_items`."""
        return await self._send(ask.get_page(f"/bulk/{segment(job_id)}/items", limit, cursor, outcome=outcome))

    async def pause_bulk(self, job_id: str) -> View:
        """See `Client.pause_bulk`."""
        return await self._send(ask.change_job(job_id, "pause"))

    async def continue_bulk(self, job_id: str) -> View:
        """See `Client.continue_bulk`."""
        return await self._send(ask.change_job(job_id, "continue"))

    async def abort_bulk(self, job_id: str) -> View:
        """See `Client.abort_bulk`."""
        return await self._send(ask.change_job(job_id, "abort"))
