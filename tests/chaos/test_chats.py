"""Worker, API, repair and Temporal die while people talk: each message is kept once, and answered once.

The short form kills each of them once under eight turns, on SQLite; the long form many times under 192, on both
stores.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from julep import AsyncJulep

from engine.edge.mockllm.app import create_app
from engine.store.database import open_database
from tests.chaos.kept import Kept
from tests.chaos.tables import Table, counted
from tests.chaos.talk_checks import look_over
from tests.chaos.talks import ADAPTIVE, KINDS, TRUNCATE, Talks, script
from tests.chaos.test_storm import Storm, blow
from tests.support.patience import PATIENCE_S
from tests.support.postgres import on_postgres, store_url
from tests.support.receiver import Receiver
from tests.support.servers import TemporalProcess, serve_app, temporal_process
from tests.support.stage import stage_on, write_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

SEED = 11
EFFECT_S = 0.3
"""How long a tool works, so that some workers die meanwhile."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much is said, while how much dies.

    Attributes:
        kinds: Kinds of the sessions, one for each.
        turns: Turns of each.
        starts: Executions that are started and answered beside.
        pause_s: Longest pause before something is said.
        storm: What dies.
    """

    kinds: Sequence[str]
    turns: int
    starts: int
    pause_s: float
    storm: Storm


SHORT = Size(
    # where little is said nothing is too long
    kinds=[kind for kind in KINDS if kind not in (TRUNCATE, ADAPTIVE)],
    turns=2,
    starts=2,
    pause_s=0.6,
    storm=Storm(0, 0, 1, (0.2, 0.6), {"worker": 1, "api": 1, "repair": 1, "temporal": 1}),
)
FULL = Size(
    kinds=[*KINDS, *KINDS],
    turns=16,
    starts=24,
    pause_s=12.0,
    storm=Storm(0, 0, 2, (0.5, 5.0), {"worker": 16, "api": 12, "repair": 4, "temporal": 6}),
)


@contextlib.asynccontextmanager
async def scene(folder: Path, temporal: TemporalProcess, size: Size) -> AsyncIterator[tuple[Talks, Receiver]]:
    """Open an installation with a model, a receiver of the effects of tools, and clients."""
    mock, receiver = create_app(script(size.turns)), Receiver()
    async with contextlib.AsyncExitStack() as opened:
        llm = await opened.enter_async_context(serve_app(mock))
        url = await opened.enter_async_context(serve_app(receiver))
        write_project(folder, llm_url=f"{llm}/v1")
        stage = await opened.enter_async_context(stage_on(folder, temporal, workers=size.storm.workers))
        address = f"{stage.api.url}/api"
        julep = await opened.enter_async_context(AsyncJulep(api_key="any", base_url=address))
        http = httpx.AsyncClient(base_url=address, timeout=PATIENCE_S, trust_env=False)
        await opened.enter_async_context(http)
        database = await open_database(store_url(folder / "lab.db"))
        opened.push_async_callback(database.close)
        yield Talks(stage, Kept(database), mock, julep, http, f"{url}/?delay={EFFECT_S}"), receiver


@pytest.mark.parametrize("store", ["sqlite", "postgresql"])
async def test_whatever_dies_each_message_is_kept_once_and_answered_once(
    store: str, full: bool, tmp_path: Path, request: pytest.FixtureRequest, record_property: Any
):
    if store == "postgresql" and not full:
        pytest.skip("only in the long form: the short one of the storm is on PostgreSQL")
    size, began = (FULL if full else SHORT), time.monotonic()
    with contextlib.ExitStack() as opened:
        if store == "postgresql":
            opened.enter_context(on_postgres(request.getfixturevalue("postgres"), tmp_path))
        # of the test's own: one that other tests use may not be killed
        temporal = opened.enter_context(temporal_process(tmp_path))
        async with scene(tmp_path, temporal, size) as (talks, receiver):
            await talks.prepare(size.kinds, turns=size.turns)
            async with asyncio.TaskGroup() as group:
                group.create_task(blow(talks.stage, size.storm, None, SEED))
                group.create_task(talks.run(starts=size.starts, seed=SEED, pause_s=size.pause_s))
            ran_s = time.monotonic() - began
            await asyncio.gather(*(helper.ready() for helper in talks.stage.helpers))
            found = await look_over(talks, receiver)
    stage = talks.stage
    assert stage.kills == size.storm.blows
    Table(
        f"chats and kill -9, {store}, seed {SEED}",
        {
            "sessions": f"{len(talks.all)}, {found.turns} turns, {found.summaries} summaries",
            "executions": f"{len(talks.starts)} started beside, {found.executions} compared with their histories",
            "answers": f"{2 * len(talks.starts)}, {talks.pending} of them taken after eight seconds",
            "killed": counted(stage.kills),
            "seconds away": counted({name: round(away_s) for name, away_s in stage.away_s.items()}),
            "ended by themselves": counted(stage.ended_alone) or "none",
            "asked again": counted(talks.again) or "none",
            "the SDK gave up": counted(talks.given_up) or "none",
            "the model was asked again": found.asked_again,
            "effects of tools": f"{found.effects}, {found.unknown} with an unknown outcome",
            "seconds": f"{ran_s:.0f} to the last answer, {time.monotonic() - began:.0f} in all",
        },
    ).record(record_property)
