"""docs/migrate-from-julep.md is true: its code runs as it stands there, and every statement has a test."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest
from julep import BadRequestError, Julep

from tests.julep.installation import Installation, Key
from tests.julep.sdk import Sdk, ended
from tests.support.dev_process import everstep

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "migrate-from-julep.md").read_text(encoding="utf-8")
MARK = re.compile(r"<!-- (test_\w+) -->")
FENCES = re.findall(r"```(python|sh)\n(.*?)```", PAGE, re.DOTALL)
AGENT = "name: Ada\nmodel: mock\ninstructions: Be short.\n"
TASK = "name: greet\nmain:\n  - evaluate: {text: $ 'Hello ' + _.name}\n"


def test_every_statement_names_its_test() -> None:
    statements = [line for line in PAGE.splitlines() if line.startswith("- ")]
    assert len(statements) > 20
    assert [line for line in statements if not MARK.search(line)] == []


def test_every_test_that_is_named_exists() -> None:
    files = list(TESTS.rglob("test_*.py"))
    defined = {name for path in files for name in re.findall(r"def (test_\w+)\(", path.read_text(encoding="utf-8"))}
    assert [name for name in MARK.findall(PAGE) if name not in defined] == []


def test_its_python_runs_as_it_stands(
    installed: Installation, key: Key, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERSTEP_API_KEY", key.text)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    (code,) = [text for kind, text in FENCES if kind == "python"]
    names: dict[str, Any] = {}
    exec(code.replace("http://127.0.0.1:8700/api", installed.url), names)
    names["client"].close()
    assert capsys.readouterr().out == "Greet Grace\nhello\n"


def test_its_commands_run_as_they_stand(installed: Installation, key: Key, tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "ada.yaml").write_text(AGENT, encoding="utf-8")
    (tmp_path / "agents" / "greet.yaml").write_text(TASK, encoding="utf-8")
    where: dict[str, Any] = {"EVERSTEP_ADDRESS": installed.url.removesuffix("/api"), "EVERSTEP_API_KEY": key.text}
    commands = [shlex.split(text)[1:] for kind, text in FENCES if kind == "sh"]
    looked, applied = [everstep(*words, cwd=tmp_path, **where) for words in commands]
    assert (looked.code, "nothing was stored" in looked.err) == (0, True)
    assert (applied.code, applied.out.count("created ")) == (0, 2)


def test_the_variables_of_the_sdk_are_enough(
    installed: Installation, key: Key, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JULEP_BASE_URL", installed.url)
    monkeypatch.setenv("JULEP_API_KEY", key.text)
    with Julep() as client:
        made = client.agents.create(name="Ada")
        assert [agent.id for agent in client.agents.list()] == [made.id]


def test_one_good_key_of_two_is_enough(installed: Installation, key: Key) -> None:
    with httpx.Client(base_url=installed.url, trust_env=False) as http:
        for auth_key, api_key, status in [(key.text, "es_wrong", 200), ("es_wrong", key.text, 200), ("a", "b", 401)]:
            headers = {"X-Auth-Key": auth_key, "Authorization": api_key}
            assert http.get("/agents", headers=headers).status_code == status


# --- what differs, and what is better ------------------------------------------------------------------------------


async def output_of(julep: Sdk, main: list[dict[str, Any]], given: Any) -> Any:
    """Run a task to its success and return its output."""
    agent = await julep.agents.create(name="Ada", model="mock")
    task = await julep.tasks.create(agent.id, name="t", main=main)
    execution = await ended(julep, (await julep.executions.create(task.id, input=given)).id)
    assert execution.status == "succeeded", execution
    return execution.output


async def test_an_if_without_else_hands_its_input_on(julep: Sdk) -> None:
    choice = {"if": "$ _.n > 5", "then": {"evaluate": {"big": "$ True"}}}
    assert await output_of(julep, [choice], {"n": 1}) == {"n": 1}


async def test_a_member_named_like_a_method_is_the_member(julep: Sdk) -> None:
    assert await output_of(julep, [{"evaluate": {"first": "$ _.items[0]"}}], {"items": [7]}) == {"first": 7}


async def test_a_blind_retry_starts_nothing_twice(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada", model="mock")
    task = await julep.tasks.create(agent.id, name="t", main=[{"evaluate": {"x": "$ 1"}}])
    again = {"x-stainless-retry-count": "1"}
    first = await julep.executions.create(task.id, input={"n": 1})
    second = await julep.executions.create(task.id, input={"n": 1}, extra_headers=again)
    assert second.id == first.id
    session = await julep.sessions.create(agent=agent.id)
    hello: list[Any] = [{"role": "user", "content": "hello"}]
    answer = await julep.sessions.chat(session.id, messages=hello)
    repeated = await julep.sessions.chat(session.id, messages=hello, extra_headers=again)
    assert repeated.id == answer.id
    assert len((await julep.sessions.history(session.id)).entries) == 2


async def test_a_callers_own_model_key_is_refused(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada", model="mock")
    session = await julep.sessions.create(agent=agent.id)
    hello: list[Any] = [{"role": "user", "content": "hello"}]
    with pytest.raises(BadRequestError):
        await julep.sessions.chat(session.id, messages=hello, x_custom_api_key="sk-mine")
    assert (await julep.sessions.history(session.id)).entries == []


async def test_secrets_stand_in_tools_alone(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada")
    await julep.secrets.create(name="crm_token", value="sesame-sesame")
    with pytest.raises(BadRequestError) as raised:
        await julep.tasks.create(agent.id, name="tells", main=[{"evaluate": {"token": "$ secrets.crm_token"}}])
    assert "tool" in str(raised.value.body)
    call = {"method": "GET", "url": "http://127.0.0.1:9", "headers": {"x-token": "$ secrets.crm_token"}}
    tool: dict[str, Any] = {"name": "crm", "type": "api_call", "api_call": call}
    assert await julep.tasks.create(agent.id, name="calls", main=[{"tool": "crm", "arguments": {}}], tools=[tool])


async def test_an_integration_that_is_not_there_is_refused_at_once(julep: Sdk) -> None:
    agent = await julep.agents.create(name="Ada")
    tool: dict[str, Any] = {"name": "crawl", "type": "integration", "integration": {"provider": "spider"}}
    main = [{"tool": "crawl", "arguments": {"url": "$ _.url"}}]
    with pytest.raises(BadRequestError) as raised:
        await julep.tasks.create(agent.id, name="crawls", main=main, tools=[tool])
    assert "spider" in str(raised.value.body)
