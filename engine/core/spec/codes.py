"""The table of diagnostic codes and what each means in one line; `codebook` says the rest. Workflow-safe."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

NOT_TEXT: Final = "E101"
SYNTAX: Final = "E102"
DUPLICATE_KEY: Final = "E103"
SEVERAL_DOCUMENTS: Final = "E104"
TOO_LARGE: Final = "E105"
TOO_DEEP: Final = "E106"
BAD_ALIAS: Final = "E107"
MERGE_KEY: Final = "E108"
BAD_TAG: Final = "E109"
BAD_KEY: Final = "E110"
BAD_NUMBER: Final = "E111"
EMPTY: Final = "E112"

UNKNOWN_KEY: Final = "E201"
MISSING_KEY: Final = "E202"
WRONG_TYPE: Final = "E203"
NO_KIND: Final = "E204"
SEVERAL_KINDS: Final = "E205"
UNKNOWN_KIND: Final = "E206"
LATER: Final = "E207"
NO_STEPS: Final = "E208"
NOT_A_TASK: Final = "E209"

BAD_EXPRESSION: Final = "E301"
BAD_TEMPLATE: Final = "E302"
NOT_AN_EXPRESSION: Final = "E303"
FORBIDDEN_EXPRESSION: Final = "E304"

UNKNOWN_NAME: Final = "E401"
UNKNOWN_TOOL: Final = "E402"
UNKNOWN_WORKFLOW: Final = "E403"
DUPLICATE_LABEL: Final = "E404"
UNKNOWN_STEP: Final = "E405"
BAD_NAME: Final = "E406"
BAD_LABEL: Final = "E407"
DUPLICATE_TOOL: Final = "E408"
ENDLESS_CYCLE: Final = "E409"
BEYOND_ALLOW: Final = "E411"
SECRET_PLACE: Final = "E412"  # noqa: S105 - a code, no secret
UNKNOWN_TARGET: Final = "E421"

BAD_SCHEMA: Final = "E501"
REMOTE_REFERENCE: Final = "E502"
OUT_OF_RANGE: Final = "E503"
BAD_DURATION: Final = "E504"
BAD_ARGUMENTS: Final = "E505"
NOT_ONE_OF: Final = "E506"
PLAN_TOO_LARGE: Final = "E507"
NOT_LITERAL: Final = "E508"
CONFLICT: Final = "E509"
UNSAFE_RACE: Final = "E510"
RETURN_IN_FINALLY: Final = "E511"
BAD_CRON: Final = "E512"

LOOKS_LIKE_EXPRESSION: Final = "W601"
UNREACHABLE: Final = "W602"
SINGLE_BRACES: Final = "W603"
WAITING_CYCLE: Final = "W604"
UNUSED_WORKFLOW: Final = "W605"
BOTH_DAYS: Final = "W607"
DIALECT_READING: Final = "W611"
NO_EFFECT: Final = "W612"
DEAD_BRANCH: Final = "W613"
PLANNED: Final = "W614"
TASK_IN_RACE: Final = "W615"
CUT_TEXT: Final = "W616"
MISSPELT: Final = "W617"

CODES: Final = MappingProxyType(
    {
        NOT_TEXT: "The source is not text: a control character, or bytes that are not UTF-8.",
        SYNTAX: "The source is not well-formed YAML or JSON.",
        DUPLICATE_KEY: "A key stands twice in the same object; the message names both places.",
        SEVERAL_DOCUMENTS: "A file holds one task; a second YAML document follows.",
        TOO_LARGE: "The source is larger than 1 MB, or has more than 200,000 values.",
        TOO_DEEP: "The source is nested deeper than 100 levels.",
        BAD_ALIAS: "A YAML alias is unknown, contains itself, or expands to too much.",
        MERGE_KEY: "The merge key `<<` is not supported; write the members out.",
        BAD_TAG: "A YAML tag other than `!!str`, `!!int`, `!!float`, `!!bool`, `!!null`, `!!seq`, `!!map`.",
        BAD_KEY: "A key is a list or an object; keys are text.",
        BAD_NUMBER: "A number that JSON cannot hold: infinity, NaN, or too many digits.",
        EMPTY: "The source holds nothing.",
        UNKNOWN_KEY: "A key that does not belong here.",
        MISSING_KEY: "A required key is missing.",
        WRONG_TYPE: "A value has the wrong type, such as a list where text is needed.",
        NO_KIND: "A step has no key that says what it does.",
        SEVERAL_KINDS: "A step has keys of several kinds; one step does one thing.",
        UNKNOWN_KIND: "The value of `kind_` is not a kind of step.",
        LATER: "Known, but not available in this version.",
        NO_STEPS: "A list of steps is empty.",
        NOT_A_TASK: "The source is well-formed but no task: it is not an object.",
        BAD_EXPRESSION: "An expression cannot be parsed.",
        BAD_TEMPLATE: "A template cannot be parsed.",
        NOT_AN_EXPRESSION: "A field that holds an expression holds something else, such as a template.",
        FORBIDDEN_EXPRESSION: "An expression or template uses something that the language does not have.",
        UNKNOWN_NAME: "An expression or template uses a name that does not exist there.",
        UNKNOWN_TOOL: "A tool that neither the task nor the operator defines.",
        UNKNOWN_WORKFLOW: "A sub-workflow that the task does not define.",
        DUPLICATE_LABEL: "Two steps of one named list have the same label.",
        UNKNOWN_STEP: "`steps[…]` names a label or a number that the named list does not have.",
        BAD_NAME: "A name of a task, tool or sub-workflow has forbidden characters or is too long.",
        BAD_LABEL: "A label is empty, longer than 120 characters, or only digits.",
        DUPLICATE_TOOL: "Two tools of the task have the same name.",
        ENDLESS_CYCLE: "Sub-workflows call each other for ever, whatever the data.",
        BEYOND_ALLOW: "A step reaches a tool, model, host, secret or task that `allow` does not permit.",
        SECRET_PLACE: "A secret stands where its value would get into the history, to a client or to a model.",
        UNKNOWN_TARGET: "A transition leads to a task that the chain does not have.",
        BAD_SCHEMA: "A JSON Schema is not valid.",
        REMOTE_REFERENCE: "A JSON Schema refers to another document; only local references are followed.",
        OUT_OF_RANGE: "A number or text is outside the allowed range.",
        BAD_DURATION: "Not a duration; write seconds as a number, or text such as `500ms`, `30s`, `5m`, `2h`, `1d`.",
        BAD_ARGUMENTS: "Arguments that cannot fit the schema of the tool or of the input.",
        NOT_ONE_OF: "A value that is none of the allowed ones.",
        PLAN_TOO_LARGE: "The task has too many steps.",
        NOT_LITERAL: "A value that must be written out is an expression or a template.",
        CONFLICT: "Two settings contradict each other.",
        UNSAFE_RACE: "A race has a branch that calls a tool which may neither be stopped nor called twice.",
        RETURN_IN_FINALLY: "A `return` stands in the steps of `finally` or `undo`.",
        BAD_CRON: "The text of a cron is wrong, or names a day that never comes.",
        LOOKS_LIKE_EXPRESSION: "Literal text that looks like an expression; start it with `$ ` if it is one.",
        UNREACHABLE: "Steps that can never run: the one before always ends the list, or their condition never holds.",
        SINGLE_BRACES: "Literal text with single braces around a known name; templates have two.",
        WAITING_CYCLE: "Sub-workflows call each other for ever, with a wait or sleep in between; the state grows.",
        UNUSED_WORKFLOW: "A sub-workflow that no step runs.",
        BOTH_DAYS: "A cron limits the day of the month and the day of the week; it comes on days that fit both.",
        DIALECT_READING: "A text that reads otherwise in another dialect; the message says how it was read.",
        NO_EFFECT: "A key or value of another system that changes nothing here, or less than it did there.",
        DEAD_BRANCH: "A branch that can never be taken, or a result for which no branch is left.",
        PLANNED: "Read, checked and planned, but this engine does not run it yet.",
        TASK_IN_RACE: "A race runs another task, which may change something before it is stopped.",
        CUT_TEXT: "A `#` after a blank begins a comment, so that the rest of the text is lost.",
        MISSPELT: "A word that is taken as it stands, but is nearly one that means something.",
    }
)
"""Every code and its meaning; E1 source, E2 structure, E3 expressions, E4 names, E5 schemas and values, W6 warnings."""
