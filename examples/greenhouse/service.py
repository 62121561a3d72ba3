"""Sensors and windows of four greenhouses: one is cool, one warm, one has a silent sensor, one is on fire."""

from __future__ import annotations

from typing import Any

from examples.stub import Reply, Request, StubService, serve


class Service(StubService):
    """`GET /houses/NAME`, `PUT /houses/NAME/windows`.

    Attributes:
        houses: Degrees and windows of each house.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.houses: dict[str, dict[str, Any]] = {
            "cool": {"degrees": 19.5, "windows": "closed"},
            "warm": {"degrees": 30, "windows": "closed"},
            "silent": {"degrees": None, "windows": "open"},
            "hot": {"degrees": 61, "windows": "open"},
        }

    def answer(self, request: Request) -> Reply:
        """See the class."""
        match request.method, request.path.split("/")[1:]:
            case "GET", ["houses", name] if name in self.houses:
                return Reply(self.houses[name])
            case "PUT", ["houses", name, "windows"] if name in self.houses:
                self.houses[name]["windows"] = request.body["windows"]
                return Reply(self.houses[name])
            case _:
                return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
