"""Links to waits: what they permit and nothing else, for browsers and programs; and what they do not give away."""

from __future__ import annotations

import asyncio
import html
import os
import re
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from engine.client import AsyncClient, InvalidInput
from engine.control.links import KEY_FILE, read_signing_key
from engine.edge.cli.exits import Exit
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S

BROWSER = {"accept": "text/html,application/xhtml+xml", "origin": "null", "content-type": ""}
HTML = {"accept": "text/html"}
APPROVE = "name: a\nmain: [{approve: 'Send <b>42</b> \"dollars\"?', label: sure}, {evaluate: $ _}]"
ROOT = {"x-auth-key": "sesame"}


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=temporal_address) as server:
        server.http.headers.update(ROOT)
        yield server


@pytest.fixture
async def anybody() -> AsyncIterator[httpx.AsyncClient]:
    """A client without any key."""
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE_S) as client:
        yield client


async def waiting(http: httpx.AsyncClient, text: str = APPROVE) -> str:
    execution_id = str((await start(http, await create(http, text)))["id"])
    await until(http, execution_id, "awaiting_input")
    return execution_id


async def link_to(http: httpx.AsyncClient, execution_id: str, **body: Any) -> str:
    made = await http.post(f"/executions/{execution_id}/waits/main.0/link", json={"actor": "ada", **body})
    assert made.status_code == 201, made.text
    return str(made.json()["url"])


def buttons(page: str) -> dict[str, str]:
    """Return the values of a page's buttons by their words."""
    return {
        html.unescape(words): html.unescape(value)
        for value, words in re.findall(r'<button name="choice" value="([^"]*)">([^<]*)</button>', page)
    }


# --- the page --------------------------------------------------------------------------------------------------------


async def test_somebody_approves_in_a_browser_without_a_key(
    lab: Lab, api: ApiServer, anybody: httpx.AsyncClient
) -> None:
    async with lab.worker():
        execution_id = await waiting(api.http)
        url = await link_to(api.http, execution_id)
        page = await anybody.get(url, headers=HTML)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "Send &lt;b&gt;42&lt;/b&gt; &quot;dollars&quot;?" in page.text
        assert buttons(page.text) == {"Approve": '{"approved": true}', "Reject": '{"approved": false}'}
        # to look at it changes nothing
        assert (await api.http.get(f"/executions/{execution_id}")).json()["status"] == "awaiting_input"

        sent = {"choice": buttons(page.text)["Approve"], "reason": "fine <3"}
        done = await anybody.post(url, data=sent, headers={**HTML, "origin": "null"})
        assert (done.status_code, "Thank you" in done.text, "fine &lt;3" in done.text) == (200, True, True)
        ended = await until(api.http, execution_id, "succeeded")
        assert ended["output"] == {"approved": True, "reason": "fine <3"}
        again = await anybody.post(url, data={"choice": '{"approved": false}'}, headers=HTML)
        assert (again.status_code, "fine &lt;3" in again.text) == (200, True)
    items = (await api.http.get(f"/executions/{execution_id}/events")).json()["items"]
    (accepted,) = [item["body"] for item in items if item["type"] == "answer.accepted"]
    assert accepted["actor"] == "ada via root"


async def test_the_page_is_kept_by_nobody_and_runs_nothing(
    lab: Lab, api: ApiServer, anybody: httpx.AsyncClient
) -> None:
    async with lab.worker():
        url = await link_to(api.http, await waiting(api.http))
        for answer in (await anybody.get(url, headers=HTML), await anybody.get(f"{url}x", headers=HTML)):
            headers = answer.headers
            assert headers["cache-control"] == "no-store"
            assert headers["referrer-policy"] == "no-referrer"
            assert headers["x-frame-options"] == "DENY"
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; style-src 'sha256-")
            assert "script" not in policy
            assert "<script" not in answer.text
            assert "http" not in re.sub(r"http-equiv", "", answer.text.replace("</html>", ""))


@pytest.mark.parametrize(
    ("schema", "sent", "output"),
    [
        ("{type: boolean}", {"choice": "true"}, True),
        ("{enum: [red, 2]}", {"choice": "2"}, 2),
        ("{type: string}", {"text": 'say "hi" <b>'}, 'say "hi" <b>'),
        ("{type: object, required: [n]}", {"text": '{"n": 1}'}, {"n": 1}),
    ],
)
async def test_the_form_is_made_for_the_answer_that_is_wanted(
    lab: Lab, api: ApiServer, anybody: httpx.AsyncClient, schema: str, sent: dict[str, str], output: Any
) -> None:
    text = f"name: f\nmain: [{{wait_for_input: {{info: x, schema: {schema}}}}}, {{evaluate: $ _}}]"
    async with lab.worker():
        execution_id = await waiting(api.http, text)
        url = await link_to(api.http, execution_id)
        page = (await anybody.get(url, headers=HTML)).text
        if "choice" in sent:
            assert sent["choice"] in buttons(page).values()
        else:
            assert '<textarea name="text"' in page
        assert (await anybody.post(url, data=sent, headers=HTML)).status_code == 200
        assert (await until(api.http, execution_id, "succeeded"))["output"] == output


