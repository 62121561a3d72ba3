"""Tags of executions in the table: labels, members of the metadata, models and backends that answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, delete, update

from engine.core.run.tags import BACKEND, LABEL, META, MODEL, clip_tag, flatten_metadata
from engine.store.bulk import Bulk, upsert
from engine.store.rows import Named
from engine.store.schema import execution_tags

# built once: putting statements together takes longer than running them
_ADD = upsert(execution_tags, None)
_MINE = (execution_tags.c.tenant == bindparam("b_tenant")) & (execution_tags.c.execution_id == bindparam("b_id"))
_DROP = Bulk(delete(execution_tags).where(_MINE))
_DROP_SERVED = Bulk(delete(execution_tags).where(_MINE, execution_tags.c.kind == bindparam("b_kind")))


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
    keys = [{"b_tenant": tenant, "b_id": execution_id} for tenant, execution_id in executions]
    if only_served:
        _DROP_SERVED.run(connection, [key | {"b_kind": kind} for key in keys for kind in (MODEL, BACKEND)])
    else:
        _DROP.run(connection, keys)


def date_tags(connection: Connection, tenant: str, execution_id: str, created_us: int) -> None:
    """Write when an execution was created into the tags that it has."""
    mine = {"b_tenant": tenant, "b_id": execution_id}
    connection.execute(update(execution_tags).where(_MINE).values(created_us=created_us), mine)
