"""Lists of executions: each filter, each order, cursors under inserts, counts; and a naive filter that must agree."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, insert

from engine.core.kinds import ExecutionStatus
from engine.core.run.tags import (
    BACKEND,
    LABEL,
    LONGEST_TAG,
    META,
    MODEL,
    Ambiguous,
    clip_tag,
    equal_tags,
    flatten_metadata,
)
from engine.store import listing
from engine.store.database import Database, open_database
from engine.store.filters import ExecutionFilter, Span, tag_terms, tags_are_enough
from engine.store.listing import SORTS, ExecutionLists
from engine.store.metadata import contains
from engine.store.schema import execution_tags, executions
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """An execution with all that lists look at."""

    id: str
    tenant: str = "default"
    status: str = "succeeded"
    task_id: str = "t1"
    task_name: str = "brew"
    agent_id: str = "a1"
    parent_id: str = ""
    actor: str = ""
    error_code: str = ""
    created_us: int = T0
    updated_us: int = T0
    closed_us: int | None = None
    cost_nano: int | None = None
    total_tokens: int = 0
    stuck: str | None = None
    labels: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


APART = ("labels", "models", "backends", "metadata")


async def write(database: Database, rows: Sequence[Row]) -> None:
    async with database.write() as connection:
        for row in rows:
            plain = {name: value for name, value in dataclasses.asdict(row).items() if name not in APART}
            values = plain | {"metadata": json.dumps(row.metadata), "labels": json.dumps(row.labels), "interpreter": 1}
            await connection.execute(insert(executions).values(values))
            tags = [(LABEL, "", clip_tag(label)) for label in row.labels]
            tags += [(MODEL, "", model) for model in row.models] + [(BACKEND, "", name) for name in row.backends]
            tags += [(META, tag.name, tag.value) for tag in flatten_metadata(row.metadata)]
            for kind, name, value in tags:
                mine = {"tenant": row.tenant, "execution_id": row.id, "created_us": row.created_us}
                await connection.execute(
                    insert(execution_tags).values(mine | {"kind": kind, "name": name, "value": value})
                )


def numbered(count: int, **more: Any) -> list[Row]:
    return [Row(id=f"e{number:04d}", created_us=T0 + number, updated_us=T0 - number, **more) for number in range(count)]


@pytest.fixture
async def database(both_stores: str, tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "store.db"))
    yield opened
    await opened.close()


@pytest.fixture
def lists(database: Database) -> ExecutionLists:
    return ExecutionLists(database)


async def ids(lists: ExecutionLists, wanted: ExecutionFilter, **more: Any) -> list[str]:
    page = await lists.page(wanted, tenant="default", **more)
    return [facts.id for facts in page.items]


# --- each filter ---------------------------------------------------------------------------------------------------

RUNNING = ExecutionStatus.RUNNING
FILTERS: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = [
    ({"task_id": "t2"}, {"task_id": "t2"}, {"task_id": "t1"}),
    ({"task_name": "tea"}, {"task_name": "tea"}, {"task_name": "Tea"}),
    ({"agent_id": "a2"}, {"agent_id": "a2"}, {"agent_id": ""}),
    ({"parent_id": "p"}, {"parent_id": "p"}, {"parent_id": ""}),
    ({"root_only": True}, {"parent_id": ""}, {"parent_id": "p"}),
    ({"statuses": [RUNNING]}, {"status": "running"}, {"status": "failed"}),
    ({"statuses": [RUNNING, ExecutionStatus.FAILED]}, {"status": "failed"}, {"status": "queued"}),
    ({"labels": ["x"]}, {"labels": ("y", "x")}, {"labels": ("y",)}),
    ({"labels": ["x", "y"]}, {"labels": ("y", "x")}, {"labels": ("y",)}),
    ({"labels": ["l" * 300]}, {"labels": ("l" * 300,)}, {"labels": ("l" * 301,)}),
    ({"model": "m"}, {"models": ("n", "m")}, {"models": ("M",)}),
    ({"backend": "b"}, {"backends": ("b",)}, {"models": ("b",)}),
    ({"actor": "ann"}, {"actor": "ann"}, {"actor": "annie"}),
    ({"error_code": "tool.failed"}, {"error_code": "tool.failed"}, {"error_code": "tool.failed.more"}),
    ({"error_code": "tool.*"}, {"error_code": "tool.failed"}, {"error_code": "tools.failed"}),
    ({"error_code": "a_b.*"}, {"error_code": "a_b.c"}, {"error_code": "axb.c"}),
    ({"error_code": "tool"}, {"error_code": "tool.failed"}, {"error_code": "tools.failed"}),
    ({"error_code": "bug"}, {"error_code": "bug"}, {"error_code": "bugs"}),
    ({"error_code": "tool.*"}, {"error_code": "tool.x"}, {"error_code": "TOOL.x"}),
    ({"min_cost_nano": 5}, {"cost_nano": 5}, {"cost_nano": 4}),
    ({"min_cost_nano": 0}, {"cost_nano": 0}, {"cost_nano": None}),
    ({"max_cost_nano": 5}, {"cost_nano": 5}, {"cost_nano": None}),
    ({"stuck": True}, {"stuck": "{}"}, {"stuck": None}),
    ({"created": Span(T0, T0 + 1)}, {"created_us": T0}, {"created_us": T0 + 1}),
    ({"updated": Span(T0 + 5)}, {"updated_us": T0 + 5}, {"updated_us": T0 + 4}),
    ({"closed": Span(None, T0 + 5)}, {"closed_us": T0 + 4}, {"closed_us": None}),
    ({"metadata": {"a": 1}}, {"metadata": {"a": 1.0, "b": 2}}, {"metadata": {"a": "1"}}),
    ({"metadata": {"a": {"b": "x"}}}, {"metadata": {"a": {"b": "x", "c": 1}}}, {"metadata": {"a.b": "x"}}),
    ({"metadata": {"a": {}}}, {"metadata": {"a": {"b": 1}}}, {"metadata": {"a": []}}),
    ({"metadata": {"a": [1]}}, {"metadata": {"a": [1]}}, {"metadata": {"a": [1, 2]}}),
    ({"metadata": {"a": None}}, {"metadata": {"a": None}}, {"metadata": {}}),
    ({"metadata": {"a": "v" * 300}}, {"metadata": {"a": "v" * 300}}, {"metadata": {"a": "v" * 299}}),
]


@pytest.mark.parametrize(("wanted", "passes", "fails"), FILTERS)
async def test_a_filter_shows_what_passes_and_nothing_else(
    wanted: dict[str, Any],
    passes: dict[str, Any],
    fails: dict[str, Any],
    database: Database,
    lists: ExecutionLists,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await write(database, [Row(id="yes", **passes), Row(id="no", **fails), Row(id="else", tenant="other", **passes)])
    asked = ExecutionFilter(**wanted)
    # with 0 no set is small enough to begin from, so that the other way of the query is taken too
    for few in (0, 5_000):
        monkeypatch.setattr(listing, "FEW", few)
        monkeypatch.setattr(listing, "SOME", few)
        for sort_by in SORTS:
            for descending in (True, False):
                assert await ids(lists, asked, sort_by=sort_by, descending=descending) == ["yes"]
        counts = await lists.count(asked, tenant="default")
        assert (counts.total, list(counts.by_status.values())) == (1, [1])


async def test_without_a_filter_everything_of_the_tenant_is_shown_and_counted(
    database: Database, lists: ExecutionLists
) -> None:
    rows = [*numbered(3), Row(id="r", status="running"), Row(id="x", tenant="other")]
    await write(database, rows)
    assert sorted(await ids(lists, ExecutionFilter())) == ["e0000", "e0001", "e0002", "r"]
    counts = await lists.count(ExecutionFilter(), tenant="default")
    assert (counts.total, counts.by_status) == (4, {"succeeded": 3, "running": 1})


# --- orders and cursors --------------------------------------------------------------------------------------------


async def walk(lists: ExecutionLists, wanted: ExecutionFilter, **more: Any) -> list[str]:
    """Return the ids of a whole list, page by page."""
    found: list[str] = []
    after = None
    while True:
        page = await lists.page(wanted, tenant="default", after=after, **more)
        found += [facts.id for facts in page.items]
        if page.after is None:
            return found
        assert len(page.items) == more["limit"]
        after = page.after


KEYS: list[int | None] = [None, 3, 1, None, 1, 2, 1, 0, None, 3]


@pytest.mark.parametrize("sort_by", list(SORTS))
async def test_pages_of_any_order_make_up_the_list_with_ties_by_id_and_the_unknown_as_lowest(
    sort_by: str, database: Database, lists: ExecutionLists
) -> None:
    column = SORTS[sort_by]
    values = KEYS if executions.c[column].nullable else [key or 0 for key in KEYS]
    rows = [dataclasses.replace(Row(id=f"e{number}"), **{column: value}) for number, value in enumerate(values)]  # type: ignore[arg-type]
    await write(database, rows)

    def place(row: Row) -> tuple[int, str]:
        value = getattr(row, column)
        return (-1 if value is None else value, row.id)

    for descending in (True, False):
        expected = [row.id for row in sorted(rows, key=place, reverse=descending)]
        for limit in (1, 3, 10, 11):
            found = await walk(lists, ExecutionFilter(), limit=limit, sort_by=sort_by, descending=descending)
            assert found == expected
        # a filter takes another index
        some = ExecutionFilter(labels=["x"])
        assert await walk(lists, some, limit=2, sort_by=sort_by, descending=descending) == []


async def test_executions_that_come_meanwhile_move_nothing(database: Database, lists: ExecutionLists) -> None:
    await write(database, numbered(10, labels=("x",)))
    for wanted in (ExecutionFilter(), ExecutionFilter(labels=["x"]), ExecutionFilter(task_id="t1")):
        expected = await ids(lists, wanted)
        first = await lists.page(wanted, tenant="default", limit=4)
        count = len(expected)
        await write(database, [Row(id=f"new{count}", created_us=T0 + 1_000 + count, labels=("x",))])
        second = await lists.page(wanted, tenant="default", limit=100, after=first.after)
        assert [facts.id for facts in first.items + second.items] == expected


async def test_an_offset_still_leaves_out_so_many(database: Database, lists: ExecutionLists) -> None:
    await write(database, numbered(6, metadata={"a": [1]}))
    for wanted in (ExecutionFilter(), ExecutionFilter(metadata={"a": [1]})):
        whole = await ids(lists, wanted)
        assert await ids(lists, wanted, offset=2, limit=3) == whole[2:5]
        assert await ids(lists, wanted, offset=5, limit=3) == whole[5:]
        assert await ids(lists, wanted, offset=6, limit=3) == []


async def test_a_page_is_filled_although_the_tags_do_not_tell_arrays_apart(
    database: Database, lists: ExecutionLists, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "IN_CHUNK", 7)
    rows = [Row(id=f"e{number:03d}", created_us=T0 + number, metadata={"a": [number % 10]}) for number in range(100)]
    await write(database, rows)
    wanted = ExecutionFilter(metadata={"a": [4]})
    assert not tags_are_enough(wanted)
    expected = [f"e{number:03d}" for number in range(94, 0, -10)]
    assert await walk(lists, wanted, limit=4) == expected
    assert await walk(lists, wanted, limit=10) == expected
    assert (await lists.count(wanted, tenant="default")).by_status == {"succeeded": 10}


# --- tags ----------------------------------------------------------------------------------------------------------

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from([0.0, -0.0, 1.0, 1.5, 1e22, 10**22, 2**70, "", "1", "a"]),
)
KEYS_OF = st.sampled_from(["a", "b", "a.b", "", "a\\.b", "\\"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(KEYS_OF, inner, max_size=2)),
    max_leaves=5,
)
OBJECTS = st.dictionaries(KEYS_OF, VALUES, max_size=3)
ASKED = st.sampled_from([Ambiguous("1", 1), Ambiguous("1.0", 1.0), Ambiguous("true", True), Ambiguous("null", None)])
PARTS = st.recursive(VALUES | ASKED, lambda inner: st.dictionaries(KEYS_OF, inner, max_size=2), max_leaves=5)


@settings(max_examples=500, deadline=None)
@given(value=OBJECTS, part=st.dictionaries(KEYS_OF, PARTS, max_size=3))
def test_tags_say_the_same_of_metadata_as_a_look_into_it(value: dict[str, Any], part: dict[str, Any]) -> None:
    wanted = ExecutionFilter(metadata=part)
    tags = {(META, tag.name, tag.value) for tag in flatten_metadata(value)}
    passes = all(any((term.kind, term.name, each) in tags for each in term.values) for term in tag_terms(wanted))
    if contains(value, part):
        assert passes
    elif tags_are_enough(wanted):
        assert not passes


@given(one=st.text(), other=st.text())
def test_a_tag_fits_its_column_and_two_texts_stay_two(one: str, other: str) -> None:
    for begin in ("", "x" * LONGEST_TAG):
        tags = [clip_tag(begin + text) for text in (one, other)]
        assert all(len(tag) <= LONGEST_TAG and "\0" not in tag and tag.encode("utf-8") is not None for tag in tags)
        assert (tags[0] == tags[1]) == (one == other)


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), 10**400, -(10**400), 2**1023, 1.5, 2**53 + 1])
def test_numbers_of_any_size_have_a_tag(value: float) -> None:
    assert flatten_metadata({"a": value})[0].value in equal_tags(value)


# --- property: the filter is a naive filter ------------------------------------------------------------------------

SMALL = st.integers(0, 4)
ROWS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(
        dict,
        status=st.sampled_from(["running", "failed", "succeeded"]),
        task_id=st.sampled_from(["t1", "t2"]),
        agent_id=st.sampled_from(["a1", ""]),
        parent_id=st.sampled_from(["", "p"]),
        error_code=st.sampled_from(["", "x.y", "x.z", "w"]),
        created_us=SMALL,
        updated_us=SMALL,
        closed_us=st.none() | SMALL,
        cost_nano=st.none() | SMALL,
        total_tokens=SMALL,
        stuck=st.sampled_from([None, None, "{}"]),
        labels=st.lists(st.sampled_from(["l1", "l2"]), unique=True).map(tuple),
        models=st.lists(st.sampled_from(["m1", "m2"]), unique=True).map(tuple),
        metadata=OBJECTS,
    ),
    max_size=12,
)
SPANS = st.builds(Span, st.none() | SMALL, st.none() | SMALL)
WANTED = st.builds(
    ExecutionFilter,
    task_id=st.sampled_from([None, None, "t1", "t3"]),
    agent_id=st.sampled_from([None, None, "a1"]),
    statuses=st.lists(st.sampled_from([RUNNING, ExecutionStatus.FAILED]), max_size=2),
    labels=st.lists(st.sampled_from(["l1", "l2"]), max_size=2),
    metadata=st.just({}) | OBJECTS,
    created=st.just(Span()) | SPANS,
    updated=st.just(Span()) | SPANS,
    closed=st.just(Span()) | SPANS,
    error_code=st.sampled_from([None, None, "x.y", "x.*", "x", "w"]),
    model=st.sampled_from([None, None, "m1"]),
    min_cost_nano=st.none() | SMALL,
    max_cost_nano=st.none() | SMALL,
    stuck=st.sampled_from([False, False, True]),
    parent_id=st.sampled_from([None, None, "p"]),
    root_only=st.sampled_from([False, False, True]),
)


def within(value: int | None, span: Span) -> bool:
    if span == Span():
        return True
    after = span.since_us is None or (value is not None and value >= span.since_us)
    return value is not None and after and (span.until_us is None or value < span.until_us)


def has_code(code: str, wanted: str) -> bool:
    if wanted.endswith("*"):
        return code.startswith(wanted[:-1])
    return code == wanted or ("." not in wanted and code.startswith(f"{wanted}."))


def passes_naively(row: Row, wanted: ExecutionFilter) -> bool:
    code = wanted.error_code
    return all(
        (
            wanted.task_id in (None, row.task_id),
            wanted.agent_id in (None, row.agent_id),
            not wanted.statuses or row.status in [status.value for status in wanted.statuses],
            set(wanted.labels) <= set(row.labels),
            contains(row.metadata, dict(wanted.metadata)),
            within(row.created_us, wanted.created),
            within(row.updated_us, wanted.updated),
            within(row.closed_us, wanted.closed),
            code is None or has_code(row.error_code, code),
            wanted.model is None or wanted.model in row.models,
            wanted.min_cost_nano is None or (row.cost_nano is not None and row.cost_nano >= wanted.min_cost_nano),
            wanted.max_cost_nano is None or (row.cost_nano is not None and row.cost_nano <= wanted.max_cost_nano),
            not wanted.stuck or row.stuck is not None,
            wanted.parent_id in (None, row.parent_id),
            not wanted.root_only or row.parent_id == "",
        )
    )


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    made=ROWS, wanted=WANTED, sort_by=st.sampled_from(list(SORTS)), descending=st.booleans(), limit=st.integers(1, 5)
)
async def test_a_list_is_what_a_naive_filter_and_a_sort_would_make(
    database: Database,
    made: list[dict[str, Any]],
    wanted: ExecutionFilter,
    sort_by: str,
    descending: bool,
    limit: int,
) -> None:
    async with database.write() as connection:
        for table in (executions, execution_tags):
            await connection.execute(delete(table))
    rows = [Row(id=f"e{number:02d}", **values) for number, values in enumerate(made)]
    await write(database, rows)
    found = await walk(ExecutionLists(database), wanted, limit=limit, sort_by=sort_by, descending=descending)
    passing = [row for row in rows if passes_naively(row, wanted)]

    def place(row: Row) -> tuple[int, str]:
        value = getattr(row, SORTS[sort_by])
        return (-1 if value is None else value, row.id)

    assert found == [row.id for row in sorted(passing, key=place, reverse=descending)]
    counts = await ExecutionLists(database).count(wanted, tenant="default")
    assert counts.total == len(passing)


# --- indexes -------------------------------------------------------------------------------------------------------


# PostgreSQL plans by what it knows of the data
@pytest.mark.parametrize("both_stores", ["sqlite"], indirect=True)
@pytest.mark.parametrize("wanted", [item[0] for item in FILTERS] + [{}])
async def test_no_list_reads_the_table_itself_to_find_its_page(
    wanted: dict[str, Any], database: Database, lists: ExecutionLists
) -> None:
    asked: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        del connection, cursor, rest
        asked.append((statement, parameters))

    engine = database._direct or database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    await write(database, numbered(20))
    asked.clear()
    for sort_by in SORTS:
        await lists.page(ExecutionFilter(**wanted), tenant="default", sort_by=sort_by)
    event.remove(engine, "before_cursor_execute", note)
    assert asked
    async with database.read() as connection:
        for statement, parameters in asked:
            rows = (await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)).all()
            steps = [str(row.detail) for row in rows]
            searched = [step for step in steps if step.startswith("SEARCH") and step.split()[1] in TABLES]
            assert searched, steps
            assert not [step for step in steps if step.startswith("SCAN") and step.split()[1] in TABLES], steps
            if "IN (" in statement and "ORDER BY" not in statement:
                # the rows of a page that was found, by their ids
                assert [step.partition(" (")[0] for step in searched] in BY_ID, steps
                continue
            # an index that does not cover the query ends in the table; only those may that answer the whole filter
            # and are in the order of the list, so that no row is looked at and thrown away
            assert all("COVERING INDEX" in step or _answers_alone(step, wanted, steps) for step in searched), steps


BY_ID = [[f"SEARCH executions USING INDEX sqlite_autoindex_executions_{key}"] for key in (1, 2)]
"""The keys of the table: tenant and id, and the id alone."""
TABLES = ("executions", "start", "known", "execution_tags_1", "execution_tags_2")


def _answers_alone(step: str, wanted: dict[str, Any], steps: list[str]) -> bool:
    """Whether the index of a step compares all that is asked for with equality, and nothing is sorted behind it."""
    compared = {part.partition("=")[0] for part in step.partition("(")[2].rstrip(")").split(" AND ")}
    asked = {{"statuses": "status"}.get(name, name) for name in wanted}
    if "ix_executions_stuck" in step:
        return asked == {"stuck"}  # nobody else is in it
    if step.startswith("SEARCH start"):
        # all rows of the index's part belong to the set; the table gives their ids, nothing else
        return len(compared) == 2 and compared <= {"tenant", *asked}
    return compared == {"tenant", *asked} and not any("TEMP B-TREE FOR ORDER BY" in other for other in steps)
