"""What editors are told of each key of a task file: the shape of its value and a text for hover and completion."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from engine.core.kinds import StepKind, ToolEffect
from engine.core.spec import vocabulary

Shape = dict[str, Any]

ANY: Final[Shape] = {}
TEXT: Final[Shape] = {"type": "string"}
FLAG: Final[Shape] = {"type": "boolean"}
LIST: Final[Shape] = {"type": "array"}
OBJECT: Final[Shape] = {"type": "object"}


def ref(name: str) -> Shape:
    """Return a reference to a shared shape; see `SHARED`."""
    return {"$ref": f"#/$defs/{name}"}


def one_of(*words: str) -> Shape:
    """Return the shape of one of some words."""
    return {"enum": list(words)}


def whole(least: int, most: int) -> Shape:
    """Return the shape of a whole number within bounds, both included."""
    return {"type": "integer", "minimum": least, "maximum": most}


def closed(members: dict[str, tuple[Shape, str]], *required: str) -> Shape:
    """Return the shape of an object that has these members and no others.

    Args:
        members: Shape and text by name.
        required: Members that must be there.
    """
    properties = {name: {**shape, "description": text} for name, (shape, text) in members.items()}
    shape = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**shape, "required": list(required)} if required else shape


_DURATION: Final = r"\s*([0-9]+(\.[0-9]+)?|\.[0-9]+)\s*(ms|s|m|h|d)\s*"

_WAIT: Final = {
    "info": (ANY, "What the person who answers is told."),
    "schema": (ref("json_schema"), "JSON Schema of the answer; left out = anything."),
    "deadline": (ref("amount"), "How long it waits, such as 24h."),
    "default": (ANY, "The output at the deadline; without it the step fails with wait.expired."),
}
_FUNCTION: Final = {
    "name": (ref("name"), "Name by which models call it."),
    "description": (TEXT, "What it does, for the model."),
    "parameters": (ref("json_schema"), "JSON Schema of its arguments."),
}

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

SHARED: Final = MappingProxyType[str, Shape](
    {
        "steps": {
            "description": "One step or a list of steps.",
            "if": {"type": "array"},
            "then": {"items": ref("step"), "minItems": 1},
            "else": ref("step"),
        },
        "branches": {"type": "array", "items": ref("steps"), "minItems": 1},
        "expression": {
            "description": "An expression, with or without `$ `.",
            "type": ["string", "number", "boolean", "array", "object"],
        },
        "duration": {
            "description": "Seconds as a number, or text such as 500ms, 30s, 5m, 1h30m, 1d.",
            "type": ["number", "string"],
            "minimum": 0,
            "pattern": f"^({_DURATION})+$",
            "patternErrorMessage": "Write seconds as a number, or text such as 500ms, 30s, 5m, 1h30m, 1d.",
        },
        "amount": {
            "description": "A duration, or an expression that gives seconds.",
            "type": ["number", "string"],
            "minimum": 0,
            "pattern": rf"^(({_DURATION})+|\$\s[\s\S]*)$",
            "patternErrorMessage": "Write a duration such as 30s, or an expression that starts with `$ `.",
        },
        "json_schema": {"description": "A JSON Schema.", "type": ["object", "boolean"]},
        "name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": vocabulary.MAX_NAME_CHARS},
        "message": closed(
            {
                "role": (TEXT, "system, user, assistant, tool or developer."),
                "content": (ANY, "Its text, or a list of parts."),
                "name": (TEXT, "Name of the speaker."),
                "tool_calls": (ANY, "Calls that the assistant made."),
                "tool_call_id": (TEXT, "The call that this message answers."),
            },
            "role",
        )
        | {"additionalProperties": True},
    }
)
"""Shapes that several keys share, by their names in `$defs`."""

STEP_KEYS: Final = MappingProxyType[str, tuple[Shape, str]](
    {
        "evaluate": (ANY, "Computes a value: a literal, `$ expression`, a template, or an object or list of them."),
        "prompt": (
            {
                "if": {"type": "array"},
                "then": {"items": {"anyOf": [ref("message"), {"type": "string", "pattern": r"^\$"}]}, "minItems": 1},
                "else": TEXT,
            },
            "Asks a model: the text of one user message, or a list of messages {role, content}.",
        ),
        "model": (TEXT, "Name of the model; left out = the agent's or the backend's default."),
        "settings": (OBJECT, "Sampling settings: temperature, top_p, max_tokens, stop, seed, …"),
        "tools": (
            {
                "anyOf": [
                    {"const": "all"},
                    {
                        "type": "array",
                        "items": {
                            "anyOf": [
                                TEXT,
                                closed(
                                    {
                                        **_FUNCTION,
                                        "type": (one_of("function"), "Always function."),
                                        "function": (OBJECT, "The same members once more, as some clients write them."),
                                        "ref": (OBJECT, "{name}: a tool of the task."),
                                    }
                                ),
                            ]
                        },
                    },
                ]
            },
            "Tools that the model may ask for: `all`, or names of tools, or functions written out.",
        ),
        "tool_choice": (
            {"anyOf": [one_of("auto", "none", "required"), OBJECT]},
            "Whether the model has to use a tool: auto, none, required, or a named function.",
        ),
        "output_schema": (
            ref("json_schema"),
            "JSON Schema of the reply; a reply that does not fit is sent back with what is wrong.",
        ),
        "repair": (
            whole(0, vocabulary.MAX_REPAIR_ROUNDS),
            "Rounds in which a reply that does not fit is sent back; 2 if left out.",
        ),
        "unwrap": (FLAG, "Output only the reply's text, or the parsed object with `output_schema`."),
        "auto_run_tools": (FLAG, "Run the tools that the model asks for, and ask it again."),
        "disable_cache": (FLAG, "Taken for the sake of older clients."),
        "tool": (TEXT, "Calls a tool of the task or of the operator."),
        "arguments": (
            {"type": ["object", "string"]},
            "Arguments: an object, or an expression that gives one; left out = the step's input `_`.",
        ),
        "if": (ref("expression"), "Runs `then` if the condition holds, `else` otherwise; without one passes `_` on."),
        "then": (ref("steps"), "Steps if the condition holds."),
        "else": (ref("steps"), "Steps if it does not hold."),
        "switch": (
            {
                "type": "array",
                "minItems": 1,
                "items": closed(
                    {
                        "case": (ref("expression"), "Condition; `_` is the default and stands last."),
                        "then": (ref("steps"), "Steps of this case."),
                    },
                    "case",
                    "then",
                ),
            },
            "Runs the steps of the first case that holds; without one the input passes through.",
        ),
        "foreach": (
            closed(
                {
                    "in": (ref("expression"), "The list of items."),
                    "do": (ref("steps"), "Steps for each item, which they see as `_`."),
                },
                "in",
                "do",
            ),
            "Runs steps for each item, one after another; output: the list of outputs.",
        ),
        "over": (ref("expression"), "Runs `map` for each item of this list, many at a time."),
        "map": (ref("steps"), "Steps for each item, which they see as `_`."),
        "reduce": (ref("expression"), "Folds the outputs in order: `results` so far and `_`, the next output."),
        "initial": (ANY, "What `results` is at first; an empty list if left out."),
        "parallelism": (whole(1, vocabulary.MAX_PARALLELISM), "Most branches at one time; 100 if left out."),
        "on_item_error": (
            one_of("fail", "collect", "skip"),
            "What a failed item does: fail the step, become {error: …} in the list, or be left out.",
        ),
        "parallel": (ref("branches"), "Runs branches at the same time; output: the list of their outputs in order."),
        "race": (ref("branches"), "Runs branches at the same time; output: that of the first that succeeds."),
        "take": (whole(1, 1_000_000), "How many branches must succeed; more than 1 gives a list."),
        "stagger": (ref("duration"), "Pause between the starts of two branches."),
        "while": (ref("expression"), "Runs `do` as long as the condition holds; `_` = output of the round before."),
        "until": (ref("expression"), "Runs `do`, and again until the condition holds for its output `_`."),
        "do": (ref("steps"), "Steps of a round."),
        "max_rounds": (
            whole(1, vocabulary.MAX_ROUNDS),
            "Most rounds, 1,000 if left out; more fail with loop.too_many_rounds.",
        ),
        "workflow": (TEXT, "Runs a sub-workflow: a list of steps that stands beside `main`."),
        "task": (TEXT, "Runs another task as an execution of its own: its name, id, or name@alias."),
        "return": (ANY, "Ends the surrounding named list with this value."),
        "wait_for_input": (
            closed(_WAIT) | {"type": ["object", "null"]},
            "Waits for an answer from outside; output: the answer.",
        ),
        "info": (ANY, "What the person who answers is told; the older form of wait_for_input."),
        "approve": (
            {"anyOf": [{"type": ["string", "null"]}, closed(_WAIT)]},
            "Waits for a decision; output: {approved, reason}, or what `schema` asks for.",
        ),
        "wait_for_event": (TEXT, "Waits for an event of this name; output: its payload."),
        "key": (ANY, "Which of the events is meant, such as the number of an order."),
        "schema": _WAIT["schema"],
        "deadline": _WAIT["deadline"],
        "default": _WAIT["default"],
        "sleep": (
            {
                "anyOf": [
                    ref("amount"),
                    closed({unit: (ANY, f"Number of {unit}.") for unit in vocabulary.SLEEP_UNITS_S})
                    | {"minProperties": 1},
                ]
            },
            "Waits for a time, such as `{minutes: 5}` or `90s`; the input passes through.",
        ),
        "set": ({"type": ["object", "string"]}, "Merges an object into the state of this named list."),
        "get": (TEXT, "Reads one key of the state."),
        "log": (ANY, "Writes a text into the history; the input passes through."),
        "error": (TEXT, "Ends with the error task.error and this message."),
        "agent": (ANY, "Lets a model use tools until it is done. Not available in this version."),
        "embed": (ANY, "Turns texts into vectors. Not available in this version."),
        "search": (ANY, "Searches documents. Not available in this version."),
    }
)
"""Shape and text of each key that belongs to a kind of step."""

MODIFIER_KEYS: Final = MappingProxyType[str, tuple[Shape, str]](
    {
        "label": (
            {"type": "string", "pattern": "[^0-9]", "maxLength": vocabulary.MAX_LABEL_CHARS},
            "Your name for the step: seen in the history, and by `steps['…']` of the same named list.",
        ),
        "when": (ref("expression"), "Runs the step only if this holds; otherwise the input passes through."),
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
                        "Error codes or their first words, such as backend; left out = errors marked retryable.",
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
            "What must hold of the result of a prompt or tool: one check or a list of them.",
        ),
        "undo": (ref("steps"), "Steps that take the step back if the task fails later; they see its output as `_`."),
        "cache": (ANY, "Reuses the output of an earlier run. Not available in this version."),
    }
)
"""Shape and text of each key that may stand on any step."""

_CALL: Final = closed(
    {
        "method": (TEXT, "GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS; GET if left out."),
        "url": ({"type": "string", "pattern": "^https?://"}, "Address; the arguments of a step may replace it."),
        "headers": (OBJECT, "Headers."),
        "params": (OBJECT, "Members of the query string."),
        "json": (ANY, "Body as JSON."),
        "data": ({"type": ["object", "string"]}, "Body as a form, or as text."),
        "content": (TEXT, "Body as text."),
        "cookies": (OBJECT, "Cookies."),
        "timeout": (ref("duration"), "Longest time of one call."),
        "follow_redirects": (FLAG, "Whether redirects are followed."),
        "include_response_content": (FLAG, "Whether the output has the body as bytes as well."),
    },
    "url",
)
_TOOL: Final = closed(
    {
        "name": (ref("name"), "Name by which steps and models call it."),
        "type": (one_of("python", "api_call", "function"), "By its other members if left out."),
        "description": (TEXT, "What it does, for models and people."),
        "parameters": (ref("json_schema"), "JSON Schema of its arguments."),
        "effect": (one_of(*ToolEffect), "What it does to the world; only none and read may be repeated freely."),
        "idempotent": (FLAG, "Whether a repeated call with the same key does no harm."),
        "timeout": (ref("duration"), "Longest time of one call; 60s if left out."),
        "api_call": (_CALL, "The HTTP request it makes."),
        "function": (OBJECT, "{name, description, parameters}, as some clients write them."),
    }
)

TASK_KEYS: Final = MappingProxyType[str, tuple[Shape, str]](
    {
        "name": (
            {"type": "string", "minLength": 1, "maxLength": vocabulary.MAX_TITLE_CHARS},
            "Name of the task; left out = the name of the file.",
        ),
        "description": (TEXT, "What the task is for."),
        "main": (ref("steps"), "The steps where the task starts."),
        "input_schema": ({"type": ["object", "boolean", "null"]}, "JSON Schema of the input."),
        "tools": ({"type": "array", "items": _TOOL}, "Tools that only this task has."),
        "metadata": (OBJECT, "Your own data."),
        "canonical_name": (TEXT, "A stable name for programs."),
        "inherit_tools": (FLAG, "Whether the agent's tools may be used as well."),
        "limits": (
            closed(
                {
                    "steps": (whole(1, 1_000_000_000), "Most steps, rounds of loops counted each time."),
                    "rounds": (whole(1, 1_000_000_000), "Most rounds of all loops together."),
                    "time": (ref("duration"), "Longest life of an execution."),
                    "tokens": (whole(1, 1_000_000_000_000), "Most tokens of all model calls together."),
                }
            ),
            "What ends a runaway execution; the task cannot catch it.",
        ),
        "dialect": (
            one_of("everstep", "julep-2024", "julep-2025", "contenox"),
            "How texts are read; everstep if left out.",
        ),
        "require": (
            {
                "type": "array",
                "items": closed(
                    {
                        "if": (ref("expression"), "What must hold of the input `_`."),
                        "message": (ANY, "What the caller is told if it does not."),
                    },
                    "if",
                ),
            },
            "What must hold of an input before an execution is made.",
        ),
        "finally": (ref("steps"), "Steps that run however the task ended; they see `error` and `output`."),
        "allow": (
            closed(
                {
                    what: ({"type": "array", "items": TEXT}, f"Names of the {what} it may use; [] = none.")
                    for what in ("tools", "models", "hosts", "secrets", "tasks")
                }
            ),
            "What the task may use at most; left out = everything that you may use.",
        ),
        "dispatch": (OBJECT, "When and how executions are started; kept beside the plan."),
    }
)
"""Shape and text of each key of a task."""

REQUIRED: Final = MappingProxyType(
    {
        StepKind.IF_ELSE: ("if", "then"),
        StepKind.MAP_REDUCE: ("over", "map"),
        # the oldest clients write `kind_: wait_for_input` with `info` beside it
        StepKind.WAIT_FOR_INPUT: (),
        StepKind.WHILE: ("while", "do"),
        StepKind.UNTIL: ("until", "do"),
    }
)
"""Keys that a kind of step needs, where it is not its marker alone."""
