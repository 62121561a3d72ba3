"""What the reference says of the keys of a task, beside its steps."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example, failure

KEYS: Final = (
    Entry(
        "name",
        Group.KEY,
        "Names the task: `everstep run greet` finds it by its name.",
        (example("name: greet\nmain: [{evaluate: $ task.name}]", output="greet"),),
        notes=("One line of at most 255 characters. Left out, the task is called after its file.",),
    ),
    Entry(
        "description",
        Group.KEY,
        "Says to people what the task is for.",
        (example("description: Adds one.\nmain: [{evaluate: $ _ + 1}]", 1, output=2),),
    ),
    Entry(
        "main",
        Group.KEY,
        "Holds the steps of the task.",
        (
            example(
                """
                main:
                  - evaluate: $ _ + 1
                  - evaluate: $ _ * 10
                """,
                4,
                output=50,
                text="Each step gets the output of the one before, the first one the input; the last output is the"
                " result.",
            ),
        ),
        notes=(
            "One step or a list of steps. Any other key that holds a step or a list of steps is a sub-workflow of that"
            " name, which `workflow: NAME` runs.",
        ),
        see=("workflow", "return"),
    ),
    Entry(
        "input_schema",
        Group.KEY,
        "Says what the input must look like, as a JSON Schema.",
        (
            example(
                """
                input_schema:
                  type: object
                  required: [name]
                  properties: {name: {type: string, minLength: 1}}
                main: [{evaluate: "Hello {{ _.name }}"}]
                """,
                {"name": "Ada"},
                output="Hello Ada",
            ),
        ),
        notes=("An input that does not fit is refused before an execution is made. Defaults are not filled in.",),
        failures=(
            failure(
                "input.invalid",
                "the input does not fit",
                "the message names the place",
                "input_schema: {type: object, required: [name]}\nmain: [{evaluate: 1}]",
                {},
            ),
        ),
        see=("require",),
    ),
    Entry(
        "require",
        Group.KEY,
        "Says what must hold of an input beyond its schema, before an execution is made.",
        (
            example(
                """
                require:
                  - if: _.until >= _.since
                    message: "{{ _.until }} is before {{ _.since }}"
                main: [{evaluate: "$ _.until + ' is fine'"}]
                """,
                {"since": "2026-01-01", "until": "2026-02-01"},
                output="2026-02-01 is fine",
            ),
        ),
        notes=("Conditions see `_` (or `input`) only. All messages of those that do not hold are shown.",),
        failures=(
            failure(
                "input.requirement",
                "a condition does not hold",
                "the message is yours",
                "require: [{if: _ > 0, message: too small}]\nmain: [{evaluate: 1}]",
                0,
            ),
        ),
        see=("input_schema",),
    ),
    Entry(
        "tools",
        Group.KEY,
        "Defines tools that only this task has, or gives the operator's tools other words and times.",
        (
            example(
                """
                tools:
                  - name: create_ticket
                    type: api_call
                    effect: write
                    idempotent: true
                    api_call: {method: POST, url: "https://desk.example/tickets"}
                main:
                  - tool: create_ticket
                    arguments: {json: {title: $ _}}
                  - evaluate: $ _.json.id
                """,
                "The door is stuck.",
                replies={"create_ticket": {"status_code": 201, "headers": {}, "json": {"id": 17}}},
                output=17,
            ),
        ),
        notes=("See [tools](tools.md).",),
        see=("tool", "api_call", "python", "function"),
    ),
    Entry(
        "limits",
        Group.KEY,
        "Ends an execution that runs away; the task cannot catch it.",
        (
            example(
                """
                limits: {rounds: 100, time: 1h, tokens: 20000}
                main:
                  - until: _ > 1000
                    do: {evaluate: $ _ + 1}
                """,
                0,
                error="limit.rounds",
                seen=(("error.message", "the loops of the execution have run 100 rounds"),),
            ),
        ),
        notes=(
            "Without it an execution may run a million steps; rounds, time and tokens have no limit.",
            "`finally` and `undo` steps run all the same.",
            "`tokens` and `cost` are compared before each model call with what it may use: its messages and"
            " `max_tokens`. A call that does not fit into what is left is not made. Calls side by side reserve what"
            " they may use; one without `max_tokens` waits near the limit until no other is under way. So a limit is"
            " exceeded by one call at most.",
            "With `cost` a model whose price is not known is not asked (`backend.unpriced`). Replies that a `cache`"
            " gives cost nothing. See [budgets](../budgets.md) for those of the operator.",
        ),
        failures=(
            failure(
                "limit.steps",
                "the execution runs more steps; each round of a loop counts its steps again",
                "raise `limits.steps`, or look for an endless loop",
                "limits: {steps: 10}\nmain: [{foreach: {in: $ range(20), do: {evaluate: 1}}}]",
            ),
            failure(
                "limit.rounds",
                "all loops together run more rounds",
                "raise `limits.rounds`, or look for an endless loop",
                "limits: {rounds: 10}\nmain: [{foreach: {in: $ range(20), do: {evaluate: 1}}}]",
            ),
            failure(
                "limit.time",
                "the execution lives longer, waits and sleeps included",
                "raise `limits.time`",
                "limits: {time: 1h}\nmain: [{sleep: 2h}]",
            ),
            failure(
                "limit.tokens",
                "the model calls together use more tokens",
                "raise `limits.tokens`",
                "limits: {tokens: 10}\nmain: [{label: ask, prompt: x}]",
                replies={"ask": {"$reply": "y", "$tokens": 11}},
            ),
            failure(
                "limit.cost",
                "the model calls together cost more dollars, or the next one may",
                "raise `limits.cost`, bound replies by `max_tokens`, or use a cheaper model",
                "limits: {cost: 0.5}\nmain: [{label: ask, prompt: x}]",
                replies={"ask": {"$reply": "y", "$cost": 0.6}},
            ),
        ),
        see=("timeout", "while"),
    ),
    Entry(
        "finally",
        Group.KEY,
        "Holds steps that run at the end, however the execution ended: success, error, or cancel.",
        (
            example(
                """
                main:
                  - set: {room: $ _.room}
                  - error: something broke
                finally:
                  - log: "closing {{ state.room }}: {{ error.message if error else output }}"
                """,
                {"room": "blue"},
                error="task.error",
                seen=(("[event.log for event in trace if 'log' in event]", ["closing blue: something broke"]),),
            ),
        ),
        output="The result stays the one of `main`.",
        notes=(
            "Its steps see `error` (null after a success) and `output` (null after an error), `input`, and the `state`"
            " of `main`. `_` is the output of `main`.",
            "An error in it fails an execution that had succeeded; after a failure it is added to the first error's"
            " details as `finally`. It has ten minutes (`limit.finally`). `return` is refused in it.",
        ),
        see=("on_error", "undo"),
    ),
    Entry(
        "allow",
        Group.KEY,
        "Says what the steps may touch at most: tools, models, hosts, secrets, other tasks.",
        (
            example(
                """
                allow: {tools: [find_order], models: [small], tasks: []}
                tools:
                  - name: find_order
                    type: api_call
                    api_call: {method: GET, url: "https://orders.example/find"}
                main:
                  - tool: find_order
                    arguments: {params: {id: $ _}}
                  - evaluate: $ _.json.state
                """,
                "A1",
                replies={"find_order": {"status_code": 200, "headers": {}, "json": {"state": "paid"}}},
                output="paid",
            ),
        ),
        notes=(
            "Without it, and for each kind that it leaves out, everything is open; `[]` permits nothing.",
            "A name that is written out and not permitted is refused before the task is accepted; one that is"
            " computed, when the step runs. A task that is run by `task:` is held to the bounds of both."
            " See [authority](../authority.md).",
        ),
        failures=(
            failure(
                "authority.denied",
                "a step would touch what is not permitted",
                "add the name to `allow`",
                "allow: {models: [small]}\nmain: [{prompt: x, model: $ _}]",
                "large",
            ),
        ),
        see=("task", "tools"),
    ),
    Entry(
        "dispatch",
        Group.KEY,
        "Says when and how executions of the task are started; it stands beside the plan, and is no part of it.",
        (
            example(
                """
                dispatch:
                  cron: "0 8 * * 1"
                  admission: {singleton: queue}
                  labels: [weekly]
                main: [{evaluate: done}]
                """,
                output="done",
            ),
        ),
        notes=(
            "`cron` and `triggers` of the newest version act: see [schedules](../schedules.md) and"
            " [events](../events.md).",
            "`admission` and `priority` hold for starts by request; what a step starts (`task:`) runs at once."
            " See [how starts are let in](../admission.md).",
        ),
    ),
    Entry(
        "dialect",
        Group.KEY,
        "Says by which rules the texts of the task are read.",
        (
            example(
                """
                dialect: julep-2025
                main: [{evaluate: "Hello {_.name}"}]
                """,
                {"name": "Ada"},
                output="Hello Ada",
            ),
        ),
        notes=("Left out, the rules of this reference hold. See [dialects](../dialects.md).",),
    ),
    Entry(
        "canonical_name",
        Group.KEY,
        "A stable name for programs, kept beside the task.",
        (example("name: Greet people\ncanonical_name: greet\nmain: [{evaluate: 1}]", output=1),),
    ),
    Entry(
        "metadata",
        Group.KEY,
        "Your own data, kept beside the task; a new version is made when it changes.",
        (example("metadata: {team: blue}\nmain: [{evaluate: 1}]", output=1),),
    ),
    Entry(
        "inherit_tools",
        Group.KEY,
        "Taken from older clients: whether the tools of the task's agent may be used.",
        (example("inherit_tools: true\nmain: [{evaluate: 1}]", output=1),),
        notes=("Agents have no tools in this version, so it changes nothing.",),
    ),
)
