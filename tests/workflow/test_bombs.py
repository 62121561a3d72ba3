"""Hostile tasks on the real server: each ends typed, in one go and little memory; the next execution ends at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowHandle

from tests.compat.apiserver import api_server, settings_for
from tests.support.lab import Lab
from tests.support.processes import worker_process

BOMBS: dict[str, tuple[str, str]] = {
    "powers": ("$ 9**9**9", "too_large"),
    "many powers": ("$ [x ** 400 for x in range(10**6)]", "fuel"),
    "shifts": ("$ 1 << 10**9", "too_large"),
    "joins": ('$ " ".join(["a" * 1000] * 1000000)', "fuel"),
    "nested comprehensions": ("$ [0 for a in range(1000) for b in range(1000) for c in range(1000)]", "fuel"),
    "nested lists": ("$ str([[[[0] * 1000] * 1000] * 1000] * 1000)", "fuel"),
    "format widths": ('$ f"{1:>999999999}"', "too_large"),
    "many format widths": ('$ " ".join([f"{x:10000}" for x in range(10000)])', "fuel"),
    "factorials": ("$ math.factorial(10**9)", "too_large"),
    "many factorials": ("$ [math.factorial(500) for x in range(100000)]", "fuel"),
    "regexes": ('$ [search_regex("(x+x+)+y", "x" * 100000) for i in range(1000)]', "fuel"),
    "monstrous regexes": ('$ search_regex("(((a{100}){100}){100})", "a")', "value"),
    "yaml aliases": (
        '$ load_yaml("k0: &k0 [x, x]\\n" + "".join([f"k{i + 1}: &k{i + 1} [*k{i}, *k{i}]\\n" for i in range(50)]))',
        "fuel",
    ),
    "json depth": ('$ load_json("[" * 100000)', "too_deep"),
    "template loops": ("{% for i in range(1000) %}{% for j in range(1000) %}x{% endfor %}{% endfor %}", "fuel"),
    "doubled text in templates": ("{% set x = 'aaaaaaaaaa' %}" + "{% set x = x ~ x %}" * 60 + "{{ x }}", "fuel"),
    "attribute walks": ('$ _["__class__"]["__mro__"]', "no_key"),
    "attribute walks of texts": ('$ str(_)["__class__"]', "type"),
    "attribute walks in formats": ("$ f\"{_[str('__class__')]}\"", "no_key"),
    "attribute walks in keys": ('$ sorted([_, _], key="__class__")', "no_key"),
    "attribute walks in templates": ("{{ _['__init__']['__globals__'] }}", "no_key"),
    "attribute walks in filters": ("{{ [_] | map(attribute='__class__.__mro__') | join }}", "no_key"),
    "big numbers as text": ('$ int("9" * 100000)', "too_large"),
    "sorting": ("$ [sorted(list(range(50000))) for x in range(1000)]", "fuel"),
    "html": ('$ html_to_markdown("<b>" * 100000)', "fuel"),
    "markdown": ('$ markdown_to_html("[](" * 100000)', "fuel"),
    "csv": ('$ csv.reader("," * 1500000)', "fuel"),
}
"""What a step evaluates, and the code of its error behind `expression.`."""

MAX_HISTORY_BYTES = 32 * 1024
MAX_GROWTH_BYTES = 150 * 1024 * 1024
TROUBLE = {EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT}
PLAIN = "name: plain\nmain: [{evaluate: $ _ + 1}]"


def task_of(source: str) -> str:
    """Return a task whose only step evaluates a source."""
    return f"name: bomb\nmain:\n  - evaluate:\n      |-\n      {source}\n"


def peak_bytes(pid: int) -> int:
    """Return the most memory that a process has had at one time."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


async def history_of(handle: WorkflowHandle[Any, Any]) -> list[Any]:
    return [event async for event in handle.fetch_history_events()]


async def assert_one_go(handle: WorkflowHandle[Any, Any]) -> None:
    """Assert that an execution came and went in one workflow task, which was neither repeated nor too late."""
    events = await history_of(handle)
    assert not TROUBLE & {event.event_type for event in events}
    assert [event.event_type for event in events][1:4] == [
        EventType.EVENT_TYPE_WORKFLOW_TASK_SCHEDULED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED,
    ]
    assert len(events) == 5
    assert sum(event.ByteSize() for event in events) < MAX_HISTORY_BYTES


async def test_every_sort_of_bomb_ends_typed_in_one_go_and_the_worker_takes_the_next_execution_at_once(
    lab: Lab,
) -> None:
    async with worker_process(lab) as worker:
        assert (await lab.run(PLAIN, 1)).output == 2
        before = peak_bytes(worker.pid)
        for number, (name, (source, code)) in enumerate(BOMBS.items()):
            handle = await lab.start(task_of(source), {"x": 1})
            following = await lab.start(PLAIN, number)
            ended = await lab.end_of(handle)
            assert ended.error is not None, name
            assert ended.error["code"] == f"expression.{code}", name
            assert (await lab.end_of(following)).output == number + 1
            await assert_one_go(handle)
            await assert_one_go(following)
        assert peak_bytes(worker.pid) - before < MAX_GROWTH_BYTES
        assert worker.starts == 1


