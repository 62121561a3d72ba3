"""What the clients can do beside executions: schedules, webhooks, events from outside, jobs over many executions."""

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


class Doors(ABC):
    """Schedules, webhooks, events from outside and jobs over many executions; a part of `Client`."""

    @abstractmethod
    def _send(self, request: Request[T]) -> T:
        """Send a request and read its answer."""

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
        """Make a schedule, which starts a task at times.

        Args:
            name: What to call it.
            task: The task: `NAME`, `NAME@3` or `NAME@ALIAS`; without a version the one that is the newest then.
            paused: Whether it starts nothing for now.
            key: Idempotency key; None = a new one.
            actor: Who makes it.
            parts: When, and how: `cron=["0 8 * * *"]`, `intervals=[{"every": "15m"}]`, `timezone`, `overlap`, …

        Raises:
            InvalidInput: `schedule.invalid`, `input.invalid`.
            Conflict: `schedule.exists`.
            Unavailable: `unreachable`: it is stored, and begins when Temporal can be reached.
        """
        return self._send(ask.create_schedule(name, task, parts, paused=paused, key=key, actor=actor))

    def schedules(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """Return one page of the schedules, by name."""
        return self._send(ask.get_page("/schedules", limit, cursor))

    def schedule(self, reference: str) -> View:
        """Return a schedule by id or name, with its next times and its last runs.

        Raises:
            NotFound: `schedule.not_found`.
        """
        return self._send(ask.get_one(ask.schedule_path(reference)))

    def update_schedule(
        self,
        reference: str,
        *,
        name: str | None = None,
        task: str | None = None,
        **parts: Unpack[ScheduleParts],
    ) -> View:
        """Change a schedule.

        Args:
            reference: Its id or name.
            name: Another name.
            task: Another task.
            parts: What else changes.

        Raises:
            Conflict: `schedule.of_task`, `schedule.exists`.
        """
        return self._send(ask.update_schedule(reference, parts, name, task))

    def pause_schedule(self, reference: str, *, note: str = "", key: str | None = None) -> View:
        """Let a schedule start nothing until it is resumed."""
        return self._send(ask.act_on_schedule(reference, "pause", key, note=note))

    def resume_schedule(self, reference: str, *, note: str = "", key: str | None = None) -> View:
        """Let a paused schedule start its task again."""
        return self._send(ask.act_on_schedule(reference, "resume", key, note=note))

    def run_schedule(self, reference: str, *, overlap: str | None = None, key: str | None = None) -> View:
        """Start the task of a schedule now, paused or not."""
        return self._send(ask.act_on_schedule(reference, "run", key, overlap=overlap))

    def backfill_schedule(
        self,
        reference: str,
        start_at: dt.datetime,
        end_at: dt.datetime,
        *,
        overlap: str | None = None,
        key: str | None = None,
    ) -> View:
        """Start what was missed between two times; nothing is started twice for the same time."""
        return self._send(
            ask.act_on_schedule(
                reference, "backfill", key, start_at=ask.moment(start_at), end_at=ask.moment(end_at), overlap=overlap
            )
        )

    def delete_schedule(self, reference: str) -> None:
        """Remove a schedule; its executions go on."""
        self._send(ask.delete(ask.schedule_path(reference)))

    def create_webhook(
        self, url: str, *, key: str | None = None, actor: str = "", **parts: Unpack[WebhookParts]
    ) -> View:
        """Register a webhook; `secret` of the answer is shown this once.

        Args:
            url: Where messages are posted.
            key: Idempotency key; None = a new one.
            actor: Who registers it.
            parts: Of what it is told: `statuses`, `tasks`, `labels`, …

        Raises:
            InvalidInput: `webhook.bad_url`, `webhook.bad_status`, `webhook.bad_secret`.
        """
        return self._send(ask.create_webhook(url, parts, key=key, actor=actor))

    def webhooks(self, execution_id: str = "", *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """Return one page of the webhooks, or of those of one execution."""
        return self._send(ask.get_page("/webhooks", limit, cursor, execution_id=execution_id or None))

    def webhook(self, webhook_id: str) -> View:
        """Return a webhook, and how many deliveries it has in each state."""
        return self._send(ask.get_one(ask.webhook_path(webhook_id)))

    def update_webhook(self, webhook_id: str, *, url: str | None = None, **parts: Unpack[WebhookParts]) -> View:
        """Change a webhook; `active=True` switches on one that its receiver switched off by 410."""
        return self._send(ask.update_webhook(webhook_id, url, parts))

    def delete_webhook(self, webhook_id: str) -> None:
        """Remove a webhook with its deliveries."""
        self._send(ask.delete(ask.webhook_path(webhook_id)))

    def deliveries(
        self,
        webhook_id: str,
        *,
        state: str | None = None,
        execution_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
    ) -> Page[View]:
        """Return one page of what a webhook was told, the latest first."""
        return self._send(
            ask.get_page(
                ask.webhook_path(webhook_id, "/deliveries"), limit, cursor, state=state, execution_id=execution_id
            )
        )

    def resend_delivery(self, webhook_id: str, delivery_id: str) -> View:
        """Send a delivery that has ended again, under its id.

        Raises:
            Conflict: `delivery.under_way`, `webhook.off`.
        """
        return self._send(ask.resend(webhook_id, delivery_id))

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
        """Send an event to all executions that wait for it, and start the tasks that it triggers.

        Args:
            name: Its name.
            value: What is told about it.
            key: What tells events of one name apart.
            event_id: Its id; an event is taken once. None = a new one.
            execution_id: The one execution that it is for, which keeps it until it waits for it.
            actor: Who sends it.

        Returns:
            What it did: `delivered` and `started`.

        Raises:
            Conflict: `event.id_reused`, `execution.closed`.
        """
        return self._send(ask.emit(name, value, key=key, event_id=event_id, execution_id=execution_id, actor=actor))

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
        """Make a hook, by which another service sends events; `secret` of the answer is shown this once.

        Args:
            name: What it is for.
            event: Name of the events.
            key: Expression over the body that gives an event its key: `_.order.id`.
            only_if: Expression that must hold of the body.
            kind: How callers are known: `key`, `github` or `standard`.
            secret: For signatures, the secret that the caller has; empty = one is made.
            request_key: Idempotency key; None = a new one.
            actor: Who makes it.

        Raises:
            InvalidInput: `expression.invalid`, `hook.bad_secret`.
        """
        return self._send(
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

    def hooks(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """Return one page of the hooks."""
        return self._send(ask.get_page("/hooks", limit, cursor))

    def switch_hook(self, hook_id: str, active: bool) -> View:
        """Let a hook take nothing for now, or take events again."""
        return self._send(ask.switch_hook(hook_id, active))

    def delete_hook(self, hook_id: str) -> None:
        """Remove a hook."""
        self._send(ask.delete(f"/hooks/{segment(hook_id)}"))

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
        """Begin to do something to many executions; with `dry_run`, say only to which.

        Args:
            action: cancel, terminate, pause, continue, retry, fork, answer or purge.
            filter: To which: `{"ids": […]}`, or what lists filter by: `{"task": "greet", "status": ["failed"]}`.
            options: How: `reason`, `definition`, `at`, `value`, `wait_id`, `oldest`.
            rate: How many a second at most; None = 10.
            dry_run: Whether to say only to which executions it would be done.
            key: Idempotency key; None = a new one.
            actor: Who wants it.

        Raises:
            InvalidInput: `bulk.bad_filter`, `bulk.bad_options`.
        """
        return self._send(
            ask.bulk(action, filter, options=options or {}, rate=rate, dry_run=dry_run, key=key, actor=actor)
        )

    def bulk_job(self, job_id: str) -> View:
        """Return a job with its progress."""
        return self._send(ask.get_one(f"/bulk/{segment(job_id)}"))

    def bulk_jobs(self, *, limit: int = 100, cursor: str | None = None) -> Page[View]:
        """Return one page of the jobs, the latest first."""
        return self._send(ask.get_page("/bulk", limit, cursor))

    def bulk_items(
        self, job_id: str, *, outcome: str | None = None, limit: int = 100, cursor: str | None = None
    ) -> Page[View]:
        """Return one page of what came of each execution of a job; `outcome` is done, refused, failed or left."""
        return self._send(ask.get_page(f"/bulk/{segment(job_id)}/items", limit, cursor, outcome=outcome))

    def pause_bulk(self, job_id: str) -> View:
        """Let a job rest until it is continued."""
        return self._send(ask.change_job(job_id, "pause"))

    def continue_bulk(self, job_id: str) -> View:
        """Let a paused job go on."""
        return self._send(ask.change_job(job_id, "continue"))

    def abort_bulk(self, job_id: str) -> View:
        """End a job; what was done stays done."""
        return self._send(ask.change_job(job_id, "abort"))
