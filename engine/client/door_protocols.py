"""What all clients can do beside executions, as types: a part of `EverstepClient` and its like for asyncio."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any, Protocol, Unpack

from engine.client.door_requests import ScheduleParts, View, WebhookParts
from engine.client.views import Page
from engine.core.values import Json


class DoorsProtocol(Protocol):
    """Schedules, webhooks, events from outside and jobs over many executions."""

    def create_schedule(
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
        ...

    def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.schedules`."""
        ...

    def schedule(self, reference: str) -> View:
        """See `Client.schedule`."""
        ...

    def update_schedule(
        self, reference: str, *, name: str | None = None, task: str | None = None, **parts: Unpack[ScheduleParts]
    ) -> View:
        """See `Client.update_schedule`."""
        ...

    def pause_schedule(self, reference: str, *, note: str = "", key: str | None = None) -> View:
        """See `Client.pause_schedule`."""
        ...

    def resume_schedule(self, reference: str, *, note: str = "", key: str | None = None) -> View:
        """See `Client.resume_schedule`."""
        ...

    def run_schedule(self, reference: str, *, overlap: str | None = None, key: str | None = None) -> View:
        """See `Client.run_schedule`."""
        ...

    def backfill_schedule(
        self,
        reference: str,
        start_at: dt.datetime,
        end_at: dt.datetime,
        *,
        overlap: str | None = None,
        key: str | None = None,
    ) -> View:
        """See `Client.backfill_schedule`."""
        ...

    def delete_schedule(self, reference: str) -> None:
        """See `Client.delete_schedule`."""
        ...

    def create_webhook(
        self, url: str, *, key: str | None = None, actor: str = "", **parts: Unpack[WebhookParts]
    ) -> View:
        """See `Client.create_webhook`."""
        ...

    def webhooks(self, execution_id: str = "", *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.webhooks`."""
        ...

    def webhook(self, webhook_id: str) -> View:
        """See `Client.webhook`."""
        ...

    def update_webhook(self, webhook_id: str, *, url: str | None = None, **parts: Unpack[WebhookParts]) -> View:
        """See `Client.update_webhook`."""
        ...

    def delete_webhook(self, webhook_id: str) -> None:
        """See `Client.delete_webhook`."""
        ...

    def deliveries(
        self,
        webhook_id: str,
        *,
        state: str | None = None,
        execution_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[View]:
        """See `Client.deliveries`."""
        ...

    def resend_delivery(self, webhook_id: str, delivery_id: str) -> View:
        """See `Client.resend_delivery`."""
        ...

    def emit(
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
        ...

    def create_hook(
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
        ...

    def hooks(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.hooks`."""
        ...

    def switch_hook(self, hook_id: str, active: bool) -> View:
        """See `Client.switch_hook`."""
        ...

    def delete_hook(self, hook_id: str) -> None:
        """See `Client.delete_hook`."""
        ...

    def bulk(
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
        ...

    def bulk_job(self, job_id: str) -> View:
        """See `Client.bulk_job`."""
        ...

    def bulk_jobs(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.bulk_jobs`."""
        ...

    def bulk_items(
        self, job_id: str, *, outcome: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """See `Client.bulk_items`."""
        ...

    def pause_bulk(self, job_id: str) -> View:
        """See `Client.pause_bulk`."""
        ...

    def continue_bulk(self, job_id: str) -> View:
        """See `Client.continue_bulk`."""
        ...

    def abort_bulk(self, job_id: str) -> View:
        """See `Client.abort_bulk`."""
        ...


class AsyncDoorsProtocol(Protocol):
    """Schedules, webhooks, events from outside and jobs over many executions, for asyncio."""

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
        ...

    async def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.schedules`."""
        ...

    async def schedule(self, reference: str) -> View:
        """See `Client.schedule`."""
        ...

    async def update_schedule(
        self, reference: str, *, name: str | None = None, task: str | None = None, **parts: Unpack[ScheduleParts]
    ) -> View:
        """See `Client.update_schedule`."""
        ...

    async def pause_schedule(self, reference: str, *, note: str = "", key: str | None = None) -> View:
        """See `Client.pause_schedule`."""
        ...

    async def resume_schedule(self, reference: str, *, note: str = "", key: str | None = None) -> View:
        """See `Client.resume_schedule`."""
        ...

    async def run_schedule(self, reference: str, *, overlap: str | None = None, key: str | None = None) -> View:
        """See `Client.run_schedule`."""
        ...

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
        ...

    async def delete_schedule(self, reference: str) -> None:
        """See `Client.delete_schedule`."""
        ...

    async def create_webhook(
        self, url: str, *, key: str | None = None, actor: str = "", **parts: Unpack[WebhookParts]
    ) -> View:
        """See `Client.create_webhook`."""
        ...

    async def webhooks(self, execution_id: str = "", *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.webhooks`."""
        ...

    async def webhook(self, webhook_id: str) -> View:
        """See `Client.webhook`."""
        ...

    async def update_webhook(self, webhook_id: str, *, url: str | None = None, **parts: Unpack[WebhookParts]) -> View:
        """See `Client.update_webhook`."""
        ...

    async def delete_webhook(self, webhook_id: str) -> None:
        """See `Client.delete_webhook`."""
        ...

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
        ...

    async def resend_delivery(self, webhook_id: str, delivery_id: str) -> View:
        """See `Client.resend_delivery`."""
        ...

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
        ...

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
        ...

    async def hooks(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.hooks`."""
        ...

    async def switch_hook(self, hook_id: str, active: bool) -> View:
        """See `Client.switch_hook`."""
        ...

    async def delete_hook(self, hook_id: str) -> None:
        """See `Client.delete_hook`."""
        ...

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
        ...

    async def bulk_job(self, job_id: str) -> View:
        """See `Client.bulk_job`."""
        ...

    async def bulk_jobs(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """See `Client.bulk_jobs`."""
        ...

    async def bulk_items(
        self, job_id: str, *, outcome: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """See `Client.bulk_items`."""
        ...

    async def pause_bulk(self, job_id: str) -> View:
        """See `Client.pause_bulk`."""
        ...

    async def continue_bulk(self, job_id: str) -> View:
        """See `Client.continue_bulk`."""
        ...

    async def abort_bulk(self, job_id: str) -> View:
        """See `Client.abort_bulk`."""
        ...
