"""The web site that the guide reads: a small museum, whose pages link to one another."""

from __future__ import annotations

from examples.stub import Reply, Request, StubService, serve

PAGES = {
    "/": """<h1>Museum of Lamps</h1>
<p>Four hundred lamps from three centuries.</p>
<ul><li><a href="/visit">Your visit</a></li><li><a href="/collection">The collection</a></li></ul>""",
    "/visit": """<h1>Your visit</h1>
<p>Tickets cost 9 euros. See also the <a href="/hours">opening hours</a>.</p>""",
    "/hours": """<h1>Opening hours</h1>
<p>Tuesday to Sunday 10 to 18. On the <b>first Thursday</b> of a month we are open until 22.</p>""",
    "/collection": """<h1>The collection</h1>
<p>The oldest lamp is a whale oil lamp of 1741.</p>""",
}


class Service(StubService):
    """Answers `GET PATH` with a page, and `GET /find?word=…` with links to the pages that have the word."""

    def answer(self, request: Request) -> Reply:
        """See the class."""
        if request.path == "/find":
            word = request.query.get("word", "").lower()
            found = [path for path, page in PAGES.items() if word in page.lower()]
            return Reply("".join(f'<p><a href="{path}">{path}</a></p>' for path in found) or "<p>Nothing found.</p>")
        if request.path in PAGES:
            return Reply(PAGES[request.path])
        return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
