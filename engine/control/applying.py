"""The use case "apply": many task files at once, all checked before the first is stored, all stored or none."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.control.compiling import Compiled, compile_text
from engine.control.definitions import DefinitionService, facts_of, now_us, restated, says_more
from engine.control.versions import check_alias
from engine.core.diagnostics import Diagnostic
from engine.core.errors import DefinitionError, InvalidInput
from engine.core.kinds import Dialect
from engine.core.spec import codes
from engine.store.aliases import AliasFacts
from engine.store.definitions import TaskFacts, TaskWrites

MOST_DIAGNOSTICS = 500
"""Findings of all files together that are handed out."""

Verb = Literal["created", "updated", "unchanged", "removed"]


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A file to apply: its name for messages, and its YAML or JSON text."""

    file: str
    source: str


@dataclass(frozen=True, slots=True)
class Change:
    """What applying does to one task.

    Attributes:
        verb: What happens.
        task: The task as it is afterwards; as it was, if it is removed.
        file: The file it came from; empty if it is removed.
        before: Its latest version until then; None if it is new.
        warnings: Findings that did not forbid it, as JSON.
    """

    verb: Verb
    task: TaskFacts
    file: str = ""
    before: TaskFacts | None = None
    warnings: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self, aliases: Sequence[str] = ()) -> dict[str, Any]:
        """Return {change, name, id, version, previous_version, file, plan_hash, aliases, warnings}."""
        return {
            "change": self.verb,
            "name": self.task.name,
            "id": self.task.id,
            "version": self.task.version,
            "previous_version": None if self.before is None else self.before.version,
            "file": self.file or None,
            "plan_hash": self.task.plan_hash,
            "aliases": list(aliases),
            "warnings": self.warnings,
        }


async def apply_tasks(
    service: DefinitionService,
    files: Sequence[TaskFile],
    *,
    tenant: str,
    applied_set: str,
    alias: str = "",
    prune: bool = False,
    dry_run: bool = False,
    dialect: Dialect = "everstep",
    actor: str = "",
) -> list[Change]:
    """Create or update the tasks of some files, together or not at all.

    Args:
        service: Use cases on tasks.
        files: The files; each holds one task, and no two of them tasks of one name.
        tenant: Tenant id.
        applied_set: Name of the set that the files are the whole of.
        alias: Alias that shall point to every version that results; empty = none.
        prune: Remove the tasks that were applied as members of this set before and are no longer in it.
        dry_run: Only say what would happen.
        dialect: What the texts are read as if they have no key `dialect`.
        actor: Who applies them; empty = nobody was asked for a name.

    Returns:
        What happens to each task: the files in their order, then what is removed.

    Raises:
        InvalidInput: `apply.invalid` with {files: [{file, diagnostics}]} in the details if any file is wrong;
            `apply.no_set` if there is something to prune but the set has no name.
        InputRejected: `alias.bad_name`.
        Conflict: `task.exists` if another writer was quicker; nothing is stored then.
    """
    if alias:
        check_alias(alias)
    if prune and not applied_set:
        raise InvalidInput(
            "nobody can tell what to remove: the set of files has no name",
            code="apply.no_set",
            hint="give the set a name; only tasks that were applied under that name are removed",
        )
    compiled = await _compile_all(service, files, dialect, tenant)
    owner = {"tenant": tenant, "applied_set": applied_set, "actor": actor}
    changes = [await _change_of(service, item, made, owner) for item, made in compiled]
    if prune:
        names = {change.task.name for change in changes}
        members = await service.definitions.list_applied(applied_set, tenant=tenant)
        changes += [Change("removed", task, before=task) for task in members if task.name not in names]
    if not dry_run:
        writes = _writes_of(changes, alias, tenant)
        await service.definitions.write_tasks(writes, tenant=tenant, now_us=now_us())
    return changes


async def _compile_all(
    service: DefinitionService, files: Sequence[TaskFile], dialect: Dialect, tenant: str
) -> list[tuple[TaskFile, Compiled]]:
    done: list[tuple[TaskFile, Compiled]] = []
    wrong: list[tuple[str, list[Diagnostic]]] = []
    owners: dict[str, str] = {}
    for item in files:
        await asyncio.sleep(0)  # a folder of hundreds must not hold up every other request
        try:
            made = compile_text(
                item.source, file=item.file, contracts=service.contracts, dialect=dialect, tenant=tenant
            )
        except DefinitionError as error:
            wrong.append((item.file, list(error.diagnostics)))
            continue
        name = made.plan.task
        if name in owners:
            message = f"the task '{name}' stands in {owners[name]} already"
            found = Diagnostic(codes.BAD_NAME, message, hint="give one of them another `name:`", path="name")
            wrong.append((item.file, [found]))
        owners.setdefault(name, item.file)
        done.append((item, made))
    if wrong:
        raise InvalidInput(
            f"{len(wrong)} of {len(files)} files {'is' if len(wrong) == 1 else 'are'} wrong; nothing was changed",
            code="apply.invalid",
            hint="mend what the diagnostics name, and apply again",
            details={"files": list(_bounded(wrong))},
        )
    return done


def _bounded(wrong: list[tuple[str, list[Diagnostic]]]) -> Iterator[dict[str, Any]]:
    left = MOST_DIAGNOSTICS
    for file, items in wrong:
        # a file that is left with none still is in the list: it is wrong, and must be looked at again
        yield {"file": file, "diagnostics": [item.to_json(file) for item in items[: max(left, 1)]]}
        left -= len(items)


async def _change_of(service: DefinitionService, item: TaskFile, made: Compiled, owner: Mapping[str, str]) -> Change:
    older = await service.definitions.find_task(made.plan.task, tenant=owner["tenant"])
    task = facts_of(made, item.source, older, **owner)
    warnings = [found.to_json(item.file) for found in made.warnings]
    if older is None:
        return Change("created", task, item.file, None, warnings)
    if says_more(task, older):
        return Change("updated", task, item.file, older, warnings)
    return Change("unchanged", restated(task, older), item.file, older, warnings)


def _writes_of(changes: Sequence[Change], alias: str, tenant: str) -> TaskWrites:
    kept = [change for change in changes if change.verb != "removed"]
    moment = now_us()
    return TaskWrites(
        added=[change.task for change in kept if change.verb != "unchanged"],
        restated=[change.task for change in kept if change.verb == "unchanged" and change.task != change.before],
        removed=[change.task.id for change in changes if change.verb == "removed"],
        aliases=[
            AliasFacts(
                tenant=tenant,
                task_id=change.task.id,
                alias=alias,
                version=change.task.version,
                updated_us=moment,
            )
            for change in kept
            if alias
        ],
        new_names=True,
    )
