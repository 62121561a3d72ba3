"""Encodings of the library: the modules base64 and urllib.parse, from text to text. Workflow-safe."""

from __future__ import annotations

import base64
import binascii
import urllib.parse
from collections.abc import Mapping
from typing import Any, Final

from engine.core.lang.border import output_text
from engine.core.lang.containers import iterate
from engine.core.lang.context import TEXT_SHIFT, Frame
from engine.core.lang.failures import fail, type_name, wrong_type
from engine.core.lang.functions import Doc, Function, Module, module, need_text
from engine.core.lang.secret import SecretText, encoded

MAX_URL_CHARS: Final = 16_384
"""The parser of URLs keeps the last ones it has seen, so large ones would stay in memory."""
MAX_SAFE_CHARS: Final = 128
QUOTE_SHIFT: Final = 4
"""2**4 characters cost one unit to quote: each may become nine, one by one."""


# --- base64 --------------------------------------------------------------------------------------------------------


def _encode(frame: Frame, text: Any) -> Any:
    if type(text) is SecretText:
        return encoded(text)
    return _encoded(frame, text).decode("ascii")


def _encode_url(frame: Frame, text: Any) -> str:
    return _encoded(frame, text).translate(_TO_URL).decode("ascii")


def _encoded(frame: Frame, text: Any) -> bytes:
    source = need_text(text, "the text")
    # up to four bytes a character, a third more when encoded, and each copied twice
    frame.fuel.charge((len(source) >> TEXT_SHIFT - 2) + 1)
    return base64.b64encode(source.encode())


_TO_URL: Final = bytes.maketrans(b"+/", b"-_")


def _decode(frame: Frame, text: Any) -> str:
    return _decoded(frame, need_text(text, "the text"), url=False)


def _decode_url(frame: Frame, text: Any) -> str:
    return _decoded(frame, need_text(text, "the text"), url=True)


def _decoded(frame: Frame, source: str, *, url: bool) -> str:
    frame.fuel.charge((len(source) >> TEXT_SHIFT - 2) + 1)
    plain = source
    if any(blank in source for blank in " \n\r\t"):
        frame.fuel.charge(len(source) >> 3)
        plain = "".join(source.split())
    if url:
        plain = plain.replace("-", "+").replace("_", "/")
    try:
        # senders of URLs leave the filling out
        found = base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise fail("value", "the text is not base64", "take urlsafe_b64decode for text with - and _") from error
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        hint = "text is all that expressions know; give the data to a tool as it is"
        raise fail("value", "the base64 holds bytes that are not text", hint) from error


def _base64(name: str, code: Any, text: str, example: str, result: str) -> Function:
    doc = Doc(f"base64.{name}(text)", text, f"base64.{name}({example!r})", result)
    return Function(f"base64.{name}", code, 1, 1, framed=True, doc=doc)


BASE64: Final = module(
    "base64",
    _base64("b64decode", _decode, "The text that was encoded, as UTF-8.", "aMOp", "hé"),
    _base64("b64encode", _encode, "The text's UTF-8 bytes as base64.", "hé", "aMOp"),
    _base64("urlsafe_b64decode", _decode_url, "As b64decode, of the alphabet with - and _.", "Pz8_", "???"),
    _base64("urlsafe_b64encode", _encode_url, "As b64encode, with - and _ in place of + and /.", "???", "Pz8_"),
)


# --- urllib.parse --------------------------------------------------------------------------------------------------


def _quote(frame: Frame, text: Any, safe: Any = "/") -> str:
    return urllib.parse.quote(_quotable(frame, text, safe), safe)


def _quote_plus(frame: Frame, text: Any, safe: Any = "") -> str:
    return urllib.parse.quote_plus(_quotable(frame, text, safe), safe)


def _quotable(frame: Frame, value: Any, safe: Any) -> str:
    text = output_text(value, frame.fuel)
    if len(need_text(safe, "safe")) > MAX_SAFE_CHARS or not safe.isascii():
        raise fail("value", f"safe has at most {MAX_SAFE_CHARS} ASCII characters")
    # a character of four bytes becomes twelve
    frame.fuel.charge(len(text) * (1 if text.isascii() else 4) >> QUOTE_SHIFT)
    return text


def _unquote(frame: Frame, text: Any) -> str:
    source = need_text(text, "the text")
    _pay_for_unquoting(frame, source)
    return urllib.parse.unquote(source)


def _pay_for_unquoting(frame: Frame, source: str) -> None:
    marks = source.count("%")
    # the text is cut at each mark and between ASCII and other characters
    cuts = marks if source.isascii() or not marks else marks + (len(source) >> 1)
    frame.fuel.charge((len(source) >> TEXT_SHIFT - 3) + cuts)


def _unquote_plus(frame: Frame, text: Any) -> str:
    return _unquote(frame, need_text(text, "the text").replace("+", " "))


def _pairs(frame: Frame, query: Any) -> list[tuple[str, str]]:
    source = need_text(query, "the query")
    _pay_for_unquoting(frame, source)
    frame.fuel.charge(4 + 3 * source.count("&"))
    return urllib.parse.parse_qsl(source, keep_blank_values=True)


