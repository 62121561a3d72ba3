"""The library of expressions: which functions, modules and constants there are. Workflow-safe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from engine.core.lang.functions import Function, Module, table
from engine.core.lang.library.chance import RANDOM, UUID
from engine.core.lang.library.csv_text import CSV
from engine.core.lang.library.encoding import BASE64, URLLIB
from engine.core.lang.library.html import HTML_TO_MARKDOWN
from engine.core.lang.library.json_text import DUMP_JSON, EXTRACT_JSON, JSON, LOAD_JSON
from engine.core.lang.library.lists import LIST_FUNCTIONS
from engine.core.lang.library.markdown import MARKDOWN_TO_HTML
from engine.core.lang.library.numbers import MATH, NUMBER_FUNCTIONS
from engine.core.lang.library.patterns import MATCH_REGEX, RE, SEARCH_REGEX
from engine.core.lang.library.statistic import STATISTICS
from engine.core.lang.library.text import CHUNK_DOC, HUMANIZE, STRING
from engine.core.lang.library.times import DATETIME, NOW, TIME, TIMEDELTA
from engine.core.lang.library.yaml_text import DUMP_YAML, LOAD_YAML, YAML

FUNCTIONS: Final[Mapping[str, Function]] = MappingProxyType(
    dict(
        sorted(
            {
                **NUMBER_FUNCTIONS,
                **LIST_FUNCTIONS,
                **table(LOAD_JSON, DUMP_JSON, EXTRACT_JSON, LOAD_YAML, DUMP_YAML, SEARCH_REGEX, MATCH_REGEX),
                **table(CHUNK_DOC, HUMANIZE, HTML_TO_MARKDOWN, MARKDOWN_TO_HTML, NOW, TIMEDELTA, UUID),
            }.items()
        )
    )
)

MODULES: Final[Mapping[str, Module]] = MappingProxyType(
    {one.name: one for one in (BASE64, CSV, DATETIME, JSON, MATH, RANDOM, RE, STATISTICS, STRING, TIME, URLLIB, YAML)}
)

CONSTANTS: Final[Mapping[str, Any]] = MappingProxyType({"NEWLINE": "\n", "true": True, "false": False, "null": None})

LIBRARY_NAMES: Final = frozenset({*FUNCTIONS, *MODULES, *CONSTANTS})

ABSENT: Final[Mapping[str, str]] = MappingProxyType(
    {
        "nlp": "there is no spaCy here: cut text with chunk_doc(), look for parts with search_regex(), "
        "or let a prompt step with an output_schema find names and topics",
        "eval": "write the expression itself",
        "exec": "write the steps themselves",
        "getattr": "use get(value, path, default)",
        "hasattr": "write `'key' in value`",
        "isinstance": "describe the data by an input_schema or output_schema",
        "open": "files are read by tools",
        "print": "use a `log` step",
        "format": 'use an f-string: f"{value:.2f}"',
        "sleep": "use a `sleep` step",
        "type": "describe the data by an input_schema or output_schema",
        "frozenset": "use tuple() for what is a key, set() for what is not",
        "pow": "write a ** b",
        "next": "take the first item: items[0]",
        "iter": "lists are gone through by comprehensions",
        "datetime": "datetime is a module: write datetime.datetime(…), datetime.date(…) or now()",
        "time": "time is a module: write time.time()",
        "random": "random is a module: write random.random()",
        "results": "`results` is there in `reduce` only",
        "error": "`error` is there in `on_error` and `finally` only",
        "output": "`output` is there in `finally` only; `_` is the output of the step before",
        "arguments": "`input` is what the named list was given, `_` what the step was given",
        "secrets": "only `arguments` of tool steps and the definitions of tools see secrets, so that none gets into a "
        "history or to a model",
        "user": "there are `task`, `execution` and `agent`; hand the user in with the input",
        "session": "there are `task`, `execution` and `agent`; hand the session in with the input",
    }
)
"""What authors look for and do not find, with what to do instead."""


def find_module(path: str) -> Module | None:
    """Return a module of the library by its dotted name, such as `urllib.parse`, or None."""
    first, *parts = path.split(".")
    found: Any = MODULES.get(first)
    for part in parts:
        found = found.members.get(part) if type(found) is Module else None
    return found if type(found) is Module else None


def all_modules() -> Iterator[Module]:
    """Yield every module of the library, also those within others."""
    waiting = list(MODULES.values())
    while waiting:
        one = waiting.pop(0)
        yield one
        waiting += [member for member in one.members.values() if type(member) is Module]
