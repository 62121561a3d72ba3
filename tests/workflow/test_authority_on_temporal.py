"""`allow` and `dispatch` on the real Temporal server: refused calls reach nobody, crons are as it has them."""

from __future__ import annotations

import random
import uuid

import pytest
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec
from temporalio.service import RPCError, RPCStatusCode

from engine.core.spec.cron import cron_problems
from tests.support.lab import TENANT, Lab
from tests.support.receiver import Receiver
from tests.support.servers import serve_app
from tests.unit.test_cron import BAD, GOOD

CALLS = """
name: calls
allow: {{hosts: ["{host}"], models: [small]}}
tools:
  - {{name: send, api_call: {{method: POST, url: "https://elsewhere.example/"}}}}
main:
  - tool: send
    arguments: {{url: $ _.url, json: {{n: 1}}}}
    on_error: {{evaluate: $ error.code}}
  - prompt: hello
    model: $ inputs[0].model
    on_error: {{evaluate: {{send: $ _, ask: $ error.code}}}}
"""


# --- calls ---------------------------------------------------------------------------------------------------------


async def test_what_is_computed_beyond_the_bound_is_never_sent(lab: Lab) -> None:
    receiver = Receiver()
    async with serve_app(receiver) as url, lab.worker():
        task = CALLS.format(host="127.0.0.1:1")
        ended = await lab.run(task, {"url": f"{url}/x", "model": "big"})
        assert ended.output == {"send": "authority.denied", "ask": "authority.denied"}
        assert receiver.bodies == []
        handle = await lab.start(CALLS.format(host="127.0.0.1:*"), {"url": f"{url}/x", "model": "small"})
        assert (await lab.end_of(handle)).error is None
    assert receiver.bodies == [{"n": 1}]


async def test_a_refused_call_is_no_activity(lab: Lab) -> None:
    async with lab.worker():
        handle = await lab.start(CALLS.format(host="a.example"), {"url": "https://b.example/", "model": "big"})
        await lab.end_of(handle)
    history = [event async for event in handle.fetch_history_events()]
    assert [event for event in history if event.HasField("activity_task_scheduled_event_attributes")] == []


async def test_a_default_model_beyond_the_bound_is_refused_where_it_becomes_known(lab: Lab) -> None:
    text = "name: t\nallow: {models: [%s]}\nmain: [{prompt: hi, unwrap: true, on_error: {evaluate: $ error.code}}]\n"
    async with lab.worker():
        assert (await lab.run(text % "small")).output == "authority.denied"
        assert (await lab.run(text % "mock")).output != "authority.denied"
        assert (await lab.run(text % "(default)")).output != "authority.denied"


# --- children ------------------------------------------------------------------------------------------------------

SENDS = """
name: sends
allow: {hosts: ["127.0.0.1:*", b.example], models: [mock, other]}
dispatch: {labels: [post]}
tools:
  - {name: send, api_call: {method: POST, url: "https://elsewhere.example/"}}
main:
  - tool: send
    arguments: {url: $ _.url, json: {n: 1}}
    on_error: {evaluate: $ error.code}
  - prompt: hello
    unwrap: true
    on_error: {evaluate: {ask: $ error.code, send: "$ outputs[0]"}}
"""
PARENT = """
name: parent
allow: {{hosts: ["{host}"], models: ["{model}"], tasks: [sends]}}
main:
  - task: sends
    arguments: $ _
"""


async def test_what_a_child_computes_is_held_to_its_parents_bound_too(lab: Lab) -> None:
    receiver = Receiver()
    await lab.definitions.create_task(SENDS, tenant=TENANT)
    async with serve_app(receiver) as url, lab.worker():
        narrow = PARENT.format(host="b.example", model="other")
        ended = await lab.run(narrow, {"url": f"{url}/x"})
        assert ended.output == {"ask": "authority.denied", "send": "authority.denied"}
        assert receiver.bodies == []
        wide = PARENT.format(host="127.0.0.1:*", model="mock")
        assert isinstance((await lab.run(wide, {"url": f"{url}/x"})).output, str)
    assert receiver.bodies == [{"n": 1}]


