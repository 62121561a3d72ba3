"""Summaries of sessions in the store: one of a session under way, put in the place of entries in one piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from engine.core.kinds import ExecutionStatus
from engine.store.chat_turns import TurnFacts, TurnStore
from engine.store.database import Database, open_database
from engine.store.ends import ExecutionEnd
from engine.store.entries import SUMMARIZER, EntryFacts, EntryStore
from engine.store.projection import ProjectionStore
from engine.store.rows import Named
from engine.store.sessions import SessionFacts, SessionStore
from engine.store.summaries import SummaryFacts, SummaryStore
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "summaries.db"))
    try:
        yield opened
    finally:
        await opened.close()


def entry(name: str, **more: Any) -> EntryFacts:
    given: dict[str, Any] = {"role": "user", "content": name, "source": "api_request", "created_us": T0, **more}
    return EntryFacts(tenant="t", session_id="s", id=name, turn_id="turn", **given)


def summary(name: str) -> EntryFacts:
    return entry(name, role="system", source=SUMMARIZER)


def wanted(job: str, entries: Sequence[str], *, tenant: str = "t") -> SummaryFacts:
    request = {"messages": [{"content": "half a pair \ud800"}]}
    return SummaryFacts(tenant=tenant, session_id="s", id=job, request=request, entries=entries, created_us=T0)


async def said(database: Database, *names: str) -> None:
    """Make a session in which something was said."""
    await SessionStore(database).add(SessionFacts(id="s", tenant="t", agents=["a"], created_us=T0, updated_us=T0))
    store = TurnStore(database)
    turn = TurnFacts(tenant="t", id="turn", session_id="s", saved=True, request={}, created_us=T0, updated_us=T0)
    await store.finish(await store.accept(turn), {}, [entry(name) for name in names], now_us=T0)


async def history(database: Database) -> list[Any]:
    return [found.content for found in await EntryStore(database).history("s", tenant="t")]


async def test_one_summary_of_a_session_is_under_way_and_comes_back_as_it_was_written(database: Database) -> None:
    store = SummaryStore(database)
    assert await store.find("s", tenant="t") is None
    one = wanted("one", ["a", "b"])
    assert await store.begin(one) == one
    assert await store.begin(wanted("two", ["c"])) == one
    other = await store.begin(wanted("three", ["a"], tenant="u"))
    assert other.id == "three"
    assert await store.find("s", tenant="t") == one
    assert await store.due(now_us=T0, limit=10) == [one.key, other.key]
    assert len(await store.due(now_us=T0, limit=1)) == 1


async def test_only_one_starts_a_summary_until_its_time_is_over(database: Database) -> None:
    store = SummaryStore(database)
    facts = await store.begin(wanted("one", ["a"]))
    assert await store.claim(facts.key, now_us=T0, until_us=T0 + 5) == facts
    assert await store.claim(facts.key, now_us=T0 + 4, until_us=T0 + 9) is None
    assert await store.claim(facts.key, now_us=T0 + 5, until_us=T0 + 9) == facts


async def test_a_summary_whose_execution_goes_on_keeps_no_other_back(database: Database) -> None:
    store, executions = SummaryStore(database), ProjectionStore(database)
    slow = await store.begin(wanted("one", ["a"]))
    other = await store.begin(wanted("two", ["a"], tenant="u"))
    await store.claim(slow.key, now_us=T0, until_us=T0 + 5)
    assert await store.due(now_us=T0 + 4, limit=1) == [other.key]
    await executions.ensure_executions([("one", "t", Named(task_id="t", task_name="t", created_us=T0))])
    assert await store.due(now_us=T0 + 9, limit=1) == [other.key]
    await executions.settle([ExecutionEnd("one", ExecutionStatus.SUCCEEDED, T0 + 9, output="all")])
    assert await store.due(now_us=T0 + 9, limit=1) == [slow.key]


async def test_a_summary_stands_in_front_and_a_later_one_takes_it_in(database: Database) -> None:
    await said(database, "a", "b", "c")
    store = SummaryStore(database)
    first = await store.begin(wanted("one", ["a", "b"]))
    assert await store.finish(first, summary("one"), now_us=T0 + 1)
    assert await history(database) == ["one", "c"]
    # whoever was slower changes nothing
    assert not await store.finish(first, summary("one"), now_us=T0 + 1)
    second = await store.begin(wanted("two", ["one", "c"]))
    assert await store.finish(second, summary("two"), now_us=T0 + 2)
    assert await history(database) == ["two"]
    marks = {found.id: found.summary_id for found in await EntryStore(database).every("s", tenant="t")}
    assert marks == {"two": None, "one": "two", "a": "one", "b": "one", "c": "two"}
    session = await SessionStore(database).get("s", tenant="t")
    assert session is not None
    assert (session.summary, session.updated_us) == ("two", T0 + 2)


async def test_a_summary_of_what_is_there_no_more_is_thrown_away(database: Database) -> None:
    await said(database, "a", "b")
    store = SummaryStore(database)
    facts = await store.begin(wanted("one", ["a", "b"]))
    await EntryStore(database).clear("s", tenant="t")
    assert not await store.finish(facts, summary("one"), now_us=T0)
    assert await history(database) == []
    assert await store.find("s", tenant="t") is None


async def test_a_summary_that_is_given_up_or_whose_session_is_deleted_leaves_nothing(database: Database) -> None:
    await said(database, "a")
    store = SummaryStore(database)
    await store.drop((await store.begin(wanted("one", ["a"]))).key)
    assert await store.find("s", tenant="t") is None
    await store.begin(wanted("two", ["a"]))
    assert await SessionStore(database).remove("s", tenant="t")
    assert await store.due(now_us=T0, limit=10) == []
