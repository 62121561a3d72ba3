"""What the API tells, as typed objects; each keeps the JSON that it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Generic, Self, TypeVar

from engine.core.errors import EngineError, RunError, run_error_from_json
from engine.core.kinds import ExecutionStatus
from engine.core.run.usage import TOKENS
from engine.core.values import Json

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wait:
    """A place where an execution waits for an answer.

    Attributes:
        id: Its id; `answer` takes it.
        label: The step's label, or None.
        path: The step's path.
        info: What whoever answers is told.
        schema: JSON Schema of the answer; None = anything.
        deadline: When it gives up, RFC 3339; None = never.
        raw: The whole of it.
    """

    id: str
    label: str | None
    path: str
    info: Json
    schema: Json
    deadline: str | None
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Wait:
        """Read a wait of an execution."""
        return cls(
            str(body["id"]),
            body.get("label"),
            str(body["path"]),
            body.get("info"),
            body.get("schema"),
            body.get("deadline"),
            body,
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """What an execution used.

    Attributes:
        llm_calls: Calls of models that were made.
        tool_calls: Calls of tools that were made.
        prompt_tokens: Tokens that went in.
        completion_tokens: Tokens that came out.
        total_tokens: Both.
        cached_tokens: Tokens that went in from the providers' caches.
        cache_write_tokens: Tokens that went in and were written to those caches.
        reasoning_tokens: Tokens that came out as thoughts of the model.
        cost: Dollars of the calls whose price is known; None = no price is known.
        unpriced_calls: Calls of models whose price is not known.
    """

    llm_calls: int = 0
    tool_calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    cost: Decimal | None = None
    unpriced_calls: int = 0

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Usage:
        """Read the usage of an execution."""
        counts = {name: int(body.get(name) or 0) for name in _COUNTS}
        cost = body.get("cost")
        return cls(**counts, cost=None if cost is None else Decimal(str(cost)))


_COUNTS = ("llm_calls", "tool_calls", *TOKENS, "unpriced_calls")


@dataclass(frozen=True, slots=True)
class Execution:
    """An execution at the moment when the API was asked.

    Attributes:
        id: Its id.
        task_id: Its task.
        task_name: Name of the task.
        task_version: Version of the task.
        status: Where it stands.
        input: Its input.
        output: Its output, once it succeeded.
        error: {code, message, …}, once it failed or was cancelled.
        labels: Words by which it is found.
        metadata: The caller's metadata.
        waits: Open waits, the oldest first.
        usage: What it used so far.
        created_at: When it was asked for, RFC 3339.
        closed_at: When it ended, RFC 3339; None = it goes on.
        data_age_s: How old this is in seconds, if the API could not bring it up to date; None = it is fresh.
        forked: {kind, execution_id, path} of the execution whose recorded steps it began with; None = it has none.
        paused: {since, at, reason, actor, breaks} of one that stands still, when it is asked for alone.
        raw: The whole of what the API told.
    """

    id: str
    task_id: str
    task_name: str
    task_version: int
    status: ExecutionStatus
    input: Json
    output: Json
    error: Mapping[str, Any] | None
    labels: tuple[str, ...]
    metadata: Mapping[str, Any]
    waits: tuple[Wait, ...]
    usage: Usage
    created_at: str
    closed_at: str | None
    data_age_s: float | None = None
    forked: Mapping[str, Any] | None = None
    paused: Mapping[str, Any] | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any], data_age_s: float | None = None) -> Execution:
        """Read an execution of the API."""
        return cls(
            id=str(body["id"]),
            task_id=str(body["task_id"]),
            task_name=str(body.get("task_name") or ""),
            task_version=int(body.get("task_version") or 1),
            status=ExecutionStatus(body["status"]),
            input=body.get("input"),
            output=body.get("output"),
            error=body.get("error"),
            labels=tuple(body.get("labels") or ()),
            metadata=body.get("metadata") or {},
            waits=tuple(Wait.of(wait) for wait in body.get("waits") or ()),
            usage=Usage.of(body.get("usage") or {}),
            created_at=str(body["created_at"]),
            closed_at=body.get("closed_at"),
            data_age_s=data_age_s,
            forked=body.get("forked"),
            paused=body.get("paused"),
            raw=body,
        )

    @property
    def is_closed(self) -> bool:
        """Whether it has ended."""
        return self.status.is_terminal

    def result(self) -> Json:
        """Return the output of an execution that succeeded.

        Raises:
            ExecutionFailed: It failed or was cancelled.
            EngineError: `result.not_ready` if it has not ended.
        """
        if not self.is_closed:
            raise EngineError(
                f"execution {self.id} is {self.status.value}", code="result.not_ready", hint="wait for its end"
            )
        if self.status is not ExecutionStatus.SUCCEEDED:
            raise ExecutionFailed.of(self)
        return self.output


class ExecutionFailed(RunError):
    """An execution ended without a result.

    Attributes:
        execution: The execution; its `error` has the details.
    """

    default_code = "execution.failed"
    execution: Execution

    @classmethod
    def of(cls, execution: Execution) -> Self:
        """Return the error for an execution that failed or was cancelled."""
        cause = run_error_from_json(execution.error or {"message": "no error is known"})
        error = cls(
            f"execution {execution.id} {execution.status.value}: {cause.message}",
            code=cause.code,
            hint=cause.hint,
            details=cause.details,
        )
        error.execution = execution
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return (ExecutionFailed.of, (self.execution,)) if hasattr(self, "execution") else super().__reduce__()


class ExecutionTimeout(EngineError, TimeoutError):
    """An execution did not end while somebody waited for it; it goes on."""

    default_code = "client.timeout"


@dataclass(frozen=True, slots=True)
class TaskVersion:
    """A stored version of a task.

    Attributes:
        id: Id of the task.
        name: Its name.
        version: The version.
        raw: The whole of what the API told.
    """

    id: str
    name: str
    version: int
    raw: Mapping[str, Any] = field(repr=False)

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> TaskVersion:
        """Read a task of the API."""
        return cls(str(body["id"]), str(body["name"]), int(body["version"]), body)

    @property
    def reference(self) -> str:
        """What `start` and `run` take for just this version: `ID@VERSION`."""
        return f"{self.id}@{self.version}"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page of a list.

    Attributes:
        items: What is on it.
        next_cursor: Where the next page begins; None = this is the last one.
    """

    items: list[T]
    next_cursor: str | None
