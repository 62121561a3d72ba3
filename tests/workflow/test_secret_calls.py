"""Secrets of the store in tool calls on Temporal: sent by the worker, and nowhere in what is kept of an execution."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from engine import tool
from engine.core.errors import CompileError, EngineError
from engine.core.plan.ir import Plan
from engine.core.plan.reach import reach_of
from engine.tooling import ToolContext
from tests.support.lab import Lab, plan_of
from tests.support.servers import serve_app

CANARY = "c4nary/of+Ada=and more"
LOGIN = "s3same-open"


class Echo:
    """A service that shows what it was sent, in every part of its answer."""

    def __init__(self) -> None:
        self.seen: list[dict[str, Any]] = []
        self.failures = 0
        self.app = FastAPI()
        self.app.api_route("/{path:path}", methods=["GET", "POST"])(self.answer)

    async def answer(self, request: Request, path: str) -> JSONResponse:
        """Answer with what came, as often as wanted with an error."""
        body = (await request.body()).decode()
        sent = {"path": path, "query": str(request.url.query), "headers": dict(request.headers), "body": body}
        self.seen.append(sent)
        headers = {"X-Echo": request.headers.get("authorization", "-")}
        if self.failures:
            self.failures -= 1
            return JSONResponse({"wrong": sent}, 503, headers)
        return JSONResponse({"echo": sent}, 200, headers)


@contextlib.asynccontextmanager
async def echo() -> AsyncIterator[tuple[Echo, str]]:
    """Serve the echo."""
    service = Echo()
    async with serve_app(service.app) as url:
        yield service, url


def called(url: str, arguments: str, more: str = "") -> str:
    """Return a task that calls the echo, and evaluates what came back."""
    return f"""
name: called
tools:
  - name: fetch
    effect: read
    api_call: {{method: POST, url: "{url}/things"}}
main:
  - tool: fetch
    arguments: {arguments}
{more}
  - evaluate: {{got: $ _.json.echo, header: "$ _.headers['x-echo']", raw: $ _.content}}
"""


async def all_that_is_kept(lab: Lab, handle: Any) -> str:
    """Return the raw history and the stored events of an execution as one text."""
    history = "".join([str(event.SerializeToString(), "latin-1") async for event in handle.fetch_history_events()])
    return history + repr(await lab.events(handle))


def forms_of(secret: str) -> set[str]:
    """Return pieces by which a secret would be found."""
    encoded = {base64.b64encode(bytes(before) + secret.encode()).decode()[4:-4] for before in range(3)}
    return {secret, secret[:8], *encoded}


# --- what is sent --------------------------------------------------------------------------------------------------


async def test_arguments_with_secrets_are_filled_where_the_call_is_made(lab: Lab) -> None:
    await lab.set_secret("crm", CANARY)
    await lab.set_secret("login", LOGIN)
    arguments = """
      headers: {X-Expr: '$ f"Bearer {secrets.login}"', X-Template: "Token {{ secrets.login }}!"}
      json:
        whole: $ secrets.crm
        deep: [{x: "$ 'a' + secrets['crm']"}]
        basic: "$ base64.b64encode('a:' + secrets.crm)"
      params: {q: $ secrets.crm}
