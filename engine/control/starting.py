"""The use case "start an execution": check the input, snapshot the plan, start the workflow once, make it readable."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from temporalio.exceptions import WorkflowAlreadyStartedError

from engine.control.admission import AdmissionService, StartOptions, fingerprint_of
from engine.control.adopting import adopt_from_temporal
from engine.control.connect import TemporalConnection
from engine.control.definitions import DefinitionService, now_us
from engine.control.launching import Launch, launch
from engine.core.contracts.execution import ExecutionParams, Fork
from engine.core.errors import Conflict, ExpressionError, InvalidInput, NotFound
from engine.core.plan.codec import plan_from_json
from engine.core.run.answers import fitting_problems
from engine.core.run.projection import ExecutionFacts
from engine.core.run.require import unmet_requirements
from engine.core.values import Json, to_json_value
from engine.obs.telemetry import trace_for
from engine.store.admission import Known
from engine.store.definitions import TaskFacts
from engine.store.entering import Entry
from engine.store.projection import ProjectionStore
from engine.store.purging import PurgeStore
from engine.store.turns import Limits

_KEY_SPACE = uuid.UUID("6f1c2a52-6f0e-4d7e-9a53-0c5f5e1e9b41")
"""Name space of execution ids that are made of an idempotency key."""


@dataclass(frozen=True, slots=True)
class Started:
    """An execution after a request to start it.

    Attributes:
        facts: What the store holds.
        created: False if it is not one of its own: an earlier request has made it.
        entry: What became of a start that is not made at once; None if it was, or if the same key had started it.
    """

    facts: ExecutionFacts
    created: bool
    entry: Entry | None = None


def key_to_execution_id(tenant: str, task_id: str, key: str) -> str:
    """Return the execution id that an idempotency key stands for."""
    return str(uuid.uuid5(_KEY_SPACE, f"{tenant}\n{task_id}\n{key}"))


class StartService:
    """Starts executions.

    Args:
        store: The projection.
        definitions: Use cases on tasks.
        temporal: The connection to Temporal.
        task_queue: Task queue of the workers.
        limits: How many executions may run.
        on_entered: Called when a start waits to be let in.
    """

    def __init__(
        self,
        store: ProjectionStore,
        definitions: DefinitionService,
        temporal: TemporalConnection,
        *,
        task_queue: str,
        limits: Limits | None = None,
        on_entered: Callable[[], None] | None = None,
    ) -> None:
        self._store = store
        self._definitions = definitions
        self._temporal = temporal
        self._task_queue = task_queue
        self.admission = AdmissionService(store, limits=limits or Limits(), on_entered=on_entered)

    async def start(
        self,
        task: TaskFacts,
        given: Json,
        *,
        execution_id: str | None = None,
        idempotency_key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        labels: Sequence[str] = (),
        actor: str = "",
        pinned: bool = False,
        options: StartOptions | None = None,
        fork: Fork | None = None,
        plan: dict[str, Any] | None = None,
        before: Callable[[str], Awaitable[None]] | None = None,
    ) -> Started:
        """Check an input and start an execution of a task, now or when it is let in.

        Args:
            task: The task.
            given: The input.
            execution_id: Id of the execution, a UUID; None = a new one, or the one that the key stands for.
            idempotency_key: The same key, task and input give the same execution.
            metadata: The caller's metadata.
            labels: Words by which to find it, here and in Temporal, beside those of the task.
            actor: Who asks for it; empty = nobody was asked for a name.
            pinned: Whether the caller named the task's version; if not, a key also gives the execution of another one.
            options: When it begins, until when it must have ended, and where it pauses.
            fork: Whose recorded steps it begins with.
            plan: The plan as JSON; None = that of the task.
            before: Called with the execution's id once all is checked, before anything of it can happen.

        Raises:
            InvalidInput: `input.not_json` if input or metadata cannot be kept, `input.invalid` if the input does not
                fit the schema, `input.requirement` if a condition of the task does not hold, `execution.bad_id` if the
                id is no UUID, `start.key_failed` if a key of the task's admission cannot be made of the input, or
                what `StartOptions.checked` says.
            Conflict: `execution.exists`, `execution.purged`, or `idempotency.key_reused` if the key came with another
                input, other labels or metadata, or for another version of the task.
            CompileError: `task.not_runnable` if this engine can only make the plan of something in the task.
            Unavailable: `unreachable`; not of a start that waits to be let in.
        """
        given = kept_value(given, "the input")
        given_metadata: dict[str, Any] = kept_value(dict(metadata or {}), "the metadata")
        asked = _Asked(task, given, given_metadata, tuple(labels), idempotency_key or "", pinned=pinned)
        rules = self.admission.rules_of(task, fork)
        check_input(task, given, gathered=fork is not None and self.admission.gathers(task))
        at_us = now_us()
        wanted_options = (options or StartOptions()).checked(at_us)
        wanted = _checked_id(execution_id)
        if wanted is None and idempotency_key:
            wanted = key_to_execution_id(task.tenant, task.id, idempotency_key)
            known = await self.admission.store.find_known(wanted, tenant=task.tenant)
            if known is not None:
                await self._check_same(known, asked)
                return Started(known.facts, created=False)
        elif wanted is not None and await self._store.tenant_of(wanted) is not None:
            # also one that Temporal has forgotten: an id stands for one execution for ever, whoever's it is
            raise _taken(wanted)
        if wanted is not None and await PurgeStore(self._store.database).was_purged(wanted):
            raise Conflict(
                f"the execution {wanted} was purged, and its id and its key are not used again",
                code="execution.purged",
                hint="use a new id, or a new key",
            )
        final_id = wanted or str(uuid.uuid4())
        if plan is None:
            plan = await self._definitions.plan_for_start(task)
        if fork is None:
            check_requirements(plan, given, task.name)
        wanted_options.check_breaks(plan)
        what = Launch(
            params=ExecutionParams(
                execution_id=final_id,
                tenant=task.tenant,
                plan=plan,
                input=given,
                task_id=task.id,
                task_version=task.version,
                metadata=given_metadata,
                labels=list(dict.fromkeys([*labels_of(task), *labels])),
                actor=actor,
                created_us=at_us,
                trace=trace_for(final_id),
                fork=fork,
                breaks=list(wanted_options.breaks),
                deadline_us=wanted_options.deadline_from(at_us),
            ),
            task_name=task.name,
            agent_id=task.agent_id,
            summary=task.description or task.name,
            priority=wanted_options.priority or priority_of(task),
        )
        if before is not None:
            await before(final_id)
        if self.admission.must_wait(rules, wanted_options, at_us):
            return await self._enter(what, asked, wanted_options, named=execution_id is not None)
        return await self._start_now(what, asked, named=execution_id is not None)

    async def _enter(self, what: Launch, asked: _Asked, options: StartOptions, *, named: bool) -> Started:
        """Let a start wait until it is let in."""
        task = asked.task
        entry, led_to = await self.admission.enter(
            what, task, options, fingerprint=asked.fingerprint, keyed=asked.keyed
        )
        if entry is Entry.KNOWN:
            # a request with the same id was a moment faster
            known = (
                None if named or not asked.key else await self.admission.store.find_known(led_to, tenant=task.tenant)
            )
            if known is None:
                raise _taken(what.params.execution_id)
            await self._check_same(known, asked)
            return Started(known.facts, created=False)
        facts = await self._store.get_execution(led_to, tenant=task.tenant)
        return Started(facts, created=entry is Entry.QUEUED, entry=entry)

    async def _start_now(self, what: Launch, asked: _Asked, *, named: bool) -> Started:
        final_id, tenant = what.params.execution_id, asked.task.tenant
        client = await self._temporal.client()
        try:
            with self._temporal.errors():
                await launch(client, what, task_queue=self._task_queue)
        except WorkflowAlreadyStartedError as error:
            # an earlier request got as far as Temporal but not as far as the store; or it is none of this engine
            with contextlib.suppress(NotFound), self._temporal.errors():
                await adopt_from_temporal(client, self._store, final_id)
            if not asked.key or named:
                raise _taken(final_id) from error
            known = await self._store.get_execution(final_id, tenant=tenant)
            await self._check_same(Known(known, ""), asked)
            return Started(known, created=False)
        await self._store.ensure_executions([(final_id, tenant, what.named)])
        return Started(await self._store.get_execution(final_id, tenant=tenant), created=True)

    async def _check_same(self, found: Known, asked: _Asked) -> None:
        """Refuse a request whose key has started an execution by another request.

        Raises:
            Conflict: `idempotency.key_reused`.
        """
        task, known = asked.task, found.facts
        own = set(labels_of(task)) if known.task_version == task.version else await self._labels_then(known)
        differs = {"another version of the task": asked.pinned and known.task_version != task.version}
        if found.fingerprint:
            # what the execution was given may be what others asked for
            differs["another input, other metadata or labels"] = found.fingerprint != asked.fingerprint
        else:
            differs["another input"] = known.input != asked.input
            differs["other metadata"] = known.metadata != asked.metadata
            differs["other labels"] = set(known.labels) - own != set(asked.labels) - own
        other = [what for what, is_so in differs.items() if is_so]
        if other:
            raise Conflict(
                f"the idempotency key {asked.key!r} was used with {' and '.join(other)} before (execution {known.id})",
                code="idempotency.key_reused",
                hint="use a new key for a new execution",
            )

    async def _labels_then(self, known: ExecutionFacts) -> set[str]:
        """Return the labels that the task itself gave to an execution of an earlier version."""
        reference = f"{known.task_id}@{known.task_version}"
        try:
            return set(labels_of(await self._definitions.versions.resolve(reference, tenant=known.tenant)))
        except NotFound:
            return set()


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a caller asked for, by which the same request is known when it comes again."""

    task: TaskFacts
    input: Json
    metadata: dict[str, Any]
    labels: tuple[str, ...]
    key: str
    pinned: bool

    @property
    def keyed(self) -> bool:
        return bool(self.key)

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.input, self.metadata, self.labels)


