"""Decides what values mean (expression, template or literal) and checks each in its place. Workflow-safe."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from enum import Enum, auto
from itertools import islice
from typing import Protocol

from engine.core.diagnostics import Findings
from engine.core.errors import ExpressionSyntaxError
from engine.core.lang.expression import Problem, compile_expression
from engine.core.lang.template import compile_template
from engine.core.plan.computed import Arr, Expr, Lit, Obj, Tmpl, Value
from engine.core.plan.forgotten import Doubt, forgotten_mark, is_file_name
from engine.core.spec import codes
from engine.core.spec.nodes import ListNode, MapNode, Node, ScalarNode, describe, position_at

ROOT_NAMES = frozenset({"_", "steps", "state", "inputs", "outputs", "input", "agent", "task", "execution"})
"""Names that every expression sees."""
ERROR_NAMES = ROOT_NAMES | {"error"}
ENDING_NAMES = ERROR_NAMES | {"output"}
"""What `finally` steps see beside: how the execution ended."""
INPUT_NAMES = frozenset({"_", "input"})
"""What requirements see: nothing has run yet."""
UNKNOWN_NAME_PROBLEM = "expression.unknown_name"
MAX_PROBLEMS = 20
"""Findings per text; finding the place of each takes time in proportion to the text."""
MAX_MESSAGE_CHARS = 300
REDUCE_NAMES = frozenset({"results"})
SECRETS_NAME = "secrets"
"""What stands for references to secrets, in the arguments of tool steps alone."""
ARGUMENT_NAMES = frozenset({"_"})
"""What the approval of a tool sees: the arguments of the call."""

_ROOTS = "_|steps|state|inputs|outputs|input|agent|task|execution|error|results"
_LOOKS_LIKE = re.compile(r"(?:_|\$?_(?:\.\w|\[).*|(?:steps|inputs|outputs)\[.*|state(?:\.\w+|\[.*))\Z", re.DOTALL)
# of linear time on any text: no two repetitions in a row can match the same characters
_BRACES = re.compile(rf"(?<![{{$])\{{\s*(?:{_ROOTS})(?:[.\[][^{{}}]*|\s*)\}}(?!\}})")
_LOOKS = "looks like an expression, but stands for itself"
_OF_JULEP = "a task that was written for Julep needs `dialect: julep-2025`"
_NAME = re.compile(r"[A-Za-z_]\w*")
_PROSE = re.compile(r"[.!?]\s|\w\s+\w+\s+\w+\s+\w+\s+\w")


class Scope(Protocol):
    """What the surroundings of a value know."""

    @property
    def names(self) -> Collection[str]:
        """Root names that exist there."""

    def check_steps(self, source: str, is_template: bool) -> Iterable[tuple[int, str, str]]:
        """Return (offset, message, hint) for each reference to a step that does not exist."""


class Role(Enum):
    """What a text is there for; older dialects read it by that."""

    DATA = auto()
    """A value that steps compute with."""
    PROSE = auto()
    """What a model or a person is told."""
    SETTING = auto()
    """A name or setting, which is mostly written out."""


class Resolver:
    """Turns nodes into values of the plan and collects what is wrong with them.

    This one reads our own dialect; engine.core.plan.dialects has those of older clients.
    """

    syntax_hint = ""
    """What to do about a text that is no expression, where the parser itself knows nothing better."""

    def __init__(self, findings: Findings) -> None:
        """Prepare a resolver.

        Args:
            findings: Where to put what is wrong.
        """
        self.findings = findings

    def value(self, node: Node, path: str, scope: Scope, role: Role = Role.DATA) -> Value:
        """Read a value by the rules of the dialect.

        `$ expr` is an expression, text with `{{ }}` or `{% %}` a template, everything else stands for itself.

        Args:
            node: What the author wrote.
            path: Its place in the structure.
            scope: What its surroundings know.
            role: What its texts are there for.

        Returns:
            The value; a list or object without computed parts is one literal.
        """
        match node:
            case MapNode():
                members = {
                    entry.key: self.value(entry.value, f"{path}.{entry.key}", scope, role) for entry in node.entries
                }
                literals = {key: item.value for key, item in members.items() if isinstance(item, Lit)}
                return Lit(literals) if len(literals) == len(members) else Obj(members)
            case ListNode():
                items = tuple(
                    self.value(item, f"{path}[{index}]", scope, role) for index, item in enumerate(node.items)
                )
                values = [item.value for item in items if isinstance(item, Lit)]
                return Lit(values) if len(values) == len(items) else Arr(items)
            case ScalarNode(value=str() as text):
                self._warn_cut(node, path)
                return self._text(node, text, path, scope, role)
            case ScalarNode():
                return Lit(node.value)

    def expression(self, node: Node, path: str, scope: Scope) -> Expr:
        """Read a value of a field that is an expression by nature, with or without `$ `.

        Numbers, true, false and whole lists or objects are taken as they stand.
        """
        if not (isinstance(node, ScalarNode) and isinstance(node.value, str)):
            source = self._as_source(node, path, scope)
            return Expr(source)
        text = node.value
        self._warn_cut(node, path)
        lead = mark_length(text)
        if not lead and is_template(text):
            self.findings.error(
                codes.NOT_AN_EXPRESSION,
                "a template stands where an expression is needed",
                node.position,
                path=path,
                hint="write the expression without braces",
            )
            return Expr("None")
        return self._expr(node, text, lead, path, scope)

    def arguments(self, node: Node | None, path: str, scope: Scope) -> Value:
        """Read `arguments`: an object, or an expression; without any, the step's input is passed on."""
        if node is None:
            return Expr("_")
        if isinstance(node, MapNode):
            return self.value(node, path, scope)
        if isinstance(node, ScalarNode) and isinstance(node.value, str):
            if mark_length(node.value) or self._bare_arguments(node.value):
                return self.expression(node, path, scope)
            hint = "start an expression with `$ `"
        else:
            hint = ""
        message = f"'arguments' must be an object, `_` or an expression, not {describe(node)}"
        self.findings.error(codes.WRONG_TYPE, message, node.position, path=path, hint=hint)
        return Expr("_")

    def _bare_arguments(self, text: str) -> bool:
        """Whether text without a mark, which stands for all arguments, is an expression."""
        return text.strip() == "_"

    def _text(self, node: ScalarNode, text: str, path: str, scope: Scope, role: Role) -> Value:
        lead = mark_length(text)
        if lead:
            return self._expr(node, text, lead, path, scope)
        if is_template(text):
            return self._template(node, text, path, scope)
        self._warn_literal(node, text, path, scope)
        return Lit(text)

    def _expr(self, node: ScalarNode, text: str, lead: int, path: str, scope: Scope) -> Expr:
        lead += len(text[lead:]) - len(text[lead:].lstrip())
        source = text[lead:].rstrip()
        try:
            compiled = compile_expression(source)
        except ExpressionSyntaxError as error:
            at = position_at(node, lead + error.offset)
            message, hint = error.message[:MAX_MESSAGE_CHARS], error.hint or self.syntax_hint
            self.findings.error(codes.BAD_EXPRESSION, message, at, hint=hint, path=path)
            return Expr(source)
        self._report(compiled.problems(scope.names), node, lead, path)
        self._report_steps(scope.check_steps(source, False), node, lead, path)
        return Expr(source)

    def _template(self, node: ScalarNode, text: str, path: str, scope: Scope) -> Tmpl:
        try:
            compiled = compile_template(text)
        except ExpressionSyntaxError as error:
            at = position_at(node, error.offset)
            self.findings.error(codes.BAD_TEMPLATE, error.message[:MAX_MESSAGE_CHARS], at, hint=error.hint, path=path)
            return Tmpl(text)
        self._report(compiled.problems(scope.names), node, 0, path)
        self._report_steps(scope.check_steps(text, True), node, 0, path)
        return Tmpl(text)

    def _report(self, problems: Iterable[Problem], node: ScalarNode, lead: int, path: str) -> None:
        for problem in islice(problems, MAX_PROBLEMS):
            message, hint = problem.message[:MAX_MESSAGE_CHARS], problem.hint
            code = codes.FORBIDDEN_EXPRESSION
            if problem.code == UNKNOWN_NAME_PROBLEM:
                name = name_at(str(node.value), lead + problem.offset)
                code = codes.UNKNOWN_NAME
                if _compared(str(node.value), lead + problem.offset, name):
                    hint = f"text needs quotes: '{name}'"
                elif name == SECRETS_NAME:
                    code, message = codes.SECRET_PLACE, "no secret can stand here"
            self.findings.error(code, message, position_at(node, lead + problem.offset), hint=hint, path=path)

    def _report_steps(self, found: Iterable[tuple[int, str, str]], node: ScalarNode, lead: int, path: str) -> None:
        for offset, message, hint in islice(found, MAX_PROBLEMS):
            self.findings.error(codes.UNKNOWN_STEP, message, position_at(node, lead + offset), hint=hint, path=path)

    def _as_source(self, node: Node, path: str, scope: Scope) -> str:
        """Return the expression text of a value that was written as YAML where an expression is needed."""
        match node:
            case ScalarNode(value=str()):
                value = self.value(node, path, scope)
                if isinstance(value, Tmpl):
                    self.expression(node, path, scope)
                if isinstance(value, Expr):
                    return f"({value.source})"
                return repr(value.value if isinstance(value, Lit) else node.value)
            case ScalarNode():
                return repr(node.value)
            case ListNode():
                items = [self._as_source(item, f"{path}[{index}]", scope) for index, item in enumerate(node.items)]
                return f"[{', '.join(items)}]"
            case MapNode():
                members = [
                    f"{entry.key!r}: {self._as_source(entry.value, f'{path}.{entry.key}', scope)}"
                    for entry in node.entries
                ]
                return f"{{{', '.join(members)}}}"

    def _warn_cut(self, node: ScalarNode, path: str) -> None:
        if node.cut:
            message = f"'{clip(node.cut)}' is a comment, and no part of the text"
            hint = "put quotes around the text; a comment has a blank after the #"
            self.findings.warn(codes.CUT_TEXT, message, node.position, path=path, hint=hint)

    def _warn_literal(self, node: ScalarNode, text: str, path: str, scope: Scope) -> None:
        doubt = forgotten_mark(text, scope.names)
        if doubt is None and looks_like_expression(text) and not is_file_name(text.strip()):
            short = text.strip()
            doubt = Doubt(0, short, f"write `$ {short.removeprefix('$')}` if it is one")
        if doubt is not None:
            what = "stands for itself; a template has two braces" if doubt.braces else _LOOKS
            subject = f"'{clip(doubt.text)}'" if doubt.braces else f"the text '{clip(doubt.text)}'"
            code = codes.SINGLE_BRACES if doubt.braces else codes.LOOKS_LIKE_EXPRESSION
            at = position_at(node, doubt.offset) if doubt.offset else node.position
            self.findings.warn(code, f"{subject} {what}", at, path=path, hint=doubt.hint)
            return
        braces = single_braces(text)
        if braces is not None:
            self.findings.warn(
                codes.SINGLE_BRACES,
                f"'{clip(braces.group())}' stands for itself; a template has two braces",
                position_at(node, braces.start()),
                path=path,
                hint=f"write {{{braces.group()}}} if the value is meant; {_OF_JULEP}",
            )


