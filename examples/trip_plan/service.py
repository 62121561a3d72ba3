"""What a travel office asks: the weather and the sights of a town, one town a request."""

from __future__ import annotations

from examples.stub import Reply, Request, StubService, serve

WEATHER = {"Lisbon": ("sunny", 24), "Oslo": ("rain", 11), "Vienna": ("clouds", 17)}
SIGHTS = {
    "Atlantis": ["Temple of Poseidon"],
    "Lisbon": ["Belém Tower", "Alfama"],
    "Oslo": ["Fram Museum", "Opera House"],
    "Vienna": ["Prater", "Kunsthistorisches Museum"],
}


class Service(StubService):
    """`GET /weather?town=…`, `GET /sights?town=…`."""

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        town = request.query.get("town", "")
        match request.path:
            case "/weather" if town in WEATHER:
                sky, degrees = WEATHER[town]
                return Reply({"sky": sky, "degrees": degrees})
            case "/sights" if town in SIGHTS:
                return Reply({"sights": SIGHTS[town]})
            case _:
                return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
