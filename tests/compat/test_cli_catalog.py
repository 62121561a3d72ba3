"""The commands `apply` and `tasks …` against a real API; none of it needs Temporal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from tests.compat.apiserver import api_server, settings_for

HELLO = """\
name: hello
main:
  - evaluate: {text: hello}
"""
ASKS = """\
main:
  - prompt: hello
"""
IN_PYTHON = """\
from engine import Task, evaluate

counts = Task(main=[evaluate({"n": 1})])
"""


def write(name: str, text: str) -> None:
    """Write a file into the folder of tasks."""
    path = Path("tasks", name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def delete(name: str) -> None:
    """Delete a file of the folder of tasks."""
    Path("tasks", name).unlink()


class Cli:
    """The command line beside a server in the test's loop."""

    def __init__(self, address: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.address = address
        self._capsys = capsys

    async def __call__(self, *words: str) -> tuple[int, str, str]:
        """Run a command; exit code, standard output, standard error."""
        self._capsys.readouterr()
        code = await asyncio.to_thread(run_command, [*words, "--address", self.address])
        told = self._capsys.readouterr()
        return code, told.out, told.err

    async def json(self, *words: str) -> Any:
        """Run a command that succeeds and return its JSON."""
        code, out, err = await self(*words, "-o", "json")
        assert code == Exit.OK, err
        return json.loads(out)

    async def changes(self, *words: str) -> dict[str, str]:
        """Apply and return what happened by task."""
        return {item["name"]: item["change"] for item in (await self.json("apply", *words))["changes"]}


@pytest.fixture
async def cli(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> AsyncIterator[Cli]:
    folder = tmp_path / "project" / "tasks"
    folder.mkdir(parents=True)
    (folder / "hello.yaml").write_text(HELLO)
    (folder / "asks.yaml").write_text(ASKS)
    monkeypatch.chdir(folder.parent)
    async with api_server(settings_for(tmp_path), temporal="127.0.0.1:1") as server:
        yield Cli(server.url, capsys)


async def test_a_folder_is_applied_and_what_lies_beside_the_tasks_is_not(cli: Cli) -> None:
    for name, text in {
        "settings.yaml": "a: 1",
        "hello.test.yaml": "cases: []",
        "hello.cassette.json": "{}",
        ".hidden.yaml": HELLO,
        "notes.txt": "",
        "tools.py": "raise SystemExit('not to be run')",
    }.items():
        write(name, text)
    write("deep/counts.py", IN_PYTHON)
    code, out, err = await cli("apply", "-f", "tasks")
    assert code == Exit.OK, err
    rows = [line.split() for line in out.splitlines()[1:]]
    assert rows == [
        ["created", "asks", "1", "tasks/asks.yaml"],
        ["created", "counts", "1", "tasks/deep/counts.py"],
        ["created", "hello", "1", "tasks/hello.yaml"],
    ]
    assert "skipped tasks/settings.yaml: it has no `main:`" in err
    assert err.endswith("3 created\n")


async def test_a_task_with_a_misspelt_main_is_not_passed_over(cli: Cli) -> None:
    write("odd.yaml", "name: odd\nmian:\n  - evaluate: 1\n")
    code, out, err = await cli("apply", "-f", "tasks")
    assert code == Exit.USAGE
    assert "tasks/odd.yaml:1:1: error[E202]" in out
    assert "error[apply.invalid]: 1 of 3 files is wrong; nothing was changed" in err
    assert await cli.json("tasks", "ls") == []


async def test_wrong_files_are_shown_with_their_lines_also_those_in_python(cli: Cli) -> None:
    write("hello.yaml", "name: hello\nmain:\n  - promt: hi\n")
    bad = 'from engine import Task, evaluate, expr\n\nbad = Task(\n    main=[evaluate(expr("nobody"))]\n)\n'
    write("bad.py", bad)
    code, out, _ = await cli("apply", "-f", "tasks")
    assert code == Exit.USAGE
    assert "    3 |   - promt: hi\n      |     ^\n" in out
    assert "tasks/bad.py:4:" in out


async def test_a_second_apply_says_what_changed(cli: Cli) -> None:
    await cli("apply", "-f", "tasks")
    write("hello.yaml", HELLO.replace("text: hello", "text: hi"))
    assert await cli.changes("-f", "tasks", "--dry-run") == {"asks": "unchanged", "hello": "updated"}
    code, out, err = await cli("apply", "-f", "tasks", "--alias", "prod")
    assert code == Exit.OK
    assert "updated    hello  1 -> 2" in out
    assert err.endswith("1 updated, 1 unchanged; @prod points to them\n")


async def test_prune_removes_what_is_gone_from_the_folder(cli: Cli) -> None:
    await cli("apply", "-f", "tasks")
    delete("asks.yaml")
    assert await cli.changes("-f", "tasks") == {"hello": "unchanged"}
    assert await cli.changes("-f", "tasks", "--prune") == {"hello": "unchanged", "asks": "removed"}
    code, _, err = await cli("apply", "-f", "tasks/hello.yaml", "--prune")
    assert (code, "--prune needs a folder" in err) == (Exit.USAGE, True)
    code, _, err = await cli("apply", "-f", "nowhere")
    assert (code, "file.unreadable" in err) == (Exit.USAGE, True)


async def test_tasks_are_listed_with_versions_and_aliases(cli: Cli) -> None:
    await cli("apply", "-f", "tasks", "--alias", "prod")
    _, out, _ = await cli("tasks", "ls")
    rows = [line.split()[:3] for line in out.splitlines()]
    assert rows == [["TASK", "VERSION", "ALIASES"], ["asks", "1", "prod=1"], ["hello", "1", "prod=1"]]
    listed = await cli.json("tasks", "ls", "--name", "hello")
    assert [(item["name"], item["aliases"]) for item in listed] == [("hello", {"prod": 1})]


async def test_tasks_of_one_name_are_told_apart_and_none_of_them_is_taken_without_a_word(cli: Cli) -> None:
    code, _, err = await cli("apply", "-f", "tasks")
    assert code == Exit.OK, err
    ids = {"-": (await cli.json("tasks", "ls", "--name", "hello"))[0]["id"]}
    task = {"name": "hello", "main": [{"return": {}}]}
    async with httpx.AsyncClient(base_url=f"{cli.address}/api") as http:
        for name in ("Ada", "Bob"):
            agent = (await http.post("/agents", json={"name": name})).json()["id"]
            ids[name] = (await http.post(f"/agents/{agent}/tasks", json=task)).json()["id"]
    _, out, _ = await cli("tasks", "ls")
    rows = [line.split()[:3] for line in out.splitlines()]
    assert rows[0] == ["TASK", "ID", "AGENT"]
    assert {(task, agent): of for task, of, agent in rows[2:]} == {("hello", agent): of for agent, of in ids.items()}
    for words in (("run", "hello"), ("run", "hello@1"), ("tasks", "rm", "hello")):
        code, _, err = await cli(*words)
        assert (code, "tasks of several agents are called 'hello'" in err) == (Exit.FAILED, True), err
        assert all(f"{of} (of {'no agent' if agent == '-' else agent})" in err for agent, of in ids.items()), err
    _, _, err = await cli("run", "hello", "-o", "json")
    assert "task.ambiguous" in err
    code, out, err = await cli("tasks", "rm", ids["Ada"])
    assert (code, "removed hello" in out) == (Exit.OK, True), err


async def test_tasks_are_removed_together_or_not_at_all(cli: Cli) -> None:
    await cli("apply", "-f", "tasks")
    code, _, err = await cli("tasks", "rm", "hello", "nobody")
    assert (code, "there is no task 'nobody'" in err) == (Exit.NOT_FOUND, True)
    assert len(await cli.json("tasks", "ls")) == 2
    code, out, _ = await cli("tasks", "rm", "hello", "asks")
    assert (code, [line.split()[:2] for line in out.splitlines()]) == (0, [["removed", "hello"], ["removed", "asks"]])
    assert await cli.json("tasks", "ls") == []


async def test_an_alias_is_set_moved_and_removed(cli: Cli) -> None:
    for word in ("hello", "hi"):
        write("hello.yaml", HELLO.replace("text: hello", f"text: {word}"))
        await cli("apply", "-f", "tasks")
    assert (await cli("tasks", "alias", "hello", "prod", "1"))[1] == "hello@prod is version 1\n"
    code, _, err = await cli("tasks", "alias", "hello", "prod", "2", "--expect", "2")
    assert (code, "error[alias.moved]" in err) == (Exit.FAILED, True)
    assert (await cli("tasks", "alias", "hello", "prod"))[1] == "hello@prod is version 2\n"
    listed = await cli.json("tasks", "versions", "hello")
    assert [(item["version"], item["aliases"]) for item in listed] == [(2, ["prod"]), (1, [])]
    assert (await cli("tasks", "alias", "hello", "prod", "--rm"))[0] == Exit.OK
    assert (await cli("tasks", "versions", "hello@prod"))[0] == Exit.NOT_FOUND


async def test_a_diff_shows_text_steps_and_what_is_newly_permitted(cli: Cli) -> None:
    await cli("apply", "-f", "tasks")
    write("hello.yaml", f"{HELLO}  - prompt: hi\n    model: big\n")
    code, out, _ = await cli("tasks", "diff", "hello", "tasks/hello.yaml")
    assert code == Exit.OK
    assert "--- hello@1\n+++ tasks/hello.yaml\n" in out
    assert "+  - prompt: hi\n" in out
    assert "steps and settings:\n  main.1: new step: prompt “hi”\n" in out
    assert "it may newly:\n  ask the model 'big'\n" in out
    assert (await cli("tasks", "diff", "hello", "tasks/hello.yaml", "--fail-on-gain"))[0] == Exit.FAILED
    await cli("apply", "-f", "tasks")
    code, out, _ = await cli("tasks", "diff", "hello", "--fail-on-gain")
    assert (code, "--- hello@1\n+++ hello@2\n" in out) == (Exit.FAILED, True)
    assert (await cli.json("tasks", "diff", "hello", "1"))["gains"] == ["ask the model 'big'"]


async def test_a_diff_of_equal_texts_says_so(cli: Cli) -> None:
    await cli("apply", "-f", "tasks")
    code, out, _ = await cli("tasks", "diff", "hello", "tasks/hello.yaml", "--fail-on-gain")
    assert (code, out) == (Exit.OK, "hello@1 and tasks/hello.yaml have the same text\n")


async def test_a_diff_with_a_wrong_file_shows_its_lines(cli: Cli) -> None:
    await cli("apply", "-f", "tasks")
    write("hello.yaml", "main:\n  - promt: hi\n")
    code, _, err = await cli("tasks", "diff", "hello", "tasks/hello.yaml")
    assert (code, "tasks/hello.yaml:2:5: error[E206]" in err) == (Exit.USAGE, True)
