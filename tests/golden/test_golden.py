"""Golden files: each folder holds a task and what the compiler must make of it, plan or diagnostics.

After a wanted change run `EVERSTEP_UPDATE_GOLDEN=1 pytest tests/golden`, look at the diff, and say in the commit why
it moved.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

import pytest

from engine.control.compiling import compile_text
from engine.core.diagnostics import render_diagnostics
from engine.core.errors import DefinitionError
from engine.core.plan.codec import plan_hash, plan_to_json
from engine.core.spec.codes import CODES
from tests.golden.cases import AGENT, CONTRACTS, FOLDER

CASES = sorted(path.parent.name for path in FOLDER.glob("*/task.*"))
UPDATE = os.environ.get("EVERSTEP_UPDATE_GOLDEN") == "1"


def produce(folder: Path) -> dict[str, str]:
    """Return the files that the compiler makes of a folder's task, by name."""
    (source,) = folder.glob("task.*")
    text = source.read_text(encoding="utf-8")
    try:
        compiled = compile_text(text, file=source.name, contracts=CONTRACTS, agent=AGENT)
    except DefinitionError as error:
        return {"diagnostics.txt": error.render() + "\n"}
    plan = json.dumps(plan_to_json(compiled.plan), indent=2, sort_keys=True, ensure_ascii=False)
    files = {"plan.json": plan + "\n", "plan.hash": plan_hash(compiled.plan) + "\n"}
    if compiled.warnings:
        files["diagnostics.txt"] = render_diagnostics(compiled.warnings, file=source.name, source=text) + "\n"
    return files


@pytest.mark.parametrize("name", CASES)
def test_the_compiler_makes_of_a_task_what_the_golden_files_say(name: str) -> None:
    folder = FOLDER / name
    made = produce(folder)
    if UPDATE:
        for stale in ("plan.json", "plan.hash", "diagnostics.txt"):
            (folder / stale).unlink(missing_ok=True)
        for file, text in made.items():
            (folder / file).write_text(text, encoding="utf-8")
    stored = {
        path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if not path.name.startswith("task.")
    }
    assert sorted(made) == sorted(stored)
    for file, text in made.items():
        diff = "\n".join(difflib.unified_diff(stored[file].split("\n"), text.split("\n"), "golden", "now", lineterm=""))
        assert not diff, f"{name}/{file} has changed:\n{diff}"


def test_every_code_has_a_golden_case_that_shows_it() -> None:
    shown = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*/diagnostics.txt"))
    # these need sources of many thousand lines or bytes that are no text; tests/unit covers them
    elsewhere = {"E105", "E106", "E101", "E507"}
    assert [code for code in CODES if f"[{code}]" not in shown and code not in elsewhere] == []
