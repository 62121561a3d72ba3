"""Executions for Julep's clients: what their types demand and ours do not say, task tokens, branches, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, MutableMapping
from itertools import pairwise
from typing import Any

import httpx
import pytest
from julep import (
    AsyncJulep,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DefaultAsyncHttpxClient,
    InternalServerError,
    NotFoundError,
    PermissionDeniedError,
    UnprocessableEntityError,
)
from julep._streaming import SSEDecoder
from pydantic import SecretStr

from engine.core.kinds import EventType as T
from engine.edge.http.sse import EventStream, sse_text
from tests.compat.apiserver import ApiServer, api_server, read_stream, settings_for
from tests.compat.test_native_api import create, start, until
from tests.property.test_transition_order import AFTER
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.servers import free_port

ROOT = "sesame"
FERN = {"x-fern-language": "Python", "x-auth-key": ROOT, "authorization": ROOT}
STAINLESS = {"x-stainless-lang": "python", "authorization": f"Bearer {ROOT}"}
ASKS = "name: asks\nmain:\n  - wait_for_input: {info: {q: $ _.q}}\n    label: ask\n  - evaluate: {said: $ _}"
MEASURES = """\
name: measures
main:
  - wait_for_input: {info: how long?, schema: {type: number}}
"""
CALLS = """\
name: calls
tools: [{name: weigh, type: function, function: {parameters: {type: object}}}]
main:
  - tool: weigh
    arguments: {what: $ _.what}
"""
BRANCHES = """\
name: branches
main:
  - over: $ [3, 1, 2]
    parallelism: 3
    map:
      - wait_for_input: {info: {item: $ _}}
      - workflow: twice
        arguments: {n: $ _.n}
    label: all
  - evaluate: {sum: '$ sum([part.twice for part in _])'}
twice:
  - evaluate: {n: $ _.n}
  - evaluate: {twice: $ _.n * 2}
"""
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key=SecretStr(ROOT))
    async with api_server(settings, temporal=temporal_address) as server:
        server.http.headers["authorization"] = f"Bearer {ROOT}"
        yield server


def sdk(api: ApiServer, key: str = ROOT, **more: Any) -> AsyncJulep:
    """Return Julep's client, which refuses answers that are not as its types say and repeats nothing by itself."""
    options: dict[str, Any] = {"max_retries": 0, "timeout": PATIENCE_S, "_strict_response_validation": True, **more}
    return AsyncJulep(
        base_url=f"{api.url}/api", api_key=key, http_client=DefaultAsyncHttpxClient(trust_env=False), **options
    )


@pytest.fixture
async def julep(api: ApiServer) -> AsyncIterator[AsyncJulep]:
    async with sdk(api) as client:
        yield client


async def waiting(api: ApiServer, text: str = ASKS, **given: Any) -> str:
    """Start an execution that waits, and return its id."""
    made = await start(api.http, await create(api.http, text), **given)
    await until(api.http, made["id"], "awaiting_input")
    return str(made["id"])


async def waits_of(api: ApiServer, execution_id: str, **headers: str) -> list[dict[str, Any]]:
    """Return the `wait` transitions of an execution, the oldest first."""
    path = f"/executions/{execution_id}/transitions?direction=asc"
    answer = await api.http.get(path, headers={**STAINLESS, **headers})
    return [item for item in answer.json()["items"] if item["type"] == "wait"]


async def three_waits(api: ApiServer, execution_id: str) -> list[dict[str, Any]]:
    """Wait until three branches wait, and return their transitions."""
    while len(waits := await waits_of(api, execution_id)) < 3:  # noqa: ASYNC110 - nobody tells
        await asyncio.sleep(0.02)
    return waits


async def token_of(api: ApiServer, execution_id: str) -> str:
    return str((await waits_of(api, execution_id))[0]["metadata"]["task_token"])


async def key_of(api: ApiServer, tenant: str, *scopes: str) -> str:
    made = await api.http.post("/keys", json={"name": "key", "tenant": tenant, "scopes": list(scopes)})
    assert made.status_code == 201, made.text
    return str(made.json()["key"])


# --- what their types demand -----------------------------------------------------------------------------------------


