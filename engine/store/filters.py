"""Which executions a list shall have: the filter, and its conditions in SQL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, func, literal, or_, select, union_all

from engine.core.kinds import ExecutionStatus
from engine.core.run.tags import ARRAY, BACKEND, LABEL, META, MODEL, clip_tag, equal_tags, members_of
from engine.store.schema import execution_tags, executions

ANY_AFTER = ".*"
"""End of an error code that stands for all codes below it."""

TAG_INDEX = "ix_execution_tags_tenant_kind_name_value_created_us_execution_id"
"""The index by which executions are found by their tags."""


class Span(NamedTuple):
    """A span of time in Unix microseconds: from the first (included) to the last (not included); None = open."""

    since_us: int | None = None
    until_us: int | None = None


class TagTerm(NamedTuple):
    """A tag that an execution must have: one of some values under a name."""

    kind: str
    name: str
    values: tuple[str, ...]


ALWAYS = Span()


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionFilter:
    """Which executions; everything that is given must hold.

    Attributes:
        ids: These alone; empty = all.
        task_id: Those of this task.
        task_name: Those of tasks that had this name when they were started.
        agent_id: Those of this agent.
        statuses: Those with one of these; empty = all.
        labels: Those with all of these.
        metadata: Those whose metadata contains this object.
        created: Created in this span.
        updated: Last changed in this span.
        closed: Ended in this span.
        error_code: Those that failed with this code; `x.*` stands for all codes that begin with `x.`, and a word
            without a dot for itself and all codes that begin with it and a dot.
        model: Those that had a reply of this model.
        backend: Those that had a reply of this backend.
        actor: Those that this one started.
        min_cost_nano: Those that cost at least so much, in thousand-millionths of a dollar; none of unknown cost.
        max_cost_nano: Those that cost at most so much; none of unknown cost.
        stuck: Only those that do not go on although they should.
        parent_id: Those that this execution started.
        root_only: Only those that no execution started.
    """

    ids: Sequence[str] = ()
    task_id: str | None = None
    task_name: str | None = None
    agent_id: str | None = None
    statuses: Sequence[ExecutionStatus] = ()
    labels: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    created: Span = ALWAYS
    updated: Span = ALWAYS
    closed: Span = ALWAYS
    error_code: str | None = None
    model: str | None = None
    backend: str | None = None
    actor: str | None = None
    min_cost_nano: int | None = None
    max_cost_nano: int | None = None
    stuck: bool = False
    parent_id: str | None = None
    root_only: bool = False


def tags_are_enough(wanted: ExecutionFilter) -> bool:
    """Whether the tags alone tell which metadata contains the object; of arrays they say only that there is one."""
    return not any(isinstance(value, list | tuple) for _, value in members_of(wanted.metadata))


def tag_terms(wanted: ExecutionFilter) -> list[TagTerm]:
    """Return the tags that an execution must have to pass."""
    terms = [TagTerm(LABEL, "", (clip_tag(label),)) for label in dict.fromkeys(wanted.labels)]
    for kind, text in ((MODEL, wanted.model), (BACKEND, wanted.backend)):
        if text is not None:
            terms.append(TagTerm(kind, "", (clip_tag(text),)))
    for name, value in members_of(wanted.metadata):
        if isinstance(value, Mapping) and value:
            continue  # its members say more
        terms.append(TagTerm(META, name, (ARRAY,) if isinstance(value, list | tuple) else tuple(equal_tags(value))))
    return terms


def tag_condition(tags: Any, tenant: str, term: TagTerm) -> ColumnElement[bool]:
    """Return the condition on a row of `execution_tags` (or an alias of it)."""
    value = tags.c.value == term.values[0] if len(term.values) == 1 else tags.c.value.in_(term.values)
    return and_(tags.c.tenant == tenant, tags.c.kind == term.kind, tags.c.name == term.name, value)


def narrowed(connection: Connection, tenant: str, term: TagTerm) -> TagTerm:
    """Return a term with those of its values alone that any execution has, or the first if none has any.

    `1`, `1.0` and `true` equal each other, but hardly ever stand under one name; and of one value the index has the
    executions in order.
    """
    if len(term.values) == 1:
        return term
    looks = []
    for value in term.values:
        tags = execution_tags.alias("known")
        look = select(tags.c.value).where(tag_condition(tags, tenant, term._replace(values=(value,)))).limit(1)
        looks.append(select(look.with_hint(tags, f"INDEXED BY {TAG_INDEX}", "sqlite").subquery().c.value))
    known = set(connection.execute(union_all(*looks)).scalars())
    return term._replace(values=tuple(value for value in term.values if value in known) or term.values[:1])


def has_tag(tenant: str, term: TagTerm, created: Any = executions.c.created_us, identity: Any = executions.c.id) -> Any:
    """Return the condition that an execution, which columns tell by time of creation and id, has a tag."""
    tags = execution_tags.alias()
    # the time is in the tags' index before the id: executions in order of it find their tags side by side
    same = and_(tags.c.created_us == created, tags.c.execution_id == identity)
    found = select(literal(1)).select_from(tags).where(tag_condition(tags, tenant, term), same)
    return found.with_hint(tags, f"INDEXED BY {TAG_INDEX}", "sqlite").exists()


def column_conditions(wanted: ExecutionFilter) -> list[ColumnElement[bool]]:
    """Return the conditions on an execution's own columns, all of them in the index that lists are made from."""
    columns = executions.c
    found: list[ColumnElement[bool]] = [
        columns[name] == value for name, value in equal_columns(wanted) if name != "status"
    ]
    if wanted.ids:
        found.append(columns.id.in_(list(dict.fromkeys(wanted.ids))))
    statuses = list(dict.fromkeys(status.value for status in wanted.statuses))
    if statuses:
        found.append(columns.status == statuses[0] if len(statuses) == 1 else columns.status.in_(statuses))
    if wanted.error_code is not None and wanted.error_code.endswith(ANY_AFTER):
        start = wanted.error_code[:-1]
        # LIKE is blind to case in SQLite, and the order of texts is not that of bytes in every PostgreSQL
        found.append(func.substr(columns.error_code, 1, len(start)) == start)
    elif wanted.error_code and "." not in wanted.error_code:
        start = f"{wanted.error_code}."
        begins = func.substr(columns.error_code, 1, len(start)) == start
        found.append(or_(columns.error_code == wanted.error_code, begins))
    for name, text in (("task_name", wanted.task_name), ("actor", wanted.actor)):
        if text is not None:
            found.append(columns[name] == text)
    if wanted.root_only:
        found.append(columns.parent_id == "")
    for name, span in (("created_us", wanted.created), ("updated_us", wanted.updated), ("closed_us", wanted.closed)):
        found += in_span(columns[name], span)
    if wanted.min_cost_nano is not None:
        found.append(columns.cost_nano >= wanted.min_cost_nano)
    if wanted.max_cost_nano is not None:
        found.append(columns.cost_nano <= wanted.max_cost_nano)
    return found


