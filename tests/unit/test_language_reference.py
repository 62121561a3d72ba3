"""The language reference is true and whole: its examples give what it says, and no word of the language is missing."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from activities.tools.http_request import HttpCall
from engine.control.compiling import compile_text
from engine.core.lang.reference.entries import entries
from engine.core.plan.planned import planned_only
from engine.core.spec import vocabulary
from engine.core.values import canonical_json
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from engine.reference.book import ENTRIES, SECTIONS, entries_of, find_entries
from engine.reference.entry import Entry, Example, Failure, Group
from engine.reference.members import members_of
from engine.reference.walkthrough import FILES
from engine.settings import Project
from engine.testing.checks import evaluate
from engine.testing.running import TaskRun
from engine.testing.suite import run_file
from tests.support.reference import run_example

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [
    pytest.param(item, id=f"{entry.group} {entry.name} {number}")
    for entry in ENTRIES
    for number, item in enumerate(entry.examples)
]
PROVEN = [
    pytest.param(item, id=f"{entry.group} {entry.name} {item.code}")
    for entry in ENTRIES
    for item in entry.failures
    if item.proof is not None
]
UNPROVEN = [item for entry in ENTRIES for item in entry.failures if item.proof is None]
PAGES = [ROOT / "docs" / "language.md", *sorted((ROOT / "docs" / "language").glob("*.md"))]


def _seen(run: TaskRun) -> dict[str, Any]:
    return {
        "result": run.output,
        "error": run.error,
        "status": run.status,
        "seconds": run.seconds,
        "steps": run.steps,
        "calls": run.calls,
        "trace": run.trace,
        "waits": run.waits,
    }


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_gives_what_the_reference_says(example: Example) -> None:
    if example.is_later:
        compiled = compile_text(example.task, contracts={})
        assert {item.code for item in compiled.warnings} == {"W614"}
        assert list(planned_only(compiled.plan))
        return
    run = run_example(example)
    assert run.problems == []
    if example.error:
        assert run.error is not None
        assert run.error["code"] == example.error
    elif example.waits:
        assert [wait["label"] or wait["wait_id"] for wait in run.waits] == list(example.waits)
    else:
        assert run.status == "succeeded", run.summary()
        # 1 and 1.0 are equal, but not the same JSON
        assert canonical_json(run.output) == canonical_json(example.output)
    for source, value in example.seen:
        assert canonical_json(evaluate(source, _seen(run))) == canonical_json(value)


@pytest.mark.parametrize("found", PROVEN)
def test_an_error_of_the_reference_comes_when_it_says(found: Failure) -> None:
    assert found.proof is not None
    run = run_example(found.proof)
    assert run.problems == []
    assert run.error is not None, run.summary()
    assert run.error["code"] == found.code


def test_errors_that_no_example_shows_come_from_calls_and_workers() -> None:
    sources = [
        *(ROOT / "activities").rglob("*.py"),
        *(ROOT / "engine/core/contracts").glob("*.py"),
        ROOT / "engine/core/run/children.py",
        ROOT / "engine/control/guard.py",
        ROOT / "engine/control/versions.py",
        ROOT / "engine/store/docqueries.py",
    ]
    code = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    assert [item.code for item in UNPROVEN if f'"{item.code}"' not in code] == []


def test_every_word_of_the_language_has_an_entry_with_an_example() -> None:
    assert {entry.name for entry in entries_of(Group.KIND)} == {*vocabulary.MARKERS, *vocabulary.LATER_KINDS}
    assert {entry.name for entry in entries_of(Group.MODIFIER)} == set(vocabulary.MODIFIERS)
    assert {entry.name for entry in entries_of(Group.KEY)} == set(vocabulary.TASK_KEYS)
    kinds = {"python", "api_call", "function", "integration", "system", "task"}
    assert {entry.name for entry in entries_of(Group.TOOL)} == kinds
    assert [entry.name for entry in ENTRIES if not entry.examples] == []


def test_what_is_said_to_come_later_is_what_does_not_run() -> None:
    later = {entry.name for entry in ENTRIES if entry.is_later}
    assert later == {entry.name for entry in ENTRIES if all(item.is_later for item in entry.examples)}
    assert later == {entry.name for entry in SECTIONS.get("Later", ())}


def test_the_defaults_of_a_request_are_those_of_the_adapter_that_sends_it() -> None:
    shown = {row.name.removeprefix("api_call."): row.default for row in members_of(find_entries("api_call")[0])}
    sent = HttpCall(url="http://127.0.0.1")
    assert shown["method"] == sent.method
    assert shown["follow_redirects"] == str(sent.follow_redirects).lower()
    assert shown["include_response_content"] == str(sent.include_response_content).lower()


def test_no_word_stands_twice_in_its_group() -> None:
    assert len({(entry.group, entry.name) for entry in ENTRIES}) == len(ENTRIES)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: f"{entry.group} {entry.name}")
def test_an_entry_is_complete(entry: Entry) -> None:
    assert [text for text in (entry.purpose, *entry.notes) if not text.endswith(".")] == []
    assert [name for name in entry.see if not find_entries(name)] == []
    rows = members_of(entry)
    assert [row.name for row in rows if not row.meaning or not row.type] == []
    if entry.group is Group.KIND:
        kind = vocabulary.MARKERS[entry.name]
        # the oldest clients write `info` beside `kind_: wait_for_input`
        keys = [key for key in vocabulary.KEYS[kind] if (entry.name, key) != ("wait_for_input", "info")]
        assert [row.name for row in rows if not re.search(r"[.\[]", row.name)] == keys
        assert entry.output


def test_every_example_stands_on_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    examples = [item for entry in ENTRIES for item in entry.examples]
    assert [item.task for item in examples if f"```yaml\n{item.task}```" not in text] == []


def test_every_function_stands_on_the_page_of_expressions() -> None:
    text = (ROOT / "docs" / "expressions.md").read_text(encoding="utf-8")
    assert [entry.name for entry in entries() if entry.doc.signature.replace("|", "\\|") not in text] == []


@pytest.fixture
def walkthrough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.usefixtures("walkthrough")
def test_the_task_of_the_walk_through_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "refund.yaml"]) == Exit.OK
    assert "'refund' is valid" in capsys.readouterr().out


def test_the_tests_of_the_walk_through_pass(walkthrough: Path) -> None:
    report = run_file(walkthrough / "refund.test.yaml")
    assert [(case.case.name, [run.misses for run in case.runs]) for case in report.cases if not case.ok] == []
    assert len(report.cases) == 3


def test_the_walk_through_stands_on_the_page_as_it_is_tested() -> None:
    text = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    assert [name for name, file in FILES.items() if file.rstrip() not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_the_pages_show_of_everstep_toml_is_valid(page: Path) -> None:
    for text in re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        assert Project.model_validate(tomllib.loads(text)).tools.modules == ["tools.py"]


@pytest.mark.parametrize("word", ["while", "retry", "limits", "api_call", "error"])
def test_a_word_is_explained_in_the_terminal(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", word]) == Exit.OK
    out = capsys.readouterr().out
    entry = find_entries(word)[0]
    assert out.startswith(f"{word}: a")
    assert "](" not in out
    assert entry.examples[0].task.splitlines()[0] in out


def test_a_function_is_explained_in_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "math.sqrt"]) == Exit.OK
    assert "->" in capsys.readouterr().out
    assert run_command(["explain", "upper"]) == Exit.OK
    out = capsys.readouterr().out
    assert "methods of text" in out
    assert "filters of templates" in out


@pytest.mark.parametrize("word", list(dict.fromkeys(entry.name for entry in ENTRIES)))
def test_every_word_is_explained_to_programs_too(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", word, "-o", "json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert told["word"] == word
    assert told["entries"][0]["examples"][0]["task"] == find_entries(word)[0].examples[0].task


def test_a_misspelt_word_is_not_found_and_a_near_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "whlie"]) == Exit.NOT_FOUND
    assert "did you mean 'while'?" in capsys.readouterr().err
