"""What editors are told of `allow` and `dispatch` of a task."""

from __future__ import annotations

from typing import Final

from engine.core.spec.read_allow import MAX_NAMES
from engine.core.spec.read_dispatch import (
    BUSY,
    LEAST_PRIORITY,
    MAX_COLLECTED,
    MAX_LABEL_CHARS,
    MAX_LABELS,
    MAX_RUNNING,
    MAX_STARTS,
)
from engine.source.editor_shapes import ANY, TEXT, Shape, closed, one_of, ref, whole

_ALLOWED: Final = {
    "tools": "Names of the tools that steps and agents may call.",
    "models": "Names of the models that may be asked; `(default)` is the one that the operator gives.",
    "hosts": "Hosts that HTTP tools may call: host, host:port, host:* or *.host.",
    "secrets": "Names of the secrets that may be read.",
    "tasks": "Names of the tasks that may be run.",
}
_KEY: Final[tuple[Shape, str]] = (
    ref("expression"),
    "What starts must have in common to count together, made of the input `_`.",
)
_CRON: Final[Shape] = {
    "anyOf": [
        TEXT,
        closed(
            {
                "at": (TEXT, "Minute, hour, day of the month, month, day of the week; or a word such as @daily."),
                "timezone": (TEXT, "Name of the time zone, such as Europe/Berlin; UTC if left out."),
                "input": (ANY, "The input of the execution; {} if left out."),
            },
            "at",
        ),
    ]
}
_ADMISSION: Final[dict[str, tuple[Shape, str]]] = {
    "debounce": (
        {
            "anyOf": [
                ref("duration"),
                closed(
                    {
                        "wait": (ref("duration"), "How long nothing must have come."),
                        "at_most": (ref("duration"), "After which time one starts all the same."),
                        "key": _KEY,
                    },
                    "wait",
                ),
            ]
        },
        "Of starts in quick succession only the last one counts.",
    ),
    "collect": (
        {
            "anyOf": [
                ref("duration"),
                closed(
                    {
                        "wait": (ref("duration"), "How long the first one waits for others."),
                        "size": (whole(1, MAX_COLLECTED), "How many are enough; 100 if left out."),
                        "key": _KEY,
                    },
                    "wait",
                ),
            ]
        },
        "Starts are gathered into one execution, whose input is the list of theirs.",
    ),
    "singleton": (
        {"anyOf": [one_of(*BUSY), closed({"busy": (one_of(*BUSY), "queue if left out."), "key": _KEY})]},
        "At most one execution runs at a time; another start waits, is dropped, or takes its place.",
    ),
    "concurrency": (
        {
            "anyOf": [
                whole(1, MAX_RUNNING),
                closed(
                    {
                        "limit": (whole(1, MAX_RUNNING), "How many executions of the task run at a time."),
                        "per_key": (whole(1, MAX_RUNNING), "How many of those with the same key."),
                        "key": (ref("expression"), "What `per_key` counts by, made of the input `_`."),
                    }
                ),
            ]
        },
        "So many executions run at a time; others wait, and keys take turns.",
    ),
}
_DISPATCH: Final[dict[str, tuple[Shape, str]]] = {
    "triggers": (
        {
            "type": "array",
            "maxItems": MAX_STARTS,
            "items": closed(
                {
                    "event": (TEXT, "Name of the event that starts an execution."),
                    "if": (ref("expression"), "What must hold of the event's value `_`."),
                    "input": (ANY, "The input, made of the event's value `_`; that value if left out."),
                },
                "event",
            ),
        },
        "Events that start an execution.",
    ),
    "cron": (
        {"anyOf": [_CRON, {"type": "array", "items": _CRON, "maxItems": MAX_STARTS}]},
        "Times at which an execution starts.",
    ),
    "admission": (closed(_ADMISSION), "Which starts are let in."),
    "priority": (whole(1, LEAST_PRIORITY), "1 comes first, 5 last."),
    "labels": (
        {
            "type": "array",
            "maxItems": MAX_LABELS,
            "items": {"type": "string", "minLength": 1, "maxLength": MAX_LABEL_CHARS},
        },
        "Words by which all executions of the task are found.",
    ),
}
BESIDE_KEYS: Final = {
    "allow": (
        {
            "anyOf": [
                closed(
                    {
                        what: ({"type": "array", "items": TEXT, "maxItems": MAX_NAMES}, text)
                        for what, text in _ALLOWED.items()
                    }
                ),
                {"type": "array", "maxItems": 0},
            ]
        },
        "What the steps may reach at most: a kind that is left out is open, [] permits none; `allow: []` permits "
        "nothing at all.",
    ),
    "dispatch": (
        closed(_DISPATCH),
        "What starts executions and which are let in. It stands beside the plan: changing it makes no new plan.",
    ),
}
"""Shape and text of both keys."""
