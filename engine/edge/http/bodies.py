"""Reads request bodies: JSON or YAML, bounded, as text or as a checked model."""

from __future__ import annotations

from typing import TypeVar

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError

from engine.core.errors import InvalidInput
from engine.core.spec.nodes import node_to_json
from engine.core.values import MAX_VALUE_BYTES, Json
from engine.edge.http.jsonvalues import flaw_of, load_json
from engine.source.parse import parse_source

MAX_BODY_BYTES = MAX_VALUE_BYTES + 1024 * 1024
"""A largest value with room for what stands around it."""

YAML_TYPES = frozenset({"application/yaml", "text/yaml", "text/x-yaml", "application/x-yaml"})
JSON_TYPES = frozenset({"application/json", ""})

Model = TypeVar("Model", bound=BaseModel)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def read_text(request: Request) -> str:
    """Return the body of a request as text.

    Raises:
        InvalidInput: `request.media_type` unless it is JSON or YAML, `request.too_large`, `request.unreadable` if it
            is no UTF-8.
    """
    kind = _media_type(request)
    if kind not in YAML_TYPES and kind not in JSON_TYPES:
        raise InvalidInput(
            f"a body of type {kind!r} cannot be read here",
            code="request.media_type",
            hint="send application/json or application/yaml",
        )
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY_BYTES:
            raise InvalidInput(
                f"the body is larger than {MAX_BODY_BYTES // 2**20} MB",
                code="request.too_large",
                hint="keep large data outside and pass a reference",
            )
        parts.append(part)
    try:
        return b"".join(parts).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not UTF-8: {error.reason}", code="request.unreadable") from error


def source_name(request: Request, file: str) -> str:
    """Return the name under which a source is read: one that was sent as JSON is JSON and nothing else."""
    return f"{file}.json" if _media_type(request) == "application/json" and "." not in file else file


async def read_json(request: Request) -> Json:
    """Return the body of a request as a JSON value; an empty body is an empty object.

    Raises:
        InvalidInput: As `read_text`, and `request.unreadable` for text that is no JSON.
        RequestValidationError: For a value that nothing can hold: a number out of range, too many levels.
        SourceError: For text that is no YAML, with the place.
    """
    text = await read_text(request)
    if not text.strip():
        return {}
    if _media_type(request) in YAML_TYPES:
        body = node_to_json(parse_source(text, "body"))
    else:
        try:
            body = load_json(text)
        except ValueError as error:
            raise InvalidInput(f"the body is not JSON: {error}", code="request.unreadable") from error
    if flaw := flaw_of(body):
        raise RequestValidationError([{"type": "json_value", "loc": ("body",), "msg": flaw, "input": None}])
    return body


async def read_model(request: Request, model: type[Model], *, wrapped: bool = False) -> Model:
    """Return the body of a request as a model.

    Args:
        request: The request.
        model: The model.
        wrapped: Whether the body may stand in a member `body`, as the Julep client of 2024 sends some.

    Raises:
        InvalidInput: As `read_json`.
        SourceError: As `read_json`.
        RequestValidationError: If the body does not fit the model.
    """
    body = await read_json(request)
    if wrapped and isinstance(body, dict) and body.keys() == {"body"}:
        body = body["body"]
    try:
        return model.model_validate(body)
    except ValidationError as error:
        raise RequestValidationError([{**item, "loc": ("body", *item["loc"])} for item in error.errors()]) from error
