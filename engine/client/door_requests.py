"""What the clients ask about schedules, webhooks, events from outside and jobs over many; sends nothing itself."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

from engine.client.requests import ANSWER_TIMEOUT_S, Request, given, new_key, segment
from engine.client.views import Page
from engine.core.errors import InvalidInput
from engine.core.values import Json

View = dict[str, Any]
"""What the API answers, as it stands in its OpenAPI document."""


class ScheduleParts(TypedDict, total=False):
    """When a schedule starts its task, and how; what is left out stays as it is, or as usual.

    `intervals` are such as {"every": "15m", "offset": "5m"}; `overlap` is skip, buffer_one, buffer_all, cancel_other,
    terminate_other or allow_all; texts of `input` with `$ ` are computed, with `now()` = the time of the start.
    """

    cron: Sequence[str]
    intervals: Sequence[Mapping[str, str]]
    timezone: str
    start_at: dt.datetime | None
    end_at: dt.datetime | None
    jitter: str | None
    overlap: str
    catch_up: str | None
    pause_on_failure: bool
    limit: int | None
    input: Json
    labels: Sequence[str]
    metadata: Mapping[str, Any]
    note: str


class WebhookParts(TypedDict, total=False):
    """What a webhook is told of, and how; what is left out stays as it is, or as usual."""

    statuses: Sequence[str]
    tasks: Sequence[str]
    labels: Sequence[str]
    root_only: bool
    secret: str
    note: str
    active: bool


def check_parts(kind: Any, parts: Mapping[str, Any]) -> None:
    """Refuse names that are none of the parts.

    Raises:
        InvalidInput: `request.invalid`.
    """
    for name in parts:
        if name not in kind.__annotations__:
            raise InvalidInput(
                f"there is no '{name}' here", code="request.invalid", hint=f"there is {', '.join(kind.__annotations__)}"
            )


def moment(value: dt.datetime) -> str:
    """Return a time as text; one without a zone is of this machine."""
    return value.astimezone().isoformat()


def _plain(parts: Mapping[str, Any]) -> View:
    told: View = {}
    for name, value in parts.items():
        told[name] = moment(value) if isinstance(value, dt.datetime) else value
        if isinstance(value, (tuple, set)):
            told[name] = list(value)
    return told


def _view(response: Any) -> View:
    body: View = response.json()
    return body


def _nothing(response: Any) -> None:
    del response


def _page(response: Any) -> Page[View]:
    body = response.json()
    return Page(body["items"], body.get("next_cursor"))


def _post(path: str, body: Mapping[str, Any], key: str | None = None) -> Request[View]:
    return Request("POST", path, _view, body=dict(body), key=key or new_key(), timeout_s=ANSWER_TIMEOUT_S)


def get_one(path: str) -> Request[View]:
    """Read one thing."""
    return Request("GET", path, _view)


def get_page(path: str, limit: int, cursor: str | None, **params: Any) -> Request[Page[View]]:
    """Read one page of a list."""
    return Request("GET", path, _page, params=given(limit=limit, cursor=cursor, **params))


def delete(path: str) -> Request[None]:
    """Remove something."""
    # one that is gone already answers 404, also to the second try of a request whose answer was lost
    return Request("DELETE", path, _nothing, repeatable=False)


def post(
    path: str, body: Mapping[str, Any], key: str | None = None, *, timeout_s: float = ANSWER_TIMEOUT_S
) -> Request[View]:
    """Make or do something; with its key it happens once."""
    return Request("POST", path, _view, body=dict(body), key=key or new_key(), timeout_s=timeout_s)


def patch(path: str, body: Mapping[str, Any]) -> Request[View]:
    """Change something."""
    return Request("PATCH", path, _view, body=_plain(body), timeout_s=ANSWER_TIMEOUT_S)


def put(path: str, body: Mapping[str, Any]) -> Request[View]:
    """Put something into the place of what is there."""
    return Request("PUT", path, _view, body=_plain(body), timeout_s=ANSWER_TIMEOUT_S)


# --- schedules -------------------------------------------------------------------------------------------------------


def schedule_path(reference: str, verb: str = "") -> str:
    """Return the path of a schedule, or of what is done to it."""
    return f"/schedules/{segment(reference)}" + (f"/{verb}" if verb else "")


def create_schedule(
    name: str, task: str, parts: ScheduleParts, *, paused: bool, key: str | None, actor: str
) -> Request[View]:
    """Make a schedule."""
    check_parts(ScheduleParts, parts)
    own = {"name": name, "task": task, "paused": paused, "actor": actor}
    return _post("/schedules", {**_plain(parts), **own}, key)


def update_schedule(reference: str, parts: ScheduleParts, name: str | None, task: str | None) -> Request[View]:
    """Change a schedule."""
    check_parts(ScheduleParts, parts)
    body = {**_plain(parts), **given(name=name, task=task)}
    return Request("PATCH", schedule_path(reference), _view, body=body, timeout_s=ANSWER_TIMEOUT_S)


def act_on_schedule(reference: str, verb: str, key: str | None, **body: Any) -> Request[View]:
    """Pause, resume, run or backfill a schedule."""
    return _post(schedule_path(reference, verb), given(**body), key)


# --- webhooks --------------------------------------------------------------------------------------------------------


def webhook_path(webhook_id: str, rest: str = "") -> str:
    """Return the path of a webhook, or of something of it."""
    return f"/webhooks/{segment(webhook_id)}{rest}"


def create_webhook(url: str, parts: WebhookParts, *, key: str | None, actor: str) -> Request[View]:
    """Register a webhook."""
    check_parts(WebhookParts, parts)
    return _post("/webhooks", {**_plain(parts), "url": url, "actor": actor}, key)


def update_webhook(webhook_id: str, url: str | None, parts: WebhookParts) -> Request[View]:
    """Change a webhook."""
    check_parts(WebhookParts, parts)
    return Request("PATCH", webhook_path(webhook_id), _view, body={**_plain(parts), **given(url=url)})


def resend(webhook_id: str, delivery_id: str) -> Request[View]:
    """Send a delivery again."""
    return _post(webhook_path(webhook_id, f"/deliveries/{segment(delivery_id)}/resend"), {})


# --- events from outside ---------------------------------------------------------------------------------------------


def emit(
    name: str, value: Json, *, key: Json, event_id: str | None, execution_id: str | None, actor: str
) -> Request[View]:
    """Send an event; its id makes it safe to be sent again."""
    body = {"name": name, "value": value, "key": key, "id": event_id or new_key(), "actor": actor}
    return _post("/events", {**body, **given(execution_id=execution_id)})


def create_hook(
    name: str, event: str, *, key: str, only_if: str, kind: str, secret: str, request_key: str | None, actor: str
) -> Request[View]:
    """Make a hook."""
    body = {"name": name, "event": event, "key": key, "only_if": only_if, "kind": kind, "secret": secret}
    return _post("/hooks", {**body, "actor": actor}, request_key)


def switch_hook(hook_id: str, active: bool) -> Request[View]:
    """Switch a hook on or off."""
    return Request("PATCH", f"/hooks/{segment(hook_id)}", _view, body={"active": active})


# --- many at once ----------------------------------------------------------------------------------------------------


def bulk(
    action: str,
    filter: Mapping[str, Any],
    *,
    options: Mapping[str, Any],
    rate: int | None,
    dry_run: bool,
    key: str | None,
    actor: str,
) -> Request[View]:
    """Begin a job, or say to which executions it would be done."""
    body = {"action": action, "filter": _plain(filter), "options": dict(options), "dry_run": dry_run, "actor": actor}
    return _post("/bulk", {**body, **given(rate=rate)}, key)


def change_job(job_id: str, verb: str) -> Request[View]:
    """Pause, continue or abort a job."""
    return _post(f"/bulk/{segment(job_id)}/{verb}", {})
