"""What `everstep reindex` makes of shortened ids, and what it tells of those that it rebuilt."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlalchemy import Connection, update

from engine.control.reindex import Reindex, Wanted
from engine.core.errors import Conflict
from engine.edge.cli.reindex import MOST_TOLD, _since_us, tell_summary
from engine.store.schema import executions
from tests.support.lab import TENANT, Lab
from tests.support.rows import settle_all
from tests.workflow.test_reindex import TASKS, start_as_api
from worker import replay_run


async def test_the_beginning_of_an_id_is_enough_and_what_was_rebuilt_is_named(lab: Lab) -> None:
    async with lab.worker():
        handles = [await start_as_api(lab, TASKS["failed"][0]) for _ in range(2)]
        for handle in handles:
            await lab.end_of(handle)
    await settle_all(lab)
    wrong, right = (handle.id for handle in handles)

    def spoil(connection: Connection) -> None:
        connection.execute(update(executions).where(executions.c.id == wrong).values(task_name="other"))

    await lab.store.database.run(spoil, write=True)
    summary = await Reindex(lab.client, lab.store, replay_run).run(Wanted(ids=(wrong[:6].upper(), right[:8], right)))
    assert (summary.executions, summary.rebuilt, summary.rebuilt_ids) == (2, 1, [wrong])
    assert (await lab.store.get_execution(wrong, tenant=TENANT)).task_name == "failed"
    summary = await Reindex(lab.client, lab.store, replay_run).run(Wanted(ids=("abcdef",)))
    assert [failure["id"] for failure in summary.failed] == ["abcdef"]


async def test_a_beginning_of_several_ids_is_refused_before_anything_is_done(lab: Lab) -> None:
    ids = [f"abcdef0{number}-0000-4000-8000-000000000000" for number in range(2)]

    def add(connection: Connection) -> None:
        row: dict[str, Any] = {"tenant": TENANT, "task_id": "t", "status": "succeeded", "interpreter": 1}
        for name in ids:
            connection.execute(executions.insert().values(id=name, **row, created_us=1, updated_us=1))

    await lab.store.database.run(add, write=True)
    with pytest.raises(Conflict, match="begin with abcdef") as caught:
        await Reindex(lab.client, lab.store, replay_run).run(Wanted(ids=("abcdef",)))
    assert (caught.value.code, caught.value.details["ids"]) == ("execution.ambiguous", ids)


def test_the_first_of_many_that_were_rebuilt_are_named(capsys: pytest.CaptureFixture[str]) -> None:
    counts = dict.fromkeys(("executions", "rebuilt", "took_s"), 25) | dict.fromkeys(("unchanged", "gone", "failed"), 0)
    tell_summary({**counts, "given_up": 0, "failures": [], "rebuilt_ids": [f"id{number}" for number in range(25)]})
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == [f"  rebuilt id{number}" for number in range(MOST_TOLD)] + ["  and 5 more"]


def test_the_times_of_reindex_are_those_of_ls() -> None:
    assert _since_us("2026-11-22T00:00:00Z") == 1795305600_000_000
    before = time.time_ns() // 1_000
    found = _since_us("10m")
    assert before - 1 <= found + 600_000_000 <= time.time_ns() // 1_000 + 1
