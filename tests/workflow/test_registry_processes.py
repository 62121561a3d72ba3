"""The registry with API and worker as processes: what is declared is used, a kill costs nothing, keys stay hidden."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.apiprocess import api_processes
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.processes import WorkerProcess
from tests.support.registry import SlowOllama, until
from tests.support.servers import serve_app

KEY = "sk-shown-to-nobody-77"
TASK = "name: ask\nmain: [{prompt: hi, model: m, unwrap: true}]"


class Keyed:
    """An OpenAI-compatible server that answers those who have the key."""

    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        del receive
        is_known = dict(scope["headers"]).get(b"authorization") == f"Bearer {KEY}".encode()
        body = b'{"error": {"message": "wrong key"}}'
        if is_known and scope["path"] == "/v1/models":
            body = b'{"data": [{"id": "m", "max_model_len": 4096}]}'
        elif is_known:
            self.asked += 1
            body = b'{"id": "1", "model": "m", "choices": [{"message": {"content": "fine"}, "finish_reason": "stop"}]}'
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200 if is_known else 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def files_with(text: str, folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


@pytest.mark.timeout(180)
async def test_a_backend_is_declared_with_a_stored_key_and_used_and_the_key_is_found_nowhere(lab: Lab) -> None:
    app, desk = Keyed(), SlowOllama()
    environment = {"EVERSTEP_LOG_LEVEL": "debug", "EVERSTEP_RECONCILE_S": "1"}
    worker = WorkerProcess(lab, [], environment)
    settings = {
        "TEMPORAL_ADDRESS": lab.client.service_client.config.target_host,
        "EVERSTEP_TASK_QUEUE": lab.queue,
        "EVERSTEP_LOG_LEVEL": "debug",
    }
    told: list[str] = []

    async def ask(api: httpx.AsyncClient, method: str, path: str, body: Any = None) -> Any:
        answer = await api.request(method, f"/api{path}", json=body)
        told.append(answer.text)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    worker.start()
    try:
        await worker.ready()
        async with (
            serve_app(app) as url,
            serve_app(desk) as ollama,
            api_processes(lab.folder, 1, **settings) as (process,),
            httpx.AsyncClient(base_url=process.url, timeout=PATIENCE_S) as api,
        ):
            await ask(api, "PUT", "/secrets/the_key", {"value": KEY})
            said = {"base_url": f"{url}/v1", "models": ["m"], "api_key_secret": "the_key"}
            await ask(api, "POST", "/backends", {"name": "keyed", **said})

            async def is_up() -> bool:
                state = (await ask(api, "GET", "/backends/keyed/state"))["state"]
                return state is not None and state["health"] == "up"

            async def is_used() -> bool:
                return "keyed" in (lab.folder / "worker.log").read_text(encoding="utf-8")

            await until(is_up)
            await until(is_used)
            (found,) = (await ask(api, "GET", "/models?backend=keyed"))["items"]
            assert found["capabilities"] == {"context": 4096}
            await api.post("/api/tasks", content=TASK, headers={"Content-Type": "application/yaml"})
            begun = await ask(api, "POST", "/tasks/ask/executions", {"input": {}})
            ended = await lab.end_of(lab.client.get_workflow_handle(begun["id"], result_type=dict))
            assert (ended.output, app.asked) == ("fine", 1)
            await ask(api, "GET", f"/executions/{begun['id']}/history")
            # a fetch goes on when its worker is killed
            await ask(api, "POST", "/backends", {"name": "desk", "kind": "ollama", "base_url": ollama})
            pull = await ask(api, "POST", "/pulls", {"backend": "desk", "model": "big"})

            async def is_half() -> bool:
                return bool((await ask(api, "GET", f"/pulls/{pull['id']}"))["done_bytes"])

            await until(is_half)
            worker.kill()

            async def is_cut() -> bool:
                return not desk.under_way

            await until(is_cut)
            desk.going.set()
            assert (await ask(api, "GET", f"/pulls/{pull['id']}"))["state"] == "running"
            worker.start()
            await worker.ready()

            async def is_done() -> bool:
                return bool((await ask(api, "GET", f"/pulls/{pull['id']}"))["state"] == "done")

            await until(is_done)
            assert "big" in desk.models
            pruned = await api.post("/api/backends/desk/prune", json={"dry_run": False})
            assert pruned.json()["code"] == "backend.declares_none"
            await ask(api, "PATCH", "/backends/desk", {"models": ["other"]})
            assert (await ask(api, "POST", "/backends/desk/prune", {}))["undeclared"] == ["big"]
            assert desk.deleted == []
            assert (await ask(api, "POST", "/backends/desk/prune", {"dry_run": False}))["deleted"] == ["big"]
    finally:
        await worker.stop()
    assert any("the_key" in text for text in told)
    assert [text for text in told if KEY in text] == []
    # logs of both processes and the store
    assert files_with(KEY, lab.folder) == []
    assert files_with("the_key", lab.folder) != []
