"""Tools of the type api_call whose schema names their arguments: where these stand in the request."""

from __future__ import annotations

from typing import Any

import pytest

from activities.tools.http_request import HttpCall, merge_call
from engine.core.errors import ToolError
from engine.core.plan.ir import ToolContract

Call = dict[str, Any]
ORDERS = "https://shop.example/orders"


def merged(call: Call, arguments: Call, *names: str) -> HttpCall:
    """Return the request of a call; further names are those of arguments that the schema names beside the call's."""
    properties: Call = {name: {} for name in (names or arguments)}
    tool = ToolContract("find", "api_call", parameters={"type": "object", "properties": properties}, spec=call)
    return merge_call(tool, arguments)


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
def test_named_arguments_stand_in_the_query_of_methods_without_a_body(method: str) -> None:
    call = {"method": method, "url": ORDERS, "params": {"shop": "a", "page": 1}}
    request = merged(call, {"page": 2, "order_id": "42", "rest": None})
    assert (request.params, request.body) == ({"shop": "a", "page": 2, "order_id": "42"}, None)


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_named_arguments_stand_in_the_json_of_methods_with_a_body(method: str) -> None:
    call = {"method": method, "url": ORDERS, "params": {"shop": "a"}, "json": {"kind": "book", "count": 1}}
    request = merged(call, {"count": 2, "note": None})
    assert (request.params, request.body) == ({"shop": "a"}, {"kind": "book", "count": 2, "note": None})


def test_named_arguments_are_fields_where_the_tool_sends_a_form() -> None:
    request = merged({"method": "POST", "url": ORDERS, "data": {"kind": "book"}}, {"count": 2})
    assert (request.data, request.body) == ({"kind": "book", "count": 2}, None)


def test_the_method_of_a_call_says_where_its_named_arguments_stand() -> None:
    request = merged({"method": "GET", "url": ORDERS}, {"method": "POST", "count": 2}, "count")
    assert (request.method, request.params, request.body) == ("POST", {}, {"count": 2})


def test_arguments_that_are_parts_of_a_request_go_on_being_that_whether_they_are_named_or_not() -> None:
    call = {"method": "GET", "url": ORDERS}
    arguments = {"params": {"page": 1}, "headers": {"A": "b"}, "order_id": "42"}
    for names in (("order_id",), ("order_id", "params", "headers")):
        request = merged(call, arguments, *names)
        assert (request.params, request.headers) == ({"page": 1, "order_id": "42"}, {"A": "b"})


def test_named_arguments_fill_their_places_in_the_address_and_nothing_but_one_part_of_it() -> None:
    call = {"method": "POST", "url": "https://{order_id}.example/orders/{order_id}/{other}?of={shop}"}
    request = merged(call, {"order_id": "../4 2?x=1", "shop": "a&b", "count": 1})
    assert request.url == "https://{order_id}.example/orders/..%2F4%202%3Fx%3D1/{other}?of=a%26b"
    assert (request.params, request.body) == ({}, {"count": 1})


@pytest.mark.parametrize("given", [{}, {"order_id": None}, {"order_id": ""}, {"order_id": ".."}])
def test_an_address_is_not_called_with_a_place_that_is_empty_or_leads_elsewhere(given: Call) -> None:
    with pytest.raises(ToolError, match="'order_id' stands in the address") as caught:
        merged({"method": "DELETE", "url": f"{ORDERS}/{{order_id}}"}, given, "order_id")
    assert caught.value.code == "tool.bad_arguments"


def test_an_argument_that_nobody_names_is_refused_with_the_names() -> None:
    with pytest.raises(ToolError, match="does not take the argument 'ordre_id'") as caught:
        merged({"method": "GET", "url": ORDERS}, {"ordre_id": "42"}, "order_id")
    assert "did you mean 'order_id'?" in str(caught.value.hint)


def test_a_query_cannot_hold_an_object() -> None:
    with pytest.raises(ToolError, match="params/filter") as caught:
        merged({"method": "GET", "url": ORDERS}, {"filter": {"a": 1}})
    assert caught.value.code == "tool.bad_arguments"
