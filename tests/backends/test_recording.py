"""`everstep test --record`: real calls through a worker's activities, kept beside the test and played back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from engine.edge.mockllm.app import create_app
from engine.edge.mockllm.script import MockScript
from tests.support.servers import serve_app

TASK = """\
name: greet
main:
  - {label: ask, prompt: "Greet {{ _.name }}", unwrap: true, retry: {attempts: 2, initial: 10ms}}
  - {label: store, tool: keep, arguments: {text: $ _}}
  - return: {said: "$ steps['ask'].output", kept: $ _, at: $ str(now())}
"""
CASES = """\
cases:
  - name: real
    record: true
    input: {name: Ada}
    repeat: 2
    expect: {contains: {said: Hello 1, kept: 7}}
"""
TOOLS = """\
from engine.tooling import tool

print("the module talks")


@tool(effect="write")
def keep(text: str) -> int:
    print("the tool talks")
    return len(text)
"""
SCRIPT = MockScript.model_validate(
    {"rules": [{"status": 503, "times": 1}, {"reply": "Hello 1"}]},
)


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Path]:
    monkeypatch.chdir(tmp_path)
    async with serve_app(create_app(SCRIPT)) as url:
        (tmp_path / "greet.yaml").write_text(TASK)
        (tmp_path / "greet.test.yaml").write_text(CASES)
        (tmp_path / "own_tools.py").write_text(TOOLS)
        (tmp_path / "everstep.toml").write_text(
            f'[tools]\nmodules = ["own_tools.py"]\n[backends.mock]\nbase_url = "{url}/v1"\ndefault_model = "mock"\n'
        )
        yield tmp_path


async def command(*words: str) -> int:
    return await asyncio.to_thread(run_command, list(words))


async def test_real_replies_are_kept_and_played_back_without_a_backend(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command("test", "--record") == Exit.OK, capsys.readouterr()
    cassette = folder / "greet.cassette.json"
    body = json.loads(cassette.read_text())
    assert {name: sorted(runs) for name, runs in body["cases"].items()} == {"real": ["run 1", "run 2"]}
    first = body["cases"]["real"]["run 1"]
    # the refusal and its repetition are both in the recording, and the tool's call as well
    assert [("error" in call, call["path"]) for call in first] == [
        (True, "main.0"),
        (False, "main.0"),
        (False, "main.1"),
    ]
    assert first[0]["error"]["retryable"] is True

    (folder / "everstep.toml").write_text('[tools]\nmodules = ["own_tools.py"]\n')
    kept = cassette.read_bytes()
    assert await command("test") == Exit.OK, capsys.readouterr()
    assert cassette.read_bytes() == kept


async def test_a_request_that_has_changed_is_not_answered_with_an_old_reply(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await command("test", "--record") == Exit.OK, capsys.readouterr()
    (folder / "greet.yaml").write_text(TASK.replace("Greet {{", "Say hello to {{"))
    assert await command("test") == Exit.FAILED
    told = capsys.readouterr().out
    assert "the call 'ask' at main.0 has changed since it was recorded (messages); record again with --record" in told


async def test_a_live_run_keeps_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await command("test", "--live") == Exit.OK, capsys.readouterr()
    assert not (folder / "greet.cassette.json").exists()


async def test_a_damaged_recording_is_an_error_with_its_remedy(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "greet.cassette.json").write_text('{"format": 9, "cases": {}}')
    assert await command("test") == Exit.USAGE
    told = capsys.readouterr().err
    assert "error[test.cassette]" in told
    assert "--record" in told


async def test_without_a_backend_the_report_says_so(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "everstep.toml").write_text('[tools]\nmodules = ["own_tools.py"]\n')
    assert await command("test", "--record") == Exit.FAILED
    assert "error[backend.none_configured]" in capsys.readouterr().out
    # it says something of this machine; kept, it would be played back on all others
    kept = folder / "greet.cassette.json"
    assert not kept.exists() or "none_configured" not in kept.read_text()


async def test_the_start_of_the_process_that_makes_the_calls_is_no_time_of_a_call(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow_start = TOOLS.replace('print("the module talks")', "import time\n\ntime.sleep(2)")
    (folder / "own_tools.py").write_text(slow_start)
    (folder / "greet.yaml").write_text("name: greet\nmain: [{tool: keep, arguments: {text: hello}, timeout: 2s}]")
    (folder / "greet.test.yaml").write_text("cases: [{name: one, record: true, expect: {output: 5}}]")
    assert await command("test", "--record") == Exit.OK, capsys.readouterr()


async def test_recording_again_forgets_what_is_gone_and_keeps_what_was_not_asked_for(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = """\
  - {name: other, record: true, input: {name: B}}
  - {name: rows, record: true, data: [{name: first, input: {name: C}}, {input: {name: D}}]}
"""
    (folder / "greet.test.yaml").write_text(CASES + more)
    assert await command("test", "--record") == Exit.OK, capsys.readouterr()
    before = json.loads((folder / "greet.cassette.json").read_text())["cases"]
    assert {name: sorted(runs) for name, runs in before.items()} == {
        "real": ["run 1", "run 2"],
        "other": [""],
        "rows": ["first", "row 2"],
    }
    (folder / "greet.test.yaml").write_text(CASES.replace("repeat: 2", "repeat: 1") + more.splitlines()[1])
    assert await command("test", "--record", "-k", "real") == Exit.OK, capsys.readouterr()
    after = json.loads((folder / "greet.cassette.json").read_text())["cases"]
    assert {name: sorted(runs) for name, runs in after.items()} == {"real": [""], "rows": ["first", "row 2"]}
    assert after["rows"] == before["rows"]
    assert await command("test") == Exit.OK, capsys.readouterr()


async def test_vectors_and_documents_are_recorded_and_played_back(folder: Path) -> None:
    (folder / "greet.yaml").write_text(
        "name: greet\nmain:\n  - embed: {text: $ _.name, model: minilm}\n  - search: {text: $ 'hours', limit: 1}\n"
    )
    (folder / "greet.test.yaml").write_text(
        "cases:\n  - name: real\n    record: true\n    input: {name: Ada}\n    expect: {contains: {docs: []}}\n"
    )
    assert await asyncio.to_thread(run_command, ["test", "greet.test.yaml", "--record"]) == Exit.OK
    cassette = (folder / "greet.cassette.json").read_text()
    [[embedded, found]] = json.loads(cassette)["cases"]["real"].values()
    assert (embedded["request"], len(embedded["value"]["output"]["vectors"][0])) == (
        {"model": "minilm", "texts": ["Ada"]},
        384,
    )
    assert found["request"] == {"options": {"limit": 1}, "text": "hours"}
    (folder / "everstep.toml").write_text("")
    assert await asyncio.to_thread(run_command, ["test", "greet.test.yaml"]) == Exit.OK
