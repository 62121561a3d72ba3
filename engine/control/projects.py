"""Use cases on projects: create, replace, change, delete; each has a canonical name, by which others name it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict

from engine.control.definitions import now_us
from engine.control.request_keys import id_for
from engine.control.resources import chosen_id, deleted_view, first_or_same, later, merged
from engine.core.errors import NotFound
from engine.core.run.times import iso_time
from engine.store.projects import ProjectFacts, ProjectStore, no_project

MOST_NAME = 255
_MARK = 8
"""Characters of its id by which a project's name differs from that of another one."""
_NO_LETTERS = re.compile(r"[^a-z0-9]+")


class ProjectFields(TypedDict, total=False):
    """What callers say of a project; without a canonical name it gets one that is made of its name."""

    name: str
    canonical_name: str | None
    metadata: Mapping[str, Any] | None


class ProjectService:
    """Creates and changes projects.

    Args:
        store: Where they are.
    """

    def __init__(self, store: ProjectStore) -> None:
        self.store = store

    async def create(
        self, fields: ProjectFields, *, tenant: str, request_key: str = "", actor: str = ""
    ) -> ProjectFacts:
        """Store a new project; with a `request_key` that stored the same one before, return that.

        Raises:
            Conflict: `project.exists` if the canonical name is taken, `idempotency.key_reused`.
        """
        project_id = id_for(tenant, "project", request_key)
        named: ProjectFields = {**fields, "canonical_name": await self._name_for(project_id, fields, tenant)}
        wanted = _whole(project_id, named, tenant=tenant, actor=actor)
        return await self.store.write(
            wanted.id, lambda present: first_or_same(present, wanted, request_key), tenant=tenant
        )

    async def _name_for(self, project_id: str, fields: ProjectFields, tenant: str) -> str:
        """Return the canonical name of a new project; one that it was not given is not taken by another project."""
        given = fields.get("canonical_name")
        if given:
            return given
        name = canonical_name_of(fields["name"])
        try:
            holder = await self.store.get(name, tenant=tenant)
        except NotFound:
            return name
        return name if holder.id == project_id else f"{name[: MOST_NAME - _MARK - 1]}_{project_id[:_MARK]}"

    async def put(self, reference: str, fields: ProjectFields, *, tenant: str, actor: str = "") -> ProjectFacts:
        """Replace a project, or create it under an id that the caller chose.

        Args:
            reference: Its id or canonical name; of a new one the id.
            fields: All that is to be known of it.
            tenant: Its tenant.
            actor: Who creates it.

        Raises:
            InvalidInput: `request.bad_id` if there is none and the reference is no id for a new one.
            Conflict: `project.exists` if another one has the canonical name.
        """

        def change(present: ProjectFacts | None) -> ProjectFacts:
            if present is None:
                return _whole(chosen_id(reference, "project"), fields, tenant=tenant, actor=actor)
            return _replaced(present, fields)

        return await self.store.write(reference, change, tenant=tenant)

    async def reset(self, reference: str, fields: ProjectFields, *, tenant: str) -> ProjectFacts:
        """Replace a project.

        Raises:
            Conflict: `project.exists` if another one has the canonical name.
            NotFound: `project.not_found`.
        """

        def change(present: ProjectFacts | None) -> ProjectFacts:
            if present is None:
                raise no_project(reference)
            return _replaced(present, fields)

        return await self.store.write(reference, change, tenant=tenant)

    async def patch(self, reference: str, fields: ProjectFields, *, tenant: str) -> ProjectFacts:
        """Change what is given of a project; `metadata` keeps the members that are not given.

        Raises:
            Conflict: `project.exists` if another one has the canonical name.
            NotFound: `project.not_found`.
        """

        def change(present: ProjectFacts | None) -> ProjectFacts:
            if present is None:
                raise no_project(reference)
            metadata = present.metadata
            if "metadata" in fields:
                metadata = merged(metadata, fields["metadata"])
            return replace(
                present,
                name=fields.get("name", present.name),
                canonical_name=fields.get("canonical_name") or present.canonical_name,
                metadata=metadata,
                updated_us=later(present.updated_us, now_us()),
            )

        return await self.store.write(reference, change, tenant=tenant)

    async def delete(self, reference: str, *, tenant: str) -> dict[str, Any]:
        """Delete a project; what belonged to it stays, and belongs to none.

        Returns:
            {id, deleted_at, jobs}.

        Raises:
            NotFound: `project.not_found`.
        """
        gone = await self.store.remove(reference, tenant=tenant)
        return deleted_view(gone.id, now_us())


def canonical_name_of(name: str) -> str:
    """Return the canonical name of a project that has only a name, such as `spring_sale` for `Spring sale!`."""
    word = _NO_LETTERS.sub("_", name.lower()).strip("_")
    return (word if word[:1].isalpha() else f"project_{word}".rstrip("_"))[:MOST_NAME]


def _whole(project_id: str, fields: ProjectFields, *, tenant: str, actor: str) -> ProjectFacts:
    now = now_us()
    return ProjectFacts(
        id=project_id,
        tenant=tenant,
        name=fields["name"],
        canonical_name=fields.get("canonical_name") or canonical_name_of(fields["name"]),
        metadata=dict(fields.get("metadata") or {}),
        created_us=now,
        updated_us=now,
        actor=actor,
    )


def _replaced(present: ProjectFacts, fields: ProjectFields) -> ProjectFacts:
    named: ProjectFields = {**fields, "canonical_name": fields.get("canonical_name") or present.canonical_name}
    fresh = _whole(present.id, named, tenant=present.tenant, actor=present.actor)
    return replace(fresh, created_us=present.created_us, updated_us=later(present.updated_us, now_us()))


def project_view(project: ProjectFacts) -> dict[str, Any]:
    """Return a project as JSON (contracts: Julep's Project)."""
    return {
        "id": project.id,
        "name": project.name,
        "canonical_name": project.canonical_name,
        "metadata": project.metadata,
        "created_at": iso_time(project.created_us),
        "updated_at": iso_time(project.updated_us),
    }
