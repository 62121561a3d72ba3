"""Operations of a real OpenAPI service as tools: its document is fetched and kept, its secrets stay with the worker."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.tools.runner import ToolActivities
from engine.control.openapi.refreshing import keep_fresh
from engine.control.toolchanges import take_over
from engine.control.tools import load_catalog
from engine.core.contracts.activities import CallContext, ToolParams
from engine.core.errors import InvalidInput
from engine.core.plan.grant import Grant
from engine.core.plan.ir import ToolContract
from engine.settings import HttpConfig, OpenApiConfig, Project, ToolsConfig
from engine.tooling import ToolCatalog
from tests.backends.loopback import CONTEXT, serving, unused_port
from tests.backends.openapi_app import SECRET, shop

LOOPBACK = HttpConfig(allow=["127.0.0.1:*"])
AUTH = [{"header": "X-Shop-Key", "env": "SHOP_KEY"}]


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_KEY", SECRET)


@pytest.fixture
def app() -> FastAPI:
    return shop()


@pytest.fixture
async def url(app: FastAPI) -> AsyncIterator[str]:
    async with serving(app) as address:
        yield address


def project_of(url: str, *, http: HttpConfig = LOOPBACK, folder: Path = Path(), **config: Any) -> Project:
    given = {"document": f"{url}/openapi.json", "auth": AUTH, **config}
    services = {"shop": OpenApiConfig.model_validate(given)}
    return Project(folder=folder, http=http, tools=ToolsConfig(openapi=services))


async def load(project: Project, folder: Path) -> ToolCatalog:
    # the service runs in the loop of the test
    return await asyncio.to_thread(load_catalog, project, folder)


class Caller:
    """Calls the tools of a project as a worker does."""

    def __init__(self, project: Project, catalog: ToolCatalog) -> None:
        self.project = project
        self.catalog = catalog

    async def __call__(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        context: CallContext = CONTEXT,
        contract: ToolContract | None = None,
    ) -> Any:
        tool = contract or self.catalog.contracts()[name]
        params = ToolParams(context=context, tool=tool, arguments=arguments, timeout_s=10)
        activities = ToolActivities(self.catalog, self.project.http, config=self.project.tools)
        try:
            return (await ActivityEnvironment().run(activities.call, params)).output
        finally:
            await activities.aclose()

    async def fails(self, name: str, arguments: dict[str, Any], **options: Any) -> ApplicationError:
        with pytest.raises(ApplicationError) as caught:
            await self(name, arguments, **options)
        return caught.value


@pytest.fixture
async def call(url: str, tmp_path: Path) -> Caller:
    project = project_of(url)
    return Caller(project, await load(project, tmp_path))


# --- a service that describes itself -------------------------------------------------------------------------------


async def test_all_operations_of_a_service_are_tools_and_the_key_is_no_argument(call: Caller) -> None:
    contracts = call.catalog.contracts()
    assert set(contracts) == {f"shop_{name}" for name in ("getPet", "putPet", "echo", "fail", "moved", "answer")}
    assert isinstance(contracts["shop_getPet"].parameters, dict)
    assert set(contracts["shop_getPet"].parameters["properties"]) == {"pet_id", "full"}
    assert SECRET not in str(contracts)
    assert "SHOP_KEY" not in str(contracts)
    assert "X-Shop-Key" not in str(contracts)


async def test_operations_are_called_with_the_workers_key_and_the_calls_own(call: Caller, app: FastAPI) -> None:
    await call("shop_putPet", {"pet_id": "a ü", "name": "Rex", "parent": {"name": "Ann"}})
    assert await call("shop_getPet", {"pet_id": "a ü"}) == {"name": "Rex"}
    found = await call("shop_getPet", {"pet_id": "a ü", "full": True})
    assert found == {"name": "Rex", "age": None, "parent": {"name": "Ann", "age": None, "parent": None}}
    assert {seen[2] for seen in app.state.seen} == {CONTEXT.key}


async def test_an_answer_without_a_body_is_null(call: Caller) -> None:
    assert await call("shop_putPet", {"pet_id": "1", "name": "Rex"}) is None


async def test_parameters_reach_where_they_belong(call: Caller) -> None:
    found = await call("shop_echo", {"tags": ["a b", "c&d"], "x-mark": "m", "sid": "s;1"})
    assert found["read"] == {"tags": ["a b", "c&d"], "mark": "m", "sid": "s%3B1"}
    assert found["query"] == "tags=a%20b&tags=c%26d"
    assert "cookie" not in (await call("shop_echo", {"tags": None, "sid": None}))["headers"]


async def test_arguments_that_do_not_fit_are_never_sent(call: Caller, app: FastAPI) -> None:
    for arguments in ({"pet_id": "1"}, {"pet_id": "1", "name": "a", "age": "x"}, {"pet_id": "1", "name": "a", "no": 1}):
        assert (await call.fails("shop_putPet", arguments)).type == "tool.bad_arguments"
    for odd in ("..", ".", "", "../x", "a\\..\\b"):
        assert (await call.fails("shop_getPet", {"pet_id": odd})).type == "tool.bad_arguments"
    assert (await call.fails("shop_echo", {"x-mark": "a\r\nX-Shop-Key: b"})).type == "tool.bad_arguments"
    assert app.state.seen == []


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("text", "Jürgen"),
        ("problem", {"title": "t"}),
        ("null", None),
        ("broken", "{"),
        ("binary", {"content_type": "image/png", "content": base64.b64encode(b"\x89PNG\x00").decode()}),
    ],
)
async def test_the_answer_is_json_or_text_or_bytes(call: Caller, kind: str, output: Any) -> None:
    assert await call("shop_answer", {"kind": kind}) == output


# --- failures ------------------------------------------------------------------------------------------------------


async def test_a_status_beyond_200_is_an_error_as_that_of_an_api_call(call: Caller) -> None:
    error = await call.fails("shop_getPet", {"pet_id": "none"})
    body = error.details[0]
    assert (error.type, body["details"]["status"]) == ("tool.http_status", 404)
    assert "there is no such pet" in body["details"]["body"]
    busy = (await call.fails("shop_fail", {"status": 503})).details[0]
    assert (busy["retryable"], busy["retry_after_s"]) == (True, 7.0)


async def test_a_redirect_is_not_followed(call: Caller) -> None:
    error = await call.fails("shop_moved", {})
    assert error.type == "tool.http_status"
    assert "answered 307, and redirects are not followed" in error.message


@pytest.mark.parametrize(
    ("value", "said"),
    [("", "SHOP_KEY is not set"), ("a\nb", "SHOP_KEY holds something that cannot stand in a request")],
)
async def test_a_missing_credential_is_told_before_anything_is_sent(
    call: Caller, app: FastAPI, monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    monkeypatch.setenv("SHOP_KEY", value)
    error = await call.fails("shop_getPet", {"pet_id": "1"})
    assert error.type == "tool.credentials"
    assert said in error.message
    assert app.state.seen == []


async def test_a_worker_without_the_service_says_so(call: Caller) -> None:
    other = Caller(Project(http=LOOPBACK), ToolCatalog())
    error = await other.fails("shop_echo", {}, contract=call.catalog.contracts()["shop_echo"])
    assert error.type == "tool.unknown"
    assert "this worker has no OpenAPI service 'shop'" in error.message


async def test_credentials_never_go_to_where_the_service_is_not(call: Caller, app: FastAPI) -> None:
    contract = call.catalog.contracts()["shop_echo"]
    spec = {**contract.spec, "base_url": contract.spec["base_url"].replace("127.0.0.1", "localhost")}
    moved = ToolContract(**{**{key: getattr(contract, key) for key in contract.__slots__}, "spec": spec})
    error = await call.fails("shop_echo", {}, contract=moved)
    assert error.type == "tool.service_moved"
    assert app.state.seen == []


async def test_the_guard_and_the_bound_of_the_call_hold(url: str, tmp_path: Path) -> None:
    project = project_of(url)
    catalog = await load(project, tmp_path)
    closed = Caller(project.model_copy(update={"http": HttpConfig()}), catalog)
    assert (await closed.fails("shop_echo", {})).type == "tool.address_refused"
    bound = CallContext(**{**asdict(CONTEXT), "allow": Grant(hosts=("b.example",))})
    assert (await Caller(project, catalog).fails("shop_echo", {}, context=bound)).type == "authority.denied"


async def test_a_service_that_is_down_is_unreachable(call: Caller, url: str) -> None:
    with unused_port() as port:
        project = project_of(url, base_url=f"http://127.0.0.1:{port}")
        catalog = ToolCatalog(
            others={
                name: ToolContract(
                    name, "openapi", contract.parameters, spec={**contract.spec, "base_url": f"http://127.0.0.1:{port}"}
                )
                for name, contract in call.catalog.others.items()
            }
        )
        error = await Caller(project, catalog).fails("shop_echo", {})
    assert error.type == "tool.unreachable"


# --- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "auth",
    [
        {"header": "X-Shop-Key", "env": "SHOP_KEY"},
        {"query": "key", "env": "SHOP_KEY"},
        {"cookie": "key", "env": "SHOP_KEY"},
        {"bearer_env": "SHOP_KEY"},
        {"basic_user_env": "SHOP_USER", "basic_password_env": "SHOP_KEY"},
    ],
)
async def test_what_a_service_tells_of_a_secret_is_masked(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auth: dict[str, str]
) -> None:
    monkeypatch.setenv("SHOP_USER", "robot")
    project = project_of(url, auth=auth)
    call = Caller(project, await load(project, tmp_path))
    output = json.dumps(await call("shop_echo", {}))
    failed = repr((await call.fails("shop_fail", {"status": 500})).details)
    assert "***" in output
    forms = [SECRET, SECRET.replace("/", "%2F"), base64.b64encode(f"robot:{SECRET}".encode()).decode()]
    for text in (output, failed):
        for form in forms:
            # no part of it either, where the body was cut
            assert form[:12] not in text


# --- styles and bodies ---------------------------------------------------------------------------------------------


async def raw(url: str, tmp_path: Path, path: str, method: str, arguments: dict[str, Any], **operation: Any) -> Any:
    root = {"openapi": "3.1.0", "paths": {path: {method: {"operationId": "op", **operation}}}}
    (tmp_path / "raw.json").write_text(json.dumps(root))
    project = project_of(url, document="raw.json", base_url=url, folder=tmp_path)
    return await Caller(project, await load(project, tmp_path))("shop_op", arguments)


@pytest.mark.parametrize(
    ("parameter", "value", "query"),
    [
        ({}, "a b&c=ü", "p=a%20b%26c%3D%C3%BC"),
        ({}, True, "p=true"),
        ({}, [1, "x"], "p=1&p=x"),
        ({"explode": False}, [1, "x,y"], "p=1,x%2Cy"),
        ({"style": "spaceDelimited", "explode": False}, ["a", "b"], "p=a%20b"),
        ({"style": "pipeDelimited", "explode": False}, ["a", "b"], "p=a%7Cb"),
        ({}, {"a": 1, "b": False}, "a=1&b=false"),
        ({"explode": False}, {"a": 1, "b": 2}, "p=a,1,b,2"),
        ({"style": "deepObject", "explode": True}, {"a": 1, "b": "x y"}, "p[a]=1&p[b]=x%20y"),
        ({"allowReserved": True}, "a/b:c&d", "p=a/b:c%26d"),
        ({"content": {"application/json": {}}}, {"a": [1]}, "p=%7B%22a%22%3A%5B1%5D%7D"),
    ],
)
async def test_values_in_the_query_are_written_in_their_style(
    url: str, tmp_path: Path, parameter: dict[str, Any], value: Any, query: str
) -> None:
    found = await raw(
        url, tmp_path, "/raw", "get", {"p": value}, parameters=[{"name": "p", "in": "query", **parameter}]
    )
    assert found["query"] == query


@pytest.mark.parametrize(
    ("explode", "value", "path"),
    [
        (False, "a/b c", "a%2Fb%20c"),
        (False, ["a", 1], "a,1"),
        (False, {"a": 1, "b": 2}, "a,1,b,2"),
        (True, {"a": 1, "b": 2}, "a=1,b=2"),
    ],
)
async def test_values_in_the_path_and_in_headers_are_simple(
    url: str, tmp_path: Path, explode: bool, value: Any, path: str
) -> None:
    parameters = [{"name": "p", "in": place, "explode": explode} for place in ("path", "header")]
    parameters[1]["name"] = "X-H"
    found = await raw(url, tmp_path, "/raw/{p}", "get", {"p": value, "X-H": value}, parameters=parameters)
    assert found["path"] == f"/raw/{path}"
    assert found["x-h"] == path.replace("%2F", "/").replace("%20", " ")


def fields(media: str, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    return {"requestBody": {"required": True, "content": {media: {"schema": schema, **more}}}}


async def test_a_form_is_urlencoded(url: str, tmp_path: Path) -> None:
    body = fields(
        "application/x-www-form-urlencoded",
        {name: {} for name in ("a", "list", "joined", "object")},
        encoding={"joined": {"explode": False}},
    )
    arguments = {"a": "x y&", "list": [1, 2], "joined": [1, 2], "object": {"b": 1}}
    found = await raw(url, tmp_path, "/raw", "post", arguments, **body)
    assert found["content-type"] == "application/x-www-form-urlencoded"
    assert found["body"] == "a=x+y%26&list=1&list=2&joined=1%2C2&object=%7B%22b%22%3A1%7D"


async def test_files_travel_in_parts(url: str, tmp_path: Path) -> None:
    file = {"type": "string", "format": "binary"}
    body = fields(
        "multipart/form-data",
        {"f": file, "more": {"type": "array", "items": file}, "note": {}, "facts": {}},
        encoding={"f": {"contentType": "text/csv"}},
    )
    one = base64.b64encode(b"1,2").decode()
    arguments = {"f": one, "more": [one, one], "note": "Jürgen", "facts": {"b": 1}}
    found = await raw(url, tmp_path, "/raw", "post", arguments, **body)
    kind, _, boundary = found["content-type"].partition("; boundary=")
    assert kind == "multipart/form-data"
    parts = [part.partition("\r\n\r\n") for part in found["body"].split(f"--{boundary}")[1:-1]]
    heads = [head.strip().split("\r\n") for head, _, _ in parts]
    assert [content.strip() for _, _, content in parts] == ["1,2", "1,2", "1,2", "JÃ¼rgen", '{"b":1}']
    assert heads[0] == ['Content-Disposition: form-data; name="f"; filename="f"', "Content-Type: text/csv"]
    assert heads[3] == ['Content-Disposition: form-data; name="note"']
    assert heads[4] == ['Content-Disposition: form-data; name="facts"', "Content-Type: application/json"]


async def test_a_file_that_is_not_base64_is_refused(url: str, tmp_path: Path) -> None:
    body = fields("multipart/form-data", {"f": {"type": "string", "format": "binary"}})
    with pytest.raises(ApplicationError, match="a file must be base64") as caught:
        await raw(url, tmp_path, "/raw", "post", {"f": "no!"}, **body)
    assert caught.value.type == "tool.bad_arguments"


@pytest.mark.parametrize(
    ("media", "value", "body"),
    [
        ("application/json", [1, None], "[1,null]"),
        ("application/json", None, "null"),
        ("application/merge-patch+json", {"a": None}, '{"a":null}'),
        ("text/plain", "a b", "a b"),
        ("application/octet-stream", base64.b64encode(b"\x01\x02").decode(), "\x01\x02"),
    ],
)
async def test_a_body_of_one_argument_is_sent_as_it_is(
    url: str, tmp_path: Path, media: str, value: Any, body: str
) -> None:
    request = {"requestBody": {"required": True, "content": {media: {}}}}
    found = await raw(url, tmp_path, "/raw", "post", {"body": value}, **request)
    assert (found["content-type"], found["body"]) == (media, body)


async def test_a_body_that_may_be_left_out_is_not_sent(url: str, tmp_path: Path) -> None:
    body = fields("application/json", {"a": {}})
    body["requestBody"]["required"] = False
    found = await raw(url, tmp_path, "/raw", "post", {}, **body)
    assert (found["content-type"], found["body"]) == (None, "")
    assert (await raw(url, tmp_path, "/raw", "post", {"a": None}, **body))["body"] == '{"a":null}'


# --- the document --------------------------------------------------------------------------------------------------


class Described:
    """An app that serves a document with an entity tag, and counts how often it was sent whole."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.status = 200
        self.whole = 0
        self.asked = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        tag = f'"{hash(self.text)}"'.encode()
        same = dict(scope["headers"]).get(b"if-none-match") == tag
        status = 304 if same and self.status == 200 else self.status
        self.whole += status == 200
        headers = [(b"etag", tag), (b"location", b"http://127.0.0.2:1/openapi.json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": self.text.encode() if status == 200 else b""})
        self.asked.set()


