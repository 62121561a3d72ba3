"""Steps that listen: turns, and what becomes of messages while one runs, as the interpreter takes them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.core.contracts.execution import AnswerSignal
from engine.core.kinds import EventType
from tests.support.stepping import Stepper

TURN = """
name: t
main:
  - listen:
      {options}
      do:
        - tool: lookup
          arguments: {{name: $ str(_)}}
        - evaluate: $ _.name
{more}
"""


def listening(options: str = "busy: enqueue", more: str = "  - evaluate: $ [_, 'end']") -> Stepper:
    return Stepper(TURN.format(options=options.replace("; ", "\n      "), more=more), "given")


def dispositions(stepper: Stepper) -> list[str]:
    return [body["disposition"] for body in stepper.bodies(EventType.MESSAGE_TAKEN)]


def turns(stepper: Stepper) -> list[Any]:
    return [body["input"] for body in stepper.bodies(EventType.INIT_BRANCH) if "listen" in body["construct"]]


def called(stepper: Stepper) -> list[str]:
    return [body["request"]["arguments"]["name"] for body in stepper.bodies(EventType.EFFECT_STARTED)]


def stopped(stepper: Stepper) -> list[tuple[str, str, str]]:
    found = stepper.bodies(EventType.BRANCH_FAILED)
    return [(body["path"], body["taken"], body["error"]["code"]) for body in found]


# --- turns ---------------------------------------------------------------------------------------------------------


def test_each_message_begins_a_turn_until_the_condition_holds() -> None:
    stepper = listening("until: _ == 'bye'")
    for number, word in enumerate(("one", "two", "bye")):
        told = stepper.message(word)
        assert (told["disposition"], told["turn"], told["path"]) == ("started", number, "main.0")
        stepper.go()
    assert turns(stepper) == ["one", "two", "bye"]
    assert stepper.outcome == ["bye", "end"]


def test_between_turns_a_wait_is_open_that_no_answer_ends() -> None:
    stepper = listening()
    (wait,) = stepper.bodies(EventType.WAIT)
    assert (wait["path"], wait["wait_id"]) == ("main.0", "main.0.do[0]")
    assert wait["info"] == {"messages": "message", "busy": "enqueue"}
    stepper.answer("hello")
    stepper.answer("hello", "main.0.do[0]")
    codes = [body["code"] for body in stepper.bodies(EventType.ANSWER_REFUSED)]
    assert codes == ["answer.not_waiting", "answer.wants_message"]
    assert turns(stepper) == []
    assert not stepper.machine.expects(AnswerSignal(key="k", value=1))


def test_without_messages_for_long_it_ends_with_its_last_output() -> None:
    stepper = listening("idle: 10m")
    stepper.message("one")
    stepper.go()
    assert stepper.outcome == ["one", "end"]
    assert stepper.bodies(EventType.RESUME)[-1]["expired"] is True


def test_without_any_message_its_input_passes_through_or_its_default_counts() -> None:
    assert _gone(listening("idle: 10m")) == ["given", "end"]
    assert _gone(listening("idle: 10m; default: $ 'nothing after ' + _")) == ["nothing after given", "end"]


def _gone(stepper: Stepper) -> Any:
    stepper.go()
    return stepper.outcome


def test_idle_time_begins_anew_after_each_turn() -> None:
    stepper = listening("idle: 10m")
    began = stepper.effects.clock_us
    stepper.effects.clock_us += 500_000_000
    stepper.message("one")
    stepper.go()
    assert stepper.effects.clock_us >= began + 1_100_000_000


def test_a_return_in_a_turn_ends_the_list() -> None:
    stepper = Stepper("main: [{listen: {do: {return: $ _ * 2}}}, {evaluate: 0}]")
    stepper.message(21)
    assert stepper.outcome == 42


def test_turns_count_as_rounds() -> None:
    stepper = Stepper("limits: {rounds: 2}\nmain: [{listen: {do: {evaluate: $ _}}}]")
    for _ in range(3):
        stepper.message(1)
    assert stepper.outcome == "limit.rounds"


def test_an_error_in_a_turn_fails_the_step_and_a_retry_takes_the_messages_that_waited() -> None:
    stepper = Stepper(
        """
        name: t
        main:
          - listen:
              until: _ == 3
              do: [{sleep: 1}, {evaluate: $ 10 / (_ - 1) if _ < 3 else 3}]
            retry: {attempts: 2, initial: 1s, on: [expression]}
        """
    )
    stepper.message(1)
    assert stepper.message(3)["disposition"] == "queued"
    stepper.go()
    assert stepper.outcome == 3
    assert [body["path"] for body in stepper.bodies(EventType.INIT_BRANCH)] == ["main.0.do[0]", "main.0~2.do[0]"]


# --- which messages ------------------------------------------------------------------------------------------------


def test_a_message_that_does_not_fit_is_refused_and_the_step_goes_on_waiting() -> None:
    stepper = listening("schema: {type: string}; until: true")
    told = stepper.message(5)
    assert (told["disposition"], told["code"]) == ("rejected", "input.rejected")
    assert "message" in told["message"]
    assert turns(stepper) == []
    assert stepper.message("five")["disposition"] == "started"


def test_a_known_id_gets_its_first_disposition_again_and_begins_nothing() -> None:
    stepper = listening()
    first = stepper.message("one", "id-1")
    again = stepper.message("other", "id-1")
    assert (again["disposition"], again["turn"], again["repeated"]) == ("started", first["turn"], True)
    stepper.go()
    assert stepper.message("one", "id-1")["repeated"] is True
    assert turns(stepper) == ["one"]


def test_a_message_before_its_step_is_kept_for_it() -> None:
    stepper = Stepper("main: [{sleep: 1h}, {listen: {until: 'true', do: {evaluate: $ _}}}]")
    assert stepper.message("early")["disposition"] == "kept"
    stepper.go()
    assert stepper.outcome == "early"


def test_messages_a_step_did_not_come_to_are_taken_by_the_next_one() -> None:
    stepper = Stepper(
        "main: [{listen: {until: 'true', do: [{sleep: 1}, {evaluate: $ _}]}}, {sleep: 1},"
        " {listen: {until: 'true', do: {evaluate: '$ [_]'}}}]"
    )
    stepper.message(1)
    assert stepper.message(2)["disposition"] == "queued"
    stepper.go()
    assert stepper.outcome == [2]


def test_inboxes_of_other_names_are_other_inboxes_and_of_one_name_the_oldest_takes() -> None:
    stepper = Stepper(
        """
        name: t
        main:
          - parallel:
              - listen: {messages: chat, until: 'true', do: {evaluate: $ _}}
              - listen: {messages: orders, until: 'true', do: {evaluate: $ _}}
              - listen: {messages: chat, until: 'true', do: {evaluate: $ _}}
        """
    )
    stepper.message("o", name="orders")
    stepper.message("a", name="chat")
    stepper.message("b", name="chat")
    assert stepper.outcome == ["a", "o", "b"]


NESTED = """
name: t
main:
  - listen:
      busy: BUSY
      until: 'true'
      do:
        - set: {first: $ _}
        - listen: {until: _ == 'over', busy: enqueue, do: [{sleep: 1}, {evaluate: $ _}]}
        - evaluate: $ [state.first, _]
