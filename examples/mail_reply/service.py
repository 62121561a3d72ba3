"""A library's documents and its outgoing mail: searches the one, keeps the other."""

from __future__ import annotations

from typing import Any

from examples.stub import Reply, Request, StubService, serve

DOCUMENTS = [
    {"id": "loans", "text": "Books may be kept for four weeks and renewed twice, online or at the desk."},
    {"id": "fees", "text": "A late book costs 20 cents a day, at most 5 euros."},
    {"id": "rooms", "text": "Reading rooms are booked by the hour; a card of the library is needed."},
]


class Service(StubService):
    """`GET /documents?words=…`, `POST /mails`.

    Attributes:
        mails: What was sent.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.mails: list[Any] = []

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        match request.method, request.path:
            case "GET", "/documents":
                words = request.query.get("words", "").lower().split()
                found = [each for each in DOCUMENTS if any(word in each["text"].lower() for word in words)]
                return Reply({"documents": found})
            case "POST", "/mails":
                self.mails.append(request.body)
                return Reply({"id": f"mail-{len(self.mails)}"}, 202)
            case _:
                return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
