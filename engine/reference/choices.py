"""What the reference says of the steps that choose: if and switch."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example

CHOICES: Final = (
    Entry(
        "if",
        Group.KIND,
        "Runs one or the other list of steps.",
        (
            example(
                """
                main:
                  - if: _.amount > 100
                    then:
                      - label: fee
                        evaluate: $ _.amount * 0.02
                      - evaluate: $ input.amount + _
                    else: {evaluate: $ _.amount}
                """,
                {"amount": 200},
                output=204.0,
            ),
            example(
                """
                main:
                  - if: _ > 100
                    then: {evaluate: large}
                """,
                7,
                output=7,
                text="Without `else` the input passes through.",
            ),
        ),
        output="The output of the list that ran.",
        nothing="Without `else`, a condition that does not hold passes the input through.",
        notes=(
            "`null`, `false`, `0`, empty text and empty lists and objects count as false, all else as true.",
            "Both lists get the step's input as `_`. Labels inside are visible after the step, if that list ran.",
        ),
        see=("switch", "when"),
    ),
    Entry(
        "switch",
        Group.KIND,
        "Runs the steps of the first case that holds.",
        (
            example(
                """
                main:
                  - switch:
                      - case: _.kind == 'refund'
                        then: {evaluate: "back: {{ _.amount }}"}
                      - case: _.amount > 1000
                        then: {evaluate: ask the boss}
                      - case: _
                        then: {evaluate: pay}
                """,
                {"kind": "order", "amount": 20},
                output="pay",
                text="`case: _` is the default and stands last.",
            ),
            example(
                """
                main:
                  - switch:
                      - case: _ == 1
                        then: {evaluate: one}
                """,
                2,
                output=2,
                text="No case holds: the input passes through.",
            ),
        ),
        output="The output of the case that ran.",
        nothing="If no case holds, the input passes through.",
        notes=(
            "Conditions are looked at in order, and none after the first that holds.",
            "`case: _` is the default and no condition; to ask whether the input is true write `case: bool(_)`.",
        ),
        see=("if",),
    ),
)
