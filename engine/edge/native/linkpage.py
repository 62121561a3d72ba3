"""The page behind a link: what is asked, and buttons or a field for the answer, without scripts or pictures."""

from __future__ import annotations

import base64
import hashlib
import json
from html import escape
from typing import Any, Final

from fastapi import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from engine.control.links import Opened
from engine.core.errors import EngineError
from engine.core.run.projection import iso_time
from engine.core.values import Json

_STYLE: Final = """\
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid; border-radius: .4rem; padding: .8rem; }
textarea { width: 100%; box-sizing: border-box; font: inherit; }
button { font: inherit; padding: .5rem 1.2rem; margin: .8rem .5rem 0 0; }
.small { font-size: .85rem; opacity: .75; }
"""
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS: Final = {
    "cache-control": "no-store",
    # the address of the page is the permission itself
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "x-robots-tag": "noindex, nofollow",
    "content-security-policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
}
_DECISION: Final = {"approved", "reason"}
MOST_CHOICES = 10


def wants_page(request: Request) -> bool:
    """Whether a browser asks."""
    return "text/html" in request.headers.get("accept", "")


def json_of(view: dict[str, Any]) -> Response:
    """Return what a link asks for a program."""
    return JSONResponse(view, headers={"cache-control": "no-store", "referrer-policy": "no-referrer"})


def is_decision(schema: Json) -> bool:
    """Whether a schema is that of an approval: {approved, reason?}."""
    if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
        return False
    members = schema["properties"]
    approved = members.get("approved")
    return set(members) <= _DECISION and isinstance(approved, dict) and approved.get("type") == "boolean"


def takes_text(schema: Json) -> bool:
    """Whether a schema is that of a text."""
    return isinstance(schema, dict) and schema.get("type") == "string" and not schema.get("enum")


def page_of(opened: Opened, token: str, *, answered: bool = False) -> Response:
    """Return the page of a link.

    Args:
        opened: What the link asks.
        token: What stands in the link.
        answered: Whether an answer was just taken.
    """
    link, wait, facts = opened.link, opened.wait, opened.facts
    asked = [f"<h1>{escape(wait.label or facts.task_name or 'An answer is wanted')}</h1>"]
    if wait.info is not None:
        asked.append(f"<pre>{escape(_told(wait.info))}</pre>")
    if opened.is_open:
        asked += [_form(opened, token), f'<p class="small">You answer as {escape(link.actor)}. '
                  f"This link can be used until {escape(iso_time(link.expires_us))}.</p>"]  # fmt: skip
    elif wait.outcome == "answered" and wait.actor == link.actor:
        thanks = "Thank you, your answer was taken." if answered else "You have answered this."
        asked.append(f"<p>{thanks}</p><pre>{escape(_told(wait.answer))}</pre>")
    elif wait.outcome == "answered":
        asked.append(f"<p>{escape(wait.actor or 'Somebody else')} has answered this already.</p>")
    elif wait.outcome == "expired":
        asked.append("<p>It is too late: the time to answer this is over.</p>")
    else:
        asked.append("<p>This is no longer waited for.</p>")
    asked.append(f'<p class="small">{escape(facts.task_name)} · execution {escape(facts.id)}</p>')
    return _page("".join(asked))


def refusal_of(error: EngineError, status: int, token: str = "") -> Response:
    """Return the page that says why a link, or an answer by it, was refused."""
    parts = ["<h1>This did not work</h1>", f"<p>{escape(error.message)}</p>"]
    if error.hint:
        parts.append(f"<p>{escape(error.hint)}</p>")
    if token and status in (400, 409, 422, 503, 504):
        parts.append(f'<p><a href="?token={escape(token)}">Back to the question</a></p>')
    return _page("".join(parts), status)


def _form(opened: Opened, token: str) -> str:
    link, schema = opened.link, opened.wait.schema
    fields = ""
    if link.values is not None:
        fields = "".join(_button(value, _told(value)) for value in link.values)
    elif is_decision(schema):
        fields = (
            '<label>Reason (may be left out)<textarea name="reason" rows="2"></textarea></label>'
            + _button({"approved": True}, "Approve")
            + _button({"approved": False}, "Reject")
        )
    elif choices := _choices(schema):
        fields = "".join(_button(value, words) for value, words in choices)
    else:
        what = "Your answer" if takes_text(schema) else "Your answer, as JSON"
        fields = f'<label>{what}<textarea name="text" rows="6"></textarea></label><button>Send</button>'
        if schema is not None and not takes_text(schema):
            fields += f'<p class="small">It must fit this schema:</p><pre class="small">{escape(_told(schema))}</pre>'
    return f'<form method="post" action="?token={escape(token)}">{fields}</form>'


def _choices(schema: Json) -> list[tuple[Json, str]]:
    if not isinstance(schema, dict):
        return []
    if schema.get("type") == "boolean":
        return [(True, "Yes"), (False, "No")]
    values = schema.get("enum")
    return (
        [(value, _told(value)) for value in values] if isinstance(values, list) and len(values) <= MOST_CHOICES else []
    )


def _button(value: Json, words: str) -> str:
    text = escape(json.dumps(value, ensure_ascii=False))
    return f'<button name="choice" value="{text}">{escape(words)}</button>'


def _told(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)


def _page(body: str, status: int = 200) -> Response:
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Everstep</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>"
    )
    return HTMLResponse(text, status, headers=HEADERS)
