"""Tags of executions in the table: labels, members of the metadata, models and backends that answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, update

from engine.core.run.tags import BACKEND, LABEL, META, MODEL, clip_tag, flatten_metadata
from engine.store.rows import Named
from engine.store.schema import execution_tags
from engine.store.upserts import Upsert

# built once: putting statements together takes longer than running them
_ADD = Upsert(execution_tags, replace=False)
_MINE = (execution_tags.c.tenant == bindparam("b_tenant")) & (execution_tags.c.execution_id == bindparam("b_id"))
_DROP = delete(execution_tags).where(_MINE)
# no IN here: its list cannot be part of a statement that runs for many executions at once
_SERVED = (execution_tags.c.kind == MODEL) | (execution_tags.c.kind == BACKEND)
_DROP_SERVED = delete(execution_tags).where(_MINE, _SERVED)


def named_tags(tenant: str, execution_id: str, named: Named) -> list[dict[str, Any]]:
    """Return the tags of an execution's labels and metadata."""
    found = [(LABEL, "", clip_tag(label)) for label in named.labels]
    found += [(META, tag.name, tag.value) for tag in flatten_metadata(named.metadata)]
    return _rows(tenant, execution_id, named.created_us, found)


def served_tags(
    tenant: str, execution_id: str, served: Iterable[tuple[str, str]], created_us: int
) -> list[dict[str, Any]]:
    """Return the tags of the models and backends that answered: pairs of kind and name."""
    return _rows(tenant, execution_id, created_us, [(kind, "", clip_tag(name)) for kind, name in served])


def _rows(
    tenant: str, execution_id: str, created_us: int, tags: Iterable[tuple[str, str, str]]
) -> list[dict[str, Any]]:
    return [
        {
            "tenant": tenant,
            "kind": kind,
            "name": name,
            "value": value,
            "execution_id": execution_id,
            "created_us": created_us,
        }
        for kind, name, value in dict.fromkeys(tags)
    ]


def add_tags(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Write tags; those that are there stay as they are."""
    _ADD.run(connection, rows)


def drop_tags(connection: Connection, executions: Sequence[tuple[str, str]], *, only_served: bool = False) -> None:
    """Delete the tags of executions (tenant and id), or only those of what answered."""
    if executions:
        keys = [{"b_tenant": tenant, "b_id": execution_id} for tenant, execution_id in executions]
        connection.execute(_DROP_SERVED if only_served else _DROP, keys)


def date_tags(connection: Connection, tenant: str, execution_id: str, created_us: int) -> None:
    """Write when an execution was created into the tags that it has."""
    mine = {"b_tenant": tenant, "b_id": execution_id}
    connection.execute(update(execution_tags).where(_MINE).values(created_us=created_us), mine)
