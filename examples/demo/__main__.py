"""The demo: starts everything in a temporary folder, runs the example task, and leaves nothing behind.

Run it with `make demo`, or `make demo KILL=1` to have the worker killed in the middle.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import typer

from engine.core.errors import EngineError
from engine.edge.cli.api import Api
from engine.edge.cli.output import Mode, error_text
from engine.edge.cli.run import watch
from engine.edge.cli.tasks import upload_task
from engine.edge.supervisor import bind
from examples.demo.service import Service

HERE = Path(__file__).parent
TASK = HERE / "task.yaml"
START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 20.0
MODELS = {
    "bundled": "the bundled model SmolLM2-135M (no key, no network; it is small, so forgive its prose)",
    "openai": "the model of OPENAI_BASE_URL / OPENAI_API_KEY",
    "everstep.toml": "the backends of everstep.toml",
}


class Dev:
    """`everstep dev` as a child process, and what it tells.

    Args:
        folder: Its data folder.
    """

    def __init__(self, folder: Path) -> None:
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        command = [sys.executable, "-P", "-m", "engine.edge.cli", "dev", "--port", "0", "--headless", "-o", "json"]
        command += ["--data-dir", str(folder), "--project", str(HERE / "everstep.toml")]
        # through `bind`, so that not even kill -9 on the demo leaves it running
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-S", bind.__file__, str(os.getpid()), *command], stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()

    def _read(self, lines: IO[str]) -> None:
        for line in lines:
            with self._changed:
                self.events.append(json.loads(line))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def wait_for(self, event: str, timeout_s: float) -> dict[str, Any]:
        """Return the first event of that name.

        Raises:
            EngineError: It ended or the time passed before.
        """
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                for item in self.events:
                    if item["event"] == event:
                        return item
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise EngineError(f"`everstep dev` did not say '{event}'", code="demo.failed")
                self._changed.wait(0.2)

    def stop(self) -> None:
        """End it and everything that it started."""
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextmanager
def running_dev() -> Iterator[Dev]:
    """Start `everstep dev` in a temporary folder and end it."""
    with tempfile.TemporaryDirectory(prefix="everstep-demo-") as folder:
        dev = Dev(Path(folder))
        try:
            yield dev
        finally:
            dev.stop()


def kill_in_the_middle(api: Api, execution_id: str, dev: Dev, worker_pid: int) -> None:
    """Kill the worker with SIGKILL while the model reads the first two tickets.

    Args:
        api: The connection.
        execution_id: The execution.
        dev: The running `everstep dev`.
        worker_pid: The worker.
    """
    asked = 0
    for item in api.follow(f"/executions/{execution_id}/events.stream"):
        asked += item.data["type"] == "effect.started" and item.data["body"]["kind"] == "prompt"
        if asked == 2:
            break
    os.kill(worker_pid, signal.SIGKILL)
    print(f"\n>>> kill -9 {worker_pid}: the worker is dead, in the middle of two model calls", flush=True)
    again = dev.wait_for("restarted", 10.0)
    print(f">>> {again['message']}; it goes on where it stopped\n", flush=True)


def run_demo(kill_worker: bool) -> int:
    """Run the example task and show it.

    Args:
        kill_worker: Whether to kill the worker in the middle.

    Returns:
        The exit code.
    """
    service = Service()
    threading.Thread(target=service.serve_forever, daemon=True).start()
    print("starting a Temporal server, a worker, a model and the API …", flush=True)
    began = time.monotonic()
    with running_dev() as dev:
        ready = dev.wait_for("ready", START_TIMEOUT_S)
        print(f"ready after {time.monotonic() - began:.1f} s: API {ready['api']}, Temporal {ready['temporal']}")
        print(f"prompts go to {MODELS.get(ready['model_source'], ready['model_source'])}\n", flush=True)
        api = Api(ready["api"])
        task = upload_task(api, TASK)
        started = api.post(f"/tasks/{task['id']}/executions", {"input": {"service": service.url}})
        killer = None
        if kill_worker:
            arguments = (api, started["id"], dev, ready["worker_pid"])
            killer = threading.Thread(target=kill_in_the_middle, args=arguments, daemon=True)
            killer.start()
        watch(api, task, started["id"], Mode.TEXT)
        if killer is not None:
            killer.join(10.0)
        view = api.get(f"/executions/{started['id']}")
    service.shutdown()
    _say_goodbye(service, view, killed=kill_worker)
    return 0


def _say_goodbye(service: Service, view: dict[str, Any], *, killed: bool) -> None:
    print(f"\n{view['task_name']} {view['status']} after {view['transition_count']} transitions", end="")
    print(", although its worker was killed" if killed else "")
    print(f"the service took {len(service.alerts)} alert in {service.calls} call{'s' if service.calls != 1 else ''}")
    print("\nnext:")
    print("\n".join(f"  {line}" for line in next_commands()))


def next_commands() -> list[str]:
    """Return three commands that work when the demo is over, each with a word about it."""
    program = os.path.relpath(Path(sys.executable).parent / "everstep")
    folder = os.path.relpath(HERE)
    commands = [
        (f"{program} validate {folder}/task.yaml", "what a task is checked for before it runs"),
        (f"{program} dev {folder}", "the same set-up, yours to keep; in this terminal"),
        (f"""{program} run {folder}/hello.yaml -i '{{"name": "Ada"}}'""", "a smaller task; in another terminal"),
    ]
    width = max(len(command) for command, _ in commands)
    return [f"{command.ljust(width)}  # {about}" for command, about in commands]


def main() -> int:
    """Run the demo.

    Returns:
        Exit code: 0 if the task succeeded.
    """
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="Run the example task end to end.")
    parser.add_argument("--kill-worker", action="store_true", help="kill the worker with -9 in the middle")
    options = parser.parse_args()
    try:
        return run_demo(options.kill_worker)
    except EngineError as error:
        print(error_text(error), file=sys.stderr)
    except typer.Exit as end:
        return int(end.exit_code)
    except KeyboardInterrupt:
        return 130
    return 1


if __name__ == "__main__":
    sys.exit(main())
