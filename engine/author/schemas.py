"""JSON Schemas from Python types: pydantic models, dataclasses, typed dicts and annotations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeAlias

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from engine.author.places import author_error
from engine.author.values import plain
from engine.core.spec import codes
from engine.core.values import Json

Schema: TypeAlias = "Mapping[str, Any] | bool | type[Any]"
"""A JSON Schema, or a type that has one: a pydantic model, a dataclass, a TypedDict, `list[int]`."""

_NOT_WORD = re.compile(r"\W")


class _WithoutTitles(GenerateJsonSchema):
    """Leaves out the titles that pydantic makes of field names; nobody wrote them, and models read them."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Whether a field gets a title from its name."""
        del schema
        return False


def schema_of(schema: Schema, where: str) -> Json:
    """Return the JSON Schema of a type, or the given one.

    Args:
        schema: A JSON Schema or a type.
        where: What it is for, in messages: `input`, `output`.

    Returns:
        A schema whose references are all local.

    Raises:
        DefinitionError: E501 if the type has no JSON Schema, with the place of the author's call.
    """
    if isinstance(schema, (bool, Mapping)):
        return plain(schema, where)
    try:
        made = TypeAdapter(schema).json_schema(schema_generator=_WithoutTitles)
    except Exception as error:  # pydantic raises many classes here, and each means the same to the author
        raise author_error(
            codes.BAD_SCHEMA,
            f"'{where}': {getattr(schema, '__name__', schema)!s} has no JSON Schema: {error}",
            "use a pydantic model, a type that JSON can carry, or write the schema out",
        ) from error
    _drop_title(made, getattr(schema, "__name__", ""))
    for name, definition in made.get("$defs", {}).items():
        _drop_title(definition, name)
    return plain(made, where)


def _drop_title(schema: dict[str, Any], name: str) -> None:
    title = schema.get("title")
    if isinstance(title, str) and _NOT_WORD.sub("_", title) == _NOT_WORD.sub("_", name):
        del schema["title"]
