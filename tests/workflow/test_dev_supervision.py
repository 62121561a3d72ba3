"""Tests of `everstep dev` as users meet it: one line when ready, restarts, reload on save, nothing left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from engine.edge.cli.api import Api
from tests.support.dev_process import (
    DevProcess,
    await_all_gone,
    clean_environment,
    everstep,
    is_running,
    mock_model,
    running_dev,
)
from tests.support.patience import PATIENCE_S, START_S

HELLO = """
name: hello
input_schema: {type: object, required: [name], properties: {name: {type: string}}}
main:
  - label: greet
    prompt: "Say hello to {{ _.name }}"
    unwrap: true
"""
ASKS = """
name: asks
main:
  - label: question
    wait_for_input: {info: {question: "go on?"}}
  - evaluate: "$ {'said': _}"
"""
SLEEPS = """
name: sleeps
main:
  - sleep: {seconds: 2}
  - evaluate: $ 'slept'
"""


TOOLS = """
from engine.tooling import tool

@tool(effect="none")
def measure(text: str) -> int:
    return len(text)
"""
MEASURES = "name: measures\nmain:\n  - tool: measure\n    arguments: {text: $ _}\n"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dev")
    (folder / "tasks").mkdir()
    for name, text in (("hello", HELLO), ("asks", ASKS), ("sleeps", SLEEPS), ("measures", MEASURES)):
        (folder / "tasks" / f"{name}.yaml").write_text(text)
    (folder / "tools.py").write_text(TOOLS)
    (folder / "everstep.toml").write_text('[tools]\nmodules = ["tools.py"]\n')
    return folder


@pytest.fixture(scope="module")
def dev(workplace: Path) -> Iterator[DevProcess]:
    with mock_model() as url, running_dev(workplace / "data", str(workplace / "tasks"), OPENAI_BASE_URL=url) as running:
        yield running


def test_one_line_tells_all_addresses_when_everything_is_ready(dev: DevProcess, workplace: Path) -> None:
    ready = dev.events[0] if dev.events else dev.ready
    assert ready["event"] == "ready"
    assert ready["api"].startswith("http://127.0.0.1:")
    assert ready["temporal"].startswith("127.0.0.1:")
    assert ready["data_dir"] == str(workplace / "data")
    assert ready["model_source"] == "openai"
    assert dev.family()["worker run"].pid == ready["worker_pid"]
    assert {"dev", "start-dev", "worker run", "guard.py"} <= set(dev.family())


def test_the_repair_process_joins_soon_after(dev: DevProcess) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while "repair" not in dev.family() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "repair" in dev.family()


def test_a_loaded_task_runs_by_name_and_prints_its_result(dev: DevProcess) -> None:
    dev.wait_loaded("hello")
    ran = dev.run("run", "hello", "-i", '{"name": "Ada"}')
    assert ran.code == 0, ran.err
    assert "Ada" in ran.out
    assert "main.0  greet  done" in ran.err


def test_everything_that_can_be_asked_about_an_execution_is_answered(dev: DevProcess) -> None:
    dev.wait_loaded("hello")
    started = dev.run("run", "hello", "-i", '{"name": "Bo"}', "--detach")
    execution = started.out.strip()
    result = dev.run("result", execution, "--wait", "-o", "json")
    assert (result.code, result.json["status"]) == (0, "succeeded")
    described = dev.run("describe", execution)
    assert "status   succeeded" in described.out
    assert "greet  done" in described.out
    logs = dev.run("logs", execution, "-o", "jsonl").out.splitlines()
    assert len(logs) == result.json["last_seq"]
    assert dev.run("logs", "-f", execution, "-o", "jsonl").out.splitlines() == logs
    listed = dev.run("ls", "--task", "hello", "--status", "succeeded", "-o", "json").json
    assert execution in [item["id"] for item in listed]


def test_an_answer_lets_a_waiting_execution_go_on(dev: DevProcess) -> None:
    dev.wait_loaded("asks")
    execution = dev.run("run", "asks", "-d").out.strip()
    refused = dev.run("result", execution)
    assert refused.code == 1
    assert "error[result.not_ready]" in refused.err
    deadline = time.monotonic() + PATIENCE_S
    while "awaiting_input" not in dev.run("describe", execution).out:
        assert time.monotonic() < deadline
    described = dev.run("describe", execution).out
    assert f"""everstep answer {execution} --input '"yes"'""" in described
    assert dev.run("answer", execution, "--wait-id", "main.0", "--input", '"yes"').code == 0
    assert dev.run("result", execution, "--wait", "-o", "json").json["output"] == {"said": "yes"}
    again = dev.run("answer", execution, "--input", '"yes"')
    assert again.code == 1
    assert again.err.startswith("error[")


def test_a_cancelled_execution_exits_with_three_and_tells_the_reason(dev: DevProcess) -> None:
    dev.wait_loaded("asks")
    execution = dev.run("run", "asks", "-d").out.strip()
    assert dev.run("cancel", execution, "--reason", "not needed").code == 0
    result = dev.run("result", execution, "--wait", "--timeout", "20")
    assert result.code == 3
    assert "not needed" in result.err


def test_a_timeout_leaves_the_execution_running(dev: DevProcess) -> None:
    dev.wait_loaded("asks")
    ran = dev.run("run", "asks", "--timeout", "1")
    assert ran.code == 124
    assert "error[timeout]" in ran.err
    execution = ran.err.split("everstep logs -f ")[-1].split()[0]
    assert dev.run("describe", execution, "-o", "json").json["status"] == "awaiting_input"


def executions_of(dev: DevProcess) -> int:
    """Return how many executions there are."""
    return len(Api(dev.address).get("/executions", limit=999)["items"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["describe", "nothing"], 4, "nothing"),
        (["logs", "nothing"], 4, "nothing"),
        (["logs", "-f", "nothing"], 4, "nothing"),
        (["run", "nothing"], 4, "error[task.not_found]"),
        (["run", "hello", "-i", '{"nme": 1}'], 2, "error[input.invalid]"),
        (["answer", "nothing", "--input", "1"], 4, "nothing"),
    ],
)
def test_bad_input_gets_a_code_and_changes_nothing(dev: DevProcess, arguments: list[str], code: int, said: str) -> None:
    dev.wait_loaded("hello")
    before = executions_of(dev)
    ran = dev.run(*arguments)
    assert ran.code == code, ran.err
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert executions_of(dev) == before


def test_a_task_is_loaded_again_when_it_is_saved_and_a_broken_one_keeps_its_old_version(
    dev: DevProcess, workplace: Path
) -> None:
    dev.wait_loaded("sleeps")
    file = workplace / "tasks" / "sleeps.yaml"
    file.write_text(SLEEPS.replace("slept", "slept again"))
    dev.wait_loaded("sleeps", 2)

    file.write_text("name: sleeps\nmain:\n  - slep: 1\n")
    invalid = dev.wait_event(lambda event: event["event"] == "task.invalid")
    assert invalid["diagnostics"][0]["line"] == 3
    assert "did you mean 'sleep'?" in invalid["message"]
    assert dev.run("run", "sleeps").out == "slept again\n"


def test_a_killed_worker_comes_back_and_loses_nothing(dev: DevProcess) -> None:
    dev.wait_loaded("asks")
    worker = dev.family()["worker run"]
    execution = dev.run("run", "asks", "-d").out.strip()
    told = len(dev.events)

    os.kill(worker.pid, signal.SIGKILL)
    again = dev.wait_event(lambda event: event in dev.events[told:] and event.get("process") == "worker", 30.0)
    assert again["reason"] == "killed by SIGKILL"
    assert dev.family()["worker run"].pid == again["pid"] != worker.pid

    # the dead worker may have held the workflow task that opens the wait; Temporal gives it away after ten seconds
    deadline = time.monotonic() + PATIENCE_S
    while dev.run("answer", execution, "--input", "1").code != 0:
        assert time.monotonic() < deadline
    assert dev.run("result", execution, "--wait", "--timeout", "30", "-o", "json").json["output"] == {"said": 1}


def test_a_killed_server_comes_back_and_loses_nothing(dev: DevProcess) -> None:
    dev.wait_loaded("asks")
    execution = dev.run("run", "asks", "-d").out.strip()
    told = len(dev.events)

    dev.family()["start-dev"].kill()
    dev.wait_event(lambda event: event in dev.events[told:] and event.get("process") == "temporal", 30.0)

    # the API reconnects by itself, but not within the first moments
    deadline = time.monotonic() + PATIENCE_S
    while dev.run("answer", execution, "--input", "2").code != 0:
        assert time.monotonic() < deadline
    assert dev.run("result", execution, "--wait", "--timeout", "30", "-o", "json").json["output"] == {"said": 2}


def test_a_second_dev_on_the_same_folder_is_refused(dev: DevProcess) -> None:
    second = everstep("dev", "--port", "0", "--data-dir", str(dev.folder))
    assert second.code == 1
    assert "error[dev.running]" in second.err
    assert f"pid {dev.process.pid}" in second.err


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ran = everstep("dev", "--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert ran.code == 1
    assert f"error[dev.port_in_use]: port {port}" in ran.err


def test_a_worker_that_cannot_start_ends_dev_with_the_reason_and_nothing_left(tmp_path: Path) -> None:
    (tmp_path / "everstep.toml").write_text('[tools]\nmodules = ["missing.py"]\n')
    ran = everstep("dev", "--port", "0", "--headless", "--no-model", "--data-dir", str(tmp_path / "data"), cwd=tmp_path)
    assert ran.code in (1, 2)
    assert "missing.py" in ran.err
    assert "Traceback" not in ran.err


def test_a_signal_ends_everything_and_a_new_start_goes_on_where_it_stopped(tmp_path: Path) -> None:
    task = tmp_path / "asks.yaml"
    task.write_text(ASKS)
    with running_dev(tmp_path / "data", str(task), "--no-model") as first:
        first.wait_loaded("asks")
        execution = first.run("run", "asks", "-d").out.strip()
        family, temporal = first.family(), first.ready["temporal"]
        assert first.stop(signal.SIGTERM) == 0
        assert await_all_gone(family) == {}

    with running_dev(tmp_path / "data", str(task), "--no-model") as second:
        assert second.ready["temporal"] == temporal
        assert second.run("answer", execution, "--input", '"late"').code == 0
        result = second.run("result", execution, "--wait", "--timeout", "30", "-o", "json")
        assert result.json["output"] == {"said": "late"}
        family = second.family()
        assert second.stop(signal.SIGINT) == 0
        assert await_all_gone(family) == {}


def test_a_silent_temporal_server_is_unreachable_and_not_waited_for(dev: DevProcess) -> None:
    dev.wait_loaded("asks")
    # stopped and not killed: a supervisor would start a dead one again
    dev.family()["start-dev"].suspend()
    ran = dev.run("run", "asks")
    dev.family()["start-dev"].resume()
    assert ran.code == 5, ran.err
    assert ran.err.startswith("error[unreachable]")
    assert "everstep dev" in ran.err


def test_a_worker_gives_up_on_a_silent_temporal_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = clean_environment(TEMPORAL_ADDRESS=f"127.0.0.1:{silent.getsockname()[1]}")
        environment["EVERSTEP_DATA_DIR"] = str(tmp_path)
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "worker", "run"],
            capture_output=True,
            text=True,
            env=environment,
            timeout=START_S,
            check=False,
        )
    assert ran.returncode == 5, ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("hint: start one with `everstep dev`")
    assert "panicked" not in ran.stderr


@pytest.mark.parametrize(
    "arguments",
    [("dev", "--port", "99999"), ("serve", "--port", "70000"), ("mock-llm", "--port", "-1")],
)
def test_a_port_that_does_not_exist_is_a_usage_error(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ran = everstep(*arguments, cwd=tmp_path)
    assert ran.code == 2
    assert "Traceback" not in ran.err


def test_a_data_folder_that_cannot_be_made_and_a_store_that_is_none_are_said_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    ran = everstep("dev", "--data-dir", str(tmp_path / "file"), cwd=tmp_path)
    assert ran.code != 0
    assert ran.err.startswith("error[config.data_dir]"), ran.err
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "everstep.db").write_text("this is no database, " * 100)
    ran = everstep("serve", "--port", "0", cwd=tmp_path, EVERSTEP_DATA_DIR=str(tmp_path / "data"))
    assert ran.code != 0
    assert "error[store.unreadable]" in ran.err, ran.err


def test_a_file_that_is_run_with_a_wrong_input_is_not_stored(dev: DevProcess, tmp_path: Path) -> None:
    task = tmp_path / "strict.yaml"
    task.write_text("name: strict\ninput_schema: {type: object, required: [n]}\nmain: [{evaluate: $ _.n}]\n")
    ran = dev.run("run", str(task), "-i", "{}")
    assert ran.code == 2
    assert ran.err.startswith("error[input.invalid]")
    assert "strict" not in [item["name"] for item in dev.run("tasks", "ls", "-o", "json").json]


def test_ctrl_c_leaves_the_execution_running_and_says_how_to_come_back(dev: DevProcess) -> None:
    dev.wait_loaded("asks")
    command = [sys.executable, "-P", "-m", "engine.edge.cli", "run", "asks"]
    environment = clean_environment(EVERSTEP_ADDRESS=dev.address)
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stderr is not None
        try:
            for line in run.stderr:
                if "answer it with" in line:
                    break
            run.send_signal(signal.SIGINT)
            rest = run.stderr.read()
        except BaseException:
            # the test's own time limit: the block would wait for the process for ever
            run.kill()
            raise
    assert run.returncode == 130
    execution = rest.split("everstep logs -f ")[-1].strip()
    assert dev.run("describe", execution, "-o", "json").json["status"] == "awaiting_input"


def test_doctor_finds_a_running_dev_well_and_a_missing_one_not(dev: DevProcess, tmp_path: Path) -> None:
    well = dev.run("doctor", "--data-dir", str(dev.folder), "-o", "json")
    assert well.code == 0, well.out
    states = {item["check"]: item["state"] for item in well.json["checks"]}
    assert states["temporal"] == states["retention"] == states["search attributes"] == states["api"] == "ok"
    assert "store of the api" not in states

    ill = everstep("doctor", "--address", "http://127.0.0.1:9", "--temporal-address", "127.0.0.1:9", cwd=tmp_path)
    assert ill.code == 1
    assert "✗ api: the API at http://127.0.0.1:9 cannot be reached" in ill.out
    assert "remedy: start one with `everstep dev`" in ill.out


def test_doctor_says_that_the_api_which_answers_is_that_of_another_project(dev: DevProcess, tmp_path: Path) -> None:
    told = everstep("doctor", "--address", dev.address, "-o", "json", cwd=tmp_path)
    found = {item["check"]: item for item in told.json["checks"]}
    # Temporal is looked for where that API has it, not at an address that nobody gave
    assert (found["api"]["state"], found["temporal"]["state"]) == ("ok", "ok")
    other = found["store of the api"]
    assert other["state"] == "warning"
    theirs = f"SQLite {dev.folder.absolute()}/everstep.db"
    assert f"{dev.address} works on {theirs}, not on SQLite {tmp_path}/" in other["message"]
    assert "--data-dir" in other["remedy"]
    assert "`everstep dev --port 0`" in other["remedy"]


def test_tools_that_are_saved_are_there_at_once_and_broken_ones_leave_the_old(dev: DevProcess, workplace: Path) -> None:
    tools, task = workplace / "tools.py", workplace / "tasks" / "measures.yaml"
    dev.wait_loaded("measures")
    worker, told = dev.family()["worker run"], len(dev.events)
    assert dev.run("run", "measures", "-i", '"four"').out.strip() == "4"

    tools.write_text(TOOLS.replace("len(text)", "len(text"))
    broken = dev.wait_event(lambda event: event["event"] == "project.invalid")
    assert broken["files"] == ["tools.py"]
    assert "SyntaxError" in broken["message"]
    assert dev.run("run", "measures", "-i", '"four"').out.strip() == "4"

    tools.write_text(TOOLS.replace("text: str", "text: str, times: int").replace("len(text)", "times * len(text)"))
    restarted = dev.wait_event(lambda event: event in dev.events[told:] and event["event"] == "restarted")
    assert (restarted["process"], restarted["reason"]) == ("worker", "tools.py changed")
    assert restarted["pid"] != worker.pid
    task.write_text(MEASURES.replace("{text: $ _}", "{text: $ _, times: 3}"))
    dev.wait_loaded("measures", 2)
    assert dev.run("run", "measures", "-i", '"four"').out.strip() == "12"


def test_nothing_is_left_when_dev_itself_is_killed_with_9(dev: DevProcess) -> None:
    # the last test of those that share it
    assert dev.ready
    family = dev.family()
    assert all(is_running(process) for process in family.values())
    assert dev.stop(signal.SIGKILL) == -signal.SIGKILL
    assert await_all_gone(family) == {}
