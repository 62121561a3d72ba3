"""The list of frequent questions."""

from __future__ import annotations

from examples.stub import Reply, Request, StubService, serve

ANSWERS = {"When are you open?": "From 9 to 17."}


class Service(StubService):
    """`GET /faq?question=…` gives the answer, or null."""

    def answer(self, request: Request) -> Reply:
        """See the class."""
        if request.path == "/faq":
            return Reply({"answer": ANSWERS.get(request.query.get("question", ""))})
        return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
