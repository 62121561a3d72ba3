"""The commands about the language: explain, graph, schema."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.core.spec.codes import CODES
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command

TASK = """name: small
main:
  - label: ask
    prompt: hello
  - if: _
    then: {workflow: rest}
rest: [{evaluate: 1}]
"""


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(TASK)


def test_a_code_is_explained_with_reason_and_both_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "e104"]) == Exit.OK
    out = capsys.readouterr().out
    assert out.startswith("error E104: A file holds one task; a second YAML document follows.\n\n")
    assert out.index("Wrong:\n\n    main:\n") < out.index("Right:\n\n    main:\n")


def test_without_a_code_all_are_listed_by_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(CODES)
    assert "Names and references:" in lines


def test_explanations_are_json_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "-o", "json"]) == Exit.OK
    everything = json.loads(capsys.readouterr().out)
    assert [item["code"] for item in everything] == list(CODES)
    assert all(item["why"] and item["bad"] and item["good"] for item in everything)
    assert run_command(["explain", "W601", "-o", "json"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["severity"] == "warning"


def test_the_code_of_a_run_is_explained_by_its_family(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "backend.timeout"]) == Exit.OK
    out = capsys.readouterr().out
    assert "backend.timeout ends a step" in out
    assert "can catch it with `on_error`" in out
    assert run_command(["explain", "limit.steps"]) == Exit.OK
    assert "cannot catch it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "where", "remedy"),
    [
        ("tool.failed", "`tool`", "mend the tool"),
        ("wait.expired", "`wait_for_input`, `approve`, `wait_for_event`", "give it a `default`"),
        ("expression.no_index", "every step", "test it first"),
    ],
)
def test_the_code_of_a_run_comes_with_its_remedies(
    code: str, where: str, remedy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["explain", code]) == Exit.OK
    text = " ".join(capsys.readouterr().out.split())
    assert f"at {where}: " in text
    assert f"Remedy: {remedy}" in text
    assert run_command(["explain", code, "-o", "json"]) == Exit.OK
    (told,) = json.loads(capsys.readouterr().out)["remedies"]
    assert (told["code"], told["where"]) == (code, where)


def test_a_family_of_codes_is_explained_with_all_its_remedies(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "backend"]) == Exit.OK
    out = capsys.readouterr().out
    assert "the family of the codes `backend.…`" in out
    assert "backend.timeout, at `prompt`: " in out


def test_a_misspelt_code_of_a_run_is_explained_by_its_family_and_a_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "expression.no_kei"]) == Exit.OK
    assert "did you mean 'expression.no_key'?" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "group", "see"),
    [
        ("_", "a name in expressions", "docs/language.md"),
        ("state", "a name in expressions", "docs/language.md"),
        ("steps", "a name in expressions", "docs/language.md"),
        ("input", "a name in expressions", "docs/language.md"),
        ("output", "a name in expressions", "docs/language.md"),
        ("unwrap", "a member of `prompt`, `agent`", "everstep explain prompt, everstep explain agent"),
        (
            "deadline",
            "a member of `approve`, `python`, `system`, `task`, `integration`, `function`",
            "everstep explain approve",
        ),
        ("retry.attempts", "a member of `retry`", "everstep explain retry"),
        ("on_item_error", "a member of `over`, `parallel`", "everstep explain over, everstep explain parallel"),
        ("everstep.toml", "the operator's file", "docs/language/tools.md"),
        ("default_model", "a member of everstep.toml", "docs/language/tools.md"),
        ("answer", "a command", "everstep answer --help"),
    ],
)
def test_a_word_without_an_entry_leads_to_where_it_is_explained(
    word: str, group: str, see: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["explain", word]) == Exit.OK
    out = capsys.readouterr().out
    assert f": {group}\n" in out
    assert f"See: {see}" in out


def test_a_word_with_an_entry_is_not_told_apart_into_members_of_that_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "if", "-o", "json"]) == Exit.OK
    assert [item["group"] for item in json.loads(capsys.readouterr().out)["entries"]] == ["kind"]


def test_an_unknown_word_names_a_near_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "anser"]) == Exit.NOT_FOUND
    assert "did you mean 'answer'?" in capsys.readouterr().err


def test_an_unknown_code_is_not_found_and_a_near_one_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["explain", "E1044"]) == Exit.NOT_FOUND
    assert "did you mean 'E104'?" in capsys.readouterr().err


def test_a_task_file_is_drawn_as_mermaid(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["graph", "small.yaml"]) == Exit.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == ["---", 'title: "small"', "---", "flowchart TD"]
    assert '    n_main_0("ask<br/>prompt “hello”")' in lines
    assert '  n_main_1 -->|"no"| n_main_end' in lines
    assert '  n_main_1_then_0 -.->|"runs"| n_rest_start' in lines


def test_a_task_file_is_drawn_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["graph", "small.yaml", "-o", "json"]) == Exit.OK
    drawn = json.loads(capsys.readouterr().out)
    assert drawn["task"] == "small"
    assert {"source": "main.0", "target": "main.1", "label": "", "aside": False} in drawn["edges"]


def test_a_broken_task_is_not_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "broken.yaml").write_text("main: []\n")
    assert run_command(["graph", "broken.yaml"]) == Exit.USAGE
    assert "broken.yaml:1:7: error[E208]" in capsys.readouterr().err


def test_a_task_of_a_server_that_is_not_there_is_exit_five(capsys: pytest.CaptureFixture[str]) -> None:
    # port 9 of loopback is the discard service, which nobody runs
    assert run_command(["graph", "some-task", "--address", "http://127.0.0.1:9"]) == Exit.UNREACHABLE
    assert "cannot be reached" in capsys.readouterr().err


def test_the_schema_for_editors_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["schema"]) == Exit.OK
    assert json.loads(capsys.readouterr().out)["title"] == "Everstep task"


@pytest.mark.parametrize(("word", "member"), [("math", "math.ceil"), ("re", "re.match"), ("urllib.parse", "quote")])
def test_a_module_of_expressions_is_explained_by_what_it_has(
    word: str, member: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(["explain", word]) == Exit.OK
    shown = capsys.readouterr().out
    assert f"{word}: A module that expressions know" in shown
    assert member in shown
