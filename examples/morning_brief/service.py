"""What a morning is made of: weather, appointments and a headline; at `/strike` the newspaper does not come."""

from __future__ import annotations

from examples.stub import Reply, Request, StubService, serve


class Service(StubService):
    """`GET /weather`, `GET /appointments`, `GET /headline`, each also at `/strike`."""

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        match request.path.removeprefix("/strike"):
            case "/weather":
                return Reply({"sky": "rain", "degrees": 9})
            case "/appointments":
                return Reply({"today": [{"at": "10:00", "what": "dentist"}, {"at": "12:30", "what": "lunch with Mia"}]})
            case "/headline" if request.path == "/strike/headline":
                return Reply({"error": "out of service"}, 503)
            case "/headline":
                return Reply({"text": "Bakers invent a square roll"})
            case _:
                return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
