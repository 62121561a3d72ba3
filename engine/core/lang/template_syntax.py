"""Parses a template with Jinja's parser and makes closures of its statements: if, for, set, output. Workflow-safe."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.parser import Parser

from engine.core.lang.border import output_text
from engine.core.lang.containers import iterate
from engine.core.lang.context import TEXT_SHIFT, UNSET, Frame, Run
from engine.core.lang.failures import CAUGHT, blame, syntax_error
from engine.core.lang.loops import make_unpack
from engine.core.lang.nodes import NODE_SHIFT
from engine.core.lang.secret import SecretText
from engine.core.lang.template_expressions import ExpressionCompiler

Write = Callable[[Frame], None]

MAX_TEMPLATE_CHARS: Final = 500_000
MAX_TAGS: Final = 5_000

_REFUSED: Final[dict[type[nodes.Node], str]] = {
    nodes.AssignBlock: "{% set %} with a block",
    nodes.Block: "{% block %}",
    nodes.CallBlock: "{% call %}",
    nodes.Extends: "{% extends %}",
    nodes.FilterBlock: "{% filter %}",
    nodes.FromImport: "{% from %}",
    nodes.Import: "{% import %}",
    nodes.Include: "{% include %}",
    nodes.Macro: "{% macro %}",
    nodes.NSRef: "{% set %} of a namespace",
    nodes.Scope: "{% autoescape %}",
    nodes.With: "{% with %}",
}
_QUOTED: Final = re.compile(r"'([^']{1,40})'")


class TemplateCompiler(ExpressionCompiler):
    """Turns the statements of one template into closures that write to the frame."""

    def compile_all(self) -> Write:
        """Return what writes the whole template.

        Raises:
            ExpressionSyntaxError: If it is no template, or uses what is not part of the language.
        """
        tags = self.source.count("{{") + self.source.count("{%")
        if len(self.source) > MAX_TEMPLATE_CHARS or tags > MAX_TAGS:
            message = f"a template has at most {MAX_TEMPLATE_CHARS:,} characters and {MAX_TAGS:,} tags"
            raise syntax_error(message, 0, "put its parts into several steps", self.source)
        # Parser is called directly: Environment.parse builds code to decorate tracebacks
        environment = jinja2.Environment(keep_trailing_newline=True, autoescape=False)  # noqa: S701 - text, not HTML
        try:
            tree = Parser(environment, self.source).parse()
        except jinja2.TemplateSyntaxError as error:
            quoted = _QUOTED.search(error.message or "")
            offset = self.place.word(quoted[1], error.lineno) if quoted else self.place.line(error.lineno)
            message = f"this is not a template: {error.message}"
            raise syntax_error(message, offset, "", self.source) from error
        except (RecursionError, MemoryError) as error:
            raise syntax_error("the template is nested too deeply", 0, "", self.source) from error
        except (ValueError, OverflowError) as error:
            raise syntax_error(f"this is not a template: {error}", 0, "", self.source) from error
        return self.body(tree.body)

    # --- statements ---

    def body(self, statements: Sequence[nodes.Node]) -> Write:
        """Return what writes statements one after another."""
        writes = [self.statement(statement) for statement in statements]
        if len(writes) == 1:
            return writes[0]

        def write(frame: Frame) -> None:
            for one in writes:
                one(frame)

        return write

    def statement(self, node: nodes.Node) -> Write:
        """Return what writes one statement."""
        self.enter(node)
        if isinstance(node, nodes.Output):
            result = self._output(node)
        elif isinstance(node, nodes.If):
            result = self._branches(node)
        elif isinstance(node, nodes.For):
            result = self._loop(node)
        elif isinstance(node, nodes.Assign):
            result = self._assign(node)
        else:
            name = _REFUSED.get(type(node), type(node).__name__)
            word = name.split()[1] if name.startswith("{%") else ""
            hint = "templates have {{ }}, if, for, set and a list of filters"
            raise self.error(node, f"{name} is not part of templates here", hint, word)
        self.depth -= 1
        return result

    def _output(self, node: nodes.Output) -> Write:
        parts: list[str | Run] = []
        for part in node.nodes:
            if isinstance(part, nodes.TemplateData):
                self.place.skip(part.data)
                parts.append(part.data)
            else:
                parts.append(self.expression(part))

        def write(frame: Frame) -> None:
            for part in parts:
                found = part if isinstance(part, str) else part(frame)
                if type(found) is SecretText:
                    frame.out.append(found)
                    continue
                text = output_text(found, frame.fuel)
                frame.fuel.charge(len(text) >> TEXT_SHIFT)
                frame.out.append(text)

        return write

    def _branches(self, node: nodes.If) -> Write:
        self.conditions += 1
        arms = [(self.expression(arm.test), self.body(arm.body)) for arm in (node, *node.elif_)]
        other = self.body(node.else_)
        self.conditions -= 1

        def write(frame: Frame) -> None:
            for test, body in arms:
                if test(frame):
                    body(frame)
                    return
            other(frame)

        return write

    def _assign(self, node: nodes.Assign) -> Write:
        value = self.expression(node.node)
        store = self.target(node.target)

        def write(frame: Frame) -> None:
            store(frame, value(frame))

        return write

    def target(self, node: nodes.Node) -> Callable[[Frame, Any], None]:
        """Return what stores a value in the variables of the innermost scope."""
        if isinstance(node, nodes.Name):
            slot = self._slot(node)

            def store(frame: Frame, value: Any) -> None:
                frame.slots[slot] = value

            return store
        if isinstance(node, nodes.Tuple):
            self.enter(node)
            parts: list[int | Callable[[Frame, Any], None]] = [
                self._slot(item) if isinstance(item, nodes.Name) else self.target(item) for item in node.items
            ]
            self.depth -= 1
            return make_unpack(parts, self.place.line(node.lineno))
        hint = "a variable set in a loop ends with its round; compute totals with sum, or a filter"
        raise self.error(node, f"{_REFUSED.get(type(node), 'this')} is not part of templates here", hint)

    def _slot(self, node: nodes.Name) -> int:
        self.build.nodes += 1
        self.place.word(node.name, node.lineno)
        scope = self.scopes[-1]
        if node.name not in scope:
            scope[node.name] = self.build.new_slot()
        slot = scope[node.name]
        if not self.conditions:
            # from here on the variable is set whenever its scope is entered
            self.always.add(slot)
        return slot

    def _loop(self, node: nodes.For) -> Write:
        if node.recursive:
            raise self.error(node, "recursive loops are not part of templates here", "", "recursive")
        items_of = self.expression(node.iter)
        place = self.place.line(node.lineno)
        before = self.build.nodes
        self.scopes.append({})
        conditions, self.conditions = self.conditions, 0
        store = self.target(node.target)
        bound = set(self.scopes[-1].values())
        test = None if node.test is None else self.expression(node.test)
        loop_slot = -1
        if any(name.name == "loop" for statement in node.body for name in _names(statement)):
            loop_slot = self.scopes[-1]["loop"] = self.build.new_slot()
            self.always.add(loop_slot)
        body = self.body(node.body)
        fresh = [slot for slot in self.scopes.pop().values() if slot not in bound and slot != loop_slot]
        cost = 1 + (self.build.nodes - before >> NODE_SHIFT) + (2 if loop_slot >= 0 else 0)
        self.conditions = conditions + 1
        other = self.body(node.else_)
        self.conditions = conditions

        def write(frame: Frame) -> None:
            slots = frame.slots
            try:
                items = iterate(items_of(frame))
                frame.fuel.charge(len(items) * cost)
            except CAUGHT as error:
                blame(error, place)
            if test is not None:
                kept = []
                for item in items:
                    store(frame, item)
                    if test(frame):
                        kept.append(item)
                items = kept
            size = len(items)
            for index, item in enumerate(items):
                for slot in fresh:
                    slots[slot] = UNSET
                store(frame, item)
                if loop_slot >= 0:
                    slots[loop_slot] = _loop_facts(index, size)
                body(frame)
            if not size:
                other(frame)

        return write


def _loop_facts(index: int, size: int) -> dict[str, Any]:
    return {
        "index": index + 1,
        "index0": index,
        "revindex": size - index,
        "revindex0": size - index - 1,
        "first": index == 0,
        "last": index == size - 1,
        "length": size,
    }


def _names(node: nodes.Node) -> list[nodes.Name]:
    found: list[nodes.Name] = []
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, nodes.Name):
            found.append(one)
        waiting.extend(one.iter_child_nodes())
    return found
