"""What the reference says of the steps that only compute: evaluate, set, get, log, return, error."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example, failure

PURE: Final = (
    Entry(
        "evaluate",
        Group.KIND,
        "Computes a value and hands it on.",
        (
            example(
                """
                main:
                  - evaluate:
                      total: $ sum(item.price for item in _.items)
                      names: "{{ _.items | map(attribute='name') | join(', ') }}"
                      currency: EUR
                """,
                {"items": [{"name": "tea", "price": 3}, {"name": "cup", "price": 7.5}]},
                output={"total": 10.5, "names": "tea, cup", "currency": "EUR"},
                text="An expression keeps the type of its result, a template gives text, other text stands for itself.",
            ),
        ),
        output="The value.",
        notes=("It may be a literal, an expression, a template, or an object or list with any of them inside.",),
        failures=(
            failure(
                "expression.no_key",
                "an expression reads a member that is not there",
                "use `_.get('key', default)`, or demand the member in `input_schema`",
                "main: [{evaluate: $ _.price}]",
                {"name": "tea"},
            ),
        ),
        see=("set", "return"),
    ),
    Entry(
        "set",
        Group.KIND,
        "Keeps values under names, for later steps of the same named list.",
        (
            example(
                """
                main:
                  - set: {total: 0, customer: $ _.name}
                  - foreach:
                      in: $ input.prices
                      do: {set: {total: $ state.total + _}}
                  - evaluate: "{{ state.customer }} pays {{ state.total }}"
                """,
                {"name": "Ada", "prices": [3, 4]},
                output="Ada pays 7",
                text="`state` is what all `set` steps so far have kept; rounds of a loop see and change it.",
            ),
        ),
        output="The object that was set, not the whole state.",
        notes=(
            "The members are merged into `state`: those of the same name are replaced as a whole.",
            "A sub-workflow has a state of its own. Branches of `over`, `parallel` and `race` get a copy, and what they"
            " set ends with them: hand results on as outputs.",
        ),
        failures=(
            failure(
                "expression.type",
                "an expression gives something else than an object",
                "write an object: `set: {name: $ …}`",
                "main: [{set: $ _.n}]",
                {"n": 1},
            ),
        ),
        see=("get",),
    ),
    Entry(
        "get",
        Group.KIND,
        "Reads one name of the state.",
        (
            example(
                """
                main:
                  - set: {customer: $ _.name}
                  - evaluate: something else
                  - get: customer
                """,
                {"name": "Ada"},
                output="Ada",
            ),
        ),
        output="The value.",
        notes=("`$ state.customer` says the same inside an expression.",),
        failures=(
            failure(
                "expression.no_key",
                "no step has set that name",
                "set it first, also on the way that is taken when a branch is not",
                "main: [{get: customer}]",
            ),
        ),
        see=("set",),
    ),
    Entry(
        "log",
        Group.KIND,
        "Writes something into the history of the execution, for people who look at it.",
        (
            example(
                """
                main:
                  - log: "{{ _ | length }} orders came in"
                  - evaluate: $ _[0]
                """,
                ["A1", "A2"],
                output="A1",
                seen=(("[event.log for event in trace if 'log' in event]", ["2 orders came in"]),),
            ),
        ),
        output="Its input, unchanged.",
        notes=("What is no text is written as JSON.",),
    ),
    Entry(
        "return",
        Group.KIND,
        "Ends the named list it stands in, with a value: `main` and so the execution, or a sub-workflow.",
        (
            example(
                """
                main:
                  - if: not _
                    then: {return: nothing to do}
                  - foreach:
                      in: $ _
                      do:
                        - if: _.urgent
                          then: {return: $ _.id}
                  - return: nothing is urgent
                """,
                [{"id": "A1", "urgent": False}, {"id": "A2", "urgent": True}, {"id": "A3", "urgent": True}],
                output="A2",
                text="It ends the list from inside of branches and loops too.",
            ),
            example(
                """
                main:
                  - parallel:
                      - {return: first}
                      - [{sleep: 1h}, {evaluate: second}]
                """,
                output="first",
                seen=(("seconds < 1", True),),
                text="In a concurrent branch it stops the others, waits for them, and then ends the list.",
            ),
        ),
        output="The list ends with the value; the step itself hands nothing on.",
        notes=("It is refused in `finally` and `undo` ([E511](../diagnostics.md#e511)).",),
        see=("error", "workflow"),
    ),
    Entry(
        "error",
        Group.KIND,
        "Ends with an error of your own.",
        (
            example(
                """
                main:
                  - if: _.amount > 100
                    then: {error: "{{ _.amount }} is more than 100"}
                  - evaluate: paid
                """,
                {"amount": 250},
                error="task.error",
                seen=(("error.message", "250 is more than 100"),),
            ),
        ),
        output="None: the step fails, and with it all around it up to an `on_error`, or the execution.",
        failures=(
            failure(
                "task.error",
                "always",
                "catch it with `on_error`, where `error.message` is your text",
                "main: [{error: no}]",
            ),
        ),
        see=("on_error", "return", "require"),
    ),
)