async def test_an_answer_that_does_not_fit_changes_nothing_and_says_why(
    lab: Lab, api: ApiServer, anybody: httpx.AsyncClient
) -> None:
    text = "name: f\nmain: [{wait_for_input: {info: x, schema: {type: integer}}}, {evaluate: $ _}]"
    async with lab.worker():
        execution_id = await waiting(api.http, text)
        url = await link_to(api.http, execution_id)
        for sent, status in (({"text": "many"}, 422), ({"text": '"many"'}, 422), ({"text": ""}, 422)):
            page = await anybody.post(url, data=sent, headers=HTML)
            assert (page.status_code, "This did not work" in page.text) == (status, True), sent
            assert 'href="?token=' in page.text
        told = await anybody.post(url, json={"value": "many"})
        assert (told.status_code, told.json()["code"]) == (422, "input.rejected")
        assert (await anybody.post(url, json={"valu": 1})).status_code == 422
        assert (await anybody.post(url, data={"text": "7"}, headers=HTML)).status_code == 200
        assert (await until(api.http, execution_id, "succeeded"))["output"] == 7


# --- what a link permits ---------------------------------------------------------------------------------------------


async def test_a_program_sees_what_is_asked_and_answers_once(
    lab: Lab, api: ApiServer, anybody: httpx.AsyncClient
) -> None:
    async with lab.worker():
        execution_id = await waiting(api.http)
        url, other = await link_to(api.http, execution_id), await link_to(api.http, execution_id, actor="eve")
        shown = (await anybody.get(url)).json()
        assert (shown["open"], shown["label"], shown["actor"]) == (True, "sure", "ada via root")
        assert shown["info"] == 'Send <b>42</b> "dollars"?'
        first = (await anybody.post(url, json={"value": {"approved": False}})).json()
        assert (first["open"], first["answer"], first["answered_by"]) == (False, {"approved": False}, "ada via root")
        again = await anybody.post(url, json={"value": {"approved": True}})
        assert (again.status_code, again.json()["answer"]) == (200, {"approved": False})
        # another link to the same wait is too late, and does not see what was answered
        late = await anybody.post(other, json={"value": {"approved": True}})
        assert (late.status_code, late.json()["code"]) == (409, "answer.not_waiting")
        seen = (await anybody.get(other)).json()
        assert (seen["open"], seen["answer"], seen["outcome"]) == (False, None, "answered")
        assert "has answered this already" in (await anybody.get(other, headers=HTML)).text


async def test_a_link_offers_the_values_that_it_was_made_for_and_no_others(
    lab: Lab, api: ApiServer, anybody: httpx.AsyncClient
) -> None:
    async with lab.worker():
        execution_id = await waiting(api.http)
        yes = {"approved": True, "reason": "by mail"}
        url = await link_to(api.http, execution_id, values=[yes])
        assert list(buttons((await anybody.get(url, headers=HTML)).text)) == [
            '{\n  "approved": true,\n  "reason": "by mail"\n}'
        ]
        refused = await anybody.post(url, json={"value": {"approved": False}})
        assert (refused.status_code, refused.json()["code"]) == (422, "input.rejected")
        assert (await anybody.post(url, json={"value": yes})).status_code == 200
        assert (await until(api.http, execution_id, "succeeded"))["output"] == yes


async def test_the_values_of_a_link_are_those_of_json_where_one_is_not_true(
    lab: Lab, api: ApiServer, anybody: httpx.AsyncClient
) -> None:
    async with lab.worker():
        execution_id = await waiting(api.http, "name: j\nmain: [{wait_for_input: {info: x}}, {evaluate: $ _}]")
        url = await link_to(api.http, execution_id, values=[{"n": [1]}, False])
        for value in ({"n": [True]}, 0, {"n": [2]}):
            refused = await anybody.post(url, json={"value": value})
            assert (refused.status_code, refused.json()["code"]) == (422, "input.rejected"), value
        # a program that knows one kind of number writes it as it likes
        assert (await anybody.post(url, json={"value": {"n": [1.0]}})).status_code == 200
        assert (await until(api.http, execution_id, "succeeded"))["output"] == {"n": [1]}


