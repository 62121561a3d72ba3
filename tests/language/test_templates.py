"""DESIGN §3, "Templates": Jinja's syntax, our evaluation, always text."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest

import engine.core.lang
from engine.core.errors import ExpressionError
from engine.core.lang.context import EvalContext
from engine.core.lang.expression import compile_expression
from engine.core.lang.template import compile_template
from tests.language.test_expressions import NOW
from tests.language.words import codes, findings
from tests.support.memory import error_of, output_of

LANG = Path(engine.core.lang.__file__ or "").parent


def render(source: str, given: Any = None) -> str:
    return compile_template(source).render({"_": given}, EvalContext(NOW, "seed"))


def test_only_the_parser_of_jinja_is_used():
    """Templates use Jinja's parser only."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in LANG.rglob("*.py")]
    names = {
        f"{node.module}.{alias.name}"
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jinja2")
        for alias in node.names
    }
    assert names == {"jinja2.nodes", "jinja2.parser.Parser"}
    used = {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jinja2"
    }
    assert used == {"Environment", "TemplateSyntaxError"}
    assert not {"from_string", "render", "render_async", "generate", "compile_expression"} & {
        node.attr
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "environment"
    }


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
        "{{ 'x' * 1000000000 }}",
        "{{ range(100000) | join('x' * 10000) }}",
        "{{ ('a' * 10000) | replace('', 'b' * 10000) }}",
        "{{ 'x' | indent(1000000000) }}",
    ],
)
def test_a_template_bomb_runs_out_of_fuel(source: str):
    """The nodes of a template are evaluated by our metered evaluator."""
    with pytest.raises(ExpressionError) as caught:
        render(source)
    assert caught.value.code in ("expression.fuel", "expression.too_large", "expression.value")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{% if _ > 2 %}many{% elif _ %}few{% else %}none{% endif %}", "many"),
        ("{% for i in range(_) %}{{ i }}{{ '' if loop.last else ',' }}{% endfor %}", "0,1,2"),
        ("{% set x = _ * 2 %}{{ x }}", "6"),
        ("{{ ['b', 'a'] | sort | join('-') | upper }}", "A-B"),
    ],
)
def test_if_for_set_and_filters_are_there(source: str, text: str):
    """Templates have if, for, set and a listed set of filters."""
    assert render(source, 3) == text


@pytest.mark.parametrize(
    "source",
    [
        "{% include 'a' %}",
        "{% import 'a' as b %}",
        "{% extends 'a' %}",
        "{% block a %}{% endblock %}",
        "{% macro a() %}{% endmacro %}",
        "{% call a() %}{% endcall %}",
        "{% filter upper %}{% endfilter %}",
        "{% with a = 1 %}{% endwith %}",
        "{% do a %}",
        "{{ 1 | attr('x') }}",
        "{{ 1 | pprint }}",
        "{{ 1 is callable }}",
        "{{ ''.__class__ }}",
    ],
)
def test_anything_else_is_a_diagnostic(source: str):
    """Anything else in a template is a diagnostic."""
    found = codes(f'main: [{{evaluate: "{source}"}}]')
    assert found != []
    assert set(found) <= {"E302", "E304", "E401"}


@pytest.mark.parametrize("given", [1, 1.5, True, None, [1], {"a": 1}, "text"])
def test_a_template_gives_text_whatever_stands_in_it(given: object):
    """The result of a template is always text."""
    assert isinstance(output_of('name: t\nmain: [{evaluate: "{{ _ }}"}]', given), str)


@pytest.mark.parametrize(
    ("given", "text"),
    [(1.5, "1.5"), (True, "true"), ([1, "ä", None], '[1, "ä", null]'), ({"k": [False]}, '{"k": [false]}')],
)
def test_what_is_no_text_is_printed_as_json(given: object, text: str):
    """Non-text in a template becomes JSON."""
    assert render("{{ _ }}", given) == text


def test_null_is_printed_as_nothing():
    """Null in a template becomes an empty text."""
    assert render("a{{ _ }}b") == "ab"


def test_a_missing_name_is_an_error():
    """A missing name in a template is an error."""
    assert error_of('name: t\nmain: [{evaluate: "{{ _.nowhere }}"}]', {}).code == "expression.no_key"
    assert codes('main: [{evaluate: "{{ nowhere }}"}]') == ["E401"]


def test_a_missing_name_with_a_default_is_the_default():
    """A missing name with `default` is no error."""
    assert output_of("name: t\nmain: [{evaluate: \"{{ _.nowhere | default('x') }}\"}]", {}) == "x"
    assert render("{{ _.a.b.c | default('y') }}", {}) == "y"
    assert findings('main: [{evaluate: "{{ nowhere | default(1) }}"}]') == []


@pytest.mark.parametrize("given", [1, True, None, [1], {"a": None}])
def test_only_the_mark_keeps_types(given: object):
    """Only `$ ` keeps types."""
    assert output_of("name: t\nmain: [{evaluate: $ _}]", given) == given
    assert compile_expression("_").evaluate({"_": given}, EvalContext(NOW, "seed")) == given
