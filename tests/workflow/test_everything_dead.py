"""Workers, repair and Temporal are killed: every read still answers and says how old it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.edge.http.freshness import AGE_HEADER
from engine.store.pulses import FRESH_S
from tests.support.dev_process import everstep
from tests.support.forked import ROOT
from tests.support.orphans import dying_with_parent
from tests.support.patience import PATIENCE_S
from tests.support.postgres import store_url
from tests.support.servers import clean_environment, free_port, temporal_process

TASKS = {
    "done": "name: done\nmain: [{evaluate: $ 1}, {evaluate: $ 2}]",
    "broken": "name: broken\nmain: [{error: it went wrong}]",
    "asks": "name: asks\nmain: [{evaluate: $ 1}, {wait_for_input: {info: go}}]",
    "sleeps": "name: sleeps\nmain: [{evaluate: $ 1}, {sleep: 3600}]",
    "dropped": "name: dropped\nmain: [{wait_for_input: {info: go}}]",
}
STATUS = {
    "done": "succeeded",
    "broken": "failed",
    "asks": "awaiting_input",
    "sleeps": "running",
    "dropped": "cancelled",
    "queued": "queued",
}
ASK_TEMPORAL = re.compile(r"/readyz$|/executions/[^/]+/temporal$")
"""What says whether new work can be taken, and what shows Temporal's own account: 503 while Temporal is down."""
QUICK_S = 12.0
"""A question to a dead Temporal gives up after four seconds; a machine that is busy may take twice as long again."""


@dataclass
class Stack:
    """The processes of a small installation, each of its own.

    Attributes:
        http: Client of the API.
        url: Its address.
        ids: Executions by what they are.
        processes: Those that run, by name.
    """

    http: httpx.AsyncClient
    url: str
    ids: dict[str, str] = field(default_factory=dict)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def kill(self, name: str) -> None:
        """Kill a process by its id."""
        process = self.processes.pop(name)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()

    async def start(self, name: str, task: str) -> str:
        """Start an execution and return its id."""
        answer = await self.http.post(f"/tasks/{task}/executions", json={"metadata": {"n": 1}, "labels": ["red"]})
        assert answer.status_code == 201, answer.text
        self.ids[name] = answer.json()["id"]
        return self.ids[name]

    async def until(self, name: str, status: str) -> dict[str, Any]:
        """Wait until an execution has a status."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            view: dict[str, Any] = (await self.http.get(f"/executions/{self.ids[name]}")).json()
            if view["status"] == status:
                return view
            assert time.monotonic() < deadline, view
            await asyncio.sleep(0.1)


def begin(name: str, command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process of ours."""
    with (folder / f"{name}.log").open("wb") as out:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
            preexec_fn=dying_with_parent(),
        )


@contextlib.asynccontextmanager
async def running_stack(folder: Path, temporal: str) -> AsyncIterator[Stack]:
    """Run API, worker and repair for the length of the block."""
    environment = clean_environment() | {
        "EVERSTEP_DATA_DIR": str(folder),
        "EVERSTEP_DATABASE_URL": store_url(folder / "lab.db"),
        "EVERSTEP_PROJECT_FILE": str(folder / "everstep.toml"),
        "TEMPORAL_ADDRESS": temporal,
    }
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    python = [sys.executable, "-P", "-m"]
    async with httpx.AsyncClient(base_url=f"{url}/api", timeout=15, trust_env=False) as http:
        stack = Stack(http, url)
        stack.processes["worker"] = begin("worker", [*python, "worker", "run"], folder, environment)
        stack.processes["api"] = begin(
            "api", [*python, "engine.edge.cli", "serve", "--port", str(port)], folder, environment
        )
        repair = str(Path(sys.executable).parent / "everstep-repair")
        stack.processes["repair"] = begin("repair", [repair], folder, environment)
        try:
            await _until_ready(stack)
            yield stack
        finally:
            for name in list(stack.processes):
                stack.kill(name)


async def _until_ready(stack: Stack) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if (await stack.http.get("/readyz")).status_code == 200:
                return
        await asyncio.sleep(0.1)
    raise AssertionError("the API did not get ready")


async def fill(stack: Stack) -> None:
    """Make one execution in every state."""
    for text in TASKS.values():
        answer = await stack.http.post("/tasks", content=text, headers={"content-type": "application/yaml"})
        assert answer.status_code in (200, 201), answer.text
    for name in TASKS:
        await stack.start(name, name)
    await stack.until("dropped", "awaiting_input")
    await stack.http.put(f"/executions/{stack.ids['dropped']}", json={"status": "cancelled", "reason": "enough"})
    for name in TASKS:
        await stack.until(name, STATUS[name])
    await _until_scanned(stack)


async def _until_scanned(stack: Stack) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        processes = (await stack.http.get("/overview")).json()["processes"]
        if any(process["info"].get("scanned_us") for process in processes):
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the repair did not scan")


