"""Reads the values of tasks written for older Julep clients, and says where a text is doubtful. Workflow-safe.

julep-2024: every text that steps compute with is an expression, keys of earlier inputs are plain names, and what a
model is told is a template. julep-2025: `$ expr` is an expression, any other text the body of an f-string. Both give
the value forms of the plan, so that nothing else in the engine knows of dialects but the lookup of plain names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from engine.core.diagnostics import Findings
from engine.core.errors import ExpressionSyntaxError
from engine.core.lang.expression import Expression, Problem, compile_expression
from engine.core.plan.computed import Expr, Lit, Value
from engine.core.plan.fstrings import Body, split_body
from engine.core.plan.resolve import (
    UNKNOWN_NAME_PROBLEM,
    Resolver,
    Role,
    Scope,
    clip,
    is_template,
    looks_like_expression,
    mark_length,
    name_at,
    single_braces,
)
from engine.core.spec import codes
from engine.core.spec.fields import suggest
from engine.core.spec.model import TaskSpec
from engine.core.spec.nodes import MapNode, Node, ScalarNode, position_at
from engine.core.spec.steps import EvaluateStep, ReturnStep, SetStep, YieldStep
from engine.core.spec.walk import all_steps

MAX_CANDIDATES: Final = 50
"""Pairs of braces in one text that are looked at for what their author may have meant."""

_NAME: Final = re.compile(r"[A-Za-z_]\w*")
_CANDIDATE: Final = re.compile(r"\{([^{}\n]{1,300})\}")
_PATH: Final = re.compile(r"\s*[A-Za-z_]\w*(?:\.\w+|\[[^\[\]]*\])*\s*")


def make_resolver(spec: TaskSpec, findings: Findings) -> Resolver:
    """Return what reads the values of a task in its dialect.

    Args:
        spec: The task.
        findings: Where to put what is wrong.
    """
    if spec.dialect == "julep-2024":
        return Julep2024Resolver(findings, input_keys(spec))
    if spec.dialect == "julep-2025":
        return Julep2025Resolver(findings)
    return Resolver(findings)


def input_keys(spec: TaskSpec) -> frozenset[str]:
    """Return the keys that inputs of the task's steps have as far as the task itself shows them."""
    keys: set[str] = set()
    schema = None if spec.input_schema is None else spec.input_schema.value
    properties = schema.get("properties") if isinstance(schema, dict) else None
    if isinstance(properties, dict):
        keys.update(properties)
    ending = () if spec.ending is None else (spec.ending,)
    for steps in (*spec.workflows.values(), *ending):
        for step in all_steps(steps):
            match step:
                case EvaluateStep() | ReturnStep():
                    keys.update(_keys(step.value))
                case SetStep():
                    keys.update(_keys(step.values))
                case YieldStep():
                    keys.update(_keys(step.arguments))
                case _:
                    pass
    return frozenset(keys)


def _keys(node: Node | None) -> tuple[str, ...]:
    return node.keys() if isinstance(node, MapNode) else ()


class Julep2024Resolver(Resolver):
    """Reads julep-2024."""

    syntax_hint = "in julep-2024 every text here is an expression; put quotes inside of the quotes: \"'text'\""

    def __init__(self, findings: Findings, keys: frozenset[str]) -> None:
        """Prepare a resolver.

        Args:
            findings: Where to put what is wrong.
            keys: Keys of inputs that the task shows.
        """
        super().__init__(findings)
        self._keys = keys

    def _bare_arguments(self, text: str) -> bool:
        return True

    def _text(self, node: ScalarNode, text: str, path: str, scope: Scope, role: Role) -> Value:
        if role is Role.DATA:
            return self._expr(node, text, mark_length(text), path, scope)
        if role is Role.SETTING:
            return super()._text(node, text, path, scope, role)
        found = single_braces(text)
        if found is not None or (not is_template(text) and (mark_length(text) or looks_like_expression(text))):
            shown = text if found is None else found.group()
            self.findings.warn(
                codes.DIALECT_READING,
                f"'{clip(shown)}' stays text in julep-2024, where what a model is told is a template",
                node.position if found is None else position_at(node, found.start()),
                path=path,
                hint="put what is computed between {{ and }}",
            )
        return self._template(node, text, path, scope) if is_template(text) else Lit(text)

    def _report(self, problems: Iterable[Problem], node: ScalarNode, lead: int, path: str) -> None:
        super()._report(list(self._but_plain_names(problems, node, lead, path)), node, lead, path)

    def _but_plain_names(
        self, problems: Iterable[Problem], node: ScalarNode, lead: int, path: str
    ) -> Iterator[Problem]:
        """Yield the problems that are none of names; a name that no input is known to have gets a warning."""
        warned: set[str] = set()
        for problem in problems:
            offset = lead + problem.offset
            name = name_at(str(node.value), offset) if problem.code == UNKNOWN_NAME_PROBLEM else ""
            if not name:
                yield problem
            elif name not in self._keys and name not in warned:
                warned.add(name)
                self.findings.warn(
                    codes.DIALECT_READING,
                    f"'{clip(name)}' is read as a key of an earlier input (julep-2024), but the task shows no such key",
                    position_at(node, offset),
                    path=path,
                    hint=suggest(self.findings, name, self._keys)
                    or "text needs quotes inside of the quotes: \"'text'\"",
                )