"""
    async with echo() as (service, url), lab.worker():
        handle = await lab.start(called(url, arguments))
        ended = await lab.end_of(handle)
        await lab.until(handle, "finish")
        kept = await all_that_is_kept(lab, handle)
    [sent] = service.seen
    basic = base64.b64encode(f"a:{CANARY}".encode()).decode()
    assert (sent["headers"]["x-expr"], sent["headers"]["x-template"]) == (f"Bearer {LOGIN}", f"Token {LOGIN}!")
    assert sent["body"].count(CANARY) == 2
    assert basic in sent["body"]
    assert ended.output["got"]["headers"]["x-expr"] == "Bearer ***"
    assert ended.output["got"]["query"] == "q=***"
    assert "‹secret:crm›" in ascii_back(kept)
    for secret in (CANARY, LOGIN):
        assert [form for form in forms_of(secret) if form in kept + repr(ended)] == []


def ascii_back(kept: str) -> str:
    """Return a text whose bytes were read as latin-1 as what it is."""
    return kept.encode("latin-1", "replace").decode("utf-8", "replace") + kept


async def test_a_definition_with_secrets_is_filled_for_every_call(lab: Lab) -> None:
    await lab.set_secret("crm", CANARY)
    async with echo() as (service, url), lab.worker():
        text = called(url, "{}").replace(
            '/things"}', '/things", headers: {X-Key: "Key {{ secrets.crm }}"}, json: {k: $ secrets.crm}}'
        )
        plan = plan_of(text)
        handle = await lab.start(plan)
        ended = await lab.end_of(handle)
        await lab.until(handle, "finish")
        kept = await all_that_is_kept(lab, handle)
    assert service.seen[0]["headers"]["x-key"] == f"Key {CANARY}"
    assert reach_of(plan).secrets == ("crm",)
    assert ended.output["got"]["headers"]["x-key"] == "Key ***"
    assert [form for form in forms_of(CANARY) if form in kept + repr(ended)] == []


async def test_text_that_looks_like_a_reference_is_only_text(lab: Lab) -> None:
    await lab.set_secret("crm", CANARY)
    given = {
        "a": "‹secret:crm›",
        "b": "{{ secrets.crm }}",
        "c": "$ secrets.crm",
        "d": {"secret": "crm"},
        "e": {"at": ["json"], "parts": [{"secret": "crm"}]},
        "secrets": [{"at": ["json", "a"], "parts": [{"secret": "crm"}]}],
    }
    async with echo() as (service, url), lab.worker():
        ended = await lab.run(called(url, "{json: $ _, headers: {X-Also: $ secrets.crm}}"), given)
    assert ended.error is None
    assert CANARY not in service.seen[0]["body"]
    assert service.seen[0]["headers"]["x-also"] == CANARY
    assert "{{ secrets.crm }}" in service.seen[0]["body"]


async def test_a_python_tool_gets_the_value_and_what_it_tells_of_it_is_taken_out(lab: Lab) -> None:
    got: list[str] = []

    @tool(effect="read")
    def talkative(key: str, fail: bool, ctx: ToolContext) -> dict[str, Any]:
        """Tell everything."""
        got.append(key)
        ctx.progress(f"with {key}")
        if fail:
            raise ValueError(f"{'x' * 1_990}{key} is wrong: {key}")
        return {key: [key, f"({key})"]}

    await lab.set_secret("crm", CANARY)
    lab.tools = [talkative]
    text = """
name: t
main:
  - tool: talkative
    arguments: {key: $ secrets.crm, fail: false}
  - tool: talkative
    arguments: {key: $ secrets.crm, fail: true}
    on_error: {evaluate: {error: $ error, before: $ _}}
