"""What the OpenAPI document says of schedules, webhooks, events from outside and jobs over many executions."""

from __future__ import annotations

from typing import Final

from engine.edge.http.openapi import Doc, Docs
from engine.edge.native import bulk, door_answers, hooks, schedules, webhooks

_BODY: Final = (400, 413, 415, 422)
_LIST: Final = (400, 422)

DOOR_DOCS: Final[Docs] = {
    # schedules
    ("POST", "/api/schedules"): Doc(
        answer=door_answers.ScheduleView,
        ok=(201,),
        errors=(*_BODY, 404, 409, 503),
        body=schedules.ScheduleNew,
        example={
            "name": "morning",
            "task": "greet",
            "cron": ["30 8 * * mon-fri"],
            "timezone": "Europe/Berlin",
            "input": {"name": "Ada", "day": "$ now().date()"},
        },
    ),
    ("GET", "/api/schedules"): Doc(answer=door_answers.Schedules, errors=_LIST),
    ("GET", "/api/schedules/{schedule_id}"): Doc(answer=door_answers.ScheduleView, errors=(404, 422)),
    ("PATCH", "/api/schedules/{schedule_id}"): Doc(
        answer=door_answers.ScheduleView,
        errors=(*_BODY, 404, 409, 503),
        body=schedules.ScheduleChange,
        example={"cron": ["0 9 * * *"], "overlap": "buffer_one"},
    ),
    ("DELETE", "/api/schedules/{schedule_id}"): Doc(ok=(204,), errors=(404, 409, 422)),
    ("POST", "/api/schedules/{schedule_id}/pause"): Doc(
        answer=door_answers.ScheduleView,
        errors=(*_BODY, 404, 409, 503),
        body=schedules.NoteBody,
        example={"note": "the shop is closed"},
    ),
    ("POST", "/api/schedules/{schedule_id}/resume"): Doc(
        answer=door_answers.ScheduleView,
        errors=(*_BODY, 404, 409, 503),
        body=schedules.NoteBody,
        example={"note": ""},
    ),
    ("POST", "/api/schedules/{schedule_id}/run"): Doc(
        answer=door_answers.ScheduleView,
        ok=(202,),
        errors=(*_BODY, 404, 409, 503),
        body=schedules.RunBody,
        example={"overlap": "allow_all"},
    ),
    ("POST", "/api/schedules/{schedule_id}/backfill"): Doc(
        answer=door_answers.ScheduleView,
        ok=(202,),
        errors=(*_BODY, 404, 409, 503),
        body=schedules.BackfillBody,
        example={"start_at": "2026-11-01T00:00:00Z", "end_at": "2026-11-03T00:00:00Z", "overlap": "buffer_all"},
    ),
    # webhooks
    ("POST", "/api/webhooks"): Doc(
        answer=door_answers.NewWebhook,
        ok=(201,),
        errors=(*_BODY, 409),
        body=webhooks.WebhookBody,
        example={"url": "https://shop.example/hooks/everstep", "statuses": ["succeeded", "failed"], "tasks": ["greet"]},
    ),
    ("GET", "/api/webhooks"): Doc(answer=door_answers.Webhooks, errors=_LIST),
    ("GET", "/api/webhooks/{webhook_id}"): Doc(answer=door_answers.CountedWebhook, errors=(404, 422)),
    ("PATCH", "/api/webhooks/{webhook_id}"): Doc(
        answer=door_answers.WebhookView,
        errors=(*_BODY, 404),
        body=webhooks.WebhookChange,
        example={"active": True},
    ),
    ("DELETE", "/api/webhooks/{webhook_id}"): Doc(ok=(204,), errors=(404, 422)),
    ("POST", "/api/webhooks/{webhook_id}/secret"): Doc(answer=door_answers.NewWebhook, errors=(400, 404, 409, 422)),
    ("GET", "/api/webhooks/{webhook_id}/deliveries"): Doc(answer=door_answers.Deliveries, errors=(*_LIST, 404)),
    ("GET", "/api/webhooks/{webhook_id}/deliveries/{delivery_id}"): Doc(
        answer=door_answers.DeliveryView, errors=(404, 422)
    ),
    ("POST", "/api/webhooks/{webhook_id}/deliveries/{delivery_id}/resend"): Doc(
        answer=door_answers.DeliveryView, ok=(202,), errors=(400, 404, 409, 422)
    ),
    # events from outside
    ("POST", "/api/events"): Doc(
        answer=door_answers.OutsideEventView,
        errors=(*_BODY, 404, 409, 503),
        body=hooks.OutsideEvent,
        example={"name": "payment.settled", "key": "order-17", "value": {"amount": 42}, "id": "order-17-paid"},
    ),
    ("GET", "/api/events"): Doc(answer=door_answers.OutsideEvents, errors=_LIST),
    ("GET", "/api/events/{event_id}"): Doc(answer=door_answers.OutsideEventView, errors=(404, 422)),
    ("POST", "/api/hooks"): Doc(
        answer=door_answers.NewHook,
        ok=(201,),
        errors=(*_BODY, 409),
        body=hooks.HookBody,
        example={"name": "shop", "event": "payment.settled", "key": "_.order.id"},
    ),
    ("GET", "/api/hooks"): Doc(answer=door_answers.Hooks, errors=_LIST),
    ("GET", "/api/hooks/{hook_id}"): Doc(answer=door_answers.HookView, errors=(404, 422)),
    ("PATCH", "/api/hooks/{hook_id}"): Doc(
        answer=door_answers.HookView, errors=(*_BODY, 404), body=hooks.HookChange, example={"active": False}
    ),
    ("DELETE", "/api/hooks/{hook_id}"): Doc(ok=(204,), errors=(404, 422)),
    ("POST", "/api/hooks/{hook_id}"): Doc(answer=door_answers.HookTaken, errors=(400, 404, 409, 413, 422, 503)),
    # many at once
    ("POST", "/api/bulk"): Doc(
        answer=door_answers.JobView,
        ok=(200, 202),
        errors=(*_BODY, 404, 409),
        body=bulk.BulkBody,
        example={"action": "retry", "filter": {"status": ["failed"]}, "options": {"definition": "newest"}, "rate": 5},
    ),
    ("GET", "/api/bulk"): Doc(answer=door_answers.Jobs, errors=_LIST),
    ("GET", "/api/bulk/{job_id}"): Doc(answer=door_answers.JobView, errors=(404, 422)),
    ("GET", "/api/bulk/{job_id}/items"): Doc(answer=door_answers.JobItems, errors=(*_LIST, 404)),
    ("POST", "/api/bulk/{job_id}/pause"): Doc(answer=door_answers.JobView, errors=(400, 404, 409, 422, 503)),
    ("POST", "/api/bulk/{job_id}/continue"): Doc(answer=door_answers.JobView, errors=(400, 404, 409, 422, 503)),
    ("POST", "/api/bulk/{job_id}/abort"): Doc(answer=door_answers.JobView, errors=(400, 404, 409, 422, 503)),
}
