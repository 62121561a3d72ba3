"""Templates: Jinja's syntax, our evaluation."""

import datetime as dt
from typing import Any

import pytest

from engine.core.errors import ExpressionError, ExpressionSyntaxError
from engine.core.lang.context import EvalContext
from engine.core.lang.template import compile_template, is_template

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
ENV: dict[str, Any] = {
    "_": {
        "name": "Ann",
        "n": None,
        "yes": True,
        "obj": {"k": [1, "ä"]},
        "a": 5,
        "items": [{"n": 1, "t": "b"}, {"n": 2, "t": "a"}],
        "list": [3, 1, 2],
        "empty": [],
    }
}


def render(source: str, env: dict[str, Any] | None = None) -> str:
    return compile_template(source).render(ENV if env is None else env, EvalContext(NOW, "seed"))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Hi {{ _.name }}!", "Hi Ann!"),
        ("{{ _.n }}|{{ _.yes }}|{{ _.obj }}|{{ _.a }}|{{ 1.5 }}", '|true|{"k": [1, "ä"]}|5|1.5'),
        ("{% if _.a > 9 %}big{% elif _.a > 3 %}mid{% else %}small{% endif %}", "mid"),
        ("{% for x in _.list %}{{ loop.index }}/{{ loop.length }}={{ x }}{{ '' if loop.last else ',' }}{% endfor %}",
         "1/3=3,2/3=1,3/3=2"),
        ("{% for x in _.list %}{{ loop.first }}{{ loop.index0 }}{{ loop.revindex }}{% endfor %}",
         "true03false12false21"),
        ("{% for x in _.empty %}x{% else %}none{% endfor %}", "none"),
        ("{% for k, v in _.obj.items() %}{{ k }}:{{ v }}{% endfor %}", 'k:[1, "ä"]'),
        ("{% for i in _['items'] if i.n > 1 %}{{ i.n }}{{ loop.length }}{% endfor %}", "21"),
        ("{% for x in 'ab' %}{% for y in [3] %}{{ x }}{{ y }}{{ loop.index }}{% endfor %}{{ loop.index }}{% endfor %}",
         "a311b312"),
        ("{% set x = 2 %}{{ x * 3 }}{% set x = x + 1 %}{{ x }}", "63"),
        ("{% set x = 1 %}{% for i in [1, 2] %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "231"),
        ("{% if false %}{% set q = 1 %}{% endif %}{{ q | default('unset') }}", "unset"),
        ("{% if true %}{% set q = 1 %}{% endif %}{{ q }}", "1"),
        ("{{ 'a' if _.a > 3 else 'b' }}{{ 'c' if _.a > 9 }}", "a"),
        ("{{ 1 ~ 'a' ~ none ~ true }}", "1atrue"),
        ("{{ _.list[0] + _.list[-1] }} {{ _.list[1:] }} {{ 7 // 2 }} {{ 2 ** 3 }} {{ -_.a }}", "5 [1, 2] 3 8 -5"),
        ("{{ 1 < 2 <= 2 and not (3 in _.list and 4 not in _.list) }}", "false"),
        ("{{ now() }} {{ now().year }} {{ len(_.list) }} {{ _.name.upper() }} {{ math.floor(1.5) }}",
         "2026-01-02T03:04:05Z 2026 3 ANN 1"),
        ("{{ {'a': [1, (2, 3)]} }}", '{"a": [1, [2, 3]]}'),
        ("a{# gone #}b", "ab"),
        ("a  {%- if true -%}  b  {%- endif %}\n", "ab\n"),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("plain { text }\n", "plain { text }\n"),
        ("{{ 'x\\ny' }}", "x\ny"),
        ("", ""),
    ],
)  # fmt: skip
def test_a_template_gives_text(source: str, expected: str):
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{ _.list | join(', ') }}", "3, 1, 2"),
        ("{{ _['items'] | join('-', attribute='t') }}", "b-a"),
        ("{{ _['items'] | map(attribute='n') | list }}", "[1, 2]"),
        ("{{ _['items'] | map(attribute='z', default=0) | list }}", "[0, 0]"),
        ("{{ ['a', 'b'] | map('upper') | join }}", "AB"),
        ("{{ _['items'] | selectattr('n', 'gt', 1) | map(attribute='t') | first }}", "a"),
        ("{{ _['items'] | rejectattr('n', '==', 1) | length }}", "1"),
        ("{{ [0, 1, 2, 3] | select('odd') | list }}{{ [0, 1] | reject | list }}", "[1, 3][0]"),
        ("{{ _['items'] | sort(attribute='t') | map(attribute='n') | list }}", "[2, 1]"),
        ("{{ _.list | sort(reverse=true) }}{{ ['b', 'A'] | sort }}", '[3, 2, 1]["A", "b"]'),
        ("{{ [1, 2, 1] | unique | list }}{{ [3, 4] | last }}{{ 'ab' | reverse }}", "[1, 2]4ba"),
        ("{{ [1, 2] | sum }}{{ [1, 2] | max }}{{ [2, 1] | min }}{{ _['items'] | sum(attribute='n') }}", "3213"),
        ("{{ 'ab' | upper }}{{ 'AB' | lower }}{{ 'a b' | title }}{{ ' x ' | trim }}{{ 5 | upper }}", "ABabA Bx5"),
        ("{{ 'aXb' | replace('X', '-') }}{{ 'hello' | capitalize }}", "a-bHello"),
        ("{{ _.obj | tojson }} {{ [1] | tojson(indent=2) }}", '{"k": [1, "ä"]} [\n  1\n]'),
        ("{{ '7' | int + 1 }}{{ 'x' | int(9) }}{{ '1.5' | float }}{{ '3.9' | int }}", "891.53"),
        ("{{ 2.567 | round(2) }} {{ 2.1 | round(method='ceil') }} {{ -3 | abs }}", "2.57 3.0 3"),
        ("{{ 'a\nb' | indent(2) }}|{{ 'a\nb' | indent(1, true) }}", "a\n  b| a\n b"),
        ("{{ 'one two three' | truncate(8, leeway=0) }}{{ 'abcdef' | truncate(4, true, '.', 0) }}", "one...abc."),
        ("{{ '<a b=\"c\">&\\'' | e }}", "&lt;a b=&#34;c&#34;&gt;&amp;&#39;"),
        ("{{ '<' | safe }}{{ 1 | string }}{{ 'a b c' | wordcount }}{{ _.obj | items | list }}", '<13[["k", [1, "ä"]]]'),
        ("{{ nope | default('d') }}{{ _.nope.deep | d }}{{ _.list[9] | default(0) }}{{ _.n | default('x', true) }}",
         "d0x"),
        ("{{ _.n | default('x') }}{{ _.empty | first | default('e') }}", "e"),
        ("{{ _.nope is defined }}{{ _.name is defined }}{{ nope is undefined }}", "falsetruetrue"),
        ("{{ 3 is odd }}{{ 3 is even }}{{ 4 is divisibleby 2 }}{{ none is none }}{{ 1 is not none }}",
         "truefalsetruetruetrue"),
        ("{{ 1 is number }}{{ 'a' is string }}{{ {} is mapping }}{{ [] is iterable }}{{ 1 is in [1] }}",
         "truetruetruetruetrue"),
    ],
)  # fmt: skip
def test_the_listed_filters_and_tests_work(source: str, expected: str):
    assert render(source) == expected


