"""Traces as a real OTLP receiver gets them from an API process and worker processes at a real Temporal server."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engine.core.run.tracing import read_traceparent, span_id
from engine.edge.mockllm.script import MockRule, MockScript, MockUsage
from tests.support.lab import Lab, open_lab
from tests.support.otlp_receiver import OtlpReceiver, Received, Tree
from tests.support.processes import WorkerProcess, worker_process
from tests.support.servers import free_port, serve_app
from tests.support.traced import ApiProcess, api_process

pytestmark = pytest.mark.timeout(400)

NOTES = 180
USED = MockUsage(prompt_tokens=12, completion_tokens=5, cached_tokens=8, reasoning_tokens=2)
"""Calls of the loop: their history is longer than what a run has when it continues as new."""

TOOLS = """
import logging
from engine import tool

@tool(effect="read")
async def note(n: int) -> int:
    if n == 0:
        logging.getLogger("shop").warning("the first note\\nhas two lines")
    return n

@tool(effect="write")
async def broken(secret: str) -> str:
    raise RuntimeError("it broke")
"""

SMALL = """
name: small
main:
  - prompt: $ 'small ' + _.word
    label: think
"""

TRACED = """
name: traced
dispatch: {{labels: [shop]}}
tools:
  - {{name: fetch, type: api_call, api_call: {{method: GET, url: "{far}/item"}}}}
main:
  - prompt: the-secret-question
    label: ask
    settings: {{temperature: 0.5, max_tokens: 77}}
    retry: {{attempts: 3, initial: 0.2}}
  - foreach: {{in: "$ range({notes})", do: [{{tool: note, arguments: {{n: $ _}}}}]}}
    label: many
  - wait_for_input: {{info: go on?}}
    label: sure
  - over: $ [1, 2]
    map: {{tool: fetch, arguments: {{params: {{n: $ _}}}}}}
    label: both
  - task: small
    arguments: {{word: words}}
    label: below
  - return: done
"""

FAILING = """
name: failing
main:
  - prompt: the-secret-question
  - if: $ True
    then:
      - tool: broken
        arguments: {secret: the-secret-argument}
"""


class Far:
    """A service that HTTP tools call; keeps the traceparent of each request."""

    def __init__(self) -> None:
        self.traceparents: list[str] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer with an empty object."""
        del receive
        sent = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.traceparents.append(sent.get("traceparent", ""))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b"{}"})


@dataclass
class Shop:
    """Everything that runs in a test."""

    lab: Lab
    api: ApiProcess
    worker: WorkerProcess
    receiver: OtlpReceiver

    def log_lines(self, process: str) -> list[dict[str, Any]]:
        """Return the log lines of a process; each must be an object of JSON."""
        text = (self.lab.folder / f"{process}.log").read_text(encoding="utf-8")
        lines = [json.loads(line) for line in text.splitlines()]
        assert all(isinstance(line, dict) for line in lines)
        return lines


@asynccontextmanager
async def open_shop(address: str, folder: Path, **environment: str) -> AsyncIterator[Shop]:
    """Run receiver, model, worker and API for the length of the block."""
    receiver = OtlpReceiver()
    (folder / "shop_tools.py").write_text(TOOLS, encoding="utf-8")
    script = MockScript(rules=[MockRule(times=1, status=429), MockRule(reply="the-secret-answer", usage=USED)])
    async with serve_app(receiver) as collector, open_lab(address, folder, script=script) as lab:
        own = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            "OTEL_METRIC_EXPORT_INTERVAL": "300",
            "EVERSTEP_LOG_JSON": "true",
            "EVERSTEP_LOG_LEVEL": "debug",
            **environment,
        }
        project = str(folder / "everstep.toml")
        async with (
            worker_process(lab, str(folder / "shop_tools.py"), environment=own) as worker,
            api_process(lab, project, own) as api,
        ):
            yield Shop(lab, api, worker, receiver)


def root_of(execution_id: str, spans: list[Received]) -> Received | None:
    """Return the span of an execution, once it came."""
    own = span_id(execution_id, "")
    return next((span for span in spans if span.span_id == own), None)


