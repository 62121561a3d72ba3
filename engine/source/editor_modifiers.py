"""What editors are told of each key that may stand on any step: its shape and a text for hover and completion."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.spec import vocabulary
from engine.source.editor_shapes import ANY, TEXT, Shape, closed, one_of, ref, whole

_CHECK: Final = closed(
    {
        "if": (ref("expression"), "What must hold; `_` is the result."),
        "message": (ANY, "What is wrong if it does not; the model is told this when it repairs its reply."),
        "on_fail": (
            one_of(*vocabulary.ON_FAIL),
            "repair: the model answers again; error: the step fails; ask: a person decides.",
        ),
    },
    "if",
)

MODIFIER_KEYS: Final = MappingProxyType[str, tuple[Shape, str]](
    {
        "label": (
            {"type": "string", "pattern": "[^0-9]", "maxLength": vocabulary.MAX_LABEL_CHARS},
            "Your name for the step: seen in the history, and by `steps['…']` of the same named list.",
        ),
        "when": (ref("expression"), "Runs the step only if this holds; otherwise the input passes through."),
        "cache": (
            {
                "anyOf": [
                    ref("duration"),
                    closed(
                        {
                            "ttl": (ref("duration"), "How long it is kept."),
                            "key": (ANY, "What else must be the same, beside the call itself."),
                        },
                        "ttl",
                    ),
                ]
            },
            "Takes the reply or output of an equal call that was made before; on prompts and on tools that only read.",
        ),
        "retry": (
            closed(
                {
                    "attempts": (whole(1, vocabulary.MAX_ATTEMPTS), "Most attempts in all, the first included."),
                    "initial": (ref("duration"), "Pause after the first failure; 1s if left out."),
                    "factor": (
                        {"type": "number", "minimum": 1, "maximum": 100},
                        "What the pause grows by each time; 2 if left out.",
                    ),
                    "max": (ref("duration"), "Longest pause; 30s if left out."),
                    "on": (
                        {"anyOf": [TEXT, {"type": "array", "items": TEXT}]},
                        "Error codes or their first words, such as backend; left out = errors that may pass and"
                        " failures of tools, checks and the task itself.",
                    ),
                },
                "attempts",
            ),
            "How often and when the step is tried again after an error.",
        ),
        "timeout": (ref("duration"), "Longest time of one attempt."),
        "total_timeout": (ref("duration"), "Longest time of all attempts, pauses and `on_error` together."),
        "on_error": (
            ref("steps"),
            "Steps if it fails for good; they see `error`, and their output becomes the step's.",
        ),
        "check": (
            {"anyOf": [{"type": "array", "items": _CHECK}, _CHECK]},
            "What must hold of the result of a prompt, tool, agent or task: one check or a list of them.",
        ),
        "undo": (ref("steps"), "Steps that take the step back if the task fails later; they see its output as `_`."),
    }
)
"""Shape and text of each key that may stand on any step."""
