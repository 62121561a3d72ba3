"""`allow`, `dispatch` and `require` at the edge: API, CLI, and what Temporal is told when an execution starts."""

from __future__ import annotations

import http.server
import json
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.client import wire
from engine.edge.cli.doctor import _check_servers
from engine.edge.cli.exits import Exit
from engine.edge.http import access
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import until
from tests.support.lab import Lab

TASK = """\
name: report
allow: {tools: [fetch], hosts: [a.example]}
dispatch:
  cron: {at: 0 8 * * mon-fri, timezone: Europe/Berlin}
  admission: {singleton: skip}
  labels: [billing, reports]
tools:
  - {name: fetch, api_call: {method: GET, url: "https://a.example/"}}
main:
  - tool: fetch
    arguments: {url: $ _.url}
    on_error: {evaluate: $ error.code}
"""
REQUIRES = """\
name: pays
input_schema: {type: object, properties: {amount: {type: number}}}
require: [{if: _.amount > 0, message: "nothing to pay, only {{ _.amount }}"}]
main:
  - tool: nobody_knows_it
"""


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(tmp_path), temporal="127.0.0.1:1") as server:
        yield server


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.chdir(tmp_path)
    return Cli(api.url, capsys)


def write(name: str, text: str) -> None:
    """Write a file into the present folder."""
    Path(name).write_text(text)


async def put(http: httpx.AsyncClient, text: str) -> dict[str, Any]:
    answer = await http.post("/tasks?by_name=true", content=text, headers={"content-type": "application/yaml"})
    assert answer.status_code in (200, 201), answer.text
    return dict(answer.json())


# --- dispatch ------------------------------------------------------------------------------------------------------


async def test_a_task_shows_its_block(api: ApiServer) -> None:
    made = await put(api.http, TASK)
    assert made["warnings"] == []
    shown = (await api.http.get("/tasks/report")).json()
    assert shown["dispatch"] == {
        "cron": {"at": "0 8 * * mon-fri", "timezone": "Europe/Berlin"},
        "admission": {"singleton": "skip"},
        "labels": ["billing", "reports"],
    }


async def test_a_changed_block_is_a_new_version_with_the_same_plan_and_is_told_apart_from_it(api: ApiServer) -> None:
    first = await put(api.http, TASK)
    second = await put(api.http, TASK.replace("0 8", "0 9").replace("singleton: skip", "singleton: queue"))
    assert (first["version"], second["version"]) == (1, 2)
    assert first["plan_hash"] == second["plan_hash"]
    told = (await api.http.get("/tasks/report/diff")).json()
    assert (told["changes"], told["gains"], told["losses"]) == ([], [], [])
    assert told["dispatch"] == [
        '`cron.at` is "0 9 * * mon-fri", was "0 8 * * mon-fri"',
        '`admission.singleton` is "queue", was "skip"',
    ]


async def test_the_block_of_a_text_that_is_not_stored_is_compared_too(api: ApiServer, cli: Cli) -> None:
    await put(api.http, TASK)
    write("report.yaml", TASK.replace("labels: [billing, reports]", "labels: [billing]\n  priority: 1"))
    code, out, err = await cli("tasks", "diff", "report", "report.yaml")
    assert (code, err) == (Exit.OK, "")
    told = out[out.index("dispatch, beside the plan:") :].splitlines()
    assert told[1:3] == ['  `labels` is ["billing"], was ["billing","reports"]', "  `priority` is new: 1"]
    assert "steps and settings" not in out


# --- authority -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allow", "gains", "losses"),
    [
        ("{tools: [fetch], hosts: [a.example, b.example]}", ["call the host b.example"], []),
        ('{tools: [fetch], hosts: ["*.example"]}', ["call the host *.example"], []),
        ("{tools: [fetch, x], hosts: [a.example]}", [], []),
        (
            "{tools: [fetch]}",
            ["call any host that the operator allows: the address is computed when the step runs"],
            [],
        ),
    ],
)
async def test_a_wider_bound_is_what_a_change_newly_permits(
    api: ApiServer, allow: str, gains: list[str], losses: list[str]
) -> None:
    await put(api.http, TASK)
    await put(api.http, TASK.replace("{tools: [fetch], hosts: [a.example]}", allow))
    told = (await api.http.get("/tasks/report/diff")).json()
    assert (told["gains"], told["losses"]) == (gains, losses)
    assert told["changes"] == [f"the task's allow: {'tools' if 'x' in allow.split('hosts')[0] else 'hosts'} changed"]


async def test_a_narrower_bound_is_what_a_change_no_longer_permits(api: ApiServer) -> None:
    await put(api.http, TASK.replace("allow: {tools: [fetch], hosts: [a.example]}\n", ""))
    await put(api.http, TASK)
    told = (await api.http.get("/tasks/report/diff")).json()
    assert told["changes"] == ["the task has 'allow' now"]
    assert told["gains"] == []
    assert told["losses"] == ["call any host that the operator allows: the address is computed when the step runs"]


async def test_what_a_bound_newly_leaves_to_children_is_told(api: ApiServer) -> None:
    text = "name: parent\nallow: {{tools: [{}], hosts: []}}\nmain: [{{task: child}}]\n"
    await put(api.http, text.format("a"))
    await put(api.http, text.format("a, b"))
    told = (await api.http.get("/tasks/parent/diff")).json()
    assert told["gains"] == ["let the tasks that it runs call the tool 'b'"]
    await put(api.http, text.format("b"))
    told = (await api.http.get("/tasks/parent/diff")).json()
    assert (told["gains"], told["losses"]) == ([], ["let the tasks that it runs call the tool 'a'"])