async def test_an_execution_is_one_trace_over_retries_waits_continue_as_new_and_a_killed_worker(
    temporal_address: str, tmp_path: Path
) -> None:
    far = Far()
    async with serve_app(far) as far_url, open_shop(temporal_address, tmp_path) as shop:
        api, receiver = shop.api, shop.receiver
        await api.create(SMALL)
        task_id = await api.create(TRACED.format(far=far_url, notes=NOTES))
        execution_id = await api.start(task_id)
        first_run = (await shop.lab.client.get_workflow_handle(execution_id).describe()).run_id

        await api.until(execution_id, "awaiting_input")
        # what a worker has not sent is lost with it, but for what the events tell again
        await receiver.until(lambda spans: sum(span.name == "execute_tool note" for span in spans) == NOTES)
        shop.worker.kill()
        shop.worker.start()
        await shop.worker.ready()
        answer = {"status": "running", "input": True, "actor": "ann"}
        assert (await api.http.put(f"/api/executions/{execution_id}", json=answer)).status_code == 200
        shown = await api.until(execution_id, "succeeded")
        assert shown["output"] == "done"
        described = await shop.lab.client.get_workflow_handle(execution_id).describe()
        assert described.run_id != first_run

        spans = await receiver.until(lambda spans: root_of(execution_id, spans) is not None)
        below = next(span for span in spans if span.name == "step main.4 below")
        child_id = below.attributes["everstep.child.execution.id"]
        spans = await receiver.until(lambda spans: root_of(child_id, spans) is not None)
        root = root_of(execution_id, spans)
        assert root is not None

    mine = [span for span in spans if span.attributes.get("everstep.execution.id") in (execution_id, child_id)]
    assert {span.trace_id for span in mine} == {root.trace_id}
    tree = Tree.of(spans, root.trace_id)
    assert tree.orphans() == []
    assert [span.name for span in tree.spans.values() if not span.parent_id] == [START]
    _check_shape(tree)
    _check_attributes(tree, execution_id, child_id)
    assert shop.receiver.bodies
    assert not any(b"the-secret" in body for body in receiver.bodies)
    calls = {span.span_id for span in tree.spans.values() if span.name == "execute_tool fetch"}
    sent = [read_traceparent(text) for text in far.traceparents]
    assert {(place.trace_id, place.span_id) for place in sent if place} == {(root.trace_id, call) for call in calls}
    runs = {span.attributes["temporal.workflow.run_id"] for span in tree.spans.values() if _is_call(span)}
    assert len(runs) >= 2


START = "POST /api/tasks/{task_id}/executions"
EXECUTION = (START, "execution traced")


def _is_call(span: Received) -> bool:
    return span.name.startswith("activity ") and span.attributes["everstep.step.path"].startswith("main.1.")


def _check_shape(tree: Tree) -> None:
    lineages = Counter(tree.lineage(span) for span in tree.spans.values())
    ask, many, both = (
        (*EXECUTION, "step main.0 ask"),
        (*EXECUTION, "step main.1 many"),
        (*EXECUTION, "step main.3 both"),
    )
    sure, below = (*EXECUTION, "step main.2 sure"), (*EXECUTION, "step main.4 below")
    child = (*below, "execution small")
    think = (*child, "step main.0 think")
    note, fetch = (*many, "step main.1.do[].0"), (*both, "step main.3.map[].0")
    assert lineages == {
        (START,): 1,
        EXECUTION: 1,
        ask: 1,
        # the attempt that was refused, and the one that was not
        (*ask, "activity llm.chat"): 2,
        (*ask, "activity llm.chat", "chat mock"): 2,
        many: 1,
        note: NOTES,
        (*note, "activity tool.call"): NOTES,
        (*note, "activity tool.call", "execute_tool note"): NOTES,
        sure: 1,
        (*sure, "wait sure"): 1,
        both: 1,
        fetch: 2,
        (*fetch, "activity tool.call"): 2,
        (*fetch, "activity tool.call", "execute_tool fetch"): 2,
        below: 1,
        (*below, "activity task.resolve"): 1,
        child: 1,
        think: 1,
        (*think, "activity llm.chat"): 1,
        (*think, "activity llm.chat", "chat mock"): 1,
        (*EXECUTION, "step main.5"): 1,
    }


