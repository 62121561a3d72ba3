"""Records the histories of all examples: their own tests, run on a real dev server with a scripted model.

Addresses of services on loopback stand in inputs and replies; they are put in other words before anything is kept, and
what the replay tells of that is what the recording says.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client

from engine.control.payloads import data_converter
from engine.core.plan.ir import Plan
from engine.core.values import Json
from engine.edge.cli.api import Api
from engine.edge.mockllm.app import create_app
from engine.testing.replies import Source
from engine.testing.running import TaskRun
from engine.testing.suite import Options, run_file
from tests.replay.recording import chain_of, scrub
from tests.support.dev_process import running_dev
from tests.support.example_server import ENDS, ExampleServer, ServerRunner, case_files, serving, write_project

PREFIX = "example_"
PLACES = ((re.compile(r"127\.0\.0\.1|localhost"), "service.example"),)
"""What of this machine stands in data, and what is written for it."""
MOST_BYTES = 140_000


@dataclass(slots=True)
class Seen:
    """An execution of a test of an example.

    Attributes:
        id: Its id.
        view: What the API says of it.
        events: Types of the events that were told of it, in order.
        runs: Histories of its runs, the first run first.
    """

    id: str
    view: dict[str, Any]
    events: list[str]
    runs: list[dict[str, Any]]

    @property
    def length(self) -> int:
        """Number of events in its histories."""
        return sum(len(run["events"]) for run in self.runs)


@dataclass(slots=True)
class Watcher:
    """Runs tests on the server and takes down the histories of all executions that each of them makes.

    Attributes:
        runner: Runs them.
        address: Address of Temporal.
        data_dir: Folder of the server.
        groups: The executions of each run of a test, that of the task itself first.
    """

    runner: ServerRunner
    address: str
    data_dir: Path
    groups: list[list[Seen]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def __call__(self, plan: Plan, given: Json, *, replies: Json, answers: Json, sources: Sequence[Source]) -> TaskRun:
        """Run a plan."""
        before = self.runner.ran
        run = self.runner(plan, given, replies=replies, answers=answers, sources=sources)
        if self.runner.ran > before:
            self.groups.append(asyncio.run(self._seen(self.runner.server.api)))
        return run

    async def _seen(self, api: Api) -> list[Seen]:
        client = await Client.connect(self.address, data_converter=data_converter(self.data_dir / "blobs"))
        found: list[Seen] = []
        for view in reversed(api.get("/executions", limit=100)["items"]):
            if view["id"] in self.known:
                continue
            self.known.add(view["id"])
            runs = [json.loads(history.to_json()) for history in await chain_of(client, view["id"], wait=True)]
            whole = await _settled(api, view["id"])
            events = api.get(f"/executions/{view['id']}/events", limit=1_000)["items"]
            found.append(Seen(view["id"], whole, [event["type"] for event in events], runs))
        return found


async def _settled(api: Api, execution_id: str) -> dict[str, Any]:
    for _ in range(500):
        view: dict[str, Any] = api.get(f"/executions/{execution_id}")
        if view["status"] in ENDS:
            return view
        await asyncio.sleep(0.02)
    raise AssertionError(f"{execution_id} has ended, but its row does not say so")


def neutral(value: Any) -> Any:
    """Replace what names this machine in texts, and in payloads."""
    if isinstance(value, list):
        return [neutral(item) for item in value]
    if isinstance(value, dict):
        return {
            name: _neutral_data(item) if name == "data" and isinstance(item, str) else neutral(item)
            for name, item in value.items()
        }
    return _neutral_text(value) if isinstance(value, str) else value


def _neutral_text(text: str) -> str:
    for pattern, other in PLACES:
        text = pattern.sub(other, text)
    return text


def _neutral_data(data: str) -> str:
    try:
        text = base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return data
    return base64.b64encode(_neutral_text(text).encode()).decode()


def chosen(groups: Sequence[Sequence[Seen]]) -> list[Seen]:
    """Return what is kept of the runs of a test file: of each way to end the longest run, with its children."""
    longest: dict[str, Sequence[Seen]] = {}
    for group in groups:
        if not group or any(len(json.dumps(each.runs)) > MOST_BYTES for each in group):
            continue
        ended = str(group[0].view["status"])
        if ended not in longest or sum(each.length for each in group) > sum(each.length for each in longest[ended]):
            longest[ended] = group
    return [each for group in longest.values() for each in group]


def body_of_seen(name: str, seen: Seen) -> dict[str, Any]:
    """Return a recording without spans and digest, which a replay of it gives."""
    error = seen.view["error"] if seen.view["status"] == "failed" else None
    return {
        "name": name,
        "execution": seen.id,
        "cancelled": seen.view["status"] == "cancelled",
        "output": neutral(seen.view["output"]),
        "error": error["code"] if error else None,
        "told": seen.events,
        "runs": [neutral(scrub(run)) for run in seen.runs],
    }


def record_examples(folder: Path, keep: Callable[[dict[str, Any]], None]) -> None:
    """Run the tests of all examples on a real server and hand over what is to be kept.

    Args:
        folder: An empty folder.
        keep: Gets each recording.
    """
    model = create_app()
    arguments = ["--project", str(write_project(folder))]
    with serving(model) as url, running_dev(folder / "data", *arguments, OPENAI_BASE_URL=f"{url}/v1") as dev:
        server = ExampleServer(Api(dev.address), model)
        known: set[str] = set()
        for file in case_files():
            server.load(file.parent)
            watcher = Watcher(ServerRunner(server, file.parent), dev.ready["temporal"], folder / "data", known=known)
            run_file(file, Options(runner=watcher))
            for number, seen in enumerate(chosen(watcher.groups), 1):
                stem = file.name.removesuffix(".test.yaml")
                keep(body_of_seen(f"{PREFIX}{file.parent.name}_{stem}_{number}", seen))


def names_of_examples() -> set[str]:
    """Return how the names of the recordings begin, of which each test file of an example has at least one."""
    return {f"{PREFIX}{file.parent.name}_{file.name.removesuffix('.test.yaml')}_" for file in case_files()}
