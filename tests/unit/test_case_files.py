"""Test files of tasks: how they are read, run, judged and reported."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from engine.core.errors import DefinitionError, EngineError, InvalidInput
from engine.edge.cli.exits import Exit
from engine.edge.cli.main import run_command
from engine.testing.cases import read_cases
from engine.testing.checks import differences
from engine.testing.data import read_rows
from engine.testing.suite import CaseReport, Options, run_file

GREET = """
name: greet
input_schema: {type: object, required: [name], properties: {name: {type: string}}}
main:
  - label: ask
    prompt: "Say hello to {{ _.name }}"
    unwrap: true
  - return: {said: $ _, length: $ len(_)}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "greet.yaml").write_text(GREET)
    return tmp_path


def write(text: str, name: str = "greet.test.yaml") -> Path:
    Path(name).write_text(text)
    return Path(name)


def only(text: str, **options: Any) -> CaseReport:
    """Run a file of one case."""
    (case,) = run_file(write(text), Options(**options)).cases
    return case


def misses(text: str) -> list[tuple[str, str, str]]:
    """Run a file of one case and return what was not as expected."""
    report = only(text)
    assert report.ok == (not report.runs[0].misses)
    return [(miss.what, miss.expected, miss.got) for miss in report.runs[0].misses]


def case(body: str) -> str:
    lines = [f"    {line}" for line in body.strip("\n").splitlines()]
    return "\n".join(["cases:", "  - name: one", "    input: {name: Ada}", "    replies: {ask: Hi}", *lines, ""])


# --- judging -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expect",
    [
        "expect: {output: {said: Hi, length: 2}}",
        "expect: {contains: {length: 2}}",
        "expect: {calls: [ask], status: succeeded}",
        "expect: {assert: [result.length == 2, \"$ steps['ask'] == 'Hi'\", input.name == 'Ada', len(trace) == 5]}",
        "",
    ],
)
def test_a_case_passes_when_all_is_as_expected(expect: str) -> None:
    assert misses(case(expect)) == []


@pytest.mark.parametrize(
    ("expect", "missed"),
    [
        ("{output: {said: Ho, length: 2}}", ("output.said", '"Ho"', '"Hi"')),
        ("{output: {said: Hi}}", ("output.length", "nothing", "2")),
        ("{contains: {more: 1}}", ("output.more", "1", "nothing")),
        ("{contains: {length: true}}", ("output.length", "true", "2")),
        ("{calls: [ask, ask]}", ("calls", '["ask","ask"]', '["ask"]')),
        ("{status: failed}", ("status", "failed", "succeeded")),
        ("{error: task.error}", ("error", '"task.error"', 'succeeded with {"said":"Hi","length":2}')),
        ("{waits: [sure]}", ("status", "waiting", "succeeded")),
        ("{assert: result.length == 3}", ("result.length == 3", "true", "result.length = 2")),
        (
            "{assert: \"result.length == 2 and 'x' in result.said\"}",
            (
                "result.length == 2 and 'x' in result.said",
                "true",
                "`'x' in result.said` is false; result.said = \"Hi\"",
            ),
        ),
        ("{assert: not result}", ("not result", "true", 'result = {"said":"Hi","length":2}')),
        ("{assert: result.nothing}", ("result.nothing", "true", "error[expression.no_key]: ")),
    ],
)
def test_a_miss_tells_what_was_expected_and_what_came(expect: str, missed: tuple[str, str, str]) -> None:
    found = misses(case(f"expect: {expect}"))
    what, expected, got = found[0]
    assert (what, expected) == missed[:2]
    assert got.startswith(missed[2])


@pytest.mark.parametrize("error", ["input", "input.invalid", "{code: input.invalid}"])
def test_an_expected_error_is_named_by_its_code_or_the_first_words_of_it(error: str) -> None:
    assert misses(f"cases:\n  - expect: {{error: {error}}}\n") == []


def test_another_error_than_the_expected_one_is_a_miss() -> None:
    text = "cases:\n  - input: {name: A}\n    replies: {ask: {$error: backend.refused}}\n    expect: {error: tool}\n"
    assert misses(text) == [("error.code", "tool", "backend.refused: scripted backend.refused")]


def test_a_failure_nobody_expected_is_a_miss_with_its_place() -> None:
    text = "cases:\n  - input: {name: A}\n    replies: {ask: {$error: backend.refused}}\n"
    assert misses(text) == [
        ("status", "succeeded", "failed at main.0: error[backend.refused]: scripted backend.refused")
    ]


