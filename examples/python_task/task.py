"""A task in Python: a model reads a complaint, a tool says what may be refunded, a person approves what is above it.

everstep validate task.py
everstep run task.py --input '{"customer": "Ada", "text": "The lamp came broken, I want my 80 euros back."}'
"""

from __future__ import annotations

from pydantic import BaseModel, Field

from engine import Task, approve, call_tool, evaluate, expr, if_, prompt, return_, system, tool, user


class Complaint(BaseModel):
    """What comes in."""

    customer: str
    text: str


class Claim(BaseModel):
    """What the model finds in the text."""

    reason: str = Field(description="The fault in a few words")
    amount: float = Field(ge=0, description="The money that is asked for, 0 if none")


@tool(effect="read")
def refund_limit(customer: str) -> float:
    """Say how much a customer may get back without a question.

    Args:
        customer: Name of the customer.
    """
    return 100.0 if customer == "Ada" else 20.0


refund = Task(
    description="Decide about a refund.",
    input=Complaint,
    main=[
        prompt(
            [system("Find out what a customer claims. Answer with JSON."), user("{{ _.text }}")],
            output=Claim,
            settings={"temperature": 0, "max_tokens": 80},
            unwrap=True,
            label="claim",
        ),
        call_tool(refund_limit, {"customer": expr("input.customer")}, label="limit"),
        if_(
            "steps['claim'].output.amount <= _",
            then=evaluate({"approved": True, "reason": "below the limit"}),
            else_=approve(
                {"customer": expr("input.customer"), "claim": expr("steps['claim'].output")},
                deadline="24h",
                default={"approved": False, "reason": "nobody decided"},
            ),
        ),
        return_({"claim": expr("steps['claim'].output"), "decision": expr("_")}),
    ],
)
