"""Errors as HTTP answers: problem details and Julep's `error` object in one body, by one table from class to status."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from engine.core.errors import (
    AuthorityError,
    BackendError,
    BudgetError,
    BugError,
    ChildError,
    CompileError,
    Conflict,
    DefinitionError,
    EngineError,
    ExpressionError,
    ExpressionSyntaxError,
    ForkDiverged,
    InputRejected,
    InvalidInput,
    LimitExceeded,
    NotAllowed,
    NotFound,
    PayloadUnreadable,
    PromptTooBigError,
    RequestError,
    RunError,
    SecretError,
    SourceError,
    StepTimeout,
    TaskError,
    ToolError,
    Unavailable,
    WaitExpired,
)
from engine.edge.http.issues import issues_of

MEDIA_TYPE = "application/problem+json"

STATUS_OF: dict[type[EngineError], int] = {
    DefinitionError: 400,
    SourceError: 400,
    ExpressionSyntaxError: 400,
    CompileError: 400,
    RequestError: 400,
    InvalidInput: 400,
    PromptTooBigError: 400,
    NotFound: 404,
    Conflict: 409,
    NotAllowed: 403,
    Unavailable: 503,
    # run errors reach a caller only where the engine does a step's work on the caller's behalf
    RunError: 422,
    ExpressionError: 422,
    InputRejected: 422,
    LimitExceeded: 422,
    ForkDiverged: 422,
    WaitExpired: 422,
    StepTimeout: 504,
    TaskError: 422,
    AuthorityError: 403,
    ChildError: 422,
    ToolError: 502,
    SecretError: 422,
    BackendError: 502,
    BudgetError: 429,
    PayloadUnreadable: 422,
    BugError: 500,
}
"""HTTP status of every error class; a test holds it complete."""

STATUS_OF_CODE = {
    "auth.required": 401,
    "auth.key_expired": 401,
    "auth.key_revoked": 401,
    "auth.token_expired": 401,
    "auth.token_invalid": 401,
    "answer.pending": 504,
    "control.pending": 504,
    "message.pending": 504,
    "link.expired": 410,
    "input.not_json": 422,
    "input.requirement": 422,
    "task.not_runnable": 422,
    "backend.invalid": 422,
    "group.invalid": 422,
    "request.too_large": 413,
    "request.media_type": 415,
    "request.unreadable": 400,
}
"""Codes whose status is not that of their class."""

RETRY_AFTER_S = {"idempotency.in_progress": 3, "auth.issuer_unreachable": 5}
"""Codes of refusals that pass, with the seconds after which the same request may succeed."""

REPEATED_STATUS = frozenset({408, 409, 429})
"""Statuses after which Julep's SDK repeats a request five times over half a minute, as it does from 500 on."""
PASSING_STATUS = frozenset({409, 429, 503})
"""Those of refusals that may be over soon; others come after all that can be done was done."""

log = structlog.get_logger("everstep.api")


def status_of(error: EngineError) -> int:
    """Return the HTTP status of an error."""
    return STATUS_OF_CODE.get(error.code, STATUS_OF[type(error)])


def problem(
    status: int,
    *,
    code: str,
    message: str,
    kind: str,
    hint: str = "",
    retryable: bool = False,
    **more: Any,
) -> JSONResponse:
    """Build an error answer.

    Args:
        status: HTTP status.
        code: Stable dotted code.
        message: What is wrong.
        kind: Name of the error's class.
        hint: What to do about it; may be empty.
        retryable: Whether the same request may succeed later.
        more: Further members of the body.

    Returns:
        {type, title, status, detail, code, hint?, error {message, code, type, fix?}, …} as application/problem+json.
    """
    body: dict[str, Any] = {
        "type": f"urn:everstep:error:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": message,
        "code": code,
    }
    error: dict[str, Any] = {"message": message, "code": code, "type": kind}
    if hint:
        body["hint"] = hint
        error["fix"] = hint
    headers: dict[str, str] = {}
    if status in REPEATED_STATUS or status >= 500:
        headers["x-should-retry"] = "true" if retryable and status in PASSING_STATUS else "false"
    if code in RETRY_AFTER_S:
        headers |= {"x-should-retry": "true", "retry-after": str(RETRY_AFTER_S[code])}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse({**body, **more, "error": error}, status, headers, media_type=MEDIA_TYPE)


def problem_of(error: EngineError) -> JSONResponse:
    """Build the answer for an error of the engine."""
    more: dict[str, Any] = {}
    if error.details:
        more["details"] = error.details
    if isinstance(error, DefinitionError):
        more["diagnostics"] = [item.to_json(error.file) for item in error.diagnostics]
        more["issues"] = issues_of(error.diagnostics)
    return problem(
        status_of(error),
        code=error.code,
        message=error.message,
        kind=type(error).__name__,
        hint=error.hint,
        retryable=error.retryable,
        **more,
    )


def problem_of_bug() -> JSONResponse:
    """Build the answer for an error that nobody foresaw."""
    return problem(500, code="bug", message="the engine failed on this request", kind="BugError", hint="see its log")


def _where_routes_are(path: str) -> str:
    """Return what to tell whoever looks around, has typed a path wrong, or gave a client half of the address."""
    told = "all routes stand in /api/openapi.json"
    return told if path.startswith("/api/") else f"the address that a client is given ends with /api; {told}"


def add_error_handlers(app: FastAPI) -> None:
    """Let every error that is foreseen leave the app as a problem; the access log answers all others."""

    async def on_engine_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, EngineError)
        if isinstance(error, BugError):
            log.error("an invariant broke", path=request.url.path, code=error.code, exc_info=error)
        return problem_of(error)

    async def on_bad_request(request: Request, error: Exception) -> JSONResponse:
        del request
        assert isinstance(error, RequestValidationError)
        items = [{"type": item["type"], "msg": item["msg"], "loc": list(item["loc"])} for item in error.errors()]
        places = "; ".join(f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in items)
        return problem(
            422,
            code="request.invalid",
            message=f"the request is not right: {places}",
            kind="InvalidInput",
            errors=items,
        )

    async def on_http_error(request: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        message = f"{request.method} {request.url.path}: {error.detail}"
        hint = _where_routes_are(request.url.path) if error.status_code in (404, 405) else ""
        return problem(
            error.status_code, code=f"http.{error.status_code}", message=message, kind="RequestError", hint=hint
        )

    app.add_exception_handler(EngineError, on_engine_error)
    app.add_exception_handler(RequestValidationError, on_bad_request)
    app.add_exception_handler(HTTPException, on_http_error)