async def test_a_grandchild_is_held_to_the_bounds_of_all_above_it(lab: Lab) -> None:
    receiver = Receiver()
    await lab.definitions.create_task(SENDS, tenant=TENANT)
    await lab.definitions.create_task("name: between\nmain: [{task: sends, arguments: $ _}]\n", tenant=TENANT)
    top = PARENT.format(host="b.example", model="mock").replace("task: sends", "task: between")
    top = top.replace("tasks: [sends]", "tasks: [sends, between]")
    async with serve_app(receiver) as url, lab.worker():
        ended = await lab.run(top, {"url": f"{url}/x"})
    assert ended.error is None
    assert receiver.bodies == []


async def test_the_labels_of_a_task_stand_on_child_executions(lab: Lab) -> None:
    await lab.definitions.create_task(SENDS, tenant=TENANT)
    async with lab.worker():
        handle = await lab.start(PARENT.format(host="b.example", model="mock"), {"url": "https://b.example/"})
        child = lab.client.get_workflow_handle((await lab.until(handle, "effect.started"))["child_id"])
        await lab.end_of(handle)
    found = {pair.key.name: pair.value for pair in (await child.describe()).typed_search_attributes}
    assert found["EverstepLabels"] == ["post"]


# --- cron ----------------------------------------------------------------------------------------------------------


async def comes(lab: Lab, cron: str) -> bool:
    """Whether the server takes a cron and knows a next time for it."""
    action = ScheduleActionStartWorkflow("nothing", id="never", task_queue="nobody")
    schedule = Schedule(action=action, spec=ScheduleSpec(cron_expressions=[cron]))
    try:
        handle = await lab.client.create_schedule(f"cron-{uuid.uuid4().hex}", schedule)
    except RPCError as error:
        if error.status is not RPCStatusCode.INVALID_ARGUMENT:
            raise
        return False
    try:
        return bool((await handle.describe()).info.next_action_times)
    finally:
        await handle.delete()


async def test_the_server_comes_at_the_times_of_every_cron_that_the_check_lets_pass(lab: Lab) -> None:
    assert [cron for cron in GOOD if not await comes(lab, cron)] == []


async def test_the_server_comes_at_no_time_of_a_cron_that_the_check_refuses(lab: Lab) -> None:
    # these it would take; here they are written otherwise
    stricter = {"0 0 8 * * *", "@every 5m", "TZ=Europe/Berlin 0 8 * * *"}
    assert {cron for cron, *_ in BAD if await comes(lab, cron)} == stricter


@pytest.mark.parametrize("seed", range(3))
async def test_the_check_and_the_server_agree_on_random_crons(lab: Lab, seed: int) -> None:
    chance = random.Random(seed)
    crons = [" ".join(random_field(chance, *bounds) for bounds in FIELDS) for _ in range(25)]
    told = {cron: not cron_problems(cron) for cron in crons}
    assert {cron: await comes(lab, cron) for cron in crons} == told
    assert len(set(told.values())) == 2


FIELDS = ((0, 59, ""), (0, 23, ""), (1, 31, ""), (1, 12, "jan Feb dec"), (0, 7, "sun WED sat"))


def random_field(chance: random.Random, least: int, most: int, words: str) -> str:
    def number() -> str:
        # one in twelve lies outside
        return str(chance.choice([least - 1, most + 1]) if chance.random() < 0.08 else chance.randint(least, most))

    def part() -> str:
        kind = chance.randrange(6)
        if kind == 0 and words:
            return chance.choice(words.split())
        if kind == 1:
            return f"{number()}-{number()}"
        if kind == 2:
            return f"*/{chance.randint(1, most)}"
        return number() if kind == 3 else "*"

    return ",".join(part() for _ in range(chance.choice([1, 1, 1, 2])))