@pytest.mark.parametrize(
    ("source", "code", "offset"),
    [
        ("Hi {{ _.nme }}", "no_key", 8),
        ("x {{ missing }}", "unknown_name", 5),
        ("a missing {{ missing }}", "unknown_name", 13),
        ("{{ _.list[9] }}", "no_index", 0),
        ("{{ lipsum() }}", "unknown_function", 3),
        ("{{ 1 / 0 }}", "zero_division", 0),
        ("{{ _.name.nope() }}", "no_method", 10),
        ("line\n{{ 5 | sum }}", "type", 12),
        ("{{ len }}", "not_json", 0),
        ("{% for x in 5 %}{% endfor %}", "type", 0),
        ("{% for a, b in [1] %}{% endfor %}", "type", 0),
        ("{{ loop.index }}", "unknown_name", 3),
        ("{% for i in [1] %}{% set y = 1 %}{% endfor %}{{ y }}", "unknown_name", 48),
        ("{{ _.empty | first }}", "no_index", 13),
    ],
)
def test_a_failure_has_a_code_and_a_place(source: str, code: str, offset: int):
    with pytest.raises(ExpressionError) as caught:
        render(source)
    assert caught.value.code == f"expression.{code}"
    assert caught.value.details == {"expression": source, "offset": offset}


