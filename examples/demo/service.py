"""The ticket service that the demo's HTTP tools talk to: hands out tickets and takes alerts, each key once."""

from __future__ import annotations

from typing import Any

from examples.stub import Reply, Request, StubService, serve

TICKETS = [
    {
        "id": "T-1",
        "customer": "Ada",
        "text": "How do I export my projects as a spreadsheet?",
    },
    {
        "id": "T-2",
        "customer": "Grace",
        "text": "The invoice of May was charged twice to my card 4111 1111 1111 1111.",
    },
    {
        "id": "T-3",
        "customer": "Linus",
        "text": "The password mail never arrives at linus@example.com.",
    },
]


class Service(StubService):
    """`GET /tickets`, `POST /alerts`.

    Attributes:
        alerts: The alerts that were taken.
        calls: How often an alert was sent, those with a repeated key included.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.alerts: list[dict[str, Any]] = []
        self.calls = 0

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        match request.method, request.path:
            case "GET", "/tickets":
                return Reply({"tickets": TICKETS})
            case "POST", "/alerts":
                self.alerts.append({"alert": f"A-{len(self.alerts) + 1}", **request.body})
                return Reply(self.alerts[-1], 201)
            case _:
                return Reply.nothing_at(request)

    def take(self, request: Request) -> Reply:
        """Count the calls, so that the demo can tell how many there were for one alert."""
        self.calls += request.path == "/alerts"
        return super().take(request)


if __name__ == "__main__":
    serve(Service)
