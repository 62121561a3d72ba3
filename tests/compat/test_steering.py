"""Pause, continue, breaks, deadlines, cancel and terminate: over HTTP, from the command line and from the client."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from engine.client import AsyncClient, Conflict, Unavailable
from engine.edge.cli.exits import Exit
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

pytestmark = pytest.mark.usefixtures("both_stores")

ASK = """\
name: ask
main:
  - {wait_for_input: {info: one}, label: first}
  - {wait_for_input: {info: two, deadline: 30d, default: late}, label: second}
  - evaluate: $ outputs
"""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
def http(api: ApiServer) -> httpx.AsyncClient:
    return api.http


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


async def waiting(http: httpx.AsyncClient, text: str = ASK) -> str:
    """Start an execution and return its id once it waits."""
    execution_id = str((await start(http, await create(http, text)))["id"])
    await until(http, execution_id, "awaiting_input")
    return execution_id


async def open_wait(http: httpx.AsyncClient, execution_id: str, label: str) -> dict[str, Any]:
    """Return the open wait of a label, once there is one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            waits = (await http.get(f"/executions/{execution_id}")).json()["waits"]
            if waits and waits[0]["label"] == label:
                return dict(waits[0])
            await asyncio.sleep(0.02)


async def paused_before(http: httpx.AsyncClient, execution_id: str, path: str) -> dict[str, Any]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            view = await until(http, execution_id, "paused")
            if view["paused"]["at"] == path:
                return view
            await asyncio.sleep(0.02)


async def events(http: httpx.AsyncClient, execution_id: str, kind: str) -> list[dict[str, Any]]:
    items = (await http.get(f"/executions/{execution_id}/events", params={"limit": 900})).json()["items"]
    return [item["body"] for item in items if item["type"] == kind]


# --- pause and continue ----------------------------------------------------------------------------------------------


async def test_a_paused_execution_takes_answers_and_goes_on_when_it_is_continued(
    http: httpx.AsyncClient, lab: Lab
) -> None:
    async with lab.worker():
        execution_id = await waiting(http)
        body = {"reason": "the bank is down", "actor": "ada"}
        paused = await http.post(f"/executions/{execution_id}/pause", json=body)
        assert (paused.status_code, paused.json()["status"]) == (200, "paused")
        view = (await http.get(f"/executions/{execution_id}")).json()
        assert view["paused"] == {**view["paused"], "at": None, "reason": "the bank is down", "actor": "ada"}
        assert [wait["label"] for wait in view["waits"]] == ["first"]
        listed = (await http.get("/executions", params={"status": "paused"})).json()["items"]
        assert [item["id"] for item in listed] == [execution_id]

        answer = {"status": "running", "input": 1, "wait_id": "main.0"}
        assert (await http.put(f"/executions/{execution_id}", json=answer)).json()["status"] == "paused"
        went_on = await http.post(f"/executions/{execution_id}/continue", json={"actor": "bob"})
        assert went_on.status_code == 200
        assert (await open_wait(http, execution_id, "second"))["path"] == "main.1"
        again = await http.post(f"/executions/{execution_id}/continue", json={})
        assert (again.status_code, again.json()["code"]) == (409, "control.not_paused")
    told = await events(http, execution_id, "execution.continued")
    assert [item["actor"] for item in told] == ["bob"]


async def test_a_repeated_key_has_the_first_outcome_and_is_no_second_pause(http: httpx.AsyncClient, lab: Lab) -> None:
    async with lab.worker():
        execution_id = await waiting(http)
        key = {"Idempotency-Key": "mine"}
        first = await http.post(f"/executions/{execution_id}/pause", json={}, headers=key)
        again = await http.post(f"/executions/{execution_id}/pause", json={}, headers=key)
        assert (first.status_code, again.status_code, again.json()["id"]) == (200, 200, execution_id)
        # the API remembers no PATCH: the execution knows the key itself
        for deadline, actor in (("2h", "ada"), ("3h", "bob")):
            body = {"deadline": deadline, "actor": actor}
            sent = {"Idempotency-Key": "other"}
            answer = await http.patch(f"/executions/{execution_id}/waits/main.0", json=body, headers=sent)
            assert answer.status_code == 200
    assert len(await events(http, execution_id, "execution.paused")) == 1
    (told,) = await events(http, execution_id, "deadline.changed")
    assert told["actor"] == "ada"


