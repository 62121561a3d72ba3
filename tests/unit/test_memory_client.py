"""The client in memory: the same methods as the real one, without a server."""

from __future__ import annotations

import datetime as dt
import inspect
from pathlib import Path

import pytest

from engine import Task, call_tool, evaluate, expr, prompt, tool, wait_for_input
from engine.client import (
    AsyncClient,
    AsyncEverstepClient,
    Client,
    Conflict,
    DefinitionError,
    EngineError,
    EverstepClient,
    ExecutionFailed,
    ExecutionTimeout,
    InvalidInput,
    NotFound,
)
from engine.client.doors import Doors
from engine.client.registry import Registry
from engine.testing import AsyncMemoryClient, MemoryClient

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


def same(ours: dict[str, inspect.Signature], theirs: dict[str, inspect.Signature], *, results: bool = True) -> None:
    assert ours.keys() == theirs.keys()
    for name, signature in ours.items():
        assert list(signature.parameters.values()) == list(theirs[name].parameters.values()), name
        assert not results or signature.return_annotation == theirs[name].return_annotation, name


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    same(public(Client), public(AsyncClient), results=False)


def test_the_types_for_services_have_all_methods_of_the_clients() -> None:
    same(public(Client), public(EverstepClient))
    same(public(AsyncClient), public(AsyncEverstepClient))


def test_the_clients_in_memory_have_the_methods_of_the_real_ones_and_two_of_their_own() -> None:
    for real, mine in ((Client, MemoryClient), (AsyncClient, AsyncMemoryClient)):
        found = public(mine)
        assert found.keys() - public(real).keys() == {"expire", "calls"}
        same(public(real), {name: signature for name, signature in found.items() if name not in ("expire", "calls")})


def test_a_service_that_names_the_type_takes_every_client(greet: Path) -> None:
    def versions(client: EverstepClient) -> int:
        return client.apply(greet).version

    assert versions(MemoryClient()) == 1
    real: EverstepClient = Client("http://127.0.0.1:1")  # mypy holds that each client is one of its type
    both: list[AsyncEverstepClient] = [AsyncMemoryClient(), AsyncClient("http://127.0.0.1:1")]
    real.close()
    assert len(both) == 2


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
        with pytest.raises(InvalidInput, match="does not fit the wait"):
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


async def test_what_needs_a_server_is_refused_in_memory() -> None:
    refused = [name for kind in (Doors, Registry) for name in vars(kind) if name[0] != "_"]
    assert {"emit", "create_schedule", "webhooks", "bulk"} < set(refused)
    given = {
        "id": "x", "name": "x", "task": "x", "reference": "x", "url": "http://127.0.0.1:1", "event": "x", "filter": {},
        "action": "cancel", "active": True, "start_at": dt.datetime.now(dt.UTC), "end_at": dt.datetime.now(dt.UTC),
        "webhook_id": "x", "delivery_id": "x", "hook_id": "x", "job_id": "x", "backends": {}, "backend": "x",
        "model": "x", "models": ["x"], "pull_id": "x",
    }  # fmt: skip
    sync, later = MemoryClient(), AsyncMemoryClient()
    for name in refused:
        wanted = inspect.signature(getattr(sync, name)).parameters.values()
        arguments = {
            each.name: given[each.name]
            for each in wanted
            if each.default is each.empty and each.kind is not each.VAR_KEYWORD
        }
        with pytest.raises(InvalidInput, match="in memory has no") as caught:
            getattr(sync, name)(**arguments)
        assert caught.value.code == "client.not_in_memory"
        with pytest.raises(InvalidInput) as caught:
            await getattr(later, name)(**arguments)
        assert caught.value.code == "client.not_in_memory"


DEADLINES = """\
name: patient
main:
  - sleep: 1h
  - label: sure
    wait_for_input: {info: sure?, deadline: 1d, default: late}
    timeout: 2d
  - label: paid
    wait_for_event: payment
    key: A1
    timeout: 1h
  - evaluate: {sure: "$ steps['sure'].output", paid: "$ _"}
"""


@pytest.fixture
def patient(tmp_path: Path) -> Path:
    file = tmp_path / "patient.yaml"
    file.write_text(DEADLINES, encoding="utf-8")
    return file


