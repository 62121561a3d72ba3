"""Runs the tests of the examples on a real dev server: their scripted replies become the script of a mock model."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import threading
import time
import tomllib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.core.contracts.activities import ChatParams
from engine.core.errors import EngineError, InvalidInput
from engine.core.kinds import EventType, StepKind
from engine.core.plan.ir import Plan
from engine.core.run.effects import Call, Failed, Ok
from engine.core.run.projection import is_listening
from engine.core.values import Json
from engine.dryrun.effects import Answered
from engine.edge.cli.api import Api
from engine.edge.cli.taskfiles import find_tasks
from engine.edge.cli.tasks import text_to_send
from engine.edge.mockllm.app import MockLlm, create_app
from engine.edge.mockllm.script import MockRule, MockScript
from engine.testing.replies import Script, Source
from engine.testing.running import Answers, TaskRun, run_plan
from examples.stub import StubService
from tests.support.dev_process import running_dev
from tests.support.patience import PATIENCE_S, START_S
from tests.support.servers import serve_app

EXAMPLES = Path(__file__).parents[2] / "examples"
MOST_VIRTUAL_S = 3.0
"""A case that takes longer by the virtual clock sleeps or waits for real, and is run in memory only."""
QUICK_S = 0.01
DOCUMENTS: dict[str, dict[str, dict[str, Any]]] = {
    "handbook": {
        "opening.txt": {"metadata": {"kind": "handbook"}},
        "desk.txt": {"agent": "desk"},
        "ada.txt": {"user": "ada"},
    }
}
"""Files of examples that its tasks search, with whose they are."""
HTTP_STATUSES = {
    "backend.overloaded": 503,
    "backend.rate_limited": 429,
    "backend.refused": 400,
    "backend.unavailable": 500,
}
ENDS = {"succeeded", "failed", "cancelled"}


def example_folders() -> list[Path]:
    """Return the folders of all examples."""
    return sorted(file.parent for file in EXAMPLES.glob("*/everstep.toml"))


def case_files() -> list[Path]:
    """Return the test files of all examples."""
    return sorted(file for folder in example_folders() for file in folder.glob("*.test.yaml"))


def write_project(folder: Path) -> Path:
    """Write one everstep.toml with the tools and addresses of all examples, and return it."""
    modules: list[str] = []
    allowed: set[str] = set()
    for example in example_folders():
        project = tomllib.loads((example / "everstep.toml").read_text(encoding="utf-8"))
        modules += [str(example / name) for name in project.get("tools", {}).get("modules", [])]
        allowed.update(project.get("http", {}).get("allow", []))
    file = folder / "everstep.toml"
    file.write_text(f"[tools]\nmodules = {json.dumps(modules)}\n[http]\nallow = {json.dumps(sorted(allowed))}\n")
    return file


# --- servers -------------------------------------------------------------------------------------------------------


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """Serve an ASGI app from a thread of its own for the length of the block and yield its address."""
    ready, stop = threading.Event(), threading.Event()
    address: list[str] = []

    async def serve() -> None:
        async with serve_app(app) as url:
            address.append(url)
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(START_S), "the server did not start"
    try:
        yield address[0]
    finally:
        stop.set()
        thread.join(PATIENCE_S)


@contextmanager
def service_of(example: Path) -> Iterator[StubService | None]:
    """Run an example's own service, if it has one, for the length of the block."""
    if not (example / "service.py").is_file():
        yield None
        return
    service: StubService = importlib.import_module(f"examples.{example.name}.service").Service()
    thread = threading.Thread(target=lambda: service.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        service.shutdown()
        service.server_close()
        thread.join(PATIENCE_S)


@dataclass(slots=True)
class ExampleServer:
    """A dev server with the tools of all examples, and the model that it asks.

    Attributes:
        api: A connection to it.
        model: The mock model; None = the bundled one.
    """

    api: Api
    model: MockLlm | None = None

    def load(self, example: Path) -> None:
        """Give it the tasks of an example, as `everstep apply` does."""
        tasks = [
            {"file": file.name, "source": text_to_send(file.path, file.text)} for file in find_tasks([example]).files
        ]
        self.api.post("/tasks/apply", {"tasks": tasks}, timeout_s=PATIENCE_S)
        for name, facts in DOCUMENTS.get(example.name, {}).items():
            self._add(example / name, facts)

    def _add(self, file: Path, facts: dict[str, Any]) -> None:
        """Add a document, as `everstep docs add --pieces` does, and wait until it has its vectors."""
        pieces = [piece.strip() for piece in file.read_text(encoding="utf-8").split("\n\n")]
        # with a key a document that is there is not added again
        given = {"title": file.name, "content": pieces, **facts}
        added = self.api.post("/docs", given, key=f"{file.parent.name}/{file.name}")
        deadline = time.monotonic() + PATIENCE_S
        while not (found := self.api.get(f"/docs/{added['id']}"))["embedded_at"]:
            assert time.monotonic() < deadline, found["trouble"]
            time.sleep(0.05)


@contextmanager
def example_server(folder: Path, *, bundled: bool = False) -> Iterator[ExampleServer]:
    """Run a dev server that may run all examples for the length of the block.

    Args:
        folder: An empty folder.
        bundled: Let prompts go to the bundled model instead of a mock.
    """
    arguments = ["--project", str(write_project(folder))]
    if bundled:
        with running_dev(folder / "data", *arguments) as dev:
            yield ExampleServer(Api(dev.address))
        return
    model = create_app()
    with serving(model) as url, running_dev(folder / "data", *arguments, OPENAI_BASE_URL=f"{url}/v1") as dev:
        yield ExampleServer(Api(dev.address), model)


# --- one run -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ServerRunner:
    """Runs a plan in memory and then on the server; what a case expects must hold of both, and they must agree.

    Attributes:
        server: The server.
        example: Folder of the example.
        ran: How many runs took place on the server.
    """

    server: ExampleServer
    example: Path
    ran: int = 0

    def __call__(self, plan: Plan, given: Json, *, replies: Json, answers: Json, sources: Sequence[Source]) -> TaskRun:
        """Run a plan; returns the run on the server, or that in memory if it is wrong or takes too long."""
        spy = Spy([Script(replies), *sources])
        memory = run_plan(plan, given, answers=answers, sources=[spy])
        if memory.problems or memory.seconds > MOST_VIRTUAL_S:
            return memory
        self.ran += 1
        with service_of(self.example) as service:
            if service is not None and isinstance(given, dict) and "service" in given:
                # a path behind the address stays: a service may have places at which all goes wrong
                given = {**given, "service": service.url + urlsplit(given["service"]).path}
            model = self.server.model
            assert model is not None
            model.use(MockScript(rules=spy.rules))
            model.reset()
            run = run_on_server(self.server.api, plan.task, given, answers, len(memory.waits))
            run.problems += _disagreements(memory, run)
            if run.status == "succeeded" and not _has_race(plan):
                # what a race or an error stops may or may not have been asked by then
                run.problems += _other_calls(memory, run)
            run.problems += [
                f"the model was asked what it was not asked in memory: {call['messages'][-1]}"
                for call in model.calls
                if call["rule"] is None
            ]
        return run


def _disagreements(memory: TaskRun, run: TaskRun) -> Iterator[str]:
    """Say in what a run on the server differs from the run in memory."""
    error = [{} if each.error is None else each.error for each in (memory, run)]
    pairs: dict[str, tuple[Any, Any]] = {
        "status": (memory.status, run.status),
        "output": (memory.output, run.output),
        "error code": (error[0].get("code"), error[1].get("code")),
    }
    steps = [each.get("step") for each in error]
    if not _are_one_place(*(str(step) for step in steps)):
        pairs["step of the error"] = (steps[0], steps[1])
    for what, (ours, theirs) in pairs.items():
        if ours != theirs:
            yield f"the {what} is {ours!r} in memory and {theirs!r} on the server: {run.error or ''}"


_BRANCH = re.compile(r"(?:(?<=\d)|(?<=\.map))\[(\d+)\]")
"""The number of a branch in the path of a step; rounds of a loop, which come one after the other, have none."""


def _are_one_place(ours: str, theirs: str) -> bool:
    """Whether two steps are one, or stand in branches that run side by side: who fails first there is nobody's word.

    >>> _are_one_place("main.1[0].0", "main.1[1].2")
    True
    >>> _are_one_place("main.1.do[0].0", "main.1.do[1].0")
    False
    """
    for number, (one, other) in enumerate(zip(_BRANCH.split(ours), _BRANCH.split(theirs), strict=False)):
        if one != other:
            # texts and branch numbers alternate
            return number % 2 == 1
    return ours == theirs


def _has_race(plan: Plan) -> bool:
    return any(op.op is StepKind.RACE for block in plan.blocks for op in block.ops)


def _other_calls(memory: TaskRun, run: TaskRun) -> Iterator[str]:
    """Say which calls were made in memory or on the server only."""
    started = EventType.EFFECT_STARTED.value
    ours, theirs = (
        sorted((event["path"], event["attempt"]) for event in each.trace if event["type"] == started)
        for each in (memory, run)
    )
    if ours != theirs:
        yield f"the calls are {ours} in memory and {theirs} on the server"


@dataclass(slots=True)
class Spy:
    """Answers calls from other sources and keeps the prompts as rules of a mock model.

    Attributes:
        sources: Where replies come from.
        rules: One for each prompt, in order.
    """

    sources: Sequence[Source]
    rules: list[MockRule] = field(default_factory=list)

    def __call__(self, call: Call) -> Answered | None:
        """Answer a call."""
        for source in self.sources:
            answered = source(call)
            if answered is not None:
                if isinstance(call.params, ChatParams):
                    self.rules.append(_rule(call.params, answered))
                return answered
        return None


def _rule(params: ChatParams, answered: Answered) -> MockRule:
    said = [message for message in params.messages if message["role"] == "user"]
    turn = sum(message["role"] == "assistant" for message in params.messages)
    rule: dict[str, Any] = {"turn": turn, "times": 1}
    rule["match"] = rf"\A{re.escape(_text(said[-1]) if said else '')}\Z"
    if answered.after_s > QUICK_S:
        rule["delay_s"] = answered.after_s
    outcome = answered.outcome
    if isinstance(outcome, Failed):
        return MockRule(**rule, status=HTTP_STATUSES[outcome.error.code])
    assert isinstance(outcome, Ok)
    result: Mapping[str, Any] = outcome.value
    message = result["message"]
    calls = [
        {
            "id": each.get("id", ""),
            "name": each["function"]["name"],
            "arguments": json.loads(each["function"]["arguments"]),
        }
        for each in message.get("tool_calls") or ()
    ]
    used = {"prompt_tokens": 0, "completion_tokens": result["usage"]["completion_tokens"]}
    finish = {"finish_reason": result["finish_reason"]}
    return MockRule(**rule, reply=message.get("content"), tool_calls=calls, usage=used, **finish)


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def run_on_server(api: Api, task: str, given: Json, answers: Json = (), waits: int = 0) -> TaskRun:
    """Run a task of the server, answer its waits, and tell what happened as a run in memory does.

    Args:
        api: The connection.
        task: Name of the task.
        given: The input.
        answers: See `Answers`.
        waits: How many waits stay open for good: then the run is over, and cancelled.
    """
    try:
        execution = str(api.post(f"/tasks/{task}/executions", {"input": given})["id"])
    except InvalidInput as error:
        return TaskRun("refused", error={"code": error.code, "message": error.message})
    told, run = Answers(answers), TaskRun("waiting")
    open_waits: dict[str, dict[str, Json]] = {}
    started = None
    for event in api.follow(f"/executions/{execution}/events.stream"):
        body, kind = event.data["body"], event.data["type"]
        at = datetime.fromisoformat(event.data["at"])
        started = started or at
        run.seconds = (at - started).total_seconds()
        run.trace.append({"seq": event.data["seq"], "type": kind, "at": run.seconds, **body})
        if body.get("label") and "output" in body:
            run.steps[str(body["label"])] = body["output"]
        if kind == EventType.EFFECT_STARTED.value:
            run.calls.append(_call_seen(body))
        elif kind == EventType.WAIT.value and not _answer(api, execution, told, body):
            open_waits[str(body["wait_id"])] = {key: body.get(key) for key in ("wait_id", "label", "info", "schema")}
        elif kind == EventType.ANSWER_REFUSED.value:
            run.problems.append(f"the answer for {body.get('wait_id')} was refused: {body.get('message')}")
        if waits and len(open_waits) == waits:
            run.waits = list(open_waits.values())
            run.problems += told.problems()
            api.put(f"/executions/{execution}", {"status": "cancelled", "reason": "the test is over"})
            return run
    view = _settled(api, execution)
    run.status = view["status"]
    run.output = view["output"] if run.status == "succeeded" else None
    run.error = view["error"] if run.status == "failed" else None
    run.problems += told.problems()
    return run


def _settled(api: Api, execution: str, timeout_s: float = PATIENCE_S) -> dict[str, Any]:
    deadline = time.monotonic() + timeout_s
    while True:
        view: dict[str, Any] = api.get(f"/executions/{execution}")
        if view["status"] in ENDS:
            return view
        assert time.monotonic() < deadline, f"the stream has ended, but the execution is {view['status']}"
        time.sleep(0.02)


def _call_seen(body: Mapping[str, Any]) -> dict[str, Json]:
    """Return a call as `calls` of a test shows it; its reply is not in the event."""
    is_tool, is_task = body["kind"] == "tool_call", body["kind"] == "task"
    request = body["request"].get("arguments", {}) if is_tool else body["request"]
    if is_task:
        request = {"input": body["request"]["arguments"]}
    label = body.get("label") or (body["name"] if is_tool or is_task else f"prompt {body['name']}".strip())
    kind = "tool" if is_tool else "task" if is_task else "prompt"
    if body["kind"] in (StepKind.EMBED, StepKind.SEARCH):
        kind = str(body["kind"])
        label = body.get("label") or kind
    kept = {key: body[key] for key in ("path", "name", "attempt")}
    return {**kept, "label": label, "kind": kind, "request": request, "reply": None}


def _answer(api: Api, execution: str, answers: Answers, wait: Mapping[str, Any]) -> bool:
    """Answer a wait as the test says; False if it says nothing."""
    answer = answers(wait)
    if answer is None:
        return False
    path = f"/executions/{execution}"
    if answer.is_cancel:
        _repeat(lambda: api.put(path, {"status": "cancelled", "reason": str(answer.value), "actor": "dry-run"}))
        return True
    info = wait.get("info")
    if isinstance(info, dict) and set(info) == {"event", "key"}:
        event = {"name": info["event"], "key": info.get("key"), "value": answer.value}
        _repeat(lambda: api.post(f"{path}/events", event))
    elif is_listening(info):
        for message in (answer, *answer.then):
            # with an id a repetition after a lost reply is the same message
            sent = {"name": info["messages"], "value": message.value, "busy": message.busy, "id": str(uuid.uuid4())}
            _repeat(partial(api.post, f"{path}/messages", sent))
    else:
        # with a key a repetition after a lost reply is the same answer
        body = {"status": "running", "input": answer.value, "wait_id": wait["wait_id"], "key": str(uuid.uuid4())}
        _repeat(lambda: api.put(path, body))
    return True


def _repeat(send: Callable[[], Any], times: int = 5) -> None:
    """Send something again if the live path was ahead of what the server knows for sure."""
    for left in reversed(range(times)):
        try:
            send()
            return
        except EngineError:
            if not left:
                raise
            time.sleep(0.1)
