"""The error tree of the engine, split by who must act. Workflow-safe.

    EngineError
    ├─ DefinitionError        the author must act; carries diagnostics
    │  ├─ SourceError             the text is not YAML or JSON, or not a task
    │  ├─ ExpressionSyntaxError   an expression or template cannot be compiled
    │  └─ CompileError            the task is well-formed but makes no sense
    ├─ RequestError           the caller must act
    │  ├─ InvalidInput (PromptTooBigError), NotFound, Conflict, NotAllowed, Unavailable
    ├─ RunError               the step ends; the task may catch it with on_error
    │  ├─ ExpressionError, InputRejected, LimitExceeded, WaitExpired, StepTimeout, TaskError
    │  ├─ AuthorityError          beyond what `allow` of the task permits; nothing was called
    │  ├─ ToolError               refused, failed, timed out, outcome unknown
    │  ├─ SecretError             a secret that a call names is not there, or cannot be read; nothing was called
    │  ├─ BudgetError             a budget of the operator leaves nothing for a call; nothing was called
    │  ├─ ChildError              an execution that a step started did not succeed; has the code of its own error
    │  └─ BackendError            unreachable, rate limited, overloaded, refused, bad reply, context too long
    ├─ PayloadUnreadable      the operator must act: a stored payload is gone, damaged, or its key is not known here
    └─ BugError               our invariant broke; never caught, never shown as the author's fault

Codes are stable, lower-case and dotted. They cross Temporal as the type of an ApplicationError, never inside a text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from engine.core.diagnostics import Diagnostic, render_diagnostics


class EngineError(Exception):
    """Root of all errors that the engine raises on purpose.

    Attributes:
        code: Stable dotted code.
        message: What is wrong, with the object's name.
        hint: What the reader can do about it; may be empty.
        retryable: Whether the same attempt may succeed later.
        details: JSON object with bounded extra facts.
    """

    default_code: ClassVar[str] = "engine"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str = "",
        retryable: bool = False,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.hint = hint
        self.retryable = retryable
        self.details: dict[str, Any] = dict(details or {})

    def __reduce__(self) -> tuple[Any, ...]:
        # exceptions with keyword-only payload do not survive pickling by default
        return _rebuild, (type(self), self.message, self.code, self.hint, self.retryable, self.details)

    def to_json(self) -> dict[str, Any]:
        """Return {code, message, hint?, details?}, the shape that crosses every border."""
        body: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.hint:
            body["hint"] = self.hint
        if self.details:
            body["details"] = self.details
        return body


def _rebuild(
    kind: type[EngineError], message: str, code: str, hint: str, retryable: bool, details: dict[str, Any]
) -> EngineError:
    error = kind.__new__(kind)
    EngineError.__init__(error, message, code=code, hint=hint, retryable=retryable, details=details)
    return error


class DefinitionError(EngineError):
    """A task definition is wrong; its author must act."""

    default_code = "definition.invalid"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str = "",
        retryable: bool = False,
        details: Mapping[str, Any] | None = None,
        diagnostics: Sequence[Diagnostic] = (),
        file: str = "task",
        source: str = "",
    ) -> None:
        super().__init__(message, code=code, hint=hint, retryable=retryable, details=details)
        self.diagnostics = tuple(diagnostics)
        self.file = file
        self.source = source

    def render(self) -> str:
        """Return all findings with their source lines."""
        return render_diagnostics(self.diagnostics, file=self.file, source=self.source)


class SourceError(DefinitionError):
    """The text cannot be read as a task."""

    default_code = "definition.source"


class ExpressionSyntaxError(DefinitionError):
    """An expression or template cannot be compiled.

    Attributes:
        offset: Character of the expression text at which it went wrong, from 0.
    """

    default_code = "definition.expression"
    offset: int = 0


class CompileError(DefinitionError):
    """A well-formed task that makes no sense."""

    default_code = "definition.invalid"


class RequestError(EngineError):
    """A request cannot be served; its caller must act."""

    default_code = "request.invalid"


class InvalidInput(RequestError):
    """A value of the request does not fit."""

    default_code = "input.invalid"


class PromptTooBigError(InvalidInput):
    """What a session would send to a model has more tokens than it may have; Julep's clients know it by this name."""

    default_code = "session.prompt_too_big"


