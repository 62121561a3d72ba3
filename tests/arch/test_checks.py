"""Types, lint, format and golden rules hold for the whole tree, in `make test` as in `make check`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("command", ["mypy", "ruff check .", "ruff format --check ."])
def test_the_checks_of_make_check_pass(command: str) -> None:
    program, *arguments = command.split()
    ran = subprocess.run(
        [str(Path(sys.executable).parent / program), *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