"""


@pytest.mark.parametrize("busy", ["reject", "enqueue", "join", "interrupt", "rollback"])
def test_a_step_that_listens_inside_a_turn_of_another_one_takes_what_it_waits_for(busy: str) -> None:
    stepper = Stepper(NESTED.replace("BUSY", busy))
    assert stepper.message("a")["path"] == "main.0"
    told = stepper.message("b")
    assert (told["disposition"], told["path"]) == ("started", "main.0.do[0].1")
    stepper.go()
    assert stepper.message("over")["disposition"] == "started"
    stepper.go()
    assert stepper.outcome == [["a"] if busy == "join" else "a", "over"]


def test_a_turn_that_waits_for_something_else_is_a_turn() -> None:
    stepper = Stepper(
        """
        name: t
        main:
          - parallel:
              - listen: {until: 'true', do: [{wait_for_input: {info: x}}]}
              - [{sleep: 1}, {listen: {until: 'true', do: {evaluate: $ _}}}]
        """
    )
    stepper.message("a")
    assert stepper.happen() is not None
    assert stepper.message("b")["path"] == "main.0[1].1"


def test_an_execution_that_began_before_that_was_mended_goes_on_as_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    stepper = Stepper(NESTED.replace("BUSY", "enqueue"))
    monkeypatch.setattr(stepper.effects, "patched", lambda patch: False)
    stepper.message("a")
    assert stepper.message("b")["disposition"] == "queued"


def test_no_more_than_a_thousand_messages_wait() -> None:
    stepper = Stepper("main: [{sleep: 1h}]")
    for _ in range(1_000):
        stepper.message(settle=False)
    told = stepper.message()
    assert (told["disposition"], told["code"]) == ("rejected", "inbox.full")


# --- while a turn runs ---------------------------------------------------------------------------------------------


def test_reject_refuses_a_message_while_a_turn_runs_and_takes_it_afterwards() -> None:
    stepper = listening("busy: reject")
    stepper.message("one")
    told = stepper.message("two")
    assert (told["disposition"], told["code"]) == ("rejected", "inbox.busy")
    stepper.go()
    assert stepper.message("three")["disposition"] == "started"
    assert turns(stepper) == ["one", "three"]


def test_enqueue_gives_each_message_its_own_turn_in_order() -> None:
    stepper = listening()
    for word in ("one", "two", "three"):
        stepper.message(word)
    assert dispositions(stepper) == ["started", "queued", "queued"]
    stepper.go()
    assert turns(stepper) == called(stepper) == ["one", "two", "three"]


def test_joined_messages_have_one_turn_and_every_turn_gets_a_list() -> None:
    stepper = listening("busy: join")
    for word in ("one", "two", "three"):
        stepper.message(word, word)
    stepper.go()
    assert dispositions(stepper) == ["started", "joined", "joined"]
    assert turns(stepper) == [["one"], ["two", "three"]]
    told = [body["messages"] for body in stepper.bodies(EventType.INIT_BRANCH)]
    assert told == [["one"], ["two", "three"]]


def test_interrupt_stops_the_turn_and_drops_what_its_call_still_brings() -> None:
    stepper = listening("busy: interrupt; until: _ == 'two'")
    stepper.message("one")
    told = stepper.message("two")
    assert (told["disposition"], told["turn"]) == ("interrupting", 1)
    stepper.go()
    assert [body["outcome"] for body in stepper.bodies(EventType.EFFECT_FINISHED)] == ["cancelled", "ok"]
    assert stopped(stepper) == [("main.0.do[0]", "interrupt", "message.interrupted")]
    assert stepper.outcome == ["two", "end"]


def test_interrupt_keeps_what_the_turn_did_and_undoes_nothing_before_a_later_failure() -> None:
    stepper = Stepper(UNDOING.replace("BUSY", "interrupt"))
    stepper.message(1)
    stepper.happen()
    assert called(stepper) == ["do 1", "slow"]
    stepper.message(2)
    stepper.go()
    # the first turn came to its `set`, so the state has it; the error of the second turn then undoes both
    assert stepper.outcome == "task.error"
    assert called(stepper) == ["do 1", "slow", "do 2", "undo 2", "undo 1"]
    assert stepper.bodies(EventType.ERROR)[-1]["error"]["message"] == "seen [1, 2]"


def test_rollback_undoes_the_turn_and_gives_the_state_back() -> None:
    stepper = Stepper(UNDOING.replace("BUSY", "rollback"))
    stepper.message(1)
    stepper.happen()
    told = stepper.message(2)
    assert (told["disposition"], told["turn"]) == ("rolling_back", 1)
    stepper.go()
    assert called(stepper) == ["do 1", "slow", "undo 1", "do 2", "undo 2"]
    assert stopped(stepper)[0] == ("main.1.do[0]", "rollback", "message.rolled_back")
    assert stepper.bodies(EventType.ERROR)[-1]["error"]["message"] == "seen [2]"


UNDOING = """
name: t
main:
  - set: {seen: "$ []"}
  - listen:
      busy: BUSY
      do:
        - evaluate: $ _
          label: message
        - tool: lookup
          arguments: {name: "do {{ _ }}"}
          undo: {tool: lookup, arguments: {name: "un{{ _.name }}"}}
        - set: {seen: "$ [*state.seen, steps['message'].output]"}
        - if: steps['message'].output == 2
          then: {error: "seen {{ state.seen }}"}
          else: {tool: lookup, arguments: {name: slow}}