async def test_a_failure_is_text_for_the_sdk_and_stays_an_object_for_others(
    lab: Lab, api: ApiServer, julep: AsyncJulep
) -> None:
    task_id = await create(api.http, "name: fails\nmain:\n  - error: out of paper")
    async with lab.worker():
        made = await julep.executions.create(task_id, input={})
        assert made.metadata == {"jobs": [made.id]}
        ours = await until(api.http, made.id, "failed")
    assert (ours["error"]["code"], ours["error"]["message"]) == ("task.error", "out of paper")
    read = await julep.executions.get(made.id)
    (listed,) = (await julep.executions.list(task_id)).items
    (told,) = [event async for event in await julep.executions.status.stream(made.id)]
    for shown in (read, listed, told):
        assert (shown.status, shown.error, shown.transition_count) == ("failed", "out of paper", 2)
        assert shown.model_extra is not None
        assert shown.model_extra["error_details"] == ours["error"]
    assert told.model_extra is not None
    assert told.model_extra["execution_id"] == made.id
    assert read.metadata == {}


async def test_a_failure_tells_the_sdk_its_remedy_too(lab: Lab, api: ApiServer, julep: AsyncJulep) -> None:
    task_id = await create(api.http, "name: slips\nmain:\n  - evaluate: {x: $ _.topc}")
    async with lab.worker():
        made = await julep.executions.create(task_id, input={"topic": 1})
        await until(api.http, made.id, "failed")
    error = (await julep.executions.get(made.id)).error
    assert error == "the object has no key 'topc'; did you mean 'topic'?"


async def test_an_execution_that_stands_still_has_a_status_that_the_sdk_knows(
    lab: Lab, api: ApiServer, julep: AsyncJulep
) -> None:
    sleeps = await create(api.http, "name: sleeps\nmain:\n  - evaluate: {x: 1}\n  - sleep: 1h")
    async with lab.worker():
        asking = await waiting(api, input={"q": "?"})
        sleeping = (await start(api.http, sleeps))["id"]
        await until(api.http, sleeping, "running")
        for execution_id, status in ((asking, "awaiting_input"), (sleeping, "running")):
            assert (await api.http.post(f"/executions/{execution_id}/pause", json={})).status_code == 200
            assert (await api.http.get(f"/executions/{execution_id}")).json()["status"] == "paused"
            assert (await julep.executions.get(execution_id)).status == status
            stream = await julep.executions.status.stream(execution_id)
            assert (await anext(aiter(stream))).status == status
            await stream.close()


async def test_the_client_of_2024_finds_what_it_must(lab: Lab, api: ApiServer) -> None:
    task_id = await create(api.http, BRANCHES.replace("$ [3, 1, 2]", "$ _"))
    five: dict[str, str | int] = {
        "limit": 100,
        "offset": 0,
        "sort_by": "created_at",
        "direction": "desc",
        "metadata_filter": "{}",
    }
    async with lab.worker():
        made = (await api.http.post(f"/tasks/{task_id}/executions", json={"input": [7]}, headers=FERN)).json()
        assert (made["jobs"], made["created_at"] is not None) == ([made["id"]], True)
        await until(api.http, made["id"], "awaiting_input")
        changed = await api.http.put(
            f"/tasks/{task_id}/executions/{made['id']}", json={"status": "running", "input": {"n": 7}}, headers=FERN
        )
        assert (changed.status_code, changed.json()["jobs"]) == (200, [made["id"]])
        await until(api.http, made["id"], "succeeded")
    listed = (await api.http.get(f"/tasks/{task_id}/executions", params=five, headers=FERN)).json()
    assert [item["input"] for item in listed["results"]] == [{"input": [7]}]
    path = f"/executions/{made['id']}/transitions"
    body = (await api.http.get(path, params=five, headers=FERN)).json()
    ((group,),) = [one.values() for one in body["results"]]
    assert {item["type"] for item in group} == {"step", "wait", "resume", "finish"}
    assert all(isinstance(item["output"], dict) for item in group)
    assert (group[0]["current"], group[0]["next"], group[0]["output"]) == (["main", 1], None, {"sum": 14})
    assert [item["id"] for item in group] == [item["id"] for item in body["items"]]
    assert group[-1]["output"] == {"output": [7]}
    ours = (await api.http.get(path)).json()
    assert "results" not in ours
    assert {item["type"] for item in ours["items"]} > {"init", "init_branch", "finish_branch"}
    # another task has none of this execution
    other = await create(api.http, ASKS)
    cancel = {"status": "cancelled", "reason": "enough"}
    answer = await api.http.put(f"/tasks/{other}/executions/{made['id']}", json=cancel, headers=FERN)
    assert (answer.status_code, answer.json()["code"]) == (404, "execution.not_found")


