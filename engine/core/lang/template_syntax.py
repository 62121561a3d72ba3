"""Parses a template with Jinja's parser, lets only listed nodes pass, and makes closures of them. Workflow-safe."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any, Final

import jinja2
from jinja2 import nodes
from jinja2.parser import Parser

from engine.core.errors import ExpressionSyntaxError
from engine.core.lang.border import output_text
from engine.core.lang.containers import iterate
from engine.core.lang.context import TEXT_SHIFT, UNSET, Frame, Run
from engine.core.lang.failures import CAUGHT, blame, suggest, syntax_error
from engine.core.lang.filters import FILTERS, TESTS
from engine.core.lang.functions import Function
from engine.core.lang.loops import make_unpack
from engine.core.lang.methods import ALL_METHOD_NAMES
from engine.core.lang.nodes import NODE_SHIFT, Builder
from engine.core.lang.operators import MAX_INT_BITS
from engine.core.lang.places import Place
from engine.core.lang.soft import forgiving, soft_attribute, soft_item
from engine.core.lang.stdlib import CONSTANTS, FUNCTIONS, MODULES
from engine.core.lang.syntax import MAX_NESTING, unknown_method

Write = Callable[[Frame], None]

MAX_TEMPLATE_CHARS: Final = 500_000
MAX_TAGS: Final = 5_000
MAX_NODES: Final = 50_000

_BINARY: Final[dict[type[nodes.Node], str]] = {
    nodes.Add: "+",
    nodes.Sub: "-",
    nodes.Mul: "*",
    nodes.Div: "/",
    nodes.FloorDiv: "//",
    nodes.Mod: "%",
    nodes.Pow: "**",
}
_COMPARE: Final = {
    "eq": "==",
    "ne": "!=",
    "lt": "<",
    "lteq": "<=",
    "gt": ">",
    "gteq": ">=",
    "in": "in",
    "notin": "not in",
}
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


class TemplateCompiler:
    """Turns one template into closures that write to the frame."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.build = Builder()
        self.place = Place(source)
        self.optional: frozenset[str] = frozenset()
        self.scopes: list[dict[str, int]] = [{}]
        self.always: set[int] = set()
        self.conditions = 0
        self.depth = 0

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

    def error(self, node: nodes.Node, message: str, hint: str = "", word: str = "") -> ExpressionSyntaxError:
        """Return the error for a node; the caller raises it."""
        offset = self.place.word(word, node.lineno) if word else max(self.place.cursor, self.place.line(node.lineno))
        line = bisect_right(self.place.starts, offset)
        return syntax_error(f"{message} (line {line})", offset, hint, self.source)

    def enter(self, node: nodes.Node) -> None:
        """Count a node and its depth."""
        self.build.nodes += 1
        self.depth += 1
        if self.depth > MAX_NESTING or self.build.nodes > MAX_NODES:
            raise self.error(node, f"the template is nested deeper than {MAX_NESTING} levels or too large")

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
                text = part if isinstance(part, str) else output_text(part(frame), frame.fuel)
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

    # --- expressions ---

    def expression(self, node: nodes.Node) -> Run:
        """Return the closure of an expression."""
        self.enter(node)
        symbol = _BINARY.get(type(node))
        if symbol is not None and isinstance(node, nodes.BinExpr):
            left, right = self.expression(node.left), self.expression(node.right)
            result = self.build.binary(symbol, left, right, self.place.line(node.lineno))
        else:
            handler = _HANDLERS.get(type(node))
            if handler is None:
                raise self.error(node, f"{type(node).__name__} is not part of templates here")
            result = handler(self, node)
        self.depth -= 1
        return result

    def _constant(self, node: nodes.Const) -> Run:
        value = node.value
        if type(value) is int and value.bit_length() > MAX_INT_BITS:
            raise self.error(node, f"a whole number has at most {MAX_INT_BITS} bits")
        return self.build.constant(value)

    def _data(self, node: nodes.TemplateData) -> Run:
        return self.build.constant(node.data)

    def _name(self, node: nodes.Name) -> Run:
        offset = self.place.word(node.name, node.lineno)
        return self.local(node.name, self.build.name, offset)

    def local(self, name: str, free: Callable[[str, int], Run], offset: int) -> Run:
        """Return the closure of a name: the innermost variable that is set, else what `free` makes of it."""
        places = [scope[name] for scope in reversed(self.scopes) if name in scope]
        if not places:
            return free(name, offset)
        if places[0] in self.always:
            return self.build.local(places[0])
        reads = len(self.build.reads)
        fallback = free(name, offset)
        # whether the variable is set is known only when it runs, so the check does not ask for the free name
        del self.build.reads[reads:]
        if name not in CONSTANTS:
            self.optional |= {name}

        def run(frame: Frame) -> Any:
            for place in places:
                value = frame.slots[place]
                if value is not UNSET:
                    return value
            return fallback(frame)

        return run

    def soft(self, node: nodes.Node) -> Run:
        """Return the closure of an operand that may be missing; it gives UNSET then."""
        if isinstance(node, nodes.Name):
            self.enter(node)
            self.depth -= 1
            return self.local(node.name, self._soft_free, self.place.word(node.name, node.lineno))
        if isinstance(node, (nodes.Getattr, nodes.Getitem)) and not isinstance(getattr(node, "arg", None), nodes.Slice):
            self.enter(node)
            base = self.soft(node.node)
            if isinstance(node, nodes.Getattr):
                self.place.word(node.attr, node.lineno)
                result = soft_attribute(base, node.attr)
            else:
                result = soft_item(base, self.expression(node.arg), self.place.line(node.lineno))
            self.depth -= 1
            return result
        if isinstance(node, nodes.Filter) and node.name in ("first", "last") and node.node is not None:
            return forgiving(self.expression(node))
        return self.expression(node)

    def _soft_free(self, name: str, offset: int) -> Run:
        if name in CONSTANTS:
            return self.build.constant(CONSTANTS[name])
        self.optional |= {name}
        library: Any = FUNCTIONS.get(name) or MODULES.get(name) or UNSET
        return lambda frame: frame.env.get(name, library)

    def _attribute(self, node: nodes.Getattr) -> Run:
        base = self.expression(node.node)
        offset = self.place.word(node.attr, node.lineno)
        self.note_member(node, False, offset)
        return self.build.attribute(base, node.attr, offset)

    def note_member(self, node: nodes.Getattr, called: bool, offset: int) -> bool:
        """Note the reading of a library module's member; returns whether it is one."""
        base = node.node
        if not isinstance(base, nodes.Name) or base.name not in MODULES:
            return False
        if any(base.name in scope for scope in self.scopes):
            return False
        self.build.members.append((base.name, node.attr, called, offset))
        return True

    def _item(self, node: nodes.Getitem) -> Run:
        base = self.expression(node.node)
        offset = self.place.line(node.lineno)
        if isinstance(node.arg, nodes.Slice):
            parts = (node.arg.start, node.arg.stop, node.arg.step)
            return self.build.slice(base, [None if part is None else self.expression(part) for part in parts], offset)
        return self.build.subscript(base, self.expression(node.arg), offset)

    def _call(self, node: nodes.Call) -> Run:
        target = node.node
        if isinstance(target, nodes.Name):
            offset = self.place.word(target.name, node.lineno)
            args, keywords = self._arguments(node)
            return self.build.call(target.name, args, keywords, offset)
        if isinstance(target, nodes.Getattr):
            base = self.expression(target.node)
            offset = self.place.word(target.attr, node.lineno)
            known = self.note_member(target, True, offset) or target.attr in ALL_METHOD_NAMES
            if not known and not target.attr.startswith("__"):
                self.build.found.append(unknown_method(target.attr, offset))
            args, keywords = self._arguments(node)
            return self.build.call_method(base, target.attr, args, keywords, offset)
        raise self.error(node, "only functions and methods can be called", "data is read without ()")

    def _arguments(self, node: nodes.Call | nodes.Filter | nodes.Test) -> tuple[list[tuple[Run, bool]], dict[str, Run]]:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            raise self.error(node, "* and ** are not allowed in calls of templates")
        args = [(self.expression(arg), False) for arg in node.args]
        keywords = [keyword for keyword in node.kwargs if isinstance(keyword, nodes.Keyword)]
        return args, {keyword.key: self.expression(keyword.value) for keyword in keywords}

    def _filter(self, node: nodes.Filter) -> Run:
        if node.node is None:
            raise self.error(node, "a filter needs a value")
        if node.name in ("default", "d"):
            return self._default(node)
        operand = self.expression(node.node)
        return self.apply(FILTERS.get(node.name), node, operand, [*FILTERS, "default"], "filter")

    def _test(self, node: nodes.Test) -> Run:
        if node.name in ("defined", "undefined"):
            operand = self.soft(node.node)
            self.place.word(node.name, node.lineno)
            wanted = node.name == "defined"
            return lambda frame: (operand(frame) is not UNSET) is wanted
        operand = self.expression(node.node)
        return self.apply(TESTS.get(node.name), node, operand, [*TESTS, "defined", "undefined"], "test")

    def apply(
        self, function: Function | None, node: nodes.Filter | nodes.Test, operand: Run, known: list[str], what: str
    ) -> Run:
        """Return the closure of a filter or test on its operand."""
        offset = self.place.word(node.name, node.lineno)
        if function is None:
            self.place.cursor = offset
            hint = suggest(node.name, known) or f"there are {', '.join(sorted(known))}"
            raise self.error(node, f"unknown {what} '{node.name}'", hint, node.name)
        args, keywords = self._arguments(node)
        problem = function.misuse(len(args), tuple(keywords))
        if problem:
            raise syntax_error(f"{what} {problem} (line {node.lineno})", offset, "", self.source)
        return self.build.call_function(function, [(operand, False), *args], keywords, offset, bound=True)

    def _default(self, node: nodes.Filter) -> Run:
        operand = self.soft(node.node) if node.node is not None else self.build.constant(UNSET)
        self.place.word(node.name, node.lineno)
        args, keywords = self._arguments(node)
        parts = [arg for arg, _ in args]
        if len(parts) + len(keywords) > 2 or not set(keywords) <= {"default_value", "boolean"}:
            raise self.error(node, "default takes a value and whether to replace false values too")
        value = parts[0] if parts else keywords.get("default_value", self.build.constant(""))
        also_false = parts[1] if len(parts) > 1 else keywords.get("boolean", self.build.constant(False))

        def run(frame: Frame) -> Any:
            found = operand(frame)
            if found is UNSET or (not found and also_false(frame)):
                return value(frame)
            return found

        return run

    def _compare(self, node: nodes.Compare) -> Run:
        left = self.expression(node.expr)
        tests = [(_COMPARE[operand.op], self.expression(operand.expr)) for operand in node.ops]
        return self.build.compare(left, tests, self.place.line(node.lineno))

    def _both(self, node: nodes.And) -> Run:
        return self.build.both([self.expression(node.left), self.expression(node.right)])

    def _either(self, node: nodes.Or) -> Run:
        return self.build.either([self.expression(node.left), self.expression(node.right)])

    def _unary(self, node: nodes.UnaryExpr) -> Run:
        symbol = {nodes.Not: "not", nodes.Neg: "-", nodes.Pos: "+"}[type(node)]
        return self.build.unary(symbol, self.expression(node.node), self.place.line(node.lineno))

    def _conditional(self, node: nodes.CondExpr) -> Run:
        then = self.expression(node.expr1)
        test = self.expression(node.test)
        other = self.build.constant(None) if node.expr2 is None else self.expression(node.expr2)
        return self.build.choose(test, then, other)

    def _concat(self, node: nodes.Concat) -> Run:
        parts = [self.expression(part) for part in node.nodes]

        def run(frame: Frame) -> str:
            texts = [output_text(part(frame), frame.fuel) for part in parts]
            frame.fuel.charge(sum(map(len, texts)) >> TEXT_SHIFT)
            return "".join(texts)

        return run

    def _array(self, node: nodes.List | nodes.Tuple) -> Run:
        items = [(self.expression(item), False) for item in node.items]
        make = list if isinstance(node, nodes.List) else tuple
        return self.build.array(items, self.place.line(node.lineno), make)

    def _object(self, node: nodes.Dict) -> Run:
        items = [(self.expression(pair.key), self.expression(pair.value)) for pair in node.items]
        return self.build.object(items, self.place.line(node.lineno))


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


_HANDLERS: Final[dict[type[nodes.Node], Callable[[TemplateCompiler, Any], Run]]] = {
    nodes.Const: TemplateCompiler._constant,
    nodes.TemplateData: TemplateCompiler._data,
    nodes.Name: TemplateCompiler._name,
    nodes.Getattr: TemplateCompiler._attribute,
    nodes.Getitem: TemplateCompiler._item,
    nodes.Call: TemplateCompiler._call,
    nodes.Filter: TemplateCompiler._filter,
    nodes.Test: TemplateCompiler._test,
    nodes.Compare: TemplateCompiler._compare,
    nodes.And: TemplateCompiler._both,
    nodes.Or: TemplateCompiler._either,
    nodes.Not: TemplateCompiler._unary,
    nodes.Neg: TemplateCompiler._unary,
    nodes.Pos: TemplateCompiler._unary,
    nodes.CondExpr: TemplateCompiler._conditional,
    nodes.Concat: TemplateCompiler._concat,
    nodes.List: TemplateCompiler._array,
    nodes.Tuple: TemplateCompiler._array,
    nodes.Dict: TemplateCompiler._object,
}
