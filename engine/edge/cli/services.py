"""Commands that run processes: dev, worker, serve, mock-llm."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from engine.edge.cli.options import DataDir, Output, ProjectFile
from engine.edge.cli.output import Mode, as_json, note, write

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, MutableMapping
    from socket import socket

    from engine.core.plan.ir import ToolContract
    from engine.edge.supervisor.interfaces import Addresses, ApiServer, DevOptions, TaskWatch

DEFAULT_DATA_DIR = Path(".everstep")
DEFAULT_PORT = 8700
LOOPBACK = "127.0.0.1"
_SOURCES = {
    "openai": "the model of OPENAI_BASE_URL / OPENAI_API_KEY",
    "everstep.toml": "the backends of everstep.toml",
    "none": "no model",
}


def dev(
    tasks: Annotated[
        list[Path] | None, typer.Argument(metavar="[TASK]...", help="Task files or folders to load, now and on save.")
    ] = None,
    port: Annotated[
        int,
        typer.Option("--port", min=0, max=65_535, envvar="EVERSTEP_PORT", help="Port of the API; 0 = any free one."),
    ] = (DEFAULT_PORT),
    data_dir: DataDir = DEFAULT_DATA_DIR,
    project: ProjectFile = None,
    temporal_port: Annotated[
        int, typer.Option("--temporal-port", min=0, max=65_535, help="Port of the Temporal server.")
    ] = 0,
    ui_port: Annotated[int, typer.Option("--ui-port", min=0, max=65_535, help="Port of Temporal's web UI.")] = 0,
    headless: Annotated[bool, typer.Option("--headless", help="Without Temporal's web UI.")] = False,
    no_model: Annotated[bool, typer.Option("--no-model", help="Do not start the bundled model.")] = False,
    output: Output = Mode.TEXT,
) -> None:
    """Run everything on this machine: Temporal, worker, model, API. Ctrl-C ends it; the state stays in DATA_DIR."""
    import asyncio

    from engine.edge.cli.definitions import find_project
    from engine.edge.supervisor.dev import run_dev
    from engine.edge.supervisor.interfaces import DevOptions

    given = tuple(tasks or ())
    options = DevOptions(
        data_dir=data_dir,
        port=port,
        project_file=find_project(project, list(given)),
        tasks=given,
        temporal_port=temporal_port,
        ui_port=ui_port,
        ui=not headless,
        model=not no_model,
    )
    reporter = JsonReporter() if output is not Mode.TEXT else TextReporter()
    asyncio.run(run_dev(options, reporter, load_api=_load_api, watch_tasks=_task_watch(options, reporter)))


def _load_api() -> ApiServer:
    from engine.control.connect import forward_native_logs
    from engine.edge.server import project_contracts, serve_api
    from engine.obs.logs import lines_to_stderr
    from engine.settings import Settings

    forward_native_logs()
    # what there is to say before the API sets up its logging; standard output is for the lines of the reporter
    lines_to_stderr()

    async def serve(
        listener: socket,
        *,
        contracts: MutableMapping[str, ToolContract],
        started: Callable[[], None],
        stop: asyncio.Event,
    ) -> None:
        settings = Settings(host=LOOPBACK)
        contracts.update(await project_contracts(settings))
        await serve_api(settings, listener=listener, started=started, stop=stop, contracts=contracts)

    return serve


def _task_watch(options: DevOptions, reporter: TextReporter | JsonReporter) -> TaskWatch | None:
    from engine.edge.cli.reload import watch_tasks

    async def watch(address: str, stop: asyncio.Event) -> None:
        await watch_tasks(options.tasks, address, os.environ.get("EVERSTEP_API_KEY"), reporter, stop)

    return watch if options.tasks else None


class TextReporter:
    """Tells a person: the addresses on standard output, all else on standard error."""

    def ready(self, addresses: Addresses) -> None:
        """Print the one line with all addresses."""
        model = f"{addresses.model}/v1 (bundled SmolLM2)" if addresses.model else _SOURCES[addresses.model_source]
        parts = [f"api {addresses.api}", f"temporal {addresses.temporal}"]
        parts += [f"ui {addresses.ui}"] if addresses.ui else []
        parts += [f"model {model}", f"data {addresses.data_dir}"]
        write(f"everstep dev is ready: {'  '.join(parts)}")

    def note(self, event: str, text: str, **facts: Any) -> None:
        """Print what happened."""
        del event, facts
        note(f"everstep dev: {text}")


class JsonReporter:
    """Tells a program: one JSON object a line on standard output."""

    def ready(self, addresses: Addresses) -> None:
        """Print {"event": "ready", "api": …, "temporal": …, "ui": …, "model": …, "data_dir": …, "worker_pid": …}."""
        write(as_json({"event": "ready", **asdict(addresses)}, pretty=False))

    def note(self, event: str, text: str, **facts: Any) -> None:
        """Print {"event": …, "message": …, …}."""
        write(as_json({"event": event, "message": text, **facts}, pretty=False))


def worker(
    pool: Annotated[
        str,
        typer.Option(
            "--pool", envvar="EVERSTEP_POOL", help="Make only the calls of this pool's tools; * = all pools'."
        ),
    ] = "",
) -> None:
    """Run a worker (settings: EVERSTEP_* and TEMPORAL_ADDRESS); becomes `python -m worker run`."""
    if pool:
        os.environ["EVERSTEP_POOL"] = pool
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "worker", "run"])  # noqa: S606 - becoming it is the point


def serve(
    host: Annotated[str, typer.Option("--host", envvar="EVERSTEP_HOST", help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65_535, envvar="EVERSTEP_PORT", help="Port of the API.")
    ] = DEFAULT_PORT,
) -> None:
    """Serve the API (settings: EVERSTEP_* and TEMPORAL_ADDRESS); beyond loopback it needs EVERSTEP_API_KEY."""
    import asyncio

    from engine.control.connect import forward_native_logs
    from engine.edge.server import serve_api
    from engine.settings import Settings

    forward_native_logs()
    asyncio.run(serve_api(Settings(host=host, port=port)))


def mock_llm(
    script: Annotated[
        Path | None, typer.Option("--script", help="YAML or JSON script; without it all is echoed.")
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to bind to.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65_535, help="Port; 0 = any free one.")] = 0,
) -> None:
    """Serve a scripted OpenAI-compatible model for tests; prints {"url": …} when ready.

    A script is a YAML or JSON file such as {rules: [{match: hello, reply: "Hello!"}, {status: 429, times: 1}]};
    docs/mock-llm.md has every member.
    """
    from engine.edge.mockllm.server import serve as serve_mock

    serve_mock(host, port, script)
