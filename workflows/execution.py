"""The one workflow of the engine: interprets the plan in its input, takes signals, continues as new. Workflow-safe."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, NoReturn

from engine.core.contracts.activities import HEARTBEAT_TIMEOUT_S
from engine.core.contracts.children import LOOK_UP_TIMEOUT_S, PLAN_ACTIVITY, PlanParams
from engine.core.contracts.execution import (
    SIGNAL_ANSWER,
    SIGNAL_CANCEL_REASON,
    SIGNAL_CONTROL,
    SIGNAL_EVENT,
    SIGNAL_MESSAGE,
    AnswerSignal,
    CancelReasonSignal,
    ControlSignal,
    EventSignal,
    ExecutionParams,
    ExecutionResult,
    MessageSignal,
    Origin,
)
from engine.core.contracts.patches import INTERPRETER
from engine.core.errors import BugError, EngineError
from engine.core.plan.codec import plan_from_json
from engine.core.run.effects import Failed, Ok
from engine.core.run.machine import OUR_MISTAKES, Machine, Pace
from engine.core.run.snapshot import state_from_json, state_to_json
from engine.core.run.walker import Identity, error_json
from temporalio import workflow
from temporalio.common import RawValue
from temporalio.exceptions import ActivityError, ApplicationError

from workflows.driver import REPEAT, CallNews, TemporalEffects
from workflows.patches import check_versions
from workflows.renewal import Renewal

BREATHER_S = 0.001
EARLY_ANSWER_S = 0.005
"""How long an answer that no wait is open for may be early, before it is refused."""
EARLY_TIMER = "early:"


@workflow.defn(dynamic=True)
class ExecutionWorkflow:
    """One run of an execution."""

    def __init__(self) -> None:
        self._answers: list[AnswerSignal | EventSignal | ControlSignal | MessageSignal] = []
        self._early: list[tuple[AnswerSignal, int]] = []
        self._cancel_reason = CancelReasonSignal()
        self._effects: TemporalEffects | None = None
        self._answered = False
        self._cancelled_early = False

    @workflow.signal(name=SIGNAL_ANSWER)
    def take_answer(self, signal: AnswerSignal) -> None:
        """Take an answer to a wait."""
        self._answers.append(signal)
        self._wake()

    @workflow.signal(name=SIGNAL_EVENT)
    def take_event(self, signal: EventSignal) -> None:
        """Take an event from outside."""
        self._answers.append(signal)
        self._wake()

    @workflow.signal(name=SIGNAL_MESSAGE)
    def take_message(self, signal: MessageSignal) -> None:
        """Take a message to a step that listens."""
        self._answers.append(signal)
        self._wake()

    @workflow.signal(name=SIGNAL_CONTROL)
    def take_control(self, signal: ControlSignal) -> None:
        """Take what an operator wants."""
        self._answers.append(signal)
        self._wake()

    @workflow.signal(name=SIGNAL_CANCEL_REASON)
    def take_cancel_reason(self, signal: CancelReasonSignal) -> None:
        """Learn why the cancel that follows is made."""
        self._cancel_reason = signal

    def _wake(self) -> None:
        if self._effects is not None:
            self._effects.wake()

    @workflow.run
    async def run(self, args: Sequence[RawValue]) -> ExecutionResult:
        """Run until the execution ends or continues as new."""
        try:
            params = workflow.payload_converter().from_payload(args[0].payload, ExecutionParams)
            renewal = Renewal(params.continue_after_events, len(args[0].payload.data))
            return await self._interpret(params, renewal)
        except OUR_MISTAKES as error:
            broken = BugError(f"the interpreter broke: {type(error).__name__}: {error}", code="bug.interpreter")
            raise _failure_of(broken) from error
        except EngineError as error:
            raise _failure_of(error) from error

    async def _interpret(self, params: ExecutionParams, renewal: Renewal) -> ExecutionResult:
        check_versions(params)
        if params.origin is not None and not params.plan:
            params = replace(params, plan=await self._own_plan(params, params.origin))
            check_versions(params)
        effects = self._effects = TemporalEffects(params.execution_id, params.tenant)
        machine = self._build(params, effects)
        if self._cancelled_early:
            self._cancel(machine)
        while True:
            pace = machine.run()
            if pace is Pace.DONE:
                return self._end(machine)
            if pace is Pace.WAITING and not effects.news and not self._answers:
                self._settle_early(machine, effects)
                resting = not self._early and not machine.has_work
                if resting and renewal.is_time(machine, effects, answered=self._answered):
                    self._continue_as_new(machine, params)
                if machine.has_work:
                    continue
            try:
                if pace is Pace.BREATHER:
                    await workflow.sleep(BREATHER_S)
                elif not self._answers:
                    await effects.wait_for_news()
                effects.look()
            except asyncio.CancelledError:
                effects.look()
                if effects.torn_down:
                    raise
                self._cancel(machine)
            self._deliver(machine, effects)

    def _settle_early(self, machine: Machine, effects: TemporalEffects) -> None:
        """Hand over answers that nothing had asked for, once something has or has had the time to."""
        if not self._early:
            return
        now_us = effects.now_us()
        due, self._early = self._early, []
        for signal, refused_us in due:
            if now_us >= refused_us or machine.expects(signal):
                machine.answer(signal)
            else:
                self._early.append((signal, refused_us))

    def _cancel(self, machine: Machine) -> None:
        reason = self._cancel_reason
        machine.cancel(reason.reason or workflow.cancellation_reason() or "", reason.actor)

    async def _own_plan(self, params: ExecutionParams, origin: Origin) -> dict[str, Any]:
        """Ask for the plan of a child; a cancel waits meanwhile, so that each execution says how it began and ended."""
        wanted = PlanParams(
            tenant=params.tenant, task_id=params.task_id, version=params.task_version, grant=origin.grant
        )
        asked: workflow.ActivityHandle[dict[str, Any]] = workflow.start_activity(
            PLAN_ACTIVITY,
            wanted,
            activity_id="plan",
            result_type=dict,
            start_to_close_timeout=timedelta(seconds=LOOK_UP_TIMEOUT_S),
            heartbeat_timeout=timedelta(seconds=HEARTBEAT_TIMEOUT_S),
            retry_policy=REPEAT,
            summary="the task's plan",
        )
        while True:
            try:
                return await asyncio.shield(asked)
            except asyncio.CancelledError:
                if workflow.time_ns() <= 0:
                    raise  # the worker drops this run from its cache
                self._cancelled_early = True
            except ActivityError as error:
                cause = error.cause if isinstance(error.cause, ApplicationError) else None
                body = dict(cause.details[0]) if cause is not None and cause.details else {}
                code, message = str(body.get("code") or "task.failed"), str(body.get("message") or error)
                told = {**body, "code": code, "message": message, "events": 0, "digest": ""}
                raise ApplicationError(message, told, type=code, non_retryable=True) from error

    def _build(self, params: ExecutionParams, effects: TemporalEffects) -> Machine:
        identity = Identity(
            execution_id=params.execution_id,
            tenant=params.tenant,
            task_id=params.task_id,
            task_version=params.task_version,
            metadata=params.metadata,
            origin=params.origin,
            labels=tuple(params.labels),
            actor=params.actor,
            created_us=params.created_us,
            trace=params.trace,
            fork=params.fork,
            deadline_us=params.deadline_us,
        )
        state = state_from_json(params.carried) if params.carried is not None else None
        machine = Machine(plan_from_json(params.plan), effects, identity, state)
        if state is None:
            machine.start(params.input, params.breaks)
        else:
            if state.cancel is not None and self._cancel_reason == CancelReasonSignal():
                self._cancel_reason = CancelReasonSignal(
                    reason=str(state.cancel["reason"]), actor=str(state.cancel["actor"])
                )
            machine.resume()
        return machine

    def _deliver(self, machine: Machine, effects: TemporalEffects) -> None:
        self._answered = bool(self._answers)
        # an answer that came while no worker was there is worth more than the time limit that passed meanwhile
        answers, self._answers = self._answers, []
        for signal in answers:
            if isinstance(signal, EventSignal):
                machine.take_event(signal)
            elif isinstance(signal, ControlSignal):
                machine.control(signal)
            elif isinstance(signal, MessageSignal):
                machine.take_message(signal)
            elif machine.expects(signal):
                machine.answer(signal)
            else:
                # signals run ahead of the rest of their workflow task: what they answer may be about to ask
                self._early.append((signal, effects.now_us() + round(EARLY_ANSWER_S * 1e6)))
                effects.start_timer(EARLY_TIMER, self._early[-1][1], "time to open the wait of an answer")
        while effects.news:
            news = effects.news.popleft()
            if isinstance(news, CallNews):
                machine.call_done(news.call_id, news.outcome)
            else:
                machine.timer_fired(news.timer_id)

    def _continue_as_new(self, machine: Machine, params: ExecutionParams) -> NoReturn:
        if self._cancel_reason != CancelReasonSignal():
            machine.walker.state.cancel = {"reason": self._cancel_reason.reason, "actor": self._cancel_reason.actor}
        carried = state_to_json(machine.carry())
        # the input lives on in the scopes, and what was recorded in the state; copies would only be paid for
        fork = params.fork and replace(params.fork, recorded={}, state={}, turns={})
        left = replace(params, carried=carried, input=None, fork=fork, breaks=[], interpreter=INTERPRETER)
        workflow.continue_as_new(args=[left])

    # --- the end -----------------------------------------------------------------------------------------------

    def _end(self, machine: Machine) -> ExecutionResult:
        finished = machine.result
        if finished is None:
            raise BugError("the interpreter ended without a result")
        state, outcome = machine.walker.state, finished.outcome
        if isinstance(outcome, Ok):
            return ExecutionResult(output=outcome.value, events=state.seq, digest=state.digest, times=state.times)
        if isinstance(outcome, Failed):
            body = {**error_json(outcome.error, ""), "events": state.seq, "digest": state.digest, "times": state.times}
            if machine.walker.identity.origin is not None and (state.undone or state.ending is not None):
                # what was taken back must be made anew, should the parent try again
                body["undone"] = True
            raise ApplicationError(outcome.error.message, body, type=outcome.error.code, non_retryable=True)
        raise asyncio.CancelledError


def _failure_of(error: EngineError) -> ApplicationError:
    """Return what ends an execution that the interpreter could not run; as it is, its code would be lost on the way."""
    return ApplicationError(error.message, error.to_json(), type=error.code, non_retryable=True)
