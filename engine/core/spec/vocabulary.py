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
        "agent": StepKind.AGENT,
        "embed": StepKind.EMBED,
        "search": StepKind.SEARCH,
        "if": StepKind.IF_ELSE,
        "switch": StepKind.SWITCH,
        "foreach": StepKind.FOREACH,
        "over": StepKind.MAP_REDUCE,
        "parallel": StepKind.PARALLEL,
        "race": StepKind.RACE,
        "while": StepKind.WHILE,
        "until": StepKind.UNTIL,
        "listen": StepKind.LISTEN,
        "workflow": StepKind.YIELD,
        "task": StepKind.TASK,
        "return": StepKind.RETURN,
        "wait_for_input": StepKind.WAIT_FOR_INPUT,
        "approve": StepKind.APPROVE,
        "wait_for_event": StepKind.WAIT_FOR_EVENT,
        "sleep": StepKind.SLEEP,
        "set": StepKind.SET,
        "get": StepKind.GET,
        "log": StepKind.LOG,
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
            "needs",
            "settings",
            "tools",
            "tool_choice",
            "tool_mode",
            "output_schema",
            "repair",
            "unwrap",
            "auto_run_tools",
            "disable_cache",
        ),
        StepKind.TOOL_CALL: ("tool", "arguments"),
        StepKind.AGENT: (
            "agent",
            "instructions",
            "model",
            "needs",
            "settings",
            "tools",
            "tool_mode",
            "rules",
            "max_rounds",
            "parallelism",
            "on_overflow",
            "output_schema",
            "repair",
            "unwrap",
        ),
        StepKind.EMBED: ("embed",),
        StepKind.SEARCH: ("search",),
        StepKind.IF_ELSE: ("if", "then", "else"),
        StepKind.SWITCH: ("switch",),
        StepKind.FOREACH: ("foreach",),
        StepKind.MAP_REDUCE: ("over", "map", "reduce", "initial", "parallelism", "on_item_error"),
        StepKind.PARALLEL: ("parallel", "parallelism", "on_item_error"),
        StepKind.RACE: ("race", "take", "stagger"),
        StepKind.WHILE: ("while", "do", "max_rounds"),
        StepKind.UNTIL: ("until", "do", "max_rounds"),
        StepKind.LISTEN: ("listen",),
        StepKind.YIELD: ("workflow", "arguments"),
        StepKind.TASK: ("task", "version", "arguments"),
        StepKind.RETURN: ("return",),
        StepKind.WAIT_FOR_INPUT: ("wait_for_input", "info"),
        StepKind.APPROVE: ("approve",),
        StepKind.WAIT_FOR_EVENT: ("wait_for_event", "key", "schema", "deadline", "default"),
        StepKind.SLEEP: ("sleep",),
        StepKind.SET: ("set",),
        StepKind.GET: ("get",),
        StepKind.LOG: ("log",),
        StepKind.ERROR: ("error",),
    }
)
"""The keys of each kind, its marker first."""

MODIFIERS: Final = ("label", "when", "cache", "retry", "timeout", "total_timeout", "on_error", "check", "undo")
"""The keys that may stand on any step."""

PARTNERS: Final = MappingProxyType(
    {
        "map": "a map needs `over:` beside it, on the same level",
        "then": "`then` needs `if:` beside it",
        "else": "`else` needs `if:` beside it",
        "do": "`do` stands inside `foreach: {in: …, do: …}` or `listen: {do: …}`, or beside `while:` or `until:`",
        "case": "`case` stands inside `switch: [{case: …, then: …}]`",
        "take": "`take` needs `race:` beside it",
        "in": "`in` stands inside `foreach: {in: …, do: …}`",
        "arguments": "`arguments` need `tool:`, `workflow:` or `task:` beside them",
        "messages": "messages are written as `prompt: [{role: …, content: …}]`",
        "yield": "a sub-workflow is run by `workflow: NAME`",
        "tool_call": "a tool is called by `tool: NAME`",
        "if_else": "a branch is written as `if:`, `then:`, `else:`",
        "map_reduce": "a map is written as `over:`, `map:`, `reduce:`",
    }
)
"""Keys that mark no kind, and what their authors mean by them."""

INSIDE: Final = MappingProxyType(
    {
        StepKind.SWITCH: ("case", "then"),
        StepKind.FOREACH: ("in", "do"),
        StepKind.SLEEP: ("seconds", "minutes", "hours", "days"),
        StepKind.APPROVE: ("info", "schema", "deadline", "default"),
        StepKind.LISTEN: ("messages", "busy", "allow_busy", "schema", "do", "until", "idle", "default"),
    }
)
"""Keys that stand inside of a step's marker, and that authors indent too little."""
OTHER_WORDS: Final = MappingProxyType(
    {
        (StepKind.MAP_REDUCE, "do"): "`over` runs the steps of `map:`",
        (StepKind.MAP_REDUCE, "each"): "`over` runs the steps of `map:`",
        (StepKind.MAP_REDUCE, "steps"): "`over` runs the steps of `map:`",
        (StepKind.MAP_REDUCE, "in"): "the items are the value of `over:` itself",
        (StepKind.WHILE, "then"): "a loop runs the steps of `do:`",
        (StepKind.UNTIL, "then"): "a loop runs the steps of `do:`",
        (StepKind.IF_ELSE, "do"): "`if` runs the steps of `then:`",
        (StepKind.IF_ELSE, "elif"): "write `else: {if: …}`, or use `switch`",
        (StepKind.IF_ELSE, "elseif"): "write `else: {if: …}`, or use `switch`",
    }
)
"""Keys of other languages, which stand for one of ours."""

LATER_KINDS: Final[tuple[str, ...]] = ()
LATER_TOOL_TYPES: Final = (
    "mcp",
    "computer_20241022",
    "bash_20241022",
    "text_editor_20241022",
)

PROVIDERS: Final = ("arxiv", "brave", "dummy", "email", "weather", "web", "wikipedia")
"""What a tool of the type `integration` may speak to."""

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
    "require",
    "finally",
    "allow",
    "dispatch",
)
SLEEP_UNITS_S: Final = MappingProxyType({"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0})

CHECKED_KINDS: Final = (StepKind.PROMPT, StepKind.TOOL_CALL, StepKind.AGENT, StepKind.TASK)
"""The kinds whose result may be checked."""
REPAIRING_KINDS: Final = (StepKind.PROMPT, StepKind.AGENT)
"""Those of them that can be told what is wrong and answer again."""
ON_FAIL: Final = ("repair", "error", "ask")
BUSY: Final = ("reject", "enqueue", "join", "interrupt", "rollback")
"""What becomes of a message that comes while a turn of the step that listens runs."""
DEFAULT_INBOX: Final = "message"

MAX_LABEL_CHARS: Final = 120
MAX_NAME_CHARS: Final = 40
MAX_TITLE_CHARS: Final = 255
MAX_PARALLELISM: Final = 100_000
MAX_ATTEMPTS: Final = 1_000
MAX_ROUNDS: Final = 1_000_000
DEFAULT_ROUNDS: Final = 1_000
MAX_REPAIR_ROUNDS: Final = 20
MAX_MODELS: Final = 50
MAX_CONTEXT: Final = 1_000_000_000
MAX_PRICE: Final = 1_000_000
MAX_TASK_VERSION: Final = 2**31 - 1
DEFAULT_AGENT_ROUNDS: Final = 50
DEFAULT_AGENT_PARALLELISM: Final = 10
TOOL_MODES: Final = ("auto", "native", "json")
"""How a model is offered tools."""
ON_OVERFLOW: Final = ("error", "truncate", "summarise")
