"""The use case "how does a job stand": executions, vectors of documents, fetches of models, bulk jobs in one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from engine.core.errors import NotFound
from engine.core.kinds import ExecutionStatus
from engine.core.run.projection import ExecutionFacts
from engine.core.run.times import iso_time
from engine.core.values import Json
from engine.store.docs import DocFacts, DocStore
from engine.store.jobs import JobFacts, JobStore
from engine.store.projection import ProjectionStore
from engine.store.pulls import PullFacts, PullStore

JobState = Literal["pending", "in_progress", "retrying", "succeeded", "aborted", "failed", "unknown"]

_OF_EXECUTION: Final[dict[ExecutionStatus, JobState]] = {
    ExecutionStatus.QUEUED: "pending",
    ExecutionStatus.STARTING: "pending",
    ExecutionStatus.RUNNING: "in_progress",
    ExecutionStatus.AWAITING_INPUT: "in_progress",
    ExecutionStatus.PAUSED: "in_progress",
    ExecutionStatus.SUCCEEDED: "succeeded",
    ExecutionStatus.FAILED: "failed",
    ExecutionStatus.CANCELLED: "aborted",
}
_OF_PULL: Final[dict[str, JobState]] = {
    "queued": "pending",
    "running": "in_progress",
    "done": "succeeded",
    "failed": "failed",
    "cancelled": "aborted",
}
_OF_BULK: Final[dict[str, JobState]] = {
    "collecting": "pending",
    "running": "in_progress",
    "paused": "in_progress",
    "done": "succeeded",
    "aborted": "aborted",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """How a job stands; times in Unix microseconds.

    Attributes:
        id: Its id: that of the execution, the document, the fetch or the bulk job.
        name: What it does.
        state: How it stands.
        reason: Why it failed, or is tried again; empty = neither.
        progress: How far it is, in percent; None = that is not known until it has ended.
        created_us: When it was asked for.
        updated_us: When something last changed.
    """

    id: str
    name: str
    state: JobState
    reason: str = ""
    progress: float | None = None
    created_us: int
    updated_us: int

    def to_json(self) -> dict[str, Json]:
        """Return it as it is told: {id, name, state, reason, has_progress, progress, created_at, updated_at}."""
        ended = 100.0 if self.state == "succeeded" else 0.0
        return {
            "id": self.id,
            "name": self.name,
            "state": self.state,
            "reason": self.reason,
            "has_progress": self.progress is not None,
            "progress": ended if self.progress is None else round(self.progress, 2),
            "created_at": iso_time(self.created_us),
            "updated_at": iso_time(self.updated_us),
        }


class JobReader:
    """Tells of jobs.

    Args:
        executions: The projection.
        docs: Documents.
        pulls: Fetches of models.
        bulk: Jobs over many executions.
    """

    def __init__(self, executions: ProjectionStore, docs: DocStore, pulls: PullStore, bulk: JobStore) -> None:
        self._executions = executions
        self._docs = docs
        self._pulls = pulls
        self._bulk = bulk

    async def status(self, job_id: str, *, tenant: str, is_operator: bool = False) -> JobStatus:
        """Return how a job stands.

        Args:
            job_id: Its id.
            tenant: Tenant id.
            is_operator: Whether the caller may know of fetches of models, which belong to no tenant.

        Raises:
            NotFound: `job.not_found`.
        """
        doc = await self._docs.get(job_id, tenant=tenant)
        if doc is not None:
            return _of_doc(doc)
        execution = await self._executions.find_execution(job_id, tenant=tenant)
        if execution is not None:
            return _of_execution(execution)
        pull = await self._pulls.find(job_id) if is_operator else None
        if pull is not None:
            return _of_pull(pull)
        try:
            return _of_bulk(await self._bulk.get(job_id, tenant=tenant))
        except NotFound:
            raise NotFound(f"there is no job {job_id}", code="job.not_found") from None


def _of_doc(doc: DocFacts) -> JobStatus:
    state: JobState = "retrying" if doc.tries else "pending"
    if doc.due_us is None:
        state = "succeeded"
    return JobStatus(
        id=doc.id,
        name="embed a document",
        state=state,
        reason=doc.trouble,
        created_us=doc.created_us,
        updated_us=doc.embedded_us or doc.created_us,
    )


def _of_execution(facts: ExecutionFacts) -> JobStatus:
    error = facts.error if isinstance(facts.error, dict) else {}
    return JobStatus(
        id=facts.id,
        name=facts.task_name,
        state=_OF_EXECUTION[facts.status],
        reason=str(error.get("message", "")),
        created_us=facts.created_us,
        updated_us=facts.updated_us,
    )


def _of_pull(pull: PullFacts) -> JobStatus:
    return JobStatus(
        id=pull.id,
        name=f"fetch {pull.model} at {pull.backend}",
        state=_OF_PULL[pull.state],
        reason=pull.error_message,
        progress=100 * pull.done_bytes / pull.total_bytes if pull.total_bytes else None,
        created_us=pull.created_us,
        updated_us=pull.updated_us,
    )


def _of_bulk(job: JobFacts) -> JobStatus:
    return JobStatus(
        id=job.id,
        name=f"{job.action} executions",
        state=_OF_BULK[job.state],
        progress=100 * (job.done + job.refused + job.failed) / job.total if job.total else None,
        created_us=job.created_us,
        updated_us=job.updated_us,
    )