class Julep2025Resolver(Resolver):
    """Reads julep-2025, with the rules by which its server took over older tasks."""

    def _bare_arguments(self, text: str) -> bool:
        return _is_bridged(text)

    def _text(self, node: ScalarNode, text: str, path: str, scope: Scope, role: Role) -> Value:
        lead = mark_length(text)
        if lead:
            return self._expr(node, text, lead, path, scope)
        bridged = "{{" not in text and _is_bridged(text)
        if bridged and _parse(text) is not None:
            self._doubt(node, 0, f"'{clip(text)}' is read as an expression", path, f"write `$ {clip(text.strip())}`")
            return self._expr(node, text, 0, path, scope)
        body = split_body(text, scope.names)
        if not body.fields:
            self._warn_text(node, text, bridged, path, scope)
            return Lit(body.text)
        return self._body(node, body, path, scope)

    def _body(self, node: ScalarNode, body: Body, path: str, scope: Scope) -> Expr:
        for field in body.fields:
            self._report(field.compiled.problems(scope.names), node, field.offset, path)
            self._report_steps(scope.check_steps(field.source, False), node, field.offset, path)
        source = body.to_expression()
        try:
            compile_expression(source)
        except ExpressionSyntaxError as error:
            hint = "in julep-2025 a text with {…} is an expression; write a template with `dialect: everstep` instead"
            self.findings.error(codes.BAD_EXPRESSION, error.message, node.position, path=path, hint=hint)
        self._warn_braces(node, str(node.value), path, scope)
        return Expr(source)

    def _warn_text(self, node: ScalarNode, text: str, bridged: bool, path: str, scope: Scope) -> None:
        if bridged or looks_like_expression(text):
            hint = f"write `$ {clip(text.strip().removeprefix('$'))}` if it is an expression"
            self._doubt(node, 0, f"'{clip(text)}' stays text", path, hint)
        elif "{%" in text:
            at = text.index("{%")
            self._doubt(node, at, "'{%' stays text", path, "templates need `dialect: everstep` or julep-2024")
        else:
            self._warn_braces(node, text, path, scope)

    def _warn_braces(self, node: ScalarNode, text: str, path: str, scope: Scope) -> None:
        """Warn about the first braces that are text, although what stands between them could be computed."""
        for count, found in enumerate(_CANDIDATE.finditer(text)):
            if count == MAX_CANDIDATES:
                return
            content = found[1]
            start = _NAME.match(content.lstrip())
            if start is not None and start.group() in scope.names:
                continue
            compiled = _parse(content)
            if compiled is None or not (_PATH.fullmatch(content) or compiled.names & frozenset(scope.names)):
                continue
            message = f"'{clip(found.group())}' stays text, since it does not start at a name that is known here"
            hint = f"names are {', '.join(sorted(scope.names))}; after `$ ` stands any expression"
            self._doubt(node, found.start(), message, path, hint)
            return

    def _doubt(self, node: ScalarNode, offset: int, message: str, path: str, hint: str) -> None:
        at = position_at(node, offset) if offset else node.position
        self.findings.warn(codes.DIALECT_READING, f"{message} (julep-2025)", at, path=path, hint=hint)


def _is_bridged(text: str) -> bool:
    """Whether julep-2025 takes a text without mark for an expression of the time before."""
    short = text.strip()
    if short.startswith(("[", "_[")):
        return short.endswith("]")
    return short.startswith("_.") or short == "_" or "outputs[" in short or "inputs[" in short


def _parse(source: str) -> Expression | None:
    try:
        return compile_expression(source)
    except ExpressionSyntaxError:
        return None
