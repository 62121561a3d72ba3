"""Services on loopback that the example tasks call: weather, searches, pages, stories, videos, and a mail server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from tests.backends.loopback import simple_app
from tests.backends.smtp_receiver import MailServer, mail_server
from tests.support.example_server import serving
from tests.support.patience import PATIENCE_S, START_S

KEYS = {"weather": "key-of-the-weather", "brave": "key-of-the-search", "reels": "key-of-the-reels"}
FEED = (
    '<feed xmlns="http://www.w3.org/2005/Atom"><entry><id>http://arxiv.org/abs/1</id><title>Paper on {query}</title>'
    "<summary>It is known.</summary><author><name>Ada</name></author></entry></feed>"
)
STORIES = {
    "1": {"title": "First", "score": 50, "url": "SERVICE/page/1"},
    "2": {"title": "Second", "score": 1, "url": "SERVICE/page/2"},
    "3": {"title": "Third", "score": 70, "url": "SERVICE/page/3"},
    "4": {"title": "Fourth", "score": 90, "url": "SERVICE/page/4"},
}


class Services:
    """Answers all of them by path.

    Attributes:
        url: Where it is reached.
        acts: What it was asked to do.
        asked: Paths and queries of all requests.
    """

    def __init__(self) -> None:
        self.url = ""
        self.acts: list[str] = []
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def __call__(self, scope: dict[str, Any], body: bytes) -> tuple[int, dict[str, str], bytes]:
        """Answer a request."""
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        path = scope["path"]
        self.asked.append((path, query))
        if path == "/arxiv/query":
            return 200, {"content-type": "application/atom+xml"}, FEED.format(query=query["search_query"]).encode()
        if path == "/page.html":
            return 200, {"content-type": "text/html"}, b"<h1>Tea</h1><p>Hot water on leaves.</p>"
        found = self._answer(path, query, headers, json.loads(body) if body else {})
        return (
            (404, {}, b"") if found is None else (200, {"content-type": "application/json"}, json.dumps(found).encode())
        )

    def _answer(self, path: str, query: dict[str, str], headers: dict[str, str], body: dict[str, Any]) -> Any:
        match path.strip("/").split("/"):
            case ["weather", "weather"] if query.get("appid") == KEYS["weather"]:
                return {
                    "name": query["q"],
                    "sys": {"country": "BE"},
                    "weather": [{"description": "rain"}],
                    "main": {"temp": 12.5, "feels_like": 11, "humidity": 80, "pressure": 1010},
                    "wind": {"speed": 3},
                    "clouds": {"all": 90},
                    "dt": 1_750_000_000,
                }
            case ["brave", "web", "search"] if headers.get("x-subscription-token") == KEYS["brave"]:
                result = {"title": f"On {query['q']}", "url": "https://a.example", "description": "text"}
                return {"type": "search", "web": {"results": [result]}}
            case ["reels"] if headers.get("x-key") == f"key {KEYS['reels']}" and query["limit"] == "2":
                return {"items": [{"id": 1, "views": 5}, {"id": 2, "views": 50, "caption": query["topic"]}]}
            case ["videos"]:
                return {"url": f"https://v.example/{body['public_id']}/{'/'.join(body['transformation'])}"}
            case ["act"]:
                self.acts.append(body["action"])
                return {"did": body["action"]}
            case ["text"]:
                return {"text": "Tea is made of leaves. " * 40 + "Coffee is made of beans. " * 40}
            case ["stories.json"]:
                return [1, 2, 3, 4]
            case ["story", name]:
                story = STORIES[name.removesuffix(".json")]
                return {**story, "url": str(story["url"]).replace("SERVICE", self.url)}
            case ["page", number]:
                return {"text": f"what page {number} says"}
            case _:
                return None


@contextmanager
def services() -> Iterator[Services]:
    """Serve for the length of the block."""
    made = Services()
    with serving(simple_app(made)) as made.url:
        yield made


@contextmanager
def mails() -> Iterator[MailServer]:
    """Take mails for the length of the block."""
    server, ready, stop = MailServer(), threading.Event(), threading.Event()

    async def serve() -> None:
        async with mail_server(server):
            ready.set()
            await asyncio.to_thread(stop.wait)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(START_S), "the mail server did not start"
    try:
        yield server
    finally:
        stop.set()
        thread.join(PATIENCE_S)
