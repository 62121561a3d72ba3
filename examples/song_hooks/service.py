"""The charts of a small radio station: songs by genre."""

from __future__ import annotations

from examples.stub import Reply, Request, StubService, serve

SONGS = [
    {"title": "Tin Roof", "artist": "The Ladders", "genre": "folk", "plays": 9200, "skips": 300, "year": 2025},
    {"title": "Low Tide", "artist": "Mara Quill", "genre": "folk", "plays": 4100, "skips": 2900, "year": 2025},
    {"title": "Paper Boats", "artist": "Ono & Lind", "genre": "folk", "plays": 7800, "skips": 900, "year": 2024},
    {"title": "Neon Hours", "artist": "Volt", "genre": "electro", "plays": 9900, "skips": 100, "year": 2025},
]


class Service(StubService):
    """`GET /songs?genre=…&limit=…`."""

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        if (request.method, request.path) != ("GET", "/songs"):
            return Reply.nothing_at(request)
        found = [song for song in SONGS if song["genre"] == request.query.get("genre")]
        return Reply({"songs": found[: int(request.query.get("limit", 10))]})


if __name__ == "__main__":
    serve(Service)
