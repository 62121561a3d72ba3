"""The client in memory: the same methods as the real one, without a server."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from engine import Task, call_tool, evaluate, expr, prompt, tool, wait_for_input
from engine.client import AsyncClient, Client, ExecutionFailed
from engine.core.errors import Conflict, InvalidInput, NotFound
from engine.testing import MemoryClient

GREET = """\
name: greet
input_schema: {type: object, required: [name], properties: {name: {type: string}}}
main:
  - label: ask
    prompt: "Say hello to {{ _.name }}"
    unwrap: true
  - label: sure
    wait_for_input: {info: {text: $ _}, schema: {type: boolean}}
  - if: $ _
    then: {return: {said: "$ steps['ask'].output"}}
    else: {error: Nobody wanted the greeting.}
"""


@pytest.fixture
def greet(tmp_path: Path) -> Path:
    file = tmp_path / "greet.yaml"
    file.write_text(GREET, encoding="utf-8")
    return file


def public(kind: type) -> dict[str, inspect.Signature]:
    return {name: inspect.signature(each) for name, each in inspect.getmembers(kind, callable) if name[0] != "_"}


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    ours, theirs = public(Client), public(AsyncClient)
    assert ours.keys() == theirs.keys()
    for name, signature in ours.items():
        assert list(signature.parameters.values()) == list(theirs[name].parameters.values()), name


def test_the_client_in_memory_takes_what_the_real_one_takes() -> None:
    real, mine = public(Client), public(MemoryClient)
    for name in ("apply", "task", "start", "run", "wait", "get", "answer", "cancel", "events", "stream"):
        assert list(mine[name].parameters.values()) == list(real[name].parameters.values()), name


def test_an_execution_waits_is_answered_and_ends(greet: Path) -> None:
    with MemoryClient(replies={"ask": "Hello Ada!"}) as client:
        started = client.start(greet, {"name": "Ada"}, labels=["vip"])
        assert started.status == "awaiting_input"
        assert (started.waits[0].label, started.waits[0].info) == ("sure", {"text": "Hello Ada!"})
        ended = client.answer(started.id, True)
        assert ended.result() == {"said": "Hello Ada!"}
        assert ended.labels == ("vip",)
        assert ended.usage.llm_calls == 1
        assert [event.data["type"] for event in client.stream(started.id)][-1] == "finish"


def test_a_call_is_made_once_however_often_its_execution_is_answered() -> None:
    made: list[str] = []

    @tool(effect="write")
    def book(room: str) -> str:
        """Book a room.

        Args:
            room: Its name.
        """
        made.append(room)
        return f"{room} is booked"

    task = Task(
        name="booking",
        tools=[book],
        main=[
            call_tool(book, {"room": expr("_.room")}),
            wait_for_input("sure?", label="first"),
            wait_for_input("really?", label="second"),
            evaluate(expr("steps[0].output")),
        ],
    )
    with MemoryClient(tools=[book], run_tools=["book"]) as client:
        execution = client.start(task, {"room": "blue"})
        execution = client.answer(execution.id, "yes")
        execution = client.answer(execution.id, "yes", wait_id=execution.waits[0].id)
        assert execution.result() == "blue is booked"
    assert made == ["blue"]


def test_a_list_of_replies_is_used_up_over_answers() -> None:
    task = Task(
        name="two",
        main=[prompt("one", unwrap=True), wait_for_input("go on?"), prompt("two", unwrap=True)],
    )
    with MemoryClient(replies=["first", "second"]) as client:
        execution = client.start(task)
        assert client.answer(execution.id, True).result() == "second"


def test_an_answer_that_does_not_fit_changes_nothing(greet: Path) -> None:
    with MemoryClient(replies={"ask": "Hello!"}) as client:
        started = client.start(greet, {"name": "Ada"})
        with pytest.raises(InvalidInput, match="refused"):
            client.answer(started.id, "maybe")
        assert client.get(started.id).status == "awaiting_input"
        assert client.answer(started.id, True).is_closed
        with pytest.raises(Conflict) as caught:
            client.answer(started.id, True)
        assert caught.value.code == "answer.not_waiting"


def test_a_failure_raises_with_its_code_and_the_execution(greet: Path) -> None:
    with MemoryClient(replies={"ask": "Hello!"}) as client:
        started = client.start(greet, {"name": "Ada"})
        ended = client.answer(started.id, False)
        with pytest.raises(ExecutionFailed, match="Nobody wanted") as caught:
            ended.result()
        assert caught.value.code == "task.error"
        assert caught.value.execution.id == started.id


def test_a_cancelled_execution_says_so(greet: Path) -> None:
    with MemoryClient(replies={"ask": "Hello!"}) as client:
        started = client.start(greet, {"name": "Ada"})
        assert client.cancel(started.id, reason="changed my mind").status == "cancelled"


def test_a_key_gives_the_same_execution_again(greet: Path) -> None:
    with MemoryClient(replies={"ask": "Hello!"}) as client:
        first = client.start(greet, {"name": "Ada"}, key="order 17")
        assert client.start("greet", {"name": "Ada"}, key="order 17").id == first.id
        assert client.start("greet", {"name": "Ada"}).id != first.id


def test_input_and_names_are_checked(greet: Path) -> None:
    with MemoryClient() as client:
        with pytest.raises(NotFound) as missing:
            client.start("greet", {"name": "Ada"})
        assert missing.value.code == "task.not_found"
        client.apply(greet)
        with pytest.raises(InvalidInput) as refused:
            client.start("greet", {})
        assert refused.value.code == "input.invalid"
        assert list(client.executions()) == []


def test_a_call_without_a_reply_fails_the_test_that_caused_it(greet: Path) -> None:
    with MemoryClient() as client, pytest.raises(AssertionError, match="has no reply"):
        client.start(greet, {"name": "Ada"})


def test_the_fixture_gives_a_client_in_memory(everstep_memory: MemoryClient, greet: Path) -> None:
    everstep_memory.replies = {"ask": "Hi"}
    assert everstep_memory.start(greet, {"name": "Ada"}).waits[0].info == {"text": "Hi"}


def test_recorded_replies_are_played_back_and_changed_prompts_are_noticed(pytester: pytest.Pytester) -> None:
    test = """
