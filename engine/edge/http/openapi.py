"""Makes the OpenAPI document: what FastAPI knows of routes and queries, and what `Doc` says of bodies and answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from engine.core.values import Json

REFERENCE: Final = "#/components/schemas/{model}"
PROBLEM: Final = "application/problem+json"
TASK_TYPES: Final = ("application/yaml", "application/json")
ALWAYS: Final = (401, 403, 500)
"""Every route asks who calls."""


class ProblemError(BaseModel):
    """The error once more, as Julep's clients read it."""

    message: str
    code: str
    type: str
    fix: str | None = None


class Problem(BaseModel):
    """What went wrong, as problem details (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:everstep:error:execution.not_found",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "there is no execution 0b0e",
                    "code": "execution.not_found",
                    "hint": "list them with `everstep ls`",
                    "error": {
                        "message": "there is no execution 0b0e",
                        "code": "execution.not_found",
                        "type": "NotFound",
                        "fix": "list them with `everstep ls`",
                    },
                }
            ]
        },
    )

    type: str
    title: str
    status: int
    detail: str = Field(description="What is wrong, with the object's name.")
    code: str = Field(description="Stable dotted code; docs/errors.md lists all.")
    hint: str | None = Field(default=None, description="What to do about it.")
    error: ProblemError


_AGE: Final = {
    "description": "Seconds since what is told was last known to be up to date; missing = it is.",
    "schema": {"type": "number"},
}
_REPLAYED: Final = {
    "description": "`true` if this is the answer that an earlier request with the same key got.",
    "schema": {"type": "boolean"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Doc:
    """What the document says of an operation beyond its path and queries.

    Attributes:
        answer: Shape of a good answer; None = it has no body.
        ok: Statuses of good answers.
        errors: Statuses of refusals, beside those that every route may give.
        body: Shape of the request's body; `task` = the text of a task, in YAML or JSON.
        example: Example of the body.
        media: Media type of a good answer.
    """

    answer: type[BaseModel] | None = None
    ok: tuple[int, ...] = (200,)
    errors: tuple[int, ...] = ()
    body: type[BaseModel] | Literal["task"] | None = None
    example: Json = None
    media: str = "application/json"


Docs = Mapping[tuple[str, str], Doc]
"""By method and path, such as `("GET", "/api/executions")`."""


Examples = Mapping[type[BaseModel], Json]
"""An example of each shape of answers."""


def install_document(app: FastAPI, docs: Docs, examples: Examples) -> None:
    """Let an app answer its OpenAPI document, made when it is first asked for.

    Args:
        app: The app.
        docs: What is said of each operation.
        examples: Examples of answers.
    """

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build_document(app, docs, examples)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign] # FastAPI's own way


def build_document(app: FastAPI, docs: Docs, examples: Examples) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of an app.

    Args:
        app: The app.
        docs: What is said of each operation; those it does not name keep what FastAPI says.
        examples: Examples of answers.
    """
    found: dict[str, Any] = get_openapi(
        title=app.title,
        version=app.version,
        summary="Durable execution of multi-step LLM tasks.",
        description=(
            "Errors are problem details with a stable `code`. A POST with an `Idempotency-Key` happens once, however "
            "often it is sent. `Everstep-Data-Age` says how many seconds old an answer is when it cannot be brought up "
            "to date."
        ),
        routes=app.routes,
    )
    components = found.setdefault("components", {})
    components["schemas"] = _schemas(docs.values()) | {
        name: schema
        for name, schema in components.get("schemas", {}).items()
        if name not in ("HTTPValidationError", "ValidationError")
    }
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token of the OIDC provider."},
        "key": {"type": "apiKey", "in": "header", "name": "X-Auth-Key", "description": "An API key."},
    }
    found["security"] = [{"bearer": []}, {"key": []}]
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            doc = docs.get((method.upper(), path))
            if doc is not None:
                _describe(method.upper(), operation, doc, examples)
    return found


def _schemas(docs: Iterable[Doc]) -> dict[str, Any]:
    models: dict[type[BaseModel], None] = {Problem: None}
    for doc in docs:
        for model in (doc.answer, doc.body):
            if isinstance(model, type):
                models[model] = None
    _, body = models_json_schema([(model, "validation") for model in models], ref_template=REFERENCE)
    schemas: dict[str, Any] = body["$defs"]
    return schemas


def _reference(model: type[BaseModel]) -> dict[str, str]:
    return {"$ref": REFERENCE.format(model=model.__name__)}


def _describe(method: str, operation: dict[str, Any], doc: Doc, examples: Examples) -> None:
    if doc.body is not None:
        operation["requestBody"] = _body(doc)
    if method == "POST" and not any(item["name"] == "Idempotency-Key" for item in operation.get("parameters", [])):
        operation.setdefault("parameters", []).append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "maxLength": 255},
                "description": "The same key with the same request gives the first answer again; kept for a day.",
            }
        )
    responses: dict[str, Any] = {}
    for status in doc.ok:
        responses[str(status)] = {"description": HTTPStatus(status).phrase}
        if doc.answer is not None:
            shown = {"schema": _reference(doc.answer), "example": examples[doc.answer]}
            responses[str(status)]["content"] = {doc.media: shown}
        elif doc.media != "application/json":
            responses[str(status)]["content"] = {doc.media: {"schema": {"type": "string"}}}
    if method == "GET":
        for status in doc.ok:
            responses[str(status)]["headers"] = {"Everstep-Data-Age": _AGE}
    if method == "POST":
        for status in doc.ok:
            responses[str(status)]["headers"] = {"Idempotency-Replayed": _REPLAYED}
    for status in sorted({*ALWAYS, *doc.errors}):
        responses[str(status)] = {
            "description": HTTPStatus(status).phrase,
            "content": {PROBLEM: {"schema": _reference(Problem)}},
        }
    operation["responses"] = responses


def _body(doc: Doc) -> dict[str, Any]:
    if doc.body == "task":
        text = {"schema": {"type": "string"}} | ({} if doc.example is None else {"example": doc.example})
        return {"required": True, "content": {TASK_TYPES[0]: text, TASK_TYPES[1]: {"schema": {"type": "object"}}}}
    assert isinstance(doc.body, type)
    shape: dict[str, Any] = {"schema": _reference(doc.body)}
    if doc.example is not None:
        shape["example"] = doc.example
    # a body whose members all have defaults may be left out
    required = any(field.is_required() for field in doc.body.model_fields.values())
    return {"required": required, "content": {"application/json": shape}}
