"""Conversations that cross the border in parts: whatever is lost, a call is made with all of its messages or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select

from activities.conversations import Conversations
from engine.core.contracts.activities import CallContext, ChatParams, ChatResult
from engine.core.contracts.conversations import CONVERSATION_MISSING, Conversation, chain_all
from engine.core.errors import BackendError, Unavailable
from engine.store.conversations import KEPT_US, ConversationStore
from engine.store.database import Database, open_database
from engine.store.schema_conversations import conversations
from tests.support.postgres import store_url

NOW = 1_800_000_000_000_000
HALF = "\ud83d"
"""Half of a character, which models send when a stream is cut in the middle of one."""

pytestmark = pytest.mark.usefixtures("both_stores")


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = await open_database(store_url(tmp_path / "talk.db"))
    try:
        yield opened
    finally:
        await opened.close()


def worker(database: Database, at_us: int = NOW) -> Conversations:
    return Conversations(ConversationStore(database), lambda: at_us)


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def reply(text: str) -> ChatResult:
    message = {"role": "assistant", "content": text}
    return ChatResult(id="1", model="m", backend="b", created=0, message=message, finish_reason="stop")


def call(
    *messages: dict[str, Any], before: list[dict[str, Any]], tenant: str = "default", execution: str = "e"
) -> ChatParams:
    """Return a call that carries `messages` and leaves out what was said before."""
    said = Conversation(id="c", known=len(before), hash=chain_all("", before))
    context = CallContext(tenant=tenant, execution_id=execution, path="main.0", key="k")
    return ChatParams(context=context, messages=list(messages), conversation=said)


async def test_a_call_gets_back_all_that_it_leaves_out(database: Database) -> None:
    talk = worker(database)
    before: list[dict[str, Any]] = []
    for number in range(5):
        params = call(user(f"{number} \x00 {HALF} é"), before=before)
        whole = await talk.whole(params)
        assert whole.messages == [*before, *params.messages]
        result = reply(f"said {number}")
        await talk.keep(params, result)
        before = [*whole.messages, result.message]
    assert len(before) == 10


async def test_a_call_that_was_made_twice_goes_on_with_the_reply_that_counted(database: Database) -> None:
    talk = worker(database)
    first = call(user("hi"), before=[])
    await talk.keep(first, reply("one"))
    await talk.keep(first, reply("two"))
    for text in ("one", "two"):
        before = [user("hi"), reply(text).message]
        assert (await talk.whole(call(user("go on"), before=before))).messages == [*before, user("go on")]


@pytest.mark.parametrize(
    "other",
    [
        call(user("go on"), before=[user("hi"), reply("another").message]),
        call(user("go on"), before=[user("hi")]),
        call(user("go on"), before=[user("hi"), reply("hello").message], tenant="other"),
        call(user("go on"), before=[user("hi"), reply("hello").message], execution="another"),
    ],
)
async def test_a_call_whose_conversation_is_another_one_is_not_made(database: Database, other: ChatParams) -> None:
    talk = worker(database)
    await talk.keep(call(user("hi"), before=[]), reply("hello"))
    with pytest.raises(BackendError) as refused:
        await talk.whole(other)
    assert refused.value.code == CONVERSATION_MISSING


async def test_a_worker_that_keeps_nothing_asks_for_everything(database: Database) -> None:
    talk = Conversations(None)
    await talk.keep(call(user("hi"), before=[]), reply("hello"))
    assert (await talk.whole(call(user("hi"), before=[]))).messages == [user("hi")]
    with pytest.raises(BackendError) as refused:
        await talk.whole(call(user("go on"), before=[user("hi"), reply("hello").message]))
    assert refused.value.code == CONVERSATION_MISSING


class _Away(Database):
    """A database that does not answer."""

    async def run(self, *_: Any, **__: Any) -> Any:
        raise Unavailable("the store does not answer")


async def test_a_store_that_is_away_costs_a_longer_call_and_nothing_else(database: Database) -> None:
    talk = worker(database)
    await talk.keep(call(user("hi"), before=[]), reply("hello"))
    away = worker(_Away(database.engine))
    with pytest.raises(BackendError) as refused:
        await away.whole(call(user("go on"), before=[user("hi"), reply("hello").message]))
    assert refused.value.code == CONVERSATION_MISSING
    await away.keep(call(user("hi"), before=[]), reply("hello"))


async def test_conversations_that_nobody_goes_on_with_are_removed(database: Database) -> None:
    await worker(database).keep(call(user("hi"), before=[]), reply("hello"))
    later = worker(database, NOW + KEPT_US + 1)
    await later.keep(call(user("hi"), before=[], execution="later"), reply("hello"))
    async with database.engine.connect() as connection:
        counted = await connection.execute(select(func.count(), func.min(conversations.c.execution_id)))
        assert counted.one() == (1, "later")
