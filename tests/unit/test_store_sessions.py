"""Sessions in the store: what they are, what was said in them, and their turns, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from engine.core.errors import Conflict, NotFound
from engine.store.chat_turns import ACCEPTED, DONE, FAILED, RUNNING, UNKNOWN_US, TurnFacts, TurnStore
from engine.store.database import Database, open_database
from engine.store.entries import EntryFacts, EntryStore
from engine.store.sessions import SessionFacts, SessionStore
from tests.support.postgres import store_url

T0 = 1_800_000_000_000_000

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "sessions.db"))
    try:
        yield opened
    finally:
        await opened.close()


def session(name: str, *, tenant: str = "t", at: int = T0, **more: Any) -> SessionFacts:
    return SessionFacts(id=name, tenant=tenant, agents=["a"], created_us=at, updated_us=at, **more)


def turn(name: str, *, in_session: str = "s", tenant: str = "t", saved: bool = True, **more: Any) -> TurnFacts:
    given: dict[str, Any] = {"request": {"say": name}, "created_us": T0, "updated_us": T0, **more}
    return TurnFacts(id=name, tenant=tenant, session_id=in_session, saved=saved, **given)


def entry(name: str, *, in_session: str = "s", turn_id: str = "one", **more: Any) -> EntryFacts:
    given: dict[str, Any] = {"role": "user", "content": name, "source": "api_request", "created_us": T0, **more}
    return EntryFacts(tenant="t", session_id=in_session, id=name, turn_id=turn_id, **given)


async def said(database: Database, name: str = "s") -> list[Any]:
    return [found.content for found in await EntryStore(database).history(name, tenant="t")]


# --- sessions --------------------------------------------------------------------------------------------------------


async def test_a_session_comes_back_as_it_was_written(database: Database) -> None:
    store = SessionStore(database)
    whole = replace(
        session("s"),
        agents=["b", "a"],
        users=["u2", "u1"],
        situation="a hotel\0",
        render_templates=True,
        token_budget=4_000,
        context_overflow="truncate",
        recall_options={"mode": "text", "limit": 3},
        metadata={"n": [1, {"x": None}], "é": "ü"},
        actor="ada",
    )
    await store.add(whole)
    found = await store.get("s", tenant="t")
    assert found == replace(whole, situation="a hotel\ufffd")
    assert await store.get("s", tenant="u") is None
    with pytest.raises(Conflict) as refused:
        await store.add(session("s"))
    assert refused.value.code == "session.exists"
    await store.add(session("s", tenant="u"))


async def test_a_session_that_is_put_again_keeps_its_birth_and_gets_other_members(database: Database) -> None:
    store = SessionStore(database)
    assert (await store.put(session("s"))).agents == ["a"]
    put = await store.put(replace(session("s", at=T0 + 5), agents=["b", "c"], users=["u"], situation="x", actor="eve"))
    assert (put.agents, put.users, put.situation) == (["b", "c"], ["u"], "x")
    assert (put.created_us, put.updated_us, put.actor) == (T0, T0 + 5, "")


async def test_changes_see_what_is_there_and_time_goes_on_with_each(database: Database) -> None:
    store = SessionStore(database)
    await store.add(session("s", metadata={"n": 0}))

    def count(present: SessionFacts) -> dict[str, Any]:
        return {"metadata": {"n": present.metadata["n"] + 1}, "recall_options": {"mode": "text"}}

    await asyncio.gather(*(store.change("s", count, tenant="t", now_us=T0) for _ in range(5)))
    found = await store.get("s", tenant="t")
    assert found is not None
    assert (found.metadata, found.updated_us, found.recall_options) == ({"n": 5}, T0 + 5, {"mode": "text"})
    changed = await store.change("s", lambda present: {"recall_options": None}, tenant="t", now_us=T0 + 90)
    assert changed is not None
    assert (changed.recall_options, changed.updated_us) == (None, T0 + 90)
    assert await store.change("s", count, tenant="u", now_us=T0) is None


async def test_lists_are_filtered_sorted_and_paged_within_a_tenant(database: Database) -> None:
    store = SessionStore(database)
    for number in range(5):
        await store.add(session(f"s{number}", at=T0 + number, metadata={"odd": number % 2 == 1, "n": number}))
    await store.add(session("other", tenant="u"))
    await store.change("s0", lambda present: {"situation": "late"}, tenant="t", now_us=T0 + 100)

    async def listed(**asked: Any) -> list[str]:
        return [found.id for found in await store.page(tenant="t", **asked)]

    assert await listed() == ["s4", "s3", "s2", "s1", "s0"]
    assert await listed(descending=False, limit=2, offset=1) == ["s1", "s2"]
    assert await listed(metadata={"odd": True}, limit=1, offset=1) == ["s1"]
    assert await listed(sort_by="updated_at", limit=1) == ["s0"]
    assert (await store.page(tenant="t", limit=1))[0].agents == ["a"]


async def test_a_session_goes_with_all_that_was_said_in_it(database: Database) -> None:
    sessions, turns = SessionStore(database), TurnStore(database)
    for name in ("s", "kept"):
        await sessions.add(session(name))
        taken = await turns.accept(turn(f"one-{name}", in_session=name))
        await turns.finish(taken, {}, [entry(f"said-{name}", in_session=name)], now_us=T0)
    assert await sessions.remove("s", tenant="u") is False
    assert await sessions.remove("s", tenant="t") is True
    assert await sessions.remove("s", tenant="t") is False
    assert (await said(database), await said(database, "kept")) == ([], ["said-kept"])
    assert await turns.get("one-s", tenant="t") is None
    with pytest.raises(NotFound, match="there is no session 's'"):
        await turns.accept(turn("two"))


# --- turns -----------------------------------------------------------------------------------------------------------


async def claimed(turns: TurnStore, name: str, at: int = T0) -> bool:
    return await turns.claim(name, tenant="t", now_us=at, until_us=at + 10) is not None


async def test_a_turn_is_taken_once_and_begun_by_one_at_a_time(database: Database) -> None:
    await SessionStore(database).add(session("s"))
    turns = TurnStore(database)
    taken = await asyncio.gather(*(turns.accept(turn("one", created_us=T0 + number)) for number in range(4)))
    assert len({facts.created_us for facts in taken}) == 1
    assert (taken[0].number, taken[0].state) == (1, ACCEPTED)
    assert sorted(await asyncio.gather(*(claimed(turns, "one") for _ in range(4)))) == [False, False, False, True]
    assert await turns.due(now_us=T0 + 9, limit=9) == []
    assert await turns.due(now_us=T0 + 10, limit=9) == [("t", "one")]
    assert await claimed(turns, "one", T0 + 10), "whoever had begun it is taken for lost"


async def test_a_turn_whose_execution_nobody_knows_of_for_long_is_looked_at(database: Database) -> None:
    await SessionStore(database).add(session("s"))
    turns = TurnStore(database)
    await turns.set_running(await turns.accept(turn("one")), now_us=T0)
    assert await turns.due(now_us=T0 + UNKNOWN_US - 1, limit=9) == []
    assert await turns.due(now_us=T0 + UNKNOWN_US, limit=9) == [("t", "one")]


async def test_saved_turns_wait_for_those_before_them_and_others_for_nobody(database: Database) -> None:
    sessions, turns = SessionStore(database), TurnStore(database)
    for name in ("s", "elsewhere"):
        await sessions.add(session(name))
    for number, facts in enumerate([turn("one"), turn("two"), turn("aside", saved=False)], start=1):
        assert (await turns.accept(facts)).number == number
    await turns.accept(turn("there", in_session="elsewhere"))
    due = {name for _, name in await turns.due(now_us=T0, limit=9)}
    assert due == {"one", "aside", "there"}
    assert not await claimed(turns, "two")
    first = await turns.get("one", tenant="t")
    assert first is not None
    await turns.set_running(first, now_us=T0)
    assert not await claimed(turns, "two"), "the one before it is under way"
    await turns.finish(first, {}, [], now_us=T0)
    assert await claimed(turns, "two")


async def test_a_turn_that_has_gone_on_is_not_failed_by_whoever_is_behind(database: Database) -> None:
    await SessionStore(database).add(session("s"))
    turns = TurnStore(database)
    accepted = await turns.accept(turn("one"))
    await turns.set_running(accepted, now_us=T0)
    running = await turns.fail(accepted, {"code": "late"}, now_us=T0)
    assert running is not None
    assert (running.state, running.error) == (RUNNING, None)
    failed = await turns.fail(running, {"code": "x"}, now_us=T0)
    assert failed is not None
    assert (failed.state, failed.error) == (FAILED, {"code": "x"})


async def test_what_is_asked_is_settled_by_the_first_and_what_was_said_is_written_once(database: Database) -> None:
    await SessionStore(database).add(session("s"))
    turns = TurnStore(database)
    taken = await turns.accept(turn("one"))
    first = await turns.keep_prepared(taken, {"by": "first"}, now_us=T0)
    second = await turns.keep_prepared(taken, {"by": "second"}, now_us=T0)
    assert first is not None
    assert second is not None
    assert (first.prepared, second.prepared) == ({"by": "first"}, {"by": "first"})
    await turns.set_running(taken, now_us=T0)
    ended = await asyncio.gather(
        *(
            turns.finish(taken, {"n": n}, [entry("q"), entry("a", role="assistant", content="\ud800a")], now_us=T0)
            for n in range(3)
        )
    )
    assert {facts.answer["n"] for facts in ended if facts and facts.answer} == {ended[0].answer["n"]}  # type: ignore[union-attr, index]
    assert await said(database) == ["q", "\ud800a"]
    late = await turns.fail(taken, {"code": "x"}, now_us=T0)
    assert late is not None
    assert (late.state, late.error) == (DONE, None)
    await turns.set_running(taken, now_us=T0)
    assert (await turns.get("one", tenant="t")).state == DONE  # type: ignore[union-attr]


async def test_turns_that_are_over_are_forgotten_after_a_while_and_what_was_said_is_not(database: Database) -> None:
    await SessionStore(database).add(session("s"))
    turns = TurnStore(database)
    for name, state in (("done", DONE), ("failed", FAILED), ("open", RUNNING)):
        taken = await turns.accept(turn(name))
        if state == DONE:
            await turns.finish(taken, {}, [entry("kept")], now_us=T0)
        elif state == FAILED:
            await turns.fail(taken, {"code": "x"}, now_us=T0)
        else:
            await turns.set_running(taken, now_us=T0)
    assert await turns.remove_ended(before_us=T0, limit=9) == 0
    assert await turns.remove_ended(before_us=T0 + 1, limit=9) == 2
    assert await turns.get("open", tenant="t") is not None
    assert await said(database) == ["kept"]
    assert (await turns.accept(turn("next"))).number == 4


async def test_entries_are_read_in_order_the_latest_alone_if_wanted_and_are_deleted_with_the_summary(
    database: Database,
) -> None:
    sessions, turns, entries = SessionStore(database), TurnStore(database), EntryStore(database)
    await sessions.add(session("s", summary="so far"))
    taken = await turns.accept(turn("one"))
    calls = [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    wanted = [
        entry("q"),
        entry("call", role="assistant", content="", tool_calls=calls),
        entry("result", role="tool", content=[{"type": "text", "text": "x"}], tool_call_id="c1"),
        entry("old", summary_id="sum"),
    ]
    await turns.finish(taken, {}, wanted, now_us=T0)
    every = await entries.every("s", tenant="t")
    assert every == [replace(one, number=number) for number, one in enumerate(wanted, start=1)]
    assert await entries.history("s", tenant="t") == every[:3]
    assert await entries.history("s", tenant="t", limit=2) == every[1:3]
    assert await entries.history("s", tenant="u") == []
    assert await entries.clear("s", tenant="t") == 4
    assert await entries.every("s", tenant="t") == []
    assert (await sessions.get("s", tenant="t")).summary is None  # type: ignore[union-attr]
