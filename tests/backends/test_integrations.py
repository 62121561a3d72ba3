"""The shipped integrations that ask services: against servers on loopback that speak as these do."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.tools.integrations.service import MAX_ANSWER_BYTES
from activities.tools.runner import ToolActivities
from engine.control.integrations import integration_contract
from engine.core.contracts.activities import CallContext, ToolParams
from engine.core.plan.grant import Grant
from engine.core.plan.ir import ToolContract
from engine.settings import HttpConfig, IntegrationConfig, ToolsConfig
from engine.tooling import ToolCatalog
from tests.backends.loopback import CONTEXT, header, raw_server, serving, simple_app, unused_port

LOOPBACK = HttpConfig(allow=["127.0.0.1:*"])
KEY = "k3y/with+signs=42"
JSON = {"content-type": "application/json"}

FEED = """<?xml version="1.0" encoding="UTF-8"?>
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:arxiv="http://arxiv.org/schemas/atom">
  <title>ArXiv Query</title>
  <entry>
    <id>http://arxiv.org/abs/1706.03762v7</id>
    <updated>2023-08-02T00:41:18Z</updated>
    <published>2017-06-12T17:57:34Z</published>
    <title>Attention Is All
      You Need</title>
    <summary>  The dominant models &amp; their
 successors.  </summary>
    <author><name>A. Vaswani</name></author><author><name>N. Shazéer</name></author>
    <link href="http://arxiv.org/abs/1706.03762v7" rel="alternate" type="text/html"/>
    <link title="pdf" href="http://arxiv.org/pdf/1706.03762v7" rel="related" type="application/pdf"/>
  </entry>
