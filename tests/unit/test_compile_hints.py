"""What is said about near misses: error codes, keywords of schemas, keys of the state, texts without quotes."""

from __future__ import annotations

from pathlib import Path

import pytest

import engine
from engine.core.spec.error_codes import CODES, meant_code
from tests.language.words import findings


def said(text: str) -> list[tuple[str, str]]:
    """Return code and hint of all that is found."""
    return [(item.code, item.hint) for item in findings(text)]


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        ("backendd", "backend"),
        ("tools", "tool"),
        ("tool.faild", "tool.failed"),
        ("bakend.timeout", "backend.timeout"),
        ("backend.overloadd", "backend.overloaded"),
        ("backend", ""),
        ("tool.failed", ""),
        ("tool.books_closed", ""),
        ("books", ""),
        ("books.closed", ""),
        ("", ""),
    ],
)
def test_an_error_code_that_is_nearly_a_known_one_was_meant_to_be_it(code: str, meant: str) -> None:
    assert meant_code(code) == meant


def test_the_known_error_codes_are_codes_that_the_engine_gives() -> None:
    root = Path(engine.__file__).parent.parent
    source = "".join(
        file.read_text()
        for folder in ("engine", "activities", "workflows")
        for file in (root / folder).rglob("*.py")
        if file.name != "error_codes.py"
    )
    missing = [code for code in CODES if code not in source and f'"{code.partition(".")[2]}"' not in source]
    assert missing == []


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        ("{require: [a]}", [("W617", "did you mean 'required'?")]),
        ("{propertys: {}}", [("W617", "did you mean 'properties'?")]),
        ("{type: string, maxlength: 3}", [("W617", "did you mean 'maxLength'?")]),
        ("{properties: {a: {minimun: 1}}}", [("W617", "did you mean 'minimum'?")]),
        ("{properties: {require: {type: string}, item: true}}", []),
        ("{x-order: 1, example: 1, nullable: true, discriminator: a}", []),
        ("{type: objekt}", [("E501", "did you mean 'object'?")]),
        ("{type: list}", [("E501", "did you mean 'array'?")]),
        (
            "{type: int, properties: {a: {type: sting}}}",
            [("E501", f"did you mean '{kind}'?") for kind in ("integer", "string")],
        ),
        ("{minimum: x, maxLength: -1}", [("E501", ""), ("E501", "")]),
    ],
)
def test_all_mistakes_of_a_schema_are_told(schema: str, found: list[tuple[str, str]]) -> None:
    assert said(f"input_schema: {schema}\nmain: [{{evaluate: 1}}]") == found


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ("[{set: {total: 1}}, {get: totl}]", [("W617", "did you mean 'total'?")]),
        ("[{set: {total: 1}}, {get: total}]", []),
        ("[{get: other}]", [("W617", "write it with `set` first")]),
        ("[{set: $ _}, {get: totl}]", []),
        ("[{set: {total: 1}}, {get: $ _.name}, {get: 'n{{ _ }}'}]", []),
        ("[{foreach: {in: _, do: [{get: n, when: _}, {set: {n: 1}}]}}]", []),
    ],
)
def test_a_key_of_the_state_must_be_written_somewhere(steps: str, found: list[tuple[str, str]]) -> None:
    assert said(f"main: {steps}") == found


def test_a_word_that_is_compared_with_probably_needs_quotes() -> None:
    assert said("main: [{evaluate: $ _.country == NO}]") == [("E401", "text needs quotes: 'NO'")]
    assert said("main: [{if: _.state != done, then: {evaluate: 1}}]") == [("E401", "text needs quotes: 'done'")]
    assert "quotes" not in said("main: [{evaluate: $ _.a == nobody.x}]")[0][1]


@pytest.mark.parametrize(
    ("line", "cut"),
    [
        ("approve: Pay #5 to Ada?", True),
        ("evaluate: $ _.a #3", True),
        ("evaluate: $ _.a # 3", False),
        ('approve: "Pay #5 to Ada?"', False),
        ("approve: Pay#5 to Ada?", False),
        ("evaluate: 5 #3", False),
        ("approve: Pay ## all of it", False),
    ],
)
def test_a_text_that_is_cut_by_a_comment_gets_a_warning(line: str, cut: bool) -> None:
    assert [code for code, _ in said(f"main:\n- {line}\n")] == (["W616"] if cut else [])
