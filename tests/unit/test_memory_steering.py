"""The client in memory pauses, continues, moves deadlines, retries and forks as the real one does."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from engine.client import Conflict, InvalidInput
from engine.core.errors import ToolError
from engine.core.run.effects import Call, Failed, Ok
from engine.dryrun.effects import Answered
from engine.testing.memory import MemoryClient
from engine.testing.memory_aio import AsyncMemoryClient
from engine.tooling import tool

TASK = """\
name: order
main:
  - {tool: look, arguments: {what: a}, label: looked}
  - {wait_for_input: {info: sure?, deadline: 1h, default: late}, label: sure}
  - {tool: send, arguments: {what: $ str(_)}, retry: {attempts: 1}, label: sent}
  - evaluate: {looked: $ steps.looked.output, sent: $ _}
"""


@tool(effect="read")
def look(what: str) -> str:
    """Look."""
    return what


@tool(effect="write", idempotent=True)
def send(what: str) -> str:
    """Send."""
    return what


class Outside:
    """Answers calls; the first of some steps fail."""

    def __init__(self, **failures: int) -> None:
        self.calls: list[tuple[str, str]] = []
        self._failures = failures

    def __call__(self, call: Call) -> Answered:
        params: Any = call.params
        self.calls.append((params.tool.name, params.context.key))
        if self._failures.get(params.tool.name, 0) > 0:
            self._failures[params.tool.name] -= 1
            return Answered(Failed(ToolError("away", code="tool.unreachable")))
        return Answered(Ok(f"{params.tool.name} {params.arguments['what']}"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "order.yaml"
    path.write_text(TASK)
    return path


def client(outside: Outside) -> MemoryClient:
    return MemoryClient(replies=outside, tools=[look, send])


def test_a_paused_execution_takes_an_answer_and_goes_on_later(file: Path) -> None:
    outside = Outside()
    with client(outside) as memory:
        started = memory.start(file)
        paused = memory.pause(started.id, reason="why", actor="ada")
        assert (paused.status, paused.paused and paused.paused["reason"]) == ("paused", "why")
        assert memory.answer(started.id, "yes").status == "paused"
        assert len(outside.calls) == 1
        ended = memory.continue_(started.id)
        assert ended.result() == {"looked": "look a", "sent": "send yes"}
        with pytest.raises(Conflict) as closed:
            memory.pause(started.id)
        assert closed.value.code == "execution.closed"


def test_breaks_stop_it_and_unknown_ones_are_refused(file: Path) -> None:
    with client(Outside()) as memory:
        started = memory.start(file)
        with pytest.raises(Conflict) as refused:
            memory.set_breaks(started.id, ["nowhere"])
        assert refused.value.code == "control.bad_path"
        memory.set_breaks(started.id, ["sent", "main.3"])
        stopped = memory.answer(started.id, "yes")
        assert stopped.paused is not None
        assert (stopped.paused["at"], stopped.paused["breaks"]) == ("main.2", ["sent", "main.3"])
        assert memory.continue_(started.id, break_at=[]).is_closed
        with pytest.raises(Conflict):
            memory.continue_(started.id)


def test_a_deadline_is_moved(file: Path) -> None:
    with client(Outside()) as memory:
        started = memory.start(file)
        assert memory.set_deadline(started.id, "main.1", dt.timedelta(days=2)).waits[0].deadline is not None
        assert memory.set_deadline(started.id, "main.1", None).waits[0].deadline is None
        with pytest.raises(Conflict):
            memory.expire(started.id)
        memory.set_deadline(started.id, "main.1", "5m")
        assert memory.expire(started.id).result()["sent"] == "send late"


def test_a_retry_calls_nothing_that_was_done_and_keeps_the_keys(file: Path) -> None:
    outside = Outside(send=2)
    with client(outside) as memory:
        first = memory.start(file, labels=["vip"])
        memory.answer(first.id, "yes")
        second = memory.retry(first.id, key="k")
        assert (second.status, second.forked) == (
            "failed",
            {"kind": "retry", "execution_id": first.id, "path": "main.2"},
        )
        assert memory.retry(first.id, key="k").id == second.id
        third = memory.retry(second.id)
        assert third.result() == {"looked": "look a", "sent": "send yes"}
        assert third.labels == ("vip",)
        assert outside.calls == [("look", f"{first.id}:main.0"), *[("send", f"{first.id}:main.2")] * 3]
        with pytest.raises(Conflict) as ended:
            memory.retry(third.id)
        assert ended.value.code == "fork.not_ended"


def test_a_fork_has_other_outputs_and_keys_of_its_own(file: Path) -> None:
    outside = Outside()
    with client(outside) as memory:
        first = memory.start(file)
        memory.answer(first.id, "yes")
        made = memory.fork(first.id, at="sent", patch={"sure": "no", "looked": 1}, break_at=["main.3"])
        assert made.status == "paused"
        assert memory.continue_(made.id).result() == {"looked": 1, "sent": "send no"}
        assert outside.calls[-1] == ("send", f"{made.id}:main.2")
        with pytest.raises(InvalidInput) as unknown:
            memory.fork(first.id, at="sent", patch={"main.3": 1})
        assert unknown.value.code == "fork.not_recorded"
        with pytest.raises(InvalidInput):
            memory.fork(first.id, form="sent")  # type: ignore[call-arg]


def test_an_edited_task_must_be_the_same_up_to_there(file: Path) -> None:
    with client(Outside()) as memory:
        first = memory.start(file)
        memory.answer(first.id, "yes")
        file.write_text(TASK.replace("{looked:", "{now:"))
        memory.apply(file)
        made = memory.fork(first.id, at="main.3", definition="newest")
        assert (made.task_version, made.result()) == (2, {"now": "look a", "sent": "send yes"})
        file.write_text(TASK.replace("what: a", "what: b"))
        memory.apply(file)
        with pytest.raises(InvalidInput) as differs:
            memory.fork(first.id, at="main.3", definition="order@3")
        assert (differs.value.code, differs.value.details) == ("fork.prefix_differs", {"path": "main.0"})


async def test_terminate_ends_at_once_and_links_are_for_real_servers(file: Path) -> None:
    async with AsyncMemoryClient(replies=Outside(), tools=[look, send]) as memory:
        started = await memory.start(file)
        with pytest.raises(InvalidInput) as no_link:
            await memory.link(started.id, "main.1", actor="ada")
        assert no_link.value.code == "link.not_in_memory"
        ended = await memory.terminate(started.id, reason="enough", actor="ada")
        assert (ended.status, ended.error and ended.error["code"]) == ("failed", "execution.terminated")
        assert (await memory.terminate(started.id, reason="again")).error == ended.error
        again = await memory.retry(started.id)
        assert [wait.label for wait in again.waits] == ["sure"]
        assert (await memory.cancel(again.id, reason="no")).status == "cancelled"
        assert (await memory.cancel(again.id, reason="still no")).error == {
            "code": "execution.cancelled",
            "message": "no",
        }
