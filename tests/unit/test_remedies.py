"""Every code that says why an execution does not go on, or how other hands ended it, is explained to operators."""

from __future__ import annotations

from pathlib import Path

from engine.control import stuck
from engine.control.remedies import REMEDIES
from engine.control.replaying import ReplayFailed
from engine.store.upkeep import GONE

ROOT = Path(__file__).resolve().parents[2]


def test_every_reason_to_be_stuck_has_a_remedy() -> None:
    codes = {value for value in vars(stuck).values() if isinstance(value, str) and value.startswith("stuck.")}
    assert len(codes) == 4
    assert codes | {GONE, ReplayFailed.default_code} <= REMEDIES.keys()


def test_the_page_of_error_codes_shows_all_of_them() -> None:
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    for code, one in REMEDIES.items():
        assert f"| `{code}` | {one.where} | {one.means} | {one.remedy} |" in page
