"""What the golden tasks are compiled with: the operator's tools and an agent."""

from __future__ import annotations

from pathlib import Path

from engine.core.kinds import ToolEffect
from engine.core.plan.ir import AgentSnapshot, ToolContract

FOLDER = Path(__file__).parent

CONTRACTS = {
    "word_count": ToolContract(
        "word_count",
        "python",
        parameters={
            "type": "object",
            "properties": {"text": {"type": "string"}, "language": {"enum": ["en", "de"]}},
            "required": ["text"],
            "additionalProperties": False,
        },
        effect=ToolEffect.NONE,
        description="Count the words of a text.",
        timeout_s=10.0,
    ),
    "send_mail": ToolContract("send_mail", "python", effect=ToolEffect.EXTERNAL, description="Send a mail."),
}
AGENT = AgentSnapshot("a1", "Ada", "small", "Be brief.", {"temperature": 0.1})
