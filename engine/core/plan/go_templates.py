"""Translates the Go templates of contenox chains into templates of ours. Workflow-safe.

Fields, variables, literals, if, else, range, with, and, or, not, eq, ne, lt, le, gt, ge, len, comments and trim marks
are known; anything else is an error with its place. As in Go, a missing variable is no error: it prints `<no value>`.
A range with two variables goes through a list; the keys of an object have no translation.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

NO_VALUE: Final = "<no value>"
MAX_ACTIONS: Final = 2_000
MAX_TOKENS: Final = 500
"""Words and marks of one action."""
MAX_NESTING: Final = 50

_MACRO: Final = re.compile(r"\s*(var|now|date|chain|toolservice|edge_count):")
_TOKEN: Final = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\\n]|\\.)*"|`[^`]*`)|(?P<number>-?\d+(?:\.\d+)?)|(?P<path>(?:\$\w*)?(?:\.\w+)+|\$\w*|\.)"""
    r"""|(?P<word>[A-Za-z_]\w*)|(?P<mark>:=|[(),|]))"""
)
_COMPARE: Final = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
_CONSTANTS: Final = {"true": "true", "false": "false", "nil": "none"}


class GoTemplateError(Exception):
    """A template that cannot be translated.

    Attributes:
        message: What is wrong.
        offset: Character of the template at which it stands.
        later: Whether it is known but comes in a later version.
    """

    def __init__(self, message: str, offset: int, *, later: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.offset = offset
        self.later = later


@dataclass(frozen=True, slots=True)
class Translated:
    """A template of ours.

    Attributes:
        source: Its text.
        literal: Whether it holds no action, so that `source` is the text itself.
        variables: Variables of the chain that it reads, each with its place in the Go template.
    """

    source: str
    literal: bool
    variables: tuple[tuple[str, int], ...]


def translate(text: str, variable: Callable[[str], str], root: str = "") -> Translated:
    """Translate a template.

    Args:
        text: The Go template.
        variable: Gives the expression of ours for a variable of the chain.
        root: Expression of ours that the dot stands for; empty = the object of all variables.

    Raises:
        GoTemplateError: If it uses what has no translation.
    """
    return _Translator(text, variable, root).run()


@dataclass(slots=True)
class _Open:
    """A block that waits for its `end`: what closes it, what the dot was before, and what its loop names."""

    close: str
    dot: str
    names: dict[str, str]
    offset: int
    chain: bool = False


@dataclass(slots=True)
class _Token:
    kind: str
    text: str
    offset: int


@dataclass(slots=True)
class _Translator:
    text: str
    variable: Callable[[str], str]
    dot: str
    pieces: list[str] = field(default_factory=list)
    variables: list[tuple[str, int]] = field(default_factory=list)
    blocks: list[_Open] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    root: str = ""
    loops: int = 0
    depth: int = 0
    tokens: list[_Token] = field(default_factory=list)
    place: int = 0

    def run(self) -> Translated:
        self.root = self.dot
        at = count = 0
        while (start := self.text.find("{{", at)) >= 0:
            count += 1
            if count > MAX_ACTIONS:
                raise GoTemplateError(f"a template has at most {MAX_ACTIONS:,} actions", start)
            end = self.text.find("}}", start + 2)
            if end < 0:
                raise GoTemplateError("'{{' is never closed", start)
            self._literal(self.text[at:start])
            self._action(start + 2, end)
            at = end + 2
        if self.blocks:
            raise GoTemplateError("the block has no {{end}}", self.blocks[-1].offset)
        if not count:
            return Translated(self.text, True, ())
        self._literal(self.text[at:])
        return Translated("".join(self.pieces), False, tuple(self.variables))

    def _literal(self, text: str) -> None:
        self.pieces.append(re.sub(r"\{[%#]", lambda mark: f"{{{{ '{mark.group()}' }}}}", text))

    # --- actions ---

    def _action(self, offset: int, end: int) -> None:
        body, left, right = self.text[offset:end], "", ""
        if body[:1] == "-" and body[1:2].isspace():
            body, left, offset = body[1:], "-", offset + 1
        if body[-1:] == "-" and body[-2:-1].isspace():
            body, right = body[:-1], "-"
        if body.strip().startswith("/*"):
            self.pieces.append(f"{{#{left} {right}#}}")
            return
        if _MACRO.match(body):
            raise GoTemplateError(
                f"the macro '{body.strip()[:40]}' is not available in this version", offset, later=True
            )
        self.tokens, self.place = _tokens(body, offset), 0
        if not self.tokens:
            raise GoTemplateError("the action is empty", offset)
        head = self.tokens[0]
        if head.kind == "word" and head.text in ("if", "range", "with", "else", "end"):
            self.place = 1
            self.pieces.append(f"{{%{left} {self._statement(head)} {right}%}}")
        else:
            value = self._pipeline(NO_VALUE)
            self.pieces.append(f"{{{{{left} {value} {right}}}}}")
        self._all_read()

    def _all_read(self) -> None:
        if self.place < len(self.tokens):
            token = self.tokens[self.place]
            raise GoTemplateError(f"'{token.text[:40]}' has no translation here", token.offset)

    def _statement(self, head: _Token) -> str:
        if head.text == "end":
            return self._close(head).close
        if head.text == "else":
            return self._else(head)
        if len(self.blocks) >= MAX_NESTING:
            raise GoTemplateError(f"the template is nested deeper than {MAX_NESTING} levels", head.offset)
        if head.text == "if":
            self.blocks.append(_Open("endif", self.dot, dict(self.names), head.offset, chain=True))
            return f"if {self._pipeline()}"
        if head.text == "with":
            value = self._command()[0]
            self.blocks.append(_Open("endif", self.dot, dict(self.names), head.offset))
            self.dot = value
            return f"if {value} | default(none)"
        return self._range(head)

    def _else(self, head: _Token) -> str:
        if not self.blocks:
            raise GoTemplateError("'else' stands outside of a block", head.offset)
        block = self.blocks[-1]
        if self.place == len(self.tokens):
            # behind the else of a range the dot is the outer one again
            self.dot, self.names = block.dot, dict(block.names)
            return "else"
        token = self.tokens[self.place]
        if token.text != "if" or not block.chain:
            raise GoTemplateError(f"'{token.text[:40]}' cannot follow 'else' here", token.offset)
        self.place += 1
        return f"elif {self._pipeline()}"

    def _close(self, head: _Token) -> _Open:
        if not self.blocks:
            raise GoTemplateError("'end' closes no block", head.offset)
        block = self.blocks.pop()
        self.dot, self.names = block.dot, block.names
        return block

    def _range(self, head: _Token) -> str:
        declared: list[str] = []
        start = self.place
        while self.place < len(self.tokens) and re.fullmatch(r"\$\w+", self.tokens[self.place].text):
            declared.append(self.tokens[self.place].text)
            self.place += 1
            mark = self.tokens[self.place].text if self.place < len(self.tokens) else ""
            self.place += 1
            if mark == ":=":
                break
            if mark != ",":
                declared, self.place = [], start
                break
        items = self._pipeline("", "[]")
        if len(declared) < 2:
            # Go goes through the values of an object
            items = f"(({items}).values() if ({items}) is mapping else ({items}))"
        self.blocks.append(_Open("endfor", self.dot, dict(self.names), head.offset))
        self.loops += 1
        item = f"item{self.loops}"
        self.dot = item
        if len(declared) == 2:
            self.names[declared[0]] = "loop.index0"
        if declared:
            self.names[declared[-1]] = item
        return f"for {item} in {items}"

    # --- pipelines ---

    def _pipeline(self, default: str = "", empty: str = "none") -> str:
        """Return the expression of the tokens from here on; a path alone gets a default."""
        value, is_path = self._command()
        if self.place < len(self.tokens) and self.tokens[self.place].text == "|":
            raise GoTemplateError("pipelines have no translation", self.tokens[self.place].offset)
        if is_path:
            return f"{value} | default({default!r})" if default else f"{value} | default({empty})"
        return value

    def _command(self) -> tuple[str, bool]:
        if self.place >= len(self.tokens):
            last = self.tokens[-1]
            raise GoTemplateError("a value is missing", last.offset + len(last.text))
        token = self.tokens[self.place]
        if token.kind != "word" or token.text in _CONSTANTS:
            return self._operand()
        self.place += 1
        values = []
        while self.place < len(self.tokens) and self.tokens[self.place].text not in (")", "|"):
            operand, is_path = self._operand()
            values.append(f"({operand} | default(none))" if is_path else operand)
        return self._function(token, values), False

    def _function(self, token: _Token, values: list[str]) -> str:
        name, count = token.text, len(values)
        if name in _COMPARE and (count == 2 or (name == "eq" and count > 2)):
            first, *others = values
            return f"({' or '.join(f'{first} {_COMPARE[name]} {other}' for other in others)})"
        if name in ("and", "or") and count:
            return f"({f' {name} '.join(values)})"
        if name == "not" and count == 1:
            return f"(not {values[0]})"
        if name == "len" and count == 1:
            return f"({values[0]} | length)"
        raise GoTemplateError(f"the call of '{name}' has no translation", token.offset)

    def _operand(self) -> tuple[str, bool]:
        token = self.tokens[self.place]
        self.place += 1
        if token.kind == "path":
            return self._path(token)
        if token.kind == "text":
            return _text(token), False
        if token.kind == "number":
            return token.text, False
        if token.text in _CONSTANTS:
            return _CONSTANTS[token.text], False
        if token.text == "(":
            self.depth += 1
            if self.depth > MAX_NESTING:
                raise GoTemplateError(f"brackets are nested deeper than {MAX_NESTING} levels", token.offset)
            value, is_path = self._command()
            self.depth -= 1
            closing = self.tokens[self.place].text if self.place < len(self.tokens) else ""
            if closing != ")":
                raise GoTemplateError("the bracket is never closed", token.offset)
            self.place += 1
            return (f"({value} | default(none))" if is_path else value), False
        raise GoTemplateError(f"'{token.text[:40]}' has no translation here", token.offset)

    def _path(self, token: _Token) -> tuple[str, bool]:
        head, *parts = token.text.split(".")
        parts = [part for part in parts if part]
        if head and head != "$":
            base = self.names.get(head)
            if base is None:
                raise GoTemplateError(f"the variable '{head[:40]}' is not declared", token.offset)
        else:
            base = self.root if head else self.dot
        if not base:
            if not parts:
                raise GoTemplateError("the object of all variables cannot be printed", token.offset)
            name = parts.pop(0)
            self.variables.append((name, token.offset))
            base = self.variable(name)
        return base + "".join(f"[{part!r}]" for part in parts), True


def _tokens(body: str, offset: int) -> list[_Token]:
    tokens: list[_Token] = []
    at, end = 0, len(body.rstrip())
    while at < end:
        found = _TOKEN.match(body, at)
        if len(tokens) == MAX_TOKENS:
            raise GoTemplateError(f"an action has at most {MAX_TOKENS} words", offset + at)
        if found is None or found.lastgroup is None:
            start = at + len(body[at:]) - len(body[at:].lstrip())
            raise GoTemplateError(f"'{body[start : start + 20].strip()}' has no translation here", offset + start)
        tokens.append(_Token(found.lastgroup, found[found.lastgroup], offset + found.start(found.lastgroup)))
        at = found.end()
    return tokens


def _text(token: _Token) -> str:
    """Return a quoted text of Go as one of ours."""
    if token.text.startswith("`"):
        return repr(token.text[1:-1])
    body = token.text[1:-1]
    escaped = re.sub(
        r"\\(.)", lambda mark: {"n": "\n", "t": "\t", "r": "\r"}.get(mark[1], mark[1]), body, flags=re.DOTALL
    )
    return repr(escaped)