def test_a_wait_stays_open_past_its_deadline_until_it_is_answered(patient: Path) -> None:
    with MemoryClient() as client:
        execution = client.start(patient)
        assert (execution.status, execution.waits[0].label) == ("awaiting_input", "sure")
        assert execution.waits[0].deadline == "2026-01-02T01:00:00Z"
        execution = client.answer(execution.id, "yes")
        assert execution.waits[0].label == "paid"
        taken = client.send_event(execution.id, "payment", {"sum": 3}, key="A1", event_id="e1")
        assert taken == {"id": "e1", "execution_id": execution.id}
        assert client.get(execution.id).result() == {"sure": "yes", "paid": {"sum": 3}}
        with pytest.raises(Conflict) as caught:
            client.send_event(execution.id, "payment")
        assert caught.value.code == "execution.closed"


def test_messages_are_sent_and_an_answer_is_none(tmp_path: Path) -> None:
    talk = tmp_path / "talk.yaml"
    talk.write_text(
        """
name: talk
main:
  - listen:
      messages: chat
      schema: {type: string}
      busy: interrupt
      do: [{evaluate: $ _}, {wait_for_input: {info: more?}, when: _ == 'long'}]
      until: _ == 'bye'
""",
        encoding="utf-8",
    )
    with MemoryClient() as client:
        execution = client.start(talk)
        assert (execution.status, execution.waits[0].info["messages"]) == ("awaiting_input", "chat")
        with pytest.raises(Conflict) as refused:
            client.answer(execution.id, "bye")
        assert refused.value.code == "answer.wants_message"
        with pytest.raises(InvalidInput) as wrong:
            client.send_message(execution.id, 5, name="chat")
        assert wrong.value.code == "input.rejected"
        assert client.send_message(execution.id, "long", name="chat", message_id="one")["disposition"] == "started"
        again = client.send_message(execution.id, "other", name="chat", message_id="one")
        assert (again["disposition"], again["turn"]) == ("started", 0)
        taken = client.send_message(execution.id, "bye", name="chat")
        assert (taken["disposition"], taken["turn"]) == ("interrupting", 1)
        assert client.get(execution.id).result() == "bye"


def test_a_deadline_passes_when_the_test_says_so(patient: Path) -> None:
    with MemoryClient() as client:
        execution = client.expire(client.start(patient).id)
        assert execution.waits[0].label == "paid"
        answers = [step["output"] for step in client.steps(execution.id) if step["label"] == "sure"]
        assert [answer and answer["value"] for answer in answers] == ["late"]
        execution = client.expire(execution.id, wait_id=execution.waits[0].id)
        assert execution.error is not None
        assert (execution.status, execution.error["code"]) == ("failed", "wait.expired")
        assert execution.closed_at == "2026-01-02T02:00:00Z"
        with pytest.raises(Conflict) as caught:
            client.expire(execution.id)
        assert caught.value.code == "execution.closed"


def test_the_time_limit_of_a_step_around_a_wait_passes_only_when_the_test_says_so(tmp_path: Path) -> None:
    file = tmp_path / "around.yaml"
    file.write_text(
        "name: around\nmain:\n  - foreach:\n      in: $ [1]\n      do: {wait_for_input: {info: x}}\n    timeout: 1h\n"
        "limits: {time: 2h}\n",
        encoding="utf-8",
    )
    with MemoryClient() as client:
        assert client.answer(client.start(file).id, "yes").result() == ["yes"]
        ended = client.expire(client.start(file).id)
        assert ended.error is not None
        assert ended.error["code"] == "step.timeout"


def test_an_error_has_the_label_of_the_step_that_failed(tmp_path: Path) -> None:
    file = tmp_path / "fails.yaml"
    file.write_text("name: fails\nmain: [{label: pays, error: out of money}]", encoding="utf-8")
    with MemoryClient() as client:
        (*_, failed) = client.transitions(client.start(file).id)
    assert (failed["type"], failed["step_label"]) == ("error", "pays")


def test_a_wait_without_a_deadline_cannot_expire(greet: Path) -> None:
    with MemoryClient(replies={"ask": "Hello!"}) as client, pytest.raises(Conflict, match="with a deadline"):
        client.expire(client.start(greet, {"name": "Ada"}).id)


def test_waiting_for_what_waits_is_a_timeout_of_both_kinds(greet: Path) -> None:
    with MemoryClient(replies={"ask": "Hello!"}) as client:
        with pytest.raises(ExecutionTimeout, match="waits at sure") as caught:
            client.run(greet, {"name": "Ada"})
        assert isinstance(caught.value, TimeoutError)
        assert isinstance(caught.value, EngineError)
        assert caught.value.code == "client.timeout"


