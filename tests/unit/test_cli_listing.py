"""What `ls` and `usage` make of their options before they ask the server."""

from __future__ import annotations

import datetime as dt

import pytest

from engine.core.errors import InvalidInput
from engine.edge.cli.exits import Exit
from engine.edge.cli.listing import took
from engine.edge.cli.main import run_command
from engine.edge.cli.values import metadata_of, point_in_time


@pytest.mark.parametrize(
    ("text", "ago"),
    [
        ("90s", dt.timedelta(seconds=90)),
        ("2h", dt.timedelta(hours=2)),
        ("1d 12h", dt.timedelta(hours=36)),
        ("1w", dt.timedelta(weeks=1)),
    ],
)
def test_a_span_is_so_long_ago(text: str, ago: dt.timedelta) -> None:
    before = dt.datetime.now(dt.UTC)
    found = dt.datetime.fromisoformat(point_in_time(text, option="--since"))
    after = dt.datetime.now(dt.UTC)
    assert before - ago <= found <= after - ago


def test_a_time_is_sent_in_utc_and_one_without_an_offset_is_local() -> None:
    assert point_in_time("2026-11-22T10:00:00+02:00", option="--since") == "2026-11-22T08:00:00Z"
    local = dt.datetime(2026, 11, 22, 10).astimezone(dt.UTC)
    assert point_in_time("2026-11-22T10:00", option="--since") == local.isoformat().replace("+00:00", "Z")
    assert point_in_time("", option="--since") == ""


@pytest.mark.parametrize("text", ["soon", "2 hours", "5", "99999999999999w", "2026-13-01", "2h later"])
def test_what_is_no_time_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidInput, match="--until") as caught:
        point_in_time(text, option="--until")
    assert "2h" in caught.value.hint


@pytest.mark.parametrize("words", [["--meta", "x"], ["--meta", "=x"], ["--since", "soon"], ["--sort", "odd"]])
def test_a_wrong_option_is_refused_before_anybody_is_asked(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    # port 9 of loopback is the discard service, which nobody runs: asking would be another error
    assert run_command(["ls", *words, "--address", "http://127.0.0.1:9"]) == Exit.USAGE
    assert capsys.readouterr().err.startswith("error[usage]: ")


def test_what_has_not_ended_took_nothing_yet() -> None:
    view = {"created_at": "2026-11-22T08:00:00Z", "closed_at": None}
    assert took(view) == "-"
    assert took({**view, "closed_at": "2026-11-22T08:01:05Z"}) == "1 min 05 s"


def test_metadata_is_an_object_and_what_pairs_add_to_it() -> None:
    assert metadata_of((), None) == {}
    assert metadata_of(("a=1", "b=x=y", "c.d=true", "c.e="), '{"c": {"f": null}}') == {
        "a": 1,
        "b": "x=y",
        "c": {"d": True, "e": "", "f": None},
    }


@pytest.mark.parametrize(("pairs", "text"), [((), "[1]"), ((), "{"), (("x",), None), (("a=1", "a.b=2"), None)])
def test_what_is_no_metadata_is_refused(pairs: tuple[str, ...], text: str | None) -> None:
    with pytest.raises(InvalidInput, match="--meta"):
        metadata_of(pairs, text)
