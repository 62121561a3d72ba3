"""`everstep dev`: Temporal, model, worker, repair and API on loopback, kept alive together and ended together."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from socket import socket
from typing import TYPE_CHECKING

from engine.core.errors import EngineError
from engine.edge.supervisor.child import Child, ChildSpec, Guard, Restarted
from engine.edge.supervisor.environment import child_environment, model_source
from engine.edge.supervisor.interfaces import Addresses, ApiServer, DevOptions, Reporter, TaskWatch
from engine.edge.supervisor.places import LOOPBACK, hold_folder, keep_ports, listen_on, new_log
from engine.edge.supervisor.project import ProjectWatch, read_contracts
from engine.edge.supervisor.temporal import (
    SERVER_ENVIRONMENT,
    find_temporal,
    port_probe,
    prepare_namespace,
    server_command,
)

if TYPE_CHECKING:
    # `dev` imports what the API needs in a thread, while the other processes start
    from engine.core.plan.ir import ToolContract

UNREACHABLE = 5
"""Exit code of a worker that starts before the server answers."""
API_STOP_S = 3.0
RENEW_GRACE_S = 35.0
"""How long a worker that is to be renewed may go on with its calls; it gives them 30 s itself."""
RENEW_NOTE_S = 2.0
REPAIR_AFTER_S = 1.5
"""The repair process has nothing to do in the first seconds, when somebody may wait for a first result."""


async def run_dev(
    options: DevOptions,
    reporter: Reporter,
    *,
    load_api: Callable[[], ApiServer],
    watch_tasks: TaskWatch | None = None,
) -> None:
    """Run everything until SIGINT, SIGTERM or SIGHUP; leaves no process behind.

    Args:
        options: What the user asked for.
        reporter: Who tells the user.
        load_api: Imports and returns the API server; called in a thread while the other processes start.
        watch_tasks: Loads and reloads the task files.

    Raises:
        Conflict: The folder or a port is in use.
        EngineError: A process could not be started.
        InvalidInput: everstep.toml is wrong.
    """
    with hold_folder(options.data_dir), contextlib.closing(listen_on(options.port)) as listener:
        stop = _stop_on_signals()
        dev = _Dev(options, reporter, listener, stop)
        try:
            await dev.start(load_api)
            if not stop.is_set():
                await dev.serve(watch_tasks)
        finally:
            await dev.close()


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    return stop


class _Dev:
    def __init__(self, options: DevOptions, reporter: Reporter, listener: socket, stop: asyncio.Event) -> None:
        self._options = options
        self._reporter = reporter
        self._listener = listener
        self._stop = stop
        self._guard = Guard()
        self._children: list[Child] = []
        self._api: asyncio.Task[None] | None = None
        self._api_stop = asyncio.Event()
        self._environment: dict[str, str] = {}
        # taken down before any process reads the project, so that no change is missed
        self._project = ProjectWatch(options.project_file)
        self._contracts: dict[str, ToolContract] = {}
        self._worker: Child | None = None
        self.api_address = f"http://{LOOPBACK}:{listener.getsockname()[1]}"

    async def start(self, load_api: Callable[[], ApiServer]) -> None:
        """Start everything concurrently and report when all of it is ready.

        Args:
            load_api: Imports and returns the API server.
        """
        options = self._options
        program = find_temporal()
        ports = keep_ports(
            options.data_dir, ("temporal", "ui", "model"), {"temporal": options.temporal_port, "ui": options.ui_port}
        )
        source = model_source(options.project_file, os.environ, bundled=options.model)
        environment = child_environment(options, ports, bundled=source == "bundled")
        await self._guard.start()
        temporal = await self._start_child(
            "temporal",
            server_command(
                program,
                data_dir=options.data_dir,
                port=ports["temporal"],
                ui_port=ports["ui"] if options.ui else None,
            ),
            SERVER_ENVIRONMENT | environment,
            probe=port_probe(ports["temporal"]),
        )
        worker = self._worker = await self._start_child(
            "worker",
            (sys.executable, "-P", "-m", "worker", "run"),
            environment,
            ready_line=lambda line: says(line, "ready"),
            retry_codes=frozenset({UNREACHABLE}),
        )
        model = await self._start_model(ports["model"], environment) if source == "bundled" else None
        # the API runs in this process, so it must see the same settings as the children
        os.environ.update({name: value for name, value in environment.items() if os.environ.get(name) != value})
        await self._until_stopped(self._get_ready(load_api, ports, temporal, worker, model))
        if self._stop.is_set():
            return
        self._environment = environment
        self._reporter.ready(
            Addresses(
                api=self.api_address,
                temporal=f"{LOOPBACK}:{ports['temporal']}",
                ui=f"http://{LOOPBACK}:{ports['ui']}" if options.ui else "",
                model=f"http://{LOOPBACK}:{ports['model']}" if model is not None else "",
                model_source=source,
                data_dir=str(options.data_dir),
                worker_pid=worker.pid,
                temporal_pid=temporal.pid,
            )
        )

    async def serve(self, watch_tasks: TaskWatch | None) -> None:
        """Stay until a signal comes or the API fails.

        Args:
            watch_tasks: Loads and reloads the task files.
        """
        assert self._api is not None
        repair, tools = asyncio.create_task(self._keep_repair()), asyncio.create_task(self._keep_tools())
        waiting = [asyncio.create_task(self._stop.wait()), self._api, repair, tools]
        if watch_tasks is not None:
            waiting.append(asyncio.ensure_future(watch_tasks(self.api_address, self._stop)))
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        self._stop.set()
        # no process must be started once the others are being ended
        tools.cancel()
        await asyncio.gather(tools, return_exceptions=True)
        await repair
        for task in done:
            # an API or a watcher that failed ends dev with its error instead of a silent half
            task.result()

    async def _keep_tools(self) -> None:
        """Give the worker and the API the operator's tools and settings whenever they were saved."""
        while names := await self._project.next_change(self._stop):
            said = ", ".join(names)
            try:
                contracts = await read_contracts(self._environment, self._guard)
            except EngineError as error:
                text = f"{said} changed but cannot be loaded, the worker stays as it is:\n{error.message}"
                self._reporter.note("project.invalid", text, files=names)
                continue
            # in this order, because tasks are compiled in threads and must find their tools at any moment
            self._contracts.update(contracts)
            for gone in self._contracts.keys() - contracts.keys():
                del self._contracts[gone]
            await self._renew_worker(f"{said} changed")

    async def _renew_worker(self, reason: str) -> None:
        assert self._worker is not None
        renewing = asyncio.create_task(self._worker.restart(reason, grace_s=RENEW_GRACE_S))
        try:
            done, _ = await asyncio.wait({renewing}, timeout=RENEW_NOTE_S)
            if not done:
                self._reporter.note(
                    "restarting", f"{reason}: the worker is started again once its calls have ended (at most 30 s)"
                )
            await renewing
        finally:
            renewing.cancel()

    async def _keep_repair(self) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stop.wait(), REPAIR_AFTER_S)
        if not self._stop.is_set():
            await self._start_child(
                "repair", (str(Path(sys.executable).parent / "everstep-repair"),), self._environment
            )
        await self._stop.wait()

    async def close(self) -> None:
        """End everything: first what takes work, last the server that keeps it. A second signal kills at once."""
        again = _stop_on_signals()
        ending = asyncio.create_task(self._end())
        signalled = asyncio.create_task(again.wait())
        await asyncio.wait({ending, signalled}, return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            await asyncio.gather(*(child.stop(at_once=True) for child in self._children))
        signalled.cancel()
        await ending
        await self._guard.close()

    async def _get_ready(
        self,
        load_api: Callable[[], ApiServer],
        ports: Mapping[str, int],
        temporal: Child,
        worker: Child,
        model: Child | None,
    ) -> None:
        serving = await asyncio.to_thread(_without_collector, load_api)
        await temporal.wait_ready()
        address = f"{LOOPBACK}:{ports['temporal']}"
        started = asyncio.Event()
        self._api = asyncio.create_task(
            serving(self._listener, contracts=self._contracts, started=started.set, stop=self._api_stop), name="api"
        )
        others = [prepare_namespace(address), worker.wait_ready()]
        if model is not None:
            others.append(model.wait_ready())
        await asyncio.gather(_first(started, self._api), *others)

    async def _until_stopped(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        signalled = asyncio.create_task(self._stop.wait())
        await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
        signalled.cancel()
        if task.done():
            task.result()
        else:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _start_model(self, port: int, environment: Mapping[str, str]) -> Child:
        # started as a module, because the installed program would import the whole worker first
        command = (sys.executable, "-P", "-m", "activities.backends.bundled", "--port", str(port))
        return await self._start_child("model", command, environment, ready_line=lambda line: says(line, "url"))

    async def _start_child(
        self,
        name: str,
        command: tuple[str, ...],
        environment: Mapping[str, str],
        *,
        ready_line: Callable[[str], bool] | None = None,
        probe: Callable[[], Awaitable[bool]] | None = None,
        retry_codes: frozenset[int] = frozenset(),
    ) -> Child:
        spec = ChildSpec(
            name=name,
            command=command,
            environment=environment,
            log=new_log(self._options.data_dir, name),
            ready_line=ready_line,
            probe=probe,
            retry_codes=retry_codes,
        )
        child = Child(spec, self._guard, self._restarted)
        self._children.append(child)
        await child.start()
        return child

    def _restarted(self, facts: Restarted) -> None:
        text = f"{facts.name} was {facts.reason}; started again as pid {facts.pid} after {facts.after_s:.1f} s"
        if facts.is_asked:
            text = f"{facts.reason}: the {facts.name} is started again with it, as pid {facts.pid}"
        self._reporter.note(
            "restarted",
            text,
            process=facts.name,
            pid=facts.pid,
            reason=facts.reason,
        )

    async def _end(self) -> None:
        self._api_stop.set()
        if self._api is not None:
            await asyncio.wait({self._api}, timeout=API_STOP_S)
            self._api.cancel()
            await asyncio.gather(self._api, return_exceptions=True)
        first = [child for child in self._children if child.spec.name != "temporal"]
        await asyncio.gather(*(child.stop() for child in first))
        await asyncio.gather(*(child.stop() for child in self._children))


def says(line: str, key: str) -> bool:
    """Whether a line is a JSON object with a true member of that name."""
    import json

    try:
        body = json.loads(line)
    except ValueError:
        return False
    return isinstance(body, dict) and bool(body.get(key))


def _without_collector(load_api: Callable[[], ApiServer]) -> ApiServer:
    # the cyclic collector takes a tenth of the imports' time and finds nothing in modules
    gc.disable()
    try:
        return load_api()
    finally:
        gc.freeze()
        gc.enable()


async def _first(started: asyncio.Event, api: asyncio.Task[None]) -> None:
    waiter = asyncio.create_task(started.wait())
    await asyncio.wait({waiter, api}, return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    if api.done() and not started.is_set():
        api.result()
        raise EngineError("the API ended before it answered", code="dev.start_failed")
