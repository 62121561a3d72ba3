"""The tool activity with HTTP services (`api_call`)."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.tools.bounds import bounded
from activities.tools.http import MAX_RESPONSE_BYTES
from activities.tools.runner import ToolActivities
from engine.core.contracts.activities import ToolParams
from engine.core.errors import ToolError
from engine.core.kinds import ToolEffect
from engine.core.plan.ir import ToolContract
from engine.settings import HttpConfig, ToolsConfig
from engine.tooling import ToolCatalog
from tests.backends.loopback import CONTEXT, raw_server, serving, simple_app, unused_port

LOOPBACK = HttpConfig(allow=["127.0.0.1:*"])


async def echo(scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Answer with what was received, or as the path says."""
    path = scope["path"]
    if path.startswith("/status/"):
        return int(path[8:]), {"retry-after": "4"}, b"reason " * 1000
    if path == "/text":
        return 200, {"content-type": "text/plain", "set-cookie": "seen=1; Path=/"}, b"\xff plain"
    if path == "/moved":
        return 302, {"location": "/text"}, b""
    if path == "/loop":
        return 302, {"location": "/loop"}, b""
    if path == "/slow":
        await asyncio.sleep(5)
    if path == "/big":
        return 200, {}, b"x" * (MAX_RESPONSE_BYTES + 1)
    if path == "/nan":
        return 200, {"content-type": "application/json"}, b'{"a": NaN}'
    headers = {key.decode(): value.decode() for key, value in scope["headers"]}
    seen = {
        "method": scope["method"],
        "path": path,
        "raw_query": scope["query_string"].decode(),
        "query": parse_qsl(scope["query_string"].decode(), keep_blank_values=True),
        "headers": headers,
        "body": body.decode(),
    }
    return 200, {"content-type": "application/json"}, json.dumps(seen).encode()


@pytest.fixture
async def url() -> AsyncIterator[str]:
    async with serving(simple_app(echo)) as address:
        yield address


async def call(
    spec: dict[str, Any],
    arguments: dict[str, Any] | None = None,
    *,
    http: HttpConfig = LOOPBACK,
    effect: ToolEffect = ToolEffect.WRITE,
    activities: ToolActivities | None = None,
) -> Any:
    tool = ToolContract(name="service", type="api_call", spec=spec, effect=effect)
    params = ToolParams(context=CONTEXT, tool=tool, arguments=arguments or {}, timeout_s=10)
    owned = activities or ToolActivities(ToolCatalog(), http)
    try:
        return (await ActivityEnvironment().run(owned.call, params)).output
    finally:
        if activities is None:
            await owned.aclose()


async def failure(spec: dict[str, Any], arguments: dict[str, Any] | None = None, **options: Any) -> ApplicationError:
    with pytest.raises(ApplicationError) as caught:
        await call(spec, arguments, **options)
    return caught.value


async def test_the_answer_comes_with_status_headers_json_and_raw_content(url: str) -> None:
    output = await call({"method": "GET", "url": f"{url}/x"})
    assert set(output) == {"status_code", "headers", "json", "content"}
    assert output["status_code"] == 200
    assert output["headers"]["content-type"] == "application/json"
    assert output["json"]["path"] == "/x"
    assert json.loads(base64.b64decode(output["content"])) == output["json"]


@pytest.mark.parametrize("path", ["/text", "/nan"])
async def test_a_body_that_is_not_json_gives_null(url: str, path: str) -> None:
    assert (await call({"method": "GET", "url": url + path}))["json"] is None


async def test_the_raw_content_can_be_left_out(url: str) -> None:
    assert "content" not in await call({"method": "GET", "url": url, "include_response_content": False})


async def test_everything_of_the_definition_is_sent(url: str) -> None:
    spec = {
        "method": "post",
        "url": f"{url}/x?a=1",
        "headers": {"X-Name": "Jürgen"},
        "params": {"b": [2, 3], "c": True},
        "json": {"k": None},
        "cookies": {"sid": "7"},
    }
    seen = (await call(spec))["json"]
    assert (seen["method"], seen["body"]) == ("POST", '{"k":null}')
    assert seen["query"] == [["a", "1"], ["b", "2"], ["b", "3"], ["c", "true"]]
    assert seen["headers"]["x-name"] == "Jürgen"
    assert seen["headers"]["cookie"] == "sid=7"
    assert seen["headers"]["content-type"] == "application/json"