def _check_attributes(tree: Tree, execution_id: str, child_id: str) -> None:
    (request,) = tree.named(START)
    assert (request.service, request.kind) == ("everstep-api", "server")
    assert request.attributes["http.route"] == "/api/tasks/{task_id}/executions"
    assert request.attributes["http.response.status_code"] == 201
    (root,) = tree.named(*EXECUTION)
    # whoever stores the end tells of it: an API that is asked just then may be the first
    assert root.service in ("everstep-worker", "everstep-api")
    assert root.error is None
    about = root.attributes
    assert (about["everstep.status"], about["everstep.task.version"], about["everstep.tenant"]) == (
        "succeeded",
        1,
        "default",
    )
    assert (about["everstep.usage.llm_calls"], about["everstep.usage.tool_calls"]) == (2, NOTES + 2)
    assert about["everstep.usage.failed_attempts"] == 1

    refused, answered = tree.named(*EXECUTION, "step main.0 ask", "activity llm.chat", "chat mock")
    assert refused.kind == answered.kind == "client"
    assert refused.error is not None
    assert refused.attributes["error.type"] == "backend.rate_limited"
    asked = answered.attributes
    assert answered.error is None
    assert (asked["gen_ai.operation.name"], asked["gen_ai.provider.name"]) == ("chat", "mock")
    assert (asked["gen_ai.request.model"], asked["gen_ai.response.model"]) == ("mock", "mock")
    assert (asked["gen_ai.request.temperature"], asked["gen_ai.request.max_tokens"]) == (0.5, 77)
    assert asked["gen_ai.response.finish_reasons"] == ["stop"]
    assert asked["gen_ai.response.id"]
    assert {name: value for name, value in asked.items() if name.startswith("gen_ai.usage.")} == {
        "gen_ai.usage.input_tokens": 12,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 8,
        "gen_ai.usage.reasoning.output_tokens": 2,
    }
    assert asked["server.address"] == "127.0.0.1"
    attempts = tree.named(*EXECUTION, "step main.0 ask", "activity llm.chat")
    assert [span.attributes["everstep.attempt"] for span in attempts] == [1, 2]
    assert [span.error is None for span in attempts] == [False, True]

    (ask,) = tree.named(*EXECUTION, "step main.0 ask")
    ((event, failure),) = ask.events
    assert event == "attempt.failed"
    assert failure["error.type"] == "backend.rate_limited"
    assert failure["everstep.retry_in_s"] == pytest.approx(0.2)
    assert ask.attributes["everstep.attempts"] == 2
    for call in attempts:
        assert ask.start_ns <= call.start_ns + 5_000_000
        assert call.end_ns <= ask.end_ns + 5_000_000

    (wait,) = tree.named(*EXECUTION, "step main.2 sure", "wait sure")
    assert wait.attributes["everstep.wait.outcome"] == "answered"
    assert wait.attributes["everstep.wait.actor"] == "ann"
    assert wait.end_ns - wait.start_ns > 100_000_000
    notes = [span for span in tree.spans.values() if span.name == "step main.1.do[].0"]
    assert {span.attributes["everstep.step.path"] for span in notes} == {
        f"main.1.do[{number}].0" for number in range(NOTES)
    }
    (tool, _) = tree.named(
        *EXECUTION, "step main.3 both", "step main.3.map[].0", "activity tool.call", "execute_tool fetch"
    )
    assert tool.attributes["gen_ai.tool.name"] == "fetch"
    assert tool.attributes["gen_ai.tool.type"] == "extension"
    (child,) = tree.named(*EXECUTION, "step main.4 below", "execution small")
    assert child.attributes["everstep.execution.id"] == child_id
    assert child.attributes["everstep.parent.execution.id"] == execution_id


