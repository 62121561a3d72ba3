"""Tests of the demo: it runs to its result, survives its worker's death, names commands that work, leaves nothing."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.dev_process import DevProcess, clean_environment, everstep, mock_model, running_dev

ROOT = Path(__file__).parents[2]
SCRIPT = """
- {match: "writes:", reply: "We look into it today."}
- {json: {subject: Something to look at}, delay_s: 1.0}
"""


def run_demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", *arguments],
        cwd=ROOT,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        timeout=380,
        check=False,
    )


def demo_processes() -> list[str]:
    # everything the demo starts has its temporary folder in its command line or environment
    found = []
    for process in psutil.process_iter():
        try:
            if any("everstep-demo-" in word for word in (*process.cmdline(), *process.environ().values())):
                found.append(str(process))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found


def result_in(out: str) -> dict[str, object]:
    result: dict[str, object] = json.loads(out[out.index("\n{\n") : out.index("\n}\n") + 3])
    return result


@pytest.mark.timeout(400)
def test_the_demo_finishes_although_its_worker_is_killed_and_says_whose_model_it_uses(tmp_path: Path) -> None:
    script = tmp_path / "script.yaml"
    script.write_text(SCRIPT)
    with mock_model(script) as url:
        ran = run_demo("--kill-worker", OPENAI_BASE_URL=url)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "prompts go to the model of OPENAI_BASE_URL / OPENAI_API_KEY" in ran.stdout
    assert "kill -9" in ran.stdout
    assert "worker was killed by SIGKILL; started again" in ran.stdout
    assert "support-triage succeeded" in ran.stdout
    assert "although its worker was killed" in ran.stdout
    result = result_in(ran.stdout)
    assert result["alert"] == "A-1"
    assert result["draft"] == "We look into it today."
    order = result["order"]
    assert isinstance(order, list)
    assert [line.split(":")[0] for line in order] == ["T-2", "T-1", "T-3"]
    assert "4111" not in str(order)
    assert "the service took 1 alert in 1 call\n" in ran.stdout
    assert demo_processes() == []


@pytest.mark.timeout(400)
def test_the_demo_runs_on_the_bundled_model_without_key_and_network() -> None:
    ran = run_demo()
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "bundled model SmolLM2" in ran.stdout
    result = result_in(ran.stdout)
    assert result["alert"] == "A-1"
    assert isinstance(result["draft"], str)
    assert result["draft"]
    assert demo_processes() == []


def test_the_three_next_commands_work(tmp_path: Path) -> None:
    commands = [shlex.split(line, comments=True)[1:] for line in next_lines()]
    validate, dev, run = commands
    assert everstep(*validate, cwd=ROOT).code == 0

    assert dev[0] == "dev"
    tasks = [str(ROOT / item) for item in dev[1:]]
    with mock_model() as url, running_dev(tmp_path / "data", *tasks, OPENAI_BASE_URL=url) as running:
        loaded_from_demo(running)
        ran = everstep(*run, cwd=ROOT, EVERSTEP_ADDRESS=running.address)
    assert ran.code == 0, ran.err
    assert "Ada" in ran.out


def next_lines() -> list[str]:
    from examples.demo.__main__ import next_commands

    return next_commands()


def loaded_from_demo(dev: DevProcess) -> None:
    for name in ("hello", "support-triage"):
        dev.wait_loaded(name)
