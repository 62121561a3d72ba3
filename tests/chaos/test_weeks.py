"""Executions of weeks, on the dev server with a clock for each of them: it skips the time in which nothing happens."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowHandle
from temporalio.testing import TimeSkippingConfig, WorkflowEnvironment

from engine.control.connect import ensure_search_attributes
from engine.control.payloads import data_converter
from engine.edge.supervisor.temporal import DYNAMIC_CONFIG, find_temporal
from engine.store.database import open_database
from engine.store.projection import ProjectionStore
from tests.chaos.tables import Table
from tests.support.lab import TENANT, Lab
from tests.support.postgres import store_url
from tests.support.rows import assert_rows_are_those_of_the_histories, settle_all

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

SKIPPING = {**DYNAMIC_CONFIG, "frontend.WorkflowTimeSkippingEnabled": "true"}
"""Without the dev profile each timer takes a second more, skipped or not."""
MOST_SKIPS = 100_000
DAY = timedelta(days=1)
SLEEP = timedelta(hours=2)


@dataclass(frozen=True)
class Calendar:
    """A laboratory whose executions skip idle time, each by its own clock."""

    lab: Lab
    environment: Any

    async def forward(self, handle: WorkflowHandle[Any, Any], time: timedelta) -> None:
        """Move the clock of an execution on."""
        assert await self.environment.fast_forward(handle, time)

    async def age(self, handle: WorkflowHandle[Any, Any]) -> timedelta:
        """Return for how long an execution has gone on, by the time of its events."""
        events = await self.lab.events(handle)
        return timedelta(microseconds=events[-1].now_us - events[0].now_us)


@asynccontextmanager
async def calendar(folder: Path) -> AsyncIterator[Calendar]:
    """Open a server and a laboratory with a worker."""
    environment = await WorkflowEnvironment.start_time_skipping_v2(
        ts_config=TimeSkippingConfig(max_session_skip_count=MOST_SKIPS),
        dev_server_existing_path=find_temporal(),
        dev_server_extra_args=[
            word for name, value in SKIPPING.items() for word in ("--dynamic-config-value", f"{name}={value}")
        ],
        dev_server_log_level="error",
        data_converter=data_converter(folder / "blobs"),
    )
    async with environment:
        await ensure_search_attributes(environment.client)
        database = await open_database(store_url(folder / "lab.db"))
        try:
            lab = Lab(environment.client, ProjectionStore(database), folder)
            async with lab.worker():
                yield Calendar(lab, environment)
        finally:
            await database.close()


async def check(lab: Lab, *handles: WorkflowHandle[Any, Any]) -> None:
    """Assert that the rows are those of the histories."""
    await settle_all(lab)
    await assert_rows_are_those_of_the_histories(lab, [handle.id for handle in handles], lab.folder)


SLEEPS = """
name: long
main: [{evaluate: $ now()}, {sleep: {days: 10}}, {sleep: 21d}, {evaluate: "$ [steps[0].output, now()]"}]
"""


async def test_sleeps_of_days_end_on_their_day(tmp_path: Path):
    async with calendar(tmp_path) as weeks:
        handle = await weeks.lab.start(SLEEPS, 1)
        ended = await weeks.lab.end_of(handle)
        before, after = (datetime.fromisoformat(moment) for moment in ended.output)
        await weeks.lab.until(handle, "finish")
        await check(weeks.lab, handle)
    assert timedelta(days=31) <= after - before < timedelta(days=31, minutes=1)


WAIT = "name: wait\nmain: [{wait_for_input: {info: go on?, schema: {type: integer}, deadline: 40d}}]"


async def test_a_wait_of_forty_days_takes_its_answer_on_the_thirty_ninth(tmp_path: Path):
    async with calendar(tmp_path) as weeks:
        expired = await weeks.lab.start(WAIT, 1)
        with weeks.environment.with_time_skipping_disabled():
            answered = await weeks.lab.start(WAIT, 1)
        await weeks.lab.until(answered, "wait")
        await weeks.forward(answered, 39 * DAY)
        await weeks.lab.answer(answered, 7)
        assert (await weeks.lab.end_of(answered)).output == 7
        error = (await weeks.lab.end_of(expired)).error
        assert error is not None
        assert error["code"] == "wait.expired"
        for handle in (answered, expired):
            await weeks.lab.until(handle, "finish" if handle is answered else "error")
        assert 39 * DAY <= await weeks.age(answered) < 40 * DAY
        assert 40 * DAY <= await weeks.age(expired) < 40 * DAY + timedelta(minutes=1)
        await check(weeks.lab, answered, expired)


async def test_two_thousand_transitions_over_months_continue_as_new(tmp_path: Path, full: bool, record_property: Any):
    rounds, runs = (1_000, 10) if full else (250, 5)
    each = "".join(f"        - evaluate: $ _ + {number}\n" for number in range(8))
    task = f"""
name: months
main:
  - foreach:
      in: $ list(range({rounds}))
      do:
        - sleep: 2h
{each}
  - evaluate: "$ [len(_), _[-1]]"
"""
    async with calendar(tmp_path) as weeks:
        began = datetime.now(UTC)
        handle = await weeks.lab.start(task, 1, continue_after_events=rounds * 6 // runs)
        ended = await weeks.lab.end_of(handle)
        await weeks.lab.until(handle, "finish")
        took_s = (datetime.now(UTC) - began).total_seconds()
        events = await weeks.lab.events(handle)
        age = await weeks.age(handle)
        told = await weeks.lab.store.list_events(handle.id, tenant=TENANT, transitions_only=True, limit=1_000_000)
        carried = len({event.run_id for event in events}) - 1
        assert await weeks.lab.store.digest(handle.id) == (ended.events, ended.digest, ended.times)
        await check(weeks.lab, handle)
    assert ended.output == [rounds, rounds - 1 + sum(range(8))]
    assert len(told) >= 2_000
    assert carried >= 3
    assert age >= rounds * SLEEP
    # the server puts off a run that comes within a second of the one before, and skips that by its own clock's time
    pauses = [later.now_us - one.now_us for one, later in pairwise(events) if later.run_id == one.run_id]
    pauses = [pause for pause in pauses if pause > 1_000_000]
    assert len(pauses) >= rounds - carried - 1
    assert all(SLEEP <= timedelta(microseconds=pause) < SLEEP + timedelta(minutes=1) for pause in pauses)
    rows = {
        "transitions": len(told),
        "continued as new": carried,
        "virtual time": f"{age / DAY:.1f} days",
        "seconds": f"{took_s:.1f}",
    }
    Table("an execution of months", rows).record(record_property)
