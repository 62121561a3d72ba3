"""Routes of streams: an execution's status, its transitions, its events and what models write in it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request

from engine.core.errors import NotFound
from engine.core.kinds import EventType, StepKind
from engine.core.run.events import EventRecord, body_of
from engine.core.run.projection import TRANSITION_TYPES, event_view, execution_view
from engine.edge.http.services import In, Services, Tenant
from engine.edge.http.sse import EventStream, last_event_id, sse_text
from engine.edge.native.julep_views import Reader, TransitionViews, execution_for, reader_of, transition_views

router = APIRouter(tags=["streams"])


@router.get("/executions/{execution_id}/status.stream", response_class=EventStream)
async def stream_status(execution_id: str, request: Request, services: In, tenant: Tenant) -> EventStream:
    """Send the execution at once and at every change of its status; ends after a terminal one."""
    await services.store.get_execution(execution_id, tenant=tenant)
    return _stream(services, _statuses(services, execution_id, tenant, reader_of(request)))


@router.get("/executions/{execution_id}/transitions.stream", response_class=EventStream)
async def stream_transitions(execution_id: str, request: Request, services: In, tenant: Tenant) -> EventStream:
    """Send transitions from the first, or after Last-Event-ID; ends when the execution has ended and all are sent."""
    facts = await services.store.get_execution(execution_id, tenant=tenant)
    after = last_event_id(request, "next_page_token", "after_seq")
    text = _TransitionText(await transition_views(request, services, facts))
    texts = services.follower.events(execution_id, tenant=tenant, view=text, after_seq=after)
    return _stream(services, texts)


@router.get("/executions/{execution_id}/events.stream", response_class=EventStream)
async def stream_events(execution_id: str, request: Request, services: In, tenant: Tenant) -> EventStream:
    """Send all events from the first, or after Last-Event-ID; ends when the execution has ended and all are sent."""
    await services.store.get_execution(execution_id, tenant=tenant)
    after = last_event_id(request, "after_seq")
    texts = services.follower.events(execution_id, tenant=tenant, view=_event_text, after_seq=after)
    return _stream(services, texts)


@router.get("/executions/{execution_id}/tokens.stream", response_class=EventStream)
async def stream_tokens(execution_id: str, request: Request, services: In, tenant: Tenant) -> EventStream:
    """Send what models write as they write it; ends when the execution has ended.

    `token` events have no id and may be lost; every call that is over is told by a `message` or `failed` event, whose
    id a reader sends as Last-Event-ID. The last event is `end`.
    """
    await services.store.get_execution(execution_id, tenant=tenant)
    return _stream(services, _tokens(services, execution_id, tenant, last_event_id(request, "after_seq")))


def _stream(services: Services, texts: AsyncIterator[bytes]) -> EventStream:
    return EventStream(_until_purged(texts), stall_s=services.settings.stream_stall_s)


async def _until_purged(texts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass a stream on; it ends when the execution is purged while somebody reads."""
    try:
        async for text in texts:
            yield text
    except NotFound:
        return
    finally:
        # a generator that nobody asks any more lets go of what it holds when it is closed
        close = getattr(texts, "aclose", None)
        if close is not None:
            await close()


async def _statuses(services: Services, execution_id: str, tenant: str, reader: Reader) -> AsyncIterator[bytes]:
    async for change in services.follower.status(execution_id, tenant=tenant):
        if change is None:
            yield b""
            continue
        # Julep's client types this stream as whole executions, its documents as events: this is both
        data = {**execution_for(reader, execution_view(change.facts, change.waits)), "execution_id": change.facts.id}
        yield sse_text(data, id=change.facts.last_seq)


async def _tokens(services: Services, execution_id: str, tenant: str, after: int) -> AsyncIterator[bytes]:
    texts = services.follower.tokens(
        execution_id, tenant=tenant, view=_call_text, finished=_finished_call, after_seq=after
    )
    async for text in texts:
        yield text
    facts = await services.store.get_execution(execution_id, tenant=tenant)
    if facts.settled:
        # a browser comes back after every stream that ends: it must know that there is no more
        yield sse_text({"execution_id": execution_id, "status": facts.status.value}, event="end")


# --- how events are shown: one function for each stream, or equal ones, since all readers share the texts -------------


def _event_text(record: EventRecord) -> bytes | None:
    return sse_text(event_view(record), id=record.seq)


@dataclass(frozen=True, slots=True)
class _TransitionText:
    """Shows transitions to one sort of reader; Julep's find them in an envelope with the token that goes on from there.

    Attributes:
        views: How they are shown.
    """

    views: TransitionViews

    def __call__(self, record: EventRecord) -> bytes | None:
        """Return a transition as a text of a stream; None for other events."""
        if record.type not in TRANSITION_TYPES:
            return None
        shown = self.views.view(record)
        if self.views.reader != "ours":
            shown = {"transition": shown, "next_page_token": str(record.seq)}
        return sse_text(shown, id=record.seq)


def _call_text(record: EventRecord) -> bytes | None:
    body = _prompt_end(record)
    if body is None:
        return None
    data = {
        "execution_id": record.execution_id,
        "seq": record.seq,
        **{name: body.get(name) for name in ("path", "effect_id", "attempt", "outcome")},
    }
    if body.get("outcome") != "ok":
        return sse_text({**data, "error": body.get("error")}, id=record.seq, event="failed")
    data |= {name: body.get(name) for name in ("model", "backend", "finish_reason", "usage", "cost")}
    return sse_text({**data, "message": body.get("reply")}, id=record.seq, event="message")


def _finished_call(record: EventRecord) -> bytes | None:
    body = _prompt_end(record)
    return None if body is None else str(body.get("effect_id", "")).encode()


def _prompt_end(record: EventRecord) -> dict[str, Any] | None:
    if record.type != EventType.EFFECT_FINISHED:
        return None
    body = body_of(record)
    return body if body.get("kind") == StepKind.PROMPT else None
