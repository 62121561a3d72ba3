"""Takes secrets out of texts, bodies and log lines: values that are known, and what stands where secrets usually do."""

from __future__ import annotations

import base64
import copy
import html
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final, TypeVar
from urllib.parse import quote, quote_plus

from engine.core.errors import EngineError

MASK: Final = "***"
MIN_MASKED_CHARS: Final = 4
"""What is shorter stands in every other text by chance."""
MIN_ENCODED_CHARS: Final = 8
"""The same for pieces of base64, of which a short one means little."""
MIN_LINE_CHARS: Final = 16
"""The same for single lines of a value of several."""
MOST_KNOWN: Final = 1_000
"""Values that a process remembers for its log; the one that was used the longest ago goes first."""

_URL_SAFE: Final = str.maketrans("+/", "-_")
_CARRIERS: Final = frozenset(
    {
        *("authorization", "proxy-authorization", "cookie", "set-cookie"),
        *("x-api-key", "x-auth-key", "x-goog-api-key", "api-key", "apikey"),
        *("password", "passwd", "secret", "client-secret", "access-token", "refresh-token", "private-key"),
    }
)
"""Names whose values no log line shows."""
_SCHEMES: Final = re.compile(r"\b(Bearer|Basic|Token)\s+[A-Za-z0-9+/._~=-]{8,}", re.IGNORECASE)
_IN_URL: Final = re.compile(r"(?<=://)[^\s/?#@:]+:[^\s/?#@]+(?=@)")

E = TypeVar("E", bound=EngineError)


def cookie_value(value: str) -> str:
    """Return a value as it stands in a cookie; what would end it is percent-encoded."""
    return quote(value, safe="!#$&()*+-./:<=>?@[]^_`{|}~")


def _forms(secret: str) -> Iterator[str]:
    """Yield the ways in which a secret may stand in a text."""
    for whole in {secret, secret.strip()}:
        in_json = json.dumps(whole, ensure_ascii=False)[1:-1]
        yield from (whole, quote(whole, safe=""), quote(whole), quote_plus(whole), cookie_value(whole))
        yield from (in_json, in_json.replace("/", "\\/"), json.dumps(whole)[1:-1], repr(whole)[1:-1])
        yield from (html.escape(whole), html.escape(whole, quote=False), whole.encode().hex())
        yield from _encoded_forms(whole.encode())
    lines = secret.splitlines()
    yield from (line for line in lines if len(lines) > 1 and len(line) >= MIN_LINE_CHARS)


def _encoded_forms(secret: bytes) -> Iterator[str]:
    """Yield what of a secret is sure to stand in base64 of whatever it is a part of."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret).decode("ascii")
        piece = encoded[(0, 2, 3)[before] : (before + len(secret)) * 8 // 6]
        if len(piece) >= MIN_ENCODED_CHARS:
            yield from (piece, piece.translate(_URL_SAFE))


class Mask:
    """Takes secrets out of bytes, texts and JSON, also where they are written as in a URL, in JSON or in base64."""

    def __init__(self, secrets: Iterable[str]) -> None:
        """Take out these values, as far as they are not too short to be told from other text."""
        forms = {form for secret in secrets if len(secret) >= MIN_MASKED_CHARS for form in _forms(secret)}
        kept = sorted((form for form in forms if len(form) >= MIN_MASKED_CHARS), key=lambda form: (-len(form), form))
        self._forms = kept
        self._in_text = re.compile("|".join(map(re.escape, kept))) if kept else None
        self._in_bytes = re.compile(b"|".join(re.escape(form.encode()) for form in kept)) if kept else None

    def bytes(self, body: bytes) -> bytes:
        """Return a body without them."""
        return body if self._in_bytes is None else self._in_bytes.sub(MASK.encode(), body)

    def text(self, text: str) -> str:
        """Return a text without them."""
        return text if self._in_text is None else self._in_text.sub(MASK, text)

    def json(self, value: Any) -> Any:
        """Return a JSON value without them, in names of members as well."""
        if self._in_text is None:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.json(item) for key, item in value.items()}
        return [self.json(item) for item in value] if isinstance(value, (list, tuple)) else value

    def error(self, error: E) -> E:
        """Return an error without them."""
        clean = copy.copy(error)
        EngineError.__init__(
            clean,
            self._clipped(self.text(error.message)),
            code=error.code,
            hint=self.text(error.hint),
            retryable=error.retryable,
            details={key: self._clipped(self.json(item)) for key, item in error.details.items()},
        )
        return clean

    def _clipped(self, value: Any) -> Any:
        """Return a text without the beginning of a secret at its end, where it was cut off."""
        if not isinstance(value, str):
            return value
        text, end = value.rstrip("…"), "…" if value.endswith("…") else ""
        for form in self._forms:
            for length in range(min(len(form) - 1, len(text)), MIN_MASKED_CHARS - 1, -1):
                if text.endswith(form[:length]):
                    return f"{text[:-length]}{MASK}{end}"
        return value


class Redactor:
    """The last processor of log lines: takes out what the process knows to be secret, and what looks like it."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self._mask = Mask(())
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Show how many, not what."""
        return f"Redactor({len(self._known)})"

    def learn(self, secrets: Iterable[str]) -> None:
        """Take these values out of all lines from now on."""
        given = [secret for secret in secrets if len(secret) >= MIN_MASKED_CHARS]
        with self._lock:
            new = [secret for secret in given if secret not in self._known]
            for secret in given:
                self._known[secret] = None
                self._known.move_to_end(secret)
            while len(self._known) > MOST_KNOWN:
                self._known.popitem(last=False)
            if new:
                self._mask = Mask(self._known)

    def text(self, text: str) -> str:
        """Return a text without them."""
        text = _SCHEMES.sub(lambda found: f"{found[1]} {MASK}", self._mask.text(text))
        return _IN_URL.sub(MASK, text)

    def __call__(self, logger: Any, method: str, line: Any) -> Any:
        """Return a line as it may be written; a processor of structlog, behind the one that renders."""
        del logger, method
        return self.text(line) if isinstance(line, str) else line


def hide_carriers(logger: Any, method: str, line: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Take the values of members such as `authorization` out of a line; a processor in front of the renderer."""
    del logger, method
    for name, value in line.items():
        line[name] = _hidden(name, value)
    return line


def _hidden(name: Any, value: Any) -> Any:
    if isinstance(name, (str, bytes)) and _word(name) in _CARRIERS and value:
        return MASK
    if isinstance(value, Mapping):
        return {key: _hidden(key, item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        # headers are often told as pairs
        return [(item[0], _hidden(*item)) if _is_pair(item) else _hidden("", item) for item in value]
    return value


def _is_pair(item: Any) -> bool:
    return isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], (str, bytes))


def _word(name: str | bytes) -> str:
    text = name.decode("latin-1") if isinstance(name, bytes) else name
    return text.lower().replace("_", "-")
