"""The same input gives the same bytes in every process: plans and their hashes, diagnostics, texts, results, events."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, given, seed, settings

from engine.author.yaml_writer import write_yaml
from engine.control.compiling import compile_text
from engine.core.errors import DefinitionError
from engine.core.plan.codec import plan_hash, plan_to_json
from engine.core.plan.difference import plan_difference
from engine.core.plan.reach import reach_of
from engine.core.plan.render import plan_outline
from engine.core.run.events import roll_digest
from engine.core.values import compact_json
from engine.tooling import ToolCatalog
from tests.golden.cases import FOLDER
from tests.golden.test_golden import produce
from tests.support.lab import plan_of
from tests.support.memory import TOOLS as AUTHOR_TOOLS
from tests.support.program_runs import in_memory
from tests.support.programs import TOOLS, make_program
from tests.support.task_strategies import Twin, tasks

ROOT = Path(__file__).parents[2]
HASH_SEEDS = ("1", "4242")


def lines(programs: int, drawn: int) -> Iterator[str]:
    """Yield everything that must not depend on the process, a line each.

    Args:
        programs: How many random programs are compiled and run.
        drawn: How many tasks are drawn that use the author API.
    """
    for number in range(programs):
        yield from _program(number)
    yield from _drawn(drawn)
    for folder in sorted(path.parent for path in FOLDER.glob("*/task.*")):
        yield json.dumps([folder.name, produce(folder)])


def _program(number: int) -> Iterator[str]:
    program = make_program(number, clock=False)
    plan, next_plan = plan_of(program.text, TOOLS), plan_of(make_program(number + 1, clock=False).text, TOOLS)
    # without sorting: also the order of members is part of what is stored and shown
    yield json.dumps(plan_to_json(plan))
    yield plan_hash(plan)
    yield str(plan_outline(plan))
    yield str(reach_of(plan))
    yield str(plan_difference(plan, next_plan))
    for every in (None, 2):
        run = in_memory(program, f"execution-{number}", carry_every=every)
        digest = ""
        for event in run.events:
            text = compact_json(event.body)
            digest = roll_digest(digest, event.seq, event.type, text)
            yield f"{event.seq} {event.now_us} {event.type} {text}"
        yield f"{run.finished} {digest}"


def _drawn(count: int) -> Iterator[str]:
    contracts = ToolCatalog.of(*AUTHOR_TOOLS).contracts()
    made: list[str] = []

    @seed(1)
    @settings(database=None, max_examples=count, deadline=None, phases=[Phase.generate])
    @given(tasks())
    def draw(twin: Twin) -> None:
        text = twin.python.to_yaml()
        made.extend([text, write_yaml(twin.json)])
        try:
            compiled = compile_text(text, file="twin", contracts=contracts)
        except DefinitionError as error:
            made.append(error.render())
        else:
            made.append(json.dumps([plan_to_json(compiled.plan), plan_hash(compiled.plan), str(compiled.warnings)]))

    draw()
    yield from made


def digest_of(programs: int, drawn: int) -> str:
    """Return how many lines there are, and a hash of every hundred, so that a difference has a place."""
    found = list(lines(programs, drawn))
    parts = [found[start : start + 100] for start in range(0, len(found), 100)]
    return json.dumps([len(found), *(hashlib.sha256("\n".join(part).encode()).hexdigest() for part in parts)])


@pytest.mark.timeout(900)
def test_plans_diagnostics_results_and_events_are_the_same_bytes_whatever_the_hash_seed(full: bool) -> None:
    size = (400, 300) if full else (25, 15)
    code = f"from tests.property.test_same_bytes import digest_of; print(digest_of{size})"
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for hash_seed in HASH_SEEDS
    ]
    printed = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=800)
            assert process.returncode == 0, err[-2000:]
            printed.append(out)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert len(set(printed)) == 1
    assert json.loads(printed[0])[0] > 500