def text_of(*names: str) -> str:
    paths = {f"/{name}": {"get": {"operationId": name}} for name in names}
    return json.dumps({"openapi": "3.1.0", "paths": paths})


async def test_a_document_is_kept_and_asked_for_by_its_tag(tmp_path: Path) -> None:
    app, folder = Described(text_of("a")), tmp_path / "data"
    async with serving(app) as url:
        for _ in range(2):
            assert set((await load(project_of(url), folder)).contracts()) == {"shop_a"}
        assert app.whole == 1
        app.text = text_of("a", "b")
        assert set((await load(project_of(url), folder)).contracts()) == {"shop_a", "shop_b"}
        assert app.whole == 2
    (kept,) = (folder / "openapi").iterdir()
    assert [path.stat().st_mode & 0o777 for path in (folder, kept.parent, kept)] == [0o700, 0o700, 0o600]


@pytest.mark.parametrize("change", ["gone", "status", "nonsense"])
async def test_the_kept_copy_takes_the_place_of_what_cannot_be_had(tmp_path: Path, change: str) -> None:
    app = Described(text_of("a"))
    async with serving(app) as url:
        await load(project_of(url), tmp_path)
        app.status = 503 if change == "status" else 200
        app.text = "<html>" if change == "nonsense" else app.text
        with structlog.testing.capture_logs() as lines:
            if change != "gone":
                assert set((await load(project_of(url), tmp_path)).contracts()) == {"shop_a"}
    if change == "gone":
        with structlog.testing.capture_logs() as lines:
            assert set((await load(project_of(url), tmp_path)).contracts()) == {"shop_a"}
    (line,) = lines
    assert (line["log_level"], line["service"]) == ("warning", "shop")
    assert "kept copy is used" in line["event"]


