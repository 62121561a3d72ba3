"""The registry by both Python clients, and `doctor` beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.client import AsyncClient, Client
from engine.client.registry import AsyncRegistry, Registry
from engine.core.errors import Conflict, InvalidInput, Unavailable
from engine.edge.cli.doctor import check_backends
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockScript
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.support.postgres import store_url
from tests.support.servers import serve_app

FILE = '[backends.filed]\nbase_url = "http://127.0.0.1:1/v1"\nmodels = ["m"]\n'


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    (tmp_path / "everstep.toml").write_text(FILE, encoding="utf-8")
    async with api_server(settings_for(tmp_path), temporal="127.0.0.1:1") as server:
        yield server


async def test_the_client_for_asyncio_declares_and_shows(api: ApiServer) -> None:
    async with AsyncClient(api.url) as client:
        made = await client.create_backend("desk", kind="ollama", models=["a"], pull=True)
        assert (made["source"], made["pull"]) == ("store", True)
        assert [item["name"] for item in (await client.backends(source="store")).items] == ["desk"]
        changed = await client.update_backend("desk", pull=None, limits={"calls": 1})
        assert (changed["pull"], changed["limits"]) == (False, {"calls": 1})
        await client.declare_model("desk", "org/b:7b", price={"input": 1, "output": 2})
        listed = (await client.models("desk", declared=True)).items
        assert [item["model"] for item in listed] == ["a", "org/b:7b"]
        await client.withdraw_model("desk", "org/b:7b")
        assert (await client.backend("desk"))["models"] == ["a"]
        await client.create_group("fast", ["desk/a"], policy="order")
        assert (await client.update_group("fast", models=["a"]))["models"] == ["a"]
        assert (await client.group("fast"))["policy"] == "order"
        assert [item["name"] for item in (await client.groups()).items] == ["fast"]
        with pytest.raises(Unavailable):
            await client.pull_model("desk", "c")
        (pull,) = (await client.pulls(state="queued")).items
        assert (await client.cancel_pull(pull["id"]))["state"] == "cancelled"
        assert (await client.pull(pull["id"]))["model"] == "c"
        with pytest.raises(Conflict) as refused:
            await client.prune_models("filed")
        assert refused.value.code == "backend.not_pulling"
        with pytest.raises(InvalidInput):
            await client.create_backend("x", api_key="sk-1")  # type: ignore[call-arg]
        await client.delete_group("fast")
        await client.delete_backend("desk")
        told = await client.apply_registry({"b": {"kind": "gemini"}}, {"g": {"models": ["b/x"]}}, prune=True)
        assert [item["change"] for item in told["changes"]] == ["created", "created"]


async def test_the_ordinary_client_does_the_same(api: ApiServer) -> None:
    def work() -> list[str]:
        with Client(api.url) as client:
            client.create_backend("desk", kind="ollama")
            client.create_group("fast", ["desk/a"])
            client.delete_group("fast")
            return [item["name"] for item in client.backends().items]

    assert await asyncio.to_thread(work) == ["desk", "filed"]
    named = [{name for name in vars(kind) if name[0] != "_"} for kind in (Registry, AsyncRegistry)]
    assert named[0] == named[1]


async def test_doctor_asks_the_backends_of_the_store_too(
    api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERSTEP_DATABASE_URL", store_url(tmp_path / "lab.db"))
    async with serve_app(create_app(MockScript(models=["m1", "m2"]))) as url:
        await api.http.post("/backends", json={"name": "stored", "base_url": f"{url}/v1", "models": ["m1"]})
        found = await asyncio.to_thread(check_backends, tmp_path / "everstep.toml", tmp_path)
    states = {item.check: (item.state, item.message) for item in found}
    assert states["backend filed"][0] == "error"
    assert states["backend stored"] == ("ok", f"{url}/v1 has m1, m2")
