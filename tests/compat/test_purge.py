"""Purging executions: nothing of them can be read afterwards, in either store, in Temporal, in files; others stay."""

from __future__ import annotations

import asyncio
import contextlib
import io
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Connection, select
from temporalio.api.common.v1 import Payload
from temporalio.client import Client
from temporalio.converter import StorageDriverStoreContext, StorageDriverWorkflowInfo
from temporalio.service import RPCError

from engine.control.claims import claims_of, runs_of
from engine.control.connect import ensure_search_attributes
from engine.control.describing import list_executions
from engine.control.payloads import blob_drivers, data_converter
from engine.control.purging import PurgeFinisher, PurgeService, PurgeWanted
from engine.control.reindex import Reindex, Wanted
from engine.control.repair import Repair
from engine.control.sweeping import Sweep
from engine.edge.cli.exits import Exit
from engine.store.blobs import BlobStore
from engine.store.database import Database
from engine.store.purging import EMPTIED, Candidate, PurgeStore, columns_of_executions
from engine.store.schema import projection, truth
from engine.store.upkeep import Upkeep
from engine.tooling import tool
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.support.lab import TENANT, Lab, open_lab
from tests.support.servers import TemporalProcess, temporal_process
from tests.support.temporal_cli import QUICK_DELETES, temporal_cli
from tests.workflow.test_reindex import start_as_api
from worker import replay_run

MARK = "nightjar5581"
MB = 1024 * 1024


@tool(effect="read")
async def tell(word: str, size: int) -> str:
    """Tell a word, and as much beside it as is wanted."""
    if word == "broken":
        raise RuntimeError(f"{MARK} broke")
    return word + random.Random(size).randbytes(size // 2).hex()


CHILD = "name: child\nmain: [{evaluate: '$ _.word + \"!\"'}]"
TASK = """
name: everything
main:
  - prompt: "say {{ _.word }}"
  - tool: tell
    arguments: {word: "$ steps[0].input.word", size: $ 600000}
  - task: child
    arguments: {word: "$ steps[0].input.word"}
  - wait_for_input: {info: "$ steps[0].input.word"}
  - if: "$ _ == 'break'"
    then: {tool: tell, arguments: {word: broken, size: $ 1}}
    else: {return: "$ steps[0].input.word"}
"""
PLAIN = "name: plain\nmain: [{evaluate: $ _}]"
BIG = "name: big\nmain: [{tool: tell, arguments: {word: shared, size: $ 700000}}, {evaluate: $ 1}]"
WAITS = "name: waits\nmain: [{wait_for_input: {info: well}}]"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TemporalProcess]:
    """A server that deletes what has just ended at once."""
    with temporal_process(tmp_path_factory.mktemp("purge"), QUICK_DELETES) as running:
        yield running


@pytest.fixture
async def own(server: TemporalProcess, tmp_path: Path, both_stores: str) -> AsyncIterator[Lab]:
    """A laboratory that counts references to large payloads, with a worker and what the repair process clears up."""
    async with open_lab(server.address, tmp_path) as lab:
        await ensure_search_attributes(lab.client)
        converter = data_converter(tmp_path / "blobs", holders=BlobStore(lab.store.database))
        lab.client = await Client.connect(server.address, data_converter=converter)
        lab.tools = (tell,)
        async with lab.worker():
            yield lab


@pytest.fixture
async def api(own: Lab, server: TemporalProcess) -> AsyncIterator[ApiServer]:
    contracts = {tell.contract().name: tell.contract()}
    settings = settings_for(own.folder, task_queue=own.queue)
    async with api_server(settings, temporal=server.address, contracts=contracts) as running:
        yield running


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


def sweep_of(lab: Lab, **more: Any) -> Sweep:
    return Sweep(lab.client, lab.store.database, blob_drivers(lab.client.data_converter), **more)


async def sweep_until_done(lab: Lab) -> None:
    """Clear up as the repair process does, until Temporal has deleted everything."""
    sweep = sweep_of(lab)
    deadline = time.monotonic() + 40
    while True:
        await sweep.turn()
        if not await PurgeStore(lab.store.database).unfinished():
            return
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


