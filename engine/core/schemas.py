"""Checks JSON values against JSON Schemas: local references, linear-time patterns, readable problems. Workflow-safe."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

import re2
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from engine.core.values import Json, canonical_json

MAX_PROBLEMS = 10
TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
MAX_CHECKS = 100_000
"""Keywords that are looked at for one value: half a second, where a workflow has two until Temporal calls it dead."""
CHECKS_PER_PART = 4
"""The same for each part of a value: large ones take their time, and schemas look at a part two or three times."""

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


def _unique(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    # the library compares each item with each other; the text of an item is as good and takes time once
    del validator, schema
    if wanted and isinstance(instance, list) and len({_unlike(item) for item in instance}) < len(instance):
        yield ValidationError(f"{instance!r} has non-unique elements")


def _unlike(item: Json) -> str:
    """Return a text that two values share if they are equal in JSON Schema, where 1 is 1.0 and true is not 1."""
    return canonical_json(_whole(item))


def _whole(value: Json) -> Json:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    return value


class _TooMuchError(Exception):
    """A schema whose parts apply over and over to the same value."""


class _Meter(FormatChecker):
    """How many more keywords may be looked at; travels as a checker of no formats, for the library takes no other."""

    def __init__(self, left: int) -> None:
        super().__init__(formats=())
        self.left = left


def _metered(check: Any) -> Any:
    def run(validator: Any, wanted: Any, instance: Any, schema: Any) -> Any:
        meter = validator.format_checker
        if isinstance(meter, _Meter):
            meter.left -= 1
            if meter.left < 0:
                raise _TooMuchError
        return check(validator, wanted, instance, schema)

    return run


_extend: Any = extend  # its stub is untyped
_OWN: dict[str, Any] = {"pattern": _pattern, "patternProperties": _pattern_properties, "uniqueItems": _unique}
_Validator: Any = _extend(
    Draft202012Validator,
    validators={name: _metered(check) for name, check in (dict(Draft202012Validator.VALIDATORS) | _OWN).items()},
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
    found: dict[str, str] = {}
    for error in Draft202012Validator(Draft202012Validator.META_SCHEMA).iter_errors(schema):
        worst = best_match([error]) or error
        place = "/".join(str(part) for part in worst.absolute_path)
        found.setdefault(place, f"{place or 'schema'}: {_fault(worst)}")
    if found:
        return [found[place] for place in sorted(found)][:MAX_PROBLEMS]
    return list(_foreign_parts(schema, ""))


def _fault(error: ValidationError) -> str:
    if list(error.schema_path)[-3:-1] == ["properties", "type"] and isinstance(error.instance, (str, list)):
        words = error.instance if isinstance(error.instance, list) else [error.instance]
        wrong = [word for word in words if word not in TYPES]
        if wrong:
            return f"{_clip(repr(wrong[0]))} is no type; types are {', '.join(TYPES)}"
    return _clip(error.message)


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


def value_problems(value: Json, schema: Json, *, whole: str = "value", most: int = MAX_CHECKS) -> list[str]:
    """Say where a value does not fit a schema.

    Args:
        value: Any JSON value.
        schema: A valid JSON Schema; None, True and {} accept everything.
        whole: What problems of the whole value call it.
        most: Keywords that are looked at in any case; large values get more.

    Returns:
        At most ten messages such as `items/0/price: -1 is less than the minimum of 0`, in the order of their places.
    """
    if schema is None or schema is True or schema == {}:
        return []
    found = []
    limit = max(most, CHECKS_PER_PART * parts_of(value))
    try:
        for error in _validator(canonical_json(schema)).evolve(format_checker=_Meter(limit)).iter_errors(value):
            place = "/".join(str(part) for part in error.absolute_path)
            found.append(f"{place or whole}: {_clip(error.message)}")
    except _TooMuchError:
        return [f"{whole}: checking it takes more than {limit:,} steps; parts of the schema apply over and over"]
    except (RecursionError, OverflowError, re2.error) as error:
        # the check of the schema should have refused it; whatever got past must not end in a bug
        reason = "it refers to itself for ever" if isinstance(error, RecursionError) else _text(error)
        return [f"{whole}: the schema cannot be applied: {reason}"]
    return sorted(found)[:MAX_PROBLEMS]


def parts_of(value: Json) -> int:
    """Return how many values a value consists of, itself included."""
    number, rest = 0, [value]
    while rest:
        part = rest.pop()
        number += 1
        if isinstance(part, dict):
            rest.extend(part.values())
        elif isinstance(part, list):
            rest.extend(part)
    return number


def _clip(text: str) -> str:
    return text if len(text) <= 300 else f"{text[:300]}…"
