"""The ticket service that the demo's HTTP tools talk to: hands out tickets and takes alerts, each key once."""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

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


class TicketService(ThreadingHTTPServer):
    """A small HTTP service: `GET /tickets`, `POST /alerts`; remembers alerts by their idempotency key."""

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.alerts: dict[str, Any] = {}
        self.calls = 0
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def take_alert(self, key: str, body: Any) -> dict[str, Any]:
        """Take an alert; a repeated key gets the first answer again."""
        with self.lock:
            self.calls += 1
            return dict(self.alerts.setdefault(key, {"alert": f"A-{len(self.alerts) + 1}", **body}))


class _Handler(BaseHTTPRequestHandler):
    server: TicketService

    def do_GET(self) -> None:
        if self.path == "/tickets":
            self._answer(200, {"tickets": TICKETS})
        else:
            self._answer(404, {"error": f"there is nothing at {self.path}"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        if self.path == "/alerts":
            self._answer(201, self.server.take_alert(self.headers.get("Idempotency-Key", ""), body))
        else:
            self._answer(404, {"error": f"there is nothing at {self.path}"})

    def _answer(self, status: int, body: Any) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the terminal shows the steps."""


def main() -> None:
    """Serve until Ctrl-C; prints the address and the input that goes with it."""
    service = TicketService(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    print(json.dumps({"service": service.url}), flush=True)
    try:
        service.serve_forever()
    except KeyboardInterrupt:
        service.server_close()


if __name__ == "__main__":
    main()