def test_an_unused_reply_and_a_missing_one_fail_the_case() -> None:
    text = "cases:\n  - input: {name: A}\n    replies: {asc: Hi}\n    expect: {error: test.no_reply}\n"
    assert [got for _, _, got in misses(text)] == [
        "prompt 'ask' at main.0 has no reply",
        "the reply 'asc' was never asked for; did you mean 'ask'?",
    ]


def test_that_nothing_waits_is_expected_of_a_case_that_succeeds() -> None:
    assert misses(case("expect: {waits: []}")) == []
    assert [miss[:2] for miss in misses(case("expect: {waits: [], status: waiting}"))] == [("status", "waiting")]


ROWS = """
cases:
  - name: many
    data:
      - {name: first, input: {name: Ada}, replies: {ask: Hi}}
      - {name: Second one, input: {name: Eve}, replies: {ask: Ho}}
      - {name: second two, input: {name: Eve}, replies: {ask: Ho}}
    expect: {contains: {said: Ho}}
  - {name: single, input: {name: Ada}, replies: {ask: Hi}}
"""


@pytest.mark.parametrize(
    ("match", "ran"),
    [
        ("second", [("many", ["Second one", "second two"])]),
        ("many", [("many", ["first", "Second one", "second two"])]),
        ("single", [("single", [""])]),
        ("nothing", []),
    ],
)
def test_a_text_chooses_cases_by_their_names_or_rows_by_theirs(match: str, ran: list[Any]) -> None:
    report = run_file(write(ROWS), Options(match=match))
    assert [(found.case.name, [run.name for run in found.runs]) for found in report.cases] == ran


def test_a_case_whose_data_has_no_rows_does_not_pass_unseen() -> None:
    assert not only("cases:\n  - {name: empty, data: []}\n").ok


def test_the_pass_rate_counts_the_rows_that_were_chosen() -> None:
    (found,) = run_file(write(ROWS), Options(match="second")).cases
    assert (found.passed, found.needed, found.ok) == (2, 2, True)
    (found,) = run_file(write(ROWS), Options(match="first")).cases
    assert (found.passed, found.needed, found.ok) == (0, 1, False)


def test_differences_are_told_at_their_places_and_not_without_end() -> None:
    at = read_cases(write(case(""))).cases[0].position
    found = differences({"a": [1, {"b": 2}]}, {"a": [1, {"b": 3}]}, "output", at)
    assert [(miss.what, miss.expected, miss.got) for miss in found] == [("output.a[1].b", "2", "3")]
    assert len(differences(list(range(50)), list(range(1, 51)), "output", at)) == 10
    assert differences([1], [1, 2], "output", at)[0].got == "2 items: [1,2]"


# --- replies of the file, repetition, data -------------------------------------------------------------------------


def test_replies_of_the_file_are_for_all_cases_and_a_cases_own_go_before_them() -> None:
    text = """
replies: {ask: shared, other: unused}
cases:
  - {input: {name: A}, expect: {contains: {said: shared}}}
  - {input: {name: A}, replies: {ask: own}, expect: {contains: {said: own}}}
"""
    assert run_file(write(text)).ok


@pytest.mark.parametrize(("needed", "ok"), [(3, True), (4, False)])
def test_k_of_n_runs_must_pass(needed: int, ok: bool) -> None:
    # every run starts with the same script, so the rows differ and not the runs
    text = f"""
cases:
  - data: [{{name: a}}, {{name: b}}, {{name: c}}, {{name: d, input: {{name: x}}, replies: {{ask: no}}}}]
    input: {{name: $ row.name}}
    replies: {{ask: Hi}}
    expect: {{contains: {{said: Hi}}}}
    pass_rate: {needed / 4}
"""
    report = only(text)
    assert (report.passed, report.needed, report.ok) == (3, needed, ok)


def test_a_case_is_repeated_and_all_runs_must_pass_unless_it_says_how_many() -> None:
    report = only(case("repeat: 3\nexpect: {contains: {said: Ho}}"))
    assert (len(report.runs), report.ok) == (3, False)
    assert [run.name for run in report.runs] == ["run 1", "run 2", "run 3"]


def test_rows_give_inputs_replies_and_expected_values() -> None:
    text = """
cases:
  - name: rows
    data:
      - {name: first, input: {name: Ada}, expected: {said: Hi Ada, length: 6}}
      - {name: wrong, input: {}, error: input.invalid}
      - {expected: {said: Hi Bob, length: 6}, input: {name: Bob}}
    replies: {ask: "Hi {{ row.input.name | default('nobody') }}"}
"""
    report = only(text)
    assert [run.misses for run in report.runs] == [[], [], []]
    assert [run.name for run in report.runs] == ["first", "wrong", "row 3"]


