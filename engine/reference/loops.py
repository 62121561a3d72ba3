"""What the reference says of the loops: foreach, while, until, over."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example, failure

_ENDLESS: Final = "look at the condition, or raise `max_rounds`"

LOOPS: Final = (
    Entry(
        "foreach",
        Group.KIND,
        "Runs steps for each item of a list, one after another.",
        (
            example(
                """
                main:
                  - foreach:
                      in: $ _.names
                      do:
                        - evaluate: $ _.strip().title()
                        - evaluate: "Dear {{ _ }}"
                """,
                {"names": [" ada", "GRACE "]},
                output=["Dear Ada", "Dear Grace"],
            ),
            example(
                """
                main:
                  - foreach:
                      in: $ _
                      do: {evaluate: $ _}
                """,
                [],
                output=[],
                text="No items: an empty list.",
            ),
        ),
        output="The list of the outputs, one for each item.",
        nothing="Without items the output is an empty list.",
        notes=(
            "The steps see the item as `_`. Of an object its keys are the items.",
            "What a round sets in the state, the next one sees. Use `over` to work on many items at a time.",
        ),
        failures=(
            failure(
                "expression.type",
                "`in` gives neither a list nor an object",
                "give it a list, such as `_.get('orders', [])`",
                "main: [{foreach: {in: $ _.n, do: {evaluate: $ _}}}]",
                {"n": 3},
            ),
        ),
        see=("over", "while"),
    ),
    Entry(
        "over",
        Group.KIND,
        "Runs steps for each item of a list, many at a time, and folds the outputs if `reduce` says how.",
        (
            example(
                """
                main:
                  - over: $ _.texts
                    parallelism: 2
                    map:
                      - label: read
                        prompt: "How does the writer feel? {{ _ }}"
                        unwrap: true
                """,
                {"texts": ["I love it.", "Never again."]},
                replies={"main.0.map[0].0": "happy", "main.0.map[1].0": "angry"},
                output=["happy", "angry"],
                text="The outputs stand in the order of the items, whichever came first.",
            ),
            example(
                """
                main:
                  - over: $ _
                    map: {evaluate: $ _ * _}
                    initial: 0
                    reduce: results + _
                """,
                [1, 2, 3],
                output=14,
                text="`reduce` runs once for each output, in order: `results` is what it gave so far, at first"
                " `initial`.",
            ),
            example(
                """
                main:
                  - over: $ _
                    on_item_error: collect
                    map: {evaluate: $ 10 // _}
                  - evaluate: {good: "$ _[0]", bad: "$ _[1].error.code"}
                """,
                [5, 0],
                output={"good": 2, "bad": "expression.zero_division"},
                text="`collect` puts `{error, index}` where an output is missing, `skip` leaves it out.",
            ),
            example(
                """
                main:
                  - over: $ _
                    on_item_error: collect
                    map: {evaluate: {parts: $ 10 // _.share}}
                  - evaluate: "$ [input[bad.index].name + ' ' + bad.error.code for bad in _ if 'error' in bad]"
                """,
                [{"name": "Ada", "share": 5}, {"name": "Eve", "share": 0}],
                output=["Eve expression.zero_division"],
                text="`index` is the place of the item in the list, from 0; with `reduce` too.",
            ),
        ),
        output="The list of the outputs in the order of the items, or what `reduce` gave last.",
        nothing="Without items the output is an empty list, or `initial` if there is a `reduce`.",
        notes=(
            "Each item has a copy of the state and of the labels: what it sets ends with it.",
            "With `on_item_error: fail` the first error stops the items that still run, waits for them, and fails the"
            " step. A reached limit fails it always.",
        ),
        failures=(
            failure(
                "expression.type",
                "`over` gives neither a list nor an object",
                "give it a list, such as `_.get('orders', [])`",
                "main: [{over: $ _.n, map: {evaluate: $ _}}]",
                {"n": 3},
            ),
        ),
        see=("foreach", "parallel"),
    ),
    Entry(
        "while",
        Group.KIND,
        "Runs steps as long as a condition holds.",
        (
            example(
                """
                main:
                  - while: _ < 100
                    do: {evaluate: $ _ * 3}
                """,
                2,
                output=162,
                text="`_` is at first the step's input, then the output of the round before.",
            ),
            example(
                """
                main:
                  - while: _ < 100
                    do: {evaluate: $ _ * 3}
                """,
                200,
                output=200,
                text="No round: the input passes through.",
            ),
        ),
        output="The output of the last round.",
        nothing="If the condition does not hold at once, the input passes through.",
        failures=(
            failure(
                "loop.too_many_rounds",
                "the condition still holds after `max_rounds` rounds",
                _ENDLESS,
                "main: [{while: 'true', do: {evaluate: 1}, max_rounds: 5}]",
            ),
        ),
        see=("until", "foreach", "limits"),
    ),
    Entry(
        "until",
        Group.KIND,
        "Runs steps, and again until a condition on their output holds.",
        (
            example(
                """
                main:
                  - set: {draft: $ _.text}
                  - label: review
                    until: _.good
                    max_rounds: 5
                    do:
                      - label: rewrite
                        prompt: "Make this shorter: {{ state.draft }}"
                        unwrap: true
                      - set: {draft: $ _}
                      - evaluate: {good: $ len(state.draft) < 20}
                  - get: draft
                """,
                {"text": "This text says very little with a great many words."},
                replies={"rewrite": ["This text says little.", "It says little."]},
                output="It says little.",
                text="Asks a model again until the text is short enough.",
            ),
        ),
        output="The output of the last round.",
        nothing="It runs once at least; the first round gets the step's input as `_`, each other the output before it.",
        failures=(
            failure(
                "loop.too_many_rounds",
                "the condition does not hold after `max_rounds` rounds",
                _ENDLESS,
                "main: [{until: 'false', do: {evaluate: 1}, max_rounds: 5}]",
            ),
        ),
        see=("while",),
    ),
)
