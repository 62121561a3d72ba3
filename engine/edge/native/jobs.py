"""The route of jobs: how what goes on beside an answer stands."""

from __future__ import annotations

from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import Field

from engine.core.values import Json
from engine.edge.http.callers import caller_of, is_operator
from engine.edge.http.openapi import Doc, Docs
from engine.edge.http.services import In, Tenant
from engine.edge.native.answers import MOMENT, Answer

router = APIRouter(tags=["jobs"])


@router.get("/jobs/{job_id}")
async def get_job(job_id: str, request: Request, services: In, tenant: Tenant) -> dict[str, Any]:
    """Return how a job stands, by one of the ids that answers have in `jobs`, or by that of an execution."""
    found = await services.jobs.status(job_id, tenant=tenant, is_operator=is_operator(caller_of(request)))
    return found.to_json()


class JobStatusView(Answer):
    """A job."""

    id: str
    name: str
    state: Literal["pending", "in_progress", "retrying", "succeeded", "aborted", "failed", "unknown"]
    reason: str = Field(description="Why it failed, or is tried again; empty = neither.")
    has_progress: bool
    progress: float = Field(description="In percent.")
    created_at: str
    updated_at: str


JOB_DOCS: Final[Docs] = {("GET", "/api/jobs/{job_id}"): Doc(answer=JobStatusView, errors=(404, 422))}
JOB_ANSWERS: Final[dict[type[Answer], dict[str, Json]]] = {
    JobStatusView: {
        "id": "7d0c2f6e-1a53-4a43-8f0b-0f4f5f7f3c11",
        "name": "embed a document",
        "state": "succeeded",
        "reason": "",
        "has_progress": False,
        "progress": 100.0,
        "created_at": MOMENT,
        "updated_at": MOMENT,
    }
}