</feed>"""
REFUSAL = """<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>http://arxiv.org/api/errors#incorrect_id_format</id>
<title>Error</title><summary>incorrect id format for 1</summary></entry></feed>"""
BOMB = (
    '<?xml version="1.0"?><!DOCTYPE feed [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'
    '<feed xmlns="http://www.w3.org/2005/Atom"><title>&b;</title></feed>'
)


class Services:
    """Speaks like all of them, each below a path of its own; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, list[str]], dict[str, Any]]] = []
        self.answer: tuple[int, dict[str, str], bytes] | None = None

    async def __call__(self, scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
        path, query = scope["path"], parse_qs(scope["query_string"].decode(), keep_blank_values=True)
        self.asked.append((path, query, scope))
        if self.answer is not None:
            return self.answer
        if path == "/slow/api.php":
            await asyncio.Event().wait()
        if path == "/wiki/api.php":
            return 200, JSON, json.dumps(_wiki(query)).encode()
        if path == "/arxiv/query":
            return 200, {"content-type": "application/atom+xml"}, FEED.encode()
        if path == "/brave/web/search":
            return self._brave(scope, query)
        if path == "/weather/weather":
            return self._weather(query)
        return 404, {}, b"nothing here"

    def _brave(self, scope: dict[str, Any], query: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        if header(scope, "x-subscription-token") != KEY:
            told = {"type": "ErrorResponse", "error": {"detail": "bad token " + header(scope, "x-subscription-token")}}
            return 422, JSON, json.dumps(told).encode()
        hits = [
            {
                "title": f"Hit {n} &amp; more",
                "url": f"https://hit.example/{n}",
                "description": "A <strong>bold</strong> x &lt; y",
            }
            for n in range(int(query["count"][0]) + 3)
        ]
        return 200, JSON, json.dumps({"type": "search", "web": {"results": hits}}).encode()

    def _weather(self, query: dict[str, list[str]]) -> tuple[int, dict[str, str], bytes]:
        if query["appid"] != [KEY]:
            return 401, JSON, json.dumps({"cod": 401, "message": f"Invalid API key {query['appid'][0]}"}).encode()
        if query["q"] == ["Nowhere"]:
            return 404, JSON, b'{"cod":"404","message":"city not found"}'
        reply = {
            "weather": [{"id": 500, "main": "Rain", "description": "light rain"}, {"description": "mist"}],
            "main": {"temp": 11.5, "feels_like": 10.9, "pressure": 1012, "humidity": 87},
            "wind": {"speed": 3.6, "deg": 240},
            "clouds": {"all": 90},
            "dt": 1_700_000_000,
            "sys": {"country": "FR"},
            "name": "Paris",
        }
        return 200, JSON, json.dumps(reply).encode()


def _wiki(query: dict[str, list[str]]) -> dict[str, Any]:
    if query["gsrsearch"] == ["nothing"]:
        return {"batchcomplete": True}
    if query["gsrsearch"] == ["broken"]:
        return {"error": {"code": "ratelimited", "info": "You've exceeded your rate limit."}}
    pages = [
        {
            "pageid": n,
            "index": n,
            "title": f"Tea {n}",
            "fullurl": f"https://wiki.example/Tea_{n}",
            "extract": f"Té {n}. " * 400,
        }
        for n in range(1, int(query["gsrlimit"][0]) + 1)
    ]
    return {"batchcomplete": True, "query": {"pages": pages[::-1]}}


@pytest.fixture
def services() -> Services:
    return Services()


@pytest.fixture
async def url(services: Services) -> AsyncIterator[str]:
    async with serving(simple_app(services)) as address:
        yield address


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEARCH_KEY", KEY)


async def call(
    name: str,
    arguments: dict[str, Any],
    *,
    http: HttpConfig = LOOPBACK,
    contract: ToolContract | None = None,
    context: CallContext = CONTEXT,
    **settings: Any,
) -> Any:
    config = IntegrationConfig(**settings)
    tool = contract or integration_contract(name, config)
    params = ToolParams(context=context, tool=tool, arguments=arguments, timeout_s=tool.timeout_s)
    activities = ToolActivities(ToolCatalog(), http, config=ToolsConfig(integrations={name: config}))
    try:
        return (await ActivityEnvironment().run(activities.call, params)).output
    finally:
        await activities.aclose()


async def failure(name: str, arguments: dict[str, Any], **options: Any) -> dict[str, Any]:
    with pytest.raises(ApplicationError) as caught:
        await call(name, arguments, **options)
    body: dict[str, Any] = caught.value.details[0]
    assert KEY not in json.dumps(body)
    return body


# --- what they return ------------------------------------------------------------------------------------------------


async def test_wikipedia_gives_introductions_in_the_order_of_the_search(url: str, services: Services) -> None:
    output = await call("wikipedia", {"query": "tea & milk", "load_max_docs": 3}, base_url=f"{url}/wiki/")
    assert [item["title"] for item in output["results"]] == ["Tea 1", "Tea 2", "Tea 3"]
    assert output["results"][0]["url"] == "https://wiki.example/Tea_1"
    assert output["results"][0]["text"].startswith("Té 1. Té 1.")
    [(_, query, scope)] = services.asked
    assert query["gsrsearch"] == ["tea & milk"]
    assert (query["exintro"], query["explaintext"]) == (["1"], ["1"])
    # wikis want to know who asks; who called us is none of their business
    assert header(scope, "user-agent").startswith("Everstep/")
    assert header(scope, "idempotency-key") == ""


async def test_two_articles_are_looked_for_if_nobody_says_how_many(url: str) -> None:
    assert len((await call("wikipedia", {"query": "tea"}, base_url=f"{url}/wiki"))["results"]) == 2


async def test_all_texts_together_stay_below_the_limit(url: str) -> None:
    output = await call("wikipedia", {"query": "tea", "load_max_docs": 4}, base_url=f"{url}/wiki", max_chars=400)
    texts = [item["text"] for item in output["results"]]
    assert [len(text) <= 100 and text.endswith("…") for text in texts] == [True] * 4


async def test_a_search_that_finds_nothing_gives_an_empty_list(url: str, services: Services) -> None:
    assert await call("wikipedia", {"query": "nothing"}, base_url=f"{url}/wiki") == {"results": []}
    services.answer = 200, JSON, b'{"type": "search"}'
    settings: dict[str, Any] = {"base_url": f"{url}/brave", "api_key_env": "SEARCH_KEY"}
    assert await call("brave", {"query": "x"}, **settings) == {"results": []}
    services.answer = 200, {}, b'<feed xmlns="http://www.w3.org/2005/Atom"></feed>'
    assert await call("arxiv", {"query": "x"}, base_url=f"{url}/arxiv") == {"results": []}


async def test_arxiv_gives_papers_with_authors_and_abstracts(url: str, services: Services) -> None:
    output = await call(
        "arxiv", {"id_list": ["1706.03762", "hep-th/9901001"], "max_results": 2}, base_url=f"{url}/arxiv"
    )
    assert output == {
        "results": [
            {
                "title": "Attention Is All You Need",
                "url": "http://arxiv.org/abs/1706.03762v7",
                "text": "The dominant models & their successors.",
                "authors": ["A. Vaswani", "N. Shazéer"],
                "published": "2017-06-12T17:57:34Z",
                "updated": "2023-08-02T00:41:18Z",
                "pdf_url": "http://arxiv.org/pdf/1706.03762v7",
            }
        ]
    }
    [(_, query, _)] = services.asked
    assert query["id_list"] == ["1706.03762,hep-th/9901001"]
    assert (query["sortBy"], query["sortOrder"], query["max_results"]) == (["relevance"], ["descending"], ["2"])
    assert "search_query" not in query


async def test_brave_gives_plain_text_and_no_more_than_was_asked_for(url: str, services: Services) -> None:
    settings: dict[str, Any] = {"base_url": f"{url}/brave", "api_key_env": "SEARCH_KEY", "provider": "brave"}
    output = await call("look_up", {"query": "x", "count": 2}, **settings)
    assert output["results"] == [
        {"title": f"Hit {n} & more", "url": f"https://hit.example/{n}", "text": "A bold x < y"} for n in range(2)
    ]


async def test_weather_is_told_in_numbers_with_units(url: str) -> None:
    output = await call("weather", {"location": "Paris"}, base_url=f"{url}/weather", api_key_env="SEARCH_KEY")
    assert output == {
        "location": "Paris",
        "country": "FR",
        "text": "light rain, mist",
        "temperature_c": 11.5,
        "feels_like_c": 10.9,
        "humidity_percent": 87,
        "pressure_hpa": 1012,
        "wind_m_s": 3.6,
        "clouds_percent": 90,
        "observed_at": "2023-11-14T22:13:20+00:00",
    }


# --- what goes wrong -------------------------------------------------------------------------------------------------

ASKS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("wikipedia", {"query": "x"}, {}),
    ("arxiv", {"query": "x"}, {}),
    ("brave", {"query": "x"}, {"api_key_env": "SEARCH_KEY"}),
    ("weather", {"location": "x"}, {"api_key_env": "SEARCH_KEY"}),
]
each_service = pytest.mark.parametrize(("name", "arguments", "settings"), ASKS, ids=[name for name, *_ in ASKS])


@each_service
async def test_a_status_above_400_is_the_services_error(
    url: str, services: Services, name: str, arguments: dict[str, Any], settings: dict[str, Any]
) -> None:
    services.answer = 503, {"retry-after": "7"}, b"down"
    body = await failure(name, arguments, base_url=url, **settings)
    assert (body["code"], body["details"]["status"], body["retryable"]) == ("tool.http_status", 503, True)
    assert body["retry_after_s"] == 7
    services.answer = 403, {}, b""
    assert (await failure(name, arguments, base_url=url, **settings))["retryable"] is False


@each_service
@pytest.mark.parametrize(
    "answer", [b"<html>Welcome</html>", b"[1, 2]", b"\xff\xfe{", b"", b'{"a": 1}', BOMB.encode("utf-16")]
)
async def test_an_answer_of_another_kind_is_a_bad_reply(
    url: str, services: Services, name: str, arguments: dict[str, Any], settings: dict[str, Any], answer: bytes
) -> None:
    services.answer = 200, {}, answer
    body = await failure(name, arguments, base_url=url, **settings)
    assert body["code"] == "tool.bad_reply"
    assert f"[tools.integrations.{name}]" in body["hint"]


@each_service
async def test_an_answer_without_end_is_cut_off(
    url: str, services: Services, name: str, arguments: dict[str, Any], settings: dict[str, Any]
) -> None:
    services.answer = 200, {}, b" " * (MAX_ANSWER_BYTES + 1)
    assert (await failure(name, arguments, base_url=url, **settings))["code"] == "tool.too_large"


@each_service
async def test_a_key_is_not_carried_to_where_a_service_points(
    url: str, services: Services, name: str, arguments: dict[str, Any], settings: dict[str, Any]
) -> None:
    services.answer = 302, {"location": f"{url}/elsewhere?appid={KEY}"}, b""
    body = await failure(name, arguments, base_url=url, **settings)
    assert body["code"] == "tool.http_status"
    assert body["details"] == {"status": 302, "location": f"{url}/elsewhere"}
    assert len(services.asked) == 1


@each_service
async def test_a_service_that_is_not_there_is_unreachable(
    name: str, arguments: dict[str, Any], settings: dict[str, Any]
) -> None:
    with unused_port() as port:
        body = await failure(name, arguments, base_url=f"http://127.0.0.1:{port}", **settings)
    assert (body["code"], body["retryable"]) == ("tool.unreachable", True)


async def test_a_private_address_is_refused_even_if_the_operator_wrote_it(url: str) -> None:
    body = await failure("wikipedia", {"query": "x"}, base_url=url, http=HttpConfig())
    assert body["code"] == "tool.address_refused"


async def test_a_service_that_takes_too_long_is_a_timeout_that_may_be_tried_again(url: str) -> None:
    body = await failure("wikipedia", {"query": "x"}, base_url=f"{url}/slow", timeout_s=0.2)
    assert (body["code"], body["retryable"]) == ("tool.timeout", True)


async def test_a_connection_that_breaks_may_be_tried_again() -> None:
    async with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", drop=True) as broken:
        body = await failure("wikipedia", {"query": "x"}, base_url=broken)
    assert (body["code"], body["retryable"]) == ("tool.unreachable", True)


async def test_what_a_wiki_or_arxiv_says_against_a_search_is_told(url: str, services: Services) -> None:
    body = await failure("wikipedia", {"query": "broken"}, base_url=f"{url}/wiki")
    assert (body["code"], body["retryable"]) == ("tool.failed", True)
    assert "You've exceeded your rate limit." in body["message"]
    services.answer = 200, {}, REFUSAL.encode()
    body = await failure("arxiv", {"id_list": ["1"]}, base_url=f"{url}/arxiv")
    assert body["code"] == "tool.bad_arguments"
    assert "incorrect id format for 1" in body["message"]


async def test_a_place_that_is_not_known_is_told(url: str) -> None:
    body = await failure("weather", {"location": "Nowhere"}, base_url=f"{url}/weather", api_key_env="SEARCH_KEY")
    assert (body["code"], body["details"]["status"]) == ("tool.http_status", 404)
    assert "city not found" in body["details"]["body"]


async def test_members_of_an_answer_may_be_of_any_type(url: str, services: Services) -> None:
    odd = {
        "type": "search",
        "web": {"results": ["x", None, {"title": 3, "url": None, "description": "a\ud800\u0000b"}]},
    }
    services.answer = 200, JSON, json.dumps(odd).encode()
    output = await call("brave", {"query": "x"}, base_url=url, api_key_env="SEARCH_KEY")
    assert output == {"results": [{"title": "", "url": "", "text": "ab"}]}
    services.answer = 200, JSON, b'{"main": {"temp": "hot"}, "weather": 3, "wind": [], "dt": 1e300}'
    output = await call("weather", {"location": "x"}, base_url=url, api_key_env="SEARCH_KEY")
    assert (output["temperature_c"], output["observed_at"], output["text"]) == (None, None, "")


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("wikipedia", {}),
        ("wikipedia", {"query": "  "}),
        ("wikipedia", {"query": "x", "load_max_docs": 11}),
        ("wikipedia", {"query": "x", "base_url": "http://127.0.0.1:1"}),
        ("arxiv", {}),
        ("arxiv", {"id_list": ["1&search_query=x"]}),
        ("arxiv", {"query": "x", "sort_by": "price"}),
        ("web", {"url": "ftp://x/"}),
        ("web", {"url": "file:///etc/passwd"}),
    ],
)
async def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(
    name: str, arguments: dict[str, Any]
) -> None:
    assert (await failure(name, arguments))["code"] == "tool.bad_arguments"


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["brave", "weather"])
async def test_no_key_stands_in_contracts_errors_results_or_logs(
    url: str, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, services: Services
) -> None:
    wrong = "wr0ng/key+here"
    monkeypatch.setenv("SEARCH_KEY", wrong)
    caplog.set_level(logging.WARNING)
    settings: dict[str, Any] = {"base_url": f"{url}/{name}", "api_key_env": "SEARCH_KEY"}
    contract = integration_contract(name, IntegrationConfig(**settings))
    arguments = {"query": "x"} if name == "brave" else {"location": "x"}
    body = await failure(name, arguments, **settings)
    # the service repeats it in its answer
    assert "(hidden)" in body["details"]["body"]
    with unused_port() as port:
        away = await failure(name, arguments, **{**settings, "base_url": f"http://127.0.0.1:{port}"})
    for told in (json.dumps(dataclasses.asdict(contract)), json.dumps(body), json.dumps(away), caplog.text):
        assert wrong not in told
        assert "wr0ng%2Fkey" not in told
    sent = json.dumps([query for _, query, _ in services.asked]) + str(
        [scope["headers"] for *_, scope in services.asked]
    )
    assert wrong in sent


