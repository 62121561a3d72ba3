"""What the reference says of the types of tools: python, api_call, function."""

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
            "The arguments of a step may set url, method, headers, params, json, data, content, cookies and"
            " follow_redirects. They win over the definition; params and cookies are merged by name, and so are"
            " headers, where the definition wins.",
            "Every request carries an `Idempotency-Key` header: the same for all repetitions of one step.",
            "Private addresses are refused unless the operator allows them (`[http] allow` in everstep.toml).",
        ),
        see=("tool", "python"),
    ),
    Entry(
        "function",
        Group.TOOL,
        "A function that models are told of and that your own program runs; steps cannot call it.",
        (
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
        see=("prompt",),
    ),
)
