"""JSON of the library: reading it, also out of a model's prose and code fences, and writing it. Workflow-safe."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, Final

from engine.core.errors import ExpressionError
from engine.core.lang.border import check_unicode, json_text
from engine.core.lang.context import Frame
from engine.core.lang.failures import fail
from engine.core.lang.functions import Doc, Function, module, need_text
from engine.core.values import MAX_DEPTH, Json

PARSE_SHIFT: Final = 4
"""2**4 characters of JSON cost one unit: a few characters such as `[],` become an object of 60 bytes."""
RETRY_SHIFT: Final = 6
MAX_STARTS: Final = 100
"""Places in a text at which a JSON value is looked for."""

_FENCE: Final = re.compile(r"```[ \t]*[\w+-]{0,20}[ \t]*\r?\n?")
_START: Final = re.compile(r"[\[{]")


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _too_deep() -> ExpressionError:
    return fail("too_deep", f"the JSON is nested deeper than {MAX_DEPTH} levels")


def _check_depth(value: Json, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise _too_deep()
    if isinstance(value, dict):
        for item in value.values():
            _check_depth(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_depth(item, depth + 1)


_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant)


def load_json(frame: Frame, text: Any) -> Json:
    """Return the value of a JSON text.

    Raises:
        ExpressionError: `expression.value` if it is not JSON, `expression.too_deep` beyond 100 levels.
    """
    source = need_text(text, "the JSON")
    frame.fuel.charge((len(source) >> PARSE_SHIFT) + 1)
    try:
        value = _DECODER.decode(source)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        message = f"the text is not JSON: {error.msg} ({where})"
        raise fail("value", message, "use extract_json() if there is other text around it") from error
    except RecursionError as error:
        raise _too_deep() from error
    _check_depth(value)
    return value


def extract_json(frame: Frame, text: Any) -> Json:
    """Return the JSON value in a text: all of it, the first code fence that holds JSON, or the first object or list.

    Raises:
        ExpressionError: `expression.value` if no JSON is found.
    """
    source = need_text(text, "the text").strip()
    check_unicode(source)
    fuel = frame.fuel
    fuel.charge((len(source) >> PARSE_SHIFT) + 1)
    found, value = _try(source)
    if found:
        return value
    marks = list(islice(_FENCE.finditer(source), 2 * MAX_STARTS))
    for opening, closing in pairwise(marks):
        inner = source[opening.end() : closing.start()].strip()
        fuel.charge((len(inner) >> PARSE_SHIFT) + 1)
        found, value = _try(inner)
        if found:
            return value
    place = 0
    for _ in range(MAX_STARTS):
        start = _START.search(source, place)
        if start is None:
            break
        # its memory is paid for above; what fails is freed again, so only the time is due
        fuel.charge((len(source) - start.start() >> RETRY_SHIFT) + 1)
        try:
            value, _ = _DECODER.raw_decode(source, start.start())
        except RecursionError as error:
            raise _too_deep() from error
        except ValueError:
            # prose may hold brackets; the next one is tried
            place = start.end()
            continue
        _check_depth(value)
        return value
    raise fail("value", "the text holds no JSON", "ask the model for JSON only, or give the prompt an output_schema")


def _try(source: str) -> tuple[bool, Json]:
    if not source:
        return False, None
    try:
        value = _DECODER.decode(source)
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError:
        return False, None
    _check_depth(value)
    return True, value


def _dump_json(frame: Frame, value: Any, indent: Any = None, sort_keys: Any = False, **ignored: Any) -> str:
    return json_text(value, frame.fuel, indent=indent, sort_keys=bool(sort_keys))


LOAD_JSON: Final = Function(
    "load_json",
    load_json,
    1,
    1,
    framed=True,
    doc=Doc("load_json(text)", "The value of a JSON text.", "load_json('{\"a\": [1, null]}')", {"a": [1, None]}),
)
DUMP_JSON: Final = Function(
    "dump_json",
    _dump_json,
    1,
    3,
    framed=True,
    keywords=("indent", "sort_keys", "ensure_ascii"),
    doc=Doc(
        "dump_json(value, indent=null, sort_keys=false, ensure_ascii=false)",
        "The value as JSON text; characters beyond ASCII always stay as they are.",
        "dump_json({'ä': [1, true]})",
        '{"ä": [1, true]}',
    ),
)
EXTRACT_JSON: Final = Function(
    "extract_json",
    extract_json,
    1,
    1,
    framed=True,
    doc=Doc(
        "extract_json(text)",
        "The JSON in a model's reply: all of it, a code fence, or the first object or list.",
        "extract_json('Here it is: {\"a\": 1}. Anything else?')",
        {"a": 1},
    ),
)

JSON: Final = module(
    "json",
    replace(LOAD_JSON, name="json.loads", doc=Doc("json.loads(text)", "As load_json.", "json.loads('[1]')", [1])),
    replace(DUMP_JSON, name="json.dumps", doc=Doc("json.dumps(value, …)", "As dump_json.", "json.dumps([1])", "[1]")),
)