async def test_a_key_that_was_used_for_something_else_is_refused(api: ApiServer, lab: Lab) -> None:
    async with lab.worker(), AsyncClient(api.url) as client:
        execution_id = await waiting(api.http)
        await client.set_deadline(execution_id, "main.0", "2h", key="one")
        # the API remembers no PATCH: the execution itself knows what the key was for
        with pytest.raises(Conflict) as refused:
            await client.pause(execution_id, key="one")
        assert refused.value.code == "idempotency.key_reused"
        assert (await client.get(execution_id)).status == "awaiting_input"


async def test_without_a_worker_a_pause_is_pending_and_has_its_effect_later(
    lab: Lab, api: ApiServer, temporal_address: str
) -> None:
    execution_id = str((await start(api.http, await create(api.http, ASK)))["id"])
    settings = settings_for(lab.folder, task_queue=lab.queue)
    async with api_server(settings, temporal=temporal_address, answer_timeout_s=0.2) as hasty:
        async with AsyncClient(hasty.url) as client:
            with pytest.raises(Unavailable) as pending:
                await client.pause(execution_id, key="now", actor="ada")
        assert (pending.value.code, pending.value.details) == ("control.pending", {"key": "now"})
        answer = await hasty.http.post(f"/executions/{execution_id}/pause", json={}, headers={"Idempotency-Key": "n"})
        assert answer.status_code == 504
    async with lab.worker(), AsyncClient(api.url) as client:
        shown = await client.pause(execution_id, key="now", actor="ada")
        assert shown.status == "paused"
        assert (await client.get(execution_id)).paused is not None


# --- breaks ----------------------------------------------------------------------------------------------------------


async def test_an_execution_pauses_before_its_breaks(lab: Lab, api: ApiServer, cli: Cli) -> None:
    task_id = await create(api.http, "name: b\nmain: [{evaluate: 1}, {evaluate: 2, label: two}, {evaluate: 3}]")
    async with lab.worker():
        execution_id = (await start(api.http, task_id, break_at=["two"]))["id"]
        view = await until(api.http, execution_id, "paused")
        assert (view["paused"]["at"], view["paused"]["actor"]) == ("main.1", None)
        _, out, _ = await cli("describe", execution_id)
        assert "paused   before main.1 since" in out
        assert f"go on with: everstep continue {execution_id}" in out
        assert (await cli("continue", execution_id, "--break-at", "main.2"))[0] == Exit.OK
        view = await paused_before(api.http, execution_id, "main.2")
        assert view["paused"]["breaks"] == ["main.2"]
        assert (await cli("continue", execution_id, "--no-breaks"))[0] == Exit.OK
        assert (await until(api.http, execution_id, "succeeded"))["output"] == 3
    code, _, err = await cli("break", execution_id, "main.1")
    assert (code, "execution.closed" in err) == (Exit.FAILED, True)


async def test_breaks_that_name_no_step_are_refused_whole(lab: Lab, api: ApiServer, cli: Cli) -> None:
    async with lab.worker():
        execution_id = await waiting(api.http)
        code, _, err = await cli("break", execution_id, "main.1", "nowhere")
        assert (code, "control.bad_path" in err) == (Exit.FAILED, True)
        assert (await cli("break", execution_id, "second", "main.2", "--actor", "ada"))[0] == Exit.OK
        assert (await cli("break", execution_id, "--none"))[0] == Exit.OK
    told = await events(api.http, execution_id, "breaks.changed")
    assert [(item["breaks"], item["actor"]) for item in told] == [(["second", "main.2"], "ada"), ([], "")]
    assert (await cli("break", execution_id))[0] == Exit.USAGE
    assert (await cli("break", execution_id, "main.1", "--none"))[0] == Exit.USAGE