async def test_a_document_that_was_never_had_is_an_error(tmp_path: Path) -> None:
    with unused_port() as port, pytest.raises(InvalidInput, match="it cannot be fetched") as caught:
        await load(project_of(f"http://127.0.0.1:{port}"), tmp_path)
    assert caught.value.code == "config.openapi"
    assert f"127.0.0.1:{port}" in caught.value.message


async def test_a_document_is_fetched_through_the_guard_with_and_without_a_copy(tmp_path: Path) -> None:
    app = Described(text_of("a"))
    async with serving(app) as url:
        with pytest.raises(InvalidInput, match="is refused") as caught:
            await load(project_of(url, http=HttpConfig()), tmp_path)
        assert "allow it in everstep.toml" in caught.value.hint
        assert app.whole == 0
        await load(project_of(url), tmp_path)
        with pytest.raises(InvalidInput, match="is refused"):
            await load(project_of(url, http=HttpConfig()), tmp_path)
        # neither does a redirect lead around it
        app.status = 302
        with pytest.raises(InvalidInput, match=r"127\.0\.0\.2:1' is refused"):
            await load(project_of(url), tmp_path)


async def test_a_running_process_takes_over_what_has_changed_and_is_of_use(tmp_path: Path) -> None:
    app = Described(text_of("a", "b"))
    async with serving(app) as url:
        project = project_of(url)
        often = project.tools.openapi["shop"].model_copy(update={"refresh_s": 0.02})
        project.tools.openapi["shop"] = often
        contracts = {**(await load(project, tmp_path)).contracts(), "own": ToolContract("own", "python")}
        before, told = dict(contracts), asyncio.Event()
        app.text, app.asked = json.dumps({"openapi": "3.1.0", "paths": {"/{x}": {"get": {}}}}), asyncio.Event()
        with structlog.testing.capture_logs() as lines:
            fresh = keep_fresh(contracts, lambda: project, tmp_path, changed=told.set)
            running = asyncio.create_task(fresh)
            try:
                await app.asked.wait()
                assert contracts == before
                app.text = text_of("b", "c")
                await told.wait()
            finally:
                running.cancel()
    assert set(contracts) == {"own", "shop_b", "shop_c"}
    assert contracts["shop_b"] == before["shop_b"]
    assert lines[0]["log_level"] == "warning"
    assert "differ in 'x'" in lines[0]["reason"]
    assert (lines[-1]["gone"], lines[-1]["new"]) == (["shop_a"], ["shop_c"])


