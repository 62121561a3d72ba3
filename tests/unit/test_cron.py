"""The check of crons; tests/workflow/test_authority_on_temporal.py compares it with a real Temporal server."""

from __future__ import annotations

import pytest

from engine.core.spec.cron import cron_problems, names_both_days

GOOD = [
    "* * * * *",
    "0 8 * * mon-fri",
    "*/15 0-6,22-23 1 JAN,jul *",
    "5/10 * * * *",
    "0 0 29 2 *",
    "0 0 31 1,2 *",
    "0 0 * * 7",
    "0 0 * * SUN",
    "59 23 31 12 6",
    "10-50/20 * * * *",
    "  0   8  *  *  * ",
    "@daily",
    "@hourly",
    "@weekly",
    "@monthly",
    "@yearly",
]
BAD = [
    ("", 0, "a cron has 5 fields, this one has 0"),
    ("0 8 * *", 0, "a cron has 5 fields, this one has 4"),
    ("0 0 8 * * *", 0, "a cron has 5 fields, this one has 6"),
    ("60 8 * * *", 0, "the minute '60' is outside its field"),
    ("0 24 * * *", 2, "the hour '24' is outside its field"),
    ("0 8 0 * *", 4, "the day of the month '0' is outside its field"),
    ("0 8 * 13 *", 6, "the month '13' is outside its field"),
    ("0 8 * * 8", 8, "the day of the week '8' is outside its field"),
    ("0 8 * * fry", 8, "the day of the week 'fry' is outside its field"),
    ("0 mon * * *", 2, "the hour 'mon' is outside its field"),
    ("0 8 * * fri-mon", 8, "the day of the week 'fri-mon' ends before it begins"),
    ("1,2,70 * * * *", 4, "the minute '70' is outside its field"),
    ("*/0 * * * *", 0, "the minute '*/0' has a step of 0"),
    ("*-5 * * * *", 0, "the minute '*-5' is no `*`, number, range such as `1-5`, or step such as `*/10`"),
    ("1, * * * *", 2, "the minute '' is no `*`, number, range such as `1-5`, or step such as `*/10`"),
    ("0 8 L * *", 4, "the day of the month 'L' is outside its field"),
    ("0 8 ? * *", 4, "the day of the month '?' is no `*`, number, range such as `1-5`, or step such as `*/10`"),
    ("0 0 31 2 *", 4, "no month has that day, so that it never comes"),
    ("0 0 30-31 2 *", 4, "no month has that day, so that it never comes"),
    ("0 0 31 4,6,9,11 *", 4, "no month has that day, so that it never comes"),
    ("@every 5m", 0, "'@every 5m' is not known"),
    ("@daily 5", 0, "'@daily 5' is not known"),
    ("@dayly", 0, "'@dayly' is not known"),
    ("TZ=Europe/Berlin 0 8 * * *", 0, "the time zone does not stand in the cron itself"),
    ("0" * 201, 0, "the cron is longer than 200 characters"),
    ("0 8 * * ٣", 8, "the day of the week '٣' is no `*`, number, range such as `1-5`, or step such as `*/10`"),
]


@pytest.mark.parametrize("text", GOOD)
def test_a_cron_that_comes_has_no_problem(text: str) -> None:
    assert cron_problems(text) == []


@pytest.mark.parametrize(("text", "offset", "message"), BAD)
def test_a_cron_that_never_comes_is_told_at_its_place(text: str, offset: int, message: str) -> None:
    (found,) = cron_problems(text)
    assert (found.offset, found.message) == (offset, message)


def test_all_fields_are_told_at_once() -> None:
    assert [problem.offset for problem in cron_problems("60 24 32 13 8")] == [0, 3, 6, 9, 12]


@pytest.mark.parametrize(
    ("text", "both"),
    [
        ("0 9 13 * fri", True),
        ("0 9 13 * *", False),
        ("0 9 * * fri", False),
        ("0 9 */2 * fri", False),
        ("@daily", False),
    ],
)
def test_a_cron_may_name_days_of_the_month_and_of_the_week(text: str, both: bool) -> None:
    assert names_both_days(text) is both
