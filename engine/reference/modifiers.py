"""What the reference says of the modifiers, which may stand on any step."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example, failure

MODIFIERS: Final = (
    Entry(
        "label",
        Group.MODIFIER,
        "Gives a step a name of yours: it is shown in the history, and other steps find its output by it.",
        (
            example(
                """
                main:
                  - label: net
                    evaluate: $ _.price * _.count
                  - label: tax
                    evaluate: $ _ * 0.2
                  - evaluate: $ steps['net'].output + steps['tax'].output
                """,
                {"price": 10, "count": 3},
                output=36.0,
            ),
        ),
        notes=(
            "`steps['net'].output` and `steps['net'].input` are what the step gave and got. Labels are unique in a"
            " named list, and visible there only. In a loop it is the last round's.",
            "Labels inside of `if`, `switch` and loops are visible after them; those inside of `over`, `parallel` and"
            " `race` in their own branch only.",
        ),
        failures=(
            failure(
                "expression.no_key",
                "the labelled step has not run, such as one in a branch that was not taken",
                "use `steps.get('net')`, or read the label in the same branch",
                """
                main:
                  - if: _
                    then: {label: net, evaluate: 1}
                  - evaluate: $ steps['net'].output
                """,
                False,
            ),
        ),
        see=("set",),
    ),
    Entry(
        "when",
        Group.MODIFIER,
        "Runs the step only if a condition holds.",
        (
            example(
                """
                main:
                  - when: _.country != 'NO'
                    evaluate: {price: $ _.price + 5, country: $ _.country}
                  - evaluate: $ _.price
                """,
                {"price": 10, "country": "NO"},
                output=10,
            ),
        ),
        nothing="If the condition does not hold, the input passes through and the step counts as done.",
        notes=("It is looked at once, before all other modifiers.",),
        see=("if",),
    ),
    Entry(
        "cache",
        Group.MODIFIER,
        "Takes the reply or output of an equal call that was made before, instead of making the call again.",
        (
            example(
                """
                main:
                  - prompt: "What is {{ _.lower() }}?"
                    unwrap: true
                    cache: 7d
                """,
                "Rain",
                replies=["Water that falls."],
                output="Water that falls.",
                text="For a week, whoever asks the same gets this reply; it costs nothing and takes no time.",
            ),
            example(
                """
                tools: [{name: rates, api_call: {method: GET, url: "https://rates.example/today"}}]
                main:
                  - tool: rates
                    cache: {ttl: 1d, key: $ _.day}
                """,
                {"day": "2026-11-20"},
                replies={"rates": {"status_code": 200, "headers": {}, "json": {"eur": 1.1}}},
                output={"status_code": 200, "headers": {}, "json": {"eur": 1.1}},
                text="With a `key` calls are equal only if it is the same too: here the day.",
            ),
        ),
        notes=(
            "It stands on `prompt` steps, and on `tool` steps whose tool has the effect `none` or `read`; anywhere else"
            " it is an error ([E509](../diagnostics.md#e509)).",
            "Equal are calls of one tenant with the same model and backends, settings, messages, tools, `output_schema`"
            " and `key`, or the same tool and arguments, whatever the task or step is called.",
            "Not kept is a reply that was cut off, calls tools, or does not fit its `output_schema`, and what is longer"
            " than a million characters. A later attempt of a step always calls anew, and what it gets is kept"
            " instead.",
            "The history shows what was taken as `cached`, with no tokens and a cost of 0. It is gone when the"
            " execution that brought it is purged.",
            "In memory (`dry-run`, `test`) nothing is kept, and the step runs each time.",
        ),
        see=("retry", "prompt", "tool"),
    ),
    Entry(
        "retry",
        Group.MODIFIER,
        "Says how often, and after which errors, the step is tried again.",
        (
            example(
                """
                main:
                  - label: ask
                    prompt: hello
                    unwrap: true
                    retry: {attempts: 3, initial: 10s, factor: 3}
                """,
                replies={
                    "ask": [
                        {"$error": {"code": "backend.overloaded", "retryable": True}},
                        {"$error": {"code": "backend.overloaded", "retryable": True}},
                        "Hi!",
                    ]
                },
                output="Hi!",
                seen=(("len(calls)", 3), ("round(seconds)", 40)),
                text="The pauses are 10 s and 30 s.",
            ),
            example(
                """
                main:
                  - retry: {attempts: 5, initial: 0, on: [task.error]}
                    on_error: {evaluate: "{{ error.attempts }} attempts"}
                    workflow: try

                try:
                  - error: not today
                """,
                output="5 attempts",
                text="Any step can be tried again; `on` names codes, or their first words.",
            ),
        ),
        notes=(
            "`attempts` is the number of attempts in all. Without `on`, errors are tried again that are marked as"
            " passing, and `tool.failed`, `tool.http_status`, `check.failed`, `task.error`, `step.timeout`,"
            " `wait.expired`; with `on`, those it names and no others.",
            "Without `retry` a prompt, and a tool of which a call may be repeated, has four attempts on errors that may"
            " pass (pauses of 1, 2 and 4 s); everything else has one.",
            "A server's wish for a longer pause (Retry-After) is respected. A lost worker uses up no attempt.",
            "Each attempt gets the step's input; a block that is tried again gets the state back as it was.",
        ),
        see=("timeout", "on_error"),
    ),
    Entry(
        "timeout",
        Group.MODIFIER,
        "Ends an attempt that takes too long.",
        (
            example(
                """
                main:
                  - timeout: 1m
                    on_error: {evaluate: $ error.code}
                    workflow: slow

                slow:
                  - sleep: 1h
                """,
                output="step.timeout",
                seen=(("seconds", 60.0),),
            ),
        ),
        notes=(
            "It is one attempt's time: with `retry`, each has it anew. On a prompt or tool it is the time of a call,"
            " which ends with `backend.timeout` or `tool.timeout`; time in which no worker is free does not count.",
            "The `repair` rounds of a prompt belong to its attempt: a round has what those before it left of the time,"
            " but at least a second. Without `timeout` each round has ten minutes.",
            "On a step that waits for an answer it is a deadline: `wait.expired`.",
        ),
        failures=(
            failure(
                "step.timeout",
                "an attempt takes longer",
                "raise it, or catch the error with `on_error`",
                "main: [{timeout: 1s, foreach: {in: '[1]', do: {sleep: 2s}}}]",
            ),
        ),
        see=("total_timeout", "retry", "limits"),
    ),
    Entry(
        "total_timeout",
        Group.MODIFIER,
        "Ends a step that takes too long, with all its attempts, pauses and `on_error` steps.",
        (
            example(
                """
                main:
                  - label: outer
                    on_error: {evaluate: $ error.code}
                    parallel:
                      - retry: {attempts: 100, initial: 1m}
                        total_timeout: 10m
                        error: not yet
                """,
                output="step.total_timeout",
                seen=(("seconds", 600.0),),
                text="The step's own `on_error` counts towards the time, so somebody around it catches the error.",
            ),
        ),
        failures=(
            failure(
                "step.total_timeout",
                "all of it takes longer; the step's own `on_error` does not see it",
                "raise it, or catch the error around the step",
                "main: [{total_timeout: 1s, sleep: 2s}]",
            ),
        ),
        see=("timeout",),
    ),
    Entry(
        "on_error",
        Group.MODIFIER,
        "Runs steps if the step fails for good; they see `error`, and their output becomes the step's.",
        (
            example(
                """
                main:
                  - label: rate
                    tool: get_rate
                    arguments: {currency: $ _.currency}
                    on_error:
                      - log: "{{ error.code }} at {{ error.step }}"
                      - evaluate: 1.0
                  - evaluate: $ input.amount * _
                """,
                {"currency": "XYZ", "amount": 5},
                tools="""
                from engine import tool


                @tool(effect="read")
                def get_rate(currency: str) -> float:
                    \"\"\"Return the rate of a currency.\"\"\"
                    raise ValueError(f"no rate for {currency}")
                """,
                output=5.0,
                seen=(("[event.log for event in trace if 'log' in event]", ["tool.failed at main.0"]),),
            ),
        ),
        output="The last output of its steps.",
        notes=(
            "`error` is `{code, message, step, attempts, details, retryable}`, and perhaps `hint`. `_` is the step's"
            " input.",
            "It comes after all attempts of `retry`. An error inside of it goes on upwards: `error: …` passes it on"
            " with words of your own.",
            "`limit.…` and a cancel cannot be caught. After `on_error` the step counts as succeeded, without `undo`.",
        ),
        see=("retry", "error", "finally", "undo"),
    ),
    Entry(
        "check",
        Group.MODIFIER,
        "Says what must hold of the result of a prompt, tool or task, and what is done if it does not.",
        (
            example(
                """
                main:
                  - label: title
                    prompt: "A title for: {{ _ }}"
                    unwrap: true
                    check:
                      - if: len(_) <= 20
                        message: "the title has {{ _ | length }} characters, but 20 are the most"
                """,
                "a report on tea",
                replies={"title": ["All that there is to be said about tea", "On tea"]},
                output="On tea",
                seen=(
                    (
                        "calls[1].request.messages[-1].content",
                        "That does not fit: the title has 38 characters, but 20 are the most. Answer again with nothing"
                        " but the corrected reply.",
                    ),
                ),
                text="On a prompt the message goes back to the model (`repair`).",
            ),
            example(
                """
                main:
                  - label: offer
                    prompt: "An offer for {{ _.name }}, as a number."
                    output_schema: {type: number}
                    unwrap: true
                    check: {if: _ < 1000, message: more than we may promise, on_fail: ask}
                """,
                {"name": "Ada"},
                replies={"offer": "5000"},
                answers={"offer": {"accept": True, "output": 900}},
                output=900,
                text="`ask` opens a wait: a person answers `{accept: true}`, if need be with another `output`, or"
                " `{accept: false}`.",
            ),
        ),
        notes=(
            "`_` is the result. Checks are looked at in order, up to the first that does not hold.",
            "`on_fail` is `repair` on a prompt if left out (as many rounds as its `repair` says, then `check.failed`),"
            " and `error` on others. `error` fails the attempt with `check.failed`, which `retry` repeats.",
        ),
        failures=(
            failure(
                "check.failed",
                "the result does not pass, or a person does not accept it; `error.details.output` has it",
                "`retry`, or `on_error`",
                "main: [{label: ask, prompt: x, unwrap: true, check: {if: _ == 'y', on_fail: error}}]",
                replies={"ask": "n"},
            ),
        ),
        see=("prompt", "tool", "approve"),
    ),
    Entry(
        "undo",
        Group.MODIFIER,
        "Says how to take the step back if something after it fails or the execution is cancelled.",
        (
            example(
                """
                main:
                  - on_error: {evaluate: "{{ error.message }}; the room is free again"}
                    workflow: trip

                trip:
                  - label: room
                    tool: book_room
                    arguments: {city: $ _.city}
                    undo: {tool: free_room, arguments: {room: $ _.room}}
                  - error: no flight
                """,
                {"city": "Oslo"},
                tools="""
                from engine import tool


                @tool
                def book_room(city: str) -> dict[str, str]:
                    \"\"\"Book a room.\"\"\"
                    return {"room": f"{city} 12"}


                @tool
                def free_room(room: str) -> None:
                    \"\"\"Give a room back.\"\"\"
                """,
                output="no flight; the room is free again",
                seen=(
                    (
                        "[[call.name, call.request] for call in calls]",
                        [["book_room", {"city": "Oslo"}], ["free_room", {"room": "Oslo 12"}]],
                    ),
                ),
            ),
        ),
        notes=(
            "Its steps see the step's output as `_`. Steps are taken back in reverse order, before an `on_error` or"
            " `finally` further out runs, and a cancel does not interrupt it.",
            "What is taken back is what succeeded inside the part that failed: a block, a branch, a sub-workflow, the"
            " task. A step that was skipped by `when`, or saved by `on_error`, is not.",
            "An error in `undo` stands in the history, and the others are still taken back. All of it has ten minutes"
            " (`limit.undo`). `return` is refused in it ([E511](../diagnostics.md#e511)).",
        ),
        see=("on_error", "finally"),
    ),
)
