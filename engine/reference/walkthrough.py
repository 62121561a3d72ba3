"""The files of the walk-through at the start of the language reference: a task with a loop, a tool and an approval."""

from __future__ import annotations

from inspect import cleandoc
from types import MappingProxyType
from typing import Final

_TASK: Final = """
# refund.yaml
name: refund
description: Adds up what some orders cost, asks a person, and says what was refunded.

input_schema:
  type: object
  required: [orders]
  properties:
    orders: {type: array, items: {type: string}, minItems: 1}

main:
  # a loop: the steps under `do` run once for each order, which they see as `_`
  - label: prices
    foreach:
      in: _.orders
      do:
        tool: price_of
        arguments: {order: $ _}

  # `_` is now the output of the loop: the list of prices
  - label: total
    evaluate: $ sum(_)

  # waits until somebody answers, for a day at most
  - label: decision
    approve:
      info: "Refund {{ _ }} euros for {{ input.orders | length }} orders?"
      deadline: 24h
      default: {approved: false, reason: nobody answered}

  - if: _.approved
    then: {return: {refunded: "$ steps['total'].output"}}
    else: {error: "not refunded: {{ _.reason | default('no reason given') }}"}
"""

_TOOLS: Final = '''
"""The tools of this project."""

from engine import tool

PRICES = {"A1": 20.0, "A2": 7.5}


@tool(effect="read")
def price_of(order: str) -> float:
    """Look up what an order cost.

    Args:
        order: Its number.
    """
    return PRICES[order]
'''

_PROJECT: Final = """
# everstep.toml
[tools]
modules = ["tools.py"]
"""

_TEST: Final = """
# refund.test.yaml
cases:
  - name: refunds when a person agrees
    input: {orders: [A1, A2]}
    run_tools: [price_of]
    answers: {decision: {approved: true}}
    expect: {output: {refunded: 27.5}}

  - name: refunds nothing when nobody answers for a day
    input: {orders: [A1]}
    replies: {price_of: 20}
    expect:
      error: {code: task.error, message: "not refunded: nobody answered"}
      assert: seconds >= 24 * 3600

  - name: says which order it does not know
    input: {orders: [B7]}
    run_tools: [price_of]
    expect: {error: tool.failed}
"""

FILES: Final = MappingProxyType(
    {
        "tools.py": f"{cleandoc(_TOOLS)}\n",
        "everstep.toml": f"{cleandoc(_PROJECT)}\n",
        "refund.yaml": f"{cleandoc(_TASK)}\n",
        "refund.test.yaml": f"{cleandoc(_TEST)}\n",
    }
)
"""The files by their names, in the order in which one writes them."""
