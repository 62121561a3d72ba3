"""The news board: stories with points, pages and comments; and a mailbox for letters."""

from __future__ import annotations

from typing import Any

from examples.stub import Reply, Request, StubService, serve

ITEMS: dict[str, dict[str, Any]] = {
    "1": {"id": 1, "title": "A lamp that lasts", "points": 90, "url": "/page/lamp", "comments": [11, 12, 13]},
    "2": {"id": 2, "title": "Ask: your favourite lamp?", "points": 60, "text": "Mine is green."},
    "3": {"id": 3, "title": "Buy lamps", "points": 99, "dead": True},
    "4": {"id": 4, "title": "Nobody likes this"},
    "6": {"id": 6, "title": "Football tonight", "points": 70, "url": "/page/gone"},
    "11": {"id": 11, "by": "mia", "text": "Mine is from 1950. "},
    "12": {"id": 12, "text": "Which bulb?"},
    "13": {"id": 13, "by": "tom", "text": "First!"},
}
PAGES = {"lamp": "<h1>A lamp</h1><p>It has burnt since 1901.</p>"}


class Service(StubService):
    """`GET /top`, `GET /item/ID`, `GET /page/NAME`, `POST /letters`.

    Attributes:
        letters: The letters that were sent.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.letters: list[dict[str, Any]] = []

    def answer(self, request: Request) -> Reply:
        """See the class."""
        match request.method, request.path.split("/")[1:]:
            case "GET", ["top"]:
                return Reply({"ids": [1, 2, 3, 4, 5, 6]})
            case "GET", ["item", number] if number in ITEMS:
                return Reply(ITEMS[number])
            case "GET", ["page", name] if name in PAGES:
                return Reply(PAGES[name], headers={"Content-Type": "text/html; charset=utf-8"})
            case "POST", ["letters"]:
                self.letters.append(request.body)
                return Reply({"letters": len(self.letters)}, 202)
            case _:
                return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