@pytest.mark.parametrize(
    ("source", "offset", "part"),
    [
        ("x\n{% include 'a' %}", 5, "include"),
        ("{% extends 'a' %}", 3, "extends"),
        ("{% import 'a' as b %}", 3, "import"),
        ("{% from 'a' import b %}", 3, "from"),
        ("{% macro f() %}{% endmacro %}", 3, "macro"),
        ("{% block a %}{% endblock %}", 3, "block"),
        ("{% call f() %}{% endcall %}", 3, "call"),
        ("{% filter upper %}a{% endfilter %}", 3, "filter"),
        ("{% autoescape true %}{% endautoescape %}", 3, "autoescape"),
        ("{% with a = 1 %}{% endwith %}", 3, "with"),
        ("{% set x %}a{% endset %}", 3, "set"),
        ("{% set ns.x = 1 %}", 0, "namespace"),
        ("{% for x in y recursive %}{% endfor %}", 14, "recursive"),
        ("a\nb {{ x | bogus }}", 11, "bogus"),
        ("{{ x is bogus }}", 8, "bogus"),
        ("{{ x | attr('y') }}", 7, "attr"),
        ("{{ 1 | upper(2) }}", 7, "upper()"),
        ("{{ f(*x) }}", 4, "*"),
        ("a\n{% bogus %}", 5, "bogus"),
        ("a {{ x", 0, "end of"),
        ("{% if %}", 0, "Expected an expression"),
        ("{% endfor %}", 3, "endfor"),
        ("{{ x[0](1) }}", 0, "only functions"),
    ],
)
def test_what_is_not_part_of_templates_is_refused_with_its_line(source: str, offset: int, part: str):
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_template(source)
    assert part in caught.value.message
    assert caught.value.offset == offset


def test_an_unknown_filter_gets_the_nearest_known_one():
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_template("{{ x | uper }}")
    assert caught.value.hint == "did you mean 'upper'?"


def test_a_text_is_a_template_by_its_marks_only():
    assert [is_template(text) for text in ("{{ x }}", "{% if x %}", "{# c #}", "{x}", "a % b", "")] == [
        True, True, True, False, False, False,
    ]  # fmt: skip


def test_names_are_the_free_roots_also_those_with_a_default():
    text = "{% set y = a %}{% for x in _.l %}{{ x }}{{ loop.index }}{{ y }}{% endfor %}{{ z | default(1) }}{{ len(q) }}"
    assert compile_template(text).names == {"a", "_", "z", "q"}


def test_the_static_check_finds_unknown_names_and_functions():
    text = "{{ foo }} {{ bar | default(1) }} {{ baz() }} {{ _.x.uper() }} {{ _.a.__class__ }}"
    assert [(one.code, one.offset) for one in compile_template(text).problems({"_"})] == [
        ("expression.unknown_name", text.index("foo")),
        ("expression.unknown_function", text.index("baz")),
        ("expression.unknown_function", text.index("uper")),
        ("expression.private_attribute", text.index("__class__")),
    ]
    assert compile_template("{% if x is defined %}{{ x }}{% endif %}").problems({"_"}) == []


def test_windows_line_ends_do_not_move_the_places():
    with pytest.raises(ExpressionSyntaxError) as caught:
        compile_template("a\r\nb\r\n{{ x | bogus }}")
    assert caught.value.offset == 13


def test_a_lenient_template_takes_what_is_missing_for_empty_text_and_still_knows_its_names() -> None:
    def lenient(source: str) -> str:
        return compile_template(source, lenient=True).render(ENV, EvalContext(NOW, "seed"))

    assert lenient("<{{ _.none }}{{ _.n.deep.er }}{{ _['none'] }}{{ _.list[9] }}{{ _.name.first }}>") == "<>"
    assert lenient("{{ _.name }}{{ _.obj.k[1] }}{{ _.none | default('d') }}{{ _.none is defined }}") == "Annädfalse"
    assert lenient("{{ datetime.date(2026, 1, 2).isoformat() }}") == "2026-01-02"
    with pytest.raises(ExpressionError):
        lenient("{{ _.name - 1 }}")
    assert [item.message for item in compile_template("{{ who.name }}", lenient=True).problems({"_"})]
    with pytest.raises(ExpressionError):
        render("{{ _.none }}")
