"""Regular expressions of the library: search_regex, match_regex and the module re, in linear time. Workflow-safe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

import re2

from engine.core.lang.context import SCAN_SHIFT, TEXT_SHIFT, Frame, Fuel
from engine.core.lang.failures import fail, wrong_type
from engine.core.lang.functions import Doc, Function, module, need_int, need_text
from engine.core.lang.methods import RegexMatch

MAX_PATTERN_CHARS: Final = 1_000
MAX_PATTERN_BYTES: Final = 1 << 18
MAX_PATTERNS: Final = 16
"""Compiled patterns that an evaluation keeps; each may take up to MAX_PATTERN_BYTES."""
MAX_REPLACEMENT_CHARS: Final = 10_000
RESCAN_SHIFT: Final = 11
"""A search for the next match may look at all the rest of the text again, mostly without need."""

FLAGS: Final = {2: "i", 8: "m", 16: "s"}
_INSERT: Final = re.compile(r"\\(?:g<(\w{1,80})>|([1-9]\d?)|(.)|\Z)", re.DOTALL)
_PLAIN_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_ESCAPES: Final = str.maketrans({sign: f"\\{sign}" for sign in "\\.^$*+?{}()[]|-&~# \t\n\r\v\f"})


def compile_pattern(frame: Frame, pattern: Any, flags: Any = 0) -> Any:
    """Return the compiled pattern, from the evaluation's own cache if it is there.

    Raises:
        ExpressionError: `expression.value` if RE2 refuses it, `expression.too_large` if it is too long.
    """
    text = _with_flags(need_text(pattern, "the pattern"), flags)
    compiled = frame.cache.get(text)
    if compiled is not None:
        return compiled
    if len(text) > MAX_PATTERN_CHARS:
        raise fail("too_large", f"a pattern has at most {MAX_PATTERN_CHARS:,} characters")
    frame.fuel.charge(20 + len(text))
    options = re2.Options()
    options.max_mem = MAX_PATTERN_BYTES
    options.log_errors = False
    try:
        compiled = re2.compile(text, options)
    except re2.error as error:
        reason = error.args[0] if error.args else ""
        shown = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        hint = "patterns have the syntax of RE2: no look-around, no back-references, bounded repetition"
        raise fail("value", f"the pattern cannot be used: {shown[:200]}", hint) from error
    frame.fuel.charge(compiled.programsize >> 2)
    if len(frame.cache) >= MAX_PATTERNS:
        del frame.cache[next(iter(frame.cache))]
    frame.cache[text] = compiled
    return compiled


def _with_flags(pattern: str, flags: Any) -> str:
    wanted = need_int(flags, "flags")
    if wanted == 0:
        return pattern
    letters = "".join(letter for bit, letter in FLAGS.items() if wanted & bit)
    if wanted & ~sum(FLAGS):
        raise fail("value", "unknown flags of a pattern", "there are re.I, re.M and re.S")
    return f"(?{letters}){pattern}"


def _pay_for_match(fuel: Fuel, compiled: Any, text: str) -> None:
    fuel.charge((len(text) * (8 + compiled.programsize) >> 9) + (len(text) >> SCAN_SHIFT) + 4)


def _result(compiled: Any, match: Any) -> RegexMatch:
    result = RegexMatch((match.group(), *match.groups()))
    result.names = dict(compiled.groupindex)
    result.start, result.end = match.span()
    return result


def _search(frame: Frame, pattern: Any, text: Any, flags: Any = 0) -> RegexMatch | None:
    compiled = compile_pattern(frame, pattern, flags)
    _pay_for_match(frame.fuel, compiled, need_text(text, "the text"))
    match = compiled.search(text)
    return None if match is None else _result(compiled, match)


def _matches(frame: Frame, pattern: Any, text: Any) -> bool:
    compiled = compile_pattern(frame, pattern)
    _pay_for_match(frame.fuel, compiled, need_text(text, "the text"))
    return compiled.fullmatch(text) is not None


def _match(frame: Frame, pattern: Any, text: Any, flags: Any = 0) -> RegexMatch | None:
    compiled = compile_pattern(frame, pattern, flags)
    _pay_for_match(frame.fuel, compiled, need_text(text, "the text"))
    match = compiled.match(text)
    return None if match is None else _result(compiled, match)


def _fullmatch(frame: Frame, pattern: Any, text: Any, flags: Any = 0) -> RegexMatch | None:
    compiled = compile_pattern(frame, pattern, flags)
    _pay_for_match(frame.fuel, compiled, need_text(text, "the text"))
    match = compiled.fullmatch(text)
    return None if match is None else _result(compiled, match)


def _each(frame: Frame, compiled: Any, text: str) -> Iterator[Any]:
    """Yield all matches; each pays for itself, and for looking for the next one."""
    fuel = frame.fuel
    _pay_for_match(fuel, compiled, text)
    size, weight = len(text), 8 + compiled.programsize
    price = 6 + 2 * compiled.groups
    for match in compiled.finditer(text):
        fuel.charge(price + ((size - match.end()) * weight >> RESCAN_SHIFT))
        yield match


def _findall(frame: Frame, pattern: Any, text: Any, flags: Any = 0) -> list[Any]:
    compiled = compile_pattern(frame, pattern, flags)
    found: list[Any] = []
    for match in _each(frame, compiled, need_text(text, "the text")):
        if compiled.groups < 2:
            value: Any = match.group(compiled.groups) or ""
            frame.fuel.charge(len(value) >> TEXT_SHIFT)
        else:
            value = match.groups("")
            frame.fuel.charge(sum(map(len, value)) >> TEXT_SHIFT)
        found.append(value)
    return found


def _finditer(frame: Frame, pattern: Any, text: Any, flags: Any = 0) -> list[RegexMatch]:
    compiled = compile_pattern(frame, pattern, flags)
    found = []
    for match in _each(frame, compiled, need_text(text, "the text")):
        result = _result(compiled, match)
        frame.fuel.charge(2 + (sum(len(part or "") for part in result) >> TEXT_SHIFT))
        found.append(result)
    return found


def _split(frame: Frame, pattern: Any, text: Any, maxsplit: Any = 0, flags: Any = 0) -> list[Any]:
    compiled = compile_pattern(frame, pattern, flags)
    source, limit = need_text(text, "the text"), need_int(maxsplit, "maxsplit")
    frame.fuel.charge(len(source) >> TEXT_SHIFT)
    pieces: list[Any] = []
    end = 0
    matches = _each(frame, compiled, source)
    for match in islice(matches, limit) if limit > 0 else matches:
        groups = match.groups()
        frame.fuel.charge(sum(len(group or "") for group in groups) >> TEXT_SHIFT)
        pieces += [source[end : match.start()], *groups]
        end = match.end()
    return [*pieces, source[end:]]


def _sub(frame: Frame, pattern: Any, repl: Any, text: Any, count: Any = 0, flags: Any = 0) -> str:
    compiled = compile_pattern(frame, pattern, flags)
    source, limit = need_text(text, "the text"), need_int(count, "count")
    parts = _replacement(frame, compiled, repl)
    frame.fuel.charge(len(source) >> TEXT_SHIFT)
    pieces: list[str] = []
    end = 0
    matches = _each(frame, compiled, source)
    for match in islice(matches, limit) if limit > 0 else matches:
        frame.fuel.charge(len(parts))
        texts = [part if isinstance(part, str) else match.group(part) or "" for part in parts]
        frame.fuel.charge(sum(map(len, texts)) >> TEXT_SHIFT)
        pieces += [source[end : match.start()], *texts]
        end = match.end()
    return "".join([*pieces, source[end:]])


def _replacement(frame: Frame, compiled: Any, repl: Any) -> list[str | int]:
    r"""Return the parts of a replacement: literal texts, and numbers of groups written `\1` or `\g<name>`."""
    if not isinstance(repl, str):
        raise wrong_type("the replacement must be text", r"write the groups as \1 or \g<name>")
    if len(repl) > MAX_REPLACEMENT_CHARS:
        raise fail("too_large", f"a replacement has at most {MAX_REPLACEMENT_CHARS:,} characters")
    frame.fuel.charge(1 + (len(repl) >> 3))
    parts: list[str | int] = []
    end = 0
    for match in _INSERT.finditer(repl):
        parts.append(repl[end : match.start()])
        end = match.end()
        name, number, plain = match.groups()
        if plain is not None:
            if plain not in _PLAIN_ESCAPES:
                raise fail("value", f"unknown escape {match.group()!r} in the replacement", r"write \\ for a backslash")
            parts.append(_PLAIN_ESCAPES[plain])
        elif name is None and number is None:
            raise fail("value", "the replacement ends with a backslash", r"write \\ for a backslash")
        else:
            parts.append(_group_number(compiled, name or number))
    return [part for part in (*parts, repl[end:]) if part != ""]


def _group_number(compiled: Any, name: str) -> int:
    # the digits of other scripts are decimal as well, but no group is called so
    number = int(name) if name.isascii() and name.isdecimal() else dict(compiled.groupindex).get(name)
    if number is None or number > compiled.groups:
        raise fail("no_key", f"the pattern has no group {name[:80]!r}")
    return number


def _escape(frame: Frame, text: Any) -> str:
    source = need_text(text, "the text")
    frame.fuel.charge((len(source) >> 3) + 1)
    return source.translate(_ESCAPES)


# --- the tables ----------------------------------------------------------------------------------------------------

SEARCH_REGEX: Final = Function(
    "search_regex",
    _search,
    2,
    2,
    framed=True,
    doc=Doc(
        "search_regex(pattern, text)",
        "The first match as a list, the whole first, then the groups; null if there is none.",
        "[search_regex('(a)(b+)', 'zabb'), search_regex('x', 'abc')]",
        [["abb", "a", "bb"], None],
    ),
)
MATCH_REGEX: Final = Function(
    "match_regex",
    _matches,
    2,
    2,
    framed=True,
    doc=Doc(
        "match_regex(pattern, text)", "Whether the pattern fits the whole text.", "match_regex('a+', 'aab')", False
    ),
)


def _re(name: str, code: Any, arguments: str, text: str, example: str, result: Any) -> Function:
    names = [part.split("=")[0] for part in arguments.split(", ")]
    optional = tuple(part.split("=")[0] for part in arguments.split(", ") if "=" in part)
    doc = Doc(f"re.{name}({arguments})", text, example, result)
    return Function(f"re.{name}", code, len(names) - len(optional), len(names), keywords=optional, framed=True, doc=doc)


RE: Final = module(
    "re",
    _re("escape", _escape, "text", "The text as a pattern that fits it alone.", "re.escape('1+1')", "1\\+1"),
    _re(
        "findall",
        _findall,
        "pattern, text, flags=0",
        "All matches; with one group what it holds, with several a list of each.",
        "re.findall('[0-9]+', 'a1b22')",
        ["1", "22"],
    ),
    _re(
        "finditer",
        _finditer,
        "pattern, text, flags=0",
        "All matches as search_regex gives them.",
        "[m.start() for m in re.finditer('b', 'abab')]",
        [1, 3],
    ),
    _re(
        "fullmatch",
        _fullmatch,
        "pattern, text, flags=0",
        "The match if the pattern fits the whole text.",
        "re.fullmatch('(a)b', 'AB', flags=re.I)",
        ["AB", "A"],
    ),
    _re(
        "match",
        _match,
        "pattern, text, flags=0",
        "The match at the start of the text.",
        "[re.match('b', 'ab'), re.match('a', 'ab').group()]",
        [None, "a"],
    ),
    _re(
        "search",
        _search,
        "pattern, text, flags=0",
        "The first match, or null.",
        "re.search('(?P<n>[0-9]+)', 'no 42').group('n')",
        "42",
    ),
    _re(
        "split",
        _split,
        "pattern, text, maxsplit=0, flags=0",
        "The text between the matches, with what their groups hold.",
        "re.split(', *', 'a,b,  c')",
        ["a", "b", "c"],
    ),
    _re(
        "sub",
        _sub,
        "pattern, repl, text, count=0, flags=0",
        r"The text with the matches replaced; the groups are \1 or \g<name>.",
        r"re.sub('(a)(b)', '\\2\\1', 'abab', count=1)",
        "baab",
    ),
    I=2,
    IGNORECASE=2,
    M=8,
    MULTILINE=8,
    S=16,
    DOTALL=16,
)