def equal_columns(wanted: ExecutionFilter) -> Iterator[tuple[str, str]]:
    """Yield the columns that must equal a value, of those that have an index of their own."""
    if wanted.task_id is not None:
        yield "task_id", wanted.task_id
    if wanted.agent_id is not None:
        yield "agent_id", wanted.agent_id
    if wanted.parent_id is not None:
        yield "parent_id", wanted.parent_id
    code = wanted.error_code
    # a word without a dot is the beginning of codes
    if code is not None and not code.endswith(ANY_AFTER) and ("." in code or not code):
        yield "error_code", code
    if len(set(wanted.statuses)) == 1:
        yield "status", wanted.statuses[0].value


def in_span(column: Any, span: Span) -> Iterator[ColumnElement[bool]]:
    """Yield the conditions that a column's value lies in a span."""
    if span.since_us is not None:
        yield column >= span.since_us
    if span.until_us is not None:
        yield column < span.until_us


def beyond(key: Any, identity: Any, after: tuple[int | None, str], *, descending: bool) -> ColumnElement[bool]:
    """Return the condition that a row stands behind another one in the order of `key`, then id; NULL is the lowest.

    Args:
        key: The column that is sorted by.
        identity: The column with the id.
        after: Key and id of the other row.
        descending: Whether the highest comes first.
    """
    value, last_id = after
    same = and_(
        key == value if value is not None else key.is_(None), identity < last_id if descending else identity > last_id
    )
    if value is None:
        return same if descending else or_(key.is_not(None), same)
    if not key.nullable:
        bound = key <= value if descending else key >= value  # so that the index is entered there
        return and_(bound, or_(key != value, same))
    return or_(key < value, same, key.is_(None)) if descending else or_(key > value, same)
