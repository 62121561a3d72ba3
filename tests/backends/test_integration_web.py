"""Pages of the web as tools fetch them: against a server on loopback; the reader of HTML by itself."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.tools.integrations.markdown import read_page
from activities.tools.integrations.service import MAX_ANSWER_BYTES
from activities.tools.runner import ToolActivities
from engine.control.integrations import integration_contract
from engine.core.contracts.activities import ToolParams
from engine.settings import HttpConfig, IntegrationConfig, ToolsConfig
from engine.tooling import ToolCatalog
from tests.backends.loopback import CONTEXT, header, serving, simple_app

HTML = {"content-type": "text/html; charset=utf-8"}
PAGE = """<!DOCTYPE html>
<html><head><title> Tea &amp; milk </title><style>p {color: red}</style><script>if (a < b) { x() }</script></head>
<body><nav><a href="/">Home</a></nav>
<main><h1>All about <em>tea</em></h1>
<!-- not for you > --><p>Tea is <b>hot</b>, see <a href="../milk?a=1&amp;b=2#top">milk</a>.</p>
<p>One<br>two<p>three
<ul><li>black<li>green<ul><li><a href="#x">sencha</a></ul><li><p>white</p><p>rare</p></ul>
<ol start="3"><li>boil</li><li>wait</li></ol>
<blockquote><p>Drink it.</p></blockquote>
<pre><code>brew(
    "tea")
</code></pre>
<table><tr><th>kind</th><th>a|b</th></tr><tr><td>black</td><td><p>95</p> <p>degrees</p></td></tr></table>
<a href="/card"><h3>Card</h3><p>teaser</p></a>
<div hidden>unseen</div><div style="color: red; DISPLAY : none">unseen</div><p aria-hidden="true">unseen</p>
<img src="cup.png" alt="A cup"><img src="pixel.gif"><a href="javascript:steal()">click</a>
<form><label>Name</label> <input value="x"><select><option>unseen</select><button>unseen</button></form>
</main><footer>unseen</footer></body></html>"""
MARKDOWN = """# All about *tea*

