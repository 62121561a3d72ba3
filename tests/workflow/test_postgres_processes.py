"""A whole installation on PostgreSQL: two API processes, a worker that is killed, the repair, a Temporal server."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from sqlalchemy import delete

from engine.store.schema import events
from tests.compat.apiserver import read_stream
from tests.support.apiprocess import ApiProcess
from tests.support.forked import Forked
from tests.support.lab import TENANT, Lab, open_lab
from tests.support.patience import PATIENCE_S
from tests.support.postgres import PostgresServer, on_postgres
from tests.support.processes import WorkerProcess, worker_process

ASK = """\
name: ask
main:
  - evaluate: {n: "$ _.n + 1"}
  - wait_for_input: {info: {question: "sure?"}, schema: {type: boolean}}
    label: sure
  - evaluate: {sure: "$ _"}
  - foreach: {in: "$ range(5)", do: {evaluate: {i: "$ _"}}}
  - return: {sure: "$ steps['sure'].output"}
"""

LATEST_S = PATIENCE_S


@pytest.fixture
async def lab(temporal_address: str, postgres: PostgresServer, tmp_path: Path) -> AsyncIterator[Lab]:
    with on_postgres(postgres, tmp_path):
        async with open_lab(temporal_address, tmp_path) as opened:
            yield opened


@contextlib.contextmanager
def repair_process(lab: Lab, worker: WorkerProcess) -> Iterator[Path]:
    """Run the repair for the length of the block; gives its log."""
    log = lab.folder / "repair.log"
    started = Forked(["everstep-repair"], worker.environment, out=log, log=log)
    try:
        yield log
    finally:
        started.terminate()
        try:
            started.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


@contextlib.asynccontextmanager
async def api_client(lab: Lab, worker: WorkerProcess) -> AsyncIterator[httpx.AsyncClient]:
    """Serve the API in a process of its own."""
    api = ApiProcess(lab.folder, **worker.environment)
    try:
        await asyncio.to_thread(api.start)
        async with httpx.AsyncClient(base_url=f"{api.url}/api", timeout=PATIENCE_S, trust_env=False) as http:
            yield http
    finally:
        await asyncio.to_thread(api.stop)


async def until(true: Callable[[], Awaitable[bool]], otherwise: Callable[[], object]) -> None:
    """Wait until something holds."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LATEST_S
    while not await true():
        assert loop.time() < deadline, otherwise()
        await asyncio.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(400)
async def test_an_execution_outlives_its_worker_and_two_apis_tell_the_same_of_it(lab: Lab) -> None:
    async with worker_process(lab) as worker, api_client(lab, worker) as one, api_client(lab, worker) as two:
        with repair_process(lab, worker) as log:
            created = await one.post("/tasks", content=ASK, headers={"content-type": "application/yaml"})
            assert created.status_code == 201, created.text
            started = await two.post(f"/tasks/{created.json()['id']}/executions", json={"input": {"n": 1}})
            assert started.status_code == 201, started.text
            name = started.json()["id"]
            path = f"/executions/{name}/transitions.stream"
            streams = [asyncio.create_task(read_stream(http, path)) for http in (one, two)]

            async def both_say(status: str) -> bool:
                answers = [(await http.get(f"/executions/{name}")).json() for http in (one, two)]
                return [answer["status"] for answer in answers] == [status, status]

            async def is_verified() -> bool:
                return (await lab.store.get_execution(name, tenant=TENANT)).verified is True

            await until(lambda: both_say("awaiting_input"), lambda: "it does not wait")
            worker.kill()
            # as if it had died before it wrote them
            lost = delete(events).where(events.c.execution_id == name, events.c.seq == 2)
            assert await lab.store.database.run(lambda connection: connection.execute(lost).rowcount, write=True) == 1
            worker.start()
            await worker.ready()
            answered = await one.put(f"/executions/{name}", json={"status": "running", "input": True})
            assert answered.status_code == 200, answered.text
            await until(lambda: both_say("succeeded"), lambda: "it does not end")
            told = await asyncio.wait_for(asyncio.gather(*streams), LATEST_S)
            await until(is_verified, lambda: log.read_text(encoding="utf-8"))
        final = (await two.get(f"/executions/{name}")).json()
    assert final["output"] == {"sure": True}
    assert [event.data for event in told[0]] == [event.data for event in told[1]]
    assert told[0][-1].data["type"] == "finish"
    stored = await lab.store.list_events(name, tenant=TENANT)
    assert [record.seq for record in stored] == list(range(1, len(stored) + 1))
    result = await lab.client.get_workflow_handle(name).result()
    assert await lab.store.digest(name) == (result["events"], result["digest"], result["times"])
