"""The table of diagnostic codes and the book that explains them with executed examples."""

from __future__ import annotations

import re

import pytest

from engine.control.compiling import compile_text
from engine.core.diagnostics import Diagnostic
from engine.core.errors import DefinitionError
from engine.core.spec import codes
from engine.core.spec.codebook.book import BOOK, GROUPS

UNDONE = (codes.PLANNED,)
"""What is said of parts that this version does not do, whatever else is said of them."""


def findings_of(text: str, code: str) -> list[Diagnostic]:
    """Return what is said about a task that nobody gives tools to; that a part is not done yet, only if asked for."""
    try:
        found = compile_text(text, contracts={}).warnings
    except DefinitionError as error:
        found = list(error.diagnostics)
    return [item for item in found if item.code == code or item.code not in UNDONE]


def test_every_constant_has_a_meaning_and_every_meaning_a_constant() -> None:
    constants = {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)}
    assert constants == set(codes.CODES)


def test_codes_are_grouped_by_what_they_are_about() -> None:
    assert all(re.fullmatch(r"E[1-5]\d\d|W6\d\d", code) for code in codes.CODES)
    assert list(codes.CODES) == sorted(codes.CODES)
    assert {code[:2] for code in codes.CODES} == set(GROUPS)


def test_every_code_is_explained() -> None:
    assert set(BOOK) == set(codes.CODES)
    assert [code for code, entry in BOOK.items() if len(entry.why) < 40] == []


@pytest.mark.parametrize("code", BOOK)
def test_the_bad_example_of_a_code_gives_that_code_and_no_other(code: str) -> None:
    assert {found.code for found in findings_of(BOOK[code].bad_source, code)} == {code}


@pytest.mark.parametrize("code", BOOK)
def test_the_good_example_of_a_code_is_clean(code: str) -> None:
    assert findings_of(BOOK[code].good, code) == []


@pytest.mark.parametrize("code", BOOK)
def test_the_examples_of_a_code_can_be_printed(code: str) -> None:
    shown = BOOK[code].shown_bad + BOOK[code].good
    assert all(char == "\n" or char.isprintable() for char in shown)
    assert max(len(line) for line in shown.splitlines()) <= 120
