"""A crawler's service: gives the pages of a small museum's site as HTML in JSON; one of its links leads nowhere."""

from __future__ import annotations

from examples.stub import Reply, Request, StubService, serve

PAGES = {
    "/": """<h1>Clock museum</h1><p>Open daily.</p><ul>
<li><a href="/visit">Visit</a></li><li><a href="/shop">Shop</a></li><li><a href="/old">Archive</a></li>
<li><a href="https://elsewhere.example/">Friends</a></li></ul>""",
    "/visit": "<h2>Visit</h2><p>Tickets cost <b>7 euros</b>.</p>",
    "/shop": "<h2>Shop</h2><p>We sell cuckoo clocks.</p>",
}


class Service(StubService):
    """`GET /pages?path=…`."""

    def answer(self, request: Request) -> Reply:
        """Answer one request."""
        path = request.query.get("path", "/")
        match request.method, request.path:
            case "GET", "/pages" if path in PAGES:
                return Reply({"path": path, "html": PAGES[path]})
            case _:
                return Reply.nothing_at(request)


if __name__ == "__main__":
    serve(Service)
