"""The library that the research assistant asks: papers with abstracts, and notes that it keeps."""

from __future__ import annotations

from typing import Any

from examples.stub import Reply, Request, StubService, serve

PAPERS: dict[str, dict[str, Any]] = {
    "p1": {"title": "Bees and street lamps", "year": 2019, "abstract": "Bees near lamps visit fewer flowers at night."},
    "p2": {"title": "Amber light for insects", "year": 2021, "abstract": "Amber lamps draw half as many insects."},
    "p3": {"title": "Lamps in art", "year": 2020, "abstract": "Painters of the north loved lamps."},
    "p4": {"title": "Moths at night", "year": 1998, "abstract": "Moths fly to white light."},
    "p5": {"title": "Insects in cities", "year": 2022, "abstract": ""},
}


class Service(StubService):
    """`GET /search?words=…&since=…&limit=…`, `GET /papers/ID`, `GET /notes?question=…`, `POST /notes`."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.notes: list[dict[str, Any]] = [{"question": "What helps the moths of the city?", "paper": "p5"}]

    def answer(self, request: Request) -> Reply:
        """See the class."""
        match request.method, request.path.split("/")[1:]:
            case "GET", ["search"]:
                return Reply({"papers": self._search(request.query)})
            case "GET", ["papers", name] if name in PAPERS and PAPERS[name]["abstract"]:
                return Reply({"id": name, **PAPERS[name]})
            case "GET", ["notes"]:
                return Reply({"notes": [note for note in self.notes if note["question"] == request.query["question"]]})
            case "POST", ["notes"]:
                self.notes.append(request.body)
                return Reply({"notes": len(self.notes)}, 201)
            case _:
                return Reply.nothing_at(request)

    def _search(self, query: dict[str, str]) -> list[dict[str, Any]]:
        words = query["words"].lower().split()
        found = [
            {"id": name, "title": paper["title"]}
            for name, paper in PAPERS.items()
            if paper["year"] >= int(query["since"]) and any(word in paper["title"].lower() for word in words)
        ]
        return found[: int(query["limit"])]


if __name__ == "__main__":
    serve(Service)
