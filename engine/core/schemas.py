"""Checks JSON values against JSON Schemas: local references, linear-time patterns, readable problems. Workflow-safe."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import re2
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from engine.core.values import Json, canonical_json

MAX_PROBLEMS = 10

_QUIET = re2.Options()
_QUIET.log_errors = False  # the binding would print every bad pattern to stderr


def _search(pattern: str, text: str) -> Any:
    return re2.compile(pattern, _QUIET).search(text)


def _text(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode() if isinstance(reason, bytes) else str(reason)


def _pattern(validator: Validator, pattern: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    # Python's own `re` can take exponential time; a schema comes from strangers
    del validator, schema
    if isinstance(instance, str) and _search(pattern, instance) is None:
        yield ValidationError(f"{instance!r} does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    del schema
    if not isinstance(instance, dict):
        return
    for pattern, subschema in patterns.items():
        for key, value in instance.items():
            if _search(pattern, key) is not None:
                yield from validator.descend(value, subschema, path=key, schema_path=pattern)


_extend: Any = extend  # its stub is untyped
_Validator: Any = _extend(
    Draft202012Validator, validators={"pattern": _pattern, "patternProperties": _pattern_properties}
)


@functools.lru_cache(maxsize=512)
def _validator(text: str) -> Any:
    return _Validator(json.loads(text))


def schema_problems(schema: Json) -> list[str]:
    """Say what is wrong with a JSON Schema itself.

    Returns:
        Messages with their places, such as `properties/age/type: 'numbr' is not valid…`; empty if it is a valid schema
        whose references are all local and whose patterns all compile.
    """
    worst = best_match(Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema))
    if worst is not None:
        place = "/".join(str(part) for part in worst.absolute_path)
        return [f"{place or 'schema'}: {worst.message}"]
    return list(_foreign_parts(schema, ""))


def _foreign_parts(node: Json, place: str) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            here = f"{place}/{key}" if place else key
            if key in ("$ref", "$dynamicRef") and isinstance(value, str) and not value.startswith("#"):
                yield f"{here}: only references within the schema are allowed, not {value!r}"
            elif key == "pattern" and isinstance(value, str):
                yield from _bad_pattern(value, here)
            yield from _foreign_parts(value, here)
    elif isinstance(node, list):
        for index, value in enumerate(node):
            yield from _foreign_parts(value, f"{place}/{index}")


def _bad_pattern(pattern: str, place: str) -> Iterator[str]:
    try:
        re2.compile(pattern, _QUIET)
    except re2.error as error:
        yield f"{place}: not a linear-time regular expression: {_text(error)}"


def value_problems(value: Json, schema: Json) -> list[str]:
    """Say where a value does not fit a schema.

    Args:
        value: Any JSON value.
        schema: A valid JSON Schema; None, True and {} accept everything.

    Returns:
        At most ten messages such as `items/0/price: -1 is less than the minimum of 0`, in the order of their places.
    """
    if schema is None or schema is True or schema == {}:
        return []
    found = []
    for error in _validator(canonical_json(schema)).iter_errors(value):
        place = "/".join(str(part) for part in error.absolute_path)
        found.append(f"{place or 'value'}: {_clip(error.message)}")
    return sorted(found)[:MAX_PROBLEMS]


def _clip(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}…"
