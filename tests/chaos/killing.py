"""Runs an example in a worker process, kills the worker at a chosen moment, notes what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import WorkflowHandle

from engine.control.replaying import repair_execution
from engine.core.run.events import EventRecord, body_of, roll_digest, roll_time
from engine.edge.mockllm.script import MockScript
from tests.chaos.examples import tools
from tests.support.lab import Ended, Lab, open_lab, plan_of
from tests.support.processes import WorkerProcess
from tests.support.receiver import Receiver
from tests.support.rows import assert_rows_are_those_of_the_histories, settle_all
from tests.support.servers import serve_app
from worker import replay_run

EXAMPLES = Path(__file__).parent / "examples"
TOOLS = (tools.note, tools.shaky, tools.slow, tools.charge, tools.double)

_ATTEMPT = re.compile(r"#\d+$")


@dataclass(slots=True)
class Case:
    """One execution and what became of it; keys stand without the execution's id.

    Attributes:
        name: What was done to it.
        ended: Its end.
        calls: Calls that arrived outside, by idempotency key.
        calls_at_kill: The same at the last kill.
        completed_at_kill: Keys of the steps whose completion stood in the history at the last kill.
        kills: How often its worker was killed.
        history: Number of history events.
        events: Stored events after repair: how often each (type, path) is there.
        differed: Whether the repair changed anything.
        proved: Whether count and rolling hash after repair are those of the workflow.
    """

    name: str
    ended: Ended = field(default_factory=Ended)
    calls: Counter[str] = field(default_factory=Counter)
    calls_at_kill: Counter[str] = field(default_factory=Counter)
    completed_at_kill: set[str] = field(default_factory=set)
    kills: int = 0
    history: int = 0
    events: Counter[tuple[str, str]] = field(default_factory=Counter)
    differed: bool = False
    proved: bool = False


@dataclass(slots=True)
class Scene:
    """An execution that runs, with all that a killer may look at."""

    case: Case
    lab: Lab
    receiver: Receiver
    url: str
    worker: WorkerProcess
    handle: WorkflowHandle[Any, Any] | None = None

    @property
    def execution(self) -> WorkflowHandle[Any, Any]:
        """Handle of the execution."""
        assert self.handle is not None
        return self.handle

    def seen(self) -> Counter[str]:
        """Return the calls that arrived so far, by key without the execution's id."""
        mine = f"{self.execution.id}:"
        keys: Counter[str] = Counter(self.receiver.keys)
        keys.update(call["idempotency_key"] for call in self.lab.mock.calls)
        assert all(key.startswith(mine) for key in keys), keys
        return Counter({key.removeprefix(mine): count for key, count in keys.items()})

    async def kill(self) -> None:
        """Kill the worker and note what had been done by then."""
        self.worker.kill()
        self.case.kills += 1
        self.case.completed_at_kill = completed_keys(await self.execution.fetch_history())
        self.case.calls_at_kill = self.seen()

    async def kill_and_start(self) -> None:
        """Kill the worker and start it again."""
        await self.kill()
        self.worker.start()
        await self.worker.ready()


Killer = Callable[[Scene], Awaitable[None]]


def completed_keys(history: Any) -> set[str]:
    """Return the keys, without the execution's id, of the steps whose completion stands in a history."""
    names: dict[int, str] = {}
    completed: set[str] = set()
    for event in history.events:
        if event.HasField("activity_task_scheduled_event_attributes"):
            activity_id = event.activity_task_scheduled_event_attributes.activity_id
            names[event.event_id] = _ATTEMPT.sub("", activity_id)
        elif event.HasField("activity_task_completed_event_attributes"):
            completed.add(names[event.activity_task_completed_event_attributes.scheduled_event_id])
    return completed


def at_event(number: int) -> Killer:
    """Kill when the history has so many events; an execution that ends before is left alone."""

    async def kill(scene: Scene) -> None:
        async for event in scene.execution.fetch_history_events(wait_new_event=True):
            if event.event_id >= number:
                await scene.kill_and_start()
                return

    return kill


def while_called(times: int) -> Killer:
    """Kill so many times, each time while a call that the receiver has seen is under way."""

    async def kill(scene: Scene) -> None:
        for number in range(1, times + 1):
            while scene.receiver.keys.total() < number:  # noqa: ASYNC110 a counter sets no event
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.1)
            await scene.kill_and_start()

    return kill


async def spare(scene: Scene) -> None:
    """Kill nobody."""
    del scene


@contextlib.asynccontextmanager
async def _scene(name: str, address: str, folder: Path, opening: asyncio.Lock) -> AsyncIterator[Scene]:
    await asyncio.to_thread(folder.mkdir, parents=True)
    receiver = Receiver()
    async with contextlib.AsyncExitStack() as opened:
        # alembic keeps the migration that runs in a module: two stores cannot be made at one time in one process
        async with opening:
            lab = await opened.enter_async_context(open_lab(address, folder, tools=TOOLS))
        url = await opened.enter_async_context(serve_app(receiver))
        worker = WorkerProcess(lab, [tools.__name__])
        try:
            yield Scene(Case(name), lab, receiver, url, worker)
        finally:
            await worker.stop()


async def run_case(
    name: str,
    example: str,
    killer: Killer,
    *,
    address: str,
    folder: Path,
    opening: asyncio.Lock,
    script: Callable[[str], MockScript] | None = None,
) -> Case:
    """Run an example to its end while a killer is about, repair its events and return what was noted.

    Args:
        name: Name of the case.
        example: File in `examples/`.
        killer: Kills the worker and starts it again.
        address: The Temporal server.
        folder: A folder; the case makes one of its own in it.
        opening: Held while the case's store is made.
        script: Makes what the model says, given the address of the receiver; None = it says what it was told.
    """
    async with _scene(name, address, folder / name, opening) as scene:
        case, lab = scene.case, scene.lab
        if script is not None:
            lab.mock.use(script(scene.url))
        scene.worker.start()
        await scene.worker.ready()
        text = (EXAMPLES / example).read_text(encoding="utf-8")
        scene.handle = await lab.start(plan_of(text, TOOLS), {"url": scene.url})
        await killer(scene)
        case.ended = await asyncio.wait_for(lab.end_of(scene.handle), 120)
        await scene.worker.stop()
        case.calls = scene.seen()
        case.history = len((await scene.handle.fetch_history()).events)
        case.differed = await repair_execution(lab.client, lab.store, scene.handle.id, replay_run)
        await settle_all(lab)
        async with opening:
            await assert_rows_are_those_of_the_histories(lab, [scene.handle.id], lab.folder)
        await _read_events(case, await lab.events(scene.handle))
        return case


async def _read_events(case: Case, events: list[EventRecord]) -> None:
    digest, times = "", 0
    for event in events:
        digest, times = roll_digest(digest, event.seq, event.type, event.body), roll_time(times, event.now_us)
        case.events[(event.type, str(body_of(event).get("path", "")))] += 1
    case.proved = (len(events), digest, times) == (case.ended.events, case.ended.digest, case.ended.times)