"""


def test_rollback_takes_back_labels_too() -> None:
    stepper = Stepper(
        """
        name: t
        main:
          - listen:
              busy: rollback
              do:
                - {evaluate: $ _, label: kept}
                - sleep: 1h
        """
    )
    stepper.message(1)
    assert stepper.machine.walker.branches[0].scope.labels["kept"]["output"] == 1
    stepper.message(2, settle=False)
    stepper.machine.walker.state.paused = None
    before = [dict(branch.scope.labels) for branch in stepper.machine.walker.branches.values()]
    assert before[0]["kept"]["output"] == 1
    stepper.settle()
    assert stepper.machine.walker.branches[0].scope.labels["kept"]["output"] == 2
    assert stopped(stepper)[0][1] == "rollback"


@pytest.mark.parametrize("busy", ["interrupt", "rollback"])
def test_a_turn_is_stopped_in_all_its_branches_and_lists(busy: str) -> None:
    stepper = Stepper(
        f"""
        name: t
        main:
          - listen:
              busy: {busy}
              until: _ == 'done'
              do:
                - if: _ == 'work'
                  then:
                    - over: $ range(3)
                      map: {{workflow: work, arguments: $ _}}
                  else: {{evaluate: done}}
        work:
          - tool: lookup
            arguments: {{name: "do {{{{ _ }}}}"}}
            undo: {{tool: lookup, arguments: {{name: "un{{{{ _.name }}}}"}}}}
          - sleep: 1h
        """
    )
    stepper.message("work")
    for _ in range(3):
        stepper.happen()
    stepper.message("stop")
    for _ in range(10):
        stepper.happen()
    assert stepper.outcome == "done"
    undone = [name for name in called(stepper) if name.startswith("undo")]
    assert sorted(undone) == ([] if busy == "interrupt" else ["undo 0", "undo 1", "undo 2"])


def test_messages_that_come_together_act_as_if_they_came_one_by_one() -> None:
    stepper = listening("busy: interrupt; until: _ == 'c'")
    for word in ("a", "b", "c"):
        stepper.message(word, settle=False)
    stepper.settle()
    stepper.go()
    assert dispositions(stepper) == ["started", "interrupting", "interrupting"]
    assert turns(stepper) == ["a", "b", "c"]
    assert called(stepper) == ["c"]
    assert [place for place, _, _ in stopped(stepper)] == ["main.0.do[0]", "main.0.do[1]"]
    assert stepper.outcome == ["c", "end"]


def test_a_message_may_ask_for_another_policy_where_the_step_permits_it() -> None:
    stepper = listening("busy: enqueue; allow_busy: [interrupt]; until: _ == 'now'")
    stepper.message("one")
    stepper.message("later", busy="rollback")
    stepper.message("now", busy="interrupt")
    stepper.go()
    assert dispositions(stepper) == ["started", "queued", "interrupting"]
    assert turns(stepper) == ["one", "now"]


# --- carried over, paused, cancelled -------------------------------------------------------------------------------


def test_queued_messages_and_known_ids_are_carried_over() -> None:
    stepper = listening()
    stepper.message("one", "id-1")
    stepper.message("two", "id-2")
    stepper.machine.begin_drain()
    stepper.happen()
    stepper.carry()
    assert stepper.message("two", "id-2")["repeated"] is True
    stepper.go()
    assert turns(stepper) == ["one", "two"]


def test_a_carried_wait_for_a_message_keeps_its_idle_time() -> None:
    stepper = listening("idle: 10m")
    stepper.carry()
    stepper.go()
    assert stepper.outcome == ["given", "end"]


def test_a_paused_execution_takes_messages_and_begins_no_step() -> None:
    stepper = listening("busy: interrupt; until: _ == 'two'")
    stepper.message("one")
    stepper.control("pause")
    assert stepper.message("two")["disposition"] == "interrupting"
    stepper.go()
    assert called(stepper) == ["one"]
    stepper.control("continue")
    stepper.go()
    assert called(stepper) == ["one", "two"]
    assert stepper.outcome == ["two", "end"]


def test_a_cancel_wins_over_an_interrupt() -> None:
    stepper = Stepper(UNDOING.replace("BUSY", "interrupt"))
    stepper.message(1)
    stepper.happen()
    stepper.message(2, settle=False)
    stepper.machine.cancel("enough", "ann")
    stepper.go()
    assert stepper.outcome is None
    assert called(stepper) == ["do 1", "slow", "undo 1"]


def test_a_timeout_of_the_step_ends_it_in_a_turn_and_between_turns() -> None:
    for first in ([], ["one"]):
        stepper = Stepper("main: [{listen: {do: {sleep: 1h}}, timeout: 10m}]")
        for word in first:
            stepper.message(word)
        stepper.go()
        assert stepper.outcome == "step.timeout"


def test_of_two_that_listen_to_one_inbox_the_one_without_a_turn_takes_a_message() -> None:
    stepper = Stepper(
        """
        name: t
        main:
          - parallel:
              - listen: {busy: reject, until: 'true', do: [{sleep: 1h}, {evaluate: $ _}]}
              - [{sleep: 1}, {listen: {until: 'true', do: {evaluate: $ _}}}]
        """
    )
    stepper.message("a")
    stepper.happen()
    assert stepper.message("b")["disposition"] == "started"
    stepper.go()
    assert stepper.outcome == ["a", "b"]


def test_what_a_step_did_not_come_to_goes_to_another_that_listens_now() -> None:
    stepper = Stepper(
        """
        name: t
        main:
          - parallel:
              - listen: {until: 'true', do: [{sleep: 10}, {evaluate: $ _}]}
              - [{sleep: 1}, {listen: {until: 'true', do: [{sleep: 20}, {evaluate: $ _}]}}]
        """
    )
    stepper.message("a")
    assert stepper.message("b")["disposition"] == "queued"
    stepper.go()
    assert stepper.outcome == ["a", "b"]
