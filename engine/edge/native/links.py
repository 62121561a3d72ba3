"""Routes of links: make one to a wait, show what it asks, take the answer; the last two need no key but the link."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, StringConstraints

from engine.control.links import DEFAULT_S, MOST_VALUES, Link, Opened
from engine.core.errors import EngineError, InvalidInput
from engine.core.run.projection import iso_time
from engine.core.values import Json, duration_seconds
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.guard import LINK_PATH
from engine.edge.http.jsonvalues import load_json
from engine.edge.http.problems import status_of
from engine.edge.http.services import In, Services, Tenant
from engine.edge.native import linkpage
from engine.edge.native.shapes import Body

router = APIRouter(tags=["executions"], dependencies=[MAY_RUN])
public = APIRouter(tags=["links"])

Token = Annotated[str, Query(max_length=20_000, description="what stands in the link")]
FORM = "application/x-www-form-urlencoded"
MOST_FORM_BYTES = 1024 * 1024


class LinkBody(Body):
    """A link by which somebody answers a wait.

    Attributes:
        actor: In whose name it answers.
        expires_in: For how long it may be used: seconds, or text such as `2h` or `7d`.
        values: What may be answered, each as a button; left out = whatever fits the wait.
    """

    actor: Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f\x7f]+$")]
    expires_in: float | str = DEFAULT_S
    values: list[Json] | None = Field(default=None, min_length=1, max_length=MOST_VALUES)


class LinkAnswerBody(Body):
    """An answer by a link.

    Attributes:
        value: The answer.
    """

    value: Json


@router.post("/executions/{execution_id}/waits/{wait_id}/link", status_code=201)
async def make_link(execution_id: str, wait_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Make a link by which somebody answers this wait without a key. It is kept nowhere: each request makes another."""
    body = await read_model(request, LinkBody)
    seconds = duration_seconds(body.expires_in) if isinstance(body.expires_in, str) else body.expires_in
    if seconds is None:
        raise InvalidInput(
            f"{str(body.expires_in)[:60]!r} is no duration", code="link.bad_option", hint="such as 90s, 2h or 7d"
        )
    token, link = await services.links.make(
        execution_id,
        wait_id,
        tenant=tenant,
        actor=actor_of(request, body.actor),
        expires_s=seconds,
        values=body.values,
    )
    base = services.settings.public_url.rstrip("/") or str(request.base_url).rstrip("/")
    return {
        "url": f"{base}{LINK_PATH}?token={token}",
        "execution_id": link.execution_id,
        "wait_id": link.wait_id,
        "actor": link.actor,
        "expires_at": iso_time(link.expires_us),
    }


@public.get("/link")
async def show_link(request: Request, services: In, token: Token) -> Response:
    """Show what a link asks: a page for browsers, else JSON. Changes nothing, however often it is opened."""
    try:
        opened = await services.links.open(token)
    except EngineError as error:
        return _refusal(request, error)
    if linkpage.wants_page(request):
        return linkpage.page_of(opened, token)
    return linkpage.json_of(_view(opened))


@public.post("/link")
async def answer_link(request: Request, services: In, token: Token) -> Response:
    """Answer by a link ({value}, or the form of its page); used twice, the first outcome comes again."""
    try:
        opened = await _answer(request, services, token)
    except EngineError as error:
        return _refusal(request, error, token)
    if linkpage.wants_page(request):
        return linkpage.page_of(opened, token, answered=True)
    return linkpage.json_of(_view(opened))


async def _answer(request: Request, services: Services, token: str) -> Opened:
    before = await services.links.open(token)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == FORM:
        value = _form_value(await _form(request), before.link, before.wait.schema)
    else:
        value = (await read_model(request, LinkAnswerBody)).value
    return await services.links.answer(token, value)


async def _form(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_FORM_BYTES:
            raise InvalidInput("the form is larger than 1 MB", code="request.too_large")
    return body


def _form_value(body: bytes, link: Link, schema: Json) -> Json:
    """Read the form of the page: a button's JSON, or the text of its field."""
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=10, strict_parsing=bool(body))
    except ValueError as error:
        raise InvalidInput(f"this is not the form of a link: {error}", code="request.unreadable") from error
    button, text = fields.get("choice", [""])[0], fields.get("text", [""])[0]
    try:
        if button:
            value = load_json(button)
        elif linkpage.takes_text(schema) and link.values is None:
            return text
        else:
            return load_json(text)
    except ValueError as error:
        raise InvalidInput(f"the answer is not JSON: {error}", code="input.not_json") from error
    reason = fields.get("reason", [""])[0]
    if reason and isinstance(value, dict) and linkpage.is_decision(schema) and link.values is None:
        return {**value, "reason": reason}
    return value


def _view(opened: Opened) -> dict[str, Any]:
    """Return what a link asks, and how it was answered, as JSON."""
    link, wait = opened.link, opened.wait
    mine = wait.actor == link.actor
    return {
        "execution_id": link.execution_id,
        "task_name": opened.facts.task_name,
        "wait_id": link.wait_id,
        "label": wait.label or None,
        "info": wait.info,
        "schema": wait.schema,
        "values": None if link.values is None else list(link.values),
        "actor": link.actor,
        "expires_at": iso_time(link.expires_us),
        "open": opened.is_open,
        # what others answered is not for whoever holds this link
        "answer": wait.answer if mine else None,
        "answered_by": wait.actor or None,
        "outcome": wait.outcome or None,
    }


def _refusal(request: Request, error: EngineError, token: str = "") -> Response:
    if not linkpage.wants_page(request):
        raise error
    return linkpage.refusal_of(error, status_of(error), token)
