"""The documents are true: generated pages are current, links lead somewhere, commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
COMMAND = re.compile(r"(?:^|`|\$ |bin/)everstep ([a-z][a-z-]+)", re.MULTILINE)
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


def test_the_pages_made_from_the_code_are_current():
    result = subprocess.run(
        [sys.executable, str(ROOT / "deploy" / "docs.py"), "--check"],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file(page: Path):
    targets = [target for target in LINK.findall(_prose(page)) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_heading_finds_it(page: Path):
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", _prose(page))
    missing = [
        f"{target}#{anchor}"
        for target, anchor in links
        if "://" not in target and anchor not in _anchors(page.parent / target if target else page)
    ]
    assert missing == []


def _prose(page: Path) -> str:
    """Return a page without its code, which may look like a link."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"(`+)[^`\n].*?\1", "", text)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in found}


def test_every_make_target_that_is_mentioned_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    mentioned = {name for page in PAGES for name in re.findall(r"`?make ([a-z]+)`", page.read_text(encoding="utf-8"))}
    assert mentioned
    assert mentioned - targets == set()


def test_every_command_of_the_cli_that_is_mentioned_exists():
    shown = subprocess.run(
        [sys.executable, "-m", "engine.edge.cli", "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout
    commands = set(re.findall(r"^  ([a-z-]+)  ", shown, re.MULTILINE))
    mentioned = {name for page in PAGES for name in COMMAND.findall(page.read_text(encoding="utf-8"))}
    assert {"run", "dev"} <= commands
    assert mentioned - commands == set()
