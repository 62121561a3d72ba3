"""The commands `backends …`, `models …` and `groups …` against a real API; none of it needs Temporal."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.edge.cli.exits import Exit
from tests.compat.apiserver import api_server, settings_for
from tests.compat.test_cli_catalog import Cli

FILE = '[backends.filed]\nbase_url = "http://127.0.0.1:9/v1"\nmodels = ["m"]\n'
KEY = "sk-not-to-be-seen-1234567890"


@pytest.fixture
async def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[Cli]:
    (tmp_path / "everstep.toml").write_text(FILE, encoding="utf-8")
    async with api_server(settings_for(tmp_path), temporal="127.0.0.1:1") as server:
        yield Cli(server.url, capsys)


async def test_a_backend_is_declared_shown_changed_and_removed(cli: Cli) -> None:
    words = ["--kind", "ollama", "--model", "qwen3", "--pull", "--limit", "calls=2", "--key-secret", "desk_key"]
    code, out, _ = await cli("backends", "add", "desk", *words)
    assert (code, out) == (Exit.OK, "the backend desk is declared: ollama at http://127.0.0.1:11434\n")
    _, out, _ = await cli("backends", "ls")
    assert "filed" in out
    assert "not looked at yet" in out
    view = await cli.json("backends", "show", "desk", "-o", "json")
    assert (view["limits"], view["pull"], view["api_key_secret"]) == ({"calls": 2}, True, "desk_key")
    _, out, _ = await cli("backends", "show", "desk")
    assert "secret desk_key" in out
    assert (await cli("backends", "set", "desk", "--key-env", "DESK_KEY", "--limit", "none"))[0] == Exit.OK
    view = await cli.json("backends", "show", "desk", "-o", "json")
    assert (view["limits"], view["api_key_env"], view["api_key_secret"]) == (None, "DESK_KEY", None)
    await cli("backends", "set", "desk", "--any-model", "--no-key", "--no-pull")
    view = await cli.json("backends", "show", "desk", "-o", "json")
    assert (view["models"], view["api_key_env"], view["pull"]) == ([], None, False)
    assert (await cli("backends", "rm", "desk"))[0] == Exit.OK
    assert [item["name"] for item in await jsonl(cli, "backends", "ls")] == ["filed"]


async def test_which_of_openais_ways_a_backend_speaks_is_declared_and_changed(cli: Cli) -> None:
    await cli("backends", "add", "desk", "--url", "http://127.0.0.1:9/v1", "--kind", "openai", "--api", "responses")
    assert (await cli.json("backends", "show", "desk", "-o", "json"))["api"] == "responses"
    assert "openai (responses)" in (await cli("backends", "show", "desk"))[1]
    await cli("backends", "set", "desk", "--api", "chat")
    assert (await cli.json("backends", "show", "desk", "-o", "json"))["api"] == "chat"
    code, _, err = await cli("backends", "add", "other", "--kind", "ollama", "--api", "responses")
    assert code != Exit.OK
    assert "only a backend of kind openai" in err


async def jsonl(cli: Cli, *words: str) -> list[dict[str, object]]:
    _, out, _ = await cli(*words, "-o", "jsonl")
    return [json.loads(line) for line in out.splitlines()]


async def test_what_is_wrong_is_said_with_a_remedy(cli: Cli) -> None:
    code, _, err = await cli("backends", "set", "filed", "--pull")
    assert code != Exit.OK
    assert "declared by everstep.toml" in err
    code, _, err = await cli("backends", "add", "desk", "--kind", "ollama", "--key-env", KEY)
    assert code != Exit.OK
    assert "api_key_secret" in err
    assert KEY not in err
    code, _, err = await cli("backends", "add", "desk", "--kind", "ollama", "--limit", "many")
    assert code == Exit.USAGE
    assert "calls=8" in err
    code, _, err = await cli("backends", "add", "desk", "--kind", "gemini", "--pull")
    assert "ollama" in err
    code, _, err = await cli("models", "pull", "filed", "m")
    assert "fetches and deletes no models" in err


async def test_models_and_groups_are_declared(cli: Cli) -> None:
    await cli("backends", "add", "desk", "--kind", "ollama", "--model", "a")
    words = ["--price-in", "0.5", "--price-out", "2", "--context", "4096", "--can", "tools", "--cannot", "vision"]
    assert (await cli("models", "add", "desk", "org/b:7b", *words))[0] == Exit.OK
    view = await cli.json("models", "show", "desk", "org/b:7b", "-o", "json")
    assert view["price"] == {"input": "0.5", "output": "2"}
    assert view["capabilities"] == {"tools": True, "vision": False, "context": 4096}
    assert [item["model"] for item in await jsonl(cli, "models", "ls", "-b", "desk", "--declared")] == ["a", "org/b:7b"]
    _, out, _ = await cli("models", "ls")
    assert "0.5/2" in out
    code, _, err = await cli("models", "add", "desk", "c", "--price-in", "1")
    assert (code, "two parts" in err) == (Exit.USAGE, True)
    assert (await cli("groups", "add", "fast", "desk/a", "filed/m", "--policy", "cheapest"))[0] == Exit.OK
    await cli("groups", "set", "fast", "desk/org/b:7b")
    group = await cli.json("groups", "show", "fast", "-o", "json")
    assert (group["models"], group["policy"]) == (["desk/org/b:7b"], "cheapest")
    assert "fast" in (await cli("groups", "ls"))[1]
    assert (await cli("groups", "rm", "fast"))[0] == Exit.OK
    assert (await cli("models", "rm", "desk", "org/b:7b"))[0] == Exit.OK


async def test_a_file_is_applied(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "models.toml"
    file.write_text(
        '[tools]\nmodules = []\n[backends.desk]\nkind = "ollama"\n'
        '[backends.desk.prices."*"]\ninput = 0.1\noutput = 0.4\n'
        '[groups.fast]\nmodels = ["desk/a"]\n'
    )
    code, out, err = await cli("backends", "apply", str(file), "--dry-run")
    assert (code, "created" in out, "left out: [tools]" in err) == (Exit.OK, True, True)
    assert len(await jsonl(cli, "backends", "ls")) == 1
    await cli("backends", "apply", str(file))
    view = await cli.json("backends", "show", "desk", "-o", "json")
    assert view["prices"] == {"*": {"input": "0.1", "output": "0.4"}}
    file.write_text("")
    told = await cli.json("backends", "apply", str(file), "--prune", "-o", "json")
    assert {item["name"]: item["change"] for item in told["changes"]} == {"desk": "removed", "fast": "removed"}


async def test_fetches_are_listed_and_cancelled(cli: Cli) -> None:
    await cli("backends", "add", "desk", "--kind", "ollama")
    # Temporal is away: it stands in the queue all the same
    assert (await cli("models", "pull", "desk", "a"))[0] == Exit.UNREACHABLE
    _, out, _ = await cli("models", "pulls")
    assert "queued" in out
    (pull,) = await jsonl(cli, "models", "pulls", "--state", "queued")
    assert (await cli("models", "cancel", str(pull["id"])))[1] == "the fetch of a is cancelled\n"
    (pull,) = await jsonl(cli, "models", "pulls")
    assert pull["state"] == "cancelled"
