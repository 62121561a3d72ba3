"""What the reference says of the types of tools: python, api_call, system, function."""

from __future__ import annotations

from typing import Final

from engine.reference.entry import Entry, Group, example

_PAY: Final = """
from engine import ToolContext, tool


@tool(effect="write", idempotent=True, timeout_s=20)
def pay(amount: float, to: str, context: ToolContext) -> dict[str, str]:
    \"\"\"Pay an amount to somebody.

    Args:
        amount: In euros.
        to: Name of the receiver.
    \"\"\"
    # hand the key to the bank: the same for every repetition of this call
    return {"paid": f"{amount:g} to {to}", "key": context.idempotency_key[-6:]}
"""

TOOL_KINDS: Final = (
    Entry(
        "python",
        Group.TOOL,
        "A Python function of the operator's, which the worker calls.",
        (
            example(
                """
                main:
                  - tool: pay
                    arguments: {amount: 20, to: $ _.name}
                """,
                {"name": "Ada"},
                tools=_PAY,
                output={"paid": "20 to Ada", "key": "main.0"},
            ),
        ),
        notes=(
            "With `process=True` each call runs in a process of its own, which is killed when the call is cancelled or"
            " out of time; with `pool=…` only workers of that pool make it. `context.progress(…)` says how far it is.",
            "The function's annotations become the schema of its arguments, its docstring their description. It may be"
            " `async`; other functions run in a thread. Parameters and results are JSON or pydantic models.",
            "A task needs no `tools:` for it. An entry there may change `description` and `timeout`; schema, effect and"
            " `idempotent` come from the code.",
        ),
        see=("tool", "api_call"),
    ),
    Entry(
        "api_call",
        Group.TOOL,
        "An HTTP request that the worker makes.",
        (
            example(
                """
                tools:
                  - name: search
                    type: api_call
                    effect: read
                    timeout: 10s
                    api_call:
                      method: POST
                      url: https://books.example/search
                      headers: {Accept: application/json}
                main:
                  - tool: search
                    arguments: {json: {title: $ _}}
                    check: {if: _.status_code == 200}
                  - evaluate: $ _.json.hits
                """,
                "On Numbers",
                replies={"search": {"status_code": 200, "headers": {}, "json": {"hits": 3}}},
                output=3,
                text="POST counts as a write unless `effect` says otherwise.",
            ),
        ),
        notes=(
            "The arguments of a step may set url, method, headers, params, json, data, content, files, cookies and"
            " follow_redirects. They win over the definition; params and cookies are merged by name, and so are"
            " headers, where the definition wins.",
            "Other arguments that the schema of the arguments names fill the places of the address that have their"
            " names (`/orders/{order_id}`); the rest are members of the query with GET, HEAD, DELETE and OPTIONS, and"
            " of the JSON body (or of the form, if the tool has one) with POST, PUT and PATCH, over the definition's.",
            "Every request carries an `Idempotency-Key` header: the same for all repetitions of one step.",
            "Texts of the definition may hold `{{ secrets.NAME }}`, and nothing else in braces: a reference to a"
            " [secret](../secrets.md).",
            "Private addresses are refused unless the operator allows them (`[http] allow` in everstep.toml).",
        ),
        see=("tool", "python"),
    ),
    Entry(
        "system",
        Group.TOOL,
        "An operation on tasks, executions, agents, users, sessions or documents of the same tenant.",
        (
            example(
                """
                tools:
                  - name: start_report
                    type: system
                    system: {resource: execution, operation: create, arguments: {task: report}}
                main:
                  - tool: start_report
                    arguments: {input: {month: $ _}}
                  - evaluate: $ _.id
                """,
                "May",
                replies={"start_report": {"id": "0f6c", "task_id": "77aa", "task": "report", "version": 2}},
                output="0f6c",
                text="The execution runs on its own; a step `task` waits for its result.",
            ),
        ),
        notes=(
            "Resources and operations are agent, user and task (list, get, create, update, delete), execution (list,"
            " get, create), session (as agent, and create_or_update, history, chat) and doc (list, get, create, delete,"
            " search); `subresource: execution` of a task means its executions. Arguments that stand in the definition"
            " are fixed, `resource_id` is the `id`, or the task of an execution.",
            "`{resource: agent, subresource: doc, resource_id: ID}`, or `user` in place of `agent`, means the documents"
            " of that agent or user; without `resource_id` the argument `agent`, or `user`, says whose. `resource: doc`"
            " alone means those that are nobody's.",
            "The operator permits operations under `[tools] system`; without it those that read, and"
            " `execution.create`. `allow.tasks` of the task holds for what is read and started; a task with `allow`"
            " cannot write tasks.",
        ),
        see=("task", "python"),
    ),
    Entry(
        "task",
        Group.TOOL,
        "Runs another task as a child execution, for steps and for agents; its output is what the tool returns.",
        (
            example(
                """
                tools:
                  - name: refund
                    type: task
                    description: Pays an order back.
                    task: refund-order@prod
                    parameters:
                      type: object
                      properties: {order: {type: integer}}
                      required: [order]
                    approve: true
                main:
                  - tool: refund
                    arguments: {order: $ _}
                    label: refunded
                  - evaluate: $ _.paid
                """,
                7,
                answers={"refunded": {"approved": True}},
                replies={"refund": {"paid": 12.5}},
                output=12.5,
                text="The child begins only once the call is approved.",
            ),
        ),
        notes=(
            "All that holds for a step [`task`](kinds.md#task) holds for a call: `allow.tasks`, retries, cancels,"
            " the newest version if none is named. `task: {name: NAME}` means the same as `task: NAME`.",
            "The arguments are the child's input. They must fit `parameters`, an object of anything if left out, and"
            " then the task's own `input_schema`.",
            "`effect` is write unless the tool says otherwise. Without a `timeout` a call takes as long as the child.",
        ),
        see=("tool", "agent", "approve"),
    ),
    Entry(
        "integration",
        Group.TOOL,
        "A service that the operator switched on, under a name and with settings of the task's own.",
        (
            example(
                """
                tools:
                  - name: note
                    type: integration
                    integration: {provider: dummy, arguments: {lang: en}}
                main:
                  - tool: note
                    arguments: {text: $ _}
                    label: noted
                  - evaluate: $ _.result.text
                """,
                "tea",
                replies={"noted": {"result": {"lang": "en", "text": "tea"}}},
                output="tea",
            ),
        ),
        notes=(
            "[Providers](../integrations.md) are arxiv, brave, dummy, email, weather, web and wikipedia.",
            "`dummy` gives back what it is told; all others are refused unless the operator switched them on.",
            "`arguments` hold unless a call gives others. `setup` takes the place of the operator's keys and servers.",
        ),
        see=("tool", "api_call"),
    ),
    Entry(
        "function",
        Group.TOOL,
        "A function that your own program runs: a step that calls it waits for the answer; models are told of it too.",
        (
            example(
                """
                tools:
                  - name: pick_seat
                    type: function
                    timeout: 10m
                    parameters: {type: object, properties: {row: {type: integer}}}
                main:
                  - tool: pick_seat
                    arguments: {row: 3}
                    label: seat
                  - evaluate: {seat: $ _.number}
                """,
                answers={"seat": {"number": 17}},
                output={"seat": 17},
                text="The wait says `{kind: function_call, tool, arguments}`; its answer is the step's output.",
            ),
            example(
                """
                tools:
                  - name: show_map
                    type: function
                    description: Shows a place to the user.
                    parameters: {type: object, properties: {place: {type: string}}}
                main:
                  - label: ask
                    prompt: Where is Oslo?
                    tools: [show_map]
                  - evaluate: $ _.choices[0].message.tool_calls[0].function.arguments
                """,
                replies={
                    "ask": {
                        "$message": {
                            "tool_calls": [
                                {
                                    "id": "c1",
                                    "type": "function",
                                    "function": {"name": "show_map", "arguments": '{"place": "Oslo"}'},
                                }
                            ]
                        }
                    }
                },
                output='{"place": "Oslo"}',
            ),
        ),
        notes=(
            "Your program finds the call among the waits of the execution and answers it like any other wait. Without a"
            " `timeout` it is waited for as long as it takes.",
        ),
        see=("prompt", "tool", "wait_for_input"),
    ),
)
