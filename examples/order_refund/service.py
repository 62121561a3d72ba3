"""The shop's back office: orders, money that is held for a refund, payouts, and a journal."""

from __future__ import annotations

from examples.stub import Reply, Request, StubService, serve

ORDERS = {"A-17": {"paid": 120.0, "bank": "open"}, "A-18": {"paid": 30.0, "bank": "closed"}}


class Service(StubService):
    """`GET /orders/ID`, `POST` and `DELETE /holds`, `POST /payouts`, `POST /journal`.

    Attributes:
        holds: The order of each hold; a hold that was let go is none any more.
        journal: The lines that were written.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(port)
        self.holds: dict[str, str] = {}
        self.journal: list[str] = []

    def answer(self, request: Request) -> Reply:
        """See the class."""
        match request.method, request.path.split("/")[1:]:
            case "GET", ["orders", order] if order in ORDERS:
                return Reply({"order": order, "paid": ORDERS[order]["paid"]})
            case "POST", ["holds"]:
                hold = f"H-{len(self.holds) + 1}"
                self.holds[hold] = request.body["order"]
                return Reply({"id": hold}, 201)
            case "DELETE", ["holds", hold] if hold in self.holds:
                return Reply({"released": self.holds.pop(hold)})
            case "POST", ["payouts"]:
                # the bank of the second customer has closed the account, which it says with status 200
                if ORDERS[self.holds[request.body["hold"]]]["bank"] == "closed":
                    return Reply({"state": "account closed"})
                return Reply({"state": "paid", "receipt": "R-1"})
            case "POST", ["journal"]:
                self.journal.append(request.body["line"])
                return Reply({"lines": len(self.journal)}, 201)
            case _:
                return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
