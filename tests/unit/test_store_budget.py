"""Pages of long values: they end early, lose nothing, and nothing is read that they do not show."""

from __future__ import annotations

import importlib
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from engine.core.run.events import EventRecord
from engine.core.run.tags import META, flatten_metadata
from engine.store import budget
from engine.store.database import Database, open_database
from engine.store.event_pages import EventKey, EventPages
from engine.store.filters import ExecutionFilter
from engine.store.listing import ExecutionLists, Key
from engine.store.projection import ProjectionStore
from engine.store.schema import execution_tags, executions
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000
LONG = 3_000
"""Characters of a long value; two of them are too much for one page."""


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "PAGE_CHARS", 5_000)
    monkeypatch.setattr(budget, "SIZED_AT_ONCE", 3)


@pytest.fixture
async def database(both_stores: str, tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "store.db"))
    yield opened
    await opened.close()


async def write(database: Database, outputs: list[str], metadata: dict[str, Any] | None = None) -> list[str]:
    """Write executions with these outputs and return their ids, the newest first."""
    async with database.write() as connection:
        for number, output in enumerate(outputs):
            row = {"tenant": "default", "id": f"e{number:03d}", "status": "succeeded", "interpreter": 1}
            moment = {"created_us": T0 + number, "updated_us": T0 + number}
            values = {**row, **moment, "output": json.dumps(output), "metadata": json.dumps(metadata or {})}
            await connection.execute(insert(executions).values(values))
            for tag in flatten_metadata(metadata or {}):
                mine = {"tenant": "default", "execution_id": row["id"], "created_us": T0 + number}
                await connection.execute(
                    insert(execution_tags).values(**mine, kind=META, name=tag.name, value=tag.value)
                )
    return [f"e{number:03d}" for number in reversed(range(len(outputs)))]


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch, module: str, name: str) -> Iterator[list[Any]]:
    """Note each row that is made an object of."""
    found: list[Any] = []
    home = importlib.import_module(module)
    plain = getattr(home, name)

    def noted(row: Any) -> Any:
        found.append(row)
        return plain(row)

    with monkeypatch.context() as patch:
        patch.setattr(home, name, noted)
        yield found


OUTPUTS = ["x" * LONG] * 4 + ["y"] * 9 + ["x" * LONG * 5, "z", "x" * LONG]


@pytest.mark.parametrize("metadata", [{}, {"a": [1]}], ids=["by index", "looked at one by one"])
@pytest.mark.parametrize("by", ["cursor", "offset"])
async def test_executions_with_long_outputs_come_on_more_pages_and_none_is_lost(
    by: str, metadata: dict[str, Any], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = await write(database, OUTPUTS, metadata)
    lists, wanted = ExecutionLists(database), ExecutionFilter(metadata=metadata)
    found: list[str] = []
    sizes: list[int] = []
    after: Key | None = None
    while True:
        with counted(monkeypatch, "engine.store.listing", "facts_of") as read:
            place: dict[str, Any] = {"after": after} if by == "cursor" else {"offset": len(found)}
            page = await lists.page(wanted, tenant="default", limit=10, **place)
        assert len(read) == len(page.items)
        found += [facts.id for facts in page.items]
        chars = sum(len(json.dumps(facts.output)) for facts in page.items)
        assert len(page.items) == 1 or chars <= budget.PAGE_CHARS
        sizes.append(len(page.items))
        after = page.after
        if after is None:
            break
    assert found == expected
    # a long one with a short one; the one that alone is too long; nine short ones with a long one; three long ones
    assert sizes == [2, 1, 10, 1, 1, 1]


async def test_an_execution_beyond_the_budget_is_shown_alone(database: Database) -> None:
    await write(database, ["x" * LONG * 9])
    page = await ExecutionLists(database).page(ExecutionFilter(), tenant="default", limit=10)
    assert ([len(facts.output) for facts in page.items], page.after) == ([LONG * 9], None)


# --- events --------------------------------------------------------------------------------------------------------


def records(scopes: list[str]) -> list[EventRecord]:
    """Return events of which every third is long."""
    found = []
    for number, scope in enumerate(scopes, 1):
        body = {"path": f"main.{number}", "scope": scope, "output": "x" * (LONG if number % 3 == 0 else 10)}
        found.append(EventRecord("e", "r", number, T0 + number, "step", json.dumps(body)))
    return found


@pytest.mark.parametrize("scope", [None, "s"])
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("by", ["cursor", "offset"])
async def test_long_events_come_on_more_pages_and_none_is_lost(
    by: str, descending: bool, scope: str | None, database: Database
) -> None:
    made = records(["s", "t"] * 15)
    await ProjectionStore(database).append_events(made, tenant_of={"e": "default"})
    expected = [record.seq for record in made if scope is None or json.loads(record.body)["scope"] == scope]
    if descending:
        expected.reverse()
    found: list[int] = []
    after: EventKey | None = None
    pages = 0
    while True:
        place: dict[str, Any] = {"after": after} if by == "cursor" else {"offset": len(found)}
        page = await EventPages(database).page(
            "e", tenant="default", limit=20, scope_id=scope, descending=descending, **place
        )
        assert sum(len(record.body) for record in page.items) <= budget.PAGE_CHARS
        found += [record.seq for record in page.items]
        pages += 1
        after = page.after
        if after is None:
            break
    assert found == expected
    assert pages >= 5


async def test_only_the_bodies_of_a_page_are_read(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    made = records(["s"] * 30)
    await ProjectionStore(database).append_events(made, tenant_of={"e": "default"})
    with counted(monkeypatch, "engine.store.event_pages", "record_of") as read:
        page = await EventPages(database).page("e", tenant="default", limit=30)
    assert [record.seq for record in page.items] == [1, 2, 3, 4, 5]
    assert len(read) == 5
