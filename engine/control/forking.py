"""The use cases "retry" and "fork": what of an execution is taken over, and the start of the one that goes on."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from temporalio.service import RPCError

from engine.control.admission import StartOptions
from engine.control.adopting import adopt_from_temporal, read_params
from engine.control.connect import TemporalConnection
from engine.control.definitions import DefinitionService
from engine.control.executions import ExecutionService
from engine.control.forkpoints import Survey, choose_point, plain_point
from engine.control.recorded import Recorder, before, turns_before
from engine.control.starting import Started, StartService, check_requirements, kept_value
from engine.control.steppaths import order_of, position, steps_to
from engine.core.contracts.execution import ExecutionParams, Fork, Recorded
from engine.core.errors import Conflict, InvalidInput, NotFound
from engine.core.kinds import ExecutionStatus, StepKind
from engine.core.plan.codec import plan_from_json, plan_to_json
from engine.core.plan.grant import narrow
from engine.core.plan.ir import Plan
from engine.core.plan.paths import Places
from engine.core.run.events import EventRecord
from engine.core.run.projection import ExecutionFacts
from engine.core.values import Json
from engine.store.definitions import TaskFacts
from engine.store.event_pages import EventPages

OWN, NEWEST = "own", "newest"
PAGE = 200
"""Events that are read at one time: between two pages everybody else has a turn."""
MOST_LISTED = 10

_SPACE = uuid.UUID("5f0b7a54-3a86-4f55-8f3e-6f4b0c2f9d17")
"""Name space of the ids of forks that are made of an idempotency key."""
_ROUND = re.compile(r"\.(do|map)\[\d+\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForkWish:
    """What somebody wants of a fork.

    Attributes:
        kind: `retry` or `fork`.
        at: Path or label of the step that is the first to run; empty = the step that failed.
        has_input: Whether `input` is another one than that of the execution.
        input: That input.
        patch: Other outputs of recorded steps, by path or label.
        state: Written into the state just before the first step runs.
        definition: `own`, `newest`, or a task with `@VERSION` or `@ALIAS`.
        breaks: Paths and labels of steps before which the new execution pauses.
        labels: Words by which to find it; None = those of the execution.
        metadata: The caller's metadata; None = those of the execution.
    """

    kind: Literal["retry", "fork"]
    at: str = ""
    has_input: bool = False
    input: Json = None
    patch: Mapping[str, Json] = field(default_factory=dict)
    state: Mapping[str, Json] = field(default_factory=dict)
    definition: str = OWN
    breaks: Sequence[str] = ()
    labels: Sequence[str] | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Origin:
    """An execution that is forked.

    Attributes:
        facts: What the store knows of it.
        params: What its workflow began with; None = Temporal has forgotten it.
        task: The task in its version.
        plan: Its plan.
    """

    facts: ExecutionFacts
    params: ExecutionParams | None
    task: TaskFacts
    plan: Plan


class ForkService:
    """Makes executions that go on from a step of another one.

    Args:
        executions: Reads executions.
        definitions: Use cases on tasks.
        starter: Starts executions.
        temporal: The connection to Temporal.
    """

    def __init__(
        self,
        executions: ExecutionService,
        definitions: DefinitionService,
        starter: StartService,
        temporal: TemporalConnection,
    ) -> None:
        self._executions = executions
        self._store = executions.store
        self._definitions = definitions
        self._starter = starter
        self._temporal = temporal
        self._pages = EventPages(executions.store.database)

    async def fork(
        self, execution_id: str, wish: ForkWish, *, tenant: str, key: str | None = None, actor: str = ""
    ) -> Started:
        """Start an execution that takes over what steps of another one gave, and runs on from a step.

        Args:
            execution_id: The other execution; a fork may be made of one that still runs.
            wish: From where, and what is to be different.
            tenant: Its tenant.
            key: The same key gives the same new execution.
            actor: Who asks for it.

        Raises:
            NotFound: `execution.not_found`, `task.not_found`, `task.version_not_found`, `alias.not_found`.
            InvalidInput: `fork.bad_point`, `fork.not_recorded`, `fork.prefix_differs`, `fork.bad_patch`,
                `break.unknown_step`, or what is wrong with the input.
            Conflict: `fork.not_ended`, `fork.no_failed_step`, `fork.history_unverified`, `fork.keys_unknown`,
                `idempotency.key_reused`.
            Unavailable: `unreachable`.
        """
        new_id = str(uuid.uuid5(_SPACE, f"{tenant}\n{execution_id}\n{wish.kind}\n{key}") if key else uuid.uuid4())
        known = await self._store.find_execution(new_id, tenant=tenant) if key else None
        if known is not None:
            return Started(known, created=False)
        facts = (await self._executions.read(execution_id, tenant=tenant)).facts
        check_origin(facts, wish)
        origin = await self._origin_of(facts)
        task, plan = await self._definition(origin, wish)
        fork = await self._fork_of(origin, plan, wish)
        if wish.has_input:
            check_requirements(plan_to_json(plan), wish.input, task.name)
        try:
            return await self._starter.start(
                task,
                wish.input if wish.has_input else facts.input,
                execution_id=new_id,
                metadata=facts.metadata if wish.metadata is None else wish.metadata,
                labels=facts.labels if wish.labels is None else wish.labels,
                actor=actor,
                options=StartOptions(breaks=tuple(wish.breaks)),
                fork=fork,
                plan=plan_to_json(plan),
            )
        except Conflict as error:
            if not key or error.code != "execution.exists":
                raise
            # an earlier request with this key got as far as Temporal but not as far as the store
            client = await self._temporal.client()
            with self._temporal.errors():
                await adopt_from_temporal(client, self._store, new_id)
            return Started(await self._store.get_execution(new_id, tenant=tenant), created=False)

    # --- the other execution and its definition --------------------------------------------------------------------

    async def _origin_of(self, facts: ExecutionFacts) -> _Origin:
        """Read what an execution began with, from Temporal or, where that has forgotten it, from its task's version."""
        definitions = self._definitions.definitions
        task = await definitions.get_task(facts.task_id, tenant=facts.tenant, version=facts.task_version, removed=True)
        params = await self._params_of(facts)
        if params is not None and params.plan:
            return _Origin(facts, params, task, plan_from_json(params.plan))
        plan = plan_from_json(await self._definitions.plan_for_start(task))
        if params is not None and params.origin is not None:
            plan = replace(plan, allow=narrow(plan.allow, params.origin.grant))
        return _Origin(facts, params, task, plan)

    async def _params_of(self, facts: ExecutionFacts) -> ExecutionParams | None:
        client = await self._temporal.client()
        try:
            with self._temporal.errors():
                params = await read_params(client, facts.id)
        except (NotFound, RPCError):
            return None
        return params if params.tenant == facts.tenant else None

    async def _definition(self, origin: _Origin, wish: ForkWish) -> tuple[TaskFacts, Plan]:
        if wish.definition == OWN:
            return origin.task, origin.plan
        tenant = origin.facts.tenant
        reference = origin.facts.task_id if wish.definition == NEWEST else wish.definition
        task = await self._definitions.versions.resolve(reference, tenant=tenant)
        return task, plan_from_json(await self._definitions.plan_for_start(task))

    # --- what is taken over ----------------------------------------------------------------------------------------

    async def _fork_of(self, origin: _Origin, plan: Plan, wish: ForkWish) -> Fork:
        facts = origin.facts
        survey = Survey(wish.at)
        async for record in self._events(facts):
            survey.apply(record)
        point = begin_at(facts, survey, wish, origin.plan)
        recorder = Recorder(point, frozenset(survey.undone))
        async for record in self._events(facts):
            recorder.apply(record)
        keys = ""
        if wish.kind == "retry" and not await self._children_took_back(facts, survey, point):
            keys = _keys_of(origin, survey)
        return build_fork(facts, recorder, wish, point=point, old=origin.plan, new=plan, keys=keys)

    async def _children_took_back(self, facts: ExecutionFacts, survey: Survey, point: str) -> bool:
        """Whether an execution that a step started, which is to be started again, took back what it had done.

        One that was cancelled cleaned up after itself; see `engine.core.run.children`.
        """
        for path, child_id in survey.children.items():
            child = await self._store.find_execution(child_id, tenant=facts.tenant)
            if child is None or position(path, point) == "before" or child.status is ExecutionStatus.SUCCEEDED:
                continue
            if child.status is ExecutionStatus.CANCELLED:
                return True
            tracker = Survey()
            async for record in self._events(child):
                tracker.apply(record)
            if tracker.took_back or await self._children_took_back(child, tracker, ""):
                return True
        return False

    async def _events(self, facts: ExecutionFacts) -> AsyncIterator[EventRecord]:
        """Yield the events that were stored when the execution was read, page by page."""
        after = None
        while True:
            page = await self._pages.page(facts.id, tenant=facts.tenant, limit=PAGE, after=after)
            for record in page.items:
                if record.seq > facts.last_seq:
                    return
                yield record
            after = page.after
            if after is None:
                return
            await asyncio.sleep(0)