def test_assertions_see_the_row_and_what_it_expects() -> None:
    text = """
cases:
  - data: [{input: {name: A}, expected: 2}, {input: {name: B}, expected: 3}]
    replies: {ask: Hi}
    expect: {assert: "result.length == expected and row.input.name in calls[0].request.messages[0].content"}
"""
    report = only(text)
    assert [len(run.misses) for run in report.runs] == [0, 1]


def test_data_files_hold_json_lines_json_or_csv(folder: Path) -> None:
    (folder / "rows.jsonl").write_text('{"input": {"name": "A"}, "expected": 1}\n\n"plain"\n')
    (folder / "rows.json").write_text('[{"name": "A"}]')
    (folder / "rows.csv").write_text('input.name,input.age,expected.ok,note\n"A, B",7,true,01\n')
    lines = read_rows(folder / "rows.jsonl")
    assert [row.given for row in lines] == [{"name": "A"}, "plain"]
    assert lines[1].place.endswith("rows.jsonl:3")
    assert read_rows(folder / "rows.json")[0].values == {"name": "A"}
    (row,) = read_rows(folder / "rows.csv")
    assert row.values == {"input": {"name": "A, B", "age": 7}, "expected": {"ok": True}, "note": "01"}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"a": 1}\n{"a": \n', "a.jsonl:2: is not JSON"),
        ("a.json", "{}", "a.json: is not a list"),
        ("a.csv", "a,b\n1\n", "a.csv:2: has fewer cells"),
        ("a.csv", "a,b\n1,2,3\n", "a.csv:2: has more cells"),
        ("a.csv", "a,a.b\n1,2\n", "a.csv:2: has a column 'a' and a column 'a.b'"),
        ("a.jsonl", "\n", "a.jsonl: has no rows"),
    ],
)
def test_a_wrong_data_file_is_told_with_its_line(folder: Path, name: str, text: str, said: str) -> None:
    (folder / name).write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_rows(folder / name)
    assert (caught.value.code, said in caught.value.message, caught.value.hint != "") == ("test.data", True, True)


def test_a_skipped_case_is_not_run() -> None:
    report = only(case("skip: not yet"))
    assert (report.ok, report.skipped, report.runs) == (True, True, [])


# --- reading -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place", "said"),
    [
        ("cases:\n  - inptu: 1\n", (2, 5), "did you mean 'input'?"),
        ("cases:\n  - expect: {outptu: 1}\n", (2, 14), "did you mean 'output'?"),
        ("case: []\n", (1, 1), "did you mean 'cases'?"),
        ("cases: []\n", (1, 8), "there are no cases"),
        ("cases:\n  - text\n", (2, 5), "a case is text"),
        ("cases:\n  - replies: {ask: {$eror: x}}\n", (2, 21), "did you mean '$error'?"),
        ("cases:\n  - expect: {assert: 'result +'}\n", (2, 0), "E301"),
        ("cases:\n  - expect: {assert: 'resutl == 1'}\n", (2, 23), "resutl"),
        ("cases:\n  - expect: {status: done}\n", (2, 22), "must be one of succeeded, failed"),
        ("cases:\n  - {repeat: 3, pass: 4}\n", (2, 23), "must be 1 to 3"),
        ("cases:\n  - {name: a}\n  - {name: a}\n", (3, 12), "two cases are called 'a'"),
        ("- 1\n", (1, 1), "put the cases under `cases:`"),
    ],
)
def test_a_wrong_test_file_is_told_with_line_and_column(text: str, place: tuple[int, int], said: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read_cases(write(text))
    error = caught.value
    assert error.code == "test.invalid"
    assert said in error.render()
    found = {(item.position.line, item.position.column) for item in error.diagnostics}
    assert place in found or (place[1] == 0 and place[0] in {line for line, _ in found})


@pytest.mark.parametrize(
    ("name", "text", "code"),
    [
        ("nobody.test.yaml", "cases: [{}]", "test.no_task"),
        ("greet.test.yaml", "task: nobody.yaml\ncases: [{}]", "test.no_task"),
        ("greet.test.yaml", "cases: [{data: nobody.jsonl}]", "test.data"),
    ],
)
def test_a_missing_file_is_an_error_with_a_code(name: str, text: str, code: str) -> None:
    with pytest.raises(EngineError) as caught:
        run_file(write(text, name))
    assert caught.value.code == code


def test_a_wrong_task_is_told_with_its_own_lines() -> None:
    Path("greet.yaml").write_text("name: greet\nmain:\n  - promt: hi\n")
    with pytest.raises(DefinitionError) as caught:
        run_file(write("cases: [{}]"))
    assert "greet.yaml:3:5: error[E206]" in caught.value.render()


def test_a_case_that_needs_a_recording_says_how_to_make_one() -> None:
    report = only("cases:\n  - {name: real, input: {name: A}, record: true}\n")
    assert "nothing is recorded for 'real'" in report.runs[0].misses[0].got


# --- the command ---------------------------------------------------------------------------------------------------

MIXED = """
cases:
  - {name: good, input: {name: Ada}, replies: {ask: Hi}, expect: {contains: {said: Hi}}}
  - {name: bad, input: {name: Ada}, replies: {ask: Hi}, expect: {output: {said: "<Ho>", length: 2}}}
  - {name: later, skip: no time}
"""


def test_the_command_finds_tests_and_fails_with_a_readable_report(capsys: pytest.CaptureFixture[str]) -> None:
    write(MIXED)
    assert run_command(["test"]) == Exit.FAILED
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        "greet.test.yaml",
        "  ok    good",
        "  FAIL  bad",
        "        greet.test.yaml:4:74: output.said",
        '          expected  "<Ho>"',
        '          got       "Hi"',
        "        calls: ask",
        "  skip  later (no time)",
    ]
    assert told.err.startswith("1 passed, 1 failed, 1 skipped in ")


