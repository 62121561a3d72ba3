"""What the client in memory does to executions beyond answers and cancels: pause, continue, deadlines, retry, fork."""

from __future__ import annotations

import datetime as dt
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Unpack

from engine.client.rows import LinkMade
from engine.client.steering import Deadline, ForkOptions, check_options
from engine.client.views import Execution
from engine.core.contracts.execution import ControlSignal
from engine.core.errors import Conflict, InvalidInput
from engine.core.values import Json, duration_seconds
from engine.dryrun.effects import START_US
from engine.testing.replies import Replies, Source
from engine.testing.running import check_input

if TYPE_CHECKING:
    from engine.core.plan.ir import Plan
    from engine.testing.memory_run import MemoryExecution


class MemorySteering(ABC):
    """A part of `MemoryClient`; `Client` says what each method does."""

    _plans: dict[str, list[Plan]]
    _made: dict[str, MemoryExecution]
    _keys: dict[tuple[str, str], str]

    @abstractmethod
    def _find(self, execution_id: str) -> MemoryExecution:
        """Return the execution with an id."""

    @abstractmethod
    def _sources_now(self) -> list[Source]:
        """Return where replies come from now."""

    def pause(self, execution_id: str, *, reason: str = "", key: str | None = None, actor: str = "") -> Execution:
        """See `Client.pause`."""
        return _steer(self._find(execution_id), ControlSignal(kind="pause", key=_key(key), actor=actor, reason=reason))

    def continue_(
        self,
        execution_id: str,
        *,
        break_at: Sequence[str] | None = None,
        key: str | None = None,
        actor: str = "",
    ) -> Execution:
        """See `Client.continue_`."""
        breaks = None if break_at is None else list(break_at)
        signal = ControlSignal(kind="continue", key=_key(key), actor=actor, breaks=breaks)
        return _steer(self._find(execution_id), signal)

    def set_breaks(
        self, execution_id: str, break_at: Sequence[str], *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.set_breaks`."""
        signal = ControlSignal(kind="breaks", key=_key(key), actor=actor, breaks=list(break_at))
        return _steer(self._find(execution_id), signal)

    def set_deadline(
        self, execution_id: str, wait_id: str, deadline: Deadline, *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.set_deadline`; how long from now is counted from the execution's own time."""
        made = self._find(execution_id)
        now_us = max([START_US, *(record.now_us for record in made.records())])
        signal = ControlSignal(
            kind="deadline", key=_key(key), actor=actor, wait_id=wait_id, deadline_us=_deadline_us(deadline, now_us)
        )
        return _steer(made, signal)

    def terminate(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.terminate`."""
        made = self._find(execution_id)
        error = made.view()["error"] or {}
        if error.get("code") != "execution.terminated":
            made.terminate(reason, actor)
        return Execution.of(made.view())

    def retry(
        self, execution_id: str, *, key: str | None = None, actor: str = "", **options: Unpack[ForkOptions]
    ) -> Execution:
        """See `Client.retry`."""
        return _fork(self, "retry", execution_id, options, key)

    def fork(
        self, execution_id: str, *, key: str | None = None, actor: str = "", **options: Unpack[ForkOptions]
    ) -> Execution:
        """See `Client.fork`."""
        return _fork(self, "fork", execution_id, options, key)

    def link(
        self,
        execution_id: str,
        wait_id: str,
        *,
        actor: str,
        expires_in: dt.timedelta | float | str = "7d",
        values: Sequence[Json] | None = None,
    ) -> LinkMade:
        """Refuse it: nobody could open a link to this process.

        Raises:
            InvalidInput: `link.not_in_memory`.
        """
        self._find(execution_id)
        raise InvalidInput(
            "an execution in memory has no address", code="link.not_in_memory", hint="answer it with `answer`"
        )


def _key(key: str | None) -> str:
    return key or str(uuid.uuid4())


def _steer(made: MemoryExecution, signal: ControlSignal) -> Execution:
    told = made.control(signal)
    if "code" in told:
        raise Conflict(str(told.get("message")), code=str(told["code"]))
    return Execution.of(made.view())


def _deadline_us(deadline: Deadline, now_us: int) -> int | None:
    if deadline is None:
        return None
    if isinstance(deadline, dt.timedelta):
        deadline = deadline.total_seconds()
    if isinstance(deadline, str):
        seconds = duration_seconds(deadline)
        deadline = dt.datetime.fromisoformat(deadline) if seconds is None else seconds
    if isinstance(deadline, dt.datetime):
        return round(deadline.timestamp() * 1e6)
    return now_us + round(deadline * 1e6)


def _fork(
    client: MemorySteering, kind: Literal["retry", "fork"], execution_id: str, options: ForkOptions, key: str | None
) -> Execution:
    # they load the store, which few tests need
    from engine.control.forking import ForkWish, begin_at, build_fork, check_origin
    from engine.control.forkpoints import Survey
    from engine.control.recorded import Recorder
    from engine.testing.memory_run import Asked, MemoryExecution

    check_options(options)
    known = client._keys.get((f"{kind} {execution_id}", key or ""))
    if known is not None:
        return Execution.of(client._find(known).view())
    origin = client._find(execution_id)
    facts = origin.facts()
    wish = ForkWish(
        kind=kind,
        at=options.get("at", ""),
        patch=options.get("patch", {}),
        state=options.get("state", {}),
    )
    check_origin(facts, wish)
    version, plan = _definition(client, origin, options.get("definition", "own"))
    survey = Survey(wish.at)
    for record in origin.records():
        survey.apply(record)
    point = begin_at(facts, survey, wish, origin.plan)
    recorder = Recorder(point, frozenset(survey.undone))
    for record in origin.records():
        recorder.apply(record)
    keys = "" if kind == "fork" or survey.took_back else str(survey.forked.get("keys") or execution_id)
    fork = build_fork(facts, recorder, wish, point=point, old=origin.plan, new=plan, keys=keys)
    given: Json = options.get("input", origin.asked.input)
    metadata: Mapping[str, Any] = options.get("metadata", origin.asked.metadata)
    asked = Asked(
        execution_id=str(uuid.uuid4()),
        task=plan.task,
        version=version,
        input=given,
        labels=tuple(options.get("labels", origin.asked.labels)),
        metadata=dict(metadata),
        breaks=tuple(options.get("break_at", ())),
        fork=fork,
    )
    check_input(plan, given)
    made = MemoryExecution(asked, plan, Replies(client._sources_now()))
    made.start()
    client._made[asked.execution_id] = made
    if key:
        client._keys[f"{kind} {execution_id}", key] = asked.execution_id
    return Execution.of(made.view())


def _definition(client: MemorySteering, origin: MemoryExecution, wanted: str) -> tuple[int, Plan]:
    if wanted == "own":
        return origin.asked.version, origin.plan
    name, _, version = (origin.asked.task, "", "") if wanted == "newest" else wanted.partition("@")
    versions = client._plans.get(name, [])
    number = len(versions) if version in ("", "latest") else int(version) if version.isdecimal() else 0
    if not 0 < number <= len(versions):
        raise InvalidInput(f"there is no task {wanted!r}", code="request.invalid", hint="apply it first")
    return number, versions[number - 1]
