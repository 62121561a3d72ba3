"""The words of the task language: keys, modifiers, what comes in a later version, and limits. Workflow-safe."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.kinds import StepKind

MARKERS: Final = MappingProxyType(
    {
        "evaluate": StepKind.EVALUATE,
        "prompt": StepKind.PROMPT,
        "tool": StepKind.TOOL_CALL,
        "if": StepKind.IF_ELSE,
        "foreach": StepKind.FOREACH,
        "over": StepKind.MAP_REDUCE,
        "parallel": StepKind.PARALLEL,
        "workflow": StepKind.YIELD,
        "return": StepKind.RETURN,
        "wait_for_input": StepKind.WAIT_FOR_INPUT,
        "sleep": StepKind.SLEEP,
        "set": StepKind.SET,
        "get": StepKind.GET,
        "error": StepKind.ERROR,
    }
)
"""The key by which a step shows its kind."""

MARKER_OF: Final = MappingProxyType({kind: marker for marker, kind in MARKERS.items()})

KEYS: Final = MappingProxyType(
    {
        StepKind.EVALUATE: ("evaluate",),
        StepKind.PROMPT: (
            "prompt",
            "model",
            "settings",
            "tools",
            "tool_choice",
            "output_schema",
            "repair",
            "unwrap",
            "auto_run_tools",
            "disable_cache",
        ),
        StepKind.TOOL_CALL: ("tool", "arguments"),
        StepKind.IF_ELSE: ("if", "then", "else"),
        StepKind.FOREACH: ("foreach",),
        StepKind.MAP_REDUCE: ("over", "map", "reduce", "initial", "parallelism", "on_item_error"),
        StepKind.PARALLEL: ("parallel", "parallelism", "on_item_error"),
        StepKind.YIELD: ("workflow", "arguments"),
        StepKind.RETURN: ("return",),
        StepKind.WAIT_FOR_INPUT: ("wait_for_input", "info"),
        StepKind.SLEEP: ("sleep",),
        StepKind.SET: ("set",),
        StepKind.GET: ("get",),
        StepKind.ERROR: ("error",),
    }
)
"""The keys of each kind, its marker first."""

MODIFIERS: Final = ("label", "when", "retry", "timeout", "total_timeout", "on_error")
"""The keys that may stand on any step."""

PARTNERS: Final = MappingProxyType(
    {
        "map": "a map needs `over:` beside it, on the same level",
        "then": "`then` needs `if:` beside it",
        "else": "`else` needs `if:` beside it",
        "do": "`do` stands inside `foreach: {in: …, do: …}`",
        "in": "`in` stands inside `foreach: {in: …, do: …}`",
        "arguments": "`arguments` need `tool:` or `workflow:` beside them",
        "messages": "messages are written as `prompt: [{role: …, content: …}]`",
        "yield": "a sub-workflow is run by `workflow: NAME`",
        "tool_call": "a tool is called by `tool: NAME`",
        "if_else": "a branch is written as `if:`, `then:`, `else:`",
        "map_reduce": "a map is written as `over:`, `map:`, `reduce:`",
    }
)
"""Keys that mark no kind, and what their authors mean by them."""

LATER_KINDS: Final = (
    "switch",
    "log",
    "while",
    "until",
    "race",
    "agent",
    "approve",
    "task",
    "wait_for_event",
    "embed",
    "search",
)
LATER_MODIFIERS: Final = ("cache", "check", "undo")
LATER_TASK_KEYS: Final = ("finally", "dispatch", "require", "allow")
LATER_TOOL_TYPES: Final = (
    "system",
    "integration",
    "mcp",
    "computer_20241022",
    "bash_20241022",
    "text_editor_20241022",
)

TASK_KEYS: Final = (
    "name",
    "description",
    "main",
    "input_schema",
    "tools",
    "metadata",
    "canonical_name",
    "inherit_tools",
    "limits",
    "dialect",
)
LATER_DIALECTS: Final = ("julep-2024", "julep-2025", "contenox")
SLEEP_UNITS_S: Final = MappingProxyType({"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0})

MAX_LABEL_CHARS: Final = 120
MAX_NAME_CHARS: Final = 40
MAX_TITLE_CHARS: Final = 255
MAX_PARALLELISM: Final = 100_000
MAX_ATTEMPTS: Final = 1_000
MAX_REPAIR_ROUNDS: Final = 20
