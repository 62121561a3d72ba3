"""What the reference says of the steps that wait: for an answer, an approval, an event, a time."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Failure, Group, example, failure

_EXPIRED: Final = "give it a `default`, or catch it with `on_error`"


def _bad_deadline(task: str) -> Failure:
    return failure(
        "input.rejected",
        "`deadline` is computed, and gives no number of seconds above 0",
        "give it seconds, at most ten years",
        task,
        {"seconds": "soon"},
    )


WAITS: Final = (
    Entry(
        "wait_for_input",
        Group.KIND,
        "Waits until somebody answers: a person, or a program.",
        (
            example(
                """
                main:
                  - label: which
                    wait_for_input:
                      info: {question: Which of these shall we order?, offers: $ _.offers}
                      schema: {type: integer, minimum: 0}
                  - evaluate: $ input.offers[_]
                """,
                {"offers": ["tea", "coffee"]},
                answers={"which": 1},
                output="coffee",
            ),
            example(
                """
                main:
                  - label: which
                    wait_for_input: {info: Which one?, deadline: 1d, default: 0}
                """,
                output=0,
                seen=(("seconds", 86400.0),),
                text="Nobody answers for a day: the step ends with the default.",
            ),
        ),
        output="The answer, or `default` at the deadline.",
        notes=(
            "Without `deadline` it waits for ever; that costs nothing.",
            "`everstep answer ID --input JSON` answers; with several open waits `--wait-id` says which one. An answer"
            " that does not fit `schema` is refused, and the step goes on waiting.",
            "A `timeout` on the step ends the wait with `wait.expired` too.",
        ),
        failures=(
            failure(
                "wait.expired",
                "the deadline passes and there is no `default`",
                _EXPIRED,
                "main: [{wait_for_input: {info: Well?, deadline: 1h}}]",
            ),
            _bad_deadline("main: [{wait_for_input: {info: Well?, deadline: $ _.seconds}}]"),
        ),
        see=("approve", "wait_for_event"),
    ),
    Entry(
        "approve",
        Group.KIND,
        "Waits until a person says yes or no.",
        (
            example(
                """
                main:
                  - label: decision
                    approve: "Shall we pay {{ _.amount }} to {{ _.to }}?"
                  - if: _.approved
                    then: {evaluate: paid}
                    else: {error: "refused: {{ _.get('reason', 'no reason given') }}"}
                """,
                {"amount": 250, "to": "Ada"},
                answers={"decision": {"approved": True}},
                output="paid",
            ),
            example(
                """
                main:
                  - approve:
                      info: {question: Shall we pay?, amount: $ _.amount}
                      deadline: 24h
                      default: {approved: false, reason: nobody answered}
                """,
                {"amount": 250},
                output={"approved": False, "reason": "nobody answered"},
                text="The long form, with a deadline that nobody keeps.",
            ),
        ),
        output="`{approved: true or false, reason: text}`, where the reason may be missing; with `schema` what that"
        " asks for.",
        notes=(
            "Without `deadline` it waits for ever.",
            "A refusal is an answer like any other: look at `_.approved`.",
            "Answer with `everstep answer ID --input '{\"approved\": true}'`.",
        ),
        failures=(
            failure(
                "wait.expired",
                "the deadline passes and there is no `default`",
                _EXPIRED,
                "main: [{approve: {info: Well?, deadline: 1h}}]",
            ),
            _bad_deadline("main: [{approve: {info: Well?, deadline: $ _.seconds}}]"),
        ),
        see=("wait_for_input", "check"),
    ),
    Entry(
        "wait_for_event",
        Group.KIND,
        "Waits for an event that another system sends to this execution.",
        (
            example(
                """
                main:
                  - wait_for_event: order.paid
                    key: $ _.order
                    schema: {type: object, required: [amount]}
                    deadline: 3d
                  - evaluate: "{{ input.order }}: {{ _.amount }} came"
                """,
                {"order": "A7"},
                answers={"order.paid": {"$answer": {"amount": 20}, "$after": 3600}},
                output="A7: 20 came",
            ),
        ),
        output="The event's value, or `default` at the deadline.",
        notes=(
            "Without `deadline` it waits for ever.",
            "`everstep event ID order.paid --key '\"A7\"' --input '{\"amount\": 20}'` sends one.",
            "Name and `key` must be equal. An event that comes before its step, or does not fit, is kept for a step"
            " that takes it; an event with the same id counts once.",
        ),
        failures=(
            failure(
                "wait.expired",
                "the deadline passes and there is no `default`",
                _EXPIRED,
                "main: [{wait_for_event: order.paid, deadline: 1h}]",
            ),
            _bad_deadline("main: [{wait_for_event: order.paid, deadline: $ _.seconds}]"),
        ),
        see=("wait_for_input",),
    ),
    Entry(
        "listen",
        Group.KIND,
        "Takes messages and runs steps for each of them, turn after turn: a conversation.",
        (
            example(
                """
                main:
                  - set: {said: []}
                  - listen:
                      messages: chat
                      schema: {type: string}
                      do:
                        - set: {said: "$ [*state.said, _]"}
                        - prompt: "Answer the last of these: {{ state.said }}"
                          label: reply
                          unwrap: true
                      until: state.said[-1] == 'bye'
                      idle: 7d
                """,
                answers={"chat": ["hello", {"$answer": "bye", "$after": 60}]},
                replies={"reply": ["Hello! How are you?", "Bye!"]},
                output="Bye!",
            ),
            example(
                """
                main:
                  - listen:
                      busy: interrupt
                      do:
                        - log: "looks for {{ _ }}"
                        - sleep: 10m
                        - evaluate: "found {{ _ }}"
                      idle: 1h
                """,
                answers={"message": ["tea", {"$message": "coffee", "$after": 60}]},
                output="found coffee",
                seen=(("seconds", 4260.0),),
                text="The second message comes after a minute and interrupts the turn of the first.",
            ),
            example(
                """
                main:
                  - listen:
                      busy: join
                      do: [{sleep: 10}, {evaluate: $ _}]
                      until: len(_) > 1
                """,
                answers={"message": ["a", {"$message": "b", "$after": 1}, {"$message": "c", "$after": 1}]},
                output=["b", "c"],
                text="What comes during a turn is taken together by the next one. Where messages may join, `_` is a"
                " list in every turn.",
            ),
        ),
        output="The output of the last turn that ended. If no message came for as long as `idle` says, `default`;"
        " without it that of the last turn too, or the step's input if there was none.",
        notes=(
            "`everstep message ID 'Hello!' --name chat` sends one; the API, the client and the command tell what"
            " becomes of it. A message with a known id is taken once.",
            "Between turns every message begins one. While a turn runs, `busy` decides: `reject` refuses it;"
            " `enqueue` gives it a turn of its own, in order; `join` gives one turn to all that came; `interrupt` stops"
            " the turn, of which what it did so far stays; `rollback` stops it, runs the `undo` of its steps, and takes"
            " state and labels back to what they were before it. A message may ask for a policy in `allow_busy`.",
            "Turns see the same state and labels, as rounds of a loop do. They count as rounds for `limits`.",
            "Messages that come before the step, or that it did not come to, are kept for the next step of the same"
            " inbox: at most 1,000, then `inbox.full`. One that does not fit `schema` is refused.",
            "Without `until` and `idle` it listens until a `return` in a turn, an error, or a cancel.",
        ),
        failures=(
            failure(
                "input.rejected",
                "`idle` is computed, and gives no number of seconds above 0",
                "give it seconds, at most ten years",
                "main: [{listen: {do: {evaluate: $ _}, idle: $ _.seconds}}]",
                {"seconds": "soon"},
            ),
        ),
        see=("wait_for_event", "until"),
    ),
    Entry(
        "sleep",
        Group.KIND,
        "Waits for a time; restarts of workers and servers do not shorten or lengthen it.",
        (
            example(
                """
                main:
                  - sleep: 1h30m
                  - sleep: {minutes: $ _.minutes, seconds: 15}
                  - evaluate: $ _.text
                """,
                {"minutes": 2, "text": "good morning"},
                output="good morning",
                seen=(("seconds", 5535.0),),
            ),
        ),
        output="Its input, unchanged.",
        notes=("The time is a duration, an expression that gives seconds, or an object of the units below.",),
        failures=(
            failure(
                "input.rejected",
                "a computed time is no number of seconds above 0, or more than ten years",
                "compute a number: `$ max(1, _.pause)`",
                "main: [{sleep: $ _}]",
                0,
            ),
        ),
        see=("wait_for_input", "timeout"),
    ),
)