async def test_a_call_that_the_client_makes_is_told_in_julep_s_words_and_its_answer_is_the_output(
    lab: Lab, api: ApiServer, julep: AsyncJulep
) -> None:
    async with lab.worker():
        execution_id = await waiting(api, CALLS, input={"what": "a cat"})
        listed = [item async for item in await julep.executions.transitions.list(execution_id)]
        assert listed[0].type == "wait"
        call: Any = listed[0].output
        assert call == {"function": {"name": "weigh", "arguments": {"what": "a cat"}}, "id": call["id"]} | {
            "type": "function"
        }
        assert call["id"].startswith("call_")
        again = await julep.executions.transitions.retrieve(listed[0].id, execution_id=execution_id)
        assert again.output == call
        ours = (await api.http.get(f"/executions/{execution_id}/transitions")).json()["items"][0]
        assert ours["output"] == {"kind": "function_call", "tool": "weigh", "arguments": {"what": "a cat"}}
        await julep.executions.change_status(execution_id, status="running", input={"kg": 4})
        assert (await until(api.http, execution_id, "succeeded"))["output"] == {"kg": 4}


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_an_answer_without_a_name_is_for_the_wait_that_was_opened_last(
    lab: Lab, api: ApiServer, julep: AsyncJulep
) -> None:
    async with lab.worker():
        execution_id = await waiting(api, BRANCHES)
        waits = await three_waits(api, execution_id)
        ours = await api.http.put(f"/executions/{execution_id}", json={"status": "running", "input": {"n": 1}})
        assert (ours.status_code, ours.json()["code"]) == (409, "answer.ambiguous")
        await julep.executions.change_status(execution_id, status="running", input={"n": 1})
        left = (await api.http.get(f"/executions/{execution_id}")).json()["waits"]
        assert [wait["id"] for wait in left] == [wait["metadata"]["wait_id"] for wait in waits[:2]]


async def test_refusals_are_the_sdk_s_own_exceptions_and_say_that_a_retry_is_pointless(
    lab: Lab, api: ApiServer, julep: AsyncJulep, temporal_address: str
) -> None:
    async with lab.worker():
        execution_id = await waiting(api, MEASURES)
        with pytest.raises(BadRequestError) as bad:
            await julep.executions.change_status(execution_id, status="running", input="long")
        assert "input.rejected" in str(bad.value)
        ours = await api.http.put(f"/executions/{execution_id}", json={"status": "running", "input": "long"})
        assert (ours.status_code, ours.json()["code"]) == (422, "input.rejected")
        await julep.executions.change_status(execution_id, status="running", input=5)
        await until(api.http, execution_id, "succeeded")
    for change in ({"status": "running", "input": 5}, {"status": "cancelled", "reason": None}):
        with pytest.raises(ConflictError) as late:
            await julep.executions.change_status(execution_id, **change)
        assert late.value.response.headers["x-should-retry"] == "false"
    with pytest.raises(NotFoundError):
        await julep.executions.change_status(NOBODY, status="running")
    with pytest.raises(NotFoundError):
        await julep.executions.create(NOBODY, input={})
    with pytest.raises(UnprocessableEntityError):
        await julep.executions.change_status(execution_id, status="succeeded")  # type: ignore[call-overload]
    task_id = await create(api.http, ASKS)
    async with sdk(api, "es_wrong") as stranger, sdk(api, await key_of(api, "default", "read")) as reader:
        with pytest.raises(AuthenticationError):
            await stranger.executions.get(execution_id)
        with pytest.raises(PermissionDeniedError):
            await reader.executions.create(task_id, input={})
        assert (await reader.executions.get(execution_id)).status == "succeeded"
    settings = settings_for(lab.folder, task_queue=lab.queue, api_key=SecretStr(ROOT))
    async with api_server(settings, temporal=temporal_address, answer_timeout_s=0.2) as impatient, sdk(api) as client:
        async with lab.worker():
            execution_id = await waiting(api, MEASURES)
        # nobody is there who could take it
        pending = client.with_options(base_url=f"{impatient.url}/api")
        with pytest.raises(InternalServerError) as nobody:
            await pending.executions.change_status(execution_id, status="running", input=5)
    assert (nobody.value.status_code, nobody.value.response.headers["x-should-retry"]) == (504, "false")


