"""The registry of backends and groups: one view of what the environment, everstep.toml and the store declare."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import structlog
from pydantic import ValidationError

from engine.control.declaring import backend_body, check_name, group_body, told_of
from engine.core.diagnostics import did_you_mean
from engine.core.errors import Conflict, InvalidInput, NotFound
from engine.settings import BackendConfig, Capabilities, Group, Project, load_project, openai_from_environment
from engine.store.backend_states import BackendStateStore, FoundModel
from engine.store.database import Database
from engine.store.registry import EntryChange, EntryFacts, EntryKind, Marks, RegistryStore, not_found

Source = Literal["environment", "file", "store", "bundled"]
BUNDLED = "bundled"
_PLACES: Mapping[Source, str] = {
    "environment": "the environment (OPENAI_API_KEY, OPENAI_BASE_URL)",
    "file": "everstep.toml",
    "bundled": "`everstep dev`",
    "store": "the store",
}

log = structlog.get_logger("everstep.registry")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredBackend:
    """A backend, and who declared it; `facts` of those in the store."""

    name: str
    source: Source
    config: BackendConfig
    facts: EntryFacts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredGroup:
    """A group, and who declared it; `facts` of those in the store."""

    name: str
    source: Source
    group: Group
    facts: EntryFacts | None = None


@dataclass(frozen=True, slots=True)
class Registry:
    """All backends and groups.

    Attributes:
        project: The operator's everstep.toml with the environment's backends.
        backends: By name, in the order of preference; the first one is the default.
        groups: By name.
    """

    project: Project
    backends: Mapping[str, DeclaredBackend] = field(default_factory=dict)
    groups: Mapping[str, DeclaredGroup] = field(default_factory=dict)

    def merged(self, found: Iterable[FoundModel] = ()) -> Project:
        """Return the project with all backends and groups.

        Args:
            found: What backends told of their models; what is declared wins.
        """
        told: dict[str, dict[str, Capabilities]] = {}
        for model in found:
            known = Capabilities.model_validate(model.body.get("capabilities") or {})
            if known.model_dump(exclude_none=True):
                told.setdefault(model.backend, {})[model.model] = known
        backends = {
            name: with_found(item.config, told.get(name, {})) if name in told else item.config
            for name, item in self.backends.items()
        }
        groups = {name: item.group for name, item in self.groups.items()}
        return self.project.model_copy(update={"backends": backends, "groups": groups})


def _now_us() -> int:
    return time.time_ns() // 1_000


def with_found(config: BackendConfig, found: Mapping[str, Capabilities]) -> BackendConfig:
    """Return a backend that also knows what it told of its models; what is declared wins."""
    merged = dict(config.capabilities)
    for name, told in found.items():
        declared = config.capabilities_of(name).model_dump(exclude_none=True)
        merged[name] = told.model_copy(update=declared)
    return config.model_copy(update={"capabilities": merged})


def registry_of(project: Project, entries: Sequence[EntryFacts]) -> Registry:
    """Merge what is declared; a name that the file or the environment has is theirs."""
    backends: dict[str, DeclaredBackend] = {}
    groups: dict[str, DeclaredGroup] = {}
    for name, config in project.backends.items():
        backends[name] = DeclaredBackend(name=name, source=_source_of(name, config), config=config)
    for name, group in project.groups.items():
        groups[name] = DeclaredGroup(name=name, source="file", group=group)
    for facts in entries:
        try:
            if facts.kind == "backend" and facts.name not in backends:
                config = BackendConfig.model_validate(facts.body)
                backends[facts.name] = DeclaredBackend(name=facts.name, source="store", config=config, facts=facts)
            elif facts.kind == "group" and facts.name not in groups:
                group = Group.model_validate(facts.body)
                groups[facts.name] = DeclaredGroup(name=facts.name, source="store", group=group, facts=facts)
        except ValidationError as error:
            # a newer engine may have stored it; one entry must not take all others away
            log.error("an entry of the registry cannot be read", kind=facts.kind, name=facts.name, why=told_of(error))
    if BUNDLED in backends and backends[BUNDLED].source == "bundled":
        # behind what operators declare, wherever they do
        backends[BUNDLED] = backends.pop(BUNDLED)
    return Registry(project, backends, groups)


def _source_of(name: str, config: BackendConfig) -> Source:
    if name == BUNDLED and os.environ.get("EVERSTEP_MODEL_URL"):
        return "bundled"
    return "environment" if name == "openai" and config == openai_from_environment() else "file"


class ProjectFile:
    """Reads everstep.toml again whenever it was saved; one that is broken leaves the last good one in force.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._project: Project | None = None

    def __call__(self) -> Project:
        """Return the project.

        Raises:
            InvalidInput: `config.invalid` if it never was right.
        """
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
        except OSError:
            stamp = (0, 0)
        if self._project is None or stamp != self._stamp:
            try:
                self._project = load_project(self._path)
            except InvalidInput as error:
                if self._project is None:
                    raise
                log.error("everstep.toml is broken, the last good one is in force", why=error.message)
            self._stamp = stamp
        return self._project


