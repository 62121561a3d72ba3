"""Shapes of answers about definitions, keys and the service, for the OpenAPI document; views make the answers."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from engine.core.values import Json

TASK_ID = "5d1c8b52-1f5e-4b8e-8d5e-6a7b8c9d0e1f"
MOMENT = "2026-11-22T08:00:00.125000Z"


class Answer(BaseModel):
    """An answer; later versions may add members."""

    model_config = ConfigDict(extra="allow")


class Paged(Answer):
    """A page of a list that goes on."""

    next_cursor: str | None = Field(default=None, description="Where the next page begins; null = there is none.")


class Deleted(Answer):
    """Something that was deleted."""

    id: str
    deleted_at: str
    jobs: list[str] = Field(description="Always empty; the Julep client of 2024 asks for it.")


# --- definitions -----------------------------------------------------------------------------------------------------


class Finding(Answer):
    """What the compiler says about a place of a task."""

    code: str = Field(description="E… for errors, W… for warnings; docs/diagnostics.md lists all.")
    severity: Literal["error", "warning"]
    message: str
    hint: str
    file: str
    line: int
    column: int
    path: str


class TaskView(Answer):
    """A version of a task: what its author wrote, and id, version and times."""

    id: str
    name: str
    version: int
    agent_id: str | None
    description: str
    canonical_name: str | None
    input_schema: Json
    metadata: dict[str, Json]
    plan_hash: str
    created_at: str
    updated_at: str
    warnings: list[Finding] = Field(default=[], description="Of a task just stored.")
    jobs: list[str] = Field(default=[], description="Of a task just stored: work that is still to be done; none.")


class TaskPatch(Answer):
    """Members of a task that are replaced, those of `metadata` one by one; null takes one out."""

    name: str | None = None
    description: str | None = None
    main: list[dict[str, Json]] | None = None
    input_schema: Json = None
    tools: list[dict[str, Json]] | None = None
    inherit_tools: bool | None = None
    metadata: dict[str, Json] | None = None


class CheckedView(Answer):
    """What a check of a task found."""

    ok: bool
    name: str
    diagnostics: list[Finding]


class VersionRow(Answer):
    """A version in the list of a task's versions."""

    id: str
    name: str
    version: int
    latest: bool
    aliases: list[str]
    plan_hash: str
    description: str
    created_at: str


class VersionView(Answer):
    """A version whole."""

    task: TaskView
    source: str = Field(description="The text as its author sent it.")
    plan: dict[str, Json] = Field(description="What the compiler made of it.")


class RemovedTask(Answer):
    """A task that was removed."""

    id: str
    name: str
    deleted_at: str
    jobs: list[str]


class AliasView(Answer):
    """A name that points to a version of a task."""

    alias: str
    task_id: str
    version: int
    updated_at: str


class AppliedTask(Answer):
    """What happened to one task."""

    change: Literal["created", "updated", "unchanged", "removed"]
    name: str
    id: str
    version: int
    previous_version: int | None
    file: str | None
    plan_hash: str
    aliases: list[str]
    warnings: list[Finding]


class AppliedView(Answer):
    """What happened to the tasks of a set of files."""

    changes: list[AppliedTask]
    dry_run: bool


class DifferenceView(Answer):
    """What a newer version of a task changes, and what it newly permits."""

    changes: list[Json]
    gains: list[Json]
    losses: list[Json]


class Tasks(Answer):
    """A page of tasks."""

    items: list[TaskView]


class Versions(Answer):
    """A page of versions."""

    items: list[VersionRow]


class Aliases(Answer):
    """Aliases."""

    items: list[AliasView]


# --- keys ------------------------------------------------------------------------------------------------------------


class KeyView(Answer):
    """An API key, but for its text."""

    id: str
    tenant: str
    name: str
    scopes: list[Literal["read", "run", "define", "admin"]]
    created_at: str
    created_by: str
    expires_at: str | None
    revoked_at: str | None
    last_used_at: str | None


class NewKey(KeyView):
    """A key just made."""

    key: str | None = Field(description="Its text, shown this once; null when the request is repeated.")


class Keys(Paged):
    """A page of keys."""

    items: list[KeyView]


# --- the service -----------------------------------------------------------------------------------------------------


class Health(Answer):
    """That the process answers."""

    status: str
    version: str


class Part(Answer):
    """Whether a part of the installation answers."""

    ok: bool


class Readiness(Health):
    """Whether new work can be taken."""

    store: Part
    temporal: Part
