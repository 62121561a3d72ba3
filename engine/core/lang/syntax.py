"""Parses an expression with `ast`, lets only nodes of the language pass, and makes closures of them. Workflow-safe."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from engine.core.errors import ExpressionSyntaxError
from engine.core.lang.containers import OrderedSet, check_key, make_set
from engine.core.lang.context import TEXT_SHIFT, Frame, Run
from engine.core.lang.failures import CAUGHT, blame
from engine.core.lang.formatting import convert, format_value
from engine.core.lang.loops import Loop, make_unpack
from engine.core.lang.methods import ALL_METHOD_NAMES
from engine.core.lang.nodes import NODE_SHIFT, Builder
from engine.core.lang.operators import MAX_INT_BITS
from engine.core.lang.problems import Problem, unknown_method
from engine.core.lang.secret import SecretText, join
from engine.core.lang.source import Source as Source
from engine.core.lang.stdlib import find_module

MAX_NESTING: Final = 100
MAX_MODULE_PARTS: Final = 2

_BINARY: Final[dict[type[ast.operator], str]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.FloorDiv: "//",
    ast.Mod: "%",
    ast.Pow: "**",
    ast.LShift: "<<",
    ast.RShift: ">>",
    ast.BitAnd: "&",
    ast.BitOr: "|",
    ast.BitXor: "^",
}
_COMPARE: Final[dict[type[ast.cmpop], str]] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}
_UNARY: Final[dict[type[ast.unaryop], str]] = {ast.USub: "-", ast.UAdd: "+", ast.Invert: "~", ast.Not: "not"}
_REFUSED: Final[dict[type[ast.AST], tuple[str, str]]] = {
    ast.Lambda: ("lambda is not part of the language", "use a comprehension, or a key's name: sorted(x, key='price')"),
    ast.NamedExpr: (":= is not part of the language", "use a `set` step, or compute the value in an earlier step"),
    ast.Await: ("await is not part of the language", ""),
    ast.Yield: ("yield is not part of the language", ""),
    ast.YieldFrom: ("yield is not part of the language", ""),
}


class Compiler:
    """Turns the tree of one expression into closures."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.build = Builder()
        self.scope: dict[str, int] = {}
        self.depth = 0

    def compile(self, node: ast.expr) -> Run:
        """Return the closure of a node.

        Raises:
            ExpressionSyntaxError: If the node is not part of the language or nested too deeply.
        """
        self.build.nodes += 1
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise self.error(node, f"the expression is nested deeper than {MAX_NESTING} levels", "split it over steps")
        handler = _HANDLERS.get(type(node))
        if handler is None:
            message, hint = _REFUSED.get(type(node), (f"{type(node).__name__} is not part of the language", ""))
            raise self.error(node, message, hint)
        result = handler(self, node)
        self.depth -= 1
        return result

    def error(self, node: ast.AST, message: str, hint: str = "") -> ExpressionSyntaxError:
        """Return the error for a node; the caller raises it."""
        return self.source.error(message, self.source.offset(node), hint)

    def at(self, node: ast.AST) -> int:
        """Return the place of a node."""
        return self.source.offset(node)

    # --- leaves ---

    def _literal(self, node: ast.Constant) -> Run:
        value = node.value
        if type(value) is int and value.bit_length() > MAX_INT_BITS:
            raise self.error(node, f"a whole number has at most {MAX_INT_BITS} bits")
        if value is None or type(value) in (bool, int, float):
            return self.build.constant(value)
        if type(value) is str:
            if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
                raise self.error(node, "a text holds half of a surrogate pair")
            return self.build.constant(value)
        kind = {bytes: "bytes", complex: "a complex number"}.get(type(value), "...")
        raise self.error(node, f"{kind} is not part of the language")

    def _name(self, node: ast.Name) -> Run:
        slot = self.scope.get(node.id)
        if slot is not None:
            return self.build.local(slot)
        return self.build.name(node.id, self.at(node))

    # --- access and calls ---

    def module_of(self, node: ast.expr) -> str:
        """Return the dotted name of the library module that a node stands for, or an empty text."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute) and len(parts) < MAX_MODULE_PARTS:
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.scope:
            return ""
        path = ".".join([node.id, *reversed(parts)])
        return path if find_module(path) is not None else ""

    def _attribute(self, node: ast.Attribute) -> Run:
        place = self._attribute_place(node)
        module = self.module_of(node.value)
        if module:
            self.build.members.append((module, node.attr, False, place))
        return self.build.attribute(self.compile(node.value), node.attr, place)

    def _attribute_place(self, node: ast.Attribute) -> int:
        return max(self.at(node), self.source.end(node) - len(node.attr))

    def _subscript(self, node: ast.Subscript) -> Run:
        base = self.compile(node.value)
        place = self.at(node)
        if isinstance(node.slice, ast.Slice):
            parts = [node.slice.lower, node.slice.upper, node.slice.step]
            return self.build.slice(base, [None if part is None else self.compile(part) for part in parts], place)
        if isinstance(node.slice, ast.Tuple):
            raise self.error(node.slice, "only one index stands in []", "write a[1][2]")
        key = self.compile(node.slice)
        self._check_literal_index(node, key)
        return self.build.subscript(base, key, place)

    def _check_literal_index(self, node: ast.Subscript, key: Run) -> None:
        index = self.build.constants.get(key)
        if type(index) is int and isinstance(node.value, (ast.List, ast.Tuple)):
            size = len(node.value.elts)
            starred = any(isinstance(item, ast.Starred) for item in node.value.elts)
            if not starred and not -size <= index < size:
                message = f"there is no item {index}: the list has {size} items"
                self.build.found.append(Problem(self.at(node.slice), "expression.no_index", message))

    def _call(self, node: ast.Call) -> Run:
        args = [self._item(arg) for arg in node.args]
        keywords: dict[str, Run] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                raise self.error(keyword.value, "** is not allowed in calls", "name the arguments one by one")
            keywords[keyword.arg] = self.compile(keyword.value)
        target = node.func
        if isinstance(target, ast.Name):
            if target.id in self.scope:
                raise self.error(target, f"'{target.id}' is data, not a function", "write it without ()")
            return self.build.call(target.id, args, keywords, self.at(target))
        if isinstance(target, ast.Attribute):
            place = self._attribute_place(target)
            module = self.module_of(target.value)
            if module:
                self.build.members.append((module, target.attr, True, place))
            elif target.attr not in ALL_METHOD_NAMES and not target.attr.startswith("__"):
                self.build.found.append(unknown_method(target.attr, place))
            return self.build.call_method(self.compile(target.value), target.attr, args, keywords, place)
        raise self.error(target, "only functions and methods can be called", "data is read without ()")

    def _item(self, node: ast.expr) -> tuple[Run, bool]:
        if isinstance(node, ast.Starred):
            return self.compile(node.value), True
        return self.compile(node), False

    # --- operations ---

    def _binary(self, node: ast.BinOp) -> Run:
        symbol = _BINARY.get(type(node.op))
        if symbol is None:
            raise self.error(node, "@ is not part of the language")
        return self.build.binary(symbol, self.compile(node.left), self.compile(node.right), self.at(node))

    def _unary(self, node: ast.UnaryOp) -> Run:
        return self.build.unary(_UNARY[type(node.op)], self.compile(node.operand), self.at(node))

    def _compare(self, node: ast.Compare) -> Run:
        left = self.compile(node.left)
        tests = [
            (_COMPARE[type(op)], self.compile(right)) for op, right in zip(node.ops, node.comparators, strict=True)
        ]
        return self.build.compare(left, tests, self.at(node))

    def _boolean(self, node: ast.BoolOp) -> Run:
        parts = [self.compile(part) for part in node.values]
        return self.build.both(parts) if isinstance(node.op, ast.And) else self.build.either(parts)

    def _conditional(self, node: ast.IfExp) -> Run:
        return self.build.choose(self.compile(node.test), self.compile(node.body), self.compile(node.orelse))

    # --- displays and comprehensions ---

    def _array(self, node: ast.List) -> Run:
        return self.build.array([self._item(item) for item in node.elts], self.at(node))

    def _pair(self, node: ast.Tuple) -> Run:
        return self.build.array([self._item(item) for item in node.elts], self.at(node), tuple)

    def _set(self, node: ast.Set) -> Run:
        place = self.at(node)
        if any(isinstance(item, ast.Set) for item in node.elts):
            hint = "{{ }} belongs into templates; an expression stands without braces"
            raise self.error(node, "a set cannot be a member of a set", hint)
        members = self.build.array([self._item(item) for item in node.elts], place)

        def run(frame: Frame) -> Any:
            try:
                return make_set(members(frame), frame.fuel)
            except CAUGHT as error:
                blame(error, place)

        return run

    def _object(self, node: ast.Dict) -> Run:
        items = [
            (None if key is None else self.compile(key), self.compile(value))
            for key, value in zip(node.keys, node.values, strict=True)
        ]
        return self.build.object(items, self.at(node))

    @contextmanager
    def loops(self, generators: list[ast.comprehension]) -> Iterator[list[Loop]]:
        """Compile the `for` parts, with their variables in scope for the element that is compiled inside."""
        outer = dict(self.scope)
        loops: list[Loop] = []
        starts: list[int] = []
        for part in generators:
            if part.is_async:
                raise self.error(part.target, "async is not part of the language")
            items = self.compile(part.iter)
            starts.append(self.build.nodes)
            loop = Loop(items, self.build.new_slot(), self.at(part.iter))
            if isinstance(part.target, ast.Name):
                self.scope[part.target.id] = loop.slot
            else:
                loop.unpack = self._unpacking(part.target)
            tests = [self.compile(test) for test in part.ifs]
            if tests:
                loop.test = tests[0] if len(tests) == 1 else self.build.both(tests)
            loops.append(loop)
        yield loops
        for loop, start in zip(loops, starts, strict=True):
            loop.cost = 1 + (self.build.nodes - start >> NODE_SHIFT)
        self.scope = outer

    def _unpacking(self, target: ast.expr) -> Callable[[Frame, Any], None]:
        if not isinstance(target, (ast.Tuple, ast.List)):
            raise self.error(target, "only names can be loop variables")
        self.build.nodes += len(target.elts)
        places: list[int | Callable[[Frame, Any], None]] = []
        for part in target.elts:
            if isinstance(part, ast.Name):
                slot = self.build.new_slot()
                self.scope[part.id] = slot
                places.append(slot)
            else:
                self.depth += 1
                if self.depth > MAX_NESTING:
                    raise self.error(part, "the variables are nested too deeply")
                places.append(self._unpacking(part))
                self.depth -= 1
        return make_unpack(places, self.at(target))

    def _list_of(self, node: ast.ListComp | ast.GeneratorExp) -> Run:
        with self.loops(node.generators) as loops:
            element = self.compile(node.elt)
        if len(loops) == 1 and loops[0].unpack is None:
            return self.build.list_comprehension(loops[0], element)

        def emit(frame: Frame, result: list[Any]) -> None:
            result.append(element(frame))

        return self.build.comprehension(loops, emit, list)

    def _set_of(self, node: ast.SetComp) -> Run:
        with self.loops(node.generators) as loops:
            element = self.compile(node.elt)
        place = self.at(node)

        def emit(frame: Frame, result: OrderedSet) -> None:
            try:
                result.members[check_key(element(frame), len(result), frame.fuel)] = None
            except CAUGHT as error:
                blame(error, place)

        return self.build.comprehension(loops, emit, OrderedSet)

    def _object_of(self, node: ast.DictComp) -> Run:
        with self.loops(node.generators) as loops:
            key = self.compile(node.key)
            value = self.compile(node.value)
        place = self.at(node)

        def emit(frame: Frame, result: dict[Any, Any]) -> None:
            try:
                name = check_key(key(frame), len(result), frame.fuel)
            except CAUGHT as error:
                blame(error, place)
            result[name] = value(frame)

        return self.build.comprehension(loops, emit, dict)

    # --- f-strings ---

    def _fstring(self, node: ast.JoinedStr) -> Run:
        parts = [self.compile(part) for part in node.values]

        def run(frame: Frame) -> Any:
            texts = [part(frame) for part in parts]
            try:
                size = sum(map(len, texts))
                frame.fuel.charge(size >> TEXT_SHIFT)
                return "".join(texts)
            except TypeError:
                return join(texts)

        return run

    def _formatted(self, node: ast.FormattedValue) -> Run:
        value = self.compile(node.value)
        spec = None if node.format_spec is None else self.compile(node.format_spec)
        how = chr(node.conversion) if node.conversion > 0 else ""
        place = self.at(node.value)

        def run(frame: Frame) -> Any:
            found = value(frame)
            if spec is None and not how and (type(found) is str or type(found) is SecretText):
                return found
            try:
                if how:
                    found = convert(found, how, frame.fuel)
                return format_value(found, "" if spec is None else spec(frame), frame.fuel)
            except CAUGHT as error:
                blame(error, place)

        return run


_HANDLERS: Final[dict[type[ast.AST], Callable[[Compiler, Any], Run]]] = {
    ast.Constant: Compiler._literal,
    ast.Name: Compiler._name,
    ast.Attribute: Compiler._attribute,
    ast.Subscript: Compiler._subscript,
    ast.Call: Compiler._call,
    ast.BinOp: Compiler._binary,
    ast.UnaryOp: Compiler._unary,
    ast.Compare: Compiler._compare,
    ast.BoolOp: Compiler._boolean,
    ast.IfExp: Compiler._conditional,
    ast.List: Compiler._array,
    ast.Tuple: Compiler._pair,
    ast.Set: Compiler._set,
    ast.Dict: Compiler._object,
    ast.ListComp: Compiler._list_of,
    ast.GeneratorExp: Compiler._list_of,
    ast.SetComp: Compiler._set_of,
    ast.DictComp: Compiler._object_of,
    ast.JoinedStr: Compiler._fstring,
    ast.FormattedValue: Compiler._formatted,
}
