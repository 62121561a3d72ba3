"""Use cases on users: create, replace, change, delete; in an answer their texts are never null."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypedDict

from engine.control.definitions import now_us
from engine.control.request_keys import id_for
from engine.control.resources import chosen_id, deleted_view, first_or_same, later, merged
from engine.core.run.times import iso_time
from engine.store.removing import remove_user
from engine.store.users import UserFacts, UserStore, no_user


class UserFields(TypedDict, total=False):
    """What callers say of a user; null means that there is none of it."""

    name: str | None
    about: str | None
    project: str | None
    metadata: Mapping[str, Any] | None


class UserService:
    """Creates and changes users.

    Args:
        store: Where they are.
    """

    def __init__(self, store: UserStore) -> None:
        self.store = store

    async def create(self, fields: UserFields, *, tenant: str, request_key: str = "", actor: str = "") -> UserFacts:
        """Store a new user; with a `request_key` that stored the same one before, return that.

        Raises:
            Conflict: `idempotency.key_reused`.
            NotFound: `project.not_found`.
        """
        wanted = _whole(id_for(tenant, "user", request_key), fields, tenant=tenant, actor=actor)
        return await self.store.write(
            wanted.id, lambda present: first_or_same(present, wanted, request_key), tenant=tenant
        )

    async def put(self, user_id: str, fields: UserFields, *, tenant: str, actor: str = "") -> UserFacts:
        """Replace a user, or create it under an id that the caller chose.

        Raises:
            InvalidInput: `request.bad_id` if there is none and the id is no UUID.
            NotFound: `project.not_found`.
        """

        def change(present: UserFacts | None) -> UserFacts:
            if present is None:
                return _whole(chosen_id(user_id, "user"), fields, tenant=tenant, actor=actor)
            return _replaced(present, fields)

        return await self.store.write(user_id, change, tenant=tenant)

    async def reset(self, user_id: str, fields: UserFields, *, tenant: str) -> UserFacts:
        """Replace a user.

        Raises:
            NotFound: `user.not_found`, `project.not_found`.
        """

        def change(present: UserFacts | None) -> UserFacts:
            if present is None:
                raise no_user(user_id)
            return _replaced(present, fields)

        return await self.store.write(user_id, change, tenant=tenant)

    async def patch(self, user_id: str, fields: UserFields, *, tenant: str) -> UserFacts:
        """Change what is given of a user; `metadata` keeps the members that are not given.

        Raises:
            NotFound: `user.not_found`, `project.not_found`.
        """

        def change(present: UserFacts | None) -> UserFacts:
            if present is None:
                raise no_user(user_id)
            given = _stored(fields)
            if "metadata" in fields:
                given["metadata"] = merged(present.metadata, fields["metadata"])
            return replace(present, **given, updated_us=later(present.updated_us, now_us()))

        return await self.store.write(user_id, change, tenant=tenant)

    async def delete(self, user_id: str, *, tenant: str) -> dict[str, Any]:
        """Delete a user with its documents; sessions in which it took part go on without it.

        Returns:
            {id, deleted_at, jobs}.

        Raises:
            NotFound: `user.not_found`.
        """
        await remove_user(self.store.database, user_id, tenant=tenant)
        return deleted_view(user_id, now_us())


def _whole(user_id: str, fields: UserFields, *, tenant: str, actor: str) -> UserFacts:
    now = now_us()
    return UserFacts(id=user_id, tenant=tenant, created_us=now, updated_us=now, actor=actor, **_stored(fields))


def _replaced(present: UserFacts, fields: UserFields) -> UserFacts:
    fresh = _whole(present.id, fields, tenant=present.tenant, actor=present.actor)
    return replace(fresh, created_us=present.created_us, updated_us=later(present.updated_us, now_us()))


def _stored(fields: UserFields) -> dict[str, Any]:
    """Return what is given as it is stored: texts and metadata are never null."""
    stored: dict[str, Any] = dict(fields)
    for name in ("name", "about"):
        if name in stored:
            stored[name] = stored[name] or ""
    if "metadata" in stored:
        stored["metadata"] = dict(stored["metadata"] or {})
    return stored


def user_view(user: UserFacts) -> dict[str, Any]:
    """Return a user as JSON (contracts: Julep's User)."""
    return {
        "id": user.id,
        "name": user.name,
        "about": user.about,
        "project": user.project,
        "metadata": user.metadata,
        "created_at": iso_time(user.created_us),
        "updated_at": iso_time(user.updated_us),
    }