# --- deadlines -------------------------------------------------------------------------------------------------------


async def test_a_deadline_is_moved_away_and_near(lab: Lab, api: ApiServer, cli: Cli) -> None:
    async with lab.worker(), AsyncClient(api.url) as client:
        execution_id = await waiting(api.http)
        assert (await open_wait(api.http, execution_id, "first"))["deadline"] is None
        shown = await client.set_deadline(execution_id, "main.0", dt.timedelta(hours=2), actor="ada")
        (wait,) = shown.waits
        left = dt.datetime.fromisoformat(wait.deadline or "") - dt.datetime.now(dt.UTC)
        assert dt.timedelta(minutes=110) < left < dt.timedelta(minutes=130)
        moment = dt.datetime.now(dt.UTC).replace(microsecond=0) + dt.timedelta(days=400)
        (wait,) = (await client.set_deadline(execution_id, "main.0", moment)).waits
        assert dt.datetime.fromisoformat(wait.deadline or "") == moment
        assert (await cli("deadline", execution_id, "none"))[0] == Exit.OK
        assert (await open_wait(api.http, execution_id, "first"))["deadline"] is None
        await client.answer(execution_id, "a")
        await open_wait(api.http, execution_id, "second")
        assert (await cli("deadline", execution_id, "0s", "--wait-id", "second"))[0] == Exit.OK
        assert (await until(api.http, execution_id, "succeeded"))["output"] == ["a", "late"]


async def test_a_sleep_is_shortened(lab: Lab, api: ApiServer, cli: Cli) -> None:
    task_id = await create(api.http, "name: s\nmain: [{sleep: 30d}, {evaluate: awake}]")
    async with lab.worker():
        execution_id = (await start(api.http, task_id))["id"]
        await until(api.http, execution_id, "running", "starting")
        code, _, err = await cli("deadline", execution_id, "none", "--wait-id", "main.0")
        assert (code, "control.sleep_needs_deadline" in err) == (Exit.FAILED, True)
        assert (await cli("deadline", execution_id, "1ms", "--wait-id", "main.0"))[0] == Exit.OK
        assert (await until(api.http, execution_id, "succeeded"))["output"] == "awake"


@pytest.mark.parametrize("given", ["tomorrow", "2026-12-24T18:00:00", 1e12, "9999999d", "", {"a": 1}, [1]])
async def test_what_is_no_deadline_is_refused(http: httpx.AsyncClient, given: Any) -> None:
    execution_id = str((await start(http, await create(http, ASK)))["id"])
    answer = await http.patch(f"/executions/{execution_id}/waits/main.0", json={"deadline": given})
    assert (answer.status_code, answer.json()["code"]) in [(400, "request.invalid"), (422, "request.invalid")]
    nothing = await http.patch(f"/executions/{execution_id}/waits/main.0", json={})
    assert nothing.status_code == 422


@pytest.mark.parametrize("given", [True, False, -1, "2020-01-01T00:00:00Z", "1960-01-01T00:00:00+02:00"])
async def test_a_deadline_that_has_passed_or_is_no_number_is_refused_and_changes_nothing(
    http: httpx.AsyncClient, lab: Lab, given: Any
) -> None:
    async with lab.worker():
        execution_id = await waiting(http)
        answer = await http.patch(f"/executions/{execution_id}/waits/main.0", json={"deadline": given})
        assert answer.status_code == (422 if isinstance(given, bool) else 400)
        assert answer.json()["code"] == "request.invalid"
        assert (await open_wait(http, execution_id, "first"))["deadline"] is None


async def test_a_wait_that_is_not_there_has_no_deadline(http: httpx.AsyncClient, lab: Lab) -> None:
    async with lab.worker():
        execution_id = await waiting(http)
        answer = await http.patch(f"/executions/{execution_id}/waits/main.9", json={"deadline": "1h"})
        assert (answer.status_code, answer.json()["code"]) == (409, "control.no_wait")


