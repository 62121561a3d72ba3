"""The `@tool` decorator: what it reads off a function, and what it refuses."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from engine.core.errors import InvalidInput
from engine.core.kinds import ToolEffect
from engine.tooling import Tool, ToolCatalog, ToolContext, tool

CONTEXT = ToolContext(idempotency_key="k", execution_id="e", path="main.0", attempt=2, tenant="t")


class Place(BaseModel):
    city: str
    zip: int = 0


@tool
def add(a: int, b: int = 2) -> int:
    """Add two numbers and return
    the sum.

    More words.

    Args:
        a: The first number,
            of any size.
        b (int): The second.

    Returns:
        x: not an argument.
    """  # noqa: D205 - a summary may be wrapped
    return a + b


@tool(name="find-it", description="Looks.", effect="read", idempotent=True, timeout_s=5)
async def find(
    where: Place,
    when: dt.date,
    kind: Literal["a", "b"] = "a",
    limit: Annotated[int, Field(ge=1)] = 10,
    *,
    context: ToolContext,
) -> list[Any]:
    return [where, when, kind, limit, context]


def test_a_bare_decorator_takes_name_description_and_schema_from_the_function() -> None:
    contract = add.contract()
    assert (contract.name, contract.type, contract.description) == (
        "add",
        "python",
        "Add two numbers and return the sum.",
    )
    assert contract.parameters == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "The first number, of any size."},
            "b": {"type": "integer", "description": "The second.", "default": 2},
        },
        "required": ["a"],
        "additionalProperties": False,
    }


def test_a_tool_counts_as_a_write_that_is_not_repeated_unless_it_says_otherwise() -> None:
    contract = add.contract()
    assert (contract.effect, contract.idempotent, contract.repeatable) == (ToolEffect.WRITE, False, False)
    assert contract.timeout_s == 60.0


def test_keywords_override_what_the_function_says() -> None:
    contract = find.contract()
    assert (contract.name, contract.description, contract.timeout_s) == ("find-it", "Looks.", 5.0)
    assert (contract.effect, contract.idempotent) == (ToolEffect.READ, True)


def test_a_tool_is_still_callable_as_the_function() -> None:
    assert add(1) == 3
    assert add(1, b=5) == 6


def test_a_tool_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        add.name = "other"  # type: ignore[misc]


def test_the_context_is_left_out_of_the_schema_and_passed_on() -> None:
    parameters = find.contract().parameters
    assert set(parameters["properties"]) == {"where", "when", "kind", "limit"}
    assert parameters["required"] == ["where", "when"]
    bound = find.bind({"where": {"city": "Ulm"}, "when": "2025-02-03"}, CONTEXT)
    assert bound == {"where": Place(city="Ulm"), "when": dt.date(2025, 2, 3), "context": CONTEXT}


def test_parameters_may_have_names_that_a_pydantic_model_could_not_have() -> None:
    @tool
    def odd(json: str, copy: int, _hidden: int, model_config: str) -> None: ...

    arguments = {"json": "j", "copy": 1, "_hidden": 2, "model_config": "m"}
    assert set(odd.contract().parameters["properties"]) == set(arguments)
    assert odd.bind(arguments, CONTEXT) == arguments


def test_a_function_with_keyword_rest_takes_any_argument() -> None:
    @tool
    def loose(a: int, **rest: Any) -> None: ...

    assert loose.contract().parameters["additionalProperties"] is True
    assert loose.bind({"a": 1, "b": [2]}, CONTEXT) == {"a": 1, "b": [2]}


def test_parameters_without_annotation_take_anything() -> None:
    @tool
    def untyped(a, b=None): ...

    assert untyped.contract().parameters["properties"] == {"a": {}, "b": {"default": None}}


def test_two_decorations_of_one_text_give_the_same_contract() -> None:
    again = tool(add.function)
    assert again.contract() == add.contract()


def _generator() -> Iterator[int]:
    yield 1


async def _async_generator() -> AsyncIterator[int]:
    yield 1


def _positional(a: int, /) -> None: ...


def _star(*many: int) -> None: ...


def _odd_default(a: Any = object()) -> None: ...  # noqa: B008


def _unannotatable(a: Iterator[Any], b: tuple[object, type]) -> None: ...


@pytest.mark.parametrize(
    ("function", "options", "part"),
    [
        (_generator, {}, "generator"),
        (_async_generator, {}, "generator"),
        (_positional, {}, "'a' by position"),
        (_star, {}, "'many' by position"),
        (_odd_default, {}, "default for 'a'"),
        (Place, {}, "not made of a function"),
        (add.function, {"name": "two words"}, "name"),
        (add.function, {"name": "x" * 65}, "name"),
        (add.function, {"effect": "wirte"}, "'wirte'"),
        (add.function, {"timeout_s": 0}, "time limit"),
    ],
)
def test_what_cannot_be_a_tool_is_refused_at_once(function: Any, options: Any, part: str) -> None:
    with pytest.raises(InvalidInput, match=part) as caught:
        tool(**options)(function)
    assert caught.value.code == "config.bad_tool"


def test_a_parameter_type_without_json_schema_is_refused_with_the_tools_name() -> None:
    odd = tool(_unannotatable)
    with pytest.raises(InvalidInput, match="_unannotatable") as caught:
        odd.contract()
    assert caught.value.code == "config.bad_tool"


def test_a_catalog_finds_tools_by_name_and_refuses_two_of_one_name() -> None:
    catalog = ToolCatalog.of(add, find, add)
    assert catalog.get("find-it") is find
    assert catalog.get("nothing") is None
    assert set(catalog.contracts()) == {"add", "find-it"}
    with pytest.raises(InvalidInput) as caught:
        ToolCatalog.of(add, tool(name="add")(_plain))
    assert caught.value.code == "config.duplicate_tool"


def _plain() -> None: ...


def test_a_catalog_cannot_be_changed_from_outside() -> None:
    source: dict[str, Tool[..., Any]] = {"add": add}
    catalog = ToolCatalog(source)
    source.clear()
    assert catalog.get("add") is add
    with pytest.raises(TypeError):
        catalog.tools["x"] = add  # type: ignore[index]