def test_the_command_prints_json_and_junit(capsys: pytest.CaptureFixture[str]) -> None:
    write(MIXED)
    assert run_command(["test", "greet.test.yaml", "-o", "json"]) == Exit.FAILED
    body = json.loads(capsys.readouterr().out)
    assert (body["ok"], body["passed"], body["failed"], body["skipped"]) == (False, 1, 1, 1)
    assert body["files"][0]["cases"][1]["runs"][0]["misses"][0]["line"] == 4
    assert run_command(["test", "-o", "junit"]) == Exit.FAILED
    root = ET.fromstring(capsys.readouterr().out)
    assert (root.get("tests"), root.get("failures")) == ("3", "1")
    failure = root.find(".//testcase[@name='bad']/failure")
    assert failure is not None
    assert failure.get("message") == 'output.said: expected "<Ho>", got "Hi"'


def test_the_command_runs_only_cases_that_match(capsys: pytest.CaptureFixture[str]) -> None:
    write(MIXED)
    assert run_command(["test", "-k", "GOOD"]) == Exit.OK
    assert run_command(["test", "-k", "nobody"]) == Exit.USAGE
    assert "error[test.nothing]: no case is called like 'nobody'" in capsys.readouterr().err


def test_a_wrong_test_file_does_not_keep_the_others_from_being_run(capsys: pytest.CaptureFixture[str]) -> None:
    write("cases:\n  - inptu: 1\n", "a.test.yaml")
    write("task: greet.yaml\ncases:\n  - inptu: 1\n", "b.test.yaml")
    write(MIXED)
    assert run_command(["test"]) == Exit.USAGE
    told = capsys.readouterr()
    assert "error[test.no_task]" in told.err
    assert "b.test.yaml:3:5: error[E201]" in told.err
    assert "  ok    good" in told.out
    assert "1 passed, 1 failed, 1 skipped" in told.err


def test_a_case_that_passes_less_often_than_before_fails(capsys: pytest.CaptureFixture[str]) -> None:
    text = """
cases:
  - name: polite
    data: [{said: Hi}, {said: Hi}, {said: Hi}, {said: Ho}]
    input: {name: Ada}
    replies: {ask: $ row.said}
    expect: {contains: {said: Hi}}
    pass_rate: 0.5
"""
    write(text)
    assert run_command(["test", "--save-baseline", "rates.json"]) == Exit.OK
    assert run_command(["test", "--baseline", "rates.json"]) == Exit.OK
    write(text.replace("{said: Hi}, {said: Ho}]", "{said: Ho}, {said: Ho}]"))
    assert run_command(["test", "--baseline", "rates.json", "--tolerance", "0.25"]) == Exit.OK
    capsys.readouterr()
    assert run_command(["test", "--baseline", "rates.json"]) == Exit.FAILED
    assert "greet.test.yaml: polite: 50% of the runs pass, 75% passed before" in capsys.readouterr().err
    assert run_command(["test", "--baseline", "nowhere.json"]) == Exit.USAGE
    assert "error[test.baseline]" in capsys.readouterr().err


def test_the_command_refuses_a_folder_without_tests_and_a_wrong_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["test"]) == Exit.USAGE
    assert "error[test.nothing]" in capsys.readouterr().err
    write("cases:\n  - inptu: 1\n")
    assert run_command(["test"]) == Exit.USAGE
    assert "greet.test.yaml:2:5: error[E201]" in capsys.readouterr().err
    assert run_command(["test", "--record", "--live"]) == Exit.USAGE
