"""DESIGN §3, "Around the plan, not in it": `require` and `dispatch`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from engine.control.definitions import DefinitionService
from engine.core.errors import InvalidInput
from engine.dryrun.scripted import dry_run
from engine.store.database import open_database
from engine.store.definitions import Definitions
from tests.compat.apiserver import api_server, settings_for
from tests.compat.test_native_api import create
from tests.language.words import codes, findings, hash_of
from tests.support.lab import Lab
from tests.support.memory import compiled

REQUIRE = """
name: t
require:
  - {if: _.amount > 0, message: "the amount is {{ _.amount }}"}
  - {if: len(_.name) < 5}
main: [{evaluate: $ _.amount}]
"""


@pytest.fixture
async def http(lab: Lab, temporal_address: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the native API at a real server; there is no worker."""
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server.http


async def test_a_requirement_is_looked_at_before_an_execution_is_created(http: httpx.AsyncClient) -> None:
    """`require` is evaluated before an execution is created (422)."""
    task_id = await create(http, REQUIRE)
    refused = await http.post(f"/tasks/{task_id}/executions", json={"input": {"amount": 0, "name": "Ann"}})
    assert (refused.status_code, refused.json()["code"]) == (422, "input.requirement")
    assert "the amount is 0" in refused.text
    assert (await http.get("/executions")).json()["items"] == []
    taken = await http.post(f"/tasks/{task_id}/executions", json={"input": {"amount": 1, "name": "Ann"}})
    assert taken.status_code == 201


def test_all_requirements_that_do_not_hold_are_told():
    """`require` is a list of {if, message}; all that do not hold are told."""
    with pytest.raises(InvalidInput) as caught:
        dry_run(compiled(REQUIRE), {"amount": -1, "name": "Barbara"})
    assert "the amount is -1; `len(_.name) < 5` does not hold" in caught.value.message


def test_a_requirement_sees_the_input_only():
    """A requirement sees the input, since nothing has run yet."""
    assert codes('require: [{if: "$ steps[0].output"}]\nmain: [{evaluate: 1}]') == ["E401"]
    assert codes('require: [{if: "$ _ == input"}]\nmain: [{evaluate: 1}]') == []


# --- dispatch ------------------------------------------------------------------------------------------------------

PLAIN = "name: t\nmain: [{evaluate: $ _}]\n"
DISPATCH = {
    "triggers": "triggers: [{event: order.paid, if: _.amount > 0, input: {id: $ _.id}}]",
    "cron": "cron: '0 6 * * *'",
    "debounce": "admission: {debounce: {wait: 5s, key: _.id}}",
    "collect": "admission: {collect: {wait: 5s, size: 10}}",
    "singleton": "admission: {singleton: {key: _.id, busy: BUSY}}",
    "concurrency": "admission: {concurrency: {limit: 9, per_key: 2, key: _.id}}",
    "priority": "priority: 1",
    "labels": "labels: [night, batch]",
}


@pytest.mark.parametrize("part", DISPATCH)
def test_what_starts_executions_stands_beside_the_task(part: str):
    """Triggers, cron, admission, priority and labels stand in a `dispatch:` block beside the task."""
    found = findings(f"{PLAIN}dispatch: {{{DISPATCH[part].replace('BUSY', 'queue')}}}")
    assert found == []


@pytest.mark.parametrize("busy", ["queue", "skip", "replace"])
def test_a_singleton_queues_skips_or_replaces(busy: str):
    """A singleton is `queue | skip | replace` by a key expression."""
    text = f"{PLAIN}dispatch: {{{DISPATCH['singleton'].replace('BUSY', busy)}}}"
    assert codes(text) == []
    assert "E506" in codes(text.replace(busy, "panic"))
    assert "E401" in codes(text.replace("_.id", "nowhere"))


async def test_another_cron_is_another_version_of_the_same_plan(tmp_path: Path) -> None:
    """A cron is kept with the task's version, and the plan of both versions is the same."""
    database = await open_database(f"sqlite+aiosqlite:///{tmp_path / 'store.db'}")
    service = DefinitionService(Definitions(database), {})
    versions = [
        (await service.create_task(f"{PLAIN}dispatch: {{cron: '{cron}'}}", tenant="default", by_name=True)).task
        for cron in ("0 6 * * *", "0 7 * * *")
    ]
    await database.close()
    assert [task.version for task in versions] == [1, 2]
    assert [task.spec["dispatch"]["cron"] for task in versions] == ["0 6 * * *", "0 7 * * *"]
    assert len({task.plan_hash for task in versions}) == 1


@pytest.mark.parametrize("part", DISPATCH)
def test_what_starts_executions_changes_no_plan(part: str):
    """Changing a cron changes no plan hash, so no fork prefix and no pinned test."""
    dispatch = DISPATCH[part].replace("BUSY", "skip")
    assert hash_of(f"{PLAIN}dispatch: {{{dispatch}}}") == hash_of(PLAIN)
    assert hash_of(PLAIN.replace("$ _", "$ 1")) != hash_of(PLAIN), "the steps do"
