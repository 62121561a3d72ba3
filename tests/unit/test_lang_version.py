"""What the library gives and what it costs stays the same as long as its version does, so that replays agree.

Results and fuel decide what a running execution does next. Who changes either raises STDLIB_VERSION and runs this file
with EVERSTEP_UPDATE_GOLDEN=1; a new function only adds lines.
"""

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any

from engine.core.lang.context import EvalContext, Fuel
from engine.core.lang.expression import compile_expression
from engine.core.lang.reference.entries import entries
from engine.core.lang.template import compile_template
from engine.core.plan.ir import STDLIB_VERSION

STORED = Path(__file__).with_suffix(".json")
UPDATE = os.environ.get("EVERSTEP_UPDATE_GOLDEN") == "1"


def measure(source: str, is_template: bool) -> list[Any]:
    """Return the result of an example and the fuel it took."""
    fuel = Fuel()
    context = EvalContext(dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "seed", fuel)
    result = (
        compile_template(source).render({}, context)
        if is_template
        else compile_expression(source).evaluate({}, context)
    )
    return [result, fuel.limit - fuel.left]


def test_results_and_prices_are_those_of_the_version():
    found = {entry.doc.example: measure(entry.doc.example, entry.is_template) for entry in entries()}
    if UPDATE:
        lines = [f"{json.dumps(key)}: {json.dumps(found[key])}" for key in sorted(found)]
        body = ",\n".join([f'"STDLIB_VERSION": {STDLIB_VERSION}', *lines])
        STORED.write_text(f"{{\n{body}\n}}\n", encoding="utf-8")
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert stored.pop("STDLIB_VERSION") == STDLIB_VERSION
    assert {key: value for key, value in found.items() if key in stored} == stored
    assert sorted(found) == sorted(stored), "new or changed examples: run with EVERSTEP_UPDATE_GOLDEN=1"
