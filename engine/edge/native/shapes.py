"""The bodies of the native API's requests; unknown members are refused, but for those that Julep's clients send."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from engine.core.diagnostics import did_you_mean
from engine.core.values import Json
from engine.edge.http.times import Moment

Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$")]
StepPath = Annotated[str, StringConstraints(min_length=1, max_length=1_000)]
ActorName = Annotated[str, StringConstraints(max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")]
"""Names stand in lines of logs and terminals, and in columns that take no NUL."""
CanonicalName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=255)]


class Body(BaseModel):
    """A request body.

    Attributes:
        ignored: Members without meaning here that Julep's clients send.
    """

    ignored: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def refuse_unknown(cls, given: Any) -> Any:
        """Refuse members that nobody knows: a misspelt one would be lost without a word."""
        if isinstance(given, dict):
            for name in given:
                if name not in cls.model_fields and name not in cls.ignored:
                    hint = did_you_mean(str(name), cls.model_fields) or f"it may have {', '.join(cls.model_fields)}"
                    text = "there is no member '{name}' here; {hint}"
                    raise PydanticCustomError("unknown_member", text, {"name": str(name)[:60], "hint": hint})
        return given


class StartWebhook(Body):
    """A webhook for one execution.

    Attributes:
        url: Where messages are posted.
        statuses: Of which statuses it is told; left out = of its end, and when it waits for an answer.
        secret: What messages are signed with; left out = one is made, and shown in this answer alone.
    """

    url: Annotated[str, StringConstraints(min_length=1, max_length=2_000)]
    statuses: list[Word] = Field(default_factory=list, max_length=20)
    secret: str = Field(default="", max_length=200)


class StartBody(Body):
    """A new execution.

    Attributes:
        input: The input.
        metadata: Anything.
        id: Id of the execution, a UUID; left out = a new one.
        labels: Words by which Temporal's own lists find it.
        actor: Who starts it.
        delay: How long it waits before it begins: seconds, or text such as `15m`.
        start_at: When it begins, in place of `delay`.
        deadline: A duration, which counts from when it is let in, or a time with its zone; then it fails.
        priority: 1 (first) to 5 (last); left out = that of the task, or 3.
        break_at: Paths of steps before which it pauses.
        webhook: Who is told how it stands.
    """

    ignored = frozenset({"error", "output", "transition_count"})

    input: Json = Field(default_factory=dict)
    metadata: dict[str, Any] | None = None
    id: str | None = None
    labels: list[Word] = Field(default_factory=list, max_length=20)
    actor: ActorName = ""
    delay: float | str | None = None
    start_at: Moment | None = None
    deadline: float | str | None = None
    priority: int | None = Field(default=None, ge=1, le=5)
    break_at: list[StepPath] = Field(default_factory=list, max_length=100)
    webhook: StartWebhook | None = None


class ChangeBody(Body):
    """A change of an execution: an answer (`running`) or a cancel (`cancelled`).

    Attributes:
        status: What it shall be.
        input: The answer.
        wait_id: The wait that is answered; needed when several are open.
        key: The caller's key of the answer; repeating it gives the first outcome again.
        reason: Why it is cancelled.
        actor: Who answers or cancels.
    """

    status: Literal["running", "cancelled"]
    input: Json = None
    wait_id: str = ""
    key: str | None = Field(default=None, max_length=255)
    reason: str | None = Field(default=None, max_length=2_000)
    actor: ActorName = ""


class EventBody(Body):
    """An event for an execution.

    Attributes:
        name: Its name, as a `wait_for_event` step gives it.
        key: What tells events of one name apart; must equal the key of the step.
        value: What is told about it.
        id: Its id; an event is taken once. Left out = the Idempotency-Key, or a new one.
        actor: Who sends it.
    """

    name: Annotated[str, StringConstraints(min_length=1, max_length=255)]
    key: Json = None
    value: Json = None
    id: str | None = Field(default=None, min_length=1, max_length=255)
    actor: ActorName = ""