async def test_a_task_that_is_nothing_but_bombs_lets_other_executions_pass(lab: Lab) -> None:
    bomb = BOMBS["nested comprehensions"][0].removeprefix("$ ")
    step = f'{{evaluate: "$ {bomb}", on_error: {{evaluate: $ error.code}}}}'
    task = f"name: bombs\nmain: [{{foreach: {{in: $ list(range(60)), do: {step}}}}}]"
    async with worker_process(lab):
        handle = await lab.start(task)
        await lab.until(handle, "attempt.failed")
        plain = await asyncio.gather(*(lab.run(PLAIN, number) for number in range(5)))
        status = (await handle.describe()).status
        ended = await lab.end_of(handle)
        events = await history_of(handle)
    assert [item.output for item in plain] == [1, 2, 3, 4, 5]
    assert status == WorkflowExecutionStatus.RUNNING
    assert ended.output == ["expression.fuel"] * 60
    assert not TROUBLE & {event.event_type for event in events}


def billion_laughs() -> str:
    """Return a task whose aliases stand for three billion words."""
    lines = ["a0: &a0 [x, x, x]", *(f"a{n + 1}: &a{n + 1} [*a{n}, *a{n}, *a{n}]" for n in range(20))]
    return "main: [{evaluate: *a20}]\nmetadata:\n" + "\n".join(f"  {line}" for line in lines)


SOURCES: dict[str, tuple[str, str]] = {
    "yaml aliases": (billion_laughs(), "E107"),
    "yaml depth": ("main: " + "[" * 50_000, "E106"),
    "json depth": ('{"main": ' + "[" * 50_000 + "]" * 50_000 + "}", "E106"),
    "unary minus": (task_of("$ " + "-" * 20_000 + "1"), "E301"),
    "brackets": (task_of("$ " + "(" * 5_000 + ")" * 5_000), "E301"),
    "nested templates": (task_of("{% if 1 %}" * 500 + "{% endif %}" * 500), "E302"),
    "attribute walks": (task_of("$ ().__class__.__bases__[0].__subclasses__()"), "E304"),
    "attribute walks of the data": (task_of("$ _.__class__.__mro__"), "E304"),
    "attribute walks in templates": (task_of("{{ _.__init__.__globals__ }}"), "E304"),
    "monstrous patterns": (
        '{"main": [{"evaluate": 1}], "input_schema": {"pattern": "(((a{100}){100}){100})"}}',
        "E501",
    ),
}
"""Tasks that are refused before they are stored, and the code of what is found."""


@pytest.mark.parametrize("name", SOURCES)
async def test_a_monstrous_task_is_refused_by_the_api_which_takes_the_next_one(
    lab: Lab, temporal_address: str, name: str
) -> None:
    text, code = SOURCES[name]
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as api:
        headers = {"content-type": "application/yaml"}
        refused = await api.http.post("/tasks", content=text, headers=headers)
        taken = await api.http.post("/tasks", content=PLAIN, headers=headers)
    assert refused.status_code == 400
    found = refused.json()["diagnostics"]
    assert {item["code"] for item in found} == {code}
    assert len(refused.content) < MAX_HISTORY_BYTES
    assert taken.status_code == 201


async def test_hostile_inputs_are_refused_or_taken_and_the_next_one_runs(lab: Lab, temporal_address: str) -> None:
    task = """
name: strict
input_schema: {type: object, properties: {text: {type: string, pattern: "^(x+x+)+y$"}}}
main: [{evaluate: $ len(_)}]
"""
    deep: Any = 1
    for _ in range(400):
        deep = {"a": deep}
    async with (
        api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as api,
        lab.worker(),
    ):
        made = await api.http.post("/tasks", content=task, headers={"content-type": "application/yaml"})
        assert made.status_code == 201, made.text
        path = f"/tasks/{made.json()['id']}/executions"
        answers = [
            await api.http.post(path, json={"input": {"text": "x" * 100_000}}),
            await api.http.post(path, json={"input": deep}),
            await api.http.post(path, content=b'{"input": ' + b"[" * 100_000),
        ]
        taken = await api.http.post(path, json={"input": {"text": "x" * 1_000 + "y"}})
        assert taken.status_code == 201, taken.text
        ended = await lab.end_of(lab.client.get_workflow_handle(taken.json()["id"]))
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (400, "input.invalid"),
        (422, "request.invalid"),
        (400, "request.unreadable"),
    ]
    assert all(len(answer.content) < MAX_HISTORY_BYTES for answer in answers)
    assert ended.output == 1