class RegistryService:
    """Declares backends and groups.

    Args:
        store: What was declared.
        project: Returns what the environment and everstep.toml declare.
    """

    def __init__(self, store: RegistryStore, project: Callable[[], Project]) -> None:
        self.store = store
        self._project = project

    async def registry(self) -> Registry:
        """Return all backends and groups."""
        return registry_of(self._project(), await self.store.all())

    async def marks(self) -> Marks:
        """Return what differs after each change."""
        return await self.store.marks()

    async def backend(self, name: str) -> DeclaredBackend:
        """Return a backend.

        Raises:
            NotFound: `backend.not_found`.
        """
        known = (await self.registry()).backends
        if name not in known:
            raise _not_found("backend", name, known)
        return known[name]

    async def group(self, name: str) -> DeclaredGroup:
        """Return a group.

        Raises:
            NotFound: `group.not_found`.
        """
        known = (await self.registry()).groups
        if name not in known:
            raise _not_found("group", name, known)
        return known[name]

    async def add_backend(self, name: str, given: Mapping[str, Any], *, actor: str = "") -> DeclaredBackend:
        """Declare a backend.

        Raises:
            InvalidInput: `backend.invalid`.
            Conflict: `backend.exists`, `backend.of_file`.
        """
        check_name("backend", name)
        body = backend_body(given)
        self._refuse_others("backend", name, (await self.registry()).backends)
        await self._write(EntryChange(kind="backend", name=name, body=body, is_new=True), actor=actor)
        return await self.backend(name)

    async def change_backend(self, name: str, changes: Mapping[str, Any], *, actor: str = "") -> DeclaredBackend:
        """Change members of a backend; None puts one back to what it is without being said.

        Raises:
            InvalidInput: `backend.invalid`.
            NotFound: `backend.not_found`.
            Conflict: `backend.of_file`, `registry.moved`.
        """
        known = await self.backend(name)
        if known.facts is None:
            raise _of_file("backend", name, known.source)
        body = backend_body({**known.facts.body, **changes})
        change = EntryChange(kind="backend", name=name, body=body, is_new=False, expect_rev=known.facts.rev)
        await self._write(change, actor=actor)
        return await self.backend(name)

    async def add_group(self, name: str, given: Mapping[str, Any], *, actor: str = "") -> DeclaredGroup:
        """Declare a group.

        Raises:
            InvalidInput: `group.invalid`.
            Conflict: `group.exists`, `group.of_file`.
        """
        check_name("group", name)
        body = group_body(given)
        self._refuse_others("group", name, (await self.registry()).groups)
        await self._write(EntryChange(kind="group", name=name, body=body, is_new=True), actor=actor)
        return await self.group(name)

    async def change_group(self, name: str, changes: Mapping[str, Any], *, actor: str = "") -> DeclaredGroup:
        """Change members of a group.

        Raises:
            InvalidInput: `group.invalid`.
            NotFound: `group.not_found`.
            Conflict: `group.of_file`, `registry.moved`.
        """
        known = await self.group(name)
        if known.facts is None:
            raise _of_file("group", name, known.source)
        body = group_body({**known.facts.body, **changes})
        change = EntryChange(kind="group", name=name, body=body, is_new=False, expect_rev=known.facts.rev)
        await self._write(change, actor=actor)
        return await self.group(name)

    async def remove(self, kind: EntryKind, name: str, *, actor: str = "") -> None:
        """Remove a backend or a group; calls under way end as they began.

        Raises:
            NotFound: `backend.not_found`, `group.not_found`.
            Conflict: `backend.of_file`, `group.of_file`.
        """
        if await self.store.find(kind, name) is None:
            known = await (self.backend(name) if kind == "backend" else self.group(name))
            raise _of_file(kind, name, known.source)
        await self._write(EntryChange(kind=kind, name=name, body=None), actor=actor)

    async def apply(
        self,
        backends: Mapping[str, Mapping[str, Any]],
        groups: Mapping[str, Mapping[str, Any]],
        *,
        prune: bool = False,
        dry_run: bool = False,
        actor: str = "",
    ) -> list[dict[str, str]]:
        """Make what is declared in the store that of a file, all of it or nothing.

        Args:
            backends: By name, what tables of everstep.toml say.
            groups: The same of groups.
            prune: Whether what the store has beyond that is removed.
            dry_run: Whether to say only what would happen.
            actor: Who wants it.

        Returns:
            {kind, name, change} with change = created, updated, unchanged, removed.

        Raises:
            InvalidInput: `backend.invalid`, `group.invalid`.
            Conflict: `backend.of_file`, `group.of_file`.
        """
        wanted: dict[tuple[EntryKind, str], dict[str, Any]] = {}
        for name, given in backends.items():
            wanted["backend", check_name("backend", name)] = backend_body(given, name)
        for name, given in groups.items():
            wanted["group", check_name("group", name)] = group_body(given, name)
        registry = await self.registry()
        for kind, name in wanted:
            self._refuse_others(kind, name, registry.backends if kind == "backend" else registry.groups)
        known = {(facts.kind, facts.name): facts for facts in await self.store.all()}
        told: list[dict[str, str]] = []
        changes: list[EntryChange] = []
        for (kind, name), body in wanted.items():
            facts = known.get((kind, name))
            verb = "created" if facts is None else "unchanged" if facts.body == body else "updated"
            told.append({"kind": kind, "name": name, "change": verb})
            if verb != "unchanged":
                changes.append(EntryChange(kind=kind, name=name, body=body))
        for kind, name in known if prune else ():
            if (kind, name) not in wanted:
                told.append({"kind": kind, "name": name, "change": "removed"})
                changes.append(EntryChange(kind=kind, name=name, body=None))
        if changes and not dry_run:
            await self.store.write(changes, now_us=_now_us(), actor=actor)
        return told

    async def _write(self, change: EntryChange, *, actor: str) -> None:
        await self.store.write([change], now_us=_now_us(), actor=actor)

    def _refuse_others(
        self, kind: EntryKind, name: str, known: Mapping[str, DeclaredBackend] | Mapping[str, DeclaredGroup]
    ) -> None:
        item = known.get(name)
        if item is not None and item.facts is None:
            raise _of_file(kind, name, item.source)
        if kind == "backend" and name == BUNDLED:
            # only the workers of `everstep dev` know that one
            raise _of_file(kind, name, "bundled")


def open_registry(database: Database, project: Project) -> tuple[RegistryService, BackendStateStore]:
    """Return what a worker knows backends by: what its project and the store declare, and what checks found."""
    return RegistryService(RegistryStore(database), lambda: project), BackendStateStore(database)


def _of_file(kind: EntryKind, name: str, source: Source) -> Conflict:
    place, details = _PLACES[source], {"source": source}
    hint = f"change it there, or take it out there and declare it here; or choose another name for this {kind}"
    if kind == "group":
        said = f"the group '{name}' is declared by {place}"
        return Conflict(said, code="group.of_file", hint=hint, details=details)
    return Conflict(f"the backend '{name}' is declared by {place}", code="backend.of_file", hint=hint, details=details)


def _not_found(kind: EntryKind, name: str, known: Iterable[str]) -> NotFound:
    return not_found(kind, name, did_you_mean(name, known) or f"list them: `everstep {kind}s ls`")