from engine import Task, prompt

def test_it(everstep_recorded):
    task = Task(name="ask", main=[prompt("%s", unwrap=True, label="ask")])
    assert everstep_recorded.run(task) == "Hello!"
"""
    pytester.makefile(".toml", everstep="")
    file = pytester.makepyfile(test % "Say hello")
    unrecorded = pytester.runpytest_subprocess()
    unrecorded.assert_outcomes(errors=1)
    unrecorded.stdout.fnmatch_lines(["*nothing is recorded for test_it*--everstep-record*"])

    reply = {
        "id": "x", "model": "m", "backend": "b", "created": 1, "message": {"role": "assistant", "content": "Hello!"},
        "finish_reason": "stop", "usage": None,
    }  # fmt: skip
    request = {"messages": [{"role": "user", "content": "Say hello"}], "model": "", "settings": {}}
    call = {"id": "main.0#1", "path": "main.0", "request": request, "value": reply, "seconds": 0.5}
    import json

    cassette = {"format": 1, "cases": {"test_it": {"": [call]}}}
    file.with_suffix(".cassette.json").write_text(json.dumps(cassette), encoding="utf-8")
    pytester.runpytest_subprocess().assert_outcomes(passed=1)

    file.write_text(test % "Say goodbye", encoding="utf-8")
    changed = pytester.runpytest_subprocess()
    assert changed.ret == 1
    changed.stdout.fnmatch_lines(["*has changed since it was recorded (messages)*"])