# --- cancel and terminate --------------------------------------------------------------------------------------------


async def test_a_cancel_that_comes_again_changes_nothing(api: ApiServer, lab: Lab, cli: Cli) -> None:
    async with lab.worker(), AsyncClient(api.url) as client:
        execution_id = await waiting(api.http)
        await client.cancel(execution_id, reason="first", actor="ada")
        await until(api.http, execution_id, "cancelled")
        again = await client.cancel(execution_id, reason="second", actor="bob")
        assert again.error == {"code": "execution.cancelled", "message": "first", "details": {"actor": "ada"}}
        assert (await cli("cancel", execution_id))[0] == Exit.OK
        for what in ("pause", "continue", "terminate"):
            refused = await api.http.post(f"/executions/{execution_id}/{what}", json={})
            assert (refused.status_code, refused.json()["code"]) == (409, "execution.closed"), what


async def test_a_cancel_ends_a_pause(http: httpx.AsyncClient, lab: Lab) -> None:
    async with lab.worker():
        execution_id = await waiting(http)
        await http.post(f"/executions/{execution_id}/pause", json={})
        await http.put(f"/executions/{execution_id}", json={"status": "cancelled", "reason": "no more"})
        done = await until(http, execution_id, "cancelled")
    assert done["paused"] is None


async def test_who_terminated_an_execution_and_why_is_known(lab: Lab, api: ApiServer, cli: Cli) -> None:
    text = f"{ASK}finally: [{{evaluate: never}}]\n"
    async with lab.worker(), AsyncClient(api.url) as client:
        execution_id = await waiting(api.http, text)
        shown = await client.terminate(execution_id, reason="runs away", actor="ada")
        told = {"code": "execution.terminated", "message": "runs away", "details": {"actor": "ada"}}
        assert (shown.status, shown.error) == ("failed", told)
        assert (await client.terminate(execution_id, reason="again", actor="bob")).error == told
        assert (await cli("terminate", execution_id))[0] == Exit.OK
    _, out, _ = await cli("history", execution_id)
    assert "the execution was ended by ada: execution.terminated: runs away" in out
    assert not [item for item in await events(api.http, execution_id, "init_branch") if item["path"] == "finally"]


async def test_without_a_worker_an_execution_is_terminated_all_the_same(api: ApiServer) -> None:
    execution_id = str((await start(api.http, await create(api.http, ASK)))["id"])
    ended = await api.http.post(f"/executions/{execution_id}/terminate", json={"reason": "no worker"})
    assert (ended.status_code, ended.json()["status"]) == (200, "failed")
    assert ended.json()["error"]["message"] == "no worker"


async def test_a_termination_without_a_reason_is_told_in_our_words(api: ApiServer) -> None:
    execution_id = str((await start(api.http, await create(api.http, ASK)))["id"])
    await api.http.post(f"/executions/{execution_id}/terminate", json={"actor": "ada"})
    error = (await api.http.get(f"/executions/{execution_id}")).json()["error"]
    message = "an operator terminated the execution"
    assert error == {"code": "execution.terminated", "message": message, "details": {"actor": "ada"}}


async def test_an_event_is_sent_from_everywhere_and_taken_once(lab: Lab, api: ApiServer, cli: Cli) -> None:
    text = "name: e\nmain: [{wait_for_event: paid, label: a}, {wait_for_event: paid, label: b}, {evaluate: $ outputs}]"
    task_id = await create(api.http, text.replace("$ outputs", "'$ outputs'"))
    async with lab.worker(), AsyncClient(api.url) as client:
        execution_id = (await start(api.http, task_id))["id"]
        await client.send_event(execution_id, "paid", 1, event_id="one", actor="ada")
        await client.send_event(execution_id, "paid", 1, event_id="one", actor="ada")
        assert (await cli("event", execution_id, "paid", "--input", "2", "--id", "two"))[0] == Exit.OK
        assert (await until(api.http, execution_id, "succeeded"))["output"] == [1, 2]