async def test_what_may_be_over_soon_says_that_a_retry_helps(lab: Lab) -> None:
    settings = settings_for(lab.folder, api_key=SecretStr(ROOT))
    async with api_server(settings, temporal=f"127.0.0.1:{free_port()}") as api, sdk(api) as client:
        api.http.headers["authorization"] = f"Bearer {ROOT}"
        task_id = await create(api.http, ASKS)
        with pytest.raises(InternalServerError) as raised:
            await client.executions.create(task_id, input={})
    assert (raised.value.status_code, raised.value.response.headers["x-should-retry"]) == (503, "true")


# --- task tokens -----------------------------------------------------------------------------------------------------


async def test_whoever_has_the_token_of_a_wait_answers_it_without_a_key_and_once(lab: Lab, api: ApiServer) -> None:
    async with lab.worker(), httpx.AsyncClient(base_url=f"{api.url}/api", trust_env=False) as anybody:
        execution_id = await waiting(api, input={"q": "?"})
        token = {"task_token": await token_of(api, execution_id)}
        first = await anybody.post("/executions", params=token, json={"input": "tea", "status": "running"})
        assert (first.status_code, first.json()["id"]) == (200, execution_id)
        # nor does it tell what the execution works with
        assert first.json().keys() == {"id", "status", "created_at", "updated_at", "jobs"}
        again = await anybody.post("/executions", params=token, json={"input": "coffee"})
        assert again.status_code == 200
        assert (await until(api.http, execution_id, "succeeded"))["output"] == {"said": "tea"}
        # it permits nothing else
        assert (await anybody.get(f"/executions/{execution_id}", params=token)).status_code == 401
        assert (await anybody.post("/executions", json={"input": "tea"})).status_code == 422
    events = (await api.http.get(f"/executions/{execution_id}/events")).json()["items"]
    assert [item["body"]["actor"] for item in events if item["type"] == "answer.accepted"] == ["task token"]


async def test_the_client_of_2024_resumes_by_a_token_below_the_task(lab: Lab, api: ApiServer) -> None:
    async with lab.worker():
        execution_id = await waiting(api, input={"q": "?"})
        task_id = (await api.http.get(f"/executions/{execution_id}")).json()["task_id"]
        sent = {"task_token": await token_of(api, execution_id), "input": {"a": 1}, "status": "running"}
        other = await create(api.http, MEASURES)
        refused = await api.http.put(f"/tasks/{other}/executions", json=sent, headers=FERN)
        assert (refused.status_code, refused.json()["code"]) == (403, "task_token.invalid")
        answer = await api.http.put(f"/tasks/{task_id}/executions", json=sent, headers=FERN)
        assert (answer.status_code, answer.json()["jobs"]) == (200, [execution_id])
        assert (await until(api.http, execution_id, "succeeded"))["output"] == {"said": {"a": 1}}


