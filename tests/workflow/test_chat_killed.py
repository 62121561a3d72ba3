"""Chats while the API, the worker or both are killed with SIGKILL: answered once, and written down once."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from julep import AsyncJulep

from engine.control.sessions.prompting import ChatRequest
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockRule, MockScript
from engine.store.chat_turns import TurnFacts, TurnStore
from engine.store.database import open_database
from tests.support.doors import eventually
from tests.support.postgres import store_url
from tests.support.servers import serve_app, temporal_process
from tests.support.stage import Stage, stage_on, write_project

SLOW = MockRule(match="think", reply="thought", delay_s=3.0)
RETRIES = 12
"""The SDK waits for one to ten seconds before each; processes need some of that to come back."""


@dataclass
class Scene:
    """An installation as processes, the model that it asks, and the SDK.

    Attributes:
        stage: The processes.
        mock: The model.
        julep: The SDK, which repeats what broke off.
        agent: Id of an agent.
    """

    stage: Stage
    mock: MockLlm
    julep: AsyncJulep
    agent: str

    async def session(self) -> str:
        """Make a session and return its id."""
        return (await self.julep.sessions.create(agent=self.agent)).id

    async def asked(self, count: int) -> None:
        """Wait until the model was asked so many times."""
        await eventually(lambda: _later(lambda: len(self.mock.calls) >= count), f"call {count} of the model")

    async def said(self, session: str) -> list[Any]:
        """Return what was said in a session."""
        return [entry.content for entry in (await self.julep.sessions.history(session)).entries]


async def _later(look: Any) -> Any:
    return look()


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    mock = create_app(MockScript(rules=[SLOW]))
    async with contextlib.AsyncExitStack() as opened:
        (tmp_path / "temporal").mkdir()
        temporal = opened.enter_context(temporal_process(tmp_path / "temporal"))
        write_project(tmp_path, llm_url=f"{await opened.enter_async_context(serve_app(mock))}/v1")
        stage = await opened.enter_async_context(stage_on(tmp_path, temporal))
        client = AsyncJulep(api_key="any", base_url=f"{stage.api.url}/api", max_retries=RETRIES)
        julep = await opened.enter_async_context(client)
        agent = await julep.agents.create(name="Ada", model="mock")
        yield Scene(stage, mock, julep, agent.id)


def think(scene: Scene, session: str) -> asyncio.Task[Any]:
    """Say something that the model thinks about."""
    said: Any = [{"role": "user", "content": "think"}]
    return asyncio.create_task(scene.julep.sessions.chat(session, messages=said))


async def kill_both(stage: Stage) -> None:
    """Kill API and worker at the same moment, then start both again."""
    for helper in stage.workers:
        helper.kill()
    await stage.kill("api")
    for helper in stage.workers:
        helper.start()


@pytest.mark.timeout(300)
async def test_whoever_is_killed_while_the_model_thinks_the_answer_comes_once_and_is_told_to_the_sdk(
    scene: Scene,
) -> None:
    # who is killed, and how often the model is asked: a call of a lost worker is made again
    for what, calls in (("api", 1), ("worker-1", 2), ("both", 2)):
        session = await scene.session()
        scene.mock.reset()
        answering = think(scene, session)
        await scene.asked(1)
        await (kill_both(scene.stage) if what == "both" else scene.stage.kill(what))
        answer = await answering
        assert answer.choices[0].message.content == "thought", what
        assert (await scene.said(session), len(scene.mock.calls)) == (["think", "thought"], calls), what


@pytest.mark.timeout(300)
async def test_what_was_written_down_is_answered_though_whoever_took_it_is_gone_for_good(scene: Scene) -> None:
    session = await scene.session()
    answering = think(scene, session)
    await scene.asked(1)
    answering.cancel()
    await asyncio.to_thread(scene.stage.api.kill)
    # one that was taken, too, but of which nothing has begun: it waits for the one before it
    waiting = str(uuid.uuid4())
    request = ChatRequest(messages=[{"role": "user", "content": "and then?"}])
    database = await open_database(store_url(scene.stage.folder / "lab.db"))
    turns = TurnStore(database)
    given: dict[str, Any] = {"request": request.to_json(), "saved": True, "created_us": 1, "updated_us": 1}
    await turns.accept(TurnFacts(id=waiting, tenant="default", session_id=session, **given))

    async def over() -> bool:
        found = await turns.get(waiting, tenant="default")
        return found is not None and not found.is_open

    await eventually(over, "the end of both turns")
    await database.close()
    await asyncio.to_thread(scene.stage.api.start)
    assert await scene.said(session) == ["think", "thought", "and then?", "and then?"]
    assert len(scene.mock.calls) == 2