def test_a_key_with_another_input_is_refused(greet: Path) -> None:
    with MemoryClient(replies={"ask": "Hello!"}) as client:
        first = client.start(greet, {"name": "Ada"}, key="order 17")
        with pytest.raises(Conflict, match="another input") as caught:
            client.start(greet, {"name": "Grace"}, key="order 17")
        assert caught.value.code == "idempotency.key_reused"
        assert [item.id for item in client.executions()] == [first.id]


def test_an_answer_given_twice_under_one_key_is_taken_once(greet: Path) -> None:
    with MemoryClient(replies={"ask": "Hello!"}) as client:
        started = client.start(greet, {"name": "Ada"})
        first = client.answer(started.id, True, key="k")
        again = client.answer(started.id, False, key="k")
        assert first.result() == again.result() == {"said": "Hello!"}


def test_executions_are_found_counted_and_summed_up(greet: Path) -> None:
    hello = {"$reply": "Hello!", "$tokens": 7}
    with MemoryClient(replies={"ask": hello}) as client:
        ada = client.start(greet, {"name": "Ada"}, labels=["vip"], metadata={"order": {"id": "A1"}})
        grace = client.start(greet, {"name": "Grace"}, metadata={"order": {"id": "A2"}})
        client.answer(grace.id, False)
        assert [item.id for item in client.executions()] == [grace.id, ada.id]
        assert [item.id for item in client.executions(direction="asc")] == [ada.id, grace.id]
        assert [item.id for item in client.executions(label="vip")] == [ada.id]
        assert [item.id for item in client.executions(metadata={"order.id": "A2"})] == [grace.id]
        assert [item.id for item in client.executions(status=["failed", "cancelled"])] == [grace.id]
        assert [item.id for item in client.executions(error_code="task.*")] == [grace.id]
        assert list(client.executions(created_after="2026-01-02T00:00:00Z")) == []
        assert client.counts() == {"total": 2, "by_status": {"awaiting_input": 1, "failed": 1}}
        assert client.counts(label="vip") == {"total": 1, "by_status": {"awaiting_input": 1}}
        assert (ada.usage.llm_calls, ada.usage.completion_tokens, ada.usage.total_tokens) == (1, 7, 7)
        (row,) = client.usage("task")
        assert (row["key"], row["calls"], row["total_tokens"], row["cost"]) == ("greet", 2, 14, None)
        assert [row["key"] for row in client.usage("label")] == ["vip", None]
        assert [row["key"] for row in client.usage("day", label="vip")] == ["2026-01-01"]
        for wrong in ({"agent_id": "x"}, {"stuck": True}, {"colour": "red"}):
            with pytest.raises(InvalidInput, match=next(iter(wrong))):
                client.executions(**wrong)


def test_the_whole_story_is_told_as_the_api_tells_it(greet: Path) -> None:
    with MemoryClient(replies={"ask": {"$reply": "Hello!", "$tokens": 7}}) as client:
        id = client.start(greet, {"name": "Ada"}).id
        assert [event.event for event in client.stream(id, "tokens")] == ["message"]
        assert [event.data["status"] for event in client.stream(id, "status")] == ["awaiting_input"]
        client.answer(id, True, actor="ada")
        assert [(step["label"], step["state"]) for step in client.steps(id)][:2] == [("ask", "done"), ("sure", "done")]
        visits = client.step(id, "ask")
        assert visits["items"][0]["attempts"][0]["reply"]["value"]["content"] == "Hello!"
        (attempt,) = client.attempts(id)
        assert (attempt["label"], attempt["outcome"], attempt["usage"]) == (
            "ask", "ok", {"prompt_tokens": 0, "completion_tokens": 7, "total_tokens": 7},
        )  # fmt: skip
        assert any("ada" in entry["what"] for entry in client.history(id))
        assert [row["type"] for row in client.transitions(id)][-1] == "finish"
        assert len(list(client.events(id))) == client.get(id).raw["last_seq"]
        message, end = client.stream(id, "tokens")
        assert (message.data["message"]["content"], end.event, end.data["status"]) == ("Hello!", "end", "succeeded")
        with pytest.raises(InvalidInput, match="no stream"):
            client.stream(id, "words")  # type: ignore[arg-type]
        with pytest.raises(NotFound) as caught:
            client.step(id, "nobody")
        assert caught.value.code == "step.not_found"