Tea is **hot**, see [milk](https://tea.example/milk?a=1&b=2#top).

One
two

three

- black
- green
  - sencha
- white

  rare

3. boil
4. wait

> Drink it.

```
brew(
    "tea")
```

| kind | a\\|b |
| --- | --- |
| black | 95 degrees |

### [Card](https://tea.example/card)

[teaser](https://tea.example/card)

![A cup](https://tea.example/kinds/cup.png)click

Name"""


class Site:
    """Serves one answer, and redirects."""

    def __init__(self) -> None:
        self.answer: tuple[int, dict[str, str], bytes] = 200, HTML, PAGE.encode()
        self.to = ""
        self.seen: list[dict[str, Any]] = []

    async def __call__(self, scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
        self.seen.append(scope)
        return (302, {"location": self.to}, b"") if scope["path"] == "/moved" else self.answer


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
async def url(site: Site) -> AsyncIterator[str]:
    async with serving(simple_app(site)) as address:
        yield address


async def fetch(url: str, *, start: int | None = None, http: HttpConfig | None = None, **settings: Any) -> Any:
    config = IntegrationConfig(**settings)
    tool = integration_contract("web", config)
    arguments = {"url": url} if start is None else {"url": url, "start": start}
    params = ToolParams(context=CONTEXT, tool=tool, arguments=arguments, timeout_s=60)
    allowed = http or HttpConfig(allow=["127.0.0.1:*"])
    activities = ToolActivities(ToolCatalog(), allowed, config=ToolsConfig(integrations={"web": config}))
    try:
        return (await ActivityEnvironment().run(activities.call, params)).output
    finally:
        await activities.aclose()


async def failure(url: str, **options: Any) -> dict[str, Any]:
    with pytest.raises(ApplicationError) as caught:
        await fetch(url, **options)
    body: dict[str, Any] = caught.value.details[0]
    return body


# --- the reader ------------------------------------------------------------------------------------------------------


def test_a_page_becomes_markdown() -> None:
    page = read_page(PAGE, "https://tea.example/kinds/")
    assert page.title == "Tea & milk"
    assert page.text == MARKDOWN


@pytest.mark.parametrize(
    ("html", "markdown"),
    [
        ("<html><head><title>x</title><body>no end tags", "no end tags"),
        ("<p>a</div></b></p>b", "a\n\nb"),
        ("<b><div>a</b>b</div>c", "**a**b\n\nc"),
        ("1 < 2 && 3 > 2 &lt;b&gt; &#8364; &#x110000; &#99999999999; &nosuch;", "1 < 2 && 3 > 2 <b> € � � &nosuch;"),
        ('<a title="x > y" href="https://e.example/(a b)">l</a>', "[l](https://e.example/%28a%20b%29)"),
        ("<a href='data:text/html,x'>l</a><a href=mailto:a@b.c>m</a>", "l[m](mailto:a@b.c)"),
        ("<p>a <b> b </b> c<i></i></p>", "a **b** c"),
        ("<script>a<!--</script>b<![CDATA[c]]>d<![foo[e]]>f<?php g ?>h", "bdfh"),
        ("<pre>``` x</pre>", "````\n``` x\n````"),
        ("<table><tr><td><h2>T</h2>a</td><td>b</td></tr></table>", "## T\n\na\n\nb"),
        ("<table><tr><td>only</td></tr><tr><td>rows</td></tr></table>", "only\n\nrows"),
        ("<table><tr><td>a<td><table><tr><td>b<td>c</table></table>", "a\n\n| b | c |\n| --- | --- |"),
        ("<blockquote>a<blockquote>b</blockquote></blockquote>", "> a\n\n> > b"),
        ("<ul><li>a<ol><li>b</ol></ul>", "- a\n  1. b"),
        ("<svg><title>no</title><path/><text>no</text></svg>yes", "yes"),
        ("<base href='https://o.example/d/'><a href=x>l</a>", "[l](https://o.example/d/x)"),
        ("<article>" + "long " * 20 + "</article><div>side</div>", ("long " * 20).strip()),
        ("<article>a</article>" + "text " * 20, "a\n\n" + ("text " * 20).strip()),
        ("a<!-- never closed <p>b", "a"),
        ("a<p class='x", "a"),
        ("", ""),
    ],
)
def test_what_people_write_is_read(html: str, markdown: str) -> None:
    assert read_page(html, "https://tea.example/").text == markdown


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "html",
    [
        "<!--" * 200_000,
        "<![CDATA[" * 100_000,
        '<a href="x' * 100_000,
        "<a b='>" * 100_000,
        "</x" * 200_000,
        "<" * 500_000,
        "<title>" * 100_000,
        "<script></" * 50_000,
        "<div>" * 200 + "</p></b></x>" * 50_000,
        "<div>" * 100_000,
        "<ul><li>x" * 50_000,
        "<blockquote>x" * 50_000,
        "<table><tr><td>x" * 50_000,
        "<table><tr>" + "<td>x" * 50_000,
        "<b>x<i>y<div>" * 30_000,
        "<pre>" + "`" * 1_000_000,
        "&#" + "9" * 500_000,
        "<p " + "x=1 " * 200_000,
    ],
    ids=lambda html: html[:12],
)
def test_no_page_takes_hours_or_falls_apart(html: str) -> None:
    # each of these takes a fraction of a second; those that html.parser cannot take in one pass take it a day
    assert len(read_page(html, "https://tea.example/").text) <= 4 * len(html)


# --- fetching --------------------------------------------------------------------------------------------------------


async def test_a_page_comes_with_its_address_and_title(url: str, site: Site) -> None:
    output = await fetch(f"{url}/kinds/?q=1#part")
    assert (output["url"], output["title"], output["next_start"]) == (f"{url}/kinds/?q=1", "Tea & milk", None)
    assert output["text"] == MARKDOWN.replace("https://tea.example", url)
    [scope] = site.seen
    # strangers learn nothing of the execution
    assert (header(scope, "idempotency-key"), header(scope, "traceparent")) == ("", "")


async def test_a_redirect_is_followed_and_links_are_relative_to_its_end(url: str, site: Site) -> None:
    site.to = "/new/place"
    site.answer = 200, HTML, b"<a href=x>l</a>"
    assert await fetch(f"{url}/moved") == {
        "url": f"{url}/new/place",
        "title": "",
        "text": f"[l]({url}/new/x)",
        "next_start": None,
    }


async def test_a_redirect_to_a_private_address_is_refused(url: str, site: Site) -> None:
    for place in ("http://localhost:1/", "http://[::ffff:169.254.169.254]/latest/meta-data", "http://2130706434/"):
        site.to = place
        assert (await failure(f"{url}/moved"))["code"] == "tool.address_refused"


async def test_a_redirect_to_another_protocol_and_one_without_end_are_errors(url: str, site: Site) -> None:
    site.to = "file:///etc/hosts"
    assert (await failure(f"{url}/moved"))["code"] == "tool.bad_arguments"
    site.to = "/moved"
    assert (await failure(f"{url}/moved"))["code"] == "tool.bad_reply"


async def test_a_private_page_is_refused(url: str, site: Site) -> None:
    body = await failure(url, http=HttpConfig(allow=["127.0.0.1:1"]))
    assert body["code"] == "tool.address_refused"
    assert site.seen == []


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("text/html; charset=iso-8859-1", "Grüße – “tea”".encode("cp1252")),
        ('text/html; Charset="UTF-8"', "Grüße – “tea”".encode()),
        ("text/html", '<meta charset="windows-1252">Grüße – “tea”'.encode("cp1252")),
        ("text/html", '<meta http-equiv=content-type content="text/html; charset=utf-8">Grüße – “tea”'.encode()),
        ("text/html; charset=nonsense", "Grüße – “tea”".encode()),
        ("text/html; charset=unicode_escape", "Grüße – “tea”".encode()),
        ("text/html", "Grüße – “tea”".encode("cp1252")),
        ("text/html; charset=iso-8859-1", "\ufeffGrüße – “tea”".encode()),
        ("text/html", "\ufeffGrüße – “tea”".encode("utf-16-le")),
        ("text/html; charset=utf-16be", "Grüße – “tea”".encode("utf-16-be")),
        ("text/html; charset=gb18030", "Grüße – “tea”".encode("gb18030")),
        ("", "<!-- x --><!doctype html><p>Grüße – “tea”".encode()),
        ("application/xhtml+xml", '<?xml version="1.0" encoding="iso-8859-1"?><p>Grüße – “tea”</p>'.encode("cp1252")),
    ],
)
async def test_charsets_are_found(url: str, site: Site, kind: str, body: bytes) -> None:
    site.answer = 200, {"content-type": kind} if kind else {}, body
    assert (await fetch(url))["text"] == "Grüße – “tea”"


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/ld+json", "text/csv", ""])
async def test_other_texts_come_as_they_are(url: str, site: Site, kind: str) -> None:
    site.answer = 200, {"content-type": kind} if kind else {}, b'{"a": "<b>&amp;</b>"}\n  x\x07'
    assert (await fetch(url))["text"] == '{"a": "<b>&amp;</b>"}\n  x'


@pytest.mark.parametrize("kind", ["image/png", "application/pdf", "application/octet-stream", "video/mp4", ""])
async def test_what_is_no_text_is_refused(url: str, site: Site, kind: str) -> None:
    site.answer = 200, {"content-type": kind} if kind else {}, b"\x89PNG\x00\x00<html>"
    assert (await failure(url))["code"] == "tool.not_text"


async def test_a_long_page_comes_in_parts_that_make_up_the_whole(url: str, site: Site) -> None:
    lines = [f"Line {number}." for number in range(300)]
    site.answer = 200, HTML, "".join(f"<p>{line}</p>" for line in lines).encode()
    parts: list[str] = []
    start: int | None = 0
    while start is not None:
        output = await fetch(url, start=start, max_chars=500)
        assert len(output["text"]) <= 500
        parts.append(output["text"])
        start = output["next_start"]
    assert "\n\n".join(parts).split("\n\n") == lines
    assert len(parts) > 5
    assert (await fetch(url, start=10_000_000))["text"] == ""


@pytest.mark.parametrize("packed", [False, True])
async def test_a_huge_page_is_refused(url: str, site: Site, packed: bool) -> None:
    huge = b"x" * (MAX_ANSWER_BYTES + 1)
    site.answer = (200, {**HTML, "content-encoding": "gzip"}, gzip.compress(huge)) if packed else (200, HTML, huge)
    assert (await failure(url))["code"] == "tool.too_large"


async def test_a_page_that_is_not_there_is_the_services_error(url: str, site: Site) -> None:
    site.answer = 404, HTML, b"<p>gone"
    body = await failure(f"{url}/x?token=abc")
    assert (body["code"], body["details"]["status"]) == ("tool.http_status", 404)
    assert "abc" not in body["message"]


async def test_a_password_in_an_address_is_not_given_back(url: str, site: Site) -> None:
    site.answer = 200, HTML, b"<a href=x>l</a>"
    output = await fetch(url.replace("http://", "http://ada:pw@"))
    assert "pw" not in str(output)