async def test_arguments_override_all_but_the_headers_of_the_definition(url: str) -> None:
    spec = {
        "method": "GET",
        "url": "http://127.0.0.1:1/never",
        "headers": {"Authorization": "Bearer own"},
        "params": {"a": 1, "b": 1},
        "data": "old",
    }
    arguments = {
        "url": f"{url}/y",
        "method": "PUT",
        "headers": {"authorization": "Bearer stolen", "x-more": "1"},
        "params": {"b": 2},
        "json_": [1],
    }
    seen = (await call(spec, arguments))["json"]
    assert (seen["method"], seen["path"], seen["body"]) == ("PUT", "/y", "[1]")
    assert seen["query"] == [["a", "1"], ["b", "2"]]
    assert (seen["headers"]["authorization"], seen["headers"]["x-more"]) == ("Bearer own", "1")


async def test_nulls_are_not_sent_and_numbers_become_text(url: str) -> None:
    spec = {"method": "GET", "url": url, "headers": {"x-n": 3, "x-none": None}, "params": None, "timeout": None}
    seen = (await call(spec, {"params": {"a": None, "b": 0}, "cookies": None}))["json"]
    assert seen["query"] == [["b", "0"]]
    assert seen["headers"]["x-n"] == "3"
    assert "x-none" not in seen["headers"]


@pytest.mark.parametrize(
    ("arguments", "body", "content_type"),
    [
        ({"json": {"a": "ü"}}, '{"a":"ü"}', "application/json"),
        ({"json": None}, "null", "application/json"),
        ({"data": {"a": "1 2"}}, "a=1+2", "application/x-www-form-urlencoded"),
        ({"data": "raw text"}, "raw text", None),
        ({"content": base64.b64encode(b"bytes").decode()}, "bytes", None),
    ],
)
async def test_a_body_may_be_json_form_text_or_bytes(
    url: str, arguments: dict[str, Any], body: Any, content_type: str | None
) -> None:
    seen = (await call({"method": "POST", "url": url}, arguments))["json"]
    assert (seen["body"], seen["headers"].get("content-type")) == (body, content_type)


async def test_the_idempotency_key_is_sent_unless_the_author_sends_one(url: str) -> None:
    assert (await call({"method": "POST", "url": url}))["json"]["headers"]["idempotency-key"] == CONTEXT.key
    own = {"method": "POST", "url": url, "headers": {"idempotency-key": "mine"}}
    assert (await call(own))["json"]["headers"]["idempotency-key"] == "mine"


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(400, False), (404, False), (408, True), (429, True), (500, False), (503, True), (504, True), (524, True)],
)
async def test_an_error_status_is_an_error_with_the_body_in_its_details(url: str, status: int, retryable: bool) -> None:
    error = await failure({"method": "GET", "url": f"{url}/status/{status}?key=secret"})
    body = error.details[0]
    assert (body["code"], body["retryable"], body["retry_after_s"]) == ("tool.http_status", retryable, 4.0)
    assert body["details"]["status"] == status
    assert body["details"]["body"].startswith("reason reason")
    assert len(body["details"]["body"]) < 2_100
    assert str(status) in error.message
    assert "secret" not in error.message


async def test_redirects_are_followed_only_on_request(url: str) -> None:
    stayed = await call({"method": "GET", "url": f"{url}/moved"})
    assert (stayed["status_code"], stayed["headers"]["location"]) == (302, "/text")
    followed = await call({"method": "GET", "url": f"{url}/moved", "follow_redirects": True})
    assert base64.b64decode(followed["content"]) == b"\xff plain"


async def test_a_query_in_the_address_is_sent_as_it_stands(url: str) -> None:
    seen = (await call({"method": "GET", "url": f"{url}/x?flag&to=http://a/b"}))["json"]
    assert seen["raw_query"] == "flag&to=http://a/b"


async def test_redirects_without_end_are_a_bad_reply(url: str) -> None:
    error = await failure({"method": "GET", "url": f"{url}/loop", "follow_redirects": True})
    assert error.type == "tool.bad_reply"


async def test_a_cookie_of_one_answer_is_not_sent_with_another_call(url: str) -> None:
    activities = ToolActivities(ToolCatalog(), LOOPBACK)
    await call({"method": "GET", "url": f"{url}/text"}, activities=activities)
    seen = await call({"method": "GET", "url": f"{url}/x"}, activities=activities)
    await activities.aclose()
    assert "cookie" not in seen["json"]["headers"]