async def test_a_token_is_good_for_its_own_wait_alone(lab: Lab, api: ApiServer) -> None:
    async with lab.worker():
        first, second = await waiting(api, MEASURES), await waiting(api, MEASURES.replace("measures", "again"))
        token = await token_of(api, first)
        body, _, signature = (await token_of(api, second)).partition(".")
        forged = (
            token[:-2] + ("AA" if token[-2:] != "AA" else "BB"),
            f"{token.partition('.')[0]}.{signature}",
            "x",
            "\ud800",
        )
        refused = []
        for wrong in (*forged, f"{body}.", ""):
            sent = json.dumps({"task_token": wrong, "input": 1})
            as_json = {"content-type": "application/json"}
            refused.append(await api.http.put("/tasks/measures/executions", content=sent, headers=as_json))
        assert {(answer.status_code, answer.json()["code"]) for answer in refused} <= {
            (403, "task_token.invalid"),
            (422, "request.invalid"),
        }
        # another tenant can do no more with it than with a forged one
        acme = {"authorization": f"Bearer {await key_of(api, 'acme', 'define')}"}
        theirs = await api.http.post(
            "/tasks", json={"name": "measures", "main": [{"evaluate": {"x": 1}}]}, headers=acme
        )
        assert theirs.status_code == 201
        by_acme = await api.http.put("/tasks/measures/executions", json={"task_token": token, "input": 1}, headers=acme)
        assert (by_acme.status_code, by_acme.json()) == (403, refused[0].json())
        # what does not fit is refused, and the wait stays open; once somebody else has answered it, it is too late
        unfit = await api.http.post("/executions", params={"task_token": token}, json={"input": "long"})
        assert (unfit.status_code, unfit.json()["code"]) == (400, "input.rejected")
        assert (await api.http.put(f"/executions/{first}", json={"status": "running", "input": 2})).status_code == 200
        late = await api.http.post("/executions", params={"task_token": token}, json={"input": 3})
        assert (late.status_code, late.json()["code"]) == (409, "answer.not_waiting")
        assert late.headers["x-should-retry"] == "false"
        assert (await until(api.http, first, "succeeded"))["output"] == 2
        assert (await api.http.get(f"/executions/{second}")).json()["status"] == "awaiting_input"


async def test_only_julep_s_clients_get_tokens_and_only_if_they_may_answer(lab: Lab, api: ApiServer) -> None:
    reads = {**STAINLESS, "authorization": f"Bearer {await key_of(api, 'default', 'read')}"}
    ours = {"authorization": STAINLESS["authorization"]}
    async with lab.worker(), contextlib.AsyncExitStack() as clients:
        execution_id = await waiting(api, input={"q": "?"})
        path = f"/executions/{execution_id}/transitions"
        seen: list[set[str | None]] = []
        for headers in (STAINLESS, FERN, ours, reads):
            http = httpx.AsyncClient(base_url=f"{api.url}/api", headers=headers, trust_env=False)
            await clients.enter_async_context(http)
            (listed,) = [item for item in (await http.get(path)).json()["items"] if item["type"] == "wait"]
            single = (await http.get(f"{path}/{listed['id']}")).json()
            # all of them read the same stream at once
            told = (await read_stream(http, f"{path}.stream", most=2))[1].data
            shown = (listed, single, told.get("transition", told))
            seen.append({item["metadata"].get("task_token") for item in shown})
        token = await token_of(api, execution_id)
    assert seen == [{token}, {token}, {None}, {None}]


# --- branches and streams --------------------------------------------------------------------------------------------


async def test_each_concurrent_branch_tells_its_own_transitions_in_order_and_waits_on_its_own(
    lab: Lab, api: ApiServer, julep: AsyncJulep
) -> None:
    async with lab.worker():
        execution_id = await waiting(api, BRANCHES)
        waits = await three_waits(api, execution_id)
        for left, wait in enumerate(reversed(waits)):
            assert (await julep.executions.get(execution_id)).status == "awaiting_input", left
            token = {"task_token": wait["metadata"]["task_token"]}
            answer = await api.http.post("/executions", params=token, json={"input": {"n": wait["output"]["item"]}})
            assert answer.status_code == 200
        assert (await until(api.http, execution_id, "succeeded"))["output"] == {"sum": 12}
    told = [item async for item in await julep.executions.transitions.list(execution_id, direction="asc", limit=5)]
    branches: dict[tuple[str, str], list[str]] = defaultdict(list)
    for item in told:
        branches[item.current.workflow, item.current.scope_id].append(item.type)
    scope = told[0].current.scope_id
    bodies = [branches[f"main[0].mapreduce[{number}]", scope] for number in range(3)]
    assert bodies == [[T.INIT_BRANCH, T.WAIT, T.RESUME, T.STEP, T.FINISH_BRANCH]] * 3
    assert branches["main", scope] == [T.INIT, T.STEP, T.FINISH]
    subs = [kinds for (workflow, _), kinds in branches.items() if workflow == "twice"]
    assert subs == [[T.INIT_BRANCH, T.STEP, T.FINISH_BRANCH]] * 3
    assert all(after in AFTER[before] for kinds in branches.values() for before, after in pairwise(kinds))
    assert [item.step_label for item in told if item.current.workflow == "main"] == [None, "all", None]
    of_scope = [item async for item in await julep.executions.transitions.list(execution_id, scope_id=scope, limit=4)]
    assert [item.id for item in reversed(of_scope)] == [item.id for item in told if item.current.scope_id == scope]


