"""Routes of files: store, list, show, delete; their contents are base64."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response
from pydantic import Field, RootModel

from engine.control.files import file_view
from engine.core.values import Json
from engine.edge.http.bodies import read_model
from engine.edge.http.callers import MAY_RUN, actor_of
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.paging import MOST_OFFSET
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import MOMENT, Answer, Deleted
from engine.edge.native.shapes import Body, Name

router = APIRouter(tags=["files"])

NEXT_OFFSET: Final = "Everstep-Next-Offset"
"""Says where a list goes on that ends before its end; the list itself is an array, as Julep's SDK wants it."""
Key = Annotated[str, Header(alias="Idempotency-Key", max_length=255)]


class FileBody(Body):
    """A new file.

    Attributes:
        name: What it is called.
        content: Its bytes in base64, 20 MB at most.
        description: What it is for.
        mime_type: Of what kind it is, such as `application/pdf`.
        project: Id or canonical name of the project that it belongs to.
    """

    name: Name
    content: str
    description: str = Field(default="", max_length=10_000)
    mime_type: str | None = Field(default=None, max_length=255, pattern=r"^[\w.+-]+/[\w.+-]+(; ?[\w.+-]+=[\w.+-]+)*$")
    project: str | None = Field(default=None, max_length=255)


@router.post("/files", status_code=201, dependencies=[MAY_RUN])
async def create_file(request: Request, services: In, tenant: Tenant, key: Key = "") -> dict[str, Any]:
    """Store a file."""
    body = await read_model(request, FileBody)
    made = await services.files.create(
        body.name,
        body.content,
        tenant=tenant,
        description=body.description,
        mime_type=body.mime_type,
        project=body.project,
        actor=actor_of(request),
        request_key=key,
    )
    return {**file_view(*made), "jobs": []}


@router.get("/files")
async def list_files(
    response: Response,
    services: In,
    tenant: Tenant,
    limit: Annotated[int, Query(ge=1, le=999)] = 999,
    offset: Annotated[int, Query(ge=0, le=MOST_OFFSET)] = 0,
) -> list[dict[str, Any]]:
    """List files with their contents, the newest first, as an array.

    A page ends before it has more than 32 MB; `Everstep-Next-Offset` says then where the next one begins.
    """
    page = await services.files.page(tenant=tenant, limit=limit, offset=offset)
    if page.next_offset is not None:
        response.headers[NEXT_OFFSET] = str(page.next_offset)
    return [file_view(*file) for file in page.files]


@router.get("/files/{file_id}")
async def get_file(file_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return a file with its content."""
    return file_view(*await services.files.get(file_id, tenant=tenant))


@router.delete("/files/{file_id}", status_code=202, dependencies=[MAY_RUN])
async def delete_file(file_id: str, services: In, tenant: Tenant) -> dict[str, Any]:
    """Delete a file."""
    return await services.files.remove(file_id, tenant=tenant)


# --- the OpenAPI document --------------------------------------------------------------------------------------------


class FileView(Answer):
    """A file."""

    id: str
    name: str
    description: str
    mime_type: str | None
    project: str | None
    content: str = Field(description="Its bytes in base64.")
    size: int = Field(description="How many bytes it has.")
    hash: str = Field(description="Their SHA-256, hexadecimal.")
    created_at: str
    actor: str | None


class FileCreated(FileView):
    """A file that was stored."""

    jobs: list[str]


class Files(RootModel[list[FileView]]):
    """Files with their contents."""


FILE_DOCS: Final[Docs] = {
    ("POST", "/api/files"): Doc(
        answer=FileCreated,
        ok=(201,),
        errors=(400, 404, 409, 413, 415, 422),
        body=FileBody,
        example={"name": "hours.txt", "content": "V2Ugb3BlbiBhdCBuaW5lLg==", "mime_type": "text/plain"},
    ),
    ("GET", "/api/files"): Doc(answer=Files, errors=(422,)),
    ("GET", "/api/files/{file_id}"): Doc(answer=FileView, errors=(404, 422)),
    ("DELETE", "/api/files/{file_id}"): Doc(answer=Deleted, ok=(202,), errors=(404, 422)),
}
_FILE: Final[dict[str, Json]] = {
    "id": "c1a3c5f0-5a0e-4f0b-8f1d-0f6f3c9b7a52",
    "name": "hours.txt",
    "description": "",
    "mime_type": "text/plain",
    "project": None,
    "content": "V2Ugb3BlbiBhdCBuaW5lLg==",
    "size": 16,
    "hash": "4a0ba6d4db9ae0a92fac1fa5be0bb5ad97c9870708fd92c93648825cdbfb6b67",
    "created_at": MOMENT,
    "actor": "ada",
}
FILE_ANSWERS: Final[dict[type[Any], Any]] = {
    FileView: _FILE,
    FileCreated: {**_FILE, "jobs": []},
    Files: [_FILE],
}