# --- building ---------------------------------------------------------------------------------------------------------


def begin_at(facts: ExecutionFacts, survey: Survey, wish: ForkWish, plan: Plan) -> str:
    """Return the plain path of the step that a fork begins with.

    Args:
        facts: The execution that is forked.
        survey: Has seen its events.
        wish: From where.
        plan: Its plan.

    Raises:
        InvalidInput: `fork.bad_point`.
        Conflict: `fork.no_failed_step`, `fork.history_unverified`.
    """
    _check_whole(facts, survey)
    point = choose_point(facts, survey, wish.at, plan)
    _check_undone(point, survey.undone, facts)
    return point


def build_fork(
    facts: ExecutionFacts, recorder: Recorder, wish: ForkWish, *, point: str, old: Plan, new: Plan, keys: str
) -> Fork:
    """Return what an execution begins with that is forked from another one.

    Args:
        facts: The other execution.
        recorder: Has seen its events.
        wish: What is to be different.
        point: Plain path of the step that it begins with.
        old: The plan of the other execution.
        new: The plan that it runs; the same object if that is the same.
        keys: What the idempotency keys of its calls are made of; empty = its own id.

    Raises:
        InvalidInput: `fork.bad_point`, `fork.not_recorded`, `fork.prefix_differs`, `fork.bad_patch`, `input.not_json`.
    """
    recorded = before(recorder, point, frozenset(recorder.undone))
    _check_reached(recorder, recorded, point, facts)
    _check_prefix(old, new, recorded, point)
    return Fork(
        kind=wish.kind,
        execution_id=facts.id,
        path=point,
        seed=str(recorder.forked.get("seed") or facts.id),
        keys=keys,
        began_us=recorder.first_us or facts.created_us,
        recorded=_patched(recorded, wish.patch, old, facts),
        turns=turns_before(recorder, point),
        state={name: kept_value(value, f"the state {name!r}") for name, value in wish.state.items()},
    )


