"""The bodies of the native API's requests; unknown members are ignored, since Julep's clients send some."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, StringConstraints

from engine.core.values import Json

Name = Annotated[str, StringConstraints(min_length=1, max_length=255)]
CanonicalName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=255)]


class AgentBody(BaseModel):
    """A new agent.

    Attributes:
        name: Its name.
        model: Default model of its prompts; empty = the backend's default.
        instructions: System message for prompts that have none; a text or a list of texts.
        about: What it is for.
        canonical_name: Unique name for programs.
        default_settings: Default sampling settings.
        metadata: Anything.
    """

    name: Name
    model: str = Field(default="", max_length=255)
    instructions: str | list[str] = ""
    about: str = ""
    canonical_name: CanonicalName | None = None
    default_settings: dict[str, Any] | None = None
    metadata: dict[str, Any] | None = None


class StartBody(BaseModel):
    """A new execution.

    Attributes:
        input: The input.
        metadata: Anything.
        id: Id of the execution, a UUID; left out = a new one.
        labels: Words by which Temporal's own lists find it.
    """

    input: Json = Field(default_factory=dict)
    metadata: dict[str, Any] | None = None
    id: str | None = None
    labels: list[Annotated[str, StringConstraints(min_length=1, max_length=100)]] = Field(
        default_factory=list, max_length=20
    )


class ChangeBody(BaseModel):
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
    reason: str = Field(default="", max_length=2_000)
    actor: str = Field(default="", max_length=255)