async def test_a_key_that_a_service_puts_into_its_results_is_hidden(url: str, services: Services) -> None:
    services.answer = 200, JSON, json.dumps({"type": "search", "web": {"results": [{"title": f"t {KEY}"}]}}).encode()
    output = await call("brave", {"query": "x"}, base_url=url, api_key_env="SEARCH_KEY")
    assert output["results"][0]["title"] == "t (hidden)"
    services.answer = 500, {}, json.dumps({"key": KEY}).replace("/", "\\/").encode()
    body = await failure("brave", {"query": "x"}, base_url=url, api_key_env="SEARCH_KEY")
    assert body["details"]["body"] == '{"key": "(hidden)"}'


@pytest.mark.parametrize("value", ["", "  ", "kéy", "a\nb"])
async def test_a_key_that_is_not_there_or_cannot_be_sent_is_told_by_its_variable(
    url: str, value: str, monkeypatch: pytest.MonkeyPatch, services: Services
) -> None:
    monkeypatch.setenv("SEARCH_KEY", value)
    body = await failure("brave", {"query": "x"}, base_url=url, api_key_env="SEARCH_KEY")
    assert body["code"] == "tool.credentials"
    assert "SEARCH_KEY" in body["message"]
    assert services.asked == []


# --- which worker has what -------------------------------------------------------------------------------------------


