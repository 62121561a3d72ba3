"""A real service of FastAPI for the tests of OpenAPI tools: it shows what it was sent, and describes itself."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Cookie, FastAPI, Header, HTTPException, Query, Request, Response, Security
from fastapi.responses import PlainTextResponse, RedirectResponse
from fastapi.security import APIKeyHeader
from pydantic import BaseModel

SECRET = "sk-0123456789/topsecret"


class Pet(BaseModel):
    """A pet."""

    name: str
    age: int | None = None
    parent: Pet | None = None


KEY = Security(APIKeyHeader(name="X-Shop-Key", auto_error=False))


def shop() -> FastAPI:
    """Return the service; `app.state.seen` holds what it was asked."""
    app = FastAPI(title="Shop", version="1")
    app.state.seen = []
    app.state.pets = {}

    def check(request: Request, key: str | None) -> None:
        app.state.seen.append((request.method, request.url.path, request.headers.get("idempotency-key")))
        if key != SECRET:
            raise HTTPException(401, f"'{key}' is no key")

    @app.get("/pets/{pet_id}", operation_id="getPet")
    def get_pet(request: Request, pet_id: str, full: bool = False, key: str | None = KEY) -> dict[str, Any]:
        """Read a pet."""
        check(request, key)
        if pet_id not in app.state.pets:
            raise HTTPException(404, "there is no such pet")
        pet: Pet = app.state.pets[pet_id]
        return pet.model_dump() if full else {"name": pet.name}

    @app.put("/pets/{pet_id}", operation_id="putPet", status_code=204)
    def put_pet(request: Request, pet_id: str, pet: Pet, key: str | None = KEY) -> Response:
        """Write a pet."""
        check(request, key)
        app.state.pets[pet_id] = pet
        return Response(status_code=204)

    @app.get("/echo", operation_id="echo")
    def echo(
        request: Request,
        tags: Annotated[list[str] | None, Query()] = None,
        x_mark: Annotated[str | None, Header()] = None,
        sid: Annotated[str | None, Cookie()] = None,
    ) -> dict[str, Any]:
        """Show what was sent."""
        named = {"tags": tags, "mark": x_mark, "sid": sid}
        return {"query": request.url.query, "headers": dict(request.headers), "read": named}

    @app.post("/fail", operation_id="fail")
    def fail(request: Request, status: int) -> Response:
        """Fail, and tell all that was sent."""
        shown = f"{'x' * 1990} {dict(request.headers)} {request.url.query}"
        return PlainTextResponse(shown, status, headers={"Retry-After": "7"})

    @app.get("/moved", operation_id="moved")
    def moved() -> RedirectResponse:
        """Be elsewhere."""
        return RedirectResponse("/echo", 307)

    @app.get("/answer/{kind}", operation_id="answer")
    def answer(kind: str) -> Response:
        """Answer in several kinds."""
        bodies = {
            "text": ("text/plain; charset=latin-1", "Jürgen".encode("latin-1")),
            "problem": ("application/problem+json", b'{"title": "t"}'),
            "null": ("application/json", b" null "),
            "broken": ("application/json", b"{"),
            "binary": ("image/png", b"\x89PNG\x00"),
        }
        media, body = bodies[kind]
        return Response(body, media_type=None, headers={"Content-Type": media})

    @app.post("/raw", operation_id="raw", include_in_schema=False)
    @app.get("/raw", operation_id="rawGet", include_in_schema=False)
    @app.get("/raw/{rest:path}", operation_id="rawPath", include_in_schema=False)
    async def raw(request: Request) -> dict[str, Any]:
        body = await request.body()
        shown = {name: request.headers.get(name) for name in ("content-type", "cookie", "x-h")}
        path = request.scope["raw_path"].decode()
        return {"path": path, "query": request.scope["query_string"].decode(), "body": body.decode("latin-1"), **shown}

    return app
