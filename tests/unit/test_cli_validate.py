"""What `validate` prints for people and for other programs: text, JSON, SARIF, GitHub's workflow commands."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from engine.core.diagnostics import Diagnostic, Position, Severity
from engine.core.spec.codes import CODES
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from engine.source.reports import FileFindings, github_commands, sarif_log

GOOD = "name: good\nmain:\n  - evaluate: 1\n"
DOUBTFUL = "name: doubtful\nmain:\n  - evaluate: _.price * 2\n"
BROKEN = "name: broken\nmain:\n  - promt: hello\n  - evaluate: $ nmae\n"


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("good", GOOD), ("doubtful", DOUBTFUL), ("broken", BROKEN)):
        (tmp_path / f"{name}.yaml").write_text(text)


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def check_sarif(log: dict[str, Any]) -> list[dict[str, Any]]:
    """Check what SARIF 2.1.0 demands of the parts that we write; return the results."""
    assert set(log) == {"$schema", "version", "runs"}
    assert log["version"] == "2.1.0"
    (run,) = log["runs"]
    assert set(run) == {"tool", "columnKind", "results"}
    assert run["columnKind"] in ("utf16CodeUnits", "unicodeCodePoints")
    driver = run["tool"]["driver"]
    assert isinstance(driver["name"], str)
    rules = driver["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule["defaultConfiguration"]["level"] in ("none", "note", "warning", "error")
        assert all(rule[member]["text"] for member in ("shortDescription", "fullDescription", "help"))
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["level"] in ("none", "note", "warning", "error")
        assert result["message"]["text"]
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert not set(place["artifactLocation"]["uri"]) & set(' \\"<>^`{|}')
        assert all(place["region"][member] >= 1 for member in ("startLine", "startColumn"))
        assert all(item["fullyQualifiedName"] for item in location.get("logicalLocations", []))
    results: list[dict[str, Any]] = run["results"]
    return results


def test_sarif_has_a_rule_for_every_code_and_a_result_for_every_finding(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "good.yaml", "doubtful.yaml", "broken.yaml", "-o", "sarif"]) == Exit.USAGE
    log = printed(capsys)
    results = check_sarif(log)
    assert [rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]] == list(CODES)
    assert [(result["ruleId"], result["level"]) for result in results] == [
        ("W601", "warning"),
        ("E206", "error"),
        ("E401", "error"),
    ]
    place = results[1]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"] == {"uri": "broken.yaml", "uriBaseId": "%SRCROOT%"}
    assert place["region"] == {"startLine": 3, "startColumn": 5}
    assert results[1]["message"]["text"] == "'promt' is not a kind of step\ndid you mean 'prompt'?"


def test_sarif_of_valid_files_has_no_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "good.yaml", "-o", "sarif"]) == Exit.OK
    assert check_sarif(printed(capsys)) == []


@pytest.mark.parametrize(
    ("file", "location"),
    [
        ("./tasks/my task.yaml", {"uri": "tasks/my%20task.yaml", "uriBaseId": "%SRCROOT%"}),
        ("../grüße#1.yaml", {"uri": "../gr%C3%BC%C3%9Fe%231.yaml", "uriBaseId": "%SRCROOT%"}),
        ("/srv/a b.yaml", {"uri": "file:///srv/a%20b.yaml"}),
    ],
)
def test_sarif_writes_file_names_as_uris(file: str, location: dict[str, str]) -> None:
    log = sarif_log([FileFindings(file, [Diagnostic("E104", "two documents")])], version="1.0.0")
    (result,) = check_sarif(log)
    assert result["locations"][0]["physicalLocation"]["artifactLocation"] == location


def test_github_gets_one_command_a_finding_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "good.yaml", "doubtful.yaml", "broken.yaml", "-o", "github"]) == Exit.USAGE
    assert capsys.readouterr().out.splitlines() == [
        "::warning file=doubtful.yaml,line=3,col=15,title=W601::the text '_.price * 2' looks like an expression, "
        "but stands for itself%0Awrite `$ _.price * 2` if it is one",
        "::error file=broken.yaml,line=3,col=5,title=E206::'promt' is not a kind of step%0Adid you mean 'prompt'?",
        "::error file=broken.yaml,line=4,col=17,title=E401::unknown name 'nmae'",
    ]


def test_github_is_told_places_from_the_top_of_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    (tmp_path / "tasks").mkdir()
    monkeypatch.chdir(tmp_path / "tasks")
    (tmp_path / "tasks" / "here.yaml").write_text(BROKEN)
    assert run_command(["validate", "here.yaml", "-o", "github"]) == Exit.USAGE
    assert capsys.readouterr().out.startswith("::error file=tasks/here.yaml,line=3,")
    assert run_command(["validate", "here.yaml", "-o", "sarif"]) == Exit.USAGE
    place = check_sarif(printed(capsys))[0]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "tasks/here.yaml"


def test_github_commands_cannot_be_broken_out_of() -> None:
    found = Diagnostic("E201", "100% wrong\r\n::error::forged", Position(1, 2), "", Severity.ERROR)
    assert github_commands([FileFindings("a,b:c%.yaml", [found])]) == [
        "::error file=a%2Cb%3Ac%25.yaml,line=1,col=2,title=E201::100%25 wrong%0D%0A::error::forged"
    ]


def test_json_says_of_each_file_whether_it_is_valid(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "good.yaml", "broken.yaml", "-o", "json"]) == Exit.USAGE
    body = printed(capsys)
    assert body["valid"] is False
    assert body["files"] == [
        {"file": "good.yaml", "valid": True, "task": "good"},
        {"file": "broken.yaml", "valid": False, "task": None},
    ]
    assert {item["file"] for item in body["diagnostics"]} == {"broken.yaml"}


def test_warnings_alone_are_no_reason_to_fail(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["validate", "doubtful.yaml"]) == Exit.OK
    out = capsys.readouterr().out
    assert "doubtful.yaml:3:15: warning[W601]" in out
    assert "doubtful.yaml: task 'doubtful' is valid (1 step)" in out


def test_folders_are_searched_and_files_that_are_no_tasks_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inner = tmp_path / "tasks" / "inner"
    inner.mkdir(parents=True)
    (inner / "one.yaml").write_text(GOOD)
    (tmp_path / "tasks" / "settings.json").write_text('{"port": 1}')
    assert run_command(["validate", "tasks", "broken.yaml"]) == Exit.USAGE
    out = capsys.readouterr().out
    assert "tasks/inner/one.yaml: task 'good' is valid" in out
    assert "broken.yaml:3:5: error[E206]" in out
    assert "settings.json" not in out


def test_a_folder_without_tasks_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert run_command(["validate", "empty"]) == Exit.USAGE
    assert "there is no task file in empty" in capsys.readouterr().err


def test_the_project_file_beside_a_task_counts_before_the_one_here(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (tmp_path / "everstep.toml").write_text("")
    (other / "everstep.toml").write_text('[tools]\nmodules = ["tools.py"]\n')
    (other / "tools.py").write_text(
        'from engine import tool\n\n\n@tool(effect="none")\ndef here() -> int:\n    """Say one."""\n    return 1\n'
    )
    (other / "task.yaml").write_text("name: t\nmain: [{tool: here}]\n")
    assert run_command(["validate", "other/task.yaml"]) == Exit.OK
    (other / "everstep.toml").unlink()
    assert run_command(["validate", "other/task.yaml"]) == Exit.USAGE, "the one here knows no tools"
    assert "here" in capsys.readouterr().out


def test_tasks_of_one_name_are_told_of_since_apply_refuses_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.yaml").write_text(GOOD)
    assert run_command(["validate", "set"]) == Exit.OK
    assert capsys.readouterr().err == ""
    (tmp_path / "set" / "b.yaml").write_text(GOOD)
    assert run_command(["validate", "set", "-o", "json"]) == Exit.OK
    shown = capsys.readouterr()
    assert json.loads(shown.out)["valid"] is True
    expected = "warning: set/a.yaml and set/b.yaml are all called 'good'; `everstep apply` refuses them together\n"
    assert shown.err == expected
