"""What the clients can do to executions beyond answers and cancels: pause, continue, deadlines, retry, fork, links."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, TypeVar, Unpack

from engine.client.requests import ANSWER_TIMEOUT_S, UPLOAD_TIMEOUT_S, Request, new_key, segment
from engine.client.rows import LinkMade
from engine.client.views import Execution
from engine.core.errors import InvalidInput
from engine.core.values import Json

T = TypeVar("T")

Deadline = dt.datetime | dt.timedelta | float | str | None
"""A time, how long from now (timedelta, seconds, or text such as `2h`), or None: never."""


class ForkOptions(TypedDict, total=False):
    """From where an execution goes on, and what is to be different; what is left out is as it was.

    `at` is the path or label of the first step that runs (left out = the step that failed); `patch` gives other outputs
    of steps before it, by path or label; `state` is written into the state just before it runs; `definition` is `own`,
    `newest`, or a task with `@VERSION` or `@ALIAS`; the new execution pauses before the steps of `break_at`.
    """

    at: str
    input: Json
    patch: Mapping[str, Json]
    state: Mapping[str, Json]
    definition: str
    break_at: Sequence[str]
    labels: Sequence[str]
    metadata: Mapping[str, Any]


# --- requests --------------------------------------------------------------------------------------------------------


def _execution(response: Any) -> Execution:
    return Execution.of(response.json())


def _steer(execution_id: str, what: str, body: Mapping[str, Any], key: str | None) -> Request[Execution]:
    told = {name: value for name, value in body.items() if value not in ("", None)}
    path = f"/executions/{segment(execution_id)}/{what}"
    return Request("POST", path, _execution, body=told, key=key or new_key(), timeout_s=ANSWER_TIMEOUT_S)


def _set_deadline(
    execution_id: str, wait_id: str, deadline: Deadline, key: str | None, actor: str
) -> Request[Execution]:
    body: dict[str, Any] = {"deadline": _deadline(deadline)} | ({"actor": actor} if actor else {})
    path = f"/executions/{segment(execution_id)}/waits/{segment(wait_id)}"
    return Request("PATCH", path, _execution, body=body, key=key or new_key(), timeout_s=ANSWER_TIMEOUT_S)


def _deadline(value: Deadline) -> float | str | None:
    if isinstance(value, dt.timedelta):
        return value.total_seconds()
    # one without a zone is of this machine
    return value.astimezone().isoformat() if isinstance(value, dt.datetime) else value


def check_options(options: ForkOptions) -> None:
    """Refuse what is no option of a fork.

    Raises:
        InvalidInput: `request.invalid`.
    """
    for name in options:
        if name not in ForkOptions.__annotations__:
            raise InvalidInput(
                f"there is no option '{name}'",
                code="request.invalid",
                hint=f"options are {', '.join(ForkOptions.__annotations__)}",
            )


def _fork(kind: str, execution_id: str, options: ForkOptions, key: str | None, actor: str) -> Request[Execution]:
    check_options(options)
    body: dict[str, Any] = {**options} | ({"actor": actor} if actor else {})
    path = f"/executions/{segment(execution_id)}/{kind}"
    return Request("POST", path, _execution, body=body, key=key or new_key(), timeout_s=UPLOAD_TIMEOUT_S)


def _link(
    execution_id: str, wait_id: str, actor: str, expires_in: dt.timedelta | float | str, values: Sequence[Json] | None
) -> Request[LinkMade]:
    seconds = expires_in.total_seconds() if isinstance(expires_in, dt.timedelta) else expires_in
    body: dict[str, Any] = {"actor": actor, "expires_in": seconds}
    if values is not None:
        body["values"] = list(values)
    path = f"/executions/{segment(execution_id)}/waits/{segment(wait_id)}/link"
    # one more link does no harm: it may be asked for again
    return Request("POST", path, lambda response: response.json(), body=body, key=new_key())


# --- the methods -----------------------------------------------------------------------------------------------------


class Steering(ABC):
    """Steers executions; a part of `Client`."""

    @abstractmethod
    def _send(self, request: Request[T]) -> T:
        """Send a request and read its answer."""

    def pause(self, execution_id: str, *, reason: str = "", key: str | None = None, actor: str = "") -> Execution:
        """Pause an execution: calls under way end and are recorded, nothing new starts until it is continued.

        Args:
            execution_id: The execution.
            reason: Why; is kept with it.
            key: With the same key again, the first outcome comes again. None = a new one.
            actor: Who wants it.

        Raises:
            Conflict: `execution.closed`.
            Unavailable: `control.pending`: no worker has taken it yet; repeating it with the same key is safe.
        """
        return self._send(_steer(execution_id, "pause", {"reason": reason, "actor": actor}, key))

    def continue_(
        self,
        execution_id: str,
        *,
        break_at: Sequence[str] | None = None,
        key: str | None = None,
        actor: str = "",
    ) -> Execution:
        """Let a paused execution go on.

        Args:
            execution_id: The execution.
            break_at: Paths or labels of the steps before which it pauses from now on; None = they stay as they are.
            key: As for `pause`.
            actor: Who wants it.

        Raises:
            Conflict: `control.not_paused`, `control.bad_path`, `execution.closed`.
            Unavailable: As `pause`.
        """
        breaks = None if break_at is None else list(break_at)
        return self._send(_steer(execution_id, "continue", {"break_at": breaks, "actor": actor}, key))

    def set_breaks(
        self, execution_id: str, break_at: Sequence[str], *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """Set the steps before which an execution pauses, in place of those set before.

        Args:
            execution_id: The execution.
            break_at: Their paths or labels; none = it pauses nowhere any more.
            key: As for `pause`.
            actor: Who wants it.

        Raises:
            Conflict: `control.bad_path`, `execution.closed`.
            Unavailable: As `pause`.
        """
        return self._send(_steer(execution_id, "breaks", {"break_at": list(break_at), "actor": actor}, key))

    def set_deadline(
        self, execution_id: str, wait_id: str, deadline: Deadline, *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """Change when a wait gives up, or when a sleep is over.

        Args:
            execution_id: The execution.
            wait_id: Id of the wait, or path of the sleep.
            deadline: A time, how long from now, or None: a wait never gives up.
            key: As for `pause`.
            actor: Who wants it.

        Raises:
            Conflict: `control.no_wait`, `control.sleep_needs_deadline`, `execution.closed`.
            Unavailable: As `pause`.
        """
        return self._send(_set_deadline(execution_id, wait_id, deadline, key, actor))

    def terminate(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """End an execution at once, without its `undo` and `finally` steps; `cancel` lets it clean up.

        Args:
            execution_id: The execution; one that was terminated already stays as it is.
            reason: Why.
            actor: Who wants it.

        Raises:
            Conflict: `execution.closed` if it has ended in another way.
        """
        return self._send(_steer(execution_id, "terminate", {"reason": reason, "actor": actor}, None))

    def retry(
        self, execution_id: str, *, key: str | None = None, actor: str = "", **options: Unpack[ForkOptions]
    ) -> Execution:
        """Start an execution that goes on where one failed or was cancelled.

        What ended before is taken over and not done again, and the calls that follow have the keys that they had.

        Args:
            execution_id: The execution that failed.
            key: With the same key again, the same new execution comes again. None = a new one.
            actor: Who wants it.
            options: From where, and what is to be different; see `ForkOptions`.

        Raises:
            InvalidInput: `fork.bad_point`, `fork.not_recorded`, `fork.prefix_differs`.
            Conflict: `fork.not_ended`, `fork.no_failed_step`, `fork.history_unverified`.
        """
        return self._send(_fork("retry", execution_id, options, key, actor))

    def fork(
        self, execution_id: str, *, key: str | None = None, actor: str = "", **options: Unpack[ForkOptions]
    ) -> Execution:
        """Start an execution that takes another way from a step of one; its calls have keys of their own.

        Args:
            execution_id: The execution, which stays as it is and may still run.
            key: As for `retry`.
            actor: As for `retry`.
            options: As for `retry`.

        Raises:
            InvalidInput: As `retry`.
            Conflict: As `retry`.
        """
        return self._send(_fork("fork", execution_id, options, key, actor))

    def link(
        self,
        execution_id: str,
        wait_id: str,
        *,
        actor: str,
        expires_in: dt.timedelta | float | str = "7d",
        values: Sequence[Json] | None = None,
    ) -> LinkMade:
        """Make a link by which somebody answers a wait in a browser, without a key.

        Args:
            execution_id: The execution.
            wait_id: The wait.
            actor: In whose name it answers.
            expires_in: For how long it may be used: timedelta, seconds, or text such as `2h`.
            values: Answers that it offers, each as a button; None = whatever fits the wait.

        Raises:
            Conflict: `answer.not_waiting`.
            InvalidInput: `link.bad_option`, `input.rejected`.
        """
        return self._send(_link(execution_id, wait_id, actor, expires_in, values))


class AsyncSteering(ABC):
    """Steers executions; a part of `AsyncClient`. `Client` says what each method does."""

    @abstractmethod
    async def _send(self, request: Request[T]) -> T:
        """Send a request and read its answer."""

    async def pause(self, execution_id: str, *, reason: str = "", key: str | None = None, actor: str = "") -> Execution:
        """See `Client.pause`."""
        return await self._send(_steer(execution_id, "pause", {"reason": reason, "actor": actor}, key))

    async def continue_(
        self,
        execution_id: str,
        *,
        break_at: Sequence[str] | None = None,
        key: str | None = None,
        actor: str = "",
    ) -> Execution:
        """See `Client.continue_`."""
        breaks = None if break_at is None else list(break_at)
        return await self._send(_steer(execution_id, "continue", {"break_at": breaks, "actor": actor}, key))

    async def set_breaks(
        self, execution_id: str, break_at: Sequence[str], *, key: str | None = None, actor: str = ""
    ) -> Execution:
        """See `Client.set_breaks`."""
        return await self._send(_steer(execution_id, "breaks", {"break_at": list(break_at), "actor": actor}, key))

    async def set_deadline(
        self,
        execution_id: str,
        wait_id: str,
        deadline: Deadline,
        *,
        key: str | None = None,
        actor: str = "",
    ) -> Execution:
        """See `Client.set_deadline`."""
        return await self._send(_set_deadline(execution_id, wait_id, deadline, key, actor))

    async def terminate(self, execution_id: str, *, reason: str = "", actor: str = "") -> Execution:
        """See `Client.terminate`."""
        return await self._send(_steer(execution_id, "terminate", {"reason": reason, "actor": actor}, None))

    async def retry(
        self,
        execution_id: str,
        *,
        key: str | None = None,
        actor: str = "",
        **options: Unpack[ForkOptions],
    ) -> Execution:
        """See `Client.retry`."""
        return await self._send(_fork("retry", execution_id, options, key, actor))

    async def fork(
        self,
        execution_id: str,
        *,
        key: str | None = None,
        actor: str = "",
        **options: Unpack[ForkOptions],
    ) -> Execution:
        """See `Client.fork`."""
        return await self._send(_fork("fork", execution_id, options, key, actor))

    async def link(
        self,
        execution_id: str,
        wait_id: str,
        *,
        actor: str,
        expires_in: dt.timedelta | float | str = "7d",
        values: Sequence[Json] | None = None,
    ) -> LinkMade:
        """See `Client.link`."""
        return await self._send(_link(execution_id, wait_id, actor, expires_in, values))