# --- checks ----------------------------------------------------------------------------------------------------------


def check_origin(facts: ExecutionFacts, wish: ForkWish) -> None:
    """Refuse an execution of which nothing can be made.

    Raises:
        Conflict: `fork.not_ended`, `fork.history_unverified`.
    """
    if wish.kind == "retry" and (not facts.settled or facts.status is ExecutionStatus.SUCCEEDED):
        ended = "succeeded" if facts.settled else "goes on"
        raise Conflict(
            f"execution {facts.id} {ended}: only one that failed or was cancelled is retried",
            code="fork.not_ended",
            hint=f"to run it on from a step: everstep fork {facts.id} --from PATH",
        )
    if facts.verified is False:
        raise _unverified(facts, "its stored events are not those of its workflow")


def _check_whole(facts: ExecutionFacts, survey: Survey) -> None:
    """Refuse to build on events of which some are missing.

    Raises:
        Conflict: `fork.history_unverified`.
    """
    if survey.missing:
        raise _unverified(facts, f"its event {survey.missing} is not stored")
    if survey.last_seq < facts.last_seq:
        raise _unverified(facts, f"its event {survey.last_seq + 1} is not stored")


def _unverified(facts: ExecutionFacts, why: str) -> Conflict:
    return Conflict(
        f"what execution {facts.id} did is not known well enough to take it over: {why}",
        code="fork.history_unverified",
        hint="let the repair process run (or `everstep reindex`), then try again",
        retryable=True,
    )


def _check_undone(point: str, never: Iterable[str], facts: ExecutionFacts) -> None:
    """Refuse to begin behind a step that was undone: it would be missing."""
    for path in sorted(never, key=order_of):
        if position(path, point) == "before":
            raise InvalidInput(
                f"{path} of execution {facts.id} was undone, so nothing can begin behind it, at {point}",
                code="fork.bad_point",
                hint=f"begin with {path}",
            )


