"""Finds literal texts whose authors probably meant an expression or a template and forgot the mark. Workflow-safe."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection
from dataclasses import dataclass
from types import MappingProxyType

from engine.core.errors import ExpressionSyntaxError
from engine.core.lang.expression import compile_expression
from engine.core.lang.stdlib import FUNCTIONS, MODULES
from engine.core.lang.syntax import Source

MAX_CHARS = 200
"""Longer texts are prose."""
_ROOTS = "steps|state|inputs|outputs|input|agent|task|execution|error|results"
_MAYBE = re.compile(rf"(?<![\w.])(?:_(?!\w)|(?:{_ROOTS})\s{{0,3}}[.\[]|[a-z]\w{{0,30}}\s{{0,3}}[.(])")
"""What every expression that is worth a warning holds; it spares the parser most texts."""
_END_OF_SENTENCE = re.compile(r"\w\.\s")
"""Python would take it for a member; nobody writes one so, but every sentence that another one follows."""
_APART = re.compile(r"([a-z]\w{0,30})\s{1,3}\(")
"""Prose has a blank in front of a parenthesis, as in `the sum (input)`; nobody writes a call so."""
_FILE = re.compile(
    rf"(?:{_ROOTS})\.(?:txt|csv|tsv|json|jsonl|ya?ml|toml|ini|md|rst|log|html?|xml|pdf|docx?|xlsx?|py|js|sh|sql|db|zip"
    rf"|gz|png|jpe?g|svg|gov|com|org|net|io)\Z"
)
_DOLLAR_BRACES = re.compile(r"\$\{([^{}]{1,200})\}")
_LATE_MARK = re.compile(
    rf"\$ (?P<what>_(?![\w])(?:\.[A-Za-z]\w{{0,60}}){{0,5}}|(?:{_ROOTS})(?:\.[A-Za-z_]|\[['\"\w])"
    r"|(?P<call>[a-z]\w{0,30})\()"
)
_FACTS = MappingProxyType({"agent": ("id", "name", "model"), "task": ("id", "name"), "execution": ("id",)})
"""The members of the names that always have the same ones; `agent.replied` is the name of something else."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A place in a literal text that was probably meant to be computed.

    Attributes:
        offset: Where it starts.
        text: What stands there.
        hint: What to write instead.
        braces: Whether it stands in braces, as in `${_.name}`.
    """

    offset: int
    text: str
    hint: str
    braces: bool = False


def forgotten_mark(text: str, names: Collection[str]) -> Doubt | None:
    """Look at a literal text.

    Args:
        text: The text, which has no `$ ` in front and no template in it.
        names: Root names that exist at its place.

    Returns:
        The first doubt; None if it is just text.
    """
    short = text.strip()
    if len(short) <= MAX_CHARS:
        source = short.removeprefix("$")
        if source and is_plausible(source, names):
            return Doubt(text.index(short), short, f"write `$ {source}` if it is one")
    for found in _DOLLAR_BRACES.finditer(text[: 50 * MAX_CHARS]):
        if is_plausible(found[1].strip(), names):
            return Doubt(
                found.start(), found.group(), f"write {{{{ {found[1].strip()} }}}} if the value is meant", True
            )
    for found in _LATE_MARK.finditer(text):
        if found["call"] is None or found["call"] in FUNCTIONS:
            hint = "`$ ` makes an expression only at the start of a text; within one write {{ … }}"
            return Doubt(found.start(), text[found.start() :].splitlines()[0], hint)
    return None


def is_plausible(source: str, names: Collection[str]) -> bool:
    """Return whether a text is nothing but an expression that reads or calls something which exists.

    Args:
        source: The text.
        names: Root names that exist at its place.
    """
    if not _MAYBE.search(source) or is_file_name(source) or _END_OF_SENTENCE.search(source):
        return False
    if any(found[1] in FUNCTIONS for found in _APART.finditer(source)):
        return False
    try:
        if compile_expression(source).problems(names):
            return False
        tree = Source(source).parse()
    except ExpressionSyntaxError:
        return False
    if isinstance(tree, ast.Set):
        # single braces around a name are the mistake of a template
        return False
    return any(_is_evidence(node, names) for node in ast.walk(tree))


def is_file_name(text: str) -> bool:
    """Return whether a text is a known name with the ending of a file or a site, such as `input.csv`."""
    return _FILE.match(text) is not None


def _is_evidence(node: ast.AST, names: Collection[str]) -> bool:
    """Whether no plain word reads so: `_`, a member of a root name, the call of a function."""
    match node:
        case ast.Name(id="_"):
            return True
        case ast.Attribute(value=ast.Name(id=name), attr=member):
            return name in names and member in _FACTS.get(name, (member,))
        case ast.Subscript(value=ast.Name(id=name)):
            return name in names
        case ast.Call(func=ast.Name(id=name)):
            return name in FUNCTIONS
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name))):
            return name in MODULES
        case _:
            return False
