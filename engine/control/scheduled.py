"""The use case "a schedule fires": check and start its task once for each time, and say how the execution stands."""

from __future__ import annotations

from typing import Any

from engine.control.controlling import ControlService
from engine.control.definitions import DefinitionService, now_us
from engine.control.dispatched import Computing, DispatchCache, computed_input, read_value
from engine.control.executions import ExecutionService
from engine.control.scheduling import ScheduleBody, read_body
from engine.control.starting import StartService, key_to_execution_id
from engine.core.contracts.doors import ScheduledEnd, ScheduledStart
from engine.core.errors import Conflict, EngineError, NotFound, Unavailable
from engine.core.kinds import ExecutionStatus
from engine.core.plan.codec import plan_from_json
from engine.core.values import Json
from engine.store.definitions import TaskFacts
from engine.store.projection import ProjectionStore
from engine.store.schedules import RunFacts, ScheduleFacts, ScheduleStore
from engine.store.webhooks import WebhookStore

STARTED, REFUSED = "started", "refused"
MOST_STOPPED = 200


class ScheduledStarts:
    """Starts what schedules want.

    Args:
        schedules: Schedules in the store.
        watchers: Who is told of ends.
        definitions: Use cases on tasks.
        starter: Starts executions.
        executions: Reads and cancels them.
        control: Terminates them.
        store: The projection.
    """

    def __init__(
        self,
        schedules: ScheduleStore,
        watchers: WebhookStore,
        definitions: DefinitionService,
        starter: StartService,
        executions: ExecutionService,
        control: ControlService,
        store: ProjectionStore,
    ) -> None:
        self._schedules = schedules
        self._watchers = watchers
        self._definitions = definitions
        self._starter = starter
        self._executions = executions
        self._control = control
        self._store = store
        self._dispatched = DispatchCache()

    async def start(self, params: ScheduledStart) -> ScheduledEnd:
        """Start the task of a schedule for one time; done again for the same time, it is the same execution.

        Raises:
            EngineError: The task does not take the input, or there is no such task or schedule any more; the run has
                the reason. A retryable one if nobody can tell at present.
        """
        facts = await self._schedules.find(params.schedule_id, tenant=params.tenant)
        if facts is None:
            raise NotFound(f"there is no schedule {params.schedule_id} any more", code="schedule.not_found")
        run = await self._schedules.begin_run(
            facts.id, RunFacts(nominal_us=params.nominal_us, execution_id="", at_us=now_us()), tenant=params.tenant
        )
        if run.execution_id:
            return await self.ended(params, run.execution_id)
        try:
            execution_id = await self._start(facts, params)
        except EngineError as error:
            if isinstance(error, Unavailable) or error.retryable:
                raise
            await self._schedules.end_run(
                facts.id, params.nominal_us, tenant=params.tenant, outcome=REFUSED, error=error.to_json()
            )
            raise
        await self._schedules.end_run(
            facts.id, params.nominal_us, tenant=params.tenant, outcome=STARTED, execution_id=execution_id
        )
        return await self.ended(params, execution_id)

    async def _start(self, facts: ScheduleFacts, params: ScheduledStart) -> str:
        body = read_body(facts.body)
        if body.overlap == "terminate_other":
            await self._terminate_others(facts, params)
        task = await self._definitions.versions.resolve(facts.task, tenant=facts.tenant)
        given = await self._input(facts, body, task, params.nominal_us)
        key = f"schedule {facts.id} {params.nominal_us}"
        execution_id = key_to_execution_id(task.tenant, task.id, key)
        # before the start: an execution may end before anybody could say that its end is waited for
        await self._watchers.watch_end(execution_id, params.workflow_id, tenant=params.tenant)
        try:
            started = await self._starter.start(
                task,
                given,
                idempotency_key=key,
                metadata=body.metadata,
                labels=body.labels,
                actor=f"schedule {facts.name}"[:255],
            )
        except Conflict as error:
            if error.code != "idempotency.key_reused":
                raise
            return execution_id  # started by a try before this one, and the schedule was changed in between
        if started.facts.id != execution_id:
            # let in together with another start
            await self._watchers.watch_end(started.facts.id, params.workflow_id, tenant=params.tenant)
        return started.facts.id

    async def _input(self, facts: ScheduleFacts, body: ScheduleBody, task: TaskFacts, nominal_us: int) -> Json:
        if facts.origin_id:
            crons = self._dispatched.of(task).crons
            if facts.origin_place >= len(crons):
                raise NotFound(f"the task '{task.name}' has no such cron any more", code="schedule.not_found")
            value = crons[facts.origin_place].input
        else:
            value = read_value(body.input, where="input")
        if value is None:
            return {}
        computing = Computing(plan_from_json(task.plan), f"{facts.id}/{nominal_us}", nominal_us)
        return computed_input(value, computing, None, "input")

    async def _terminate_others(self, facts: ScheduleFacts, params: ScheduledStart) -> None:
        """End the executions that the schedule started before: Temporal has ended what waited for them."""
        for run in await self._schedules.runs(facts.id, tenant=facts.tenant, limit=MOST_STOPPED):
            if not run.execution_id or run.nominal_us == params.nominal_us:
                continue
            known = await self._store.find_execution(run.execution_id, tenant=facts.tenant)
            if known is not None and not known.settled:
                await self._end(run.execution_id, facts, f"the next run of the schedule '{facts.name}' takes its place")

    async def _end(self, execution_id: str, facts: ScheduleFacts, reason: str) -> None:
        try:
            await self._control.terminate(
                execution_id, tenant=facts.tenant, reason=reason, actor=f"schedule {facts.name}"[:255]
            )
        except (Conflict, NotFound):
            return  # it has ended meanwhile

    async def ended(self, params: ScheduledStart, execution_id: str) -> ScheduledEnd:
        """Say how an execution stands."""
        try:
            facts = (await self._executions.read(execution_id, tenant=params.tenant)).facts
        except NotFound:
            return ScheduledEnd(execution_id=execution_id, status="", ended=False)
        error: dict[str, Any] | None = None
        if facts.status is ExecutionStatus.FAILED:
            told = facts.error or {}
            error = {"code": str(told.get("code") or "engine"), "message": str(told.get("message") or "")[:2_000]}
        return ScheduledEnd(execution_id=execution_id, status=facts.status.value, ended=facts.settled, error=error)

    async def stop(self, params: ScheduledStart, execution_id: str) -> None:
        """Cancel an execution, since its schedule's next run takes its place, or somebody cancelled the run."""
        found = await self._schedules.find(params.schedule_id, tenant=params.tenant)
        name = params.schedule_id if found is None else found.name
        try:
            await self._executions.cancel(
                execution_id,
                tenant=params.tenant,
                reason=f"the run of the schedule '{name}' was cancelled",
                actor=f"schedule {name}"[:255],
            )
        except (Conflict, NotFound):
            return  # it has ended meanwhile