async def test_an_error_has_the_label_of_the_step_that_failed(lab: Lab, api: ApiServer) -> None:
    failing = "name: fails\nmain:\n  - {if: true, then: {label: pays, error: out of money}}"
    task_id = await create(api.http, failing)
    async with lab.worker():
        execution_id = (await start(api.http, task_id))["id"]
        streamed = (await api.http.get(f"/executions/{execution_id}/transitions.stream")).text
    (listed, *_) = (await api.http.get(f"/executions/{execution_id}/transitions")).json()["items"]
    (read,) = [(await api.http.get(f"/executions/{execution_id}/transitions/{listed['id']}")).json()]
    (told,) = [json.loads(line[5:]) for line in streamed.splitlines() if line.startswith("data:") and "money" in line]
    for shown in (listed, read, told):
        assert (shown["type"], shown["step_label"]) == ("error", "pays")


async def test_the_stream_of_transitions_is_json_and_goes_on_where_it_was_left(
    lab: Lab, api: ApiServer, julep: AsyncJulep
) -> None:
    async with lab.worker():
        execution_id = await waiting(api, input={"q": "?"})
        path = f"/executions/{execution_id}/transitions.stream"
        async with httpx.AsyncClient(base_url=f"{api.url}/api", headers=STAINLESS, trust_env=False) as http:
            begun = await read_stream(http, path, most=2)
            await julep.executions.change_status(execution_id, status="running", input="tea")
            by_id = await read_stream(http, path, last_id=begun[-1].id)
            by_token = await read_stream(http, f"{path}?next_page_token={begun[-1].data['next_page_token']}")
            whole = await read_stream(http, path)
    assert [told.data["transition"]["type"] for told in whole] == ["init", "wait", "resume", "step", "finish"]
    assert whole == begun + by_id
    assert by_token == by_id
    assert all(told.id == told.data["next_page_token"] for told in whole)
    assert whole[-1].data["transition"]["output"] == {"said": "tea"}
    assert {"output", "created_at", "current", "next"} <= whole[-1].data["transition"].keys()
    raw = await julep.executions.transitions.with_raw_response.stream(execution_id)
    assert "[DONE]" not in await raw.text()


async def test_the_stream_of_statuses_begins_at_once_and_ends_with_the_execution(
    lab: Lab, api: ApiServer, julep: AsyncJulep
) -> None:
    async with lab.worker():
        execution_id = await waiting(api, input={"q": "?"})
        statuses: list[str] = []
        async for event in await julep.executions.status.stream(execution_id):
            if not statuses:
                await julep.executions.change_status(execution_id, status="running", input="tea")
            statuses.append(event.status)
    assert (statuses[0], statuses[-1]) == ("awaiting_input", "succeeded")


async def test_a_reader_that_hangs_up_leaves_nothing_behind(lab: Lab, api: ApiServer, julep: AsyncJulep) -> None:
    def followers() -> list[str]:
        # the server runs in this very loop
        return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("follow-")]

    async with lab.worker():
        execution_id = await waiting(api, input={"q": "?"})
        statuses = await julep.executions.status.stream(execution_id)
        await anext(aiter(statuses))
        async with julep.executions.transitions.with_streaming_response.stream(execution_id) as transitions:
            lines = transitions.iter_lines()
            while not (await anext(lines)).startswith("data: "):
                pass
            assert followers() == [f"follow-{execution_id}"]
        await statuses.close()
        while followers():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
        # the connections that were hung up on are all that is gone
        assert (await julep.executions.get(execution_id)).status == "awaiting_input"


async def test_a_silence_is_no_event_for_the_sdk() -> None:
    async def texts() -> AsyncIterator[bytes]:
        for text in (b"", sse_text({"n": 1}, id=1), b"", b"", sse_text({"n": 2}, id=2), b""):
            yield text

    sent: list[bytes] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> dict[str, Any]:
        return await asyncio.Future()

    await EventStream(texts())({"type": "http", "path": "/"}, receive, send)
    assert sum(part.startswith(b":") for part in sent) == 4
    assert [event.json() for event in SSEDecoder().iter_bytes(iter(sent))] == [{"n": 1}, {"n": 2}]
