"""A store on PostgreSQL that was dumped in the middle of the work comes back, and is brought in line with Temporal."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from temporalio.client import WorkflowHandle

from engine.control.connect import ensure_search_attributes
from engine.control.reindex import Reindex, Wanted
from tests.support.lab import TENANT, Lab, open_lab
from tests.support.postgres import PostgresServer, on_postgres, store_url
from tests.support.rows import differences, dump, settle_all
from tests.support.servers import temporal_process
from tests.workflow.test_reindex import start_as_api
from worker import replay_run

ASK = "name: ask\nmain: [{evaluate: $ _ + 1}, {wait_for_input: {info: go}}, {evaluate: $ _.n}]"
SIZE = 20


async def answer_all(lab: Lab, handles: list[WorkflowHandle[object, object]]) -> None:
    """Answer executions that wait, and see them end."""
    for number, handle in enumerate(handles):
        await lab.until(handle, "wait")
        await lab.answer(handle, {"n": number})
    for number, handle in enumerate(handles):
        assert (await lab.end_of(handle)).output == number


async def program(server: PostgresServer, name: str, *arguments: str) -> None:
    """Run a program of PostgreSQL."""
    done = await asyncio.to_thread(
        subprocess.run, [str(server.program(name)), *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


async def restore(server: PostgresServer, url: str, file: Path) -> None:
    """Lose the database, and restore it as docs/backup.md says."""
    database = url.rpartition("/")[2]
    await asyncio.to_thread(server.drop, database)
    await asyncio.to_thread(server.execute, f"CREATE DATABASE {database}")
    await program(server, "pg_restore", "--clean", "--if-exists", "--no-owner", f"--dbname={url}", str(file))
    await program(server, "psql", f"--dbname={url}", "--command=DELETE FROM pulses WHERE kind <> 'temporal'")


async def test_a_dump_that_was_made_in_the_middle_of_the_work_comes_back_and_is_brought_in_line(
    tmp_path: Path, postgres: PostgresServer
):
    file = tmp_path / "everstep.dump"
    with on_postgres(postgres, tmp_path), temporal_process(tmp_path) as temporal:
        url = store_url(tmp_path / "lab.db")
        async with open_lab(temporal.address, tmp_path) as lab, lab.worker():
            await ensure_search_attributes(lab.client)
            created = await lab.definitions.create_task(ASK, tenant=TENANT)
            handles = [await start_as_api(lab, ASK, number) for number in range(SIZE)]
            async with asyncio.TaskGroup() as group:
                group.create_task(answer_all(lab, handles[: SIZE // 2]))
                group.create_task(program(postgres, "pg_dump", "--format=custom", f"--file={file}", url))
            later = [await start_as_api(lab, ASK, number) for number in range(2)]
            await answer_all(lab, handles[SIZE // 2 :])
            await answer_all(lab, later)
        async with open_lab(temporal.address, tmp_path) as lab:
            await settle_all(lab)
            right = await dump(lab.store.database)
        await restore(postgres, url, file)
        async with open_lab(temporal.address, tmp_path) as lab:
            restored = await dump(lab.store.database)
            assert 0 < len(restored) <= SIZE, "what began since is not in it"
            assert differences(right, restored)
            assert [found.id for found in await lab.definitions.definitions.list_tasks(tenant=TENANT)] == [
                created.task.id
            ]
            summary = await Reindex(lab.client, lab.store, replay_run).run(Wanted())
            assert (summary.executions, summary.failed) == (SIZE + 2, [])
            assert differences(right, await dump(lab.store.database)) == []
