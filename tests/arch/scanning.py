"""Reads source files as syntax trees and finds what must not stand in workflow-safe modules."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MARK = "Workflow-safe."

_SET_MAKERS = frozenset({"set", "frozenset"})
_SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_SET_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
_ORDER_BLIND = frozenset({"sorted", "len", "any", "all", "sum", "min", "max", "set", "frozenset", "bool"})
_ORDERED_TAKERS = frozenset({"list", "tuple", "iter", "next", "enumerate", "map", "filter", "zip", "reversed", "dict"})
_MUTABLE_MAKERS = frozenset(
    {
        "list",
        "dict",
        "set",
        "deque",
        "defaultdict",
        "Counter",
        "OrderedDict",
        "WeakKeyDictionary",
        "WeakValueDictionary",
    }
)
_MUTATING_METHODS = frozenset(
    {
        *("append", "extend", "insert", "remove", "pop", "popleft", "appendleft", "clear", "sort", "reverse"),
        *("add", "discard", "update", "setdefault", "popitem", "difference_update", "intersection_update"),
    }
)
CONCURRENCY = frozenset({"threading", "_thread", "concurrent", "multiprocessing", "queue", "contextvars", "signal"})


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be there."""

    line: int
    what: str


def modules_under(*folders: str) -> list[Path]:
    """Return the Python files of folders or files, without empty ones."""
    found: list[Path] = []
    for folder in folders:
        place = ROOT / folder
        files = [place] if place.is_file() else sorted(place.rglob("*.py"))
        found += [path for path in files if path.read_text(encoding="utf-8").strip()]
    return found


@cache
def parse(path: Path) -> ast.Module:
    """Parse a file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def is_marked(tree: ast.Module) -> bool:
    """Whether the first paragraph of a module's docstring ends with the mark."""
    return (ast.get_docstring(tree) or "").split("\n\n")[0].rstrip().endswith(MARK)


# --- sets ----------------------------------------------------------------------------------------------------------


def _names_a_set(annotation: ast.expr | None) -> bool:
    if annotation is None:
        return False
    text = ast.unparse(annotation)
    return text.split("[")[0].rsplit(".", 1)[-1] in {
        "set",
        "frozenset",
        "Set",
        "FrozenSet",
        "AbstractSet",
        "MutableSet",
    }


class _Sets:
    """Knows, by name, what holds a set in a module; a name that is a set anywhere counts as one everywhere."""

    def __init__(self, tree: ast.Module) -> None:
        self.names: set[str] = set()
        before = -1
        while len(self.names) != before:  # a set made of a set that is known later
            before = len(self.names)
            for node in ast.walk(tree):
                self._learn(node)

    def _learn(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign) and self.is_set(node.value):
            for target in node.targets:
                self._add(target)
        elif (
            isinstance(node, ast.AnnAssign)
            and (_names_a_set(node.annotation) or (node.value is not None and self.is_set(node.value)))
        ) or (isinstance(node, ast.NamedExpr) and self.is_set(node.value)):
            self._add(node.target)
        elif isinstance(node, ast.arg) and _names_a_set(node.annotation):
            self.names.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and _names_a_set(node.returns):
            self.names.add(f"{node.name}()")

    def _add(self, target: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self.names.add(target.id)
        elif isinstance(target, ast.Attribute):
            self.names.add(f".{target.attr}")

    def is_set(self, node: ast.expr) -> bool:
        """Whether an expression gives a set, as far as one can see."""
        if isinstance(node, (ast.Set, ast.SetComp)):
            return True
        if isinstance(node, ast.Name):
            return node.id in self.names
        if isinstance(node, ast.Attribute):
            return f".{node.attr}" in self.names or node.attr in self.names
        if isinstance(node, ast.BinOp) and isinstance(node.op, _SET_OPERATORS):
            return any(self.is_set(side) or _is_keys(side) for side in (node.left, node.right))
        if isinstance(node, ast.IfExp):
            return self.is_set(node.body) or self.is_set(node.orelse)
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name):
                return function.id in _SET_MAKERS or f"{function.id}()" in self.names
            if isinstance(function, ast.Attribute):
                own = function.attr in _SET_METHODS and self.is_set(function.value)
                return own or f"{function.attr}()" in self.names
            if isinstance(function, ast.Subscript):
                return isinstance(function.value, ast.Name) and function.value.id in _SET_MAKERS
        return False


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("keys", "items")