async def all_paths(stack: Stack) -> list[str]:
    """Return every GET path that the API documents, with the ids of all executions in it."""
    document = (await stack.http.get("/openapi.json")).json()
    task = (await stack.http.get("/tasks")).json()["items"][0]["id"]
    agents = (await stack.http.get("/agents")).json()["items"]
    transition = (await stack.http.get(f"/executions/{stack.ids['done']}/transitions")).json()["items"][0]["id"]
    known = {"task_id": task, "agent_id": agents[0]["id"] if agents else "none", "transition_id": transition}
    known |= {"version": "1", "path": "main.0", "step_path": "main.0", "key_id": "none", "alias": "none"}
    doors = ("schedule_id", "webhook_id", "delivery_id", "hook_id", "event_id", "job_id", "wait_id")
    others = ("name", "doc_id", "file_id", "backend", "model", "group", "pull")
    talks = ("user_id", "project_id", "tool_id", "session_id")
    known |= dict.fromkeys((*doors, *others, *talks), "none")
    paths: list[str] = []
    for template, methods in document["paths"].items():
        if "get" not in methods:
            continue
        if template == "/api/metrics":
            paths.append("/metrics")
        ids = stack.ids.values() if "{execution_id}" in template else [""]
        for execution_id in ids:
            names = known | {"execution_id": execution_id}
            paths.append(template.replace(":path}", "}").format_map(names))
    return paths


async def look(stack: Stack, path: str) -> tuple[str, int, str | None, float]:
    """Read a path; of a stream its first bytes. Return status, age and how long it took."""
    began = time.monotonic()
    async with stack.http.stream("GET", f"{stack.url}{path}") as answer:
        if ".stream" in path:
            with contextlib.suppress(StopAsyncIteration, TimeoutError):
                await asyncio.wait_for(anext(answer.aiter_bytes()), 2)
        else:
            await answer.aread()
        return path, answer.status_code, answer.headers.get(AGE_HEADER), time.monotonic() - began


@pytest.mark.timeout(300)
async def test_every_read_answers_when_all_else_is_dead(tmp_path: Path):
    folder = tmp_path / "temporal"
    folder.mkdir()
    with temporal_process(folder) as temporal:
        async with running_stack(tmp_path, temporal.address) as stack:
            await fill(stack)
            fresh = [await look(stack, f"/api/executions/{execution_id}") for execution_id in stack.ids.values()]
            assert [(status, age) for _, status, age, _ in fresh] == [(200, None)] * len(stack.ids)
            stack.kill("worker")
            await stack.start("queued", "done")
            stack.kill("repair")
            os.kill(temporal.pid, signal.SIGKILL)
            died = time.monotonic()
            await _until_old(stack)
            await check_reads(stack, died)
            await check_writes(stack)
            await check_words(stack)


async def _until_old(stack: Stack) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while (await look(stack, "/api/executions"))[2] is None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


async def check_reads(stack: Stack, died: float) -> None:
    """Every route answers, and those that show the projection say how old it is."""
    paths = await all_paths(stack)
    assert len({path for path in paths if ".stream" in path}) >= 3 * len(stack.ids)
    # streams keep quiet for their seconds all at one time
    streams = await asyncio.gather(*(look(stack, path) for path in paths if ".stream" in path))
    plain = [path for path in paths if ".stream" not in path and not ASK_TEMPORAL.search(path)]
    answers = [*streams, *[await look(stack, path) for path in plain]]
    asking = await asyncio.gather(*(look(stack, path) for path in paths if ASK_TEMPORAL.search(path)))
    assert {answer[1] for answer in asking} == {503}
    assert [answer for answer in answers if answer[1] >= 500] == []
    ours = [answer for answer in answers if re.search(r"/(executions|usage|overview)", answer[0])]
    assert len(ours) > 20
    assert [answer for answer in ours if answer[2] is None] == []
    assert all(float(answer[2] or 0) >= 0 for answer in ours)
    assert [answer for answer in answers if answer[3] > QUICK_S] == []
    told = await asyncio.gather(*(read_whole(stack, execution_id) for execution_id in stack.ids.values()))
    for (name, execution_id), found in zip(stack.ids.items(), told, strict=True):
        view = (await stack.http.get(f"/executions/{execution_id}")).json()
        assert (name, view["status"]) == (name, STATUS[name])
        assert (len(found) > 0) == (name != "queued"), name
    first = float((await look(stack, "/api/executions"))[2] or 0)
    assert first >= time.monotonic() - died - FRESH_S


async def read_whole(stack: Stack, execution_id: str) -> str:
    """Return what an execution's stream of events tells before it falls silent."""
    told = ""
    async with stack.http.stream("GET", f"/executions/{execution_id}/events.stream") as answer:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.5):
                async for line in answer.aiter_lines():
                    told += line if line.startswith("data:") else ""
    return told


async def check_writes(stack: Stack) -> None:
    """What needs Temporal says within seconds that it is not there."""
    asks, sleeps = stack.ids["asks"], stack.ids["sleeps"]
    for method, path, body in (
        ("POST", "/tasks/done/executions", {}),
        ("PUT", f"/executions/{asks}", {"status": "running", "input": 1}),
        ("PUT", f"/executions/{sleeps}", {"status": "cancelled"}),
    ):
        began = time.monotonic()
        answer = await stack.http.request(method, path, json=body)
        assert (path, answer.status_code) == (path, 503), answer.text
        assert answer.json()["code"] == "unreachable", answer.text
        assert time.monotonic() - began < QUICK_S, path


async def check_words(stack: Stack) -> None:
    """The commands answer and say the age in words."""
    done = stack.ids["done"]
    commands = [["ls"], ["usage"], ["top", "--once"]]
    commands += [[name, done] for name in ("describe", "logs", "result", "history", "steps", "watch")]
    runs = (asyncio.to_thread(everstep, *words, EVERSTEP_ADDRESS=stack.url) for words in commands)
    for words, ran in zip(commands, await asyncio.gather(*runs), strict=True):
        assert (words, ran.code) == (words, 0), ran.err
        assert re.search(r"as of .+ ago; Temporal does not answer", ran.err), (words, ran.err)
        assert ran.out, words
