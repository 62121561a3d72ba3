"""YAML of the library: one document to JSON values and back, by YAML 1.2's rules. Workflow-safe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import yaml

from engine.core.errors import ExpressionError
from engine.core.lang.border import ESCAPE_SHIFT, check_unicode, export, pay_for_digits
from engine.core.lang.context import TEXT_SHIFT, Frame, Fuel
from engine.core.lang.failures import fail
from engine.core.lang.functions import Doc, Function, module, need_int, need_text
from engine.core.values import MAX_DEPTH, Json

EVENT_UNITS: Final = 8
"""What one list, object or scalar costs to read: about 8 µs in the C parser, its events included."""
MAX_NUMBER_CHARS: Final = 1_200

# wheels without libyaml have only the other one, which gives the same values about fifty times slower
_LOADER: Final[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_INT: Final = re.compile(r"[-+]?[0-9]+\Z")
_OCTAL: Final = re.compile(r"0o[0-7]+\Z")
_HEX: Final = re.compile(r"0x[0-9a-fA-F]+\Z")
_FLOAT: Final = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_NOT_FINITE: Final = re.compile(r"([-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))\Z")
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset({"true", "True", "TRUE"})
_FALSE: Final = frozenset({"false", "False", "FALSE"})
_TAGS: Final = {
    "tag:yaml.org,2002:str": (str,),
    "tag:yaml.org,2002:int": (int,),
    "tag:yaml.org,2002:float": (float, int),
    "tag:yaml.org,2002:bool": (bool,),
    "tag:yaml.org,2002:null": (type(None),),
    "tag:yaml.org,2002:seq": (list,),
    "tag:yaml.org,2002:map": (dict,),
}


# --- reading -------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Node:
    """A value with its size and height as if no part of it were shared."""

    value: Json
    size: int = 1
    height: int = 0


@dataclass(slots=True)
class _Open:
    """A list or object that is being read."""

    value: Any
    anchor: str | None
    size: int = 1
    height: int = 0
    key: str | None = None


class _Reader:
    """Turns parser events into values without recursion; aliases cost what they stand for."""

    def __init__(self, fuel: Fuel) -> None:
        self.fuel = fuel
        self.stack: list[_Open] = []
        self.anchors: dict[str, _Node] = {}
        self.documents = 0
        self.root: Json = None

    def read(self, events: Iterator[Any]) -> Json:
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    raise _error("a second document starts here", event, "split the text at its `---` lines first")
            elif isinstance(event, yaml.ScalarEvent):
                self.fuel.charge(EVENT_UNITS + (len(event.value) >> TEXT_SHIFT))
                self._add(_Node(_scalar(event)), event.anchor, event)
            elif isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
                self._open(event)
            elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                done = self.stack.pop()
                self._add(_Node(done.value, done.size, done.height + 1), done.anchor, event)
            elif isinstance(event, yaml.AliasEvent):
                found = self.anchors.get(str(event.anchor))
                if found is None:
                    raise _error(f"the alias *{str(event.anchor)[:80]} names nothing before it", event, "")
                self.fuel.charge(EVENT_UNITS + found.size)
                self._add(found, None, event)
        return self.root

    def _open(self, event: Any) -> None:
        self.fuel.charge(EVENT_UNITS)
        if len(self.stack) >= MAX_DEPTH:
            raise _too_deep()
        if self.stack and type(self.stack[-1].value) is dict and self.stack[-1].key is None:
            raise _error("a list or object is used as a key", event, "put quotes around text that starts with { or [")
        value: Any = {} if isinstance(event, yaml.MappingStartEvent) else []
        if event.tag is not None and type(value) not in _TAGS.get(event.tag, ()):
            raise _error(f"the tag {event.tag[:80]} is not supported", event, "leave it out")
        self.stack.append(_Open(value, event.anchor))

    def _add(self, node: _Node, anchor: str | None, event: Any) -> None:
        if anchor:
            self.anchors[anchor] = node
        if not self.stack:
            self.root = node.value
            return
        parent = self.stack[-1]
        if type(parent.value) is list:
            parent.value.append(node.value)
        elif parent.key is None:
            parent.key = _key(node.value, parent.value, event)
        else:
            parent.value[parent.key] = node.value
            parent.key = None
        parent.size += node.size
        parent.height = max(parent.height, node.height)
        if len(self.stack) + node.height > MAX_DEPTH:
            raise _too_deep()


def _key(value: Json, siblings: dict[str, Json], event: Any) -> str:
    if type(value) in (list, dict):
        raise _error("a list or object is used as a key", event, "")
    name = value if type(value) is str else json.dumps(value)
    if name == "<<" and isinstance(event, yaml.ScalarEvent) and not event.style:
        raise _error("the merge key << is not supported", event, "write the members out")
    if name in siblings:
        raise _error(f"the key {name[:80]!r} occurs twice", event, "rename one of them")
    return name


def _scalar(event: Any) -> Json:
    text, tag = event.value, event.tag
    if tag == "tag:yaml.org,2002:str" or tag == "!" or (tag is None and event.style):
        return text
    if tag is not None and tag not in _TAGS:
        raise _error(f"the tag {tag[:80]} is not supported", event, "leave it out")
    value = _plain(text, event)
    if tag is not None and type(value) not in _TAGS[tag]:
        raise _error(f"{text[:80]!r} does not fit its tag", event, "leave the tag out")
    return value


def _plain(text: str, event: Any) -> Json:
    if text in _NULLS:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text[0] not in "+-.0123456789":
        return text
    if len(text) > MAX_NUMBER_CHARS:
        if any(form.match(text) for form in (_INT, _OCTAL, _HEX, _FLOAT)):
            raise _error("a number is too long", event, "put quotes around it")
        return text
    if _INT.match(text):
        return int(text)
    if _OCTAL.match(text):
        return int(text[2:], 8)
    if _HEX.match(text):
        return int(text[2:], 16)
    if _NOT_FINITE.match(text):
        raise _error(f"{text} is no JSON value", event, "put quotes around it")
    if _FLOAT.match(text):
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise _error(f"{text[:80]} is out of range", event, "put quotes around it")
        return value
    return text


def _error(message: str, event: Any, hint: str) -> ExpressionError:
    mark = event.start_mark
    return fail("value", f"the text cannot be read as YAML: {message} (line {mark.line + 1})", hint)


def _too_deep() -> ExpressionError:
    return fail("too_deep", f"the YAML is nested deeper than {MAX_DEPTH} levels")


def load_yaml(frame: Frame, text: Any) -> Json:
    """Return the value of a YAML document.

    Only what JSON can hold is read: dates stay text, keys become text; tags of Python, merge keys and a second
    document are errors. An empty text is null.

    Raises:
        ExpressionError: `expression.value` if it is not YAML, `expression.too_deep` beyond 100 levels.
    """
    source = need_text(text, "the YAML")
    check_unicode(source)
    frame.fuel.charge((len(source) >> 4) + 20)
    try:
        return _Reader(frame.fuel).read(yaml.parse(source, Loader=_LOADER))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise fail("value", f"the text is not YAML: {(error.problem or 'bad syntax')[:200]}{where}") from error
    except yaml.YAMLError as error:
        raise fail("value", "the text is not YAML: it holds a control character", "remove it") from error


# --- writing -------------------------------------------------------------------------------------------------------

_SAFE: Final = re.compile(r"[^\W\d][\w ./()@+-]*")
_WORDS: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_HIDDEN: Final = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_IN_BLOCK: Final = re.compile("[^\n\x20-\x7e\xa0-\u2027\u202a-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")


def dump_yaml(frame: Frame, value: Any, indent: Any = 2, sort_keys: Any = False) -> str:
    """Return a value as YAML in block style; texts of several lines become `|` blocks.

    Raises:
        ExpressionError: As `export`; `expression.value` for an indent out of range.
    """
    step = need_int(indent, "indent")
    if not 2 <= step <= 8:
        raise fail("value", "indent must be a number from 2 to 8")
    writer = _Writer(frame.fuel, step, bool(sort_keys))
    writer.write(export(value, frame.fuel), 0, "")
    lines = writer.lines
    frame.fuel.charge(sum(map(len, lines)) >> TEXT_SHIFT)
    return "\n".join(lines) + "\n"


class _Writer:
    """Writes plain JSON values line by line; each line is paid for with its indentation before it is made."""

    def __init__(self, fuel: Fuel, step: int, sort_keys: bool) -> None:
        self.fuel = fuel
        self.step = step
        self.sort_keys = sort_keys
        self.lines: list[str] = []

    def write(self, value: Json, depth: int, lead: str) -> None:
        """Write a value behind `lead`, which is `key:` or `-` with its indentation, or empty at the top."""
        pad = " " * (self.step * depth)
        self.fuel.charge(2 + (len(lead) + len(pad) >> ESCAPE_SHIFT))
        if type(value) is dict and value:
            start = self._start(lead, pad)
            for key in sorted(value) if self.sort_keys else value:
                self.fuel.charge(1 + (len(key) >> 3))
                self.write(value[key], depth + 1, f"{start}{_inline(key)}:")
                start = pad
        elif type(value) is list and value:
            start = self._start(lead, pad)
            for item in value:
                self.write(item, depth + 1, f"{start}-")
                start = pad
        elif type(value) is str and "\n" in value and self._block(value, depth, lead):
            pass
        else:
            text = self._leaf(value)
            self.lines.append(f"{lead} {text}" if lead else text)

    def _start(self, lead: str, pad: str) -> str:
        """Return what stands before the first member: it follows a dash in its line, and a key in the next."""
        if lead.endswith("-"):
            return lead + " " * (self.step - 1)
        if lead:
            self.lines.append(lead)
        return pad

    def _leaf(self, value: Json) -> str:
        if type(value) is str:
            self.fuel.charge(len(value) >> 3)
            return _inline(value)
        if type(value) is int:
            pay_for_digits(value, self.fuel)
        return json.dumps(value)

    def _block(self, text: str, depth: int, lead: str) -> bool:
        self.fuel.charge(len(text) >> ESCAPE_SHIFT)
        body = text[:-1] if text.endswith("\n") else text
        if not lead or body[:1] in ("", " ", "\t", "\n") or body.endswith("\n") or _IN_BLOCK.search(text):
            return False
        pad = " " * (self.step * max(1, depth))
        count = body.count("\n") + 1
        self.fuel.charge(count + (count * len(pad) >> TEXT_SHIFT))
        self.lines.append(f"{lead} |" if text.endswith("\n") else f"{lead} |-")
        self.lines += [pad + line if line else "" for line in body.split("\n")]
        return True


def _inline(text: str) -> str:
    if _SAFE.fullmatch(text) and text.lower() not in _WORDS and text[-1] != " ":
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    return _HIDDEN.sub(lambda match: f"\\u{ord(match.group()):04x}", quoted)


LOAD_YAML: Final = Function(
    "load_yaml",
    load_yaml,
    1,
    1,
    framed=True,
    doc=Doc(
        "load_yaml(text)",
        "The value of a YAML document; dates stay text, keys become text.",
        "load_yaml('a: 1\\nb: [x, 2026-01-02]')",
        {"a": 1, "b": ["x", "2026-01-02"]},
    ),
)
DUMP_YAML: Final = Function(
    "dump_yaml",
    dump_yaml,
    1,
    3,
    framed=True,
    keywords=("indent", "sort_keys"),
    doc=Doc(
        "dump_yaml(value, indent=2, sort_keys=false)",
        "The value as YAML.",
        "dump_yaml({'a': [1, 'yes'], 'b': 'x y'})",
        'a:\n  - 1\n  - "yes"\nb: x y\n',
    ),
)

_LOADS: Final = Doc("yaml.safe_load(text)", "As load_yaml.", "yaml.safe_load('[1, 2]')", [1, 2])
_DUMPS: Final = Doc("yaml.safe_dump(value, …)", "As dump_yaml.", "yaml.safe_dump({'a': null})", "a: null\n")

YAML: Final = module(
    "yaml",
    replace(LOAD_YAML, name="yaml.safe_load", doc=_LOADS),
    replace(LOAD_YAML, name="yaml.load", doc=replace(_LOADS, signature="yaml.load(text)")),
    replace(DUMP_YAML, name="yaml.safe_dump", doc=_DUMPS),
    replace(DUMP_YAML, name="yaml.dump", doc=replace(_DUMPS, signature="yaml.dump(value, …)")),
)
