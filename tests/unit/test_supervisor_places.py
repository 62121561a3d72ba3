"""Tests of what a data folder keeps for the supervisor: lock, ports and logs."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.core.contracts.execution import SEARCH_ATTRIBUTES
from engine.core.errors import Conflict
from engine.edge.supervisor.environment import model_source
from engine.edge.supervisor.places import free_ports, hold_folder, is_free, keep_ports, listen_on, new_log, tail
from engine.edge.supervisor.temporal import find_temporal, server_command


@pytest.fixture
def taken() -> Iterator[int]:
    with closing(socket.socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield server.getsockname()[1]


def test_a_second_supervisor_of_a_folder_is_told_who_has_it(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib\n"
        "from engine.edge.supervisor.places import hold_folder\n"
        f"with hold_folder(pathlib.Path({str(tmp_path)!r})): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(Conflict) as caught, hold_folder(tmp_path):
            pass

        assert caught.value.code == "dev.running"
        assert f"pid {holder.pid}" in caught.value.message
        assert "--data-dir" in caught.value.hint
        holder.kill()
        holder.wait()

        with hold_folder(tmp_path):
            assert (tmp_path / "dev.lock").read_text().strip().isdigit()


def test_a_taken_port_is_refused_with_the_option_that_helps(taken: int) -> None:
    with pytest.raises(Conflict, match=str(taken)) as caught:
        listen_on(taken)
    assert caught.value.code == "dev.port_in_use"
    assert "--port" in caught.value.hint
    assert not is_free(taken)


def test_ports_are_kept_over_a_restart(tmp_path: Path) -> None:
    first = keep_ports(tmp_path, ("temporal", "ui"), {})
    second = keep_ports(tmp_path, ("temporal", "ui"), {})
    assert first == second
    assert len(set(first.values())) == 2


def test_a_kept_port_that_somebody_took_is_replaced(tmp_path: Path, taken: int) -> None:
    (tmp_path / "dev-ports.json").write_text(f'{{"temporal": {taken}}}')
    assert keep_ports(tmp_path, ("temporal",), {})["temporal"] != taken


def test_a_wanted_port_wins_and_must_be_free(tmp_path: Path, taken: int) -> None:
    (wanted,) = free_ports(1)
    assert keep_ports(tmp_path, ("ui",), {"ui": wanted})["ui"] == wanted
    with pytest.raises(Conflict) as caught:
        keep_ports(tmp_path, ("ui",), {"ui": taken})
    assert "--ui-port" in caught.value.hint


def test_a_broken_ports_file_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "dev-ports.json").write_text("{")
    assert keep_ports(tmp_path, ("temporal",), {})["temporal"] > 0


def test_the_log_of_the_run_before_is_kept(tmp_path: Path) -> None:
    log = new_log(tmp_path, "worker")
    log.write_text("first run\n")
    assert new_log(tmp_path, "worker") == log
    assert log.read_text() == ""
    assert (tmp_path / "logs" / "worker.log.1").read_text() == "first run\n"


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("".join(f"line {number}\n" for number in range(5_000)))
    assert tail(path, 2) == "line 4998\nline 4999"
    assert tail(tmp_path / "missing.log") == ""


def test_the_server_is_started_with_the_dev_profile(tmp_path: Path) -> None:
    command = server_command(find_temporal(), data_dir=tmp_path, port=7000, ui_port=None)
    line = " ".join(command)
    assert "--ip 127.0.0.1 --port 7000" in line
    assert "--headless" in command
    assert "journal_mode=WAL" in command
    assert "synchronous=normal" in command
    assert "history.transferProcessorMaxPollRPS=2000" in command
    assert 'history.timerProcessorMaxTimeShift="20ms"' in command
    assert {f"{name}={kind}" for name, kind in SEARCH_ATTRIBUTES.items()} <= set(command)


def test_the_model_is_the_bundled_one_unless_another_is_configured(tmp_path: Path) -> None:
    project = tmp_path / "everstep.toml"
    assert model_source(project, {}) == "bundled"
    assert model_source(project, {}, bundled=False) == "none"
    assert model_source(project, {"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"}) == "openai"
    project.write_text('[backends.local]\nbase_url = "http://127.0.0.1:1/v1"\n')
    assert model_source(project, {}) == "everstep.toml"
    assert model_source(project, {"OPENAI_API_KEY": "key"}) == "openai"