def test_operations_take_no_other_tools_name() -> None:
    own, old, new = ToolContract("a", "python"), ToolContract("b", "openapi"), ToolContract("b", "openapi", timeout_s=1)
    contracts = {"a": own, "b": old}
    assert take_over(contracts, {"a": ToolContract("a", "openapi"), "b": new}, kind="openapi", words="operations")
    assert contracts == {"a": own, "b": new}
    assert not take_over(contracts, {"b": new}, kind="openapi", words="operations")
    assert take_over(contracts, {}, kind="openapi", words="operations")
    assert contracts == {"a": own}


async def test_a_worker_learns_where_a_service_has_moved_to(call: Caller) -> None:
    activities = ToolActivities(call.catalog, call.project.http, config=call.project.tools)
    try:
        tool = call.catalog.contracts()["shop_echo"]
        moved = dataclasses.replace(tool, spec={**tool.spec, "base_url": "http://moved.invalid"})
        params = ToolParams(context=CONTEXT, tool=moved, arguments={}, timeout_s=10)
        for code in ("tool.service_moved", "tool.unreachable"):
            with pytest.raises(ApplicationError) as caught:
                await ActivityEnvironment().run(activities.call, params)
            assert caught.value.type == code
            activities.learn({"shop_echo": moved})
    finally:
        await activities.aclose()