async def test_a_worker_without_the_integration_says_how_to_switch_it_on() -> None:
    contract = integration_contract("papers", IntegrationConfig(provider="arxiv"))
    body = await failure("wikipedia", {"query": "x"}, contract=contract)
    assert body["code"] == "tool.unknown"
    assert "this worker has no integration 'papers'" in body["message"]
    assert "[tools.integrations.papers]" in body["hint"]


async def test_a_name_that_means_another_provider_now_is_not_called(url: str, services: Services) -> None:
    contract = integration_contract("search", IntegrationConfig(provider="arxiv"))
    body = await failure("search", {"query": "x"}, contract=contract, provider="wikipedia", base_url=url)
    assert body["code"] == "tool.unknown"
    assert "'arxiv'" in body["message"]
    assert services.asked == []


async def test_a_redirect_beyond_the_tasks_bound_is_not_followed(url: str, services: Services) -> None:
    port = int(url.rpartition(":")[2])
    services.answer = 302, {"location": f"http://localhost:{port}/there"}, b""
    bounded = dataclasses.replace(CONTEXT, allow=Grant(hosts=(f"127.0.0.1:{port}",)))
    body = await failure("web", {"url": url}, context=bounded, http=HttpConfig(allow=["127.0.0.1:*", "localhost:*"]))
    assert body["code"] == "authority.denied"
    assert len(services.asked) == 1


async def test_a_page_beyond_the_tasks_bound_is_not_fetched(url: str, services: Services) -> None:
    bounded = dataclasses.replace(CONTEXT, allow=Grant(hosts=("docs.example",)))
    body = await failure("web", {"url": f"{url}/x"}, context=bounded)
    assert body["code"] == "authority.denied"
    assert services.asked == []