def kept_value(value: Any, where: str) -> Json:
    """Return a value as histories and stores can keep it.

    Raises:
        InvalidInput: `input.not_json` if it has a number out of range, too many levels or broken characters.
    """
    try:
        return to_json_value(value, where=where)
    except ExpressionError as error:
        raise InvalidInput(error.message, code="input.not_json") from error


def check_input(task: TaskFacts, given: Json, *, gathered: bool = False) -> None:
    """Compare an input with a task's schema.

    Args:
        task: The task.
        given: The input.
        gathered: Whether it is a list of inputs, each of which has to fit.

    Raises:
        InvalidInput: `input.invalid`.
    """
    inputs = given if gathered and isinstance(given, list) else [given]
    problems = [text for item in inputs for text in fitting_problems(item, task.input_schema, whole="input")]
    if problems:
        raise InvalidInput(
            f"the input does not fit the task {task.name!r}: {'; '.join(problems)}",
            code="input.invalid",
            details={"problems": problems},
        )


def labels_of(task: TaskFacts) -> list[str]:
    """Return the labels that `dispatch` of a task gives to all its executions."""
    dispatch = task.spec.get("dispatch")
    labels = dispatch.get("labels") if isinstance(dispatch, dict) else None
    return list(labels) if isinstance(labels, list) else []