async def test_what_a_task_can_reach_is_shown_of_a_file_and_of_a_stored_task(api: ApiServer, cli: Cli) -> None:
    await put(api.http, TASK)
    write("report.yaml", TASK)
    wanted = {
        "task": "report",
        "reach": {"tools": ["fetch"], "models": [], "hosts": ["*"], "secrets": [], "tasks": []},
        "allow": {"tools": ["fetch"], "hosts": ["a.example"]},
        "at_run": {"hosts": ["*"]},
        "effects": {"fetch": "read"},
    }
    for name in ("report", "report@1", "report.yaml"):
        assert await cli.json("explain", name, "--authority") == wanted
    code, out, _ = await cli("explain", "--authority", "report")
    assert code == Exit.OK
    lines = out.splitlines()
    hosts = next(number for number, line in enumerate(lines) if line.startswith("  hosts "))
    assert lines[hosts] == "  hosts    any of the hosts, as the step computes it"
    assert lines[hosts + 1].strip() == "allow.hosts: a.example (compared when the step runs)"
    assert "allow.secrets: open" in out
    assert "authority.denied" in out


async def test_authority_of_nothing_or_of_what_there_is_not_is_refused(cli: Cli) -> None:
    assert (await cli("explain", "--authority"))[0] == Exit.USAGE
    code, _, err = await cli("explain", "--authority", "nobody")
    assert code == Exit.NOT_FOUND
    assert "there is no task 'nobody'" in err


# --- require -------------------------------------------------------------------------------------------------------


async def test_an_input_that_a_condition_refuses_stores_nothing(api: ApiServer, cli: Cli) -> None:
    write("pays.yaml", REQUIRES)
    code, _, err = await cli("run", "pays.yaml", "--input", '{"amount": 0}')
    assert code == Exit.USAGE
    assert "nothing to pay, only 0" in err
    assert "nothing was stored or started" in err
    assert (await api.http.get("/tasks")).json()["items"] == []


async def test_a_condition_that_is_wrong_itself_is_reported_at_its_place(api: ApiServer, cli: Cli) -> None:
    write("pays.yaml", REQUIRES.replace("_.amount > 0", "_.amount >"))
    code, _, err = await cli("run", "pays.yaml", "--input", '{"amount": 0}')
    assert code == Exit.USAGE
    assert "pays.yaml:3:" in err
    assert "E301" in err
    assert "E402" in err


async def test_a_task_in_python_is_refused_before_it_is_stored_too(api: ApiServer, cli: Cli) -> None:
    write(
        "pays.py",
        "from engine import Require, Task, evaluate\n\n"
        'pays = Task(main=[evaluate(1)], require=[Require(if_="_.amount > 0", message="no")])\n',
    )
    code, _, err = await cli("run", "pays.py", "--input", '{"amount": 0}')
    assert (code, "does not take this input: no" in err) == (Exit.USAGE, True)
    assert (await api.http.get("/tasks")).json()["items"] == []


# --- starts --------------------------------------------------------------------------------------------------------


async def test_the_labels_of_a_task_stand_on_its_executions_beside_those_of_the_start(
    lab: Lab, temporal_address: str
) -> None:
    async with (
        lab.worker(),
        api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server,
    ):
        made = await put(server.http, TASK)
        body = {"input": {"url": "https://b.example/"}, "labels": ["today", "billing"]}
        started = (await server.http.post(f"/tasks/{made['id']}/executions", json=body)).json()
        # the task has a rule of admission, so that its workflow begins a moment later
        await until(server.http, started["id"], "succeeded")
        described = await lab.client.get_workflow_handle(started["id"]).describe()
    labels = {pair.key.name: pair.value for pair in described.typed_search_attributes}["EverstepLabels"]
    assert labels == ["billing", "reports", "today"]


# --- whose answers these are -------------------------------------------------------------------------------------


async def test_every_answer_bears_the_mark_by_which_the_command_line_knows_everstep(api: ApiServer) -> None:
    assert access.MARK == wire.MARK
    answers = [
        await api.http.get("/healthz"),
        await api.http.get("/nowhere"),
        await api.http.get("/tasks", headers={"host": "evil.example"}),
        await api.http.post("/tasks", content="a: [", headers={"content-type": "application/yaml"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 403, 400]
    assert [answer.headers.get(access.MARK) for answer in answers] == ["1"] * 4


# --- doctor --------------------------------------------------------------------------------------------------------


@pytest.fixture
def waiting_api() -> Iterator[tuple[str, threading.Event]]:
    """An API that answers only once something else was asked as well."""
    other = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if other.wait(4) else 503)
            self.send_header("X-Everstep", "1")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            """Stay silent."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", other
    server.shutdown()
    server.server_close()


async def test_doctor_asks_all_servers_at_the_same_time(
    waiting_api: tuple[str, threading.Event], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, other = waiting_api
    monkeypatch.chdir(tmp_path)
    with socket.socket() as temporal:
        temporal.bind(("127.0.0.1", 0))
        temporal.listen()

        def accept() -> None:
            temporal.accept()[0].close()
            other.set()

        threading.Thread(target=accept, daemon=True).start()
        port = temporal.getsockname()[1]
        findings = await _check_servers(address, None, f"127.0.0.1:{port}", None, tmp_path)
    states = {item.check: item.state for item in findings}
    # asked one after another, the API would have given up before anybody asked Temporal
    assert (states["api"], states["temporal"]) == ("ok", "error")
    assert json.dumps(list(states)) == '["api", "temporal", "backends"]'