def is_template(text: str) -> bool:
    """Return whether a text is a template: it holds `{{` or `{%`; a lone `{#` is literal, as in `{#fff}`."""
    return "{{" in text or "{%" in text


def mark_length(text: str) -> int:
    """Return the length of the `$ ` mark of an expression, or 0 if the text has none."""
    return 2 if len(text) > 1 and text[0] == "$" and text[1] in " \n\t" else 0


def looks_like_expression(text: str) -> bool:
    """Return whether a literal text looks as if its author meant an expression."""
    short = text.strip()
    return len(short) <= 200 and bool(_LOOKS_LIKE.match(short)) and not _PROSE.search(short)


def single_braces(text: str) -> re.Match[str] | None:
    """Return the first single braces around a known name, such as `{_.x}`."""
    return _BRACES.search(text)


def name_at(text: str, offset: int) -> str:
    """Return the name that stands at a place of a text, or an empty text."""
    found = _NAME.match(text, offset)
    return "" if found is None else found.group()


def _compared(text: str, offset: int, name: str) -> bool:
    """Whether a name that stands beside `==` or `!=` is alone there, as a value is."""
    before, after = text[:offset].rstrip(), text[offset + len(name) :].lstrip()
    return bool(name) and before.endswith(("==", "!=")) and not after.startswith((".", "[", "("))


def clip(text: str) -> str:
    """Return the first 60 characters of a text."""
    return text if len(text) <= 60 else f"{text[:60]}…"
