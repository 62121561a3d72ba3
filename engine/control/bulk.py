"""Use cases on jobs over many executions: try one out, begin, pause, continue and abort it."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from engine.control.connect import RPC_TIMEOUT, TemporalConnection
from engine.control.definitions import DefinitionService, now_us
from engine.control.request_keys import id_for, key_reused
from engine.core.contracts.doors import BULK_WORKFLOW, SIGNAL_BULK, BulkParams, doors_queue
from engine.core.errors import Conflict, InvalidInput, Unavailable
from engine.core.kinds import ExecutionStatus
from engine.core.run.projection import ExecutionFacts, iso_time
from engine.core.values import Json
from engine.store.filters import ExecutionFilter, Span
from engine.store.jobs import (
    ABORTED,
    COLLECTING,
    OPEN_STATES,
    PAUSED,
    RUNNING,
    ItemFacts,
    JobFacts,
    JobStore,
    without_value,
)
from engine.store.listing import ExecutionLists
from engine.store.reading import ProjectionReader

Action = Literal["cancel", "terminate", "pause", "continue", "retry", "fork", "answer", "purge"]
ACTIONS: tuple[str, ...] = get_args(Action)
MOST_IDS = 1_000
SAMPLE = 20
USUAL_RATE = 10
MOST_RATE = 1_000
UNSTARTED_US = 10_000_000
PAGE = 50


class BulkFilter(BaseModel):
    """To which executions: everything that is given must hold, as in lists.

    Attributes:
        ids: These.
        task: Those of this task (id or name).
        task_name: Those of tasks that had this name when they were started.
        agent_id: Those of this agent.
        status: Those with one of these.
        label: Those with all of these.
        metadata: Those whose metadata contains this object.
        error_code: Those that failed with this code, or with one below it.
        model: Those that had a reply of this model.
        backend: Those that had a reply of this backend.
        actor: Those that this one started.
        stuck: Only those that do not go on although they should.
        parent_id: Those that this execution started.
        root_only: Only those that no execution started.
        created_after: Created at or after this time.
        created_before: Created before this time.
        updated_after: Last changed at or after this time.
        updated_before: Last changed before this time.
        closed_after: Ended at or after this time.
        closed_before: Ended before this time.
        all: That it is meant for all executions, if nothing else is given.
    """

    model_config = ConfigDict(extra="forbid")

    ids: list[str] = Field(default_factory=list, max_length=MOST_IDS)
    task: str | None = Field(default=None, max_length=400)
    task_name: str | None = Field(default=None, max_length=255)
    agent_id: str | None = Field(default=None, max_length=255)
    status: list[ExecutionStatus] = Field(default_factory=list, max_length=20)
    label: list[str] = Field(default_factory=list, max_length=20)
    metadata: dict[str, Any] = Field(default_factory=dict)
    error_code: str | None = Field(default=None, max_length=255)
    model: str | None = Field(default=None, max_length=255)
    backend: str | None = Field(default=None, max_length=255)
    actor: str | None = Field(default=None, max_length=255)
    stuck: bool = False
    parent_id: str | None = Field(default=None, max_length=255)
    root_only: bool = False
    created_after: dt.datetime | None = None
    created_before: dt.datetime | None = None
    updated_after: dt.datetime | None = None
    updated_before: dt.datetime | None = None
    closed_after: dt.datetime | None = None
    closed_before: dt.datetime | None = None
    all: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> BulkFilter:
        given = self.model_dump(exclude_defaults=True)
        if not given:
            raise ValueError("it names nothing: say which executions, or `all: true`")
        if self.all and len(given) > 1:
            raise ValueError("`all` and something else contradict each other")
        for name in _TIMES:
            moment = getattr(self, name)
            if moment is not None and moment.tzinfo is None:
                raise ValueError(f"`{name}` has no time zone; write 2027-01-31T12:00:00Z")
        return self


_TIMES = ("created_after", "created_before", "updated_after", "updated_before", "closed_after", "closed_before")


class BulkOptions(BaseModel):
    """How something is done to each.

    Attributes:
        reason: Why (cancel, terminate, pause).
        definition: Of retry and fork: the execution's `own`, the `newest`, or a version or alias.
        at: Of retry and fork: path or label of the step that is the first to run.
        value: The answer (answer).
        wait_id: Id of the wait (answer).
        oldest: Whether the oldest wait is answered where several are open (answer).
    """

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(default="", max_length=2_000)
    definition: str = Field(default="own", max_length=400)
    at: str = Field(default="", max_length=1_000)
    value: Json = None
    wait_id: str = Field(default="", max_length=1_000)
    oldest: bool = False


_TAKES: Mapping[str, frozenset[str]] = {
    "cancel": frozenset({"reason"}),
    "terminate": frozenset({"reason"}),
    "pause": frozenset({"reason"}),
    "continue": frozenset(),
    "retry": frozenset({"definition", "at"}),
    "fork": frozenset({"definition", "at"}),
    "answer": frozenset({"value", "wait_id", "oldest"}),
    "purge": frozenset(),
}


@dataclass(frozen=True, slots=True)
class Trial:
    """What a job would be done to: how many, by status, and a few of them."""

    total: int
    by_status: dict[str, int]
    sample: list[ExecutionFacts]


def read_filter(given: Mapping[str, Any]) -> BulkFilter:
    """Read to which executions a job is done.

    Raises:
        InvalidInput: `bulk.bad_filter`.
    """
    try:
        return BulkFilter.model_validate(dict(given))
    except ValidationError as error:
        raise _wrong("filter", "bulk.bad_filter", error) from error


def read_options(action: str, given: Mapping[str, Any]) -> BulkOptions:
    """Read how a job is done.

    Raises:
        InvalidInput: `bulk.bad_options`.
    """
    try:
        options = BulkOptions.model_validate(dict(given))
    except ValidationError as error:
        raise _wrong("options", "bulk.bad_options", error) from error
    beyond = sorted(set(given) - _TAKES[action])
    if beyond:
        takes = ", ".join(sorted(_TAKES[action])) or "none"
        raise InvalidInput(
            f"'{action}' has no option '{beyond[0]}'", code="bulk.bad_options", hint=f"its options: {takes}"
        )
    if action == "answer" and "value" not in given:
        raise InvalidInput("an answer needs a `value`", code="bulk.bad_options")
    if action == "fork" and not options.at:
        raise InvalidInput("a fork needs `at`: the step that is the first to run", code="bulk.bad_options")
    return options


def _wrong(what: str, code: str, error: ValidationError) -> InvalidInput:
    told = []
    for item in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in item["loc"])
        said = str(item["msg"]).removeprefix("Value error, ")
        told.append(f"{where}: {said}" if where else said)
    return InvalidInput(f"the {what} is not right: {'; '.join(told)}", code=code, details={"problems": told})


def only_ids(given: BulkFilter) -> bool:
    """Whether executions are named and nothing else is asked of them."""
    return set(given.model_dump(exclude_defaults=True)) == {"ids"}


def _us(moment: dt.datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1e6)


def store_filter(given: BulkFilter, *, task_id: str | None, until_us: int | None = None) -> ExecutionFilter:
    """Return the filter of the store.

    Args:
        given: To which executions.
        task_id: The task that it names.
        until_us: Only those that were created before.
    """
    before = [item for item in (_us(given.created_before), until_us) if item is not None]
    return ExecutionFilter(
        ids=given.ids,
        task_id=task_id,
        task_name=given.task_name,
        agent_id=given.agent_id,
        statuses=given.status,
        labels=given.label,
        metadata=given.metadata,
        created=Span(_us(given.created_after), min(before, default=None)),
        updated=Span(_us(given.updated_after), _us(given.updated_before)),
        closed=Span(_us(given.closed_after), _us(given.closed_before)),
        error_code=given.error_code,
        model=given.model,
        backend=given.backend,
        actor=given.actor,
        stuck=given.stuck,
        parent_id=given.parent_id,
        root_only=given.root_only,
    )


class BulkService:
    """Keeps jobs.

    Args:
        store: Jobs in the store.
        definitions: Use cases on tasks.
        temporal: The connection to Temporal.
        task_queue: Task queue of the executions.
    """

    def __init__(
        self, store: JobStore, definitions: DefinitionService, temporal: TemporalConnection, *, task_queue: str
    ) -> None:
        self.store = store
        self._definitions = definitions
        self._temporal = temporal
        self._queue = doors_queue(task_queue)
        self._lists = ExecutionLists(store.database)
        self._reader = ProjectionReader(store.database)

    async def trial(self, action: str, given: Mapping[str, Any], options: Mapping[str, Any], *, tenant: str) -> Trial:
        """Say to which executions a job would be done.

        Raises:
            InvalidInput: `bulk.bad_filter`, `bulk.bad_options`.
            NotFound: The task's.
        """
        read_options(action, options)
        wanted = read_filter(given)
        if only_ids(wanted):
            known = await self.store.known(wanted.ids, tenant=tenant)
            facts = await self._facts(known, tenant)
            by_status: dict[str, int] = {}
            for item in facts:
                by_status[item.status.value] = by_status.get(item.status.value, 0) + 1
            return Trial(len(known), by_status, facts[:SAMPLE])
        condition = store_filter(wanted, task_id=await self._task_id(wanted, tenant))
        counts = await self._lists.count(condition, tenant=tenant)
        page = await self._lists.page(condition, tenant=tenant, limit=SAMPLE)
        return Trial(counts.total, counts.by_status, page.items)

    async def _facts(self, ids: Sequence[str], tenant: str) -> list[ExecutionFacts]:
        found = [await self._reader.find_execution(item, tenant=tenant) for item in ids]
        return [item for item in found if item is not None]

    async def _task_id(self, wanted: BulkFilter, tenant: str) -> str | None:
        if wanted.task is None:
            return None
        return (await self._definitions.versions.resolve(wanted.task, tenant=tenant)).id

    async def create(
        self,
        action: str,
        given: Mapping[str, Any],
        options: Mapping[str, Any],
        *,
        tenant: str,
        rate: int = USUAL_RATE,
        actor: str = "",
        request_key: str = "",
    ) -> JobFacts:
        """Begin a job; its set is that of the executions there are now.

        Args:
            action: What is done to each.
            given: To which executions (`BulkFilter`).
            options: How (`BulkOptions`).
            tenant: Whose.
            rate: How many a second at most.
            actor: Who wants it.
            request_key: The same key gives the same job.

        Raises:
            InvalidInput: `bulk.bad_filter`, `bulk.bad_options`.
            NotFound: The task's.
            Conflict: `idempotency.key_reused`.
        """
        checked = read_options(action, options)
        wanted = read_filter(given)
        task_id = await self._task_id(wanted, tenant)
        kept = wanted.model_dump(mode="json", exclude_defaults=True)
        now = now_us()
        job = JobFacts(
            tenant=tenant,
            id=id_for(tenant, "bulk", request_key),
            action=action,
            filter=kept | ({"task": task_id} if task_id is not None else {}),
            options=checked.model_dump(mode="json", exclude_unset=True),
            rate=rate,
            created_us=now,
            updated_us=now,
            actor=actor,
        )
        stored = await self.store.add(job)
        options = job.options if stored.closed_us is None else without_value(job.options)
        if (stored.action, stored.filter, stored.options) != (job.action, job.filter, options):
            raise key_reused(request_key, f"the job {stored.id}")
        # a worker begins it when Temporal can be reached
        with contextlib.suppress(Unavailable):
            await self.launch(stored)
        return stored

    async def launch(self, job: JobFacts) -> None:
        """Start the workflow of a job, unless it runs.

        Raises:
            Unavailable: `unreachable`.
        """
        client = await self._temporal.client()
        try:
            with self._temporal.errors():
                await client.start_workflow(
                    BULK_WORKFLOW,
                    BulkParams(tenant=job.tenant, job_id=job.id),
                    id=_workflow_id(job),
                    task_queue=self._queue,
                    id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                    rpc_timeout=RPC_TIMEOUT,
                )
        except WorkflowAlreadyStartedError:
            return

    async def launch_late(self) -> None:
        """Begin jobs whose beginning broke off.

        Raises:
            Unavailable: `unreachable`.
        """
        for job in await self.store.unstarted(before_us=now_us() - UNSTARTED_US, limit=PAGE):
            await self.launch(job)

    async def change(self, job_id: str, to: Literal["pause", "continue", "abort"], *, tenant: str) -> JobFacts:
        """Pause, continue or abort a job; what was done stays done.

        Raises:
            NotFound: `bulk.not_found`.
            Conflict: `bulk.closed` if it has ended, `bulk.not_paused` or `bulk.collecting` if it cannot be done now.
            Unavailable: `unreachable`.
        """
        job = await self.store.get(job_id, tenant=tenant)
        target, of = {
            "pause": (PAUSED, (RUNNING,)),
            "continue": (RUNNING, (PAUSED,)),
            "abort": (ABORTED, OPEN_STATES),
        }[to]
        moved = await self.store.move(job_id, tenant=tenant, to=target, of=of, now_us=now_us())
        if not moved and job.state != target:
            raise _cannot(job)
        await self._wake(job)
        return await self.store.get(job_id, tenant=tenant)

    async def _wake(self, job: JobFacts) -> None:
        client = await self._temporal.client()
        try:
            with self._temporal.errors():
                await client.get_workflow_handle(_workflow_id(job)).signal(SIGNAL_BULK, rpc_timeout=RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            # it has ended, or was never begun


def _workflow_id(job: JobFacts) -> str:
    return f"bulk-{job.tenant}-{job.id}"


def _cannot(job: JobFacts) -> Conflict:
    if job.state not in OPEN_STATES:
        return Conflict(f"the job {job.id} has ended: it is {job.state}", code="bulk.closed")
    if job.state == COLLECTING:
        return Conflict(
            f"the job {job.id} still collects its executions", code="bulk.collecting", hint="try again in a moment"
        )
    return Conflict(f"the job {job.id} is {job.state}", code="bulk.not_paused")


# --- views -----------------------------------------------------------------------------------------------------------


def job_view(job: JobFacts) -> dict[str, Any]:
    """Return a job as JSON; what executions are answered is not told, since it outlives none of them."""
    return {
        "id": job.id,
        "action": job.action,
        "filter": job.filter,
        "options": without_value(job.options),
        "rate": job.rate,
        "state": job.state,
        "total": job.total,
        "done": job.done,
        "refused": job.refused,
        "failed": job.failed,
        "left": job.total - job.done - job.refused - job.failed,
        "created_at": iso_time(job.created_us),
        "updated_at": iso_time(job.updated_us),
        "closed_at": None if job.closed_us is None else iso_time(job.closed_us),
        "actor": job.actor,
    }


def item_view(item: ItemFacts) -> dict[str, Any]:
    """Return what came of one execution of a job as JSON."""
    return {
        "execution_id": item.execution_id,
        "outcome": item.outcome or None,
        "code": item.code or None,
        "message": item.message or None,
        "new_execution_id": item.new_id or None,
        "at": None if item.at_us is None else iso_time(item.at_us),
    }


def trial_view(action: str, trial: Trial) -> dict[str, Any]:
    """Return to which executions a job would be done as JSON."""
    return {
        "dry_run": True,
        "action": action,
        "total": trial.total,
        "by_status": trial.by_status,
        "sample": [
            {
                "id": facts.id,
                "task_name": facts.task_name,
                "status": facts.status.value,
                "created_at": iso_time(facts.created_us),
            }
            for facts in trial.sample
        ],
    }