async def settled(lab: Lab, execution_id: str) -> None:
    """Let the repair process settle what has ended."""
    repair = Repair(lab.client, lab.store, replay_run)
    deadline = time.monotonic() + 20
    while not (await lab.store.get_execution(execution_id, tenant=TENANT)).settled:
        assert time.monotonic() < deadline
        await repair.settle_ended()
        await asyncio.sleep(0.1)


async def purge(http: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await http.post("/purge", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def run_everything(lab: Lab, http: httpx.AsyncClient, answer: str = "fine") -> list[str]:
    """Run a task whose every trace holds the mark; returns its id and its child's."""
    await create(http, CHILD)
    task_id = await create(http, TASK)
    given: dict[str, Any] = {"input": {"word": MARK}, "labels": [f"l-{MARK}"], "metadata": {"m": {"n": MARK}}}
    keyed = {"Idempotency-Key": f"key-{MARK}"}
    started = (await http.post(f"/tasks/{task_id}/executions", json=given, headers=keyed)).json()
    await until(http, started["id"], "awaiting_input")
    event = {"name": MARK, "id": MARK, "value": MARK}
    told = await http.post(f"/executions/{started['id']}/events", json=event, headers={"Idempotency-Key": "event-1"})
    assert told.status_code == 202, told.text
    body = {"status": "running", "input": answer, "actor": MARK}
    # refused, with a text that quotes what was sent and does not name the execution
    wrong = {"break_at": [f"no-{MARK}"]}
    told = await http.post(f"/executions/{started['id']}/breaks", json=wrong, headers={"Idempotency-Key": "breaks-1"})
    assert MARK in told.text, told.text
    told = await http.put(f"/executions/{started['id']}", json=body, headers={"Idempotency-Key": "answer-1"})
    assert told.status_code == 200
    await until(http, started["id"], "succeeded", "failed")
    await settled(lab, started["id"])
    [child] = (await http.get("/executions", params={"parent_id": started["id"]})).json()["items"]
    await settled(lab, child["id"])
    return [started["id"], child["id"]]


def files_with(folder: Path, text: str) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def rows_with(connection: Connection, text: str) -> list[str]:
    found: list[str] = []
    for table in (*truth.sorted_tables, *projection.sorted_tables):
        for row in connection.execute(select(table)):
            if text in repr(tuple(row)):
                found.append(table.name)
    return found


async def everywhere(lab: Lab, ids: list[str], text: str) -> dict[str, Any]:
    """Return where executions, or a text of theirs, can still be found."""
    database = lab.store.database
    await PurgeStore(database).settle_files()
    listed = [info.execution.workflow_id async for info in list_executions(lab.client, "")]
    blobs = [path for path in (lab.folder / "blobs").rglob("*") if path.is_file()]
    found = {
        "rows": await database.run(lambda connection: rows_with(connection, text)),
        "files of the store": [name for name in files_with(lab.folder, text) if not name.endswith(".log")],
        "runs": [run for one in ids for run in await runs_of(lab.client, one)],
        "lists of Temporal": [one for one in ids if one in listed],
        "payloads": blobs,
    }
    return {name: value for name, value in found.items() if value}


@pytest.mark.parametrize("answer", ["fine", "break"])
async def test_nothing_of_a_purged_execution_can_be_found_anywhere(own: Lab, api: ApiServer, answer: str) -> None:
    ids = await run_everything(own, api.http, answer)
    there = await everywhere(own, ids, MARK)
    assert there.keys() >= {"rows", "runs", "lists of Temporal", "payloads"}
    assert {"executions", "events", "execution_tags", "idempotency"} <= set(there["rows"])

    report = await purge(api.http, ids=[ids[0]])
    assert (report["purged"], sorted(report["ids"]), report["kept"]) == (2, sorted(ids), [])
    for one in ids:
        for path in ("", "/events", "/steps", "/history", "/attempts", "/transitions", "/temporal", "/events.stream"):
            assert (await api.http.get(f"/executions/{one}{path}")).status_code == 404, path
    assert (await api.http.get("/executions")).json()["items"] == []
    assert (await api.http.get("/executions/find", params={"prefix": ids[0][:8]})).status_code in (200, 400, 422)
    await sweep_until_done(own)
    assert await everywhere(own, ids, MARK) == {}
    for one in ids:
        with pytest.raises(AssertionError, match="not found"):
            temporal_cli(own, "workflow", "describe", "--workflow-id", one)


async def test_nothing_brings_a_purged_execution_back(own: Lab, api: ApiServer) -> None:
    ids = await run_everything(own, api.http)
    late = await own.store.list_events(ids[0], tenant=TENANT, limit=1_000)
    await purge(api.http, ids=ids)
    # before Temporal has deleted it
    await own.store.append_events(late, tenant_of={ids[0]: TENANT})
    await own.store.replace_runs(ids[0], {late[0].run_id: late}, tenant=TENANT)
    repair = Repair(own.client, own.store, replay_run)
    await repair.scan()
    await repair.settle_ended()
    await Reindex(own.client, own.store, replay_run).run(Wanted())
    await Reindex(own.client, own.store, replay_run).run(Wanted(ids=tuple(ids)))
    assert await own.store.database.run(lambda connection: rows_with(connection, MARK)) == []
    await sweep_until_done(own)
    await repair.scan()
    assert await everywhere(own, ids, MARK) == {}
    task_id = (await api.http.get("/tasks", params={"name": "everything"})).json()["items"][0]["id"]
    same_id = await api.http.post(f"/tasks/{task_id}/executions", json={"input": {"word": "x"}, "id": ids[0]})
    assert (same_id.status_code, same_id.json()["code"]) == (409, "execution.purged")
    body = {"input": {"word": MARK}, "labels": [f"l-{MARK}"], "metadata": {"m": {"n": MARK}}}
    headers = {"Idempotency-Key": f"key-{MARK}"}
    same_key = await api.http.post(f"/tasks/{task_id}/executions", json=body, headers=headers)
    assert (same_key.status_code, same_key.json()["code"]) == (409, "execution.purged")


async def test_a_purge_that_was_killed_anywhere_is_finished_by_the_next_sweep(own: Lab, api: ApiServer) -> None:
    ids = await run_everything(own, api.http)
    store = PurgeStore(own.store.database)
    found = await store.candidates(ids, tenant=TENANT)
    # killed after the rows
    await store.bury(found, now_us=time.time_ns() // 1_000)
    assert len(await runs_of(own.client, ids[0])) == 1
    # killed after Temporal was told, and after the references were let go of
    finisher = PurgeFinisher(own.client, own.store.database, [])
    with contextlib.suppress(RPCError):
        await finisher.finish(ids[0])
    await BlobStore(own.store.database).release(ids)
    assert [path for path in (own.folder / "blobs").rglob("*") if path.is_file()]
    await sweep_until_done(own)
    assert await everywhere(own, ids, MARK) == {}


async def test_a_purge_during_which_temporal_dies_says_what_is_left_and_is_finished_by_the_sweep(
    own: Lab, server: TemporalProcess, api: ApiServer
) -> None:
    ids = await run_everything(own, api.http)
    server.stop(signal.SIGKILL)
    try:
        # the API is connected, and learns of it by the purge
        report = await purge(api.http, ids=[ids[0]])
        assert (report["purged"], sorted(report["ids"]), report["kept"]) == (2, sorted(ids), [])
        assert sorted(report["pending"]) == sorted(ids)
        assert (await api.http.get("/executions")).json()["items"] == []
        assert await own.store.database.run(lambda connection: rows_with(connection, MARK)) == []
    finally:
        server.start()
    await sweep_until_done(own)
    assert await everywhere(own, ids, MARK) == {}
    again = await purge(api.http, ids=[ids[0]])
    assert (again["ids"], again["pending"]) == ([], [])


async def test_a_payload_stays_while_another_execution_refers_to_it(own: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, BIG)
    one, two = [(await start(api.http, task_id))["id"] for _ in range(2)]
    for name in (one, two):
        await until(api.http, name, "succeeded")
        await settled(own, name)

    def blobs() -> list[Path]:
        return [path for path in (own.folder / "blobs").rglob("*") if path.is_file()]

    # results tell how long their call took, so they are hardly ever equal: let the second refer to the first's too
    [of_one] = await claims_of(own.client, one, (await runs_of(own.client, one))[0])
    await BlobStore(own.store.database).learn({two: [of_one]})
    await purge(api.http, ids=[one])
    await sweep_until_done(own)
    assert any(path.name.startswith(of_one.digest) for path in blobs())
    assert not (await Reindex(own.client, own.store, replay_run).run(Wanted(ids=(two,)))).failed
    await purge(api.http, ids=[two])
    await sweep_until_done(own)
    assert blobs() == []


async def test_payloads_of_histories_from_before_they_were_counted_go_too(own: Lab, api: ApiServer) -> None:
    counted = own.client
    task_id = await create(api.http, BIG)
    own.client = await Client.connect(
        own.client.service_client.config.target_host, data_converter=data_converter(own.folder / "blobs")
    )
    execution_id = ""
    async with own.worker():
        # whichever worker takes it: a file of the old name has to be there
        while not [path for path in (own.folder / "blobs").rglob("*") if len(path.name) == 64]:
            execution_id = (await start(api.http, task_id))["id"]
            await until(api.http, execution_id, "succeeded")
    own.client = counted
    ids = [item["id"] for item in (await api.http.get("/executions")).json()["items"]]
    for one in ids:
        await settled(own, one)
    await purge(api.http, ids=ids)
    await sweep_until_done(own)
    assert [path for path in (own.folder / "blobs").rglob("*") if path.is_file()] == []


async def test_open_executions_are_kept_unless_they_are_stopped_for_it(own: Lab, api: ApiServer) -> None:
    execution_id = (await start(api.http, await create(api.http, WAITS)))["id"]
    await until(api.http, execution_id, "awaiting_input")
    report = await purge(api.http, ids=[execution_id])
    assert report["purged"] == 0
    assert [item["code"] for item in report["kept"]] == ["purge.open"]
    assert (await purge(api.http, older_than_s=0))["purged"] == 0
    assert (await api.http.get(f"/executions/{execution_id}")).json()["status"] == "awaiting_input"
    assert (await purge(api.http, older_than_s=0, terminate=True, dry_run=True))["ids"] == [execution_id]
    assert (await purge(api.http, older_than_s=0, terminate=True))["ids"] == [execution_id]
    await sweep_until_done(own)
    assert await runs_of(own.client, execution_id) == []


async def test_a_stream_of_an_execution_that_is_purged_ends(own: Lab, api: ApiServer) -> None:
    execution_id = (await start(api.http, await create(api.http, WAITS)))["id"]
    await until(api.http, execution_id, "awaiting_input")
    begun = [asyncio.Event() for _ in range(4)]

    async def read_to_end(name: str, first: asyncio.Event) -> None:
        async with api.http.stream("GET", f"/executions/{execution_id}/{name}.stream") as answer:
            async for _ in answer.aiter_lines():
                first.set()

    names = ("events", "status", "transitions", "tokens")
    readers = [asyncio.create_task(read_to_end(*pair)) for pair in zip(names, begun, strict=True)]
    for first in begun:
        await first.wait()
    await purge(api.http, ids=[execution_id], terminate=True)
    # shorter than the client's own patience
    await asyncio.wait_for(asyncio.gather(*readers), 10)
    await sweep_until_done(own)


async def test_a_child_goes_only_with_what_started_it(own: Lab, api: ApiServer) -> None:
    parent, child = await run_everything(own, api.http)
    report = await purge(api.http, ids=[child])
    assert report["purged"] == 0
    assert [(item["id"], item["code"]) for item in report["kept"]] == [(child, "purge.child")]
    assert sorted((await purge(api.http, older_than_s=0))["ids"]) == sorted([parent, child])


async def test_age_and_filter_choose_and_pages_go_on(
    own: Lab, api: ApiServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await create(api.http, PLAIN)
    ids = [(await start(api.http, task_id, input=n, labels=["old" if n < 3 else "new"]))["id"] for n in range(5)]
    for one in ids:
        await until(api.http, one, "succeeded")
        await settled(own, one)
    assert (await purge(api.http, older_than_s=3600))["ids"] == []
    assert (await purge(api.http, older_than_s=0, status=["failed"]))["ids"] == []
    first = await purge(api.http, older_than_s=0, label=["old"], dry_run=True, limit=2)
    assert set(first["ids"]) <= set(ids[:3])
    assert len(first["ids"]) >= 2
    code, out, err = await cli("purge", "--older-than", "0s", "--label", "old", "--dry-run")
    assert (code, out) == (0, "3 executions would be purged\n"), err
    monkeypatch.setattr("sys.stdin", io.StringIO("n\n"))
    code, _, _ = await cli("purge", "--older-than", "0s", "--label", "old")
    assert code == Exit.INTERRUPTED
    code, out, err = await cli("purge", "--older-than", "0s", "--label", "old", "--yes")
    assert (code, out) == (0, "3 executions purged\n"), err
    left = [item["id"] for item in (await api.http.get("/executions")).json()["items"]]
    assert sorted(left) == sorted(ids[3:])
    code, out, err = await cli("purge", ids[3][:8], "--yes")
    assert (code, out) == (0, "1 executions purged\n"), err
    code, out, err = await cli("purge", ids[3], "--yes")
    assert (code, out) == (0, "0 executions purged\n")
    assert f"kept {ids[3]}: there is no such execution" in err


async def test_of_named_executions_only_those_go_that_fit_the_rest(own: Lab, api: ApiServer, cli: Cli) -> None:
    task_id = await create(api.http, PLAIN)
    ids = [(await start(api.http, task_id, input=n, labels=[["old"], ["new"]][n]))["id"] for n in range(2)]
    for one in ids:
        await until(api.http, one, "succeeded")
        await settled(own, one)
    for more in ({"status": ["failed"]}, {"older_than_s": 3600}):
        report = await purge(api.http, ids=ids, **more)
        assert report["ids"] == []
        assert {item["id"]: item["code"] for item in report["kept"]} == dict.fromkeys(ids, "purge.filtered")
    report = await purge(api.http, ids=ids, label=["old"], dry_run=True)
    assert (report["ids"], [item["id"] for item in report["kept"]]) == ([ids[0]], [ids[1]])
    code, out, err = await cli("purge", *ids, "--label", "old", "--yes")
    assert (code, out) == (0, "1 executions purged\n"), err
    assert [item["id"] for item in (await api.http.get("/executions")).json()["items"]] == [ids[1]]


async def test_a_purge_of_everything_must_be_meant(own: Lab, api: ApiServer, cli: Cli) -> None:
    answer = await api.http.post("/purge", json={"terminate": True})
    assert (answer.status_code, answer.json()["code"]) == (400, "purge.no_bound")
    code, _, err = await cli("purge", "--yes")
    assert code == 2
    assert "--older-than" in err
    missing = str(uuid.uuid4())
    report = await purge(api.http, ids=[missing])
    assert [(item["id"], item["code"]) for item in report["kept"]] == [(missing, "execution.not_found")]


async def test_nobody_purges_what_is_anothers_or_without_the_scope(
    own: Lab, server: TemporalProcess, api: ApiServer
) -> None:
    execution_id = (await start(api.http, await create(api.http, PLAIN)))["id"]
    await until(api.http, execution_id, "succeeded")
    await settled(own, execution_id)
    settings = settings_for(own.folder, task_queue=own.queue, api_key=SecretStr("root-key-of-the-test"))
    async with api_server(settings, temporal=server.address) as guarded:
        root = {"Authorization": "Bearer root-key-of-the-test"}
        made = {"name": "acme", "scopes": ["admin"], "tenant": "acme"}
        other = (await guarded.http.post("/keys", json=made, headers=root)).json()["key"]
        runner = (await guarded.http.post("/keys", json={"name": "r", "scopes": ["define"]}, headers=root)).json()[
            "key"
        ]
        body = {"ids": [execution_id], "terminate": True}
        refused = await guarded.http.post("/purge", json=body, headers={"Authorization": f"Bearer {runner}"})
        assert (refused.status_code, refused.json()["code"]) == (403, "auth.scope")
        foreign = await guarded.http.post("/purge", json=body, headers={"Authorization": f"Bearer {other}"})
        assert [item["code"] for item in foreign.json()["kept"]] == ["execution.not_found"]
        body = {"older_than_s": 0, "terminate": True}
        foreign = await guarded.http.post("/purge", json=body, headers={"Authorization": f"Bearer {other}"})
        assert foreign.json()["ids"] == []
    assert (await api.http.get(f"/executions/{execution_id}")).status_code == 200
    assert (await purge(api.http, ids=[execution_id]))["purged"] == 1


async def test_what_is_too_old_goes_by_itself_if_a_retention_is_set(own: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, PLAIN)
    waits = (await start(api.http, await create(api.http, WAITS)))["id"]
    ids = [(await start(api.http, task_id, input=n))["id"] for n in range(3)]
    for one in ids:
        await until(api.http, one, "succeeded")
        await settled(own, one)
    await sweep_of(own, retention_days=1.0).look()
    assert len((await api.http.get("/executions")).json()["items"]) == 4
    await sweep_of(own, retention_days=1e-9).look()
    assert [item["id"] for item in (await api.http.get("/executions")).json()["items"]] == [waits]
    await purge(api.http, ids=[waits], terminate=True)
    await sweep_until_done(own)


async def test_all_runs_of_an_execution_go(own: Lab) -> None:
    # it rests between its sleeps, and goes on as a new run there
    text = "name: renewed\nmain: [{over: $ range(30), map: {sleep: 0.05}, parallelism: 1}]"
    handle = await start_as_api(own, text, continue_after_events=40)
    assert (await own.end_of(handle)).error is None
    assert len(await runs_of(own.client, handle.id)) > 1
    await settled(own, handle.id)
    service = PurgeService(own.store.database)
    finisher = PurgeFinisher(own.client, own.store.database, [])
    report = await service.purge(PurgeWanted(tenant=TENANT, ids=(handle.id,)), finisher)
    assert report.purged == [handle.id]
    await sweep_until_done(own)
    assert await runs_of(own.client, handle.id) == []


async def test_payloads_of_what_is_gone_from_temporal_go_after_a_while(own: Lab, api: ApiServer) -> None:
    texts = (BIG, BIG.replace("big", "another").replace("700000", "710000"))
    kept, gone = [(await start(api.http, await create(api.http, text)))["id"] for text in texts]
    for name in (kept, gone):
        await until(api.http, name, "succeeded")
        await settled(own, name)
    [driver] = blob_drivers(own.client.data_converter)
    nobody = StorageDriverStoreContext(target=StorageDriverWorkflowInfo(namespace="default", id="never-started"))
    await driver.store(nobody, [Payload(data=b"of a start that was refused")])
    temporal_cli(own, "workflow", "delete", "--workflow-id", gone)
    deadline = time.monotonic() + 30
    while await runs_of(own.client, gone):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    await Upkeep(own.store.database).mark_gone(gone, at_us=time.time_ns() // 1_000)

    def blobs() -> list[Path]:
        return [path for path in (own.folder / "blobs").rglob("*") if path.is_file()]

    await sweep_of(own).look()
    assert len(blobs()) == 3
    await sweep_of(own, grace_s=-1.0).look()
    assert len(blobs()) == 1
    assert not (await Reindex(own.client, own.store, replay_run).run(Wanted(ids=(kept,)))).failed
    assert (await api.http.get(f"/executions/{gone}")).json()["status"] == "succeeded"


async def test_every_table_that_names_an_execution_is_purged(own: Lab) -> None:
    database: Database = own.store.database
    names = {column.table.name for column in (*columns_of_executions(), *(column for column, _ in EMPTIED))}
    assert {"executions", "events", "execution_tags", "attempts", "waits", "starts", "deliveries"} <= names
    kept = {"agents", "tasks", "task_aliases", "api_keys", "idempotency", "pulses", "blobs", "blob_holders", "purged"}
    everything = {table.name for data in (truth, projection) for table in data.sorted_tables}
    # a new table must be told of here: either it is purged, or it holds nothing of any execution
    assert everything - names - kept == {
        "schedules",
        "inbound_hooks",
        "bulk_jobs",
        "start_turns",
        # of calls they have hashes, and those only while they are under way
        "backend_limits",
        "backend_sent",
        "backend_calls",
        "secrets",
        # of requests it has hashes
        "blind_retries",
        # what was said belongs to the session, and is deleted with it
        "sessions",
        "session_members",
        "entries",
        # what executions read and change, and what outlives them
        "users",
        "projects",
        "agent_tools",
        # documents belong to agents and users, and are deleted by themselves
        "docs",
        "snippets",
        "files",
        # the operator's backends, which know no executions
        "registry_marks",
        "registry_entries",
        "backend_states",
        "found_models",
        "model_pulls",
    }
    await PurgeStore(database).bury([Candidate("x", TENANT, "", True, "succeeded", 1)], now_us=1)
    assert await PurgeStore(database).was_purged("x")
    assert not await PurgeStore(database).was_purged("y")