def _parse_qs(frame: Frame, query: Any) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in _pairs(frame, query):
        found.setdefault(name, []).append(value)
    return found


def _urlencode(frame: Frame, query: Any, doseq: Any = False) -> str:
    if not isinstance(query, Mapping):
        for pair in iterate(query):
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise wrong_type("urlencode() takes an object or a list of pairs", 'such as {"q": "text"}')
    pairs = list(query.items()) if isinstance(query, Mapping) else list(query)
    frame.fuel.charge((len(pairs) >> 1) + 1)
    parts = []
    for name, value in pairs:
        several = bool(doseq) and isinstance(value, (list, tuple))
        values = value if several else [value]
        frame.fuel.charge(len(values) + 1)
        key = urllib.parse.quote_plus(_quotable(frame, name, ""))
        for one in values:
            frame.fuel.charge(len(key) >> TEXT_SHIFT)
            parts.append(f"{key}={urllib.parse.quote_plus(_quotable(frame, one, ''))}")
    frame.fuel.charge(sum(map(len, parts)) >> TEXT_SHIFT)
    return "&".join(parts)


def _url(frame: Frame, value: Any) -> str:
    text = need_text(value, "the URL")
    if len(text) > MAX_URL_CHARS:
        raise fail("too_large", f"a URL has at most {MAX_URL_CHARS:,} characters")
    frame.fuel.charge(10 + (len(text) >> 5))
    return text


def _urlparse(frame: Frame, url: Any) -> dict[str, Any]:
    parts = urllib.parse.urlsplit(_url(frame, url))
    try:
        port = parts.port
    except ValueError as error:
        raise fail("value", "the port of the URL is no number from 0 to 65535") from error
    return {
        "scheme": parts.scheme,
        "netloc": parts.netloc,
        "path": parts.path,
        "query": parts.query,
        "fragment": parts.fragment,
        "hostname": parts.hostname,
        "port": port,
        "username": parts.username,
        "password": parts.password,
    }


def _urljoin(frame: Frame, base: Any, url: Any) -> str:
    return urllib.parse.urljoin(_url(frame, base), _url(frame, url))


def _urlunparse(frame: Frame, parts: Any) -> str:
    if not isinstance(parts, Mapping):
        raise wrong_type(f"urlunparse() takes what urlparse() gave, not {type_name(parts)}")
    names = ("scheme", "netloc", "path", "query", "fragment")
    texts = [need_text(parts.get(name) or "", name) for name in names]
    frame.fuel.charge(sum(map(len, texts)) >> TEXT_SHIFT)
    return urllib.parse.urlunsplit(texts)


def _parse(name: str, code: Any, arguments: str, text: str, example: str, result: Any) -> Function:
    names = arguments.split(", ")
    optional = tuple(part.split("=")[0] for part in names if "=" in part)
    doc = Doc(f"urllib.parse.{name}({arguments})", text, f"urllib.parse.{example}", result)
    return Function(
        f"urllib.parse.{name}", code, len(names) - len(optional), len(names), keywords=optional, framed=True, doc=doc
    )


_PARSE: Final = module(
    "urllib.parse",
    _parse("parse_qs", _parse_qs, "query", "All values of each name.", "parse_qs('a=1&a=2')", {"a": ["1", "2"]}),
    _parse("parse_qsl", _pairs, "query", "Pairs of name and value.", "parse_qsl('a=1&b=')", [["a", "1"], ["b", ""]]),
    _parse("quote", _quote, "text, safe='/'", "The text fit for the path of a URL.", "quote('a b/c')", "a%20b/c"),
    _parse("quote_plus", _quote_plus, "text, safe=''", "The text fit for a query.", "quote_plus('a b&c')", "a+b%26c"),
    _parse("unquote", _unquote, "text", "The text that was quoted.", "unquote('a%20b')", "a b"),
    _parse("unquote_plus", _unquote_plus, "text", "The text of a query.", "unquote_plus('a+b')", "a b"),
    _parse(
        "urlencode",
        _urlencode,
        "query, doseq=false",
        "The query of an object; with doseq a list gives a name several times.",
        "urlencode({'q': 'a b', 'n': [1, 2]}, doseq=true)",
        "q=a+b&n=1&n=2",
    ),
    _parse(
        "urljoin",
        _urljoin,
        "base, url",
        "The URL seen from the base.",
        "urljoin('https://a.org/b/c', '../d')",
        "https://a.org/d",
    ),
    _parse(
        "urlparse",
        _urlparse,
        "url",
        "An object with scheme, netloc, path, query, fragment, hostname, port, username and password.",
        "urlparse('https://a.org:8080/b?c=1').port",
        8080,
    ),
    _parse(
        "urlunparse",
        _urlunparse,
        "parts",
        "The URL of an object that urlparse gave.",
        "urlunparse({'scheme': 'https', 'netloc': 'a.org', 'path': '/b'})",
        "https://a.org/b",
    ),
)

URLLIB: Final = Module("urllib", {"parse": _PARSE})