"""
    async with lab.worker():
        handle = await lab.start(text)
        ended = await lab.end_of(handle)
        await lab.until(handle, "finish")
        kept = await all_that_is_kept(lab, handle)
    assert got == [CANARY, CANARY]
    assert ended.output["error"]["code"] == "tool.failed"
    assert [form for form in forms_of(CANARY) if form in kept + repr(ended)] == []


# --- failures ------------------------------------------------------------------------------------------------------


async def test_a_repeated_call_and_one_that_fails_show_nothing(lab: Lab) -> None:
    await lab.set_secret("crm", CANARY)
    handler = "on_error: {evaluate: {json: {echo: $ error}, headers: {x-echo: -}, content: -}}"
    more = f"    retry: {{attempts: 3, initial: 0.01}}\n    {handler}"
    with structlog.testing.capture_logs() as lines:
        async with echo() as (service, url), lab.worker():
            service.failures = 5
            arguments = "{url: \"$ '" + url + "/bot' + secrets.crm\", headers: {Authorization: $ secrets.crm}}"
            handle = await lab.start(called(url, arguments, more))
            ended = await lab.end_of(handle)
            await lab.until(handle, "finish")
            kept = await all_that_is_kept(lab, handle)
    assert len(service.seen) == 3
    assert ended.output["got"]["code"] == "tool.http_status"
    assert "***" in ended.output["got"]["message"]
    assert [form for form in forms_of(CANARY) if form in kept + repr(ended) + repr(lines)] == []


async def test_a_missing_secret_is_told_before_anything_is_called(lab: Lab) -> None:
    async with echo() as (service, url), lab.worker():
        more = "    retry: {attempts: 3, initial: 0.01}"
        ended = await lab.run(called(url, "{headers: {A: $ secrets.nowhere}}", more))
    assert ended.error is not None
    assert ended.error["code"] == "secret.missing"
    assert "everstep secrets set nowhere" in ended.error["hint"]
    assert service.seen == []
    assert "nowhere" in ended.error["message"]


async def test_the_secrets_of_another_tenant_are_missing(lab: Lab) -> None:
    await lab.set_secret("crm", CANARY, tenant="globex")
    async with echo() as (service, url), lab.worker():
        ended = await lab.run(called(url, "{headers: {A: $ secrets.crm}}"))
    assert ended.error is not None
    assert ended.error["code"] == "secret.missing"
    assert service.seen == []


async def test_arguments_that_do_not_fit_with_the_secret_in_them_do_not_show_it(lab: Lab) -> None:
    @tool(effect="read")
    def picky(key: str) -> str:
        """Take a key."""
        return key

    await lab.set_secret("crm", CANARY)
    contract = picky.contract()
    assert isinstance(contract.parameters, dict)
    contract.parameters["properties"]["key"] = {"type": "string", "maxLength": 3}
    lab.tools = [picky]
    plan = plan_of("name: t\nmain:\n  - {tool: picky, arguments: {key: $ secrets.crm}}\n", [picky])
    plan.tools["picky"].parameters["properties"]["key"] = {"type": "string", "enum": ["a"]}
    async with lab.worker():
        ended = await lab.run(plan)
    assert ended.error is not None
    assert ended.error["code"] == "tool.bad_arguments"
    assert [form for form in forms_of(CANARY) if form in repr(ended)] == []


# --- what is permitted ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["[]", "[other]"])
async def test_a_bound_on_secrets_holds_when_the_task_is_written(bound: str) -> None:
    with pytest.raises(CompileError) as raised:
        plan_of(f"allow: {{secrets: {bound}}}\n{called('http://a.example', '{headers: {A: $ secrets.crm}}')}")
    assert {found.code for found in raised.value.diagnostics} == {"E411"}


async def test_a_bound_on_secrets_holds_for_names_that_are_computed(lab: Lab) -> None:
    from engine.core.plan.grant import Grant

    await lab.set_secret("crm", CANARY)
    async with echo() as (service, url), lab.worker():
        open_plan = plan_of(called(url, "{headers: {A: '$ secrets[_.which]'}}"))
        bounded = dataclasses.replace(open_plan, allow=Grant(secrets=("other",)))
        assert (await lab.run(open_plan, {"which": "crm"})).error is None
        ended = await lab.run(bounded, {"which": "crm"})
    assert ended.error is not None
    assert ended.error["code"] == "authority.denied"
    assert len(service.seen) == 1


async def test_a_child_does_not_read_what_its_parent_may_not(lab: Lab) -> None:
    await lab.set_secret("crm", CANARY)
    async with echo() as (service, url), lab.worker():
        await lab.definitions.create_task(called(url, "{headers: {A: $ secrets.crm}}"), tenant="default")
        parent = "name: parent\nallow: {secrets: [other]}\nmain:\n  - task: called\n    arguments: {}\n"
        ended = await lab.run(parent)
    assert ended.error is not None
    assert ended.error["code"] == "authority.denied"
    assert service.seen == []


PLACES = {
    "a value": "- evaluate: {x: $ secrets.crm}",
    "a template": '- evaluate: {x: "a {{ secrets.crm }}"}',
    "the state": "- set: {x: $ secrets.crm}",
    "a log": '- log: "{{ secrets.crm }}"',
    "a result": "- return: $ secrets.crm",
    "an error": '- error: "{{ secrets.crm }}"',
    "a condition": "- {if: secrets.crm == 'a', then: [{evaluate: 1}]}",
    "a when": "- {evaluate: 1, when: secrets.crm}",
    "a prompt": '- prompt: "{{ secrets.crm }}"',
    "settings of a prompt": "- {prompt: hi, settings: {seed: $ secrets.crm}}",
    "a loop": "- {foreach: {in: '[secrets.crm]', do: [{evaluate: 1}]}}",
    "a wait": "- wait_for_input: {info: $ secrets.crm}",
    "another task": "- {task: other, arguments: {x: $ secrets.crm}}",
    "a sub-workflow": "- {workflow: main, arguments: {x: $ secrets.crm}}",
    "a check": "- {prompt: hi, check: [{if: secrets.crm == 1}]}",
    "a key of a cache": "- {prompt: hi, cache: {ttl: 1m, key: $ secrets.crm}}",
}


@pytest.mark.parametrize("step", PLACES.values(), ids=PLACES)
def test_a_secret_where_it_would_be_kept_or_told_is_refused_when_the_task_is_written(step: str) -> None:
    with pytest.raises(EngineError) as raised:
        plan_of(f"name: t\nmain:\n  {step}\n")
    assert isinstance(raised.value, CompileError)
    found = {finding.code for finding in raised.value.diagnostics if finding.code.startswith("E")}
    assert found == {"E412"} or found == {"E412", "E409"}
    assert "arguments" in raised.value.render()


@pytest.mark.parametrize("kind", ["type: function", "system: {resource: execution, operation: create}"])
def test_a_secret_for_a_tool_that_hands_it_on_is_refused_when_the_task_is_written(kind: str) -> None:
    text = f"name: t\ntools: [{{name: f, {kind}}}]\nmain:\n"
    text += "  - {tool: f, arguments: {task: x, input: $ secrets.crm}}\n"
    with pytest.raises(CompileError) as raised:
        plan_of(text)
    assert {found.code for found in raised.value.diagnostics if found.code.startswith("E")} == {"E412"}


async def test_a_secret_gets_into_no_other_execution(lab: Lab) -> None:
    await lab.set_secret("crm", CANARY)
    await lab.definitions.create_task("name: other\nmain: [{evaluate: $ _}]", tenant="default")

    @tool()
    def f(task: str, input: Any) -> str:
        """Stand for a tool that was another one when the task was checked."""
        return f"{task} {input}"

    text = "name: t\nmain:\n  - {tool: f, arguments: {task: other, input: $ secrets.crm}}\n"
    plan = plan_of(text, [f])
    system = "tools: [{name: f, system: {resource: execution, operation: create}}]\n"
    contracts = plan_of(f"{system}{text.replace('$ secrets.crm', '1')}").tools
    async with lab.worker():
        ended = await lab.run(dataclasses.replace(plan, tools=contracts))
    assert ended.error is not None
    assert (ended.error["code"], "kept in tasks" in ended.error["message"]) == ("expression.secret", True)


@pytest.mark.parametrize(
    "expression",
    [
        "secrets.crm == 'a'",
        "'b' if secrets.crm else 'c'",
        "secrets.crm[0]",
        "len(secrets.crm)",
        "str(secrets.crm)",
        "json.dumps([secrets.crm])",
        "secrets",
        "sorted([secrets.crm, 'a'])",
        "secrets['a b']",
    ],
)
async def test_whatever_would_look_into_a_secret_fails_before_anything_is_called(lab: Lab, expression: str) -> None:
    await lab.set_secret("crm", CANARY)
    async with echo() as (service, url), lab.worker():
        ended = await lab.run(called(url, "{json: {x: " + repr_yaml(expression) + "}}"))
    assert ended.error is not None
    assert ended.error["code"].startswith("expression.")
    assert service.seen == []


def repr_yaml(expression: str) -> str:
    """Return an expression as a quoted value of YAML."""
    return '"$ ' + expression.replace('"', '\\"') + '"'


# --- approvals -----------------------------------------------------------------------------------------------------


async def test_a_call_that_a_person_approved_is_made_with_its_secrets(lab: Lab) -> None:
    await lab.set_secret("crm", CANARY)
    async with echo() as (service, url), lab.worker():
        text = called(url, "{headers: {A: $ secrets.crm, B: $ secrets.crm}, json: {n: 1}}").replace(
            "effect: read", "effect: read\n    approve: true"
        )
        handle = await lab.start(text)
        asked = await lab.until(handle, "wait")
        changed = {"headers": {"A": "‹secret:crm›", "B": "none"}, "json": {"n": "‹secret:crm›"}}
        await lab.answer(handle, {"approved": True, "arguments": changed}, wait_id="")
        ended = await lab.end_of(handle)
    assert ended.error is None
    assert "‹secret:crm›" in repr(asked)
    [sent] = service.seen
    assert (sent["headers"]["a"], sent["headers"]["b"]) == (CANARY, "none")
    # what stands where there was none is text, whatever it looks like
    assert CANARY not in sent["body"]


async def test_calls_at_the_same_time_have_each_its_own_secrets(lab: Lab) -> None:
    for number in range(8):
        await lab.set_secret(f"k{number}", f"value-of-{number}-only")
    text = called("URL", "{headers: {A: '$ secrets[_]'}}")
    async with echo() as (service, url), lab.worker():
        plans = [lab.run(text.replace("URL", url), f"k{number}") for number in range(8)]
        ended = await asyncio.gather(*plans)
    assert {sent["headers"]["a"] for sent in service.seen} == {f"value-of-{number}-only" for number in range(8)}
    assert [each.output["header"] for each in ended] == ["-"] * 8
    assert "only" not in repr([each.output["got"]["headers"] for each in ended])


def test_a_plan_without_secrets_says_nothing_of_them() -> None:
    from engine.core.plan.codec import plan_to_json

    plan: Plan = plan_of(called("http://a.example", "{}"))
    assert "secrets" not in repr(plan_to_json(plan))


# --- redirects -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False])
async def test_a_redirect_to_somebody_else_gets_no_secret(lab: Lab, inside: bool) -> None:
    await lab.set_secret("crm", CANARY)
    async with echo() as (service, _), echo() as (stranger, elsewhere), lab.worker():
        gate = FastAPI()

        @gate.api_route("/{path:path}", methods=["GET", "POST"])
        async def sent_on(path: str) -> Any:
            from fastapi.responses import RedirectResponse

            if path == "end":
                return JSONResponse({"echo": {}}, 200, {"X-Echo": "-"})
            return RedirectResponse("/end" if inside else f"{elsewhere}/taken", 307)

        async with serve_app(gate) as gate_url:
            ended = await lab.run(called(gate_url, "{headers: {X-Key: $ secrets.crm}, follow_redirects: true}"))
    assert (stranger.seen, service.seen) == ([], [])
    if inside:
        assert ended.error is None
    else:
        assert ended.error is not None
        assert ended.error["code"] == "tool.redirect_refused"
        assert CANARY not in repr(ended)
