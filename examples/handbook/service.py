"""The handbook's web site, and an index in which pieces of it are kept and found by words."""

from __future__ import annotations

from typing import Any

from examples.stub import Reply, Request, StubService, serve

PAGES = {
    "/lending": """<html><h1>Lending tools</h1>
<p>Members borrow tools for a week. A second week is free if nobody waits for the tool.</p>
<p>Drills and saws need a deposit of 20 euros, which you get back with a clean tool.</p>
<h2>When something breaks</h2>
<p>Tell us at once. Wear is ours; what fell from a ladder is yours.</p></html>""",
    "/empty": "<html></html>",
}


class Service(StubService):
    """`GET /PAGE`, `PUT /index/PAGE/NUMBER`, `GET /index?words=…&limit=…`.

    Attributes:
        pieces: Text, subject and page of each piece by its place.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.pieces: dict[str, dict[str, Any]] = {
            "/opening/0": {"text": "Open on Saturdays from 10 to 14.", "about": "opening hours", "page": "Opening"}
        }

    def answer(self, request: Request) -> Reply:
        """See the class."""
        match request.method, request.path.split("/")[1:]:
            case "GET", ["index"]:
                return Reply({"pieces": self._find(request.query["words"].split(), int(request.query["limit"]))})
            case "PUT", ["index", *place]:
                self.pieces["/" + "/".join(place)] = request.body
                return Reply({"pieces": len(self.pieces)})
            case "GET", _ if request.path in PAGES:
                return Reply(PAGES[request.path], headers={"Content-Type": "text/html; charset=utf-8"})
            case _:
                return Reply.nothing_at(request)

    def _find(self, words: list[str], limit: int) -> list[dict[str, Any]]:
        found = [
            {"place": place, **piece}
            for place, piece in self.pieces.items()
            if any(word in f"{piece['about']} {piece['text']}".lower() for word in words)
        ]
        return found[:limit]


if __name__ == "__main__":
    serve(Service)
