"""The commands that list agents, users and projects, against a real API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from engine.edge.cli import resources
from engine.edge.cli.exits import Exit
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(tmp_path), temporal="127.0.0.1:1") as server:
        yield server


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


async def add(http: httpx.AsyncClient, path: str, **body: object) -> str:
    answer = await http.post(path, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


async def test_operators_see_who_there_is(api: ApiServer, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "PAGE", 2)
    await add(api.http, "/projects", name="Front desk", canonical_name="desk")
    for name in ("Ada", "Bo", "Cy"):
        await add(api.http, "/agents", name=name, canonical_name=name.lower(), model="m1", project="desk")
        await add(api.http, "/users", name=f"user {name}", about="tall")
    for kind, words in {
        "agents": ["Ada", "ada", "m1", "desk", "Cy"],
        "users": ["user Ada", "user Cy", "tall"],
        "projects": ["Front desk", "desk"],
    }.items():
        code, out, err = await cli(kind, "ls")
        assert (code, err) == (Exit.OK, "")
        assert [word for word in words if word not in out] == []
    assert [item["name"] for item in await cli.json("agents", "ls")] == ["Ada", "Bo", "Cy"]
    assert [item["name"] for item in await cli.json("users", "ls")] == ["user Ada", "user Bo", "user Cy"]


async def test_an_agent_is_shown_with_its_tools(api: ApiServer, cli: Cli) -> None:
    await add(api.http, "/agents", name="Ada", canonical_name="ada", instructions=["Be kind.", "Be brief."])
    await add(api.http, "/agents/ada/tools", name="shell", type="bash_20241022")
    code, out, _ = await cli("agents", "show", "ada")
    assert code == Exit.OK
    assert [word for word in ("Ada", "Be kind.", "Be brief.", "shell (bash_20241022)") if word not in out] == []
    assert [tool["name"] for tool in (await cli.json("agents", "show", "ada"))["tools"]] == ["shell"]
    code, _, err = await cli("agents", "show", "nobody")
    assert (code, "agent.not_found" in err or "no agent nobody" in err) == (Exit.NOT_FOUND, True)


async def test_an_agent_or_a_user_is_named_by_the_beginning_of_its_id(api: ApiServer, cli: Cli) -> None:
    ids = [f"abcdef12-0000-4000-8000-00000000000{number}" for number in (1, 2)]
    for number, agent_id in enumerate(ids):
        await add(api.http, f"/agents/{agent_id}", name=f"twin {number}")
    only = "facade12-0000-4000-8000-000000000001"
    await add(api.http, f"/agents/{only}", name="Ada")
    assert (await cli.json("agents", "show", "FACADE12"))["id"] == only
    code, _, err = await cli("agents", "show", "abcdef12")
    assert (code, "error[id.ambiguous]" in err) == (Exit.FAILED, True)
    assert all(f"{agent_id} (twin {number})" in err for number, agent_id in enumerate(ids))
    assert (await cli("agents", "show", "abcdef13"))[0] == Exit.NOT_FOUND
    # what somebody has as its name is no beginning of another one's id
    named = await add(api.http, "/agents", name="Bo", canonical_name="facade")
    assert (await cli.json("agents", "show", "facade"))["id"] == named

    user = await add(api.http, "/users", name="Cy")
    doc = await add(api.http, f"/users/{user}/docs", title="t", content="tea")
    assert [item["id"] for item in await cli.json("docs", "ls", "--user", user[:8])] == [doc]
