"""Go templates of contenox chains: what they print here, and what has no translation."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from engine.core.lang.context import EvalContext
from engine.core.lang.template import compile_template
from engine.core.plan.chains import variable
from engine.core.plan.go_templates import GoTemplateError, translate

ENV: dict[str, Any] = {
    "input": "hello",
    "state": {"task": {"field": {"deep": 5}, "list": ["a", "b"], "none": []}, "score": 7, "flag": False, "text": "x"},
    "_": {"id": 3, "tags": [{"n": "t1"}, {"n": "t2"}]},
}


def rendered(text: str, root: str = "") -> str:
    template = compile_template(translate(text, variable, root).source)
    assert template.problems(frozenset(ENV)) == []
    return template.render(ENV, EvalContext(dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "seed"))


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ("say {{.input}}!", "say hello!"),
        ("{{ .task.field.deep }}", "5"),
        ("{{.nowhere}} {{.task.nowhere.deep}}", "<no value> <no value>"),
        ("{{if .flag}}yes{{else}}no{{end}}", "no"),
        ("{{if .nowhere}}yes{{else if eq .score 7}}seven{{else}}no{{end}}", "seven"),
        ("{{if and .text (not .flag)}}both{{end}}", "both"),
        ('{{if or (gt .score 10) (eq .text "x" `y`)}}one{{end}}', "one"),
        ("{{range .task.list}}[{{.}}]{{end}}", "[a][b]"),
        ("{{range $i, $e := .task.list}}{{$i}}={{$e}} {{end}}", "0=a 1=b "),
        ("{{range $e := .task.list}}{{$e}}{{$.text}}{{end}}", "axbx"),
        ("{{range .task.none}}x{{else}}none of {{.input}}{{end}}", "none of hello"),
        ("{{range .nowhere}}x{{end}}.", "."),
        ("{{range .task.field}}<{{.}}>{{end}}", "<5>"),
        ("{{with .task.field}}{{.deep}}{{else}}no {{.text}}{{end}}", "5"),
        ("{{with .nowhere}}{{.deep}}{{else}}no {{.text}}{{end}}", "no x"),
        ("{{len .task.list}}{{/* nothing */}}", "2"),
        ("a {{- .text -}} b", "axb"),
        ("{% raw %} {# c #} {{.text}}", "{% raw %} {# c #} x"),
        ('{{"quoted \\"text\\"\\n"}}{{true}}{{-5}}', 'quoted "text"\ntrue-5'),
    ],
)
def test_a_template_prints_what_it_prints_in_go(text: str, result: str) -> None:
    assert rendered(text) == result


def test_the_dot_may_stand_for_one_value() -> None:
    assert rendered("#{{.id}}:{{range .tags}} {{.n}}{{end}}", "_") == "#3: t1 t2"


def test_text_without_actions_stays_as_it_is() -> None:
    found = translate("a {% b %} {c}", variable)
    assert (found.source, found.literal) == ("a {% b %} {c}", True)


def test_the_variables_that_are_read_are_known_with_their_places() -> None:
    found = translate("{{.a}} {{range .b.c}}{{.d}}{{$.e}}{{end}}", variable)
    assert found.variables == (("a", 2), ("b", 15), ("e", 29))


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("x {{.a | printf}}", 7),
        ("x {{printf .a}}", 4),
        ('{{template "x"}}', 2),
        ("{{if .a}}", 2),
        ("{{with .a}}", 2),
        ("{{end}}", 2),
        ("{{else}}", 2),
        ("{{if .a}}{{else range .b}}{{end}}", 16),
        ("{{.a", 0),
        ("{{}}", 2),
        ("{{.}}", 2),
        ("{{$x}}", 2),
        ("{{.a ~}}", 5),
        ("{{(.a}}", 2),
        ("{{eq .a}}", 2),
        ("{{.a .b}}", 5),
    ],
)
def test_what_has_no_translation_is_an_error_at_its_place(text: str, offset: int) -> None:
    with pytest.raises(GoTemplateError) as caught:
        translate(text, variable)
    assert (caught.value.offset, caught.value.later) == (offset, False)


def test_macros_of_newer_versions_are_known_but_come_later() -> None:
    with pytest.raises(GoTemplateError) as caught:
        translate("on {{now:2006-01-02}}", variable)
    assert caught.value.later


def test_a_template_nested_without_end_is_refused() -> None:
    with pytest.raises(GoTemplateError):
        translate("{{if .a}}" * 100 + "{{end}}" * 100, variable)


@pytest.mark.parametrize(
    "text",
    [
        "{{" * 200_000,
        "{{" + "(" * 100_000 + "}}",
        "{{" + ".a " * 100_000 + "}}",
        '{{"' + "a" * 500_000 + "}}",
        "{{.a}}" * 10_000,
        "{{if .a}}{{else if .b}}" * 1_000,
    ],
)
def test_a_hostile_template_is_refused_at_once(text: str) -> None:
    with pytest.raises(GoTemplateError):
        translate(text, variable)
