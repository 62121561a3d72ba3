"""What the reference says of the steps that run branches at the same time: parallel and race."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example, failure

TOGETHER: Final = (
    Entry(
        "parallel",
        Group.KIND,
        "Runs different steps on the same input at the same time.",
        (
            example(
                """
                main:
                  - parallel:
                      - label: summary
                        prompt: "One sentence on: {{ _.text }}"
                        unwrap: true
                      - - label: words
                          evaluate: $ _.text.split()
                        - evaluate: $ len(_)
                  - evaluate: {summary: "$ _[0]", words: "$ _[1]"}
                """,
                {"text": "Ada wrote the first program of all."},
                replies={"summary": "About Ada."},
                output={"summary": "About Ada.", "words": 7},
                text="A branch is a step or a list of steps.",
            ),
        ),
        output="The list of the branches' outputs, in the order in which the branches stand.",
        notes=(
            "Each branch has a copy of the state and of the labels: what it sets ends with it, and its labels are not"
            " visible afterwards. Use the outputs.",
            "With `on_item_error: fail` the first error stops the other branches, waits for them, and fails the step;"
            " `collect` puts `{error, index}` in its place, `skip` leaves it out.",
        ),
        see=("over", "race"),
    ),
    Entry(
        "race",
        Group.KIND,
        "Runs branches at the same time and goes on with the first that succeeds; the others are stopped.",
        (
            example(
                """
                main:
                  - race:
                      - - sleep: 1h
                        - evaluate: slow
                      - - sleep: 5s
                        - error: broken
                      - - sleep: 10s
                        - evaluate: fast
                """,
                output="fast",
                seen=(("seconds", 10.0),),
                text="A branch that fails is out of the race, and does not end it.",
            ),
            example(
                """
                main:
                  - race:
                      - {label: small, prompt: "{{ _ }}", model: small, unwrap: true}
                      - {label: large, prompt: "{{ _ }}", model: large, unwrap: true}
                    stagger: 800ms
                """,
                "Say hello.",
                replies={"small": {"$reply": "hello", "$after": 5}, "large": "Hello!"},
                output="Hello!",
                text="The large model is asked only if the small one has failed, or not answered after 800 ms.",
            ),
        ),
        output="The output of the branch that won; with `take` above 1 the list of the outputs that came first.",
        notes=(
            "A branch must not call a tool that changes something and is not idempotent, since it may be stopped in the"
            " middle ([E510](../diagnostics.md#e510)).",
        ),
        failures=(
            failure(
                "race.failed",
                "so many branches failed that `take` cannot be reached; `error.details.errors` has their errors",
                "catch it with `on_error`",
                "main: [{race: [{error: one}, {error: two}]}]",
            ),
        ),
        see=("parallel", "timeout"),
    ),
)
