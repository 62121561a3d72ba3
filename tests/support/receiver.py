"""A service at the edge of the world that tests call: it counts requests by key and can be slow or refuse."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from typing import Any


class Receiver:
    """ASGI app: answers every request with what it got; `?delay=S` waits, `?status=N` and `?fail=K` refuse.

    Attributes:
        keys: Number of requests by idempotency key.
        bodies: Parsed bodies in order of arrival.
        by_key: The same, by idempotency key.
    """

    def __init__(self) -> None:
        self.keys: Counter[str] = Counter()
        self.bodies: list[Any] = []
        self.by_key: defaultdict[str, list[Any]] = defaultdict(list)
        self._failed: Counter[str] = Counter()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Serve one request."""
        assert scope["type"] == "http"
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
        query = dict(part.split("=", 1) for part in scope["query_string"].decode().split("&") if "=" in part)
        key = headers.get("idempotency-key", "")
        self.keys[key] += 1
        parsed = json.loads(body) if body else None
        self.bodies.append(parsed)
        self.by_key[key].append(parsed)
        await asyncio.sleep(float(query.get("delay", 0)))
        status = int(query.get("status", 200))
        if "fail" in query and self._failed[key] < int(query["fail"]):
            self._failed[key] += 1
            status = 503
        answer = json.dumps({"got": parsed, "key": key, "path": scope["path"]}).encode()
        await send(
            {"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]}
        )
        await send({"type": "http.response.body", "body": answer})