@pytest.mark.parametrize(("effect", "retryable"), [(ToolEffect.READ, True), (ToolEffect.WRITE, False)])
async def test_a_slow_service_times_out_and_is_asked_again_only_if_that_does_no_harm(
    url: str, effect: ToolEffect, retryable: bool
) -> None:
    error = await failure({"method": "GET", "url": f"{url}/slow", "timeout": 0.05}, effect=effect)
    assert (error.type, error.details[0]["retryable"]) == ("tool.timeout", retryable)


async def test_a_service_that_does_not_listen_is_unreachable_and_may_be_asked_again() -> None:
    with unused_port() as port:
        error = await failure({"method": "GET", "url": f"http://127.0.0.1:{port}/"})
    assert (error.type, error.details[0]["retryable"]) == ("tool.unreachable", True)


@pytest.mark.parametrize(("effect", "retryable"), [(ToolEffect.READ, True), (ToolEffect.WRITE, False)])
async def test_a_connection_that_breaks_after_the_request_left_is_another_matter(
    effect: ToolEffect, retryable: bool
) -> None:
    async with raw_server(drop=True) as address:
        error = await failure({"method": "POST", "url": address}, effect=effect)
    assert (error.type, error.details[0]["retryable"]) == ("tool.unreachable", retryable)


async def test_an_answer_that_is_not_http_is_told_as_a_broken_connection() -> None:
    async with raw_server(b"SSH-2.0-x\r\n\r\n") as address:
        assert (await failure({"method": "GET", "url": address})).type == "tool.unreachable"


async def test_an_answer_beyond_the_limit_is_too_large(url: str) -> None:
    assert (await failure({"method": "GET", "url": f"{url}/big"})).type == "tool.too_large"


async def test_an_unknown_argument_is_refused_with_a_suggestion(url: str) -> None:
    error = await failure({"method": "GET", "url": url}, {"header": {}})
    assert error.type == "tool.bad_arguments"
    assert "did you mean 'headers'?" in error.details[0]["hint"]


@pytest.mark.parametrize(
    ("spec", "arguments", "code"),
    [
        ({"method": "GET"}, {}, "tool.bad_definition"),
        ({"method": "GET", "url": "http://127.0.0.1:1", "timeout": 0}, {}, "tool.bad_definition"),
        ({"method": "GET", "url": "http://127.0.0.1:1", "colour": 1}, {}, "tool.bad_definition"),
        ({"method": "GET", "url": "http://127.0.0.1:1"}, {"url": 3}, "tool.bad_arguments"),
        ({"method": "GET", "url": "http://127.0.0.1:1"}, {"content": "%%%"}, "tool.bad_arguments"),
        ({"method": "GET", "url": "http://127.0.0.1:1"}, {"headers": "x: y"}, "tool.bad_arguments"),
        ({"method": "GET", "url": "http://127.0.0.1:1"}, {"params": ["a"]}, "tool.bad_arguments"),
        ({"method": "GET", "url": "http://127.0.0.1:99999"}, {}, "tool.bad_arguments"),
        ({"method": "GET", "url": "file:///etc/passwd"}, {}, "tool.bad_arguments"),
        ({"method": "GET", "url": "ftp://127.0.0.1/x"}, {}, "tool.bad_arguments"),
        ({"method": "GET", "url": "nowhere"}, {}, "tool.bad_arguments"),
    ],
)
async def test_a_request_that_cannot_be_made_is_refused_without_another_try(
    spec: dict[str, Any], arguments: dict[str, Any], code: str
) -> None:
    error = await failure(spec, arguments)
    assert (error.type, error.details[0]["retryable"]) == (code, False)


@pytest.mark.parametrize("headers", [{"a\nb": "c"}, {"a": "b\nc"}, {"": "x"}])
async def test_headers_that_http_cannot_carry_are_refused_without_another_try(
    url: str, headers: dict[str, str]
) -> None:
    error = await failure({"method": "GET", "url": url}, {"headers": headers})
    assert (error.type, error.details[0]["retryable"]) == ("tool.bad_arguments", False)


