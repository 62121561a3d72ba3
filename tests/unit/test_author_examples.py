"""What the documents and the examples show of the author API runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import engine
from engine.core.spec import vocabulary
from engine.source.python_reader import read_python, read_python_task
from engine.testing import run_task

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def test_the_task_of_the_page_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "task.py"
    path.write_text(code, encoding="utf-8")
    (tmp_path / "everstep.toml").write_text('[tools]\nmodules = ["task.py"]\n', encoding="utf-8")
    (task,) = read_python(path)
    assert task.name == "read_ticket"
    run = run_task(
        path,
        {"customer": "Ada", "text": "It burns!"},
        replies={"reading": {"subject": "Fire", "urgent": True}},
        run_tools=["find_customer"],
        project=tmp_path / "everstep.toml",
    )
    assert run.result == {"queue": "now", "subject": "Fire"}


def test_the_page_names_every_function_and_every_kind_of_step() -> None:
    table = PAGE[PAGE.index("## Steps") :]
    functions = set(re.findall(r"\b([a-z_]+)\(", table))
    made_of_words = {name for name in engine.__all__ if name[0].islower()}
    assert made_of_words - functions <= {"expr", "tool"}
    later = set(vocabulary.LATER_KINDS)
    assert [marker for marker in vocabulary.MARKERS if f"`{marker}" not in table and marker not in later] == []


def test_the_example_takes_its_own_tool() -> None:
    folder = ROOT / "examples" / "python_task"
    task = read_python_task(folder / "task.py")
    assert task.name == "refund"
    run = run_task(
        folder / "task.py",
        {"customer": "Ada", "text": "The lamp came broken."},
        replies={"claim": {"reason": "broken lamp", "amount": 80}},
        run_tools=["refund_limit"],
        project=folder / "everstep.toml",
    )
    assert run.result["decision"] == {"approved": True, "reason": "below the limit"}
