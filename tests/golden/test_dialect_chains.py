"""Golden files of contenox chains: each folder holds a chain and what is made of it, plan and diagnostics.

Chains have their own test because of the tools of their services; as tasks they have one diagnostic more (W614). They
are renewed as all golden files are.
"""

from __future__ import annotations

import difflib
import json
from pathlib import Path

import pytest

from engine.core.diagnostics import render_diagnostics
from engine.core.plan.chains import compile_chain
from engine.core.plan.codec import plan_from_json, plan_hash, plan_to_json
from engine.core.plan.ir import ToolContract
from engine.core.spec.dialects.contenox_read import read_chain
from engine.source.parse import parse_source
from tests.golden.cases import AGENT, FOLDER
from tests.golden.test_golden import UPDATE

CASES = sorted(path.parent.name for path in FOLDER.glob("*/chain.yaml"))
CONTRACTS = {
    name: ToolContract(name, "python", description=f"The tool {name}.")
    for name in ("crm.open", "crm.find", "crm.delete")
}


def produce(folder: Path) -> dict[str, str]:
    """Return the files that the compiler makes of a folder's chain, by name; no plan if there are errors."""
    text = (folder / "chain.yaml").read_text(encoding="utf-8")
    spec, read = read_chain(parse_source(text, "chain.yaml"))
    plan, made = compile_chain(spec, contracts=CONTRACTS, agent=AGENT)
    files: dict[str, str] = {}
    found = [*read.items, *made.items]
    if found:
        files["diagnostics.txt"] = render_diagnostics(found, file="chain.yaml", source=text) + "\n"
    if not (read.errors or made.errors):
        body = plan_to_json(plan)
        assert plan_from_json(body) == plan
        files["plan.json"] = json.dumps(body, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        files["plan.hash"] = plan_hash(plan) + "\n"
    return files


@pytest.mark.parametrize("name", CASES)
def test_the_compiler_makes_of_a_chain_what_the_golden_files_say(name: str) -> None:
    folder = FOLDER / name
    made = produce(folder)
    if UPDATE:
        for stale in ("plan.json", "plan.hash", "diagnostics.txt"):
            (folder / stale).unlink(missing_ok=True)
        for file, text in made.items():
            (folder / file).write_text(text, encoding="utf-8")
    stored = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.name != "chain.yaml"}
    assert sorted(made) == sorted(stored)
    for file, text in made.items():
        diff = "\n".join(difflib.unified_diff(stored[file].split("\n"), text.split("\n"), "golden", "now", lineterm=""))
        assert not diff, f"{name}/{file} has changed:\n{diff}"