def priority_of(task: TaskFacts) -> int | None:
    """Return the priority that `dispatch` of a task gives to all its executions; None = it says nothing."""
    dispatch = task.spec.get("dispatch")
    priority = dispatch.get("priority") if isinstance(dispatch, dict) else None
    return priority if isinstance(priority, int) else None


def check_requirements(plan: dict[str, Any], given: Json, name: str) -> None:
    """Evaluate what a task requires of its input beyond the schema.

    Args:
        plan: The plan as JSON.
        given: The input.
        name: Name of the task.

    Raises:
        InvalidInput: `input.requirement`.
    """
    if not plan.get("require"):
        return
    unmet = unmet_requirements(plan_from_json(plan), given, now_us=now_us())
    if unmet:
        raise InvalidInput(
            f"the task {name!r} does not take this input: {'; '.join(unmet)}",
            code="input.requirement",
            details={"problems": unmet},
        )


def _checked_id(execution_id: str | None) -> str | None:
    if execution_id is None:
        return None
    try:
        return str(uuid.UUID(execution_id))
    except ValueError as error:
        raise InvalidInput(
            f"{execution_id!r} is no id of an execution", code="execution.bad_id", hint="ids are UUIDs"
        ) from error


def _taken(execution_id: str) -> Conflict:
    return Conflict(
        f"there is already an execution {execution_id}",
        code="execution.exists",
        hint="leave the id out to get a new one",
    )
