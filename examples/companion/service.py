"""The companion's memory of people: a profile, the messages of the conversation, and memories with a topic."""

from __future__ import annotations

from typing import Any

from examples.stub import Reply, Request, StubService, serve


def ada() -> dict[str, Any]:
    """Return what is known of Ada from the start."""
    return {
        "profile": {"name": "Ada", "likes": ["tea"], "since": "2025-12-01"},
        "messages": [
            {"role": "user", "content": "My sister Mia has a new dog."},
            {"role": "assistant", "content": "How lovely! What is it called?"},
        ],
        "memories": [{"id": 0, "text": "Ada's shop opens in March.", "topic": "work", "told": False}],
    }


class Service(StubService):
    """`GET` and `PUT /people/NAME/profile`; `GET` and `POST …/messages` and `…/memories`; `PATCH …/memories/ID`."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.people: dict[str, dict[str, Any]] = {"ada": ada()}

    def answer(self, request: Request) -> Reply:
        """See the class."""
        match request.method, request.path.split("/")[1:]:
            case _, ["people", "zed", *_]:
                return Reply({"error": "this part of the disk is broken"}, 500)
            case "PUT", ["people", name, "profile"]:
                self.people.setdefault(name, {"messages": [], "memories": []})["profile"] = request.body
                return Reply(request.body)
            case method, ["people", name, *rest] if name in self.people:
                return self._of(self.people[name], method, rest, request)
            case _:
                return Reply.nothing_at(request)

    def _of(self, person: dict[str, Any], method: str, rest: list[str], request: Request) -> Reply:
        memories: list[dict[str, Any]] = person["memories"]
        match method, rest:
            case "GET", ["profile"]:
                return Reply(person["profile"])
            case "GET", ["messages"]:
                return Reply({"messages": person["messages"][-int(request.query.get("last", 100)) :]})
            case "POST", ["messages"]:
                person["messages"] += request.body["messages"]
                return Reply({"messages": len(person["messages"])}, 201)
            case "GET", ["memories"]:
                wanted = request.query
                found = [item for item in memories if item["topic"] == wanted["topic"] and not item["told"]]
                return Reply({"memories": found})
            case "POST", ["memories"]:
                memories.append({"id": len(memories), "told": False, **request.body})
                return Reply(memories[-1], 201)
            case "PATCH", ["memories", number]:
                memories[int(number)].update(request.body)
                return Reply(memories[int(number)])
            case _:
                return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
