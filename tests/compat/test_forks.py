"""Retry and fork against a real server: what is called again, what is different, and what is refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from engine.client import AsyncClient, Conflict, InvalidInput, NotFound
from engine.edge.cli.exits import Exit
from tests.compat.apiserver import ApiServer, api_server, settings_for
from tests.compat.test_cli_catalog import Cli
from tests.compat.test_native_api import create, start, until
from tests.support.lab import Lab
from tests.support.patience import PATIENCE_S
from tests.support.receiver import Receiver
from tests.support.servers import serve_app
from tests.workflow.test_reindex import delete_workflow

ORDER = """\
name: order
input_schema: {type: object, required: [url]}
tools:
  - {name: post, type: api_call, effect: write, idempotent: true, api_call: {method: POST, url: http://nowhere.example}}
main:
  - {set: {limit: 100}}
  - {tool: post, arguments: {url: "$ input.url + '/first'", json: {step: first}}, label: first, retry: {attempts: 1}}
  - over: $ range(3)
    map:
      tool: post
      arguments: {url: "$ input.url + '/each'", json: {item: $ _}}
      retry: {attempts: 1}
    label: all
  - tool: post
    arguments: {url: "$ input.url + '/pay' + input.get('query', '')", json: {limit: $ state.limit}}
    retry: {attempts: 1}
    label: pay
  - evaluate:
      paid: $ _.json.got
      first: $ steps.first.output.json.path
      items: $ [item.json.got['item'] for item in steps['all'].output]
"""


@pytest.fixture
async def api(lab: Lab, temporal_address: str) -> AsyncIterator[ApiServer]:
    async with api_server(settings_for(lab.folder, task_queue=lab.queue), temporal=temporal_address) as server:
        yield server


@pytest.fixture
def cli(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(api.url, capsys)


@pytest.fixture
async def client(api: ApiServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(api.url) as opened:
        yield opened


@pytest.fixture
async def outside() -> AsyncIterator[tuple[Receiver, str]]:
    """A service that the steps call, and its address."""
    receiver = Receiver()
    async with serve_app(receiver) as url:
        yield receiver, url


def steps_called(receiver: Receiver) -> Counter[str]:
    """Return how often the receiver was called, by the last part of the key (the path of the step)."""
    found: Counter[str] = Counter()
    for key, number in receiver.keys.items():
        found[key.partition(":")[2]] += number
    return found


async def ended(client: AsyncClient, execution_id: str) -> Any:
    return await client.wait(execution_id, timeout_s=PATIENCE_S)


ALL = {"main.1": 1, "main.2.map[0].0": 1, "main.2.map[1].0": 1, "main.2.map[2].0": 1, "main.3": 1}


async def test_after_an_outage_a_retry_calls_nothing_that_was_done_and_pays_with_the_same_key(
    lab: Lab, api: ApiServer, client: AsyncClient, cli: Cli, outside: tuple[Receiver, str]
) -> None:
    receiver, url = outside
    await create(api.http, ORDER)
    async with lab.worker():
        # the first request with a key is refused, the second one is not
        given = {"url": url, "query": "?fail=1"}
        broken = await client.start("order", given, labels=["vip"], metadata={"n": 1})
        assert (await ended(client, broken.id)).error["step"] == "main.3"
        assert steps_called(receiver) == ALL

        code, out, err = await cli("retry", broken.id, "--actor", "ada", "--key", "again")
        assert (code, err) == (Exit.OK, f"begins with main.3 of execution {broken.id}\n")
        made = await ended(client, out.strip())
        assert (made.status, made.labels, made.metadata) == ("succeeded", ("vip",), {"n": 1})
        assert made.output == {"paid": {"limit": 100}, "first": "/first", "items": [0, 1, 2]}
        assert made.forked == {"kind": "retry", "execution_id": broken.id, "path": "main.3"}
        assert steps_called(receiver) == {**ALL, "main.3": 2}
        assert receiver.keys[f"{broken.id}:main.3"] == 2, "a receiver knows the call again"

        # once more with the key: the same execution, and nothing is called
        assert (await cli("retry", broken.id, "--actor", "ada", "--key", "again"))[:2] == (Exit.OK, out)
        assert steps_called(receiver) == {**ALL, "main.3": 2}
    view = (await api.http.get(f"/executions/{made.id}")).json()
    assert (view["actor"], view["input"]) == ("ada", given)
    _, out, _ = await cli("describe", made.id)
    assert f"forked   retry of {broken.id}, from main.3 on\n" in out


async def test_a_fork_has_other_outputs_another_state_and_calls_of_its_own(
    lab: Lab, api: ApiServer, client: AsyncClient, cli: Cli, outside: tuple[Receiver, str]
) -> None:
    receiver, url = outside
    await create(api.http, ORDER)
    async with lab.worker():
        done = await ended(client, (await client.start("order", {"url": url})).id)
        assert done.output == {"paid": {"limit": 100}, "first": "/first", "items": [0, 1, 2]}
        patched = {"json": {"path": "/made-up"}}
        made = await client.fork(done.id, at="pay", patch={"first": patched}, state={"limit": 7}, labels=["b"])
        made = await ended(client, made.id)
        assert made.output == {"paid": {"limit": 7}, "first": "/made-up", "items": [0, 1, 2]}
        assert (made.labels, made.forked and made.forked["kind"]) == (("b",), "fork")
        assert steps_called(receiver) == {**ALL, "main.3": 2}
        assert receiver.keys[f"{made.id}:main.3"] == 1

        words = ["--from", "main.2.map[1].0", "--patch", "main.0={}", "--label", "c"]
        code, out, _ = await cli("fork", done.id, *words)
        assert code == Exit.OK
        again = await ended(client, out.strip())
        assert again.status == "failed", "the state has no limit any more"
        assert again.error["code"] == "expression.no_key"
        called = {**ALL, "main.3": 2, "main.2.map[1].0": 2}
        assert steps_called(receiver) == called


async def test_a_fork_with_another_input_keeps_what_was_recorded(
    lab: Lab, api: ApiServer, client: AsyncClient, outside: tuple[Receiver, str]
) -> None:
    receiver, url = outside
    await create(api.http, ORDER)
    async with lab.worker():
        done = await ended(client, (await client.start("order", {"url": url})).id)
        made = await ended(client, (await client.fork(done.id, at="pay", input={"url": f"{url}/elsewhere"})).id)
        assert (made.status, made.input) == ("succeeded", {"url": f"{url}/elsewhere"})
        assert steps_called(receiver) == {**ALL, "main.3": 2}
        with pytest.raises(InvalidInput) as refused:
            await client.fork(done.id, at="pay", input={"ur": 1})
        assert refused.value.code == "input.invalid"


async def test_an_edited_task_goes_on_from_what_was_recorded_if_that_is_the_same_in_both(
    lab: Lab, api: ApiServer, client: AsyncClient, cli: Cli, outside: tuple[Receiver, str]
) -> None:
    receiver, url = outside
    task_id = await create(api.http, ORDER)
    async with lab.worker():
        broken = await ended(client, (await client.start("order", {"url": url, "query": "?status=500"})).id)
        edited = ORDER.replace(" + input.get('query', '')", "").replace("      paid:", "      fixed:")
        put = await api.http.put(f"/tasks/{task_id}", content=edited, headers={"content-type": "application/yaml"})
        assert put.json()["version"] == 2
        made = await ended(client, (await client.retry(broken.id, definition="newest")).id)
        assert (made.status, made.task_version) == ("succeeded", 2)
        assert made.output["fixed"] == {"limit": 100}
        assert steps_called(receiver) == {**ALL, "main.3": 2}
        own = await ended(client, (await client.retry(broken.id)).id)
        assert (own.status, own.task_version) == ("failed", 1)

        other = edited.replace("json: {item: $ _}", "json: {item: $ _ + 1}")
        await api.http.put(f"/tasks/{task_id}", content=other, headers={"content-type": "application/yaml"})
        code, _, err = await cli("retry", broken.id, "--definition", "newest")
        assert (code, "fork.prefix_differs" in err, "main.2.map" not in err) == (Exit.USAGE, True, True)
        assert "main.2 is another step" in err
        # before the step that differs, it can begin
        made = await ended(client, (await client.fork(broken.id, at="main.2", definition="order@3")).id)
        assert made.output["items"] == [1, 2, 3]


async def test_a_map_of_which_an_item_failed_calls_that_item_alone(
    lab: Lab, api: ApiServer, client: AsyncClient, outside: tuple[Receiver, str]
) -> None:
    receiver, url = outside
    text = """\
name: wide
tools:
  - {name: post, type: api_call, effect: write, idempotent: true, api_call: {method: POST, url: http://nowhere.example}}
main:
  - over: $ range(6)
    map:
      - tool: post
        arguments: {url: "$ input.url + ('/a?fail=1' if _ == 3 else '/a')", json: {item: $ _}}
        retry: {attempts: 1}
      - evaluate: $ _.json.got['item']
    parallelism: 1
"""
    await create(api.http, text)
    async with lab.worker():
        broken = await ended(client, (await client.start("wide", {"url": url})).id)
        assert broken.error["step"] == "main.0.map[3].0"
        made = await ended(client, (await client.retry(broken.id)).id)
        assert made.output == [0, 1, 2, 3, 4, 5]
        twice = [key for key, number in receiver.keys.items() if number > 1]
        assert twice == [f"{broken.id}:main.0.map[3].0"]


async def test_what_was_undone_is_done_again_under_new_keys(
    lab: Lab, api: ApiServer, client: AsyncClient, outside: tuple[Receiver, str]
) -> None:
    receiver, url = outside
    text = """\
name: trip
tools:
  - {name: post, type: api_call, effect: write, idempotent: true, api_call: {method: POST, url: http://nowhere.example}}
main:
  - {tool: post, arguments: {url: "$ input.url + '/look'", json: 1}}
  - tool: post
    arguments: {url: "$ input.url + '/book'", json: 2}
    undo: [{tool: post, arguments: {url: "$ input.url + '/back'", json: 3}}]
  - {tool: post, arguments: {url: "$ input.url + '/pay?fail=1'", json: 4}, retry: {attempts: 1}}
"""
    await create(api.http, text)
    async with lab.worker():
        broken = await ended(client, (await client.start("trip", {"url": url})).id)
        made = await client.retry(broken.id)
        assert made.forked == {"kind": "retry", "execution_id": broken.id, "path": "main.1"}
        await ended(client, made.id)
        assert receiver.keys[f"{made.id}:main.1"] == 1
        assert receiver.keys[f"{broken.id}:main.1"] == 1
        assert steps_called(receiver)["main.0"] == 1


@pytest.mark.parametrize("undo", [False, True])
async def test_a_task_that_failed_is_run_again_under_the_same_keys_unless_it_took_something_back(
    lab: Lab, api: ApiServer, client: AsyncClient, outside: tuple[Receiver, str], undo: bool
) -> None:
    receiver, url = outside
    back = ", undo: [{evaluate: back}]" if undo else ""
    text = f"""\
name: kid
tools:
  - {{name: post, type: api_call, effect: write, idempotent: true, api_call: {{method: POST, url: http://nowhere.example}}}}
main:
  - {{tool: post, arguments: {{url: "$ input.url + '/book'", json: 1}}{back}}}
  - {{tool: post, arguments: {{url: "$ input.url + '/pay?fail=1'", json: 2}}, retry: {{attempts: 1}}}}
"""
    await create(api.http, text)
    await create(api.http, "name: parent\nmain: [{evaluate: 1}, {task: kid, arguments: {url: $ input.url}}]")
    async with lab.worker():
        broken = await ended(client, (await client.start("parent", {"url": url})).id)
        assert (broken.status, broken.error["step"]) == ("failed", "main.1")
        made = await ended(client, (await client.retry(broken.id)).id)
        # under new keys, the payment is refused once more
        assert made.status == ("failed" if undo else "succeeded")
        assert sorted(receiver.keys.values()) == ([1, 1, 1, 1] if undo else [2, 2])


async def test_a_running_execution_is_forked_and_a_retry_of_a_retry_keeps_the_keys(
    lab: Lab, api: ApiServer, client: AsyncClient, outside: tuple[Receiver, str]
) -> None:
    receiver, url = outside
    text = """\
name: waits
tools:
  - {name: post, type: api_call, effect: write, idempotent: true, api_call: {method: POST, url: http://nowhere.example}}
main:
  - {evaluate: $ now().isoformat(), label: began}
  - {wait_for_input: {info: x}, label: sure}
  - {tool: post, arguments: {url: "$ input.url + '/p?fail=2'", json: 1}, retry: {attempts: 1}}
  - evaluate: $ steps.began.output
"""
    await create(api.http, text)
    async with lab.worker():
        open_one = await client.wait(
            (await client.start("waits", {"url": url})).id, until_waiting=True, timeout_s=PATIENCE_S
        )
        forked = await client.wait(
            (await client.fork(open_one.id, at="sure")).id, until_waiting=True, timeout_s=PATIENCE_S
        )
        assert [wait.label for wait in forked.waits] == ["sure"]
        with pytest.raises(Conflict) as refused:
            await client.retry(open_one.id)
        assert refused.value.code == "fork.not_ended"
        with pytest.raises(InvalidInput) as early:
            await client.fork(open_one.id, at="main.3")
        assert early.value.code == "fork.bad_point"

        await client.answer(open_one.id, 1)
        first = await ended(client, open_one.id)
        second = await ended(client, (await client.retry(first.id)).id)
        third = await ended(client, (await client.retry(second.id)).id)
        assert (first.status, second.status, third.status) == ("failed", "failed", "succeeded")
        assert receiver.keys[f"{first.id}:main.2"] == 3
        began = [item async for item in client.events(first.id) if item["body"].get("path") == "main.0"]
        assert third.output == began[0]["body"]["output"]


async def test_a_cancelled_one_goes_on_with_what_was_under_way(lab: Lab, api: ApiServer, client: AsyncClient) -> None:
    task = "name: c\nmain: [{evaluate: 1}, {if: '$ True', then: [{evaluate: 2}, {wait_for_input: {info: x}}]}]"
    await create(api.http, task)
    async with lab.worker():
        started = await client.wait((await client.start("c")).id, until_waiting=True, timeout_s=PATIENCE_S)
        await client.cancel(started.id)
        await ended(client, started.id)
        made = await client.retry(started.id)
        assert made.forked is not None
        assert made.forked["path"] == "main.1.then.1"
        made = await client.wait(made.id, until_waiting=True, timeout_s=PATIENCE_S)
        await client.answer(made.id, "yes")
        assert (await ended(client, made.id)).output == "yes"


async def test_what_cannot_be_forked_is_refused_and_starts_nothing(
    lab: Lab, api: ApiServer, client: AsyncClient
) -> None:
    text = "name: r\nmain: [{evaluate: 1, label: a}, {if: '$ True', then: [{evaluate: 2}]}, {evaluate: 3}]\n"
    await create(api.http, text + "finally: [{evaluate: 4}]\n")
    async with lab.worker():
        done = await ended(client, (await client.start("r")).id)
        for options, code in (
            ({"at": "main.9"}, "fork.bad_point"),
            ({"at": "nobody"}, "fork.bad_point"),
            ({"at": "finally.0"}, "fork.bad_point"),
            ({"at": "main.2", "patch": {"main.1.then.0": 1}}, "fork.not_recorded"),
            ({"at": "main.1", "patch": {"main.1": 1}}, "fork.not_recorded"),
            ({"at": "main.2", "break_at": ["main.7"]}, "break.unknown_step"),
        ):
            with pytest.raises(InvalidInput) as refused:
                await client.fork(done.id, **options)
            assert refused.value.code == code
        with pytest.raises(NotFound):
            await client.fork(done.id, at="main.2", definition="r@7")
        with pytest.raises(Conflict) as none:
            await client.fork(done.id)
        assert none.value.code == "fork.no_failed_step"
        with pytest.raises(Conflict) as ok:
            await client.retry(done.id)
        assert ok.value.code == "fork.not_ended"
        assert len([item async for item in client.executions()]) == 1
        made = await client.fork(done.id, at="main.2", break_at=["main.2"])
        assert (await until(api.http, made.id, "paused"))["paused"]["at"] == "main.2"


async def test_an_execution_whose_events_are_incomplete_is_not_built_upon(
    lab: Lab, api: ApiServer, client: AsyncClient
) -> None:
    await create(api.http, "name: g\nmain: [{evaluate: 1}, {evaluate: 2}, {wait_for_input: {info: x}}]")
    async with lab.worker():
        started = await client.wait((await client.start("g")).id, until_waiting=True, timeout_s=PATIENCE_S)
        async with lab.store.database.write() as connection:
            await connection.execute(text("DELETE FROM events WHERE seq = 2"))
        with pytest.raises(Conflict) as refused:
            await client.fork(started.id, at="main.2")
        assert refused.value.code == "fork.history_unverified"
        await lab.store.mark_verified(started.id, tenant="default", verified=False)
        with pytest.raises(Conflict) as refused:
            await client.fork(started.id, at="main.2")
        assert refused.value.code == "fork.history_unverified"


async def test_a_fork_works_when_temporal_has_forgotten_the_execution(
    lab: Lab, api: ApiServer, client: AsyncClient
) -> None:
    await create(api.http, "name: old\nmain: [{evaluate: $ 1 + 1}, {evaluate: $ _ + 1}]")
    async with lab.worker():
        done = await ended(client, (await client.start("old")).id)
        await delete_workflow(lab, done.id)
        made = await ended(client, (await client.fork(done.id, at="main.1", patch={"main.0": 40})).id)
    assert made.output == 41


@pytest.mark.parametrize("what", ["retry", "fork"])
async def test_bodies_that_are_wrong_are_refused(api: ApiServer, what: str) -> None:
    execution_id = (await start(api.http, await create(api.http, "name: b\nmain: [{evaluate: 1}]")))["id"]
    wrong: tuple[dict[str, Any], ...] = (
        {"at": 1},
        {"patch": []},
        {"from": "main.0"},
        {"state": 1},
        {"definition": ""},
        {"break_at": "x"},
    )
    for body in wrong:
        answer = await api.http.post(f"/executions/{execution_id}/{what}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (422, "request.invalid"), body
    unknown: httpx.Response = await api.http.post(f"/executions/nope/{what}", json={})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "execution.not_found")