class NotFound(RequestError):
    """Nothing with that id exists for this tenant."""

    default_code = "not_found"


class Conflict(RequestError):
    """The request does not fit the present state."""

    default_code = "conflict"


class NotAllowed(RequestError):
    """The caller may not do this."""

    default_code = "not_allowed"


class Unavailable(RequestError):
    """A service that the request needs does not answer."""

    default_code = "unreachable"


class RunError(EngineError):
    """A step of a running execution ended with an error that the task may catch."""

    default_code = "step.failed"
    catchable: ClassVar[bool] = True


class ExpressionError(RunError):
    """An expression or template could not be evaluated."""

    default_code = "expression.failed"


class InputRejected(RunError):
    """A value does not fit its JSON Schema."""

    default_code = "input.rejected"


class LimitExceeded(RunError):
    """A limit of the task or the engine was reached; a task cannot catch it."""

    default_code = "limit.exceeded"
    catchable = False


class ForkDiverged(RunError):
    """A forked execution came to something before its first step that is not recorded; a task cannot catch it."""

    default_code = "fork.diverged"
    catchable = False


class WaitExpired(RunError):
    """A wait passed its deadline without an answer."""

    default_code = "wait.expired"


class StepTimeout(RunError):
    """A step took longer than its `timeout` or `total_timeout`."""

    default_code = "step.timeout"


class TaskError(RunError):
    """The task itself said so with an `error` step."""

    default_code = "task.error"


class AuthorityError(RunError):
    """A step would reach what `allow` of the task, or of a task that runs it, does not permit."""

    default_code = "authority.denied"


class ToolError(RunError):
    """A tool refused, failed, or its outcome is unknown."""

    default_code = "tool.failed"


class SecretError(RunError):
    """A secret that a call names is not there, or cannot be read; nothing was called."""

    default_code = "secret.missing"


class BudgetError(RunError):
    """A budget of the operator leaves nothing for a call; nothing was called."""

    default_code = "budget.exhausted"


class ChildError(RunError):
    """An execution that a step started did not succeed.

    It has the code of the child's own error, and `details` of {execution_id, task, at?, details?}. It may be caught
    whatever it is: a limit of the child is none of its parent.
    """

    default_code = "task.failed"


class BackendError(RunError):
    """An LLM backend did not give a usable reply."""

    default_code = "backend.failed"


class PayloadUnreadable(EngineError):
    """A stored payload cannot be read.

    It is neither a missing execution nor a service that is away: others are not affected, and what needs it waits
    until it can be read again. Codes: `blob.not_found`, `blob.damaged`, `payload.unknown_key`, `payload.damaged`,
    `payload.foreign`.
    """

    default_code = "payload.damaged"


class BugError(EngineError):
    """An invariant of the engine broke."""

    default_code = "bug"


_BY_PREFIX: dict[str, type[RunError]] = {
    "expression": ExpressionError,
    "input": InputRejected,
    "limit": LimitExceeded,
    "fork": ForkDiverged,
    "wait": WaitExpired,
    "step": StepTimeout,
    "task": TaskError,
    "authority": AuthorityError,
    "tool": ToolError,
    "secret": SecretError,
    "budget": BudgetError,
    "effect": ToolError,
    "backend": BackendError,
}


_OF_A_CHILD = frozenset({"execution_id", "task"})
"""Members by which the details of an error tell that it is that of a child."""


def run_error_from_json(body: Mapping[str, Any], *, retryable: bool = False) -> RunError:
    """Rebuild a run error from its JSON shape, by the first word of its code.

    Args:
        body: {code, message, hint?, details?} as made by `EngineError.to_json`.
        retryable: Whether the same attempt may succeed later.

    Returns:
        An instance of the class that owns the code; plain RunError for a foreign code.
    """
    code = str(body.get("code", RunError.default_code))
    kind: type[RunError] = _BY_PREFIX.get(code.split(".", 1)[0], RunError)
    if code == RunError.default_code:
        kind = RunError
    if (body.get("details") or {}).keys() >= _OF_A_CHILD:
        kind = ChildError
    return kind(
        str(body.get("message", "")),
        code=code,
        hint=str(body.get("hint", "")),
        retryable=retryable,
        details=body.get("details") or {},
    )
