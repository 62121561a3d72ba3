"""A shop whose parts can be asked how they are, and the page for its customers; `/night` and `/storm` are bad days."""

from __future__ import annotations

from typing import Any

from examples.stub import Reply, Request, StubService, serve

HANGS_S = 1.0


class Service(StubService):
    """`GET /cart`, `GET /search?q=…`, `GET /pay`, each also at `/night` and `/storm`; `PUT /page`.

    Attributes:
        page: What customers are told.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.page: Any = None

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        *day, part = request.path.removeprefix("/").split("/")
        if request.method == "PUT" and part == "page":
            self.page = request.body
            return Reply({"published": True})
        if day == ["storm"]:
            return Reply({"error": "out of service"}, 503)
        match part:
            case "cart":
                return Reply({"state": "well"})
            case "search":
                return Reply({"hits": 0 if day == ["night"] else 3})
            case "pay":
                # at night the bank does not answer in time
                return Reply({"state": "well"}, after_s=HANGS_S if day == ["night"] else 0)
            case _:
                return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