def test_tasks_are_checked_and_near_names_are_told(greet: Path, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("name: wrong\nmain:\n  - evalute: 1\n", encoding="utf-8")
    with MemoryClient() as client:
        assert client.validate(greet) == {"ok": True, "diagnostics": [], "name": "greet"}
        checked = client.validate(wrong)
        assert (checked["ok"], checked["diagnostics"][0]["line"]) == (False, 3)
        with pytest.raises(DefinitionError, match=r"wrong\.yaml:3:5"):
            client.apply(wrong)
        client.apply(greet)
        with pytest.raises(NotFound) as caught:
            client.start("gret")
        assert caught.value.hint == "did you mean 'greet'?"


def test_a_cancel_runs_what_must_be_run_and_tells_who(tmp_path: Path) -> None:
    file = tmp_path / "tidy.yaml"
    file.write_text("name: tidy\nmain:\n  - wait_for_input: {info: x}\nfinally:\n  - log: tidied\n", encoding="utf-8")
    with MemoryClient() as client:
        ended = client.cancel(client.start(file).id, reason="no more", actor="ada")
        assert ended.error == {"code": "execution.cancelled", "message": "no more", "details": {"actor": "ada"}}
        assert "tidied" in [step["log"] for step in client.steps(ended.id)]


async def test_the_async_client_in_memory_does_the_same(greet: Path) -> None:
    async with AsyncMemoryClient(replies={"ask": "Hello!"}) as client:
        started = await client.start(greet, {"name": "Ada"})
        assert [item.id async for item in client.executions(status="awaiting_input")] == [started.id]
        assert (await client.answer(started.id, True)).result() == {"said": "Hello!"}
        told = [event.data["type"] async for event in client.stream(started.id)]
        assert (told[0], told[-1]) == ("init", "finish")
        assert [task.name async for task in client.tasks()] == ["greet"]
        assert client.memory.get(started.id).is_closed


def test_recorded_replies_are_played_back_and_changed_prompts_are_noticed(pytester: pytest.Pytester) -> None:
    head = "from engine import Task, prompt"
    same = """
def test_same(everstep_recorded):
    task = Task(name="ask", main=[prompt("Say hello", unwrap=True, label="ask")])
    assert everstep_recorded.run(task) == "Hello!"
"""
    changed = same.replace("test_same", "test_changed").replace("Say hello", "Say goodbye")
    hidden = changed.replace("test_changed", "test_hidden").replace(
        '    assert everstep_recorded.run(task) == "Hello!"',
        "    try:\n        everstep_recorded.run(task)\n    except Exception:\n        pass",
    )
    pytester.makefile(".toml", everstep="")
    file = pytester.makepyfile("\n".join([head, same]))
    unrecorded = pytester.runpytest_subprocess()
    unrecorded.assert_outcomes(errors=1)
    unrecorded.stdout.fnmatch_lines(["*nothing is recorded for test_same*--everstep-record*"])

    reply = {
        "id": "x", "model": "m", "backend": "b", "created": 1, "message": {"role": "assistant", "content": "Hello!"},
        "finish_reason": "stop", "usage": None,
    }  # fmt: skip
    request = {"messages": [{"role": "user", "content": "Say hello"}], "model": "", "settings": {}}
    call = {"id": "main.0#1", "path": "main.0", "request": request, "value": reply, "seconds": 0.5}
    import json

    cases = {name: {"": [call]} for name in ("test_same", "test_changed", "test_hidden")}
    file.with_suffix(".cassette.json").write_text(json.dumps({"format": 1, "cases": cases}), encoding="utf-8")
    file.write_text("\n".join([head, same, changed, hidden]), encoding="utf-8")
    played = pytester.runpytest_subprocess("-rA")
    # one fails in the test, at its call, and its fixture does not say it again; of the hidden one the fixture says it
    played.assert_outcomes(passed=2, failed=1, errors=1)
    played.stdout.fnmatch_lines_random(["PASSED *::test_same", "FAILED *::test_changed*", "ERROR *::test_hidden*"])
    played.stdout.fnmatch_lines(["*everstep_recorded.run(task)*", "*has changed since it was recorded (messages)*"])
    assert played.stdout.str().count("has changed since it was recorded (messages)") >= 2
