"""The table of diagnostic codes and the page that is made from it."""

from __future__ import annotations

import re
from pathlib import Path

from engine.core.spec import codes

PAGE = Path(__file__).parents[2] / "docs" / "diagnostics.md"


def test_the_page_of_codes_is_the_one_made_from_the_table() -> None:
    remedy = "run `python -c 'from engine.core.spec.codes import render_codes; print(render_codes(), end=\"\")'`"
    assert PAGE.read_text(encoding="utf-8") == codes.render_codes(), remedy


def test_every_constant_has_a_meaning_and_every_meaning_a_constant() -> None:
    constants = {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)}
    assert constants == set(codes.CODES)


def test_codes_are_grouped_by_what_they_are_about() -> None:
    assert all(re.fullmatch(r"E[1-5]\d\d|W6\d\d", code) for code in codes.CODES)
    assert list(codes.CODES) == sorted(codes.CODES)