async def test_a_link_that_was_changed_or_is_too_old_opens_nothing(
    lab: Lab, api: ApiServer, anybody: httpx.AsyncClient
) -> None:
    async with lab.worker():
        execution_id = await waiting(api.http)
        url = await link_to(api.http, execution_id)
        token = url.partition("token=")[2]
        body, _, signature = token.partition(".")
        for wrong in (
            "x",
            f"{body}.",
            f".{signature}",
            f"{body[:-2]}AA.{signature}",
            f"{body}.{signature[:-3]}AAA",
            "ü.ü",
        ):
            for method in ("GET", "POST"):
                options: dict[str, Any] = {"params": {"token": wrong}}
                if method == "POST":
                    options["json"] = {"value": {"approved": True}}
                told = await anybody.request(method, f"{api.url}/api/link", **options)
                assert (told.status_code, told.json()["code"]) == (403, "link.invalid"), wrong
        assert (await anybody.get(f"{api.url}/api/link")).status_code == 422

        old = await link_to(api.http, execution_id, expires_in=0.001)
        await asyncio.sleep(0.01)
        told = await anybody.post(old, json={"value": {"approved": True}})
        assert (told.status_code, told.json()["code"]) == (410, "link.expired")
        page = await anybody.get(old, headers=HTML)
        assert (page.status_code, "this link has expired" in page.text) == (410, True)
        assert (await api.http.get(f"/executions/{execution_id}")).json()["status"] == "awaiting_input"
        # nor is the token good for anything else
        for headers in ({"authorization": f"Bearer {token}"}, {"x-auth-key": token}):
            assert (await anybody.get(f"{api.url}/api/executions", headers=headers)).status_code == 401


async def test_without_a_worker_the_answer_by_a_link_is_pending_and_counts_once(
    lab: Lab, api: ApiServer, anybody: httpx.AsyncClient, temporal_address: str
) -> None:
    async with lab.worker():
        execution_id = await waiting(api.http)
        url = await link_to(api.http, execution_id)
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key=SecretStr("sesame"))
    async with api_server(settings, temporal=temporal_address, answer_timeout_s=0.2) as hasty:
        there = url.replace(api.url, hasty.url)
        told = await anybody.post(there, json={"value": {"approved": True}})
        assert (told.status_code, told.json()["code"]) == (504, "answer.pending")
    async with lab.worker():
        assert (await anybody.post(url, json={"value": {"approved": True}})).status_code == 200
        assert (await until(api.http, execution_id, "succeeded"))["output"] == {"approved": True}


# --- making one ------------------------------------------------------------------------------------------------------


async def test_links_are_made_for_open_waits_alone(lab: Lab, api: ApiServer) -> None:
    async with lab.worker():
        execution_id = await waiting(api.http)
        for path, body, status, code in (
            ("main.7", {"actor": "ada"}, 409, "answer.not_waiting"),
            ("main.0", {}, 422, "request.invalid"),
            ("main.0", {"actor": ""}, 422, "request.invalid"),
            ("main.0", {"actor": "ada", "expires_in": "soon"}, 400, "link.bad_option"),
            ("main.0", {"actor": "ada", "expires_in": -1}, 400, "link.bad_option"),
            ("main.0", {"actor": "ada", "expires_in": "9999d"}, 400, "link.bad_option"),
            ("main.0", {"actor": "ada", "values": [1]}, 422, "input.rejected"),
            ("main.0", {"actor": "ada", "values": []}, 422, "request.invalid"),
        ):
            refused = await api.http.post(f"/executions/{execution_id}/waits/{path}/link", json=body)
            assert (refused.status_code, refused.json()["code"]) == (status, code), body


async def test_a_link_is_stored_nowhere_and_has_the_address_that_is_set(
    lab: Lab, temporal_address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(lab.folder, task_queue=lab.queue, public_url="https://flows.example/es/")
    async with lab.worker(), api_server(settings, temporal=temporal_address) as api, AsyncClient(api.url) as client:
        execution_id = await waiting(api.http)
        made = await client.link(execution_id, "main.0", actor="ada", expires_in="2h")
        assert made["url"].startswith("https://flows.example/es/api/link?token=")
        key = {"Idempotency-Key": "k"}
        path = f"/executions/{execution_id}/waits/main.0/link"
        urls = [(await api.http.post(path, json={"actor": "a"}, headers=key)).json()["url"] for _ in range(2)]
        assert len(set(urls)) == 2
        with pytest.raises(InvalidInput):
            await client.link(execution_id, "main.0", actor="ada", values=[1])
        cli = Cli(api.url, capsys)
        code, out, err = await cli("link", execution_id, "--for", "ada@example.org", "--wait-id", "sure")
        assert (code, out.startswith("https://flows.example/es/api/link?token=")) == (Exit.OK, True)
        assert err.startswith("ada@example.org may answer main.0 with it until ")
    tokens = [url.partition("token=")[2] for url in [made["url"], *urls, out.strip()]]
    for file in lab.folder.rglob("*"):
        if file.is_file():
            told = file.read_bytes()
            assert not [token for token in tokens if token.encode() in told], file


def test_the_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        made = read_signing_key(None, tmp_path / "data")
    finally:
        os.umask(before)
    file = tmp_path / "data" / KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert len(made) == 64
    assert read_signing_key(None, tmp_path / "data") == made
    assert list(file.parent.iterdir()) == [file]
    assert read_signing_key(SecretStr("k" * 32), tmp_path) == b"k" * 32
    with pytest.raises(InvalidInput) as short:
        read_signing_key(SecretStr("k" * 31), tmp_path)
    assert short.value.code == "config.invalid"