def _check_reached(recorder: Recorder, recorded: Mapping[str, Recorded], point: str, facts: ExecutionFacts) -> None:
    """Refuse a step that the execution did not come to; the one behind its last step may be new in the definition."""
    block, _, number = point.rpartition(".")
    before_it = f"{block}.{int(number) - 1}"
    if recorder.point_seq or before_it in recorded or not facts.last_seq:
        return
    raise InvalidInput(
        f"execution {facts.id} did not come to {point}",
        code="fork.bad_point",
        hint=f"see where it was: everstep steps {facts.id}",
    )


def _check_prefix(old: Plan, new: Plan, recorded: Mapping[str, Recorded], point: str) -> None:
    """Compare the recorded steps in two plans.

    Raises:
        InvalidInput: `fork.prefix_differs` with the first one that is another, `fork.bad_point` if there is no such
            step to begin with.
    """
    if new is old:
        return
    mine, theirs = Places(old), Places(new)
    seen: set[str] = set()
    for path in sorted([*recorded, *steps_to(point)[:-1]], key=order_of):
        # rounds of a loop and items of a map are the same steps
        kind = _ROUND.sub(r".\1[0]", path)
        if kind in seen:
            continue
        seen.add(kind)
        if path in recorded:
            same = mine.fingerprint(kind) == theirs.fingerprint(kind) is not None
        else:
            # one that is entered anew may be another inside, but must lead to the same places
            one, other = mine.op_at(kind), theirs.op_at(kind)
            same = one is not None and other is not None and one.op is other.op
        if not same:
            raise InvalidInput(
                f"{path} is another step in the other definition, so what it gave cannot be taken over",
                code="fork.prefix_differs",
                hint=f"begin with {path} or before it, or use the execution's own definition",
                details={"path": path},
            )
    if theirs.op_at(point) is None:
        raise InvalidInput(
            f"the other definition has no step {point}", code="fork.bad_point", hint="begin with one that it has"
        )


# --- parts -----------------------------------------------------------------------------------------------------------


def _patched(
    recorded: dict[str, Recorded], patch: Mapping[str, Json], plan: Plan, facts: ExecutionFacts
) -> dict[str, Recorded]:
    """Return recorded steps with other outputs.

    Raises:
        InvalidInput: `fork.not_recorded` for a step that is not taken over, `input.not_json`, `fork.bad_patch`.
    """
    places = Places(plan)
    found = dict(recorded)
    for name, value in patch.items():
        path = plain_point(name, plan, recorded)
        if path not in found:
            raise InvalidInput(
                f"{name!r} is none of the steps of execution {facts.id} whose outputs are taken over",
                code="fork.not_recorded",
                hint=_near(path, found),
            )
        output = kept_value(value, f"the output of {name}")
        op = places.op_at(path)
        if op is not None and op.op is StepKind.SET:
            if not isinstance(output, dict):
                raise InvalidInput(f"{name!r} writes into the state, so its output is an object", code="fork.bad_patch")
            found[path] = replace(found[path], output=output, state=output)
        else:
            found[path] = replace(found[path], output=output)
    return found


def _near(path: str, found: Mapping[str, Recorded]) -> str:
    around = next((outer for outer in steps_to(path) if outer in found), "")
    if around:
        return f"it is taken over as a part of {around}: patch that"
    listed = ", ".join(list(found)[:MOST_LISTED])
    return f"these are: {listed}" if listed else "none are: it begins at its beginning"


def _keys_of(origin: _Origin, survey: Survey) -> str:
    """Return what a retry makes the keys of its calls of; empty = they are new ones, since some were taken back.

    Raises:
        Conflict: `fork.keys_unknown`.
    """
    if survey.took_back:
        return ""
    params, facts = origin.params, origin.facts
    told = survey.forked.get("keys") or survey.parent.get("keys")
    if told:
        return str(told)
    if params is not None and params.origin is not None:
        return params.origin.keys
    if not facts.parent_id:
        return facts.id
    raise Conflict(
        f"Temporal has forgotten execution {facts.id}, and with it under which keys its calls were made",
        code="fork.keys_unknown",
        hint=f"calls that were made may be made again under new keys with: everstep fork {facts.id}",
    )