def set_iterations(tree: ast.Module) -> Iterator[Finding]:
    """Find places where the order of a set, which changes with the hash seed, could reach a result."""
    sets = _Sets(tree)
    blind = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ORDER_BLIND
        for argument in node.args
    }
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.AsyncFor)) and sets.is_set(node.iter):
            yield Finding(node.lineno, f"a loop over the set {ast.unparse(node.iter)}")
        elif isinstance(node, (ast.ListComp, ast.DictComp, ast.GeneratorExp)) and id(node) not in blind:
            for part in node.generators:
                if sets.is_set(part.iter):
                    yield Finding(node.lineno, f"a comprehension over the set {ast.unparse(part.iter)}")
        elif isinstance(node, ast.Starred) and isinstance(node.ctx, ast.Load) and sets.is_set(node.value):
            if not _inside_set(tree, node):
                yield Finding(node.lineno, f"the set {ast.unparse(node.value)} is unpacked in its own order")
        elif isinstance(node, ast.Call):
            yield from _ordered_takers(sets, node)


def _inside_set(tree: ast.Module, starred: ast.Starred) -> bool:
    return any(isinstance(node, ast.Set) and starred in node.elts for node in ast.walk(tree))


def _ordered_takers(sets: _Sets, call: ast.Call) -> Iterator[Finding]:
    function = call.func
    takes_order = (isinstance(function, ast.Name) and function.id in _ORDERED_TAKERS) or (
        isinstance(function, ast.Attribute) and function.attr in ("join", "extend", "fromkeys")
    )
    if takes_order and any(sets.is_set(argument) for argument in call.args):
        yield Finding(call.lineno, f"the order of a set is used in {ast.unparse(call)}")
    if isinstance(function, ast.Attribute) and function.attr == "pop" and not call.args and sets.is_set(function.value):
        yield Finding(call.lineno, f"any member is taken out of the set {ast.unparse(function.value)}")


# --- hash, id, imports ---------------------------------------------------------------------------------------------


def identity_calls(tree: ast.Module) -> Iterator[Finding]:
    """Find calls of the builtin `hash` and `id`, whose values differ from process to process."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hash", "id"):
            yield Finding(node.lineno, f"the builtin {node.func.id}() is called")


def imported_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Return the line and dotted name of every import statement, wherever it stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def imports_of(tree: ast.Module, forbidden: frozenset[str]) -> Iterator[Finding]:
    """Find imports of some top-level modules."""
    for line, name in imported_names(tree):
        if name.split(".")[0] in forbidden:
            yield Finding(line, f"{name} is imported")


def dynamic_imports(tree: ast.Module) -> Iterator[Finding]:
    """Find ways to import that no import contract sees."""
    for line, name in imported_names(tree):
        if name.split(".")[0] in ("importlib", "imp", "runpy", "pkgutil", "zipimport"):
            yield Finding(line, f"{name} is imported")
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id in ("__import__", "exec", "eval")
        ):
            yield Finding(node.lineno, f"{node.func.id}() is called")
        elif isinstance(node, ast.Attribute) and node.attr == "modules" and ast.unparse(node) == "sys.modules":
            yield Finding(node.lineno, "sys.modules is used")


def modules_named(tree: ast.Module) -> Iterator[str]:
    """Return the constant names that are handed to `import_module`, directly or to be called elsewhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            parts = [node.func, *node.args]
            if any(getattr(part, "attr", getattr(part, "id", "")) == "import_module" for part in parts):
                yield from (
                    arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
                )


# --- global state --------------------------------------------------------------------------------------------------


def _is_mutable(value: ast.expr | None) -> bool:
    if isinstance(value, (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)):
        return True
    if not isinstance(value, ast.Call):
        return False
    function = value.func.value if isinstance(value.func, ast.Subscript) else value.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name in _MUTABLE_MAKERS


def _shared_names(tree: ast.Module) -> set[str]:
    """Return the module-level names of mutable containers, and those that come from other modules of ours."""
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Assign) and _is_mutable(node.value):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and _is_mutable(node.value) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("engine", "workflows"):
            names.update(alias.asname or alias.name for alias in node.names if alias.name.isupper())
    return names


def global_state(tree: ast.Module) -> Iterator[Finding]:
    """Find module-level state that changes: it would be shared by all executions of a process."""
    shared = _shared_names(tree)

    def is_shared(node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id in shared

    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield Finding(node.lineno, f"global {', '.join(node.names)}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if node.func.attr in _MUTATING_METHODS and is_shared(node.func.value):
                yield Finding(node.lineno, f"module-level state is changed: {ast.unparse(node)}")
        elif (
            isinstance(node, ast.Subscript) and isinstance(node.ctx, (ast.Store, ast.Del)) and is_shared(node.value)
        ) or (isinstance(node, ast.AugAssign) and is_shared(node.target)):
            yield Finding(node.lineno, f"module-level state is changed: {ast.unparse(node)}")