async def test_a_redirect_to_no_port_at_all_is_told(url: str) -> None:
    async with raw_server(
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:99999/\r\ncontent-length: 0\r\n\r\n"
    ) as odd:
        error = await failure({"method": "GET", "url": odd, "follow_redirects": True})
    assert error.type == "tool.bad_arguments"
    assert "99999" in error.message


async def test_arguments_are_checked_against_the_tools_schema_first(url: str) -> None:
    schema = {"type": "object", "properties": {"params": {"required": ["q"]}}, "required": ["params"]}
    tool = ToolContract(name="service", type="api_call", parameters=schema, spec={"method": "GET", "url": url})
    activities = ToolActivities(ToolCatalog(), LOOPBACK)
    wrong = ToolParams(context=CONTEXT, tool=tool, arguments={"params": {}}, timeout_s=1)
    with pytest.raises(ApplicationError) as caught:
        await ActivityEnvironment().run(activities.call, wrong)
    assert "params: 'q' is a required property" in caught.value.message


# --- forms with files, answers with a schema, bounded results --------------------------------------------------------


async def test_files_are_sent_as_a_form_with_its_fields(url: str) -> None:
    content = base64.b64encode(b"a,b\n1,2\n").decode()
    spec = {"method": "POST", "url": f"{url}/x", "data": {"kind": "table"}}
    file = {"content": content, "filename": "t.csv", "content_type": "text/csv"}
    seen = (await call(spec, {"files": {"upload": file, "plain": content}}))["json"]
    assert seen["headers"]["content-type"].startswith("multipart/form-data; boundary=")
    assert 'name="kind"\r\n\r\ntable\r\n' in seen["body"]
    head = 'name="upload"; filename="t.csv"\r\nContent-Type: text/csv\r\n\r\na,b\n1,2\n\r\n'
    assert head in seen["body"]
    assert 'name="plain"; filename="plain"\r\nContent-Type: application/octet-stream' in seen["body"]


async def test_another_body_of_the_arguments_replaces_the_files_of_the_definition(url: str) -> None:
    spec = {"method": "POST", "url": f"{url}/x", "files": {"f": base64.b64encode(b"x").decode()}}
    assert (await call(spec, {"json": {"a": 1}}))["json"]["body"] == '{"a":1}'
    assert 'name="more"' in (await call(spec, {"data": {"more": "1"}}))["json"]["body"]


async def test_files_that_are_not_base64_or_stand_beside_another_body_are_refused(url: str) -> None:
    assert (await failure({"url": url, "method": "POST"}, {"files": {"f": "?"}})).type == "tool.bad_arguments"
    both = {"files": {"f": "eA=="}, "json": 1}
    assert (await failure({"url": url, "method": "POST"}, both)).type == "tool.bad_arguments"


async def test_an_answer_is_held_to_its_schema(url: str) -> None:
    schema = {"type": "object", "properties": {"path": {"const": "/x"}}, "required": ["path"]}
    assert (await call({"url": f"{url}/x", "schema": schema}))["json"]["path"] == "/x"
    error = await failure({"url": f"{url}/y", "schema": schema})
    assert error.type == "tool.bad_result"
    assert "path" in str(error)
    assert (await failure({"url": f"{url}/text", "schema": schema})).type == "tool.bad_result"


async def test_results_beyond_the_operators_bound_are_refused(url: str) -> None:
    config = ToolsConfig(max_result_chars={"ser*": 300, "*": 10})
    activities = ToolActivities(ToolCatalog(), LOOPBACK, config=config)
    try:
        spec = {"url": f"{url}/x", "include_response_content": False}
        error = await failure(spec, {"headers": {"X-Long": "y" * 400}}, activities=activities)
        assert error.type == "tool.too_large"
        assert error.details[0]["details"]["most"] == 300
        spec = {**spec, "url": f"{url}/text"}
        assert (await call(spec, activities=activities))["status_code"] == 200
    finally:
        await activities.aclose()


def test_a_text_is_cut_with_a_mark_and_a_json_value_never() -> None:
    assert bounded("t", "x" * 10, 10) == "x" * 10
    assert bounded("t", "x" * 25, 10) == "x" * 10 + "… [cut: 15 of 25 characters are left out]"
    assert bounded("t", {"a": "b"}, 9) == {"a": "b"}
    with pytest.raises(ToolError) as caught:
        bounded("t", {"a": "bc"}, 9)
    assert (caught.value.code, caught.value.details) == ("tool.too_large", {"chars": 10, "most": 9})
