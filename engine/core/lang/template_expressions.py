"""Makes closures of the expressions that stand in a template's tags, as Jinja's parser gives them. Workflow-safe."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Any, Final

from jinja2 import nodes

from engine.core.errors import ExpressionSyntaxError
from engine.core.lang.border import output_text
from engine.core.lang.context import TEXT_SHIFT, UNSET, Frame, Run
from engine.core.lang.failures import suggest, syntax_error
from engine.core.lang.filters import FILTERS, TESTS
from engine.core.lang.functions import Function
from engine.core.lang.methods import ALL_METHOD_NAMES
from engine.core.lang.nodes import Builder
from engine.core.lang.operators import MAX_INT_BITS
from engine.core.lang.places import Place
from engine.core.lang.problems import unknown_method
from engine.core.lang.secret import SecretText, join
from engine.core.lang.soft import forgiving, or_empty, soft_attribute, soft_item
from engine.core.lang.stdlib import CONSTANTS, FUNCTIONS, MODULES, find_module
from engine.core.lang.syntax import MAX_MODULE_PARTS, MAX_NESTING

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


class ExpressionCompiler:
    """Turns the expressions of one template into closures; knows which variables are in scope.

    Args:
        source: The template's text.
        lenient: Whether a member or item that is missing is empty text, as in Jinja, and not an error.
    """

    def __init__(self, source: str, *, lenient: bool = False) -> None:
        self.source = source
        self.lenient = lenient
        self.build = Builder()
        self.place = Place(source)
        self.optional: frozenset[str] = frozenset()
        self.scopes: list[dict[str, int]] = [{}]
        self.always: set[int] = set()
        self.conditions = 0
        self.depth = 0

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
        if not self.note_member(node, False, offset) and self.lenient:
            return or_empty(soft_attribute(base, node.attr))
        return self.build.attribute(base, node.attr, offset)

    def note_member(self, node: nodes.Getattr, called: bool, offset: int) -> bool:
        """Note the reading of a library module's member; returns whether it is one."""
        path = self.module_of(node.node)
        if not path:
            return False
        self.build.members.append((path, node.attr, called, offset))
        return True

    def module_of(self, node: nodes.Node) -> str:
        """Return the dotted name of the library module that a node stands for, or an empty text."""
        parts: list[str] = []
        while isinstance(node, nodes.Getattr) and len(parts) < MAX_MODULE_PARTS:
            parts.append(node.attr)
            node = node.node
        if not isinstance(node, nodes.Name) or any(node.name in scope for scope in self.scopes):
            return ""
        path = ".".join([node.name, *reversed(parts)])
        return path if find_module(path) is not None else ""

    def _item(self, node: nodes.Getitem) -> Run:
        base = self.expression(node.node)
        offset = self.place.line(node.lineno)
        if isinstance(node.arg, nodes.Slice):
            parts = (node.arg.start, node.arg.stop, node.arg.step)
            return self.build.slice(base, [None if part is None else self.expression(part) for part in parts], offset)
        if self.lenient:
            return or_empty(soft_item(base, self.expression(node.arg), offset))
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

        def run(frame: Frame) -> Any:
            values = [part(frame) for part in parts]
            if any(type(value) is SecretText for value in values):
                return join(
                    [value if type(value) is SecretText else output_text(value, frame.fuel) for value in values]
                )
            texts = [output_text(value, frame.fuel) for value in values]
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


_HANDLERS: Final[dict[type[nodes.Node], Callable[[ExpressionCompiler, Any], Run]]] = {
    nodes.Const: ExpressionCompiler._constant,
    nodes.TemplateData: ExpressionCompiler._data,
    nodes.Name: ExpressionCompiler._name,
    nodes.Getattr: ExpressionCompiler._attribute,
    nodes.Getitem: ExpressionCompiler._item,
    nodes.Call: ExpressionCompiler._call,
    nodes.Filter: ExpressionCompiler._filter,
    nodes.Test: ExpressionCompiler._test,
    nodes.Compare: ExpressionCompiler._compare,
    nodes.And: ExpressionCompiler._both,
    nodes.Or: ExpressionCompiler._either,
    nodes.Not: ExpressionCompiler._unary,
    nodes.Neg: ExpressionCompiler._unary,
    nodes.Pos: ExpressionCompiler._unary,
    nodes.CondExpr: ExpressionCompiler._conditional,
    nodes.Concat: ExpressionCompiler._concat,
    nodes.List: ExpressionCompiler._array,
    nodes.Tuple: ExpressionCompiler._array,
    nodes.Dict: ExpressionCompiler._object,
}