async def test_a_failed_execution_is_an_error_in_the_callers_trace_with_content_if_that_is_switched_on(
    temporal_address: str, tmp_path: Path
) -> None:
    caller, above = "ef" * 16, "12" * 8
    async with open_shop(temporal_address, tmp_path, EVERSTEP_TRACE_CONTENT="true") as shop:
        task_id = await shop.api.create(FAILING)
        execution_id = await shop.api.start(task_id, traceparent=f"00-{caller}-{above}-01")
        await shop.api.until(execution_id, "failed")
        spans = await shop.receiver.until(lambda spans: root_of(execution_id, spans) is not None)
    tree = Tree.of(spans, caller)
    assert [(span.name, span.parent_id) for span in tree.orphans()] == [(START, above)]
    (root,) = tree.named(START, "execution failing")
    assert root.error == "tool 'broken' failed: RuntimeError: it broke"
    assert root.attributes["error.type"] == "tool.failed"
    assert root.attributes["everstep.status"] == "failed"
    step = (START, "execution failing", "step main.1", "step main.1.then.0")
    for names in (step[:3], step, (*step, "activity tool.call"), (*step, "activity tool.call", "execute_tool broken")):
        (span,) = tree.named(*names)
        assert span.attributes["error.type"] == "tool.failed"
    (tool,) = tree.named(*step, "activity tool.call", "execute_tool broken")
    assert json.loads(tool.attributes["gen_ai.tool.call.arguments"]) == {"secret": "the-secret-argument"}
    chats = tree.named(START, "execution failing", "step main.0", "activity llm.chat", "chat mock")
    said = {"role": "user", "parts": [{"type": "text", "content": "the-secret-question"}]}
    assert json.loads(chats[-1].attributes["gen_ai.input.messages"]) == [said]
    (reply,) = json.loads(chats[-1].attributes["gen_ai.output.messages"])
    assert reply["parts"] == [{"type": "text", "content": "the-secret-answer"}]
    assert reply["finish_reason"] == "stop"


async def test_log_lines_name_execution_step_attempt_and_trace_and_metrics_come_by_otlp_and_as_text(
    temporal_address: str, tmp_path: Path
) -> None:
    task = "name: noted\nmain: [{tool: note, arguments: {n: 0}}, {prompt: hi}, {tool: broken, arguments: {secret: s}}]"
    port = free_port()
    async with open_shop(temporal_address, tmp_path, EVERSTEP_METRICS_PORT=str(port)) as shop:
        task_id = await shop.api.create(task)
        execution_id = await shop.api.start(task_id)
        await shop.api.until(execution_id, "failed")
        spans = await shop.receiver.until(lambda spans: root_of(execution_id, spans) is not None)
        await shop.receiver.until(lambda _: "everstep.executions" in shop.receiver.metrics)
        of_api = (await shop.api.http.get("/metrics")).text
        of_worker = (await shop.api.http.get(f"http://127.0.0.1:{port}/metrics")).text
    _check_logs(shop, execution_id, task_id, spans)
    # the processes sent the last values when they ended
    sent = shop.receiver.metrics
    assert sent["everstep.executions"] == 1
    assert sent["everstep.executions.started"] == 1
    assert sent["everstep.executions.ended"] == 1
    # the model's refusal and the tool that broke
    assert sent["everstep.effect.failures"] == 2
    assert sent["everstep.effect.duration"] == 4
    assert sent["gen_ai.client.operation.duration"] == 2
    assert sent["gen_ai.client.token.usage"] == 2
    assert sent["everstep.events.written"] > 5
    assert 'everstep_executions{everstep_status="failed"' in of_api
    assert 'http_route="/api/tasks/{task_id}/executions"' in of_api
    assert execution_id not in of_api
    assert 'gen_ai_token_type="output"' in of_worker
    assert 'everstep_effect_failures_total{error_type="backend.rate_limited"' in of_worker


def _check_logs(shop: Shop, execution_id: str, task_id: str, spans: list[Received]) -> None:
    root = root_of(execution_id, spans)
    assert root is not None
    # everything that was ever written is one object a line, also what took two lines in the text
    lines = shop.log_lines("worker")
    (noted,) = [line for line in lines if line["event"].startswith("the first note")]
    call = next(span for span in spans if span.name == "activity tool.call")
    told = {name: noted[name] for name in ("execution", "step", "attempt", "trace_id", "span_id", "logger", "level")}
    assert told == {
        "execution": execution_id,
        "step": "main.0",
        "attempt": 1,
        "trace_id": root.trace_id,
        "span_id": call.span_id,
        "logger": "shop",
        "level": "warning",
    }
    asked = f"/api/tasks/{task_id}/executions"
    (request,) = [line for line in shop.log_lines("api") if line.get("path") == asked]
    assert request["trace_id"] == root.trace_id
    assert request["request_id"]
