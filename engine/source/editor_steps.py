"""What editors are told of each key of a kind of step: its shape and a text for hover and completion."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from engine.core.kinds import StepKind
from engine.core.spec import vocabulary
from engine.source.editor_shapes import ANY, FLAG, OBJECT, TEXT, Shape, closed, one_of, ref, whole
from engine.source.editor_shared import APPROVE

_WAIT: Final = {
    "info": (ANY, "What the person who answers is told."),
    "schema": (ref("json_schema"), "JSON Schema of the answer; left out = anything."),
    "deadline": (ref("amount"), "How long it waits, such as 24h."),
    "default": (
        ANY,
        "The output at the deadline; without it the step fails with wait.expired. A default that is written out must"
        " look like a decision in `approve`; elsewhere it may be anything, such as null, to tell that nobody answered.",
    ),
}
_FUNCTION: Final = {
    "name": (ref("name"), "Name by which models call it."),
    "description": (TEXT, "What it does, for the model."),
    "parameters": (ref("json_schema"), "JSON Schema of its arguments."),
}
_NAMES: Final[Shape] = {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}
_TEXTS: Final[Shape] = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1}]}
_NEXT: Final = {
    "anyOf": [
        TEXT,
        closed(
            {
                "if": (ref("expression"), "What must hold of the result `_` of the tool before."),
                "tool": (TEXT, "The tool that may follow then."),
            },
            "if",
            "tool",
        ),
    ]
}
_RULE: Final = closed(
    {
        "first": (FLAG, "It must be called before any other tool."),
        "next": ({"anyOf": [_NEXT, {"type": "array", "items": _NEXT, "minItems": 1}]}, "What alone may follow it."),
        "only_after": (_NAMES, "The tools right after which alone it may be called."),
        "at_most": (whole(1, 1_000_000), "Most calls of it."),
        "ends": (FLAG, "The loop ends with its result."),
        "required": (FLAG, "The loop cannot end before it was called."),
        "approve": APPROVE,
    }
)
_NEEDS: Final = closed(
    {
        "tools": (FLAG, "It calls tools."),
        "vision": (FLAG, "It reads images."),
        "json_schema": (FLAG, "Its replies can be bound to a JSON Schema."),
        "context": (whole(1, vocabulary.MAX_CONTEXT), "Tokens that request and reply together may have at least."),
        "max_price": (
            {"type": "number", "minimum": 0, "maximum": vocabulary.MAX_PRICE},
            "Most dollars for a million tokens, of the request and of the reply alike; a model without a price is "
            "passed over.",
        ),
    }
)
_EMBED: Final = {
    "text": (_TEXTS, "A text or a list of texts."),
    "embed_instruction": (TEXT, "What the vectors are for, as some models want to be told."),
    "model": (TEXT, "Name of the model; left out = the default for embeddings."),
}


def _computed(shape: Shape) -> Shape:
    """Return the shape of a setting that may be an expression or a template as well."""
    return {"anyOf": [shape, {"type": "string", "pattern": r"^\$\s|\{\{|\{%"}]}


_SEARCH: Final = {
    "text": (TEXT, "The words to look for."),
    "vector": (
        {"anyOf": [{"type": "array"}, {"type": "string", "pattern": r"^\$\s"}]},
        "A vector to look for; beside `text` both count.",
    ),
    "metadata_filter": (
        {"anyOf": [OBJECT, {"type": "string", "pattern": r"^\$\s"}]},
        "What the metadata of a document must be.",
    ),
    "agent": (TEXT, "Id of the agent whose documents are searched; left out = the agent of the task."),
    "user": (TEXT, "Id of the user whose documents are searched."),
    "limit": (_computed(whole(1, 50)), "Most documents; 10 if left out."),
    "lang": (TEXT, "Language of the words, such as en-US."),
    "confidence": (_computed({"type": "number", "minimum": -1, "maximum": 1}), "Least likeness in meaning."),
    "alpha": (_computed({"type": "number", "minimum": 0, "maximum": 1}), "Weight of meaning: 0 words, 1 meaning."),
    "mmr_strength": (_computed({"type": "number", "minimum": 0, "maximum": 1}), "How much variety counts."),
    "k_multiplier": (_computed(whole(1, 100)), "How many more candidates than documents are looked at."),
    "trigram_similarity_threshold": (
        _computed({"type": "number", "minimum": 0, "maximum": 1}),
        "Least likeness in spelling.",
    ),
    "include_embeddings": (_computed(FLAG), "Whether the vectors of the documents are told."),
}

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
        "model": (
            _TEXTS,
            "Name of a model or a group, or a list of them in order of preference; left out = the agent's or the "
            "backend's default.",
        ),
        "needs": (_NEEDS, "What whoever answers must be able to do, and may cost at most."),
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
        "tool_mode": (
            one_of(*vocabulary.TOOL_MODES),
            "How the tools are offered: native = by the backend's own means, json = in words, answered with JSON, auto "
            "(if left out) = in words only to models that are known to have no tool calls.",
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
        "agent": (
            {
                "if": {"type": "array"},
                "then": {"items": {"anyOf": [ref("message"), {"type": "string", "pattern": r"^\$"}]}, "minItems": 1},
                "else": TEXT,
            },
            "Lets a model use tools, round after round, until it answers: the text of one user message, or a list of "
            "messages {role, content}.",
        ),
        "instructions": (TEXT, "The system message of the agent."),
        "rules": (
            {"type": "object", "additionalProperties": _RULE},
            "What the agent must observe about its tools: an object of rules by the names of the tools.",
        ),
        "on_overflow": (
            one_of(*vocabulary.ON_OVERFLOW),
            "What is done when the conversation outgrows the model: error (if left out), truncate or summarise.",
        ),
        "embed": (
            {"anyOf": [_TEXTS, closed(_EMBED, "text")]},
            "Turns a text or a list of texts into vectors; output: {vectors}.",
        ),
        "search": (
            {"anyOf": [TEXT, closed(_SEARCH)]},
            "Searches documents by words, by meaning, or by both; output: {docs}, the best first.",
        ),
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
        "parallelism": (
            whole(1, vocabulary.MAX_PARALLELISM),
            "Most branches at one time, 100 if left out; of an agent: tool calls, 10 if left out.",
        ),
        "on_item_error": (
            one_of("fail", "collect", "skip"),
            "What a failed item does: fail the step, become {error, index} in the list, or be left out.",
        ),
        "parallel": (ref("branches"), "Runs branches at the same time; output: the list of their outputs in order."),
        "race": (ref("branches"), "Runs branches at the same time; output: that of the first that succeeds."),
        "take": (whole(1, 1_000_000), "How many branches must succeed; more than 1 gives a list."),
        "stagger": (ref("duration"), "Pause between the starts of two branches."),
        "while": (ref("expression"), "Runs `do` as long as the condition holds; `_` = output of the round before."),
        "until": (ref("expression"), "Runs `do`, and again until the condition holds for its output `_`."),
        "listen": (
            closed(
                {
                    "messages": (TEXT, "Name of the inbox; message if left out."),
                    "busy": (
                        one_of(*vocabulary.BUSY),
                        "What becomes of a message that comes while a turn runs; enqueue if left out.",
                    ),
                    "allow_busy": (
                        {"anyOf": [one_of(*vocabulary.BUSY), {"type": "array", "items": one_of(*vocabulary.BUSY)}]},
                        "What a message may ask for in place of `busy`; left out = nothing else.",
                    ),
                    "schema": (ref("json_schema"), "JSON Schema of a message; left out = anything."),
                    "do": (ref("steps"), "Steps of a turn; `_` is the message, or the list of messages if they join."),
                    "until": (ref("expression"), "The step ends when it holds for the output `_` of a turn."),
                    "idle": (ref("amount"), "How long it waits for the next message before it ends, such as 7d."),
                    "default": (
                        ANY,
                        "The output when no message came for that long; left out = that of the last turn.",
                    ),
                },
                "do",
            ),
            "Takes messages, and runs steps for each of them; output: that of the last turn.",
        ),
        "do": (ref("steps"), "Steps of a round."),
        "max_rounds": (
            whole(1, vocabulary.MAX_ROUNDS),
            "Most rounds: 1,000 of a loop if left out, more fail with loop.too_many_rounds; 50 of an agent.",
        ),
        "workflow": (TEXT, "Runs a sub-workflow: a list of steps that stands beside `main`."),
        "task": (
            TEXT,
            "Runs another task as an execution of its own: its name or id, `@VERSION` or `@ALIAS` behind; output: its"
            " result.",
        ),
        "version": (whole(1, vocabulary.MAX_TASK_VERSION), "The version of the task; the newest if left out."),
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
    }
)
"""Shape and text of each key that belongs to a kind of step."""

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
