"""What the local services of the examples share: a small HTTP server that answers a repeated key as it did before."""

from __future__ import annotations

import json
import sys
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True, slots=True)
class Request:
    """What came in.

    Attributes:
        method: `GET`, `POST`…
        path: The path, without its query.
        query: The parameters of the query.
        body: The body as JSON; None if there is none.
        key: The Idempotency-Key; empty if there is none.
        headers: All headers, names in lower case.
    """

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: Any = None
    key: str = ""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes out: a text as it is, anything else as JSON; `after_s` seconds later."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    after_s: float = 0.0

    @classmethod
    def nothing_at(cls, request: Request) -> Reply:
        """Return the answer to a request that the service does not know."""
        return cls({"error": f"there is nothing at {request.method} {request.path}"}, 404)


class StubService(ThreadingHTTPServer):
    """A service of an example; what it answers is said by a subclass.

    Args:
        port: Port of loopback; 0 = any free one.

    Attributes:
        requests: What came in so far; a request whose key was answered before is not listed again.
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.requests: list[Request] = []
        self._answered: dict[str, Reply] = {}
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, request: Request) -> Reply:
        """Answer one request; they come one at a time."""
        raise NotImplementedError

    def take(self, request: Request) -> Reply:
        """Answer a request, or repeat the answer to an earlier one with the same key."""
        with self._lock:
            if request.key in self._answered:
                return self._answered[request.key]
            self.requests.append(request)
            reply = self.answer(request)
            # what failed on our side has not happened, so it may be tried again
            if request.key and reply.status < 500:
                self._answered[request.key] = reply
            return reply


class _Handler(BaseHTTPRequestHandler):
    server: StubService

    def _serve(self) -> None:
        url = urlsplit(self.path)
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query)),
            body=json.loads(raw) if raw else None,
            key=headers.get("idempotency-key", ""),
            headers=headers,
        )
        self._send(self.server.take(request))

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _send(self, reply: Reply) -> None:
        is_text = isinstance(reply.body, str)
        time.sleep(reply.after_s)
        data = reply.body.encode() if is_text else json.dumps(reply.body).encode()
        own = {"Content-Type": "text/plain; charset=utf-8" if is_text else "application/json"}
        self.send_response(reply.status)
        for name, value in {**own, **reply.headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: the terminal shows the steps."""


def serve(service: type[StubService]) -> None:
    """Serve until Ctrl-C; prints the address as the input that the example takes.

    Args:
        service: The service; its port may be given as the program's argument.
    """
    with service(int(sys.argv[1]) if len(sys.argv) > 1 else 0) as running:
        print(json.dumps({"service": running.url}), flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            return
